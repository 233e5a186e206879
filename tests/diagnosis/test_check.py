"""The check of logs: against SciPy's flow, and on counts that are exactly those of a departure."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

import experiments
import qra_jax as qra
from qra_jax.diagnosis import LEVEL, Logs, Solver, check_logs_of
from qra_jax.diagnosis._check import _Forms, _levels, rate_changes
from qra_jax.diagnosis._log_fit import Problem

PROBS, RATES, SCALE = np.array([0.1, 0.6, 0.3]), np.array([0.8, 0.5, 0.1]), 0.05
STEPS = np.arange(50.0, 1001, 50)
BASE = 2000.0


def shares_of(clock, drift=0.0):
    """The flow by SciPy at times scale x clock, success rates moving by `drift` over 1,000."""

    def field(t, theta):
        pi = np.exp(theta - theta.max())
        pi /= pi.sum()
        now = RATES + drift * t / 1000
        return SCALE * pi * (now - pi @ now)

    found = integrate.solve_ivp(
        field, (0, max(clock)), np.log(PROBS), t_eval=clock, rtol=1e-9, atol=1e-10
    )
    weights = np.exp(found.y.T - found.y.T.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def checked(shares, rates=RATES, number=256.0, clock=STEPS, **more):
    """Expected counts as if they were observed: the model's own fit nearly exactly."""
    samples = number * shares
    logs = Logs(STEPS, np.asarray(clock, float), samples, samples * rates)
    settings = {"scale_range": (1e-4, 1e2)} | more
    return check_logs_of(
        Solver.of(qra.RLVR(), 0.1), BASE * PROBS, BASE * PROBS * RATES, logs, **settings
    )


def test_the_flow_itself_is_found():
    """Shares and accuracy of the best fit are those of the run; nothing is refuted."""
    found = checked(shares_of(STEPS))
    assert found.chance > 0.9
    assert found.refuted == ()
    assert found.drifting == ()
    np.testing.assert_allclose(found.expected_shares, shares_of(STEPS), atol=2e-3)
    np.testing.assert_allclose(found.expected_accuracy, shares_of(STEPS) @ RATES, atol=2e-3)
    np.testing.assert_allclose(found.accuracy, shares_of(STEPS) @ RATES)


def test_rates_that_drift():
    """By .15 over the run, up or down; their trend is told."""
    for drift in (-0.09, 0.15):
        moved = RATES + drift * STEPS[:, None] / 1000
        found = checked(shares_of(STEPS, drift), moved)
        assert "rates" in found.refuted
        assert "clock" not in found.refuted
        first, last = found.changes[0].first, found.changes[0].last
        assert first[0] / first[1] == pytest.approx(0.8)
        assert last[0] / last[1] == pytest.approx(0.8 + drift * 0.85, abs=0.02)
        assert np.sign(found.changes[0].trend) == np.sign(drift)
        assert 0 in found.drifting


def test_clock_that_changes():
    """Half the speed from the middle on; the same cumulated rate, given as the clock, is no
    departure."""
    clock = np.minimum(STEPS, 500) + np.maximum(STEPS - 500, 0) * 0.2
    found = checked(shares_of(clock))
    assert "clock" in found.refuted
    assert "rates" not in found.refuted
    assert checked(shares_of(clock), clock=clock).chance > 0.9


def test_scale_that_is_known_and_wrong():
    """A learning rate that is three times that of the run."""
    assert checked(shares_of(STEPS), scale_range=(SCALE, SCALE)).chance > 0.9
    found = checked(shares_of(STEPS), scale_range=(3 * SCALE, 3 * SCALE))
    assert "clock" in found.refuted


def test_collapse():
    """Into a pattern that is hardly ever right, against the rewards."""
    shares = shares_of(STEPS)
    share = 0.9 / (1 + np.exp(-(STEPS - 600) / 40))[:, None]
    found = checked((1 - share) * shares + share * np.array([0, 0, 1.0]))
    assert found.chance < 0.01
    assert found.chance == min(found.chances.values())


def test_training_noise_is_no_departure():
    """Shares that wander as noisy runs do: refuted without the noise, not with it."""
    rng, plain = np.random.default_rng(0), shares_of(STEPS)

    def wander(number):
        walk = np.cumsum(rng.normal(0, 0.12, (number, len(STEPS), 3)), axis=1)
        logits = np.log(plain) + walk
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    one = wander(1)[0]
    assert checked(one, number=2000.0).refuted
    found = checked(one, number=2000.0, noisy=lambda *of: wander(199))
    assert not found.refuted


def test_many_logs_are_added_up():
    """150 logs as 50 rows; every sample counts."""
    rng = np.random.default_rng(1)
    samples = rng.integers(1, 9, (150, 2)).astype(float)
    steps = np.arange(1.0, 151)
    found = Logs(steps, steps**2, samples, samples / 2).merged(60)
    np.testing.assert_array_equal(found.steps, np.arange(2.0, 150, 3))
    np.testing.assert_array_equal(found.samples, samples.reshape(50, 3, 2).sum(axis=1))
    np.testing.assert_array_equal(found.correct, found.samples / 2)
    clocks = (steps**2).reshape(-1, 3)
    np.testing.assert_allclose(found.clock, clocks.mean(axis=1))
    np.testing.assert_allclose(found.spread, clocks.std(axis=1))


def test_added_logs_are_means_over_their_steps():
    """20 logs a row about a fast transition: the mean of the flow at all of them, no alarm."""
    steps = np.arange(1.0, 941)
    shares = shares_of(steps)
    logs = Logs(steps, steps, 2000 * shares, 2000 * shares * RATES)
    found = check_logs_of(
        Solver.of(qra.RLVR(), 0.1), 1e5 * PROBS, 1e5 * PROBS * RATES, logs, scale_range=(1e-4, 1e2)
    )
    means = shares.reshape(47, 20, 3).mean(axis=1)
    np.testing.assert_allclose(found.expected_shares, means, atol=2e-4)
    assert found.chance > 0.9


def test_trend_of_two_counts():
    """With one log the trend is that of two proportions, and its chance Fisher's (mid-p); of very
    many samples that of the normal law."""
    logs = Logs(np.array([100.0]), np.array([100.0]), np.array([[380.0]]), np.array([[54.0]]))
    (change,) = rate_changes(np.array([300.0]), np.array([60.0]), logs)
    mean = 114 / 680
    error = np.sqrt(mean * (1 - mean) * (1 / 300 + 1 / 380))
    assert change.trend == pytest.approx((54 / 380 - 60 / 300) / error)
    exact = stats.hypergeom(680, 114, 380)
    assert change.chance == pytest.approx(exact.cdf(53) + exact.pmf(54) / 2, abs=0.005)
    assert (change.first, change.last) == ((60, 300), (54, 380))
    many = logs._replace(samples=logs.samples * 1e4, correct=logs.correct * 1e4)
    (change,) = rate_changes(np.array([3e6]), np.array([5.9e5]), many)
    assert change.chance == pytest.approx(stats.norm.sf(abs(change.trend)))


def test_trends_of_few_samples():
    """None right of 8 and then 1 of 2 is no trend; nor are no samples at all."""
    logs = Logs(np.array([9.0]), np.array([9.0]), np.array([[2.0, 0, 40]]), np.array([[1.0, 0, 0]]))
    few, none, never = rate_changes(np.array([8.0, 0, 50]), np.array([0.0, 0, 0]), logs)
    assert few.trend > 2
    assert few.chance == pytest.approx(0.1, abs=0.01)  # 2 of 10 places, half of what ties
    assert none.chance == pytest.approx(0.5)
    assert never.chance == pytest.approx(0.5, abs=0.01)


def test_levels_of_equal_values():
    """Nothing is extreme among equals."""
    np.testing.assert_allclose(_levels(np.zeros(10)), 1)
    np.testing.assert_allclose(_levels(np.array([3.0, 1, 2, 3])), [0.5, 1, 0.75, 0.5])


def test_what_is_refuted():
    """Below the level, by name."""
    found = checked(shares_of(STEPS))
    other = dataclasses.replace(found, chances={"clock": LEVEL, "rates": LEVEL - 1e-9})
    assert other.refuted == ("rates",)


def test_stored_study():
    """Alarms on the model itself in at most 5 % of runs, and the power that the docs tell."""
    path = Path(experiments.__file__).parent / "data" / "log_check.json"
    stored = json.loads(path.read_text())
    assert stored["level"] == LEVEL
    for each in stored["intervals"].values():
        own = each["kinds"]["the model itself"]
        assert own["alarms"] <= 0.05 * own["runs"]


def test_directions_of_a_clock_that_slows():
    """From step c on a little slower: what that does to the expected counts, by SciPy."""
    samples = 256.0 * shares_of(STEPS)
    logs = Logs(STEPS, STEPS, samples, samples * RATES)
    solver = Solver.of(qra.RLVR(), 0.1)
    problem = Problem(
        solver, BASE * PROBS, BASE * PROBS * RATES, logs, Logs.none(1), (1.0, 1.0, 1.0), False
    )
    at = np.concatenate([np.log(PROBS), np.log(RATES / (1 - RATES)), [np.log(SCALE)]])
    point = problem.at(at)
    weights = problem.weights(point.shares, RATES)
    forms = _Forms(problem, point, logs, Logs.none(1), weights).all_of()["clock"]
    slower = 0.02
    for form, start in ((forms[0], 50.0), (forms[5], STEPS[8])):
        clock = STEPS - slower * np.maximum(STEPS - start, 0)
        change = 256 * (shares_of(STEPS) - shares_of(clock)) / slower * weights[0][1:]
        found = form.reshape(2, len(STEPS) + 1, 3)
        np.testing.assert_array_equal(found[1], 0)
        np.testing.assert_allclose(found[0, 1:], change, atol=0.05 * np.abs(change).max())


def by_accuracy(accuracy, steps=STEPS, number=256.0, logs=None, **more):
    """Expected right answers of logs without patterns."""
    right = number * accuracy[:, None]
    plain = Logs(steps, steps, np.full_like(right, number), right)
    settings = {"scale_range": (1e-4, 1e2)} | more
    solver = Solver.of(qra.RLVR(), 0.1)
    return check_logs_of(solver, BASE * PROBS, BASE * PROBS * RATES, logs, plain=plain, **settings)


def test_accuracy_alone():
    """Without patterns the accuracy of the flow fits; one that rises and falls does not, and
    nothing else is named as refuted."""
    found = by_accuracy(shares_of(STEPS) @ RATES)
    assert found.chance > 0.9
    np.testing.assert_allclose(found.expected_accuracy, shares_of(STEPS) @ RATES, atol=2e-3)
    assert (found.with_patterns, found.without_patterns) == (0, len(STEPS))
    assert np.isnan(found.pattern_shares).all()
    np.testing.assert_allclose(found.expected_shares, shares_of(STEPS), atol=0.02)
    assert 0.1 < found.least_drift < 0.3
    falling = shares_of(STEPS) @ RATES - np.where(STEPS > 700, 0.15, 0)
    found = by_accuracy(falling)
    assert found.refuted == ("accuracy",)
    assert set(found.chances) == {"accuracy"}
    assert found.changes == found.drifting == ()
    # What a slower clock may explain is not refuted: rates that all fall by .25.
    assert by_accuracy(shares_of(STEPS) @ RATES - 0.25 * STEPS / 1000).refuted == ()
    np.testing.assert_allclose(found.accuracy, falling)


def test_some_logs_without_patterns():
    """Both kinds count, in the order of their steps; what refutes the model may lie in either."""
    shares, late = shares_of(STEPS), STEPS > 300
    steps = STEPS[~late]
    samples = 256 * shares[~late]
    logs = Logs(steps, steps, samples, samples * RATES)
    accuracy = shares[late] @ RATES
    found = by_accuracy(accuracy, STEPS[late], logs=logs)
    assert found.chance > 0.9
    np.testing.assert_array_equal(found.steps, STEPS)
    assert (found.with_patterns, found.without_patterns) == (6, 14)
    np.testing.assert_array_equal(np.isnan(found.pattern_shares).all(axis=1), late)
    np.testing.assert_allclose(found.expected_accuracy, shares @ RATES, atol=3e-3)
    assert "accuracy" in by_accuracy(accuracy - 0.15, STEPS[late], logs=logs).refuted
    moved = logs._replace(correct=samples * (RATES + np.repeat([0, 0.2], 3)[:, None]))
    assert "rates" in by_accuracy(accuracy, STEPS[late], logs=moved).refuted
    # Rows before and after one another: steps without patterns may lie between the others.
    even = np.arange(len(STEPS)) % 2 == 0
    samples = 256 * shares[even]
    logs = Logs(STEPS[even], STEPS[even], samples, samples * RATES)
    found = by_accuracy(shares[~even] @ RATES, STEPS[~even], logs=logs)
    assert found.chance > 0.9
    np.testing.assert_array_equal(found.steps, STEPS)
    np.testing.assert_allclose(found.accuracy, shares @ RATES)


def test_many_logs_without_patterns():
    """More than there are rows are added up, beside those with patterns."""
    steps = np.arange(5.0, 1001, 5)
    shares = shares_of(steps)
    even = np.arange(len(steps)) % 2 == 0
    samples = 64 * shares[even]
    logs = Logs(steps[even], steps[even], samples, samples * RATES)
    found = by_accuracy(shares[~even] @ RATES, steps[~even], 64.0, logs)
    assert len(found.steps) <= 47
    assert found.chance > 0.9
    assert (found.with_patterns, found.without_patterns) == (100, 100)


def test_least_departures_shrink_with_the_counts():
    """Four times as many samples everywhere show half as much."""
    number = 128.0
    found = checked(shares_of(STEPS), number=number)
    assert 0.03 < found.least_drift < 0.15
    assert np.isfinite(found.least_slowing)
    more = check_logs_of(
        Solver.of(qra.RLVR(), 0.1), 4 * BASE * PROBS, 4 * BASE * PROBS * RATES,
        Logs(STEPS, STEPS, 4 * number * shares_of(STEPS), 4 * number * shares_of(STEPS) * RATES),
        scale_range=(1e-4, 1e2),
    )  # fmt: skip
    assert more.least_drift == pytest.approx(found.least_drift / 2, rel=0.02)
    assert more.least_slowing == pytest.approx(found.least_slowing / 2, rel=0.05)


@pytest.mark.slow
def test_least_departures_are_found_in_nine_of_ten():
    """A drift of that size: alarms in about as many simulated runs or more; of a fifth, in few."""
    rng, number = np.random.default_rng(4), 128.0
    found = checked(shares_of(STEPS), number=number)
    spread = np.mean(shares_of(STEPS) @ (RATES * (1 - RATES)))
    alarms = []
    for size in (1.0, 0.2):
        logits = np.log(RATES / (1 - RATES)) + size * found.least_drift / spread * (
            STEPS[:, None] / 1000
        )
        chances = []
        for _ in range(12):
            samples = rng.multinomial(int(number), shares_of(STEPS)).astype(float)
            right = rng.binomial(samples.astype(int), 1 / (1 + np.exp(-logits))).astype(float)
            run = check_logs_of(
                Solver.of(qra.RLVR(), 0.1), BASE * PROBS, BASE * PROBS * RATES,
                Logs(STEPS, STEPS, samples, right), scale_range=(1e-4, 1e2),
            )  # fmt: skip
            chances.append(run.chance)
        alarms.append(np.sum(np.array(chances) < LEVEL))
    assert alarms[0] >= 9
    assert alarms[1] <= 3
