"""What a run found, as text: a few lines for the console, and the whole table for a file."""

import textwrap
from collections.abc import Sequence

from .claim import Claim, Verdict

_SHOWN = 3
"""Claims that the console names one by one; the file has all."""


def counted(claims: Sequence[Claim]) -> str:
    """How many claims agree, disagree and are undecided."""
    verdicts = [claim.verdict for claim in claims]
    text = f"{verdicts.count(Verdict.AGREES)} of {len(verdicts)} claims agree"
    for kind, verb in ((Verdict.DISAGREES, "disagree"), (Verdict.UNDECIDED, "are undecided")):
        if number := verdicts.count(kind):
            text += f", {number} {verb}"
    return text


def figures(claim: Claim) -> str:
    """What was predicted and what was measured."""
    error = "" if claim.standard_error is None else f" ± {claim.standard_error:.2g}"
    return f"predicted {claim.predicted:.6g}, measured {claim.measured:.6g}{error}"


def table(claims: Sequence[Claim]) -> str:
    """Every claim with its verdict, its figures and its source."""
    rows = []
    for claim in claims:
        verdict = claim.verdict.value
        if claim.verdict is Verdict.DISAGREES:
            verdict = verdict.upper()
        statement = textwrap.wrap(claim.statement, 92)
        rows.append(f"{verdict:<10} {statement[0]}")
        rows += [f"{'':11}{line}" for line in statement[1:]]
        rows.append(f"{'':11}{figures(claim)}  [{claim.source}]")
    return "\n".join([counted(claims), "", *rows, ""])


def disagreements(claims: Sequence[Claim]) -> list[str]:
    """A line for each claim that disagrees, the largest differences first; three of them, and how
    many more there are."""
    found = [claim for claim in claims if claim.verdict is Verdict.DISAGREES]
    found.sort(key=lambda claim: -abs(claim.predicted - claim.measured))
    lines = []
    for claim in found[:_SHOWN]:
        lines.append(f"DISAGREES: {claim.statement}: {figures(claim)} [{claim.source}]")
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more that disagree")
    return lines
