"""First passage times: the end of entanglement, convergence, a level of accuracy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, is_concrete, require_all
from .._core.floats import snapped_difference
from ..flows._checks import check_solve
from ..flows._events import AbstractEvent, PatternReaches, ValuePasses, ValueReaches
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..objectives._metrics import accuracy
from ..objectives._objective import Objective
from ..objectives._rewards import Verifiable
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


def _moves(policy: AbstractPolicy, flow: GradientFlow) -> Bool[Array, " Q"]:
    """Which questions move: one of weight 0 does only by what it shares with others."""
    return (flow.problem.weights > 0) | (not policy.independent_questions)


def _keeps_gaps(flow: GradientFlow) -> bool:
    objective = flow.objective
    return flow.freezes_answers and isinstance(objective, Objective) and objective.keeps_gaps


class _Passage(eqx.Module):
    """A question to the flow, one for each of its questions: when does this first happen?

    `already` and `never` are what can be known at the start; such lanes are not solved.
    """

    event: AbstractEvent
    already: Bool[Array, " Q"]
    never: Bool[Array, " Q"]
    valid: Bool[Array, " Q"]


@eqx.filter_jit
def _first_passage(
    policy: AbstractPolicy,
    flow: GradientFlow,
    passage: _Passage,
    land: Landscape,
    method: AbstractMethod,
) -> EventTime:
    """When `passage` happens to each question; `(Q,)` leading axes."""

    def solve(question, event):
        return first_event(policy, isolated(policy, flow, question), None, (event,), method)

    questions = jnp.arange(flow.problem.num_questions)
    found = jax.vmap(solve)(questions, passage.event)
    final = jax.vmap(lambda p: p.pattern_table(flow.problem)[0])(found.policy)
    share = jnp.sum(jnp.where(land.best, final[questions, questions], 0), axis=-1)
    # At rest for ever, or at the end of time with the best pattern settled: it will not happen.
    settled = (found.status == Status.STATIONARY) & ~land.underflows
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


def _at_once(skip: Bool[Array, " Q"], level: Float[Array, " Q"]) -> Float[Array, " Q"]:
    """A level that is below everything where the solve can be skipped."""
    return jnp.where(skip, -jnp.inf, level)


def entanglement(
    policy: AbstractPolicy, flow: GradientFlow | Problem, *, method: AbstractMethod | None = None
) -> EventTime:
    r"""The end of the entangled phase of each question: time, policy and status.

    **Arguments:** as for `log_entanglement_time`.

    **Returns:** an `EventTime` whose leaves have a leading axis Q: entry q is the solve in which
    question q was followed.

    **Raises:** as `log_entanglement_time`.

    Source: arXiv 2506.04695, theorem 5.4.
    """
    flow = check_solve(policy, flow, None)
    policy, flow, land = benign_start(policy, flow)
    questions = jnp.arange(flow.problem.num_questions)
    # V = second best is the very moment at which V exceeds it, if anything moves.
    at_second = jnp.any(land.second & (land.above == 0), axis=-1)
    moves = _moves(policy, flow)
    already = land.passed_second | (at_second & moves)
    never = ~already & ~moves
    skip = already | never
    if _keeps_gaps(flow) and policy.independent_questions:
        event = jax.vmap(ValuePasses)(jnp.argmax(land.second, axis=-1), questions, skip)
    else:
        event = jax.vmap(ValueReaches)(_at_once(skip, land.second_value), questions)
    passage = _Passage(event, already, never, land.valid)
    return _first_passage(policy, flow, passage, land, method_for(policy, flow, (event,), method))


def log_entanglement_time(
    policy: AbstractPolicy, flow: GradientFlow | Problem, *, method: AbstractMethod | None = None
) -> Float[Array, " Q"]:
    r"""$\log T_0$, the time at which V first exceeds the second best value at the start.

    For constant rewards it is the moment at which the misleading pattern's logit peaks.

    **Arguments:** `policy`: the start (and the reference of a KL penalty); `flow`: a
    `GradientFlow`, or a `Problem` for Euclidean RLVR; `method`: if not
    given, `Exact()` where the flow is integrable, or else `ODE()`.

    **Returns:** `(Q,)` natural logarithms of the flow's own time (a question of weight w runs at w
    times the speed). `-inf` if V exceeds it at the start or there is no second best, `inf` if it
    never does, NaN if the solve failed.

    **Raises:** `ValueError` if policy, problem and objective do not fit together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.log_entanglement_time(policy, problem))  # log of 94.30486
        ```

    Source: arXiv 2506.04695, theorem 5.4.
    """
    return entanglement(policy, flow, method=method).log_time


def convergence(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    eps: ArrayLike,
    *,
    method: AbstractMethod | None = None,
) -> EventTime:
    r"""The time at which each question has converged up to `eps`: time, policy and status.

    **Arguments:** as for `log_convergence_time`.

    **Returns:** an `EventTime` whose leaves have a leading axis Q: entry q is the solve in which
    question q was followed.

    **Raises:** as `log_convergence_time`.

    Source: arXiv 2506.04695, theorem 5.3.
    """
    flow = check_solve(policy, flow, None)
    require_all(eps, lambda e: (e > 0) & (e < 1), "eps", "lie strictly between 0 and 1")
    policy, flow, land = benign_start(policy, flow)
    questions = jnp.arange(flow.problem.num_questions)
    # So much is never lost again, however many patterns tie for best.
    lasting = is_concrete(eps) and bool(np.all(np.asarray(eps) <= 1 / land.probs.shape[-1]))
    eps = jnp.broadcast_to(as_float(eps).astype(land.probs.dtype), questions.shape)
    others = jnp.sum(jnp.where(land.best, 0, land.probs), axis=-1)
    already = others <= eps
    never = ~already & ~_moves(policy, flow)
    skip = already | never
    event = jax.vmap(
        lambda best, eps, q: PatternReaches(best, None, q, shortfall=eps, lasting=lasting)
    )(land.best, eps, questions)
    event = eqx.tree_at(lambda e: e.log_odds, event, _at_once(skip, event.log_odds))
    passage = _Passage(event, already, never, land.valid & (eps > 0) & (eps < 1))
    return _first_passage(policy, flow, passage, land, method_for(policy, flow, (event,), method))


def log_convergence_time(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    eps: ArrayLike,
    *,
    method: AbstractMethod | None = None,
) -> Float[Array, " Q"]:
    r"""$\log T_\epsilon$, the time at which $\pi(r^*) = 1 - \epsilon$.

    The best pattern is that of the highest value at the start; patterns tied for it count together.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow`, or a `Problem` for Euclidean
    RLVR; `eps`: strictly between 0 and 1; `method`: if not
    given, `Exact()` where the flow is integrable, or else `ODE()`.

    **Returns:** `(Q,)` natural logarithms of the flow's own time; `-inf`, `inf` and NaN as for
    `log_entanglement_time`.

    **Raises:** `ValueError` if `eps` is out of range, or policy, problem and objective do not fit
    together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.log_convergence_time(policy, problem, 0.01))
        ```

    Source: arXiv 2506.04695, theorem 5.3.
    """
    return convergence(policy, flow, eps, method=method).log_time


def log_time_to_accuracy(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    level: ArrayLike,
    *,
    method: AbstractMethod | None = None,
) -> Float[Array, " Q"]:
    r"""Logarithm of the time at which the accuracy of each question first reaches a level.

    Accuracy means correct answers, whatever the flow is rewarded for.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow`, or a `Problem` for Euclidean
    RLVR; `level`: a scalar or `(Q,)`, in [0, 1]; `method`: if not
    given, `Exact()` where the flow is integrable, or else `ODE()`.

    **Returns:** `(Q,)` natural logarithms of the flow's own time; `-inf`, `inf` and NaN as for
    `log_entanglement_time`.

    **Raises:** `ValueError` if `level` is out of range, or policy, problem and objective do not
    fit together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.log_time_to_accuracy(policy, problem, 0.8))
        ```

    Source: arXiv 2506.04695, section 5.
    """
    flow = check_solve(policy, flow, None)
    require_all(level, lambda x: (x >= 0) & (x <= 1), "level", "lie in [0, 1]")
    policy, flow, land = benign_start(policy, flow)
    questions = jnp.arange(flow.problem.num_questions)
    start = accuracy(policy, flow.problem)
    level = jnp.broadcast_to(as_float(level).astype(start.dtype), questions.shape)
    already = start >= level
    never = ~_moves(policy, flow)
    if flow.freezes_answers:
        _, rates = policy.pattern_table(flow.problem)
        highest = jnp.max(jnp.where(policy.exists, rates, 0), axis=-1)
        # The best rate itself is reached only in the limit.
        never |= snapped_difference(highest, level) <= 0
    never &= ~already
    skip = _at_once(already | never, level)
    event = jax.vmap(lambda x, q: ValueReaches(x, q, reward=Verifiable()))(skip, questions)
    passage = _Passage(event, already, never, land.valid & (level >= 0) & (level <= 1))
    found = _first_passage(policy, flow, passage, land, method_for(policy, flow, (event,), method))
    return found.log_time
