"""The figure of the forecast map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

_SHOWN = 3
_WIDEST = 0.15  # that a band may be, in the middle: see the claims


def draw_forecast(data: xr.Dataset) -> Figure:
    """A few runs with their bands, coverage over the steps and by run, and widths (median and
    middle half of the runs)."""
    logged = data.attrs["logged"]
    inside = (data["low"] <= data["accuracy"]) & (data["accuracy"] <= data["high"])
    width = data["high"] - data["low"]
    late = data["step"] > logged
    # Runs whose bands are of typical and of large width.
    order = np.argsort(width.sel(step=late).median("step").values)
    shown = order[[len(order) // 2, int(len(order) * 0.8), -1]]
    with plot.style():
        figure = Figure(figsize=(5.5, 4.6))
        axes = figure.subplots(2, _SHOWN)
        words = ("a band of usual\nwidth", "a wide one", "the widest")
        for letter, index, ax, word in zip("abc", shown, axes[0], words, strict=True):
            _run(ax, data.isel(run=index), logged)
            ax.set_title(f"({letter}) {word}")
        axes[0, 0].set_ylabel("accuracy")
        steps = data["step"]
        ax = axes[1, 0]
        _fitted(ax, logged)
        ax.axhline(0.9, color=plot.THEORY, lw=0.8, ls="--", label="what it should hold")
        ax.plot(steps, inside.mean("run"), color=plot.BEST, label="share of runs in their band")
        ax.set(xlabel="step", ylabel="share of runs", ylim=(0.7, 1.02),
               title="(d) the 90 % bands hold\n90 % of the runs")  # fmt: skip
        ax = axes[1, 1]
        ax.hist(inside.sel(step=late).mean("step"), bins=20, range=(0, 1), color=plot.BEST)
        ax.set(xlabel="share of later\nsteps in the band", ylabel="runs",
               title="(e) a run is held\nthroughout, or lost")  # fmt: skip
        ax = axes[1, 2]
        bands = width.quantile([0.25, 0.5, 0.75], "run")
        _fitted(ax, logged)
        ax.fill_between(steps, bands[0], bands[2], color=plot.REST, alpha=0.3, lw=0,
                        label="middle half of the runs")  # fmt: skip
        ax.plot(steps, bands[1], color=plot.REST, ls="-.", label="median width")
        ax.axhline(_WIDEST, color=plot.THEORY, lw=0.8, ls=":", label="widest, by the claim")
        ax.set(xlabel="step", ylabel="width of the band", ylim=(0, None),
               title="(f) most bands are\nnarrow")  # fmt: skip
        entries = dict(
            pair
            for ax in (axes[0, 0], axes[1, 0], axes[1, 2])
            for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True)
        )
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3)
        return figure


def _fitted(ax: Axes, logged: int) -> None:
    """The steps that the time scale was fitted to."""
    ax.axvspan(0, logged, color="0.88", lw=0, label="steps fitted to")


def _run(ax: Axes, run: xr.Dataset, logged: int) -> None:
    """One run in its band; what it was known by, in words."""
    _fitted(ax, logged)
    steps = run["step"]
    ax.fill_between(steps, run["low"], run["high"], color=plot.BEST, alpha=0.25, lw=0,
                    label="90 % band")  # fmt: skip
    ax.plot(steps, run["median"], color=plot.BEST, ls="--", lw=1, label="median of the band")
    ax.plot(steps, run["accuracy"], color=plot.THEORY, ls="-", lw=0.9, label="run")
    text = f"{int(run['rollouts'])} rollouts,\nlearning rate {float(run['rate']):.2g}"
    ax.text(0.98, 0.03, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=6.5)
    ax.set_xlabel("step")
    # Room for the words below the curves.
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.25 * (high - low), high)
