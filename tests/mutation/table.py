"""The page of results, from the sample, what became of it and a word on each survivor."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from .mutants import Mutant

HEADER = """# Results of mutation testing

*Written by `python -m tests.mutation`; do not edit.* [What this is](mutation.md).

"""


class Result(NamedTuple):
    """What became of a mutant: `killed`, by which test; `survived`, or `gone` from the code."""

    name: str
    module: str
    outcome: str
    by: str


def last_results(results: Iterable[Result]) -> dict[str, Result]:
    return {result.name: result for result in results}


def _code(text: str) -> str:
    """Code in a cell of a table."""
    return f"`` {text} ``".replace("|", "\\|") if text else ""


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |\n"


def _counts(names: list[str], done: dict[str, Result], equivalent: dict[str, str]) -> list[int]:
    """How many mutants, were killed, are equivalent, survive though they are not."""
    outcomes = [done[name].outcome if name in done else "not run" for name in names]
    killed = outcomes.count("killed")
    same = sum(name in equivalent for name in names)
    survive = sum(
        outcome == "survived" and name not in equivalent
        for name, outcome in zip(names, outcomes, strict=True)
    )
    return [len(names), killed, same, survive]


def table(
    config: dict[str, Any],
    sample: list[Mutant],
    results: list[Result],
    words: dict[str, dict[str, str]],
) -> str:
    """Counts of each part and group, then every mutant."""
    done, equivalent = last_results(results), words["equivalent"]
    text = _row(
        "part", "mutants", "killed", "equivalent", "survive", "killed of the others", "goal"
    )
    text += _row("---", *["---:"] * 6)
    for name, group in config["groups"].items():
        total = [0] * 4
        for part in group["parts"]:
            names = [x.name for x in sample if x.name.rpartition("-")[0] == part]
            counts = _counts(names, done, equivalent)
            total = [a + b for a, b in zip(total, counts, strict=True)]
            text += _row(part, *counts, "", "")
        share = f"{total[1] / max(total[1] + total[3], 1):.0%}"
        text += _row(f"**{name}**", *total, share, f"{group['goal']:.0%}")
    text += "\n" + _row("mutant", "function", "line", "instead", "outcome", "a word")
    text += _row(*["---"] * 6)
    for mutant in sample:
        passes = [x for x in results if x.name == mutant.name]
        outcomes = ", then ".join(dict.fromkeys(x.outcome for x in passes)) or "not run"
        module = passes[-1].module if passes else mutant.module
        place = f"{module}<br>{_code(mutant.function)}"
        if mutant.name in equivalent:
            outcomes, word = "equivalent", equivalent[mutant.name]
        else:
            word = words["test"].get(mutant.name, _code(passes[-1].by) if passes else "")
        lines = _code(mutant.before), _code(mutant.after)
        text += _row(f"{mutant.name}<br>{mutant.operator}", place, *lines, outcomes, word)
    return text
