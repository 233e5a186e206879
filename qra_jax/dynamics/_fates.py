"""What becomes of one start: which attractor it ends at, and when it is there.

(B1): docs/derivations.md#basins-of-attraction.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core.floats import snapped_difference
from ..flows._events import Approaches, PatternReaches, Stationary
from ..flows._status import Status
from ..solvers._method import AbstractMethod
from ..solvers._solve import first_event
from ..solvers.exact._exact import Exact
from ..times._regime import landscape
from ._attractors import Attractors
from ._field import PatternField


class Fate(eqx.Module):
    """What became of one start."""

    attractor: Int[Array, "*N"]
    log_time: Float[Array, "*N"]
    status: Int[Array, "*N"]


def _fate(
    index: Array, won: Array, inside: Array, log_time: Array, status: Array, usable: Array
) -> Fate:
    log_time = jnp.where(inside, -jnp.inf, log_time)
    status = jnp.where(usable, jnp.where(inside, Status.EVENT, status), Status.INVALID_INPUT)
    won = (won | inside) & usable
    return Fate(
        jnp.where(won, index, -1).astype(jnp.int32),
        jnp.where(won, log_time, jnp.nan),
        status.astype(jnp.int32),
    )


def exact_fate(
    field: PatternField, attractors: Attractors, start: Array, eps: Array, method: Exact
) -> Fate:
    """Constant values: the best pattern of the start's face wins."""
    exists = start > -jnp.inf
    usable = ~jnp.any(jnp.isnan(start))
    policy = field.at(jnp.where(usable, start, 0))
    land = landscape(policy, field.flow)
    best = land.best[field.question]
    highest = jnp.max(jnp.where(best, start, -jnp.inf))
    # Of tied patterns the most probable; equally probable ones keep their shares for ever.
    size = 1 + jnp.abs(highest)
    level = best & (snapped_difference(jnp.where(best, start, 0), highest, size) == 0)
    alone = jnp.sum(level) == 1
    moves = land.has_second[field.question] & (field.flow.problem.weights[field.question] > 0)
    target = jnp.where(moves, jnp.argmax(level), jnp.argmax(start))

    corner = jnp.arange(start.shape[0]) == target
    row = attractors.within(exists) & jnp.all(attractors.face == corner[None], axis=-1)
    others = jnp.sum(jnp.where(corner, 0, jnp.exp(start)))
    known = usable & jnp.any(row)
    inside = known & (others <= eps)
    goes = known & ~inside & moves & alone
    # From 1/2 on the probability of a best pattern does not fall again (B1).
    event = PatternReaches(target, None, field.question, shortfall=eps, lasting=True)
    event = eqx.tree_at(lambda e: e.log_odds, event, jnp.where(goes, event.log_odds, -jnp.inf))
    found = first_event(policy, field.flow, field.reference, (event,), method)
    won = goes & (found.event == 0)
    status = jnp.where(goes, found.status, Status.STATIONARY)
    return _fate(jnp.argmax(row), won, inside, found.log_time, status, usable & land.valid.all())


def solved_fate(
    field: PatternField,
    attractors: Attractors,
    start: Array,
    eps: Array,
    method: AbstractMethod,
) -> Fate:
    """Followed until it comes near an attractor; `field` as measured."""
    exists = start > -jnp.inf
    usable = ~jnp.any(jnp.isnan(start))
    among = attractors.within(exists)
    near = Approaches(attractors.pattern_probs, eps, field.question, among)
    inside = jnp.min(near.distances(jnp.exp(start))) <= eps
    # No pattern with an advantage, up to rounding: a fixed point, where rounding alone would say
    # which way to leave. Such a lane is not solved: its event has happened.
    pull = jnp.max(jnp.where(exists, field.pull(start), -jnp.inf))
    rests = pull <= 1e3 * field.rounding
    goes = ~inside & ~rests & jnp.any(among)
    near = eqx.tree_at(lambda e: (e.eps, e.among), near, (
        jnp.where(goes | inside, eps, 2.0), among | ~(goes | inside)
    ))  # fmt: skip
    events = (near,)
    if field.flow.objective.has_interior_optimum:
        # In place of the default: an entangled plateau is slower than a fixed point seems.
        tiny = float(jnp.finfo(start.dtype).tiny)
        events = (near, Stationary(jnp.maximum(tiny**0.5 * jnp.asarray(field.scale), tiny)))
    found = first_event(field.at(start), field.flow, field.reference, events, method)
    final, _ = found.policy.pattern_table(field.flow.problem)
    index = jnp.argmin(near.distances(final[field.question]))
    won = goes & (found.event == 0)
    status = jnp.where(goes & (found.event != 1), found.status, Status.STATIONARY)
    return _fate(index, won, inside, found.log_time, status, usable)
