"""Eigenvalues of small matrices, with derivatives.

(F5), (F6): docs/derivations.md#fixed-points-and-their-spectra.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float


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


def graded_spectrum(
    log_scales: Float[Array, " N"], matrix: Float[Array, "N N"], inside: Bool[Array, " N"]
) -> tuple[Complex[Array, " N"], Complex[Array, " N"]]:
    r"""Eigenvalues of $\mathrm{diag}(s)\, B$, each to its own relative precision, whatever the
    range of the scales.

    An eigenvalue of the size of $s_r$ sees rows of much larger scale as equations that hold
    already, and does not see those of much smaller scale (F6).

    **Arguments:** `log_scales`: $\log s$; `matrix`: B; `inside`: rows and columns that count.

    **Returns:** the eigenvalues, one for each row, NaN for those that do not count; and the same
    in units of the row's scale, which do not underflow.
    """
    number = matrix.shape[0]
    identity = jnp.eye(number, dtype=matrix.dtype)
    window = -math.log(float(jnp.finfo(matrix.dtype).eps)) / 2
    rows = jnp.where(inside, log_scales, 0)

    def of_row(row):
        apart = rows - rows[row]
        held = inside & (apart > window)
        near = inside & (jnp.abs(apart) <= window)
        known = jnp.where(held[:, None] & held[None], matrix, identity)
        follows = jnp.linalg.solve(known, jnp.where(held[:, None], matrix, 0))
        rest = matrix - jnp.where(held[None], matrix, 0) @ follows
        scaled = jnp.exp(jnp.where(near, apart, 0))[:, None] * rest
        scaled = jnp.where(near[:, None] & near[None], scaled, 0)
        # What does not count gets an eigenvalue beyond all others, by which it is told apart.
        beyond = 1 + 3 * jnp.max(jnp.sum(jnp.abs(scaled), axis=1))
        values = spectrum(scaled + jnp.diag(jnp.where(near, 0, beyond)))
        size = jnp.abs(values)
        size = jnp.where(size > beyond / 2, -1, size)
        # Of a complex pair, of one size, always the same one first.
        order = jnp.lexsort((-values.imag, -size))
        tie = (rows == rows[row]) & (jnp.arange(number) < row)
        rank = jnp.sum(near & ((apart > 0) | tie))
        return values[order[rank]]

    relative = jax.vmap(of_row)(jnp.arange(number))
    values = jnp.exp(rows) * relative
    return jnp.where(inside, values, jnp.nan), jnp.where(inside, relative, jnp.nan)
