"""The figure of the forecast map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from qra_jax import plot

_SHOWN = 3


def draw_forecast(data: xr.Dataset) -> Figure:
    """A few runs with their bands (h is the learning rate), coverage over the steps, and widths
    (median and middle half of the runs)."""
    logged = data.attrs["logged"]
    inside = (data["low"] <= data["accuracy"]) & (data["accuracy"] <= data["high"])
    width = data["high"] - data["low"]
    late = data["step"] > logged
    # Runs whose bands are of typical and of large width.
    order = np.argsort(width.sel(step=late).median("step").values)
    shown = order[[len(order) // 2, int(len(order) * 0.8), -1]]
    with plot.style():
        figure = Figure(figsize=(8.0, 4.8))
        axes = figure.subplots(2, _SHOWN)
        steps = data["step"]
        for letter, index, ax in zip("abc", shown, axes[0], strict=True):
            run = data.isel(run=index)
            ax.axvspan(0, logged, color="0.9", lw=0)
            ax.fill_between(steps, run["low"], run["high"], color=plot.BEST, alpha=0.25, lw=0,
                            label="90 % band")  # fmt: skip
            ax.plot(steps, run["median"], color=plot.BEST, lw=1, label="median")
            ax.plot(steps, run["accuracy"], color=plot.THEORY, lw=0.9, label="run")
            text = f"({letter}) {int(run['rollouts'])} rollouts, h = {float(run['rate']):.2g}"
            ax.set(title=text, xlabel="step", ylabel="accuracy")
        axes[0, 0].legend(fontsize=7)
        ax = axes[1, 0]
        ax.axvspan(0, logged, color="0.9", lw=0)
        ax.axhspan(0.85, 0.95, color="0.88", lw=0)
        ax.axhline(0.9, color=plot.THEORY, lw=0.9)
        ax.plot(steps, inside.mean("run"), color=plot.BEST)
        ax.set(xlabel="step", ylabel="share of runs", title="(d) true accuracy in the band",
               ylim=(0.7, 1.02))  # fmt: skip
        ax = axes[1, 1]
        ax.hist(inside.sel(step=late).mean("step"), bins=20, range=(0, 1), color=plot.BEST)
        ax.set(xlabel="share of later steps in the band", ylabel="runs", title="(e) by run")
        ax = axes[1, 2]
        bands = width.quantile([0.25, 0.5, 0.75], "run")
        ax.fill_between(steps, bands[0], bands[2], color=plot.REST, alpha=0.3, lw=0)
        ax.plot(steps, bands[1], color=plot.REST)
        ax.axhline(0.15, color=plot.THEORY, lw=0.9, ls="--")
        ax.set(xlabel="step", ylabel="width", title="(f) width of the band")
        return figure
