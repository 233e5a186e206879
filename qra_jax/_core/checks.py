"""Checks of input values, made once at construction and never inside a compiled function."""

import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

T = TypeVar("T")


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


def instance(value: Any, kind: type[T], name: str, such_as: str) -> T:
    """`value`, of a kind.

    **Arguments:** `such_as`: examples, in an error's words.

    **Raises:** `TypeError` that names the argument, for a class in place of its instance as well.
    """
    no_class(value, name)
    if not isinstance(value, kind):
        called = " (to be called)" if callable(value) else ""
        must = f"{name} must be {article(kind.__name__)}, such as {such_as}"
        raise TypeError(f"{must}, got {value!r}{called}")
    return value


def article(noun: str) -> str:
    """With "a" or "an"."""
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


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
    array = as_float(value, name)
    require(array.ndim == 0, name, "be a scalar", array.shape)
    require_all(array, test, name, must)
    return array


def as_share(value: ArrayLike, name: str) -> Array:
    """A scalar in [0, 1].

    **Raises:** `ValueError` otherwise.
    """
    return as_scalar(value, name, lambda x: (x >= 0) & (x <= 1), "lie in [0, 1]")


def whole(value: Any, name: str, least: int) -> int:
    """`value` as a Python int, a whole number of at least `least`; NumPy's are welcome, too.

    **Raises:** `ValueError` otherwise, for True and False as well.
    """
    sound = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(sound, name, "be a whole number", repr(value))
    number = int(value)
    require(number >= least, name, f"be at least {least}", number)
    return number


def positive(value: Any, name: str) -> float:
    """`value` as a Python float, finite and above 0; NumPy's numbers are welcome, too.

    **Raises:** `ValueError` otherwise, for True and False as well.
    """
    scalar = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    require(scalar, name, "be a number", repr(value))
    require(0 < float(value) < np.inf, name, "be above 0, finite", value)
    return float(value)


def per_question(value: ArrayLike, name: str, number: int) -> Array:
    """A floating-point scalar, or one for each question.

    **Raises:** `ValueError` if it is of another shape.
    """
    array = as_float(value, name)
    fits = array.shape in ((), (number,))
    require(fits, name, f"be a scalar or have shape (Q,) = {(number,)}", f"shape {array.shape}")
    return array


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


def as_float(values: ArrayLike, name: str | None = None) -> Array:
    """`values` as a floating-point array, of their own precision or else JAX's default.

    **Arguments:** `name`: that of the argument; True and False count as numbers only without.

    **Raises:** `TypeError` if they are no numbers.
    """
    try:
        array = jnp.asarray(values)
    except (TypeError, ValueError):
        if name is None:
            raise
        raise TypeError(f"{name} must hold numbers, got {values!r}") from None
    if name is not None and not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{name} must hold numbers, got {values!r}")
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype(jnp.result_type(float))
