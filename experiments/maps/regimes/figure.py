"""The figure of the regimes map, from its stored data."""

import json
import textwrap

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from qra_jax import plot

from ..._lab.measured import describe

_STRONG = "#E3ECF4"
# With a white edge: readable on every colour of the map and in the legend.
_LAW = {"color": "black", "linewidth": 0.7}
_EDGE = [withStroke(linewidth=2.2, foreground="white")]
# Patterns of a measured model drawn one by one.
_MOST_SHOWN = 6
_COLOURS = (plot.BEST, plot.MISLEADING, plot.REST, "#CC79A7")
_TITLES = {
    "strong": "(c) strong start",
    "entangled": r"(d) entangled, $\gamma = 6$",
    "cascade": "(e) cascade of two",
}


def draw_regimes(data: xr.Dataset) -> Figure:
    """Both times over the initial policy, three trajectories, and the measured model if any."""
    measured = "measured" in data.attrs
    with plot.style():
        figure = Figure(figsize=(7.4, 8.2 if measured else 5.6))
        heights = [1.15, 1.1, 1.1][: 2 + measured]
        rows = np.ravel(np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights)))
        maps = rows[0].subplots(1, 2)
        _draw_map(maps[0], data, "entanglement", r"$\log_{10} T_0$ (1/reward)")
        maps[0].set_title("(a) entanglement time")
        eps = data.attrs["eps"]
        _draw_map(maps[1], data, "convergence", r"$\log_{10} T_\epsilon$ (1/reward)")
        maps[1].set_title(rf"(b) time to $\pi(r^*) = 1 - {eps:g}$")
        maps[1].set_ylabel("")
        cases = rows[1].subplots(1, len(_TITLES), sharey=True)
        for ax, case in zip(cases, _TITLES, strict=True):
            _draw_case(ax, data, case)
        for ax in cases[1:]:
            ax.set_ylabel("")
        # The last case has the most patterns.
        handles, labels = cases[-1].get_legend_handles_labels()
        rows[1].legend(handles, labels, loc="outside lower center", ncols=len(labels))
        if measured:
            drawn, words = rows[2].subplots(1, 2, width_ratios=[1.6, 1])
            _draw_measured(drawn, data)
            _write_measured(words, data, drawn)
    return figure


def _draw_map(ax: Axes, data: xr.Dataset, kind: str, label: str) -> None:
    values = data[f"log_{kind}_time"] / plot.LN10
    finite = values.values[np.isfinite(values.values)]
    low = float(finite.min()) if finite.size else 0.0
    # T0 = 0 has no logarithm: shown in a colour of its own, below the scale.
    shown = xr.where(values == -np.inf, low - 1.0, values).transpose("misleading", "best")
    shown["best"].attrs, shown["misleading"].attrs = data["best"].attrs, data["misleading"].attrs
    colours = matplotlib.colormaps["viridis"].with_extremes(under=_STRONG)
    top = float(finite.max()) if finite.size else 1.0
    plot.heatmap(
        ax,
        shown,
        data[f"{kind}_status"],
        label=label,
        log_x=True,
        cmap=colours,
        vmin=low,
        vmax=max(top, low + 1e-6),
    )
    ax.plot(
        data["best"], data["boundary"], color=plot.THEORY, ls="--", label="predicted $V = p(r')$"
    )
    if kind == "entanglement":
        _draw_law(ax, data)
    if "measured" in data.attrs:
        _mark_measured(ax, data)
    ax.legend(loc="lower left", facecolor="white", framealpha=0.85, frameon=True)
    ax.set_xlim(float(data["best"].min()), float(data["best"].max()))
    ax.set_ylim(0, 1)


def _draw_law(ax: Axes, data: xr.Dataset) -> None:
    """Contours of the entanglement law, where it holds."""
    law = data["law_log_entanglement_time"].transpose("misleading", "best") / plot.LN10
    if np.isfinite(law.values).sum() < 2:
        return
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10], integer=True)
    levels = np.asarray(ticks.tick_values(float(law.min()), float(law.max())))
    lines = ax.contour(
        data["best"],
        data["misleading"],
        law.values,
        levels,
        colors=_LAW["color"],
        linewidths=_LAW["linewidth"],
    )
    lines.set(path_effects=_EDGE)
    # Labels in one row, clear of the legend.
    row = law.sel(misleading=0.6, method="nearest").dropna("best")[::-1]
    low, *_, high = row.values if len(row) > 1 else (0, 0)
    inside = levels[np.abs(levels - (low + high) / 2) < 0.48 * (high - low)]
    places = [(np.exp(np.interp(x, row, np.log(row["best"]))), 0.6) for x in inside]
    for text in ax.clabel(lines, fontsize=7, fmt="%d", manual=places):
        text.set(path_effects=_EDGE)
    ax.plot([], [], **_LAW, path_effects=_EDGE, label=r"law for $T_0$, $\log_{10}$")


def _draw_case(ax: Axes, data: xr.Dataset, case: str) -> None:
    one = data.sel(case=case)
    exists = one["case_initial_prob"].values > 0
    names = ["$r^*$", "$r'$", "rest"] if exists.sum() == 3 else ["$r^*$", "$r'$", "$r''$", "rest"]
    t0, t_eps = (float(one[f"case_log_{kind}_time"]) for kind in ("entanglement", "convergence"))
    plot.trajectory(
        ax,
        one["case_log_time"].values,
        one["case_pattern_prob"].values[:, exists],
        one["case_accuracy"].values,
        names,
        [(t0, "$T_0$"), (t_eps, r"$T_\epsilon$")],
        _COLOURS if len(names) > 3 else (*_COLOURS[:2], _COLOURS[3]),
    )
    ax.set_title(_TITLES[case], pad=14)
    start = -1.0 if t0 == -np.inf else min(0.0, t0 / plot.LN10 - 1)
    ax.set_xlim(start, t_eps / plot.LN10 + 0.6)


def _mark_measured(ax: Axes, data: xr.Dataset) -> None:
    rates = data["model_rate"].values[0]
    exists = data["model_prob"].values[0] > 0
    levels = np.unique(rates[exists])[::-1]
    share = [
        data["model_prob"].values[:, exists & (rates == level)].sum(axis=1) for level in levels[:2]
    ]
    low, high = (np.quantile(share, level, axis=1) for level in (0.05, 0.95))
    x, y = share[0][0], share[1][0]
    ax.errorbar(
        x,
        y,
        xerr=[[max(x - low[0], 0)], [max(high[0] - x, 0)]],
        yerr=[[max(y - low[1], 0)], [max(high[1] - y, 0)]],
        fmt="*",
        ms=11,
        color="#E69F00",
        mec="black",
        mew=0.6,
        label="measured model",
    )


def _draw_measured(ax: Axes, data: xr.Dataset) -> None:
    time = data["model_log_time"].values
    marks = [
        (float(data[f"model_log_{kind}_time"][0]), text)
        for kind, text in (("entanglement", "$T_0$"), ("convergence", r"$T_\epsilon$"))
    ]
    # In the order of success rates, so that colours mean what they mean in the other panels.
    order = np.argsort(-data["model_rate"].values[0], kind="stable")
    names = json.loads(data.attrs["measured"])
    shares, names = data["model_share"].values[:, order], [names[index] for index in order]
    if len(names) > _MOST_SHOWN:
        others = shares[:, _MOST_SHOWN - 1 :].sum(axis=1, keepdims=True)
        shares = np.concatenate([shares[:, : _MOST_SHOWN - 1], others], axis=1)
        names = [*names[: _MOST_SHOWN - 1], "others"]
    plot.trajectory(ax, time, shares, data["model_accuracy"].values, names, marks)
    if data.sizes["draw"] > 2:
        low, _, high = data["model_accuracy_band"].values
        ax.fill_between(time / plot.LN10, low, high, color="0.5", alpha=0.3, lw=0,
                        label="accuracy, 90 % posterior")  # fmt: skip
    ax.set_title("(f) the measured model", pad=14)


def _write_measured(ax: Axes, data: xr.Dataset, drawn: Axes) -> None:
    """The legend of what was drawn, and the model in words below it."""
    ax.axis("off")
    handles, labels = drawn.get_legend_handles_labels()
    legend = ax.legend(handles, labels, loc="upper left", borderaxespad=0)
    lines = [row for line in describe(data) for row in textwrap.wrap(line, 46)]
    text = ax.text(0, 0, "\n".join(lines), va="bottom", fontsize=7, transform=ax.transAxes)
    for artist in (legend, text):
        artist.set_in_layout(False)
