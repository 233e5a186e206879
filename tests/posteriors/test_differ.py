"""Whether patterns differ within questions: against Pearson's statistic and permutations."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from qra_jax.posteriors import patterns_differ


def test_one_question_is_pearsons_table():
    """One stratum: (n - 1)/n of Pearson's chi-squared; a pattern that is not used counts for
    nothing."""
    samples, correct = np.array([[9, 0, 14, 5]]), np.array([[7, 0, 4, 2]])
    used = samples[0] > 0
    table = np.stack([correct[0, used], (samples - correct)[0, used]])
    pearson = chi2_contingency(table, correction=False)
    found = patterns_differ(samples, correct)
    assert found.statistic == pytest.approx(pearson.statistic * 27 / 28)
    assert (found.freedom, found.questions) == (2, 1)


def test_permutations():
    """The share of permutations of grades within questions that differ as much."""
    rng = np.random.default_rng(0)
    samples = rng.multinomial(7, (0.5, 0.3, 0.2), 25)
    patterns = [np.repeat(np.arange(3), row) for row in samples]
    ease = rng.uniform(0.1, 0.9, 25)
    grades = [rng.random(7) < e + 0.12 * (p == 0) for e, p in zip(ease, patterns, strict=True)]

    def counts(grades):
        return np.stack([
            np.bincount(p, weights=g, minlength=3) for p, g in zip(patterns, grades, strict=True)
        ])  # fmt: skip

    found = patterns_differ(samples, counts(grades))
    again = [
        patterns_differ(samples, counts([rng.permutation(g) for g in grades])).statistic
        for _ in range(1500)
    ]
    assert np.mean(np.array(again) >= found.statistic) == pytest.approx(found.chance, abs=0.04)
    assert np.mean(again) == pytest.approx(2, abs=0.2)  # chi-squared of two degrees


def test_difficulty_is_no_difference():
    """A pattern of hard questions alone; questions that say nothing are left out."""
    hard, easy = [[8, 2]], [[2, 8]]
    samples = np.array(hard * 40 + easy * 40)
    rng = np.random.default_rng(1)
    rate = np.repeat([0.1, 0.9], 40)[:, None]
    found = patterns_differ(samples, rng.binomial(samples, rate))
    assert found.chance > 0.05
    better = patterns_differ(samples, rng.binomial(samples, np.array([0.3, 0.7])))
    assert better.chance < 1e-6
    nothing = patterns_differ(
        np.array([[3, 2], [4, 0], [2, 2]]), np.array([[3, 2], [2, 0], [0, 0]])
    )
    assert (nothing.questions, nothing.freedom) == (0, 0)
    assert np.isnan(nothing.chance)


def test_the_rarest_of_many_patterns_are_one():
    """Of 70 patterns, in mixed order, the 7 rarest are taken together."""
    rng = np.random.default_rng(2)
    totals = rng.permutation(np.arange(20, 90))
    samples = np.stack([totals, totals + 1])
    correct = rng.binomial(samples, rng.uniform(0.2, 0.8, 70))
    rare = totals < 27
    grouped = [
        np.concatenate([x[:, ~rare], x[:, rare].sum(axis=1, keepdims=True)], axis=1)
        for x in (samples, correct)
    ]
    found, expected = patterns_differ(samples, correct), patterns_differ(*grouped)
    assert (found.freedom, found.questions) == (63, 2)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
