r"""Laws of RLIF with many patterns: how often it raises accuracy at first and lowers it at the end.

Of questions of two answers whose R patterns start with equal probabilities, whose success rates p
are independent with density $1 + \delta (2p - 1)$ on $[0, 1]$, and whose reward is self-certainty
without a penalty: $W = -\frac12 \log(1 - c^2)$ with $c = 2p - 1$.
"""

import math
from typing import Literal

import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, require, require_all

# Moments at tilt 0 of w = W - E W, which has the same mean 1 - ln 2 at every tilt.
_VARIANCE = 1 - math.pi**2 / 12  # E w^2
_SLOPE = 1 / 9  # E c^2 w
_SLOPE_VARIANCE = 11 / 27 - math.pi**2 / 36  # E c^2 w^2
_SIGN_SLOPE = math.log(2) / 2 - 1 / 4  # E |c| w


def _checked(num_patterns: ArrayLike, tilt: ArrayLike) -> tuple[Array, Array]:
    require_all(num_patterns, lambda r: r >= 1, "num_patterns", "be at least 1")
    require_all(tilt, lambda d: abs(d) <= 1, "tilt", "lie in [-1, 1]")
    return as_float(num_patterns, "num_patterns"), as_float(tilt, "tilt")


def rlif_rise_probability(num_patterns: ArrayLike, tilt: ArrayLike = 0.0) -> Float[Array, "..."]:
    r"""Probability that self-certainty raises accuracy at first, $\dot V(0) > 0$, for large R:
    $\Phi(\sqrt R \mu / \sigma)$.

    $\mu = \delta/9$ and $\sigma$ are the mean and the standard deviation of
    $(p - E p)(W - E W)$, up to a common factor.

    **Arguments:** `num_patterns`: R, at least 1; `tilt`: $\delta$ in [-1, 1]; the mean success rate
    is $1/2 + \delta/6$. They broadcast.

    **Returns:** a probability for each; a normal approximation.

    **Raises:** `ValueError` if `num_patterns` or `tilt` is out of range.

    ??? example

        ```python
        import qra_jax as qra
        # .5385 .6199 .8329 .9989
        print(qra.laws.rlif_rise_probability([10, 100, 1000, 10_000], 0.1))
        ```

    Source: derived in docs/laws.md#internal-rewards-with-many-patterns. (Theorem 5.6 of arXiv
    2506.04695 v2, as summarised, has 1 for large R.)
    """
    size, tilt = _checked(num_patterns, tilt)
    less = 2 * _SLOPE_VARIANCE / 3 - _VARIANCE / 9 + _SLOPE**2
    sigma = jnp.sqrt(_SLOPE_VARIANCE - less * tilt**2)
    return ndtr(jnp.sqrt(size) * (_SLOPE * tilt / sigma))


def rlif_drop_probability(num_patterns: ArrayLike, tilt: ArrayLike = 0.0) -> Float[Array, "..."]:
    r"""Probability that self-certainty ends below the accuracy of the start:
    $\frac12 \big(1 - \delta \frac{R}{R+1}\big)$, for every R.

    It is as well that of the most certain pattern being the worst of all; the flow selects it.

    **Arguments:** as for `rlif_rise_probability`; `num_patterns` may be `inf`.

    **Returns:** a probability for each, exact.

    **Raises:** as `rlif_rise_probability`.

    ??? example

        ```python
        import qra_jax as qra
        print(qra.laws.rlif_drop_probability(1000, 0.1))  # 0.45005
        ```

    Source: derived in docs/laws.md#internal-rewards-with-many-patterns. (Theorem 5.6 of arXiv
    2506.04695 v2, as summarised, has 1/2.)
    """
    size, tilt = _checked(num_patterns, tilt)
    return (1 - tilt / (1 + 1 / size)) / 2


def rlif_rise_given_majority(majority: Literal["mean", "count"] = "mean") -> float:
    r"""Probability that self-certainty raises accuracy at first if the majority is right, at tilt 0
    and for $R \to \infty$: $\frac12 + \arcsin(\rho)/\pi$.

    $\rho$ is the correlation of $(p - \frac12)(W - EW)$ with $p$, or with the sign of
    $p - \frac12$.

    **Arguments:** `majority`: right is the vote over all answers, a mean success rate above 1/2
    (`"mean"`, 0.6768), or most patterns have a success rate above 1/2 (`"count"`, 0.5852).

    **Returns:** a probability.

    **Raises:** `ValueError` for another string.

    Source: derived in docs/laws.md#internal-rewards-with-many-patterns. (Theorem 5.6 of arXiv
    2506.04695 v2, as summarised, has 1.)
    """
    known = {"mean": _SLOPE * math.sqrt(3), "count": _SIGN_SLOPE}
    require(majority in known, "majority", f"be one of {tuple(known)}", repr(majority))
    return 0.5 + math.asin(known[majority] / math.sqrt(_SLOPE_VARIANCE)) / math.pi


def rlif_end_above_probability(num_patterns: ArrayLike) -> Float[Array, "..."]:
    r"""Probability that self-certainty ends above the start if the mean success rate exceeds 1/2,
    at tilt 0 and for large R: $\Phi(\sqrt{3/R})$.

    **Arguments:** `num_patterns`: R, at least 1.

    **Returns:** a probability for each; a normal approximation.

    **Raises:** `ValueError` if `num_patterns` is below 1.

    Source: derived in docs/laws.md#internal-rewards-with-many-patterns.
    """
    size, _ = _checked(num_patterns, 0.0)
    return ndtr(jnp.sqrt(3 / size))
