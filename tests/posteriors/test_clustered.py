"""Questions that are resampled: against conjugate laws, Student's t, and counts by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qra_jax.posteriors import (
    ConjugatePosterior,
    Prior,
    clustered_posterior,
    design_effects,
    pooled_posterior,
    within_questions,
)
from qra_jax.posteriors._clustered import weights_shape

NUMBER = 4000


def draws_of(posterior):
    draw = jax.jit(lambda key: posterior.draw(key, NUMBER))
    return [np.asarray(x)[:, 0] for x in draw(jax.random.key(2))]


def test_one_rollout_a_question_is_conjugate():
    """With weights of shape 1, Dirichlet(alpha + n) and Beta(a + k, b + n - k)."""
    pattern = np.repeat([0, 1, 2], [30, 15, 5])
    samples = (pattern[:, None] == np.arange(4)).astype(float)
    correct = samples * (np.arange(50)[:, None] % 3 > 0)
    prior = Prior(2.0, 3.0, 1.5)
    found = clustered_posterior(samples, correct, prior, exists=np.arange(4) < 3)
    probs, rates = draws_of(eqx.tree_at(lambda p: p.shape, found, jnp.ones(())))
    n, k = samples.sum(axis=0), correct.sum(axis=0)
    for r in range(3):
        law = stats.beta(2 + n[r], 6 + 50 - 2 - n[r])
        assert stats.kstest(probs[:, r], law.cdf).pvalue > 1e-4
        law = stats.beta(3 + k[r], 1.5 + n[r] - k[r])
        assert stats.kstest(rates[:, r], law.cdf).pvalue > 1e-4
    np.testing.assert_array_equal(probs[:, 3], 0)


def test_interval_of_a_mean_is_students():
    """6 questions that are right always or never: the variance of the mean is that of Student's
    interval, (c s)^2 / (Q - 1), c = t / z."""
    samples = np.full((6, 1), 400.0)
    correct = 400.0 * (np.arange(6) < 2)[:, None]
    _, rates = draws_of(clustered_posterior(samples, correct, Prior(1e-3, 1e-3, 1e-3)))
    ratio = stats.t(5).ppf(0.95) / stats.norm.ppf(0.95)
    exact = ratio * np.sqrt(2 / 6 * 4 / 6 / 5)
    assert rates.std() == pytest.approx(exact, rel=0.04)
    # Kish's number of questions, where one has most of the samples.
    assert weights_shape(np.array([9.0, 1, 1, 1])) < weights_shape(np.full(4, 3.0))


def test_design_effects_by_hand():
    """Two kinds of questions, all alike within: 4 rollouts are worth little more than one."""
    samples = np.array([[4.0, 0], [4, 0], [0, 4], [2, 2]])
    correct = np.array([[4.0, 0], [0, 0], [0, 4], [1, 1]])
    found = design_effects(samples, correct)
    number, right, mean = np.full(4, 4.0), np.array([4.0, 0, 4, 2]), 10 / 16
    between = np.sum((right - mean * number) ** 2) * 4 / 3
    assert found.accuracy == pytest.approx(between / (16 * mean * (1 - mean)))
    spread = np.sum((samples[:, 0] - 10 / 16 * 4) ** 2) * 4 / 3 / (16 * 10 / 16 * 6 / 16)
    assert found.shares == pytest.approx(spread)  # of two shares each is the other's
    assert found.rates.shape == (2,)
    # Never below 1, and 1 where nothing can be told.
    even = design_effects(np.full((6, 1), 4.0), np.full((6, 1), 2.0))
    assert even.accuracy == even.rates[0] == even.shares == 1


def test_patterns_in_few_questions():
    """A pattern that one question alone has used is not known exactly."""
    samples = np.tile([[8.0, 0]], (20, 1))
    samples[3] = 5, 3
    correct = samples * (np.arange(20)[:, None] % 2)
    found = clustered_posterior(samples, correct)
    assert np.asarray(found.few).tolist() == [False, True]
    effect = design_effects(samples, correct).accuracy
    law = stats.beta(1 + 3 / effect, 1)
    assert stats.kstest(draws_of(found)[1][:, 1], law.cdf).pvalue > 1e-4


def test_worth_in_independent_rollouts():
    """`effective` divides counts by their design effects; other sources come on top; padding
    changes nothing."""
    rng = np.random.default_rng(5)
    level = rng.beta(0.5, 0.5, (40, 1))
    samples = rng.multinomial(8, [0.6, 0.4], 40).astype(float)
    correct = rng.binomial(samples.astype(int), level).astype(float)
    effects = design_effects(samples, correct)
    extra = np.array([[3.0, 0], [1, 5]])
    found = clustered_posterior(samples, correct, extra=extra)
    alike = found.effective()
    assert isinstance(alike, ConjugatePosterior)
    right = 1 + extra[0] + correct.sum(axis=0) / effects.rates
    np.testing.assert_allclose(alike.right[0], right)
    np.testing.assert_allclose(alike.concentrations[0], 1 + samples.sum(axis=0) / effects.shares)
    wrong = 1 + extra[1] + (samples - correct).sum(axis=0) / effects.rates
    np.testing.assert_allclose(alike.wrong[0], wrong)
    later = found.updated(np.array([[2.0, 1]]), np.array([[1.0, 0]]))
    np.testing.assert_allclose(later.right[0], right + np.array([1, 0]))
    rows = ((0, 24), (0, 0))
    more = clustered_posterior(np.pad(samples, rows), np.pad(correct, rows), extra=extra)
    np.testing.assert_allclose(more.effective().right, alike.right)
    np.testing.assert_allclose(more.shape, found.shape)
    # Wider than independent rollouts would be, by about the root of the effect.
    mine, plain = (draws_of(x)[1].std(axis=0) for x in (found, pooled_posterior(samples, correct)))
    assert np.all(mine > 1.3 * plain)


def test_rates_within_questions_move_with_the_weights():
    """Where patterns are compared, draws scatter about these rates as the influences say."""
    rng = np.random.default_rng(6)
    level = rng.normal(0, 1.5, 60)
    samples = rng.multinomial(8, [0.5, 0.5], 60).astype(float)
    chance = 1 / (1 + np.exp(-(level[:, None] + np.array([0.7, -0.2]))))
    correct = rng.binomial(samples.astype(int), chance).astype(float)
    within = within_questions(samples, correct)
    assert within is not None
    found = clustered_posterior(samples, correct, within=within)
    rates = draws_of(found)[1]
    logits = np.log(rates) - np.log1p(-rates)
    centre = np.log(within.rates) - np.log1p(-within.rates)
    spread = np.sqrt(np.sum(within.influence**2, axis=0) / float(found.shape))
    np.testing.assert_allclose(logits.mean(axis=0), centre, atol=4 * spread.max() / NUMBER**0.5)
    np.testing.assert_allclose(logits.std(axis=0), spread, rtol=0.05)
    alike = found.effective()
    total = np.asarray(alike.right + alike.wrong)[0]
    np.testing.assert_allclose(np.asarray(alike.right)[0] / total, within.rates)
    variance = spread**2 * within.rates * (1 - within.rates)
    np.testing.assert_allclose(total, 1 / variance)
