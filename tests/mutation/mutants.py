"""Mutants: which there are, which are drawn, and where a drawn one is found again.

A mutant is known by its function and its line before and after, so that a sample outlives files
that move and lines that shift.
"""

import collections
import difflib
import pathlib
import random
import re
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.util import read_python_source
from cosmic_ray.work_item import MutationSpec


class Mutant(NamedTuple):
    """One of the sample. `twin` numbers those of a function that look the same."""

    name: str
    module: str
    function: str
    operator: str
    before: str
    after: str
    twin: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.function, self.operator, self.before, self.after


class Site(NamedTuple):
    """A place of a module where an operator applies: its specification and its function."""

    spec: MutationSpec
    function: str
    line: str


def _function(node: Any) -> str:
    """The dotted name of the function or class around a node; of the module, the empty string."""
    names = []
    while node.parent is not None:
        node = node.parent
        if node.type in ("funcdef", "classdef"):
            names.append(node.name.value)
    return ".".join(reversed(names))


def inert(node: Any) -> bool:
    """Whether a mutant of this node would be of an annotation, a decorator, a type alias (`|`
    outside functions) or of what only type checkers import. Text is never mutated: no operator
    touches it.
    """
    alias = node.type == "operator" and node.value == "|" and not _function(node)
    checking = node.type == "if_stmt" and node.children[1].get_code().strip() == "TYPE_CHECKING"
    if alias or checking:
        return True
    while node.parent is not None:
        parent = node.parent
        kind = parent.type
        if kind == "decorator":
            return True
        if kind == "tfpdef" and node is parent.children[2]:
            return True
        if kind == "annassign" and node is parent.children[1]:
            return True
        if kind == "funcdef" and node is parent.annotation:
            return True
        node = parent
    return False


def sites(path: pathlib.Path, exclude: list[str]) -> list[Site]:
    """Every place where an operator applies to code that is not inert."""
    source = read_python_source(path)
    lines, tree = source.split("\n"), get_ast(source)
    nodes = list(ast_nodes(tree))
    found = []
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or any(re.match(x, name) for x in exclude):
            continue
        occurrence = -1
        for node in nodes:
            for start, end in kind().mutation_positions(node):
                occurrence += 1
                if not inert(node):
                    spec = MutationSpec(path, name, occurrence, start, end)
                    found.append(Site(spec, _function(node), lines[start[0] - 1].strip()))
    return found


def change(site: Site) -> tuple[str, str] | None:
    """The changed lines before and after; None for what is no Python or the same program."""
    path = site.spec.module_path
    source = read_python_source(path)
    mutated = mutate_code(source, get_operator(site.spec.operator_name)(), site.spec.occurrence)
    try:
        was, now = (compile(x, "module", "exec", dont_inherit=True) for x in (source, mutated))
    except SyntaxError:
        return None
    if was == now:
        return None
    lines = list(difflib.ndiff(source.split("\n"), mutated.split("\n")))
    texts = (" ".join(x[2:].strip() for x in lines if x[0] == sign) for sign in "-+")
    before, after = texts
    return before, after


def draw(seed: int, config: dict[str, Any]) -> list[Mutant]:
    """A random sample: of each part a fixed number, its places drawn evenly and of each place one
    of its mutants, so that an operator with many replacements counts no more than others. Parts
    take turns."""
    columns = []
    for group in config["groups"].values():
        for part in group["parts"]:
            rng = random.Random(f"{seed} {part}")
            places = collections.defaultdict(list)
            for module in config[part]:
                for site in sites(pathlib.Path(module), config["exclude-operators"]):
                    places[module, site.spec.start_pos, site.spec.end_pos].append(site)
            column: list[Mutant] = []
            order = list(places)
            rng.shuffle(order)
            for place in order:
                site = rng.choice(places[place])
                texts = change(site)
                if texts is not None:
                    name = f"{part}-{len(column) + 1}"
                    operator = site.spec.operator_name.removeprefix("core/")
                    mutant = Mutant(name, place[0], site.function, operator, *texts, 0)
                    twins = [x.spec for x in _alike(mutant, pathlib.Path(place[0]), config)]
                    column.append(mutant._replace(twin=twins.index(site.spec)))
                if len(column) == group["number"]:
                    break
            columns.append(column)
    longest = max(map(len, columns))
    return [column[i] for i in range(longest) for column in columns if i < len(column)]


def _alike(mutant: Mutant, path: pathlib.Path, config: dict[str, Any]) -> list[Site]:
    """All sites of a module that look like this mutant, in the order of the file."""
    return [
        site
        for site in sites(path, config["exclude-operators"])
        if (site.function, site.spec.operator_name) == (mutant.function, f"core/{mutant.operator}")
        and site.line in mutant.before
        and change(site) == (mutant.before, mutant.after)
    ]


def find(mutant: Mutant, config: dict[str, Any]) -> MutationSpec | None:
    """Where a mutant of the sample is now: in its module, or in any other of the table."""
    parts = [part for group in config["groups"].values() for part in group["parts"]]
    modules = [module for part in parts for module in config[part]]
    for module in sorted(modules, key=lambda x: x != mutant.module):
        alike = _alike(mutant, pathlib.Path(module), config)
        if len(alike) > mutant.twin:
            return alike[mutant.twin].spec
    return None
