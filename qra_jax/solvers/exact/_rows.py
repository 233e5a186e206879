"""The orbit at given times: a walk along it on which time is a series, piece by piece.

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core.floats import safe_log
from ..._core.roots import newton_in_bracket
from ..._core.trees import chosen
from ..._core.types import Scalar
from ._orbit import Cell, Orbit, cell_at, largest_log, see, state_at
from ._walk import (
    Ahead,
    Piece,
    Place,
    Resolution,
    Stretch,
    along,
    implicit,
    log_sinh,
    log_time_at,
    next_piece,
    ratios_at,
    rule_of,
    set_out,
)


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
    ahead: Ahead
    log_time: Scalar
    length: Scalar
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
    dtype = orbit.log_start.dtype
    number, patterns = log_times.shape[0], orbit.log_start.shape[0]
    window = min(_WINDOW, number)
    largest = largest_log(dtype)
    # Of time 0 the logarithm is -inf. The infinite ones let the last window be as long as the
    # others.
    targets = jnp.append(jnp.maximum(log_times, -largest), jnp.full(window, jnp.inf, dtype))
    zero = jnp.zeros((), dtype)
    spread = jnp.max(jnp.where(orbit.exists, orbit.rewards, -jnp.inf))
    spread = safe_log(spread - jnp.min(jnp.where(orbit.exists, orbit.rewards, jnp.inf)))
    task = _Task(orbit, cells, count, targets, spread)

    def go_on(search: _Search):
        return (search.row < number) & (search.pieces < most) & search.near

    nowhere = jnp.zeros(number + window, dtype)
    rows = Place(jnp.zeros(number + window, jnp.int32), nowhere + 1, nowhere)
    states = jnp.zeros((number + window, patterns), dtype)
    start = _Search(
        set_out(dtype),
        zero - jnp.inf,
        zero + resolution.piece,
        jnp.where(wanted, 0, number),
        jnp.zeros((), jnp.int32),
        jnp.asarray(True),
        rows,
        states,
    )
    search = jax.lax.while_loop(
        go_on, lambda search: _advance(task, search, resolution, window), start
    )
    reached = wanted & (jnp.arange(number) < search.row)
    place = jtu.tree_map(lambda x: x[:number], search.place)
    return Rows(place, search.log_x[:number], reached, search.pieces)


class _Task(NamedTuple):
    """What stays the same along a walk. `targets`: the log times, followed by a window of infinite
    ones; `log_spread`: of the difference between the largest and the smallest reward."""

    orbit: Orbit
    cells: Cell
    num_cells: Int[Array, ""]
    targets: Float[Array, " T"]
    log_spread: Scalar


class _Timed(NamedTuple):
    """A stretch and the time that it takes: the series of its integral, the log time at its end,
    whether these are precise enough, and by what factor a piece should be longer for that."""

    stretch: Stretch
    integral: Array
    ends: Scalar
    sound: Bool[Array, ""]
    factor: Scalar


def _timed(task: _Task, search: _Search, piece: Piece, resolution: Resolution) -> _Timed:
    dtype, largest = search.log_time.dtype, largest_log(search.log_time.dtype)
    stretch = along(task.orbit, task.cells, piece, resolution)
    # The polynomial through dt/dxi at the nodes, integrated: the time within the piece.
    integral = jnp.asarray(rule_of(resolution.nodes).integrate, dtype) @ stretch.rates
    ends = jnp.logaddexp(search.log_time, safe_log(jnp.sum(integral)) + stretch.log_unit)
    # What the highest terms of the series amount to, beside what matters of a time: before
    # 1 / (difference of rewards) next to nothing has happened.
    error = jnp.max(jnp.abs(integral[-4:]))
    scale = jnp.maximum(search.log_time, -task.log_spread) - stretch.log_unit
    allowed = resolution.tol * jnp.exp(jnp.clip(scale, -largest, largest))
    ratio = allowed / jnp.maximum(error, jnp.finfo(dtype).tiny)
    # A piece that is not is taken again, shorter; its error goes with its length to the power of
    # the number of nodes.
    sound = (error <= allowed) | (search.length < 1e-3)
    return _Timed(stretch, integral, ends, sound, 0.9 * ratio ** (1 / resolution.nodes))


def _advance(task: _Task, search: _Search, resolution: Resolution, window: int) -> _Search:
    """One piece further: its time, and the states at those of the next log times that lie on it."""
    dtype = search.log_time.dtype
    # After a hand-over a time may lie at any distance; shortly before one, distances that small
    # are lost in the time that has passed.
    least = jnp.where(search.ahead.side < 0, jnp.asarray(resolution.least_before, dtype), 0)
    piece, following, _ = next_piece(task.cells, task.num_cells, search.ahead, search.length, least)
    stretch, integral, ends, sound, factor = _timed(task, search, piece, resolution)
    wanted = jax.lax.dynamic_slice_in_dim(task.targets, search.row, window)
    inside = sound & (wanted <= ends)
    xi = _when(stretch, integral, resolution, search.log_time, wanted, inside)
    zeta = piece.start + stretch.half * (1 + xi)
    interpolate = jnp.asarray(rule_of(resolution.nodes).interpolate, dtype)
    # The root (E3) once more, from a guess by the series through those at the nodes.
    guess = _series(interpolate @ stretch.log_lead, xi)
    ratio, _ = ratios_at(zeta, stretch.far)
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
    rest = chosen(full, search.ahead._replace(start=zeta[-1]), following)
    ahead = chosen(~sound, search.ahead, rest)
    log_time = jnp.where(~sound, search.log_time, jnp.where(full, wanted[-1], ends))
    used = 2 * jnp.abs(stretch.half) * jnp.clip(factor, 0.3, 8)
    # A piece that ends early, with its side, says little.
    length = jnp.where(sound, jnp.maximum(used, jnp.minimum(search.length, 2)), used)

    def kept(rows, new):
        return jax.lax.dynamic_update_slice_in_dim(rows, new, search.row, 0)

    return _Search(
        ahead,
        log_time,
        jnp.minimum(length, resolution.longest),
        search.row + found,
        search.pieces + 1,
        piece.log_scale + ahead.start < largest_log(dtype),
        jtu.tree_map(kept, search.place, place),
        kept(search.log_x, log_x.T),
    )


def _series(coefs: Float[Array, " N"], x: Float[Array, "*W"]) -> Float[Array, "*W"]:
    """A Chebyshev series at x."""
    this, before = jnp.zeros_like(x), jnp.zeros_like(x)
    for i in range(coefs.shape[0] - 1, 0, -1):
        this, before = coefs[i] + 2 * x * this - before, this
    return coefs[0] + x * this - before


def _when(
    stretch: Stretch,
    integral: Array,
    resolution: Resolution,
    log_time: Scalar,
    log_times: Float[Array, " W"],
    inside: Bool[Array, " W"],
) -> Float[Array, " W"]:
    """The xi of log times on a stretch that begins at `log_time`; its end for others."""
    dtype = log_times.dtype
    rates = jnp.asarray(rule_of(resolution.nodes).interpolate, dtype) @ stretch.rates
    before = jnp.exp(jnp.minimum(log_time - stretch.log_unit, largest_log(dtype)))
    wanted = log_times - stretch.log_unit
    precise = 0.1 * max(0.1 * resolution.tol, float(jnp.finfo(dtype).eps)) ** 0.5

    def look(xi, aux):
        # In logarithms, so that times early on a long piece are met to the same relative precision.
        passed = before + _series(integral, xi)
        late = jnp.log(jnp.maximum(passed, jnp.finfo(dtype).tiny)) - wanted
        return late, _series(rates, xi) / passed, aux

    one = jnp.ones_like(log_times)
    # Between knots log time is about linear in xi; before the first of them, time itself.
    rule = rule_of(resolution.nodes)
    ends = jnp.log(before + jnp.asarray(rule.to_knots, dtype) @ stretch.rates)
    start = float(rule.knots[0] + 1) * jnp.exp(jnp.minimum(wanted - ends[0], 0)) - 1
    for i, width in enumerate(np.diff(rule.knots).tolist()):
        share = (wanted - ends[i]) / (ends[i + 1] - ends[i])
        start = start + width * jnp.clip(share, 0, 1)
    found = newton_in_bracket(
        look,
        start,
        (-one, one),
        lambda _: precise,
        narrow=lambda _: precise,
        wanted=inside,
        # At the very start time grows in proportion.
        otherwise=lambda xi, step: (1 + xi) * jnp.exp(-step / (1 + xi)) - 1,
        most=60,
    )
    return jnp.where(inside, found.root, 1)


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

    # Neither the walk nor the search is differentiated: a place moves so that its time stays the
    # one asked for (E7), and the state moves with it.
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
