"""The order of the house, read from the imports: no module is run, and JAX is not loaded."""

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

LIBRARY = "qra_jax"
FLOORS = (
    ("_core",),
    ("policies", "posteriors", "rollouts"),
    ("objectives",),
    ("tokens",),
    ("flows",),
    ("solvers",),
    ("training",),
    ("times",),
    ("laws", "dynamics", "fine_tuning"),
    ("plot", "sweep", "labelled"),
    ("diagnosis",),
    ("cli",),
)
"""The floors of the library, from below; those of one level do not see each other."""
SAME = {"commands": "cli"}
"""What else belongs to a floor: the console script is a module beside its folder."""
ROOMS = (
    ("_lab", "data"),
    ("maps",),
    ("language_model",),
    ("claims",),
    (
        "sweep",
        "grid",
        "diagnose",
        "log_check",
        "clusters",
        "redraw",
        "trust",
        "signal",
        "compare",
        "training",
        "small_steps",
    ),
)
"""Those of the experiments."""
ORDERS = {LIBRARY: FLOORS, "experiments": ROOMS}
PACKAGES = (LIBRARY, "experiments", "benchmarks")
"""From below: none imports a later one, and none the tests."""
ON_USE = {
    # Slow to load, or an extra.
    *("matplotlib", "xarray", "polars", "jinja2", "tyro", "tqdm", "zarr"),
    # Of POSIX only.
    *("fcntl", "resource"),
    # What benchmarks compare with.
    *("heyoka", "numba", "numbalsoda", "scipy", "torch", "torchode"),
    # Of the extra `patterns`.
    "sklearn",
}
"""What a function may import by itself, and with it modules of ours that load it."""
BASE_OF_MAPS = "experiments._lab.map"
PARTS_OF_MAPS = ("compute", "claims")
"""Modules of a map that its figure does not see, by the last part of their names."""


class Import(NamedTuple):
    """One module that another one imports."""

    line: int
    target: str
    names: tuple[str, ...]
    """what is taken from it"""
    where: str
    """at the `top`, in a `function`, or for `types` only"""


class Parsed(NamedTuple):
    """The imports of a module as written, and private attributes of what it imports."""

    imports: tuple[tuple[int, int, str, tuple[str, ...], str], ...]
    """line, number of dots, module, names, where"""
    private: tuple[tuple[int, str, str], ...]
    """line, local name of what was imported, attributes"""


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.imports: list[tuple[int, int, str, tuple[str, ...], str]] = []
        self.private: list[tuple[int, str, str]] = []
        self._where = "top"

    def _within(self, where: str, nodes: Iterable[ast.AST]) -> None:
        before, self._where = self._where, where
        for node in nodes:
            self.visit(node)
        self._where = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args):
            self.visit(part)
        self._within("function", node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_If(self, node: ast.If) -> None:
        typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.visit(node.test)
        self._within("types" if typing else self._where, node.body)
        self._within(self._where, node.orelse)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self.imports.append((node.lineno, 0, name.name, (), self._where))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = tuple(name.name for name in node.names)
        self.imports.append((node.lineno, node.level, node.module or "", names, self._where))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, at = [node.attr], node.value
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if isinstance(at, ast.Name):
            if any(map(_is_private, parts)):
                self.private.append((node.lineno, at.id, ".".join(reversed(parts))))
        else:
            self.visit(at)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@functools.cache
def _parse(text: str) -> Parsed:
    reader = _Reader()
    reader.visit(ast.parse(text))
    return Parsed(tuple(reader.imports), tuple(reader.private))


def read_sources(root: Path) -> dict[str, str]:
    """The texts of all modules of `PACKAGES` below a folder, by file."""
    paths = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


class House(NamedTuple):
    """Modules: their files, imports, and private attributes they use."""

    files: Mapping[str, str]
    imports: Mapping[str, tuple[Import, ...]]
    private: Mapping[str, tuple[tuple[int, str, str], ...]]

    @staticmethod
    def of(sources: Mapping[str, str]) -> "House":
        """The modules of some sources, texts by file."""
        files, parsed, folders = {}, {}, set()
        for file, text in sources.items():
            name = file.removesuffix(".py").replace("/", ".")
            if name.endswith(".__init__"):
                name = name.removesuffix(".__init__")
                folders.add(name)
            files[name] = file
            parsed[name] = _parse(text)
        imports = {
            name: tuple(_resolved(name, name in folders, one.imports, files))
            for name, one in parsed.items()
        }
        return House(files, imports, {name: one.private for name, one in parsed.items()})

    def own(self, name: str) -> Iterator[Import]:
        """What a module imports of `PACKAGES`."""
        return (one for one in self.imports[name] if one.target.split(".")[0] in PACKAGES)


def _resolved(name: str, folder: bool, written, files: Mapping[str, str]) -> Iterator[Import]:
    """Imports by the full names of modules: `from .a import b` is of `a.b` where that is one."""
    for line, level, module, names, where in written:
        target = module
        if level:
            base = name.split(".")
            base = base[: len(base) - level + folder]
            target = ".".join([*base, *([module] if module else [])])
        modules = [one for one in names if f"{target}.{one}" in files]
        for one in modules:
            yield Import(line, f"{target}.{one}", (), where)
        others = tuple(one for one in names if one not in modules)
        if others or not names:
            yield Import(line, target, others, where)


def _floor(name: str) -> tuple[int, str] | None:
    """The level and the name of a module's floor; None for the root."""
    package, _, inside = name.partition(".")
    if package not in ORDERS or not inside:
        return None
    floor = inside.split(".")[0]
    floor = SAME.get(floor, floor)
    for level, floors in enumerate(ORDERS[package]):
        if floor in floors:
            return level, floor
    return -1, floor


def _upward(house: House) -> Iterator[tuple[str, int, str]]:
    for name in house.files:
        mine = _floor(name)
        if mine is not None and mine[0] < 0:
            yield name, 1, f"stands on no floor that is known: {mine[1]}"
        for one in house.imports[name]:
            here, there = name.split(".")[0], one.target.split(".")[0]
            rank = PACKAGES.index(there) if there in PACKAGES else -1
            if there == "tests" or rank > PACKAGES.index(here):
                yield name, one.line, f"imports {one.target}, which lies above"
            theirs = _floor(one.target)
            if here != there or mine is None or theirs is None or mine[1] == theirs[1]:
                continue
            if theirs[0] >= mine[0]:
                yield name, one.line, f"imports {one.target}, which does not lie below"


def _of_root(house: House) -> Iterator[tuple[str, int, str]]:
    for name in house.files:
        if name.startswith(f"{LIBRARY}."):
            for one in house.imports[name]:
                if one.target == LIBRARY:
                    yield name, one.line, "imports the root from inside"


def _circles(house: House) -> Iterator[tuple[str, int, str]]:
    """Of modules, what is imported on use included; a folder stands for what it imports."""
    edges = {
        name: [one.target for one in house.own(name) if one.where != "types"]
        for name in house.files
    }
    done, path = set(), []

    def follow(name: str) -> Iterator[list[str]]:
        path.append(name)
        for target in edges.get(name, ()):
            if target in path:
                yield path[path.index(target) :]
            elif target not in done:
                yield from follow(target)
        done.add(path.pop())

    for name in house.files:
        if name not in done:
            for circle in follow(name):
                yield circle[-1], 1, f"closes a circle: {' > '.join([*circle, circle[0]])}"


def _in_functions(house: House) -> Iterator[tuple[str, int, str]]:
    for name in house.files:
        for one in house.imports[name]:
            if one.where == "function" and not _is_heavy(house, one.target):
                yield name, one.line, f"imports {one.target} in a function"


def _is_heavy(house: House, target: str) -> bool:
    if target.split(".")[0] in ON_USE:
        return True
    return any(
        one.where == "top" and one.target.split(".")[0] in ON_USE
        for one in house.imports.get(target, ())
    )


def _private(house: House) -> Iterator[tuple[str, int, str]]:
    """Of the library, outside of it; and of a floor, on another one."""
    for name in house.files:
        outside = name.split(".")[0] != LIBRARY
        for one in house.imports[name]:
            if one.target.split(".")[0] != LIBRARY:
                continue
            hidden = [part for part in one.names if _is_private(part)]
            if outside:
                hidden += [part for part in one.target.split(".") if _is_private(part)]
            elif _floor(name) == _floor(one.target):
                continue
            if hidden:
                text = f"imports {', '.join(hidden)} of {one.target}, which is private"
                yield name, one.line, text
        if outside:
            yield from _private_attributes(house, name)


def _private_attributes(house: House, name: str) -> Iterator[tuple[str, int, str]]:
    known = {"qra", LIBRARY}
    for one in house.imports[name]:
        if one.target.split(".")[0] == LIBRARY:
            known |= {*one.names, one.target.split(".")[-1]}
    for line, local, attributes in house.private[name]:
        if local in known:
            yield name, line, f"uses {local}.{attributes}, which is private"


def _figures(house: House) -> Iterator[tuple[str, int, str]]:
    """Modules that draw see stored data: nothing that they load, by whatever way, is a map."""
    for name in house.files:
        if not name.startswith("experiments.") or "figure" not in name.split(".")[-1]:
            continue
        seen, waiting = {name}, [name]
        while waiting:
            for one in house.own(waiting.pop()):
                if one.target == BASE_OF_MAPS or one.target.split(".")[-1] in PARTS_OF_MAPS:
                    yield name, one.line, f"draws, and leads to the map {one.target}"
                elif one.target not in seen and one.target.startswith("experiments."):
                    seen.add(one.target)
                    waiting.append(one.target)


RULES = {
    "floors": _upward,
    "root": _of_root,
    "circles": _circles,
    "functions": _in_functions,
    "private": _private,
    "figures": _figures,
}


def complaints(house: House, rules: Iterable[str] = tuple(RULES)) -> list[str]:
    """What breaks the order, a line each: the rule, the file and the line, and why."""
    return [
        f"{rule}: {house.files[name]}:{line} {text}"
        for rule in rules
        for name, line, text in RULES[rule](house)
    ]


def floors_seen(house: House) -> dict[str, set[str]]:
    """Which other floors each floor of the library imports."""
    edges: dict[str, set[str]] = {}
    for name in house.files:
        mine = _floor(name)
        if name.split(".")[0] != LIBRARY or mine is None:
            continue
        seen = edges.setdefault(mine[1], set())
        for one in house.own(name):
            theirs = _floor(one.target)
            if theirs is not None and theirs[1] != mine[1]:
                seen.add(theirs[1])
    return edges


def depth(edges: Mapping[str, set[str]]) -> int:
    """How many floors lie above each other at the most."""

    @functools.cache
    def of(floor: str) -> int:
        return 1 + max((of(below) for below in edges[floor]), default=0)

    return max(map(of, edges))
