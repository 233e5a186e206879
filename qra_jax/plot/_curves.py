"""What people draw of flows and runs. Labelled data in, the axes out; times of any size."""

from collections.abc import Iterable, Mapping

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .._core.checks import require
from ..dynamics._branch import Special
from ..dynamics._stability import Stability
from ..flows._status import Status
from ._elements import AT_ONCE, COLOURS, LN10, NO_POLICY, THEORY, decades, heatmap, look

_UNSTABLE = (Stability.SADDLE, Stability.SOURCE)
_SPECIAL = {Special.FOLD: ("o", "fold"), Special.BRANCH_POINT: ("D", "branch point")}


def trajectory(
    ax: Axes,
    data: xr.Dataset,
    marks: Mapping[str, float] | None = None,
    *,
    unit: str = "1/reward",
    legend: bool = True,
) -> Axes:
    """Shares of the patterns and the accuracy over time, which is logarithmic, of any size.

    **Arguments:** `data`: what `Trajectory.to_dataset` returns, of one question; `marks`: times to
    mark by a dotted line, as natural logarithms by their labels, such as T0's; those that are 0,
    infinite or NaN are left out; `unit`: of the time; `legend`: whether to draw one.

    **Raises:** `ValueError` for data of several questions.
    """
    probs = data["pattern_prob"]
    if "question" in probs.dims:
        require(probs.sizes["question"] == 1, "data", "be of one question", dict(probs.sizes))
        probs = probs.isel(question=0)
    time = data["log_time"].values / LN10
    seen = np.isfinite(time)
    shares = probs.transpose(..., "pattern").values
    for index, name in enumerate(probs["pattern"].values):
        ax.plot(time[seen], shares[seen, index], **look(index), label=f"share of {name}")
    ax.plot(time[seen], data["accuracy"].values[seen], color=THEORY, ls="-", lw=0.8, marker=".",
            ms=4, markevery=0.07, label="accuracy V")  # fmt: skip
    _mark_times(ax, marks or {})
    ax.set(xlabel=f"time ({unit})", ylabel="share; accuracy", ylim=(-0.02, 1.02))
    decades(ax.xaxis)
    if legend:
        ax.legend()
    return ax


def _mark_times(ax: Axes, marks: Mapping[str, float]) -> None:
    """Dotted lines with their labels on top, the last one to the right of its line: two close marks
    stay apart."""
    shown = sorted((log_time, text) for text, log_time in marks.items() if np.isfinite(log_time))
    for log_time, text in shown:
        ax.axvline(log_time / LN10, color="0.45", lw=0.9, ls=":")
        last = log_time == shown[-1][0]
        ax.annotate(
            text,
            (log_time / LN10, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2 if last else -2, 1),
            textcoords="offset points",
            ha="left" if last else "right",
            va="bottom",
        )


def comparison(
    ax: Axes,
    paths: Mapping[str, xr.Dataset],
    marks: Mapping[str, float] | None = None,
    *,
    quantity: str = "accuracy",
    unit: str = "1/reward",
) -> Axes:
    """One quantity of several trajectories over the same logarithmic time, each with a line style
    of its own: objectives, geometries or starts side by side.

    **Arguments:** `paths`: what `Trajectory.to_dataset` returns, by name; `marks`: natural
    logarithms of times, by the name of the path that they lie on, such as T0's: a dot on its curve;
    `quantity`: a variable over time alone; `unit`: of the time.

    **Raises:** `ValueError` if the quantity is not one value a time.
    """
    for index, (name, data) in enumerate(paths.items()):
        values, time = data[quantity], data["log_time"].values / LN10
        require(values.ndim == 1, "quantity", "have one value a time", dict(values.sizes))
        seen = np.isfinite(time)
        ax.plot(time[seen], values.values[seen], **look(index), label=name)
        at = (marks or {}).get(name, np.nan) / LN10
        if np.isfinite(at):
            height = np.interp(at, time[seen], values.values[seen])
            ax.plot(at, height, "o", color=look(index)["color"], mec="k", mew=0.7, zorder=4)
    ax.set(xlabel=f"time ({unit})", ylabel=quantity)
    decades(ax.xaxis)
    ax.legend()
    return ax


def seed_band(
    ax: Axes, runs: xr.DataArray, *, label: str, index: int = 0, share: float = 0.8
) -> Axes:
    """The median of runs with other seeds, and the band that holds a share of them at each place.

    **Arguments:** `runs`: over `seed` and one other dimension, which is x; `label`; `index`: which
    of several, for colour and line style; `share`: of the runs, between 0 and 1.

    **Raises:** `ValueError` for other dimensions or another share.
    """
    require(runs.ndim == 2 and "seed" in runs.dims, "runs", "be over seed and x", runs.dims)
    require(0 < share < 1, "share", "lie between 0 and 1", share)
    values = runs.transpose("seed", ...)
    x = values[values.dims[1]]
    ends = (1 - share) / 2, 0.5, (1 + share) / 2
    low, middle, high = np.nanquantile(values.values, ends, axis=0)
    colour = look(index)["color"]
    ax.fill_between(x, low, high, color=colour, alpha=0.25, lw=0,
                    label=f"{100 * share:g} % of {values.sizes['seed']} runs")  # fmt: skip
    for edge in (low, high):  # a band thinner than a line is seen all the same
        ax.plot(x, edge, color=colour, lw=0.4, ls="-")
    ax.plot(x, middle, **look(index), label=label)
    ax.set(xlabel=x.attrs.get("long_name", x.name), ylabel=runs.attrs.get("long_name", runs.name))
    return ax


def regime_map(
    ax: Axes,
    log_times: xr.DataArray,
    status: xr.DataArray | None = None,
    *,
    label: str = "entanglement time $T_0$ (1/reward)",
    at_once: str = "strong start: no wait",
    log_x: bool = True,
    legend: bool = True,
) -> Axes:
    """A map of times over two axes, with a logarithmic colour bar; a time of 0 has a colour of its
    own, and so has what stands for no policy.

    **Arguments:** `log_times`: natural logarithms, y by x; `-inf` for a time of 0, NaN where there
    is no policy; `status`: of each, whose failures are hatched; `label`: of the colour bar;
    `at_once`: what a time of 0 means, for the legend; `log_x`: whether x is logarithmic.
    """
    powers = log_times / LN10
    for name in log_times.dims:
        powers[name].attrs = log_times[name].attrs
    finite = powers.values[np.isfinite(powers.values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    zero = powers.values == -np.inf
    none = np.isnan(powers.values)
    if status is not None:  # failed cells are hatched instead
        none &= status.values <= Status.STATIONARY
    heatmap(
        ax,
        powers.where(~zero, low - 1.0),
        status,
        label=label,
        log_x=log_x,
        log10=True,
        cmap=matplotlib.colormaps["viridis"].with_extremes(under=AT_ONCE),
        vmin=low,
        vmax=max(high, low + 1e-6),
    )
    entries = [
        Patch(fc=colour, ec="0.5", lw=0.5, label=text)
        for colour, text, there in (
            (AT_ONCE, at_once, zero.any()),
            (NO_POLICY, "no such policy", none.any()),
        )
        if there
    ]
    if legend and entries:
        ax.legend(handles=entries, frameon=True, framealpha=0.9, loc="lower left")
    return ax


def branch_diagram(
    ax: Axes,
    data: xr.Dataset,
    quantity: str = "pattern_prob",
    *,
    index: int = 0,
    label: str | None = None,
) -> Axes:
    """A branch of fixed points along a parameter: stable parts thick, unstable ones thin and
    dashed, folds as discs and branch points as diamonds.

    **Arguments:** `data`: what `Branch.to_dataset` returns, of one pattern
    (`branch.to_dataset().sel(pattern=0)`); `quantity`: what is drawn over the parameter: a variable
    over `row`, with `special_` before its name over `special`; `index`: which of several, for the
    colour; `label`: of the stable part.

    **Raises:** `ValueError` if the quantity is not one value a row.
    """
    values = data[quantity]
    require(values.ndim == 1, "quantity", "have one value a row", dict(values.sizes))
    unstable = np.isin(data["kind"].values, _UNSTABLE)
    known = np.isfinite(data["value"].values)
    colour = COLOURS[index % len(COLOURS)]
    # The unstable part goes up to its stable neighbours, so that the two meet.
    beside = np.roll(unstable, 1) | np.roll(unstable, -1)
    for part, how in (
        (~unstable, {"ls": "-", "label": label}),
        (unstable | beside, {"ls": (0, (3, 2)), "lw": 0.9}),
    ):
        ax.plot(data["value"], np.where(known & part, values, np.nan), color=colour, **how)
    for kind, (marker, _) in _SPECIAL.items():
        there = data["special"].values == kind
        ax.plot(data["special_value"].values[there],
                data[f"special_{quantity}"].values[there], marker, color=colour, mec="k", mew=0.6,
                ms=5, zorder=4)  # fmt: skip
    return ax


def branch_legend(specials: Iterable) -> list[Line2D]:
    """Legend entries of what line styles and markers mean in `branch_diagram`, for the kinds of
    special points that occur."""
    entries = [
        Line2D([], [], color="0.3", label="stable"),
        Line2D([], [], color="0.3", ls=(0, (3, 2)), lw=0.9, label="unstable"),
    ]
    marks = [
        Line2D([], [], color="0.3", ls="", marker=marker, mec="k", mew=0.6, label=label)
        for kind, (marker, label) in _SPECIAL.items()
        if kind in {int(x) for x in specials}
    ]
    return [*entries, *marks]
