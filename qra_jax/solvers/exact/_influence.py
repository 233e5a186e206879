r"""What the start and the rewards do to the time: the integrals of (E9).

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ...objectives._utilities import AbstractUtility, Mean
from ._lanes import Lanes, Patterns, Which, total
from ._point import Orbit, Point, Taken, pace_of, value_of


class Rates(NamedTuple):
    """What a unit of time adds, per unit of it: `start`: $A_j$ (E8) over the speed; `product`:
    that of $\\log C$; `rewards`: $\\tau A_j$, less what V itself depends on them; `utility`: that of
    the utility's parameters."""

    start: Patterns
    product: Lanes
    rewards: Patterns
    utility: list[Lanes]


class Influence(NamedTuple):
    """`sums`: the integrals over the time so far, divided by that time; `here`: the rates at the
    point, with three derivatives in $\\kappa \\tau$."""

    sums: Rates
    here: tuple[Rates, Rates, Rates, Rates]


class _Moving(NamedTuple):
    """What the rates are functions of, all of it moving along the orbit."""

    inverse: Patterns
    motion: Patterns
    share: Patterns
    tau: Lanes


def _velocity(at: _Moving, lead: Which, exists: Which, pace: Lanes) -> _Moving:
    """The derivative in $\\kappa \\tau$: $y' = -y p$, $p' = \\pi \\sum p^2 - p^2$,
    $\\pi' = \\pi (\\sum \\pi p - p)$."""
    motion, share = at.motion, at.share
    change = share * (total(share * motion) - motion)
    # The leader's own share changes by what the others lose, which does not cancel.
    change = jnp.where(lead, 0, change)
    change = jnp.where(lead, -total(change), change)
    bend = jnp.where(exists, share * total(motion * motion) - motion * motion, 0)
    return _Moving(-at.inverse * motion, bend, change, 1 / pace + jnp.zeros_like(at.tau))


def velocity_at(orbit: Orbit, point: Point) -> _Moving:
    """How 1/x, the motion, the shares and tau change at a point."""
    at = _Moving(point.inverse, point.motion, point.share, jnp.zeros_like(point.pace))
    return _velocity(at, point.place.lead, orbit.exists, point.pace)


def _utility_slopes(utility: AbstractUtility, value: Lanes, shortfall: Lanes) -> list[Lanes]:
    """The derivatives of $\\log \\varphi$ in each of the utility's parameters."""
    leaves, structure = jtu.tree_flatten(utility)

    def log_clock(leaves):
        return jnp.log(pace_of(jtu.tree_unflatten(structure, leaves), value, shortfall))

    found = []
    for i, leaf in enumerate(leaves):
        ones = [jnp.where(i == j, jnp.ones_like(x), jnp.zeros_like(x)) for j, x in enumerate(leaves)]
        del leaf
        found.append(jax.jvp(log_clock, (leaves,), (ones,))[1])
    return found


def _rates(orbit: Orbit, point: Point, at: _Moving) -> Rates:
    lead = point.place.lead
    inverse, share = at.inverse, at.share
    if isinstance(orbit.utility, Mean):
        loss: Any = share
        weight = total(share * share)
        start = inverse * (weight - share)
        own: Any = 0.0
        utility: list[Lanes] = []
    else:
        value, shortfall = value_of(orbit, share)
        one = jnp.ones_like(value)
        clock, slope = jax.jvp(
            lambda v, s: pace_of(orbit.utility, v, s), (value, shortfall), (one, -one)
        )
        bend = slope / clock
        behind = total(share * point.place.rise) - point.place.rise  # V - R_i
        loss = share * (1 - bend * behind)
        weight = total(share * loss)
        start = inverse * weight - share * (inverse - bend * point.pace * at.motion)
        own = bend * share
        utility = _utility_slopes(orbit.utility, value, shortfall)
    start = jnp.where(orbit.exists & ~lead, start, 0)
    # The leader's own is a difference of two numbers near 1 / x^2; all of them add up to 0.
    start = jnp.where(lead, -total(start), start)
    return Rates(start, weight, at.tau * start - own, utility)


def influence_of(orbit: Orbit, point: Point, tau: Lanes) -> tuple[Rates, Rates, Rates, Rates]:
    """The rates at a point, and their first three derivatives in $\\kappa \\tau$."""
    lead, exists, pace = point.place.lead, orbit.exists, point.pace

    def along(function):
        return lambda at: jax.jvp(function, (at,), (_velocity(at, lead, exists, pace),))[1]

    def rates(at):
        return _rates(orbit, point, at)

    at = _Moving(point.inverse, point.motion, point.share, tau)
    once = along(rates)
    twice = along(once)
    return rates(at), once(at), twice(at), along(twice)(at)


def nothing_yet(orbit: Orbit, point: Point) -> Influence:
    here = influence_of(orbit, point, jnp.zeros_like(point.pace))
    return Influence(jtu.tree_map(jnp.zeros_like, here[0]), here)


def with_step(
    so_far: Influence, there: tuple[Rates, Rates, Rates, Rates], step: Lanes, a: Point, b: Point,
    taken: Taken, clock: Any, amount: Lanes,
) -> Influence:  # fmt: skip
    """The influence after a step, by the rule that gives its time."""
    ratio = taken.unit * (b.pace / a.pace)
    ahead = step * (b.pace / a.pace)

    def of_speed(point: Point, length: Lanes, scale: Lanes, rates) -> list:
        """Speed times a rate, and three derivatives, on a step of this length."""
        z = [jnp.ones_like(length), *point.rates]
        choose = ((1,), (1, 1), (1, 2, 1), (1, 3, 3, 1))
        return [
            scale * length**n * sum(c * z[n - k] * rates[k] for k, c in enumerate(choose[n]))
            for n in range(4)
        ]

    begun = clock.level == 0
    scale = jnp.where(amount > 0, 1 / jnp.where(amount > 0, amount, 1), 0)

    def added(sums, *rates):
        left = of_speed(a, step, jnp.ones_like(step), rates[:4])
        right = of_speed(b, ahead, ratio, rates[4:])
        within = (left[0] + right[0]) / 2 + (left[1] - right[1]) * (3 / 28)
        within = within + (left[2] + right[2]) / 84 + (left[3] - right[3]) / 1680
        grown = (sums * clock.amount + step * within) * scale
        return jnp.where(begun, grown, sums)

    return Influence(jtu.tree_map(added, so_far.sums, *so_far.here, *there), there)
