"""Times along an orbit: quadrature piece by piece, and the places of events and of times."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._orbit import (
    Cell,
    Orbit,
    Side,
    State,
    cell_at,
    largest_log,
    safe_log,
    see,
    side_of,
    state_at,
)

_Scalar = Float[Array, ""]

# Where an event is looked for: shares of a side's depth, denser towards its far end, where the
# times are; and the depth looked at in one go where a side has no end.
_SAMPLES = tuple(1 - (1 - np.linspace(0, 1, 17)[1:]) ** 2)
_REACH = 16.0
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


def resolution_for(tol: float, patterns: int, dtype) -> Resolution:
    """What gives log times to `tol`, measured on random problems."""
    tol = max(tol, 10 * float(jnp.finfo(dtype).eps))
    # The more patterns take part in a hand-over, the nearer its complex singularities.
    nodes = math.ceil(-1.2 * math.log10(tol) + 3 * math.sqrt(patterns))
    # The x of a leader may change by e^(patterns * piece) within one.
    longest = 0.4 * largest_log(dtype) / patterns
    root = math.sqrt(tol)
    return Resolution(
        nodes, min(3.0, longest), longest, min(10 * root, 0.1), max(1e-2 * root, 1e-7), tol
    )


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
    interpolate = np.linalg.inv(chebvander(nodes, size - 1))
    integrate = np.polynomial.chebyshev.chebint(interpolate, lbnd=-1, axis=0)
    few = min(4, size)
    coarse = np.polynomial.chebyshev.chebpts1(few)
    refine = chebvander(nodes, few - 1) @ np.linalg.inv(chebvander(coarse, few - 1))
    knots = np.linspace(-1, 1, 9)[1:]
    to_knots = chebvander(knots, size) @ integrate
    return Rule(nodes, weights, interpolate, integrate, coarse, refine, knots, to_knots)


def _series(coefs: Float[Array, " N"], x: Float[Array, "*W"]) -> Float[Array, "*W"]:
    """A Chebyshev series at x."""
    this, before = jnp.zeros_like(x), jnp.zeros_like(x)
    for i in range(coefs.shape[0] - 1, 0, -1):
        this, before = coefs[i] + 2 * x * this - before, this
    return coefs[0] + x * this - before


def log_sinh(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`log sinh x` for x >= 0."""
    safe = jnp.maximum(x, 1e-290 if x.dtype == jnp.float64 else 1e-36)
    return safe + jnp.log(-jnp.expm1(-2 * safe)) - math.log(2)


def asinh_of_exp(log_ratio: _Scalar) -> _Scalar:
    """`asinh(exp(log_ratio))`, without overflow."""
    small = jnp.exp(jnp.minimum(log_ratio, 0))
    large = jnp.maximum(log_ratio, 0)
    big = large + jnp.log1p(jnp.sqrt(1 + jnp.exp(-2 * large)))
    return jnp.where(log_ratio < 0, jnp.arcsinh(small), big)


class Place(NamedTuple):
    """A place on an orbit: `exp(log_distance)` before (`side` -1) or after (+1) a cell's origin."""

    cell: Int[Array, ""]
    side: _Scalar
    log_distance: _Scalar


class Piece(NamedTuple):
    """A stretch of an orbit on one side of a cell's origin, where the distance from it is
    `exp(log_scale) sinh(zeta)` and zeta goes from `start` to `stop`."""

    cell: Int[Array, ""]
    side: _Scalar
    log_scale: _Scalar
    start: _Scalar
    stop: _Scalar


class _Ahead(NamedTuple):
    """Where the next piece begins; a negative `start` is the far end of a left side."""

    cell: Int[Array, ""]
    side: _Scalar
    start: _Scalar


def _next_piece(
    cells: Cell,
    count: Int[Array, ""],
    ahead: _Ahead,
    length: _Scalar,
    least: _Scalar,
    place: Place | None = None,
) -> tuple[Piece, _Ahead, Bool[Array, ""]]:
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
        far = jnp.where(last & ~left, jnp.exp(place.log_distance), far)
    bounded = jnp.isfinite(far)
    log_far = safe_log(jnp.where(bounded, far, 1))
    log_scale = jnp.where(
        bounded, jnp.maximum(cell.log_width, log_far + safe_log(least)), cell.log_width
    )
    far = jnp.where(bounded, asinh_of_exp(log_far - log_scale), jnp.inf)
    end = jnp.where(left, 0, far)
    if place is not None:
        there = asinh_of_exp(place.log_distance - log_scale)
        end = jnp.where(last, there, end)
    start = jnp.where(left & (start < 0), far, start)
    stop = jnp.where(left, jnp.maximum(start - length, end), jnp.minimum(start + length, end))
    piece = Piece(index, side, log_scale, start, stop)
    through = (stop == end) & (left | (index < count - 1))
    following = _Ahead(
        jnp.where(through & ~left, index + 1, index).astype(jnp.int32),
        jnp.where(through, -side, side),
        jnp.where(through, jnp.where(left, 0, -1), stop),
    )
    return piece, following, last & (stop == end)


def _set_out(dtype) -> _Ahead:
    return _Ahead(jnp.zeros((), jnp.int32), jnp.ones((), dtype), jnp.zeros((), dtype))


class _Stretch(NamedTuple):
    """A piece at the nodes of a rule: `rates` dt/dxi for xi in [-1, 1] along it, in units of
    `exp(log_unit)`, and `log_lead`; `side` is seen from the distance whose zeta is `far`."""

    rates: Float[Array, " N"]
    log_lead: Float[Array, " N"]
    log_unit: _Scalar
    side: Side
    far: _Scalar
    half: _Scalar


def _ratios(zeta: Float[Array, "*N"], far: _Scalar) -> tuple[Array, Array]:
    """`sinh zeta / sinh far` and `cosh zeta / e^far`, which overflow nowhere."""
    decay, double = jnp.exp(zeta - far), jnp.expm1(-2 * zeta)
    return decay * double / jnp.expm1(-2 * far), decay * (2 + double) / 2


def _along(orbit: Orbit, cells: Cell, piece: Piece, resolution: Resolution) -> _Stretch:
    rule = rule_of(resolution.nodes)
    far = jnp.maximum(jnp.maximum(piece.start, piece.stop), 1e-30)
    side = side_of(orbit, cell_at(cells, piece.cell), piece.side, piece.log_scale + log_sinh(far))
    half = (piece.stop - piece.start) / 2

    def ratios(xi):
        return _ratios(piece.start + half * (1 + jnp.asarray(xi, half.dtype)), far)

    # Few points first, and from these a guess at all the others.
    few = see(side, ratios(rule.coarse)[0], 1e-3).log_lead
    ratio, slope = ratios(rule.nodes)
    seen = see(side, ratio, 0.1 * resolution.tol, jnp.asarray(rule.refine, half.dtype) @ few)
    rates = seen.speed * slope * half * piece.side
    unit = piece.log_scale + far - side.log_lead
    return _Stretch(rates, seen.log_lead, unit, side, far, half)


def _taken(
    orbit: Orbit, cells: Cell, piece: Piece, resolution: Resolution
) -> tuple[_Scalar, _Scalar]:
    """The time that a piece takes, and the logarithm of its unit."""
    stretch = _along(orbit, cells, piece, resolution)
    weights = jnp.asarray(rule_of(resolution.nodes).weights, stretch.rates.dtype)
    amount = jnp.sum(stretch.rates * weights)
    return amount, stretch.log_unit


def log_time_to(
    orbit: Orbit, cells: Cell, place: Place, resolution: Resolution, wanted: Bool[Array, ""]
) -> _Scalar:
    """The logarithm of the time at a place, by quadrature."""
    dtype = orbit.log_start.dtype
    length, least = (jnp.asarray(x, dtype) for x in (resolution.piece, resolution.least))
    count = place.cell + 1

    def advance(carry):
        log_time, ahead, _, pieces = carry
        piece, ahead, done = _next_piece(cells, count, ahead, length, least, place)
        amount, log_unit = _taken(orbit, cells, piece, resolution)
        log_time = jnp.logaddexp(log_time, safe_log(amount) + log_unit)
        return log_time, ahead, done, pieces + 1

    nothing = jnp.full((), -jnp.inf, dtype)
    log_time, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < _MOST_PIECES),
        advance,
        (nothing, _set_out(dtype), ~wanted, 0),
    )
    return log_time


class Rows(NamedTuple):
    """The orbit at log times: where, `log_x` (T, K), whether it gets there (T,), and the number of
    pieces looked at."""

    place: Place
    log_x: Float[Array, "T K"]
    reached: Bool[Array, " T"]
    pieces: Int[Array, ""]


# So many times are looked for on one piece.
_WINDOW = 8


class _Search(NamedTuple):
    ahead: _Ahead
    log_time: _Scalar
    length: _Scalar
    row: Int[Array, ""]
    pieces: Int[Array, ""]
    near: Bool[Array, ""]
    place: Place
    log_x: Float[Array, "T K"]


def rows_at(
    orbit: Orbit,
    cells: Cell,
    count: Int[Array, ""],
    resolution: Resolution,
    log_times: Float[Array, " T"],
    most: int,
    wanted: Bool[Array, ""],
) -> Rows:
    """The orbit at log times that ascend, on one walk along it."""
    dtype, rule = orbit.log_start.dtype, rule_of(resolution.nodes)
    number, patterns = log_times.shape[0], orbit.log_start.shape[0]
    window = min(_WINDOW, number)
    largest = largest_log(dtype)
    targets = jnp.append(jnp.maximum(log_times, -largest), jnp.full(window, jnp.inf, dtype))
    zero = jnp.zeros((), dtype)
    spread = jnp.max(jnp.where(orbit.exists, orbit.rewards, -jnp.inf))
    spread = safe_log(spread - jnp.min(jnp.where(orbit.exists, orbit.rewards, jnp.inf)))

    def go_on(search: _Search):
        return (search.row < number) & (search.pieces < most) & search.near

    def advance(search: _Search):
        ahead, log_time = search.ahead, search.log_time
        # After a hand-over a time may lie at any distance; shortly before one, distances that
        # small are lost in the time that has passed.
        least = jnp.where(ahead.side < 0, zero + resolution.least_before, 0)
        piece, following, _ = _next_piece(cells, count, ahead, search.length, least)
        stretch = _along(orbit, cells, piece, resolution)
        integral = jnp.asarray(rule.integrate, dtype) @ stretch.rates
        ends = jnp.logaddexp(log_time, safe_log(jnp.sum(integral)) + stretch.log_unit)
        # What the highest terms of the series amount to, beside what matters of a time.
        error = jnp.max(jnp.abs(integral[-2:]))
        scale = jnp.maximum(log_time, -spread) - stretch.log_unit
        allowed = resolution.tol * jnp.exp(jnp.clip(scale, -largest, largest))
        factor = 0.9 * (allowed / jnp.maximum(error, jnp.finfo(dtype).tiny)) ** (
            1 / resolution.nodes
        )
        sound = (error <= allowed) | (search.length < 0.02)
        wanted = jax.lax.dynamic_slice_in_dim(targets, search.row, window)
        inside = sound & (wanted <= ends)
        xi = _when(stretch, integral, resolution, log_time, wanted, inside)
        zeta = piece.start + stretch.half * (1 + xi)
        guess = _series(jnp.asarray(rule.interpolate, dtype) @ stretch.log_lead, xi)
        ratio, _ = _ratios(zeta, stretch.far)
        seen = see(stretch.side, ratio, 0.1 * resolution.tol, guess)
        log_x = stretch.side.log_unit[:, None] + jnp.log(seen.x)
        found = jnp.sum(inside)
        full = found == window
        place = Place(
            jnp.broadcast_to(piece.cell, (window,)),
            jnp.broadcast_to(piece.side, (window,)),
            piece.log_scale + log_sinh(zeta),
        )
        # Where the window is full, more times may lie on the rest of the piece.
        ahead = _chosen(~sound, ahead, _chosen(full, ahead._replace(start=zeta[-1]), following))
        log_time = jnp.where(~sound, log_time, jnp.where(full, wanted[-1], ends))
        used = 2 * jnp.abs(stretch.half) * jnp.clip(factor, 0.3, 8)
        # A piece that ends early, with its side, says little.
        length = jnp.where(sound, jnp.maximum(used, jnp.minimum(search.length, 2)), used)
        length = jnp.minimum(length, resolution.longest)
        near = piece.log_scale + ahead.start < largest

        def kept(rows, new):
            return jax.lax.dynamic_update_slice_in_dim(rows, new, search.row, 0)

        return _Search(
            ahead,
            log_time,
            length,
            search.row + found,
            search.pieces + 1,
            near,
            jtu.tree_map(kept, search.place, place),
            kept(search.log_x, log_x.T),
        )

    nowhere = jnp.zeros(number + window, dtype)
    rows = Place(jnp.zeros(number + window, jnp.int32), nowhere + 1, nowhere)
    states = jnp.zeros((number + window, patterns), dtype)
    start = _Search(
        _set_out(dtype),
        zero - jnp.inf,
        zero + resolution.piece,
        jnp.where(wanted, 0, number),
        jnp.zeros((), jnp.int32),
        jnp.asarray(True),
        rows,
        states,
    )
    search = jax.lax.while_loop(go_on, advance, start)
    reached = wanted & (jnp.arange(number) < search.row)
    place = jtu.tree_map(lambda x: x[:number], search.place)
    return Rows(place, search.log_x[:number], reached, search.pieces)


def _chosen(which, this, other):
    return jtu.tree_map(lambda x, y: jnp.where(which, x, y), this, other)


def _when(
    stretch: _Stretch,
    integral: Array,
    resolution: Resolution,
    log_time: _Scalar,
    log_times: Float[Array, " W"],
    inside: Bool[Array, " W"],
) -> Float[Array, " W"]:
    """The xi of log times on a stretch that begins at `log_time`; its end for others."""
    dtype = log_times.dtype
    rates = jnp.asarray(rule_of(resolution.nodes).interpolate, dtype) @ stretch.rates
    before = jnp.exp(jnp.minimum(log_time - stretch.log_unit, largest_log(dtype)))
    wanted = log_times - stretch.log_unit
    precise = 0.1 * max(0.1 * resolution.tol, float(jnp.finfo(dtype).eps)) ** 0.5

    def improve(carry):
        xi, low, high, _, steps = carry
        passed = before + _series(integral, xi)
        late = jnp.log(jnp.maximum(passed, jnp.finfo(dtype).tiny)) - wanted
        low, high = jnp.where(late < 0, xi, low), jnp.where(late < 0, high, xi)
        step = late * passed / _series(rates, xi)
        new = xi - step
        within = (new >= low) & (new <= high)
        # At the very start time grows in proportion.
        nearer = (1 + xi) * jnp.exp(-step / (1 + xi)) - 1
        nearer = jnp.where((nearer > low) & (nearer < high), nearer, (low + high) / 2)
        new = jnp.where(within, new, nearer)
        arrived = (within & (jnp.abs(new - xi) <= precise)) | (high - low <= precise)
        return new, low, high, jnp.any(inside & ~arrived), steps + 1

    one = jnp.ones_like(log_times)
    # Between knots log time is about linear in xi; before the first of them, time itself.
    rule = rule_of(resolution.nodes)
    ends = jnp.log(before + jnp.asarray(rule.to_knots, dtype) @ stretch.rates)
    start = float(rule.knots[0] + 1) * jnp.exp(jnp.minimum(wanted - ends[0], 0)) - 1
    for i, width in enumerate(np.diff(rule.knots).tolist()):
        share = (wanted - ends[i]) / (ends[i + 1] - ends[i])
        start = start + width * jnp.clip(share, 0, 1)
    xi, *_ = jax.lax.while_loop(
        lambda carry: carry[3] & (carry[4] < 60), improve, (start, -one, one, jnp.any(inside), 0)
    )
    return jnp.where(inside, xi, 1)


class Bracket(NamedTuple):
    """Two places on one side of a cell, by their depth, between which an event happens (if
    `happens`). Depth is the asinh of the distance over the width of the layer."""

    cell: Int[Array, ""]
    side: _Scalar
    low: _Scalar
    high: _Scalar
    happens: Bool[Array, ""]


def find_event(
    orbit: Orbit,
    cells: Cell,
    count: Int[Array, ""],
    event: Callable[[State], _Scalar],
    wanted: Bool[Array, ""],
    lasts: bool,
) -> Bracket:
    """Where on an orbit `event` first crosses 0 from below, by samples on both sides of cells (one
    each if it `lasts`)."""
    dtype = orbit.log_start.dtype
    share = jnp.asarray(_SAMPLES[-1:] if lasts else _SAMPLES, dtype)
    zero = jnp.zeros((), dtype)

    def advance(carry):
        _, ahead = carry
        index, side, start = ahead
        cell = cell_at(cells, index)
        left = side < 0
        far = jnp.where(left, cell.left, cell.right)
        bounded = jnp.isfinite(far)
        depth = asinh_of_exp(safe_log(jnp.where(bounded, far, 1)) - cell.log_width)
        end = jnp.where(left, 0, jnp.where(bounded, depth, start + _REACH))
        start = jnp.where(left, depth, start)
        depths = start + (end - start) * share
        happened = jax.vmap(
            lambda depth: event(state_at(orbit, cell, side, cell.log_width + log_sinh(depth))) > 0
        )(depths)
        position = jnp.argmax(happened)
        low = jnp.where(position > 0, depths[position - 1], start)
        bracket = Bracket(index, side, low, depths[position], jnp.any(happened))
        through = left | bounded
        ahead = _Ahead(
            jnp.where(through & ~left, index + 1, index).astype(jnp.int32),
            jnp.where(through, -side, side),
            jnp.where(through, zero, end),
        )
        return bracket, ahead

    def go_on(carry):
        bracket, ahead = carry
        cell = cell_at(cells, ahead.cell)
        return ~bracket.happens & (cell.log_width + ahead.start < largest_log(dtype))

    first = Bracket(jnp.zeros((), jnp.int32), zero + 1, zero, zero, ~wanted)
    bracket, _ = jax.lax.while_loop(go_on, advance, (first, _set_out(dtype)))
    return bracket._replace(happens=bracket.happens & wanted)


def _bisected_newton(look, low, high, wanted):
    """A root of an increasing function between `low` and `high`; `look(x)` is value and slope."""
    # Of second order: the step after one below this is below rounding.
    small = 0.1 * float(jnp.finfo(low.dtype).eps) ** 0.5

    def improve(carry):
        x, low, high, _, count = carry
        value, slope = look(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        newton = x - value / slope
        inside = (newton >= low) & (newton <= high)
        new = jnp.where(inside, newton, low + (high - low) / 2)
        arrived = (inside & (jnp.abs(new - x) <= small * (1 + jnp.abs(x)))) | (new == x)
        return new, low, high, arrived, count + 1

    start = (low + high) / 2
    x, *_ = jax.lax.while_loop(
        lambda carry: ~carry[3] & (carry[4] < 100), improve, (start, low, high, ~wanted, 0)
    )
    return x


def place_of_event(
    orbit: Orbit, cells: Cell, bracket: Bracket, event: Callable[[State], _Scalar]
) -> Place:
    """The place within a bracket where an event's value crosses 0."""
    cell = cell_at(cells, bracket.cell)

    def distance(depth):
        return cell.log_width + log_sinh(jnp.abs(depth))

    def look(depth):
        return jax.jvp(
            lambda depth: event(state_at(orbit, cell, bracket.side, distance(depth))),
            (depth,),
            (jnp.ones_like(depth),),
        )

    low, high = bracket.side * bracket.low, bracket.side * bracket.high
    depth = _bisected_newton(look, low, high, bracket.happens)
    return Place(bracket.cell, bracket.side, distance(depth))


@eqx.filter_custom_jvp
def log_time_at(
    orbit: Orbit, place: Place, cells: Cell, known: _Scalar, *, resolution: Resolution
) -> _Scalar:
    """The logarithm of the time at a place of an orbit, which is `known`; differentiable in the
    orbit and the place's distance, twice."""
    return known


@log_time_at.def_jvp
def _log_time_at_jvp(primals, tangents, *, resolution):
    orbit, place, cells, known = primals
    d_orbit, d_place, _, _ = tangents
    log_time = log_time_at(orbit, place, cells, known, resolution=resolution)
    gradient = _sensitivity(orbit, place, cells, log_time, resolution)
    change = jnp.zeros_like(known)
    for slope, tangent in (
        (gradient.log_start, d_orbit.log_start),
        (gradient.rewards, d_orbit.rewards),
    ):
        if tangent is not None:
            change = change + jnp.sum(slope * tangent)
    if d_place.log_distance is not None:
        cell = cell_at(cells, place.cell)
        state = state_at(orbit, cell, place.side, place.log_distance)
        rate = place.side * jnp.exp(state.log_speed + place.log_distance - log_time)
        change = change + rate * d_place.log_distance
    return log_time, change


def _sensitivity(
    orbit: Orbit, place: Place, cells: Cell, log_time: _Scalar, resolution: Resolution
) -> Orbit:
    """The gradient of the log time at a place whose tau is held."""
    dtype = log_time.dtype
    length, least = (jnp.asarray(x, dtype) for x in (resolution.piece, resolution.least))

    def advance(carry):
        (by_start, by_rewards), ahead, _, pieces = carry
        piece, ahead, done = _next_piece(cells, place.cell + 1, ahead, length, least, place)

        def share(log_start, rewards):
            live = eqx.tree_at(lambda o: (o.log_start, o.rewards), orbit, (log_start, rewards))
            amount, log_unit = _taken(live, cells, piece, resolution)
            return amount * jnp.exp(log_unit - log_time)

        more = jax.grad(share, (0, 1))(orbit.log_start, orbit.rewards)
        return (by_start + more[0], by_rewards + more[1]), ahead, done, pieces + 1

    nothing = jnp.zeros_like(orbit.log_start)
    start = (nothing, nothing), _set_out(log_time.dtype), ~jnp.isfinite(log_time), 0
    total, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < _MOST_PIECES), advance, start
    )
    return eqx.tree_at(lambda o: (o.log_start, o.rewards), orbit, total)


@eqx.filter_custom_jvp
def states_at(
    orbit: Orbit,
    log_times: Float[Array, " T"],
    cells: Cell,
    count: Int[Array, ""],
    wanted: Bool[Array, ""],
    *,
    resolution: Resolution,
    most: int,
) -> Rows:
    """`rows_at`, its `log_x` differentiable in the orbit and the times, twice."""
    return rows_at(orbit, cells, count, resolution, log_times, most, wanted)


@states_at.def_jvp
def _states_at_jvp(primals, tangents, *, resolution, most):
    orbit, log_times, cells, *_ = primals
    d_orbit, d_log_times, *_ = tangents
    rows = states_at(*primals, resolution=resolution, most=most)
    places, known = jax.lax.stop_gradient((rows.place, log_times))

    def moved(orbit, log_times):
        def one(place, reached, known, log_time):
            known = jnp.where(reached, known, 0)

            def late(place):
                passed = log_time_at(orbit, place, cells, known, resolution=resolution)
                return jnp.where(reached, passed - log_time, 0)

            place = implicit(place, late, reached)
            cell = cell_at(cells, place.cell)
            return state_at(orbit, cell, place.side, place.log_distance).log_x

        return jax.vmap(one)(places, rows.reached, known, log_times)

    _, change = eqx.filter_jvp(moved, (orbit, log_times), (d_orbit, d_log_times))
    change = jnp.where(rows.reached[:, None], change, 0)
    nothing = jtu.tree_map(jnp.zeros_like, eqx.filter(rows, eqx.is_inexact_array))
    return rows, nothing._replace(log_x=change)


def implicit(place: Place, residual: Callable[[Place], _Scalar], wanted: Bool[Array, ""]) -> Place:
    """A place at which `residual` is 0 already, with the derivatives that keep it so."""

    def invert(linear, change):
        slope = linear(jnp.ones_like(change))
        usable = wanted & (slope != 0) & jnp.isfinite(slope)
        return jnp.where(usable, change / jnp.where(usable, slope, 1), 0)

    distance = jax.lax.custom_root(
        lambda x: residual(place._replace(log_distance=x)),
        place.log_distance,
        lambda _, x: x,
        invert,
    )
    return place._replace(log_distance=distance)
