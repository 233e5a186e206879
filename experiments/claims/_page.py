"""The ledger as text: a table for the console, and a page for the documentation."""

import math
import textwrap
from collections.abc import Sequence

from .._lab.claim import Verdict
from ._ledger import Result

_HEAD = """# Claims ledger

*Written by `python -m experiments.claims`; do not edit.*

What papers say about RL on reasoning models, and what was derived for this library, each put to the
test by an experiment on the library. {counts}

- **agrees**: the measured number is the predicted one, within the tolerance that the experiment
  states in its code. Sampled numbers have a standard error; they agree if the prediction lies in
  the 99 % interval (Wilson's, or the normal one), so that with other seeds about one in a hundred
  true ones will not.
- **disagrees**: it is not, in the setting given. That may speak against the statement, or against
  reading it in this setting; each case is [explained](#disagreements-explained), with the variant
  that holds.
- **undecided**: the prediction lies in the interval, but that is too wide to tell, or the
  experiment failed.

A predicted number is that of the source. "As summarised" marks statements that were read in a
summary, not in the paper itself. Where a statement is an inequality, the bound stands as predicted.
Where several numbers make one claim, the worst is shown; a difference is predicted to be 0. Claims
marked *ours* are derived in [laws](laws.md), [objectives](objectives.md),
[derivations](derivations.md) or the [remarks](#remarks): the command exits with an error if one of
them does not hold. A statement that fails in this setting stands beside the variant that holds.

Notation: K patterns r with probabilities pi and success rates p; r* the best, r' the misleading
one; V (or A) the accuracy; R a pattern's reward, and in RLIF the number of patterns; gamma the
entanglement ratio; T0 the end of the entangled phase; t time, learning rate times steps.

To add a claim, write one function of its name with the decorator `@claim` in the module of its
subject under `experiments/claims/`, and one line in `tests/experiments/test_claims.py`.
"""


def number(value: float) -> str:
    """Seven digits, without a minus of zero; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value + 0.0:.7g}"


def _measured(result: Result) -> str:
    error = result.claim.standard_error
    return number(result.claim.measured) + ("" if error is None else f" ± {error:.2g}")


def counts(results: Sequence[Result]) -> str:
    """How many claims agree, disagree and are undecided, in words."""
    verdicts = [result.claim.verdict for result in results]
    words = {Verdict.AGREES: "agree", Verdict.DISAGREES: "disagree"}
    parts = [f"{verdicts.count(kind)} {words.get(kind, kind.value)}" for kind in Verdict]
    ours = sum(result.entry.ours for result in results)
    text = f"{len(results)} claims, {ours} of them ours: {', '.join(parts)}"
    raised = sum(result.error is not None for result in results)
    return text + (f" ({raised} could not be run)" if raised else "")


def table(results: Sequence[Result]) -> str:
    """The results for the console."""
    lines = []
    for result in results:
        entry, claim = result.entry, result.claim
        verdict = claim.verdict.value
        if claim.verdict is Verdict.DISAGREES:
            verdict = verdict.upper()
        mark = "  (ours)" if entry.ours else ""
        lines.append(f"{verdict:<10} {entry.id}{mark}  [{entry.source}]")
        for text in (entry.statement, entry.setting):
            lines += [f"{'':11}{line}" for line in textwrap.wrap(text, 96)]
        figures = f"predicted {number(claim.predicted)}, measured {_measured(result)}"
        lines.append(f"{'':11}{figures if result.error is None else result.error}")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a table of Markdown: bars would end the cell, stars and tildes would mark it up."""
    for mark in "|*~_<>":
        text = text.replace(mark, f"\\{mark}")
    return text


def page(results: Sequence[Result]) -> str:
    """The page of the documentation."""
    blocks = [_HEAD.format(counts=counts(results) + ".")]
    for subject in dict.fromkeys(result.entry.subject for result in results):
        blocks.append(f"## {subject}\n")
        rows = [
            "| claim | statement | setting | predicted | measured | verdict |",
            "|---|---|---|---|---|---|",
        ]
        for result in results:
            if result.entry.subject == subject:
                rows.append(_row(result))
        blocks.append("\n".join(rows) + "\n")
    refuted = [result for result in results if result.claim.verdict is not Verdict.AGREES]
    blocks.append("## Disagreements, explained\n")
    blocks += [_explanation(result) for result in refuted] or ["None.\n"]
    remarks = [result for result in results if result.entry.note and result not in refuted]
    if remarks:
        blocks.append("## Remarks\n")
        blocks += [_explanation(result) for result in remarks]
    return "\n".join(blocks)


def _row(result: Result) -> str:
    entry, claim = result.entry, result.claim
    name = f"`{entry.id}`<br>" + ("*ours*, " if entry.ours else "") + _cell(entry.source)
    verdict = claim.verdict.value
    if claim.verdict is not Verdict.AGREES:
        verdict = f"**{verdict}**"
    cells = (
        name,
        _cell(entry.statement),
        _cell(entry.setting),
        number(claim.predicted),
        _measured(result),
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def _explanation(result: Result) -> str:
    entry, claim = result.entry, result.claim
    figures = f"predicted {number(claim.predicted)}, measured {_measured(result)}"
    reason = entry.note if result.error is None else f"The experiment failed: {result.error}"
    text = f"**`{entry.id}`** ({_cell(entry.source)}; {figures}). {_cell(reason)}"
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"
