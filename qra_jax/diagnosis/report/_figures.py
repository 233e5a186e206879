"""The figures of a diagnosis."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ...plot import BEST, COLOURS, LN10, MARKERS, MISLEADING, THEORY, decades, look, style
from .. import (
    KINDS,
    Band,
    Diagnosis,
    LogCheck,
    PassAtKEstimate,
    RLIFRisk,
    Signal,
    StepForecast,
    band,
)
from ..words import mean_band, number, withheld
from ._design import Plan

_TIME = r"time (learning rate $\times$ optimiser steps)"
_END = "T0 (grey: 90 %)"


def draw_figures(found: Diagnosis, plan: Plan | None = None) -> dict[str, Figure]:
    """All figures by name, in the order of the page: one panel each, so that they stack on a
    phone. What the logs refute is not drawn.

    **Arguments:** `found`; `plan`: the fine-tuning, if it was designed.
    """
    gone = withheld(found)
    with style():
        figures = {"shares": _forest_of(found, "shares"), "rates": _forest_of(found, "rates")}
        ahead = found.rlvr.step_forecast
        if found.log_check is not None:
            figures["log_accuracy"] = _log_accuracy(found.log_check)
            if found.log_check.with_patterns:
                figures["log_shares"] = _log_shares(found, found.log_check)
        if ahead is not None and "steps" not in gone:
            figures["step_accuracy"] = _step_accuracy(ahead)
            figures["step_shares"] = _step_shares(found, ahead)
        elif "ends" not in gone:
            figures["accuracy"] = _accuracy(found)
            figures["pattern_shares"] = _pattern_shares(found)
        if not np.isnan(found.rlvr.forecast.entropy.median).any() and "ends" not in gone:
            figures["entropy"] = _entropy(found)
        if found.signal is not None:
            figures["signal"] = _signal(found.signal)
            if len(found.signal.log_times) > 1 and "ends" not in gone:
                figures["kinds"] = _kinds(found.signal)
        if not gone & {"ends", "gain"}:
            figures["pass_at_k"] = _pass_at_k(found.rlvr.pass_at_k)
        if found.rlif is not None and not found.rlif.why_not:
            figures["rlif"] = _rlif(found, found.rlif)
        if plan is not None and "ends" not in gone:
            figures["fine_tuning"] = _fine_tuning(plan)
        return figures


def _fine_tuning(plan: Plan) -> Figure:
    """The total time against the duration, 0 on the left of a logarithmic axis."""
    figure, ax = _panel()
    curve = plan.curve
    x, parts = curve.durations, band(np.asarray(curve.own.log_time), axis=1)
    least = x[1] / 2 if len(x) > 1 else 1.0
    _band(ax, x, Band(*(v / LN10 for v in vars(parts).values())), THEORY, "data of this design")
    naive = np.median(np.asarray(curve.naive.log_time), axis=1) / LN10
    ax.plot(x, naive, color=MISLEADING, ls="--", label="best pattern only")
    ax.axvline(float(plan.design.duration), color="0.35", lw=0.9, ls=":", label="this design")
    ax.axvline(plan.budget, color="0.5", lw=0.9, ls=(0, (7, 2)), label="budget")
    ax.set_xscale("symlog", linthresh=2 * least)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel=r"duration of fine-tuning (learning rate $\times$ optimiser steps)",
           xlim=(0, x[-1]), ylabel="total time, in the same unit")  # fmt: skip
    decades(ax.yaxis)
    ax.legend()
    return figure


def _shown(found: Diagnosis) -> list[int]:
    """The patterns that have a colour of their own: those that ever have the largest shares."""
    largest = found.rlvr.forecast.pattern_shares.high.max(axis=0)
    return np.sort(np.argsort(-largest, kind="stable")[: len(COLOURS)]).tolist()


def _band(ax: Axes, x: np.ndarray, band: Band, colour: str, label: str, **kwargs) -> None:
    ax.fill_between(x, band.low, band.high, color=colour, alpha=0.18, lw=0)
    ax.plot(x, band.median, **{"color": colour, "ls": "-", "label": label, **kwargs})


def _column(band: Band, at: int) -> Band:
    return Band(band.low[:, at], band.median[:, at], band.high[:, at])


def _panel(height: float = 3.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, height))
    return figure, figure.subplots()


def _mark_end(ax: Axes, at: Band, label: str) -> None:
    """T0, with its interval, where it is neither 0 nor infinite."""
    low, median, high = (float(np.ravel(x)[0]) for x in vars(at).values())
    if not np.all(np.isfinite([low, median, high])):
        return
    ax.axvspan(low, high, color="0.85", lw=0, zorder=0)
    ax.axvline(median, color="0.2", lw=0.9, ls=":", label=label)
    ax.annotate("T0", (median, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 1),
                textcoords="offset points", ha="center", va="bottom")  # fmt: skip


def _accuracy(found: Diagnosis) -> Figure:
    ahead, (figure, ax) = found.rlvr.forecast, _panel()
    _band(ax, ahead.log_times / LN10, ahead.accuracy, THEORY, "median; band: 90 %")
    ax.axhline(float(ahead.start_accuracy.median), color="0.5", lw=0.8, ls=":", label="now")
    _end_in_time(ax, found)
    ax.set(xlabel=_TIME, ylabel="accuracy", ylim=(0, 1.02))
    decades(ax.xaxis)
    ax.legend(loc="lower right")
    return figure


def _end_in_time(ax: Axes, found: Diagnosis) -> None:
    if len(found.data.weights) == 1:
        end = found.rlvr.log_entanglement_time.overall
        _mark_end(ax, Band(*(x / LN10 for x in vars(end).values())), _END)


def _pattern_shares(found: Diagnosis) -> Figure:
    ahead, (figure, ax) = found.rlvr.forecast, _panel()
    for index, at in enumerate(_shown(found)):
        name, how = _short(found.data.patterns[at]), look(index)
        _band(ax, ahead.log_times / LN10, _column(ahead.pattern_shares, at), how["color"], name,
              ls=how["ls"])  # fmt: skip
    _end_in_time(ax, found)
    ax.set(xlabel=_TIME, ylabel="share of answers", ylim=(-0.02, 1.02))
    decades(ax.xaxis)
    ax.legend()
    return figure


def _step_accuracy(ahead: StepForecast) -> Figure:
    figure, ax = _panel()
    _band(ax, ahead.steps, ahead.accuracy, THEORY, "median; band: 90 %")
    if len(ahead.logged):
        _logged(ax, *np.asarray(ahead.logged, float).T)
    _end_in_steps(ax, ahead)
    ax.set(xlabel="optimiser step", ylabel="accuracy", ylim=(0, 1.02))
    ax.legend(loc="lower right")
    return figure


def _end_in_steps(ax: Axes, ahead: StepForecast) -> None:
    end = ahead.log_entanglement_step.overall
    if np.size(end.median) == 1 and float(np.ravel(end.high)[0]) < np.log(ahead.steps[-1]):
        _mark_end(ax, Band(*(np.exp(x) for x in vars(end).values())), _END)


def _logged(ax: Axes, steps: np.ndarray, right: np.ndarray, samples: np.ndarray) -> None:
    rate = right / samples
    error = 1.645 * np.sqrt(rate * (1 - rate) / samples)
    ax.errorbar(steps, rate, error, fmt="o", ms=3, lw=0.8, color=MISLEADING, label="logged, 90 %")


def _step_shares(found: Diagnosis, ahead: StepForecast) -> Figure:
    figure, ax = _panel()
    for index, at in enumerate(_shown(found)):
        name, how = _short(found.data.patterns[at]), look(index)
        _band(ax, ahead.steps, _column(ahead.pattern_shares, at), how["color"], name, ls=how["ls"])
    _end_in_steps(ax, ahead)
    ax.set(xlabel="optimiser step", ylabel="share of answers", ylim=(-0.02, 1.02))
    ax.legend()
    return figure


def _log_accuracy(check: LogCheck) -> Figure:
    figure, ax = _panel()
    one = "_" if len(check.steps) == 1 else None  # a line of one point would not be seen
    ax.plot(check.steps, check.expected_accuracy, color=THEORY, marker=one, ms=14,
            label="best fit of the model")  # fmt: skip
    ax.plot(check.steps, check.accuracy, "o", color=MISLEADING, label="logged")
    ax.set(xlabel="optimiser step", ylabel="accuracy", ylim=(0, 1.02))
    ax.legend()
    return figure


def _log_shares(found: Diagnosis, check: LogCheck) -> Figure:
    figure, ax = _panel()
    one = "_" if len(check.steps) == 1 else None
    largest = np.fmax(check.pattern_shares, check.expected_shares).max(axis=0)
    shown = np.sort(np.argsort(-largest, kind="stable")[: len(COLOURS)])
    for index, at in enumerate(shown):
        name, how = _short(found.data.patterns[at]), look(index)
        ax.plot(check.steps, check.expected_shares[:, at], **how, label=name, marker=one, ms=14)
        ax.plot(check.steps, check.pattern_shares[:, at], MARKERS[index], color=how["color"])
    ax.set(xlabel="optimiser step", ylabel="share of answers", ylim=(-0.02, 1.02))
    ax.legend(title="line: fit; marks: logged")
    return figure


def _forest(ax: Axes, band: Band, rows: np.ndarray) -> None:
    y = np.arange(len(rows))[::-1]
    low, median, high = band.low[rows], band.median[rows], band.high[rows]
    ax.hlines(y, low, high, color=BEST, lw=2)
    ax.plot(median, y, "o", color=THEORY)


def _forest_of(found: Diagnosis, what: str) -> Figure:
    """Shares or success rates, median and 90 %; at most as many rows as can be read."""
    of_shares = what == "shares"
    start = found.start
    band = mean_band(found, start.pattern_probs if of_shares else start.success_rates)
    rows = np.arange(len(found.data.patterns))[:24]
    figure, ax = _panel(1.2 + 0.24 * len(rows))
    _forest(ax, band, rows)
    ax.set_yticks(np.arange(len(rows))[::-1], [_short(found.data.patterns[i]) for i in rows])
    if of_shares:
        ax.set(xlabel="share of answers (median and 90 %)", xlim=(-0.02, 1.02))
        return figure
    accuracy = start.accuracy
    ax.axvspan(float(accuracy.low), float(accuracy.high), color="0.85", lw=0)
    ax.axvline(float(accuracy.median), color="0.45", lw=0.9, ls=":")
    ax.set(xlabel="success rate (median and 90 %); dotted: accuracy now", xlim=(-0.02, 1.02))
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _pass_at_k(found: PassAtKEstimate) -> Figure:
    figure, ax = _panel()
    if not np.isnan(found.before.median).any():
        _band(ax, found.k, found.before, MISLEADING, "before", ls="--")
        _band(ax, found.k, found.after, BEST, "after RLVR")
    seen = ~np.isnan(found.measured)
    ax.plot(found.k[seen], found.measured[seen], "o", color=THEORY, label="measured")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel="k", ylabel="pass@k", ylim=(0, 1.02), xticks=found.k)
    ax.minorticks_off()
    ax.legend(loc="lower right")
    return figure


def _entropy(found: Diagnosis) -> Figure:
    ahead, (figure, ax) = found.rlvr.forecast, _panel()
    _band(ax, ahead.log_times / LN10, ahead.entropy, THEORY, "entropy")
    _band(ax, ahead.log_times / LN10, ahead.kl, MISLEADING, "KL from the start", ls="--")
    ax.set(xlabel=_TIME, ylabel="nats")
    decades(ax.xaxis)
    ax.legend()
    return figure


def _signal(found: Signal) -> Figure:
    """The share of groups of use over their size."""
    by, (figure, ax) = found.by_size, _panel()
    _band(ax, by.sizes, by.useful, THEORY, "beta law of difficulty; band: 90 %")
    seen = ~np.isnan(by.error)
    ax.errorbar(
        by.sizes[seen], by.measured[seen], 1.645 * by.error[seen],
        fmt="o", ms=3, lw=0.8, color=MISLEADING, label="measured, 90 %",
    )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel="samples in a group", ylabel="share of groups of use", ylim=(0, 1.02),
           xticks=by.sizes)  # fmt: skip
    ax.minorticks_off()
    ax.legend(loc="lower right")
    return figure


def _kinds(found: Signal) -> Figure:
    """Shares of questions of each kind, now, between, and in the end: they sum to 1."""
    figure, ax = _panel()
    place, below = np.arange(len(found.log_times)), np.zeros(len(found.log_times))
    for at, (colour, hatch) in enumerate(((COLOURS[2], ""), (BEST, "///"), (MISLEADING, "..."))):
        ax.bar(place, found.counts[:, at], 0.6, below, color=colour, hatch=hatch, ec="white",
               lw=0, label=KINDS[at])  # fmt: skip
        below = below + found.counts[:, at]
    between = [number(float(np.exp(x)), 2) for x in found.log_times[1:-1]]
    ax.set_xticks(place, ["now", *between, "end"])
    ax.set(xlabel=_TIME, ylabel="share of questions", ylim=(0, 1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _rlif(found: Diagnosis, risk: RLIFRisk) -> Figure:
    """The internal reward of each pattern against its success rate: RLIF goes to the right."""
    figure, ax = _panel(3.4)
    rates = mean_band(found, found.start.success_rates)
    for index, at in enumerate(_shown(found)):
        reward, colour = risk.pattern_rewards, COLOURS[index]
        if np.isnan(reward.median[at]):
            continue
        ax.hlines(rates.median[at], reward.low[at], reward.high[at], color=colour)
        ax.vlines(reward.median[at], rates.low[at], rates.high[at], color=colour)
        label = f"{_short(found.data.patterns[at])}: selected {risk.selects[at]:.2f}"
        ax.plot(reward.median[at], rates.median[at], MARKERS[index], color=colour, label=label)
    ax.axhline(
        float(found.start.accuracy.median), color="0.5", lw=0.8, ls=":", label="accuracy now"
    )
    unit = "nat" if risk.reward == "confidence" else "1"
    ax.set(xlabel=f"{risk.reward} ({unit}, up to a constant)", ylabel="success rate",
           ylim=(0, 1.02))  # fmt: skip
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return figure
