"""The exact method: flows with constant rewards along their orbit, without time steps.

Symbols and numbers of equations: see this folder's `__init__.py`.
"""

from typing import Any, NamedTuple

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
from ...policies._policy import AbstractPolicy, having
from ...policies._two_stage import AbstractTablePolicy
from .._lane import Lane, prepare
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

    def __init__(self, policy: AbstractTablePolicy, flow: GradientFlow, tol: float):
        assert isinstance(flow.objective, Objective)
        utility = flow.objective.utility
        _, values = policy.pattern_table(flow.problem, flow.objective.reward)
        self.orbits = jax.vmap(
            lambda logits, values, exists: Orbit(logits, values, exists, utility)
        )(policy.pattern_logits, values, policy.exists)
        self.cells, self.counts = jax.vmap(cells_of)(self.orbits)
        # Questions share no parameter, and weights rescale their times:
        # docs/derivations.md#question-weights-rescale-time (Q1).
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

        logits, reached, pieces = jax.vmap(
            lambda own: own._rows(log_times + own.log_weights, wanted, most), out_axes=(1, 1, 0)
        )(self)
        return logits, jnp.all(reached, axis=1), jnp.max(pieces)

    def _rows(self, times: Float[Array, " T"], wanted, most: int):
        """`states` of one question, at log times of its own."""
        rows = states_at(
            self.orbits,
            times,
            self.cells,
            self.counts,
            wanted & self.moves,
            resolution=self.resolution,
            most=most,
        )
        # At time 0 the start itself, to the last digit, not its way through x and back.
        begun = rows.reached & (times > -jnp.inf)
        logits = jnp.where(begun[:, None], self.orbits.logits(rows.log_x.T).T, self.starts)
        # Where nothing moves, time passes all the same.
        return logits, rows.reached | ~self.moves, rows.pieces


def _question_of(event: AbstractEvent):
    return getattr(event, "question", None)


class _Watch(NamedTuple):
    """The events that are looked for, all of them on the orbit of one question."""

    flow: GradientFlow
    policy: AbstractTablePolicy
    reference: AbstractPolicy
    events: tuple[AbstractEvent, ...]
    orbits: _Orbits

    @property
    def question(self) -> Any:
        # By `why_not`, with several questions there is one event, and it is about one of them.
        return _question_of(self.events[0]) if self.orbits.several else 0

    def logits(self, state: State) -> Float[Array, " K"]:
        return self.orbits.one(self.question).orbits.logits(state.log_x)

    def values(self, state: State) -> Float[Array, " E"]:
        row = self.logits(state)
        logits = self.policy.pattern_logits.at[self.question].set(row)
        policy = self.policy.with_pattern_logits(logits)
        params, frozen = self.flow.split(policy)

        # The field of the flow, not of its orbit: events see what they see in every other solver.
        def velocity():
            return unit_and_log_norm(self.flow.velocity(params, frozen, self.reference))

        # The time of the place is not known yet; the one event that asks for it, `TimeReached`, is
        # met without a search.
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
        # Found without derivatives, which come from the implicit function theorem afterwards (E7).
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

        # The place keeps the event at 0 as the orbit moves; only then is the time its function.
        place = implicit(place, lambda place: event(state(place)), first)
        log_time = log_time_at(own.orbits, place, own.cells, known, resolution=own.resolution)
        return first, jnp.where(first, log_time - own.log_weights, limit), state(place)


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


def _end_of(asked: _Asked, limit: Scalar, watch: _Watch, wanted) -> _End:
    if not asked.events:
        return _End(limit, jnp.asarray(False), limit, jnp.zeros((), jnp.int32), 0, None)
    happens, log_time, state = watch.soonest(limit, wanted)
    which = jnp.argmax(watch.values(state))
    return _End(limit, happens, log_time, which, watch.question, watch.logits(state))


class _Way(NamedTuple):
    """The logits (Q, K) at the end, those at the requested times (T, Q, K) if wanted, whether the
    end is reached, and the number of pieces looked at."""

    logits: Float[Array, "Q K"]
    states: Float[Array, "T Q K"] | None
    arrives: Array
    pieces: Array


def _way_to(end: _End, asked: _Asked, orbits: _Orbits, wanted, most: int, rows: bool) -> _Way:
    logits, states = orbits.starts, None
    arrives, pieces = jnp.zeros(1, bool), jnp.zeros((), jnp.int32)
    if asked.log_times is not None and rows:
        states, arrives, pieces = orbits.states(asked.log_times, wanted, most)
    # No second walk along the orbit for a state that is known already.
    if states is not None and not asked.timed and (not asked.events or not orbits.several):
        # The end is the last output, or an event of the only question.
        logits = states[-1]
    elif asked.timed or asked.log_times is not None or orbits.several:
        final, arrives, pieces = orbits.states(end.log_time[None], wanted, most)
        logits = final[0]
    if end.logits is not None:
        logits = jnp.where(end.happens, logits.at[end.question].set(end.logits), logits)
    return _Way(logits, states, arrives[-1], pieces)


def _how_it_ended(asked: _Asked, end: _End, way: _Way, lane: Lane, first, most: int):
    """The status, and which event of `until` it was (-1 for none). `first`: the earliest limit."""
    until, timed, sought = asked.until, asked.timed, asked.sought
    active = lane.system.active
    requested = asked.log_times is not None
    kinds = [Status.EVENT] * len(timed) + [Status.COMPLETED] * requested
    codes = jnp.asarray([*kinds, Status.OVERFLOW], jnp.int32)
    exhausted = jnp.where(way.pieces >= most, Status.MAX_STEPS, Status.OVERFLOW)
    # A limit that is not reached lies beyond the largest distance, or the pieces allowed.
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

    Source: derived in docs/exact.md#the-orbit.
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
        policy = having(policy, AbstractTablePolicy, "for Exact()")
        dtype = policy.pattern_logits.dtype
        asked = _Asked(until, None if log_times is None else log_times.astype(dtype))
        # Lanes with nothing to solve have a benign policy in place of theirs, lest they spoil the
        # derivatives of a batch: docs/derivations.md#lanes-with-nothing-to-solve.
        lane = prepare(policy, flow, reference, until, ArcLength())
        active, flow = lane.system.active, lane.system.flow
        live = eqx.combine(lane.system.params(lane.theta), lane.system.frozen)
        orbits = _Orbits(live, flow, self.tol)

        limits = asked.limits(dtype)
        watch = _Watch(flow, live, reference, asked.events, orbits)
        end = _end_of(asked, jnp.min(limits), watch, active)
        way = _way_to(end, asked, orbits, active, self.max_pieces, rows)
        status, event = _how_it_ended(asked, end, way, lane, jnp.argmin(limits), self.max_pieces)

        def as_params(logits):
            logits = jnp.where(active, logits, policy.pattern_logits)
            logits = jnp.where(lane.usable, logits, jnp.nan)
            return lane.theta_given.with_pattern_logits(logits)

        final_log_time = jnp.where(active, end.log_time, -jnp.inf)
        states, pieces = way.states, way.pieces
        if not rows:
            times, valid, states = final_log_time[None], jnp.ones(1, bool), way.logits[None]
        elif states is None or asked.log_times is None:
            times = self._times_until(final_log_time, lane)
            valid = jnp.ones(DEFAULT_ROWS, bool)
            states, _, more = orbits.states(times, active, self.max_pieces)
            pieces = jnp.maximum(pieces, more)
        else:
            times = asked.log_times
            valid = (status == Status.COMPLETED) | (times <= final_log_time)
            # Rows after the end hold the state at the end.
            states = jnp.where(valid[:, None, None], states, way.logits[None])
        final = as_params(way.logits)
        return Path(times, valid, jax.vmap(as_params)(states), final_log_time, final,
                    status, event, pieces)  # fmt: skip

    def _times_until(self, final_log_time: Scalar, lane: Lane) -> Float[Array, " T"]:
        """Outputs where none are requested: the start, and log times evenly spaced from a hundredth
        of the time scale of the start on."""
        first = jnp.minimum(jnp.log(0.01) - lane.system.start, final_log_time - 1)
        ahead = jnp.linspace(first, final_log_time, DEFAULT_ROWS - 1)
        start = jnp.full((), -jnp.inf, final_log_time.dtype)
        return jnp.append(start, ahead.astype(start.dtype))
