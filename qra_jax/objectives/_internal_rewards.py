"""Internal rewards: what a policy earns by its own confidence, or by agreeing with itself."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.checks import require
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._rewards import AbstractReward, factors


def _without_cancellation(
    log_probs: Float[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Probabilities and their logarithms, the latter 0 where a probability is 0 (0 log 0 = 0).

    The largest is written as 1 minus the others. Its own derivative, and that of its logarithm,
    would otherwise be a difference of nearly equal numbers close to a vertex, where a flow that
    differentiates the reward through would then stop for ever.
    """
    largest = jax.nn.one_hot(jnp.argmax(log_probs, axis=-1), log_probs.shape[-1], dtype=bool)
    others = jnp.where(largest, 0, jnp.exp(log_probs))
    rest = jnp.sum(others, axis=-1, keepdims=True)
    finite = jnp.where(log_probs > -jnp.inf, log_probs, 0)
    return jnp.where(largest, 1 - rest, others), jnp.where(largest, jnp.log1p(-rest), finite)


def _entropy(log_probs: Float[Array, "..."]) -> Float[Array, "..."]:
    """The entropy of the last axis, in nats; the axis is kept, of length 1."""
    probs, logs = _without_cancellation(log_probs)
    return -jnp.sum(probs * logs, axis=-1, keepdims=True)


def _answer_shares(policy: AbstractPolicy) -> Float[Array, "Q 1 A"]:
    """The marginal distribution of answers, over all patterns."""
    log_patterns, log_answers = factors(policy)
    patterns, _ = _without_cancellation(log_patterns)
    answers, _ = _without_cancellation(log_answers)
    return jnp.sum(patterns[:, :, None] * answers, axis=1, keepdims=True)


class TrajectoryEntropy(AbstractReward):
    r"""Negative entropy of the trajectory, estimated by its own sample: the mean log-likelihood of
    its two steps, $\frac12 [\log \pi(r|q) + \log \pi(a|q,r)]$.

    The value of a pattern is $\frac12 [\log \pi(r|q) - H_r]$, $H_r$ the entropy of its answers.
    Differentiating the reward through changes nothing.

    Source: arXiv 2505.15134 (entropy minimisation, a trajectory at a time).
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R A"]:
        """**Returns:** `(Q, R, A)` in nats; a step of probability 0, never taken, counts as 0."""
        log_patterns, log_answers = factors(policy)
        _, patterns = _without_cancellation(log_patterns)
        _, answers = _without_cancellation(log_answers)
        return (patterns[:, :, None] + answers) / 2

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class TokenEntropy(AbstractReward):
    r"""Negative entropy of the distributions that the two steps are drawn from, on average:
    $-\frac12 [H(\pi(.|q)) + H_r]$, $H_r$ the entropy of the answers of pattern r.

    Held constant it moves patterns by $-\frac12 H_r$ alone, since $H(\pi(.|q))$ is common to all of
    them. Differentiated through it is the flow of `TrajectoryEntropy`.

    Source: arXiv 2505.15134 (entropy minimisation, a token at a time).
    """

    keeps_pattern_values: ClassVar[bool] = True
    same_for_answers: ClassVar[bool] = True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """**Returns:** `(Q, R, 1)` in nats, the same for all answers of a pattern."""
        log_patterns, log_answers = factors(policy)
        return -(_entropy(log_patterns)[:, :, None] + _entropy(log_answers)) / 2

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class TopTwoMargin(AbstractReward):
    r"""By how much a pattern prefers its first choice, $q_{(1)} - q_{(2)}$: the probability of its
    most probable answer minus that of the second.

    Where answers tie for second, differentiating through takes one of them.

    Source: derived in docs/objectives.md#reward.
    """

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True
    same_for_answers: ClassVar[bool] = True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """**Returns:** `(Q, R, 1)` in [0, 1], the same for all answers of a pattern.

        **Raises:** as `validate`.
        """
        self.validate(policy, problem)
        answers, _ = _without_cancellation(factors(policy)[1])
        top, _ = jax.lax.top_k(answers, 2)
        return top[:, :, :1] - top[:, :, 1:]

    def size(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """That of the larger of the two."""
        answers, _ = _without_cancellation(factors(policy)[1])
        return jnp.max(answers, axis=-1, keepdims=True)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there is only one answer."""
        number = policy.num_answers
        require(number >= 2, "policy", "have at least 2 answers for TopTwoMargin", number)


class SequenceProbability(AbstractReward):
    r"""The probability of the whole trajectory, $\pi(r|q)\,\pi(a|q,r)$.

    The value of a pattern is $\pi(r|q) \sum_a \pi(a|q,r)^2$. Differentiated through, patterns and
    answers move twice as fast.

    Source: derived in docs/objectives.md#reward.
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R A"]:
        """**Returns:** `(Q, R, A)` in [0, 1]."""
        log_patterns, log_answers = factors(policy)
        patterns, _ = _without_cancellation(log_patterns)
        answers, _ = _without_cancellation(log_answers)
        return patterns[:, :, None] * answers

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class SelfConsistency(AbstractReward):
    r"""Soft self-consistency: the share of an answer, $m_a = \sum_r \pi(r|q)\,\pi(a|q,r)$.

    The value of a pattern is $\sum_a \pi(a|q,r)\,m_a$. Differentiated through, patterns and answers
    move twice as fast.

    Source: derived in docs/objectives.md#reward.
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)` in [0, 1], the same for all patterns."""
        return _answer_shares(policy)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class MajorityVote(AbstractReward):
    r"""Agreement with the majority: $1[a = \mathrm{argmax}_b\, m_b]$, $m_b$ the share of answer b
    over all patterns. The verifiable reward with the majority's answer for the correct one.

    The vote is that of infinitely many samples. A tie goes to the first of the answers, and the
    reward jumps where the majority changes; elsewhere differentiating it changes nothing.

    Source: arXiv 2504.16084 (TTRL).
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)`, 1 at the majority's answer and 0 elsewhere."""
        shares = _answer_shares(policy)
        return jax.nn.one_hot(jnp.argmax(shares, axis=-1), shares.shape[-1], dtype=shares.dtype)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class ReferenceProbability(AbstractReward):
    r"""The probability $\pi(a^*|q,r)$ that a pattern gives the reference answer.

    Its pattern values are the success rates $p(r)$, so that patterns move as with `Verifiable`.
    Held constant it leaves the answers alone; differentiated through it is `Verifiable` altogether.

    Source: derived in docs/objectives.md#reward.
    """

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True
    same_for_answers: ClassVar[bool] = True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """**Returns:** `(Q, R, 1)` in [0, 1], the same for all answers of a pattern."""
        _, rates = policy.pattern_table(problem)
        return rates[:, :, None]

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass
