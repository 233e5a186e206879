"""The figures of a diagnosis."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ...plot import BEST, LN10, MISLEADING, REST, THEORY, style
from .. import Band, Diagnosis, PassAtKEstimate, RLIFRisk, StepForecast
from ._text import mean_band

_COLOURS = (BEST, MISLEADING, REST, "#CC79A7", "#E69F00", "#56B4E9")


def draw_figures(found: Diagnosis) -> dict[str, Figure]:
    """All figures by name, in the order of the page."""
    with style():
        figures = {"patterns": _patterns(found), "forecast": _forecast(found)}
        if found.rlvr.step_forecast is not None:
            figures["steps"] = _steps(found, found.rlvr.step_forecast)
        figures["pass_at_k"] = _pass_at_k(found.rlvr.pass_at_k)
        if found.rlif is not None:
            figures["rlif"] = _rlif(found, found.rlif)
        return figures


def _shown(found: Diagnosis) -> list[int]:
    """The patterns that have a colour of their own: those that ever have the largest shares."""
    largest = found.rlvr.forecast.pattern_shares.high.max(axis=0)
    return np.sort(np.argsort(-largest, kind="stable")[: len(_COLOURS)]).tolist()


def _band(ax: Axes, x: np.ndarray, band: Band, colour: str, label: str, **kwargs) -> None:
    ax.fill_between(x, band.low, band.high, color=colour, alpha=0.18, lw=0)
    ax.plot(x, band.median, color=colour, label=label, **kwargs)


def _column(band: Band, at: int) -> Band:
    return Band(band.low[:, at], band.median[:, at], band.high[:, at])


def _curves(found: Diagnosis, x: np.ndarray, accuracy: Band, shares: Band, label: str) -> Figure:
    figure = Figure(figsize=(7.4, 2.9))
    left, right = figure.subplots(1, 2, sharex=True)
    _band(left, x, accuracy, THEORY, "median; band: 90 %")
    left.set(xlabel=label, ylabel="accuracy", ylim=(0, 1.02))
    left.set_title("(a) accuracy")
    for at, colour in zip(_shown(found), _COLOURS, strict=False):
        _band(right, x, _column(shares, at), colour, found.data.patterns[at])
    right.set(xlabel=label, ylabel="share", ylim=(-0.02, 1.02))
    right.set_title("(b) patterns")
    right.legend(fontsize=7)
    return figure


def _forecast(found: Diagnosis) -> Figure:
    ahead = found.rlvr.forecast
    x = ahead.log_times / LN10
    label = r"$\log_{10}$ time (learning rate $\times$ steps)"
    figure = _curves(found, x, ahead.accuracy, ahead.pattern_shares, label)
    left = figure.axes[0]
    left.axhline(float(ahead.start_accuracy.median), color="0.5", lw=0.8, ls=":", label="now")
    left.legend(fontsize=7, loc="lower right")
    return figure


def _steps(found: Diagnosis, ahead: StepForecast) -> Figure:
    figure = _curves(found, ahead.steps, ahead.accuracy, ahead.pattern_shares, "optimiser step")
    left = figure.axes[0]
    if len(ahead.logged):
        steps, right, samples = np.asarray(ahead.logged, float).T
        rate = right / samples
        error = 1.645 * np.sqrt(rate * (1 - rate) / samples)
        left.errorbar(steps, rate, error, fmt="o", ms=3, lw=0.8, color=MISLEADING,
                      label="logged, 90 %")  # fmt: skip
    left.legend(fontsize=7, loc="lower right")
    return figure


def _forest(ax: Axes, band: Band, rows: np.ndarray) -> None:
    y = np.arange(len(rows))[::-1]
    low, median, high = band.low[rows], band.median[rows], band.high[rows]
    ax.hlines(y, low, high, color=BEST, lw=2)
    ax.plot(median, y, "o", ms=4, color=THEORY)


def _patterns(found: Diagnosis) -> Figure:
    """At most as many rows as can be read."""
    probs, rates = (
        mean_band(found, x) for x in (found.start.pattern_probs, found.start.success_rates)
    )
    rows = np.arange(len(found.data.patterns))[:24]
    figure = Figure(figsize=(7.4, 1.2 + 0.22 * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True)
    _forest(left, probs, rows)
    left.set(xlabel="share of rollouts", xlim=(-0.02, 1.02))
    left.set_yticks(np.arange(len(rows))[::-1], [_short(found.data.patterns[i]) for i in rows])
    left.set_title("(a) share, median and 90 %")
    _forest(right, rates, rows)
    accuracy = found.start.accuracy
    right.axvspan(float(accuracy.low), float(accuracy.high), color="0.85", lw=0)
    right.axvline(float(accuracy.median), color="0.45", lw=0.9, ls=":")
    right.set(xlabel="success rate", xlim=(-0.02, 1.02))
    right.set_title("(b) success rate; dotted: accuracy now")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _pass_at_k(found: PassAtKEstimate) -> Figure:
    figure = Figure(figsize=(4.2, 2.9))
    ax = figure.subplots()
    _band(ax, found.k, found.before, MISLEADING, "before")
    _band(ax, found.k, found.after, BEST, "after RLVR", ls="--")
    seen = ~np.isnan(found.measured)
    ax.plot(found.k[seen], found.measured[seen], "o", ms=4, color=THEORY, label="measured")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel="k", ylabel="pass@k", ylim=(0, 1.02), xticks=found.k)
    ax.minorticks_off()
    ax.legend(fontsize=7, loc="lower right")
    return figure


def _rlif(found: Diagnosis, risk: RLIFRisk) -> Figure:
    """The internal reward of each pattern against its success rate: RLIF goes to the right."""
    figure = Figure(figsize=(6.4, 2.9))
    ax = figure.subplots()
    rates = mean_band(found, found.start.success_rates)
    for at, colour in zip(_shown(found), _COLOURS, strict=False):
        reward = risk.pattern_rewards
        if np.isnan(reward.median[at]):
            continue
        ax.hlines(rates.median[at], reward.low[at], reward.high[at], color=colour)
        ax.vlines(reward.median[at], rates.low[at], rates.high[at], color=colour)
        label = f"{_short(found.data.patterns[at])}: selected {risk.selects[at]:.2f}"
        ax.plot(reward.median[at], rates.median[at], "o", ms=4, color=colour, label=label)
    ax.axhline(
        float(found.start.accuracy.median), color="0.5", lw=0.8, ls=":", label="accuracy now"
    )
    unit = "nat" if risk.reward == "confidence" else "1"
    ax.set(xlabel=f"{risk.reward} ({unit}, up to a constant)", ylabel="success rate",
           ylim=(0, 1.02))  # fmt: skip
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
