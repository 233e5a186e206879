r"""A Markdown extension that writes formulas as MathML, which a browser shows by itself.

`pymdownx.arithmatex` finds the formulas, `$...$` and `$$...$$`; here each becomes a `<math>`
element when the site is built, so that its pages need neither a script nor a network.
"""

import re
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

_DELIMITED = re.compile(r"\s*(\\\(|\\\[)(.*?)(\\\)|\\\])\s*", re.DOTALL)


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
    unknown = [x for x in element.itertext() if "\\" in x]
    if unknown:
        raise ValueError(f"the formula {match[2]!r} must hold known commands, got {unknown}")
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
