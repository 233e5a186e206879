"""First passages: what is asked of a flow, one program that finds it, both times at once."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_float, per_question, require_all
from .._core.compiled import compiled, compiled_vector
from .._core.types import Scalar
from ..flows._checks import check_solve
from ..flows._event import AbstractEvent, FlowState
from ..flows._events import PatternReaches, ValuePasses, ValueReaches
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..objectives._objective import Objective
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..solvers._choose import method_for
from ..solvers._method import AbstractMethod
from ..solvers._solve import first_event
from ..solvers._trajectory import EventTime
from ._regime import Landscape, benign_start

_NEVER = jnp.inf
_ALREADY = -jnp.inf


def isolated(policy: AbstractPolicy, flow: GradientFlow, question: Array | int) -> GradientFlow:
    """The flow in which only one question moves, where that changes nothing for it."""
    if not policy.independent_questions:
        return flow
    weights = flow.problem.weights
    alone = jnp.where(jnp.arange(weights.shape[0]) == question, weights, 0)
    return eqx.tree_at(lambda f: f.problem.weights, flow, alone)


def moves_of(policy: AbstractPolicy, flow: GradientFlow) -> Bool[Array, " Q"]:
    """Which questions move: one of weight 0 does only by what it shares with others."""
    return (flow.problem.weights > 0) | (not policy.independent_questions)


def _keeps_gaps(flow: GradientFlow) -> bool:
    objective = flow.objective
    return flow.freezes_answers and isinstance(objective, Objective) and objective.keeps_gaps


class Passage(eqx.Module):
    """L times asked for, each of one question: when does `event` first happen to it?

    `already` and `never` are what can be known at the start; such lanes are not solved.
    """

    question: Int[Array, " L"]
    event: AbstractEvent
    already: Bool[Array, " L"]
    never: Bool[Array, " L"]
    valid: Bool[Array, " L"]


def first_passage(
    policy: AbstractPolicy,
    flow: GradientFlow,
    passage: Passage,
    land: Landscape,
    method: AbstractMethod,
) -> EventTime:
    """When each of the passages happens; `(L,)` leading axes."""
    asked = passage.question

    def solve(question, event):
        return first_event(policy, isolated(policy, flow, question), None, (event,), method)

    found = jax.vmap(solve)(asked, passage.event)
    final = jax.vmap(lambda p: p.pattern_table(flow.problem)[0])(found.policy)
    own = final[jnp.arange(len(asked)), asked]
    share = jnp.sum(jnp.where(land.best[asked], own, 0), axis=-1)
    # At rest for ever, or at the end of time with the best pattern settled: it will not happen.
    settled = (found.status == Status.STATIONARY) & ~land.underflows[asked]
    settled |= (found.status == Status.OVERFLOW) & (share > 1 - 1e-6)
    never = (passage.never | settled) & ~passage.already
    log_time = jnp.where(never, _NEVER, found.log_time)
    log_time = jnp.where(passage.already, _ALREADY, log_time)
    status = jnp.where(never, Status.STATIONARY, found.status)
    status = jnp.where(passage.already, Status.EVENT, status)
    return EventTime(
        log_time=jnp.where(passage.valid, log_time, jnp.nan),
        policy=found.policy,
        status=jnp.where(passage.valid, status, Status.INVALID_INPUT).astype(jnp.int32),
        event=found.event,
        num_steps=found.num_steps,
    )


def _when(
    policy: AbstractPolicy,
    flow: GradientFlow,
    passage_of: Callable[..., Passage],
    method: AbstractMethod | None,
    *level: ArrayLike,
) -> EventTime:
    """When what `passage_of(policy, flow, landscape, *level)` asks for happens."""
    policy, flow, land = benign_start(policy, flow)
    passage = passage_of(policy, flow, land, *level)
    method = method_for(policy, flow, (passage.event,), method)
    return first_passage(policy, flow, passage, land, method)


def _log_time_when(
    policy: AbstractPolicy,
    flow: GradientFlow,
    passage_of: Callable[..., Passage],
    method: AbstractMethod | None,
    *level: ArrayLike,
) -> Float[Array, " Q"]:
    """The time alone: what is not asked for is not compiled."""
    return _when(policy, flow, passage_of, method, *level).log_time


log_time_when = compiled_vector(_log_time_when, lambda policy, *rest: policy.num_questions)
when = compiled(_when)


def at_once(skip: Bool[Array, " Q"], level: Float[Array, " Q"]) -> Float[Array, " Q"]:
    """A level that is below everything where the solve can be skipped."""
    return jnp.where(skip, -jnp.inf, level)


def end_of_entanglement(policy: AbstractPolicy, flow: GradientFlow, land: Landscape) -> Passage:
    """V passes the second best value, for each question."""
    questions = jnp.arange(flow.problem.num_questions)
    # V = second best is the very moment at which V exceeds it, if anything moves.
    at_second = jnp.any(land.second & (land.above == 0), axis=-1)
    moves = moves_of(policy, flow)
    already = land.passed_second | (at_second & moves)
    never = ~already & ~moves
    skip = already | never
    if _keeps_gaps(flow) and policy.independent_questions:
        event = jax.vmap(ValuePasses)(jnp.argmax(land.second, axis=-1), questions, skip)
    else:
        event = jax.vmap(ValueReaches)(at_once(skip, land.second_value), questions)
    return Passage(questions, event, already, never, land.valid)


def check_eps(eps: ArrayLike, number: int) -> None:
    per_question(eps, "eps", number)
    require_all(eps, lambda e: (e > 0) & (e < 1), "eps", "lie strictly between 0 and 1")


def convergence_of(
    policy: AbstractPolicy, flow: GradientFlow, land: Landscape, eps: ArrayLike
) -> Passage:
    """The best patterns reach 1 - eps, for each question."""
    questions = jnp.arange(flow.problem.num_questions)
    eps = jnp.broadcast_to(as_float(eps, "eps").astype(land.probs.dtype), questions.shape)
    others = jnp.sum(jnp.where(land.best, 0, land.probs), axis=-1)
    already = others <= eps
    never = ~already & ~moves_of(policy, flow)
    skip = already | never
    # So much is never lost again, however many patterns tie for best.
    lasting = eps <= 1 / land.probs.shape[-1]
    event = jax.vmap(
        lambda best, eps, q, lasting: PatternReaches(best, None, q, shortfall=eps, lasting=lasting)
    )(land.best, eps, questions, lasting)
    event = eqx.tree_at(lambda e: e.log_odds, event, at_once(skip, event.log_odds))
    return Passage(questions, event, already, never, land.valid & (eps > 0) & (eps < 1))


class PassageTimes(eqx.Module):
    """The end of entanglement and convergence of each question, `(Q,)`, and how they were found.

    - `log_entanglement_time`, `log_convergence_time`: natural logarithms of the flow's own time,
      as `log_entanglement_time` and `log_convergence_time` return them.
    - `entanglement_status`, `convergence_status`: values of `Status`.
    """

    log_entanglement_time: Float[Array, " Q"]
    entanglement_status: Int[Array, " Q"]
    log_convergence_time: Float[Array, " Q"]
    convergence_status: Int[Array, " Q"]


class _OneOf(AbstractEvent):
    """The first or the second of two events of one question, as an array says: lanes that look for
    different events share one program."""

    question: Int[Array, "..."]
    first: AbstractEvent
    second: AbstractEvent
    is_first: Bool[Array, "..."]

    def lasts(self) -> Bool[Array, ""]:
        return jnp.where(self.is_first, self.first.lasts(), self.second.lasts())

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        self.first.validate(policy, problem)
        self.second.validate(policy, problem)

    def value(self, state: FlowState) -> Scalar:
        return jnp.where(self.is_first, self.first.value(state), self.second.value(state))

    def balance(self, policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " R"] | None:
        first, second = (event.balance(policy, flow) for event in (self.first, self.second))
        if first is None or second is None:
            return None
        return jnp.where(self.is_first, first, second)


def _both(policy: AbstractPolicy, flow: GradientFlow, land: Landscape, eps: ArrayLike) -> Passage:
    """The end of entanglement of each question, and then the convergence of each."""
    first = end_of_entanglement(policy, flow, land)
    second = convergence_of(policy, flow, land, eps)
    number = flow.problem.num_questions
    one, other = jtu.tree_map(lambda x: jnp.concatenate([x, x]), (first.event, second.event))
    questions = jnp.append(first.question, second.question)
    event = _OneOf(questions, one, other, jnp.arange(2 * number) < number)
    return Passage(
        questions,
        event,
        jnp.append(first.already, second.already),
        jnp.append(first.never, second.never),
        jnp.append(first.valid, second.valid),
    )


def passage_times(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    eps: ArrayLike,
    method: AbstractMethod | None = None,
) -> PassageTimes:
    r"""$\log T_0$ and $\log T_\epsilon$ of each question, by one program.

    Compiles half of what `log_entanglement_time` and `log_convergence_time` do one after the
    other. For many starts, `jax.vmap` it, or give it to `qra_jax.sweep.Chunked`.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow`, or a `Problem` for Euclidean
    RLVR; `eps`: a scalar or `(Q,)`, strictly between 0 and 1; `method`: if not given, `Exact()`
    where the flow is integrable, or else `ODE()`.

    **Returns:** `PassageTimes` with leaves `(Q,)`.

    **Raises:** `ValueError` if `eps` is out of range, or policy, problem and objective do not fit
    together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        times = qra.passage_times(policy, problem, eps=0.01)
        print(times.log_entanglement_time, times.log_convergence_time)
        ```

    Source: arXiv 2506.04695, theorems 5.3 and 5.4.
    """
    flow = check_solve(policy, flow, None)
    check_eps(eps, policy.num_questions)
    found = when(policy, flow, _both, method, as_float(eps, "eps"))
    (log_first, log_second), (status_first, status_second) = (
        jnp.split(x, 2) for x in (found.log_time, found.status)
    )
    return PassageTimes(log_first, status_first, log_second, status_second)
