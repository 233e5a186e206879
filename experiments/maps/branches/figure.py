"""The figure of the map of branches, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

import qra_jax as qra
from qra_jax import plot

from .diagrams import DIAGRAMS

# In the order of plot.COLOURS: what is drawn, and the marker of its theory.
_CURVES = {"best": ("share of the best pattern", "o"), "accuracy": ("accuracy", "s")}
_MARKED = qra.dynamics.Special.FOLD, qra.dynamics.Special.BRANCH_POINT
_SPARSE = 9  # theory's markers along each diagram, at most


def draw_branches(data: xr.Dataset) -> Figure:
    """A diagram each: stable branches solid, unstable dashed, folds and branch points marked."""
    with plot.style():
        figure = Figure(figsize=(5.5, 4.8))
        axes = figure.subplots(2, 3, sharey=True)
        letters = "abcdef"
        for letter, ax, name in zip(letters, axes.flat, data["diagram"].values, strict=True):
            known = DIAGRAMS[str(name)]
            _diagram(ax, data.sel(diagram=name), known.logarithmic)
            ax.set(title=f"({letter}) {known.title}", xlabel=known.axis, ylim=(-0.03, 1.03))
        for ax in axes[:, 0]:
            ax.set_ylabel("share, accuracy\nat a fixed point")
        figure.legend(handles=_key(), loc="outside lower center", ncols=3)
        return figure


def _diagram(ax: Axes, cut: xr.Dataset, logarithmic: bool) -> None:
    ends = np.nanmin(cut["value"].values), np.nanmax(cut["value"].values)
    for index, (name, (_, marker)) in enumerate(_CURVES.items()):
        for branch in range(cut.sizes["branch"]):
            plot.branch_diagram(ax, cut.isel(branch=branch), name, index=index)
        inside = ((cut["theory_value"] >= ends[0]) & (cut["theory_value"] <= ends[1])).values
        at, seen = cut["theory_value"].values[inside], cut[f"theory_{name}"].values[inside]
        few = _spread(at, seen, (ends[1] - ends[0]))
        ax.plot(at[few], seen[few], marker, ms=2.6, color=plot.THEORY, mfc="white", mew=0.6,
                zorder=3)  # fmt: skip
    _name_values(ax, cut, logarithmic)
    ax.set_xlim(*ends)
    if logarithmic:
        plot.decades(ax.xaxis)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))


def _spread(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """Places along a curve, evenly spaced in what is seen of it."""
    if not len(x):
        return np.array([], int)
    steps = np.hypot(np.diff(x) / width, np.diff(y))
    # A jump from one part of the curve to another is no length.
    length = np.concatenate([[0.0], np.cumsum(np.where(steps < 0.1, steps, 0.0))])
    marks = np.linspace(0.04, 0.96, _SPARSE) * length[-1]
    return np.unique(np.searchsorted(length, marks).clip(0, len(x) - 1))


def _name_values(ax: Axes, cut: xr.Dataset, logarithmic: bool) -> None:
    """Values of special points along the lower edge, each once."""
    known = np.isin(cut["special"].values, _MARKED)
    values = np.unique(np.round(cut["special_value"].values[known], 9))
    for index, value in enumerate(values):
        ax.axvline(value, color="0.6", lw=0.7, zorder=0)
        after = index == len(values) - 1
        text = f"{10**value if logarithmic else value:.3f}"
        ax.annotate(
            text, (value, 0.0), xytext=(2 if after else -2, 2), fontsize=6.5, color="0.3",
            textcoords="offset points", ha="left" if after else "right", va="bottom",
        )  # fmt: skip


def _key() -> list[Line2D]:
    coloured = [
        Line2D([], [], color=plot.COLOURS[index], marker=marker, ms=2.6, mfc="white",
               mec=plot.THEORY, mew=0.6, label=f"{text}; markers: theory")
        for index, (text, marker) in enumerate(_CURVES.values())
    ]  # fmt: skip
    return [*coloured, *plot.branch_legend(_MARKED)]
