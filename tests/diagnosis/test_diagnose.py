"""Diagnoses: against the exact solver, NumPy, SciPy, enumeration, and simulated truths."""

import functools
import itertools
import json
import math
import re

import numpy as np
import pytest
from scipy import integrate, stats

import qra_jax as qra
from experiments.maps.calibration.compute import Calibration
from experiments.maps.calibration.coverage import calibration_error, covered
from qra_jax.diagnosis import Diagnosis, TrainingRun, band, diagnose, forecast_run
from qra_jax.diagnosis._rlif import Rewards, contest, internal_rewards, risk
from qra_jax.diagnosis._solve import Tables

PROBS, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
REAL = np.array([412, 383, 5]), np.array([373, 350, 5])


def counts_of(probs, rates, number):
    """Counts of exactly these shares and rates."""
    samples = np.round(np.asarray(probs) * number)
    return samples, np.round(samples * np.asarray(rates))


@functools.cache
def certain() -> Diagnosis:
    """The check case from so many rollouts that nothing is left open, with its learning rate."""
    run = TrainingRun(200, learning_rate=0.5)
    return diagnose(counts_of(PROBS, RATES, 1e13), draws=99, run=run)


@functools.cache
def real() -> Diagnosis:
    """A measured base model, of which one pattern has five samples."""
    return diagnose(REAL, draws=1999)


def test_point_mass_is_the_exact_solver():
    """Times, regime, gamma and forecast of the check case."""
    found = certain()
    policy, problem = qra.two_stage(PROBS, RATES)
    np.testing.assert_array_equal(found.regime.probs, [[0, 1, 0]])
    assert found.regime.gamma.median[0] == pytest.approx((0.05 + 0.25) / 0.05, rel=1e-4)
    for name, exact in (
        ("log_entanglement_time", math.log(94.30486)),
        ("log_convergence_time", float(qra.log_convergence_time(policy, problem, 0.1)[0])),
    ):
        times = getattr(found.rlvr, name)
        for value in vars(times.band).values():
            assert value[0] == pytest.approx(exact, abs=1e-4)
        assert times.at_once[0] == times.never[0] == times.failed[0] == 0
    assert np.isnan(found.rlvr.log_convergence_if_strong.median).all()
    np.testing.assert_array_equal(found.regime.best_probs, [[1, 0, 0]])
    np.testing.assert_array_equal(found.regime.misleading_probs, [[0, 1, 0]])
    path = qra.solve_flow(policy, problem, log_times=found.rlvr.forecast.log_times)
    np.testing.assert_allclose(found.rlvr.forecast.accuracy.median, path.accuracy, atol=1e-4)
    np.testing.assert_allclose(
        found.rlvr.forecast.pattern_shares.high, path.pattern_probs[:, 0], atol=1e-4
    )
    assert found.rlvr.forecast.end_accuracy.median == pytest.approx(0.9, abs=1e-5)
    assert found.start.accuracy.median == pytest.approx(PROBS @ RATES, abs=1e-5)
    assert found.open_points == ()
    ks = found.rlvr.pass_at_k.k
    np.testing.assert_allclose(found.rlvr.pass_at_k.after.median, 1 - 0.1**ks, atol=1e-5)
    start = 1 - (1 - PROBS @ RATES) ** ks
    np.testing.assert_allclose(found.rlvr.pass_at_k.before.median, start, atol=1e-5)


def test_steps_at_a_known_learning_rate():
    """The flow at learning rate times steps."""
    found = certain().rlvr.step_forecast
    assert found is not None
    policy, problem = qra.two_stage(PROBS, RATES)
    exact = qra.solve_flow(policy, problem, log_times=np.log(0.5 * found.steps[1:]))
    np.testing.assert_allclose(found.accuracy.median[1:], exact.accuracy, atol=2e-3)
    assert found.accuracy.median[0] == pytest.approx(PROBS @ RATES, abs=1e-5)
    assert np.exp(found.log_scale.low) == pytest.approx(0.5)


def test_regimes_by_plain_monte_carlo():
    """Regime and pattern probabilities of a measured model, from NumPy's own draws."""
    rng, number = np.random.default_rng(1), 400_000
    samples, correct = REAL
    probs = rng.dirichlet(samples + 1, number)
    rates = rng.beta(correct + 1, samples - correct + 1, (number, 3))
    value = np.sum(probs * rates, axis=1)
    ordered = np.sort(rates, axis=1)
    found, draws = real(), real().settings.draws
    best = np.argmax(rates, axis=1)
    between = (rates > value[:, None]) & (np.arange(3) != best[:, None])
    for mine, exact in (
        (found.regime.probs[0, 0], np.mean(value > ordered[:, 1])),
        *zip(
            found.regime.best_probs[0], np.mean(best[:, None] == np.arange(3), axis=0), strict=True
        ),
        *zip(found.regime.misleading_probs[0], between.mean(axis=0), strict=True),
    ):
        assert stats.binomtest(round(mine * draws), draws, exact).pvalue > 1e-4
    assert found.regime.probs.sum() == pytest.approx(1)


def test_best_pattern_by_quadrature():
    """P(the rarest pattern is the best): an integral over its beta density."""
    samples, correct = REAL
    betas = [stats.beta(k + 1, n - k + 1) for n, k in zip(samples, correct, strict=True)]
    exact, _ = integrate.quad(
        lambda p: betas[2].pdf(p) * betas[0].cdf(p) * betas[1].cdf(p), 0, 1, points=[0.9]
    )
    found = real()
    draws = found.settings.draws
    rarest = round(found.regime.best_probs[0, 2] * draws)
    assert stats.binomtest(rarest, draws, exact).pvalue > 1e-4


def test_few_samples_are_named():
    """The report must say that five samples decide it, and how many more would settle it."""
    found = real()
    (line,) = (x for x in found.limits if "'2'" in x)
    assert "5 samples" in line
    assert {point.about for point in found.open_points} == {"regime", "convergence time"}
    regime, time = found.open_points
    assert regime.measure == pytest.approx(found.regime.probs.max())
    ends = found.rlvr.log_convergence_time.overall
    width = np.maximum(ends.high, 0) - np.maximum(ends.low, 0)
    assert time.measure == pytest.approx(width[0] / math.log(10))
    assert (regime.tried, time.tried) == (1023 * 800, 1023 * 800)
    assert any("goes unseen" in x for x in found.limits)


def test_time_scale_is_recovered():
    """Logs of the exact flow at a rate of 0.3: the rate, and the rest of the run."""
    policy, problem = qra.two_stage(PROBS, RATES)
    steps = np.array([20, 60, 100])
    exact = qra.solve_flow(policy, problem, log_times=np.log(0.3 * np.append(steps, 500)))
    right = np.asarray(exact.accuracy[:3]) * 20_000
    logged = np.stack([steps, right, np.full(3, 20_000)], axis=1)
    posterior = qra.posteriors.pooled_posterior(*counts_of(PROBS, RATES, 1e8))
    found = forecast_run(posterior, TrainingRun(500, logged=logged), draws=99)
    low, high = np.exp(found.log_scale.low), np.exp(found.log_scale.high)
    assert low < 0.3 < high < 1.5 * low
    assert found.accuracy.low[-1] - 2e-3 < exact.accuracy[-1] < found.accuracy.high[-1] + 2e-3
    assert found.accuracy.high[-1] - found.accuracy.low[-1] < 0.1


@pytest.mark.slow
def test_training_noise_fades_with_the_batch():
    """Trained in huge batches, draws follow the flow."""
    posterior = qra.posteriors.pooled_posterior(*counts_of(PROBS, RATES, 1e8))
    sampler = qra.SampledGroups(4, batch=10**8)
    run = TrainingRun(60, learning_rate=0.1, sampler=sampler, particles=100)
    quiet = forecast_run(posterior, run, draws=99)
    policy, problem = qra.two_stage(PROBS, RATES)
    objective = qra.Objective(qra.Verifiable(), utility=qra.GRPO(4))
    flow = qra.GradientFlow(objective, problem)
    exact = qra.solve_flow(policy, flow, log_times=np.log(0.1 * quiet.steps[1:]))
    np.testing.assert_allclose(quiet.accuracy.median[1:], exact.accuracy, atol=2e-3)
    assert np.max(quiet.accuracy.high - quiet.accuracy.low) < 1e-3


def test_logs_move_a_noisy_forecast():
    """With a sampler too, logs find the scale."""
    posterior = qra.posteriors.pooled_posterior(*counts_of(PROBS, RATES, 1e8))
    policy, problem = qra.two_stage(PROBS, RATES)
    objective = qra.Objective(qra.Verifiable(), utility=qra.GRPO(4))
    flow = qra.GradientFlow(objective, problem)
    exact = qra.solve_flow(policy, flow, log_times=np.log(0.1 * np.array([30.0, 60.0])))
    logged = [[30, 50_000 * float(exact.accuracy[0]), 50_000]]
    sampler = qra.SampledGroups(4, batch=10**6)
    run = TrainingRun(60, logged=np.array(logged), sampler=sampler, particles=100)
    found = forecast_run(posterior, run, draws=99)
    assert np.exp(found.log_scale.median) == pytest.approx(0.1, rel=0.1)
    assert found.accuracy.median[-1] == pytest.approx(float(exact.accuracy[1]), abs=0.02)


# With a sampler the same is asked of rates one and zero below.
@pytest.mark.parametrize(
    "sampler", [None, pytest.param(qra.SampledGroups(4, batch=10**6), marks=pytest.mark.slow)]
)
def test_logged_patterns_find_the_scale_of_an_entangled_start(sampler):
    """On the plateau the accuracy says little of the scale, the patterns of the same samples do."""
    probs, rates = np.array([0.001, 0.2, 0.799]), np.array([0.9, 0.5, 0.48])
    posterior = qra.posteriors.pooled_posterior(*counts_of(probs, rates, 1e8))
    policy, problem = qra.two_stage(probs, rates)
    objective = qra.RLVR() if sampler is None else qra.Objective(
        qra.Verifiable(), utility=sampler.utility
    )  # fmt: skip
    flow = qra.GradientFlow(objective, problem)
    exact = qra.solve_flow(policy, flow, log_times=np.log([200.0, 4000.0]))
    right, samples = 500 * float(exact.accuracy[0]), 500.0
    logged = np.array([[20, right, samples]])
    used = samples * np.asarray(exact.pattern_probs[:1, 0])
    widths = []
    for patterns in (None, used):
        run = TrainingRun(
            400, logged=logged, logged_patterns=patterns, sampler=sampler, particles=400
        )
        scale = forecast_run(posterior, run, draws=199).log_scale
        assert scale.low < np.log(10) < scale.high
        widths.append(scale.high - scale.low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("sampler", [None, qra.SampledGroups(4, batch=10**6)])
def test_logged_patterns_of_rates_one_and_zero(sampler):
    """Where one pattern is always right and the other never, logs of patterns are logs of right
    answers: the same forecast."""
    posterior = qra.posteriors.pooled_posterior(
        *counts_of(np.array([0.3, 0.7]), np.array([1.0, 0.0]), 1e9)
    )
    logged = np.array([[10, 40.0, 100], [20, 60, 100]])
    used = np.stack([logged[:, 1], 100 - logged[:, 1]], axis=1)
    one, other = (
        forecast_run(
            posterior,
            TrainingRun(60, logged=logged, logged_patterns=x, sampler=sampler, particles=200),
            draws=99,
        )
        for x in (None, used)
    )
    np.testing.assert_allclose(one.log_scale.median, other.log_scale.median, atol=1e-3)
    np.testing.assert_allclose(one.accuracy.median, other.accuracy.median, atol=1e-3)


def rollouts_with(confidence=None, answer=None, answers=(), **others):
    """Two patterns, one question: 40 rollouts of each, half and three quarters right."""
    pattern = np.repeat([0, 1], 40)
    correct = np.concatenate([np.arange(40) % 2 == 0, np.arange(40) % 4 != 0])
    return qra.Rollouts(
        ("q",), ("a", "b"), np.zeros(80, int), pattern, correct,
        confidence=confidence, answer=answer, answers=answers, **others,
    )  # fmt: skip


def test_rlif_of_two_patterns():
    """P(the more confident pattern is the worse): a normal difference of means, by SciPy."""
    rng = np.random.default_rng(6)
    confidence = rng.normal(np.repeat([0.1, 0.0], 40), 0.3)
    found = diagnose(rollouts_with(confidence), draws=1999).rlif
    assert found is not None
    first, second = confidence[:40], confidence[40:]
    deviation = math.sqrt((first.var() * 40 + second.var() * 40) / 78)
    exact = stats.norm.cdf((first.mean() - second.mean()) / (deviation * math.sqrt(2 / 40)))
    assert stats.binomtest(round(found.selects[0] * 1999), 1999, exact).pvalue > 1e-4
    # a is right half of the time, b in three cases of four: selecting a ends below the start.
    assert abs(found.ends_below_start - exact) < 0.05
    assert found.reward == "confidence"
    assert found.rollouts == 80


def test_rlif_by_agreement():
    """Without confidence: who agrees with the majority answer."""
    # b always gives answer 1; a gives it in one case of ten.
    answer = np.concatenate([np.where(np.arange(40) % 10 == 0, 1, 0), np.ones(40, int)])
    found = diagnose(rollouts_with(None, answer, ("x", "y")), draws=99).rlif
    assert found is not None
    assert found.reward.startswith("agreement")
    np.testing.assert_array_equal(found.selects, [0, 1])
    assert found.ends_below_start < 0.05
    assert diagnose(rollouts_with(), draws=99).rlif is None


def test_rewards_are_compared_within_questions():
    """Against NumPy's least squares with a column for every question and pattern."""
    rng = np.random.default_rng(7)
    question, pattern = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    reward = question * 2.0 + pattern * 0.5 + rng.normal(size=60)
    times = rng.integers(1, 4, 60)
    found = contest(Rewards("x", question, pattern, reward, times), 5, 3)
    whole = [np.repeat(x, times) for x in (question, pattern, reward)]
    design = np.concatenate(
        [whole[0][:, None] == np.arange(5), whole[1][:, None] == np.arange(1, 3)], axis=1
    ).astype(float)
    fitted, squares, *_ = np.linalg.lstsq(design, whole[2])
    np.testing.assert_allclose(found.mean[1:] - found.mean[0], fitted[5:], rtol=1e-9)
    covariance = squares[0] / (len(design) - 7) * np.linalg.inv(design.T @ design)[5:, 5:]
    change = np.array([[-1.0, 1, 0], [-1, 0, 1]])
    np.testing.assert_allclose(change @ found.covariance @ change.T, covariance, rtol=1e-9)
    assert found.compared == "within questions"
    # One pattern a question: nothing to compare within.
    apart = contest(Rewards("x", pattern, pattern, reward, times), 3, 3)
    assert apart.compared == "over all"


def test_risk_of_rlif_weighs_questions():
    """RLIF takes the confident pattern, which helps one question and harms the other: which of the
    two weighs more decides whether the accuracy ends below its start."""
    tables = Tables(np.full((50, 2, 2), 0.5), np.tile([[[0.9, 0.4], [0.1, 0.7]]], (50, 1, 1)))
    ask = np.repeat([0, 1], 20)
    rewards = Rewards(
        "x", ask, np.tile([0, 1], 20), np.tile([1.0, 0.0], 20), np.ones(40, int)
    )  # pattern 0, without noise
    for weights, end in (((0.8, 0.2), 0.74), ((0.2, 0.8), 0.26)):
        found = risk(rewards, tables, np.array(weights), 2, np.random.default_rng(0))
        np.testing.assert_array_equal(found.selects, [1, 0])
        assert found.end_accuracy.median == pytest.approx(end)
        start = weights[0] * 0.65 + weights[1] * 0.4
        assert found.ends_below_start == (end < start)
    assert found.rollouts == 40


def test_majority_answers_count_rollouts():
    """Votes are rollouts, not rows; equally frequent answers share the majority; rows
    without an answer have no reward, and patterns are those as modelled."""
    rollouts = qra.Rollouts(
        ("q", "p"), ("a", "b", "c"), np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2]),
        np.zeros(6, bool), np.array([2, 3, 2, 4, 4, 9]),
        answer=np.array([1, 0, 1, 1, 0, -1]), answers=("x", "y"),
    )  # fmt: skip
    found = internal_rewards(rollouts, np.array([0, 1, 1]))
    assert found is not None
    # Question q: y by 4 to 3; p: x and y have 4 each.
    np.testing.assert_array_equal(found.reward, [1, 0, 1, 0.5, 0.5])
    np.testing.assert_array_equal(found.pattern, [0, 1, 1, 0, 1])
    np.testing.assert_array_equal(found.question, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(found.times, [2, 3, 2, 4, 4])


def test_pass_at_k_and_stuck_questions():
    """Against all choices of k samples, and SciPy's beta."""
    samples = np.array([[3.0, 2], [4, 0], [1, 3], [1, 0]])
    correct = np.array([[2.0, 0], [0, 0], [1, 3], [1, 0]])
    found = diagnose((samples, correct), draws=99, pooling="per_question", ks=(1, 2, 3))
    for index, k in enumerate((1, 2, 3)):
        shares = []
        for n, c in zip(samples.sum(1).astype(int), correct.sum(1), strict=True):
            if n >= k:
                choices = itertools.combinations([i < c for i in range(n)], k)
                shares.append(np.mean([any(choice) for choice in choices]))
        assert found.rlvr.pass_at_k.measured[index] == pytest.approx(np.mean(shares), abs=1e-12)
        assert found.rlvr.pass_at_k.questions[index] == len(shares)
    zero, one = found.data.stuck
    assert (zero.question, zero.at, zero.samples) == ("1", 0, 4)
    assert zero.bound == pytest.approx(stats.beta(1, 5).ppf(0.95))
    assert (one.question, one.at) == ("2", 1)
    assert one.bound == pytest.approx(1 - stats.beta(1, 5).ppf(0.95))
    assert found.regime.probs.shape == (4, 3)
    assert found.data.weights.sum() == pytest.approx(1)


def test_questions_of_their_own_learn_at_their_weight():
    """Two equal questions, each at half the speed of one."""
    samples, correct = counts_of(PROBS, RATES, 1e12)
    both = diagnose(
        (np.stack([samples] * 2), np.stack([correct] * 2)), draws=99, pooling="per_question"
    )
    slower, alone = (found.rlvr.log_entanglement_time.band.median for found in (both, certain()))
    np.testing.assert_allclose(slower - alone, np.log(2), atol=1e-4)


def test_partial_pooling():
    """It runs, says its strengths, and lies between the others."""
    samples = np.array([[8.0, 2], [2, 8], [5, 5], [8, 2]])
    found = diagnose((samples, np.floor(samples / 2)), draws=99, pooling="partial")
    assert found.start.strengths is not None
    assert found.start.strengths.median.shape == (3,)
    median = found.start.pattern_probs.median[:, 0]
    assert 0.5 < median[0] < 0.8
    assert 0.2 < median[1] < 0.5


def test_rollouts_of_one_question_are_alike():
    """Questions that are always or never right: their number is what counts. Independent rollouts
    are not remarked on."""
    rng = np.random.default_rng(2)

    def remarks(right):
        samples = np.full((100, 1), 20)
        found = diagnose((samples, right.sum(axis=1, keepdims=True)), draws=39)
        return [line for line in found.limits if "are alike" in line]

    (line,) = remarks(np.repeat(rng.random((100, 1)) < 0.5, 20, axis=1))
    worth = int(re.search(r"worth (\d+) independent", line)[1])
    assert worth in (99, 100)
    assert "the intervals say so" in line
    assert not remarks(rng.random((100, 20)) < 0.5)


def test_later_steps_are_logs():
    """Rollouts at several steps: the first is the base model, the others logs."""
    step = np.repeat([10, 30], 40)
    found = diagnose(rollouts_with(step=step), draws=99)
    assert found.data.samples.sum() == 40
    assert found.rlvr.step_forecast is not None
    np.testing.assert_array_equal(found.rlvr.step_forecast.logged, [[20, 30, 40]])
    assert found.rlvr.step_forecast.steps[-1] == 200
    # All of the second pattern by then, which the accuracy alone could not tell.
    assert found.rlvr.step_forecast.pattern_shares.low[20, 1] > 0.8


def test_logged_patterns_fit_the_posterior():
    """As many columns as it has patterns."""
    run = TrainingRun(60, logged=np.array([[3.0, 1, 4]]), logged_patterns=np.ones((1, 2)))
    with pytest.raises(ValueError, match="logged_patterns must have 3 columns, got 2"):
        forecast_run(qra.posteriors.pooled_posterior(*counts_of(PROBS, RATES, 100)), run)


def test_expected_counts_of_patterns_may_round():
    """Expected counts need not be whole; a sum that is too large by rounding alone is taken."""
    used = np.array([[0.1, 0.2, 0.3]])  # their sum is 0.6000000000000001
    assert used.sum() > 0.6
    run = TrainingRun(60, logged=np.array([[3.0, 0.5, 0.6]]), logged_patterns=used)
    np.testing.assert_array_equal(run.plan().patterns, used)
    with pytest.raises(ValueError, match="logged samples - logged_patterns must be at least 0"):
        TrainingRun(60, logged=np.array([[3.0, 0.5, 0.6]]), logged_patterns=used + 1e-6)


@pytest.mark.parametrize(
    ("samples", "correct", "words"),
    [
        ([50.0], [20.0], "one pattern only"),
        ([30.0, 20], [0.0, 0], "no rollout is right"),
        ([30.0, 20], [30.0, 20], "every rollout is right"),
    ],
)
def test_degenerate_rollouts(samples, correct, words):
    """A stated limit, and a whole result all the same."""
    found = diagnose((np.array(samples), np.array(correct)), draws=99)
    assert any(words in line for line in found.limits)
    json.dumps(found.to_dict(), allow_nan=False)


def test_ten_thousand_patterns():
    """The rarest are grouped as one, and that is said."""
    samples = np.ones(10_000)
    samples[[7, 70, 700]] = 5000, 3000, 1000
    found = diagnose((samples, np.floor(samples / 2)), draws=99, max_patterns=4)
    assert found.data.patterns == ("7", "70", "700", "other patterns")
    np.testing.assert_array_equal(found.data.samples, [[5000, 3000, 1000, 9997]])
    assert any("9997 rarest patterns" in line for line in found.limits)


def test_to_dict_knows_no_infinities():
    """Plain JSON, of every field."""
    text = json.dumps(real().to_dict(), allow_nan=False)
    back = json.loads(text)
    assert set(back) == set(vars(real()))
    assert set(back["rlvr"]) == set(vars(real().rlvr))
    assert back["rlvr"]["log_entanglement_time"]["overall"]["low"] == ["-inf"]


def test_what_was_dropped_is_said():
    """Of the source's own words, all."""
    found = diagnose(rollouts_with(dropped={"no pattern": 3}, notes=("a note",)), draws=99)
    assert "3 rollouts were dropped: no pattern" in found.limits
    assert found.notes == ("a note",)


def test_unseen_questions_are_left_out():
    """A question without rollouts has nothing to say, and that is said."""
    samples = np.array([[5, 4], [0, 0], [3, 6]])
    found = diagnose((samples, samples // 2), draws=99, pooling="per_question")
    assert found.data.questions == ("0", "2")
    assert found.data.num_questions == 3
    assert "questions left out, as the base model has no rollouts of them: 1" in found.limits


def test_band_is_of_order_statistics():
    """399 draws and one more: 360 of 400 places lie between the 20th and the 380th."""
    found = band(np.arange(1.0, 400.0))
    assert (found.low, found.median, found.high) == (20, 200, 380)
    mixed = band(np.array([[np.nan, -np.inf, 1.0, 2.0, np.inf]]), axis=1)
    assert (mixed.low[0], mixed.median[0], mixed.high[0]) == (-np.inf, 1.5, np.inf)
    assert np.isnan(band(np.full((3, 1), np.nan)).low).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 5}, "draws must be at least 20, got 5"),
        ({"eps": 0.0}, "eps must lie strictly between 0 and 1, got 0.0"),
        (
            {
                "objective": qra.Objective(
                    qra.Verifiable(), regularisers=(qra.objectives.ForwardKL(0.1),)
                )
            },
            "objective.regularisers must be at most one ReverseKL",
        ),
        (
            {"objective": qra.Objective(qra.objectives.NoisyVerifier(0.2, 0.3))},
            "tpr must be above fpr = 0.3, or nothing is learnt, got 0.2",
        ),
        ({"objective": qra.RLVR(0.1), "pooling": "partial"}, "beta must be 0 unless pooling is"),
        (
            {
                "objective": qra.RLVR(0.1),
                "run": qra.diagnosis.TrainingRun(9, 0.1, sampler=qra.SampledGroups(4)),
            },
            "run must be without a sampler where",
        ),
        ({"objective": qra.RLIF()}, "objective.reward must be Verifiable()"),
        ({"ks": (0,)}, "ks must be at least 1, got 0"),
        ({"max_patterns": 1}, "max_patterns must be at least 2, got 1"),
        ({"rollouts": (np.zeros(2), np.zeros(2))}, "rollouts must hold at least one rollout"),
        ({"rollouts": (np.array([1.5]), np.array([1.0]))}, "samples must be whole numbers"),
    ],
)
def test_bad_input(settings, message):
    """One line each, before anything is compiled."""
    settings = {"rollouts": (np.array([5, 4]), np.array([3, 1])), **settings}
    with pytest.raises(ValueError, match="must") as error:
        diagnose(settings.pop("rollouts"), **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "logged must hold a step above 0 where no learning rate is given"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"logged": np.array([[3.0, 5, 4]])}, "logged samples - right must be at least 0"),
        ({"logged": np.array([[3.0, 1, 4], [2, 1, 4]])}, "logged steps must rise"),
        ({"logged": np.array([3.0, 1, 4])}, "logged must have shape (L, 3)"),
        ({"learning_rate": 1.0, "scale_range": (1.0, 0.5)}, "scale_range must rise"),
        (
            {"logged": np.array([[3.0, 1, 4]]), "logged_patterns": np.ones((2, 3))},
            "logged_patterns must have shape (1, R), a row for each of logged, got (2, 3)",
        ),
        (
            {"logged": np.array([[3.0, 1, 4]]), "logged_patterns": np.array([[3.0, 2]])},
            "logged samples - logged_patterns must be at least 0",
        ),
        (
            {"logged": np.array([[3.0, 1, 4]]), "logged_patterns": np.array([[3.0, -2]])},
            "logged_patterns must be at least 0",
        ),
    ],
)
def test_bad_run(settings, message):
    """So for runs."""
    with pytest.raises(ValueError, match="must") as error:
        TrainingRun(100, **settings).plan()
    assert message in str(error.value)


def test_calibration_of_few_models():
    """Truths from the prior: as many as should be lie in the intervals (binomial, 0.1 %), and
    regimes happen as often as stated."""
    data = Calibration(models=50, draws=99, patterns=4).compute(lambda _: None)
    inside, number = covered(data.isel(case=0), "all")
    assert stats.binomtest(inside, number, 0.9).pvalue > 1e-3
    found, bound = calibration_error(data.isel(case=0))
    assert found < 1.5 * bound
