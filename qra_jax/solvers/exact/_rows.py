"""An orbit at given times: every one of them is a point that a step ends at.

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int

from ._lanes import Lanes
from ._point import Orbit, Point
from ._walk import (
    Clock,
    Ending,
    Resolution,
    Walk,
    advance,
    ended,
    large_log,
    planned,
    set_out,
    tolerance,
    unfinished,
)

Times = Float[Array, "T n"]


def _left(point: Point, clock: Clock, log_time: Lanes) -> Lanes:
    """The time that is left until `log_time`, in the units of the clock."""
    large = large_log(clock.amount)
    unit = clock.log_unit(point)
    wanted = jnp.exp(jnp.clip(log_time - unit, -large, large))
    left = wanted - clock.amount
    # Beyond the largest amount of time, steps take none of it.
    far = jnp.where(left > 0, jnp.inf, 0)
    return jnp.where((clock.level > 0) | (log_time - unit > large), far, left)


def _length(point: Point, left: Lanes, longest: Lanes) -> Lanes:
    """The step that takes so much time, by the series of the speed; infinite if that leads
    beyond `longest`."""
    first, second, third = point.rates
    finite = jnp.where(jnp.isfinite(left), left, 1)

    def taken(step):
        return step * (1 + step * (first / 2 + step * (second / 6 + step * third / 24)))

    # Two steps of Newton's iteration after the first terms of the series turned round.
    bend = jnp.maximum(first * finite / 2, -0.4)
    step = jnp.clip(finite / (1 + bend), -longest, longest)
    for _ in range(2):
        speed = 1 + step * (first + step * (second / 2 + step * third / 6))
        step = step - (taken(step) - finite) / jnp.maximum(speed, 0.2)
        step = jnp.clip(step, -longest, longest)
    met = jnp.abs(taken(step) - finite) <= 0.1 * jnp.abs(finite)
    return jnp.where(jnp.isfinite(left) & met, step, jnp.sign(finite) * jnp.inf)


class _Search(NamedTuple):
    walk: Walk
    row: Int[Array, "1 n"]
    here: Int[Array, ""]
    places: Int[Array, "T n"]
    seen: Any


def states_at_times(
    orbit: Orbit,
    log_times: Times,
    wanted: Bool[Array, "1 n"],
    resolution: Resolution,
    influence: bool,
) -> tuple[Ending, Bool[Array, "T n"], Int[Array, "1 n"]]:
    """The orbit at log times that ascend; whether it gets there; the number of steps."""
    number, lanes = log_times.shape
    # Logits may move many times as fast as the log time.
    tol = tolerance(resolution, log_times.dtype, 0.03)
    # What the series leaves out at the very end is of third order; derivatives have none.
    close = 10 * tol if influence else 0.2 * tol ** (1 / 3)
    window = number + 64
    least = 1 / jnp.maximum(orbit.spread, jnp.finfo(log_times.dtype).tiny)
    rows = jnp.arange(number, dtype=jnp.int32)[:, None]
    columns = jnp.arange(lanes)[None]

    def target(row):
        return log_times.at[jnp.minimum(row, number - 1), columns].get(mode="promise_in_bounds")

    def step(search: _Search) -> _Search:
        walk, row = search.walk, search.row
        left = _left(walk.point, walk.clock, target(row))
        unit = jnp.minimum(1, walk.clock.amount)
        landed = ~walk.done & (jnp.abs(left) <= close * jnp.maximum(unit, 1e-3))
        short = left * (1 - walk.point.rates[0] * left / 2)
        found = ended(orbit, walk, jnp.where(landed, short, 0))
        seen = jtu.tree_map(
            lambda kept, x: jax.lax.dynamic_update_index_in_dim(kept, x, search.here, 0),
            search.seen,
            found,
        )
        row = row + landed
        places = search.places + (row <= rows)
        done = walk.done | (row >= number)
        walk = walk._replace(done=done)
        left = jnp.where(landed, _left(walk.point, walk.clock, target(row)), left)
        plan = planned(walk, jax.lax.stop_gradient(_length(walk.point, left, walk.step)), tol)
        walk = advance(orbit, walk, plan, least, tol, steady=True)
        return _Search(walk, row, search.here + 1, places, seen)

    start = set_out(orbit, wanted, influence)
    empty = jax.eval_shape(lambda: ended(orbit, start, start.tau))
    none = jtu.tree_map(lambda x: jnp.zeros((number, *x.shape), x.dtype), empty)

    def fill(carry):
        """A window of steps, and the rows that are found in it."""
        walk, row, kept = carry
        search = _Search(
            walk,
            row,
            jnp.zeros((), jnp.int32),
            jnp.zeros((number, lanes), jnp.int32),
            jtu.tree_map(lambda x: jnp.zeros((window, *x.shape), x.dtype), empty),
        )
        search = jax.lax.while_loop(
            lambda search: (search.here < window) & unfinished(search.walk, resolution),
            step,
            search,
        )
        new = (rows >= row) & (rows < search.row)
        places = jnp.minimum(search.places, window - 1)

        def picked(seen, kept):
            found = jnp.take_along_axis(seen, places[:, None], axis=0, mode="promise_in_bounds")
            return jnp.where(new[:, None], found, kept)

        return search.walk, search.row, jtu.tree_map(picked, search.seen, kept)

    first = jnp.where(wanted, 0, number).astype(jnp.int32)
    carry = (start._replace(done=start.done | (first >= number)), first, none)
    walk, row, found = jax.lax.while_loop(
        lambda carry: unfinished(carry[0], resolution), fill, carry
    )
    return found, wanted & (rows < row), walk.steps
