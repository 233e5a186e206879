"""Rewards: what a (question, pattern, answer) earns under a policy."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._checks import as_float, require, require_all
from ._policy import AbstractPolicy, AbstractTwoStagePolicy, RewardFunction
from ._problem import Problem

# What a formula for constant rewards asks of a reward, in an error's words.
KEEPS = "be Verifiable, SelfCertainty or PatternReward (values known to stay constant)"


class AbstractReward(eqx.Module):
    """A reward, called as `reward(policy, problem)`; its values broadcast to `(Q, R, A)`.

    A plain JAX function of the same two arguments serves just as well.
    """

    @property
    def keeps_pattern_values(self) -> bool:
        """Whether pattern values are known to stay as they are while only patterns move."""
        return False

    @abc.abstractmethod
    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "..."]:
        """The values, in the reward's own unit, broadcasting to `(Q, R, A)`."""

    @abc.abstractmethod
    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """Raise `ValueError` where the reward is not defined; looks at concrete values only."""


def two_stage_of(policy: AbstractPolicy) -> AbstractTwoStagePolicy:
    """The policy, of which a reward wants to know both factors.

    **Raises:** `TypeError` if it is of another kind.
    """
    if not isinstance(policy, AbstractTwoStagePolicy):
        raise TypeError(f"policy must have patterns and answers for this reward, got {policy!r}")
    return policy


class Verifiable(AbstractReward):
    r"""The verifiable reward $1[a = a^*(q)]$; the value of a pattern is its success rate $p(r)$.

    Source: arXiv 2506.04695 (RLVR).
    """

    @property
    def keeps_pattern_values(self) -> bool:
        return True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)`, 1 at the correct answer and 0 elsewhere."""
        return problem.correctness(two_stage_of(policy).log_probs()[1].shape[-1])

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


class SelfCertainty(AbstractReward):
    r"""Self-certainty, $\mathrm{KL}(U \| \pi(.|q,r)) = -\frac1A \sum_a \log \pi(a|q,r) - \log A$.

    It measures how far the answers of a pattern are from uniform and cannot tell right from wrong.

    Source: Intuitor (arXiv 2505.19590); up to the constant, RLIF in arXiv 2506.04695 v2.
    """

    @property
    def keeps_pattern_values(self) -> bool:
        return True

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q R 1"]:
        """**Returns:** `(Q, R, 1)` in nats, the same for all answers of a pattern."""
        _, log_answers = two_stage_of(policy).log_probs()
        return -jnp.mean(log_answers, axis=-1, keepdims=True) - jnp.log(log_answers.shape[-1])

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if an existing pattern gives some answer probability 0, such
        as a success rate of exactly 0 or 1."""
        if isinstance(policy, AbstractTwoStagePolicy):
            rates = policy.pattern_table(problem)[1]
            certain = jnp.any(jnp.isneginf(policy.log_probs()[1]), axis=-1) & policy.exists
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

    Source: derived in docs (the constant-reward flow).
    """

    values: Float[Array, "*Q R"]

    @property
    def keeps_pattern_values(self) -> bool:
        return True

    def __init__(self, values: ArrayLike):
        self.values = as_float(values)
        require_all(self.values, lambda x: abs(x) < jnp.inf, "values", "be finite")

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "..."]:
        """**Returns:** `(Q, R, 1)` or `(R, 1)`."""
        return self.values[..., None]

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there are not as many values as patterns."""
        shape = policy.exists.shape
        fits = self.values.shape in (shape, shape[1:])
        require(fits, "values", f"have shape {shape[1:]} or {shape}", self.values.shape)


class FunctionReward(AbstractReward):
    """A user's own reward, a JAX function of `(policy, problem)`.

    `Objective`, `RLVR` and `RLIF` wrap a plain function in this by themselves.

    **Arguments:** `function`: returns values that broadcast to `(Q, R, A)`.
    """

    function: Callable[[AbstractPolicy, Problem], ArrayLike] = eqx.field(static=True)

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "..."]:
        """The function's values."""
        return jnp.asarray(self.function(policy, problem))

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        pass


def as_reward(reward: RewardFunction) -> AbstractReward:
    """`reward` itself if it is one, otherwise the function wrapped.

    **Raises:** `TypeError` if it is not callable.
    """
    if isinstance(reward, AbstractReward):
        return reward
    if not callable(reward):
        raise TypeError(f"reward must be a function of (policy, problem), got {reward!r}")
    return FunctionReward(reward)
