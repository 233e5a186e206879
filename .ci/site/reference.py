"""Pages of the reference: every public name of the library, a page for each namespace.

`python .ci/site/reference.py` writes them to `docs/api/`. What is public is what `__all__` says; it
is read without importing anything. The text of each name is its docstring, put in when the site is
built.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qra_jax"
FOLDER = ROOT / "docs" / "api"
# In the order in which a reader meets them.
NAMESPACES = (
    "policies",
    "objectives",
    "flows",
    "solvers",
    "times",
    "training",
    "laws",
    "dynamics",
    "fine_tuning",
    "tokens",
    "rollouts",
    "posteriors",
    "diagnosis",
    "sweep",
    "plot",
)
_WRITTEN = "<!-- Written by `python .ci/site/reference.py`; do not edit. -->\n"


def public_names(init: Path) -> tuple[str, list[str]]:
    """The docstring of a namespace and the names that its `__all__` lists.

    **Raises:** `ValueError` if the file has no docstring or no `__all__` written out.
    """
    tree = ast.parse(init.read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.get_docstring(tree) or "", list(ast.literal_eval(node.value))
    raise ValueError(f"{init} must have an __all__ that is written out")


def first_day() -> dict[str, str]:
    """The names of the package itself, and the namespace that each is imported from."""
    found = {}
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {name.name: node.module for name in node.names}
    return found


def namespace_page(namespace: str) -> str:
    """The page of one namespace."""
    docstring, names = public_names(PACKAGE / namespace / "__init__.py")
    blocks = [_WRITTEN, f"# qra_jax.{namespace}\n", f"{docstring}\n"]
    blocks += [f"::: qra_jax.{namespace}.{name}\n" for name in names]
    return "\n".join(blocks)


def overview() -> str:
    """The page of the package: its own names, and the namespaces."""
    rows, rest = [], []
    for name, namespace in first_day().items():
        if namespace in NAMESPACES:
            anchor = f"{namespace}.md#qra_jax.{namespace}.{name}"
            rows.append(f"| [`qra.{name}`]({anchor}) | [`qra_jax.{namespace}`]({namespace}.md) |")
        else:
            rest.append(f"::: qra_jax.{name}\n")
    spaces = []
    for namespace in NAMESPACES:
        docstring, names = public_names(PACKAGE / namespace / "__init__.py")
        first = re.split(r"\n\n", docstring)[0].replace("\n", " ")
        spaces.append(f"| [`qra_jax.{namespace}`]({namespace}.md) | {len(names)} | {first} |")
    return "\n".join(
        [
            _WRITTEN,
            "# Reference\n",
            "Every public name has an entry here, made from its docstring, which `help(name)`",
            "shows too. The names that most people need are in `qra_jax` itself, which is",
            "imported as `qra`; each is also in a namespace, beside related names.\n",
            "## Namespaces\n",
            "| namespace | names | what it holds |",
            "|---|---|---|",
            *spaces,
            "",
            "## Names in the package itself\n",
            "| name | described under |",
            "|---|---|",
            *rows,
            "",
            *rest,
        ]
    )


def pages() -> dict[str, str]:
    """The text of every page of the reference by its file's name."""
    return {"index.md": overview()} | {f"{name}.md": namespace_page(name) for name in NAMESPACES}


def main() -> None:
    """Write the pages; remove those of namespaces that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
