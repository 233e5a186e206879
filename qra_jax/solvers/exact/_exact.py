"""The exact method: flows with constant rewards along their orbit, without time steps."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ..._core.checks import require
from ..._core.floats import safe_log
from ..._core.trees import all_usable, unit_and_log_norm
from ..._core.types import Scalar
from ...flows._clocks import ArcLength
from ...flows._events import AbstractEvent, FlowState, TimeReached
from ...flows._flow import GradientFlow
from ...flows._status import Status
from ...objectives._objective import Objective
from ...policies._policy import AbstractPolicy
from ...policies._tabular import TabularPolicy
from .._lane import prepare
from .._method import AbstractMethod, Path
from ..ode._ode import DEFAULT_ROWS
from ._integrable import needed_to_integrate
from ._orbit import Cell, Orbit, State, cell_at, cells_of, state_at
from ._rows import states_at
from ._search import find_event, place_of_event
from ._walk import Place, Resolution, implicit, log_time_at, log_time_to, resolution_for


class _Orbits(eqx.Module):
    """The orbits of all questions (leading axes Q), each with its own time `weight * t`."""

    orbits: Orbit
    cells: Cell
    counts: Array
    log_weights: Float[Array, " Q"]
    starts: Float[Array, "Q K"]
    resolution: Resolution = eqx.field(static=True)

    def __init__(self, policy: TabularPolicy, flow: GradientFlow, tol: float):
        assert isinstance(flow.objective, Objective)
        utility = flow.objective.utility
        _, values = policy.pattern_table(flow.problem, flow.objective.reward)
        self.orbits = jax.vmap(
            lambda logits, values, exists: Orbit(logits, values, exists, utility)
        )(policy.pattern_logits, values, policy.exists)
        self.cells, self.counts = jax.vmap(cells_of)(self.orbits)
        weights = flow.problem.weights.astype(values.dtype)
        self.log_weights = safe_log(weights)
        self.starts = policy.pattern_logits
        num_patterns = policy.pattern_logits.shape[1]
        self.resolution = resolution_for(tol, num_patterns, values.dtype, utility)

    def one(self, index) -> "_Orbits":
        return jtu.tree_map(lambda x: x[index], self)

    @property
    def several(self) -> bool:
        return self.starts.shape[0] > 1

    @property
    def moves(self):
        return self.orbits.moves & (self.log_weights > -jnp.inf)

    def states(self, log_times: Float[Array, " T"], wanted, most: int):
        """Logits (T, Q, K) at log times that ascend (`-inf`: the start), whether all questions get
        there (T,), and the number of pieces looked at."""

        def of_one(own: _Orbits):
            times = log_times + own.log_weights
            rows = states_at(
                own.orbits,
                times,
                own.cells,
                own.counts,
                wanted & own.moves,
                resolution=own.resolution,
                most=most,
            )
            begun = rows.reached & (times > -jnp.inf)
            logits = jnp.where(begun[:, None], own.orbits.logits(rows.log_x.T).T, own.starts)
            # Where nothing moves, time passes all the same.
            return logits, rows.reached | ~own.moves, rows.pieces

        logits, reached, pieces = jax.vmap(of_one, out_axes=(1, 1, 0))(self)
        return logits, jnp.all(reached, axis=1), jnp.max(pieces)


def _question_of(event: AbstractEvent):
    return getattr(event, "question", None)


class _Watch(NamedTuple):
    """The events that are looked for, all of them on the orbit of one question."""

    flow: GradientFlow
    policy: TabularPolicy
    reference: AbstractPolicy
    events: tuple[AbstractEvent, ...]
    orbits: _Orbits

    @property
    def question(self):
        return _question_of(self.events[0]) if self.orbits.several else 0

    def logits(self, state: State) -> Float[Array, " K"]:
        return self.orbits.one(self.question).orbits.logits(state.log_x)

    def values(self, state: State) -> Float[Array, " E"]:
        row = self.logits(state)
        logits = self.policy.pattern_logits.at[self.question].set(row)
        policy = eqx.tree_at(lambda p: p.pattern_logits, self.policy, logits)
        params, frozen = self.flow.split(policy)

        def velocity():
            return unit_and_log_norm(self.flow.velocity(params, frozen, self.reference))

        seen = FlowState(self.flow, policy, jnp.full((), jnp.nan, row.dtype), velocity)
        return jnp.stack([event.value(seen) for event in self.events])

    def soonest(self, limit: Scalar, wanted):
        """Whether one of the events happens before a log time; the log time of it, or else the
        limit; and the state at the event."""
        own = self.orbits.one(self.question)

        def event(state: State):
            return jnp.max(self.values(state))

        target = limit + own.log_weights
        lasts = all(event.lasts() for event in self.events)
        still = jax.lax.stop_gradient((own.orbits, own.cells))
        bracket = find_event(
            *still, own.counts, event, wanted & own.moves, lasts, own.resolution.tol
        )
        bracket = jax.lax.stop_gradient(bracket)
        place = jax.lax.stop_gradient(place_of_event(*still, bracket, event, own.resolution.tol))
        known = log_time_to(*still, place, own.resolution, bracket.happens)
        known = jax.lax.stop_gradient(known)
        first = bracket.happens & (known <= target)

        def state(place: Place) -> State:
            cell = cell_at(own.cells, place.cell)
            return state_at(own.orbits, cell, place.side, place.log_distance)

        place = implicit(place, lambda place: event(state(place)), first)
        log_time = log_time_at(own.orbits, place, own.cells, known, resolution=own.resolution)
        return first, jnp.where(first, log_time - own.log_weights, limit), state(place)


class Exact(AbstractMethod):
    r"""Constant-reward flows along their closed-form orbit, without steps in time.

    In $x_i = e^{-\theta_i}$ the Euclidean flow of constant pattern rewards needs one root (for the
    state) and one integral (for the time); times of $e^{10^4}$ cost what times of 1 cost. A utility
    $f(V)$ keeps the orbit, and time passes as $dt / f'(V)$.

    **Arguments:**

    - `tol`: to which log times and logits are good; between 1e-12 and 1e-2.
    - `max_pieces`: at most so many pieces of the orbit, before the status `MAX_STEPS`.

    **Raises:** `ValueError` if a number is out of range; `solve_flow` raises it for a flow that is
    not integrable (frozen answers, a reward that keeps pattern values, no penalty, Euclidean).

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([1e-30, 0.70, 0.30], [0.9, 0.7, 0.1])
        print(qra.log_entanglement_time(policy, problem, method=qra.Exact()))
        ```

    Source: derived in docs.
    """

    tol: float = eqx.field(static=True)
    max_pieces: int = eqx.field(static=True)

    def __init__(self, tol: float = 1e-10, max_pieces: int = 4096):
        require(1e-12 <= tol <= 1e-2, "tol", "lie between 1e-12 and 1e-2", tol)
        require(max_pieces >= 1, "max_pieces", "be at least 1", max_pieces)
        self.tol = tol
        self.max_pieces = max_pieces

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
        reason = self.why_not(policy, flow, until)
        if reason is not None:
            raise ValueError(f"method must be ODE() for this flow: {reason}, got Exact()")
        assert isinstance(policy, TabularPolicy)
        dtype = policy.pattern_logits.dtype
        if log_times is not None:
            log_times = log_times.astype(dtype)
        timers = [event.log_time for event in until if isinstance(event, TimeReached)]
        timed = [i for i, event in enumerate(until) if isinstance(event, TimeReached)]
        others = [i for i, event in enumerate(until) if not isinstance(event, TimeReached)]
        events = tuple(until[i] for i in others)

        lane = prepare(policy, flow, reference, until, ArcLength())
        active, flow = lane.system.active, lane.system.flow
        live = eqx.combine(lane.system.params(lane.theta), lane.system.frozen)
        orbits = _Orbits(live, flow, self.tol)

        limits = [log_times[-1]] if log_times is not None else []
        limits = [*(time.astype(dtype) for time in timers), *limits, jnp.asarray(jnp.inf, dtype)]
        limits = jnp.stack(limits)
        limit, first = jnp.min(limits), jnp.argmin(limits)
        happens, which = jnp.asarray(False), jnp.zeros((), jnp.int32)
        log_time, sooner, question = limit, None, 0
        if events:
            watch = _Watch(flow, live, reference, events, orbits)
            happens, log_time, state = watch.soonest(limit, active)
            which, sooner = jnp.argmax(watch.values(state)), watch.logits(state)
            question = watch.question

        states, arrives, pieces = None, jnp.zeros(1, bool), jnp.zeros((), jnp.int32)
        logits = live.pattern_logits
        if log_times is not None and rows:
            states, arrives, pieces = orbits.states(log_times, active, self.max_pieces)
        if states is not None and not timers and (not events or not orbits.several):
            logits = states[-1]
        elif len(limits) > 1 or orbits.several:
            final, arrives, pieces = orbits.states(log_time[None], active, self.max_pieces)
            logits = final[0]
        arrives = arrives[-1]
        if sooner is not None:
            logits = jnp.where(happens, logits.at[question].set(sooner), logits)

        sound = all_usable(logits) & ~jnp.isnan(log_time)
        order = jnp.asarray([*others, *timed], jnp.int32)
        kinds = [Status.EVENT] * len(timed) + [Status.COMPLETED] * (log_times is not None)
        codes = jnp.asarray([*kinds, Status.OVERFLOW], jnp.int32)
        exhausted = jnp.where(pieces >= self.max_pieces, Status.MAX_STEPS, Status.OVERFLOW)
        on_time = arrives & (limit < jnp.inf)
        status = jnp.where(happens, Status.EVENT, jnp.where(on_time, codes[first], exhausted))
        status = jnp.where(sound, status, Status.FAILED)
        idle, idle_event = lane.idle([Status.EVENT] * len(until), log_times is not None)
        status = jnp.where(active, status, idle).astype(jnp.int32)
        if until:
            at = jnp.where(happens, which, jnp.minimum(len(others) + first, len(until) - 1))
            which = jnp.where(active, order[at], idle_event)
        event = jnp.where(status == Status.EVENT, which, -1).astype(jnp.int32)

        def as_params(logits):
            logits = jnp.where(active, logits, policy.pattern_logits)
            logits = jnp.where(lane.usable, logits, jnp.nan)
            return eqx.tree_at(lambda p: p.pattern_logits, lane.theta_given, logits)

        final_log_time = jnp.where(active, log_time, -jnp.inf)
        final = as_params(logits)
        if not rows:
            one = jtu.tree_map(lambda x: x[None], final)
            return Path(final_log_time[None], jnp.ones(1, bool), one, final_log_time, final,
                        status, event, pieces)  # fmt: skip
        if states is None or log_times is None:
            # From a hundredth of the time scale of the start on.
            first = jnp.minimum(jnp.log(0.01) - lane.system.start, final_log_time - 1)
            ahead = jnp.linspace(first, final_log_time, DEFAULT_ROWS - 1)
            log_times = jnp.append(jnp.full((), -jnp.inf, dtype), ahead.astype(dtype))
            valid = jnp.ones(DEFAULT_ROWS, bool)
            states, _, more = orbits.states(log_times, active, self.max_pieces)
            pieces = jnp.maximum(pieces, more)
        else:
            valid = (status == Status.COMPLETED) | (log_times <= final_log_time)
        states = jnp.where(valid[:, None, None], states, logits[None])
        return Path(log_times, valid, jax.vmap(as_params)(states), final_log_time, final,
                    status, event, pieces)  # fmt: skip
