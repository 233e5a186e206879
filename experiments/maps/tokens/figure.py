"""The figure of the tokens map, from its stored data."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qra_jax import plot

from .known import REPORTED

_INDEX = {"RLVR": 0, "RLIF": 1}


def draw_tokens(data: xr.Dataset) -> Figure:
    """Accuracy, ranking change ratio, places that carry the change, and where it sits."""
    with plot.style():
        figure = Figure(figsize=(5.5, 6.4))
        grid = figure.add_gridspec(3, 2)
        accuracy, share = (figure.add_subplot(grid[at]) for at in ((0, 0), (1, 0)))
        inner = grid[0, 1].subgridspec(1, 2, width_ratios=[2.6, 1], wspace=0.0)
        ranks = figure.add_subplot(inner[0])
        reported = figure.add_subplot(inner[1], sharey=ranks)
        inner = grid[1, 1].subgridspec(2, 1, height_ratios=[1, 1.5], hspace=0.0)
        entropy = figure.add_subplot(inner[0])
        places = figure.add_subplot(inner[1], sharex=entropy)
        _curves(accuracy, data, "accuracy", "accuracy")
        accuracy.set_title("(a) all models end right\nby RLVR, not so by RLIF")
        figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        _curves(ranks, 100 * data[["ratio"]], "ratio", "% of tokens drawn")
        ranks.set_title("(b) RLIF changes\nmore ranks")
        _reported(reported)
        _curves(share, 100 * data[["critical_share"]], "critical_share", "% of places met")
        share.set_title("(c) but in fewer places\n(those with 90 % of the change)")
        _by_position(entropy, places, data)
        entropy.set_title("(d) RLIF changes the first token\nmost, RLVR the last")
        tops = float(data["change"].isel(chain=0).max())
        for at, name in enumerate(data["reward"].values):
            ax = figure.add_subplot(grid[2, at])
            _heat(ax, data, str(name), tops)
            ax.set_title(f"({'ef'[at]}) the first model under {name}")
        return figure


def _curves(ax: Axes, data: xr.Dataset, key: str, label: str) -> None:
    """Mean over chains, and the middle half of them."""
    for name, index in _INDEX.items():
        values, how = data[key].sel(reward=name), plot.look(index)
        low, high = (values.quantile(share, "chain") for share in (0.25, 0.75))
        ax.fill_between(data["time"], low, high, color=how["color"], alpha=0.2, lw=0,
                        label=f"{name}, middle half")  # fmt: skip
        ax.plot(data["time"], values.mean("chain"), **how, label=f"{name}, mean")
    ax.set(xscale="log", xlabel="learning rate times steps\n(1/reward)", ylabel=label)
    ax.set_ylim(bottom=0)


def _reported(ax: Axes) -> None:
    """What was reported of a language model, on axes of its own: its steps have no time here."""
    for at, (name, index) in enumerate(_INDEX.items()):
        values = [x for row in REPORTED.values() for x in row.get(name, ())]
        ax.plot([at, at], [min(values), max(values)], color=plot.look(index)["color"], lw=4,
                ls="-", solid_capstyle="butt")  # fmt: skip
    ax.set_xticks(range(len(_INDEX)), list(_INDEX), rotation=90)
    ax.set_xlim(-0.7, len(_INDEX) - 0.3)
    ax.set_title("reported:\nQwen2.5-3B", fontsize=6.5, pad=-14, loc="center")
    ax.tick_params(labelleft=False)


def _by_position(above: Axes, below: Axes, data: xr.Dataset) -> None:
    """How uncertain the base model is at each position, and where the change is in the end: means
    over the models."""
    start = data["entropy"].isel(time=0).mean(("chain", "reward"))
    above.bar(data["position"], start, width=0.6, color="0.6")
    above.set_ylabel("entropy\n(nat)")
    above.tick_params(labelbottom=False)
    ends = data.isel(time=-1)["change"].mean("chain")
    for name, index in _INDEX.items():
        shift = 0.3 * (index - 0.5)
        colour, values = plot.look(index)["color"], ends.sel(reward=name)
        below.vlines(data["position"] + shift, 0, values, color=colour, lw=0.8)
        below.plot(data["position"] + shift, values, plot.MARKERS[index], ms=3, color=colour,
                   mfc="white" if index else colour, label=name)  # fmt: skip
    below.set(xlabel="position in the response", ylabel="total\nvariation", ylim=(0, None))
    below.legend(loc="upper center", ncols=2, borderaxespad=0)


def _heat(ax: Axes, data: xr.Dataset, name: str, top: float) -> None:
    """One chain, the first: its forks are where they are, not averaged away."""
    cells = data["change"].sel(reward=name).isel(chain=0).transpose("position", "time")
    plot.heatmap(ax, cells, label="total variation", log_x=True, vmin=0, vmax=top, cmap="cividis")
    ax.set(xlabel="time (1/reward)", ylabel="position in the response")
