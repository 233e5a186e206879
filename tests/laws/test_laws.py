"""The sharp laws against the exact solution, solves and quadrature, and the flags of validity."""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import qra_jax as qra
from tests._support import compiled, systems
from tests._support.compiled import one

NAN, INF = float("nan"), float("inf")
CHECK = systems.CHECK_PROBS, systems.CHECK_RATES


NAMES = ("value", "pattern", "convergence", "entanglement")
LANES, PATTERNS = 16, 12


def evaluate(probs, rates, weight, log_time, eps):
    """All laws of one question: `(4,)` values, flags and errors, in the order of `NAMES`."""
    policy, problem = qra.two_stage(probs, rates)
    problem = qra.Problem(problem.correct, weight[None])
    found = (
        qra.laws.value_tail_law(policy, problem, log_time),
        qra.laws.pattern_tail_law(policy, problem, log_time),
        qra.laws.log_convergence_time_law(policy, problem, eps),
        qra.laws.log_entanglement_time_law(policy, problem),
    )
    return tuple(
        jnp.stack([getattr(law, name)[0] for law in found])
        for name in ("value", "valid", "relative_error")
    )


def usable_values(*arguments):
    """The values where valid, otherwise 0; to be differentiated."""
    value, valid, _ = evaluate(*arguments)
    return jnp.where(valid, value, 0)


_compiled = jax.jit(jax.vmap(evaluate))
_jacobian = jax.jit(jax.vmap(jax.jacrev(usable_values, (0, 1))))


def laws(probs, rates, weight=1.0, log_time=20.0, eps=1e-9, dtype=float, function=_compiled):
    """`evaluate` for rows of starts; everything broadcasts, and every call has one shape."""
    rows = len(probs)
    columns = [compiled.pad(np.asarray(x, dtype), PATTERNS) for x in (probs, rates)]
    columns += [np.broadcast_to(np.asarray(x, dtype), rows) for x in (weight, log_time, eps)]
    out = function(*(np.resize(x, (LANES, *x.shape[1:])) for x in columns))
    return jax.tree_util.tree_map(lambda x: np.asarray(x)[:rows], out)


def entanglement_law(probs, rates):
    """Value, flag and error of the entanglement law for one start, or for rows of them."""
    single = np.ndim(probs) == 1
    out = laws(*(np.atleast_2d(x) for x in (probs, rates)))
    return [x[0, 3] if single else x[:, 3] for x in out]


def log_entanglement_law(probs, values):
    """The entanglement law as theory states it, in high precision; best and second best first."""
    with mpmath.workdps(30):
        best, *rest = [mpmath.mpf(p) for p in probs]
        top, second, *others = [mpmath.mpf(v) for v in values]
        m = len(others)
        u = mpmath.mpf(m) / (m + 1)
        product = mpmath.fprod(rest) * mpmath.fprod(second - value for value in others)
        numbers = u ** (m + 1) / (m + 1) - u ** (m + 2) / (m + 2)
        return mpmath.log(product * numbers / (best * (top - second)) ** (m + 1))


def fan(patterns, rare):
    """A best pattern of probability `rare` among `patterns`, one misleading, gaps of order 0.1."""
    others = np.arange(patterns, 2.0, -1.0)
    probs = np.concatenate([[rare], (1 - rare) * np.append(0.5, 0.5 * others / others.sum())])
    return probs, np.append([0.9, 0.7], np.linspace(0.3, 0.1, patterns - 2))


# The entanglement law


def test_entanglement_of_the_check_case():
    """87.5 by the law, and exact/law = 1.078, of which the correction knows 0.075."""
    value, valid, error = entanglement_law(*CHECK)
    assert math.exp(value) == pytest.approx(87.5, rel=1e-12)
    assert f"{94.30486 / math.exp(value):.3f}" == "1.078"
    assert valid
    assert error == pytest.approx(0.078, abs=0.004)


def test_entanglement_of_a_rare_best_pattern():
    """log10 T0 = 14.98777 at pi_* = 1e-8, right to 4e-8 as theory has it; the error is known."""
    probs, rates = systems.rare_probs(1e-8), systems.RARE_RATES
    value, valid, error = entanglement_law(probs, rates)
    off = math.expm1(systems.EXACT_T0["1e-8"] - value)
    assert f"{value / math.log(10):.5f}" == "14.98777"
    assert valid
    assert abs(off) < 4e-8
    assert error == pytest.approx(off, rel=1e-3)


def test_entanglement_error_is_of_first_order():
    """exact/law - 1 falls like pi_*, and is the error that the law states; K = 3 to 12."""
    numbers, rare = (3, 12), np.array([1e-3, 1e-5])
    probs, rates = (
        np.array([compiled.pad(fan(k, x)[i], PATTERNS) for k in numbers for x in rare])
        for i in (0, 1)
    )
    value, valid, error = entanglement_law(probs, rates)
    assert np.all(valid)
    for row, patterns in enumerate(numbers):
        pair = slice(2 * row, 2 * row + 2)
        exact = [float(systems.exact_log_entanglement_time(*fan(patterns, x))) for x in rare]
        off = np.expm1(exact - value[pair])
        order = math.log(off[0] / off[1]) / math.log(rare[0] / rare[1])
        assert order == pytest.approx(1, abs=0.1)
        np.testing.assert_allclose(error[pair], off, rtol=0.3)
        assert error[pair][1] == pytest.approx(off[1], rel=1e-2)
        # Scaled to pi_* = 1e-8: the largest error that theory has for K = 3 to 12.
        assert abs(off[1]) * 1e-3 < 1.3e-6


def test_entanglement_law_against_solves():
    """Random starts, a quarter of them with a near tie: where valid, within a factor of 1.4."""
    rng = np.random.default_rng(1)
    probs, rates = np.zeros((64, 6)), np.zeros((64, 6))
    for i in range(len(probs)):
        patterns, rare = rng.integers(3, 7), 10 ** rng.uniform(-6, -1)
        share, rate = rng.dirichlet(np.ones(patterns - 1)), np.sort(rng.uniform(0, 1, patterns))
        if i % 4 == 0:
            rate[-3] = rate[-2] - 10 ** rng.uniform(-6, -1) * rate[-2]
        probs[i, :patterns], rates[i, :patterns] = np.append(rare, (1 - rare) * share), rate[::-1]
    for rows in np.split(np.arange(64), 4):
        value, valid, error = entanglement_law(probs[rows], rates[rows])
        found = compiled.entanglement()(probs[rows], rates[rows])
        off = np.expm1(found["log_time"] - value)[valid]
        assert np.all(np.abs(off) < 0.4)
        assert np.all(np.abs(off - error[valid]) < 0.15)
        small = np.abs(error[valid]) < 0.02
        np.testing.assert_allclose(off[small], error[valid][small], rtol=0.2, atol=1e-3)
        assert np.all(found["regime"][valid] == qra.Regime.ENTANGLED)


# Probabilities, rates, the law for log T0, whether it is valid.
RANGE = {
    "check case": (*CHECK, math.log(87.5), True),
    "padded": ((0.05, 0.0, 0.70, 0.25), (0.9, 0.8, 0.7, 0.1), math.log(87.5), True),
    "tied for second": ((1e-6, 0.5, 0.3, 0.2), (0.9, 0.6, 0.6, 0.1), -INF, False),
    "nearly tied": ((1e-6, 0.5, 0.3, 0.2), (0.9, 0.6, 0.6 - 1e-9, 0.1), None, False),
    "nearly tied, equal": ((1e-3, 0.4, 0.4, 0.199), (0.9, 0.6, 0.6 - 1e-9, 0.1), None, False),
    "tied for best": ((1e-6, 1e-6, 0.7, 0.3 - 2e-6), (0.9, 0.9, 0.6, 0.1), NAN, False),
    "a rarer pattern": ((1.8e-5, 0.7, 0.3 - 1.9e-5, 1e-6), (0.9, 0.6, 0.1, 0.3), None, False),
    "as rare": ((1e-5, 0.7, 0.3 - 2e-5, 1e-5), (0.9, 0.6, 0.1, 0.3), None, False),
    "two patterns": ((1e-9, 1 - 1e-9), (0.9, 0.4), -INF, False),
    "one pattern": ((1.0, 0.0), (0.9, 0.4), NAN, False),
    "all tied": ((0.25, 0.75), (0.5, 0.5), NAN, False),
    "strong": ((0.2, 0.3, 0.5), (0.9, 0.3, 0.2), None, False),
    "two misleading": ((1e-6, 0.1, 0.2, 0.7 - 1e-6), (0.9, 0.7, 0.6, 0.1), None, False),
    "V at second": ((0.25, 0.25, 0.5), (0.75, 0.5, 0.375), None, False),
    "best not rare": ((0.3, 0.1, 0.6), (0.9, 0.85, 0.1), None, False),
    "NaN": ((NAN, 0.5, 0.5), (0.9, 0.5, 0.1), NAN, False),
    "bad rate": ((0.05, 0.7, 0.25), (1.5, 0.7, 0.1), NAN, False),
}


@pytest.mark.parametrize("name", RANGE)
def test_range_of_the_entanglement_law(name):
    """It says where it does not hold; ties give 0, as the formula does."""
    probs, rates, expected, holds = RANGE[name]
    value, valid, error = entanglement_law(probs, rates)
    assert bool(valid) is holds
    if expected is None:
        order = np.argsort(rates)[::-1]
        expected = log_entanglement_law(np.array(probs)[order], np.array(rates)[order])
    assert value == pytest.approx(float(expected), rel=1e-6, nan_ok=True)
    assert np.isfinite(error) or not valid


def test_a_near_tie_is_far_off():
    """Why it is flagged: the law says 282 times too little, or worse, at a gap of 1e-9."""
    probs, rates, *_ = RANGE["nearly tied"]
    value, *_ = entanglement_law(probs, rates)
    found = one(compiled.entanglement(), probs, rates)
    assert found["log_time"] - value > math.log(282)


def test_nothing_overflows():
    """pi_* = 1e-300 and 1e-3000 among 1024 patterns."""
    patterns = 1024
    rates = np.append([0.9, 0.7], np.linspace(0.3, 0.1, patterns - 2))
    shares = np.append(0.5, np.full(patterns - 2, 0.5 / (patterns - 2)))
    answers = np.log(np.stack([rates, 1 - rates], axis=-1))[None]
    problem = qra.Problem(np.array([0]))
    for log10 in (-300, -3000):
        logits = np.append(log10 * math.log(10), np.log(shares))
        found = qra.laws.log_entanglement_time_law(
            qra.TabularPolicy(logits[None], answers), problem
        )
        with mpmath.workdps(30):
            probs = [mpmath.mpf(10) ** log10, *shares]
        exact = log_entanglement_law(probs, rates)
        assert found.value[0] == pytest.approx(float(exact), rel=1e-11)
        assert found.valid[0]
        assert 0 <= abs(found.relative_error[0]) < 1e-200


def test_any_constant_reward():
    """Self-certainty: the law of its own values, as the exact solution has it."""
    probs, rates = np.array([1e-6, 0.6, 0.4 - 1e-6]), np.array([0.01, 0.9, 0.6])
    policy, problem = qra.two_stage(probs, rates)
    values = -np.log(4 * rates * (1 - rates)) / 2
    found = qra.laws.log_entanglement_time_law(policy, qra.GradientFlow(qra.RLIF(), problem))
    assert found.valid[0]
    assert found.value[0] == pytest.approx(float(log_entanglement_law(probs, values)), rel=1e-12)
    exact = systems.exact_log_entanglement_time(probs, values)
    assert found.value[0] == pytest.approx(float(exact), abs=1e-5)


# Weights, gradients


def test_weights():
    """A question of weight D is one alone, with time divided by D; at weight 0 there is no law."""
    alone, *_ = laws([CHECK[0]], [CHECK[1]])
    value, valid, _ = laws([CHECK[0]] * 2, [CHECK[1]] * 2, [0.25, 0.0], 20 + math.log(4))
    expected = [*(4 * alone[0, :2]), *(alone[0, 2:] + math.log(4))]
    np.testing.assert_allclose(value[0], expected, rtol=1e-13)
    assert np.all(valid[0])
    assert not np.any(valid[1])
    assert np.all(np.isnan(value[1]))


def test_questions():
    """One after the other, each by itself, with a scalar or a number for each."""
    probs = np.array([CHECK[0], (0.2, 0.3, 0.5)])
    policy, problem = qra.two_stage(probs, np.array(CHECK[1]))
    value, valid, error = laws(probs, [CHECK[1]] * 2, 0.5, [12.0, 15.0])
    found = qra.laws.value_tail_law(policy, problem, np.array([12.0, 15.0]))
    np.testing.assert_allclose(found.value, value[:, 0], rtol=1e-14)
    np.testing.assert_allclose(found.relative_error, error[:, 0], rtol=1e-12)
    assert found.valid.tolist() == valid[:, 0].tolist()


def test_gradients():
    """Against central differences; exactly 0, never NaN, in lanes where the law has no meaning."""
    probs = [(0.02, 0.58, 0.3, 0.1), (0.25, 0.25, 0.25, 0.25), (0.0, 1.0, 0.0, 0.0), (NAN, 1, 0, 0)]
    rates = [(0.9, 0.6, 0.3, 0.1), *[(0.5, 0.5, 0.5, 0.5)] * 2, (0.9, 0.6, 0.3, 0.1)]
    by_probs, by_rates = laws(probs, rates, eps=1e-12, function=_jacobian)
    for gradient in (by_probs, by_rates):
        assert np.all(gradient[1:] == 0)
        assert np.all(np.isfinite(gradient))

    # A gradient in probabilities is meant along changes that keep their sum.
    start, rate = np.array(probs[0]), np.array(rates[0])
    along = start * (np.array([1.0, -1.0, 0.5, -0.5]) - start @ np.array([1.0, -1.0, 0.5, -0.5]))
    other = np.array([1.0, -2.0, 0.5, 1.5])
    step = 1e-5 * np.array([1, -1])[:, None]
    for rows, slope in (
        ((start + step * along, [rate, rate]), by_probs[0, :, :4] @ along),
        (([start, start], rate + step * other), by_rates[0, :, :4] @ other),
    ):
        (above, below), *_ = laws(*rows, eps=1e-12)
        np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


def test_slope_of_the_entanglement_law():
    """d log T0 / d log pi_* = -(K-1) at fixed odds of the others, up to a factor 1 + O(pi_*)."""
    for patterns in (3, 6, 12):
        probs, rates = fan(patterns, 1e-8)
        by_probs, _ = laws([probs], [rates], function=_jacobian)
        slope = by_probs[0, 3, :patterns] @ (np.eye(patterns)[0] - probs) * 1e-8
        assert slope == pytest.approx(1 - patterns, abs=1e-5)


def test_single_precision():
    """Everything that comes from a float32 policy is float32."""
    value, valid, error = laws([CHECK[0]], [CHECK[1]], log_time=12.0, dtype=np.float32)
    assert value.dtype == error.dtype == np.float32
    expected, same, known = laws([CHECK[0]], [CHECK[1]], log_time=12.0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(error, known, rtol=1e-3)
    assert np.all(valid == same)


# Tails


# Probabilities, values, n and G.
TAILS = {
    "two": ((0.3, 0.7), (0.8, 0.3), 1, 1),
    "check case": (*CHECK, 2, 1),
    "equal starts": ((0.25,) * 4, (0.9, 0.5, 0.4, 0.1), 3, 1),
    "five": ((0.1, 0.2, 0.3, 0.25, 0.15), (0.9, 0.8, 0.5, 0.3, 0.1), 4, 1),
    "unequal tie, one loses": ((0.2, 0.3, 0.5), (0.8, 0.8, 0.3), 1, 1),
    "unequal tie, two lose": ((0.2, 0.3, 0.1, 0.4), (0.8, 0.8, 0.3, 0.2), 2, 1),
    "equal tie, one loses": ((0.2, 0.2, 0.6), (0.8, 0.8, 0.3), 1, 2),
    "equal tie, two lose": ((0.2, 0.2, 0.1, 0.5), (0.8, 0.8, 0.3, 0.2), 2, 2),
    "equal tie, three lose": ((0.2, 0.2, 0.1, 0.3, 0.2), (0.8, 0.8, 0.3, 0.2, 0.1), 3, 2),
    "two lead, one ties": ((0.2, 0.2, 0.1, 0.5), (0.8, 0.8, 0.8, 0.3), 1, 2),
    "two lead, one ties, three lose": (
        (0.2, 0.2, 0.1, 0.2, 0.2, 0.1),
        (0.8, 0.8, 0.8, 0.3, 0.4, 0.5),
        *(3, 2),
    ),
}


@functools.cache
def tails():
    """Trajectories of `TAILS`: log times, and t (R_* - V) and t (1 - pi_*) along each."""
    probs = np.array([compiled.pad(np.array(p)) for p, *_ in TAILS.values()])
    rates = np.array([compiled.pad(np.array(r)) for _, r, *_ in TAILS.values()])
    log_times = compiled.log_time_rows(math.exp(8), math.exp(20))
    found = compiled.follow()(probs, rates, np.tile(log_times, (len(probs), 1)))["probs"]
    gaps = (rates.max(axis=1, keepdims=True) - rates)[:, None]
    times = np.exp(log_times)
    value, pattern = (np.sum(found * weight, axis=-1) * times for weight in (gaps, gaps > 0))
    return probs, rates, log_times, value, pattern


@pytest.mark.parametrize("kind", [0, 1])
def test_tails(kind):
    """Limit and error of both tail laws along trajectories, with ties for best of all kinds."""
    probs, rates, log_times, *followed = tails()
    for row, rtol, atol in ((-1, 0.1, 3e-8), (-8, 0.1, 1e-5)):
        value, valid, error = laws(probs, rates, log_time=log_times[row])
        assert np.all(valid[:, kind])
        off = followed[kind][:, row] / value[:, kind] - 1
        np.testing.assert_allclose(off, error[:, kind], rtol=rtol, atol=atol, err_msg=str(row))
    for i, (_, rate, n, leaders) in enumerate(TAILS.values()):
        gaps = max(rate) - np.array(rate)
        slow = (n, np.sum(1 / gaps[gaps > 0]))[kind]
        assert value[i, kind] == pytest.approx(leaders / (n + leaders) * slow, rel=1e-12)


def test_tails_in_theory():
    """(K-1)/K; (K-B)/(K-B+1) and B(K-B)/K for B tied; in the limit there is no error."""
    tied = [0.9, 0.9, 0.9, 0.3, 0.2]  # K = 5, B = 3
    starts = {
        4 / 5: ([0.1, 0.15, 0.2, 0.25, 0.3], [0.9, 0.7, 0.5, 0.3, 0.2]),
        6 / 5: ([0.2] * 5, tied),
        2 / 3: ([0.1, 0.15, 0.2, 0.25, 0.3], tied),
        0: ([0.2] * 5, [0.4] * 5),
        -1: ([0.0, 0.0, 0.0, 1.0, 0.0], tied),
    }
    value, valid, error = laws(*zip(*starts.values(), strict=True), log_time=INF)
    np.testing.assert_allclose(value[:3, 0], list(starts)[:3], rtol=1e-14)
    assert np.all(error[:3, :2] == 0)
    assert valid[:, :2].tolist() == [[True, True]] * 3 + [[False, False]] * 2
    assert np.all(np.isnan(value[3:, :2]))


def test_convergence_law():
    """T_eps ~ (1/(K eps)) sum 1/Delta, with its error; not valid early, or where already there."""
    probs = np.array([(0.4, 0.3, 0.3), (0.2, 0.3, 0.5), (0.25, 0.25, 0.5), CHECK[0], CHECK[0]])
    rates = np.array([CHECK[1], (0.8, 0.8, 0.3), (0.8, 0.8, 0.3), CHECK[1], CHECK[1]])
    eps = np.array([1e-7, 1e-9, 1e-5, 0.3, 0.97])
    value, valid, error = (x[:, 2] for x in laws(probs, rates, eps=eps))
    log_time, *_ = compiled.convergence()(probs, rates, eps)
    assert valid.tolist() == [True, True, True, False, False]
    sums = 1 / 0.2 + 1 / 0.8, 1 / 0.5, 1 / 0.5
    factors = 1 / 3, 1 / 2, 2 / 3
    for i in range(3):
        assert value[i] == pytest.approx(math.log(factors[i] * sums[i] / eps[i]), rel=1e-12)
    np.testing.assert_allclose(np.expm1(log_time - value)[:3], error[:3], rtol=0.1, atol=3e-8)


# Two patterns


def log_odds_at(start, gap, log_time):
    """delta + sinh delta = delta_0 + sinh delta_0 + gap t, by bisection in high precision."""
    with mpmath.workdps(400):
        start = mpmath.mpf(start)
        level = start + mpmath.sinh(start) + gap * mpmath.exp(mpmath.mpf(log_time))
        width = mpmath.asinh(abs(level)) + 1
        low, high = -width, width
        for _ in range(120):
            middle = (low + high) / 2
            below = middle + mpmath.sinh(middle) < level
            low, high = (middle, high) if below else (low, middle)
        return float(low)


def two(odds, rates=(0.8, 0.3)):
    """A policy of two patterns with these log odds, and its problem."""
    rates = np.array(rates)
    answers = np.log(np.stack([rates, 1 - rates], axis=-1))[None]
    return qra.TabularPolicy(jnp.array([[odds, 0.0]]), answers), qra.Problem(np.array([0]))


EXTREMES = (
    *((0.0, 0.0), (-3.0, 2.0), (1e-6, -10.0), (5.0, 30.0), (-5.0, math.log(148.0))),
    *((-40.0, 39.0), (-40.0, 41.0), (-720.0, 400.0), (-720.0, 725.0), (720.0, 3.0)),
    *((720.0, 730.0), (-1e-3, 1000.0), (3.0, -800.0), (-20.0, -INF)),
)


@functools.cache
def log_odds_engine():
    """Compiled `(log odds at the start, log time)`: value, validity and error."""

    def call(odds, log_time):
        found = qra.laws.two_pattern_log_odds(*two(odds), log_time)
        return found.value[0], found.valid[0], found.relative_error[0]

    return jax.jit(call)


@pytest.mark.parametrize(("odds", "log_time"), EXTREMES)
def test_two_pattern_log_odds(odds, log_time):
    """At any time scale, from log odds of any size."""
    value, valid, error = log_odds_engine()(odds, log_time)
    expected = odds if log_time == -INF else log_odds_at(odds, mpmath.mpf("0.5"), log_time)
    assert valid
    assert error == 0
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_two_patterns_there_and_back():
    """The time to log odds, and the log odds at that time; against the oracle where it reaches."""
    there = jax.jit(lambda odds, goal: qra.laws.log_two_pattern_time(*two(odds), goal).value[0])
    back = jax.jit(lambda odds, time: qra.laws.two_pattern_log_odds(*two(odds), time).value[0])
    for odds, goal in ((-3.0, 4.0), (0.0, 1e-9), (-1.0, -1.0 + 1e-9), (2.0, 900.0), (-12.0, -2.0)):
        log_time = there(odds, goal)
        assert back(odds, log_time) == pytest.approx(goal, rel=1e-9, abs=1e-13)
    probs = 1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))
    time, *_ = systems.two_pattern_time(probs, (0.8, 0.3), 4.0)
    assert math.exp(there(-3.0, 4.0)) == pytest.approx(time, rel=1e-13)
    assert there(-1500.0, 0.0) == pytest.approx(1500 - math.log(2) - math.log(0.5), rel=1e-14)
    assert there(1.0, 1.0) == there(1.0, -5.0) == -INF


@functools.cache
def derivatives():
    """Compiled: first and second derivatives of the log odds by those of the start and log time."""

    def found(arguments):
        return qra.laws.two_pattern_log_odds(*two(arguments[0]), arguments[1]).value[0]

    return jax.jit(lambda here: (jax.grad(found)(here), jax.hessian(found)(here)))


@pytest.mark.parametrize(("odds", "log_time"), [(-3.0, 2.0), (0.0, 0.5), (-750.0, 751.0)])
def test_two_patterns_to_second_order(odds, log_time):
    """First and second derivatives by time and start, of the implicit function."""

    gradient, hessian = derivatives()(jnp.array([odds, log_time]))
    with mpmath.workdps(400):
        delta = mpmath.mpf(log_odds_at(odds, mpmath.mpf("0.5"), log_time))
        way = mpmath.exp(mpmath.mpf(log_time)) / 2
        # With L = delta + sinh delta: d delta/dL = 1/(1 + cosh), and the second derivative.
        first = 1 / (1 + mpmath.cosh(delta))
        second = -mpmath.sinh(delta) * first**3
        slopes = 1 + mpmath.cosh(odds), way
        own = mpmath.sinh(odds), way
        for i in range(2):
            assert gradient[i] == pytest.approx(float(first * slopes[i]), rel=1e-9)
            for j in range(2):
                expected = second * slopes[i] * slopes[j] + (first * own[i] if i == j else 0)
                scale = abs(float(second * slopes[i] * slopes[j])) + abs(float(first * own[i]))
                assert hessian[i, j] == pytest.approx(float(expected), rel=1e-9, abs=1e-9 * scale)


def test_two_patterns_only():
    """Not valid for one or three; a tie or a weight of 0 keeps the odds for ever."""
    probs = [CHECK[0], (1.0, 0.0, 0.0), (0.1, 0.9, 0.0), (0.1, 0.9, 0.0), (0.1, 0.9, 0.0)]
    rates = [CHECK[1], CHECK[1], (0.8, 0.3, 0.9), (0.4, 0.4, 0.9), (0.8, 0.3, 0.9)]
    policy, problem = qra.two_stage(np.array(probs), np.array(rates))
    problem = qra.Problem(problem.correct, np.array([0.2, 0.2, 0.0, 0.3, 0.3]))
    odds = qra.laws.two_pattern_log_odds(policy, problem, 5.0)
    time = qra.laws.log_two_pattern_time(policy, problem, 0.0)
    start, own_time = -math.log(9), 5 + math.log(0.3)
    moved = float(log_odds_engine()(start, own_time)[0])
    for found, values in (
        (odds, [NAN, NAN, start, start, moved]),
        (time, [NAN, NAN, INF, INF, time.value[4]]),
    ):
        assert found.valid.tolist() == [False, False, True, True, True]
        np.testing.assert_allclose(found.value, values, rtol=1e-12)
    level = -start - math.sinh(start)
    assert time.value[4] == pytest.approx(math.log(level / 0.5 / 0.3), rel=1e-13)


# RLIF


def moments(tilt):
    """Phi's argument for R = 1 and the two correlations, by adaptive quadrature."""

    def mean(function):
        def integrand(c):
            return function(c, -math.log1p(-c * c) / 2) * (1 + tilt * c) / 2

        return sum(
            scipy.integrate.quad(integrand, *ends, epsabs=1e-11, limit=200)[0]
            for ends in ((-1, 0), (0, 1))
        )

    centre, certainty = mean(lambda c, w: c), mean(lambda c, w: w)
    slope = mean(lambda c, w: (c - centre) * (w - certainty))
    square = mean(lambda c, w: ((c - centre) * (w - certainty)) ** 2)
    by_mean = mean(lambda c, w: c * c * (w - certainty)) / math.sqrt(square / 3)
    by_count = mean(lambda c, w: abs(c) * (w - certainty)) / math.sqrt(square)
    return slope / math.sqrt(square - slope**2), by_mean, by_count


@pytest.mark.parametrize("tilt", [-0.3, 0.0, 0.1, 0.5, 1.0])
def test_rlif_rise(tilt):
    """The closed form of mu/sigma, against quadrature."""
    ratio, by_mean, by_count = moments(tilt)
    sizes = np.array([1.0, 10.0, 100.0])
    expected = scipy.stats.norm.cdf(np.sqrt(sizes) * ratio)
    np.testing.assert_allclose(qra.laws.rlif_rise_probability(sizes, tilt), expected, rtol=1e-8)
    if tilt == 0:
        for majority, correlation in (("mean", by_mean), ("count", by_count)):
            limit = 0.5 + math.asin(correlation) / math.pi
            assert qra.laws.rlif_rise_given_majority(majority) == pytest.approx(limit, rel=1e-8)


def test_rlif_in_theory():
    """The numbers that theory gives; gradients in the tilt."""
    rise = qra.laws.rlif_rise_probability(np.array([10, 100, 1000, 10_000]), 0.1)
    assert [f"{x:.4f}" for x in rise] == ["0.5385", "0.6199", "0.8329", "0.9989"]
    assert f"{qra.laws.rlif_rise_given_majority():.4f}" == "0.6768"
    assert f"{qra.laws.rlif_rise_given_majority('count'):.3f}" == "0.585"
    assert qra.laws.rlif_drop_probability(INF, 0.1) == pytest.approx(0.45, rel=1e-15)
    assert qra.laws.rlif_drop_probability(1, 0.3) == pytest.approx((1 - 0.15) / 2, rel=1e-15)
    assert qra.laws.rlif_end_above_probability(1000) == pytest.approx(0.5218, abs=5e-5)
    assert jax.grad(lambda d: qra.laws.rlif_drop_probability(10, d))(0.2) == pytest.approx(-5 / 11)
    # At tilt 0: sqrt(R) (1/9) / sigma times the normal density at 0.
    slope = math.sqrt(50) / 9 / math.sqrt(11 / 27 - math.pi**2 / 36) / math.sqrt(2 * math.pi)
    found = jax.jit(jax.grad(lambda d: qra.laws.rlif_rise_probability(50, d)))(0.0)
    assert found == pytest.approx(slope, rel=1e-12)


def test_rlif_drop_by_sampling():
    """The end below the start, R = 4 and tilt 0.5: exact for every R."""
    draws = np.random.default_rng(0).uniform(size=(200_000, 4))
    rates = 2 * draws / (0.5 + np.sqrt(0.25 + 2 * draws))
    ends = np.take_along_axis(rates, np.argmax(np.abs(rates - 0.5), axis=1)[:, None], axis=1)[:, 0]
    share = np.mean(ends < rates.mean(axis=1))
    assert qra.laws.rlif_drop_probability(4, 0.5) == pytest.approx(
        share, abs=4 * 0.5 / math.sqrt(2e5)
    )
    assert np.mean(ends == rates.min(axis=1)) == share


# Input


POLICY, PROBLEM = qra.two_stage(*map(np.array, CHECK))
WRONG_FLOWS = {
    "geometry": qra.GradientFlow(qra.RLVR(), PROBLEM, geometry=qra.Natural()),
    "trainable": qra.GradientFlow(qra.RLVR(), PROBLEM, "all"),
    "penalty": qra.GradientFlow(qra.RLVR(0.1), PROBLEM),
    "utility": qra.GradientFlow(qra.Objective(qra.Verifiable(), jnp.log), PROBLEM),
    "reward": qra.GradientFlow(qra.Objective(compiled.right_answer_prob), PROBLEM),
    "fine-tuning": qra.GradientFlow(qra.SFT(np.array([0.5, 0.5, 0.0])), PROBLEM),
}


@pytest.mark.parametrize("name", WRONG_FLOWS)
def test_flows_without_a_law(name):
    """One line that names what the law cannot do."""
    argument = {
        "geometry": "flow.geometry",
        "trainable": "flow.trainable",
        "reward": "flow.objective.reward",
    }.get(name, "flow.objective")
    calls = (
        lambda flow: qra.laws.value_tail_law(POLICY, flow),
        lambda flow: qra.laws.pattern_tail_law(POLICY, flow),
        lambda flow: qra.laws.log_convergence_time_law(POLICY, flow, 0.1),
        lambda flow: qra.laws.log_entanglement_time_law(POLICY, flow),
        lambda flow: qra.laws.two_pattern_log_odds(POLICY, flow, 1.0),
        lambda flow: qra.laws.log_two_pattern_time(POLICY, flow, 1.0),
    )
    for call in calls:
        with pytest.raises(ValueError, match=rf"^{argument} must be ") as caught:
            call(WRONG_FLOWS[name])
        assert "\n" not in str(caught.value)
        assert ", got " in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: qra.laws.value_tail_law(POLICY, PROBLEM, NAN), "log_time must be above -inf"),
        (lambda: qra.laws.pattern_tail_law(POLICY, PROBLEM, -INF), "log_time must be above -inf"),
        (lambda: qra.laws.log_convergence_time_law(POLICY, PROBLEM, 0.0), "eps must lie strictly"),
        (lambda: qra.laws.two_pattern_log_odds(POLICY, PROBLEM, INF), "log_time must be below inf"),
        (lambda: qra.laws.log_two_pattern_time(POLICY, PROBLEM, NAN), "log_odds must not be NaN"),
        (lambda: qra.laws.rlif_rise_probability(0), "num_patterns must be at least 1, got"),
        (lambda: qra.laws.rlif_drop_probability(10, 1.5), r"tilt must lie in \[-1, 1\], got"),
        (lambda: qra.laws.rlif_end_above_probability(NAN), "num_patterns must be at least 1, got"),
    ],
)
def test_values_out_of_range(call, message):
    """One line that names the argument."""
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
