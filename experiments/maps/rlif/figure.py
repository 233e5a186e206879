"""The figure of the RLIF map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from qra_jax import plot

from ..._lab.claim import wilson_interval

_COLOURS = ("#56B4E9", plot.REST, "#E69F00", plot.MISLEADING, "#CC79A7", plot.BEST)
_POINT = {"ls": "none", "marker": "o", "ms": 3.2, "elinewidth": 1, "zorder": 3}
_THEORY = {"color": plot.THEORY, "ls": "--", "lw": 1.1, "zorder": 2}
_PAPER = {"color": "0.5", "ls": ":", "lw": 1.4, "zorder": 2}
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TIME = "time/R (1/reward)"


def draw_rlif(data: xr.Dataset) -> Figure:
    """Early rise and final drop by tilt, a correct majority, and curves over time."""
    with plot.style():
        figure = Figure(figsize=(7.6, 5.8))
        upper, lower = figure.subfigures(2, 1, squeeze=False).flat
        left, right = lower.subfigures(1, 2, squeeze=False, width_ratios=(2, 1)).flat
        rises = (data["initial_slope"] > 0).values
        drops = (data["end_accuracy"] < data["start_accuracy"]).values
        first, second, third = upper.subplots(1, 3)
        _draw_by_tilt(first, data, rises, "predicted_rise")
        first.set_title("(a) P(accuracy rises at first)")
        _draw_by_tilt(second, data, drops, "predicted_drop")
        second.set_title("(b) P(end below start)")
        _draw_majority(third, data, rises[:, 0])
        third.set_title(r"(c) P(rises at first), $\delta$ = 0")
        _draw_quantiles(left, data)
        _draw_examples(right.subplots(), data)
        sizes = zip(_COLOURS, data["patterns"].values, strict=False)
        handles = [
            Line2D(
                [],
                [],
                color=colour,
                ls=plot.look(index)["ls"],
                marker=_marker(index),
                ms=4,
                label=f"R = {size}",
            )
            for index, (colour, size) in enumerate(sizes)
        ]
        handles.append(Line2D([], [], **_THEORY, label="theory"))
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        return figure


def _marker(index: int) -> str:
    return plot.MARKERS[index % len(plot.MARKERS)]


def _points(ax: Axes, x: np.ndarray, happens: list[np.ndarray], **style) -> None:
    """Shares of true entries, with their 99 % Wilson bands."""
    shares = np.array([row.mean() for row in happens])
    bands = np.array([wilson_interval(int(row.sum()), row.size) for row in happens])
    spread = np.maximum(np.abs(bands.T - shares), 0)
    ax.errorbar(x, shares, spread, **{**_POINT, **style})


def _draw_by_tilt(ax: Axes, data: xr.Dataset, happens: np.ndarray, theory: str) -> None:
    tilts = data["tilt"].values
    gap = 0.008 * (tilts[-1] - tilts[0] or 1)
    for index, rows in enumerate(happens):
        shift = gap * (index - (len(happens) - 1) / 2)
        colour = _COLOURS[index % len(_COLOURS)]
        ax.plot(data["theory_tilt"], data[theory][index], **_THEORY)
        _points(ax, tilts + shift, list(rows), color=colour, marker=_marker(index))
    ax.set(xlabel=r"tilt $\delta$ of the success rates", ylabel="probability")


def _draw_majority(ax: Axes, data: xr.Dataset, rises: np.ndarray) -> None:
    sizes, level = data["patterns"].values, data.isel(tilt=0)
    readings = (
        ("all draws", np.ones_like(rises), 0.5, "0.45"),
        ("mean p > 1/2", (level["start_accuracy"] > 0.5).values, data["rise_by_mean"], plot.BEST),
        (
            "most p > 1/2",
            (level["share_above_half"] > 0.5).values,
            data["rise_by_count"],
            "#CC79A7",
        ),
    )
    for name, given, limit, colour in readings:
        chosen = [row[mask] for row, mask in zip(rises, given, strict=True)]
        _points(ax, sizes, chosen, color=colour, label=name, marker="s")
        ax.axhline(float(limit), **_THEORY)
    ax.axhline(1, **_PAPER, label="paper (summary)")
    ax.set(xscale="log", xlabel="number of patterns R", ylabel="probability", ylim=(0.4, 1.05))
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.95))


def _draw_quantiles(figure: SubFigure, data: xr.Dataset) -> None:
    """One panel for each R, in a row."""
    panels = figure.subplots(1, data.sizes["patterns"], sharey=True, squeeze=False)[0]
    time = data["log_scaled_time"].values
    for index, ax in enumerate(panels):
        curves = data.isel(patterns=index)
        colour = _COLOURS[index % len(_COLOURS)]
        accuracy = curves["curve_accuracy"].values
        low, lower, median, upper, high = np.quantile(accuracy, _QUANTILES, axis=0)
        ax.fill_between(time, low, high, color=colour, alpha=0.2, lw=0)
        ax.fill_between(time, lower, upper, color=colour, alpha=0.4, lw=0)
        ax.plot(time, median, color=colour)
        ax.set(ylim=(-0.02, 1.02), xlim=time[[0, -1]])
        plot.decades(ax.xaxis)
        ax.set_xticks([-1, 1, 3])
        ax.text(0.97, 0.03, f"R = {int(curves['patterns'])}", transform=ax.transAxes, ha="right")
    panels[0].set_ylabel("accuracy V")
    tilt = data.attrs["curve_tilt"]
    number = data.sizes["curve"]
    title = rf"(d) {number} draws at $\delta$ = {tilt:g}: median, 25-75 %, 5-95 %"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.supxlabel(_TIME, fontsize=9)


def _draw_examples(ax: Axes, data: xr.Dataset) -> None:
    """For each R the curve that rises and then falls the most; an inset for the rise."""
    time = data["log_scaled_time"].values
    index = xr.DataArray(data["example"].values, dims="patterns")
    curves = data["curve_accuracy"].isel(curve=index).values
    starts = data["curve_start"].isel(curve=index).values[:, None]
    gains = (curves - starts).max(axis=1)
    inset = ax.inset_axes((0.52, 0.42, 0.33, 0.42))
    for row in np.argsort(gains):
        best = row == np.argmax(gains)
        style = {"color": _COLOURS[row % len(_COLOURS)], "lw": 2.4 if best else 1.1,
                 "ls": plot.look(int(row))["ls"]}  # fmt: skip
        ax.plot(time, curves[row], **style)
        inset.plot(time, curves[row] - starts[row], **style)
    inset.axhline(0, color="0.6", lw=0.8)
    top = 1.3 * gains.max()
    inset.set(xlim=(-1.2, 0.6), ylim=(-top, top))
    inset.set_title("V - V(0)", fontsize=8)
    inset.tick_params(labelsize=7)
    inset.yaxis.tick_right()
    inset.spines["left"].set_visible(False)
    inset.spines["right"].set_visible(True)
    ax.set(xlabel=_TIME, ylabel="accuracy V", xlim=time[[0, -1]])
    plot.decades(ax.xaxis)
    ax.set_title("(e) rise, then degradation")
