"""Floating-point numbers: differences that rounding alone may have made, logarithms at 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log x`; `-inf` with derivative 0 where x is not above 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)


def rounding(values: Float[Array, "..."]) -> float:
    """Relative differences below this are rounding, not a preference."""
    return 16 * float(jnp.finfo(values.dtype).eps)


def snapped_difference(
    values: Float[Array, "..."],
    level: Float[Array, "..."],
    size: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """`values - level`, exactly 0 where the two agree up to rounding; gradients are kept.

    **Arguments:** `size`: that of the largest number that either has come from, to which its
    rounding is relative; that of the larger of the two if not given.
    """
    difference = values - level
    if size is None:
        size = jnp.maximum(jnp.abs(values), jnp.abs(level))
    noise = (jnp.abs(difference) <= rounding(values) * size) & jnp.isfinite(difference)
    return jnp.where(noise, difference - jax.lax.stop_gradient(difference), difference)


def unit_of(values: Float[Array, "..."], axis: int | tuple[int, ...]) -> Float[Array, "..."]:
    """The power of 2 at or below the largest absolute value along some axes, which stay with length
    1: dividing by it costs no digit. 1 where there is none or it is not finite; a constant."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(values)), axis=axis, keepdims=True)
    sound = (largest > 0) & jnp.isfinite(largest)
    _, exponent = jnp.frexp(jnp.where(sound, largest, 1))
    most = jnp.finfo(values.dtype).maxexp - 2
    return jnp.ldexp(jnp.ones_like(largest), jnp.clip(exponent - 1, -most, most))
