r"""The factor table: pattern logits that a network's last layer computes from its features."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._core.checks import as_float, is_concrete, positive, require, require_all, whole
from ._features import FeaturePolicy


class FactorTable(eqx.Module):
    r"""Logits $z = W h$ with $h = c\, x / \mathrm{rms}(x)$: a head of one row for each pattern, and
    the features it reads, through a final norm. The same for every question.

    - `head`: W, `(R, D)`; `features`: x, `(D,)`; `size`: c, the root mean square of h.
    """

    head: Float[Array, "R D"]
    features: Float[Array, " D"]
    size: float = eqx.field(static=True)

    @property
    def hidden(self) -> Float[Array, " D"]:
        """h, what the head reads."""
        return self.size * self.features / jnp.sqrt(jnp.mean(self.features**2))

    def __call__(self, question: Float[Array, " F"]) -> Float[Array, " R"]:
        return self.head @ self.hidden


def factor_policy(
    pattern_probs: ArrayLike,
    answer_logits: ArrayLike,
    key: PRNGKeyArray,
    *,
    width: int = 16,
    size: float = 1.4,
    row_spread: float = 0.04,
) -> FeaturePolicy:
    r"""A policy whose pattern logits are a factor table: head and features are both trained.

    It stands for a network in which the first tokens of a response choose the pattern: to gradient
    ascent its logits are a table, but an optimiser that divides by the size of gradients moves
    every weight alike, and features whose head rows differ more move the logits more.

    **Arguments:**

    - `pattern_probs`: `(R,)`, above 0, of every question at the start.
    - `answer_logits`: `(Q, R, A)`, as for a `TabularPolicy`.
    - `key`: of the features and of the parts of the head rows that do not matter at the start.
    - `width`: D, at least 2.
    - `size`: c, the root mean square of the features as the head reads them.
    - `row_spread`: the standard deviation of the entries of a head row beyond what the start needs.

    **Returns:** a `FeaturePolicy` of a `FactorTable`; its trained leaves are `arrays.head` and
    `arrays.features`.

    **Raises:** `ValueError` if a shape does not fit or a number is out of range.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        table, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        policy = qra.policies.factor_policy(
            [0.05, 0.70, 0.25], table.answer_logits, jax.random.key(0)
        )
        print(policy.pattern_table(problem)[0])
        ```

    Source: derived in docs/training.md#the-factor-table.
    """
    probs, answers = (
        as_float(pattern_probs, "pattern_probs"),
        as_float(answer_logits, "answer_logits"),
    )
    require(probs.ndim == 1 and probs.size > 1, "pattern_probs", "have shape (R,)", probs.shape)
    require_all(probs, lambda p: p > 0, "pattern_probs", "be above 0")
    if is_concrete(probs):
        total = float(np.sum(probs))
        require(abs(total - 1) < 1e-6, "pattern_probs", "sum to 1", total)
    require(answers.ndim == 3 and answers.shape[1] == probs.shape[0], "answer_logits",
            f"have shape (Q, R, A) with R = {probs.shape[0]}", answers.shape)  # fmt: skip
    width = whole(width, "width", 2)
    size = positive(size, "size")
    require(0 <= row_spread < np.inf, "row_spread", "be at least 0", row_spread)
    keys = jax.random.split(key)
    # Features in the unit of the hidden values: at the start the norm does nothing.
    drawn = jax.random.normal(keys[0], (width,), probs.dtype)
    features = hidden = FactorTable(jnp.zeros((probs.shape[0], width)), drawn, size).hidden
    spread = row_spread * jax.random.normal(keys[1], (*probs.shape, width), probs.dtype)
    head = start_rows(jnp.log(probs), hidden, spread)
    described = jnp.ones((answers.shape[0], 1), probs.dtype)
    return FeaturePolicy(FactorTable(head, features, size), described, answers)


def start_rows(
    logits: Float[Array, " R"], hidden: Float[Array, " D"], spread: Float[Array, "R D"]
) -> Float[Array, "R D"]:
    """Head rows that give some logits, less their mean, on the features at hand, with as much else
    in them as `spread` has beyond the direction of these."""
    square = jnp.sum(hidden**2)
    needed = (logits - jnp.mean(logits) - spread @ hidden) / square
    return spread + needed[:, None] * hidden[None]
