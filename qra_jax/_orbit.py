r"""The orbit of a flow with constant pattern rewards: one root and one integral.

With $x_i = e^{-\theta_i}$ and $d\tau = dt / \sum_i 1/x_i$ the flow $\dot\theta_i = \pi_i (R_i - V)$
is $x_i(\tau) = x_i(0) - R_i \tau + c(\tau)$, $\prod_i x_i$ constant. Everything here is for one
question. Source: derived in docs.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_Scalar = Float[Array, ""]
_Patterns = Float[Array, " K"]


class Orbit(eqx.Module):
    """`log_start`: logarithms of x(0), in units of the largest; 0 where there is no pattern."""

    log_start: _Patterns
    rewards: _Patterns
    exists: Bool[Array, " K"]
    log_unit: _Scalar

    def __init__(self, logits: _Patterns, rewards: _Patterns, exists: Bool[Array, " K"]):
        finite = jnp.where(exists, logits, 0)
        unit = jax.lax.stop_gradient(jnp.max(jnp.where(exists, -finite, -jnp.inf)))
        self.log_unit = unit
        self.log_start = jnp.where(exists, -finite - unit, 0)
        self.rewards = jnp.where(exists, rewards, 0)
        self.exists = exists

    @property
    def log_product(self) -> _Scalar:
        return jnp.sum(self.log_start)

    @property
    def start(self) -> _Patterns:
        return jnp.where(self.exists, jnp.exp(self.log_start), jnp.inf)

    @property
    def moves(self) -> Bool[Array, ""]:
        """Whether there are two different rewards."""
        low = jnp.min(jnp.where(self.exists, self.rewards, jnp.inf))
        return jnp.any(self.exists & (self.rewards > low))

    def logits(self, state: "State") -> Float[Array, "K *N"]:
        """The logits of a state, in the shift of those given."""
        there = _spread(self.exists, state.log_x)
        return jnp.where(there, -state.log_x - self.log_unit, -jnp.inf)


class Cell(NamedTuple):
    """The surroundings of one hand-over: `origin` is the tau at which the line of pattern `after`
    overtakes that of `before`; it reaches `left` to the middle of the panel before it, and `right`
    to that of the one after. `log_width`: of the layer in which the hand-over happens."""

    origin: _Scalar
    before: Int[Array, ""]
    after: Int[Array, ""]
    left: _Scalar
    right: _Scalar
    log_width: _Scalar


def cells_of(orbit: Orbit) -> tuple[Cell, Int[Array, ""]]:
    """The cells of an orbit (leading axis K, the first at tau = 0), and their number.

    The pattern that leads (has the smallest x) is, outside of the layers, the one on the upper
    envelope of the lines `R_i tau - x_i(0)`.
    """
    orbit = jax.lax.stop_gradient(orbit)
    start, rewards = orbit.start, orbit.rewards
    indices = jnp.arange(start.shape[0])

    def step(carry, _):
        origin, before, after, left, alive = carry
        gap = _gaps_at(orbit, origin, before, after, after)
        rise = rewards - rewards[after]
        overtakes = orbit.exists & (rise > 0)
        length = jnp.where(overtakes, gap / jnp.where(overtakes, rise, 1), jnp.inf)
        shortest = jnp.min(length)
        following = jnp.argmax(jnp.where(length == shortest, rewards, -jnp.inf))
        log_lead = solve_lead(_log(gap), jnp.zeros_like(gap), orbit.log_product, orbit.exists)
        spread = jnp.max(jnp.where(orbit.exists, jnp.abs(rise), 0))
        slope = jnp.where(before == after, spread, jnp.abs(rise[before]))
        cell = Cell(origin, before, after, left, shortest / 2, log_lead - _log(slope))
        onwards = alive & jnp.any(overtakes)
        return (
            origin + jnp.where(onwards, shortest, 0),
            after,
            following,
            shortest / 2,
            onwards,
        ), (cell, alive)

    first = jnp.min(start)
    leader = jnp.argmax(jnp.where(start == first, rewards, -jnp.inf))
    zero = jnp.zeros_like(first)
    _, (cells, alive) = jax.lax.scan(step, (zero, leader, leader, zero, jnp.asarray(True)), indices)
    return cells, jnp.sum(alive)


def _log(x: Array) -> Array:
    """`log x`, `-inf` with derivative 0 at 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)


def _gaps_at(orbit: Orbit, origin, before, after, lead) -> _Patterns:
    """`x_i` less that of `lead` at a hand-over; exactly 0 for the two patterns that meet there."""
    start, rewards = orbit.start, orbit.rewards
    gap = (start - start[lead]) - (rewards - rewards[lead]) * origin
    index = jnp.arange(gap.shape[0])
    # The leader's own is 0 whatever the orbit: in reverse its 1 / x would swamp the others.
    gap = jnp.where(orbit.exists & (index != lead), gap, 0)
    meets = (index == before) | (index == after) | (gap < 0)
    return jnp.where(meets, gap - jax.lax.stop_gradient(gap), gap)


def _two_body(log_gap, total):
    """`w` with `w + logaddexp(w, log_gap) = total`."""
    s = total - 2 * jnp.where(log_gap > -jnp.inf, log_gap, 0)
    low = -jnp.log((1 + jnp.sqrt(1 + 4 * jnp.exp(jnp.minimum(s, 0)))) / 2)
    high = -jnp.log(
        (jnp.exp(-jnp.maximum(s, 0) / 2) + jnp.sqrt(jnp.exp(-jnp.maximum(s, 0)) + 4)) / 2
    )
    w = total - log_gap + jnp.where(s > 0, high - s / 2, low)
    return jnp.where(log_gap > -jnp.inf, w, total / 2)


def _spread(exists: Bool[Array, " K"], like: Float[Array, "K *N"]) -> Bool[Array, "K ..."]:
    return exists.reshape(exists.shape + (1,) * (like.ndim - 1))


# Patterns that are worked on one by one, not as an axis: reductions over a short axis are slow.
_TOGETHER = 8


def _in_groups(x: Array, fill) -> list[Array]:
    """At most 8 arrays `(G, *N)` out of one `(K, *N)`."""
    count = min(x.shape[0], _TOGETHER)
    groups = -(-x.shape[0] // count)
    padding = [(0, groups * count - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    x = jnp.pad(x, padding, constant_values=fill).reshape(groups, count, *x.shape[1:])
    return [x[:, i] for i in range(count)]


def _added(terms: list[Array]) -> Array:
    return jnp.sum(functools.reduce(jnp.add, terms), axis=0)


def _two_smallest(rows: list[Array]) -> tuple[Array, Array]:
    first, second = rows[0], jnp.full_like(rows[0], jnp.inf)
    for row in rows[1:]:
        second = jnp.minimum(second, jnp.maximum(first, row))
        first = jnp.minimum(first, row)
    if first.shape[0] == 1:
        return first[0], second[0]
    both = jnp.sort(jnp.concatenate([first, second]), axis=0)
    return both[0], both[1]


@jax.custom_jvp
def solve_lead(
    log_gap: Float[Array, "K *N"],
    offset: Float[Array, "K *N"],
    total: _Scalar,
    exists: Bool[Array, " K"],
) -> Float[Array, "*N"]:
    """The logarithm w of the smallest x: `sum_i log(e^w + gap_i) = total`.

    Newton's iteration on an increasing convex function, from above its root. `offset` is 0, and
    carries the derivatives of gaps that are 0.
    """
    rows = _in_groups(jnp.where(_spread(exists, log_gap), log_gap, jnp.inf), jnp.inf)
    number = jnp.sum(exists).astype(total.dtype)

    def finite(x):
        return jnp.where(jnp.isfinite(x), x, 0)

    # Bounds from above: x_i >= e^w for all i, or x_i >= gap_i for all but the two smallest.
    first, second = _two_smallest(rows)
    rest = _added([finite(row) for row in rows]) - finite(first) - finite(second)
    alone = number == 1
    two = _two_body(jnp.where(alone, 0, second), total - rest)
    bound = jnp.minimum(total / number, two)
    # A gap that is nothing beside e^w is none.
    apart = [(bound[None] - row < _NEGLIGIBLE) & (row < jnp.inf) for row in rows]
    level = [
        jnp.where(ok, jnp.exp(bound[None] - row), 0) for ok, row in zip(apart, rows, strict=True)
    ]
    known = _added([jnp.where(ok, row, 0) for ok, row in zip(apart, rows, strict=True)])
    tied = number - _added([ok.astype(total.dtype) for ok in apart])
    wanted = total - tied * bound - known
    tolerance = 4 * float(jnp.finfo(total.dtype).eps)

    def improve(carry):
        change, _, steps = carry
        scale = jnp.exp(change)[None]
        factors = [1 + b * scale for b in level]
        # One logarithm for up to 8 factors, each below e^70.
        product = jnp.sum(jnp.log(functools.reduce(jnp.multiply, factors)), axis=0)
        slope = tied + _added([b * scale / f for b, f in zip(level, factors, strict=True)])
        step = (tied * change + product - wanted) / slope
        go_on = jnp.any(jnp.abs(step) > tolerance * (1 + jnp.abs(bound)))
        return change - step, go_on, steps + 1

    change, _, _ = jax.lax.while_loop(
        lambda carry: carry[1] & (carry[2] < 60),
        improve,
        (jnp.zeros_like(bound), jnp.asarray(True), 0),
    )
    return jnp.where(alone, total, bound + change)


def _inverse(log_x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`1 / x`, finite: in a layer narrower than the smallest number it multiplies a 0."""
    return jnp.exp(jnp.minimum(-log_x, _longest(log_x.dtype)))


@jax.custom_jvp
def log_x_of(w: Float[Array, "K *N"], log_gap, offset) -> Float[Array, "K *N"]:
    """`log(e^w + gap + offset)`, the offset being 0."""
    return jnp.logaddexp(w, log_gap)


@log_x_of.defjvp
def _log_x_of_jvp(primals, tangents):
    w, log_gap, offset = primals
    log_x = log_x_of(w, log_gap, offset)
    d_w, d_log_gap, d_offset = tangents
    by_w, by_gap = share_of(w, log_gap, offset), share_of(log_gap, w, offset)
    return log_x, by_w * d_w + by_gap * d_log_gap + _inverse(log_x) * d_offset


@jax.custom_jvp
def share_of(w: Float[Array, "K *N"], log_gap, offset) -> Float[Array, "K *N"]:
    """`e^w / x`: a pattern's probability in units of the leading one's. (And `gap / x`, with the
    first two arguments exchanged.)"""
    return jax.nn.sigmoid(w - log_gap)


@share_of.defjvp
def _share_of_jvp(primals, tangents):
    share = share_of(*primals)
    _, change = jax.jvp(log_x_of, primals, tangents)
    return share, share * (tangents[0] - change)


@solve_lead.defjvp
def _solve_lead_jvp(primals, tangents):
    log_gap, offset, total, exists = primals
    d_log_gap, d_offset, d_total, _ = tangents
    w = solve_lead(log_gap, offset, total, exists)
    there = _spread(exists, log_gap)
    every = jnp.broadcast_to(w, log_gap.shape)
    share = jnp.where(there, share_of(every, log_gap, offset), 0)
    nothing = jnp.zeros_like(every)
    _, moved = jax.jvp(log_x_of, (every, log_gap, offset), (nothing, d_log_gap, d_offset))
    moved = jnp.sum(jnp.where(there, moved, 0), axis=0)
    return w, (d_total - moved) / jnp.sum(share, axis=0)


def cell_at(cells: Cell, index: Int[Array, ""]) -> Cell:
    """One of several cells."""
    return Cell(*(x[index] for x in cells))


class State(NamedTuple):
    """Points of an orbit: `log_x` (K, *N), `shares` e^w / x (K, *N) (pattern probabilities in
    units of the leading one's), and `log_speed`, the logarithm of dt/dtau."""

    log_x: Float[Array, "K *N"]
    shares: Float[Array, "K *N"]
    log_speed: Float[Array, "*N"]


def state_at(orbit: Orbit, cell: Cell, side: _Scalar, log_distance: Float[Array, "*N"]) -> State:
    """The orbit at distances (in tau) before (`side` -1) or after (+1) a cell's origin."""
    lead = jnp.where(side < 0, cell.before, cell.after)
    gap = _gaps_at(orbit, cell.origin, cell.before, cell.after, lead)
    slope = jnp.where(orbit.exists, side * (orbit.rewards[lead] - orbit.rewards), 0)
    shape = slope.shape + (1,) * log_distance.ndim
    gap, slope = gap.reshape(shape), slope.reshape(shape)
    apart = gap > 0
    # Two patterns that meet have no gap but what the distance makes: taken in logarithms, which
    # resolve a layer of any width. Derivatives of their gap enter by the offset.
    log_distance = log_distance[None]
    linear = _log(jnp.maximum(gap + slope * jnp.exp(log_distance), 0))
    log_gap = jnp.where(apart, linear, _log(jnp.maximum(slope, 0)) + log_distance)
    offset = jnp.where(apart, 0, gap + 0 * log_distance)
    w = solve_lead(log_gap, offset, orbit.log_product, orbit.exists)
    there = _spread(orbit.exists, log_gap)
    every = jnp.broadcast_to(w, log_gap.shape)
    log_x = jnp.where(there, log_x_of(every, log_gap, offset), 0)
    shares = jnp.where(there, share_of(every, log_gap, offset), 0)
    return State(log_x, shares, jnp.log(_added(_in_groups(shares, 0))) - w)


# Quadrature

# Length of a piece, in units of log distance.
_PIECE = 3.0
# The smallest distance resolved on one side of a cell, as a share of the whole (what lies below
# weighs as its square): on the way to a known place, and before a hand-over where a time is
# looked for.
_LEAST, _LEAST_BEFORE = 1e-4, 1e-7
_MOST_PIECES = 10_000
# A gap e^70 times smaller than the leading x is none.
_NEGLIGIBLE = 70.0
# Where an event is looked for: shares of a side's depth, denser towards its far end, where the
# times are; and the depth looked at in one go where a side has no end.
_SAMPLES = tuple(1 - (1 - np.linspace(0, 1, 17)[1:]) ** 2)
_REACH = 16.0


class Rule(NamedTuple):
    """Gauss-Legendre quadrature on [-1, 1]."""

    nodes: np.ndarray
    weights: np.ndarray


@functools.cache
def rule_of(size: int) -> Rule:
    """The rule with `size` nodes."""
    return Rule(*np.polynomial.legendre.leggauss(size))


def log_sinh(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`log sinh x` for x >= 0."""
    safe = jnp.maximum(x, 1e-290 if x.dtype == jnp.float64 else 1e-36)
    return safe + jnp.log(-jnp.expm1(-2 * safe)) - np.log(2)


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
    `exp(log_scale) sinh(zeta)` and zeta goes from `start` to `stop`; `log_start` is the time before
    it."""

    cell: Int[Array, ""]
    side: _Scalar
    log_scale: _Scalar
    start: _Scalar
    stop: _Scalar
    log_start: _Scalar


class _Ahead(NamedTuple):
    """Where the next piece begins; a negative `start` is the far end of a left side."""

    cell: Int[Array, ""]
    side: _Scalar
    start: _Scalar


def _next_piece(
    cells: Cell, count: Int[Array, ""], ahead: _Ahead, least: _Scalar, place: Place | None = None
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
    log_far = _log(jnp.where(bounded, far, 1))
    log_scale = jnp.where(
        bounded, jnp.maximum(cell.log_width, log_far + _log(least)), cell.log_width
    )
    far = jnp.where(bounded, asinh_of_exp(log_far - log_scale), jnp.inf)
    end = jnp.where(left, 0, far)
    if place is not None:
        there = asinh_of_exp(place.log_distance - log_scale)
        end = jnp.where(last, there, end)
    start = jnp.where(left & (start < 0), far, start)
    stop = jnp.where(left, jnp.maximum(start - _PIECE, end), jnp.minimum(start + _PIECE, end))
    piece = Piece(index, side, log_scale, start, stop, jnp.zeros_like(start))
    through = (stop == end) & (left | (index < count - 1))
    following = _Ahead(
        jnp.where(through & ~left, index + 1, index).astype(jnp.int32),
        jnp.where(through, -side, side),
        jnp.where(through, jnp.where(left, 0, -1), stop),
    )
    return piece, following, last & (stop == end)


def _set_out(dtype) -> _Ahead:
    return _Ahead(jnp.zeros((), jnp.int32), jnp.ones((), dtype), jnp.zeros((), dtype))


def _log_rate(orbit: Orbit, cells: Cell, piece: Piece, zeta: Float[Array, "*N"]):
    """`log dt/dzeta` along a piece."""
    distance = piece.log_scale + log_sinh(zeta)
    state = state_at(orbit, cell_at(cells, piece.cell), piece.side, distance)
    return state.log_speed + piece.log_scale + jnp.logaddexp(zeta, -zeta) - np.log(2)


def _log_parts(orbit: Orbit, cells: Cell, piece: Piece, rule: Rule) -> Float[Array, " N"]:
    """Logarithms of the terms that add up to the time that a piece takes."""
    half = (piece.stop - piece.start) / 2
    zeta = piece.start + half * (1 + jnp.asarray(rule.nodes, half.dtype))
    log_weights = _log(jnp.abs(half)) + np.log(rule.weights)
    return _log_rate(orbit, cells, piece, zeta) + log_weights.astype(half.dtype)


def _log_time_after(orbit: Orbit, cells: Cell, piece: Piece, rule: Rule) -> _Scalar:
    """Log time at the end of a piece."""
    parts = _log_parts(orbit, cells, piece, rule)
    return jax.nn.logsumexp(jnp.append(parts, piece.log_start))


class Found(NamedTuple):
    """The piece of an orbit that holds a time, if `reached`; `pieces` were looked at."""

    piece: Piece
    reached: Bool[Array, ""]
    pieces: Int[Array, ""]


def _longest(dtype) -> float:
    """The logarithm of the longest distance that can be represented."""
    return 0.97 * float(np.log(float(jnp.finfo(dtype).max)))


def find_time(
    orbit: Orbit,
    cells: Cell,
    count: Int[Array, ""],
    rule: Rule,
    target: _Scalar,
    most: int,
    wanted: Bool[Array, ""],
) -> Found:
    """The piece of an orbit in which log time reaches `target`."""
    dtype = orbit.log_start.dtype
    zero = jnp.zeros((), dtype)
    nothing = Piece(jnp.zeros((), jnp.int32), zero + 1, zero, zero, zero, zero - jnp.inf)
    first = Found(nothing, ~wanted, jnp.zeros((), jnp.int32))

    def go_on(carry):
        found, _, _ = carry
        near = found.piece.log_scale + found.piece.stop < _longest(dtype)
        return ~found.reached & (found.pieces < most) & near

    def advance(carry):
        found, ahead, log_time = carry
        # After a hand-over a time may lie at any distance; shortly before one, distances that
        # small are lost in the time that has passed.
        least = jnp.where(ahead.side < 0, zero + _LEAST_BEFORE, 0)
        piece, ahead, _ = _next_piece(cells, count, ahead, least)
        piece = piece._replace(log_start=log_time)
        log_time = _log_time_after(orbit, cells, piece, rule)
        return Found(piece, log_time >= target, found.pieces + 1), ahead, log_time

    found, _, _ = jax.lax.while_loop(go_on, advance, (first, _set_out(dtype), zero - jnp.inf))
    return found


def log_time_to(orbit: Orbit, cells: Cell, place: Place, rule: Rule, wanted) -> _Scalar:
    """The logarithm of the time at a place, by quadrature."""
    dtype = orbit.log_start.dtype
    least = jnp.asarray(_LEAST, dtype)
    count = place.cell + 1

    def advance(carry):
        log_time, ahead, _, pieces = carry
        piece, ahead, done = _next_piece(cells, count, ahead, least, place)
        piece = piece._replace(log_start=log_time)
        return _log_time_after(orbit, cells, piece, rule), ahead, done, pieces + 1

    nothing = jnp.full((), -jnp.inf, dtype)
    log_time, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < _MOST_PIECES),
        advance,
        (nothing, _set_out(dtype), ~wanted, 0),
    )
    return log_time


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
    event: Callable[[State], Float[Array, " N"]],
    wanted: Bool[Array, ""],
) -> Bracket:
    """Where on an orbit `event` first crosses 0 from below, by samples on both sides of cells."""
    dtype = orbit.log_start.dtype
    share = jnp.asarray(_SAMPLES, dtype)
    zero = jnp.zeros((), dtype)

    def advance(carry):
        _, ahead = carry
        index, side, start = ahead
        cell = cell_at(cells, index)
        left = side < 0
        far = jnp.where(left, cell.left, cell.right)
        bounded = jnp.isfinite(far)
        depth = asinh_of_exp(_log(jnp.where(bounded, far, 1)) - cell.log_width)
        end = jnp.where(left, 0, jnp.where(bounded, depth, start + _REACH))
        start = jnp.where(left, depth, start)
        depths = start + (end - start) * share
        state = state_at(orbit, cell, side, cell.log_width + log_sinh(depths))
        happened = event(state) > 0
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
        return ~bracket.happens & (cell.log_width + ahead.start < _longest(dtype))

    first = Bracket(jnp.zeros((), jnp.int32), zero + 1, zero, zero, ~wanted)
    bracket, _ = jax.lax.while_loop(go_on, advance, (first, _set_out(dtype)))
    return bracket._replace(happens=bracket.happens & wanted)


def _bisected_newton(look, low, high, wanted, precision):
    """A root of an increasing function between `low` and `high`; `look(x)` is value and slope."""

    def improve(carry):
        x, low, high, _, count = carry
        value, slope = look(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        newton = x - value / slope
        inside = (newton > low) & (newton < high) | (value == 0)
        new = jnp.where(inside, newton, low + (high - low) / 2)
        arrived = (jnp.abs(new - x) <= precision * (1 + jnp.abs(x))) | (value == 0)
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

    precision = 4 * float(jnp.finfo(bracket.low.dtype).eps)
    low, high = bracket.side * bracket.low, bracket.side * bracket.high
    depth = _bisected_newton(look, low, high, bracket.happens, precision)
    return Place(bracket.cell, bracket.side, distance(depth))


def place_at_time(orbit: Orbit, cells: Cell, found: Found, target: _Scalar, rule: Rule) -> Place:
    """The place of a log time within the piece that holds it."""
    piece = found.piece

    def look(depth):  # zeta in the direction of time
        zeta = piece.side * depth
        log_time = _log_time_after(orbit, cells, piece._replace(stop=zeta), rule)
        log_rate = _log_rate(orbit, cells, piece, zeta)
        return log_time - target, jnp.exp(log_rate - log_time)

    precision = 4 * float(jnp.finfo(target.dtype).eps)
    low, high = piece.side * piece.start, piece.side * piece.stop
    depth = _bisected_newton(look, low, high, found.reached, precision)
    return Place(piece.cell, piece.side, piece.log_scale + log_sinh(jnp.abs(depth)))


@eqx.filter_custom_jvp
def log_time_at(orbit: Orbit, place: Place, cells: Cell, known: _Scalar, *, nodes: int) -> _Scalar:
    """The logarithm of the time at a place of an orbit, which is `known`; differentiable in the
    orbit and the place's distance, twice."""
    return known


@log_time_at.def_jvp
def _log_time_at_jvp(primals, tangents, *, nodes):
    orbit, place, cells, known = primals
    d_orbit, d_place, _, _ = tangents
    log_time = log_time_at(orbit, place, cells, known, nodes=nodes)
    gradient = _sensitivity(orbit, place, cells, log_time, rule_of(nodes))
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


def _sensitivity(orbit: Orbit, place: Place, cells: Cell, log_time: _Scalar, rule: Rule) -> Orbit:
    """The gradient of the log time at a place whose tau is held."""

    least = jnp.asarray(_LEAST, log_time.dtype)

    def advance(carry):
        (by_start, by_rewards), ahead, _, pieces = carry
        piece, ahead, done = _next_piece(cells, place.cell + 1, ahead, least, place)

        def share(log_start, rewards):
            live = eqx.tree_at(lambda o: (o.log_start, o.rewards), orbit, (log_start, rewards))
            return jnp.sum(jnp.exp(_log_parts(live, cells, piece, rule) - log_time))

        more = jax.grad(share, (0, 1))(orbit.log_start, orbit.rewards)
        return (by_start + more[0], by_rewards + more[1]), ahead, done, pieces + 1

    nothing = jnp.zeros_like(orbit.log_start)
    start = (nothing, nothing), _set_out(log_time.dtype), ~jnp.isfinite(log_time), 0
    total, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < _MOST_PIECES), advance, start
    )
    return eqx.tree_at(lambda o: (o.log_start, o.rewards), orbit, total)
