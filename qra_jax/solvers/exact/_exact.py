"""The exact method: flows with constant rewards along their orbit, without time steps.

Symbols and numbers of equations: see this folder's `__init__.py`.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int

from ..._core.checks import require
from ..._core.floats import safe_log
from ..._core.trees import all_usable, unit_and_log_norm
from ..._core.types import Scalar
from ...flows._clocks import ArcLength
from ...flows._event import AbstractEvent, FlowState
from ...flows._events import TimeReached
from ...flows._flow import GradientFlow
from ...flows._status import Status
from ...objectives._objective import Objective
from ...policies._policy import AbstractPolicy, having
from ...policies._two_stage import AbstractTablePolicy
from .._lane import Lane, prepare
from .._method import AbstractMethod, Path
from ..ode._ode import DEFAULT_ROWS
from ._derivatives import AbstractFinder, Balance, General, event_at, states_at
from ._integrable import needed_to_integrate
from ._point import Orbit
from ._walk import Resolution


class _Orbits(eqx.Module):
    """The orbits of all questions (leading axes Q), each with its own time `weight * t`."""

    orbits: Orbit
    log_units: Float[Array, " Q"]
    log_weights: Float[Array, " Q"]
    starts: Float[Array, "Q K"]
    resolution: Resolution = eqx.field(static=True)

    def __init__(self, policy: AbstractTablePolicy, flow: GradientFlow, resolution: Resolution):
        assert isinstance(flow.objective, Objective)
        utility, problem = flow.objective.utility, flow.problem
        # In a unit of its own for each question, rewards of 1e-300 lose nothing; the flow of the
        # mean knows them only up to a constant.
        known = policy.pattern_gaps(problem, flow.objective.reward)
        values, unit = known.gaps, known.unit
        if not flow.objective.is_mean:
            values = known.base[:, None] + unit[:, None] * values
            unit = jnp.ones_like(unit)
        logits, exists = policy.pattern_logits, policy.exists
        finite = jnp.where(exists, logits, 0)
        # In a unit in the middle of the x, the largest is as far above it as the smallest below.
        high = jnp.max(jnp.where(exists, -finite, -jnp.inf), axis=1)
        low = jnp.min(jnp.where(exists, -finite, jnp.inf), axis=1)
        most = 0.9 * math.log(float(jnp.finfo(logits.dtype).max))
        self.log_units = jax.lax.stop_gradient(high - jnp.minimum((high - low) / 2, most))
        self.orbits = jax.vmap(lambda x, r, there: Orbit(x, r, there, utility))(
            jnp.where(exists, -finite - self.log_units[:, None], 0),
            jnp.where(exists, values, 0),
            exists,
        )
        # Questions share no parameter, and weights rescale their times:
        # docs/derivations.md#question-weights-rescale-time (Q1).
        self.log_weights = safe_log(problem.weights.astype(values.dtype)) + jnp.log(unit)
        self.starts = logits
        self.resolution = resolution

    def one(self, index) -> "_Orbits":
        return jtu.tree_map(lambda x: x[index], self)

    @property
    def several(self) -> bool:
        return self.starts.shape[0] > 1

    @property
    def moves(self):
        """Whether there are two different rewards, and time for them."""
        rewards, exists = self.orbits.rewards, self.orbits.exists
        high = jnp.max(jnp.where(exists, rewards, -jnp.inf), axis=-1)
        low = jnp.min(jnp.where(exists, rewards, jnp.inf), axis=-1)
        return (high > low) & (self.log_weights > -jnp.inf)

    def logits(self, log_x: Float[Array, "*N K"]) -> Float[Array, "*N K"]:
        """The logits at points of the orbit of one question, in the shift of those given."""
        return jnp.where(self.orbits.exists, -log_x - self.log_units, -jnp.inf)

    def states(self, log_times: Float[Array, " T"], wanted):
        """Logits (T, Q, K) at log times that ascend (`-inf`: the start), whether all questions get
        there (T,), and the number of steps."""

        logits, reached, steps = jax.vmap(
            lambda own: own._rows(log_times + own.log_weights, wanted), out_axes=(1, 1, 0)
        )(self)
        return logits, jnp.all(reached, axis=1), jnp.max(steps)

    def _rows(self, times: Float[Array, " T"], wanted):
        """`states` of one question, at log times of its own."""
        # At time 0 the start itself, to the last digit, not its way through x and back.
        begun = times > -jnp.inf
        times = jnp.where(begun, times, -0.9 * jnp.log(jnp.finfo(times.dtype).max))
        found = states_at(self.orbits, times, wanted & self.moves, resolution=self.resolution)
        logits = jnp.where((found.reached & begun)[:, None], self.logits(found.log_x), self.starts)
        # Where nothing moves, time passes all the same.
        return logits, found.reached | ~self.moves, found.steps


def _question_of(event: AbstractEvent):
    return getattr(event, "question", None)


class _Watch(eqx.Module):
    """The events that are looked for, all of them on the orbit of one question."""

    flow: GradientFlow
    policy: AbstractTablePolicy
    reference: AbstractPolicy
    events: tuple[AbstractEvent, ...]
    orbits: _Orbits
    log_scale: Scalar

    @property
    def question(self) -> Any:
        # By `why_not`, with several questions there is one event, and it is about one of them.
        return _question_of(self.events[0]) if self.orbits.several else 0

    def logits(self, log_x: Float[Array, " K"]) -> Float[Array, " K"]:
        return self.orbits.one(self.question).logits(log_x)

    def values(self, log_x: Float[Array, " K"]) -> Float[Array, " E"]:
        row = self.logits(log_x)
        logits = self.policy.pattern_logits.at[self.question].set(row)
        policy = self.policy.with_pattern_logits(logits)
        params, frozen = self.flow.split(policy)

        # The field of the flow, not of its orbit: events see what they see in every other solver.
        def velocity():
            return unit_and_log_norm(self.flow.velocity(params, frozen, self.reference))

        # The time of the place is not known yet; the one event that asks for it, `TimeReached`, is
        # met without a search.
        never = jnp.full((), jnp.nan, row.dtype)
        seen = FlowState(self.flow, policy, never, velocity, self.log_scale)
        return jnp.stack([event.value(seen) for event in self.events])

    def finder(self) -> AbstractFinder:
        if len(self.events) == 1:
            weights = self.events[0].balance(self.policy, self.flow)
            if weights is not None:
                return Balance(weights)
        return General(lambda log_x, watch: jnp.max(watch.values(log_x)), self)

    def soonest(self, limit: Scalar, wanted):
        """Whether one of the events happens before a log time; the log time of it, or else the
        limit; the logarithms of the x then, and the number of steps."""
        own = self.orbits.one(self.question)
        lasts = jnp.all(jnp.stack([jnp.asarray(event.lasts()) for event in self.events]))
        end = event_at(
            own.orbits, self.finder(), wanted & own.moves, lasts, resolution=own.resolution
        )
        first = end.found & (end.log_time <= limit + own.log_weights)
        log_time = jnp.where(first, end.log_time - own.log_weights, limit)
        return first, log_time, end.log_x, end.steps


class _Asked(NamedTuple):
    """What may end a solve: events along the orbit, given times, the last requested output."""

    until: tuple[AbstractEvent, ...]
    log_times: Float[Array, " T"] | None

    @property
    def timed(self) -> list[int]:
        """Which of the events are given times."""
        return [i for i, event in enumerate(self.until) if isinstance(event, TimeReached)]

    @property
    def sought(self) -> list[int]:
        """Which of the events have to be looked for."""
        return [i for i, event in enumerate(self.until) if not isinstance(event, TimeReached)]

    @property
    def events(self) -> tuple[AbstractEvent, ...]:
        return tuple(self.until[i] for i in self.sought)

    def limits(self, dtype) -> Float[Array, " L"]:
        """Log times at which the solve ends at the latest: given times, the last output, never."""
        given = [e.log_time.astype(dtype) for e in self.until if isinstance(e, TimeReached)]
        last = [] if self.log_times is None else [self.log_times[-1]]
        return jnp.stack([*given, *last, jnp.asarray(jnp.inf, dtype)])


class _End(NamedTuple):
    """Where a solve ends: at an event that was looked for (`happens`), or else at the limit.

    `which`: the event, as an index of those looked for; `logits`: of the event's question at it,
    None if no event is looked for.
    """

    limit: Scalar
    happens: Array
    log_time: Scalar
    which: Array
    question: Array | int
    logits: Float[Array, " K"] | None
    steps: Int[Array, ""]


def _end_of(asked: _Asked, limit: Scalar, watch: _Watch, wanted) -> _End:
    if not asked.events:
        return _End(limit, jnp.asarray(False), limit, jnp.zeros((), jnp.int32), 0, None,
                    jnp.zeros((), jnp.int32))  # fmt: skip
    happens, log_time, log_x, steps = watch.soonest(limit, wanted)
    which = jnp.zeros((), jnp.int32)
    if len(asked.events) > 1:
        which = jnp.argmax(watch.values(log_x))
    return _End(limit, happens, log_time, which, watch.question, watch.logits(log_x), steps)


class _Way(NamedTuple):
    """The logits (Q, K) at the end, those at the requested times (T, Q, K) if wanted, whether the
    end is reached, and the number of steps."""

    logits: Float[Array, "Q K"]
    states: Float[Array, "T Q K"] | None
    arrives: Array
    steps: Array


def _way_to(end: _End, asked: _Asked, orbits: _Orbits, wanted, rows: bool) -> _Way:
    logits, states = orbits.starts, None
    arrives, steps = jnp.zeros(1, bool), end.steps
    if asked.log_times is not None and rows:
        states, arrives, more = orbits.states(asked.log_times, wanted)
        steps = jnp.maximum(steps, more)
    # No second walk along the orbit for a state that is known already.
    if states is not None and not asked.timed and (not asked.events or not orbits.several):
        # The end is the last output, or an event of the only question.
        logits = states[-1]
    elif asked.timed or asked.log_times is not None or orbits.several:
        final, arrives, more = orbits.states(end.log_time[None], wanted)
        steps = jnp.maximum(steps, more)
        logits = final[0]
    if end.logits is not None:
        logits = jnp.where(end.happens, logits.at[end.question].set(end.logits), logits)
    return _Way(logits, states, arrives[-1], steps)


def _how_it_ended(asked: _Asked, end: _End, way: _Way, lane: Lane, first, most: int):
    """The status, and which event of `until` it was (-1 for none). `first`: the earliest limit."""
    until, timed, sought = asked.until, asked.timed, asked.sought
    active = lane.system.active
    requested = asked.log_times is not None
    kinds = [Status.EVENT] * len(timed) + [Status.COMPLETED] * requested
    codes = jnp.asarray([*kinds, Status.OVERFLOW], jnp.int32)
    exhausted = jnp.where(way.steps >= most, Status.MAX_STEPS, Status.OVERFLOW)
    # A limit that is not reached lies beyond the largest distance, or the steps allowed.
    on_time = way.arrives & (end.limit < jnp.inf)
    status = jnp.where(end.happens, Status.EVENT, jnp.where(on_time, codes[first], exhausted))
    sound = all_usable(way.logits) & ~jnp.isnan(end.log_time)
    status = jnp.where(sound, status, Status.FAILED)
    idle, which_idle = lane.idle([Status.EVENT] * len(until), requested)
    status = jnp.where(active, status, idle).astype(jnp.int32)
    which = end.which
    if until:
        # Those looked for and those of time are numbered apart: back to their order in `until`.
        order = jnp.asarray([*sought, *timed], jnp.int32)
        timer = jnp.minimum(len(sought) + first, len(until) - 1)
        which = jnp.where(active, order[jnp.where(end.happens, which, timer)], which_idle)
    return status, jnp.where(status == Status.EVENT, which, -1).astype(jnp.int32)


class Exact(AbstractMethod):
    r"""Constant-reward flows along their closed-form orbit, without steps in time.

    In $x_i = e^{-\theta_i}$ the Euclidean flow of constant pattern rewards needs one root (for the
    state) and one integral (for the time); times of $e^{10^4}$ cost what times of 1 cost. A utility
    $f(V)$ keeps the orbit, and time passes as $dt / f'(V)$.

    **Arguments:**

    - `tol`: to which log times are good (of 8 and more patterns 1 in 100 or fewer is off by up to 6
      times as much); logits to some times as much where they move fast; between 1e-12 and 1e-2.
    - `max_steps`: at most so many steps along the orbit, before the status `MAX_STEPS`.

    **Raises:** `ValueError` if a number is out of range; `solve_flow` raises it for a flow that is
    not integrable (frozen answers, a reward that keeps pattern values, no penalty, Euclidean).

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([1e-30, 0.70, 0.30], [0.9, 0.7, 0.1])
        print(qra.log_entanglement_time(policy, problem, method=qra.Exact()))
        ```

    Source: derived in docs/exact.md#the-orbit.
    """

    tol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(self, tol: float = 1e-10, max_steps: int = 65536):
        require(1e-12 <= tol <= 1e-2, "tol", "lie between 1e-12 and 1e-2", tol)
        require(max_steps >= 1, "max_steps", "be at least 1", max_steps)
        self.tol = tol
        self.max_steps = max_steps

    def why_not(self, policy, flow, until) -> str | None:
        several = flow.problem.num_questions > 1
        events = [event for event in until if not isinstance(event, TimeReached)]
        alone = len(events) == 1 and _question_of(events[0]) is not None
        if several and events and not alone:
            return "events of several questions"
        missing = needed_to_integrate(policy, flow)
        return None if missing is None else "{} must {}, is {}".format(*missing)

    def integrate(
        self,
        policy: AbstractPolicy,
        flow: GradientFlow,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> Path:
        policy = having(policy, AbstractTablePolicy, "for Exact()")
        dtype = policy.pattern_logits.dtype
        asked = _Asked(until, None if log_times is None else log_times.astype(dtype))
        # Lanes with nothing to solve have a benign policy in place of theirs, lest they spoil the
        # derivatives of a batch: docs/derivations.md#lanes-with-nothing-to-solve.
        lane = prepare(policy, flow, reference, until, ArcLength())
        active, flow = lane.system.active, lane.system.flow
        live = eqx.combine(lane.system.params(lane.theta), lane.system.frozen)
        orbits = _Orbits(live, flow, Resolution(self.tol, self.max_steps))

        limits = asked.limits(dtype)
        scale = lane.system.pace.log_scale
        watch = _Watch(flow, live, reference, asked.events, orbits, scale)
        end = _end_of(asked, jnp.min(limits), watch, active)
        way = _way_to(end, asked, orbits, active, rows)
        status, event = _how_it_ended(asked, end, way, lane, jnp.argmin(limits), self.max_steps)

        def as_params(logits):
            logits = jnp.where(active, logits, policy.pattern_logits)
            logits = jnp.where(lane.usable, logits, jnp.nan)
            return lane.theta_given.with_pattern_logits(logits)

        final_log_time = jnp.where(active, end.log_time, -jnp.inf)
        states, steps = way.states, way.steps
        if not rows:
            times, valid, states = final_log_time[None], jnp.ones(1, bool), way.logits[None]
        elif states is None or asked.log_times is None:
            times = self._times_until(final_log_time, lane)
            valid = jnp.ones(DEFAULT_ROWS, bool)
            states, _, more = orbits.states(times, active)
            steps = jnp.maximum(steps, more)
        else:
            times = asked.log_times
            valid = (status == Status.COMPLETED) | (times <= final_log_time)
            # Rows after the end hold the state at the end.
            states = jnp.where(valid[:, None, None], states, way.logits[None])
        final = as_params(way.logits)
        return Path(times, valid, jax.vmap(as_params)(states), final_log_time, final,
                    status, event, steps)  # fmt: skip

    def _times_until(self, final_log_time: Scalar, lane: Lane) -> Float[Array, " T"]:
        """Outputs where none are requested: the start, and log times evenly spaced from a hundredth
        of the time scale of the start on."""
        first = jnp.minimum(jnp.log(0.01) - lane.system.start, final_log_time - 1)
        ahead = jnp.linspace(first, final_log_time, DEFAULT_ROWS - 1)
        start = jnp.full((), -jnp.inf, final_log_time.dtype)
        return jnp.append(start, ahead.astype(start.dtype))
