"""The figure of what was said beside what was done, from the study's stored table."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from qra_jax import plot

from ._bases import SHIPPED_BASE
from ._compare import coverage, ends, off_orbit
from ._figures import LOOKS, line_of
from ._said import FORECAST, RLIF
from ._study import KINDS

_ADAM = ("adam", "brief", "rlvr")
_BRIEFLY = {
    "table": "RLOO, gradient,\nopenings only",
    "brief": "RLOO, Adam,\nshort memory",
    "certainty_table": "self-certainty,\nopenings only",
    "certainty": "self-certainty",
    "majority_table": "majority vote,\nopenings only",
    "majority": "majority vote",
}


def draw_comparison(data: xr.Dataset) -> Figure:
    """Said against done: times, bands, the clock, the orbit, and where RLIF ends."""
    with plot.style():
        figure = Figure(figsize=(5.5, 6.6))
        (left, right), (bands, orbit), (rlif, clock) = figure.subplots(
            3, 2, height_ratios=[1.1, 1.1, 1]
        )
        right.sharex(left)
        right.sharey(left)
        _times(left, data, [kind for kind in FORECAST if kind not in _ADAM])
        left.set_title("(a) plain gradient: the order\nof times is as foretold")
        _times(right, data, _ADAM)
        right.set_title("(a) by Adam it is not, but\nfor a short memory")
        right.set_ylabel("")
        covered = coverage(data)["accuracy"].mean(("seed", "look")).sel(kind=list(FORECAST))
        _table(bands, covered, FORECAST, low=0.0, high=1.0)
        bands.set_title("(b) share of evaluations in\ntheir 90 % band")
        apart = off_orbit(data).mean("seed").sel(kind=list(FORECAST))
        _table(orbit, apart, FORECAST, low=0.4, high=0.0)
        orbit.set_yticklabels([])
        orbit.set_title("(e) distance from the flow's orbit\n(total variation)")
        change = (ends(data).mean("seed") - data["said_accuracy"]).sel(kind=list(RLIF))
        _table(rlif, change, RLIF, low=-0.8, high=0.1)
        _rings(rlif, data["said_loss"].sel(kind=list(RLIF)))
        rlif.set_title("(c) RLIF: accuracy, end less start;\nring: a loss was said")
        _clock(clock, data)
        clock.set_title(f"(d) how fast the flow's time\nruns in model {SHIPPED_BASE}")
        handles, labels = (
            [x for ax in (left, right) for x in ax.get_legend_handles_labels()[at]] for at in (0, 1)
        )
        for handle, kind in zip(handles, (*(k for k in FORECAST if k not in _ADAM), *_ADAM),
                                strict=True):  # fmt: skip
            handle.set(ls=LOOKS[kind][1])
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        for handle in handles:
            handle.set(ls="none")
        return figure


def _times(ax: Axes, data: xr.Dataset, kinds) -> None:
    """Steps to 90 % of the final accuracy, over the time that the flow needs, a dot a model."""
    for kind in kinds:
        run, (colour, _, marker) = data.sel(kind=kind), LOOKS[kind]
        said, did = np.exp(run["said_log_time"]), run["times"].median("seed")
        ax.plot(said, did, marker, ls="none", ms=4, color=colour, mfc="white", mew=1.0,
                label=KINDS[kind].label)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="time foretold from rollouts",
           ylabel="steps of the run")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())


def _table(ax: Axes, values: xr.DataArray, kinds, low: float, high: float) -> None:
    """Numbers by kind and base model, darker where they are towards `low`."""
    cells = values.transpose("kind", "base").values
    turned = low > high
    colours = "Greys" if turned else "Greys_r"
    ends = sorted((low, high))
    ax.imshow(cells, cmap=colours, vmin=ends[0] - 0.3, vmax=ends[1] + 0.3, aspect="auto")
    for row, line in enumerate(cells):
        for at, value in enumerate(line):
            dark = (value - low) / (high - low) < 0.45
            text = f"{value:.2f}".replace("0.", ".")
            ax.text(at, row, text, ha="center", va="center", fontsize=5.5,
                    color="white" if dark else "black")  # fmt: skip
    names = [_BRIEFLY.get(kind, KINDS[kind].label) for kind in kinds]
    ax.set_yticks(range(len(names)), names, fontsize=6.5)
    ax.set_xticks(range(values.sizes["base"]), [str(x) for x in values["base"].values])
    ax.set_xlabel("base model")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _rings(ax: Axes, said: xr.DataArray) -> None:
    for row, line in enumerate(said.transpose("kind", "base").values):
        for at, chance in enumerate(line):
            if chance > 0.5:
                ax.plot(at, row, "o", ms=13, mfc="none", mec=plot.MISLEADING, mew=1.1)


def _clock(ax: Axes, data: xr.Dataset) -> None:
    looks = data["look"].values[1:]
    for kind in FORECAST:
        times = data["flow_log_time"].sel(base=SHIPPED_BASE, kind=kind).median("seed")
        ax.plot(looks, np.exp(times)[1:], **line_of(kind))
    steady = 0.1 * looks
    ax.plot(looks, steady, color="0.5", lw=0.8, ls=":")
    ax.annotate("steady", (looks[0], steady[0]), fontsize=7, color="0.35", xytext=(8, -2),
                textcoords="offset points", va="top")  # fmt: skip
    ax.set(xlabel="step", ylabel="flow's time at\nthe same accuracy", xscale="log", yscale="log")
