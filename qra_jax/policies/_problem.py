"""The questions, how often each is asked, and which answer is right."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._core.checks import as_float, is_concrete, require, require_all


class Problem(eqx.Module):
    r"""A set of questions with their correct answers $a^*(q)$ and weights $D(q)$.

    **Arguments:**

    - `correct`: `(Q,)` integers, the index of the correct answer of each question.
    - `weights`: `(Q,)` non-negative numbers summing to 1, the share $D(q)$ of each question;
      uniform if not given.

    **Raises:** `ValueError` if a shape is wrong, an index negative, a weight negative or NaN, or
    the weights do not sum to 1.

    ??? example

        ```python
        import qra_jax as qra
        problem = qra.Problem([0, 2], [0.25, 0.75])
        assert problem.num_questions == 2
        ```

    Source: arXiv 2506.04695, section 3.
    """

    correct: Int[Array, " Q"]
    weights: Float[Array, " Q"]

    def __init__(self, correct: ArrayLike, weights: ArrayLike | None = None):
        index = jnp.asarray(correct)
        require(index.ndim == 1 and index.size > 0, "correct", "have shape (Q,)", index.shape)
        require(
            jnp.issubdtype(index.dtype, jnp.integer), "correct", "hold integers", index.dtype.name
        )
        require_all(index, lambda i: i >= 0, "correct", "be non-negative")
        given = jnp.full(index.shape, 1 / index.size) if weights is None else weights
        share = as_float(given, "weights")
        require(
            share.shape == index.shape,
            "weights",
            f"have shape {index.shape}, one for each question",
            share.shape,
        )
        require_all(share, lambda w: w >= 0, "weights", "be non-negative and not NaN")
        if is_concrete(share):
            total = float(np.asarray(share, dtype=float).sum())
            require(abs(total - 1) <= 1e-5, "weights", "sum to 1", f"a sum of {total:g}")
        self.correct = index
        self.weights = share

    @property
    def num_questions(self) -> int:
        """The number of questions Q."""
        return self.correct.shape[0]

    def mean(self, values: Float[Array, " Q"]) -> Float[Array, ""]:
        r"""The mean over questions by weight, $\sum_q D(q) x_q$.

        **Arguments:** `values`: `(Q,)`.

        **Returns:** a scalar in the unit and precision of the values.
        """
        return jnp.sum(self.weights.astype(values.dtype) * values)

    def correctness(self, num_answers: int) -> Float[Array, "Q 1 A"]:
        r"""The verifiable reward $1[a = a^*(q)]$ of every answer.

        **Arguments:** `num_answers`: the number of answers A.

        **Returns:** `(Q, 1, A)`, 1 at the correct answer and 0 elsewhere.
        """
        right = self.correct[:, None] == jnp.arange(num_answers)[None, :]
        return right[:, None, :].astype(self.weights.dtype)
