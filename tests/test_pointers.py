"""Pointers between code and pages: each leads to something that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    path
    for folder in ("qra_jax", "experiments", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\]\(([^()\s]+)\)")
POINTER = re.compile(r"\bdocs/([\w/]+\.md)(?:#([\w-]+))?")
CODE_LINE = re.compile(r"^\*Code: (.*?)\*", re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", text, re.MULTILINE):
        kept = re.sub(r"[^\w\s-]", "", heading.lower())
        found.add(re.sub(r"\s+", "-", kept.strip()))
    # Entries of the reference, and anchors that are written out.
    found |= set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    return found | set(re.findall(r'<a id="([\w-]+)"></a>', text))


def broken(text: str, pages: dict[str, set[str]]) -> list[str]:
    """The pointers to pages or headings that do not exist, and mentions that are no pointers."""
    bad = [
        match[0]
        for match in POINTER.finditer(text)
        if match[1] not in pages or (match[2] and match[2] not in pages[match[1]])
    ]
    # Written apart, so that this file may speak of it.
    return bad + re.findall(r"derived in " + r"docs\b(?!/)", text)


def broken_links(text: str, folder: Path) -> list[str]:
    """The links and images of a page in `folder` that lead to no file or to no heading of one."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    bad = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:", target):
            continue
        path = folder / target
        there = path.exists()
        if not there or (anchor and anchor not in anchors(path.read_text() if target else text)):
            bad.append(link)
    return bad


def names_of(path: Path) -> set[str]:
    """What a module defines, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = (x for x in node.body if isinstance(x, ast.FunctionDef))
            found |= {f"{node.name}.{member.name}" for member in members}
    return found


def missing(line: str) -> list[str]:
    """What a page's line of code names and is not there: `name`, `name` in `path/`, `path.py`."""
    words = re.findall(r"`([^`]+)`|\b(in)\b", line)
    bad, names = [], []
    for word, _ in words:
        if "/" not in word:
            names += [word] if word else []
            continue
        path = ROOT / word
        if not path.exists():
            bad.append(word)
        elif names and path.is_file():
            there = names_of(path)
            bad += [f"{name} in {word}" for name in names if name not in there]
        elif names:
            bad.append(f"{names} in a folder")
        names = []
    return bad + [f"{name} in no file" for name in names]


@pytest.fixture(scope="module")
def pages():
    folder = ROOT / "docs"
    return {str(p.relative_to(folder)): anchors(p.read_text()) for p in folder.rglob("*.md")}


def test_pointers_lead_to_headings(pages):
    """Every page and heading that code or a page names exists."""
    found = {str(path.relative_to(ROOT)): broken(path.read_text(), pages) for path in CODE + PAGES}
    assert {path: bad for path, bad in found.items() if bad} == {}


def test_links_lead_somewhere():
    """Every link and image of every page leads to a file that is there, and to its heading."""
    found = {str(path): broken_links(path.read_text(), path.parent) for path in PAGES}
    assert {path: bad for path, bad in found.items() if bad} == {}


def test_lines_of_code():
    """Every file and name in a page's line *Code: ...* exists."""
    found = {path.name: CODE_LINE.findall(path.read_text()) for path in PAGES}
    bad = {page: [x for line in lines for x in missing(line)] for page, lines in found.items()}
    assert {page: names for page, names in bad.items() if names} == {}


def test_faults_are_noticed(pages):
    """A heading that is not there, a page that is not, a mention without one, a name that moved."""
    assert broken("docs/laws.md#tails, docs/laws.md", pages) == []
    for text in ("docs/laws.md#heads", "docs/lows.md", "Source: derived in " + "docs."):
        assert broken(text, pages) == [text.removeprefix("Source: ").rstrip(".")]
    assert missing("`Natural` in `qra_jax/flows/_geometry.py`, `qra_jax/sweep/`") == []
    docs, well = ROOT / "docs", "# A\n[a](#a) [b](laws.md#tails) ![c](gap.png) [d](https://e.f/g)"
    assert broken_links(well + "\n`[e](none.md)`", docs) == []
    assert broken_links("[e](api/times.md#qra_jax.times.regime)", docs) == []
    for link in ("#b", "laws.md#heads", "lows.md", "laws.png", "api/times.md#qra_jax.times.Mode"):
        assert broken_links(f"{well} [e]({link})", docs) == [link]
    assert missing("`Natural.direction`, `Euclidean` in `qra_jax/flows/_geometry.py`") == []
    assert missing("`Spherical` in `qra_jax/flows/_geometry.py`") != []
    assert missing("`qra_jax/flows/_geometries.py`") != []
    assert missing("`Natural`") != []
