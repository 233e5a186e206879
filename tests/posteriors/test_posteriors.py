"""Posteriors of counts, against SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import qra_jax as qra
from qra_jax.posteriors._hierarchy import (
    STRENGTHS,
    Hierarchy,
    _dirichlet,
    hierarchy,
    log_marginal,
)
from qra_jax.posteriors._posteriors import PartialPosterior

SAMPLES = np.array([[4.0, 0, 3], [2, 0, 6], [5, 0, 1], [0, 0, 7]])
CORRECT = np.array([[4.0, 0, 1], [1, 0, 2], [3, 0, 0], [0, 0, 5]])
PRIOR = qra.posteriors.Prior(0.5, 2.0, 1.5)
DRAWS = 4000


# Of shares, and of the success rates of each pattern: two and three particles of unequal weight.
SHARED = (
    np.array([0.5, 0.2, 0.3]),
    np.array([2.0, 9.0, 0.5]),
    np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]]),
)
RATES = (
    np.array([[0.9, 0.1], [0.35, 0.65], [0.2, 0.8]]),
    np.array([[1.5, 30.0], [4.0, 1.2], [12.0, 2.5]]),
    np.array([[[0.7, 0.3], [0.3, 0.7]], [[0.8, 0.2], [0.4, 0.6]], [[0.6, 0.4], [0.1, 0.9]]]),
)


def known_partial(samples, correct):
    """A posterior of partial pooling whose particles are known."""
    levels = (Hierarchy(*map(jnp.asarray, (s, m, np.log(w)))) for w, s, m in (SHARED, RATES))
    return PartialPosterior(jnp.asarray(samples), jnp.asarray(correct), *levels)


@functools.cache
def drawn(kind):
    """A posterior and draws from it."""
    posterior = (
        known_partial(SAMPLES, CORRECT)
        if kind is qra.posteriors.partial_posterior
        else kind(SAMPLES, CORRECT, PRIOR)
    )
    return posterior, *(np.asarray(x) for x in posterior.draw(jax.random.key(0), DRAWS))


def exact(kind, samples=SAMPLES, correct=CORRECT):
    """Parameters of SciPy's distributions: weights `(P,)` and concentrations `(P, Q, R)` of the
    Dirichlet mixture of shares; weights `(R, P)` and `(R, P, Q)` each of the beta mixtures."""
    if kind is qra.posteriors.partial_posterior:
        weights, strengths, shares = SHARED
        dirichlet = strengths[:, None, None] * shares[:, None] + samples
        each, strengths, shares = RATES
        right, wrong = np.moveaxis(strengths[..., None] * shares, -1, 0)[..., None]
        right, wrong = right + correct.T[:, None], wrong + (samples - correct).T[:, None]
        return weights, dirichlet, each, right, wrong
    if kind is qra.posteriors.pooled_posterior:
        samples, correct = samples.sum(0, keepdims=True), correct.sum(0, keepdims=True)
    one = np.ones(1)
    right, wrong = PRIOR.right + correct, PRIOR.wrong + samples - correct
    return (
        one,
        PRIOR.concentration + samples[None],
        np.ones((3, 1)),
        right.T[:, None],
        wrong.T[:, None],
    )


def exact_moments(kind, **counts):
    """Means and covariances of shares and then rates, question by question, `(2QR,)` squared."""
    weights, dirichlet, each, right, wrong = exact(kind, **counts)
    _, questions, patterns = dirichlet.shape
    size = questions * patterns
    mean, second = np.zeros(2 * size), np.zeros((2 * size, 2 * size))
    for weight, tables in zip(weights, dirichlet, strict=True):
        here = np.concatenate([stats.dirichlet.mean(row) for row in tables])
        mean[:size] += weight * here
        second[:size, :size] += weight * np.outer(here, here)
        for q, row in enumerate(tables):
            at = slice(q * patterns, (q + 1) * patterns)
            second[at, at] += weight * stats.dirichlet.cov(row)
    for r in range(patterns):
        at = np.ix_(*[size + r + patterns * np.arange(questions)] * 2)
        for weight, beta in zip(each[r], map(stats.beta, right[r], wrong[r]), strict=True):
            mean[at[1][0]] += weight * beta.mean()
            second[at] += weight * (np.outer(beta.mean(), beta.mean()) + np.diag(beta.var()))
        # Of each pattern by itself; between patterns, and shares and rates, there is none.
        second[at] -= np.outer(mean[at[1][0]], mean[at[1][0]])
    second[:size, :size] -= np.outer(mean[:size], mean[:size])
    return mean, second


KINDS = [
    qra.posteriors.pooled_posterior,
    qra.posteriors.per_question_posterior,
    qra.posteriors.partial_posterior,
]


@pytest.mark.parametrize("kind", KINDS)
def test_moments(kind):
    """Means, variances and covariances of draws, within five standard errors of SciPy's Dirichlet
    and beta: nothing depends on what it should not."""
    posterior, probs, rates = drawn(kind)
    mean, covariance = exact_moments(kind)
    found = np.concatenate([probs.reshape(DRAWS, -1), rates.reshape(DRAWS, -1)], axis=1)
    away = found - mean
    error = np.sqrt(np.diag(covariance) / DRAWS)
    assert np.all(np.abs(away.mean(axis=0)) <= 5 * error)
    spread = np.sqrt((away**2).T @ away**2 / DRAWS)
    off = np.abs(away.T @ away / DRAWS - covariance)
    assert np.all(off <= 5 * spread / np.sqrt(DRAWS) + 1e-12)
    # One draw says nothing of the next.
    next_one = np.abs(np.mean(away[1:] * away[:-1], axis=0)) / np.diag(covariance)
    assert np.all(next_one <= 5 / np.sqrt(DRAWS))
    np.testing.assert_allclose(np.ravel(jnp.stack(posterior.mean())), mean, rtol=1e-12)
    # A pattern that was never sampled has a posterior all the same.
    assert np.all(probs[:, :, 1] > 0)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_distribution(kind):
    """Not the moments alone: Kolmogorov and Smirnov find no difference."""
    _, probs, rates = drawn(kind)
    weights, dirichlet, each, right, wrong = exact(kind)
    for q, r in np.ndindex(*dirichlet.shape[1:]):
        first = dirichlet[:, q, r]
        shares = stats.beta(first, dirichlet[:, q].sum(axis=-1) - first)
        known = stats.kstest(probs[:, q, r], lambda x, d=shares: d.cdf(x[:, None]) @ weights)
        assert known.pvalue > 1e-4
        success = stats.beta(right[r, :, q], wrong[r, :, q])
        known = stats.kstest(rates[:, q, r], lambda x, d=success, r=r: d.cdf(x[:, None]) @ each[r])
        assert known.pvalue > 1e-4


def test_draw_depends_on_key_and_index_alone():
    """Draw i is that of fold_in(key, i), whatever their number; another key, others."""
    posterior, probs, rates = drawn(qra.posteriors.partial_posterior)
    few = posterior.draw(jax.random.key(0), 3)
    np.testing.assert_allclose(few[0], probs[:3], rtol=1e-12)
    np.testing.assert_allclose(few[1], rates[:3], rtol=1e-12)
    others = posterior.draw(jax.random.key(1), 3)
    for here, there in zip(few, others, strict=True):
        assert not np.any(np.isclose(here, there, rtol=1e-6))
    with pytest.raises(ValueError, match="number must be at least 1, got 0"):
        posterior.draw(jax.random.key(0), 0)


def test_columns_that_only_pad():
    """They get no probability, and change nothing else."""
    exists = np.array([True, False, True])
    for kind in (qra.posteriors.pooled_posterior, qra.posteriors.per_question_posterior):
        posterior, few = (
            kind(n, k, PRIOR, exists=there)
            for n, k, there in (
                (SAMPLES, CORRECT, exists),
                (SAMPLES[:, exists], CORRECT[:, exists], None),
            )
        )
        probs, _ = posterior.sample(jax.random.key(1))
        assert np.all(np.asarray(probs)[..., 1] == 0)
        assert np.all(np.asarray(posterior.mean()[0])[..., 1] == 0)
        for padded, alone in zip(posterior.mean(), few.mean(), strict=True):
            np.testing.assert_allclose(padded[:, exists], alone, rtol=1e-14)


MORE = np.array([[0.0, 3, 1], [5, 1, 0], [2, 0, 6], [7, 0, 2]])
RIGHT = np.array([[0.0, 2, 0], [1, 1, 0], [2, 0, 5], [4, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_update_is_a_posterior_of_all_counts(kind):
    """Further samples and successes, or the same at once, as SciPy's means have it."""
    new, right = MORE, RIGHT
    if kind is qra.posteriors.pooled_posterior:
        new, right = MORE.sum(0, keepdims=True), RIGHT.sum(0, keepdims=True)
    posterior, *_ = drawn(kind)
    later = posterior.updated(new, right)
    mean, _ = exact_moments(kind, samples=SAMPLES + MORE, correct=CORRECT + RIGHT)
    np.testing.assert_allclose(np.ravel(jnp.stack(later.mean())), mean, rtol=1e-12)
    both = SAMPLES + MORE, CORRECT + RIGHT
    at_once = (
        known_partial(*both) if kind is qra.posteriors.partial_posterior else kind(*both, PRIOR)
    )
    for one, other in zip(jax.tree.leaves(later), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)
    with pytest.raises(ValueError, match="samples - correct must be at least 0"):
        posterior.updated(right, new + 1)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_some_of_the_questions(kind):
    """In the order asked for, and one of them twice."""
    index = np.array([2, 0, 2])
    posterior, *_ = drawn(kind)
    mean, _ = exact_moments(kind, samples=SAMPLES[index], correct=CORRECT[index])
    found = posterior.of_questions(index).mean()
    np.testing.assert_allclose(np.ravel(jnp.stack(found)), mean, rtol=1e-12)


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


def test_draws_of_small_concentrations():
    """Means and variances, also of what is as rare as never seen; 0 for what there is not."""
    concentrations, number = np.array([0.5, 0.0, 0.2, 2.0]), 20_000
    drawn = np.asarray(_dirichlet(jax.random.key(4), jnp.tile(concentrations, (number, 1))))
    np.testing.assert_array_equal(drawn[:, 1], 0)
    np.testing.assert_allclose(drawn.sum(axis=1), 1, rtol=1e-12)
    total = concentrations.sum()
    mean = concentrations / total
    variance = mean * (1 - mean) / (total + 1)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) <= 5 * np.sqrt(variance / number))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.05)


def quadrature(pairs, base):
    """Strengths, shares and the posterior weight of each on a grid, for rows of two categories."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    share = (1 + nodes) / 2
    strength, share = (x.ravel() for x in np.meshgrid(STRENGTHS, share, indexing="ij"))
    rates = strength * np.array([share, 1 - share])
    logs = stats.beta.logpdf(share, *base) + np.sum(
        gammaln(strength) - gammaln(strength + pairs.sum(axis=1)[:, None])
        + np.sum(gammaln(rates + pairs[..., None]) - gammaln(rates), axis=1), axis=0
    )  # fmt: skip
    chance = np.exp(logs - logs.max()) * np.tile(weights, len(STRENGTHS))
    some = chance > 1e-12 * chance.max()
    return strength[some], share[some], chance[some] / chance[some].sum()


def test_hierarchy_against_quadrature():
    """Strength and shared share of two categories: sums over one, integral over the other."""
    counts, base = np.array([[6.0, 2], [1, 7], [8, 0], [3, 5], [7, 1]]), np.array([1.5, 0.8])

    strengths, shares, weigh = quadrature(counts, base)
    found = hierarchy(jax.random.key(2), jnp.asarray(counts), jnp.asarray(base), 4096)
    chance = np.exp(np.asarray(found.log_weights))
    np.testing.assert_allclose(chance.sum(), 1, rtol=1e-12)
    number = float(found.effective)
    np.testing.assert_allclose(number, 1 / np.sum(chance**2), rtol=1e-12)
    assert number > 1000
    share, strength = np.asarray(found.shares)[:, 0], np.asarray(found.strengths)
    np.testing.assert_allclose(found.shares.sum(axis=-1), 1, rtol=1e-12)
    levels = np.quantile(strength, [0.1, 0.3, 0.5, 0.7, 0.9])
    for of in (
        lambda s, m: np.log(s),
        *(lambda s, m, level=level: s <= level for level in levels),
        lambda s, m: m,
        lambda s, m: m**2,
        lambda s, m: m * np.log(s),
    ):
        values, exact = of(strength, share), weigh @ of(strengths, shares)
        spread = np.sqrt(chance @ (values - exact) ** 2)
        assert abs(chance @ values - exact) < 5 * spread / number**0.5


# Shares are nearly equal, success is likely.
STEEP = qra.posteriors.Prior(4.0, 5.0, 1.5)


@functools.cache
def compiled_partial():
    """`qra.posteriors.partial_posterior` of 12 questions of three patterns, under `STEEP`."""
    return jax.jit(
        lambda key, n, k, exists: qra.posteriors.partial_posterior(
            key, n, k, STEEP, exists=exists, particles=256
        )
    )


def partial(samples, correct, key=3, exists=(True, True, True)):
    """The same, compiled once for all keys and columns."""
    return compiled_partial()(jax.random.key(key), samples, correct, np.array(exists))


def assert_beta_mixture(level, pairs, base, question):
    """Mean, variance and distribution of a question's rate, as by quadrature."""
    strength, share, chance = quadrature(pairs, base)
    particles = [np.asarray(x) for x in (level.strengths, level.shares[..., 0])]
    weights, number = np.exp(np.asarray(level.log_weights)), float(level.effective)
    right, wrong = pairs[question]

    def summaries(strength, share):
        beta = stats.beta(strength * share + right, strength * (1 - share) + wrong)
        mean = beta.mean()
        return [mean, mean**2 + beta.var(), *(beta.cdf(x) for x in np.linspace(0.05, 0.95, 7))]

    pairs_of = zip(summaries(*particles), summaries(strength, share), strict=True)
    for found, values in pairs_of:
        exact = chance @ values
        spread = np.sqrt(chance @ (values - exact) ** 2)
        assert abs(weights @ found - exact) < 5 * spread / number**0.5 + 1e-9


def test_partial_pooling_against_quadrature():
    """Success rates under a prior that is not symmetric: of a pattern that fails often, of one
    that was seen twice; and shares, where one of the three columns only pads."""
    rng = np.random.default_rng(8)
    samples = np.stack([rng.multinomial(9, [0.75, 0, 0.25]) for _ in range(12)]).astype(float)
    samples[:, 1] = 0
    correct = rng.binomial(samples.astype(int), 0.2).astype(float)
    rare, one = samples.copy(), np.arange(12) == 4
    rare[:, 1], correct[:, 1] = 2 * one, one
    found = partial(rare, correct)
    for r in range(3):
        pairs = np.stack([correct[:, r], rare[:, r] - correct[:, r]], axis=1)
        level = jax.tree.map(lambda x, r=r: x[r], found.answers)
        for question in (0, 4):
            assert_beta_mixture(level, pairs, (5.0, 1.5), question)
    # Few enough for the prior to matter.
    samples = np.zeros((12, 3))
    samples[:4] = [[3, 0, 0], [2, 0, 1], [0, 0, 0], [4, 0, 0]]
    found = partial(samples, 0 * samples, exists=(True, False, True))
    level = found.patterns
    assert np.all(np.asarray(level.shares[:, 1]) == 0)
    for question in (1, 4):
        assert_beta_mixture(level, samples[:, [0, 2]], (4.0, 4.0), question)


def test_keys_of_partial_pooling():
    """The same key, the same particles; another key, others; no two patterns share theirs."""
    samples = np.tile([[4.0, 4, 4]], (12, 1))
    correct = np.tile([[3.0, 3, 3]], (12, 1))
    here, again = (partial(samples, correct) for _ in range(2))
    other = partial(samples, correct, key=4)
    for one, two, three in zip(*map(jax.tree.leaves, (here, again, other)), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.shape == (12, 3) or not np.array_equal(one, three)
    shares = np.asarray(here.answers.shares)[..., 0]
    assert np.all(np.abs(np.corrcoef(shares)[np.triu_indices(3, 1)]) < 5 / 16)
    alike = (np.isclose(shares[i], shares[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2)))
    assert max(alike) < 0.05


def test_partial_pooling_of_equal_questions():
    """Questions with the same counts: nearly the pooled means, and far from each by itself."""
    samples = np.tile([[9.0, 6, 1]], (12, 1))
    correct = np.tile([[7.0, 2, 1]], (12, 1))
    pooled, alone = (
        kind(samples, correct, STEEP).mean()
        for kind in (qra.posteriors.pooled_posterior, qra.posteriors.per_question_posterior)
    )
    for found, all_in_one, each in zip(
        partial(samples, correct).mean(), pooled, alone, strict=True
    ):
        np.testing.assert_allclose(found, np.tile(all_in_one, (12, 1)), atol=0.02)
        assert np.abs(found - all_in_one).max() < 0.3 * np.abs(each - all_in_one).max()


def test_partial_pooling_of_unlike_questions():
    """Questions that have nothing in common: each nearly by itself."""
    samples = np.tile(200.0 * np.eye(3), (4, 1))
    correct = samples * (np.arange(12) % 2)[:, None]
    posterior = partial(samples, correct)
    probs, rates = (np.asarray(x) for x in posterior.mean())
    assert np.abs(probs - samples / 200).max() < 0.01
    own = samples > 0
    assert np.abs(rates - correct / 200)[own].max() < 0.02
    # A strength of a few samples at most is what is left.
    strong = np.asarray(posterior.patterns.strengths) > 3
    assert np.exp(np.asarray(posterior.patterns.log_weights))[strong].sum() < 0.01


@pytest.mark.slow
def test_partial_pooling_is_calibrated():
    """Truths drawn from the model itself: among draws of the posterior their ranks are uniform,
    for shares and for success rates, over independent data sets."""
    rng, number = np.random.default_rng(5), 40
    draw = jax.jit(lambda posterior, key: posterior.draw(key, 199))
    ranks = []
    for index in range(number):
        strength = rng.choice(STRENGTHS)
        shared = np.maximum(strength * rng.dirichlet(np.full(3, 4.0)), 1e-6)
        truth = rng.dirichlet(shared, size=12)
        samples = np.stack([rng.multinomial(8, row) for row in truth]).astype(float)
        shared = rng.choice(STRENGTHS, 3) * rng.dirichlet([5.0, 1.5], 3).T
        known = rng.beta(*np.maximum(shared, 1e-6)[:, None], (12, 3))
        correct = rng.binomial(samples.astype(int), known).astype(float)
        probs, rates = draw(partial(samples, correct), jax.random.key(index))
        ranks.append([np.sum(np.asarray(probs)[:, 0, 0] < truth[0, 0])])
        ranks[-1] += list(np.sum(np.asarray(rates)[:, 3] < known[3], axis=0))
    share, *rates = (np.array(ranks).T + rng.uniform(size=(4, number))) / 200
    for one in (share, np.concatenate(rates)):
        assert stats.kstest(one, "uniform").pvalue > 1e-3


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
    for name in ("concentration", "right", "wrong"):
        for value in (0.0, np.inf):
            message = f"{name} must be above 0 and finite, got {value}"
            with pytest.raises(ValueError, match=message):
                qra.posteriors.Prior(**{name: value})
    assert str(PRIOR) == "Dirichlet(0.5) over patterns, Beta(2, 1.5) for success rates"
    assert str(qra.posteriors.Prior()) == "Dirichlet(1) over patterns, Beta(1, 1) for success rates"
