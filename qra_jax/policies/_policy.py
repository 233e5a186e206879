"""What a policy answers, and what only some policies can do."""

import abc
from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .._core.checks import require, require_all
from ._gaps import PatternGaps, Sizes
from ._problem import Problem
from ._token_values import RewardValues

Part = Literal["patterns", "all"]
RewardFunction = Callable[["AbstractPolicy", Problem], RewardValues]


class AbstractPolicy(eqx.Module):
    """What an objective, a flow or a metric may ask of any policy.

    A policy is a PyTree of its parameters. Whatever is downstream uses only these methods, so
    that a policy need not be a table; what only some can do is a class of its own, asked for by
    `having`.
    """

    independent_questions: eqx.AbstractClassVar[bool]
    """Whether no two questions share a parameter, so that each moves by itself."""

    needs: ClassVar[str] = "be an AbstractPolicy"
    """What a policy must be or do to be of this class, in an error's words."""

    @property
    @abc.abstractmethod
    def exists(self) -> Bool[Array, "Q R"]:
        """Which patterns have a probability above 0 (False where padded)."""

    @property
    @abc.abstractmethod
    def num_questions(self) -> int:
        """Q, the number of questions."""

    @property
    @abc.abstractmethod
    def num_patterns(self) -> int:
        """R, the number of patterns of a question, padded ones included."""

    @property
    @abc.abstractmethod
    def num_answers(self) -> int:
        """A, the number of answers."""

    @property
    def reward_shape(self) -> tuple[int, int, int]:
        """(Q, R, A), to which the values of a reward broadcast."""
        return self.num_questions, self.num_patterns, self.num_answers

    def validate(self, problem: Problem) -> None:
        """**Raises:** `ValueError` if the problem has other questions or answers."""
        number = self.num_questions
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

    def pattern_gaps(self, problem: Problem, reward: RewardFunction | None = None) -> PatternGaps:
        """Pattern values up to a constant, with the digits in which they differ: what decides ties
        and regimes.

        **Arguments:** as `pattern_table`.

        **Returns:** `PatternGaps`.
        """
        probs, values = self.pattern_table(problem, reward)
        size = values if reward is None else self.pattern_table(problem, Sizes(reward))[1]
        leader = jnp.argmax(probs, axis=-1, keepdims=True)
        base = jax.lax.stop_gradient(jnp.take_along_axis(values, leader, axis=-1))
        return PatternGaps.of(probs, jnp.where(self.exists, values - base, 0), size, base)

    @abc.abstractmethod
    def log_pattern_weights(self) -> Float[Array, "Q R"]:
        r"""$\log \pi(r|q)$ up to a constant of each question, in nats, with the digits that the
        parameters hold; `-inf` where a pattern does not exist."""

    @abc.abstractmethod
    def kl(self, reference: "AbstractPolicy") -> Float[Array, " Q"]:
        r"""Reverse KL divergence $\mathrm{KL}(\pi \| \pi_{ref})$ over patterns and answers.

        **Arguments:** `reference`: a policy of the same kind and shape.

        **Returns:** `(Q,)` in nats; infinite where the reference lacks a pattern or answer.

        **Raises:** `TypeError` if the reference is of another kind.
        """

    def kl_as_score(
        self, reference: "AbstractPolicy", held: "AbstractPolicy"
    ) -> Float[Array, " Q"]:
        """`kl(reference)`, with its gradient in the form that cancels least.

        **Arguments:** `reference`; `held`: this policy, a constant in the gradient.
        """
        return self.kl(reference)

    @abc.abstractmethod
    def entropy(self) -> Float[Array, " Q"]:
        r"""Entropy of the patterns, $H = -\sum_r \pi(r|q) \log \pi(r|q)$.

        **Returns:** `(Q,)` in nats.
        """

    @abc.abstractmethod
    def part(self, name: Part) -> PyTree[bool]:
        """Which leaves belong to a part of the policy.

        **Arguments:** `name`: `"patterns"` (all that moves `pi(r|q)` alone) or `"all"`.

        **Returns:** the policy's structure with a bool at each leaf.
        """

    @abc.abstractmethod
    def natural(self, gradient: PyTree) -> PyTree:
        """The gradient preconditioned by the inverse Fisher matrix of each question.

        **Arguments:** `gradient`: a policy whose leaves are Euclidean gradients, or None where
        frozen.

        **Returns:** the same structure.
        """


class Outcomes(eqx.Module):
    """Sampled outcomes: B groups of G, each group of one question.

    - `question`, `pattern`, `answer`: their indices.
    - `tokens`: the L tokens on the way, of a policy that draws tokens.
    """

    question: Int[Array, "B 1"]
    pattern: Int[Array, "B G"]
    answer: Int[Array, "B G"]
    tokens: Int[Array, "B G L"] | None = None


class AbstractSampledPolicy(AbstractPolicy):
    """A policy that outcomes can be drawn from."""

    needs: ClassVar[str] = "be one that outcomes can be drawn from (an AbstractSampledPolicy)"

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
    def reward_of(self, values: RewardValues, outcomes: Outcomes) -> Float[Array, "B G"]:
        """What each outcome earns.

        **Arguments:** `values`: what a reward returns for this policy; `outcomes`.
        """


class AbstractTokenPolicy(AbstractPolicy):
    """A policy that draws token after token, each given the last n."""

    needs: ClassVar[str] = "draw tokens, as a MarkovPolicy does,"

    @abc.abstractmethod
    def log_columns(self) -> Float[Array, "*context V"]:
        r"""$\log \pi(y' | y)$ of the next token, the last axis, in nats."""


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


P = TypeVar("P", bound=AbstractPolicy)


def having(policy: object, kind: type[P], purpose: str) -> P:
    """The policy, of which something is asked that only policies of a kind can do.

    **Arguments:** `policy`; `kind`: the abstract class that has it; `purpose`: what for.

    **Raises:** `TypeError` if it is of another kind.
    """
    if not isinstance(policy, kind):
        raise TypeError(f"policy must {kind.needs} {purpose}, got a {type(policy).__name__}")
    return policy


def lacking(policy: AbstractPolicy, kind: type[AbstractPolicy]) -> str | None:
    """What a policy would have to be or do to be of a kind; None if it is."""
    return None if isinstance(policy, kind) else kind.needs


def no_natural_gradient(policy: AbstractPolicy) -> ValueError:
    """The error of a policy whose questions share parameters, where the library's natural
    gradient, that of one question by itself, is not defined."""
    return ValueError(
        f"geometry must be Euclidean() for a {type(policy).__name__} (the Fisher matrix of "
        "parameters that questions share is not supported), got Natural()"
    )
