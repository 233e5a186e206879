"""The figure of the SFT map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from qra_jax import plot

_DURATION = "duration s of SFT (1/reward)"
_STRONG, _OPTIMUM = "#E3ECF4", "#E69F00"
_CURVES = (1, 2, 0)  # their looks
_LINE = {"color": plot.THEORY, "ls": "--", "lw": 1.3}
_EVEN = {"colors": "white", "linewidths": 1.2, "linestyles": ":"}
_BEST = {"color": _OPTIMUM, "lw": 3.2}


def draw_sft(data: xr.Dataset) -> Figure:
    """T0, both totals, and cuts through the first of them."""
    with plot.style():
        figure = Figure(figsize=(5.5, 5.2))
        axes = figure.subplots(2, 2)
        _draw_entangled(axes[0, 0], data)
        _draw_sum(
            axes[0, 1],
            data,
            "log_entanglement_time",
            "best_duration",
            "entanglement_status",
            "$s + T_0$ (1/reward)",
        )
        axes[0, 1].set_title("(b) both together are shortest\nwhere the start becomes strong")
        _draw_sum(
            axes[1, 0],
            data,
            "log_convergence_time",
            "best_duration_to_eps",
            "convergence_status",
            r"$s + T_\epsilon$ (1/reward)",
        )
        axes[1, 0].set_title(
            f"(c) up to a best share of {1 - data.attrs['eps']:g},\nmore SFT pays if data are good"
        )
        _draw_curves(axes[1, 1], data)
        outline = [withStroke(linewidth=2.4, foreground="0.45")]
        handles = [
            Line2D([], [], **_LINE, label="start becomes strong"),
            Line2D([], [], **_BEST, label="least total time"),
            Line2D([], [], color="white", ls=":", lw=1.2, path_effects=outline,
                   label="as long as without SFT"),
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
        return figure


def _map(ax: Axes, values: xr.DataArray, data: xr.Dataset, status: str, label: str) -> None:
    """A heat map of log10 of a time, with the line on which the start becomes strong."""
    shown = values.assign_attrs(data["quality"].attrs)
    plot.heatmap(ax, shown, data[status], label=label, log_x=True, log10=True)
    line = np.exp(data["log_strong_duration"])
    low, high = data["duration"].values[[0, -1]]
    seen = ((line >= low) & (line <= high)).values
    ax.plot(line[seen], data["line_quality"][seen], **_LINE)
    ax.set(xlim=(low, high), ylim=(0, 1))
    ax.set_xlabel(_DURATION)
    ax.set_ylabel("share f of best pattern in data")


def _optimum(ax: Axes, data: xr.Dataset, name: str) -> None:
    """The duration of least total time, where it is worth anything and on the map."""
    best = data[name].where(data[name] > 0)
    ax.plot(best, data["quality"], **_BEST, zorder=1.9)


def _draw_sum(ax: Axes, data: xr.Dataset, time: str, optimum: str, status: str, label: str) -> None:
    """The map of s plus a time, its optimum, and where SFT gains nothing over no SFT."""
    total = (data["duration"] + np.exp(data[time])).transpose("quality", "duration")
    _map(ax, xr.apply_ufunc(np.log10, total), data, status, label)
    _optimum(ax, data, optimum)
    gain = total - np.exp(float(data[f"start_{time}"]))
    if float(gain.min()) < 0 < float(gain.max()):
        ax.contour(data["duration"], data["quality"], gain, levels=[0], **_EVEN)


def _draw_entangled(ax: Axes, data: xr.Dataset) -> None:
    log_t0 = data["log_entanglement_time"]
    shown = (log_t0 / plot.LN10).where(np.isfinite(log_t0))
    _map(ax, shown, data, "entanglement_status", "$T_0$ (1/reward)")
    ax.set_facecolor(_STRONG)
    ax.set_title("(a) SFT shortens the slow phase,\nor ends it")
    ax.text(0.95, 0.93, "strong: $T_0 = 0$", transform=ax.transAxes, ha="right", va="top",
            fontsize=7)  # fmt: skip


def _draw_curves(ax: Axes, data: xr.Dataset) -> None:
    duration = data["curve_duration"].values
    without = float(np.exp(data["start_log_entanglement_time"]))
    ax.axhline(without, **_LINE)
    ax.text(duration[-1], without * 1.08, "$T_0$ without SFT", ha="right", va="bottom", fontsize=8)
    for look, (quality, cut) in zip(_CURVES, data.groupby("curve_quality"), strict=True):
        log_t0 = cut["curve_log_entanglement_time"].values.squeeze()
        ax.plot(duration, duration + np.exp(log_t0), **plot.look(look), label=f"f = {quality:g}")
        if (best := cut["curve_best_duration"].item()) > 0:
            lowest = cut["curve_best_total"].item()
            ax.plot(best, lowest, "o", color=_OPTIMUM, mec="black", mew=0.7, ms=6, zorder=4)
    ax.plot([], [], "o", color=_OPTIMUM, mec="black", mew=0.7, ms=6, label="least total time")
    if "check_entanglement_time" in data:
        check = data["check_entanglement_time"]
        known = check + check["check_duration"]
        style = {"color": plot.THEORY, "ls": "none", "marker": "x", "ms": 5, "mew": 1.2}
        for row in known.values:
            ax.plot(known["check_duration"], row, **style, zorder=5)
        ax.plot([], [], **style, label="theory")
    ax.set(xscale="log", yscale="log", xlabel=_DURATION, ylabel="$s + T_0$ (1/reward)")
    ax.set(xlim=duration[[0, -1]], ylim=(0.05, 2 * without))
    ax.set_title("(d) cuts through (b): each\nhas its best duration")
    ax.legend(loc="lower left")
