"""Phase portraits on the simplex of three patterns: first the data, then the drawing of them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from jaxtyping import ArrayLike
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from .._core.checks import require, whole
from ..dynamics._attractors import Attractors, known_attractors
from ..dynamics._basins import basins
from ..dynamics._field import PatternField, log_probs_of, pattern_field, simplex_velocity
from ..dynamics._fixed_points import FixedPoints, fixed_points
from ..dynamics._stability import Stability
from ..flows._events import Approaches, TimeReached
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..solvers._method import AbstractMethod
from ..solvers._solve import solve_flow
from ..solvers.ode._ode import ODE
from ._elements import BEST, LN10, MISLEADING, NO_POLICY, REST

# Lower left, lower right, top.
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
_ARRIVED = 2e-3  # in probability: paths end this close to an attractor
_DECADES = 3.0  # of speed that the width of stream lines tells apart
_MARKS = {
    Stability.SINK: ("o", "full", "sink"),
    Stability.SADDLE: ("D", "left", "saddle"),
    Stability.SOURCE: ("o", "none", "source"),
    Stability.DEGENERATE: ("s", "none", "degenerate"),
}


def simplex_xy(pattern_probs: ArrayLike) -> np.ndarray:
    """Where points of the simplex lie in the plane: `(..., 3)` probabilities to `(..., 2)`; the
    first pattern is at the lower left, the second at the lower right, the third on top.

    **Raises:** `ValueError` if the last axis is not of 3 patterns.
    """
    probs = np.asarray(pattern_probs)
    require(probs.shape[-1:] == (3,), "pattern_probs", "have shape (..., 3)", probs.shape)
    return probs @ _CORNERS


def simplex_triangles(resolution: int) -> np.ndarray:
    """The triangles that cut each side of the simplex into `resolution` pieces, by their corners.

    **Returns:** `(resolution**2, 3, 3)`: triangle, corner, pattern. All have the same area, and
    their centres lie inside.

    **Raises:** `ValueError` if `resolution` is below 1.
    """
    n = whole(resolution, "resolution", 1)
    i, j = (x.ravel() for x in np.mgrid[0:n, 0:n])

    def corners(start, moves):
        return np.stack([np.stack([start[0] + a, start[1] + b], -1) for a, b in moves], axis=1)

    up, down = i + j < n, i + j < n - 1
    two = np.concatenate([
        corners((i[up], j[up]), [(0, 0), (1, 0), (0, 1)]),
        corners((i[down], j[down]), [(1, 0), (0, 1), (1, 1)]),
    ])  # fmt: skip
    return np.concatenate([two, n - two.sum(axis=-1, keepdims=True)], axis=-1) / n


def portrait(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    names: Sequence[str] = ("1", "2", "3"),
    starts: ArrayLike | None = None,
    log_horizon: float = 4 * LN10,
    resolution: int = 41,
    basin_resolution: int = 0,
    points: FixedPoints | None = None,
    reference: AbstractPolicy | None = None,
    method: AbstractMethod | None = None,
) -> xr.Dataset:
    r"""The data of a phase portrait, to be stored and drawn by `draw_portrait`.

    **Arguments:**

    - `flow`, `policy`, `reference`: as for `fixed_points`; one question of three patterns.
    - `names`: of the patterns.
    - `starts`: `(S, 3)`, where paths begin; the policy alone if not given.
    - `log_horizon`: natural logarithm of the time at which they end (1/reward), unless they come
      within 0.002 of an attractor before.
    - `resolution`: points of the field along each side, at least 2.
    - `basin_resolution`: basins are coloured in this number squared of triangles; none if 0.
    - `points`: the fixed points, if they are known.
    - `method`: of `basins`.

    **Returns:** a `Dataset` with `flow_x`, `flow_y` (y, x), `point_prob` (point, pattern),
    `point_kind` (point), `path_prob` (start, row, pattern), `path_log_time` (start, row),
    `path_status` (start), `cell_corner` (cell, corner, pattern), `cell_winner`, `cell_status`
    (cell).

    **Raises:** `ValueError` unless there are three patterns and names.

    ??? example

        ```python
        import matplotlib.pyplot as plt
        import qra_jax as qra
        from qra_jax import plot
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        data = plot.portrait(policy, problem, names=("right", "misleading", "bad"))
        with plot.style():
            plot.draw_portrait(plt.gca(), data)
        ```
    """
    field = pattern_field(policy, flow, 0, reference)
    require(field.num_patterns == 3, "policy", "have 3 patterns", field.num_patterns)
    require(len(names) == 3, "names", "be 3", names)
    whole(resolution, "resolution", 2)
    whole(basin_resolution, "basin_resolution", 0)
    found = fixed_points(policy, flow, reference=reference) if points is None else points
    attractors = known_attractors(field, found, False, 32)
    found = found.listed()
    x, y, flow_x, flow_y = _lattice(field, resolution)
    begin = jnp.exp(field.log_probs)[None] if starts is None else starts

    path_times, path_probs, path_status = _paths(
        field, attractors, log_probs_of(field, begin, 2), jnp.asarray(log_horizon)
    )
    data = xr.Dataset(
        {
            "flow_x": (("y", "x"), flow_x),
            "flow_y": (("y", "x"), flow_y),
            "point_prob": (("point", "pattern"), np.asarray(found.pattern_probs)),
            "point_kind": ("point", np.asarray(found.kind)),
            "path_prob": (("start", "row", "pattern"), np.asarray(path_probs)),
            "path_log_time": (("start", "row"), np.asarray(path_times)),
            "path_status": ("start", np.asarray(path_status)),
        },
        coords={"x": x, "y": y, "pattern": list(names)},
    )
    if basin_resolution:
        corners = simplex_triangles(basin_resolution)
        fate = basins(
            policy,
            flow,
            jnp.asarray(corners.mean(axis=1)),
            attractors=attractors,
            method=method,
            reference=reference,
        )
        data["cell_corner"] = ("cell", "corner", "pattern"), corners
        data["cell_winner"] = "cell", np.asarray(fate.winner)
        data["cell_status"] = "cell", np.asarray(fate.status)
    return data


@eqx.filter_jit
def _paths(field: PatternField, attractors: Attractors, log_probs, log_horizon):
    """Rows evenly spaced along each path, up to where it can be told from its end."""
    usable = attractors.within(field.exists)
    there = Approaches(attractors.pattern_probs, _ARRIVED, 0, usable)

    def follow(log_probs):
        path = solve_flow(
            field.at(log_probs),
            field.flow,
            until=(there, TimeReached(log_horizon)),
            reference=field.reference,
            method=ODE(),
        )
        return path.log_times, path.pattern_probs[:, 0], path.status

    return jax.vmap(follow)(log_probs)


def _lattice(field: PatternField, resolution: int):
    """The flow in the plane, NaN outside of the triangle."""
    x, y = (np.linspace(0, top, resolution) for top in _CORNERS.max(axis=0))
    grid = np.stack([*np.meshgrid(x, y), np.ones((resolution, resolution))], axis=-1)
    barycentric = np.linalg.inv(np.concatenate([_CORNERS, np.ones((3, 1))], axis=1))
    probs = grid @ barycentric
    inside = np.all(probs > -1e-9, axis=-1)
    # Just off the boundary, where some flows are not defined.
    probs = np.where(inside[..., None], np.clip(probs, 1e-4, None), 1 / 3)
    probs = jnp.asarray(probs / probs.sum(axis=-1, keepdims=True))
    velocity = simplex_velocity(field.policy, field.flow, probs, reference=field.reference)
    moved = np.where(inside[..., None], np.asarray(velocity) @ _CORNERS, np.nan)
    return x, y, moved[..., 0], moved[..., 1]


def simplex_axes(ax: Axes, names: Sequence[str]) -> None:
    """Make the axes a triangle with the three patterns' names at its corners."""
    ax.add_patch(Polygon(_CORNERS, closed=True, fill=False, ec="0.2", lw=0.9, zorder=3))
    for (x, y), name, (align, shift) in zip(
        _CORNERS, names, (("left", -6), ("right", -6), ("center", 5)), strict=True
    ):
        ax.annotate(name, (x, y), xytext=(0, shift), textcoords="offset points", ha=align,
                    va="top" if shift < 0 else "bottom", fontsize=8)  # fmt: skip
    ax.set_aspect("equal")
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 0.9))
    ax.set_axis_off()


def simplex_stream(
    ax: Axes, x: np.ndarray, y: np.ndarray, flow_x: np.ndarray, flow_y: np.ndarray
) -> None:
    """Stream lines of a field on a lattice, thinner where it is slower (over three decades of
    speed, by its logarithm)."""
    speed = np.hypot(flow_x, flow_y)
    moving = speed[np.isfinite(speed) & (speed > 0)]
    if not moving.size:
        return
    top = np.quantile(moving, 0.95)
    log_speed = np.log10(np.maximum(np.nan_to_num(speed), top * 1e-12) / top)
    width = 0.25 + 0.85 * np.clip(1 + log_speed / _DECADES, 0, 1)
    # Directions only: the step of the drawing is not to depend on the speed.
    unit = np.maximum(speed, top * 1e-12)
    ax.streamplot(
        x,
        y,
        np.ma.masked_invalid(flow_x / unit),
        np.ma.masked_invalid(flow_y / unit),
        density=0.85,
        linewidth=width,
        color="0.45",
        arrowsize=0.6,
        minlength=0.05,
        zorder=2,
    )


def simplex_points(ax: Axes, pattern_probs: np.ndarray, kinds: np.ndarray) -> None:
    """Fixed points: filled discs for sinks, half-filled diamonds for saddles, open discs for
    sources, open squares for degenerate ones."""
    for probs, kind in zip(pattern_probs, kinds, strict=True):
        if kind >= 0:
            marker, fill, _ = _MARKS[Stability(int(kind))]
            ax.plot(*simplex_xy(probs), **_mark(marker, fill), zorder=6, clip_on=False)


def _mark(marker: str, fill: str) -> dict[str, Any]:
    return {
        "marker": marker,
        "fillstyle": "full" if fill == "none" else fill,
        "ms": 4.2 if marker == "D" else 5.5,
        "mec": "k",
        "mfc": "w" if fill == "none" else "k",
        "mfcalt": "w",
        "mew": 0.9,
        "ls": "",
    }


def point_legend(kinds: np.ndarray) -> list[Line2D]:
    """Legend entries of the kinds of fixed points that occur in `kinds`."""
    return [
        Line2D([], [], label=label, **_mark(marker, fill))
        for kind, (marker, fill, label) in _MARKS.items()
        if np.any(np.asarray(kinds) == kind)
    ]


def simplex_paths(ax: Axes, pattern_probs: np.ndarray, log_times: np.ndarray) -> LineCollection:
    """Paths `(S, T, 3)` with their starts marked by a triangle, and a dot at each of the last
    powers of ten of the time, 7 at most."""
    lines = []
    for probs, times in zip(pattern_probs, log_times, strict=True):
        seen = np.isfinite(probs).all(axis=-1)
        place, powers = simplex_xy(probs[seen]), times[seen] / LN10
        # Rows after the stop repeat the last one.
        lines += list(np.stack([place[:-1], place[1:]], axis=1))
        moving = np.isfinite(powers)
        if not moving.any():
            continue
        ax.plot(*place[0], "^", ms=4.5, mfc="w", mec="k", mew=0.8, zorder=5)
        last = np.floor(powers[moving][-1])
        at = np.arange(max(last - 6, np.ceil(powers[moving][0])), last + 1)
        dots = [np.interp(at, powers[moving], place[moving, axis]) for axis in (0, 1)]
        ax.plot(*dots, ".", ms=3.5, color="k", zorder=5)
    shown = LineCollection(lines, colors="k", lw=1.1, zorder=4, capstyle="round")
    ax.add_collection(shown, autolim=False)
    return shown


def _light(colour: str) -> np.ndarray:
    return 1 - 0.28 * (1 - np.array(matplotlib.colors.to_rgb(colour)))


# Colour and hatching of the triangles that each pattern wins.
_BASINS = {
    0: (_light(BEST), ""),
    1: (_light(MISLEADING), "/////"),
    2: (_light(REST), "....."),
    -1: (np.array(matplotlib.colors.to_rgb(NO_POLICY)), ""),
}


def simplex_basins(ax: Axes, corners: np.ndarray, winners: np.ndarray) -> None:
    """Triangles `(N, 3, 3)` in the light colour of the pattern that wins them, and hatched for the
    second and the third; grey if none."""
    for code, (colour, hatch) in _BASINS.items():
        cells = simplex_xy(corners[winners == code])
        if len(cells):
            ax.add_collection(
                PolyCollection(list(cells), facecolors=[colour], edgecolors=[colour], lw=0.3,
                               zorder=1),
                autolim=False,
            )  # fmt: skip
        if len(cells) and hatch:
            ax.add_collection(
                PolyCollection(list(cells), facecolors="none", edgecolors="0.45", lw=0, hatch=hatch,
                               zorder=1.5),
                autolim=False,
            )  # fmt: skip


def basin_legend(names: Sequence[str], winners: np.ndarray) -> list[Patch]:
    """Legend entries of the patterns that win something, and of starts that none wins."""
    entries = zip((*names, "undecided"), (0, 1, 2, -1), strict=True)
    return [
        Patch(fc=_BASINS[code][0], ec="0.45", lw=0.5, hatch=_BASINS[code][1], label=name)
        for name, code in entries
        if np.any(np.asarray(winners) == code)
    ]


def draw_portrait(ax: Axes, data: xr.Dataset) -> Axes:
    """Draw the data of `portrait`: basins, stream lines, paths, fixed points."""
    simplex_axes(ax, [str(name) for name in data["pattern"].values])
    if "cell_winner" in data:
        simplex_basins(ax, data["cell_corner"].values, data["cell_winner"].values)
    x, y = data["x"].values, data["y"].values
    simplex_stream(ax, x, y, data["flow_x"].values, data["flow_y"].values)
    simplex_paths(ax, data["path_prob"].values, data["path_log_time"].values)
    simplex_points(ax, data["point_prob"].values, data["point_kind"].values)
    return ax


def path_legend() -> list[Line2D]:
    """Legend entries of a path: its start, and its dots."""
    return [
        Line2D([], [], marker="^", ms=4.5, mfc="w", mec="k", mew=0.8, color="k", lw=1.1,
               label="path and its start"),
        Line2D([], [], marker=".", ms=3.5, color="k", ls="none", label="time: powers of ten"),
    ]  # fmt: skip


def phase_portrait(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    ax: Axes | None = None,
    legend: bool = True,
    **settings,
) -> xr.Dataset:
    """Compute the phase portrait of a flow on three patterns, and draw it.

    **Arguments:** `ax`: the current axes if not given; `legend`: whether to draw one; the others
    as for `portrait`.

    **Returns:** the data, which `draw_portrait` draws again without computing.

    **Raises:** as `portrait`.

    ??? example

        ```python
        import matplotlib.pyplot as plt
        import qra_jax as qra
        from qra_jax import plot
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        with plot.style():
            plot.phase_portrait(policy, problem, basin_resolution=20)
            plt.savefig("portrait.png")
        ```
    """
    data = portrait(policy, flow, **settings)
    ax = plt.gca() if ax is None else ax
    draw_portrait(ax, data)
    if legend:
        entries = [*path_legend(), *point_legend(data["point_kind"].values)]
        if "cell_winner" in data:
            names = [str(name) for name in data["pattern"].values]
            entries = [*entries, *basin_legend(names, data["cell_winner"].values)]
        ax.legend(handles=entries, loc="upper left", bbox_to_anchor=(0.72, 1.0))
    return data
