r"""What the start and the rewards do to the time: the integrals of (E9).

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from ...objectives._utilities import AbstractUtility, Mean
from ._lanes import Lanes, Patterns, Which, total
from ._point import Orbit, Point, Taken, pace_of, value_of


class Rates(NamedTuple):
    """What a unit of time adds, per unit of it: `start`: $A_j$ (E8) over the speed; `product`:
    that of $\\log C$; `rewards`: $\\tau A_j$, less what V itself depends on them; `utility`:
    that of the utility's parameters."""

    start: Patterns
    product: Lanes
    rewards: Patterns
    utility: list[Lanes]


class Influence(NamedTuple):
    """`sums`: the integrals over the time so far, divided by that time; `here`: the rates at the
    point, and their next Taylor coefficients in $\\kappa \\tau$."""

    sums: Rates
    here: tuple[Rates, Rates, Rates, Rates]


class _Moving(NamedTuple):
    """What the rates are functions of, all of it moving along the orbit."""

    inverse: Patterns
    motion: Patterns
    share: Patterns
    tau: Lanes


# Taylor coefficients in kappa tau.
_Series = Sequence[Any]


def _product(a: _Series, b: _Series, order: int) -> Any:
    """One coefficient of a product."""
    return functools.reduce(jnp.add, [a[k] * b[order - k] for k in range(order + 1)])


def _next(at: list[_Moving], lead: Which, pace: Lanes) -> _Moving:
    """One coefficient more: $y' = -y p$, $p' = \\pi \\sum p^2 - p^2$,
    $\\pi' = \\pi (\\sum \\pi p - p)$."""
    order = len(at) - 1
    inverse, motion, share, _ = (list(x) for x in zip(*at, strict=True))
    squares = [total(_product(motion, motion, n)) for n in range(order + 1)]
    excess = [total(_product(share, motion, n)) - motion[n] for n in range(order + 1)]
    bend = _product(squares, share, order) - _product(motion, motion, order)
    # The leader's own share changes by what the others lose, which does not cancel.
    change = jnp.where(lead, 0, _product(share, excess, order))
    change = jnp.where(lead, -total(change), change)
    tau = 1 / pace if order == 0 else jnp.zeros_like(pace)
    share_of = 1 / (order + 1)
    following = _Moving(-_product(inverse, motion, order), bend, change, tau)
    return _Moving(*(x * share_of for x in following))


def velocity_at(orbit: Orbit, point: Point) -> _Moving:
    """How 1/x, the motion, the shares and tau change at a point."""
    at = _Moving(point.inverse, point.motion, point.share, jnp.zeros_like(point.pace))
    return _next([at], point.place.lead, point.pace)


def _utility_slopes(utility: AbstractUtility, value: Lanes, shortfall: Lanes) -> list[Lanes]:
    """The derivatives of $\\log \\varphi$ in each of the utility's parameters."""
    moving, fixed = eqx.partition(utility, eqx.is_inexact_array)
    leaves, structure = jtu.tree_flatten(moving)

    def log_clock(leaves):
        moved = eqx.combine(jtu.tree_unflatten(structure, leaves), fixed)
        return jnp.log(pace_of(moved, value, shortfall))

    basis = [
        [jnp.full_like(x, float(i == j)) for j, x in enumerate(leaves)] for i in range(len(leaves))
    ]
    return [jax.jvp(log_clock, (leaves,), (ones,))[1] for ones in basis]


def _composed(function: Callable, value: _Series, shortfall: _Series) -> _Series:
    """The Taylor coefficients of `function(V, 1 - V)` from those of its arguments."""

    def along(function):
        one = jnp.ones_like(value[0])
        return lambda v, s: jax.jvp(function, (v, s), (one, -one))[1]

    once = along(function)
    twice = along(once)
    f0, f1, f2, f3 = (f(value[0], shortfall[0]) for f in (function, once, twice, along(twice)))
    v1, v2, v3 = value[1:]
    return [f0, f1 * v1, f1 * v2 + f2 * v1**2 / 2, f1 * v3 + f2 * v1 * v2 + f3 * v1**3 / 6]


def influence_of(orbit: Orbit, point: Point, tau: Lanes) -> tuple[Rates, Rates, Rates, Rates]:
    """The rates at a point, and their next Taylor coefficients in $\\kappa \\tau$."""
    lead = point.place.lead
    at = [_Moving(point.inverse, point.motion, point.share, tau)]
    for _ in range(3):
        at.append(_next(at, lead, point.pace))
    inverse, motion, share, times = (list(x) for x in zip(*at, strict=True))
    orders = range(4)
    own = [jnp.zeros_like(x) for x in share]
    utility: list[_Series] = []
    if isinstance(orbit.utility, Mean):
        loss, kept = share, inverse
    else:
        # dZ phi / dx_j has phi - phi' (V - R_j) in place of phi.
        both = [value_of(orbit, x) for x in share]
        value, shortfall = [x[0] for x in both], [both[0][1], *(-x[0] for x in both[1:])]

        def bend_of(v, s):
            one = jnp.ones_like(v)
            clock, slope = jax.jvp(lambda v, s: pace_of(orbit.utility, v, s), (v, s), (one, -one))
            return slope / clock

        bend = _composed(bend_of, value, shortfall)
        behind = [total(x * point.place.rise) for x in share]
        behind[0] = behind[0] - point.place.rise  # V - R_i
        weighed = [_product(bend, behind, n) for n in orders]
        loss = [share[n] - _product(share, weighed, n) for n in orders]
        kept = [inverse[n] - point.pace * _product(bend, motion, n) for n in orders]
        own = [_product(bend, share, n) for n in orders]
        number = len(jtu.tree_leaves(eqx.filter(orbit.utility, eqx.is_inexact_array)))
        utility = [
            _composed(lambda v, s, i=i: _utility_slopes(orbit.utility, v, s)[i], value, shortfall)
            for i in range(number)
        ]
    weight = [total(_product(share, loss, n)) for n in orders]
    there = orbit.exists & ~lead
    found = []
    for n in orders:
        start = _product(inverse, weight, n) - _product(share, kept, n)
        start = jnp.where(there, start, 0)
        # The leader's own is a difference of two numbers near 1 / x^2; they all add up to 0.
        found.append(jnp.where(lead, -total(start), start))
    rewards = [_product(times, found, n) - own[n] for n in orders]
    return tuple(  # pyright: ignore
        Rates(found[n], weight[n], rewards[n], [x[n] for x in utility]) for n in orders
    )


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
        first, second, third = point.rates
        speed = [jnp.ones_like(length), first, second / 2, third / 6]
        return [scale * math.factorial(n) * length**n * _product(speed, rates, n) for n in range(4)]

    scale = jnp.where(amount > 0, 1 / jnp.where(amount > 0, amount, 1), 0)

    def added(sums, *rates):
        left = of_speed(a, step, jnp.ones_like(step), rates[:4])
        right = of_speed(b, ahead, ratio, rates[4:])
        within = (left[0] + right[0]) / 2 + (left[1] - right[1]) * (3 / 28)
        within = within + (left[2] + right[2]) / 84 + (left[3] - right[3]) / 1680
        grown = (sums * clock.amount + clock.counted(step * within)) * scale
        return jnp.where(clock.level > 1, sums, grown)

    return Influence(jtu.tree_map(added, so_far.sums, *so_far.here, *there), there)
