"""PyTrees of arrays."""

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, PyTree


def chosen(which: Bool[Array, ""], this: PyTree, other: PyTree) -> PyTree:
    """`this` where `which` is true, otherwise `other`, of the same structure."""
    return jtu.tree_map(lambda x, y: jnp.where(which, x, y), this, other)
