"""Roots in a bracket and of systems, and their derivatives, against SciPy, mpmath and formulas."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import scipy.optimize

from qra_jax._core.roots import implicit_root, newton_in_bracket, root_in_bracket, solve_system


def found(function, start, bracket, **options):
    """The root of one function, to rounding."""
    eps = float(jnp.finfo(jnp.asarray(start).dtype).eps)

    def look(x, aux):
        return *jax.jvp(function, (x,), (jnp.ones_like(x),)), aux

    def small(x):
        return 4 * eps * (1 + jnp.abs(x))

    return newton_in_bracket(look, start, bracket, small, **options)


@jax.jit
def lanes(levels, starts, lows, highs, wanted):
    """`x^3 + x = level`, one lane each, and what each of them has looked at."""

    def one(level, start, low, high, wanted):
        def look(x, count):
            return x**3 + x - level, 3 * x**2 + 1, count + 1

        def small(x):
            return 4e-16 * (1 + jnp.abs(x))

        return newton_in_bracket(look, start, (low, high), small, wanted=wanted, aux=0)

    return jax.vmap(one)(levels, starts, lows, highs, wanted)


def test_a_batch_that_mixes_all_brackets():
    """Inside; at both ends; infinite ends, one and both, with a start far off; a bracket of no
    width; no root, above and below; a lane that is not wanted; NaN."""
    inf, nan = np.inf, np.nan
    rows = np.array([
        # level, start, low, high, root expected
        [10.0, 3.0, 0.0, 3.0, 2.0],
        [10.0, 2.0, 0.0, 2.0, 2.0],
        [10.0, 5.0, 2.0, 5.0, 2.0],
        [1e9 + 1e3, 0.0, 0.0, inf, 1e3],
        [-1e9 - 1e3, 5.0, -inf, 5.0, -1e3],
        [10.0, -1e8, -inf, inf, 2.0],
        [10.0, 2.0, 2.0, 2.0, 2.0],
        [10.0, 0.5, 0.0, 1.0, 1.0],
        [10.0, 3.5, 3.0, 4.0, 3.0],
        [0.0, 3.0, -3.0, 3.0, 0.0],
    ])  # fmt: skip
    extra = np.array([[10.0, 7.0, 0.0, 9.0, 7.0], [nan, 0.5, 0.0, 1.0, nan]])
    every = np.concatenate([rows, extra])
    wanted = np.arange(len(every)) != len(rows)
    search = lanes(*every[:, :4].T, wanted)
    error = np.abs(search.root[:-1] - every[:-1, 4])
    assert np.all(error <= 4 * np.finfo(float).eps * (1 + np.abs(every[:-1, 4])))
    assert search.arrived[:-1].all()
    assert search.aux[len(rows)] == 0  # not wanted: not looked at
    assert 0 <= search.root[-1] <= 1  # a lane that fails stays in its bracket
    assert np.all(search.aux[: len(rows)] < 60)
    # A lane by itself gives what it gives beside the others.
    alone = lanes(*every[:1, :4].T, wanted[:1])
    assert alone.root[0] == search.root[0]
    assert alone.aux[0] == search.aux[0]


def test_flat_steep_and_noisy_functions():
    """Where Newton's iteration by itself leaves, creeps, or goes to and fro: to 0.3."""
    cases = [
        (lambda x: jnp.arctan(20 * (x - 0.3)), (-5.0, 9.0)),  # from far off Newton diverges
        (lambda x: jnp.cbrt(x - 0.3), (-5.0, 9.0)),  # every step doubles the distance
        (lambda x: jnp.expm1(30 * (x - 0.3)), (-5.0, 1.0)),  # creeps from the right, leaves left
        (lambda x: (x - 0.3) ** 9, (-5.0, 9.0)),  # of first order
        (lambda x: jnp.sign(x - 0.3), (-5.0, 9.0)),  # slope 0: bisection
    ]
    for function, (low, high) in cases:
        search = found(function, jnp.asarray(high), (jnp.asarray(low), jnp.asarray(high)), most=400)
        assert search.arrived
        assert abs(search.root - 0.3) < 1e-14 or abs(function(search.root)) < 1e-100


def test_entries_of_an_array_in_both_precisions():
    """`x + sinh x = level` over 600 decades to the last digits, all entries in one loop."""
    levels = np.array([1e-300, 1e-20, 1e-3, 1.0, 50.0, 1e10, 1e300])
    with mpmath.workdps(40):
        expected = [
            float(mpmath.findroot(lambda x, v=v: (x + mpmath.sinh(x)) / v - 1, mpmath.asinh(v)))
            for v in map(mpmath.mpf, levels[2:].tolist())
        ]
    expected = np.concatenate([levels[:2] / 2, expected])
    for dtype, tol in ((np.float64, 4e-16), (np.float32, 4e-7)):
        some = levels[1:6].astype(dtype) if dtype == np.float32 else levels
        start = jnp.arcsinh(jnp.asarray(some))
        root, arrived = root_in_bracket(
            lambda x: x + jnp.sinh(x) - some,  # noqa: B023
            start,
            (jnp.zeros_like(start), start),
            lambda x: tol * jnp.abs(x),  # noqa: B023
        )
        assert root.dtype == dtype
        assert arrived.all()
        wanted = expected[1:6] if dtype == np.float32 else expected
        np.testing.assert_allclose(root, wanted, rtol=2 * tol)


def test_what_was_not_found():
    """Entries that have not arrived after so many looks say so, beside one that has."""
    levels = jnp.array([0.0, 100.0])
    ends = jnp.zeros(2), jnp.full(2, 5.0)
    root, arrived = root_in_bracket(
        lambda x: x**3 + x - levels, jnp.array([0.0, 5.0]), ends, lambda _: 1e-15, most=2
    )
    assert arrived.tolist() == [True, False]
    assert root[0] == 0
    assert abs(root[1] ** 3 + root[1] - 100) > 1e-3


def test_without_a_bracket():
    """A convex function, with the slope of Halley's step: third order."""

    def look(x, count):
        value, first, second = jnp.expm1(x) + x - 3, jnp.exp(x) + 1, jnp.exp(x)
        return value, first * (1 - value * second / (2 * first**2)), count + 1

    search = newton_in_bracket(look, jnp.asarray(1.0), None, lambda _: 1e-5, aux=0)
    assert search.arrived
    np.testing.assert_allclose(jnp.expm1(search.root) + search.root, 3, rtol=4e-16)
    assert search.aux <= 3
    # An entry that is lost does not hold up the one beside it.
    pair = newton_in_bracket(look, jnp.array([1.0, jnp.nan]), None, lambda _: 1e-5, aux=0)
    assert pair.root[0] == search.root
    assert pair.aux == search.aux


def root_of_cubic(level, usable):
    """`x^3 + x = level`, differentiable where `usable`."""
    guess = jnp.where(usable, level, 0)
    ends = jnp.minimum(guess, 0) - 1, jnp.maximum(guess, 0) + 1

    def small(x):
        return 1e-15 * (1 + jnp.abs(x))

    root, _ = root_in_bracket(lambda x: x**3 + x - level, guess, ends, small, wanted=usable)
    return root


def test_first_second_and_third_derivatives():
    """dx/dL = 1/f', d2x/dL2 = -f''/f'^3, d3x/dL3 = (3 f''^2 - f' f''')/f'^5, forward and reverse;
    0 in lanes that are not usable, NaN among them, beside lanes that are."""
    levels = jnp.array([10.0, 0.0, -3.0, np.nan, 1e3])
    usable = jnp.array([True, True, True, False, True])
    first = jax.grad(root_of_cubic)
    second, third = jax.jacfwd(first), jax.jacrev(jax.jacfwd(first))

    @jax.jit
    def all_of_them(levels):
        each = [jax.vmap(f)(levels, usable) for f in (root_of_cubic, first, second, third)]
        return each, jax.grad(lambda levels: jnp.sum(jax.vmap(root_of_cubic)(levels, usable)))(
            levels
        )

    (x, *derivatives), gradient = all_of_them(levels)
    one, two, three = 3 * x**2 + 1, 6 * x, 6.0
    expected = 1 / one, -two / one**3, (3 * two**2 - one * three) / one**5
    for found, wanted in zip(derivatives, expected, strict=True):
        np.testing.assert_allclose(found, np.where(usable, wanted, 0), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(gradient, derivatives[0])


def test_a_slope_of_zero_has_no_derivative():
    """x^3 = level at 0: 0, and the lane beside it keeps its own."""

    def root(level):
        return implicit_root(lambda x: x**3 - level, jnp.cbrt(level))

    slopes = jax.vmap(jax.grad(root))(jnp.array([0.0, 8.0]))
    np.testing.assert_allclose(slopes, [0, 1 / 12], rtol=1e-14)


def powell(x, p):
    """A system whose slopes are singular half-way."""
    return jnp.stack([p * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.2])


def test_systems_against_scipy():
    """Damped from far off, undamped from nearby, to one root; SciPy finds the same."""
    expected = scipy.optimize.root(lambda x: np.asarray(powell(x, 4.0)), [0.2, 1.5], tol=1e-14).x
    damped = solve_system(lambda x: powell(x, 4.0), jnp.array([0.1, 4.0]), damped=True, most=81)
    near = solve_system(
        lambda x: powell(x, 4.0), jnp.asarray(expected + 1e-2), damped=False, most=10
    )
    for solution in (damped, near):
        assert solution.converged
        np.testing.assert_allclose(solution.root, expected, rtol=1e-12)
    slopes = jax.jacfwd(powell)(jnp.asarray(expected), 4.0)
    np.testing.assert_allclose(near.slopes, slopes, atol=1e-5)


def test_systems_that_have_no_root():
    """Undamped: not converged. Damped: stops at the least residual. A start that is not finite
    stays what it is."""

    def apart(x):
        return jnp.stack([x[0] ** 2 + 1, x[1] - 2.0])

    start = jnp.array([1.0, 0.0])
    assert not solve_system(apart, start, damped=False, most=10).converged
    least = solve_system(apart, start, damped=True, most=81)
    np.testing.assert_allclose(least.root, [0, 2], atol=1e-6)
    lost = solve_system(apart, start * jnp.nan, damped=True, most=81)
    assert jnp.all(jnp.isnan(lost.root))


def test_derivatives_of_a_system():
    """Against a finite difference of second order, and its second derivative against the first; a
    lane without a regular root has 0."""

    def root(p, usable):
        x = solve_system(
            lambda x: powell(x, jax.lax.stop_gradient(p)), jnp.array([0.2, 1.5]), damped=True,
            most=81,
        ).root  # fmt: skip
        return implicit_root(lambda x: powell(x, p), x, usable, system=True)

    @jax.jit
    def derivatives(p, usable):
        slope = jax.jacrev(root)
        return root(p, usable), slope(p, usable), jax.jacfwd(slope)(p, usable)

    step = 1e-4
    ps = jnp.array([4.0 - step, 4.0, 4.0 + step, 4.0])
    x, first, second = jax.vmap(derivatives)(ps, jnp.array([True, True, True, False]))
    np.testing.assert_allclose(first[1], (x[2] - x[0]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(second[1], (first[2] - first[0]) / (2 * step), rtol=1e-6)
    np.testing.assert_array_equal(first[3], 0)
    np.testing.assert_array_equal(second[3], 0)
