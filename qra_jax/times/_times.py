"""First passage times: the end of entanglement, convergence, a level of accuracy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, per_question, require_all
from .._core.floats import snapped_difference
from ..flows._checks import check_solve
from ..flows._events import ValueReaches
from ..flows._flow import GradientFlow
from ..objectives._metrics import accuracy
from ..objectives._rewards import Verifiable
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..solvers._method import AbstractMethod
from ..solvers._trajectory import EventTime
from ._passage import (
    Passage,
    at_once,
    check_eps,
    convergence_of,
    end_of_entanglement,
    log_time_when,
    moves_of,
    when,
)
from ._regime import Landscape


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
    return when(policy, check_solve(policy, flow, None), end_of_entanglement, method)


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
    flow = check_solve(policy, flow, None)
    return log_time_when(policy, flow, end_of_entanglement, method)


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
    check_eps(eps, policy.num_questions)
    return when(policy, flow, convergence_of, method, as_float(eps, "eps"))


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
    flow = check_solve(policy, flow, None)
    check_eps(eps, policy.num_questions)
    return log_time_when(policy, flow, convergence_of, method, as_float(eps, "eps"))


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
    per_question(level, "level", policy.num_questions)
    require_all(level, lambda x: (x >= 0) & (x <= 1), "level", "lie in [0, 1]")
    return log_time_when(policy, flow, _accuracy_of, method, as_float(level, "level"))


def _accuracy_of(
    policy: AbstractPolicy, flow: GradientFlow, land: Landscape, level: ArrayLike
) -> Passage:
    """The accuracy reaches a level, for each question."""
    questions = jnp.arange(flow.problem.num_questions)
    start = accuracy(policy, flow.problem)
    level = jnp.broadcast_to(as_float(level, "level").astype(start.dtype), questions.shape)
    already = start >= level
    never = ~moves_of(policy, flow)
    if flow.freezes_answers:
        _, rates = policy.pattern_table(flow.problem)
        highest = jnp.max(jnp.where(policy.exists, rates, 0), axis=-1)
        # The best rate itself is reached only in the limit.
        never |= snapped_difference(highest, level) <= 0
    never &= ~already
    skip = at_once(already | never, level)
    event = jax.vmap(lambda x, q: ValueReaches(x, q, reward=Verifiable()))(skip, questions)
    return Passage(questions, event, already, never, land.valid & (level >= 0) & (level <= 1))
