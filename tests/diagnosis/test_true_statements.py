"""Inputs of which a diagnosis was once wrong and sure: what it says of them now."""

import io

import numpy as np
import pytest

import qra_jax as qra
from qra_jax.diagnosis import TrainingRun, diagnose
from qra_jax.diagnosis._rlif import AGREEMENT, Rewards, resampled_means, risk, why_not_judged
from qra_jax.diagnosis._solve import Tables
from qra_jax.diagnosis.words._alarms import alarms, check_sentence
from qra_jax.diagnosis.words._summary import box, key_figures, rlif_sentence, verdict


def steps_of(text: str) -> qra.Rollouts:
    """Rows of step, pattern, samples, right ones; of no question in particular."""
    step, pattern, samples, correct = np.loadtxt(io.StringIO(text), delimiter=",", dtype=int).T
    both = np.stack([samples - correct, correct])
    right, row = np.nonzero(both)
    return qra.Rollouts(
        ("q",), tuple("abc"[: pattern.max() + 1]), np.zeros(len(row), int), pattern[row],
        right.astype(bool), both[right, row], step=step[row],
    )  # fmt: skip


COLLAPSE = """
0,0,60,24
0,1,38,8
0,2,2,0
100,0,85,45
100,1,14,4
100,2,1,0
200,0,95,58
200,1,4,1
200,2,1,0
300,0,20,8
300,1,2,0
300,2,78,0
400,2,100,0
"""


def test_collapse_is_no_success():
    """A run that ends in a pattern that is never right: said first, and no forecast."""
    found = diagnose(steps_of(COLLAPSE), draws=39)
    assert found.log_check is not None
    assert found.log_check.refuted
    assert alarms(found)[0].startswith("The logged steps refute the model of this forecast")
    assert box(found)[1].value.startswith("Withheld")
    assert not any("in steps" in row.name for row in key_figures(found))
    assert check_sentence(found).startswith("No: logs of the model itself would depart")
    # The rates have learnt from all steps: 0 right of 182.
    assert found.start.success_rates.median[0, 2] < 0.05


def test_rates_that_fall_within_patterns():
    """Shares move as they should while success rates fall: it is said, with the counts."""
    text = "0,0,300,60\n0,1,180,13\n100,0,380,54\n100,1,100,6\n"
    found = diagnose(steps_of(text), draws=39)
    (line,) = (x for x in alarms(found) if x.startswith("Success rates within patterns moved"))
    assert "'a' fell from 0.2 (60 of 300) to 0.142 (54 of 380)" in line
    assert "(and 'b' fell from 0.072 (13 of 180) to 0.06 (6 of 100), which may be chance)" in line
    assert "here that does not hold" in line
    assert check_sentence(found).startswith("Not in full: success rates within patterns moved")
    assert any("success rates within patterns drift: the forecast" in x for x in found.limits)
    assert not any("taken as fixed" in x for x in found.limits)
    forecast = found.rlvr.step_forecast
    assert forecast is not None
    assert forecast.accuracy.low[-1] < 60 / 480


def test_counts_of_changes_are_those_of_the_file():
    """Where rollouts of a question are alike they count as fewer; what is told are the rollouts."""
    rng = np.random.default_rng(0)
    easy = rng.random((2, 40)) < [[0.7], [0.2]]
    rows = [
        (step, question, pattern, 6, 6 * int(easy[int(step > 0), question]))
        for step in (0, 50)
        for question in range(40)
        for pattern in (0, 1)
    ]
    step, question, pattern, samples, correct = np.array(rows).T
    both = np.stack([samples - correct, correct])
    right, row = np.nonzero(both)
    found = diagnose(
        qra.Rollouts(
            tuple(map(str, range(40))), ("a", "b"), question[row], pattern[row],
            right.astype(bool), both[right, row], step=step[row],
        ),
        draws=39,
    )  # fmt: skip
    assert found.log_check is not None
    first, last = (6 * x.sum() for x in easy)
    for change in found.log_check.changes:
        assert change.first == pytest.approx((first, 240))
        assert change.last == pytest.approx((last, 240))
    (line,) = (x for x in alarms(found) if "moved over the logged steps" in x)
    assert f" ({first} of 240) to " in line


def test_two_patterns_of_which_neither_is_known_to_be_better():
    """A coin that may fall either way is not stated as a finding."""
    found = diagnose((np.array([40, 20]), np.array([20, 10])), draws=99)
    assert verdict(found).startswith("These rollouts do not settle which of the two patterns is")
    sure = diagnose((np.array([400, 200]), np.array([200, 20])), draws=99)
    assert verdict(sure).startswith("RLVR raises '0' (probability > 0.99) from the first step")


def confounded(times: int = 1):
    """`wait` is used on the hard questions, and better on every one."""
    samples = np.array([[80, 20]] * 5 * times + [[20, 80]] * 5 * times)
    correct = np.array([[24, 4]] * 5 * times + [[18, 64]] * 5 * times)
    return samples, correct


def test_patterns_are_compared_within_questions():
    """Pooled, the order is the reverse: both are said, the rates within questions are used."""
    found = diagnose(confounded(), draws=99)
    within = found.start.within
    assert within is not None
    assert within.disagree
    np.testing.assert_allclose(within.rates, [0.6, 0.5], atol=0.01)
    np.testing.assert_allclose(within.pooled, [0.42, 0.68])
    assert found.regime.best_probs[0, 0] > 0.9
    (line,) = alarms(found)
    assert "pooled success rates mislead: '0' 0.594 within questions, 0.42 pooled" in line
    # Of questions that are fixed the pooled counts are all there is.
    fixed = diagnose(confounded(), draws=39, questions="fixed")
    assert fixed.start.within is None
    assert fixed.regime.best_probs[0, 1] > 0.9


def test_rollouts_of_one_question_are_one():
    """Questions that are right always or never: 800 rollouts are worth 100, and the interval of the
    accuracy is that of 100; further ones are counted in questions."""
    right = np.arange(100) < 40
    samples = np.tile([[5.0, 3.0]], (100, 1))
    correct = samples * right[:, None]
    found = diagnose((samples, correct), draws=399)
    assert found.start.worth == pytest.approx(100, rel=0.02)
    width = found.start.accuracy.high - found.start.accuracy.low
    assert width == pytest.approx(2 * 1.645 * np.sqrt(0.4 * 0.6 / 100), rel=0.2)
    assert any("worth 99 independent" in x or "worth 100 independent" in x for x in found.limits)
    assert all(point.each == 8 for point in found.open_points)
    assert diagnose((samples, correct), draws=39, questions="fixed").start.worth is None


def test_rlif_of_one_answer_a_question():
    """Cannot be judged: every answer agrees with itself."""
    pattern = np.arange(30) % 2
    rollouts = qra.Rollouts(
        tuple(map(str, range(30))), ("a", "b"), np.arange(30), pattern, np.arange(30) % 3 == 0,
        answer=np.arange(30) % 7, answers=tuple("abcdefg"),
    )  # fmt: skip
    found = diagnose(rollouts, draws=39)
    assert found.rlif is not None
    assert "one answer" in found.rlif.why_not
    assert np.isnan(found.rlif.ends_below_start)
    assert rlif_sentence(found).startswith("Cannot tell: every question has one answer")
    assert not any("risk" in row.name for row in key_figures(found))


def test_rewards_that_tell_nothing_apart():
    """All answers of a question the same, or one pattern only; not where they differ."""
    question, pattern = np.repeat([0, 1], 4), np.tile([0, 1], 4)
    equal = Rewards(AGREEMENT, question, pattern, np.repeat([1.0, 0.5], 4), np.ones(8, int))
    assert "agree equally" in why_not_judged(equal)
    one = equal._replace(pattern=np.zeros(8, int), reward=np.arange(8.0))
    assert "one pattern only" in why_not_judged(one)
    assert why_not_judged(equal._replace(reward=np.tile([1.0, 0.0], 4))) == ""


def test_contests_resample_questions():
    """One question decides for the first pattern, four for the other: its chance to win is that of
    the gamma weights, by plain Monte Carlo."""
    question, pattern = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    gains = np.array([3.0, -1, -0.5, -0.8, -1.2])
    reward = np.stack([gains, np.zeros(5)], axis=1).ravel()
    rewards = Rewards("confidence", question, pattern, reward, np.ones(10, int))
    rng = np.random.default_rng(0)
    means = resampled_means(rewards, 5, 2, rng.gamma(0.7, size=(4000, 5)))
    weights = rng.gamma(0.7, size=(40_000, 5))
    exact = np.mean(weights @ gains > 0)
    assert np.mean(means[:, 0] > means[:, 1]) == pytest.approx(exact, abs=0.03)
    # The gap itself is the weighted mean of the gains, question by question.
    share = (weights @ gains) / weights.sum(axis=1)
    assert np.std(means[:, 0] - means[:, 1]) == pytest.approx(share.std(), rel=0.05)
    tables = Tables(np.full((999, 1, 2), 0.5), np.tile([0.2, 0.6], (999, 1, 1)))
    drawn = rng.gamma(0.7, size=(999, 5))
    found = risk(rewards, tables, np.ones(1), 5, np.random.default_rng(1), drawn)
    assert found.ends_below_start == pytest.approx(exact, abs=0.06)


def test_num_steps_with_logs():
    """A run without a learning rate takes its logs from the rollouts; without either it is an
    error once it is forecast."""
    found = diagnose(steps_of(COLLAPSE.replace("300", "250")), run=TrainingRun(500), draws=39)
    assert found.rlvr.step_forecast is not None
    assert found.rlvr.step_forecast.steps[-1] == 500
    with pytest.raises(ValueError, match="hold a step above 0"):
        diagnose((np.array([5, 5]), np.array([2, 3])), run=TrainingRun(10), draws=39)


def test_clock_of_a_schedule():
    """Cumulated rates, and the steps at which they show a time; as a function or as numbers."""
    rates = np.array([0.5, 1.0, 1.0, 0.5, 0.25, 0.25])
    plan = TrainingRun(6, learning_rate=0.3, schedule=rates).plan()
    np.testing.assert_allclose(plan.clock(np.arange(7)), [0, 0.5, 1.5, 2.5, 3, 3.25, 3.5])
    assert plan.log_clock(np.array([0]))[0] == -np.inf
    times = np.log([0.25, 2.0, 3.5, 4.0])
    np.testing.assert_allclose(np.exp(plan.log_steps(times)), [0.5, 2.5, 6, 8])
    assert plan.log_steps(np.array([np.inf, -np.inf])).tolist() == [np.inf, -np.inf]
    assert np.isnan(plan.log_steps(np.array([np.nan]))).all()
    other = TrainingRun(6, learning_rate=0.3, schedule=lambda step: rates[step]).plan()
    np.testing.assert_array_equal(other.rates, rates)
    ended = TrainingRun(2, learning_rate=0.3, schedule=np.array([1.0, 0])).plan()
    assert ended.log_steps(np.log([1.5]))[0] == np.inf
    for bad, said in (
        (np.ones(3), "give 6 rates"),
        (-np.ones(6), "at least 0"),
        (np.zeros(6), "above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            TrainingRun(6, learning_rate=0.3, schedule=bad)
    with pytest.raises(ValueError, match="come with logged_patterns"):
        TrainingRun(6, learning_rate=0.3, logged_right=np.ones((1, 2)))


def test_noise_of_a_sampler_is_in_the_check():
    """A run of one group of 4 a step wanders as such runs do: large samples of its shares refute
    the flow without noise, and not with it."""
    rng = np.random.default_rng(2)
    probs, rates = np.array([0.5, 0.3, 0.2]), np.array([0.7, 0.5, 0.2])
    sampler, scale = qra.SampledGroups(4, estimator=qra.training.REINFORCE()), 0.15
    logits, rows = np.log(probs), [(0, probs)]
    for step in range(1, 61):
        pi = np.exp(logits - logits.max())
        pi /= pi.sum()
        used = rng.choice(3, 4, p=pi)
        right = rng.random(4) < rates[used]
        ascent = np.mean(
            [r * ((np.arange(3) == u) - pi) for u, r in zip(used, right, strict=True)], axis=0
        )
        logits = logits + scale * ascent
        if step % 10 == 0:
            rows.append((step, np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()))
    lines = []
    for step, shares in rows:
        for pattern, number in enumerate(np.round(20_000 * shares).astype(int)):
            lines.append(f"{step},{pattern},{number},{round(number * rates[pattern])}")
    rollouts = steps_of("\n".join(lines))
    plain = diagnose(rollouts, run=TrainingRun(60, learning_rate=scale), draws=39)
    assert plain.log_check is not None
    assert plain.log_check.refuted
    run = TrainingRun(60, learning_rate=scale, sampler=sampler, particles=50)
    found = diagnose(rollouts, run=run, draws=39)
    assert found.log_check is not None
    assert not found.log_check.refuted
