r"""A Markdown extension that writes formulas as MathML, which a browser shows by itself.

`pymdownx.arithmatex` finds the formulas, `$...$` and `$$...$$`; here each becomes a `<math>`
element when the site is built, so that its pages need neither a script nor a network.
"""

import html
import re
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

_FUNCTIONS = {"arcsin", "cosh", "det", "exp", "log", "max", "min", "sinh", "tanh"}
_DELIMITED = re.compile(r"\s*(\\\(|\\\[)(.*?)(\\\)|\\\])\s*", re.DOTALL)


def _spaced(element: Element) -> None:
    """A thin space between the name of a function and what follows, unless that is a bracket; a
    prime is an operator, which fonts draw larger."""
    for owner in list(element.iter()):
        if owner.tag == "mi" and owner.text == "\u2032":
            owner.tag = "mo"
        for at, child in reversed(list(enumerate(owner[:-1]))):
            after = owner[at + 1]
            named = child.tag == "mi" and child.text in _FUNCTIONS and owner.tag == "mrow"
            if named and after.tag not in ("mo", "mspace"):
                owner.insert(at + 1, Element("mspace", width="0.167em"))


def formula(text: str) -> Element:
    r"""The `<math>` element of a delimited formula, `\(...\)` in a line or `\[...\]` on its own.

    **Raises:** `ValueError` if the text is not delimited, or if the formula holds a command that
    is not known and would be shown as it is written.
    """
    match = _DELIMITED.fullmatch(text)
    if match is None:
        raise ValueError(f"a formula must be delimited, got {text!r}")
    display = "block" if match[1] == r"\[" else "inline"
    element = convert_to_element(match[2], display=display)
    for part in element.iter():
        part.text = part.text and html.unescape(part.text)
    unknown = [x for x in element.itertext() if "\\" in x]
    if unknown:
        raise ValueError(f"the formula {match[2]!r} must hold known commands, got {unknown}")
    _spaced(element)
    return element


class _Formulas(Treeprocessor):
    def run(self, root: Element) -> None:
        for found in root.iter():
            if found.get("class") == "arithmatex":
                element = formula("".join(found.itertext()))
                found.text = None
                found[:] = [element]


class MathML(Extension):
    """Formulas found by `pymdownx.arithmatex` (generic) become MathML."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Work after inline patterns (priority 20), which find the formulas."""
        md.treeprocessors.register(_Formulas(md), "mathml", 15)


def makeExtension(**settings: object) -> MathML:
    """The extension, by the name that Python-Markdown asks for."""
    return MathML(**settings)
