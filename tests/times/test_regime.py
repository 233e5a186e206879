"""Regimes and gamma in every corner of their definition, and against exact arithmetic."""

import functools
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import qra_jax as qra
from tests._support import compiled

STRONG, ENTANGLED, MIXED = qra.Regime.STRONG, qra.Regime.ENTANGLED, qra.Regime.MIXED
NAN = float("nan")

# (probabilities, rates, regime, gamma); quarters, so that V is exact where it matters.
CORNERS = {
    "weak": ((0.05, 0.70, 0.25), (0.9, 0.7, 0.1), ENTANGLED, 6.0),
    "strong": ((0.5, 0.3, 0.2), (0.9, 0.4, 0.1), STRONG, NAN),
    "two patterns": ((1e-9, 1 - 1e-9), (0.9, 0.4), STRONG, NAN),
    "rare misleading": ((0.05, 0.05, 0.9), (0.9, 0.7, 0.1), ENTANGLED, 19.0),
    "two misleading": ((0.1, 0.1, 0.1, 0.7), (0.9, 0.7, 0.6, 0.1), MIXED, 9.0),
    "tied for best": ((0.1, 0.1, 0.5, 0.3), (0.9, 0.9, 0.7, 0.1), ENTANGLED, 2.5),
    "tied for second": ((0.1, 0.3, 0.2, 0.4), (0.9, 0.7, 0.7, 0.1), ENTANGLED, 5.0),
    "V at second": ((0.25, 0.25, 0.5), (0.75, 0.25, 0.5), MIXED, 2.0),
    "V at third": ((0.25, 0.25, 0.25, 0.25), (0.875, 0.625, 0.375, 0.5625), ENTANGLED, 3.0),
    "V at a lower value": ((0.25, 0.25, 0.25, 0.25), (0.75, 0.625, 0.5, 0.125), MIXED, 3.0),
    "all tied": ((0.25, 0.75), (0.5, 0.5), STRONG, NAN),
    "one pattern": ((1.0,), (0.3,), STRONG, NAN),
    "vertex": ((0.0, 1.0, 0.0), (0.9, 0.6, 0.1), STRONG, NAN),
    "missing best": ((0.0, 0.2, 0.5, 0.3), (0.9, 0.7, 0.6, 0.1), ENTANGLED, 2.5),
    "missing second": ((0.1, 0.0, 0.5, 0.4), (0.9, 0.8, 0.7, 0.1), ENTANGLED, 5.0),
    "near-vertex": ((1e-16, 1 - 3e-16, 2e-16), (0.9, 0.6, 0.1), ENTANGLED, 3.0),
    "near-vertex, above": ((3e-16, 1 - 4e-16, 1e-16), (0.9, 0.6, 0.1), STRONG, NAN),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners(name):
    """The definitions of the corner cases, one by one."""
    probs, rates, kind, gamma = CORNERS[name]
    found = compiled.one(classify(), probs, rates)
    assert qra.Regime(int(found[0])) == kind
    assert found[1] == pytest.approx(gamma, rel=1e-9, nan_ok=True)


@functools.cache
def classify():
    """Engine `(probs, rates)`: regime and gamma."""

    def function(probs, rates):
        policy, problem = qra.two_stage(probs, rates)
        return qra.regime(policy, problem)[0], qra.entanglement_ratio(policy, problem)[0]

    return compiled.batched(function)


def by_definition(probs, rates):
    """Regime and gamma in exact arithmetic."""
    existing = [(p, r) for p, r in zip(probs, rates, strict=True) if p > 0]
    mean = sum(p * r for p, r in existing)
    values = sorted({r for _, r in existing})
    best = values[-1]
    if len(values) == 1 or mean > values[-2]:
        return STRONG, NAN
    second = values[-2]
    gamma = sum(p for p, r in existing if r != second) / sum(p for p, r in existing if r == best)
    between = [value for value in values if mean < value < best]
    kind = ENTANGLED if len(between) == 1 and mean not in values else MIXED
    return kind, float(gamma)


@st.composite
def coarse_problems(draw):
    """Probabilities in twentieths and rates in tenths: ties and V on a value are common."""
    shares = draw(st.lists(st.integers(0, 8), min_size=2, max_size=6).filter(any))
    rates = draw(st.lists(st.integers(0, 10), min_size=len(shares), max_size=len(shares)))
    return [Fraction(s, sum(shares)) for s in shares], [Fraction(r, 10) for r in rates]


@hypothesis.settings(max_examples=300)
@hypothesis.given(coarse_problems())
def test_against_exact_arithmetic(case):
    """Floating-point regimes are those of the definition in rationals."""
    probs, rates = case
    found = compiled.one(classify(), np.array(probs, float), np.array(rates, float))
    kind, gamma = by_definition(probs, rates)
    assert qra.Regime(int(found[0])) == kind
    assert found[1] == pytest.approx(gamma, rel=1e-12, nan_ok=True)


def test_values_are_those_of_the_flows_reward():
    """Self-certainty ranks patterns otherwise: strong for RLVR, entangled for RLIF."""
    policy, problem = qra.two_stage(np.array([0.75, 0.2, 0.05]), np.array([0.8, 0.1, 0.03]))
    assert qra.regime(policy, problem)[0] == STRONG
    flow = qra.GradientFlow(qra.RLIF(), problem)
    # Certainties: .223, .511, 1.076; V = .323 lies between the first two.
    assert qra.regime(policy, flow)[0] == ENTANGLED
    assert qra.entanglement_ratio(policy, flow)[0] == pytest.approx(0.8 / 0.05, rel=1e-12)


def test_questions_are_judged_one_by_one():
    """A batch of questions, ragged, in one call; under vmap of grad nothing breaks either."""
    names = ("weak", "two misleading", "vertex")
    rows = [CORNERS[name] for name in names]
    width = max(len(row[0]) for row in rows)
    probs = np.stack([compiled.pad(np.array(row[0]), width) for row in rows])
    rates = np.stack([compiled.pad(np.array(row[1]), width) for row in rows])
    policy, problem = qra.two_stage(probs, rates)
    assert qra.regime(policy, problem).tolist() == [row[2] for row in rows]
    np.testing.assert_allclose(qra.entanglement_ratio(policy, problem), [6.0, 9.0, NAN])

    def total(probs):
        policy, problem = qra.two_stage(probs, rates)
        gamma = qra.entanglement_ratio(policy, problem)
        return jax.numpy.sum(jax.numpy.where(jax.numpy.isnan(gamma), 0, gamma))

    slope = np.asarray(jax.grad(total)(jax.numpy.asarray(probs)))
    assert np.all(slope[2] == 0)
    assert np.all(slope[probs == 0] == 0)
    # Meant along changes that keep the sum of probabilities.
    for row in range(2):
        along = probs[row] * (np.arange(width) + 1.0)
        along -= probs[row] * along.sum()
        step = np.zeros_like(probs)
        step[row] = 1e-6 * along
        wanted = float(total(probs + step) - total(probs - step)) / 2e-6
        assert slope[row] @ along == pytest.approx(wanted, rel=1e-7)
        assert abs(wanted) > 0.1
