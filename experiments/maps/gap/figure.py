"""The figure of the gap map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

_COLOURS = (plot.MISLEADING, plot.REST, plot.BEST)


def draw_gap(data: xr.Dataset) -> Figure:
    """Gap of the mean, spread, runs that are lost, and some of the curves."""
    with plot.style():
        figure = Figure(figsize=(7.4, 6.0))
        axes = figure.subplots(2, 2)
        gap = abs(data["mean_accuracy"] - data["flow_accuracy"]).max("time")
        noise = (data["spread"] ** 2).mean("time") ** 0.5
        _map(axes[0, 0], data, gap, "largest gap in accuracy")
        axes[0, 0].set_title("(a) mean over seeds against flow")
        _map(axes[0, 1], data, noise, "standard deviation of accuracy")
        axes[0, 1].set_title("(b) spread over seeds")
        _map(axes[1, 0], data, data["lost"], "share of runs")
        axes[1, 0].set_title(r"(c) runs that end with $\pi(r^*) < 1/2$")
        _curves(axes[1, 1], data)
        return figure


def _map(ax: Axes, data: xr.Dataset, values: xr.DataArray, label: str) -> None:
    cells = values.transpose("group", "step")
    shown = cells.assign_coords(group=np.log2(cells["group"]))
    status = data["status"].transpose("group", "step")
    plot.heatmap(ax, shown, status, label=label, log_x=True, vmin=0)
    ax.set_yticks(shown["group"].values, [f"{size:g}" for size in cells["group"].values])
    ax.set(xlabel="step size (learning rate, 1/reward)", ylabel="samples in a group")


def _curves(ax: Axes, data: xr.Dataset) -> None:
    """One step size in the middle, the smallest, a middling and the largest group."""
    step, groups = data.sizes["step"] // 2, data.sizes["group"]
    cut, time = data.isel(step=step), data["time"]
    for colour, index in zip(_COLOURS, (0, groups // 2, groups - 1), strict=True):
        row = cut.isel(group=index)
        mean, spread = row["mean_accuracy"], row["spread"]
        label = f"groups of {int(row['group'])}"
        ax.fill_between(time, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
        ax.plot(time, mean, color=colour, label=label)
    ax.plot(time, cut["step_accuracy"], color="0.5", ls=":", label="exact steps")
    ax.plot(time, cut["flow_accuracy"], color=plot.THEORY, ls="--", lw=1.3, label="flow")
    ax.set(xlabel="learning rate times steps (1/reward)", ylabel="accuracy")
    ax.set_title(f"(d) mean and spread at step size {float(cut['step']):g}")
    ax.legend(loc="lower right")
