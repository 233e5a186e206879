"""Random questions of two answers under RLIF: how they are drawn, and what theory says of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
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


def _nodes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c = 2p - 1 on (-1, 1), its self-certainty and quadrature weights of the uniform density.

    Double-exponential on each half, since W is infinite at the ends and |c| has a kink at 0.
    """
    x, step = np.linspace(-4, 4, 401, retstep=True)
    stretch = np.pi * np.sinh(x)
    near, far = np.exp(-np.logaddexp(0, -stretch)), np.exp(-np.logaddexp(0, stretch))  # c, 1 - c
    certainty = (np.logaddexp(0, stretch) - np.log1p(near)) / 2
    weights = near * far * np.pi * np.cosh(x) * step / 2
    return np.append(-near, near), np.append(certainty, certainty), np.append(weights, weights)


def _standardised(weights: np.ndarray, *values: np.ndarray) -> float:
    """The mean of a quantity over its standard deviation, or the correlation of two."""
    if len(values) == 1:
        mean = weights @ values[0]
        return float(mean / np.sqrt(weights @ (values[0] - mean) ** 2))
    first, second = (value - weights @ value for value in values)
    norm = np.sqrt((weights @ first**2) * (weights @ second**2))
    return float(weights @ (first * second) / norm)


def predict_rise(sizes: np.ndarray, tilt: float) -> np.ndarray:
    r"""$\Phi(\sqrt R \mu/\sigma)$, with the mean and standard deviation of $(p - Ep)(W - EW)$."""
    c, certainty, weights = _nodes()
    weights = weights * (1 + tilt * c)
    product = (c - weights @ c) * (certainty - weights @ certainty)
    return np.asarray(ndtr(np.sqrt(sizes) * _standardised(weights, product)))


def predict_drop(sizes: np.ndarray, tilt: float) -> np.ndarray:
    r"""$\tfrac12 (1 - \delta R/(R + 1))$, for every R.

    The most certain pattern has the largest |c|, c = 2p - 1, of density $R |c|^{R-1}$ whatever the
    tilt, and c < 0 with probability $(1 - \delta |c|)/2$. It is then the worst of all, and
    otherwise the best: the end lies below the start exactly if it is the worst.
    """
    return (1 - tilt * sizes / (sizes + 1)) / 2


def majority_correlations() -> tuple[float, float]:
    """Correlation of the early slope with the mean of p, and with the share of p > 1/2."""
    c, certainty, weights = _nodes()
    slope = c * (certainty - weights @ certainty)
    return _standardised(weights, c, slope), _standardised(weights, np.sign(c), slope)


def predict_rise_given_majority() -> tuple[float, float]:
    r"""Limits of P(rise) without tilt, $\tfrac12 + \arcsin(\rho)/\pi$: where the mean of p exceeds
    1/2, and where most p do."""
    by_mean, by_count = (0.5 + math.asin(rho) / math.pi for rho in majority_correlations())
    return by_mean, by_count


def predict_end_above_given_mean(size: int) -> float:
    r"""$\Phi(\sqrt{3/R})$: P(the end lies above the start) without tilt, where the mean of p
    exceeds 1/2.

    The pattern that wins has p of nearly 0 or 1, which moves the mean by $\pm 1/(2R)$, against a
    standard deviation of $1/\sqrt{12 R}$.
    """
    return float(ndtr(math.sqrt(3 / size)))
