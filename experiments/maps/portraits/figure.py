"""The figure of the portraits map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

from .theory import critical_weight

_COLUMNS = 4
_COLOURS = (plot.BEST, plot.MISLEADING, plot.REST)


def draw_portraits(data: xr.Dataset) -> Figure:
    """A portrait for each objective, and the basins of a mixture against its weight."""
    number = data.sizes["objective"]
    rows = -(-number // _COLUMNS)
    with plot.style():
        figure = Figure(figsize=(9.6, 2.75 * rows + 2.4))
        # Room for the titles of the first row, which lie above the corners' names.
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.985))
        grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[1] * rows + [0.85])
        axes, bars = [], []
        for index in range(number):
            ax = figure.add_subplot(grid[divmod(index, _COLUMNS)])
            axes.append(ax)
            panel = data.isel(objective=index)
            bars.append(plot.draw_portrait(ax, panel, vmin=-1.0, vmax=4.0))
            ax.set_title(f"({chr(97 + index)}) {panel['objective'].item()}", fontsize=9, pad=26)
            ax.annotate(_shares(panel), (0, 1), xycoords="axes fraction", xytext=(0, 23),
                        textcoords="offset points", va="top", fontsize=6.5, color="0.25",
                        linespacing=1.15)  # fmt: skip
        label = r"$\log_{10}$ time along paths (1/reward)"
        figure.colorbar(bars[0], ax=axes, label=label, shrink=0.6, pad=0.01, extend="both")
        ax = figure.add_subplot(grid[rows, :3])
        _mixture(ax, data)
        ax.set_title(f"({chr(97 + number)}) verifiable reward mixed with sequence probability")
        names = [str(name) for name in data["pattern"].values]
        entries = [
            *plot.basin_legend(names, data["cell_winner"].values),
            *plot.point_legend(data["point_kind"].values),
        ]
        side = figure.add_subplot(grid[rows, 3])
        side.set_axis_off()
        side.legend(handles=entries, loc="center left", title="won by; point of rest")
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
            return f"{name} 100 % ({winners.size} starts)"
        if share > 0:
            parts.append(f"{name} {100 * share:.1f} ± {100 * error:.1f}")
    first, rest = ", ".join(parts[:2]), ", ".join(parts[2:])
    return f"{first},\n{rest} %" if rest else f"{first} %"


def _mixture(ax: Axes, data: xr.Dataset) -> None:
    """Shares of starts won against the weight, with standard errors."""
    winners, weights = data["mixture_winner"].values, data["weight"].values
    names = [str(name) for name in data["pattern"].values]
    for pattern, (name, colour) in enumerate(zip(names, _COLOURS, strict=True)):
        share = (winners == pattern).mean(axis=1)
        error = np.sqrt(share * (1 - share) / winners.shape[1])
        ax.fill_between(weights, share - error, share + error, color=colour, alpha=0.3, lw=0)
        ax.plot(weights, share, color=colour)
        if pattern:
            critical = critical_weight(data["rate"].values, pattern)
            ax.axvline(critical, color=colour, ls="--", lw=1.1)
            ax.annotate(f"{name}: no attractor\nfrom here on", (critical, 1.0), xytext=(3, 0),
                        textcoords="offset points", va="top", fontsize=7, color=colour)  # fmt: skip
        at = int(0.3 * (len(weights) - 1))
        ax.annotate(name, (weights[at], share[at]), xytext=(0, 6 if pattern < 2 else -13),
                    textcoords="offset points", fontsize=8, color=colour)  # fmt: skip
    ax.set(xlabel="weight of the verifiable reward", ylabel="share of starts won")
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02))
