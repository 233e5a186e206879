"""Patterns as sets of paths, against sums over all sequences."""

import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from tests.policies.test_markov import all_sequences, by_hand, contexts_of, random_policy

PROBLEM = qra.Problem(np.array([0, 1]), np.array([0.3, 0.7]))


def by_phrases(sequence, phrases):
    """The first phrase to end, the longest if several do; the number of phrases if none."""
    text = list(sequence)
    for end in range(1, len(text) + 1):
        done = [i for i, p in enumerate(phrases) if text[:end][-len(p) :] == list(p)]
        if done:
            return max(done, key=lambda i: len(phrases[i]))
    return len(phrases)


@pytest.mark.parametrize("size", [(3, 5, 1, 1), (3, 5, 2, 3), (2, 8, 3, 1)])
@pytest.mark.parametrize("phrases", [[[1, 1], [0]], [[0, 1, 0], [1, 1, 1], [1, 0]]])
def test_phrases(size, phrases):
    """Shares, success rates and mean rewards of tokens within each pattern."""
    policy = random_policy(size)
    paths = qra.tokens.PathPatterns.by_phrase(phrases, policy.num_tokens)
    sequences = all_sequences(policy)
    kind = np.array([by_phrases(sequence, phrases) for sequence in sequences])
    shares, rates = paths.table(policy, PROBLEM)
    _, certain = paths.table(policy, PROBLEM, qra.objectives.MeanSelfCertainty())
    along = np.asarray(qra.objectives.MeanSelfCertainty()(policy, PROBLEM).along)
    assert shares.shape == (2, len(phrases) + 1)
    for question in range(2):
        probs = by_hand(policy, question)
        met = along[tuple(np.moveaxis(contexts_of(policy, question), -1, 0))].mean(axis=1)
        for pattern in range(len(phrases) + 1):
            mine = np.where(kind == pattern, probs, 0)
            np.testing.assert_allclose(shares[question, pattern], mine.sum(), atol=1e-14)
            if mine.sum() > 0:
                within = mine / mine.sum()
                right = within @ (sequences[:, -1] == question)
                np.testing.assert_allclose(rates[question, pattern], right, atol=1e-12)
                np.testing.assert_allclose(certain[question, pattern], within @ met, rtol=1e-12)
            else:
                assert rates[question, pattern] == 0


def test_the_branch_is_a_set_of_paths():
    """An automaton that counts to the branch reads the policy's own patterns, along a flow too."""
    policy = random_policy((4, 5, 1, 2))
    kind = np.asarray(policy.pattern_of)
    moves = np.array([[1] * 4, 2 + kind, [2] * 4, [3] * 4])
    paths = qra.tokens.PathPatterns(moves, np.array([0, 0, 0, 1]))
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM, "all")
    after = qra.solve_flow(policy, flow, log_times=jnp.array([2.0])).final_policy
    for now in (policy, after):
        for found, expected in zip(
            paths.table(now, PROBLEM), now.pattern_table(PROBLEM), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-14)


def test_bad_input():
    """Each says what was wrong."""
    policy = random_policy((3, 3, 1, 1))
    by_phrase = qra.tokens.PathPatterns.by_phrase
    for call, message in (
        (
            lambda: qra.tokens.PathPatterns(np.zeros(3, int), np.zeros(3, int)),
            "transitions must be int",
        ),
        (
            lambda: qra.tokens.PathPatterns(np.zeros((2, 3), int), np.zeros(3, int)),
            "pattern_of must be",
        ),
        (
            lambda: qra.tokens.PathPatterns(np.full((1, 3), 1), np.zeros(1, int)),
            "be states, 0 to 0",
        ),
        (lambda: by_phrase([], 3), "phrases must hold one token each"),
        (lambda: by_phrase([[1], []], 3), "phrases must hold one token each"),
        (lambda: by_phrase([[1], [1]], 3), "phrases must be different"),
        (lambda: by_phrase([[3]], 3), "phrases must be of tokens, 0 to 2"),
        (lambda: by_phrase([[1]], 4).table(policy, PROBLEM), r"have shape \(S, 3\)"),
        (
            lambda: by_phrase([[1]], 3).table(policy, PROBLEM, qra.PatternReward(np.ones(2))),
            "not depend on the policy's patterns",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
