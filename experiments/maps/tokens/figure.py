"""The figure of the tokens map, from its stored data."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

from .known import REPORTED

_COLOURS = {"RLVR": plot.BEST, "RLIF": plot.MISLEADING}


def draw_tokens(data: xr.Dataset) -> Figure:
    """Accuracy, ranking change ratio, columns that carry the change, and where it sits."""
    with plot.style():
        figure = Figure(figsize=(7.4, 7.6))
        axes = figure.subplots(3, 2)
        _curves(axes[0, 0], data, "accuracy", "accuracy")
        axes[0, 0].set_title("(a) accuracy")
        axes[0, 0].legend(loc="upper left")
        _curves(axes[0, 1], 100 * data[["ratio"]], "ratio", "% of tokens drawn")
        _bands(axes[0, 1], data)
        axes[0, 1].set_title("(b) ranking change ratio")
        _curves(axes[1, 0], 100 * data[["critical_share"]], "critical_share", "% of columns met")
        axes[1, 0].set_title("(c) columns with 90 % of the change")
        _by_position(axes[1, 1], data)
        for ax, name, letter in zip(axes[2], data["reward"].values, "ef", strict=True):
            _heat(ax, data, str(name))
            ax.set_title(f"({letter}) change of the next token, {name}")
        return figure


def _curves(ax: Axes, data: xr.Dataset, key: str, label: str) -> None:
    """Mean over chains, and the middle half of them."""
    for name, colour in _COLOURS.items():
        values = data[key].sel(reward=name)
        low, high = (values.quantile(share, "chain") for share in (0.25, 0.75))
        ax.fill_between(data["time"], low, high, color=colour, alpha=0.2, lw=0)
        ax.plot(data["time"], values.mean("chain"), color=colour, label=name)
    ax.set(xscale="log", xlabel="learning rate times steps (1/reward)", ylabel=label)
    ax.set_ylim(bottom=0)


def _bands(ax: Axes, data: xr.Dataset) -> None:
    """What was reported of a language model, at steps that have no time here: at the margin."""
    edge = float(data["time"].values[-1])
    for at, (name, colour) in enumerate(_COLOURS.items()):
        values = [x for row in REPORTED.values() for x in row.get(name, ())]
        ax.plot([edge * 2.0 * (1 + at)] * 2, [min(values), max(values)], color=colour, lw=3,
                solid_capstyle="butt")  # fmt: skip
    ax.annotate("Qwen2.5-3B,\nsteps 20\nto 100", (1.0, 0.04), xycoords="axes fraction", ha="right",
                va="bottom", fontsize=7, color="0.35")  # fmt: skip
    ax.set_xlim(right=edge * 8)


def _by_position(ax: Axes, data: xr.Dataset) -> None:
    """How uncertain the base model is at each position, and where the change is in the end."""
    ends = data.isel(time=-1)["change"].mean("chain")
    for name, colour in _COLOURS.items():
        ax.plot(data["position"], ends.sel(reward=name), "o-", ms=3, color=colour, label=name)
    start = data["entropy"].isel(time=0).mean(("chain", "reward"))
    ax.plot(data["position"], start, ls=":", color=plot.THEORY, label="entropy at the start (nat)")
    ax.set(xlabel="position in the response", ylabel="total variation, nat")
    ax.set_title("(d) at the end, mean over chains")
    ax.legend(fontsize=7)


def _heat(ax: Axes, data: xr.Dataset, name: str) -> None:
    """One chain, the first: its forks are where they are, not averaged away."""
    cells = data["change"].sel(reward=name).isel(chain=0).transpose("position", "time")
    top = float(data["change"].isel(chain=0).max())
    shown = cells.assign_coords(time=np.log10(cells["time"]))
    plot.heatmap(ax, shown, label="total variation", vmin=0, vmax=top, cmap="cividis")
    ax.set(xlabel=r"$\log_{10}$ time (1/reward)", ylabel="position in the response")
