"""The beta law of success among questions: against SciPy's beta-binomial and its moments."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import beta, betabinom

from qra_jax.posteriors import Prior, quantiles_of, success_spread

SAMPLES = np.array([8, 8, 3, 12, 1, 8, 5, 0])
RIGHT = np.array([0, 8, 1, 9, 1, 2, 5, 0])
PRIOR = Prior(right=2.0, wrong=3.0)


def test_posterior():
    """Means and deviations of the law's two parameters, summed over a grid of SciPy's terms."""
    mean = np.linspace(0, 1, 402)[1:-1]
    log_strength = np.linspace(np.log(0.01), np.log(1e5), 400)
    m, s = np.meshgrid(mean, np.exp(log_strength), indexing="ij")
    logs = beta(2, 3).logpdf(m)
    for n, c in zip(SAMPLES, RIGHT, strict=True):
        logs = logs + betabinom(n, m * s, (1 - m) * s).logpmf(c)
    chance = np.exp(logs - logsumexp(logs))
    expected = [
        (np.sum(chance * x), np.sqrt(np.sum(chance * x**2) - np.sum(chance * x) ** 2))
        for x in (m, np.log(s))
    ]
    found = success_spread(SAMPLES, RIGHT, PRIOR)
    assert found.chances.sum() == pytest.approx(1)
    a, b = found.draw(np.random.default_rng(0), 40_000)
    for values, (centre, spread) in zip((a / (a + b), np.log(a + b)), expected, strict=True):
        assert values.mean() == pytest.approx(centre, abs=5 * spread / 200)
        assert values.std() == pytest.approx(spread, rel=0.03)


def test_few_or_many_questions():
    """A thousand questions of a known law give it back; equal questions need a large strength."""
    rng = np.random.default_rng(3)
    number = rng.integers(2, 17, 1000)
    right = rng.binomial(number, rng.beta(0.3 * 1.5, 0.7 * 1.5, 1000))
    a, b = success_spread(number, right).draw(rng, 2000)
    assert abs(np.log(a + b) - np.log(1.5)).mean() < 0.25
    assert (a / (a + b)).mean() == pytest.approx(0.3, abs=0.04)
    alike = success_spread(np.full(200, 16.0), np.tile([7.0, 9, 8, 8], 50))
    a, b = alike.draw(rng, 2000)
    assert np.quantile(a + b, 0.05) > 100


def test_questions_and_quantiles():
    """Draws of the questions have the means of their beta laws; quantiles those of the law."""
    found = success_spread(SAMPLES, RIGHT, PRIOR)
    rng = np.random.default_rng(1)
    laws = np.tile([[0.7], [1.9]], 20_000)
    own = found.of_questions(rng, laws)
    expected = (0.7 + RIGHT) / (2.6 + SAMPLES)
    np.testing.assert_allclose(own.mean(axis=0), expected, atol=0.012)
    values = quantiles_of(laws[:, :3], 256)
    law = beta(0.7, 1.9)
    assert values.shape == (3, 256)
    np.testing.assert_allclose(values.mean(axis=1), law.mean(), rtol=1e-4)
    np.testing.assert_allclose(values.var(axis=1), law.var(), rtol=2e-3)
    assert values[0, 127:129] == pytest.approx(law.ppf([127.5 / 256, 128.5 / 256]))


@pytest.mark.parametrize(
    ("samples", "right", "message"),
    [
        ([], [], "samples must have shape"),
        ([[1]], [[1]], "samples must have shape"),
        ([2, 2], [1], "right must have shape"),
        ([2], [3], "samples - right must be at least 0"),
        ([2], [-1], "right must be finite and at least 0"),
    ],
)
def test_bad_counts(samples, right, message):
    """One line that names the argument."""
    with pytest.raises(ValueError, match=message):
        success_spread(np.array(samples, float), np.array(right, float))
