"""Policies that write both factors down, `pi(r|q) pi(a|q,r)`."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._core.floats import snapped_difference
from ._gaps import PatternGaps, sizes_of
from ._means import from_leader, mean_of
from ._policy import AbstractPolicy, AbstractSampledPolicy, Outcomes, RewardFunction, having
from ._problem import Problem
from ._token_values import RewardValues, reward_table


class AbstractTwoStagePolicy(AbstractSampledPolicy):
    r"""A policy $\pi(r|q)\,\pi(a|q,r)$ that can write both of its factors down.

    A subclass has `independent_questions`, `log_probs`, `part` and `natural`; all rewards of two
    stages, all penalties, flows, events and sampled training work with it then.
    """

    needs: ClassVar[str] = "have patterns and answers"

    @abc.abstractmethod
    def log_probs(self) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
        r"""$\log \pi(r|q)$ `(Q, R)` and $\log \pi(a|q,r)$ `(Q, R, A)`, in nats."""

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        return self.log_probs()[0] > -jnp.inf

    @property
    def num_questions(self) -> int:
        return self._shape[0]

    @property
    def num_patterns(self) -> int:
        return self._shape[1]

    @property
    def num_answers(self) -> int:
        return self._shape[2]

    @property
    def _shape(self) -> tuple[int, ...]:
        return jax.eval_shape(lambda: self.log_probs()[1]).shape

    def log_pattern_weights(self) -> Float[Array, "Q R"]:
        return self.log_probs()[0]

    def pattern_table(
        self, problem: Problem, reward: RewardFunction | None = None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        log_patterns, log_answers = self.log_probs()
        values = self._values(self._paid(problem, reward, log_answers), log_answers)
        return jnp.exp(log_patterns), values

    def _paid(
        self, problem: Problem, reward: RewardFunction | None, log_answers: Float[Array, "Q R A"]
    ) -> Float[Array, "_ _ _"]:
        """The reward's own values."""
        number = log_answers.shape[-1]
        found = problem.correctness(number) if reward is None else reward(self, problem)
        return reward_table(found, log_answers.shape).astype(log_answers.dtype)

    def _values(
        self, paid: Float[Array, "_ _ _"], log_answers: Float[Array, "Q R A"]
    ) -> Float[Array, "Q R"]:
        """Means over the answers of each pattern."""
        # The same for all answers of a pattern: no mean over them to take.
        same, shape = paid.shape[-1] == 1, log_answers.shape
        paid = jnp.broadcast_to(paid, (*shape[:-1], 1) if same else shape)
        # A padded pattern may carry any value, infinite ones included: it must not reach a sum.
        paid = jnp.where(self.exists[:, :, None], paid, 0)
        return paid[:, :, 0] if same else mean_of(jnp.exp(log_answers), paid)

    def _less_base(
        self, problem: Problem, reward: RewardFunction | None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"], Float[Array, "Q 1"], Array, Array]:
        """Pattern probabilities; values less a constant, and that; what is paid, less the constant;
        log-probabilities of answers."""
        log_patterns, log_answers = self.log_probs()
        paid = self._paid(problem, reward, log_answers)
        base = jnp.zeros((1, 1, 1), paid.dtype)
        if paid.shape[1] == 1:
            # All patterns are paid alike, and differ by their answers only: what all answers have
            # in common goes first, lest the small rest be rounded with it. By the value nearest to
            # 0 no digit is lost. It is a baseline: gradients stay as they are.
            held = jax.lax.stop_gradient(paid)
            nearest = jnp.argmin(jnp.abs(held), axis=-1, keepdims=True)
            base = jnp.take_along_axis(held, nearest, axis=-1)
        values = self._values(paid - base, log_answers)
        base = jnp.broadcast_to(base[:, 0], (values.shape[0], 1))
        return jnp.exp(log_patterns), values, base, paid - base[:, :, None], log_answers

    def pattern_gaps(self, problem: Problem, reward: RewardFunction | None = None) -> PatternGaps:
        probs, values, base, paid, log_answers = self._less_base(problem, reward)
        if paid.shape[1] == 1:
            sizes = jnp.abs(paid)
        else:
            shape = log_answers.shape
            sizes = reward_table(sizes_of(reward, paid, self, problem), shape).astype(paid.dtype)
        # Of a probability out of a softmax the rounding is relative to its logarithm.
        logs = jnp.where(log_answers > -jnp.inf, log_answers, 0)
        known = paid.shape[-1] == 1 and sizes.shape[-1] == 1
        sizes = sizes if known else sizes * (1 - logs)
        size = self._values(sizes, log_answers)
        if paid.shape[1] == 1 and known:
            size = jnp.zeros_like(size)
        return PatternGaps.of(probs, values, size, base)

    def expectation(self, reward: RewardFunction, problem: Problem) -> Float[Array, " Q"]:
        probs, values, base, _, _ = self._less_base(problem, reward)
        return base[:, 0] + mean_of(probs, values)

    def excess(
        self, reward: RewardFunction, problem: Problem, level: Float[Array, " Q"]
    ) -> Float[Array, " Q"]:
        probs, values, base, _, _ = self._less_base(problem, reward)
        leading, rest = from_leader(probs, values)
        return snapped_difference(leading, level - base[:, 0]) + rest

    def kl(self, reference: AbstractPolicy) -> Float[Array, " Q"]:
        log_patterns, log_answers = self.log_probs()
        compared = having(reference, AbstractTwoStagePolicy, "to be compared with")
        ref_patterns, ref_answers = compared.log_probs()

        def lacks(log_prob, log_ref):
            return (log_prob > -jnp.inf) & (log_ref == -jnp.inf)

        answers = mean_of(jnp.exp(log_answers), _log_ratio_of(log_answers, ref_answers))
        answers = jnp.where(self.exists, answers, 0)
        patterns = _log_ratio_of(log_patterns, ref_patterns)
        mean = mean_of(jnp.exp(log_patterns), patterns + answers)
        # Apart from the mean, where an infinite entry would meet its own negative.
        lacking = self.exists & jnp.any(lacks(log_answers, ref_answers), axis=-1)
        lacking |= lacks(log_patterns, ref_patterns)
        return jnp.where(jnp.any(lacking, axis=-1), jnp.inf, mean)

    def kl_as_score(self, reference: AbstractPolicy, held: AbstractPolicy) -> Float[Array, " Q"]:
        # As a score, not through the logarithm: the gradient of that is 0 on average, but only up
        # to rounding, which near a vertex is larger than the rest.
        same = having(held, AbstractTwoStagePolicy, "to be held")
        return same.kl(reference) + score(self, same, log_ratio(same, reference))

    def log_joint(self) -> Float[Array, "Q R A"]:
        log_patterns, log_answers = self.log_probs()
        return log_patterns[:, :, None] + log_answers

    def complete(self, key: PRNGKeyArray, outcomes: Outcomes) -> Outcomes:
        """Pattern and answer are all there is."""
        return outcomes

    def log_prob_of(self, outcomes: Outcomes) -> Float[Array, "B G"]:
        return self.log_joint()[outcomes.question, outcomes.pattern, outcomes.answer]

    def reward_of(self, values: RewardValues, outcomes: Outcomes) -> Float[Array, "B G"]:
        joint = self.log_joint()
        each = reward_table(values, joint.shape).astype(joint.dtype)
        each = jnp.broadcast_to(each, joint.shape)
        return each[outcomes.question, outcomes.pattern, outcomes.answer]

    def entropy(self) -> Float[Array, " Q"]:
        log_patterns, _ = self.log_probs()
        return -jnp.sum(jnp.exp(log_patterns) * jnp.where(self.exists, log_patterns, 0), axis=-1)


class AbstractTablePolicy(AbstractTwoStagePolicy):
    """A policy with a logit of its own for each pattern of each question, and for each answer of
    each pattern.

    The exact method, laws, fields on the simplex and the event `LogitPeaks` ask for one.
    """

    needs: ClassVar[str] = "be a table of logits, such as a TabularPolicy,"

    pattern_logits: eqx.AbstractVar[Float[Array, "Q R"]]
    answer_logits: eqx.AbstractVar[Float[Array, "Q R A"]]

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        return self.pattern_logits > -jnp.inf

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.answer_logits.shape

    def log_pattern_weights(self) -> Float[Array, "Q R"]:
        return self.pattern_logits

    @abc.abstractmethod
    def with_pattern_logits(self, logits: Float[Array, "Q R"]) -> "AbstractTablePolicy":
        """The same policy with other pattern logits; of gradients and the like, the same tree."""


def _log_ratio_of(log_prob: Float[Array, "..."], log_ref: Float[Array, "..."]):
    """The difference, 0 where one of the two is `-inf`."""
    both = (log_prob > -jnp.inf) & (log_ref > -jnp.inf)
    return jnp.where(both, log_prob, 0) - jnp.where(both, log_ref, 0)


def log_ratio(policy: AbstractTwoStagePolicy, reference: AbstractPolicy) -> Float[Array, "Q R A"]:
    """log pi/pi_ref of pattern and answer together, 0 where one of the two lacks a factor."""
    compared = having(reference, AbstractTwoStagePolicy, "to be compared with")
    patterns, answers = map(_log_ratio_of, policy.log_probs(), compared.log_probs())
    return patterns[..., None] + answers


def mean_over_samples(
    policy: AbstractTwoStagePolicy, values: Float[Array, "Q R A"]
) -> Float[Array, " Q"]:
    """The mean of values of pattern and answer."""
    log_patterns, log_answers = policy.log_probs()
    each = jnp.where(policy.exists, mean_of(jnp.exp(log_answers), values), 0)
    return mean_of(jnp.exp(log_patterns), each)


def score(
    policy: AbstractTwoStagePolicy, held: AbstractTwoStagePolicy, weight: Float[Array, "Q R A"]
) -> Float[Array, " Q"]:
    """0, with the gradient E[weight s], s the score of a sample."""
    return mean_over_samples(policy, weight) - mean_over_samples(held, weight)
