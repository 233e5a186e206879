"""Eigenvalues of small matrices, with derivatives.

(F5): docs/derivations.md#fixed-points-and-their-spectra.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float


@jax.custom_jvp
def spectrum(matrix: Float[Array, "N N"]) -> Complex[Array, " N"]:
    r"""Eigenvalues of a matrix, differentiable more than once.

    A simple eigenvalue is a root of $p = \det(M - \lambda 1)$: $d\lambda = -dp / \partial_\lambda
    p$, to all orders (F5). Repeated ones move by the diagonal of $V^{-1} dM\, V$, to first order.
    """
    return jnp.linalg.eigvals(matrix)


@spectrum.defjvp
def _spectrum_jvp(primals, tangents):
    (matrix,), (moved,) = primals, tangents
    values = spectrum(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def simple(value):
        def determinant(matrix, value):
            return jnp.linalg.det(matrix - value * identity)

        still, unit = jnp.zeros_like(moved, values.dtype), jnp.ones_like(value)
        point = matrix.astype(values.dtype), value
        _, change = jax.jvp(determinant, point, (moved.astype(values.dtype), 0 * unit))
        _, slope = jax.jvp(determinant, point, (still, unit))
        return change, slope

    change, slope = jax.vmap(simple)(values)
    held = jax.lax.stop_gradient(matrix)
    _, vectors = jnp.linalg.eig(held)
    # The slope is a product of distances to the other eigenvalues.
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(values))) ** (matrix.shape[0] - 1)
    repeated = jnp.abs(slope) <= jnp.finfo(matrix.dtype).eps ** 0.6 * size
    diagonal = jnp.diag(jnp.linalg.solve(vectors, moved.astype(vectors.dtype) @ vectors))
    return values, jnp.where(repeated, diagonal, -change / jnp.where(repeated, 1, slope))
