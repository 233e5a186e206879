r"""Events and states of one problem, differentiable twice, and fast however they are batched.

The walks are not differentiated: derivatives are the closed form (E9), from integrals that the same
walk adds up. Numbers of equations are those of docs/exact.md; symbols: see this folder's
`__init__.py`.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from ..._core.types import Scalar
from ._influence import Rates
from ._lanes import largest, of, padded, total
from ._point import Orbit, Point, log_x
from ._rows import states_at_times
from ._walk import Carried, Ending, Measure, Resolution, walk_to

# Problems that are solved side by side. Each width is a program of its own, and results are the
# same to the last bit within one.
_FEW, _MANY = 8, 128
# Of what is counted or true.
_NO_TANGENTS: Any = (None, None)


class AbstractFinder(eqx.Module):
    """What is looked for along an orbit."""

    @abc.abstractmethod
    def value(self, log_x: Float[Array, " K"]) -> Scalar:
        """Negative before the event and 0 at it, at a point of the orbit of one problem."""


class Balance(AbstractFinder):
    r"""$\sum_i a_i / x_i$ becomes positive, as $\sum_i a_i \pi_i$ does."""

    weights: Float[Array, " K"]

    def value(self, log_x: Float[Array, " K"]) -> Scalar:
        def log_side(weights):
            there = weights > 0
            logs = jnp.where(there, jnp.log(jnp.where(there, weights, 1)) - log_x, -jnp.inf)
            return jax.nn.logsumexp(logs)

        return log_side(self.weights) - log_side(-self.weights)


class General(AbstractFinder):
    """Any function of the logarithms of the x."""

    function: Callable[..., Scalar] = eqx.field(static=True)
    arguments: Any

    def value(self, log_x: Float[Array, " K"]) -> Scalar:
        return self.function(log_x, self.arguments)


def _balance(weights: Float[Array, "K n"]) -> Measure:
    """The value of `Balance` on lanes, and its derivative, without exponentials."""
    least = jnp.finfo(weights.dtype).tiny

    def measure(point: Point):
        own = of(point.place.lead, weights)
        # Where the leader has no part, its share must not hide those of the others, and nor must
        # that of another without a part, such as one that leads beside it.
        base = jnp.where(own == 0, point.inverse, point.share)
        base = jnp.where(weights == 0, 0, base)
        base = base / jnp.maximum(largest(base), least)
        gain, loss = jnp.maximum(weights, 0) * base, jnp.maximum(-weights, 0) * base
        up, down = (jnp.maximum(total(x), least) for x in (gain, loss))
        slope = total(loss * point.motion) / down - total(gain * point.motion) / up
        return jnp.log(up / down), slope

    return measure


def _general(finder: AbstractFinder, orbit: Orbit) -> Measure:
    def measure(point: Point):
        logs, motion = log_x(orbit, point.place)[:, 0], point.motion[:, 0]
        # A pattern that does not exist stays so.
        value, slope = jax.jvp(finder.value, (logs,), (motion,))
        return value[None, None], slope[None, None]

    return measure


class End(NamedTuple):
    """An orbit at an event: `log_x` (K,), the log time, whether it happens, and steps."""

    log_x: Float[Array, " K"]
    log_time: Scalar
    found: Bool[Array, ""]
    steps: Int[Array, ""]


def _over_lanes(solve: Callable[..., Any]) -> Callable[..., Any]:
    """`solve(*arrays)` of lanes, as a function of one problem; with forward derivatives, which are
    those of its loops. `cost`: what the number of steps grows with."""

    @jax.custom_jvp
    def call(cost, *arrays):
        return _mapped(solve)(cost, *arrays)

    @call.defjvp
    def rule(primals, tangents):
        (cost, *arrays), (_, *dots) = primals, tangents
        moving = [jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays]

        def both(*parts):
            given, dots = parts[: len(arrays)], list(parts[len(arrays) :])
            filled = [dots.pop(0) if own else _no_tangent(x)
                      for x, own in zip(given, moving, strict=True)]  # fmt: skip
            out, change = jax.jvp(solve, given, tuple(filled))
            kept = [t for x, t in zip(*map(jtu.tree_leaves, (out, change)), strict=True)
                    if jnp.issubdtype(x.dtype, jnp.inexact)]  # fmt: skip
            return out, kept

        dots = [dot for dot, own in zip(dots, moving, strict=True) if own]
        out, kept = _mapped(both, 1 + len(arrays))(cost, *arrays, *dots)
        leaves, structure = jtu.tree_flatten(out)
        change = [kept.pop(0) if jnp.issubdtype(x.dtype, jnp.inexact) else _no_tangent(x)
                  for x in leaves]  # fmt: skip
        return out, jtu.tree_unflatten(structure, change)

    return call


def _no_tangent(x: Array) -> np.ndarray:
    return np.zeros(x.shape, jax.dtypes.float0)


def _mapped(solve: Callable[..., Any], places: int | None = None) -> Callable[..., Any]:
    """`solve(*arrays)`, whose arrays have their lanes last, behind at least one axis, as a function
    of one problem.

    However often it is mapped over, all problems become lanes of one call, `_MANY` at a time, those
    of like length together. `places`: where `solve` returns something and its change, so many of
    the arguments, the cost among them, say where, and the others are changes.
    """

    @custom_vmap
    def call(cost, *arrays):
        lead = cost.shape
        if not lead:
            out = solve(*(x[..., None] for x in arrays))
            return jtu.tree_map(lambda x: x[..., 0], out)
        count = cost.size
        width = _FEW if count <= _FEW else _MANY
        chunks = -(-count // width)
        order = jnp.argsort(cost.reshape(-1))
        order = jnp.pad(order, (0, chunks * width - count), mode="edge")

        def laid_out(x):
            x = x.reshape(count, *x.shape[len(lead) :])[order]
            return jnp.moveaxis(x.reshape(chunks, width, *x.shape[1:]), 1, -1)

        parts = tuple(laid_out(x) for x in arrays)
        if chunks == 1:
            out = jtu.tree_map(lambda x: x[None], solve(*(x[0] for x in parts)))
        else:
            out = jax.lax.map(lambda part: solve(*part), parts)

        def back(x):
            x = jnp.moveaxis(x, -1, 1)
            x = x.reshape(chunks * width, *x.shape[2:])[:count]
            x = jnp.zeros_like(x).at[order[:count]].set(x, unique_indices=True)
            return x.reshape(*lead, *x.shape[1:])

        return jtu.tree_map(back, out)

    @call.def_vmap
    def rule(size, batched, *arrays):
        if not any(batched):
            out = call(*arrays)
            return out, jtu.tree_map(lambda _: False, out)
        full = [
            x if own else jnp.broadcast_to(x, (size, *x.shape))
            for x, own in zip(arrays, batched, strict=True)
        ]
        out = call(*full)
        if places is None or any(batched[:places]):
            return out, jtu.tree_map(lambda _: True, out)
        # Many changes of one place (`jax.hessian`): JAX wants the place itself only once.
        here, change = out
        here = jtu.tree_map(lambda x: x[0], here)
        marks = jtu.tree_map(lambda _: False, here), jtu.tree_map(lambda _: True, change)
        return (here, change), marks

    return call


def _cost(orbit: Orbit) -> Scalar:
    """What the number of steps grows with."""
    high = jnp.max(jnp.where(orbit.exists, orbit.log_start, -jnp.inf))
    return high - jnp.min(jnp.where(orbit.exists, orbit.log_start, jnp.inf))


def _as_arrays(orbit: Orbit) -> tuple[Orbit, Any]:
    """An orbit of nothing but arrays, which become those of lanes; and the rest of its utility."""
    dynamic, static = eqx.partition(orbit.utility, eqx.is_array)
    return orbit._replace(utility=dynamic), static


def _wide(orbit: Orbit, number: int) -> Orbit:
    """The orbit with as many patterns more, which do not exist, as its programs are written for."""
    more = (0, padded(number) - number)
    return orbit._replace(
        log_start=jnp.pad(orbit.log_start, more),
        rewards=jnp.pad(orbit.rewards, more),
        exists=jnp.pad(orbit.exists, more),
    )


def _event_on_lanes(
    orbit: Orbit, finder: AbstractFinder, wanted, lasts, resolution: Resolution, slopes: bool
) -> tuple[Ending, Bool[Array, ""], Int[Array, ""]]:
    number = orbit.rewards.shape[0]
    balance = isinstance(finder, Balance)
    # A function of the user's knows of no patterns more.
    orbit = _wide(orbit, number) if balance else orbit
    arrays, static = _as_arrays(orbit)
    leaves, structure = jtu.tree_flatten(arrays)

    def solve(weights, wanted, lasts, *leaves):
        lanes: Orbit = jtu.tree_unflatten(structure, leaves)
        lanes = lanes._replace(utility=eqx.combine(lanes.utility, static))
        measure = _balance(weights) if isinstance(finder, Balance) else _general(finder, lanes)
        return walk_to(lanes, measure, wanted, resolution, lasts, slopes)

    wanted, lasts = jnp.asarray(wanted)[None], jnp.asarray(lasts)[None]
    if balance:
        weights = jnp.pad(finder.weights, (0, padded(number) - number))
        out = _over_lanes(solve)(_cost(orbit), weights, wanted, lasts, *leaves)
    else:
        out = solve(None, wanted[:, None], lasts[:, None], *(x[..., None] for x in leaves))
        out = jtu.tree_map(lambda x: x[..., 0], out)
    summary, *rest = out
    return _narrow(summary, number), *(x[0] for x in rest)


def _narrow(found: Ending, number: int, axis: int = 0) -> Ending:
    """Without the patterns that were added; what has none without that axis."""

    def cut(x):
        return jax.lax.slice_in_dim(x, 0, number, axis=axis)

    def own(x):
        return jnp.squeeze(x, axis)

    logs, log_time = cut(found.log_x), own(found.log_time)
    if found.carried is None:
        return Ending(logs, log_time)
    inverse, motion, share, lead, tau, amount, sums = found.carried
    start, product, rewards, utility = sums
    sums = Rates(cut(start), own(product), cut(rewards), [own(x) for x in utility])
    carried = Carried(cut(inverse), cut(motion), cut(share), cut(lead), own(tau), own(amount), sums)
    return Ending(logs, log_time, carried)


def _tangent(tangent: Any, like: Array) -> Array:
    return jnp.zeros_like(like) if tangent is None else tangent


def _held(orbit: Orbit, d_orbit: Orbit, at: Carried) -> tuple[Float[Array, " K"], Scalar]:
    """The changes of log x and of the log time where tau is held (E9)."""
    there = orbit.exists
    d_log = jnp.where(there, _tangent(d_orbit.log_start, orbit.log_start), 0)
    d_rewards = jnp.where(there, _tangent(d_orbit.rewards, orbit.rewards), 0)
    d_start = jnp.exp(orbit.log_start) * d_log
    d_product = jnp.sum(d_log)
    line = d_start - at.tau * d_rewards
    apart = at.inverse * (line - jnp.sum(jnp.where(at.lead, line, 0)))
    own = jnp.sum(jnp.where(at.lead, at.share, 0))
    d_lead = (d_product - jnp.sum(apart)) * own
    d_log_x = jnp.where(there, apart + at.share / own * d_lead, 0)
    sums: Rates = at.sums
    d_log_time = jnp.sum(sums.start * d_start) - jnp.sum(sums.rewards * d_rewards)
    d_log_time = d_log_time - sums.product * d_product
    leaves, structure = jtu.tree_flatten(eqx.filter(orbit.utility, eqx.is_inexact_array))
    moved = structure.flatten_up_to(d_orbit.utility)
    for slope, leaf, tangent in zip(sums.utility, leaves, moved, strict=True):
        d_log_time = d_log_time + slope * _tangent(tangent, leaf)
    return d_log_x, d_log_time


@eqx.filter_custom_jvp
def event_at(
    orbit: Orbit,
    finder: AbstractFinder,
    wanted: Bool[Array, ""],
    lasts: Bool[Array, ""],
    *,
    resolution: Resolution,
) -> End:
    """Where on the orbit of one problem an event first happens; `lasts`: it goes on for ever."""
    found, happens, steps = _event_on_lanes(orbit, finder, wanted, lasts, resolution, False)
    return End(found.log_x, found.log_time, happens, steps)


@event_at.def_jvp
def _event_at_jvp(primals, tangents, *, resolution):
    orbit, finder, wanted, lasts = primals
    d_orbit, d_finder, *_ = tangents
    at, happens, steps = _event_on_lanes(orbit, finder, wanted, lasts, resolution, True)
    carried = at.carried
    assert carried is not None  # slopes were asked for
    d_log_x, d_log_time = _held(orbit, d_orbit, carried)

    def value(log_x, finder):
        return finder.value(log_x)

    _, change = eqx.filter_jvp(value, (at.log_x, finder), (d_log_x, d_finder))
    _, slope = jax.jvp(lambda log_x: finder.value(log_x), (at.log_x,), (carried.motion,))
    safe = happens & (slope > 0)
    # The place moves so that the event's value stays 0, and the time with it (E7).
    ahead = jnp.where(safe, -change / jnp.where(safe, slope, 1), 0)
    d_log_x = jnp.where(happens, d_log_x + carried.motion * ahead, 0)
    d_log_time = jnp.where(happens, d_log_time + ahead / jnp.where(happens, carried.amount, 1), 0)
    end = End(at.log_x, at.log_time, happens, steps)
    return end, End(d_log_x, d_log_time, *_NO_TANGENTS)


class States(NamedTuple):
    """An orbit at times: `log_x` (T, K), whether it gets there, and steps."""

    log_x: Float[Array, "T K"]
    reached: Bool[Array, " T"]
    steps: Int[Array, ""]


def _states_on_lanes(orbit: Orbit, log_times, wanted, resolution: Resolution, slopes: bool):
    number = orbit.rewards.shape[0]
    orbit = _wide(orbit, number)
    arrays, static = _as_arrays(orbit)
    leaves, structure = jtu.tree_flatten(arrays)

    def solve(log_times, wanted, *leaves):
        lanes: Orbit = jtu.tree_unflatten(structure, leaves)
        lanes = lanes._replace(utility=eqx.combine(lanes.utility, static))
        return states_at_times(lanes, log_times, wanted, resolution, slopes)

    out = _over_lanes(solve)(_cost(orbit), log_times, wanted[None], *leaves)
    found, reached, steps = out
    return _narrow(found, number, axis=1), reached, steps[0]


@eqx.filter_custom_jvp
def states_at(
    orbit: Orbit,
    log_times: Float[Array, " T"],
    wanted: Bool[Array, ""],
    *,
    resolution: Resolution,
) -> States:
    """The orbit of one problem at log times that ascend."""
    found, reached, steps = _states_on_lanes(orbit, log_times, wanted, resolution, False)
    return States(found.log_x, reached, steps)


@states_at.def_jvp
def _states_at_jvp(primals, tangents, *, resolution):
    orbit, log_times, wanted = primals
    d_orbit, d_log_times, _ = tangents
    found, reached, steps = _states_on_lanes(orbit, log_times, wanted, resolution, True)
    carried = found.carried
    assert carried is not None  # slopes were asked for
    d_log_times = _tangent(d_log_times, log_times)

    def one(at: Carried, reached, d_log_time):
        d_log_x, passed = _held(orbit, d_orbit, at)
        # The place moves so that its time stays the one asked for (E7).
        amount = jnp.where(reached, jnp.minimum(at.amount, jnp.finfo(passed.dtype).max), 0)
        return jnp.where(reached, d_log_x + at.motion * amount * (d_log_time - passed), 0)

    d_log_x = jax.vmap(one)(carried, reached, d_log_times)
    return States(found.log_x, reached, steps), States(d_log_x, *_NO_TANGENTS)
