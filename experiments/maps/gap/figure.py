"""The figure of the gap map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from qra_jax import plot

_EDGE = [withStroke(linewidth=2.4, foreground="black")]
_RATIO = 0.05  # of step size to group size: from here on runs are lost


def draw_gap(data: xr.Dataset) -> Figure:
    """Gap of the mean, spread, runs that are lost, and some of the curves."""
    with plot.style():
        figure = Figure(figsize=(5.5, 4.9))
        axes = figure.subplots(2, 2)
        gap = abs(data["mean_accuracy"] - data["flow_accuracy"]).max("time")
        noise = (data["spread"] ** 2).mean("time") ** 0.5
        _map(axes[0, 0], data, gap, "largest gap in accuracy")
        axes[0, 0].set_title("(a) the mean leaves the flow\nwhere steps outgrow groups")
        _map(axes[0, 1], data, noise, "standard deviation of accuracy")
        axes[0, 1].set_title("(b) single runs scatter\nearlier")
        _map(axes[1, 0], data, data["lost"], "share of runs")
        axes[1, 0].set_title("(c) runs that never reach\na best share of 1/2")
        _curves(axes[1, 1], data)
        handles, labels = axes[1, 1].get_legend_handles_labels()
        line = axes[0, 0].lines[0]
        figure.legend([*handles, line], [*labels, line.get_label()], loc="outside lower center",
                      ncols=3)  # fmt: skip
        return figure


def _map(ax: Axes, data: xr.Dataset, values: xr.DataArray, label: str) -> None:
    cells = values.transpose("group", "step")
    shown = cells.assign_coords(group=np.log2(cells["group"]))
    status = data["status"].transpose("group", "step")
    plot.heatmap(ax, shown, status, label=label, log_x=True, vmin=0)
    ax.set_yticks(shown["group"].values, [f"{size:g}" for size in cells["group"].values])
    ax.set(xlabel="step size $\\eta$ (1/reward)", ylabel="samples in a group, G")
    _constant_ratio(ax)


def _constant_ratio(ax: Axes) -> None:
    """Along this line the noise of a step is the same; the map keeps its limits."""
    limits = ax.get_xlim(), ax.get_ylim()
    y = np.linspace(*limits[1], 2)
    ax.plot(_RATIO * 2**y, y, color="white", lw=1.2, ls="--", path_effects=_EDGE,
            label=rf"$\eta/G$ = {_RATIO:g}")  # fmt: skip
    ax.set(xlim=limits[0], ylim=limits[1])


def _curves(ax: Axes, data: xr.Dataset) -> None:
    """One step size in the middle, the smallest, a middling and the largest group."""
    step, groups = data.sizes["step"] // 2, data.sizes["group"]
    cut, time = data.isel(step=step), data["time"]
    for place, index in enumerate((0, groups // 2, groups - 1)):
        row, how = cut.isel(group=index), plot.look((1, 2, 0)[place])
        mean, spread = row["mean_accuracy"], row["spread"]
        ax.fill_between(time, mean - spread, mean + spread, color=how["color"], alpha=0.2, lw=0)
        ax.plot(time, mean, **how, label=f"groups of {int(row['group'])}")
    ax.plot(time, cut["step_accuracy"], color="0.4", ls=(0, (1, 1)), lw=1, label="exact steps")
    ax.plot(time, cut["flow_accuracy"], color=plot.THEORY, marker="o", ms=2.6, mfc="white",
            mew=0.7, ls="none", markevery=0.06, label="flow")  # fmt: skip
    ax.set(xlabel="learning rate times steps\n(1/reward)", ylabel="accuracy")
    ax.set_title(f"(d) mean and standard deviation\nat step size {float(cut['step']):g}")
