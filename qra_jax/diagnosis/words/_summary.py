"""A diagnosis in words: the same sentences for the console and the page."""

import math
from typing import NamedTuple

import numpy as np

from ...times import Regime
from .._bands import Band, TimeBand
from .._result import Findings
from ._advice import Advice
from ._alarms import alarms, withheld
from ._numbers import beyond, chance, digits_of, interval, number, share, time, time_within, within
from ._signal import signal_lines
from ._trust import trust_lines

SURE = 0.9
"""A statement with at least this probability is called settled."""
_SLOWEST = 20


class Row(NamedTuple):
    """A line of a table: what, how much, and the 90 % interval or a remark."""

    name: str
    value: str
    interval: str


def regime_shares(found: Findings) -> dict[str, float]:
    """Probability of each regime, mean over questions by weight."""
    mean = found.data.weights @ found.regime.probs
    return {kind.name: float(mean[kind]) for kind in Regime}


def _likely(found: Findings, probs: np.ndarray) -> str:
    mean = found.data.weights @ probs
    at = int(np.argmax(mean))
    return f"'{found.data.patterns[at]}' (probability {chance(float(mean[at]), found)})"


def verdict(found: Findings) -> str:
    """The regime, and what it means, in a sentence or two."""
    shares, number_of = regime_shares(found), len(found.data.patterns)
    best = _likely(found, found.regime.best_probs)
    if number_of == 1:
        return "There is one pattern only: RLVR has nothing to select."
    if len(found.data.weights) > 1:
        parts = ", ".join(f"{100 * value:.0f} % {name}" for name, value in shares.items())
        return f"Of {len(found.data.weights)} questions, each by itself, expect {parts}."
    if number_of == 2 and found.regime.best_probs.max() < SURE:
        return (
            "These rollouts do not settle which of the two patterns is better; most likely it is "
            f"{best}. Whichever it is, RLVR raises it from the first step: with two patterns there "
            "is no third that could mislead, so that every start is STRONG by definition."
        )
    if number_of == 2:
        return (
            f"RLVR raises {best} from the first step: with two patterns there is no third that "
            "could mislead, so that every start is STRONG by definition. That does not say that "
            "RLVR is fast: see the time."
        )
    strong = shares["STRONG"]
    if strong >= SURE:
        return (
            f"STRONG start (probability {chance(strong, found)}): RLVR raises {best} from the "
            "first step, and nothing misleads it."
        )
    if 1 - strong >= SURE:
        misleading = _likely(found, found.regime.misleading_probs)
        if shares["ENTANGLED"] >= SURE:
            name, sure = "ENTANGLED start", shares["ENTANGLED"]
        else:
            name, sure = "ENTANGLED or MIXED start", 1 - strong
        return (
            f"{name} (probability {chance(sure, found)}): RLVR will first raise {misleading}, "
            f"which misleads, before it turns to {best}."
        )
    parts = ", ".join(f"{name} {chance(value, found)}" for name, value in shares.items())
    return f"These rollouts do not settle the regime: {parts}."


def _rlvr(found: Findings) -> str:
    gone = withheld(found)
    if "ends" in gone:
        return "Withheld: the logs refute what a forecast rests on (above)."
    ahead = found.rlvr.forecast
    gain = (
        f"accuracy from {within(found.start.accuracy)} to {within(ahead.end_accuracy)} in the end"
    )
    if len(found.data.weights) > 1:
        return f"{gain}. Times differ from question to question: see below."
    steps = found.rlvr.step_forecast
    if "gain" in gone and steps is not None:
        gain = (
            f"accuracy from {within(found.start.accuracy)} to {within(steps.accuracy, -1)} at step "
            f"{steps.steps[-1]:,}, if success rates go on to drift"
        )
    share_of = f"{100 * (1 - found.settings.eps):g} %"
    times = found.rlvr.log_convergence_time
    longer = found.rlvr.relative_duration
    parts = [f"{gain}; the best pattern has {share_of} of the answers "]
    if steps is not None and "steps" not in gone:
        when = steps.log_convergence_step
        if math.isinf(when.overall.median[0]) and steps.optimised:
            parts.append(f"{beyond(steps)} (with probability {share(float(when.never[0]))})")
        else:
            parts.append(f"after {time_within(when.overall, 0, 'steps', beyond(steps))}")
    elif times.overall.median[0] == np.inf:
        parts[-1] = f"{gain}; the best pattern does not get to {share_of} of the answers"
    else:
        parts.append(
            f"after a time of {time_within(times.overall)} (learning rate times steps of plain "
            "gradient ascent; steps are not known without logs)"
        )
    if not math.isnan(float(longer.median[0])) and times.overall.median[0] < np.inf:
        parts.append(
            f". That is {time_within(longer)} times as long as if all patterns had equal shares"
        )
    if float(times.never[0]) > 0 and times.overall.median[0] < np.inf:
        parts.append(f". With probability {chance(float(times.never[0]), found)} it never does")
    return "".join(parts) + "."


def rlif_sentence(found: Findings) -> str:
    """Safe, not safe, or cannot tell."""
    rlif = found.rlif
    if rlif is None:
        return (
            "Cannot tell: the rollouts hold neither confidence nor answers, and so no internal "
            "reward."
        )
    if rlif.why_not:
        return f"Cannot tell: {rlif.why_not}."
    if "ends" in withheld(found):
        return "Withheld: the logs refute what a forecast rests on (above)."
    risk = rlif.ends_below_start
    numbers = (
        f"by {rlif.reward} the accuracy ends below its start with probability "
        f"{chance(risk, found)} (end: {within(rlif.end_accuracy)}; start: "
        f"{within(found.start.accuracy)})"
    )
    if rlif.reward == "confidence":
        right, of = trust_lines.ends("certainty")
        kept, _ = trust_lines.ends("certainty_table")
        return (
            f"Cannot tell if all parameters are trained: confidence rests on answers, which such "
            f"training moves, and our study called the end right for {right} of {of} models "
            f"({kept} of {of} where only patterns were trained). As answers are now, {numbers}."
        )
    head = "Cannot tell"
    if risk >= SURE:
        head = "Not safe"
    elif risk <= 1 - SURE:
        head = "Safe, as answers are now"
    return f"{head}: {numbers}."


def _next(found: Findings, plan: Advice | None) -> str:
    check, shares = found.log_check, regime_shares(found)
    if check is not None and check.refuted:
        return (
            "find out why the logs leave the model before you trust a forecast: look at samples of "
            "the step where they part (figures below), and at the learning-rate schedule."
        )
    if check is not None and check.drifting:
        return (
            "find out why success rates within patterns move (answers that are trained, other "
            "questions, another grader), and plan by logged accuracies."
        )
    if found.start.within is not None and found.start.within.disagree:
        return (
            "compare patterns within questions, as here; collect several samples of each of more "
            "questions, since pooled success rates mislead."
        )
    if len(found.data.patterns) == 1:
        return "sort the answers into patterns by other rules: with one there is nothing to learn."
    asked = [x for x in found.open_points if x.about == "regime" and x.further_rollouts]
    if asked:
        return f"settle the regime first: {_further(asked[0])}."
    if len(found.data.weights) == 1 and 1 - shares["STRONG"] >= SURE:
        best = int(np.argmax(found.data.weights @ found.regime.best_probs))
        if plan is not None:
            return plan.sentence
        return (
            f"fine-tune before RLVR, on right answers by way of "
            f"'{found.data.patterns[best]}' above all; --design finds the mixture and the duration."
        )
    if found.rlvr.step_forecast is not None:
        return "go on with RLVR, and hold the forecast over steps against every further log."
    return "start RLVR, and log the pattern of every evaluated answer: logs give the time in steps."


def box(found: Findings, plan: Advice | None = None) -> list[Row]:
    """The four lines for who decides: start, RLVR, RLIF, next.

    **Arguments:** `found`; `plan`: the fine-tuning, if it was designed.
    """
    lines = (
        ("Start", verdict(found)),
        ("RLVR", _rlvr(found)),
        ("RLIF", rlif_sentence(found)),
        ("Next", _next(found, plan)),
    )
    return [Row(name, text[0].upper() + text[1:], "") for name, text in lines]


def _time_row(name: str, found: TimeBand, beyond: str = "never") -> Row:
    """Over all draws, and apart over those where the time is neither 0 nor infinite."""
    low, high = float(found.overall.low[0]), float(found.overall.high[0])
    digits = digits_of(low, high) if math.isfinite(low) and math.isfinite(high) else 2

    def show(log_time):
        return time(log_time, digits, beyond)

    if found.at_once[0] == 1:
        return Row(name, "0", "in every draw")
    remarks = []
    for what, part in (("0", found.at_once[0]), (beyond, found.never[0])):
        if part > 0:
            remarks.append(f"{what} with probability {share(float(part))}")
    median = float(found.band.median[0])
    if remarks and not math.isnan(median):
        remarks.append(f"else {show(median)} ({interval(found.band, 0, show)})")
    if found.failed[0] > 0:
        remarks.append(f"{share(float(found.failed[0]))} of the solves failed")
    both = "; ".join([interval(found.overall, 0, show), *remarks])
    return Row(name, show(float(found.overall.median[0])), both)


def key_figures(found: Findings) -> list[Row]:
    """The numbers behind the box; what the logs refute is left out."""
    gone = withheld(found)
    accuracy = found.start.accuracy
    rows = [Row("accuracy now", share(float(accuracy.median)), interval(accuracy, (), share))]
    if not gone & {"ends", "gain"}:
        end = found.rlvr.forecast.end_accuracy
        rows.append(
            Row("accuracy in the end (RLVR)", share(float(end.median)), interval(end, (), share))
        )
    shares = regime_shares(found)
    rows += [
        Row(f"probability of {name}", chance(value, found), "") for name, value in shares.items()
    ]
    if len(found.data.weights) == 1 and "ends" not in gone:
        gamma = found.regime.gamma
        if not math.isnan(float(gamma.median[0])):
            rows.append(
                Row("gamma, unless STRONG", number(float(gamma.median[0]), 2),
                    interval(gamma, 0, lambda x: number(x, 2)))
            )  # fmt: skip
        names = (
            "T0, the end of entanglement",
            f"time until the best has {100 * (1 - found.settings.eps):g} %",
        )
        rlvr = found.rlvr
        times = (rlvr.log_entanglement_time, rlvr.log_convergence_time)
        rows += [_time_row(name, x) for name, x in zip(names, times, strict=True)]
        steps = rlvr.step_forecast
        if steps is not None and "steps" not in gone:
            both = (steps.log_entanglement_step, steps.log_convergence_step)
            last = beyond(steps)
            rows += [
                _time_row(f"{name}, in steps", x, last) for name, x in zip(names, both, strict=True)
            ]
    rlif = found.rlif
    if rlif is not None and not rlif.why_not and "ends" not in gone:
        rows.append(
            Row(
                "risk that RLIF ends below its start",
                chance(rlif.ends_below_start, found),
                f"by {rlif.reward}, {rlif.rollouts} rollouts",
            )
        )
    return rows


class PatternRow(NamedTuple):
    """A pattern, mean over questions by weight where there are several."""

    name: str
    samples: int
    correct: int
    share: str
    share_interval: str
    rate: str
    rate_interval: str
    pooled: str
    best: str
    misleads: str


def pattern_rows(found: Findings) -> list[PatternRow]:
    """A row for each pattern as modelled."""
    rows = []
    probs, rates = (
        mean_band(found, x) for x in (found.start.pattern_probs, found.start.success_rates)
    )
    best, misleading = (
        found.data.weights @ x for x in (found.regime.best_probs, found.regime.misleading_probs)
    )
    samples, correct = found.data.samples.sum(axis=0), found.data.correct.sum(axis=0)
    for at, name in enumerate(found.data.patterns):
        rows.append(
            PatternRow(
                name,
                int(samples[at]),
                int(correct[at]),
                share(float(probs.median[at])),
                interval(probs, at, share),
                share(float(rates.median[at])),
                interval(rates, at, share),
                share(float(correct[at] / samples[at])) if samples[at] else "-",
                chance(float(best[at]), found),
                chance(float(misleading[at]), found),
            )
        )
    return rows


def mean_band(found: Findings, band: Band) -> Band:
    """Of questions, by weight: the mean of the ends, which is wider than the band of the mean."""
    return Band(*(found.data.weights @ x for x in (band.low, band.median, band.high)))


def slowest(found: Findings) -> list[tuple[str, str, str, str]]:
    """Questions that take longest: name, probability of STRONG, time to converge, interval."""
    if len(found.data.weights) == 1:
        return []
    times = found.rlvr.log_convergence_time.overall
    order = np.argsort(-np.nan_to_num(times.median, nan=-np.inf), kind="stable")[:_SLOWEST]
    return [
        (
            found.data.questions[i],
            chance(float(found.regime.probs[i, Regime.STRONG]), found),
            time(float(times.median[i]), 2),
            interval(times, i, lambda x: time(x, 2)),
        )
        for i in order
    ]


def _further(point) -> str:
    """How many further rollouts, in questions times samples where these are resampled."""
    rollouts = point.further_rollouts if point.further_rollouts is not None else point.tried
    if point.each is None:
        amount = f"{rollouts:,} further rollouts"
    else:
        amount = (
            f"{max(1, round(rollouts / point.each)):,} further questions x {point.each} samples"
        )
    if point.further_rollouts is not None:
        return f"about {amount} would settle it"
    if point.tried == 0:
        return "how many further rollouts would settle it was not worked out"
    return f"even {amount} would not settle it"


def open_lines(found: Findings) -> list[str]:
    """What is too uncertain to say, and how many rollouts would settle it."""
    gone = withheld(found)
    points = [x for x in found.open_points if "ends" not in gone or x.about == "regime"]
    return [f"{point.statement}; {_further(point)}" for point in points]


def summary(found: Findings, plan: Advice | None = None) -> list[str]:
    """The lines of the console."""
    lines = [f"ATTENTION: {line}" for line in alarms(found)]
    lines += [f"{row.name + ':':<6} {row.value}" for row in box(found, plan)]
    lines.append("")
    for row in key_figures(found):
        both = f"   ({row.interval})" if row.interval else ""
        lines.append(f"  {row.name:<36} {row.value:>10}{both}")
    lines += ["", "  pattern                  samples   share   success     best   misleads"]
    for row in pattern_rows(found):
        lines.append(
            f"  {row.name[:24]:<24} {row.samples:>7} {row.share:>7} {row.rate:>9} {row.best:>8} "
            f"{row.misleads:>10}"
        )
    stuck = [sum(q.at == at for q in found.data.stuck) for at in (0, 1)]
    if found.data.stuck:
        lines += ["", f"  questions stuck: {stuck[0]} at 0, {stuck[1]} at 1"]
    parts = (
        ("how the file was read", found.notes),
        ("signal and cost of groups", signal_lines(found)),
        ("too uncertain to say", open_lines(found)),
        ("how far to trust this", trust_lines(found)),
        ("limits", found.limits),
    )
    for title, each in parts:
        if each:
            lines += ["", f"  {title}:", *(f"  - {line}" for line in each)]
    if plan is not None and "ends" not in withheld(found):
        lines += ["", *plan.summary()]
    return lines
