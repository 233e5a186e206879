r"""Walks along orbits: to an event, and past given times.

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core.floats import safe_log
from ._influence import Influence, Rates, influence_of, nothing_yet, velocity_at, with_step
from ._lanes import Lanes, Patterns, Which, largest
from ._point import (
    Orbit,
    Point,
    begin,
    log_x,
    moved,
    reach,
    seen,
    time_between,
    to_hand_over,
)


class Resolution(NamedTuple):
    """`tol`: of log times; `most`: so many steps at most."""

    tol: float
    most: int


def tolerance(resolution: Resolution, dtype, share: float = 0.1) -> float:
    """The error of one step that keeps log times to what is asked for, or to what there is."""
    # A few steps of a walk take most of its time.
    return max(share * resolution.tol, 4 * float(jnp.finfo(dtype).eps))


class Clock(NamedTuple):
    """A time: `amount` in units of `speed e^-w / kappa` of a point, times `e^(large * level)`."""

    amount: Lanes
    level: Int[Array, "1 n"]

    def log_unit(self, point: Point) -> Lanes:
        """The logarithm of what the amount counts."""
        unit = safe_log(point.speed / point.pace) - point.place.log_lead
        return unit + self.level * large_log(self.amount)

    def at(self, point: Point) -> Lanes:
        """Its logarithm."""
        return safe_log(self.amount) + self.log_unit(point)

    def total(self) -> Lanes:
        """It in the units of the point, whatever the level; infinite where that overflows."""
        large = float(np.exp(large_log(self.amount)))
        once = jnp.where(self.level > 0, self.amount * large, self.amount)
        return jnp.where(self.level > 1, once * large, once)

    def counted(self, taken: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """What a time in the units of the point adds to the amount."""
        large = float(np.exp(large_log(self.amount)))
        return jnp.where(self.level == 0, taken, jnp.where(self.level == 1, taken / large, 0))


def large_log(x: Array) -> float:
    """The logarithm by which amounts of time are scaled down, before they overflow."""
    return float(np.floor(0.6 * np.log(float(jnp.finfo(x.dtype).max))))


def _shifted(clock: Clock, unit: Lanes) -> Clock:
    """The same time in another unit, which is `unit` of the old."""
    large = float(np.exp(large_log(unit)))
    amount, level = clock.amount / unit, clock.level
    over = (amount > large) | jnp.isinf(amount)
    under = (level > 0) & (amount < 1 / large**0.5)
    amount = jnp.where(over, clock.amount / large / unit, jnp.where(under, amount * large, amount))
    return Clock(amount, level + over - under)


class Walk(NamedTuple):
    """On the way: the point, the time since the start, the distance walked (in tau), the longest
    next step and the last one (in kappa tau), whether there is nothing more to do, the
    number of steps, and the influence of the start on the time, if that is asked for."""

    point: Point
    clock: Clock
    tau: Lanes
    step: Lanes
    last: Lanes
    done: Bool[Array, "1 n"]
    steps: Int[Array, "1 n"]
    influence: Influence | None


def set_out(orbit: Orbit, wanted: Bool[Array, "1 n"], influence: bool) -> Walk:
    point = seen(orbit, begin(orbit))
    zero = jnp.zeros_like(point.pace)
    none = jnp.zeros(zero.shape, jnp.int32)
    first = 0.2 / jnp.maximum(1, largest(jnp.abs(point.motion)))
    still = jax.lax.stop_gradient(first)
    extra = nothing_yet(orbit, point) if influence else None
    return Walk(point, Clock(zero, none), zero, still, zero, ~wanted, none, extra)


def _chosen(which: Bool[Array, "1 n"], new: Any, old: Any) -> Any:
    return jtu.tree_map(lambda a, b: jnp.where(which, a, b), new, old)


class _Plan(NamedTuple):
    """A step to try: its length, and whether it leads across a layer that takes no time."""

    step: Lanes
    across: Bool[Array, "1 n"]


def planned(walk: Walk, wish: Lanes, tol: float, limit: Lanes | float = jnp.inf) -> _Plan:
    """What may be done of a step that is wished for (in kappa tau; backwards if negative), at most
    `limit`."""
    forward, backward = reach(walk.point)
    most = jnp.minimum(walk.step, limit)
    # Back and forth over what is looked for: at most half of the way, until it is met.
    turned = wish * walk.last < 0
    most = jnp.where(turned, jnp.minimum(most, 0.5 * jnp.abs(walk.last)), most)
    longest = jnp.minimum(most, forward)
    step = jnp.clip(wish, -jnp.minimum(most, backward), longest)
    # Z is largest at the ends of a step across the layer: if even that is nothing beside the time
    # that has passed (at this end; `advance` looks at the other), the layer need not be resolved.
    # So the number of steps is bounded, however thin it is.
    across = to_hand_over(walk.point)
    known = (walk.clock.level > 0) | (2 * across < 0.1 * tol * walk.clock.amount)
    thin = (across > 0) & (across <= walk.step) & known & (wish >= longest)
    return _Plan(jnp.where(thin, 2 * across, step), thin)


def advance(orbit: Orbit, walk: Walk, plan: _Plan, least: Lanes, tol: float, steady: bool) -> Walk:
    """The walk after a step, or with a shorter step to try if that one was not precise.

    `least`: the time from which on relative errors count, in units of 1 / reward; `steady`: Z is to
    change by less than a factor of 16.
    """
    point, clock = walk.point, walk.clock
    dtype = walk.step.dtype
    # The mesh carries no derivatives: whatever it is, it leads to the same time.
    step = jax.lax.stop_gradient(plan.step)
    place = moved(orbit, point, step)
    there = seen(orbit, place)
    taken = time_between(point, there, step)
    ahead, passed = clock.amount + clock.counted(taken.amount), clock.total()
    amount = jnp.maximum(ahead, 0)
    own = passed if steady else jnp.maximum(passed, clock._replace(amount=amount).total())
    floor = least * point.pace * jnp.exp(point.place.log_lead) / point.speed
    error = taken.error / jnp.maximum(own, floor)
    error = jnp.maximum(jnp.where(jnp.isnan(error), jnp.inf, error), jnp.finfo(dtype).tiny)
    factor = 0.8 * jnp.sqrt(jnp.sqrt(jnp.sqrt(tol / error)))
    # The root has converged to what its last correction, squared and cubed, leaves.
    solved = jnp.abs(place.correction) < 1e-4
    ratio = taken.unit * there.pace / point.pace
    # Several patterns that led together leave the next far behind: Z may be much larger there.
    brief = plan.across & (step * jnp.maximum(1, ratio) < 0.2 * tol * passed)
    sound = solved & (brief | (error <= tol)) & (taken.amount * step >= 0)
    sound &= ahead >= 0
    if steady:
        sound &= brief | ((ratio < 16) & (ratio > 1 / 16))
        factor = jnp.where((ratio < 4) & (ratio > 0.25), factor, jnp.minimum(factor, 1))
    sound |= step == 0
    goes = sound & ~walk.done
    length = jnp.abs(step)
    longer = length * jnp.where(plan.across, 1, jnp.clip(factor, 0.3, 6))
    longer = jnp.maximum(longer, 0.3 * walk.step) * there.pace / point.pace
    # Less than half of the way across: no second try at once.
    shorter = length * jnp.where(solved & ~plan.across, jnp.clip(factor, 0.1, 0.7), 0.4)
    next_step = jax.lax.stop_gradient(jnp.where(sound, longer, shorter))
    influence = walk.influence
    if influence is not None:
        new = with_step(influence, influence_of(orbit, there, walk.tau + step / point.pace),
                        step, point, there, taken, clock, amount)  # fmt: skip
        influence = _chosen(goes, new, influence)
    onwards = Walk(
        there,
        _shifted(Clock(amount, clock.level), taken.unit),
        walk.tau + step / point.pace,
        next_step,
        step * there.pace / point.pace,
        walk.done,
        walk.steps,
        None,
    )
    kept = _chosen(goes, onwards, walk._replace(influence=None))
    return kept._replace(
        step=jnp.where(walk.done, walk.step, next_step),
        steps=walk.steps + ~walk.done,
        influence=influence,
    )


def unfinished(walk: Walk, resolution: Resolution) -> Bool[Array, ""]:
    """Whether a lane has still to go on, and may."""
    ahead = ~walk.done & (walk.steps < resolution.most) & jnp.isfinite(walk.point.pace)
    return jnp.any(ahead)


Measure = Callable[[Point], tuple[Lanes, Lanes]]
"""The value of an event at a point, and its derivative in kappa tau."""


def walk_to(
    orbit: Orbit,
    measure: Measure,
    wanted: Bool[Array, "1 n"],
    resolution: Resolution,
    lasts: Bool[Array, "1 n"],
    influence: bool,
) -> tuple["Ending", Bool[Array, "1 n"], Int[Array, "1 n"]]:
    """The first place at which an event's value crosses 0 from below, whether there is one, and
    the number of steps."""
    dtype = orbit.rewards.dtype
    tol = tolerance(resolution, dtype)
    # Newton's iteration is of second order.
    small = 0.1 * tol**0.5
    # Of what may end again, no x but the leader's is to triple unseen.
    limit = jnp.where(lasts, jnp.inf, 2.0)
    least = 1 / jnp.maximum(orbit.spread, jnp.finfo(dtype).tiny)

    def go_on(walk: Walk) -> Walk:
        value, slope = jax.lax.stop_gradient(measure(walk.point))
        rises = slope > 0
        wish = -value / jnp.where(rises, slope, 1)
        wish = jnp.where(rises, wish, jnp.where(value < 0, jnp.inf, -jnp.inf))
        arrived = rises & (jnp.abs(wish) < small)
        # In a layer so thin that floating-point numbers do not resolve it the time is settled.
        arrived |= (value >= 0) & (walk.clock.level > 0)
        walk = walk._replace(done=walk.done | arrived)
        plan = planned(walk, wish, tol, limit)
        plan = _Plan(jnp.where(walk.done, 0, plan.step), plan.across & ~walk.done)
        return advance(orbit, walk, plan, least, tol, steady=False)

    walk = jax.lax.while_loop(
        lambda walk: unfinished(walk, resolution), go_on, set_out(orbit, wanted, influence)
    )
    found = wanted & walk.done
    # The rest of the way, of second order as it is short; with the derivatives of the place.
    value, slope = measure(walk.point)
    near = found & (slope > 0)
    rest = -value / jnp.where(near, slope, 1)
    rest = jnp.where(near & (jnp.abs(rest) < 2 * small), rest, 0)
    return ended(orbit, walk, rest), found, walk.steps


class Carried(NamedTuple):
    """What derivatives need where a walk ends, beside the logarithms of the x: `amount`, the time
    in units in which a step in kappa tau takes its own length; `sums`, the influences (E9)."""

    inverse: Patterns
    motion: Patterns
    share: Patterns
    lead: Which
    tau: Lanes
    amount: Lanes
    sums: Rates


class Ending(NamedTuple):
    """Where a walk ends: the logarithms of the x and of the time; what derivatives need, if the
    walk has carried influences."""

    log_x: Patterns
    log_time: Lanes
    carried: Carried | None = None


def ended(orbit: Orbit, walk: Walk, step: Lanes) -> Ending:
    """The end of a walk, a very short step (in kappa tau) after its point."""
    point, clock = walk.point, walk.clock
    first, _, _ = point.rates
    taken = jnp.where(clock.level == 0, step * (1 + first * step / 2), 0)
    amount = jnp.maximum(clock.amount + taken, 0)
    log_time = clock._replace(amount=amount).at(point)
    bend = point.share * point.squares - point.motion * point.motion
    logs = log_x(orbit, point.place) + step * (point.motion + step * bend / 2)
    if walk.influence is None:
        return Ending(logs, log_time)
    inverse, motion, share, tau = velocity_at(orbit, point)
    weight = jnp.where(amount > 0, taken / jnp.where(amount > 0, amount, 1), 0)
    sums = jtu.tree_map(
        lambda total, rate: total + weight * (rate - total),
        walk.influence.sums,
        walk.influence.here[0],
    )
    carried = Carried(
        point.inverse + step * inverse,
        point.motion + step * motion,
        point.share + step * share,
        point.place.lead,
        walk.tau + step * tau,
        # In the unit of the place, not of the point: its derivative is part of the second ones.
        jnp.where(clock.level > 0, jnp.inf, amount / (1 + first * step)),
        sums,
    )
    return Ending(logs, log_time, carried)
