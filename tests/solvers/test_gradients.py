"""Derivatives through solves and events, reverse and forward, against exact derivatives."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import qra_jax as qra
from tests._support import compiled, systems
from tests._support.compiled import FORWARD, one

METHODS = {"exact": qra.Exact(), "ode": qra.ODE()}


@functools.cache
def entanglement_gradient(method: qra.solvers.AbstractMethod = METHODS["exact"]):
    """Engine `(probs, rates, weight)`: log T0 and its reverse-mode gradient in the first two."""

    def function(probs, rates, weight):
        policy, problem = qra.two_stage(probs, rates)
        problem = qra.Problem(problem.correct, weight[None])
        return qra.log_entanglement_time(policy, problem, method=method)[0]

    return compiled.batched(jax.value_and_grad(function, argnums=(0, 1)))


@functools.cache
def exact_gradient(probs, rates):
    """Central differences of the exact log T0, in 30 digits.

    Probabilities enter as logits of a normalised policy: a change of `probs[i]` alone rescales.
    """
    with mpmath.workdps(systems.ExactFlow.digits):
        step = mpmath.mpf("1e-9")

        def log_t0(arguments):
            total = sum(arguments[:3])
            return systems.exact_log_entanglement_time(
                [p / total for p in arguments[:3]], arguments[3:]
            )

        here = [mpmath.mpf(float(x)) for x in (*probs, *rates)]
        slopes = []
        for i in range(6):
            above, below = list(here), list(here)
            above[i] += step * here[i]
            below[i] -= step * here[i]
            slopes.append(float((log_t0(above) - log_t0(below)) / (2 * step * here[i])))
    return slopes[:3], slopes[3:]


@pytest.mark.parametrize(
    "method", [pytest.param(x, marks=pytest.mark.slow if x == "ode" else ()) for x in METHODS]
)
@pytest.mark.parametrize(
    ("probs", "rates"),
    [(systems.CHECK_PROBS, systems.CHECK_RATES), ((1e-6, 0.7, 0.3 - 1e-6), (0.9, 0.6, 0.1))],
)
def test_entanglement_gradient(probs, rates, method):
    """Reverse mode, with respect to probabilities and to success rates."""
    engine = entanglement_gradient(METHODS[method])
    _, (by_probs, by_rates) = one(engine, probs, rates, 1.0)
    exact_probs, exact_rates = exact_gradient(probs, rates)
    np.testing.assert_allclose(by_probs[:3], exact_probs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(by_rates[:3], exact_rates, rtol=1e-6, atol=1e-7)


def test_rare_best_pattern():
    """d log T0 / d log pi_* = -2.0000 in the second check case."""
    probs = systems.rare_probs(1e-8)
    _, (by_probs, _) = one(entanglement_gradient(), probs, systems.RARE_RATES, 1.0)
    # pi_* moves against pi_3.
    slope = (by_probs[0] - by_probs[2]) * 1e-8
    assert f"{slope:.4f}" == "-2.0000"
    assert slope == pytest.approx(systems.exact_t0_derivatives("1e-8")[0], abs=1e-7)


ORDINARY = [
    (systems.CHECK_PROBS, systems.CHECK_RATES),
    ((1e-8, 0.7, 0.3 - 1e-8), (0.9, 0.6, 0.1)),
    ((0.1, 0.2, 0.3, 0.4), (0.9, 0.8, 0.2, 0.1)),
]
DEGENERATE = {  # probabilities, rates, weight, log T0
    "already crossed": ((0.6, 0.2, 0.2), (0.9, 0.5, 0.1), 1.0, -np.inf),
    "vertex": ((0.0, 1.0, 0.0), (0.9, 0.5, 0.1), 1.0, -np.inf),
    "best missing": ((0.0, 0.5, 0.5), (0.9, 0.5, 0.1), 1.0, -np.inf),
    "all tied": ((0.2, 0.3, 0.5), (0.5, 0.5, 0.5), 1.0, -np.inf),
    "at second": ((0.25, 0.5, 0.25), (0.75, 0.5, 0.25), 1.0, -np.inf),
    "never": ((0.05, 0.7, 0.25), (0.9, 0.7, 0.1), 0.0, np.inf),
    "NaN probability": ((np.nan, 0.5, 0.5), (0.9, 0.5, 0.1), 1.0, np.nan),
    "bad rate": ((0.05, 0.7, 0.25), (1.5, 0.7, 0.1), 1.0, np.nan),
    "NaN weight": ((0.05, 0.7, 0.25), (0.9, 0.7, 0.1), np.nan, np.nan),
}


def columns(lanes):
    """Lanes `(probs, rates, weight)` as padded columns."""
    probs, rates, weights = zip(*lanes, strict=True)
    padded = [np.stack([compiled.pad(np.array(row)) for row in rows]) for rows in (probs, rates)]
    return *padded, np.array(weights)


@pytest.fixture(scope="module", params=METHODS)
def mixed(request):
    """Values and gradients of a batch of ordinary lanes with degenerate ones after them."""
    ordinary = [(*lane, 1.0) for lane in ORDINARY]
    degenerate = [lane[:3] for lane in DEGENERATE.values()]
    engine = entanglement_gradient(METHODS[request.param])
    return engine(*columns(ordinary + degenerate)), engine(*columns(ordinary))


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_lanes(mixed, name):
    """Their times are exact, and their gradients exactly 0."""
    (values, slopes), _ = mixed
    lane = len(ORDINARY) + list(DEGENERATE).index(name)
    np.testing.assert_array_equal(values[lane], DEGENERATE[name][3])
    for slope in slopes:
        np.testing.assert_array_equal(slope[lane], 0)


def test_ordinary_lanes_do_not_notice(mixed):
    """Beside degenerate lanes, values and gradients are bit for bit those without them."""
    (values, slopes), (alone, slopes_alone) = mixed
    count = len(ORDINARY)
    np.testing.assert_array_equal(values[:count], alone)
    for slope, slope_alone in zip(slopes, slopes_alone, strict=True):
        np.testing.assert_array_equal(slope[:count], slope_alone)
        assert np.abs(slope[:count]).max(axis=1).min() > 0.1


def test_padding_gets_no_gradient():
    """A pattern of probability 0 neither moves nor carries a derivative."""
    _, (by_probs, by_rates) = one(entanglement_gradient(), *ORDINARY[0], 1.0)
    assert not by_probs[3:].any()
    assert not by_rates[3:].any()


@pytest.mark.slow
def test_second_derivative_forward_over_forward():
    """ForwardMode: log T0, its slope and its curvature in log pi_*, at pi_* = 1e-3.

    Of the exact solver second derivatives are tested every time, and first ones of this mode below.
    """

    def log_t0(log_rare):
        rare = jnp.exp(log_rare)
        probs = jnp.stack([rare, jnp.full_like(rare, 0.7), 0.3 - rare])
        policy, problem = qra.two_stage(probs, jnp.asarray(systems.RARE_RATES))
        return qra.log_entanglement_time(policy, problem, method=FORWARD)[0]

    def slope(x):
        first = jax.jacfwd(log_t0)(x)
        return first, first

    curvature, first = jax.jit(jax.jacfwd(slope, has_aux=True))(jnp.log(1e-3))
    exact_first, exact_second = systems.exact_t0_derivatives("1e-3")
    assert float(first) == pytest.approx(exact_first, abs=1e-7)
    assert float(curvature) == pytest.approx(exact_second, abs=1e-5)


def two_pattern_gradient(probs, rates, log_odds):
    """Exact derivatives of a log time in (log pi_1, log pi_2, R_1, R_2) of two patterns."""
    _, (by_odds, by_first, by_second), _ = systems.two_pattern_time(probs, rates, log_odds)
    return [by_odds, -by_odds, by_first, by_second]


def test_convergence_time_forward_mode():
    """d log T_eps in logits, rates and eps by `jacfwd`, with two patterns in closed form."""
    probs, rates, eps = np.array([0.1, 0.9]), np.array([0.8, 0.3]), 1e-3

    def log_time(log_probs, rates, eps):
        policy, problem = qra.two_stage(jnp.exp(log_probs), rates)
        return qra.log_convergence_time(policy, problem, eps, method=FORWARD)[0]

    by_all = jax.jit(jax.jacfwd(log_time, argnums=(0, 1, 2)))
    *slopes, by_eps = by_all(jnp.log(probs), jnp.asarray(rates), eps)
    odds = np.log1p(-eps) - np.log(eps)
    _, _, by_odds = systems.two_pattern_time(probs, rates, odds)
    exact = two_pattern_gradient(probs, rates, odds)
    np.testing.assert_allclose(np.concatenate(slopes), exact, rtol=1e-7)
    assert float(by_eps) == pytest.approx(-by_odds / (eps * (1 - eps)), rel=1e-7)


def test_time_to_accuracy_forward_mode():
    """The same along a direction in probabilities, rates and level, by `jvp`."""
    probs, rates, level = np.array([0.1, 0.9]), np.array([0.8, 0.3]), 0.7

    def log_time(log_probs, rates, level):
        policy, problem = qra.two_stage(jnp.exp(log_probs), rates)
        return qra.log_time_to_accuracy(policy, problem, level, method=FORWARD)[0]

    tangent = np.array([0.3, -0.2]), np.array([0.05, -0.1]), 0.02
    _, found = jax.jit(lambda *x: jax.jvp(log_time, x, tuple(map(jnp.asarray, tangent))))(
        jnp.log(probs), jnp.asarray(rates), jnp.asarray(level)
    )
    # The level fixes the share (level - R_2)/(R_1 - R_2), which moves with the rates too.
    share = (level - rates[1]) / (rates[0] - rates[1])
    odds = np.log(share) - np.log1p(-share)
    _, _, by_odds = systems.two_pattern_time(probs, rates, odds)
    fixed = np.dot(two_pattern_gradient(probs, rates, odds), np.concatenate(tangent[:2]))
    d_share = (tangent[2] - share * tangent[1][0] - (1 - share) * tangent[1][1]) / (
        rates[0] - rates[1]
    )
    exact = fixed + by_odds * d_share / (share * (1 - share))
    assert float(found) == pytest.approx(exact, rel=1e-6)


def test_trajectory_reverse_mode_through_reference_and_beta():
    """A penalised natural flow: d pi(t) in start, rates, reference and beta, in closed form."""
    start, rates = np.array([0.2, 0.5, 0.3]), np.array([0.8, 0.6, 0.1])
    arguments = start, rates, np.array([0.6, 0.1, 0.3]), 0.3
    times, weights = np.array([0.5, 4.0]), np.array([[1.0, -2.0, 0.5], [-0.3, 0.8, 2.0]])

    def solved(start, rates, reference, beta):
        policy, problem = qra.two_stage(start, rates)
        flow = qra.GradientFlow(qra.RLVR(beta), problem, geometry=qra.Natural())
        reference, _ = qra.two_stage(reference, rates)
        rows = qra.solve_flow(policy, flow, log_times=np.log(times), reference=reference)
        return jnp.sum(rows.pattern_probs[:, 0] * weights)

    def closed(start, rates, reference, beta):
        def row(time):
            return systems.natural_probs(start, rates, time, beta, reference, xp=jnp)

        return sum(jnp.sum(row(t) * w) for t, w in zip(times, weights, strict=True))

    arguments = tuple(map(jnp.asarray, arguments))
    value, slopes = jax.jit(jax.value_and_grad(solved, argnums=range(4)))(*arguments)
    exact, exact_slopes = jax.jit(jax.value_and_grad(closed, argnums=range(4)))(*arguments)
    assert float(value) == pytest.approx(float(exact), abs=1e-8)
    for slope, expected in zip(slopes[1:], exact_slopes[1:], strict=True):
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)
    # Probabilities: only what keeps their sum is defined.
    for index in (0, 2):
        difference = np.asarray(slopes[index] - exact_slopes[index])
        spread = difference - difference @ np.asarray(arguments[index])
        np.testing.assert_allclose(spread, 0, atol=1e-7)


def test_trajectory_forward_mode():
    """jacfwd through requested rows, two patterns: d delta(t) in delta_0, R_1 and R_2."""
    probs, rates, log_times = np.array([0.3, 0.7]), np.array([0.7, 0.5]), np.log([0.5, 8.0, 60.0])

    def odds(start, rates):
        logits = jnp.stack([start, jnp.zeros_like(start)])
        policy, problem = qra.two_stage(jax.nn.softmax(logits), rates)
        rows = qra.solve_flow(policy, problem, log_times=log_times, method=FORWARD)
        final = rows.policy.pattern_logits[:, 0]
        return final[:, 0] - final[:, 1]

    start = np.log(probs[0] / probs[1])
    by_start, by_rates = jax.jit(jax.jacfwd(odds, argnums=(0, 1)))(
        jnp.asarray(start), jnp.asarray(rates)
    )
    later = systems.two_pattern_log_odds(probs, rates, np.exp(log_times))
    np.testing.assert_allclose(by_start, (1 + np.cosh(start)) / (1 + np.cosh(later)), rtol=1e-7)
    by_gap = np.exp(log_times) / (1 + np.cosh(later))
    np.testing.assert_allclose(by_rates, np.stack([by_gap, -by_gap], axis=-1), rtol=1e-7)
