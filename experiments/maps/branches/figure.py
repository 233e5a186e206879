"""The figure of the map of branches, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import qra_jax as qra
from qra_jax import plot

from .diagrams import DIAGRAMS

_CURVES = {"best": (plot.BEST, "probability of the best pattern"),
           "accuracy": (plot.MISLEADING, "accuracy")}  # fmt: skip


def draw_branches(data: xr.Dataset) -> Figure:
    """A diagram each: stable branches solid, unstable dashed, folds and branch points marked."""
    with plot.style():
        figure = Figure(figsize=(10.0, 6.4))
        axes = figure.subplots(2, 3, sharey=True)
        letters = "abcdef"
        for letter, ax, name in zip(letters, axes.flat, data["diagram"].values, strict=True):
            known = DIAGRAMS[str(name)]
            _diagram(ax, data.sel(diagram=name))
            ax.set(title=f"({letter}) {known.title}", xlabel=known.axis, ylim=(-0.03, 1.03))
        for ax in axes[:, 0]:
            ax.set_ylabel("at the point of rest")
        figure.legend(handles=_key(), loc="outside lower center", ncols=4)
        return figure


def _diagram(ax: Axes, cut: xr.Dataset) -> None:
    value, kind = cut["value"].values, cut["kind"].values
    grows = np.isin(kind, (qra.dynamics.Stability.SADDLE, qra.dynamics.Stability.SOURCE))
    ends = np.nanmin(value), np.nanmax(value)
    for name, (colour, _) in _CURVES.items():
        rows = cut[name].values
        for at, seen, unstable in zip(value, rows, grows, strict=True):
            # The unstable part goes up to its stable neighbours, so that the two meet.
            known, beside = np.isfinite(at), np.roll(unstable, 1) | np.roll(unstable, -1)
            for which, style in ((~unstable, "-"), (unstable | beside, "--")):
                ax.plot(at, np.where(known & which, seen, np.nan), style, color=colour)
        inside = (cut["theory_value"] >= ends[0]) & (cut["theory_value"] <= ends[1])
        theory = np.where(inside, cut[f"theory_{name}"], np.nan)
        ax.plot(cut["theory_value"], theory, ":", color=plot.THEORY, lw=0.9)
        for kind, marker in (
            (qra.dynamics.Special.FOLD, "o"),
            (qra.dynamics.Special.BRANCH_POINT, "D"),
        ):
            there = cut["special"].values == kind
            ax.plot(
                cut["special_value"].values[there], cut[f"special_{name}"].values[there],
                marker, color=colour, mec="white", ms=6, zorder=4,
            )  # fmt: skip
    _name_values(ax, cut)
    ax.set_xlim(*ends)


def _name_values(ax: Axes, cut: xr.Dataset) -> None:
    """Values of special points along the upper edge, each once."""
    known = cut["special"].values >= 0
    values = np.unique(np.round(cut["special_value"].values[known], 9))
    for index, value in enumerate(values):
        ax.axvline(value, color="0.6", lw=0.7, zorder=0)
        after = index == len(values) - 1
        ax.annotate(
            f"{value:.4f}", (value, 0.0), xytext=(3 if after else -3, 3), fontsize=7.5,
            textcoords="offset points", ha="left" if after else "right", va="bottom", color="0.3",
        )  # fmt: skip


def _key() -> list[Line2D]:
    coloured = [Line2D([], [], color=colour, label=text) for colour, text in _CURVES.values()]
    grey = "0.3"
    return [
        *coloured,
        Line2D([], [], color=grey, ls="-", label="stable"),
        Line2D([], [], color=grey, ls="--", label="unstable"),
        Line2D([], [], color=plot.THEORY, ls=":", lw=0.9, label="theory"),
        Line2D([], [], color=grey, ls="", marker="o", mec="white", label="fold"),
        Line2D([], [], color=grey, ls="", marker="D", mec="white", label="pitchfork"),
    ]
