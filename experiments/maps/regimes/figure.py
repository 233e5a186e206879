"""The figure of the regimes map, from its stored data."""

import json
import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from qra_jax import plot

from ..._lab.measured import describe

# With a white edge: readable on every colour of the map and in the legend.
_EDGE = [withStroke(linewidth=2.0, foreground="white")]
_LAW = {"color": "black", "marker": "o", "ms": 4, "mfc": "white", "mew": 1.0, "ls": "none"}
_BOUNDARY = {"color": "black", "marker": "|", "ms": 6, "mew": 1.2, "ls": "none"}
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the misleading pattern, at which the law is marked
# Patterns of a measured model drawn one by one.
_MOST_SHOWN = 5
_TITLES = {
    "strong": "(c) strong: the best\nrises at once",
    "entangled": "(d) entangled: the\nmisleading one first",
    "cascade": "(e) cascade: two worse\npatterns take turns",
}
_T0, _T_EPS = "$T_0$", r"$T_\epsilon$"


def draw_regimes(data: xr.Dataset) -> Figure:
    """Both times over the initial policy, three trajectories, and the measured model if any."""
    measured = "measured" in data.attrs
    with plot.style():
        figure = Figure(figsize=(5.5, 7.2 if measured else 5.0))
        heights = [1.15, 1.2, 1.1][: 2 + measured]
        rows = np.ravel(np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights)))
        maps = rows[0].subplots(1, 2, sharey=True)
        _draw_map(maps[0], data, "entanglement", f"entanglement time {_T0} (1/reward)")
        maps[0].set_title("(a) the rarer the best pattern,\nthe longer it waits")
        eps = data.attrs["eps"]
        _draw_map(maps[1], data, "convergence", f"time {_T_EPS} (1/reward)")
        maps[1].set_title(f"(b) and the longer until it has\na share of {1 - eps:g}")
        maps[1].set_ylabel("")
        at_once = Patch(fc=plot.AT_ONCE, ec="0.5", lw=0.5, label="strong start: no wait")
        handles, _ = maps[0].get_legend_handles_labels()
        rows[0].legend(handles=[at_once, *handles], loc="outside lower center", ncols=3)
        cases = rows[1].subplots(1, len(_TITLES), sharey=True)
        for ax, case in zip(cases, _TITLES, strict=True):
            _draw_case(ax, data, case)
        for ax in cases[1:]:
            ax.set_ylabel("")
        # The last case has the most patterns.
        handles, labels = cases[-1].get_legend_handles_labels()
        rows[1].legend(handles, labels, loc="outside lower center", ncols=3)
        if measured:
            drawn, words = rows[2].subplots(1, 2, width_ratios=[1.3, 1])
            _draw_measured(drawn, data)
            _write_measured(words, data, drawn)
    return figure


def _draw_map(ax: Axes, data: xr.Dataset, kind: str, label: str) -> None:
    values = data[f"log_{kind}_time"].transpose("misleading", "best")
    for name in values.dims:
        values[name].attrs = data[name].attrs
    status = data[f"{kind}_status"].transpose("misleading", "best")
    plot.regime_map(ax, values, status, label=label, legend=False)
    _cut_at_the_edge(ax, data, values)
    inside = data["boundary"].values > 0
    ax.plot(data["best"][inside], data["boundary"][inside], **_BOUNDARY, path_effects=_EDGE,
            label="theory: no wait to the right")  # fmt: skip
    if kind == "entanglement":
        _draw_law(ax, data)
    if "measured" in data.attrs:
        _mark_measured(ax, data)
    ax.set_xlim(float(data["best"].min()), float(data["best"].max()))
    ax.set_ylim(0, float(data["misleading"].max()))


def _cut_at_the_edge(ax: Axes, data: xr.Dataset, values: xr.DataArray) -> None:
    """Grey where shares would sum to over 1, along the exact line: cells that it cuts are drawn in
    the colour of their neighbour, up to the line."""
    mesh = ax.collections[0]
    cells, (low, high) = np.ma.asarray(mesh.get_array()), mesh.get_clim()
    beside = np.ma.concatenate([cells[:, :1], cells[:, :-1]], axis=1)
    missing = np.isnan(values.values) & ~np.ma.getmaskarray(beside)
    ax.pcolormesh(
        data["best"], data["misleading"], np.ma.masked_where(~missing, beside), shading="nearest",
        rasterized=True, cmap=mesh.cmap, vmin=low, vmax=high,
    )  # fmt: skip
    line = np.linspace(0, 1, 400)
    corner = [(1.5, 0), (1.5, 1.5), (1e-15, 1.5)]
    edge = [(max(1 - y, 1e-15), y) for y in line]
    ax.add_patch(Polygon([*edge[::-1], *corner], closed=True, fc=plot.NO_POLICY, lw=0,
                         label="no such policy"))  # fmt: skip


def _draw_law(ax: Axes, data: xr.Dataset) -> None:
    """Lines of equal T0 as solved, and the entanglement law on them, where it holds."""
    times = data["log_entanglement_time"].transpose("misleading", "best") / plot.LN10
    law = data["law_log_entanglement_time"].transpose("misleading", "best") / plot.LN10
    if np.isfinite(law.values).sum() < 2:
        return
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10], integer=True)
    levels = np.asarray(ticks.tick_values(float(law.min()), float(law.max())))
    solved = np.ma.masked_invalid(times.values)
    lines = ax.contour(data["best"], data["misleading"], solved, levels, colors="black",
                       linewidths=0.8)  # fmt: skip
    lines.set(path_effects=_EDGE)
    ax.plot([], [], color="black", lw=0.8, label=f"equal {_T0}, solved")
    places = []
    for share in _SHARES:
        row = law.sel(misleading=share, method="nearest").dropna("best")[::-1]
        if len(row) > 1:
            inside = levels[(levels > row.values[0]) & (levels < row.values[-1])]
            at = np.exp(np.interp(inside, row.values, np.log(row["best"].values)))
            places += [(x, float(row["misleading"])) for x in at]
    if places:
        ax.plot(*np.transpose(places), **_LAW, label=f"law for {_T0}")


def _draw_case(ax: Axes, data: xr.Dataset, case: str) -> None:
    one = data.sel(case=case)
    exists = one["case_initial_prob"].values > 0
    names = ["best r*", "misleading r'", "next r''", "rest"]
    if exists.sum() == 3:
        names.pop(2)
    t0, t_eps = (float(one[f"case_log_{kind}_time"]) for kind in ("entanglement", "convergence"))
    shares = one["case_pattern_prob"].values[:, exists]
    if len(names) == 3:  # the rest looks the same in all panels
        shares = np.insert(shares, 2, np.nan, axis=1)
        names.insert(2, "")
    path = _path(one["case_log_time"], shares, one["case_accuracy"], names)
    plot.trajectory(ax, path, {_T0: t0, _T_EPS: t_eps}, legend=False)
    ax.set_title(_TITLES[case], pad=13)
    start = -1.0 if t0 == -np.inf else min(0.0, t0 / plot.LN10 - 1)
    end = t_eps / plot.LN10
    ax.set_xlim(start, end + max(0.6, 0.15 * (end - start)))


def _path(log_time, shares, accuracy, names) -> xr.Dataset:
    """Arrays as the data of a trajectory."""
    return xr.Dataset(
        {
            "log_time": ("time", np.asarray(log_time)),
            "pattern_prob": (("time", "pattern"), shares),
            "accuracy": ("time", np.asarray(accuracy)),
        },
        {"pattern": names},
    )


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
    marks = {
        text: float(data[f"model_log_{kind}_time"][0])
        for kind, text in (("entanglement", _T0), ("convergence", _T_EPS))
    }
    # In the order of success rates, so that colours mean what they mean in the other panels.
    order = np.argsort(-data["model_rate"].values[0], kind="stable")
    names = json.loads(data.attrs["measured"])
    shares, names = data["model_share"].values[:, order], [names[index] for index in order]
    if len(names) > _MOST_SHOWN:
        others = shares[:, _MOST_SHOWN - 1 :].sum(axis=1, keepdims=True)
        shares = np.concatenate([shares[:, : _MOST_SHOWN - 1], others], axis=1)
        names = [*names[: _MOST_SHOWN - 1], "others"]
    path = _path(time, shares, data["model_accuracy"], names)
    if data.sizes["draw"] > 2:
        low, _, high = data["model_accuracy_band"].values
        ax.fill_between(time / plot.LN10, low, high, color="0.5", alpha=0.3, lw=0,
                        label="accuracy, 90 % posterior")  # fmt: skip
    plot.trajectory(ax, path, marks, legend=False)
    ax.set_title("(f) the measured model", pad=13)


def _write_measured(ax: Axes, data: xr.Dataset, drawn: Axes) -> None:
    """The legend of what was drawn, and the model in words below it."""
    ax.axis("off")
    handles, labels = drawn.get_legend_handles_labels()
    legend = ax.legend(handles, labels, loc="upper left", borderaxespad=0, fontsize=7)
    lines = [row for line in describe(data) for row in textwrap.wrap(line, 40)]
    text = ax.text(0, 0, "\n".join(lines), va="bottom", fontsize=6, transform=ax.transAxes)
    for artist in (legend, text):
        artist.set_in_layout(False)
