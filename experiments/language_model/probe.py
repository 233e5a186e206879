"""The numbers of a transformer that a forecast with its own optimiser asks for.

`python -m experiments.language_model.probe` prints those of the base model that is shipped.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from ._bases import SHIPPED_BASE, load
from ._model import Transformer
from ._results import SHIPPED, read_study
from ._task import HELD_OUT, OPENINGS, questions_of

_QUESTIONS = 512


class Numbers(NamedTuple):
    """Of a network at the token that chooses the pattern.

    `norm`: the sum of absolute hidden values that the head reads; `feature_rate`: how much faster
    than a weight of the head these move; `row_spread`: the deviation between the head's rows, of
    what they have beyond the direction of the hidden values.
    """

    norm: float
    feature_rate: float
    row_spread: float


@eqx.filter_jit
def _measured(
    model: Transformer, tokens: Int[Array, "B T"], pull: Float[Array, " R"]
) -> tuple[Array, Array, Array]:
    rows = model.head[OPENINGS]

    def gain(model: Transformer):
        """How far a step of the gradient raises the accuracy, by way of the hidden values alone."""
        return jnp.mean(model.hidden(tokens)[0][:, -1] @ rows.T @ pull)

    through = eqx.filter_grad(gain)(model)
    through = eqx.tree_at(lambda m: m.head, through, jnp.zeros_like(model.head))
    leaves = jtu.tree_leaves(eqx.filter(through, eqx.is_inexact_array))
    hidden = jnp.mean(model.hidden(tokens)[0][:, -1], axis=0)
    square = hidden @ hidden
    # The norm lets nothing through along the hidden values themselves.
    back = rows.T @ pull
    across = back - hidden * (hidden @ back) / square
    apart = rows - jnp.mean(rows, axis=0, keepdims=True)
    beyond = apart - jnp.outer(apart @ hidden, hidden) / square
    moved = sum(jnp.sum(jnp.abs(leaf)) for leaf in leaves) / jnp.sum(jnp.abs(across))
    return jnp.sum(jnp.abs(hidden)), jnp.asarray(moved), jnp.std(beyond)


def numbers_of(
    model: Transformer, shares: Float[np.ndarray, " R"], rates: Float[np.ndarray, " R"]
) -> Numbers:
    """Of a model whose patterns have these shares and success rates: one forward and one backward
    pass over some of the questions that are held out."""
    tokens = questions_of(jnp.asarray(HELD_OUT[:_QUESTIONS])).tokens
    pull = shares * (rates - shares @ rates)
    return Numbers(*(float(x) for x in _measured(model, tokens, jnp.asarray(pull))))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    known = read_study().sel(base=SHIPPED_BASE)
    base = load(SHIPPED / f"base_{SHIPPED_BASE}.eqx")
    print(numbers_of(base, known["said_shares"].values, known["said_rates"].values))
