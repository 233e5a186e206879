"""Eigenvalues whose sizes differ by any number of orders of magnitude."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from qra_jax._core.spectrum import graded_spectrum


def by_size(values):
    """The largest first, of a complex pair the one above the real axis."""
    return sorted(values, key=lambda value: (-abs(value), -value.imag))


def test_graded_spectrum_against_many_digits():
    """Each eigenvalue to its own relative precision, complex pairs and clusters included."""
    rng = np.random.default_rng(0)
    solve = jax.jit(graded_spectrum)
    for trial in range(12):
        matrix = rng.normal(size=(4, 4))
        logs = rng.uniform(-250, 0, 4) if trial % 2 else np.array([-200.0, -1, -200.5, 0])
        found, relative = solve(jnp.asarray(logs), jnp.asarray(matrix), jnp.ones(4, bool))
        with mpmath.workdps(300):
            scales = mpmath.diag([mpmath.exp(log) for log in logs])
            scaled = scales * mpmath.matrix(matrix.tolist())
            expected = [complex(x) for x in mpmath.eig(scaled, left=False, right=False)]
        np.testing.assert_allclose(by_size(np.asarray(found)), by_size(expected), rtol=1e-6)
        np.testing.assert_allclose(relative * np.exp(logs), found, rtol=1e-12)


def test_graded_spectrum_below_any_float():
    """What underflows keeps its sign in its own unit; rows that do not count are NaN."""
    logs = jnp.asarray([0.0, -1e4, -2e5])
    matrix = jnp.asarray([[-1.0, 0.3, 9.0], [0.2, -2.0, 9.0], [9.0, 9.0, 9.0]])
    inside = jnp.asarray([True, True, False])
    found, relative = graded_spectrum(logs, matrix, inside)
    np.testing.assert_allclose(relative[:2], [-1, -2 + 0.06], rtol=1e-12)
    assert found[1] == 0
    assert np.isnan(found[2])
    assert np.isnan(relative[2])
