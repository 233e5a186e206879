"""A learning rate that the file of rollouts logs: the schedule of the run."""

import dataclasses

import numpy as np
import pytest

import qra_jax as qra
from qra_jax.diagnosis import TrainingRun, diagnose
from qra_jax.diagnosis._model import with_rates

from .test_logs_without_patterns import RATES, STEPS, shares_at, table

LOGGED = np.array([[0, 2e-6], [40, 4e-6], [120, 4e-6], [320, 1e-6]])


def rollouts(rates=LOGGED, first=0, clock=STEPS):
    """One question, 4,000 expected samples a step, of a run whose clock shows `clock`."""
    samples = np.round(4000 * shares_at(clock))
    found = table(STEPS + first, [0] * len(STEPS), samples, np.round(samples * RATES))
    return dataclasses.replace(found, learning_rates=rates)


def test_linear_between_logged_steps():
    """As parts of the largest, from the first step on, and constant at the end."""
    for first in (0, 500):
        rates = LOGGED + np.array([first, 0])
        run = with_rates(TrainingRun(400), rollouts(rates, first)).rates()
        assert run is not None
        np.testing.assert_allclose(run[[0, 20, 40, 100, 120, 220]], [0.5, 0.75, 1, 1, 1, 0.625])
        np.testing.assert_allclose(run[320:], 0.25)
    # A first log after the start: constant before it.
    late = with_rates(TrainingRun(400), rollouts(LOGGED[1:])).rates()
    assert late is not None
    np.testing.assert_allclose(late[:40], 1)
    assert with_rates(TrainingRun(400), rollouts(LOGGED * [[1, 0]] + [[0, 1e-6]])).rates() is None
    assert with_rates(TrainingRun(400), rollouts(None)).schedule is None


def test_the_clock_of_the_run():
    """A run whose learning rate falls fits with it and is refuted without it; the time per step is
    that of the largest rate."""
    rates = np.interp(np.arange(400), LOGGED[:, 0], LOGGED[:, 1] / 4e-6)
    clock = np.append(0, np.cumsum(rates))[STEPS]
    found = diagnose(rollouts(clock=clock), draws=39)
    assert found.log_check is not None
    assert found.log_check.refuted == ()
    ahead = found.rlvr.step_forecast
    assert ahead is not None
    assert abs(float(ahead.log_scale.median) - np.log(0.05)) < 0.1
    (line,) = (x for x in found.limits if x.startswith("the learning rates of the file"))
    assert "as parts of the largest, 4e-06: 0.5 at step 0, 0.25 at step 320; after that" in line
    without = diagnose(rollouts(None, clock=clock), draws=39)
    assert without.log_check is not None
    assert "clock" in without.log_check.refuted
    given = TrainingRun(320, learning_rate=0.05)
    (line,) = (
        x for x in diagnose(rollouts(clock=clock), draws=39, run=given).limits if "parts" in x
    )
    assert line.endswith("the time per step is that of --learning-rate, 0.05, another number")
    assert "after that" not in line


def test_a_schedule_that_contradicts():
    """An error that says where; one that agrees in shape is taken as given."""
    agrees = np.interp(np.arange(400), LOGGED[:, 0], LOGGED[:, 1]) * 3
    run = TrainingRun(400, schedule=agrees)
    np.testing.assert_array_equal(with_rates(run, rollouts()).rates(), agrees)
    for schedule, said in (
        (np.ones(400), "0.25 of the largest at step 320, got 1"),
        (lambda step: 1 - step / 400, "0.5 of the largest at step 0, got 1"),
    ):
        must = f"schedule must agree with the rollouts' learning rates.*{said}"
        with pytest.raises(ValueError, match=must):
            diagnose(rollouts(), run=TrainingRun(400, schedule=schedule))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (np.ones(3), "shape"),
        (np.array([[0, -1.0]]), "at least 0"),
        (np.array([[0, 0.0], [5, 0]]), "above 0"),
        (np.array([[5, 1.0], [5, 1]]), "rise"),
        (np.array([[5, np.inf]]), "at least 0"),
    ],
)
def test_rates_that_are_none(rates, said):
    """Refused where they are made."""
    with pytest.raises(ValueError, match=said):
        rollouts(rates)
    assert isinstance(rollouts(), qra.Rollouts)
