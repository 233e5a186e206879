r"""Points of orbits, and the way from one to the next.

Numbers of equations are those of docs/exact.md; symbols: see this folder's `__init__.py`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ...objectives._utilities import AbstractUtility, Mean
from ._lanes import Lanes, Patterns, Which, first_of, largest, log_product, of, smallest, total


class Orbit(NamedTuple):
    """Orbits of n lanes: `log_start`, logarithms of x(0) in a unit of its own (0 where there is
    no pattern), and the rewards (0 there as well). `utility` holds an array (n,) for each of its
    parameters."""

    log_start: Patterns
    rewards: Patterns
    exists: Which
    utility: AbstractUtility

    @property
    def start(self) -> Patterns:
        return jnp.exp(self.log_start)

    @property
    def spread(self) -> Lanes:
        """The largest reward less the smallest."""
        high = largest(jnp.where(self.exists, self.rewards, -jnp.inf))
        return high - smallest(jnp.where(self.exists, self.rewards, jnp.inf))


class Place(NamedTuple):
    """A point of an orbit, by what it is computed from.

    `gap`: $x_i - x_\\ell$ (may be below 0 by less than $x_\\ell$, until the lead changes); `rise`:
    $R_i - R_\\ell$; `lead`: which pattern leads; `log_lead`: $w = \\log x_\\ell$; `residual`: of
    the product of all x, in logarithms, before the last `correction` of $w$.
    """

    gap: Patterns
    rise: Patterns
    lead: Which
    log_lead: Lanes
    residual: Lanes
    correction: Lanes


class Point(NamedTuple):
    r"""A place, and all that a step from it needs.

    `inverse`: $1/x_i$, 0 for the leader, whose x may underflow; `share`: $\pi_i$; `pace`:
    $\kappa$, the largest of all $|dx_i/d\tau| / x_i$; `motion`: $(dx_i/d\tau) / (x_i \kappa)$, at
    most 1; `squares`: the sum of its squares; `lead_rates`: the first three derivatives of $w$ in
    $\kappa \tau$; `rates`: those of $Z / f'(V)$, relative to it; `speed`: $\sum_i x_\ell / x_i$
    over $f'(V)$, so that $dt/d\tau = $ `speed` $e^{-w}$.
    """

    place: Place
    inverse: Patterns
    share: Patterns
    motion: Patterns
    pace: Lanes
    squares: Lanes
    lead_rates: tuple[Lanes, Lanes, Lanes]
    rates: tuple[Lanes, Lanes, Lanes]
    speed: Lanes


def begin(orbit: Orbit) -> Place:
    """Where an orbit starts."""
    log_x = jnp.where(orbit.exists, orbit.log_start, jnp.inf)
    least = smallest(log_x)
    # Of several with the smallest x the one of the largest reward goes on to lead.
    reward = largest(jnp.where(log_x == least, orbit.rewards, -jnp.inf))
    lead = first_of((log_x == least) & (orbit.rewards == reward))
    others = orbit.exists & ~lead
    gap = jnp.where(others, orbit.start - of(lead, orbit.start), 0)
    rise = jnp.where(orbit.exists, orbit.rewards - of(lead, orbit.rewards), 0)
    nothing = jnp.zeros_like(least)
    return Place(gap, rise, lead, of(lead, orbit.log_start), nothing, nothing)


def seen(orbit: Orbit, place: Place) -> Point:
    """A place with its derivatives."""
    least = jnp.finfo(place.gap.dtype).tiny
    others = orbit.exists & ~place.lead
    scale = jnp.exp(place.log_lead)
    inverse = jnp.where(others, 1 / jnp.where(others, place.gap + scale, 1), 0)
    ratio = jnp.where(place.lead, 1, inverse * scale)
    whole = total(ratio)
    share = ratio / whole
    ahead = total(share * place.rise)  # V less the leader's reward
    motion = inverse * (ahead - place.rise)
    # The product of the x is constant, and the leader's own motion is lost in 1 / x of its own.
    motion = jnp.where(place.lead, -total(motion), motion)
    pace = jnp.maximum(largest(jnp.abs(motion)), least)
    motion = motion / pace
    square, weighed = motion * motion, share * motion
    squares, drift = total(square), total(weighed)
    spread = total(share * square)
    twist = 3 * squares * drift - 2 * total(square * motion)
    doubled = total(share * share)
    first = -drift
    second = 2 * spread - squares * doubled
    third = 6 * squares * total(share * weighed) - 6 * total(weighed * square) - twist * doubled
    lead, own = of(place.lead, motion), of(place.lead, share)
    curve = own * squares
    lead_rates = lead, curve - lead * lead, own * twist - 3 * lead * curve + 2 * lead**3
    # What the last correction of w left, of second order.
    last = place.correction
    left = place.residual + last * whole * (1 - 0.5 * last * (1 - doubled * whole))
    place = place._replace(residual=left, correction=jnp.zeros_like(last))
    point = Point(
        place, inverse, share, motion, pace, squares, lead_rates, (first, second, third), whole
    )
    if isinstance(orbit.utility, Mean):
        return point
    fourth = 6 * total(square * square) - 12 * squares * spread + 4 * twist * drift
    fourth = fourth + 3 * squares * squares * doubled
    return _on_its_clock(orbit, point, squares, twist, fourth)


def pace_of(utility: AbstractUtility, value: Lanes, shortfall: Lanes) -> Lanes:
    """$1 / f'(V)$ for each lane."""

    def one(utility, value, shortfall):
        return 1 / utility.slope(value, shortfall)

    lanes = (eqx.if_array(-1), -1, -1)
    return eqx.filter_vmap(one, in_axes=lanes, out_axes=-1)(utility, value, shortfall)


def value_of(orbit: Orbit, share: Patterns) -> tuple[Lanes, Lanes]:
    """V and 1 - V, both sums of positive terms."""
    rewards = jnp.where(orbit.exists, orbit.rewards, 0)
    return total(share * rewards), total(share * (1 - rewards))


def _on_its_clock(orbit: Orbit, point: Point, second: Lanes, third: Lanes, fourth: Lanes) -> Point:
    """The point with the derivatives of $Z \\varphi(V)$, $\\varphi = 1 / f'$ (E10), from those of c
    in units of Z."""
    value, shortfall = value_of(orbit, point.share)

    def clock(value, shortfall):
        return pace_of(orbit.utility, value, shortfall)

    def along(function):
        """The derivative in V, in which 1 - V falls."""
        one = jnp.ones_like(value)
        return lambda v, s: jax.jvp(function, (v, s), (one, -one))[1]

    once = along(clock)
    twice = along(once)
    phi = clock(value, shortfall)
    a, b, c = (f(value, shortfall) / phi for f in (once, twice, along(twice)))
    # Derivatives of V in kappa tau: those of c, whose unit is kappa / Z.
    unit = point.pace * jnp.exp(point.place.log_lead) / point.speed
    first, second, third = unit * second, unit * third, unit * fourth
    f1, f2 = a * first, b * first**2 + a * second
    f3 = c * first**3 + 3 * b * first * second + a * third
    z1, z2, z3 = point.rates
    rates = z1 + f1, z2 + 2 * z1 * f1 + f2, z3 + 3 * z2 * f1 + 3 * z1 * f2 + f3
    return point._replace(rates=rates, speed=point.speed * phi)


def reach(point: Point) -> tuple[Lanes, Lanes]:
    """How far, in $\\kappa \\tau$, no x falls below a tenth of itself, forwards and backwards."""
    drop = point.inverse * point.place.rise / point.pace
    least = jnp.finfo(drop.dtype).tiny
    return 0.9 / jnp.maximum(largest(drop), least), 0.9 / jnp.maximum(largest(-drop), least)


def to_hand_over(point: Point) -> Lanes:
    """How far, in $\\kappa \\tau$, it is to where the next pattern has the leader's x."""
    behind = (point.place.rise > 0) & (point.place.gap >= 0)
    gap = jnp.where(behind, point.place.gap * point.pace, jnp.inf)
    return smallest(gap / jnp.where(behind, point.place.rise, 1))


def _predicted(point: Point, step: Lanes) -> Lanes:
    """$w$ after a step, by its series; without it where the step is long."""
    first, second, third = point.lead_rates
    near = jnp.abs(step) * jnp.maximum(1, jnp.abs(first)) < 0.5
    series = step * (first + step * (second / 2 + step * third / 6))
    return point.place.log_lead + jnp.where(near, series, 0)


def moved(orbit: Orbit, point: Point, step: Lanes) -> Place:
    """The place a step (in $\\kappa \\tau$) further.

    The gaps are straight lines (E2), whatever the step; $w$ is the root of (E3).
    """
    there, place = orbit.exists, point.place
    length = step / point.pace
    gap = jnp.where(there & ~place.lead, place.gap - place.rise * length, 0)
    least = smallest(jnp.where(there, gap, jnp.inf))
    # Another pattern has the smallest x now, and leads.
    over = least < 0
    lead = jnp.where(over, first_of(there & (gap == least)), place.lead)
    gap = jnp.where(there & ~lead, gap - jnp.where(over, least, 0), 0)
    rise = place.rise - jnp.where(over, of(lead, place.rise), 0)
    rise = jnp.where(there & ~lead, rise, 0)

    log_lead = _predicted(point, step)
    below = jnp.exp(log_lead) + least
    # Far across a thin layer the two have changed places, at the distance they had.
    near = jnp.where(below > 0, jnp.log(jnp.where(below > 0, below, 1)), place.log_lead)
    log_lead = jnp.where(over, near, log_lead)

    others = there & ~lead & ~place.lead
    inverse = jnp.where(others, point.inverse, 0)
    # After a change of lead: the factor of the one that led, over that of the one that leads.
    before, after = of(place.lead, gap), of(lead, point.inverse)
    last = jnp.zeros_like(step)
    late = last
    for _ in range(3):
        scale = jnp.exp(log_lead)
        factors = jnp.where(others, (gap + scale) * inverse, 1)
        late, slope = log_product(factors), total(inverse * scale / factors)
        changed = jnp.where(over, (before + scale) * after, 1)
        late = late + jnp.log(changed) + (log_lead - place.log_lead) + place.residual
        slope = slope + 1 + jnp.where(over, scale / jnp.where(over, before + scale, 1), 0)
        last = -late / slope
        log_lead = log_lead + last
    return Place(gap, rise, lead, log_lead, late, last)


def log_x(orbit: Orbit, place: Place) -> Patterns:
    """The logarithms of all x."""
    others = orbit.exists & ~place.lead
    x = jnp.where(others, place.gap + jnp.exp(place.log_lead), 1)
    return jnp.where(place.lead, place.log_lead, jnp.log(x))


class Taken(NamedTuple):
    """The time between two points in units of `speed e^-w / kappa` of the first, its error, and the
    unit of the second in that of the first."""

    amount: Lanes
    error: Lanes
    unit: Lanes


def time_between(a: Point, b: Point, step: Lanes) -> Taken:
    """The time of a step, by two-point Hermite quadrature of order 8."""
    ratio = b.speed / a.speed * jnp.exp(a.place.log_lead - b.place.log_lead)
    ahead = step * (b.pace / a.pace)
    a1, a2, a3 = (rate * step**n for n, rate in enumerate(a.rates, 1))
    b1, b2, b3 = (ratio * rate * ahead**n for n, rate in enumerate(b.rates, 1))
    amount = (1 + ratio) / 2 + (a1 - b1) * (3 / 28) + (a2 + b2) / 84 + (a3 - b3) / 1680
    # By how much rules of order 7 (which leave out the last derivative at one end), 6 and 4 differ
    # from it. Errors fall by about the same factor from one order to the next, and are 0 for a
    # polynomial, as Z is of degree K - 1 where one pattern leads by far. The first estimate sees
    # nothing where Z is even about the middle of the step, as in a hand-over; the second does.
    seventh = (1 - ratio) / 14 + (a1 + b1) / 28 + (a2 - b2) / 140 + (a3 + b3) / 1680
    sixth = (a1 - b1) / 140 + (a2 + b2) / 280 + (a3 - b3) / 1680
    fourth = (a1 - b1) / 42 + (a2 + b2) / 84 + (a3 - b3) / 1680
    rounding = 2 * jnp.finfo(step.dtype).eps * (1 + ratio)
    seventh, sixth = (jnp.maximum(jnp.abs(x) - rounding, 0) for x in (seventh, sixth))
    least = jnp.finfo(step.dtype).tiny
    odd = seventh * jnp.clip(seventh / jnp.maximum(sixth, least), 0.01, 1)
    even = sixth * jnp.clip(sixth / jnp.maximum(jnp.abs(fourth), least), 0, 1)
    error = jnp.maximum(odd, even)
    return Taken(step * amount, jnp.abs(step) * error, ratio * (a.pace / b.pace))
