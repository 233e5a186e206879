"""Times along an orbit, by quadrature piece by piece.

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core.floats import safe_log
from ..._core.roots import implicit_root
from ..._core.types import Scalar
from ...objectives._utilities import AbstractUtility, Mean
from ._orbit import Cell, Orbit, Side, cell_at, largest_log, see, side_of, state_at

_MOST_PIECES = 10_000


class Resolution(NamedTuple):
    """How finely an orbit is resolved.

    `nodes` on each piece; `piece`: its length, in units of log distance, at most `longest` where it
    is adapted; `least`: the smallest distance resolved on one side of a cell on the way to a known
    place, as a share of the whole (what lies below weighs as its square); `least_before`: the same
    before a hand-over where times are looked for; `tol`: of the times in between.
    """

    nodes: int
    piece: float
    longest: float
    least: float
    least_before: float
    tol: float


def resolution_for(tol: float, patterns: int, dtype, utility: AbstractUtility) -> Resolution:
    """What gives log times to `tol`, measured on random problems."""
    tol = max(tol, 10 * float(jnp.finfo(dtype).eps))
    # The more patterns take part in a hand-over, the nearer its complex singularities.
    nodes = math.ceil(-2 * math.log10(tol) + 2 * math.sqrt(patterns))
    # The x of a leader may change by e^(patterns * piece) within one.
    longest = 0.4 * largest_log(dtype) / patterns
    root = math.sqrt(tol)
    # Another clock may bend the time much more than the path.
    piece = min(12.0 if isinstance(utility, Mean) else 2.0, longest)
    return Resolution(nodes, piece, longest, min(30 * root, 0.1), max(1e-2 * root, 1e-7), tol)


class Rule(NamedTuple):
    """Gauss-Legendre quadrature on [-1, 1], and polynomials through values at its nodes:
    `interpolate` gives their Chebyshev coefficients, `integrate` those of the integral from -1,
    `to_knots` the latter's values at `knots`; `refine` takes values at few `coarse` nodes to all.
    """

    nodes: np.ndarray
    weights: np.ndarray
    interpolate: np.ndarray
    integrate: np.ndarray
    coarse: np.ndarray
    refine: np.ndarray
    knots: np.ndarray
    to_knots: np.ndarray


@functools.cache
def rule_of(size: int) -> Rule:
    """The rule with `size` nodes."""
    chebvander = np.polynomial.chebyshev.chebvander
    nodes, weights = np.polynomial.legendre.leggauss(size)
    # Chebyshev coefficients, since powers of xi would be ill-conditioned at this degree.
    interpolate = np.linalg.inv(chebvander(nodes, size - 1))
    integrate = np.polynomial.chebyshev.chebint(interpolate, lbnd=-1, axis=0)
    few = min(4, size)
    coarse = np.polynomial.chebyshev.chebpts1(few)
    refine = chebvander(nodes, few - 1) @ np.linalg.inv(chebvander(coarse, few - 1))
    knots = np.linspace(-1, 1, 9)[1:]
    to_knots = chebvander(knots, size) @ integrate
    return Rule(nodes, weights, interpolate, integrate, coarse, refine, knots, to_knots)


def log_sinh(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`log sinh x` for x >= 0."""
    # As x + log(1 - e^-2x) - log 2, which neither overflows nor cancels.
    safe = jnp.maximum(x, 1e-290 if x.dtype == jnp.float64 else 1e-36)
    return safe + jnp.log(-jnp.expm1(-2 * safe)) - math.log(2)


def asinh_of_exp(log_ratio: Scalar) -> Scalar:
    """`asinh(exp(log_ratio))`, without overflow."""
    small = jnp.exp(jnp.minimum(log_ratio, 0))
    large = jnp.maximum(log_ratio, 0)
    # log(r + sqrt(r^2 + 1)) with r taken out.
    big = large + jnp.log1p(jnp.sqrt(1 + jnp.exp(-2 * large)))
    return jnp.where(log_ratio < 0, jnp.arcsinh(small), big)


class Place(NamedTuple):
    """A place on an orbit: `exp(log_distance)` before (`side` -1) or after (+1) a cell's origin."""

    cell: Int[Array, ""]
    side: Scalar
    log_distance: Scalar


class Piece(NamedTuple):
    """A stretch of an orbit on one side of a cell's origin, where the distance from it is
    `exp(log_scale) sinh(zeta)` and zeta goes from `start` to `stop`."""

    cell: Int[Array, ""]
    side: Scalar
    log_scale: Scalar
    start: Scalar
    stop: Scalar


class Ahead(NamedTuple):
    """Where the next piece begins; a negative `start` is the far end of a left side."""

    cell: Int[Array, ""]
    side: Scalar
    start: Scalar


def next_piece(
    cells: Cell,
    count: Int[Array, ""],
    ahead: Ahead,
    length: Scalar,
    least: Scalar,
    place: Place | None = None,
) -> tuple[Piece, Ahead, Bool[Array, ""]]:
    """The next piece on the way (without its times), what follows it, and whether it ends at
    `place`. Distances below the share `least` of the whole side are not resolved."""
    index, side, start = ahead
    cell = cell_at(cells, index)
    left = side < 0
    far = jnp.where(left, cell.left, cell.right)
    if place is None:
        last = jnp.asarray(False)
    else:
        last = (index == place.cell) & (side == place.side)
        # On a right side the way begins at the origin: what is skipped there is to be small beside
        # the way to the place, not beside the side.
        far = jnp.where(last & ~left, jnp.exp(place.log_distance), far)
    bounded = jnp.isfinite(far)
    log_far = safe_log(jnp.where(bounded, far, 1))
    # d = e^s sinh zeta, with e^s the width of the layer, or the share of the side that need not be
    # resolved if that is more: so many pieces at most, however thin the layer.
    log_scale = jnp.where(
        bounded, jnp.maximum(cell.log_width, log_far + safe_log(least)), cell.log_width
    )
    far = jnp.where(bounded, asinh_of_exp(log_far - log_scale), jnp.inf)
    end = jnp.where(left, 0, far)
    if place is not None:
        there = asinh_of_exp(place.log_distance - log_scale)
        end = jnp.where(last, there, end)
    # Left sides are walked towards their origin, from a far end whose zeta only this cell knows.
    start = jnp.where(left & (start < 0), far, start)
    stop = jnp.where(left, jnp.maximum(start - length, end), jnp.minimum(start + length, end))
    piece = Piece(index, side, log_scale, start, stop)
    through = (stop == end) & (left | (index < count - 1))
    following = Ahead(
        jnp.where(through & ~left, index + 1, index).astype(jnp.int32),
        jnp.where(through, -side, side),
        jnp.where(through, jnp.where(left, 0, -1), stop),
    )
    return piece, following, last & (stop == end)


def set_out(dtype) -> Ahead:
    return Ahead(jnp.zeros((), jnp.int32), jnp.ones((), dtype), jnp.zeros((), dtype))


class Stretch(NamedTuple):
    """A piece at the nodes of a rule: `rates` dt/dxi for xi in [-1, 1] along it, in units of
    `exp(log_unit)`, and `log_lead`; `side` is seen from the distance whose zeta is `far`."""

    rates: Float[Array, " N"]
    log_lead: Float[Array, " N"]
    log_unit: Scalar
    side: Side
    far: Scalar
    half: Scalar


def ratios_at(zeta: Float[Array, "*N"], far: Scalar) -> tuple[Array, Array]:
    """`sinh zeta / sinh far` and `cosh zeta / e^far`, which overflow nowhere."""
    # Seen from the far end of a piece both are at most of order 1, and tau itself is never formed.
    decay, double = jnp.exp(zeta - far), jnp.expm1(-2 * zeta)
    return decay * double / jnp.expm1(-2 * far), decay * (2 + double) / 2


def along(orbit: Orbit, cells: Cell, piece: Piece, resolution: Resolution) -> Stretch:
    rule = rule_of(resolution.nodes)
    far = jnp.maximum(jnp.maximum(piece.start, piece.stop), 1e-30)
    side = side_of(orbit, cell_at(cells, piece.cell), piece.side, piece.log_scale + log_sinh(far))
    half = (piece.stop - piece.start) / 2

    def ratios(xi):
        return ratios_at(piece.start + half * (1 + jnp.asarray(xi, half.dtype)), far)

    # Few points first, and from these a guess at all the others.
    few = see(side, ratios(rule.coarse)[0], 1e-3).log_lead
    ratio, slope = ratios(rule.nodes)
    seen = see(side, ratio, 0.1 * resolution.tol, jnp.asarray(rule.refine, half.dtype) @ few)
    # dt/dxi = Z e^s cosh(zeta) dzeta/dxi; on a left side zeta falls while time passes.
    rates = seen.speed(orbit) * slope * half * piece.side
    # The units that were taken out: e^s and e^far of the distance, e^-w~ of Z (E5).
    unit = piece.log_scale + far - side.log_lead
    return Stretch(rates, seen.log_lead, unit, side, far, half)


def _taken(
    orbit: Orbit, cells: Cell, piece: Piece, resolution: Resolution
) -> tuple[Scalar, Scalar]:
    """The time that a piece takes, and the logarithm of its unit."""
    stretch = along(orbit, cells, piece, resolution)
    weights = jnp.asarray(rule_of(resolution.nodes).weights, stretch.rates.dtype)
    amount = jnp.sum(stretch.rates * weights)
    return amount, stretch.log_unit


def log_time_to(
    orbit: Orbit, cells: Cell, place: Place, resolution: Resolution, wanted: Bool[Array, ""]
) -> Scalar:
    """The logarithm of the time at a place, by quadrature."""

    # Times of pieces may differ by thousands of decades: they are added as logarithms.
    def advance(log_time, piece):
        amount, log_unit = _taken(orbit, cells, piece, resolution)
        return jnp.logaddexp(log_time, safe_log(amount) + log_unit)

    nothing = jnp.full((), -jnp.inf, orbit.log_start.dtype)
    return _all_the_way(cells, place, resolution, advance, nothing, wanted)


def _all_the_way(
    cells: Cell,
    place: Place,
    resolution: Resolution,
    advance: Callable[[Any, Piece], Any],
    total: Any,
    wanted: Bool[Array, ""],
) -> Any:
    """`total = advance(total, piece)` for all pieces on the way to a place."""
    dtype = place.log_distance.dtype
    length, least = (jnp.asarray(x, dtype) for x in (resolution.piece, resolution.least))

    def step(carry):
        total, ahead, _, pieces = carry
        piece, ahead, done = next_piece(cells, place.cell + 1, ahead, length, least, place)
        return advance(total, piece), ahead, done, pieces + 1

    total, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < _MOST_PIECES),
        step,
        (total, set_out(dtype), ~wanted, 0),
    )
    return total


@eqx.filter_custom_jvp
def log_time_at(
    orbit: Orbit, place: Place, cells: Cell, known: Scalar, *, resolution: Resolution
) -> Scalar:
    """The logarithm of the time at a place of an orbit, which is `known`; differentiable in the
    orbit and the place's distance, twice."""
    return known


@log_time_at.def_jvp
def _log_time_at_jvp(primals, tangents, *, resolution):
    orbit, place, cells, known = primals
    d_orbit, d_place, _, _ = tangents
    log_time = log_time_at(orbit, place, cells, known, resolution=resolution)
    # The second of (E7), with tau held.
    slopes = jtu.tree_leaves(_sensitivity(orbit, place, cells, log_time, resolution))
    tangents = _of_inexact(orbit, d_orbit)
    change = jnp.zeros_like(known)
    for slope, tangent in zip(slopes, tangents, strict=True):
        if tangent is not None:
            change = change + jnp.sum(slope * tangent)
    if d_place.log_distance is not None:
        cell = cell_at(cells, place.cell)
        # The first of (E7); its sign is that of the side.
        state = state_at(orbit, cell, place.side, place.log_distance)
        rate = place.side * jnp.exp(state.log_speed + place.log_distance - log_time)
        change = change + rate * d_place.log_distance
    return log_time, change


def _of_inexact(orbit: Orbit, tangents: Orbit) -> list[Array | None]:
    """The tangents (None: 0) of an orbit's inexact leaves."""
    leaves, structure = jtu.tree_flatten(orbit)
    pairs = zip(leaves, structure.flatten_up_to(tangents), strict=True)  # pyright: ignore
    return [tangent for leaf, tangent in pairs if eqx.is_inexact_array(leaf)]


def _sensitivity(
    orbit: Orbit, place: Place, cells: Cell, log_time: Scalar, resolution: Resolution
) -> Orbit:
    """The gradient of the log time at a place whose tau is held, for each inexact leaf."""
    # (E9) from the same pieces and nodes as the time, in reverse mode piece by piece: memory for
    # one of them, however long the way.
    moving, fixed = eqx.partition(orbit, eqx.is_inexact_array)

    def advance(total, piece):
        def share(moving):
            amount, log_unit = _taken(eqx.combine(moving, fixed), cells, piece, resolution)
            # Relative to the whole time: a derivative of log t, of a size that can be kept.
            return amount * jnp.exp(log_unit - log_time)

        return jtu.tree_map(jnp.add, total, jax.grad(share)(moving))

    nothing = jtu.tree_map(jnp.zeros_like, moving)
    wanted = jnp.isfinite(log_time)
    return _all_the_way(cells, place, resolution, advance, nothing, wanted)


def implicit(place: Place, residual: Callable[[Place], Scalar], wanted: Bool[Array, ""]) -> Place:
    """A place at which `residual` is 0 already, with the derivatives that keep it so."""
    distance = implicit_root(
        lambda x: residual(place._replace(log_distance=x)), place.log_distance, wanted
    )
    return place._replace(log_distance=distance)
