"""Policies over reasoning patterns and answers, `pi(r|q) pi(a|q,r)`."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from ._checks import as_float, check_probabilities, is_concrete, require, require_all
from ._problem import Problem

Part = Literal["patterns", "all"]
# Values that broadcast to (Q, R, A), or TokenValues.
RewardFunction = Callable[["AbstractPolicy", Problem], Any]


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


def rounding(values: Float[Array, "..."]) -> float:
    """Differences of order-1 rewards below this are rounding, not a preference."""
    return 16 * float(jnp.finfo(values.dtype).eps)


def snapped_difference(
    values: Float[Array, "..."], level: Float[Array, "..."]
) -> Float[Array, "..."]:
    """`values - level`, exactly 0 where the two agree up to rounding; gradients are kept."""
    difference = values - level
    noise = jnp.abs(difference) <= rounding(values) * jnp.maximum(1, jnp.abs(values))
    return jnp.where(noise, difference - jax.lax.stop_gradient(difference), difference)


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


class TabularPolicy(AbstractTwoStagePolicy):
    r"""Softmax tables, $\pi(r|q) \propto e^{\theta_{qr}}$ and $\pi(a|q,r) \propto e^{\phi_{qra}}$.

    A pattern whose logit is `-inf` does not exist: questions with fewer patterns than others are
    padded with it. A padded entry never moves and carries no gradient.

    **Arguments:**

    - `pattern_logits`: `(Q, R)`, finite or `-inf`, at least one finite per question.
    - `answer_logits`: `(Q, R, A)`, finite or `-inf`, at least one finite per pattern.

    **Raises:** `ValueError` if a shape does not fit, an entry is NaN or `+inf`, or a row is all
    `-inf`. Traced values are not checked; a solve that meets bad ones returns NaN with the status
    `INVALID_INPUT`.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy = qra.TabularPolicy(jnp.zeros((1, 3)), jnp.zeros((1, 3, 2)))
        log_patterns, log_answers = policy.log_probs()
        ```

    Source: arXiv 2506.04695, section 3 (tabular logits).
    """

    pattern_logits: Float[Array, "Q R"]
    answer_logits: Float[Array, "Q R A"]
    independent_questions: ClassVar[bool] = True

    def __init__(self, pattern_logits: ArrayLike, answer_logits: ArrayLike):
        patterns, answers = as_float(pattern_logits), as_float(answer_logits)
        dtype = np.promote_types(patterns.dtype, answers.dtype)
        require(
            patterns.ndim == 2 and patterns.size > 0,
            "pattern_logits",
            "have shape (Q, R)",
            patterns.shape,
        )
        require(
            answers.ndim == 3 and answers.shape[:2] == patterns.shape and answers.size > 0,
            "answer_logits",
            f"have shape (Q, R, A) with (Q, R) = {patterns.shape}",
            answers.shape,
        )
        for name, logits in (("pattern_logits", patterns), ("answer_logits", answers)):
            require_all(logits, lambda x: x < jnp.inf, name, "be finite or -inf")
            if is_concrete(logits):
                require_all(
                    np.max(logits, axis=-1),
                    lambda x: x > -np.inf,
                    f"{name}.max(axis=-1)",
                    "be finite (something must have a probability above 0)",
                )
        self.pattern_logits = patterns.astype(dtype)
        self.answer_logits = answers.astype(dtype)

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        return self.pattern_logits > -jnp.inf

    def log_probs(self) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
        r"""$\log \pi(r|q)$ `(Q, R)` and $\log \pi(a|q,r)$ `(Q, R, A)`, in nats."""
        return jax.nn.log_softmax(self.pattern_logits), jax.nn.log_softmax(self.answer_logits)

    def part(self, name: Part) -> PyTree[bool]:
        nothing = jax.tree_util.tree_map(lambda _: False, self)
        return eqx.tree_at(
            lambda p: (p.pattern_logits, p.answer_logits), nothing, (True, name == "all")
        )

    def natural(self, gradient: "TabularPolicy") -> "TabularPolicy":
        log_patterns, log_answers = self.log_probs()

        def divide(grad, log_prob):
            if grad is None:
                return None
            prob = jnp.exp(log_prob)
            # An underflowed probability moves nothing that can be seen; 0/0 would move it to NaN.
            seen = prob > jnp.finfo(prob.dtype).tiny
            return jnp.where(seen, grad / jnp.where(seen, prob, 1), 0)

        patterns = divide(gradient.pattern_logits, log_patterns)
        answers = divide(gradient.answer_logits, log_patterns[:, :, None] + log_answers)
        return eqx.tree_at(
            lambda p: (p.pattern_logits, p.answer_logits),
            gradient,
            (patterns, answers),
            is_leaf=lambda x: x is None,
        )


def log_of_probability(probs: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log p`, `-inf` with gradient 0 at p = 0 and NaN below it."""
    positive = probs > 0
    other = jnp.where(probs == 0, -jnp.inf, jnp.nan)
    return jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), other)


def two_stage(pattern_probs: ArrayLike, success_rates: ArrayLike) -> tuple[TabularPolicy, Problem]:
    r"""A tabular policy with the given $\pi(r|q)$ and $p(r)$, and the problem it answers.

    Two answers, of which answer 0 is correct with probability $p(r)$; questions weigh the same.

    **Arguments:**

    - `pattern_probs`: `(R,)` or `(Q, R)`, non-negative, summing to 1 over the patterns. A pattern
      of probability 0 does not exist.
    - `success_rates`: the same shape (or `(R,)` for all questions), in [0, 1].

    **Returns:** `(TabularPolicy, Problem)`.

    **Raises:** `ValueError` if a shape does not fit, a probability is negative or NaN or the sum
    is not 1, or a success rate lies outside [0, 1]. Traced values give NaN logits instead.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        ```

    Source: arXiv 2506.04695, section 3.
    """
    probs, rates = as_float(pattern_probs), as_float(success_rates)
    dtype = np.promote_types(probs.dtype, rates.dtype)
    probs, rates = probs.astype(dtype), rates.astype(dtype)
    require(
        probs.ndim in (1, 2) and probs.size > 0,
        "pattern_probs",
        "have shape (R,) or (Q, R)",
        probs.shape,
    )
    probs = jnp.atleast_2d(probs)
    require(
        rates.shape in (probs.shape, probs.shape[1:]),
        "success_rates",
        f"have the shape of pattern_probs, {probs.shape}, or {probs.shape[1:]}",
        rates.shape,
    )
    rates = jnp.broadcast_to(rates, probs.shape)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-6
    check_probabilities(probs, "pattern_probs", tolerance)
    require_all(rates, lambda p: (p >= 0) & (p <= 1), "success_rates", "lie in [0, 1]")
    normal = jnp.abs(jnp.sum(probs, axis=-1, keepdims=True) - 1) <= tolerance
    policy = TabularPolicy(
        jnp.where(normal, log_of_probability(probs), jnp.nan),
        jnp.stack([log_of_probability(rates), log_of_probability(1 - rates)], axis=-1),
    )
    weights = jnp.full(probs.shape[:1], 1 / probs.shape[0], dtype)
    return policy, Problem(jnp.zeros(probs.shape[0], jnp.int32), weights)
