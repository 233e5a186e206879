"""Sums over patterns, the leading axis of arrays (K, n) whose n lanes are problems of their own;
what has no pattern has shape (1, n).

XLA's CPU backend turns arithmetic on such arrays, and reductions over their leading axis, into
vector code; over a short last axis it does not. Sums written out term by term were tried too: they
are copied into each of their uses, which took up to ten times as long with 8 patterns.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Lanes = Float[Array, "1 n"]
Patterns = Float[Array, "K n"]
Which = Bool[Array, "K n"]

_TOGETHER = 8


def padded(count: int) -> int:
    """The number of patterns that programs are written for: 3, 4, 8, or a multiple of 8."""
    if count <= 4:
        return max(count, 3)
    return -(-count // _TOGETHER) * _TOGETHER


def total(x: Patterns) -> Lanes:
    """The sum over patterns."""
    return jnp.sum(x, axis=0, keepdims=True)


def largest(x: Patterns) -> Lanes:
    return jnp.max(x, axis=0, keepdims=True)


def smallest(x: Patterns) -> Lanes:
    return jnp.min(x, axis=0, keepdims=True)


def of(which: Which, x: Patterns) -> Lanes:
    """The entry of the one pattern that is marked."""
    return total(jnp.where(which, x, 0))


def first_of(which: Which) -> Which:
    """The first of the patterns that are marked."""
    index: Int[Array, "K 1"] = jnp.arange(which.shape[0])[:, None]
    marked = jnp.where(which, index, which.shape[0])
    return index == jnp.min(marked, axis=0, keepdims=True)


def log_product(factors: Patterns) -> Lanes:
    """The logarithm of the product over patterns."""
    # One logarithm for 8 patterns; each factor is a ratio of two neighbouring x.
    count, lanes = factors.shape
    width = min(count, _TOGETHER)
    factors = jnp.pad(factors, ((0, -count % width), (0, 0)), constant_values=1)
    groups = factors.reshape(-1, width, lanes)
    return total(jnp.log(jnp.prod(groups, axis=1)))
