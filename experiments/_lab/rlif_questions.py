"""Random questions of two answers under RLIF, and what is known of them without a solve."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def draw_rates(key: Array, size: int, tilt: Float[Array, ""] | float) -> Float[Array, " R"]:
    """Success rates of density `1 + tilt (2p - 1)`, by inversion of their distribution function;
    strictly inside (0, 1), where self-certainty is finite."""
    uniform = jax.random.uniform(key, (size,))
    rates = 2 * uniform / (1 - tilt + jnp.sqrt((1 - tilt) ** 2 + 4 * tilt * uniform))
    edge = jnp.finfo(rates.dtype).epsneg
    return jnp.clip(rates, edge, 1 - edge)


def ends(
    rates: Float[Array, " R"], exists: Bool[Array, " R"] | bool = True
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Accuracy of RLIF at a uniform start, and at its end, the most certain pattern."""
    certainty = jnp.where(exists, jnp.abs(rates - 0.5), -1)
    return jnp.mean(rates, where=exists), rates[jnp.argmax(certainty)]


def observe(rates: Float[Array, " R"]) -> dict[str, Array]:
    r"""What is known without a solve of RLIF with self-certainty W from a uniform start.

    $\dot V(0) = \sum_r \pi_r (p_r - V) \, \pi_r (W_r - \bar W) = \mathrm{Cov}(p, W) / R$.
    """
    certainty = -jnp.log(4 * rates * (1 - rates)) / 2
    start, end = ends(rates)
    covariance = jnp.mean((rates - start) * (certainty - jnp.mean(certainty)))
    return {
        "initial_slope": covariance / rates.shape[0],
        "start_accuracy": start,
        "end_accuracy": end,
        "share_above_half": jnp.mean(rates > 0.5),
        "ends_at_worst": end == jnp.min(rates),
    }
