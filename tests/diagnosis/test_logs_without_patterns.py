"""Logs of right and wrong answers alone, and questions told apart: what is checked and said."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate

import qra_jax as qra
from qra_jax.diagnosis import Solver, Tables, TrainingRun, diagnose
from qra_jax.diagnosis._draw_check import check_by_draws
from qra_jax.diagnosis.report._figures import draw_figures
from qra_jax.diagnosis.words import alarms, box, check_sentence

PROBS, RATES, SCALE = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.5, 0.1]), 0.05
STEPS = np.array([0, 40, 80, 120, 160, 240, 320])


def shares_at(steps, probs=PROBS, rates=RATES, scale=SCALE):
    """The flow, by SciPy."""

    def field(t, theta):
        pi = np.exp(theta - theta.max())
        pi /= pi.sum()
        return scale * pi * (rates - pi @ rates)

    found = integrate.solve_ivp(
        field, (0, max(steps)), np.log(probs), t_eval=steps, rtol=1e-8, atol=1e-9
    )
    weights = np.exp(found.y.T - found.y.T.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def table(step, question, samples, correct) -> qra.Rollouts:
    """From counts `(N,)` of steps and questions by pattern `(N, R)`."""
    both = np.round(np.stack([samples - correct, correct])).astype(int)
    right, row, pattern = np.nonzero(both)
    return qra.Rollouts(
        tuple(f"q{i}" for i in range(max(question) + 1)),
        tuple("abcd"[: both.shape[2]]),
        np.asarray(question)[row],
        pattern,
        right.astype(bool),
        both[right, row, pattern],
        step=np.asarray(step)[row],
    )


def with_plain(shares, rates, known: int) -> qra.Rollouts:
    """One question, expected counts of 400 samples a step; from step number `known` on without
    patterns."""
    samples = np.round(400 * shares)
    correct = np.round(samples * rates)
    base = table(STEPS[:known], np.zeros(known, int), samples[:known], correct[:known])
    rest = len(STEPS) - known
    right = correct[known:].sum(axis=1, keepdims=True)
    plain = table(STEPS[known:], np.zeros(rest, int), np.full((rest, 1), 400), right)
    return dataclasses.replace(base, without_patterns=plain)


def collapsed(shares):
    """The last two steps are answered by the worst pattern."""
    return np.where(STEPS[:, None] > 200, np.array([[0.02, 0.02, 0.96]]), shares)


def test_logs_that_have_no_patterns():
    """They are the run's logs; the accuracy is checked, the rest is said not to be."""
    found = diagnose(with_plain(shares_at(STEPS), RATES, 1), draws=39)
    check, ahead = found.log_check, found.rlvr.step_forecast
    assert check is not None
    assert ahead is not None
    assert check.refuted == ()
    np.testing.assert_array_equal(check.steps, STEPS[1:])
    np.testing.assert_array_equal(ahead.logged[:, 0], STEPS[1:])
    np.testing.assert_allclose(ahead.logged[:, 1] / 400, shares_at(STEPS)[1:] @ RATES, atol=3e-3)
    assert abs(float(ahead.log_scale.median) - np.log(SCALE)) < 0.4
    (line,) = (x for x in found.limits if "the accuracy alone was checked" in x)
    assert line.startswith("the 6 logged steps have no patterns")
    assert not alarms(found)
    said = check_sentence(found)
    assert said.startswith("Nothing in them speaks against it")
    assert "(of the accuracy alone, as the logs have no patterns)" in said
    assert "log_shares" not in draw_figures(found)
    found = diagnose(with_plain(collapsed(shares_at(STEPS)), RATES, 1), draws=39)
    assert found.log_check is not None
    assert found.log_check.refuted == ("accuracy",)
    (line,) = alarms(found)
    assert "the accuracy leaves every path" in line
    assert "do not tell whether" in line
    assert "at step 320 the accuracy was 0.12" in line or "at step 240 the accuracy" in line
    assert box(found)[1].value.startswith("Withheld")


def test_some_logs_have_patterns():
    """Both kinds in one check; the others fit the scale."""
    found = diagnose(with_plain(shares_at(STEPS), RATES, 4), draws=39)
    check, ahead = found.log_check, found.rlvr.step_forecast
    assert check is not None
    assert ahead is not None
    assert (check.with_patterns, check.without_patterns) == (3, 3)
    assert check.refuted == ()
    assert abs(float(ahead.log_scale.median) - np.log(SCALE)) < 0.25
    assert any(x.startswith("3 of 6 logged steps have no patterns") for x in found.limits)
    figure = draw_figures(found)["log_shares"]
    dots = [line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert len(dots) == 3
    np.testing.assert_array_equal(np.isnan(dots[0]), [False] * 3 + [True] * 3)
    found = diagnose(with_plain(collapsed(shares_at(STEPS)), RATES, 4), draws=39)
    assert found.log_check is not None
    assert "accuracy" in found.log_check.refuted


def test_what_a_short_log_cannot_show():
    """One log, and few samples: said, with what they would show."""
    short = table([0, 50], [0, 0], np.array([[30, 20], [25, 25]]), np.array([[15, 4], [12, 5]]))
    found = diagnose(short, draws=39)
    assert found.log_check is not None
    lines = [x for x in found.limits if "log" in x]
    assert "one logged step cannot show whether the speed of the run changes" in lines
    (line,) = (x for x in lines if "too short to show that success rates drift by 0.15" in x)
    assert f"{found.log_check.least_drift:.2f}" in line
    shares, some = shares_at(STEPS), [0, 2, 4]
    samples = np.round(60 * shares[some])
    few = table(STEPS[some], [0, 0, 0], samples, np.round(samples * RATES))
    found = diagnose(few, draws=39)
    (line,) = (x for x in found.limits if "halves its speed" in x)
    assert "even one that stops would often go unnoticed" in line
    many = np.round(1e5 * shares)
    found = diagnose(table(STEPS, [0] * len(STEPS), many, np.round(many * RATES)), draws=39)
    assert not any("too short" in x or "cannot show" in x for x in found.limits)


@pytest.fixture(scope="module")
def two_questions():
    """An easy and a hard question, by step, question and pattern: shares and rates."""
    rates = np.array([[0.9, 0.7, 0.2], [0.6, 0.3, 0.1]])
    shares = [shares_at(STEPS, PROBS, each, SCALE / 2) for each in rates]
    return np.stack(shares, axis=1), rates


def of_questions(shares, rates, number=300, plain=False) -> qra.Rollouts:
    samples = np.round(number * shares)
    correct = np.round(samples * rates)
    question = np.tile([0, 1], len(STEPS))
    flat = [x.reshape(-1, x.shape[-1]) for x in (samples, correct)]
    step = np.repeat(STEPS, 2)
    if not plain:
        return table(step, question, *flat)
    base = table(step[:2], question[:2], *(x[:2] for x in flat))
    sums = (x[2:].sum(axis=1, keepdims=True) for x in flat)
    return dataclasses.replace(base, without_patterns=table(step[2:], question[2:], *sums))


@pytest.mark.parametrize(
    ("pooling", "plain"),
    [
        pytest.param("per_question", False, id="patterns"),
        pytest.param("partial", True, id="accuracy", marks=pytest.mark.slow),
    ],
)
def test_questions_told_apart(two_questions, pooling, plain):
    """The run of both questions is no departure; a collapse is, and it is said what was not looked
    at."""
    shares, rates = two_questions
    found = diagnose(of_questions(shares, rates, plain=plain), draws=99, pooling=pooling)
    check = found.log_check
    assert check is not None
    assert check.refuted == ()
    assert (check.without_patterns if plain else check.with_patterns) == len(STEPS) - 1
    expected = np.mean(np.sum(shares * rates, axis=-1), axis=1)[1:]
    np.testing.assert_allclose(check.accuracy, expected, atol=5e-3)
    np.testing.assert_allclose(check.expected_accuracy, expected, atol=0.04)
    assert check.pattern_shares.shape == check.expected_shares.shape == (len(STEPS) - 1, 3)
    assert any("with questions told apart the logs were checked" in x for x in found.limits)
    assert any("the accuracy alone was checked" in x for x in found.limits) == plain
    gone = np.where(STEPS[:, None, None] > 200, np.array([[[0.02, 0.02, 0.96]]]), shares)
    found = diagnose(of_questions(gone, rates, plain=plain), draws=99, pooling=pooling)
    assert found.log_check is not None
    assert "accuracy" in found.log_check.refuted
    assert ("shares" in found.log_check.refuted) == (not plain)
    assert alarms(found)[0].startswith("The logged steps refute the model of this forecast")
    assert box(found)[1].value.startswith("Withheld")


def test_few_draws_are_no_departure():
    """Logs so long that no draw of twenty is near the truth: nor is one near another."""
    rng = np.random.default_rng(1)
    rates = np.clip(RATES + rng.normal(0, 0.05, (20, 3)), 0.01, 0.99)
    tables = Tables(rng.dirichlet(200 * PROBS, 20)[:, None], rates[:, None])
    samples = 4000 * shares_at(STEPS)[1:]
    logged = np.stack([STEPS[1:], samples @ RATES, samples.sum(axis=1)], axis=1)
    run = TrainingRun(320, logged=logged, logged_patterns=np.round(samples, 6))
    found = check_by_draws(Solver.of(qra.RLVR(), 0.1), tables, np.ones(1), run.plan(), 0, 3)
    assert found is not None
    assert found.chance > 0.2
