"""The figure of the calibration map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

from ..._lab.claim import wilson_interval
from .coverage import KINDS, binned, calibration_error, covered

_COLOURS = (plot.BEST, plot.MISLEADING)
_MARKS = ("o", "s")


def draw_calibration(data: xr.Dataset) -> Figure:
    """Coverage, reliability of regime probabilities, and ranks of the truth among draws."""
    with plot.style():
        figure = Figure(figsize=(7.4, 5.8))
        axes = figure.subplots(2, 2)
        _coverage(axes[0, 0], data)
        for index, ax in enumerate((axes[0, 1], axes[1, 1])):
            case = data.isel(case=index)
            _reliability(ax, case)
            ax.set_title(f"({'bd'[index]}) regimes, {case['case'].item()}")
            found, bound = calibration_error(case)
            text = f"calibration error {found:.4f}\n95 % point if exact {bound:.4f}"
            ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=8)
        _ranks(axes[1, 0], data)
        return figure


def _coverage(ax: Axes, data: xr.Dataset) -> None:
    ax.axvspan(0.88, 0.92, color="0.88", lw=0)
    ax.axvline(0.9, color=plot.THEORY, lw=0.9)
    for index, (colour, mark) in enumerate(zip(_COLOURS, _MARKS, strict=True)):
        case = data.isel(case=index)
        for row, kind in enumerate(KINDS):
            inside, number = covered(case, kind)
            if number == 0:
                continue
            low, high = wilson_interval(inside, number, 1.96)
            at = row + 0.16 * (2 * index - 1)
            label = case["case"].item() if row == 0 else None
            ax.plot([low, high], [at, at], color=colour)
            ax.plot(inside / number, at, mark, color=colour, ms=4, label=label)
    ax.set_yticks(range(len(KINDS)), [name.replace(", ", ",\n") for name in KINDS.values()])
    ax.invert_yaxis()
    ax.set(xlabel="share of truths in the 90 % interval", title="(a) coverage, with 95 % intervals")
    # Room for the legend.
    ax.set_xlim(left=ax.get_xlim()[0] - 0.06)
    ax.legend(loc="lower left", fontsize=7)


def _reliability(ax: Axes, case: xr.Dataset) -> None:
    happened = case["true_regime"].values[:, None] == np.arange(3)
    number, mean, frequency = binned(case["regime_prob"].values, happened)
    ax.plot([0, 1], [0, 1], color=plot.THEORY, lw=0.9)
    some = number > 0
    successes = np.round(frequency[some] * number[some]).astype(int)
    ends = np.array(
        [wilson_interval(k, n, 1.96) for k, n in zip(successes, number[some], strict=True)]
    )
    lengths = np.abs(ends.T - frequency[some])
    ax.errorbar(mean[some], frequency[some], lengths, fmt="o", ms=4, color=plot.BEST, lw=1)
    ax.set(xlabel="stated probability", ylabel="share of base models", xlim=(0, 1), ylim=(0, 1))


def _ranks(ax: Axes, data: xr.Dataset) -> None:
    for index, colour in enumerate(_COLOURS):
        ranks = data["rank"].isel(case=index).values
        ranks = np.sort(ranks[np.isfinite(ranks)])
        label = str(data["case"].values[index])
        reached = (np.arange(len(ranks)) + 0.5) / len(ranks)
        ax.plot(ranks, reached - ranks, color=colour, label=label)
    # Kolmogorov's 95 % band of a uniform distribution, for the first case.
    number = int(np.isfinite(data["rank"].isel(case=0)).sum())
    ax.axhspan(-1.358 / number**0.5, 1.358 / number**0.5, color="0.88", lw=0)
    ax.axhline(0, color=plot.THEORY, lw=0.9)
    ax.set(xlabel="share of draws below the truth", ylabel="distribution less uniform", xlim=(0, 1))
    ax.set_title("(c) ranks of the truth, 95 % band")
    ax.set_ylim(bottom=ax.get_ylim()[0] - 0.02)
    ax.legend(loc="lower left", fontsize=7)
