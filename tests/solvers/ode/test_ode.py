"""Solves of the flow against closed forms and SciPy; clocks, order of convergence, statuses."""

import numpy as np
import pytest

import qra_jax as qra
from qra_jax.solvers.ode._ode import default_tolerance
from tests._support import compiled, systems
from tests._support.compiled import one


def two_pattern_rows(probs, rates, log_times):
    """Closed-form probabilities of two patterns, `(T, 2)`."""
    odds = systems.two_pattern_log_odds(probs, rates, np.exp(log_times))
    return np.stack([1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(odds))], axis=-1)


@pytest.mark.parametrize(
    ("probs", "rates"),
    [((0.5, 0.5), (0.9, 0.2)), ((1e-3, 0.999), (0.6, 0.55)), ((0.7, 0.3), (0.2, 0.8))],
)
def test_two_patterns(probs, rates):
    """Two patterns against the closed form to 1e-9, over six decades of time."""
    log_times = compiled.log_time_rows(1e-2, 1e4)
    found = one(compiled.follow(), probs, rates, log_times)
    expected = two_pattern_rows(probs, rates, log_times)
    np.testing.assert_allclose(found["probs"][:, :2], expected, rtol=0, atol=1e-9)
    assert not found["probs"][:, 2:].any()
    assert found["status"] == qra.Status.COMPLETED
    assert found["valid"].all()


@pytest.mark.parametrize("patterns", [3, 8])
def test_against_scipy(patterns):
    """Five random starts against DOP853 at rtol 1e-12, to 1e-8."""
    probs, rates = systems.random_problems(7 + patterns, 5, patterns)
    log_times = compiled.log_time_rows(1e-2, 1e3)
    found = compiled.follow()(probs, rates, np.tile(log_times, (5, 1)))
    for lane in range(5):
        expected = systems.euclidean_probs(probs[lane], rates[lane], np.exp(log_times))
        actual = found["probs"][lane, :, :patterns]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(
            found["accuracy"][lane], expected @ rates[lane], rtol=0, atol=1e-8
        )


def test_many_patterns_and_weighted_questions():
    """K = 64, two questions of weights 1/4 and 3/4, with default tolerances: 1e-8."""
    probs, rates = systems.random_problems(64, 2, 64)
    weights, times = np.array([0.25, 0.75]), np.geomspace(1e-2, 1e3, 12)
    policy, problem = qra.two_stage(probs, rates)
    problem = qra.Problem(problem.correct, weights)
    traj = qra.solve_flow(policy, problem, log_times=np.log(times))
    expected = np.stack(
        [systems.euclidean_probs(probs[q], rates[q], weights[q] * times) for q in range(2)],
        axis=1,
    )
    np.testing.assert_allclose(traj.pattern_probs, expected, rtol=0, atol=1e-8)
    accuracy = np.einsum("tqr,qr,q->t", expected, rates, weights)
    np.testing.assert_allclose(traj.accuracy, accuracy, rtol=0, atol=1e-8)


def test_very_long_stretches():
    """Log odds of two patterns up to a time of 1e280, where steps grow no longer than is stable."""
    probs, rates = (0.3, 0.7), (0.9, 0.2)
    log_times = np.linspace(5, 645, compiled.ROWS)
    found = one(compiled.follow(method=qra.ODE()), probs, rates, log_times)
    expected = systems.two_pattern_log_odds(probs, rates, np.exp(log_times))
    logits = found["logits"]
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], expected, rtol=0, atol=2e-9)
    assert found["status"] == qra.Status.COMPLETED


@pytest.mark.parametrize("clock", [qra.flows.Time(), qra.flows.LogTime()])
def test_other_clocks(clock):
    """Every clock follows the same trajectory; what it cannot resolve is a status, not a number."""
    engine = compiled.follow(method=qra.ODE(clock=clock, max_steps=512))
    log_times = compiled.log_time_rows(1e-2, 1e3)
    probs, rates = systems.random_problems(11, 3, 4)
    far = compiled.log_time_rows(1e30, 1e80)
    found = engine(
        np.concatenate([probs, compiled.pad(systems.rare_probs(1e-30), 4)[None]]),
        np.concatenate([rates, compiled.pad(np.array(systems.RARE_RATES), 4)[None]]),
        np.stack([log_times] * 3 + [far]),
    )
    assert found["status"][:3].tolist() == [qra.Status.COMPLETED] * 3
    for lane in range(3):
        expected = systems.euclidean_probs(probs[lane], rates[lane], np.exp(log_times))
        actual = found["probs"][lane, :, :4]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7)
    # T0 is about 1e59 here. Stalled before it, the clock must say so.
    assert found["status"][3] in (qra.Status.MAX_STEPS, qra.Status.FAILED)
    assert not found["valid"][3, -1]


def test_arc_length_passes_a_jump_at_1e59():
    """The default clock gets past T0 of about 1e59, where the others stop."""
    log_times = compiled.log_time_rows(1e30, 1e80)
    found = one(compiled.follow(), systems.rare_probs(1e-30), systems.RARE_RATES, log_times)
    t0 = systems.EXACT_T0["1e-30"]
    assert found["status"] == qra.Status.COMPLETED
    before, after = log_times < t0 - 1, log_times > t0 + 8
    assert np.all(found["probs"][before, 1] > 0.999)
    assert np.all(found["probs"][after, 0] > 0.999)


RARE = ("1e-2", "1e-4", "1e-8")


METHODS = {
    1e-4: qra.ODE(rtol=1e-4, atol=1e-4),
    1e-9: qra.ODE(),
    1e-10: qra.ODE(rtol=1e-10, atol=1e-10),
}


def errors_and_steps(method):
    """Mean error of log T0 over starts of growing rarity, and the steps taken."""
    probs = np.array([systems.rare_probs(float(r)) for r in RARE])
    found = compiled.entanglement(method=method)(probs, np.array([systems.RARE_RATES] * 3))
    exact = [systems.EXACT_T0[r] for r in RARE]
    return np.mean(np.abs(found["log_time"] - exact)), np.mean(found["num_steps"])


@pytest.mark.slow
def test_order_of_convergence():
    """Errors fall in proportion to the tolerance, and at least as Tsit5's fifth power of the step.

    (Faster, where looser tolerances already step as far as an event permits.)
    """
    errors, steps = zip(*map(errors_and_steps, METHODS.values()), strict=True)
    slope, _ = np.polyfit(np.log(list(METHODS)), np.log(errors), 1)
    assert 0.8 < slope < 1.25
    order, _ = np.polyfit(np.log(steps), np.log(errors), 1)
    assert order < -5


def test_lands_on_the_event():
    """At T0, accuracy is the second best rate to rounding, even with loose tolerances."""
    probs = np.array([systems.CHECK_PROBS, (0.2, 0.3, 0.5), (0.01, 0.6, 0.39)])
    rates = np.array([systems.CHECK_RATES, (0.8, 0.75, 0.05), (0.6, 0.5, 0.3)])
    for method in (METHODS[1e-9], METHODS[1e-4]):
        found = compiled.entanglement(method=method)(probs, rates)
        accuracy = np.sum(found["probs"][:, :3] * rates, axis=1)
        np.testing.assert_allclose(accuracy, rates[:, 1], rtol=0, atol=1e-13)


def test_tolerances_that_are_not_given():
    """1e-9 in float64 and 1e-6 in float32, whose rounding is above 1e-9."""
    tolerances = [default_tolerance(np.dtype(x)) for x in (np.float64, np.float32)]
    assert tolerances == [1e-9, 1e-6]


def test_steps_do_not_grow_with_the_time():
    """At most 300 steps at rtol 1e-10; T0 = 1e60 takes at most 1.5 x the steps of T0 = 1e15."""
    engine = compiled.entanglement(method=METHODS[1e-10])
    rare = [1e-8, 10**-30.5]
    rates = np.array([systems.RARE_RATES] * 2)
    found = engine(np.array([systems.rare_probs(r) for r in rare]), rates)
    assert found["log_time"][1] > 60 * np.log(10) - 0.5
    few, many = found["num_steps"]
    assert many <= 300
    assert many <= 1.5 * few
    # One misleading pattern among eight.
    spread = np.array([0.9, 0.6, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])
    wide = np.array([1e-6, 0.7, *np.full(6, (0.3 - 1e-6) / 6)])
    assert one(engine, wide, spread)["num_steps"] <= 300


def test_stopped_by_max_steps():
    """Five steps are not enough: MAX_STEPS, the last state repeated, rows marked invalid."""
    policy, problem = qra.two_stage(np.array(systems.CHECK_PROBS), np.array(systems.CHECK_RATES))
    log_times = np.linspace(-8, 8, 6)
    traj = qra.solve_flow(policy, problem, log_times=log_times, method=qra.ODE(max_steps=5))
    assert traj.status == qra.Status.MAX_STEPS
    assert not qra.Status(int(traj.status)).success
    assert traj.event == -1
    assert traj.num_steps == 5
    np.testing.assert_array_equal(traj.valid, log_times <= float(traj.final_log_time))
    assert traj.valid[0]
    assert not traj.valid[-1]
    last = traj.final_policy.pattern_table(problem)[0]
    np.testing.assert_allclose(traj.pattern_probs[-1], last, rtol=0, atol=1e-15)


def test_traced_bad_values_are_a_status():
    """What cannot be checked when traced ends as NaN with INVALID_INPUT, next to good lanes."""
    probs = np.array([(0.05, 0.7, 0.25), (np.nan, 0.7, 0.3), (-0.1, 0.8, 0.3), (0.5, 0.7, 0.3)])
    rates = np.tile(systems.CHECK_RATES, (4, 1))
    probs, rates = np.concatenate([probs, probs[:1]]), np.concatenate([rates, rates[:1]])
    rates[4, 0] = 1.2
    log_times = np.tile(compiled.log_time_rows(1e-2, 1e3), (5, 1))
    found = compiled.follow()(probs, rates, log_times)
    assert found["status"].tolist() == [qra.Status.COMPLETED] + [qra.Status.INVALID_INPUT] * 4
    assert not found["valid"][1:].any()
    assert np.isnan(found["logits"][1:, :, :3]).all()
    expected = systems.euclidean_probs(probs[0], rates[0], np.exp(log_times[0]))
    np.testing.assert_allclose(found["probs"][0, :, :3], expected, rtol=0, atol=1e-8)
    times = compiled.entanglement()(probs, rates)
    assert times["status"].tolist() == [qra.Status.EVENT] + [qra.Status.INVALID_INPUT] * 4
    assert np.isnan(times["log_time"][1:]).all()
    assert times["regime"].tolist() == [qra.Regime.ENTANGLED] + [-1] * 4


def test_invariants_of_the_flow():
    """Logit sum and pairwise lines of x_i = exp(-theta_i) hold along the trajectory."""
    probs, rates = np.array([0.2, 0.5, 0.3]), np.array([0.8, 0.6, 0.1])
    log_times = compiled.log_time_rows(1e-2, 1e2)
    theta = one(compiled.follow(), probs, rates, log_times)["logits"][:, :3]
    start = np.log(probs)
    np.testing.assert_allclose(theta.sum(axis=1), start.sum(), rtol=0, atol=1e-8)
    x, x0 = np.exp(-theta), np.exp(-start)
    moved = (x[:, 0] - x[:, 1]) - (x0[0] - x0[1]), (x[:, 0] - x[:, 2]) - (x0[0] - x0[2])
    # tau from one pair, then the line of the other.
    tau = -moved[0] / (rates[0] - rates[1])
    assert np.all(np.diff(tau) > 0)
    scale = np.maximum(1, np.abs(moved[1]))
    np.testing.assert_allclose(moved[1] / scale, -(rates[0] - rates[2]) * tau / scale, atol=1e-8)
    # And d tau / dt = 1 / sum 1/x, integrated by the trapezoidal rule on a log grid.
    speed = np.exp(log_times) / (1 / x).sum(axis=1)
    rise = np.trapezoid(speed, log_times)
    assert tau[-1] - tau[0] == pytest.approx(rise, rel=2e-2)


# Without the answers it is a point of rest of `tests/objectives/test_regularisers.py` too.
@pytest.mark.parametrize(
    "make_flow", [pytest.param(compiled.kl_patterns, marks=pytest.mark.slow), compiled.kl_all]
)
def test_kl_flows_stop_at_the_optimum(make_flow):
    """Both optima of Prop. 5.2, from the formulas, to 1e-6; the solve ends at rest."""
    probs = np.array([systems.CHECK_PROBS, (0.2, 0.3, 0.5), (0.1, 0.5, 0.4)])
    rates = np.array([systems.CHECK_RATES, (0.55, 0.5, 0.3), (0.9, 0.2, 0.1)])
    found, optimum = compiled.rest(make_flow)(probs, rates)
    if make_flow is compiled.kl_patterns:
        beta = 0.1
        weights, final_rates = probs * np.exp(rates / beta), rates
    else:
        beta = 0.5
        weights = probs * (1 + np.expm1(1 / beta) * rates)
        final_rates = 1 / (1 + (1 / rates - 1) * np.exp(-1 / beta))
    expected = weights / weights.sum(axis=1, keepdims=True)
    assert found["status"].tolist() == [qra.Status.STATIONARY] * 3
    for policy in (found["final_policy"], optimum):
        logits = np.asarray(policy.pattern_logits)[:, 0, :3]
        actual = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
        answers = np.asarray(policy.answer_logits)[:, 0, :3]
        actual = 1 / (1 + np.exp(answers[..., 1] - answers[..., 0]))
        np.testing.assert_allclose(actual, final_rates, rtol=0, atol=1e-6)


def test_natural_gradient_closed_form():
    """pi(t) proportional to pi(0) exp(R t)."""
    probs, rates = systems.random_problems(21, 2, 5)
    log_times = compiled.log_time_rows(1e-2, 1e2)
    engine = compiled.follow(compiled.natural)
    found = engine(probs, rates, np.tile(log_times, (2, 1)))
    for lane in range(2):
        for row in (0, 10, -1):
            expected = systems.natural_probs(probs[lane], rates[lane], np.exp(log_times[row]))
            actual = found["probs"][lane, row, :5]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
