"""The ledger as text: a table for the console, and a page for the documentation."""

import math
import textwrap
from collections.abc import Sequence

from .._lab.claim import Verdict
from ._ledger import Result

_HEAD = """# Claims ledger

*Written by `python -m experiments.claims`; do not edit.*

This page puts statements about RL on reasoning models to the test: what papers say, and what was
derived for this library. An experiment on the library stands behind each. {counts}

The claims that do not hold are [explained](#disagreements-explained), each with the variant that
does.

How to read the tables:

- **agrees**: the measured number is the predicted one, within the tolerance that the experiment
  states in its code. Sampled numbers have a standard error; they agree if the prediction lies in
  the 99 % interval (Wilson's, or the normal one). So with other seeds about one in a hundred true
  statements will be found to disagree.
- **disagrees**: the measured number is another one, in the setting given. That may speak against
  the statement, or against reading it in this setting.
- **undecided**: the prediction lies in the interval, but that is too wide to tell, or the
  experiment failed.
- **predicted**: the number of the source. Where a statement is an inequality it is the bound, and a
  difference is predicted to be 0. Where several numbers make one claim, the worst is shown.
- **as summarised**: the statement was read in a summary and not in the paper itself.
- ***ours***: derived in [laws](laws.md), [objectives](objectives.md),
  [derivations](derivations.md) or the [remarks](#remarks). The command exits with an error if one
  of these does not hold.

Symbols: K is the number of patterns r, with shares pi and success rates p; r* is the best pattern,
r' the misleading one; V (or A) is the accuracy; R is a pattern's reward, and in RLIF the number of
patterns; gamma is the entanglement ratio; T0 is the end of the entangled phase; t is time, the
learning rate times the number of steps.

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
