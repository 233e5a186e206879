"""The spread of success rates over questions: found again in simulated counts, and drawn."""

import numpy as np
import pytest
from scipy.stats import beta, multivariate_normal, norm

from qra_jax.posteriors import QuestionSpread, question_spread

WITHIN = np.array([0.5, 0.2, 0.9])
MEANS = np.array([0.6, 0.3, 0.45])


def simulated(rng, questions=4000, each=8):
    """Counts of questions whose rates are Beta and joined by a normal copula of correlation .6
    between the first two patterns; a lopsided use of the patterns."""
    joined = np.eye(3)
    joined[0, 1] = joined[1, 0] = 0.6
    ranks = norm.cdf(multivariate_normal(np.zeros(3), joined, seed=rng).rvs(questions))
    strength = (1 - WITHIN) / WITHIN
    rates = beta(strength * MEANS, strength * (1 - MEANS)).ppf(ranks)
    samples = rng.multinomial(each, [0.6, 0.3, 0.1], size=questions)
    return samples, rng.binomial(samples, rates), rates


def test_the_spread_of_simulated_questions_is_found():
    """Correlations of pairs of one question, against those of the rates that were drawn."""
    samples, correct, rates = simulated(np.random.default_rng(0))
    found = question_spread(samples.astype(float), correct.astype(float))
    np.testing.assert_allclose(found.within, WITHIN, atol=0.05)
    exact = np.corrcoef(rates.T)
    np.testing.assert_allclose(found.between, exact, atol=0.1)
    assert exact[0, 1] > 0.4


def test_alike_questions_and_single_samples():
    """No spread where questions are alike, and none assumed where no question has two samples."""
    rng = np.random.default_rng(1)
    samples = np.full((3000, 2), 4.0)
    correct = rng.binomial(4, [0.3, 0.7], size=(3000, 2)).astype(float)
    found = question_spread(samples, correct)
    assert np.all(found.within < 0.03)
    lone = question_spread(np.eye(2), np.eye(2))
    np.testing.assert_array_equal(lone.within, 0)
    np.testing.assert_array_equal(lone.between, np.eye(2))


def test_kinds_of_questions_have_the_spread():
    """Means exact; variances rho p (1 - p), signs of correlations, and draws that differ."""
    between = np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1.0]])
    spread = QuestionSpread(WITHIN, between)
    means = np.tile(MEANS, (500, 1))
    # Few kinds of a mean that is given vary a little less: 8 % at 16, 2 % at 64.
    found = spread.draw(means, 64, np.random.default_rng(2))
    assert found.shape == (500, 64, 3)
    np.testing.assert_allclose(found.mean(axis=1), means, atol=1e-9)
    variance = found.reshape(-1, 3).var(axis=0)
    np.testing.assert_allclose(variance, WITHIN * MEANS * (1 - MEANS), rtol=0.05)
    together = np.corrcoef(found.reshape(-1, 3).T)
    assert together[0, 1] > 0.55
    assert abs(together[0, 2]) < 0.05
    assert np.ptp(found[:, 0, 0]) > 0.5
    alike = QuestionSpread(np.zeros(3), np.eye(3)).draw(means, 4, np.random.default_rng(2))
    np.testing.assert_allclose(alike, np.broadcast_to(MEANS, alike.shape), atol=1e-9)


def test_bad_counts():
    with pytest.raises(ValueError, match="samples - correct must be at least 0"):
        question_spread(np.ones((2, 2)), 2 * np.ones((2, 2)))
