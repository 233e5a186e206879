"""What a reward pays: an array over questions, patterns and answers, or values of tokens."""

from typing import TypeAlias

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float


class TokenValues(eqx.Module):
    r"""What a reward of tokens pays, in place of an array `(Q, R, A)`, for a `MarkovPolicy`: the
    mean of `along` over the contexts that tokens are drawn in, and `end` for pattern and answer.

    **Arguments:** `along`: broadcasts to the contexts, `(V,) * n`; `end`: a scalar, or three axes
    that broadcast to `(Q, R, A)`.
    """

    along: Float[Array, "..."]
    end: Float[Array, "..."]

    def __init__(self, along: ArrayLike, end: ArrayLike = 0.0):
        self.along = as_float(along)
        self.end = as_float(end)

    def __rsub__(self, other: ArrayLike) -> "TokenValues":
        return TokenValues(-self.along, other - self.end)


RewardValues: TypeAlias = ArrayLike | TokenValues
"""What a reward returns."""


def as_token_values(values: RewardValues) -> TokenValues:
    """Values of either kind as values of tokens; those of an array are all paid at the end."""
    return values if isinstance(values, TokenValues) else TokenValues(0.0, values)


def reward_table(values: RewardValues, shape: tuple[int, ...]) -> Float[Array, "_ _ _"]:
    """A reward's array of values with its three axes, each of length 1 or that of `shape`.

    **Arguments:** `values`; `shape`: (Q, R, A) of the policy.

    **Raises:** `ValueError` if it is neither a scalar nor of these axes: an array `(R,)` would
    otherwise be read as one value an answer where R = A. `TypeError` for values of tokens.
    """
    if isinstance(values, TokenValues):
        raise TypeError(
            "reward must be of pattern and answer for this policy, got a reward of tokens"
        )
    array = as_float(values)
    if array.ndim == 0:
        return array.reshape(1, 1, 1)
    sizes = zip(array.shape, shape, strict=False)
    if array.ndim != 3 or any(found not in (1, size) for found, size in sizes):
        questions, patterns, answers = shape
        raise ValueError(
            "reward must be a scalar or have three axes: question (1 or "
            f"Q = {questions}), pattern (1 or R = {patterns}), answer (1 or A = {answers}), "
            f"got shape {array.shape}. Write values (R,) as values[None, :, None], (Q, R) as "
            "values[:, :, None], (A,) as values[None, None, :]"
        )
    return array


def check_reward(values: RewardValues, shape: tuple[int, ...]) -> None:
    """**Raises:** as `reward_table`, for values of either kind."""
    reward_table(as_token_values(values).end, shape)
