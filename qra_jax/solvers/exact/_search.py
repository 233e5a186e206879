"""Where on an orbit events happen: docs/exact.md#events-and-times."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..._core.floats import safe_log
from ..._core.roots import newton_in_bracket
from ..._core.types import Scalar
from ._orbit import Cell, Orbit, State, cell_at, largest_log, state_at
from ._walk import Ahead, Place, asinh_of_exp, log_sinh, set_out

# Where an event is looked for: shares of a side's depth, denser towards its far end, where the
# times are; and the depth looked at in one go where a side has no end.
_SAMPLES = tuple(1 - (1 - np.linspace(0, 1, 17)[1:]) ** 2)
_REACH = 16.0


class Bracket(NamedTuple):
    """Two places on one side of a cell, by their depth, between which an event happens (if
    `happens`). Depth is the asinh of the distance over the width of the layer."""

    cell: Int[Array, ""]
    side: Scalar
    low: Scalar
    high: Scalar
    happens: Bool[Array, ""]


def find_event(
    orbit: Orbit,
    cells: Cell,
    count: Int[Array, ""],
    event: Callable[[State], Scalar],
    wanted: Bool[Array, ""],
    lasts: bool,
    tol: float,
) -> Bracket:
    """Where on an orbit `event` first crosses 0 from below, by samples on both sides of cells (one
    each if it `lasts`)."""
    dtype = orbit.log_start.dtype
    # What lasts once it has begun is seen at the end of a side, if anywhere on it.
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
        # The last side has no end, and is looked at stretch by stretch.
        end = jnp.where(left, 0, jnp.where(bounded, depth, start + _REACH))
        start = jnp.where(left, depth, start)
        depths = start + (end - start) * share

        def happens(depth):
            log_distance = cell.log_width + log_sinh(depth)
            return event(state_at(orbit, cell, side, log_distance, tol=tol)) > 0

        happened = jax.vmap(happens)(depths)
        position = jnp.argmax(happened)
        low = jnp.where(position > 0, depths[position - 1], start)
        bracket = Bracket(index, side, low, depths[position], jnp.any(happened))
        through = left | bounded
        ahead = Ahead(
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
    bracket, _ = jax.lax.while_loop(go_on, advance, (first, set_out(dtype)))
    return bracket._replace(happens=bracket.happens & wanted)


def place_of_event(
    orbit: Orbit, cells: Cell, bracket: Bracket, event: Callable[[State], Scalar], tol: float
) -> Place:
    """The place within a bracket where an event's value crosses 0."""
    cell = cell_at(cells, bracket.cell)
    eps = float(jnp.finfo(orbit.log_start.dtype).eps)
    # Of second order: the step after one below this is below rounding, or the tolerance.
    small = 0.1 * max(1e-3 * tol, eps) ** 0.5

    def distance(depth):
        return cell.log_width + log_sinh(jnp.abs(depth))

    def look(depth, last):
        """Value and slope; with what leads there, its slope, and where that was, the next look
        begins near its own root."""
        # No guess at first: infinite, which `state_at` cuts down to the bound from above.
        lead, lead_slope, there = last
        guess = lead + lead_slope * (depth - there)

        def seen(depth):
            state = state_at(orbit, cell, bracket.side, distance(depth), guess, 1e-3 * tol)
            return event(state), state.log_lead

        (value, lead), (slope, lead_slope) = jax.jvp(seen, (depth,), (jnp.ones_like(depth),))
        return value, slope, (lead, lead_slope, depth)

    # With the sign of the side, the event's value rises along the bracket on left sides too.
    low, high = bracket.side * bracket.low, bracket.side * bracket.high
    found = newton_in_bracket(
        look,
        high,
        (low, high),
        lambda depth: small * (1 + jnp.abs(depth)),
        wanted=bracket.happens,
        aux=(jnp.full_like(high, jnp.inf), jnp.zeros_like(high), high),
        most=100,
    )
    return Place(bracket.cell, bracket.side, distance(found.root))
