"""PyTrees of arrays."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, PyTree


def chosen(which: Bool[Array, ""], this: PyTree, other: PyTree) -> PyTree:
    """`this` where `which` is true, otherwise `other`, of the same structure."""
    return jtu.tree_map(lambda x, y: jnp.where(which, x, y), this, other)


def in_groups(function: Callable[[Array], PyTree], inputs: Array, width: int) -> PyTree:
    """`jax.vmap(function)(inputs)`, so many at a time: each waits for the slowest beside it only.

    The last group is filled up, so that there is one kind of them to compile.
    """
    number = inputs.shape[0]
    width = min(width, number)
    padded = jnp.concatenate([inputs, jnp.repeat(inputs[-1:], -number % width, axis=0)])
    groups = padded.reshape(-1, width, *inputs.shape[1:])
    found = jax.lax.map(jax.vmap(function), groups)
    return jtu.tree_map(lambda x: x.reshape(-1, *x.shape[2:])[:number], found)
