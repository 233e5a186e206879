"""Rewards of tokens: of the last one, and of how certain each one was."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import require
from ..policies._policy import AbstractPolicy, AbstractTokenPolicy, having
from ..policies._problem import Problem
from ..policies._token_values import TokenValues
from ._rewards import AbstractReward


class EndsIn(AbstractReward):
    """1 for sequences whose last token belongs to a set, else 0.

    **Arguments:** `tokens`: bool, `(A,)` or `(Q, A)`, which answers count as right.

    **Raises:** `ValueError` if it is of another kind, or does not fit the policy.

    Source: derived in docs/derivations.md#policies-over-tokens.
    """

    tokens: Bool[Array, "*Q A"]

    def __init__(self, tokens: ArrayLike):
        self.tokens = jnp.asarray(tokens)
        fits = self.tokens.dtype == bool and self.tokens.ndim in (1, 2)
        kind = (self.tokens.dtype, self.tokens.shape)
        require(fits, "tokens", "be bool of shape (A,) or (Q, A)", kind)

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> Float[Array, "Q 1 A"]:
        """**Returns:** `(Q, 1, A)`, or `(1, 1, A)`."""
        return jnp.atleast_2d(self.tokens)[:, None].astype(problem.weights.dtype)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        shape = (problem.num_questions, policy.num_answers)
        fits = self.tokens.shape in (shape, shape[1:])
        require(fits, "tokens", f"have shape {shape[1:]} or {shape}", self.tokens.shape)


def _columns_of(policy: AbstractPolicy) -> Float[Array, "*context V"]:
    return having(policy, AbstractTokenPolicy, "for this reward").log_columns()


class MeanTokenEntropy(AbstractReward):
    r"""Minus the entropy of the next token, averaged over the positions of a sequence:
    $-\frac1L \sum_l H(\pi(\cdot | y_{l-1}))$.

    Source: derived in docs/derivations.md#policies-over-tokens.
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> TokenValues:
        """**Returns:** `TokenValues` in nats."""
        columns = _columns_of(policy)
        possible = columns > -jnp.inf
        terms = jnp.where(possible, jnp.exp(columns) * jnp.where(possible, columns, 0), 0)
        return TokenValues(jnp.sum(terms, axis=-1))

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        _columns_of(policy)


class MeanSelfCertainty(AbstractReward):
    r"""Self-certainty of the next token, averaged over the positions of a sequence:
    $\frac1L \sum_l \mathrm{KL}(U \| \pi(\cdot | y_{l-1}))$, U uniform over the tokens that can
    follow.

    Source: Intuitor (arXiv 2505.19590).
    """

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> TokenValues:
        """**Returns:** `TokenValues` in nats."""
        columns = _columns_of(policy)
        possible = columns > -jnp.inf
        number = jnp.sum(possible, axis=-1)
        mean = jnp.sum(jnp.where(possible, columns, 0), axis=-1) / number
        return TokenValues(-mean - jnp.log(number))

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        _columns_of(policy)
