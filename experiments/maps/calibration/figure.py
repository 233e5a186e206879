"""The figure of the calibration map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from qra_jax import plot

from ..._lab.claim import wilson_interval
from .coverage import KINDS, binned, calibration_error, covered

_CASES = 2


def draw_calibration(data: xr.Dataset) -> Figure:
    """Coverage, reliability of regime probabilities, and ranks of the truth among draws."""
    with plot.style():
        figure = Figure(figsize=(5.5, 5.2))
        axes = figure.subplots(2, 2)
        _coverage(axes[0, 0], data)
        for index, ax in enumerate((axes[0, 1], axes[1, 1])):
            case = data.isel(case=index)
            _reliability(ax, case, index)
            found, bound = calibration_error(case)
            said = "hold" if found <= bound else "err"
            ax.set_title(f"({'bd'[index]}) stated probabilities {said}:\n{case['case'].item()}")
            text = f"calibration error {found:.4f}\nchance allows {bound:.4f}"
            ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=7)
        _ranks(axes[1, 0], data)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure


def _coverage(ax: Axes, data: xr.Dataset) -> None:
    ax.axvline(0.9, color=plot.THEORY, lw=0.9, ls=":", label="exact")
    for index in range(_CASES):
        case, colour = data.isel(case=index), plot.COLOURS[index]
        for row, kind in enumerate(KINDS):
            inside, number = covered(case, kind)
            if number == 0:
                continue
            low, high = wilson_interval(inside, number, 1.96)
            at = row + 0.22 * (2 * index - 1)
            label = f"base models {case['case'].item()}" if row == 0 else None
            share = inside / number
            ax.errorbar(share, at, xerr=[[share - low], [high - share]], lw=1.2, color=colour,
                        fmt=plot.MARKERS[index], mfc="white" if index else colour,
                        label=label)  # fmt: skip
    ax.set_yticks(range(len(KINDS)), [name.replace(", ", ",\n") for name in KINDS.values()])
    for between in np.arange(len(KINDS) - 1) + 0.5:
        ax.axhline(between, color="0.85", lw=0.6)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlabel="share of truths in the\n90 % interval (with 95 % ranges)")
    ax.set_title("(a) intervals hold 90 % if the\nprior is right, else a little less")
    ax.xaxis.set_major_locator(MultipleLocator(0.05))


def _reliability(ax: Axes, case: xr.Dataset, index: int) -> None:
    happened = case["true_regime"].values[:, None] == np.arange(3)
    number, mean, frequency = binned(case["regime_prob"].values, happened)
    ax.plot([0, 1], [0, 1], color=plot.THEORY, lw=0.9, ls=":")
    some = number > 0
    successes = np.round(frequency[some] * number[some]).astype(int)
    ends = np.array(
        [wilson_interval(k, n, 1.96) for k, n in zip(successes, number[some], strict=True)]
    )
    lengths = np.abs(ends.T - frequency[some])
    colour = plot.COLOURS[index]
    ax.errorbar(mean[some], frequency[some], lengths, fmt=plot.MARKERS[index], ms=3.5, lw=1,
                color=colour, mfc="white" if index else colour)  # fmt: skip
    ax.set(xlabel="stated probability of a regime", ylabel="share of base models", xlim=(0, 1),
           ylim=(0, 1.02))  # fmt: skip


def _ranks(ax: Axes, data: xr.Dataset) -> None:
    """The distribution of ranks less that of ranks that any draw may have: a dip to the left says
    that truths lie high among the draws."""
    for index in range(_CASES):
        ranks = data["rank"].isel(case=index).values
        ranks = np.sort(ranks[np.isfinite(ranks)])
        reached = (np.arange(len(ranks)) + 0.5) / len(ranks)
        ax.plot(ranks, reached - ranks, **plot.look(index), marker=plot.MARKERS[index], ms=3.5,
                mfc="white", markevery=max(1, len(ranks) // 10))  # fmt: skip
    # Kolmogorov's 95 % band of a uniform distribution, for the first case.
    number = int(np.isfinite(data["rank"].isel(case=0)).sum())
    ax.axhspan(-1.358 / number**0.5, 1.358 / number**0.5, color="0.88", lw=0)
    ax.text(0.97, 1.2 / number**0.5, "chance (95 %)", ha="right", va="top", fontsize=7)
    ax.axhline(0, color=plot.THEORY, lw=0.9, ls=":")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:+.2f}" if y else "0"))
    ax.set(xlabel="share of draws below the truth, x",
           ylabel="share of models below x,\nless x", xlim=(0, 1))  # fmt: skip
    ax.set_title("(c) the truth lies anywhere among\nthe draws if the prior is right")
