"""Programs compiled quickly where a call is made by hand: the same values and derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qra_jax._core import compiled as module
from qra_jax._core.compiled import compiled, compiled_vector


@pytest.fixture(scope="module")
def seen():
    """A function of (n,), a scale that is not differentiated, and a choice; and who called it."""
    calls = []

    def function(x, scale, power, start=None):
        calls.append(isinstance(x, jax.core.Tracer))
        return jnp.stack([jnp.sum(scale * x**power), jnp.prod(x) * scale])

    return calls, function


X = jnp.array([0.3, -1.7, 2.2])


def reference(x, scale):
    return np.array([np.sum(scale * x**3), np.prod(x) * scale])


def test_derivatives_by_hand_are_those_of_a_compiled_program(seen):
    _, function = seen
    call = compiled_vector(function, lambda x, *rest: 2)
    value = call(X, 1.5, 3)
    np.testing.assert_allclose(value, reference(np.array(X), 1.5), rtol=1e-15)
    expected = np.stack([4.5 * np.array(X) ** 2, 1.5 * np.prod(X) / np.array(X)])

    def scalar(x, scale=jnp.asarray(1.5)):
        return call(x, scale, 3) @ jnp.array([1.0, -2.0])

    for gradient in (jax.grad(scalar), jax.jit(jax.grad(scalar))):
        np.testing.assert_allclose(gradient(X), expected[0] - 2 * expected[1], rtol=1e-14)
    by_scale = jax.grad(scalar, argnums=1)(X, jnp.asarray(1.5))
    np.testing.assert_allclose(by_scale, np.sum(X**3) - 2 * np.prod(X), rtol=1e-14)
    along = jnp.array([0.1, 0.7, -0.4])
    _, change = jax.jvp(lambda x: call(x, jnp.asarray(1.5), 3), (X,), (along,))
    np.testing.assert_allclose(change, expected @ np.array(along), rtol=1e-14)
    np.testing.assert_allclose(jax.jacrev(lambda x: call(x, 1.5, 3))(X), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jacfwd(lambda x: call(x, 1.5, 3))(X), expected, rtol=1e-14)


def test_what_is_mapped_or_differentiated_twice(seen):
    _, function = seen
    call = compiled_vector(function, lambda x, *rest: 2)

    def cubes(x):
        return call(x, 1.5, 3)[0]

    np.testing.assert_allclose(jax.hessian(cubes)(X), np.diag(9 * X), atol=1e-13)
    rows = jnp.stack([X, 2 * X])
    np.testing.assert_allclose(jax.vmap(jax.grad(cubes))(rows), 4.5 * rows**2, rtol=1e-14)
    total = jax.grad(lambda x: jax.vmap(cubes)(jnp.stack([x, 2 * x])).sum())(X)
    np.testing.assert_allclose(total, 4.5 * X**2 * (1 + 8), rtol=1e-14)


def test_choices_and_shapes_are_programs_of_their_own(seen):
    _, function = seen
    call = compiled_vector(function, lambda x, *rest: 2)
    for x in (X, X[:2]):
        for power in (2, 3):
            gradient = jax.grad(lambda x, power=power: call(x, 1.0, power)[0])(x)
            np.testing.assert_allclose(gradient, power * x ** (power - 1), rtol=1e-14)


def test_a_second_call_compiles_nothing(seen):
    calls, function = seen
    call = compiled_vector(function, lambda x, *rest: 2)
    jax.grad(lambda x: call(x, 1.0, 3)[0])(X)
    call(X, 1.0, 3)
    calls.clear()
    jax.grad(lambda x: call(x, 1.0, 3)[0])(X + 1)
    call(X + 1, 1.0, 3)
    assert calls == []


@pytest.mark.parametrize("size", [3, module._FEW + 1])
def test_only_small_calls_are_compiled_without_optimisations(size, monkeypatch):
    """Which compiler is asked, by the options that it is given."""
    given = []
    real = eqx.filter_jit

    def spy(function=None, **options):
        def wrapped(*args, **kwargs):
            given.append(options.get("compiler_options"))
            return real(function, **options)(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(module.eqx, "filter_jit", spy)
    double = compiled(lambda x: 2 * x)
    x = jnp.ones(size)
    np.testing.assert_array_equal(double(x), 2 * x)
    np.testing.assert_array_equal(jax.jit(double)(x), 2 * x)
    np.testing.assert_array_equal(jax.grad(lambda x: double(x).sum())(x), 2 * jnp.ones(size))
    quick = module._quick_options()
    assert given == [quick if size == 3 else None, None, None]
    assert jax.default_backend() != "cpu" or quick["xla_backend_optimization_level"] == 0


def test_a_jacobian_of_many_rows_is_not_formed(monkeypatch):
    number = module._FEW_ROWS + 1
    call = compiled_vector(lambda x: x**2, lambda x: x.size)
    monkeypatch.setattr(jax, "vjp", None)  # by which the rows are formed
    x = jnp.arange(1.0, number + 1)
    _, change = jax.jvp(call, (x,), (jnp.ones(number),))
    np.testing.assert_array_equal(change, 2 * x)
