"""Patterns compared within questions: truth known, the conditional likelihood, the jackknife."""

import numpy as np
import pytest
from scipy import optimize, special

from qra_jax.posteriors._within import _model, within_questions


def confounded(rng, questions, each):
    """The better pattern is used on the hard questions: pooled, it looks the worse one."""
    hard = rng.random(questions) < 0.5
    level = np.where(hard, -1.4, 1.4)
    use = np.where(hard, 0.8, 0.2)
    samples = np.stack([rng.multinomial(each, [x, 1 - x]) for x in use])
    chance = special.expit(level[:, None] + np.array([0.55, 0.0]))
    correct = rng.binomial(samples, chance)
    return samples.astype(float), correct.astype(float), chance.mean(axis=0)


def test_bias_at_eight_samples():
    """Below .01 where the pooled rates are off by .17 and in the wrong order."""
    errors, pooled = [], []
    for index in range(40):
        samples, correct, truth = confounded(np.random.default_rng([1, index]), 200, 8)
        found = within_questions(samples, correct)
        assert found is not None
        errors.append(found.rates - truth)
        pooled.append(correct.sum(axis=0) / samples.sum(axis=0) - truth)
    assert np.all(np.abs(np.mean(errors, axis=0)) < 0.01)
    assert np.all(np.abs(np.mean(pooled, axis=0)) > 0.15)
    assert np.mean(pooled, axis=0)[0] < 0 < np.mean(pooled, axis=0)[1]


def test_against_the_conditional_likelihood():
    """Given the right answers of a question the difficulty drops out (noncentral hypergeometric):
    the same log odds ratio, within its error."""
    samples, correct, _ = confounded(np.random.default_rng(3), 1500, 8)

    def loss(gap):
        total = 0.0
        for (n, m), (k, j) in zip(samples, correct, strict=True):
            first = np.arange(max(0, k + j - m), min(n, k + j) + 1)
            terms = special.gammaln(n + 1) - special.gammaln(first + 1)
            terms -= special.gammaln(n - first + 1) + special.gammaln(k + j - first + 1)
            terms -= special.gammaln(m - k - j + first + 1)
            terms += first * gap
            total -= terms[first == k][0] - special.logsumexp(terms)
        return total

    conditional = optimize.minimize_scalar(loss, bracket=(0.0, 1.0), tol=1e-4).x
    found = within_questions(samples, correct)
    assert found is not None
    # The rates stand for questions of two kinds, of which the odds ratio is the same.
    level = np.array([-1.4, 1.4])
    made = [
        optimize.brentq(lambda b, p=p: special.expit(b + level).mean() - p, -5, 5)
        for p in found.rates
    ]
    assert made[0] - made[1] == pytest.approx(conditional, abs=0.12)


def test_gradient_by_differences():
    """Fisher's identity, question by question."""
    rng = np.random.default_rng(4)
    samples = rng.integers(0, 6, (7, 3)).astype(float)
    samples[:, 0] += 1
    correct = np.floor(samples * rng.random((7, 3)))
    shares = samples / samples.sum(axis=1, keepdims=True)
    at = np.array([0.3, -0.5, 0.1, 0.4, -0.7, 0.2])
    _, gradient, means = _model(at, samples, correct, shares)
    for index in range(len(at)):
        move = 1e-5 * (np.arange(len(at)) == index)
        up, down = (_model(at + s * move, samples, correct, shares)[0] for s in (1, -1))
        np.testing.assert_allclose(gradient[:, index], (up - down) / 2e-5, atol=1e-6)
    assert np.all((means > 0) & (means < 1))


def test_influence_is_the_jackknife():
    """Leaving a question out moves the logits of the rates by its influence."""
    samples, correct, _ = confounded(np.random.default_rng(5), 60, 8)
    found = within_questions(samples, correct)
    assert found is not None
    np.testing.assert_allclose(found.influence.sum(axis=0), 0, atol=1e-9)
    moved = []
    for out in range(60):
        keep = np.arange(60) != out
        other = within_questions(samples[keep], correct[keep])
        assert other is not None
        moved.append(special.logit(found.rates) - special.logit(other.rates))
    moved = np.array(moved) - np.mean(moved, axis=0)
    for r in range(2):
        assert np.corrcoef(moved[:, r], found.influence[:, r])[0, 1] > 0.97
        assert moved[:, r].std() == pytest.approx(found.influence[:, r].std(), rel=0.15)


def test_where_nothing_can_be_compared():
    """One pattern a question, or two in too few of them; a third that is never beside another."""
    rng = np.random.default_rng(6)
    apart = np.zeros((30, 2))
    apart[np.arange(30), np.arange(30) % 2] = 8
    assert within_questions(apart, apart / 2) is None
    apart[:9] = 4
    assert within_questions(apart, apart / 2) is None
    samples, correct, _ = confounded(rng, 60, 8)
    lonely = np.pad(samples, ((0, 8), (0, 1)))
    lonely[60:, 2] = 8
    right = np.pad(correct, ((0, 8), (0, 1)))
    right[60:, 2] = 4
    found = within_questions(lonely, right)
    assert found is not None
    assert found.compared.tolist() == [True, True, False]
