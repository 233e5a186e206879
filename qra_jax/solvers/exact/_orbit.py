r"""The orbit of a flow with constant pattern rewards, and its points.

With $x_i = e^{-\theta_i}$ and $d\tau = dt / \sum_i 1/x_i$ the flow $\dot\theta_i = \pi_i (R_i - V)$
is $x_i(\tau) = x_i(0) - R_i \tau + c(\tau)$, $\prod_i x_i$ constant. Everything here is for one
question. Source: derived in docs/exact.md#the-orbit. The symbols, and what (E1) and the other
numbers stand for, are explained in the docstring of this folder's `__init__.py`.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core.floats import safe_log
from ..._core.roots import root_in_bracket
from ..._core.types import Scalar
from ...objectives._utilities import AbstractUtility, Mean

_Patterns = Float[Array, " K"]


def largest_log(dtype) -> float:
    """Logarithms up to this can be taken back."""
    return 0.97 * float(np.log(float(jnp.finfo(dtype).max)))


def _scale(log: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`exp`, finite: what it would overflow for multiplies a 0."""
    return jnp.exp(jnp.minimum(log, largest_log(log.dtype)))


class Orbit(eqx.Module):
    """`log_start`: logarithms of x(0), in units of the largest; 0 where there is no pattern.
    The utility changes nothing but the time that passes on the way."""

    log_start: _Patterns
    rewards: _Patterns
    exists: Bool[Array, " K"]
    log_unit: Scalar
    utility: AbstractUtility

    def __init__(
        self,
        logits: _Patterns,
        rewards: _Patterns,
        exists: Bool[Array, " K"],
        utility: AbstractUtility = Mean(),
    ):
        finite = jnp.where(exists, logits, 0)
        # In units of the largest x no exponential overflows, whatever the logits.
        unit = jax.lax.stop_gradient(jnp.max(jnp.where(exists, -finite, -jnp.inf)))
        self.log_unit = unit
        self.log_start = jnp.where(exists, -finite - unit, 0)
        self.rewards = jnp.where(exists, rewards, 0)
        self.exists = exists
        self.utility = utility

    @property
    def log_product(self) -> Scalar:
        return jnp.sum(self.log_start)

    @property
    def start(self) -> _Patterns:
        return jnp.where(self.exists, jnp.exp(self.log_start), jnp.inf)

    @property
    def moves(self) -> Bool[Array, ""]:
        """Whether there are two different rewards."""
        low = jnp.min(jnp.where(self.exists, self.rewards, jnp.inf))
        return jnp.any(self.exists & (self.rewards > low))

    def logits(self, log_x: Float[Array, "K *N"]) -> Float[Array, "K *N"]:
        """The logits at points of the orbit, in the shift of those given."""
        there = self.exists.reshape(self.exists.shape + (1,) * (log_x.ndim - 1))
        return jnp.where(there, -log_x - self.log_unit, -jnp.inf)


class Cell(NamedTuple):
    """The surroundings of one hand-over: `origin` is the tau at which the line of pattern `after`
    overtakes that of `before`; it reaches `left` to the middle of the panel before it, and `right`
    to that of the one after. `log_width`: of the layer in which the hand-over happens, or in which
    another pattern's x changes as much, if that is narrower."""

    origin: Scalar
    before: Int[Array, ""]
    after: Int[Array, ""]
    left: Scalar
    right: Scalar
    log_width: Scalar


def cells_of(orbit: Orbit) -> tuple[Cell, Int[Array, ""]]:
    """The cells of an orbit (leading axis K, the first at tau = 0), and their number.

    The pattern that leads (has the smallest x) is, outside of the layers, the one on the upper
    envelope of the lines `R_i tau - x_i(0)`.
    """
    # Constant origins are what holds tau in the derivatives (E7) and (E9).
    orbit = jax.lax.stop_gradient(orbit)
    start, rewards = orbit.start, orbit.rewards
    indices = jnp.arange(start.shape[0])

    def step(carry, _):
        origin, before, after, left, alive = carry
        gap = _gaps_at(orbit, origin, before, after, after)
        # Gaps are straight lines in tau (E2), free of c, so that the next to lead is known without
        # a root. It has a larger reward: at most K - 1 hand-overs, and K cells.
        rise = rewards - rewards[after]
        overtakes = orbit.exists & (rise > 0)
        length = jnp.where(overtakes, gap / jnp.where(overtakes, rise, 1), jnp.inf)
        shortest = jnp.min(length)
        # Of several that catch up at once the one of the largest reward goes on to lead.
        following = jnp.argmax(jnp.where(length == shortest, rewards, -jnp.inf))
        log_lead = _log_lead_below(safe_log(gap), orbit.log_product, orbit.exists)
        # The x of a pattern changes by its own size within this distance; at the start, time is
        # to be resolved from 0 on.
        slope = safe_log(jnp.maximum(jnp.abs(rise), jnp.abs(rewards - rewards[before])))
        log_x = jnp.where(before == after, log_lead, jnp.logaddexp(safe_log(gap), log_lead))
        others = orbit.exists & (indices != after)
        log_width = jnp.min(jnp.where(others, log_x - slope, jnp.inf))
        cell = Cell(origin, before, after, left, shortest / 2, log_width)
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


def cell_at(cells: Cell, index: Int[Array, ""]) -> Cell:
    """One of several cells."""
    return Cell(*(x[index] for x in cells))


def _gaps_at(orbit: Orbit, origin, before, after, lead) -> _Patterns:
    """`x_i` less that of `lead` at a hand-over; exactly 0 for the two patterns that meet there."""
    start, rewards = orbit.start, orbit.rewards
    # (E2).
    gap = (start - start[lead]) - (rewards - rewards[lead]) * origin
    index = jnp.arange(gap.shape[0])
    # The leader's own is 0 whatever the orbit: in reverse its 1 / x would swamp the others. So its
    # A_l in (E8) is minus their sum, not a difference of two numbers near 1 / x_l^2.
    gap = jnp.where(orbit.exists & (index != lead), gap, 0)
    # The two that meet have the same x, where (E2) would leave a rounding error, which may be
    # larger than x_l. The derivative is that of (E2).
    meets = (index == before) | (index == after) | (gap < 0)
    return jnp.where(meets, gap - jax.lax.stop_gradient(gap), gap)


# Patterns that are worked on one by one, not as an axis: reductions over a short axis are slow.
_TOGETHER = 8


def _in_groups(x: Array, fill) -> list[Array]:
    """At most 8 arrays `(G, *N)` out of one `(K, *N)`."""
    count = min(x.shape[0], _TOGETHER)
    groups = -(-x.shape[0] // count)
    padding = [(0, groups * count - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    x = jnp.pad(x, padding, constant_values=fill).reshape(groups, count, *x.shape[1:])
    return [x[:, i] for i in range(count)]


def _added(rows: list[Array]) -> Array:
    return jnp.sum(functools.reduce(jnp.add, rows), axis=0)


def _two_body(log_gap, total):
    """`w` with `w + logaddexp(w, log_gap) = total`."""
    # The positive root of x^2 + g x = T, as 2 T / (g + sqrt(g^2 + 4 T)), which does not cancel.
    # Each form takes back only logarithms of at most 0.
    s = total - 2 * jnp.where(log_gap > -jnp.inf, log_gap, 0)
    low = -jnp.log((1 + jnp.sqrt(1 + 4 * jnp.exp(jnp.minimum(s, 0)))) / 2)
    high = -jnp.log(
        (jnp.exp(-jnp.maximum(s, 0) / 2) + jnp.sqrt(jnp.exp(-jnp.maximum(s, 0)) + 4)) / 2
    )
    w = total - log_gap + jnp.where(s > 0, high - s / 2, low)
    return jnp.where(log_gap > -jnp.inf, w, total / 2)


def _log_lead_below(log_gap: _Patterns, total: Scalar, exists: Bool[Array, " K"]) -> Scalar:
    """A bound from above, near enough to serve as a unit, of the logarithm of the smallest x."""
    rows = _in_groups(jnp.where(exists, log_gap, jnp.inf), jnp.inf)
    number = jnp.sum(exists).astype(total.dtype)

    def finite(x):
        return jnp.where(jnp.isfinite(x), x, 0)

    first, second = rows[0], jnp.full_like(rows[0], jnp.inf)
    for row in rows[1:]:
        second = jnp.minimum(second, jnp.maximum(first, row))
        first = jnp.minimum(first, row)
    if first.shape[0] == 1:
        first, second = first[0], second[0]
    else:
        first, second = jnp.sort(jnp.concatenate([first, second]))[:2]
    # x_i >= e^w for all i, and x_i >= gap_i for all but the two smallest.
    rest = _added([finite(row) for row in rows]) - finite(first) - finite(second)
    two = _two_body(jnp.where(number == 1, 0, second), total - rest)
    return jnp.where(number == 1, total, jnp.minimum(total / number, two))


class Side(NamedTuple):
    """An orbit on one side of a cell, seen from the distance `exp(log_far)`.

    In units `e^log_unit` the x are `lead * E + gap + slope * (distance / far)`, E > 0 the same for
    all; the leading one is E, in the unit `e^log_lead`, and `log_product` is of all x.
    """

    log_unit: _Patterns
    log_lead: Scalar
    lead: _Patterns
    gap: _Patterns
    slope: _Patterns
    log_product: Scalar


def side_of(orbit: Orbit, cell: Cell, side: Scalar, log_far: Scalar) -> Side:
    """The orbit before (`side` -1) or after (+1) a cell's origin. Units carry no derivatives."""
    leader = jnp.where(side < 0, cell.before, cell.after)
    gap = _gaps_at(orbit, cell.origin, cell.before, cell.after, leader)
    others = orbit.exists & (jnp.arange(gap.shape[0]) != leader)
    slope = jnp.where(others, side * (orbit.rewards[leader] - orbit.rewards), 0)
    still, far = jax.lax.stop_gradient((gap, slope, orbit.log_product)), log_far
    log_far = jax.lax.stop_gradient(log_far)
    # Two patterns that meet have no gap but what the distance makes: taken in logarithms, which
    # resolve a layer of any width.
    apart = safe_log(jnp.maximum(still[0] + still[1] * _scale(log_far), 0))
    log_gap = jnp.where(still[0] > 0, apart, safe_log(jnp.maximum(still[1], 0)) + log_far)
    log_lead = _log_lead_below(log_gap, still[2], orbit.exists)
    log_unit = jnp.where(orbit.exists, jnp.logaddexp(log_lead, log_gap), 0)
    there = orbit.exists
    # q_i, h_i in two parts whose sum is at most 1, whatever the orders of the x, and the right side
    # of (E3).
    return Side(
        log_unit,
        log_lead,
        jnp.where(there, jnp.exp(log_lead - log_unit), 0),
        jnp.where(there, gap * _scale(-log_unit), 1),
        jnp.where(there, slope * _scale(far - log_unit), 0),
        orbit.log_product - jnp.sum(log_unit),
    )


def _solve_lead(
    lead: Float[Array, "K *M"],
    rest: Float[Array, "K *N"],
    log_product: Scalar,
    guess: Float[Array, "*N"],
    tol: float,
) -> Float[Array, "*N"]:
    """`log E` with `sum_i log(lead_i E + rest_i) = log_product`, by Halley's iteration:
    increasing and convex in `log E`, so that it converges from anywhere."""
    lead = jax.lax.stop_gradient(lead)  # in units of its own
    leads, rests = _in_groups(lead, 0), _in_groups(rest, 1)
    # Of third order: the step after one below this is below `tol`.
    small = 0.5 * max(tol, float(jnp.finfo(rest.dtype).eps)) ** (1 / 3)
    longest = largest_log(rest.dtype) / 10

    def look(log_lead, aux):
        scale = jnp.exp(log_lead)[None]
        product, slope, bend = _product(scale, leads, rests)
        value = jnp.sum(jnp.log(product), axis=0) - log_product
        # F' and F'' of (E4), from derivatives in E of the logarithms of products.
        slope, bend = slope * scale / product, bend * scale * scale / product
        first = jnp.sum(slope, axis=0)
        second = first + jnp.sum(bend - slope * slope, axis=0)
        # Halley's step is Newton's for a slope that is less by a share.
        less = value * second / (2 * first * first)
        # From the left it may lead far beyond the root, where a product of 8 would overflow.
        return value, jnp.maximum(first * (1 - jnp.minimum(less, 0.5)), abs(value) / longest), aux

    # (E3) as it stands: what the root's implicit derivatives come from.
    def excess(log_lead):
        x = lead * jnp.exp(log_lead)[None] + rest
        return _added(_in_groups(jnp.log(x), 0)) - log_product

    root, _ = root_in_bracket(excess, guess, None, lambda _: small, look=look, most=60)
    return root


def _product(scale, leads, rests):
    """Products over patterns (up to 8 each) of `lead * scale + rest`, and two derivatives."""
    product, slope = leads[0] * scale + rests[0], leads[0] + jnp.zeros_like(rests[0])
    bend = jnp.zeros_like(slope)
    # One logarithm for up to 8 patterns; the product rule adds the derivatives of (E5).
    for lead, rest in zip(leads[1:], rests[1:], strict=True):
        x = lead * scale + rest
        bend = bend * x + 2 * slope * lead
        slope = slope * x + product * lead
        product = product * x
    return product, slope, bend


class State(NamedTuple):
    """A point of an orbit: logarithms of the x, of dt/dtau, and of E."""

    log_x: _Patterns
    log_speed: Scalar
    log_lead: Scalar


class Seen(NamedTuple):
    """E and the x in units of their own at some distances, and the leads, shaped alike."""

    log_lead: Float[Array, "*N"]
    x: Float[Array, "K *N"]
    lead: Float[Array, "K *M"]

    def speed(self, orbit: Orbit) -> Float[Array, "*N"]:
        """`dt/dtau`, in units of `e^-log_lead` of the side."""
        # (E5): the derivative that the iteration needed is the integrand of the time.
        weights = self.lead / self.x
        total = _added(_in_groups(weights, 0))
        if isinstance(orbit.utility, Mean):
            return total
        # Another clock (E10). V and 1 - V are both sums of positive terms, so that neither loses
        # digits at an end.
        rewards = orbit.rewards.reshape(-1, *(1,) * total.ndim)
        value = _added(_in_groups(weights * rewards, 0)) / total
        shortfall = _added(_in_groups(weights * (1 - rewards), 0)) / total
        return total / orbit.utility.slope(value, shortfall)


def see(
    side: Side, ratio: Float[Array, "*N"], tol: float, guess: Float[Array, "*N"] | None = None
) -> Seen:
    """An orbit at ratios of the distance that a side is seen from, to `tol`."""
    shape = (-1,) + (1,) * ratio.ndim
    lead, gap, slope = (x.reshape(shape) for x in (side.lead, side.gap, side.slope))
    rest = gap + slope * ratio[None]
    # A gap may round to less than 0, and no x is below that of the leader.
    rest = jnp.where(rest < 0, 0, rest)
    guess = jnp.zeros_like(ratio) if guess is None else jax.lax.stop_gradient(guess)
    log_lead = _solve_lead(lead, rest, side.log_product, guess, tol)
    return Seen(log_lead, lead * jnp.exp(log_lead)[None] + rest, lead)


def state_at(
    orbit: Orbit,
    cell: Cell,
    side: Scalar,
    log_distance: Scalar,
    guess: Scalar | None = None,
    tol: float = 0.0,
) -> State:
    """The orbit at a distance (in tau) before (`side` -1) or after (+1) a cell's origin; `guess`:
    of the state's `log_lead`."""
    around = side_of(orbit, cell, side, log_distance)
    # No start beyond 0: the unit is a bound of the leader's x from above.
    guess = None if guess is None else jnp.minimum(guess - around.log_lead, 0)
    seen = see(around, jnp.ones_like(log_distance), tol, guess)
    log_speed = jnp.log(seen.speed(orbit)) - around.log_lead
    log_lead = around.log_lead + seen.log_lead
    return State(around.log_unit + jnp.log(seen.x), log_speed, log_lead)
