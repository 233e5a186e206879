"""The documentation site: its reference, its formulas, its navigation and its gallery."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
from markdown import Markdown

import qra_jax as qra

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / ".ci" / "site"))
build, mathml, modules, reference = (
    importlib.import_module(name) for name in ("build", "mathml", "modules", "reference")
)
sys.path.pop(0)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)


def public() -> dict[str, object]:
    """Every public name, in the namespaces and in the package itself, and what it stands for."""
    spaces = {f"qra_jax.{name}": getattr(qra, name) for name in reference.NAMESPACES}
    found = {
        f"{path}.{x}": getattr(space, x) for path, space in spaces.items() for x in space.__all__
    }
    own = [x for x in qra.__all__ if x not in reference.NAMESPACES]
    return found | {f"qra_jax.{x}": getattr(qra, x) for x in own}


def entries() -> list[str]:
    return re.findall(r"^::: (\S+)$", "\n".join(reference.pages().values()), re.MULTILINE)


def test_reference_has_every_public_name():
    """Each is entered once, where it is kept; the package's own names are listed with a link."""
    found = entries()
    assert len(found) == len(set(found))
    described = {id(value) for name, value in public().items() if name in found}
    missing = [name for name, value in public().items() if id(value) not in described]
    assert missing == []
    own = [name for name in qra.__all__ if name not in reference.NAMESPACES]
    listed = re.findall(r"^\| \[`qra\.(\w+)`\]|^::: qra_jax\.(\w+)$", reference.overview(), re.M)
    assert sorted(a or b for a, b in listed) == sorted(own)


def test_reference_has_every_namespace():
    folders = [path.parent.name for path in reference.PACKAGE.glob("*/__init__.py")]
    inside = {"commands"}  # settings of the command line: no part of the library
    outside = [name for name in folders if not name.startswith("_") and name not in inside]
    assert sorted(outside) == sorted(reference.NAMESPACES)


def test_reference_is_written():
    """Run `python .ci/site/reference.py` where this fails."""
    there = {path.name: path.read_text() for path in reference.FOLDER.glob("*.md")}
    assert there == reference.pages()


def test_names_without_a_list(tmp_path):
    (tmp_path / "a.py").write_text('"""A."""\n')
    with pytest.raises(ValueError, match="must have an __all__ that is written out"):
        reference.public_names(tmp_path / "a.py")


def test_navigation_has_every_page():
    """And each page once."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]

    def leaves(node):
        if isinstance(node, str):
            return [node]
        parts = node if isinstance(node, list) else node.values()
        return [leaf for part in parts for leaf in leaves(part)]

    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(leaves(nav)) == sorted(pages)


def texts() -> list[str]:
    code = (path.read_text() for path in (ROOT / "qra_jax").rglob("*.py"))
    pages = (
        re.sub(r"^```.*?^```|`[^`\n]*`", "", p.read_text(), flags=re.M | re.S)
        for p in DOCS.rglob("*.md")
    )
    return [*code, *pages]


def test_formulas_convert():
    """Every formula of the pages and docstrings is written in commands that are known."""
    formulas = [a or b for text in texts() for a, b in FORMULA.findall(text)]
    assert len(formulas) > 1000
    for one in formulas:
        mathml.formula(rf"\({one}\)")


def shape(element) -> str:
    """A MathML element as tags and text, without attributes."""
    tag = element.tag.split("}")[-1]
    return f"{tag}({element.text or ''}{''.join(map(shape, element))})"


def test_formula_in_a_line():
    element = mathml.formula(r"\(\frac{V}{x_1^2}\)")
    assert shape(element) == "math(mrow(mfrac(mrow(mi(V))mrow(msubsup(mi(x)mn(1)mn(2))))))"
    assert element.get("display") == "inline"
    assert mathml.formula("\\[V\\]\n").get("display") == "block"
    spaced = "math(mrow(mi(log)mspace()mi(V)mo(+)mi(log)mo(()mi(V)mo())msup(mi(f)mo(\u2032))))"
    assert shape(mathml.formula(r"\(\log V + \log(V) f'\)")) == spaced


@pytest.mark.parametrize("bad", ["V", r"\(V", r"\(\nosuchcommand V\)"])
def test_bad_formula(bad):
    with pytest.raises(ValueError, match="must"):
        mathml.formula(bad)


def markdown() -> Markdown:
    """What turns pages into HTML, with the extensions of the site that change what is read."""
    names = ["tables", "pymdownx.arithmatex", "pymdownx.superfences", "mathml"]
    return Markdown(extensions=names, extension_configs={"pymdownx.arithmatex": {"generic": True}})


def test_page_with_formulas():
    """On a page: in a line, alone, in a table; not in code."""
    html = markdown().convert("# A $V$\n\na $V$ `$V$`\n\n$$V$$\n\n| a |\n|---|\n| $V$ |\n")
    assert html.count("<math") == 4
    assert html.count('display="block"') == 1
    assert "<code>$V$</code>" in html


def test_pointers_of_docstrings():
    text = "Source: docs/laws.md#tails, xdocs/a.md; docs/exact.md."
    wanted = (
        "Source: [docs/laws.md#tails](../laws.html#tails), xdocs/a.md; "
        "[docs/exact.md](../exact.html)."
    )
    assert modules.with_links(text) == wanted


def test_signatures_of_modules():
    """What a module's constructor takes is read from its fields, those of its parents too."""
    import griffe

    extensions = griffe.load_extensions(modules.Ours)
    package = griffe.load("qra_jax", search_paths=[str(ROOT)], extensions=extensions)

    def signature(path: str) -> dict[str, str | None]:
        function = package[path].members.get("__init__")
        return {
            x.name: x.default and str(x.default) for x in function.parameters if x.name != "self"
        }

    assert list(signature("solvers.ode._ode.ODE"))[:2] == ["solver", "clock"]
    assert signature("training._estimators.SampledMaxRL") == {"centred": "False"}
    assert signature("policies._policy.AbstractPolicy") == {}
    assert list(signature("solvers._trajectory.Trajectory"))[-2:] == ["flow", "reference"]
    assert "derivations.html#clocks" in package["solvers._solve.solve_flow"].docstring.value


def test_what_a_page_fetches(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://a.b"></a><script src="https://a.b/c.js"></script><img src="c.png">'
    )
    assert build.fetched(tmp_path) == ['a.html: <script src="https://a.b/c.js">']


def test_gallery():
    """At least 12 figures, each shown, saved by a script of its own, and there; no other file."""
    page = (DOCS / "gallery.md").read_text()
    shown = re.findall(r"^!\[.+\]\(gallery/(\w+\.png)\)$", page, re.MULTILINE)
    codes = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    saved = [re.findall(r'savefig\("(\w+\.png)"\)', code) for code in codes]
    assert saved == [[name] for name in shown]
    assert len(shown) >= 12
    assert sorted(path.name for path in (DOCS / "gallery").iterdir()) == sorted(shown)


LEFT = re.compile(r"\$|\*\*|\]\(|\n *(?:[-+] |\||#)")


def left_over(page: str) -> list[str]:
    """The marks of Markdown that a reader of the page would see, in a paragraph, item or cell."""
    html = re.sub(r"<(math|code|pre)\b.*?</\1>", "", markdown().convert(page), flags=re.DOTALL)
    return [text for text in re.findall(r">([^<>]*)<", html) if LEFT.search(text)]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_page_shows_no_markup(path):
    """Lists and tables have their blank lines, formulas and emphasis end where they should."""
    assert left_over(path.read_text()) == []


def test_markup_is_noticed():
    for page in ("a\n- b", "- $a\n  - b$", "a **b", "a\n| b |\n|---|", "a $ b"):
        assert left_over(page) != [], page
    assert left_over("a\n\n- $b$ **c** `$` [d](e)\n\n| f |\n|---|\n| g |\n") == []
