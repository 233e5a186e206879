"""Utilities of the expected reward: clocks, finite groups by brute force, both routes."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

import qra_jax as qra
from tests._support import compiled
from tests._support.systems import CHECK_PROBS, CHECK_RATES

PASSED = (0.036568, 0.951242, 0.012189)
T0 = (
    (qra.objectives.Mean(), "94.30486"),
    (qra.GRPO(), "43.78606"),
    (qra.GRPO(4), "57.786"),
    (qra.GRPO(8), "48.433"),
    (qra.GRPO(16), "45.597"),
    (qra.objectives.LogLikelihood(), "64.48575"),
    (qra.objectives.MaxRL(8), "64.4936"),
    (qra.objectives.Tsallis(0.5), "77.970"),
    (qra.objectives.PassAtK(8), "41299.22"),
)
OTHERS = (
    qra.GRPO(5, ddof=1),
    qra.GRPO(4, redraw=True),
    qra.objectives.DrGRPO(4),
    qra.objectives.Tsallis(1.0),
)
UTILITIES = (*(utility for utility, _ in T0), *OTHERS)


@jax.jit
def values_of_all(value, shortfall):
    """Of every utility; traced once, not at every place where a solve asks for them."""
    return jnp.stack([one.value(value, shortfall) for one in UTILITIES])


@jax.jit
def slopes_of_all(value, shortfall):
    """The same of the slopes."""
    return jnp.stack([one.slope(value, shortfall) for one in UTILITIES])


class AnyOf(qra.objectives.AbstractUtility):
    """One of the utilities above, chosen by a number: one compilation for all of them."""

    which: jax.Array

    def value(self, value, shortfall):
        """That of the utility chosen."""
        return values_of_all(value, shortfall)[self.which]

    def slope(self, value, shortfall):
        """That of the utility chosen."""
        return slopes_of_all(value, shortfall)[self.which]


def _flow(problem, which, utility=AnyOf):
    return qra.GradientFlow(qra.Objective(qra.Verifiable(), utility(which)), problem)


TIGHT = qra.ODE(diffrax.Dopri8(), rtol=1e-11, atol=1e-12)
EPS = 1e-3
_NODES = 4096


@jax.jit
@jax.vmap
def times_of(probs, rates, which):
    """log T0 and log T_eps of a start under a utility by the exact solver, and the shares at T0."""
    policy, problem = qra.two_stage(probs, rates)
    flow = _flow(problem, which)
    found = qra.times.entanglement(policy, flow, method=qra.Exact())
    last = qra.times.convergence(policy, flow, EPS, method=qra.Exact())
    final = jax.vmap(lambda p: p.pattern_table(problem)[0])(found.policy)[0, 0]
    return found.log_time[0], last.log_time[0], final


def known_times(probs, rates):
    """log T0 and log T_eps under every utility, `(2, utilities)`: a utility is a clock,
    dt = dtau / f'(V), along the flow of the mean, which SciPy solves in log tau."""
    best, second = np.argmax(rates), np.sort(rates)[-2]

    def shares(logits):
        return scipy.special.softmax(logits, axis=0)

    def field(x, logits):
        p = shares(logits)
        return np.exp(x) * p * (rates - p @ rates)

    def rises(_, logits):
        return shares(logits) @ rates - second

    def converges(_, logits):
        return shares(logits)[best] - (1 - EPS)

    def both(_, logits):
        return min(rises(_, logits), converges(_, logits))

    both.terminal = True
    first = -25.0
    flow = scipy.integrate.solve_ivp(
        field, (first, 30), np.log(probs), "DOP853", events=(rises, converges, both),
        dense_output=True, rtol=1e-12, atol=1e-13,
    )  # fmt: skip
    ends = [x[0] if len(x) else -np.inf for x in flow.t_events[:2]]
    edges = np.unique([*flow.t, *(x for x in ends if x > first)])
    nodes, weights = np.polynomial.legendre.leggauss(6)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (1 + nodes)
    values = rates @ shares(flow.sol(x.ravel()))
    padded = np.resize(values, _NODES)  # all flows share one program
    slopes = np.asarray(slopes_of_all(padded, 1 - padded))[:, : values.size]
    slopes = slopes.reshape(-1, *x.shape)
    parts = np.sum(np.exp(x) / slopes * half * weights, axis=-1)
    start = np.exp(first) / slopes[:, 0, :1]
    clocks = np.cumsum(np.concatenate([start, parts], axis=1), axis=1)
    never = np.full(len(clocks), -np.inf)
    rows = [np.log(clocks[:, edges == x][:, 0]) if x > first else never for x in ends]
    return np.stack(rows)


def test_clocks_of_the_check_case():
    """T0 to the digits known, and against SciPy; all cross at one place."""
    count = len(UTILITIES)
    probs, rates = np.tile(CHECK_PROBS, (count, 1)), np.tile(CHECK_RATES, (count, 1))
    *found, passed = times_of(probs, rates, np.arange(count))
    for t0, (utility, digits) in zip(np.exp(found[0]), T0, strict=False):
        half = 0.5 * 10.0 ** -len(digits.split(".")[1])
        assert abs(t0 - float(digits)) <= 1.01 * half, utility
    expected = known_times(np.array(CHECK_PROBS), np.array(CHECK_RATES))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(passed[:, :3], np.tile(PASSED, (count, 1)), atol=5.1e-7)


def test_random_problems():
    """Every utility on random starts, weak ones among them."""
    rng = np.random.default_rng(0)
    count = len(UTILITIES)
    probs, rates = rng.dirichlet([0.3, 1, 1], count), rng.uniform(0.05, 0.95, (count, 3))
    *found, _ = times_of(probs, rates, np.arange(count))
    for which, (p, r) in enumerate(zip(probs, rates, strict=True)):
        expected = known_times(p, r)[:, which]
        np.testing.assert_allclose([x[which] for x in found], expected, rtol=0, atol=1e-7)
    assert 3 < np.isneginf(found[0]).sum() < count - 3


@pytest.mark.parametrize("utility", UTILITIES)
def test_slope_is_the_derivative_of_the_value(utility):
    """Against autodiff."""
    v = jnp.linspace(0.02, 0.98, 25)
    _, slope = jax.jvp(lambda v: utility.value(v, 1 - v), (v,), (jnp.ones_like(v),))
    # The derivative of `expm1` is rounded at 1.
    np.testing.assert_allclose(utility.slope(v, 1 - v), slope, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_finite_groups_by_brute_force(group, ddof, redraw):
    """All 2^M groups of outcomes, each with its chance, advantages and score."""
    accuracy = 0.6389
    total, both = 0.0, 0.0
    for outcomes in itertools.product((0.0, 1.0), repeat=group):
        r = np.array(outcomes)
        chance = np.prod(np.where(r == 1, accuracy, 1 - accuracy))
        if r.std() == 0:
            continue
        advantage = (r - r.mean()) / r.std(ddof=ddof)
        score = (r - accuracy) / (accuracy * (1 - accuracy))
        total += chance * np.mean(advantage * score)
        both += chance
    utility = qra.GRPO(group, ddof, redraw)
    slope = utility.slope(jnp.asarray(accuracy), jnp.asarray(1 - accuracy))
    np.testing.assert_allclose(slope, total / (both if redraw else 1), rtol=1e-12)


def test_large_groups():
    """Known values, and the infinite group as the limit, at a rate of 1/M."""
    at = jnp.asarray(0.6389), jnp.asarray(1 - 0.6389)
    known = [qra.GRPO(m).slope(*at) for m in (2, 4, 8)]
    np.testing.assert_allclose(known, [1, 1.62498, 1.90640], rtol=0, atol=5.1e-6)
    sizes = np.array([64, 128, 256])
    misses = qra.GRPO().slope(*at) - jnp.stack([qra.GRPO(int(m)).slope(*at) for m in sizes])
    order = np.polyfit(np.log(sizes), np.log(np.asarray(misses)), 1)[0]
    assert abs(order + 1) < 0.05


def test_questions_share_nothing_but_weights():
    """Two questions of unequal weight under a utility, by both routes."""
    policy, problem = qra.two_stage(
        np.array([[0.05, 0.70, 0.25], [0.3, 0.3, 0.4]]), np.array([CHECK_RATES, (0.2, 0.5, 1.0)])
    )
    problem = qra.Problem(problem.correct, np.array([0.3, 0.7]))
    flow = _flow(problem, 0, lambda _: qra.GRPO())
    log_times = np.linspace(-2, 7, 12)
    exact, ode = (
        qra.solve_flow(policy, flow, log_times=log_times, method=method) for method in (None, TIGHT)
    )
    assert isinstance(exact.method, qra.Exact)
    np.testing.assert_allclose(exact.pattern_probs, ode.pattern_probs, atol=1e-8)
    # Of a best rate of 1, GRPO's tail is of second order: t^2 (1 - V) -> 4 ((K - 1) / K)^2.
    late = qra.solve_flow(policy, flow, log_times=np.array([30.0])).final_policy
    log_probs, _ = late.log_probs()
    shortfall = np.exp(np.asarray(log_probs[1, :2])) @ np.array([0.8, 0.5])
    np.testing.assert_allclose(0.49 * np.exp(60.0) * shortfall, 4 * (2 / 3) ** 2, rtol=1e-3)


def test_derivative_in_a_parameter_of_the_utility():
    """d log T0 / dq of Tsallis, against differences."""
    policy, problem = qra.two_stage(np.array(CHECK_PROBS), np.array(CHECK_RATES))

    @jax.jit
    def log_t0(q):
        return qra.log_entanglement_time(policy, _flow(problem, q, qra.objectives.Tsallis))[0]

    step = 1e-4
    difference = (log_t0(0.5 + step) - log_t0(0.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(log_t0))(0.5), difference, rtol=1e-7)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_nothing_to_learn(rate):
    """All rates 0, or all 1: infinite clocks of a gradient that is 0; the flow is at rest."""
    policy, problem = qra.two_stage(np.array([0.2, 0.8]), np.array([rate, rate]))
    flow = _flow(problem, 0, lambda _: qra.GRPO())
    for method in (qra.Exact(), qra.ODE()):
        traj = qra.solve_flow(policy, flow, log_times=np.array([0.0, 3.0]), method=method)
        assert traj.status == qra.Status.COMPLETED
        np.testing.assert_allclose(traj.pattern_probs[:, 0], [[0.2, 0.8]] * 2, rtol=1e-14)


def test_float32():
    """Slopes are those of float64, also where V or its shortfall underflows next to 1."""
    single = [np.array(x, np.float32) for x in ([1e-6, 0.5, 1.0], [1.0, 0.5, 1e-12])]
    for utility in UTILITIES:
        slope = utility.slope(*map(jnp.asarray, single))
        assert slope.dtype == jnp.float32
        wide = utility.slope(*(jnp.asarray(x, jnp.float64) for x in single))
        # What is below the smallest number of float32 is 0 there.
        np.testing.assert_allclose(slope, np.asarray(wide, np.float32), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qra.GRPO(1), "group must be at least 2, got 1"),
        (lambda: qra.GRPO(8, ddof=2), "ddof must be 0 or 1, got 2"),
        (lambda: qra.objectives.DrGRPO(1), "group must be at least 2, got 1"),
        (lambda: qra.objectives.PassAtK(0), "k must be at least 1, got 0"),
        (lambda: qra.objectives.MaxRL(0), "samples must be at least 1, got 0"),
        (lambda: qra.objectives.Tsallis(1.5), r"q must lie in \[0, 1\], got q = 1.5"),
    ],
)
def test_bad_settings(make, message):
    """One line that names the argument."""
    with pytest.raises(ValueError, match=message):
        make()


def test_utilities_of_probabilities_only():
    """GRPO of a reward that is no probability of a success is an error, a function's own is not."""
    policy, problem = qra.two_stage(np.array([0.5, 0.5]), np.array([0.9, 0.3]))
    flow = qra.GradientFlow(
        qra.Objective(qra.PatternReward(np.array([2.0, 1.0])), qra.GRPO()), problem
    )
    with pytest.raises(ValueError, match=r"reward must be the probability .* for GRPO, got"):
        qra.solve_flow(policy, flow, log_times=np.array([0.0]))
    assert compiled.log_likelihood(problem).objective.validate(policy, problem, policy) is None
