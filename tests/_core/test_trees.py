"""Trees of arrays against NumPy."""

import jax.numpy as jnp
import numpy as np

from qra_jax._core.trees import unit_and_log_norm


def test_direction_and_length():
    """Of length 1, whatever the size: squares of 1e-200 would underflow, those of 1e200 overflow.
    Nothing at all has no direction, and the smallest length that there is."""
    for size in (1.0, 1e-200, 1e200):
        unit, log_norm = unit_and_log_norm({"a": size * jnp.array([1.0, -2.0]), "b": 2 * size})
        np.testing.assert_allclose(unit["a"], [1 / 3, -2 / 3], rtol=1e-15)
        np.testing.assert_allclose(unit["b"], 2 / 3, rtol=1e-15)
        np.testing.assert_allclose(log_norm, np.log(3) + np.log(size), rtol=1e-14)
    unit, log_norm = unit_and_log_norm((jnp.zeros(2), jnp.zeros(())))
    assert not unit[0].any()
    assert not unit[1].any()
    np.testing.assert_allclose(log_norm, np.log(np.finfo(float).tiny))
