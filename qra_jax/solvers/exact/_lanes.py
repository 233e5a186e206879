"""Sums over patterns, the leading axis of arrays (K, n) whose n lanes are problems of their own;
what has no pattern has shape (1, n).

XLA's CPU backend turns elementwise arithmetic on such arrays into vector code; a reduction over a
short axis it does not. So up to 8 patterns, or groups of patterns, are added one by one.
"""

import functools
from collections.abc import Callable

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


def rows(x: Array) -> list[Array]:
    """At most 8 arrays, `(1, n)` or `(K / 8, n)`, out of one `(K, n)`."""
    if x.shape[0] <= _TOGETHER:
        return [x[i : i + 1] for i in range(x.shape[0])]
    x = x.reshape(_TOGETHER, -1, *x.shape[1:])
    return [x[i] for i in range(_TOGETHER)]


def _folded(x: Array, pair: Callable, rest: Callable) -> Array:
    parts = rows(x)
    # In pairs: a chain of 8 additions is as deep as it is long.
    while len(parts) > 1:
        odd = parts[len(parts) & ~1 :]
        parts = [pair(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0] if parts[0].shape[0] == 1 else rest(parts[0], axis=0, keepdims=True)


def total(x: Array) -> Array:
    """The sum over patterns."""
    return _folded(x, jnp.add, jnp.sum)


def largest(x: Array) -> Array:
    return _folded(x, jnp.maximum, jnp.max)


def smallest(x: Array) -> Array:
    return _folded(x, jnp.minimum, jnp.min)


def of(which: Which, x: Array) -> Array:
    """The entry of the one pattern that is marked."""
    return total(jnp.where(which, x, 0))


def first_of(which: Which) -> Which:
    """The first of the patterns that are marked."""
    index: Int[Array, "K 1"] = jnp.arange(which.shape[0])[:, None]
    return index == smallest(jnp.where(which, index, which.shape[0]))


def log_product(factors: Patterns, slopes: Patterns) -> tuple[Lanes, Lanes]:
    """The logarithm of a product over patterns, and its derivative from those of the factors."""
    # One logarithm for 8 patterns, no division: the product rule adds the derivatives.
    pairs = list(zip(rows(factors), rows(slopes), strict=True))
    product, slope = functools.reduce(
        lambda a, b: (a[0] * b[0], a[1] * b[0] + a[0] * b[1]), pairs
    )
    logs, slopes = jnp.log(product), slope / product
    if logs.shape[0] == 1:
        return logs, slopes
    return jnp.sum(logs, 0, keepdims=True), jnp.sum(slopes, 0, keepdims=True)
