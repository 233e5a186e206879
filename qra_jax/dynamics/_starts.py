"""Starts on the simplex: on a grid, and at random."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, require, require_all, whole


def simplex_grid(num_patterns: int, resolution: int) -> Float[np.ndarray, "N R"]:
    r"""All points of a simplex whose probabilities are multiples of 1/`resolution`.

    **Arguments:** `num_patterns`: R, at least 2; `resolution`: at least 1.

    **Returns:** `(N, R)`, $N = \binom{\text{resolution} + R - 1}{R - 1}$.

    **Raises:** `ValueError` if a number is too small.
    """
    parts, pieces = whole(num_patterns, "num_patterns", 2), whole(resolution, "resolution", 1)
    bars = np.array(list(itertools.combinations(range(pieces + parts - 1), parts - 1)))
    ends = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, pieces + parts - 1)))
    return (np.diff(ends, axis=1) - 1) / pieces


def random_starts(
    key: Array, num_patterns: int, number: int, *, concentration: ArrayLike = 1.0
) -> Float[Array, "N R"]:
    r"""Independent starts from a Dirichlet distribution on the simplex,
    $p(\pi) \propto \prod_r \pi_r^{\alpha_r - 1}$.

    **Arguments:** `key`: of `jax.random`; `num_patterns`: R, at least 2; `number`: N, at least 1;
    `concentration`: $\alpha$, a scalar or `(R,)`, above 0: 1 is uniform, below it most starts are
    near the boundary.

    **Returns:** `(N, R)`.

    **Raises:** `ValueError` if a number is out of range.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        starts = qra.dynamics.random_starts(jax.random.key(0), 3, 100, concentration=0.3)
        ```
    """
    whole(num_patterns, "num_patterns", 2)
    whole(number, "number", 1)
    alpha = as_float(concentration, "concentration")
    each = (num_patterns,)
    require(alpha.shape in ((), each), "concentration", f"be a scalar or {each}", alpha.shape)
    require_all(alpha, lambda x: (x > 0) & (x < math.inf), "concentration", "be above 0")
    return jax.random.dirichlet(key, jnp.broadcast_to(alpha, each), (number,))
