"""The figure of the portraits map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

from .theory import critical_weight

_COLUMNS = 4


def draw_portraits(data: xr.Dataset) -> Figure:
    """A portrait for each objective, and the basins of a mixture against its weight."""
    number = data.sizes["objective"]
    rows = -(-number // _COLUMNS)
    with plot.style():
        figure = Figure(figsize=(5.5, 2.1 * rows + 2.5))
        heights = [2.1 * rows, 2.5]
        upper, lower = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=heights)))
        panels = np.ravel(upper.subplots(rows, _COLUMNS, squeeze=False))
        for ax in panels[number:]:
            ax.set_axis_off()
        for index, ax in enumerate(panels[:number]):
            panel = data.isel(objective=index)
            plot.draw_portrait(ax, panel)
            for text in ax.texts:
                text.set_fontsize(6)
            title = str(panel["objective"].item()).replace(", ", ",\n")
            ax.set_title(f"({chr(97 + index)}) {title}", fontsize=7.5, pad=9)
            ax.annotate(_shares(panel), (0.5, 0), xycoords="axes fraction", xytext=(0, -9),
                        textcoords="offset points", va="top", ha="center", fontsize=6,
                        color="0.2", linespacing=1.1)  # fmt: skip
        names = [str(name) for name in data["pattern"].values]
        entries = [
            *plot.basin_legend([f"won by {x}" for x in names], data["cell_winner"].values),
            *plot.point_legend(data["point_kind"].values),
            *plot.path_legend(),
        ]
        upper.legend(handles=entries, loc="outside lower center", ncols=5, fontsize=7,
                     columnspacing=1.0)  # fmt: skip
        ax = lower.subplots()
        _mixture(ax, data)
        ax.set_title(f"({chr(97 + number)}) a verifiable reward, mixed with the probability of "
                     "one's own answers,\nloses no start from a weight below 1 on")  # fmt: skip
        return figure


def _shares(panel: xr.Dataset) -> str:
    """The basin fractions of a panel in per cent, with standard errors."""
    winners = panel["start_winner"].values
    names = [str(name) for name in panel["pattern"].values]
    parts = []
    for code, name in ((0, names[0]), (1, names[1]), (2, names[2]), (-1, "undecided")):
        share = float(np.mean(winners == code))
        error = (share * (1 - share) / winners.size) ** 0.5
        if share == 1:
            return f"{name} 100 %"
        if share > 0:
            parts.append(f"{name} {100 * share:.1f} ± {100 * error:.1f} %")
    return "\n".join(parts)


def _mixture(ax: Axes, data: xr.Dataset) -> None:
    """Shares of starts won at each weight, with standard errors: no lines, as nothing was computed
    between the weights."""
    winners, weights = data["mixture_winner"].values, data["weight"].values
    names = [str(name) for name in data["pattern"].values]
    for pattern, name in enumerate(names):
        share = (winners == pattern).mean(axis=1)
        error = np.sqrt(share * (1 - share) / winners.shape[1])
        how = plot.look(pattern)
        ax.errorbar(weights, share, error, fmt=plot.MARKERS[pattern], ms=3, lw=0.8, capsize=0,
                    color=how["color"], mfc="white" if pattern else how["color"],
                    label=f"won by {name}")  # fmt: skip
        if pattern:
            critical = critical_weight(data["rate"].values, pattern)
            ax.axvline(critical, color=how["color"], ls=how["ls"], lw=1.0,
                       label=f"theory: {name} attracts\nto the left only")  # fmt: skip
    ax.set(xlabel="weight of the verifiable reward", ylabel="share of starts")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.03, 1.03))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, labelspacing=0.8)
