"""A diagnosis in words: the same sentences for the console and the page."""

import math
from typing import NamedTuple

import numpy as np

from ...plot import LN10
from ...times import Regime
from .. import Band, Diagnosis, TimeBand

SURE = 0.9
"""A statement with at least this probability is called settled."""
_SLOWEST = 20


class Row(NamedTuple):
    """A line of a table: what, how much, and the 90 % interval or a remark."""

    name: str
    value: str
    interval: str


def share(value: float) -> str:
    """A probability or a rate, to three decimals at most."""
    return "-" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def chance(value: float, found: Diagnosis) -> str:
    """A probability that was counted in the draws of a diagnosis: never quite 0 or 1."""
    least = 1 / (found.settings.draws + 1)
    if value < least:
        return f"< {share(least)}"
    return f"> {share(1 - least)}" if value > 1 - least else share(value)


def number(value: float) -> str:
    """A positive number of any size."""
    if math.isnan(value):
        return "-"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"


def time(log_time: float) -> str:
    """A time from its natural logarithm, however large."""
    if math.isnan(log_time):
        return "-"
    if math.isinf(log_time):
        return "never" if log_time > 0 else "0"
    if log_time < 290:
        return number(math.exp(log_time))
    power = log_time / LN10
    return f"{10 ** (power % 1):.1f}e{int(power // 1)}"


def interval(band: Band, index=(), show=number) -> str:
    """The 90 % interval of one entry."""
    low, high = float(band.low[index]), float(band.high[index])
    return "" if math.isnan(low) or math.isnan(high) else f"{show(low)} to {show(high)}"


def regime_shares(found: Diagnosis) -> dict[str, float]:
    """Probability of each regime, mean over questions by weight."""
    mean = found.data.weights @ found.regime.probs
    return {kind.name: float(mean[kind]) for kind in Regime}


def verdict(found: Diagnosis) -> str:
    """The first thing to know, in a sentence or two."""
    shares = regime_shares(found)
    best = _likely(found, found.regime.best_probs)
    if len(found.data.patterns) == 1:
        return "There is one pattern only: RLVR has nothing to select."
    if len(found.data.weights) > 1:
        parts = ", ".join(f"{100 * value:.0f} % {name}" for name, value in shares.items())
        return f"Of {len(found.data.weights)} questions, each by itself, expect {parts}."
    strong = shares["STRONG"]
    if strong >= SURE:
        return (
            f"Strong start (probability {chance(strong, found)}): RLVR needs no way out of "
            f"entanglement, and raises {best} from the first step."
        )
    if 1 - strong >= SURE:
        misleading = _likely(found, found.regime.misleading_probs)
        kind = "Entangled" if shares["ENTANGLED"] >= SURE else "Weak"
        return (
            f"{kind} start (probability {chance(1 - strong, found)}): RLVR will first "
            f"raise {misleading}, which misleads, before it turns to {best}. "
            "Fine-tuning first would help."
        )
    parts = ", ".join(f"{name} {chance(value, found)}" for name, value in shares.items())
    return f"These rollouts do not settle the regime: {parts}."


def _likely(found: Diagnosis, probs: np.ndarray) -> str:
    mean = found.data.weights @ probs
    at = int(np.argmax(mean))
    return f"'{found.data.patterns[at]}' (probability {chance(float(mean[at]), found)})"


def _time_row(name: str, found: TimeBand, log_unit: float = 0.0) -> Row:
    """Over all draws, and apart over those where the time is neither 0 nor infinite."""

    def show(log_time):
        return time(log_time - log_unit)

    remarks = []
    for what, part in (("0", found.at_once[0]), ("never", found.never[0])):
        if part > 0:
            remarks.append(f"{what} with probability {share(float(part))}")
    median = float(found.band.median[0])
    if remarks and not math.isnan(median):
        remarks.append(f"else {show(median)} ({interval(found.band, 0, show)})")
    if found.failed[0] > 0:
        remarks.append(f"{share(float(found.failed[0]))} of the solves failed")
    within = "; ".join([interval(found.overall, 0, show), *remarks])
    return Row(name, show(float(found.overall.median[0])), within)


def key_figures(found: Diagnosis) -> list[Row]:
    """What the practitioner asks first."""
    ahead = found.rlvr.forecast
    accuracies = (
        ("accuracy now", found.start.accuracy),
        ("accuracy in the end (RLVR)", ahead.end_accuracy),
    )
    rows = [
        Row(name, share(float(each.median)), interval(each, (), share)) for name, each in accuracies
    ]
    shares = regime_shares(found)
    rows += [
        Row(f"probability of {name}", chance(value, found), "") for name, value in shares.items()
    ]
    if len(found.data.weights) == 1:
        gamma = float(found.regime.gamma.median[0])
        rows.append(Row("gamma, unless STRONG", number(gamma), interval(found.regime.gamma, 0)))
        times = (
            ("T0, the end of entanglement", found.rlvr.log_entanglement_time),
            (f"time to pi(best) = {1 - found.settings.eps:g}", found.rlvr.log_convergence_time),
        )
        rows += [_time_row(name, each) for name, each in times]
        if found.rlvr.step_forecast is not None:
            per_step = float(found.rlvr.step_forecast.log_scale.median)
            rows += [_time_row(f"{name}, in steps", each, per_step) for name, each in times]
    if found.rlif is not None:
        rows.append(
            Row(
                "risk that RLIF ends below its start",
                chance(found.rlif.ends_below_start, found),
                f"by {found.rlif.reward}, {found.rlif.rollouts} rollouts",
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
    best: str
    misleads: str


def pattern_rows(found: Diagnosis) -> list[PatternRow]:
    """A row for each pattern as modelled."""
    rows = []
    probs, rates = (
        mean_band(found, x) for x in (found.start.pattern_probs, found.start.success_rates)
    )
    best, misleading = (
        found.data.weights @ x for x in (found.regime.best_probs, found.regime.misleading_probs)
    )
    for at, name in enumerate(found.data.patterns):
        rows.append(
            PatternRow(
                name,
                int(found.data.samples[:, at].sum()),
                int(found.data.correct[:, at].sum()),
                share(float(probs.median[at])),
                interval(probs, at, share),
                share(float(rates.median[at])),
                interval(rates, at, share),
                chance(float(best[at]), found),
                chance(float(misleading[at]), found),
            )
        )
    return rows


def mean_band(found: Diagnosis, band: Band) -> Band:
    """Of questions, by weight: the mean of the ends, which is wider than the band of the mean."""
    return Band(*(found.data.weights @ x for x in (band.low, band.median, band.high)))


def slowest(found: Diagnosis) -> list[tuple[str, str, str, str]]:
    """Questions that take longest: name, probability of STRONG, time to converge, interval."""
    if len(found.data.weights) == 1:
        return []
    times = found.rlvr.log_convergence_time.overall
    order = np.argsort(-np.nan_to_num(times.median, nan=-np.inf), kind="stable")[:_SLOWEST]
    return [
        (
            found.data.questions[i],
            chance(float(found.regime.probs[i, Regime.STRONG]), found),
            time(float(times.median[i])),
            interval(times, i, time),
        )
        for i in order
    ]


def open_lines(found: Diagnosis) -> list[str]:
    """What is too uncertain to say, and how many rollouts would settle it."""
    lines = []
    for point in found.open_points:
        more = (
            f"about {point.further_rollouts:,} further rollouts would settle it"
            if point.further_rollouts is not None
            else f"not even {point.tried:,} further rollouts would settle it"
        )
        lines.append(f"{point.statement}; {more}")
    return lines


def summary(found: Diagnosis) -> list[str]:
    """The lines of the console."""
    lines = [verdict(found), ""]
    for row in key_figures(found):
        within = f"   ({row.interval})" if row.interval else ""
        lines.append(f"  {row.name:<36} {row.value:>10}{within}")
    lines += ["", "  pattern                  samples   share   success     best   misleads"]
    for row in pattern_rows(found):
        lines.append(
            f"  {row.name[:24]:<24} {row.samples:>7} {row.share:>7} {row.rate:>9} {row.best:>8} "
            f"{row.misleads:>10}"
        )
    stuck = [sum(q.at == at for q in found.data.stuck) for at in (0, 1)]
    if found.data.stuck:
        lines += ["", f"  questions stuck: {stuck[0]} at 0, {stuck[1]} at 1"]
    for title, each in (("too uncertain to say", open_lines(found)), ("limits", found.limits)):
        if each:
            lines += ["", f"  {title}:", *(f"  - {line}" for line in each)]
    return lines
