"""Signal and cost of groups, in words, as tables and as a file of questions."""

import csv
import io
from typing import NamedTuple

import numpy as np

from .._result import Findings
from .._signal_result import Signal
from ._alarms import withheld
from ._numbers import chance, interval, number, share, within

_NAMED = {0: "now", 3: "halfway", 4: "converged", -1: "end"}
"""Times of a path that are told of each question: now, at half and at all of the median time of
convergence, and in the end."""
_FAR = 3  # standard errors beyond which the beta law is doubted


class SizeRow(NamedTuple):
    """Groups of one size."""

    size: str
    useful: str
    useful_interval: str
    measured: str
    cost: str
    pace: str
    speed: str
    best: str


def size_rows(found: Findings) -> list[SizeRow]:
    """A row for each size of groups."""
    if found.signal is None:
        return []
    by = found.signal.by_size
    return [
        SizeRow(
            str(size),
            share(float(by.useful.median[at])),
            interval(by.useful, at, share),
            share(float(by.measured[at])),
            number(float(by.samples_per_useful.median[at])),
            number(float(by.pace.median[at])),
            share(float(by.speed.median[at])),
            chance(float(by.best_probs[at]), found),
        )
        for at, size in enumerate(by.sizes.tolist())
    ]


def signal_lines(found: Findings) -> list[str]:
    """What groups have to say, in whole sentences, the finding first."""
    signal = found.signal
    if signal is None:
        return [
            "Cannot tell: how many groups give a gradient hangs on how questions differ in "
            "difficulty, which only several questions with two samples each, or more, can show."
        ]
    later = "ends" not in withheld(found) and len(signal.log_times) > 1
    lines = [_useful(signal), *_size(found, signal), _questions(signal, later), _dynamic(signal)]
    if signal.kl_pull is not None and later:
        lines.append(_kl(signal))
    if abs(signal.misfit) > _FAR:
        lines.append(
            "The share measured on the rollouts is "
            f"{abs(signal.misfit):.1f} standard errors {'above' if signal.misfit > 0 else 'below'} "
            "that of the beta law of difficulty, which does not describe these questions: trust "
            "the measured column."
        )
    return lines


def _useful(signal: Signal) -> str:
    at = signal.by_size.sizes.tolist().index(signal.group_size)
    cost = within(signal.by_size.samples_per_useful, at, number)
    return (
        f"Of groups of {signal.group_size} samples of {signal.asked}, a share of "
        f"{within(signal.by_size.useful, at)} has rewards that differ and so a gradient: each such "
        f"group costs {cost} rollouts."
        + (" Some differ only because the verifier errs." if signal.verifier_errs else "")
    )


def _size(found: Findings, signal: Signal) -> list[str]:
    by = signal.by_size
    if by.best == 0:
        return ["There is nothing to learn between patterns here, so no size of groups is best."]
    at = by.sizes.tolist().index(by.best)
    budget = signal.group_size * signal.batch
    line = (
        f"With {budget:,} rollouts a step, groups of {by.best} move the policy fastest "
        f"(probability {chance(float(by.best_probs[at]), found)}), for an optimiser that makes "
        "steps of given length, as Adam does."
    )
    others = [size for size in by.as_good if size != by.best]
    if others:
        line += (
            f" Sizes {', '.join(map(str, others))} reach at least 95 % of that speed: choose among "
            "them by memory and by how many questions a step should see."
        )
    return [line]


def _questions(signal: Signal, later: bool) -> str:
    def said(at: int) -> str:
        cold, band, saturated = (f"{100 * x:.0f} %" for x in signal.counts[at])
        return f"{cold} cold, {band} in band and {saturated} saturated"

    line = (
        f"Of {signal.asked} expect {said(0)} now (cold: most groups have no accepted answer; "
        "saturated: most have no other)"
    )
    if later:
        line += f"; {said(4)} at the median time of convergence, {said(-1)} in the end"
    return f"{line}. questions.csv lists them."


def _dynamic(signal: Signal) -> str:
    at = signal.by_size.sizes.tolist().index(signal.group_size)
    useful = float(signal.by_size.useful.median[at])
    speed = float(signal.dynamic_speed.median)
    line = (
        f"Dynamic sampling, which draws groups until enough are of use, discards "
        f"{share(1 - useful)} of the rollouts and takes {number(1 / max(useful, 1e-9))} times as "
        "many a step"
    )
    if np.isnan(speed):
        return line + "."
    return f"{line}; at equal rollouts it is {number(speed, 4)} times as fast as plain groups."


def _kl(signal: Signal) -> str:
    pull = signal.kl_pull
    assert pull is not None
    parts = []
    for at, name in ((3, "halfway to convergence"), (4, "at convergence")):
        gain, lost = float(pull.gain.median[at]), float(pull.lost.median[at])
        if gain > 0:
            parts.append(f"{100 * max(-lost, 0) / gain:.1f} % {name}")
    if not parts:
        return "The KL penalty on groups without signal takes back nothing."
    return (
        "The KL penalty pulls the policy back to the reference in groups without signal too, which "
        f"takes back of what the other groups gain in accuracy: {', '.join(parts)} "
        f"(patterns are then {within(pull.kl, 4, number)} nats from the reference)."
    )


def questions_csv(found: Findings) -> str:
    """A row for each question: counts, success, and how likely it is cold, in band or saturated."""
    signal = found.signal
    assert signal is not None
    times = {0: "now"}
    if len(signal.log_times) > 1 and "ends" not in withheld(found):
        times = _NAMED
    by = signal.by_question
    kinds = ("cold", "in_band", "saturated")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["question", "samples", "right", "success", "success_low", "success_high", "useful_now"]
    writer.writerow([*head, *(f"{kind}_{name}" for name in times.values() for kind in kinds)])
    for at, name in enumerate(by.names):
        success = by.success.median[at], by.success.low[at], by.success.high[at]
        chances = [x for time in times for x in by.kinds[time, at]]
        shown = [f"{x:.4g}" for x in (*success, by.useful[at], *chances)]
        writer.writerow([name, f"{by.samples[at]:.0f}", f"{by.right[at]:.0f}", *shown])
    return text.getvalue()
