"""Figures of the study, from its stored table."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qra_jax import plot
from qra_jax.diagnosis import StepForecast

from ..maps.tokens.known import REPORTED
from ._compare import smoothed
from ._study import KINDS
from ._task import Pattern

LOOKS = {
    "table": (plot.THEORY, plot.LINES[0], "o"),
    "gradient": (plot.REST, plot.LINES[1], "s"),
    "grouped": ("#E69F00", plot.LINES[2], "^"),
    "adam": ("#56B4E9", plot.LINES[4], "v"),
    "brief": ("#882255", plot.LINES[5], "D"),
    "rlvr": (plot.BEST, plot.LINES[0], "o"),
    "tuned": ("#44AA99", plot.LINES[1], "s"),
    "certainty": ("#CC79A7", plot.LINES[2], "^"),
    "majority": (plot.MISLEADING, plot.LINES[3], "D"),
}
"""Colour, line style and marker of each kind of training, the same in all figures."""
_BAND = "band: least to largest of the seeds"


def line_of(kind: str) -> dict:
    """How a kind's line looks."""
    return dict(zip(("color", "ls"), LOOKS[kind], strict=False))


def _over_seeds(
    ax: Axes, x: np.ndarray, curves: np.ndarray, label: str | None, color: str, ls
) -> None:
    """Mean over seeds and the range between them; a narrow range has its edges drawn."""
    curves = curves[~np.all(np.isnan(curves), axis=1)]
    if len(curves) == 0:
        return
    low, high = curves.min(axis=0), curves.max(axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.25, lw=0.3)
    ax.plot(x, curves.mean(axis=0), color=color, ls=ls, label=label, lw=1.2)


def _panels(data: xr.Dataset) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each base model, with its name and the share of its best pattern."""
    names = [str(name) for name in data["base"].values]
    figure = Figure(figsize=(5.5, 4.0))
    axes = figure.subplots(2, -(-len(names) // 2), sharex=True, sharey=True)
    axes[0, 0].set_ylim(0, 1.03)
    for ax in axes[1]:
        ax.set_xlabel("step")
    found = dict(zip(names, np.ravel(axes), strict=False))
    for name, ax in found.items():
        share = 100 * float(data["said_shares"].sel(base=name)[Pattern.WORKED])
        ax.set_title(f"{name}: best has {share:.2g} %", fontsize=7.5)
    return figure, found


def _headline(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=8.5)


def draw_accuracy(data: xr.Dataset) -> Figure:
    """Held-out accuracy over training, a panel for each base model."""
    with plot.style():
        figure, axes = _panels(data)
        for base, ax in axes.items():
            for kind in ("rlvr", "tuned", "certainty", "majority"):
                curves = data["held_accuracy"].sel(base=base, kind=kind).values
                label = KINDS[kind].label
                _over_seeds(ax, data["look"].values, curves, label, **line_of(kind))
        # From the last panel, which has all the curves.
        handles, labels = list(axes.values())[-1].get_legend_handles_labels()
        handles.append(Patch(fc="0.8", label=_BAND))
        figure.legend(handles, [*labels, _BAND], loc="outside lower center", ncols=3)
        figure.supylabel("held-out accuracy", fontsize=8)
        _headline(figure, "GRPO ends high from every base model, RLIF ends low")
        return figure


def draw_patterns(data: xr.Dataset) -> Figure:
    """Pattern shares over RLVR, and success rates where the pattern is given."""
    with plot.style():
        figure, axes = _panels(data)
        for base, ax in axes.items():
            run = data.sel(base=base, kind="rlvr")
            for index, pattern in enumerate(Pattern):
                curves = run["held_shares"].isel(pattern=index).values
                label = f"share of {pattern.name.lower()}"
                _over_seeds(ax, run["look"].values, curves, label, **plot.look(index))
                rates = run["forced"].isel(way=index).mean("seed")
                ax.plot(run["look"], rates, plot.MARKERS[index], ms=2.6, mew=0.6, mfc="white",
                        color=plot.COLOURS[index], markevery=5)  # fmt: skip
        handles, labels = next(iter(axes.values())).get_legend_handles_labels()
        rate = "markers: success rate of the pattern"
        more = [
            Patch(fc="0.8", label=_BAND),
            Line2D([], [], color="0.3", ls="none", marker="o", ms=2.6, mew=0.6, mfc="white"),
        ]
        figure.legend([*handles, *more], [*labels, _BAND, rate], loc="outside lower center",
                      ncols=2)  # fmt: skip
        figure.supylabel("share; success rate", fontsize=8)
        _headline(
            figure,
            "GRPO raises the worked answer; from D to H the direct one first,\n"
            "which in E, F and H learns to be right",
        )
        return figure


def draw_forecast(data: xr.Dataset) -> Figure:
    """Runs in the bands foretold for them, both less the band's median: table-like training above,
    the usual one below."""
    kinds, bases = ("table", "rlvr"), data["base"].values[:: -(-data.sizes["base"] // 4)]
    fitted = int(data["look"][-1]) // 10
    with plot.style():
        figure = Figure(figsize=(5.5, 4.1))
        axes = figure.subplots(2, len(bases), sharex=True)
        for kind, row in zip(kinds, axes, strict=True):
            for base, ax in zip(bases, row, strict=True):
                run = data.sel(base=base, kind=kind)
                for index, seed in enumerate(run["seed"].values):
                    band, held = (run[k].sel(seed=seed) for k in ("band_accuracy", "held_accuracy"))
                    low, middle, high = (band.sel(level=k) for k in ("low", "median", "high"))
                    how = plot.look(index)
                    ax.fill_between(run["look"], low - middle, high - middle, color=how["color"],
                                    alpha=0.2, lw=0.3)  # fmt: skip
                    ax.plot(run["look"], held - middle, **how, lw=1.0, label=f"run, seed {seed}")
                ax.axhline(0, color="0.5", lw=0.6)
                ax.axvspan(0, fitted, color="0.88", lw=0, zorder=0)
                ax.set_title(f"{base}: {_SHORT[kind]}", fontsize=7.5)
        for ax in axes[1]:
            ax.set_xlabel("step")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        more = {
            "the 90 % band foretold for it": Patch(fc=plot.BEST, alpha=0.2),
            "steps fitted to": Patch(fc="0.88"),
        }
        figure.legend([*handles, *more.values()], [*labels, *more], loc="outside lower center",
                      ncols=3)  # fmt: skip
        figure.supylabel("accuracy less the band's median", fontsize=8)
        _headline(
            figure,
            "Narrow bands hold gradient ascent of the openings, not GRPO with Adam\n"
            "(the panels' scales differ)",
        )
        return figure


_SHORT = {"table": "gradient", "rlvr": "GRPO, Adam"}


def draw_tokens(data: xr.Dataset) -> Figure:
    """Ranking change ratio, share of places that moved, and where in a response they are; a curve
    is a mean over base models and seeds, a band the range over base models."""
    kinds = {"rlvr": "RLVR", "certainty": "RLIF", "majority": None}
    with plot.style():
        figure = Figure(figsize=(5.5, 2.9))
        first, reported, second, third = figure.subplots(1, 4, width_ratios=[3, 0.9, 3, 3])
        looks = data["look"].values
        for ax, key in ((first, "token_rank"), (second, "moved")):
            for kind in kinds:
                values = 100 * data[key].sel(kind=kind).mean("seed").values
                _over_seeds(ax, looks, values, KINDS[kind].label, **line_of(kind))
            ax.set(xlabel="step", ylabel="% of tokens", ylim=(0, 50))
        first.set_title("(a) RLIF changes\nmore ranks")
        second.set_title("(b) and moves more\nnext tokens by > .1")
        for at, (kind, way) in enumerate(kinds.items()):
            if way is not None:
                values = [x for row in REPORTED.values() for x in row.get(way, ())]
                reported.plot([at, at], [min(values), max(values)], lw=4, color=LOOKS[kind][0],
                              ls="-", solid_capstyle="butt")  # fmt: skip
        reported.set_xticks([0, 1], ["RLVR", "RLIF"], rotation=90)
        reported.set(xlim=(-0.7, 1.7), ylim=(0, 50))
        reported.tick_params(labelleft=False)
        reported.set_title("reported:\nQwen2.5-3B", fontsize=6.5, pad=-14, loc="center")
        places = np.arange(1, 1 + data.sizes["place"])
        for kind in kinds:
            values = data["by_place"].sel(kind=kind).isel(look=-1).mean(("base", "seed"))
            colour, _, marker = LOOKS[kind]
            third.plot(places, values, marker, ms=3.5, color=colour, mfc="white")
        third.set(xlabel="token of the response", ylabel="total variation at the end",
                  yscale="log", xticks=places[::3])  # fmt: skip
        third.set_title("(c) RLVR acts on\nfew tokens")
        band = "band: least to largest of the base models"
        handles, labels = first.get_legend_handles_labels()
        for handle, kind in zip(handles, kinds, strict=True):
            handle.set(marker=LOOKS[kind][2], markevery=[-1], mfc="white", ms=3.5)
        handles.append(Patch(fc="0.8", label=band))
        figure.legend(handles, [*labels, band], loc="outside lower center", ncols=2)
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
        figure = Figure(figsize=(5.5, 2.9))
        axes = figure.subplots(1, 1 + len(logs))
        for kind, log in logs.items():
            colour, label = LOOKS[kind][0], KINDS[kind].label
            if stored is not None:
                held = stored["held_accuracy"].sel(kind=kind).values
                axes[0].fill_between(stored["look"], held.min(0), held.max(0), color=colour,
                                     alpha=0.25, lw=0, label="the study's seeds")  # fmt: skip
            axes[0].plot(smoothed(log["accuracy"]), **line_of(kind), label=label)
        if band is not None:
            fitted = band.steps >= band.logged[-1, 0]
            for edge, label in ((band.accuracy.low, "forecast, 90 %"), (band.accuracy.high, None)):
                axes[0].plot(band.steps[fitted], edge[fitted], color=plot.THEORY, lw=0.8, ls=":",
                             label=label)  # fmt: skip
        axes[0].set(xlabel="step", ylabel="accuracy, mean of 9 steps", title="(a) accuracy",
                    ylim=(0, 1.03))  # fmt: skip
        for letter, ax, (kind, log) in zip("bc", axes[1:], logs.items(), strict=False):
            for index, pattern in enumerate(Pattern):
                curve = smoothed(log["shares"].T)[index]
                ax.plot(curve, **plot.look(index), label=f"share of {pattern.name.lower()}")
            ax.set(xlabel="step", ylabel="share", ylim=(0, 1.03))
            ax.set_title(f"({letter}) {KINDS[kind].label}")
        entries = dict(
            pair
            for ax in axes[:2]
            for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True)
        )
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3)
        return figure
