"""What a reward of tokens pays."""

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float


class TokenValues(eqx.Module):
    r"""What a reward of tokens pays, in place of an array `(Q, R, A)`, for a `MarkovPolicy`: the
    mean of `along` over the contexts that tokens are drawn in, and `end` for pattern and answer.

    **Arguments:** `along`: broadcasts to the contexts, `(V,) * n`; `end`: to `(Q, R, A)`.
    """

    along: Float[Array, "..."]
    end: Float[Array, "..."]

    def __init__(self, along: ArrayLike, end: ArrayLike = 0.0):
        self.along = as_float(along)
        self.end = as_float(end)

    def __rsub__(self, other: ArrayLike) -> "TokenValues":
        return TokenValues(-self.along, other - self.end)
