"""Checks of input values, made once at construction and never inside a compiled function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike


def is_concrete(*values: Any) -> bool:
    """Whether no array in `values` is being traced, so that its entries can be looked at."""
    leaves = jax.tree_util.tree_leaves(values)
    return not any(isinstance(leaf, Tracer) for leaf in leaves)


def require(ok: bool, name: str, must: str, was: object) -> None:
    """Raise `ValueError("<name> must <must>, got <was>")` unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must {must}, got {was}")


def no_class(value: object, name: str) -> None:
    """**Raises:** `TypeError` for a class in place of its instance: it is callable, too."""
    if isinstance(value, type):
        kind = value.__name__
        raise TypeError(f"{name} must be an instance, {kind}(...), got the class {kind}")


def require_all(
    values: ArrayLike, test: Callable[[np.ndarray], np.ndarray], name: str, must: str
) -> None:
    """`require` entry by entry on a concrete array; the message names the first bad entry."""
    if not is_concrete(values):
        return
    array = np.asarray(values)
    bad = ~test(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(f"{name} must {must}, got {name}{where} = {array[index]!s}")


def as_scalar(
    value: ArrayLike, name: str, test: Callable[[np.ndarray], np.ndarray], must: str
) -> Array:
    """A floating-point scalar that passes a test.

    **Raises:** `ValueError` otherwise.
    """
    array = as_float(value)
    require(array.ndim == 0, name, "be a scalar", array.shape)
    require_all(array, test, name, must)
    return array


def as_share(value: ArrayLike, name: str) -> Array:
    """A scalar in [0, 1].

    **Raises:** `ValueError` otherwise.
    """
    return as_scalar(value, name, lambda x: (x >= 0) & (x <= 1), "lie in [0, 1]")


def whole(value: int, name: str, least: int) -> int:
    """`value`, a whole number of at least `least`.

    **Raises:** `ValueError` otherwise.
    """
    require(isinstance(value, int), name, "be a whole number", repr(value))
    require(value >= least, name, f"be at least {least}", value)
    return value


def check_probabilities(probs: ArrayLike, name: str, tolerance: float) -> None:
    """Require non-negative entries that sum to 1 (within `tolerance`) over the last axis."""
    require_all(probs, lambda p: p >= 0, name, "be non-negative and not NaN")
    if is_concrete(probs):
        total = np.asarray(probs, dtype=float).sum(axis=-1)
        require_all(
            total,
            lambda s: np.abs(s - 1) <= tolerance,
            f"the sum of {name} over patterns",
            f"be 1 (within {tolerance:g})",
        )


def as_float(values: ArrayLike) -> Array:
    """`values` as a floating-point array, of their own precision or else JAX's default."""
    array = jnp.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype(jnp.result_type(float))
