"""Metrics of tokens against sums over all sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from tests.policies.test_markov import all_sequences, by_hand, contexts_of, random_policy

SIZES = [(4, 5, 1, 1), (3, 4, 2, 1)]


def trained(policy, seed=5):
    """The policy with its logits moved, the impossible staying so."""
    moved = policy.logits + np.random.default_rng(seed).normal(size=policy.logits.shape)
    return qra.policies.MarkovPolicy(moved, policy.start, policy.horizon, branch=policy.branch,
                            patterns=policy.pattern_of)  # fmt: skip


def columns_of(policy):
    """Probabilities of the next token, context by context, from the logits."""
    weights = np.exp(np.moveaxis(np.asarray(policy.logits), 0, -1))
    return weights / weights.sum(axis=-1, keepdims=True)


def column_changes(policy, before):
    """KL divergence and total variation of every column."""
    now, then = columns_of(policy), columns_of(before)
    ratio = np.where(now > 0, now, 1) / np.where(now > 0, then, 1)
    return {
        "kl": np.sum(now * np.log(ratio), axis=-1),
        "variation": np.abs(now - then).sum(axis=-1) / 2,
    }


@pytest.mark.parametrize("size", SIZES)
def test_positions(size):
    """Entropy and change of each position, as means over all sequences; over all positions, those
    of sequences."""
    before = random_policy(size)
    policy = trained(before)
    entropy = qra.tokens.position_entropy(policy)
    changes = {
        kind: qra.tokens.position_change(policy, reference=before, kind=kind)
        for kind in ("kl", "variation")
    }
    np.testing.assert_array_equal(
        changes["kl"], qra.tokens.position_change(policy, reference=before)
    )
    np.testing.assert_allclose(changes["kl"].sum(axis=1), policy.kl(before), rtol=1e-12)
    columns = columns_of(policy)
    each = -np.sum(columns * np.log(np.where(columns > 0, columns, 1)), axis=-1)
    for question in range(2):
        probs = by_hand(policy, question)
        at = tuple(np.moveaxis(contexts_of(policy, question), -1, 0))
        np.testing.assert_allclose(entropy[question], probs @ each[at], rtol=1e-12)
        for kind, change in column_changes(policy, before).items():
            np.testing.assert_allclose(changes[kind][question], probs @ change[at], rtol=1e-12)
        logs = np.log(np.where(probs > 0, probs, 1))
        np.testing.assert_allclose(entropy[question].sum(), -probs @ logs, rtol=1e-12)


def test_tokens_that_were_impossible():
    """A divergence from what could not be drawn has no bound where that is met."""
    logits = np.log([[0.5, 0.25, 1.0], [0.5, 0.25, 1.0], [1e-3, 0.5, 1.0]])
    closed = logits.copy()
    closed[2, 0] = -np.inf
    after, before = (qra.policies.MarkovPolicy(x, np.array([0, 1]), 1) for x in (logits, closed))
    assert np.asarray(qra.tokens.position_change(after, reference=before)).tolist() == [
        [np.inf],
        [0.0],
    ]
    lost = 1e-3 / 1.001
    np.testing.assert_allclose(
        qra.tokens.position_change(after, reference=before, kind="variation")[0, 0], lost
    )
    np.testing.assert_allclose(
        qra.tokens.position_change(before, reference=after)[0, 0], -np.log1p(-lost)
    )
    # With a context of two tokens, in the one of the three that lacks one.
    closed = np.zeros((3, 3, 3))
    closed[2, 0, 1] = -np.inf
    start = np.array([[0, 1], [0, 2], [1, 0]])
    after, before = (qra.policies.MarkovPolicy(x, start, 1) for x in (np.zeros((3, 3, 3)), closed))
    change = qra.tokens.position_change(after, reference=before)
    assert np.asarray(change).tolist() == [[np.inf], [0.0], [0.0]]
    assert np.asarray(after.kl(before)).tolist() == [np.inf, 0.0, 0.0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["token", "top", "order"])
def test_ranking_changes(size, kind):
    """Counted token by token over all sequences, and over samples, questions by their weights."""
    before = random_policy(size)
    policy = trained(before)
    problem = qra.Problem(np.array([0, 0]), np.array([0.3, 0.7]))
    ranks = [
        np.argsort(np.argsort(-columns_of(one), axis=-1, kind="stable"), axis=-1)
        for one in (policy, before)
    ]
    now, then = ranks
    marked = now != then
    if kind == "top":
        marked = (now.argmin(axis=-1) != then.argmin(axis=-1))[..., None] | np.zeros_like(marked)
    elif kind == "order":
        marked = np.any(marked, axis=-1)[..., None] | np.zeros_like(marked)
    np.testing.assert_array_equal(
        qra.tokens.rank_changes(policy, reference=before, kind=kind), marked
    )
    sequences, ratios = all_sequences(policy), []
    drawn = jnp.stack([policy.sample(jax.random.key(q), 50, q) for q in range(2)])
    sampled = []
    for question in range(2):
        at = tuple(np.moveaxis(contexts_of(policy, question), -1, 0))
        mine = np.mean(marked[(*at, sequences)], axis=1)
        ratios.append(by_hand(policy, question) @ mine)
        index = drawn[question] @ policy.num_tokens ** np.arange(policy.horizon)[::-1]
        sampled.append(np.mean(mine[np.asarray(index)]))
    assert 0 < min(ratios) < max(ratios) < 1
    found = qra.tokens.ranking_change_ratio(policy, problem, reference=before, kind=kind)
    np.testing.assert_allclose(found, [0.3, 0.7] @ np.array(ratios), rtol=1e-12)
    found = qra.tokens.ranking_change_ratio(
        policy, problem, reference=before, kind=kind, sequences=drawn
    )
    np.testing.assert_allclose(found, [0.3, 0.7] @ np.array(sampled), rtol=1e-12)
    assert qra.tokens.ranking_change_ratio(before, problem, reference=before, kind=kind) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["kl", "variation"])
def test_critical_tokens_over_all_sequences(size, kind):
    """What each context carries, question by question with its weight, and the fewest of them."""
    before = random_policy(size)
    policy = trained(before)
    problem = qra.Problem(np.array([0, 0]), np.array([0.15, 0.85]))
    change, number = column_changes(policy, before)[kind], np.zeros(policy.logits.shape[1:])
    for question, weight in enumerate((0.15, 0.85)):
        contexts = contexts_of(policy, question)
        each = np.broadcast_to(by_hand(policy, question)[:, None], contexts.shape[:2])
        np.add.at(number, tuple(np.moveaxis(contexts, -1, 0)), weight * each)
    carried = number * change / np.sum(number * change)
    order = np.argsort(-carried, axis=None, kind="stable")
    curve = np.cumsum(carried.ravel()[order])
    for share in (0.35, 0.8):
        found = qra.tokens.critical_tokens(
            policy, problem, reference=before, share=share, kind=kind
        )
        np.testing.assert_allclose(found.carried, carried, rtol=1e-11, atol=1e-16)
        np.testing.assert_allclose(found.curve, curve, rtol=1e-11)
        np.testing.assert_array_equal(found.met, number > 0)
        few = 1 + np.sum(curve < share)
        critical = np.isin(np.arange(carried.size), order[:few]).reshape(carried.shape)
        np.testing.assert_array_equal(found.critical, critical)
        np.testing.assert_allclose(found.critical_share, few / np.sum(number > 0), rtol=1e-14)


def test_critical_tokens():
    """A chain whose change sits in one column out of four; nothing where nothing changed."""
    before = qra.policies.MarkovPolicy(np.zeros((4, 4)), np.array([0]), 6)
    moved = np.zeros((4, 4))
    moved[:, 2] = [3.0, 0.0, 0.0, 0.0]
    moved[:, 1] = [0.1, 0.0, 0.0, 0.0]
    policy, problem = qra.policies.MarkovPolicy(moved, np.array([0]), 6), qra.Problem(np.array([0]))
    found = qra.tokens.critical_tokens(policy, problem, reference=before)
    assert found.critical.tolist() == [False, False, True, False]
    assert found.critical_share == 0.25
    everything = qra.tokens.critical_tokens(policy, problem, reference=before, share=1.0)
    assert everything.critical.tolist() == [False, True, True, False]
    assert not qra.tokens.critical_tokens(
        policy, problem, reference=before, share=0.0
    ).critical.any()
    nothing = qra.tokens.critical_tokens(before, problem, reference=before)
    assert not nothing.critical.any()
    assert np.all(np.asarray(nothing.carried) == 0)


def test_rewards_of_tokens():
    """By hand: minus entropy, self-certainty over the tokens that can follow, and a set of ends."""
    logits = np.array([[0.3, -np.inf, 1.0], [-0.5, 0.2, 2.0], [0.0, 1.5, -np.inf]])
    policy = qra.policies.MarkovPolicy(logits, np.array([2, 0]), 2)
    problem = qra.Problem(np.array([1, 1]), np.array([0.3, 0.7]))
    entropy, certainty = (
        reward(policy, problem).along
        for reward in (qra.objectives.MeanTokenEntropy(), qra.objectives.MeanSelfCertainty())
    )
    for context, column in enumerate(columns_of(policy)):
        some = column[column > 0]
        np.testing.assert_allclose(entropy[context], some @ np.log(some), rtol=1e-14)
        uniform = 1 / len(some)
        divergence = np.sum(uniform * np.log(uniform / some))
        np.testing.assert_allclose(certainty[context], divergence, rtol=1e-13)
    # Of all questions alike, and of each its own.
    ends, all_ends = np.asarray(policy.answer_probs()), all_sequences(policy)[:, -1]
    for tokens in (
        np.array([True, False, True]),
        np.array([[False, True, True], [True, False, False]]),
    ):
        found = policy.expectation(qra.objectives.EndsIn(tokens), problem)
        both = np.broadcast_to(tokens, (2, 3))
        np.testing.assert_allclose(found, np.sum(both * ends, axis=1), rtol=1e-14)
        for question in range(2):
            by_sum = by_hand(policy, question) @ both[question][all_ends]
            np.testing.assert_allclose(found[question], by_sum, rtol=1e-14)
    with pytest.raises(ValueError, match=r"tokens must be bool of shape \(A,\) or \(Q, A\)"):
        qra.objectives.EndsIn(np.array([0, 1]))


def test_bad_input():
    """Each says what was wrong."""
    policy, problem = random_policy((3, 3, 1, 1)), qra.Problem(np.array([0, 0]))
    other = random_policy((4, 3, 1, 1))
    for call, message in (
        (
            lambda: qra.tokens.ranking_change_ratio(policy, problem, reference=other),
            "reference must have logits",
        ),
        (
            lambda: qra.tokens.position_change(policy, reference=other),
            "reference must have logits of shape",
        ),
        (
            lambda: qra.tokens.position_change(other, reference=policy),
            "reference must have logits of shape",
        ),
        (
            lambda: qra.tokens.ranking_change_ratio(
                policy, problem, reference=policy, sequences=jnp.zeros((2, 5, 2), int)
            ),
            "sequences must have shape",
        ),
        (
            lambda: qra.tokens.critical_tokens(policy, problem, reference=policy, share=1.5),
            r"share must lie in \[0, 1\]",
        ),
        (
            lambda: qra.tokens.critical_tokens(policy, problem, reference=other),
            "reference must have logits",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
