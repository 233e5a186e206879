"""The exact method: flows with constant rewards along their orbit, without time steps."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ._checks import require
from ._clock import ArcLength
from ._event import AbstractEvent, FlowState, TimeReached
from ._flow import Euclidean, GradientFlow
from ._method import AbstractMethod, Path
from ._objective import Objective
from ._orbit import (
    Cell,
    Orbit,
    Place,
    State,
    cell_at,
    cells_of,
    find_event,
    find_time,
    log_time_at,
    log_time_to,
    place_at_time,
    place_of_event,
    rule_of,
    state_at,
)
from ._policy import AbstractPolicy, TabularPolicy
from ._status import Status
from ._system import all_usable, prepare, unit_and_log_norm

_Scalar = Float[Array, ""]
DEFAULT_ROWS = 128


def why_not_integrable(flow: GradientFlow, policy: AbstractPolicy) -> str | None:
    """What keeps a flow from being integrable, or None if it is."""
    objective = flow.objective
    if not isinstance(policy, TabularPolicy):
        return f"its policy is a {type(policy).__name__}, not a TabularPolicy"
    if not isinstance(objective, Objective):
        return f"its objective is {type(objective).__name__}"
    if objective.regularisers:
        return "its objective has regularisers"
    if not objective.is_mean:
        return "its utility is not the mean reward"
    if not isinstance(flow.geometry, Euclidean):
        return f"its geometry is {type(flow.geometry).__name__}"
    held = flow.freezes_answers and objective.reward.keeps_pattern_values
    if not held:
        return "its pattern rewards are not known to stay constant"
    return None


class _Questions(eqx.Module):
    """The orbits of all questions, each with its own time `weight * t`; leading axes Q."""

    orbits: Orbit
    cells: Cell
    counts: Array
    log_weights: Float[Array, " Q"]

    def one(self, index) -> "_Questions":
        return jtu.tree_map(lambda x: x[index], self)

    @property
    def moves(self):
        return self.orbits.moves & (self.log_weights > -jnp.inf)


class Exact(AbstractMethod):
    r"""Constant-reward flows along their closed-form orbit: no steps in time, no tolerance.

    In $x_i = e^{-\theta_i}$ the Euclidean flow of constant pattern rewards needs one root (for the
    state) and one integral (for the time); times of $e^{10^4}$ cost what times of 1 cost.

    **Arguments:**

    - `nodes`: of the Gauss-Legendre rule on each piece of the orbit, at least 4; if not given, as
      many as give log times to 1e-10 (18 for 3 patterns, 36 for 64).
    - `max_pieces`: at most so many pieces, before the status `MAX_STEPS`.

    **Raises:** `ValueError` if a number is too small; `solve_flow` raises it for a flow that is not
    integrable (frozen answers, `Verifiable` or `SelfCertainty`, no penalty, Euclidean).

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([1e-30, 0.70, 0.30], [0.9, 0.7, 0.1])
        print(qra.log_entanglement_time(policy, problem, method=qra.Exact()))
        ```

    Source: derived in docs.
    """

    nodes: int | None = eqx.field(static=True)
    max_pieces: int = eqx.field(static=True)

    def __init__(self, nodes: int | None = None, max_pieces: int = 4096):
        require(nodes is None or nodes >= 4, "nodes", "be at least 4", nodes)
        require(max_pieces >= 1, "max_pieces", "be at least 1", max_pieces)
        self.nodes = nodes
        self.max_pieces = max_pieces

    def _nodes(self, patterns: int) -> int:
        # The more patterns take part in a hand-over, the nearer its complex singularities.
        return self.nodes or 12 + 3 * math.ceil(math.sqrt(patterns))

    def why_not(self, flow, policy, until) -> str | None:
        several = flow.problem.num_questions > 1
        events = [event for event in until if not isinstance(event, TimeReached)]
        alone = len(events) == 1 and getattr(events[0], "question", None) is not None
        if several and events and not alone:
            return "events of several questions"
        return why_not_integrable(flow, policy)

    def integrate(
        self,
        flow: GradientFlow,
        policy: AbstractPolicy,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> Path:
        reason = self.why_not(flow, policy, until)
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

        lane = prepare(flow, policy, reference, until, ArcLength())
        active, flow = lane.system.active, lane.system.flow
        live = eqx.combine(lane.system.params(lane.theta), lane.system.frozen)
        questions = self._questions(flow, live)
        nodes = self._nodes(policy.pattern_logits.shape[1])

        limits = [log_times[-1]] if log_times is not None else []
        limits = jnp.stack(
            [*(time.astype(dtype) for time in timers), *limits, jnp.asarray(jnp.inf, dtype)]
        )
        limit = jnp.min(limits)
        end = self._end(questions, nodes, flow, live, reference, events, limit, active)
        log_time, by_event, reached, which, logits, pieces = end

        sound = all_usable(logits) & ~jnp.isnan(log_time)
        order = jnp.asarray([*others, *timed], jnp.int32)
        kinds = [Status.EVENT] * len(timed) + [Status.COMPLETED] * (log_times is not None)
        codes = jnp.asarray([*kinds, Status.OVERFLOW], jnp.int32)
        first = jnp.argmin(limits)
        exhausted = jnp.where(pieces >= self.max_pieces, Status.MAX_STEPS, Status.OVERFLOW)
        status = jnp.where(by_event, Status.EVENT, jnp.where(reached, codes[first], exhausted))
        status = jnp.where(sound, status, Status.FAILED)
        idle, idle_event = lane.idle([Status.EVENT] * len(until), log_times is not None)
        status = jnp.where(active, status, idle).astype(jnp.int32)
        if until:
            at = jnp.where(by_event, which, jnp.minimum(len(others) + first, len(until) - 1))
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
        if log_times is None:
            # From a hundredth of the time scale of the start on.
            first = jnp.minimum(jnp.log(0.01) - lane.system.start, final_log_time - 1)
            ahead = jnp.linspace(first, final_log_time, DEFAULT_ROWS - 1)
            log_times = jnp.append(jnp.full((), -jnp.inf, dtype), ahead.astype(dtype))
            valid = jnp.ones(DEFAULT_ROWS, bool)
        else:
            valid = (status == Status.COMPLETED) | (log_times <= final_log_time)
        states = jax.vmap(lambda t: self._states(questions, nodes, live.pattern_logits, t))(
            jnp.where(valid & active, log_times, -jnp.inf)
        )
        states = jnp.where(valid[:, None, None], states, logits[None])
        return Path(log_times, valid, jax.vmap(as_params)(states), final_log_time, final,
                    status, event, pieces)  # fmt: skip

    def _questions(self, flow: GradientFlow, live: TabularPolicy) -> _Questions:
        assert isinstance(flow.objective, Objective)
        _, values = live.pattern_table(flow.problem, flow.objective.reward)
        orbits = jax.vmap(Orbit)(live.pattern_logits, values, live.exists)
        cells, counts = jax.vmap(cells_of)(orbits)
        weights = flow.problem.weights.astype(values.dtype)
        moving = weights > 0
        log_weights = jnp.where(moving, jnp.log(jnp.where(moving, weights, 1)), -jnp.inf)
        return _Questions(orbits, cells, counts, log_weights)

    def _end(self, questions, nodes, flow, live, reference, events, limit, active):
        """Where a solve stops: its log time, by an event or by the limit, which event, all logits,
        and the number of pieces."""
        several = live.pattern_logits.shape[0] > 1
        question = jnp.asarray(events[0].question if several and events else 0)
        own = questions.one(question)
        target = limit + own.log_weights
        moves = active & own.moves

        def values(state: State) -> Float[Array, "*N E"]:
            def look(row):
                logits = live.pattern_logits.at[question].set(row)
                policy = eqx.tree_at(lambda p: p.pattern_logits, live, logits)
                params, frozen = flow.split(policy)

                def velocity():
                    return unit_and_log_norm(flow.velocity(params, frozen, reference))

                seen = FlowState(flow, policy, jnp.full((), jnp.nan, row.dtype), velocity)
                return jnp.stack([event.value(seen) for event in events])

            logits = own.orbits.logits(state)
            return look(logits) if logits.ndim == 1 else jax.vmap(look)(logits.T)

        def soonest(state: State):
            return jnp.max(values(state), axis=-1)

        if events:
            pick, happens, state = self._event(own, nodes, target, soonest, moves)
            found, log_time, logits = self._timed(own, nodes, target, moves & ~pick)
            log_time = jnp.where(pick, happens, log_time)
            logits = jnp.where(pick, own.orbits.logits(state), logits)
            which = jnp.argmax(values(state))
        else:
            pick, which = jnp.asarray(False), jnp.zeros((), jnp.int32)
            found, log_time, logits = self._timed(own, nodes, target, moves)
        reached = found.reached & moves & ~pick
        start = live.pattern_logits
        # Where nothing moves, time passes all the same.
        rests = active & ~own.moves
        log_time = jnp.where(rests, limit, log_time - jnp.where(rests, 0, own.log_weights))
        logits = jnp.where(rests, start[question], logits)
        reached |= rests & (limit < jnp.inf)
        if several:
            everyone = self._states(
                questions, nodes, live.pattern_logits, jnp.where(active, log_time, -jnp.inf)
            )
            logits = everyone.at[question].set(logits)
        else:
            logits = logits[None]
        return log_time, pick, reached, which, logits, found.pieces

    def _event(self, own: _Questions, nodes: int, target: _Scalar, event, wanted):
        """Whether an event happens before the log time `target`, when, and the state then."""
        still = jax.lax.stop_gradient((own.orbits, own.cells))
        bracket = jax.lax.stop_gradient(find_event(*still, own.counts, event, wanted))
        place = jax.lax.stop_gradient(place_of_event(*still, bracket, event))
        known = log_time_to(*still, place, rule_of(nodes), bracket.happens)
        known = jax.lax.stop_gradient(known)
        first = bracket.happens & (known <= target)
        place = _implicit(place, lambda place: event(_state(own, place)), first)
        log_time = log_time_at(own.orbits, place, own.cells, known, nodes=nodes)
        return first, log_time, _state(own, place)

    def _timed(self, own: _Questions, nodes: int, target: _Scalar, wanted):
        """The piece that holds a time of one question, and log time (which is `target`) and logits
        then."""
        wanted = wanted & jnp.isfinite(target)
        target = jnp.where(wanted, target, 0)
        still = jax.lax.stop_gradient((own.orbits, own.cells))
        known = jax.lax.stop_gradient(target)
        found = find_time(*still, own.counts, rule_of(nodes), known, self.max_pieces, wanted)
        found = jax.lax.stop_gradient(found._replace(reached=found.reached & wanted))
        place = jax.lax.stop_gradient(place_at_time(*still, found, known, rule_of(nodes)))

        def late(place):
            return log_time_at(own.orbits, place, own.cells, known, nodes=nodes) - target

        place = _implicit(place, late, found.reached)
        return found, target, own.orbits.logits(_state(own, place))

    def _states(self, questions: _Questions, nodes: int, starts, log_time: _Scalar):
        """The logits of all questions at a log time (`-inf`: the start)."""

        def state(own: _Questions, start):
            target = log_time + own.log_weights
            wanted = own.moves & (target > -jnp.inf)
            found, _, logits = self._timed(own, nodes, target, wanted)
            return jnp.where(found.reached, logits, start)

        return jax.vmap(state)(questions, starts)


def _state(own: _Questions, place: Place) -> State:
    return state_at(own.orbits, cell_at(own.cells, place.cell), place.side, place.log_distance)


def _implicit(place: Place, residual, wanted) -> Place:
    """A place at which `residual` is 0 already, with the derivatives that keep it so."""

    def invert(linear, change):
        slope = linear(jnp.ones_like(change))
        usable = wanted & (slope != 0) & jnp.isfinite(slope)
        return jnp.where(usable, change / jnp.where(usable, slope, 1), 0)

    distance = jax.lax.custom_root(
        lambda x: residual(place._replace(log_distance=x)),
        place.log_distance,
        lambda _, x: x,
        invert,
    )
    return place._replace(log_distance=distance)
