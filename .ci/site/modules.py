"""What the reference must know of our classes and docstrings and cannot read from the code.

Equinox modules are dataclasses: their signature is made of their fields. Pointers from docstrings
to pages, written `docs/laws.md#tails`, become links.
"""

import re
from typing import Any

import griffe

_POINTER = re.compile(r"(?<![\w/])docs/([\w/]+)\.md(#[\w-]+)?")
_MODULE = griffe.ExprName("dataclasses")
_DATACLASS = griffe.ExprAttribute([_MODULE, griffe.ExprName("dataclass", parent=_MODULE)])
_FIELD = griffe.ExprAttribute([_MODULE, griffe.ExprName("field", parent=_MODULE)])


def _is_module(cls: griffe.Class) -> bool:
    """Whether a class derives from `equinox.Module`, itself or by way of classes of ours."""
    return any(
        getattr(base, "canonical_path", base) == "equinox.Module"
        for one in (cls, *cls.mro())
        for base in one.bases
    )


def _as_dataclass(cls: griffe.Class) -> None:
    cls.decorators.append(griffe.Decorator(_DATACLASS, lineno=cls.lineno, endlineno=cls.lineno))
    for member in cls.members.values():
        if not member.is_attribute or member.is_alias:
            continue
        # Neither is an argument that a user gives.
        shared = str(member.annotation).startswith(("AbstractClassVar", "eqx.AbstractClassVar"))
        if shared or member.name.startswith("_"):
            member.labels = {"class-attribute"}
        value = member.value
        if isinstance(value, griffe.ExprCall) and value.canonical_path == "equinox.field":
            value.function = _FIELD


def with_links(text: str) -> str:
    """Text of a docstring, its pointers to pages as links from a page in `api/`."""
    return _POINTER.sub(lambda found: f"[{found[0]}](../{found[1]}.html{found[2] or ''})", text)


class Ours(griffe.Extension):
    """Signatures of Equinox modules, and links in docstrings."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go through a package that was read."""
        self._walk(pkg)

    def _walk(self, owner: griffe.Module | griffe.Class) -> None:
        for member in list(owner.members.values()):
            if member.is_alias:
                continue
            if member.docstring is not None:
                member.docstring.value = with_links(member.docstring.value)
            if member.is_class and _is_module(member):
                _as_dataclass(member)
            if member.is_class or member.is_module:
                self._walk(member)
