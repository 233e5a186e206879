"""A two-stage policy as token columns."""

import jax.numpy as jnp
import numpy as np

from ..policies._markov import MarkovPolicy
from ..policies._policy import check_order, having
from ..policies._problem import Problem
from ..policies._two_stage import AbstractTablePolicy


def as_tokens(
    policy: AbstractTablePolicy, problem: Problem, *, freeze_answers: bool = False
) -> tuple[MarkovPolicy, Problem]:
    r"""A two-stage policy as a Markov policy of two tokens, with the same flow.

    Questions, patterns of each question and answers are tokens, in this order: $Q + QR + A$ of
    them. The column of a question holds its pattern logits, that of a pattern its answer logits.
    The correspondence is exact: $\dot\theta$ of both policies is the same, number by number.

    **Arguments:** `policy`, `problem`; `freeze_answers`: whether only the columns of questions are
    trained (Assumption 5.1).

    **Returns:** the `MarkovPolicy`, to be trained with `trainable="all"`, and the problem in its
    tokens.

    **Raises:** `TypeError` if the policy is no table.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        tokens, same = qra.tokens.as_tokens(policy, problem, freeze_answers=True)
        flow = qra.GradientFlow(qra.RLVR(), same, "all")
        print(qra.log_entanglement_time(tokens, flow))  # log of 94.305
        ```

    Source: derived in docs/derivations.md#policies-over-tokens.
    """
    check_order(policy, problem, "problem")
    policy = having(policy, AbstractTablePolicy, "to be written as tokens")
    questions, patterns, answers = policy.answer_logits.shape
    first = questions + questions * patterns  # answer
    number = first + answers
    logits = jnp.full((number, number), -jnp.inf, policy.pattern_logits.dtype)
    rows = questions + jnp.arange(questions * patterns).reshape(questions, patterns)
    logits = logits.at[rows, jnp.arange(questions)[:, None]].set(policy.pattern_logits)
    ends = first + jnp.arange(answers)
    logits = logits.at[ends[None, None], rows[..., None]].set(policy.answer_logits)
    # Nothing follows an answer; what the column says is never met.
    logits = logits.at[ends, ends].set(0)
    pattern_of = np.zeros(number, int)
    pattern_of[questions:first] = np.tile(np.arange(patterns), questions)
    tokens = MarkovPolicy(
        logits,
        jnp.arange(questions),
        2,
        patterns=pattern_of,
        trained=np.arange(number) < questions if freeze_answers else None,
    )
    return tokens, Problem(first + problem.correct, problem.weights)
