"""Floating-point numbers: differences that rounding alone may have made, logarithms at 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log x`; `-inf` with derivative 0 where x is not above 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)


def rounding(values: Float[Array, "..."]) -> float:
    """Differences of order-1 rewards below this are rounding, not a preference."""
    return 16 * float(jnp.finfo(values.dtype).eps)


def snapped_difference(
    values: Float[Array, "..."], level: Float[Array, "..."]
) -> Float[Array, "..."]:
    """`values - level`, exactly 0 where the two agree up to rounding; gradients are kept."""
    difference = values - level
    noise = jnp.abs(difference) <= rounding(values) * jnp.maximum(1, jnp.abs(values))
    return jnp.where(noise, difference - jax.lax.stop_gradient(difference), difference)
