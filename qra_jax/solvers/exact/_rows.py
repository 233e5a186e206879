"""The orbit at given times: a walk along it on which time is a series, piece by piece."""

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
        piece, following, _ = next_piece(cells, count, ahead, search.length, least)
        stretch = along(orbit, cells, piece, resolution)
        integral = jnp.asarray(rule.integrate, dtype) @ stretch.rates
        ends = jnp.logaddexp(log_time, safe_log(jnp.sum(integral)) + stretch.log_unit)
        # What the highest terms of the series amount to, beside what matters of a time.
        error = jnp.max(jnp.abs(integral[-4:]))
        scale = jnp.maximum(log_time, -spread) - stretch.log_unit
        allowed = resolution.tol * jnp.exp(jnp.clip(scale, -largest, largest))
        factor = 0.9 * (allowed / jnp.maximum(error, jnp.finfo(dtype).tiny)) ** (
            1 / resolution.nodes
        )
        sound = (error <= allowed) | (search.length < 1e-3)
        wanted = jax.lax.dynamic_slice_in_dim(targets, search.row, window)
        inside = sound & (wanted <= ends)
        xi = _when(stretch, integral, resolution, log_time, wanted, inside)
        zeta = piece.start + stretch.half * (1 + xi)
        guess = _series(jnp.asarray(rule.interpolate, dtype) @ stretch.log_lead, xi)
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
        ahead = chosen(~sound, ahead, chosen(full, ahead._replace(start=zeta[-1]), following))
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
        set_out(dtype),
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
