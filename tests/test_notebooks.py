"""Tutorials: a page, its notebook, and that an outdated output is noticed."""

import base64
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / ".ci"))
notebooks = importlib.import_module("notebooks")
sys.path.pop(0)
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGE = """# A title

Words.

```python
import matplotlib.pyplot as plt

x = 1
print("x is", x)
```

```text
x is 1
```

```python
x += 1
plt.plot([x])
```

![A line](page-1.png)

```python
print(x)
```

```text
2
```
"""


def stored(folder: Path, text: str = PAGE) -> Path:
    """A page in a folder, run and written."""
    path = folder / "page.md"
    path.write_text(text)
    notebooks.write(path)
    return path


def test_page_and_notebook(tmp_path):
    """Cells share their names; what they print and show is in both, words are in both."""
    path = stored(tmp_path)
    assert path.read_text() == PAGE
    image = (tmp_path / "page-1.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    notebook = json.loads((tmp_path / "page.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    words, first, second, third = notebook["cells"]  # the line that shows the figure is left out
    assert "".join(words["source"]) == "# A title\n\nWords."
    assert first["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["x is 1\n"]}]
    (shown,) = second["outputs"]
    assert base64.b64decode(shown["data"]["image/png"]) == image
    assert third["outputs"][0]["text"] == ["2\n"]
    assert len({cell["id"] for cell in notebook["cells"]}) == 4
    notebooks.check(path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("x is 1\n", "x is 7\n", "must print\nx is 7\n\nbut prints\nx is 1"),
        ("\n```text\n2\n```\n", "", "'print(x)' must print\n\nbut prints\n2"),
        ("x = 1", "x = 5", "begins with 'import matplotlib.pyplot as plt' must print"),
        ("Words.", "Other words.", "page.ipynb is not the notebook of page.md"),
    ],
)
def test_outdated(tmp_path, before, after, message):
    """An output, a cell or a sentence that was changed on the page alone."""
    path = stored(tmp_path)
    path.write_text(PAGE.replace(before, after))
    with pytest.raises(SystemExit) as left:
        notebooks.check(path)
    assert message in str(left.value)
    assert "to write it anew: python .ci/notebooks.py" in str(left.value)


def test_outdated_notebook(tmp_path):
    """One that somebody saved with another output, or that is not there; images may differ."""
    path = stored(tmp_path)
    kept = tmp_path / "page.ipynb"
    notebook = json.loads(kept.read_text())
    notebook["cells"][2]["outputs"][0]["data"]["image/png"] = "AAAA"
    kept.write_text(json.dumps(notebook))
    notebooks.check(path)
    notebook["cells"][3]["outputs"][0]["text"] = ["3\n"]
    kept.write_text(json.dumps(notebook))
    with pytest.raises(SystemExit, match="is not the notebook"):
        notebooks.check(path)
    kept.unlink()
    with pytest.raises(SystemExit, match="is not the notebook"):
        notebooks.check(path)


def test_cell_that_fails(tmp_path):
    """It is no output: the error is raised."""
    with pytest.raises(ZeroDivisionError):
        stored(tmp_path, "```python\n1 / 0\n```\n")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_shipped(path):
    """Each page has its notebook and shows all of its figures. (`.ci/examples.py` runs them.)"""
    text = path.read_text()
    notebook = json.loads(path.with_suffix(".ipynb").read_text())
    cells = notebooks.cells_of(text)
    assert notebooks.page_of(cells) == text
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code == [cell.source for cell in cells if cell.kind == "code"]
    figures = sum(
        "image/png" in output.get("data", {})
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
    )
    named = [f"{path.stem}-{index}.png" for index in range(1, figures + 1)]
    assert all(f"]({name})" in text for name in named)
    assert sorted(x.name for x in path.parent.glob(f"{path.stem}-*.png")) == named
    assert f"({path.stem}.ipynb)" in text


def test_all_are_run():
    """Three, each by a block of the page that the runner of examples is given."""
    text = (ROOT / ".ci" / "tutorials.md").read_text()
    asked = re.findall(r'^notebooks\.check\(Path\("(.+)"\)\)$', text, re.MULTILINE)
    assert asked == [str(path.relative_to(ROOT)) for path in PAGES]
    assert len(asked) == text.count("```python") == 3
    assert ".ci/tutorials.md" in (ROOT / ".ci" / "run").read_text()
