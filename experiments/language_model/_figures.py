"""Figures of the study, from its stored table."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from qra_jax import plot
from qra_jax.diagnosis import StepForecast

from ..maps.tokens.known import REPORTED
from ._bases import SHIPPED_BASE
from ._compare import coverage, ends, off_orbit, smoothed
from ._said import FORECAST, RLIF
from ._study import KINDS
from ._task import Pattern

COLOURS = (plot.BEST, plot.MISLEADING, plot.REST, "#CC79A7")
"""Of the patterns."""
KIND_COLOURS = {
    "table": plot.THEORY,
    "gradient": plot.REST,
    "grouped": "#E69F00",
    "adam": "#56B4E9",
    "brief": "#CC79A7",
    "rlvr": plot.BEST,
    "certainty_table": "#E69F00",
    "certainty": "#CC79A7",
    "majority_table": "#56B4E9",
    "majority": plot.MISLEADING,
    "tuned": plot.REST,
}


def _over_seeds(
    ax: Axes, x: np.ndarray, curves: np.ndarray, colour: str, label: str | None
) -> None:
    """Mean over seeds and the range between them."""
    curves = curves[~np.all(np.isnan(curves), axis=1)]
    if len(curves) == 0:
        return
    ax.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2, lw=0)
    ax.plot(x, curves.mean(axis=0), color=colour, label=label, lw=1.2)


def _panels(data: xr.Dataset) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each base model, with its name and the share of its best pattern."""
    names = [str(name) for name in data["base"].values]
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots(2, -(-len(names) // 2), sharex=True, sharey=True)
    axes[0, 0].set_ylim(0, 1.03)
    for ax in axes[1]:
        ax.set_xlabel("step")
    found = dict(zip(names, np.ravel(axes), strict=False))
    for name, ax in found.items():
        share = 100 * float(data["said_shares"].sel(base=name)[Pattern.WORKED])
        ax.set_title(f"{name}: best pattern {share:.2g} %")
    return figure, found


def draw_accuracy(data: xr.Dataset) -> Figure:
    """Held-out accuracy over training, a panel for each base model."""
    with plot.style():
        figure, axes = _panels(data)
        for base, ax in axes.items():
            for kind in ("rlvr", "tuned", "certainty", "majority"):
                curves = data["held_accuracy"].sel(base=base, kind=kind).values
                _over_seeds(ax, data["look"].values, curves, KIND_COLOURS[kind], KINDS[kind].label)
        # From the last panel, which has all the curves.
        last = list(axes.values())[-1]
        figure.legend(*last.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.supylabel("held-out accuracy", fontsize=9)
        return figure


def draw_patterns(data: xr.Dataset) -> Figure:
    """Pattern shares over RLVR, and success rates where the pattern is given."""
    with plot.style():
        figure, axes = _panels(data)
        for base, ax in axes.items():
            run = data.sel(base=base, kind="rlvr")
            for index, pattern in enumerate(Pattern):
                curves = run["held_shares"].isel(pattern=index).values
                _over_seeds(ax, run["look"].values, curves, COLOURS[index], pattern.name.lower())
                rates = run["forced"].isel(way=index).mean("seed")
                ax.plot(run["look"], rates, color=COLOURS[index], lw=0.9, ls="--")
        any_of = next(iter(axes.values()))
        figure.legend(*any_of.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.supylabel("share (dashed: success rate)", fontsize=9)
        return figure


def draw_forecast(data: xr.Dataset) -> Figure:
    """Runs in the bands foretold for them: table-like training above, the usual one below."""
    kinds, bases = ("table", "rlvr"), data["base"].values[:: -(-data.sizes["base"] // 4)]
    fitted = int(data["look"][-1]) // 10
    with plot.style():
        figure = Figure(figsize=(8.2, 4.6))
        axes = figure.subplots(2, len(bases), sharex=True, sharey=True)
        for kind, row in zip(kinds, axes, strict=True):
            for base, ax in zip(bases, row, strict=True):
                run = data.sel(base=base, kind=kind)
                for seed in run["seed"].values:
                    band, held = (run[k].sel(seed=seed) for k in ("band_accuracy", "held_accuracy"))
                    low, high = (band.sel(level=level) for level in ("low", "high"))
                    colour = COLOURS[seed % len(COLOURS)]
                    ax.fill_between(run["look"], low, high, color=colour, alpha=0.2, lw=0)
                    ax.plot(run["look"], held, color=colour, lw=1.1, label=f"seed {seed}")
                ax.axvspan(0, fitted, color="0.9", lw=0, zorder=0)
                ax.set_title(f"{base}: {KINDS[kind].label}", fontsize=7)
            row[0].set_ylabel("held-out accuracy")
        for ax in axes[1]:
            ax.set_xlabel("step")
        axes[0, 0].set_ylim(0, 1.03)
        axes[0, 0].legend(fontsize=7, loc="lower right")
        return figure


def draw_tokens(data: xr.Dataset) -> Figure:
    """Ranking change ratio, share of places that moved, and where in a response they are; a curve
    is a mean over base models and seeds, a band the range over base models."""
    kinds = {"rlvr": "RLVR", "certainty": "RLIF", "majority": None}
    with plot.style():
        figure = Figure(figsize=(8.2, 2.8))
        axes = figure.subplots(1, 3)
        looks, last = data["look"].values, float(data["look"][-1])
        for ax, key in ((axes[0], "token_rank"), (axes[1], "moved")):
            for kind in kinds:
                values = 100 * data[key].sel(kind=kind).mean("seed").values
                _over_seeds(ax, looks, values, KIND_COLOURS[kind], KINDS[kind].label)
            ax.set(xlabel="step", ylabel="% of tokens", ylim=(0, None))
        axes[0].set_title("(a) ranking change ratio")
        axes[1].set_title("(b) next token moved by > .1")
        for at, (kind, way) in enumerate(kinds.items()):
            if way is not None:
                reported = [x for row in REPORTED.values() for x in row.get(way, ())]
                axes[0].plot([(1.06 + 0.06 * at) * last] * 2, [min(reported), max(reported)],
                             lw=3, color=KIND_COLOURS[kind], solid_capstyle="butt")  # fmt: skip
        axes[0].annotate("bars: Qwen2.5-3B", (0.02, 0.97), xycoords="axes fraction", va="top",
                         fontsize=7, color="0.35")  # fmt: skip
        axes[1].legend(fontsize=6, loc="upper left")
        places = np.arange(1, 1 + data.sizes["place"])
        for kind in kinds:
            values = data["by_place"].sel(kind=kind).isel(look=-1).mean(("base", "seed"))
            axes[2].plot(places, values, "o-", ms=3, color=KIND_COLOURS[kind])
        axes[2].set(xlabel="token of the response", ylabel="total variation", yscale="log",
                    title="(c) change at the last step")  # fmt: skip
        return figure


def draw_comparison(data: xr.Dataset) -> Figure:
    """Said against done: times, bands, the clock, the orbit, and where RLIF ends."""
    bases = [str(name) for name in data["base"].values]
    with plot.style():
        figure = Figure(figsize=(8.6, 5.4))
        axes = figure.subplots(2, 3)
        of_time, of_band, of_rlif, of_clock, of_orbit, legend = np.ravel(axes)
        covered, apart = coverage(data), off_orbit(data)
        for kind in FORECAST:
            colour, run = KIND_COLOURS[kind], data.sel(kind=kind)
            said, did = np.exp(run["said_log_time"]), run["times"].median("seed")
            of_time.plot(said, did, "o", ms=3.5, color=colour, label=KINDS[kind].label)
            share = covered["accuracy"].sel(kind=kind).mean(("seed", "look"))
            of_band.plot(bases, share, "o-", ms=3, lw=0.8, color=colour)
            of_orbit.plot(bases, apart.sel(kind=kind).mean("seed"), "o-", ms=3, lw=0.8,
                          color=colour)  # fmt: skip
            clock = np.exp(run["flow_log_time"].sel(base=SHIPPED_BASE).median("seed"))
            of_clock.plot(run["look"][1:], clock[1:], color=colour)
        of_time.set(xscale="log", yscale="log", xlabel="flow's time, from rollouts",
                    ylabel="steps of the run", title="(a) to 90 % of the final")  # fmt: skip
        for axis in (of_time.xaxis, of_time.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        of_band.axhline(0.9, color=plot.THEORY, lw=0.8, ls="--")
        of_band.set(xlabel="base model", ylabel="share of evaluations", ylim=(-0.03, 1.03),
                    title="(b) accuracy in its 90 % band")  # fmt: skip
        looks = data["look"].values[1:]
        of_clock.plot(looks, 0.1 * looks, color="0.6", lw=0.8, ls=":")
        of_clock.annotate("steady", (looks[0], 0.1 * looks[0]), fontsize=7, color="0.4",
                          xytext=(8, -2), textcoords="offset points", va="top")  # fmt: skip
        of_clock.set(xlabel="step", ylabel="flow's time at the same accuracy", xscale="log",
                     yscale="log",
                     title=f"(d) the clock of a run, model {SHIPPED_BASE}")  # fmt: skip
        of_orbit.set(xlabel="base model", ylabel="total variation", ylim=(0, None),
                     title="(e) shares off the flow's orbit")  # fmt: skip
        change = ends(data).mean("seed") - data["said_accuracy"]
        for kind in RLIF:
            said, did = data["said_loss"].sel(kind=kind), change.sel(kind=kind)
            of_rlif.plot(bases, did, "o-" if kind.endswith("table") else "s--", ms=3.5, lw=0.8,
                         color=KIND_COLOURS[kind], label=KINDS[kind].label)  # fmt: skip
            for at, chance in enumerate(said.values):
                if chance > 0.5:
                    of_rlif.plot(at, did.values[at], "o", ms=8, mfc="none", mew=0.7,
                                 color=KIND_COLOURS[kind])  # fmt: skip
        of_rlif.axhline(0, color=plot.THEORY, lw=0.8)
        of_rlif.set(xlabel="base model", ylabel="accuracy, end less start",
                    title="(c) RLIF; ring: a loss was said")  # fmt: skip
        legend.axis("off")
        both = of_time.get_legend_handles_labels(), of_rlif.get_legend_handles_labels()
        titles = ("RLVR (a, b, d, e)", "RLIF (c)")
        for (handles, labels), title, place in zip(both, titles, (1.0, 0.42), strict=True):
            legend.add_artist(
                legend.legend(handles, labels, title=title, fontsize=7, title_fontsize=7.5,
                              loc="upper left", bbox_to_anchor=(-0.15, place), frameon=False)
            )  # fmt: skip
        return figure


def draw_live(
    logs: Mapping[str, Mapping[str, np.ndarray]],
    band: StepForecast | None,
    stored: xr.Dataset | None,
) -> Figure:
    """Runs made just now, the forecast of the first, and the study's seeds behind them.

    **Arguments:** `logs`: by kind, `accuracy` and `shares` of each step; `band`; `stored`: the
    study's runs of the same base model.
    """
    with plot.style():
        figure = Figure(figsize=(8.2, 3.2))
        axes = figure.subplots(1, 1 + len(logs))
        for kind, log in logs.items():
            if stored is not None:
                held = stored["held_accuracy"].sel(kind=kind).values
                axes[0].fill_between(stored["look"], held.min(0), held.max(0),
                                     color=KIND_COLOURS[kind], alpha=0.25, lw=0)  # fmt: skip
            label = KINDS[kind].label
            axes[0].plot(smoothed(log["accuracy"]), color=KIND_COLOURS[kind], label=label)
        if band is not None:
            fitted = band.steps >= band.logged[-1, 0]
            for edge, label in ((band.accuracy.low, "forecast, 90 %"), (band.accuracy.high, None)):
                axes[0].plot(band.steps[fitted], edge[fitted], color=plot.THEORY, lw=0.8, ls="--",
                             label=label)  # fmt: skip
        axes[0].set(xlabel="step", ylabel="accuracy, mean of 9 steps", title="(a) accuracy",
                    ylim=(0, 1.03))  # fmt: skip
        axes[0].legend(fontsize=7)
        for letter, ax, (kind, log) in zip("bc", axes[1:], logs.items(), strict=False):
            for index, pattern in enumerate(Pattern):
                curve = smoothed(log["shares"].T)[index]
                ax.plot(curve, color=COLOURS[index], label=pattern.name.lower())
            ax.set(xlabel="step", ylabel="share", title=f"({letter}) {KINDS[kind].label}",
                   ylim=(0, 1.03))  # fmt: skip
        axes[1].legend(fontsize=7)
        return figure
