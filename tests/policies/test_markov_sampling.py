"""Sampled groups of token sequences: what is drawn, and what the steps estimate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qra_jax as qra
from qra_jax.training._train import _checked
from tests.policies.test_markov import SIZES, all_sequences, by_hand, contexts_of, random_policy

PROBLEM = qra.Problem(np.array([0, 0]), np.array([0.3, 0.7]))
KEYS = jax.random.split(jax.random.key(5), 8192)
TOKENS_AND_END = qra.objectives.Mixture(
    (qra.Verifiable(), qra.objectives.MeanSelfCertainty()), np.array([1.0, 0.5])
)


def kinds(policy):
    """Pattern and answer of every sequence."""
    sequences = all_sequences(policy)
    return np.asarray(policy.pattern_of)[sequences[:, policy.branch - 1]], sequences[:, -1]


@pytest.mark.parametrize("size", SIZES)
def test_patterns_and_answers(size):
    """Their joint probabilities are sums over all sequences."""
    policy = random_policy(size)
    found = np.exp(policy.log_joint())
    for question in range(2):
        expected = np.zeros(found.shape[1:])
        np.add.at(expected, kinds(policy), by_hand(policy, question))
        np.testing.assert_allclose(found[question], expected, atol=1e-14)


@pytest.mark.parametrize("size", [(3, 4, 2, 3), (2, 6, 1, 5), (3, 3, 1, 1), (3, 3, 1, 3)])
def test_sequences_given_pattern_and_answer(size):
    """Tokens drawn for a pattern and an answer have the conditional distribution."""
    policy, number = random_policy(size), 20_000
    sequences = all_sequences(policy)
    pattern, answer = kinds(policy)
    joint = np.asarray(policy.log_joint())
    places = size[0] ** np.arange(size[1] - 1, -1, -1)
    question, r, a = np.unravel_index(np.argsort(joint, axis=None)[[-1, -3]], joint.shape)
    each = [np.broadcast_to(x[:, None], (2, number)) for x in (r, a)]
    wanted = qra.policies.Outcomes(jnp.array(question)[:, None], *map(jnp.asarray, each))
    drawn = policy.complete(jax.random.key(1), wanted)
    index = np.asarray(drawn.tokens) @ places
    for row in range(2):
        probs = by_hand(policy, question[row])
        probs = np.where((pattern == r[row]) & (answer == a[row]), probs, 0)
        probs /= probs.sum()
        counts = np.bincount(index[row], minlength=len(sequences))
        np.testing.assert_array_equal(counts[probs == 0], 0)
        often = number * probs > 20
        error = np.sqrt(number * probs * (1 - probs))[often]
        assert np.all(np.abs(counts - number * probs)[often] <= 5 * error)


def test_what_sequences_earn():
    """Rewards along the way and at the end, and log probabilities, by hand."""
    policy = random_policy((3, 4, 2, 3))
    samples = qra.SampledGroups(50).draw(
        jax.random.key(2), PROBLEM.weights, policy, TOKENS_AND_END(policy, PROBLEM)
    )
    tokens = np.asarray(samples.outcomes.tokens)
    certainty = np.asarray(qra.objectives.MeanSelfCertainty()(policy, PROBLEM).along)
    places = 3 ** np.arange(3, -1, -1)
    for question in range(2):
        index = tokens[question] @ places
        met = certainty[tuple(np.moveaxis(contexts_of(policy, question), -1, 0))].mean(axis=1)
        expected = (tokens[question, :, -1] == 0) + 0.5 * met[index]
        np.testing.assert_allclose(samples.rewards[question], expected, rtol=1e-13)
        probs = by_hand(policy, question)[index]
        np.testing.assert_allclose(np.exp(samples.drawn_at[question]), probs, rtol=1e-12)


@functools.cache
def steps(estimator, tokens):
    """A sampled step from each key and the exact one, `(8192, P)` and `(P,)`."""
    policy = random_policy((3, 3, 1, 2), seed=3)
    sampler = qra.SampledGroups(3, batch=2, estimator=estimator)
    reward = TOKENS_AND_END if tokens else qra.Verifiable()
    sampled = qra.GradientFlow(qra.Objective(reward), PROBLEM, "all")
    exact = qra.GradientFlow(qra.Objective(reward, utility=sampler.utility), PROBLEM, "all")

    def step(key):
        return qra.train(
            policy, sampled, optax.sgd(0.5), 1, sampler=sampler, key=key
        ).final_policy.logits

    target = qra.train(policy, exact, optax.sgd(0.5), 1).final_policy.logits
    start = np.asarray(policy.logits)
    each = jax.jit(jax.vmap(step))(KEYS)
    there = start > -np.inf
    return [np.asarray(x)[..., there] - start[there] for x in (each, target)]


@pytest.mark.parametrize(
    ("estimator", "tokens"),
    [
        (qra.RLOO(), True),
        (qra.SampledGRPO(), False),
        (qra.SampledGRPO(redraw=True), False),
        (qra.training.RejectionFineTuning(), False),
    ],
    ids=["rloo", "grpo", "redrawn", "rejection"],
)
def test_mean_of_sampled_steps(estimator, tokens):
    """The mean of a sampled step is the exact step, within five standard errors."""
    each, exact = steps(estimator, tokens)
    error = np.std(each, axis=0) / np.sqrt(len(each))
    moves = error > 0
    assert moves.sum() >= 4
    np.testing.assert_allclose(exact[~moves], 0, atol=1e-16)
    assert np.all(np.abs(np.mean(each, axis=0) - exact)[moves] < 5 * error[moves])
    assert np.max(error[moves]) < 0.15 * np.max(np.abs(exact))


def test_rare_successes_are_drawn():
    """Rejection finds what has a chance of 1e-200, without a second try."""
    logits = np.zeros((2, 2))
    logits[0] = -115.0  # four of these in a row
    policy = qra.policies.MarkovPolicy(logits, np.array([1]), 4, patterns=np.zeros(2, int))
    problem = qra.Problem(np.array([0]))
    sampler = qra.SampledGroups(8, estimator=qra.training.RejectionFineTuning())
    values = qra.Verifiable()(policy, problem)
    found = sampler.draw(jax.random.key(0), problem.weights, policy, values)
    assert found.rewards.max() == 1
    ends = found.outcomes.tokens[..., -1] == 0
    np.testing.assert_array_equal(ends, found.rewards == 1)


def test_rewards_that_cannot_be_redrawn():
    """Rewards along the tokens are known only once these are drawn: refused, but by estimators
    that take what is drawn."""
    policy = random_policy((3, 3, 1, 2))
    flow = qra.GradientFlow(qra.RLIF(qra.objectives.MeanSelfCertainty()), PROBLEM, "all")
    for estimator in (qra.training.REINFORCE(), qra.RLOO(), qra.SampledGRPO()):
        sampler = qra.SampledGroups(3, estimator=estimator)
        assert _checked(policy, flow, sampler, KEYS[0]).sampler is sampler
    for estimator in (qra.training.RejectionFineTuning(), qra.SampledGRPO(redraw=True)):
        sampler = qra.SampledGroups(3, estimator=estimator)
        with pytest.raises(ValueError, match="reward along the tokens must be 0"):
            qra.train(policy, flow, optax.sgd(0.1), 1, sampler=sampler, key=KEYS[0])
