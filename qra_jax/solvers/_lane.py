"""A flow over a clock as one system of ODEs, with a benign one in place of what needs no solve."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._core.floats import unit_of
from .._core.trees import all_usable, held, unit_and_log_norm, where_usable
from .._core.types import Scalar
from ..flows._clocks import AbstractClock
from ..flows._event import AbstractEvent, FlowState
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy


class Pace(eqx.Module):
    """How fast a flow is by nature: `log_scale`, the logarithm of its speed at the start or where
    all parameters are 0, whichever is larger; `unit`, a power of 2 near it, in which velocities are
    computed. Rewards of 1e-300 or 1e300 then leave no trace but in the times."""

    unit: Scalar
    log_scale: Scalar

    @staticmethod
    def of(policy: AbstractPolicy, flow: GradientFlow, reference: AbstractPolicy) -> "Pace":
        params, frozen = flow.split(policy)
        # Where a velocity is not finite, it says nothing.
        flow, reference, frozen = (held(x) for x in (flow, reference, frozen))

        def speed(params):
            found = flow.velocity(jax.lax.stop_gradient(params), frozen, reference)
            found = jtu.tree_map(lambda v: jnp.where(jnp.isfinite(v), v, 0), found)
            return unit_and_log_norm(found)[1]

        even = jtu.tree_map(lambda x: jnp.where(x == -jnp.inf, x, 0), params)
        log_scale = jnp.maximum(speed(params), speed(even))
        log_scale = jnp.where(log_scale > jnp.log(jnp.finfo(log_scale.dtype).tiny), log_scale, 0)
        return Pace(unit_of(jnp.exp(log_scale)[None], 0)[0], log_scale)


class System(eqx.Module):
    """A flow over a clock, as one ODE on `(theta, clock state)`; travels as diffrax's args.

    Entries of the parameters that are `-inf` are kept out of the state (`missing`). A lane that
    has nothing to solve (`active` False: already at its event, at rest, invalid) is replaced by
    constant motion on an all-zero policy, which ends at once and has benign derivatives; its
    results are masked afterwards.
    """

    flow: GradientFlow
    frozen: PyTree
    reference: AbstractPolicy
    until: tuple[AbstractEvent, ...]
    missing: PyTree
    start: Scalar
    active: Bool[Array, ""]
    clock: AbstractClock
    pace: Pace

    def params(self, theta: PyTree) -> PyTree:
        return jtu.tree_map(lambda gone, x: jnp.where(gone, -jnp.inf, x), self.missing, theta)

    # A solve asks for motion and events in dozens of places (stages, searches, derivative rules).
    # Compiled as functions of their own they are traced once, which is most of the tracing.
    @eqx.filter_jit
    def motion(self, theta: PyTree) -> tuple[PyTree, Scalar]:
        unit = self.pace.unit
        velocity = self.flow.velocity(self.params(theta), self.frozen, self.reference, unit)
        velocity = jtu.tree_map(lambda gone, v: jnp.where(gone, 0, v), self.missing, velocity)
        direction, log_speed = unit_and_log_norm(where_usable(self.active, velocity, 1.0))
        return direction, log_speed + jnp.log(unit)

    @eqx.filter_jit
    def field(self, s: Scalar, y: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        theta, clock_state = y
        unit, log_speed = self.motion(theta)
        log_rate, clock_rate = self.clock.rates(s, clock_state, log_speed, self.start)
        return jtu.tree_map(lambda v: v * jnp.exp(log_rate), unit), clock_rate

    def log_time(self, s: Float[Array, "..."], clock_state: PyTree) -> Float[Array, "..."]:
        return self.clock.log_time(s, clock_state, self.start)

    @eqx.filter_jit
    def event_values(self, s: Scalar, y: tuple[PyTree, PyTree]) -> Float[Array, " E"]:
        theta, clock_state = y
        state = FlowState(
            self.flow,
            eqx.combine(self.params(theta), self.frozen),
            self.log_time(s, clock_state),
            lambda: self.motion(theta),
            self.pace.log_scale,
        )
        never = jnp.full_like(s, -jnp.inf)
        return jnp.stack([*(event.value(state) for event in self.until), never])

    def crossing(self, s: Scalar, y: tuple[PyTree, PyTree]) -> Scalar:
        # The first of several events is where their maximum crosses 0.
        return jnp.where(self.active, jnp.max(self.event_values(s, y)), s - 0.01)


class Lane(eqx.Module):
    """A system ready to be solved, and what is already known about how its solve ends."""

    system: System
    theta: PyTree
    theta_given: PyTree
    usable: Bool[Array, ""]
    happened: Bool[Array, ""]
    event: Int[Array, ""]

    def idle(self, kinds: list[Status], asks_for_times: bool) -> tuple[Array, Int[Array, ""]]:
        """The status of a lane that is never solved, and which event has happened.

        `kinds`: the statuses that events stand for. At rest, a flow is so for ever.
        """
        only_times = Status.EVENT not in kinds and asks_for_times
        rest = Status.COMPLETED if only_times else Status.STATIONARY
        codes = jnp.asarray([*kinds, Status.STATIONARY], jnp.int32)
        status = jnp.where(self.happened, codes[self.event], rest)
        return jnp.where(self.usable, status, Status.INVALID_INPUT), self.event


def prepare(
    policy: AbstractPolicy,
    flow: GradientFlow,
    reference: AbstractPolicy,
    until: tuple[AbstractEvent, ...],
    clock: AbstractClock,
    pace: Pace | None = None,
) -> Lane:
    """Look at the start, and put a benign problem in place of one that is not to be solved.

    `pace`: that of the flow, if it is known already.
    """
    params, frozen = flow.split(policy)
    missing = jtu.tree_map(lambda x: x == -jnp.inf, params)
    theta_given = jtu.tree_map(lambda gone, x: jnp.where(gone, 0, x), missing, params)
    dtype = jtu.tree_leaves(params)[0].dtype
    zero, yes = jnp.zeros((), dtype), jnp.asarray(True)

    usable = all_usable((flow, policy, reference, until))
    pace = Pace.of(policy, flow, reference) if pace is None else pace
    look = System(flow, frozen, reference, until, missing, zero, yes, clock, pace)
    _, log_speed = look.motion(theta_given)
    at_rest = log_speed <= jnp.log(pace.unit) + jnp.log(jnp.finfo(dtype).tiny)
    values = look.event_values(zero, (theta_given, clock.init(zero)))
    happened = usable & jnp.any(values >= 0)
    active = usable & ~happened & ~at_rest

    system = System(
        where_usable(active, flow, 0.0),
        where_usable(active, frozen, 0.0),
        where_usable(active, reference, 0.0),
        where_usable(active, until, 0.0),
        jtu.tree_map(lambda gone: gone & active, missing),
        # Any constant would do as the clock's unit, so its own derivative is 0.
        jax.lax.stop_gradient(jnp.where(active, log_speed, 0)),
        active,
        clock,
        where_usable(active, pace, 1.0),
    )
    theta = where_usable(active, theta_given, 0.0)
    return Lane(system, theta, params, usable, happened, jnp.argmax(values))
