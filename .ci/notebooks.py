"""The tutorials: pages of the site, and the same as notebooks with their outputs.

A tutorial is a page under docs/tutorials. Its Python blocks are the cells of one program. What a
block prints stands below it in a block marked `text`; the figures that it leaves open are
NAME-1.png and so on, which the page shows. NAME.ipynb holds the same cells, texts, outputs and
figures.

`python .ci/notebooks.py docs/tutorials/*.md` runs them and writes outputs, figures and notebooks
anew. `.ci/examples.py .ci/tutorials.md` runs them too, and fails if a text output, or a notebook,
is not what the code gives.
"""

import base64
import contextlib
import dataclasses
import io
import json
import re
import sys
from pathlib import Path

_CELL = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A piece of a page: Markdown, or code with what it prints and shows."""

    kind: str
    source: str
    printed: str = ""
    figures: tuple[bytes, ...] = ()


def cells_of(page: str) -> list[Cell]:
    """The cells of a page in their order, without figures."""
    found, at = [], 0
    for match in _CELL.finditer(page):
        found += [Cell("markdown", page[at : match.start()].strip("\n"))]
        found += [Cell("code", match[1].rstrip("\n"), match[2] or "")]
        at = match.end()
    found.append(Cell("markdown", page[at:].strip("\n")))
    return [cell for cell in found if cell.source]


def page_of(cells: list[Cell]) -> str:
    """The page that has these cells."""
    parts = []
    for cell in cells:
        if cell.kind == "markdown":
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            if cell.printed:
                parts.append(f"```text\n{cell.printed}```")
    return "\n\n".join(parts) + "\n"


def notebook_of(cells: list[Cell], name: str) -> dict:
    """The notebook, in version 4.5 of the format; figures are outputs, not parts of the text."""
    shown = re.compile(rf"^!\[[^\n]*\]\({re.escape(name)}-\d+\.png\)\n*", re.MULTILINE)
    listed = []
    for index, cell in enumerate(cells):
        source = cell.source if cell.kind == "code" else shown.sub("", cell.source).strip("\n")
        if not source:
            continue
        one = {"cell_type": cell.kind, "id": f"cell-{index}", "metadata": {}}
        one["source"] = source.splitlines(keepends=True)
        if cell.kind == "code":
            outputs: list[dict] = []
            if cell.printed:
                text = cell.printed.splitlines(keepends=True)
                outputs.append({"name": "stdout", "output_type": "stream", "text": text})
            for figure in cell.figures:
                data = {"image/png": base64.b64encode(figure).decode() + "\n"}
                outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
            one |= {"execution_count": None, "outputs": outputs}
        listed.append(one)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": listed, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def run(cells: list[Cell], title: str) -> list[Cell]:
    """The cells with what they print and show now: one after the other, in one namespace."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    space, done = {"__name__": "__main__"}, []
    for index, cell in enumerate(cells):
        if cell.kind == "code":
            printed, figures = io.StringIO(), []
            with contextlib.redirect_stdout(printed):
                exec(compile(cell.source, f"cell {index} of {title}", "exec"), space)
            for number in plt.get_fignums():
                image = io.BytesIO()
                # Not by savefig, which the runner of examples sends to a folder.
                canvas = plt.figure(number).canvas
                canvas.print_figure(image, format="png", dpi=200, metadata={"Software": ""})
                figures.append(image.getvalue())
            plt.close("all")
            cell = dataclasses.replace(cell, printed=printed.getvalue(), figures=tuple(figures))
        done.append(cell)
    return done


def _text_only(notebook: dict) -> dict:
    """A notebook without its images, which may differ in their last dots from one machine to the
    next."""
    texts = json.loads(json.dumps(notebook))
    for cell in texts["cells"]:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
    return texts


def outdated(path: Path, now: list[Cell]) -> list[str]:
    """What is not as the cells are now, in sentences."""
    found = []
    for before, after in zip(cells_of(path.read_text()), now, strict=True):
        if before.printed != after.printed:
            first = after.source.splitlines()[0]
            found.append(
                f"{path}: the cell that begins with {first!r} must print\n{before.printed}\n"
                f"but prints\n{after.printed}"
            )
    kept = path.with_suffix(".ipynb")
    if not kept.exists() or _text_only(json.loads(kept.read_text())) != _text_only(
        notebook_of(now, path.stem)
    ):
        found.append(f"{kept} is not the notebook of {path.name}")
    return found


def check(path: Path) -> None:
    """Run a tutorial, and leave with an error if what is stored is not what it gives."""
    cells = cells_of(path.read_text())
    wrong = outdated(path, run(cells, str(path)))
    if wrong:
        sys.exit("\n".join([*wrong, f"to write it anew: python .ci/notebooks.py {path}"]))


def write(path: Path) -> None:
    """Run a tutorial, and store what it gives: page, figures and notebook."""
    cells = run(cells_of(path.read_text()), str(path))
    path.write_text(page_of(cells))
    for index, figure in enumerate((x for cell in cells for x in cell.figures), 1):
        path.with_name(f"{path.stem}-{index}.png").write_bytes(figure)
    text = json.dumps(notebook_of(cells, path.stem), indent=1, ensure_ascii=False)
    path.with_suffix(".ipynb").write_text(text + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(Path(argument))
