"""Posteriors of counts, against SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import gammaln

import qra_jax as qra
from qra_jax.posteriors._hierarchy import STRENGTHS, hierarchy, log_marginal

SAMPLES = np.array([[4.0, 0, 3], [2, 0, 6], [5, 0, 1], [0, 0, 7]])
CORRECT = np.array([[4.0, 0, 1], [1, 0, 2], [3, 0, 0], [0, 0, 5]])
PRIOR = qra.posteriors.Prior(0.5, 2.0, 1.5)
DRAWS = 4000


@functools.cache
def drawn(kind):
    """A posterior and draws from it."""
    posterior = kind(SAMPLES, CORRECT, PRIOR)
    return posterior, *(np.asarray(x) for x in posterior.draw(jax.random.key(0), DRAWS))


def assert_moments(draws, mean, variance):
    """Sampled moments within five standard errors."""
    error = np.sqrt(variance / DRAWS)
    assert np.all(np.abs(draws.mean(axis=0) - mean) <= 5 * error)
    fourth = np.mean((draws - draws.mean(axis=0)) ** 4, axis=0)
    assert np.all(np.abs(draws.var(axis=0) - variance) <= 5 * np.sqrt(fourth / DRAWS) + 1e-12)


@pytest.mark.parametrize(
    "kind", [qra.posteriors.pooled_posterior, qra.posteriors.per_question_posterior]
)
def test_moments(kind):
    """Means and variances of draws are those of SciPy's Dirichlet and beta."""
    posterior, probs, rates = drawn(kind)
    samples, correct = SAMPLES, CORRECT
    if kind is qra.posteriors.pooled_posterior:
        samples, correct = samples.sum(0, keepdims=True), correct.sum(0, keepdims=True)
    shares, success = (np.asarray(x) for x in posterior.mean())
    for q, (n, k) in enumerate(zip(samples, correct, strict=True)):
        exact = stats.dirichlet(0.5 + n)
        assert_moments(probs[:, q], exact.mean(), exact.var())
        beta = stats.beta(2 + k, 1.5 + n - k)
        assert_moments(rates[:, q], beta.mean(), beta.var())
        np.testing.assert_allclose(shares[q], exact.mean(), rtol=1e-12)
        np.testing.assert_allclose(success[q], beta.mean(), rtol=1e-12)
    # A pattern that was never sampled has a posterior all the same.
    assert np.all(probs[:, :, 1] > 0)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-12)


def test_whole_distribution():
    """Not the moments alone: Kolmogorov and Smirnov find no difference."""
    _, probs, rates = drawn(qra.posteriors.pooled_posterior)
    n, k = SAMPLES.sum(0), CORRECT.sum(0)
    for r in range(3):
        share = stats.beta(0.5 + n[r], 1.0 + n.sum() - n[r])
        assert stats.kstest(probs[:, 0, r], share.cdf).pvalue > 1e-4
        success = stats.beta(2 + k[r], 1.5 + n[r] - k[r])
        assert stats.kstest(rates[:, 0, r], success.cdf).pvalue > 1e-4


def test_draw_depends_on_its_index_alone():
    """Draw i is that of fold_in(key, i), whatever their number."""
    posterior, probs, _ = drawn(qra.posteriors.pooled_posterior)
    few, _ = posterior.draw(jax.random.key(0), 3)
    np.testing.assert_allclose(few, probs[:3], rtol=1e-12)


def test_columns_that_only_pad():
    """They get no probability, and change nothing else."""
    exists = np.array([True, False, True])
    posterior = qra.posteriors.pooled_posterior(SAMPLES, CORRECT, exists=exists)
    probs, _ = posterior.draw(jax.random.key(1), DRAWS)
    assert np.all(np.asarray(probs)[..., 1] == 0)
    mean, _ = posterior.mean()
    np.testing.assert_allclose(mean[0, [0, 2]], (1 + SAMPLES.sum(0)[[0, 2]]) / (2 + SAMPLES.sum()))


def test_update_is_a_posterior_of_all_counts():
    """Further counts, or the same at once."""
    first = qra.posteriors.per_question_posterior(SAMPLES[:2], CORRECT[:2], PRIOR)
    both = qra.posteriors.per_question_posterior(
        SAMPLES[:2] + SAMPLES[2:], CORRECT[:2] + CORRECT[2:], PRIOR
    )
    later = first.updated(SAMPLES[2:], CORRECT[2:])
    for one, other in zip(jax.tree.leaves(later), jax.tree.leaves(both), strict=True):
        np.testing.assert_allclose(one, other)


def test_marginal_likelihood():
    """Against SciPy's Dirichlet-multinomial, and beta-binomial."""
    concentrations = np.array([0.7, 2.0, 0.1])
    counts = SAMPLES[:, [0, 2, 1]]
    choices = gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1)
    exact = [
        stats.dirichlet_multinomial.logpmf(row, concentrations, int(row.sum()))
        for row in counts.astype(int)
    ]
    found = log_marginal(jnp.asarray(counts), jnp.asarray(concentrations))
    assert float(found) == pytest.approx(np.sum(exact) - np.sum(choices), rel=1e-12)
    pairs, strength = np.array([[3.0, 4.0], [0.0, 5.0]]), np.array([0.4, 1.1])
    exact = stats.betabinom.logpmf(pairs[:, 0], pairs.sum(1), *strength)
    choices = gammaln(pairs.sum(1) + 1) - gammaln(pairs + 1).sum(1)
    found = log_marginal(jnp.asarray(pairs), jnp.asarray(strength))
    assert float(found) == pytest.approx(np.sum(exact - choices), rel=1e-12)


def test_hierarchy_against_quadrature():
    """Strength and shared share of two categories: sums over one, integral over the other."""
    counts, base = np.array([[6.0, 2], [1, 7], [8, 0], [3, 5], [7, 1]]), np.array([1.5, 0.8])

    def terms(share, strength):
        shares = strength * np.array([share, 1 - share])
        return np.exp(
            np.sum(gammaln(counts + shares) - gammaln(shares))
            + np.sum(gammaln(strength) - gammaln(strength + counts.sum(1)))
            + stats.beta.logpdf(share, *base)
            + 25
        )

    weigh = [integrate.quad(terms, 0, 1, args=(s,), epsrel=1e-9)[0] for s in STRENGTHS]
    first = [integrate.quad(lambda m, s: m * terms(m, s), 0, 1, args=(s,))[0] for s in STRENGTHS]
    weigh, first = np.array(weigh) / np.sum(weigh), np.sum(first) / np.sum(weigh)
    found = hierarchy(jax.random.key(2), jnp.asarray(counts), jnp.asarray(base), 4096)
    chance = np.exp(np.asarray(found.log_weights))
    number = float(found.effective)
    assert number > 1000
    log_strength = np.log(np.asarray(found.strengths))
    exact = weigh @ np.log(STRENGTHS)
    spread = np.sqrt(weigh @ (np.log(STRENGTHS) - exact) ** 2)
    assert abs(chance @ log_strength - exact) < 5 * spread / number**0.5
    share = np.asarray(found.shares)[:, 0]
    spread = np.sqrt(chance @ (share - first) ** 2)
    assert abs(chance @ share - first) < 5 * spread / number**0.5


@functools.cache
def partial():
    """`qra.posteriors.partial_posterior` compiled for 12 questions of three patterns."""
    return jax.jit(
        lambda n, k: qra.posteriors.partial_posterior(jax.random.key(3), n, k, particles=256)
    )


def test_partial_pooling_of_equal_questions():
    """Questions with the same counts: nearly the pooled means, and far from each by itself."""
    samples = np.tile([[9.0, 6, 1]], (12, 1))
    correct = np.tile([[7.0, 2, 1]], (12, 1))
    pooled, alone = (
        kind(samples, correct).mean()
        for kind in (qra.posteriors.pooled_posterior, qra.posteriors.per_question_posterior)
    )
    for found, all_in_one, each in zip(
        partial()(samples, correct).mean(), pooled, alone, strict=True
    ):
        np.testing.assert_allclose(found, np.tile(all_in_one, (12, 1)), atol=0.02)
        assert np.abs(each - found).max() > 0.03


def test_partial_pooling_of_unlike_questions():
    """Questions that have nothing in common: each nearly by itself."""
    samples = np.tile(200.0 * np.eye(3), (4, 1))
    correct = samples * (np.arange(12) % 2)[:, None]
    posterior = partial()(samples, correct)
    probs, rates = (np.asarray(x) for x in posterior.mean())
    assert np.abs(probs - samples / 200).max() < 0.01
    own = samples > 0
    assert np.abs(rates - correct / 200)[own].max() < 0.02
    # A strength of a few samples at most is what is left.
    strong = np.asarray(posterior.patterns.strengths) > 3
    assert np.exp(np.asarray(posterior.patterns.log_weights))[strong].sum() < 0.01


def test_partial_pooling_is_calibrated():
    """Truths drawn from the model itself: their shares lie in 90 % intervals as often as they
    should, by a binomial test over independent data sets."""
    rng, inside, number = np.random.default_rng(5), 0, 40
    draw = jax.jit(lambda posterior, key: posterior.draw(key, 199))
    for index in range(number):
        strength = rng.choice(STRENGTHS)
        shared = np.maximum(strength * rng.dirichlet(np.ones(3)), 1e-6)
        truth = rng.dirichlet(shared, size=12)
        samples = np.stack([rng.multinomial(8, row) for row in truth]).astype(float)
        correct = rng.binomial(samples.astype(int), rng.uniform(size=3)).astype(float)
        probs, _ = draw(partial()(samples, correct), jax.random.key(index))
        rank = np.sum(np.asarray(probs)[:, 0, 0] < truth[0, 0])
        inside += 10 <= rank <= 189
    assert stats.binomtest(int(inside), number, 0.9).pvalue > 1e-3


@pytest.mark.parametrize(
    ("samples", "correct", "message"),
    [
        ([-1.0, 2.0], [0.0, 0.0], "samples must be finite and at least 0, got samples[0] = -1.0"),
        ([1.0, 2.0], [0.0, 3.0], "samples - correct must be at least 0"),
        ([1.0, np.inf], [0.0, 0.0], "samples must be finite"),
        ([1.0, 2.0], [0.0], "correct must have shape (2,), got (1,)"),
        ([[[1.0]]], [[[1.0]]], "samples must have shape (Q, R), got (1, 1, 1)"),
    ],
)
def test_bad_counts(samples, correct, message):
    """One clear line each."""
    with pytest.raises(ValueError, match=r"samples|correct") as error:
        qra.posteriors.pooled_posterior(np.array(samples), np.array(correct))
    assert message in str(error.value)


def test_bad_prior():
    """So with priors."""
    with pytest.raises(ValueError, match="concentration must be above 0 and finite, got 0"):
        qra.posteriors.Prior(0.0)
    assert str(qra.posteriors.Prior()) == "Dirichlet(1) over patterns, Beta(1, 1) for success rates"
