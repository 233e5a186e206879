"""Rates that drift: against quadrature and a dense grid."""

import numpy as np
import pytest
from scipy import integrate, special

from qra_jax.diagnosis import Logs
from qra_jax.diagnosis._drift import SPREADS, _path, rate_drift

PRIOR = (2.0, 3.0)


def logs_of(steps, samples, correct):
    steps = np.asarray(steps, float)
    return Logs(steps, steps, np.asarray(samples, float), np.asarray(correct, float))


def test_evidence_by_quadrature():
    """Of one log after the base model, Laplace's beside the integral over both logits."""
    steps, number, right = np.array([0.0, 7]), np.array([30.0, 40]), np.array([9.0, 20])

    def joint(later, start):
        fit = 11 * start - 35 * np.logaddexp(0, start) - special.betaln(*PRIOR)
        fit += 20 * later - 40 * np.logaddexp(0, later)
        return np.exp(fit - 0.5 * ((later - start) / 0.8) ** 2 + 48) / np.sqrt(2 * np.pi) / 0.8

    exact = np.log(integrate.dblquad(joint, -4, 4, -4, 4)[0]) - 48
    assert _path(number, right, PRIOR, steps, 0.8)[2] == pytest.approx(exact, abs=0.03)


def test_rates_that_stay():
    """Many counts of one rate: nothing drifts, and all steps inform it (beta-binomial)."""
    rng = np.random.default_rng(3)
    samples = np.full((8, 1), 500.0)
    found = rate_drift(np.array([100.0]), np.array([41.0]),
                       logs_of(np.arange(1, 9) * 10, samples, rng.binomial(500, 0.4, (8, 1))),
                       PRIOR)  # fmt: skip
    assert found.chances[0] > 0.8
    mean = found.right / (found.right + found.wrong)
    assert mean[0] == pytest.approx(0.4, abs=0.02)
    # What 4,100 samples say, but for the chance that they drift.
    assert 300 < found.right[0] + found.wrong[0] < 4106
    rates = rng.beta(found.right, found.wrong, (500, 1))
    moved = found.shifts(rng, rates, np.array([0, 40.0, 80]))
    np.testing.assert_array_equal(moved[0], 0)
    assert np.mean(moved[2] == 0) > 0.8


def test_rates_that_rise_against_a_grid():
    """The posterior at step 0, at the log and beyond, by exact filtering on a dense grid."""
    number, right = np.array([40.0, 60]), np.array([10.0, 45])
    found = rate_drift(number[:1], right[:1], logs_of([30], [[60.0]], [[45.0]]), PRIOR)
    grid = np.linspace(-6, 6, 801)
    like = [right[i] * grid - number[i] * np.logaddexp(0, grid) for i in range(2)]
    start = like[0] + PRIOR[0] * grid - sum(PRIOR) * np.logaddexp(0, grid)
    start = np.exp(start - start.max())
    joints, masses = [], []
    for spread in SPREADS:
        if spread == 0:
            joint = np.diag(start * np.exp(like[1] - like[1].max()))
        else:
            step = np.exp(-0.5 * ((grid[:, None] - grid) / spread) ** 2) / spread
            step *= (grid[1] - grid[0]) / np.sqrt(2 * np.pi)
            joint = start[:, None] * step * np.exp(like[1] - like[1].max())
        joints.append(joint)
        masses.append((6 if spread == 0 else 1) * joint.sum())
    chances = np.array(masses) / np.sum(masses)
    np.testing.assert_allclose(found.chances, chances, atol=0.02)
    joint = sum(j / j.sum() * c for j, c in zip(joints, chances, strict=True))
    rate = special.expit(grid)
    mean = joint.sum(axis=1) @ rate
    assert found.right[0] / (found.right[0] + found.wrong[0]) == pytest.approx(mean, abs=0.01)
    rng = np.random.default_rng(0)
    draws = rng.beta(found.right, found.wrong, (20_000, 1))
    moved = found.shifts(rng, draws, np.array([0.0, 15, 30, 60]))
    last = special.expit(special.logit(draws) + moved[2])
    assert last.mean() == pytest.approx(joint.sum(axis=0) @ rate, abs=0.015)
    spread = np.sqrt(joint.sum(axis=0) @ rate**2 - (joint.sum(axis=0) @ rate) ** 2)
    assert last.std() == pytest.approx(spread, rel=0.08)
    # Half way it is half way; twice as far on, the walk adds the variance of once the way.
    np.testing.assert_allclose(moved[1], moved[2] / 2, atol=1e-12)
    further = (moved[3] - moved[2]).var()
    assert further == pytest.approx(found.chances @ np.square(SPREADS), rel=0.1)
    np.testing.assert_array_equal(found.shifts(rng, np.tile(draws, 2), np.array([30.0]))[..., 1], 0)


def test_patterns_share_the_spread():
    """One that moves much tells of one with hardly a count."""
    still = rate_drift(np.array([200.0, 2]), np.array([100.0, 1]),
                       logs_of([10], [[200.0, 2]], [[100.0, 1]]), (1.0, 1.0))  # fmt: skip
    moving = rate_drift(np.array([200.0, 2]), np.array([20.0, 1]),
                        logs_of([10], [[200.0, 2]], [[180.0, 1]]), (1.0, 1.0))  # fmt: skip
    assert still.chances[0] > 0.4
    assert moving.chances[0] < 1e-6
    assert moving.right[0] / (moving.right[0] + moving.wrong[0]) == pytest.approx(0.1, abs=0.03)
