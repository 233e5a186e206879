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


@pytest.mark.parametrize("size", SIZES)
def test_positions(size):
    """Entropy and change of each position; over all positions, those of sequences."""
    before = random_policy(size)
    policy = trained(before)
    entropy, change = (
        qra.tokens.position_entropy(policy),
        qra.tokens.position_change(policy, reference=before),
    )
    moved = qra.tokens.position_change(policy, reference=before, kind="variation")
    np.testing.assert_allclose(change.sum(axis=1), policy.kl(before), rtol=1e-12)
    now, then = (np.exp(np.asarray(one.log_columns())) for one in (policy, before))
    for question in range(2):
        probs = by_hand(policy, question)
        logs = np.log(np.where(probs > 0, probs, 1))
        np.testing.assert_allclose(entropy[question].sum(), -probs @ logs, rtol=1e-12)
        at = tuple(np.moveaxis(contexts_of(policy, question), -1, 0))
        each = np.abs(now[at] - then[at]).sum(axis=-1) / 2
        np.testing.assert_allclose(moved[question], probs @ each, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["token", "top", "order"])
def test_ranking_changes(size, kind):
    """Counted token by token over all sequences, and over samples."""
    before = random_policy(size)
    policy = trained(before)
    problem = qra.Problem(np.array([0, 0]), np.array([0.3, 0.7]))
    ranks = [
        np.argsort(np.argsort(-np.asarray(one.log_columns()), axis=-1, kind="stable"), axis=-1)
        for one in (policy, before)
    ]
    sequences, expected = all_sequences(policy), 0.0
    for question, weight in enumerate((0.3, 0.7)):
        at = tuple(np.moveaxis(contexts_of(policy, question), -1, 0))
        now, then = (rank[at] for rank in ranks)
        if kind == "token":
            mine = (now != then)[np.arange(len(sequences))[:, None], np.arange(policy.horizon),
                                 sequences]  # fmt: skip
        elif kind == "top":
            mine = now.argmin(axis=-1) != then.argmin(axis=-1)
        else:
            mine = np.any(now != then, axis=-1)
        expected += weight * by_hand(policy, question) @ mine.mean(axis=1)
    assert 0 < expected < 1
    counts = {"reference": before, "kind": kind}
    found = qra.tokens.ranking_change_ratio(policy, problem, **counts)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    drawn = jnp.stack([policy.sample(jax.random.key(q), 4_000, q) for q in range(2)])
    sampled = qra.tokens.ranking_change_ratio(policy, problem, **counts, sequences=drawn)
    np.testing.assert_allclose(sampled, expected, atol=5 * 0.5 / np.sqrt(4_000))
    assert qra.tokens.ranking_change_ratio(before, problem, **counts) == 0


def test_critical_tokens():
    """A chain whose change sits in one column out of four; nothing where nothing changed."""
    before = qra.policies.MarkovPolicy(np.zeros((4, 4)), np.array([0]), 6)
    moved = np.zeros((4, 4))
    moved[:, 2] = [3.0, 0.0, 0.0, 0.0]
    moved[:, 1] = [0.1, 0.0, 0.0, 0.0]
    policy, problem = qra.policies.MarkovPolicy(moved, np.array([0]), 6), qra.Problem(np.array([0]))
    found = qra.tokens.critical_tokens(policy, problem, reference=before)
    assert found.critical.tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.carried.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(found.curve[-1], 1, rtol=1e-14)
    assert found.critical_share == 0.25
    everything = qra.tokens.critical_tokens(policy, problem, reference=before, share=1.0)
    assert everything.critical.tolist() == [False, True, True, False]
    total = qra.tokens.position_change(policy, reference=before).sum()
    visits = policy.visits()[:, 0].sum(axis=0)
    columns = np.exp(np.asarray(policy.log_columns()))
    each = np.sum(columns * np.log(columns / 0.25), axis=-1)
    np.testing.assert_allclose(found.carried, visits * each / total, rtol=1e-12, atol=1e-16)
    assert not qra.tokens.critical_tokens(before, problem, reference=before).critical.any()


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
            lambda: qra.tokens.ranking_change_ratio(
                policy, problem, reference=policy, sequences=jnp.zeros((2, 5, 2), int)
            ),
            "sequences must have shape",
        ),
        (
            lambda: qra.tokens.critical_tokens(policy, problem, reference=policy, share=1.5),
            r"share must lie in \[0, 1\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
