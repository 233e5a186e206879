"""Rewards: what a (question, pattern, answer) earns under a policy."""

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, as_share, no_class, require, require_all
from ..policies._policy import AbstractPolicy, RewardFunction, having
from ..policies._problem import Problem
from ..policies._token_values import RewardValues, TokenValues, as_token_values, reward_table
from ..policies._two_stage import AbstractTwoStagePolicy

# What a formula for constant rewards asks of a reward, in an error's words.
KEEPS = (
    "be one whose pattern values stay constant along the flow (keeps_pattern_values), such as "
    "Verifiable, SelfCertainty or PatternReward"
)


class AbstractReward(eqx.Module):
    """A reward, called as `reward(policy, problem)`; its values are a scalar or have three axes,
    question (1 or Q), pattern (1 or R) and answer (1 or A).

    A plain JAX function of the same two arguments serves just as well. Nothing is known about its
    values then: the three properties, which shortcuts such as `Exact` ask for, are False.
    """

    keeps_pattern_values: ClassVar[bool] = False
    """Whether *differences* of pattern values are known to stay as they are while only pattern
    probabilities move. It speaks of a reward held constant in the gradient."""

    ignores_patterns: ClassVar[bool] = False
    """Whether values are known not to depend on the pattern probabilities at all, so that
    differentiating the reward through changes nothing for the patterns."""

    same_for_answers: ClassVar[bool] = False
    """Whether all answers of a pattern are known to get the same value, so that the reward, held
    constant in the gradient, does not move the answer layer."""

    @abc.abstractmethod
    def __call__(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        """The values, in the reward's own unit, of three axes that broadcast to `(Q, R, A)`."""

    def size(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        """The size of the largest number that each value is a sum or a difference of, to which its
        rounding is relative; that of the value itself unless a subclass says more.

        **Returns:** in the form of the values.
        """
        values = self(policy, problem)
        if isinstance(values, TokenValues):
            return TokenValues(jnp.abs(values.along), jnp.abs(values.end))
        return jnp.abs(jnp.asarray(values))

    @abc.abstractmethod
    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """Raise `ValueError` where the reward is not defined; looks at concrete values only."""


def factors(policy: AbstractPolicy) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
    """The logarithms of both factors, for a reward that looks at them.

    **Raises:** `TypeError` if the policy cannot write them down.
    """
    return having(policy, AbstractTwoStagePolicy, "for this reward").log_probs()


class Verifiable(AbstractReward):
    r"""The verifiable reward $1[a = a^*(q)]$; the value of a pattern is its success rate $p(r)$.

    Source: arXiv 2506.04695 (RLVR).
    """

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)`, 1 at the correct answer and 0 elsewhere."""
        return problem.correctness(policy.num_answers)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class NoisyVerifier(AbstractReward):
    r"""A verifier that errs: the chance that it accepts an answer,
    $\mathrm{FPR} + (\mathrm{TPR} - \mathrm{FPR})\, 1[a = a^*(q)]$.

    The expected reward is $\mathrm{FPR} + J A$, $A$ the accuracy and $J$ the `youden` index. Under
    a utility f the flow is the clean one at $J f'(\mathrm{FPR} + J A)$ times the speed of the mean
    utility: it retraces the clean flow backwards if $J < 0$, and rests if $J = 0$.

    **Arguments:**

    - `true_positive_rate`: TPR, the probability of accepting the correct answer, in [0, 1].
    - `false_positive_rate`: FPR, the probability of accepting any other, in [0, 1].

    **Raises:** `ValueError` if a rate is not a scalar in [0, 1].

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        objective = qra.Objective(qra.objectives.NoisyVerifier(0.75, 0.25))
        flow = qra.GradientFlow(objective, problem)
        print(qra.log_entanglement_time(policy, flow))  # log of 2 * 94.305
        ```

    Source: arXiv 2601.04411; the clock of a utility is derived in docs/exact.md#other-utilities.
    """

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True
    true_positive_rate: Float[Array, ""]
    false_positive_rate: Float[Array, ""]

    def __init__(self, true_positive_rate: ArrayLike, false_positive_rate: ArrayLike):
        self.true_positive_rate = as_share(true_positive_rate, "true_positive_rate")
        self.false_positive_rate = as_share(false_positive_rate, "false_positive_rate")

    @property
    def youden(self) -> Float[Array, ""]:
        r"""Youden's index $J = \mathrm{TPR} - \mathrm{FPR}$, in [-1, 1]."""
        return self.true_positive_rate - self.false_positive_rate

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)`, TPR at the correct answer and FPR elsewhere."""
        right = Verifiable()(policy, problem) > 0
        return jnp.where(right, self.true_positive_rate, self.false_positive_rate)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class SelfCertainty(AbstractReward):
    r"""Self-certainty, $\mathrm{KL}(U \| \pi(.|q,r)) = -\frac1A \sum_a \log \pi(a|q,r) - \log A$.

    It measures how far the answers of a pattern are from uniform and cannot tell right from wrong.

    Source: Intuitor (arXiv 2505.19590); up to the constant, RLIF in arXiv 2506.04695 v2.
    """

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True
    same_for_answers: ClassVar[bool] = True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """**Returns:** `(Q, R, 1)` in nats, the same for all answers of a pattern."""
        _, log_answers = factors(policy)
        return -jnp.mean(log_answers, axis=-1, keepdims=True) - jnp.log(log_answers.shape[-1])

    def size(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """Nearly uniform answers have next to none, the difference of two that are of order 1."""
        _, log_answers = factors(policy)
        return -jnp.mean(log_answers, axis=-1, keepdims=True)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if an existing pattern gives some answer probability 0, such
        as a success rate of exactly 0 or 1."""
        rates = policy.pattern_table(problem)[1]
        certain = jnp.any(jnp.isneginf(factors(policy)[1]), axis=-1) & policy.exists
        require_all(
            jnp.where(certain, rates, 0.5),
            lambda p: (p > 0) & (p < 1),
            "success_rates",
            "lie strictly between 0 and 1 for a self-certainty reward (infinite otherwise)",
        )
        require_all(
            certain,
            lambda c: ~c,
            "answer probability 0",
            "not occur with a self-certainty reward (infinite otherwise)",
        )


class PatternReward(AbstractReward):
    """A given value for each pattern, whatever the answer: $R_r$ itself.

    **Arguments:** `values`: `(R,)` or `(Q, R)`, finite (any value where a pattern does not exist).

    **Raises:** `ValueError` if a value is NaN or infinite, or the shape does not fit the policy.

    Source: derived in docs/exact.md#the-orbit.
    """

    values: Float[Array, "*Q R"]

    keeps_pattern_values: ClassVar[bool] = True
    ignores_patterns: ClassVar[bool] = True
    same_for_answers: ClassVar[bool] = True

    def __init__(self, values: ArrayLike):
        self.values = as_float(values, "values")
        require_all(self.values, lambda x: abs(x) < jnp.inf, "values", "be finite")

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "_ R 1"]:
        """**Returns:** `(Q, R, 1)` or `(1, R, 1)`."""
        return jnp.atleast_2d(self.values)[:, :, None]

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there are not as many values as patterns."""
        shape = policy.reward_shape[:2]
        fits = self.values.shape in (shape, shape[1:])
        require(fits, "values", f"have shape {shape[1:]} or {shape}", self.values.shape)


class FunctionReward(AbstractReward):
    """A user's own reward, a JAX function of `(policy, problem)`.

    `Objective`, `RLVR` and `RLIF` wrap a plain function in this by themselves.

    **Arguments:** `function`: returns a scalar, or values of three axes: question (1 or Q),
    pattern (1 or R) and answer (1 or A).
    """

    function: Callable[[AbstractPolicy, Problem], RewardValues] = eqx.field(static=True)

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        """The function's values."""
        values = self.function(policy, problem)
        return values if isinstance(values, TokenValues) else jnp.asarray(values)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


def as_reward(reward: RewardFunction) -> AbstractReward:
    """`reward` itself if it is one, otherwise the function wrapped.

    **Raises:** `TypeError` if it is not callable, or a class in place of an instance.
    """
    no_class(reward, "reward")
    if isinstance(reward, AbstractReward):
        return reward
    if not callable(reward):
        raise TypeError(f"reward must be a function of (policy, problem), got {reward!r}")
    return FunctionReward(reward)


class Mixture(AbstractReward):
    r"""A weighted sum of rewards, $\sum_i w_i R_i$.

    What is known of every member, such as `keeps_pattern_values`, is known of the mixture.

    **Arguments:**

    - `rewards`: the $R_i$, at least one: `AbstractReward`s or functions of `(policy, problem)`.
    - `weights`: the $w_i$, `(n,)` finite numbers of any sign, in units that make the terms alike.

    **Raises:** `ValueError` if there are no rewards, or not as many weights, or a weight is NaN or
    infinite; `TypeError` if a reward is not callable.

    ??? example

        ```python
        import qra_jax as qra
        reward = qra.objectives.Mixture((qra.Verifiable(), qra.SelfCertainty()), [1.0, 0.1])
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        flow = qra.GradientFlow(qra.Objective(reward), problem)
        ```

    Source: derived in docs/objectives.md#reward.
    """

    rewards: tuple[AbstractReward, ...]
    weights: Float[Array, " n"]

    def __init__(self, rewards: Sequence[RewardFunction], weights: ArrayLike):
        self.rewards = tuple(as_reward(reward) for reward in rewards)
        self.weights = as_float(weights, "weights")
        require(len(self.rewards) > 0, "rewards", "hold at least one reward", self.rewards)
        shape = (len(self.rewards),)
        fits = self.weights.shape == shape
        require(fits, "weights", f"have shape {shape}, one for each reward", self.weights.shape)
        require_all(self.weights, lambda x: abs(x) < jnp.inf, "weights", "be finite")

    @property
    def keeps_pattern_values(self) -> bool:
        return all(reward.keeps_pattern_values for reward in self.rewards)

    @property
    def ignores_patterns(self) -> bool:
        return all(reward.ignores_patterns for reward in self.rewards)

    @property
    def same_for_answers(self) -> bool:
        return all(reward.same_for_answers for reward in self.rewards)

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        """**Returns:** `(Q, R, A)`, or `(Q, R, 1)` where no member tells answers apart; 0 where a
        pattern does not exist; `(Q, 1, A)` where none tells patterns apart. `TokenValues` if one of
        them is a reward of tokens."""
        return self._sum(self.weights, [reward(policy, problem) for reward in self.rewards], policy)

    def size(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        """The sum of those of the members."""
        sizes = [reward.size(policy, problem) for reward in self.rewards]
        return self._sum(jnp.abs(self.weights), sizes, policy)

    def _sum(
        self, weights: Float[Array, " n"], members: Sequence[RewardValues], policy: AbstractPolicy
    ) -> RewardValues:
        exists = policy.exists[:, :, None]
        total, along = jnp.zeros((1, 1, 1), self.weights.dtype), None
        for weight, found in zip(weights, members, strict=True):
            paid = as_token_values(found)
            if isinstance(found, TokenValues):
                along = weight * paid.along + (0 if along is None else along)
            values = reward_table(paid.end, policy.reward_shape)
            if values.shape[1] > 1:
                # A padded pattern may carry an infinite value, which times a weight's gradient is
                # NaN. What all patterns are paid alike stays so.
                values = jnp.where(exists, values, 0)
            total = total + weight * values
        return total if along is None else TokenValues(along, total)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if a member is not defined."""
        for reward in self.rewards:
            reward.validate(policy, problem)
