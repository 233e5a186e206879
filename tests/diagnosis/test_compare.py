"""Models compared in pairs: shared questions, paired draws, votes; against enumeration."""

import itertools
import json

import numpy as np
import pytest
from scipy.special import expit, logit

import qra_jax as qra
from qra_jax.diagnosis import compare, measured_maj_at_k
from qra_jax.diagnosis._compare import _quantity, restricted, shared_questions
from qra_jax.diagnosis._votes import shared_mean


def rollouts(questions, rows, answers=(), **more):
    """Of rows (question, pattern, right, count, answer)."""
    question, pattern, right, count, answer = (np.array(x) for x in zip(*rows, strict=True))
    patterns = tuple("abcdef"[: pattern.max() + 1])
    given = {"answer": answer, "answers": answers} if answers else {}
    return qra.Rollouts(
        tuple(questions), patterns, question, pattern, right.astype(bool), count, **given, **more
    )


def test_votes_by_enumeration():
    """All choices of k: ties shared, no vote without an answer, answers graded both ways."""
    rows = [
        (0, 0, 1, 2, 0), (0, 0, 0, 2, 1), (0, 0, 0, 1, 2),
        (1, 0, 0, 2, -1), (1, 0, 1, 1, 3), (1, 0, 0, 1, 3),
        (2, 0, 1, 2, 1),
    ]  # fmt: skip
    found = rollouts("xyz", rows, tuple("wxyz"))
    texts = {0: ["w", "w", "x", "x", "y"], 1: [None, None, "z", "z"], 2: ["x", "x"]}
    rates = {0: {"w": 1.0, "x": 0.0, "y": 0.0}, 1: {"z": 0.5}, 2: {"x": 1.0}}
    for k in (1, 2, 3):
        expected = []
        for question, each in texts.items():
            won = []
            for choice in itertools.combinations(each, k):
                named = [x for x in choice if x is not None]
                most = max((named.count(x) for x in named), default=0)
                top = {x for x in named if named.count(x) == most}
                won.append(np.mean([rates[question][x] for x in top]) if top else 0.0)
            expected.append(np.mean(won) if won else np.nan)
        np.testing.assert_allclose(measured_maj_at_k(found, k), expected, atol=1e-12)


def test_many_choices_are_sampled():
    """Ten of twenty: 256 choices, by seed, near the mean of all."""
    rows = [(0, 0, 1, 11, 0), (0, 0, 0, 9, 1)]
    found = rollouts("x", rows, ("r", "w"))
    law = np.mean([
        np.sum(choice < 11) > 5 or 0.5 * (np.sum(choice < 11) == 5)
        for choice in (np.random.default_rng(i).permutation(20)[:10] for i in range(20_000))
    ])  # fmt: skip
    value = measured_maj_at_k(found, 10, seed=3)[0]
    assert value == pytest.approx(law, abs=0.09)
    assert value == measured_maj_at_k(found, 10, seed=3)[0]
    assert value != measured_maj_at_k(found, 10, seed=4)[0]
    assert np.isnan(measured_maj_at_k(rollouts("x", rows), 2)).all()
    with pytest.raises(ValueError, match="k must be at least 1"):
        measured_maj_at_k(found, 0)


def test_shared_questions_and_patterns():
    """By name, in the order of the first; unused patterns go; a question without rollouts is not
    shared."""
    first = rollouts("pqrs", [(0, 0, 1, 2, 0), (2, 2, 0, 1, 0), (3, 1, 1, 4, 0)])
    second = rollouts("srxp", [(0, 0, 0, 1, 0), (2, 1, 1, 1, 0), (3, 0, 1, 5, 0)])
    assert shared_questions([first, second]) == ("p", "s")
    one, other = (restricted(x, ("p", "s")) for x in (first, second))
    assert (one.patterns, other.patterns) == (("a", "b"), ("a",))
    np.testing.assert_array_equal(one.counts(), [[[2, 0], [0, 4]], [[2, 0], [0, 4]]])
    np.testing.assert_array_equal(other.counts(), [[[5], [1]], [[5], [0]]])


def test_quantity():
    """Differences draw by draw; ties, and times that never come, count half."""
    values = np.array([[1.0, 2, 3, np.inf], [0.0, 2, 5, np.inf], [9.0, 9, 9, 9]])
    found = _quantity("t", "log time", False, values, 4)
    np.testing.assert_allclose(found.above[0, 1], (1 + 0.5 + 0 + 0.5) / 4)
    np.testing.assert_allclose(found.above + found.above.T, 1)
    np.testing.assert_allclose(
        found.first, [1 / 8 + 1 / 4, 1 / 4 + 1 / 8 + 0, 1 / 4 + 0.0], atol=0.13
    )
    assert found.first.sum() == pytest.approx(1)
    assert found.less.median[0, 1] == 0
    assert (found.less.low[0, 1], found.less.high[0, 1]) == (-2, 1)
    unknown = _quantity("x", "1", None, values, 4)
    assert np.isnan(unknown.first).all()


def test_weighted_means():
    """Of the questions whose value every model knows."""
    weights = np.array([[1.0, 2, 3], [0.5, 0.5, 1]])
    each = [np.array([0.2, np.nan, 0.6]), np.array([1.0, 0.0, 0.0])]
    means, used = shared_mean(each, weights)
    np.testing.assert_allclose(means, [[0.5, 0.7 / 1.5], [0.25, 0.5 / 1.5]])
    assert used == 2
    none, used = shared_mean([np.array([np.nan]), np.array([1.0])], np.ones((2, 1)))
    assert used == 0
    assert np.isnan(none).all()


def model(rng, shift, rates, shares=(0.3, 0.7), each=6):
    """Counts of questions of given difficulty, as rollouts with answers and confidence."""
    own = expit(logit(np.array(rates)) + shift[:, None])
    rows = []
    for question, chance in enumerate(own):
        pattern = rng.choice(2, size=each, p=shares)
        right = rng.random(each) < chance[pattern]
        rows += [(question, r, ok, 1, 0 if ok else 1) for r, ok in zip(pattern, right, strict=True)]
    names = [f"q{i}" for i in range(len(shift))]
    return rollouts(names, rows, ("right", "wrong"), confidence=rng.normal(size=len(rows)))


@pytest.fixture(scope="module")
def found():
    """Two models on the same 60 questions, the second better by its first pattern, and the first
    itself under another name."""
    rng = np.random.default_rng(2)
    shift = rng.normal(0, 2.5, 60)
    one = model(rng, shift, (0.8, 0.4))
    other = model(rng, shift, (0.93, 0.4))
    return compare({"one": one, "other": other, "again": one}, ks=(1, 4), draws=199, group_size=4)


def test_pairs(found):
    """Questions that are hard for both cancel; a model beside itself differs by the prior only."""
    now = found.quantities["accuracy now"]
    width, alone = now.less.high - now.less.low, now.each.high - now.each.low
    assert width[0, 1] < 0.6 * np.hypot(alone[0], alone[1])
    assert width[0, 2] < 0.2 * alone[0]
    np.testing.assert_allclose(now.less.median[0, 1], -now.less.median[1, 0])
    end = found.quantities["accuracy in the end"]
    assert end.above[1, 0] > 0.9
    assert end.first[1] == pytest.approx(end.first.max())
    assert found.summary()[0].startswith("Start RL from 'other': it ends highest")
    assert "'other' ends highest with probability" in found.summary()[1]
    for name, quantity in found.quantities.items():
        if quantity.more is not None:
            assert quantity.first.sum() == pytest.approx(1), name
    np.testing.assert_allclose(found.regimes[:, 0], 1)
    np.testing.assert_allclose(found.ahead.sum(axis=0), 1)
    names = list(found.quantities)
    assert names == [
        "accuracy now", "pass@4", "maj@4", "patterns in use, effective", "groups of 4 of use",
        "accuracy in the end", "gain by RLVR", "time to converge", "T0", "STRONG start",
        "gain by RLIF",
    ]  # fmt: skip


def test_labels_and_json(found):
    """By name; JSON without what it does not know."""
    data = found.to_dataset()
    value = data.difference.sel(
        quantity="accuracy in the end", model="other", other="one", level="median"
    )
    assert float(value) == found.quantities["accuracy in the end"].less.median[1, 0]
    assert float(data.rate.sel(model="one", pattern="a", level="low")) == found.rates.low[0, 0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_few_questions_and_bad_input():
    """Below five questions these are fixed; nothing shared is an error."""
    one = rollouts("pq", [(0, 0, 1, 5, 0), (1, 1, 0, 5, 0)])
    other = rollouts("qz", [(0, 0, 1, 5, 0), (1, 1, 0, 5, 0)])
    few = compare({"one": one, "other": other}, draws=20, ks=(1,))
    assert not few.paired
    assert (few.questions, few.dropped, few.samples) == (("q",), (5, 5), (5, 5))
    assert "'one': 1 of 2 questions are not shared" in few.notes
    assert any("they are taken as fixed" in note for note in few.notes)
    away = rollouts("st", [(0, 0, 1, 5, 0), (1, 1, 0, 5, 0)])
    with pytest.raises(ValueError, match="models must share at least one question"):
        compare({"one": one, "away": away})
    with pytest.raises(ValueError, match="models must be at least two, got 1"):
        compare({"one": one})
    with pytest.raises(ValueError, match="ks must be at least 1"):
        compare({"one": one, "other": other}, ks=(0,))
