"""Where flows with a KL penalty end."""

import jax

from .._core.checks import require, require_all
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..objectives._objective import Objective
from ..objectives._regularisers import ReverseKL
from ..objectives._rewards import KEEPS, Verifiable
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._tabular import TabularPolicy
from ..policies._two_stage import AbstractTwoStagePolicy


def optimal_policy(reference: AbstractPolicy, flow: GradientFlow | Problem) -> TabularPolicy:
    r"""The policy that maximises $E[R] - \beta \mathrm{KL}(\pi \| \pi_{ref})$.

    Frozen answers: $\pi(r) \propto \pi_{ref}(r) e^{R(r)/\beta}$, as $\beta \to 0$ the best pattern.
    Trainable answers (RLVR): $\pi(r, a) \propto \pi_{ref}(r, a) e^{1[a = a^*]/\beta}$.

    **Arguments:** `reference`: the reference policy, which is also the start; `flow`: Euclidean or
    natural, with a reward, mean utility and one `ReverseKL` of strength above 0.

    **Returns:** a `TabularPolicy`.

    **Raises:** `ValueError` where the formula does not hold: other utilities or regularisers,
    beta = 0, or trainable answers under a reward that is not `Verifiable`.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        best = qra.laws.optimal_policy(policy, qra.GradientFlow(qra.RLVR(beta=0.1), problem))
        ```

    Source: arXiv 2506.04695 v2, proposition 5.2 (frozen answers, as summarised); derived in
    docs/derivations.md#the-optimum-with-trainable-answers
    (trainable answers).
    """
    flow = check_solve(reference, flow, None)
    objective = flow.objective
    regularisers = objective.regularisers if isinstance(objective, Objective) else ()
    penalty = regularisers[0] if len(regularisers) == 1 else None
    plain = isinstance(objective, Objective) and objective.is_mean
    if not (plain and isinstance(penalty, ReverseKL)):
        raise ValueError(
            "flow.objective must be a mean reward with one ReverseKL, got "
            f"{type(objective).__name__} with {len(regularisers)} regularisers"
        )
    assert isinstance(objective, Objective)
    beta = penalty.beta
    require_all(beta, lambda b: b > 0, "beta", "be above 0")
    reference = having(reference, AbstractTwoStagePolicy, "for its optimum")
    log_patterns, log_answers = reference.log_probs()
    beta = beta.astype(log_patterns.dtype)
    if flow.freezes_answers:
        constant = objective.keeps_gaps
        require(constant, "flow.objective.reward", KEEPS, objective.reward)
        _, values = reference.pattern_table(flow.problem, objective.reward)
        return TabularPolicy(log_patterns + values / beta, log_answers)
    verifiable = isinstance(objective.reward, Verifiable)
    require(
        verifiable, "flow.objective.reward", "be Verifiable (trainable answers)", objective.reward
    )
    bonus = flow.problem.correctness(log_answers.shape[-1]).astype(log_answers.dtype) / beta
    answers = log_answers + bonus
    return TabularPolicy(log_patterns + jax.nn.logsumexp(answers, axis=-1), answers)
