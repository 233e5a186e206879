"""Policies over reasoning patterns and answers, `pi(r|q) pi(a|q,r)`."""

import abc
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .._core.checks import require, require_all
from .._core.floats import snapped_difference
from ._problem import Problem

Part = Literal["patterns", "all"]
# Values that broadcast to (Q, R, A), or TokenValues.
RewardFunction = Callable[["AbstractPolicy", Problem], Any]


class Outcomes(eqx.Module):
    """Sampled outcomes: B groups of G, each group of one question.

    - `question`, `pattern`, `answer`: their indices.
    - `tokens`: the L tokens on the way, of a policy that draws tokens.
    """

    question: Int[Array, "B 1"]
    pattern: Int[Array, "B G"]
    answer: Int[Array, "B G"]
    tokens: Int[Array, "B G L"] | None = None


class AbstractPolicy(eqx.Module):
    """What an objective, a flow or a metric may ask of a policy.

    A policy is a PyTree of its parameters. Whatever is downstream uses only these methods, so
    that a policy need not be a table.
    """

    independent_questions: eqx.AbstractClassVar[bool]
    """Whether no two questions share a parameter, so that each moves by itself."""

    @property
    @abc.abstractmethod
    def exists(self) -> Bool[Array, "Q R"]:
        """Which patterns have a probability above 0 (False where padded)."""

    @property
    @abc.abstractmethod
    def num_answers(self) -> int:
        """A, the number of answers."""

    def validate(self, problem: Problem) -> None:
        """**Raises:** `ValueError` if the problem has other questions or answers."""
        number = self.exists.shape[0]
        must = f"have as many questions as the problem, {problem.num_questions}"
        require(number == problem.num_questions, "policy", must, number)
        require_all(
            problem.correct,
            lambda index: index < self.num_answers,
            "problem.correct",
            f"index one of the policy's {self.num_answers} answers",
        )

    @abc.abstractmethod
    def expectation(self, reward: RewardFunction, problem: Problem) -> Float[Array, " Q"]:
        r"""Expected reward of each question, $V_q = \sum_r \pi(r|q) R(r)$, with a gradient that
        does not cancel near a vertex.

        **Arguments:** `reward`: a function `(policy, problem)` whose values broadcast to
        `(Q, R, A)`; `problem`: the questions.

        **Returns:** `(Q,)`, in units of the reward.
        """

    @abc.abstractmethod
    def excess(
        self, reward: RewardFunction, problem: Problem, level: Float[Array, " Q"]
    ) -> Float[Array, " Q"]:
        """`expectation(reward, problem) - level`, to full relative precision when `level` is
        the value of the leading pattern.

        **Arguments:** as `expectation`; `level`: `(Q,)`, in units of the reward.

        **Returns:** `(Q,)`.
        """

    @abc.abstractmethod
    def pattern_table(
        self, problem: Problem, reward: RewardFunction | None = None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        r"""Pattern probabilities $\pi(r|q)$ and pattern values $R(r)$.

        **Arguments:** `problem`: the questions; `reward`: as in `expectation`, the verifiable
        reward if not given, and then the values are the success rates $p(r)$.

        **Returns:** two arrays `(Q, R)`.
        """

    @abc.abstractmethod
    def kl(self, reference: Any) -> Float[Array, " Q"]:
        r"""Reverse KL divergence $\mathrm{KL}(\pi \| \pi_{ref})$ over patterns and answers.

        **Arguments:** `reference`: a policy of the same kind and shape.

        **Returns:** `(Q,)` in nats; infinite where the reference lacks a pattern or answer.
        """

    @abc.abstractmethod
    def entropy(self) -> Float[Array, " Q"]:
        r"""Entropy of the patterns, $H = -\sum_r \pi(r|q) \log \pi(r|q)$.

        **Returns:** `(Q,)` in nats.
        """

    @abc.abstractmethod
    def log_joint(self) -> Float[Array, "Q R A"]:
        r"""$\log \pi(r, a | q)$ of pattern and answer together, in nats."""

    @abc.abstractmethod
    def complete(self, key: PRNGKeyArray, outcomes: Outcomes) -> Outcomes:
        """Draw what else belongs to outcomes of which pattern and answer are known.

        **Arguments:** `key`; `outcomes`: of probability above 0.
        """

    @abc.abstractmethod
    def log_prob_of(self, outcomes: Outcomes) -> Float[Array, "B G"]:
        """The log probability of whole outcomes, in nats."""

    @abc.abstractmethod
    def reward_of(self, values: Any, outcomes: Outcomes) -> Float[Array, "B G"]:
        """What each outcome earns.

        **Arguments:** `values`: what a reward returns for this policy; `outcomes`.
        """

    @abc.abstractmethod
    def part(self, name: Part) -> PyTree[bool]:
        """Which leaves belong to a part of the policy.

        **Arguments:** `name`: `"patterns"` (all that moves `pi(r|q)` alone) or `"all"`.

        **Returns:** the policy's structure with a bool at each leaf.
        """

    @abc.abstractmethod
    def natural(self, gradient: Any) -> Any:
        """The gradient preconditioned by the inverse Fisher matrix of each question.

        **Arguments:** `gradient`: a policy whose leaves are Euclidean gradients, or None where
        frozen.

        **Returns:** the same structure.
        """


def check_order(policy: object, other: object, name: str) -> None:
    """**Raises:** `TypeError` if `policy` is no policy; one that says so if the two are swapped."""
    if isinstance(policy, AbstractPolicy):
        return
    if isinstance(other, AbstractPolicy):
        raise TypeError(
            f"policy must come first and {name} second, got them the other way round: "
            f"a {type(policy).__name__} and a {type(other).__name__}"
        )
    raise TypeError(f"policy must be an AbstractPolicy, got {policy!r}")


def from_leader(
    probs: Float[Array, "..."], values: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The mean of `values` as `(R_m, sum_j pi_j (R_j - R_m))`, m the most probable entry.

    Differentiating `sum_j pi_j R_j` subtracts two nearly equal numbers close to a vertex, and a
    flow built on it stops for ever. `R_m` is a baseline: it leaves gradients of every order
    unchanged (the probabilities sum to 1), hence the stop_gradient.
    """
    leader = jnp.argmax(probs, axis=-1, keepdims=True)
    base = jnp.take_along_axis(values, leader, axis=-1)
    rest = jnp.sum(probs * (values - jax.lax.stop_gradient(base)), axis=-1)
    return jnp.squeeze(jax.lax.stop_gradient(base), -1), rest


def mean_of(probs: Float[Array, "..."], values: Float[Array, "..."]) -> Float[Array, "..."]:
    base, rest = from_leader(probs, values)
    return base + rest


def no_natural_gradient(policy: "AbstractPolicy") -> ValueError:
    """The error of a policy whose questions share parameters, where the library's natural
    gradient, that of one question by itself, is not defined."""
    return ValueError(
        f"geometry must be 'euclidean' for a {type(policy).__name__} (the Fisher matrix of "
        "parameters that questions share is not supported), got 'natural'"
    )


def check_reward_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """**Raises:** `ValueError` unless a reward's values broadcast to (Q, R, A)."""
    try:
        jnp.broadcast_shapes(shape, wanted)
    except ValueError:
        raise ValueError(f"reward must broadcast to (Q, R, A) = {wanted}, got {shape}") from None


class AbstractTwoStagePolicy(AbstractPolicy):
    r"""A policy $\pi(r|q)\,\pi(a|q,r)$ that can write both of its factors down."""

    @abc.abstractmethod
    def log_probs(self) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
        r"""$\log \pi(r|q)$ `(Q, R)` and $\log \pi(a|q,r)$ `(Q, R, A)`, in nats."""

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        return self.log_probs()[0] > -jnp.inf

    @property
    def num_answers(self) -> int:
        return self.log_probs()[1].shape[-1]

    def pattern_table(
        self, problem: Problem, reward: RewardFunction | None = None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        log_patterns, log_answers = self.log_probs()
        if reward is None:
            values = problem.correctness(self.num_answers)
        else:
            values = jnp.asarray(reward(self, problem))
        values = values.astype(log_answers.dtype)
        check_reward_shape(values.shape, log_answers.shape)
        # The same for all answers of a pattern: no mean over them to take.
        same = values.ndim == 0 or values.shape[-1] == 1
        values = jnp.broadcast_to(values, (*log_patterns.shape, 1) if same else log_answers.shape)
        # A padded pattern may carry any value, infinite ones included: it must not reach a sum.
        values = jnp.where(self.exists[:, :, None], values, 0)
        values = values[:, :, 0] if same else mean_of(jnp.exp(log_answers), values)
        return jnp.exp(log_patterns), values

    def expectation(self, reward: RewardFunction, problem: Problem) -> Float[Array, " Q"]:
        return mean_of(*self.pattern_table(problem, reward))

    def excess(
        self, reward: RewardFunction, problem: Problem, level: Float[Array, " Q"]
    ) -> Float[Array, " Q"]:
        probs, values = self.pattern_table(problem, reward)
        base, rest = from_leader(probs, values)
        return snapped_difference(base, level) + rest

    def kl(self, reference: "AbstractTwoStagePolicy") -> Float[Array, " Q"]:
        (log_patterns, log_answers), (ref_patterns, ref_answers) = (
            self.log_probs(),
            reference.log_probs(),
        )

        def log_ratio(log_prob, log_ref):
            both = (log_prob > -jnp.inf) & (log_ref > -jnp.inf)
            return jnp.where(both, log_prob, 0) - jnp.where(both, log_ref, 0)

        def lacks(log_prob, log_ref):
            return (log_prob > -jnp.inf) & (log_ref == -jnp.inf)

        answers = mean_of(jnp.exp(log_answers), log_ratio(log_answers, ref_answers))
        answers = jnp.where(self.exists, answers, 0)
        mean = mean_of(jnp.exp(log_patterns), log_ratio(log_patterns, ref_patterns) + answers)
        # Apart from the mean, where an infinite entry would meet its own negative.
        lacking = self.exists & jnp.any(lacks(log_answers, ref_answers), axis=-1)
        lacking |= lacks(log_patterns, ref_patterns)
        return jnp.where(jnp.any(lacking, axis=-1), jnp.inf, mean)

    def log_joint(self) -> Float[Array, "Q R A"]:
        log_patterns, log_answers = self.log_probs()
        return log_patterns[:, :, None] + log_answers

    def complete(self, key: PRNGKeyArray, outcomes: Outcomes) -> Outcomes:
        """Pattern and answer are all there is."""
        return outcomes

    def log_prob_of(self, outcomes: Outcomes) -> Float[Array, "B G"]:
        return self.log_joint()[outcomes.question, outcomes.pattern, outcomes.answer]

    def reward_of(self, values: Any, outcomes: Outcomes) -> Float[Array, "B G"]:
        joint = self.log_joint()
        values = jnp.broadcast_to(jnp.asarray(values, joint.dtype), joint.shape)
        return values[outcomes.question, outcomes.pattern, outcomes.answer]

    def entropy(self) -> Float[Array, " Q"]:
        log_patterns, _ = self.log_probs()
        return -jnp.sum(jnp.exp(log_patterns) * jnp.where(self.exists, log_patterns, 0), axis=-1)


def two_stage_of(policy: object, purpose: str) -> AbstractTwoStagePolicy:
    """The policy, of which both factors are asked for.

    **Raises:** `TypeError` if it is of another kind.
    """
    if not isinstance(policy, AbstractTwoStagePolicy):
        raise TypeError(f"policy must have patterns and answers {purpose}, got {policy!r}")
    return policy
