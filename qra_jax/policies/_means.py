"""Means that keep their digits next to a vertex."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def from_leader(
    probs: Float[Array, "..."], values: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The mean of `values` as `(R_m, sum_j pi_j (R_j - R_m))`, m the most probable entry.

    Differentiating `sum_j pi_j R_j` subtracts two nearly equal numbers close to a vertex, and a
    flow built on it stops for ever. `R_m` is a baseline: it leaves gradients of every order
    unchanged (the probabilities sum to 1), hence the stop_gradient.
    """
    leader = jnp.argmax(probs, axis=-1, keepdims=True)
    base = jnp.take_along_axis(values, leader, axis=-1)
    rest = jnp.sum(probs * (values - jax.lax.stop_gradient(base)), axis=-1)
    return jnp.squeeze(jax.lax.stop_gradient(base), -1), rest


def mean_of(probs: Float[Array, "..."], values: Float[Array, "..."]) -> Float[Array, "..."]:
    base, rest = from_leader(probs, values)
    return base + rest
