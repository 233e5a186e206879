"""Trees of arrays against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from qra_jax._core.trees import in_groups, unit_and_log_norm


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


@pytest.mark.parametrize(("number", "width"), [(7, 3), (6, 3), (2, 5), (1, 1)])
def test_groups_are_one_batch(number, width):
    """As many at a time as are asked for: the same rows in the same order, the last group filled up
    and cut again."""
    inputs = jnp.arange(2.0 * number).reshape(number, 2)
    seen = []

    def function(row):
        seen.append(row.shape)
        return {"sum": row.sum(), "square": row**2}

    found = in_groups(function, inputs, width)
    np.testing.assert_array_equal(found["sum"], inputs.sum(axis=1))
    np.testing.assert_array_equal(found["square"], inputs**2)
    assert seen == [(2,)]
