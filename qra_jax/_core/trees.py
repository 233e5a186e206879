"""PyTrees of arrays."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, PyTree

from .types import Scalar


def chosen(which: Bool[Array, ""], this: PyTree, other: PyTree) -> PyTree:
    """`this` where `which` is true, otherwise `other`, of the same structure."""
    return jtu.tree_map(lambda x, y: jnp.where(which, x, y), this, other)


class Present(eqx.Module):
    """Which parameters of a tree exist: what does not (`-inf`) never moves, and a 0 that stands for
    it keeps NaN out of sums. `there`: True where a parameter exists."""

    there: PyTree

    @classmethod
    def of(cls, params: PyTree) -> "Present":
        return cls(jtu.tree_map(lambda x: ~jnp.isneginf(x), params))

    def only(self, tree: PyTree) -> PyTree:
        """0 for what does not exist."""
        return jtu.tree_map(lambda x, ok: jnp.where(ok, x, 0), tree, self.there)

    def whole(self, tree: PyTree) -> PyTree:
        """`-inf` for what does not exist."""
        return jtu.tree_map(lambda x, ok: jnp.where(ok, x, -jnp.inf), tree, self.there)


def held(tree: PyTree) -> PyTree:
    """`stop_gradient` of a tree that holds other things than arrays as well."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def in_groups(function: Callable[[PyTree], PyTree], inputs: PyTree, width: int) -> PyTree:
    """`jax.vmap(function)(inputs)`, so many at a time: each waits for the slowest beside it only.

    The last group is filled up, so that there is one kind of them to compile.
    """
    number = jtu.tree_leaves(inputs)[0].shape[0]
    width = min(width, number)

    def grouped(x):
        padded = jnp.concatenate([x, jnp.repeat(x[-1:], -number % width, axis=0)])
        return padded.reshape(-1, width, *x.shape[1:])

    found = jax.lax.map(jax.vmap(function), jtu.tree_map(grouped, inputs))
    return jtu.tree_map(lambda x: x.reshape(-1, *x.shape[2:])[:number], found)


def where_usable(condition: Bool[Array, ""], tree: PyTree, value: float) -> PyTree:
    """`tree` where `condition`, otherwise `value` in every inexact entry."""
    return jtu.tree_map(
        lambda x: jnp.where(condition, x, value) if eqx.is_inexact_array(x) else x, tree
    )


def all_usable(tree: PyTree) -> Bool[Array, ""]:
    """No NaN and no +inf anywhere (-inf is a logit of probability 0)."""
    leaves = jtu.tree_leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.all(jnp.stack([jnp.all(leaf < jnp.inf) for leaf in leaves]))


def largest(tree: PyTree) -> Scalar:
    """The size of the largest entry."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jtu.tree_leaves(tree)]))


def unit_and_log_norm(tree: PyTree) -> tuple[PyTree, Scalar]:
    """The direction and the logarithm of the length, free of underflow in the squares."""
    leaves, most = jtu.tree_leaves(tree), largest(tree)
    tiny = jnp.finfo(most.dtype).tiny
    scale = jax.lax.stop_gradient(jnp.maximum(most, tiny))
    square = sum(jnp.sum((leaf / scale) ** 2) for leaf in leaves)
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    unit = jtu.tree_map(lambda leaf: leaf / scale / norm, tree)
    return unit, jnp.log(scale) + jnp.log(norm)
