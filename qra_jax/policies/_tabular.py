"""Policies as tables of logits."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core.checks import as_float, check_probabilities, is_concrete, require, require_all
from .._core.floats import safe_log
from ._policy import Part
from ._problem import Problem
from ._two_stage import AbstractTablePolicy


class TabularPolicy(AbstractTablePolicy):
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
        patterns, answers = (
            as_float(pattern_logits, "pattern_logits"),
            as_float(answer_logits, "answer_logits"),
        )
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

    def log_probs(self) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
        r"""$\log \pi(r|q)$ `(Q, R)` and $\log \pi(a|q,r)$ `(Q, R, A)`, in nats."""
        return jax.nn.log_softmax(self.pattern_logits), jax.nn.log_softmax(self.answer_logits)

    def part(self, name: Part) -> PyTree[bool]:
        nothing = jax.tree_util.tree_map(lambda _: False, self)
        return eqx.tree_at(
            lambda p: (p.pattern_logits, p.answer_logits), nothing, (True, name == "all")
        )

    def with_pattern_logits(self, logits: Float[Array, "Q R"]) -> "TabularPolicy":
        return eqx.tree_at(lambda p: p.pattern_logits, self, logits)

    def natural(self, gradient: PyTree) -> PyTree:
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
    return jnp.where(probs >= 0, safe_log(probs), jnp.nan)


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
    probs, rates = (
        as_float(pattern_probs, "pattern_probs"),
        as_float(success_rates, "success_rates"),
    )
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
