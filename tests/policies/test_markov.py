"""Policies over tokens: dynamic programming against sums over all sequences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from tests._support.compiled import TIGHT

RATES = np.array([[0.9, 0.7, 0.1], [0.4, 0.8, 0.6]])
PROBS = np.array([[0.05, 0.70, 0.25], [0.2, 0.3, 0.5]])
# Vocabulary, horizon, context, branch: up to 4,096 sequences.
SIZES = [(4, 6, 1, 1), (3, 5, 2, 3), (2, 12, 1, 5), (5, 1, 1, 1), (3, 4, 3, 2)]


def random_policy(size, seed=0):
    """Two questions, two patterns; some tokens cannot follow some others."""
    tokens, horizon, context, branch = size
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(tokens,) * (context + 1))
    logits[1:][rng.uniform(size=logits[1:].shape) < 0.15] = -np.inf
    start = rng.integers(0, tokens, (2, context))
    patterns = np.arange(tokens) % 2
    return qra.policies.MarkovPolicy(logits, start, horizon, branch=branch, patterns=patterns)


def all_sequences(policy):
    """Every sequence `(S, L)`."""
    return np.array(list(itertools.product(range(policy.num_tokens), repeat=policy.horizon)))


def contexts_of(policy, question):
    """The contexts that the tokens of every sequence are drawn in, `(S, L, n)`."""
    sequences = all_sequences(policy)
    begin = np.broadcast_to(policy.start[question], (len(sequences), policy.context))
    tokens = np.concatenate([begin, sequences], axis=1)
    return np.stack([tokens[:, i : i + policy.horizon] for i in range(policy.context)], axis=-1)


def by_hand(policy, question):
    """The probability of every sequence, factor by factor."""
    weights = np.exp(np.asarray(policy.logits))
    columns = weights / weights.sum(axis=0)
    sequences, contexts = all_sequences(policy), contexts_of(policy, question)
    return np.prod(columns[(sequences, *np.moveaxis(contexts, -1, 0))], axis=1)


@pytest.mark.parametrize("size", SIZES)
def test_sums_over_all_sequences(size):
    """Sequence probabilities, answers, patterns, values by pattern, mean rewards and KL."""
    policy, other = random_policy(size), random_policy(size, 1)
    everywhere = jnp.where(jnp.isinf(other.logits), 0, other.logits)
    other = qra.policies.MarkovPolicy(everywhere, policy.start, policy.horizon)
    correct = np.array([0, policy.num_tokens - 1])
    problem = qra.Problem(correct, np.array([0.3, 0.7]))
    sequences = all_sequences(policy)
    kind = np.asarray(policy.pattern_of)[sequences[:, policy.branch - 1]]
    certainty = np.asarray(qra.objectives.MeanSelfCertainty()(policy, problem).along)
    shares, rates = policy.pattern_table(problem)
    _, certain = policy.pattern_table(problem, qra.objectives.MeanSelfCertainty())
    value = policy.expectation(qra.Verifiable(), problem)
    earned = policy.expectation(qra.objectives.MeanSelfCertainty(), problem)
    ends, divergence = policy.answer_probs(), policy.kl(other)
    for question in range(2):
        probs, right = by_hand(policy, question), sequences[:, -1] == correct[question]
        np.testing.assert_allclose(probs.sum(), 1, rtol=1e-12)
        logs = policy.log_prob(jnp.asarray(sequences), question)
        np.testing.assert_allclose(jnp.exp(logs), probs, rtol=1e-12, atol=1e-300)
        expected = [probs[sequences[:, -1] == a].sum() for a in range(policy.num_tokens)]
        np.testing.assert_allclose(ends[question], expected, atol=1e-13)
        np.testing.assert_allclose(value[question], probs @ right, atol=1e-12)
        met = np.mean(certainty[tuple(np.moveaxis(contexts_of(policy, question), -1, 0))], axis=1)
        np.testing.assert_allclose(earned[question], probs @ met, rtol=1e-12)
        for pattern in range(policy.num_patterns):
            mine = np.where(kind == pattern, probs, 0)
            np.testing.assert_allclose(shares[question, pattern], mine.sum(), atol=1e-13)
            if mine.sum() > 0:
                within = mine / mine.sum()
                np.testing.assert_allclose(rates[question, pattern], within @ right, atol=1e-12)
                np.testing.assert_allclose(certain[question, pattern], within @ met, rtol=1e-12)
        others = by_hand(other, question)
        ratio = np.log(np.where(probs > 0, probs, 1) / np.where(probs > 0, others, 1))
        np.testing.assert_allclose(divergence[question], probs @ ratio, rtol=1e-11, atol=1e-13)


def enumerated_value(policy, problem, reward_of):
    """The objective as a sum over sequences, differentiable in the logits."""
    sequences = jnp.asarray(all_sequences(policy))
    total = 0.0
    for question, weight in enumerate(problem.weights):
        probs = jnp.exp(policy.log_prob(sequences, question))
        total = total + weight * jnp.sum(probs * reward_of(question))
    return total


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("reward", [qra.Verifiable(), qra.objectives.MeanTokenEntropy()])
def test_velocity_is_the_gradient_over_all_sequences(size, reward):
    """And that against differences along a random direction; columns move without their mean."""
    policy = random_policy(size)
    problem = qra.Problem(np.array([0, 0]), np.array([0.3, 0.7]))
    flow = qra.GradientFlow(qra.Objective(reward), problem, "all")
    params, frozen = flow.split(policy)
    found = flow.velocity(params, frozen, policy).logits
    right = jnp.asarray(all_sequences(policy)[:, -1] == 0, float)
    along = np.asarray(getattr(reward(policy, problem), "along", 0.0))

    def reward_of(question):
        if isinstance(reward, qra.Verifiable):
            return right
        return np.mean(along[tuple(np.moveaxis(contexts[question], -1, 0))], axis=1)

    contexts = [contexts_of(policy, question) for question in range(2)]

    @jax.jit
    def objective(logits):
        moved = qra.policies.MarkovPolicy(
            logits, policy.start, policy.horizon, branch=policy.branch, patterns=policy.pattern_of
        )
        return enumerated_value(moved, problem, reward_of)

    there = policy.logits > -jnp.inf
    expected = jnp.where(there, jax.grad(objective)(policy.logits), 0)
    np.testing.assert_allclose(jnp.where(there, found, 0), expected, atol=1e-12)
    np.testing.assert_allclose(jnp.where(there, found, 0).sum(axis=0), 0, atol=1e-15)
    direction = np.where(there, np.random.default_rng(2).normal(size=there.shape), 0)
    step = 1e-5
    sides = [objective(policy.logits + sign * step * direction) for sign in (1, -1)]
    slope = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jnp.where(there, found, 0) * direction), slope, rtol=1e-7)


# With frozen answers the times are tested below, and the velocities.
@pytest.mark.parametrize("freeze", [pytest.param(True, marks=pytest.mark.slow), False])
def test_two_stages_as_tokens(freeze):
    """Accuracy, shares, success rates and velocities of the table, along the flow."""
    policy, problem = qra.two_stage(PROBS, RATES)
    problem = qra.Problem(problem.correct, jnp.array([0.4, 0.6]))
    tokens, same = qra.tokens.as_tokens(policy, problem, freeze_answers=freeze)
    log_times = jnp.log(jnp.array([1.0, 10.0, 100.0]))
    table = qra.GradientFlow(qra.RLVR(), problem, "patterns" if freeze else "all")
    expected = qra.solve_flow(policy, table, log_times=log_times, method=TIGHT)
    flow = qra.GradientFlow(qra.RLVR(), same, "all")
    found = qra.solve_flow(tokens, flow, log_times=log_times, method=TIGHT)
    assert found.status == expected.status == qra.Status.COMPLETED
    np.testing.assert_allclose(found.accuracy, expected.accuracy, rtol=1e-8)
    np.testing.assert_allclose(found.pattern_probs, expected.pattern_probs, rtol=1e-8)
    _, rates = found.final_policy.pattern_table(same)
    _, known = expected.final_policy.pattern_table(problem)
    np.testing.assert_allclose(rates, known, rtol=1e-8)


def test_tables_as_tokens():
    """Three answers, other ones right, unequal weights: shares, rates and velocities, number by
    number, and which columns are frozen."""
    rng = np.random.default_rng(4)
    policy = qra.TabularPolicy(rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 3)))
    problem = qra.Problem(np.array([2, 1]), np.array([0.15, 0.85]))

    def velocity(one, on):
        flow = qra.GradientFlow(qra.RLVR(), on, "all")
        params, frozen = flow.split(one)
        return flow.velocity(params, frozen, one)

    known = velocity(policy, problem)
    for freeze in (False, True):
        tokens, same = qra.tokens.as_tokens(policy, problem, freeze_answers=freeze)
        np.testing.assert_array_equal(same.weights, problem.weights)
        for found, table in zip(
            tokens.pattern_table(same), policy.pattern_table(problem), strict=True
        ):
            np.testing.assert_allclose(found, table, rtol=1e-13)
        answers = tokens.answer_probs()
        shares, each = (np.exp(np.asarray(x)) for x in policy.log_probs())
        np.testing.assert_allclose(answers[:, :6], 0, atol=1e-16)
        np.testing.assert_allclose(answers[:, 6:], np.sum(shares[..., None] * each, axis=1))
        found = np.asarray(velocity(tokens, same).logits)
        for q in range(2):
            rows = 2 + 2 * q + np.arange(2)
            np.testing.assert_allclose(found[rows, q], known.pattern_logits[q], rtol=1e-12)
            block = 0 * known.answer_logits[q] if freeze else known.answer_logits[q]
            np.testing.assert_allclose(found[6:, rows].T, block, rtol=1e-12)


def test_entanglement_time_of_tokens():
    """T0 of the check case."""
    policy, problem = qra.two_stage(PROBS[0], RATES[0])
    tokens, same = qra.tokens.as_tokens(policy, problem, freeze_answers=True)
    flow = qra.GradientFlow(qra.RLVR(), same, "all")
    assert qra.regime(tokens, flow)[0] == qra.Regime.ENTANGLED
    found = qra.log_entanglement_time(tokens, flow, method=TIGHT)
    known = qra.log_entanglement_time(policy, problem)
    np.testing.assert_allclose(found, known, atol=1e-8)


@pytest.mark.parametrize("size", [(3, 3, 1, 1), (3, 3, 2, 1)])
def test_samples(size):
    """Frequencies of sampled sequences against their probabilities; their keys."""
    policy, number = random_policy(size), 20_000
    for question in range(2):
        drawn = np.asarray(policy.sample(jax.random.key(question), number, question))
        probs = by_hand(policy, question)
        found = np.bincount(drawn @ (3 ** np.arange(2, -1, -1)), minlength=27) / number
        error = np.sqrt(probs * (1 - probs) / number)
        assert np.all(np.abs(found - probs) <= 5 * error)
        # One sequence says nothing of the next, nor of that of another key.
        other = np.asarray(policy.sample(jax.random.key(7), number, question))
        again = np.asarray(policy.sample(jax.random.key(question), number, question))
        np.testing.assert_array_equal(again, drawn)
        for one, two in ((drawn[1:], drawn[:-1]), (drawn, other)):
            same = np.mean(np.all(one == two, axis=1))
            chance = np.sum(probs**2)
            assert abs(same - chance) < 5 * np.sqrt(chance / number)
    first = policy.sample(jax.random.key(0), number)
    np.testing.assert_array_equal(first, policy.sample(jax.random.key(0), number, 0))
    with pytest.raises(ValueError, match="number must be at least 1, got 0"):
        policy.sample(jax.random.key(0), 0)


def test_penalty_and_mixture():
    """A KL penalty pulls back by the gradient of the divergence; rewards of tokens mix."""
    policy = random_policy((4, 3, 1, 1))
    moved = qra.policies.MarkovPolicy(
        policy.logits * 0.5, policy.start, 3, patterns=policy.pattern_of
    )
    problem = qra.Problem(np.array([0, 0]))
    reward = qra.objectives.Mixture(
        (qra.Verifiable(), qra.objectives.MeanSelfCertainty()), np.array([1.0, 0.1])
    )
    alone = [
        moved.expectation(one, problem)
        for one in (qra.Verifiable(), qra.objectives.MeanSelfCertainty())
    ]
    np.testing.assert_allclose(
        moved.expectation(reward, problem), alone[0] + 0.1 * alone[1], rtol=1e-13
    )

    def velocity(objective):
        flow = qra.GradientFlow(objective, problem, "all")
        params, frozen = flow.split(moved)
        return flow.velocity(params, frozen, policy).logits

    def divergence(logits):
        own = qra.policies.MarkovPolicy(logits, policy.start, 3, patterns=policy.pattern_of)
        return problem.mean(own.kl(policy))

    penalty = velocity(qra.RLVR(0.2)) - velocity(qra.RLVR())
    there = policy.logits > -jnp.inf
    expected = jnp.where(there, -0.2 * jax.grad(divergence)(moved.logits), 0)
    np.testing.assert_allclose(jnp.where(there, penalty, 0), expected, atol=1e-14)


def two_tokens(logits=None, start=(0,), horizon=2, **options):
    """A call that makes a policy of two tokens."""
    logits = np.zeros((2, 2)) if logits is None else logits
    return lambda: qra.policies.MarkovPolicy(logits, np.array(start), horizon, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (two_tokens(np.zeros((3, 2))), "logits must have shape"),
        (two_tokens(np.full((2, 2), np.nan)), "logits must be finite or -inf"),
        (two_tokens(np.array([[0.0, -np.inf]] * 2)), r"logits.max\(axis=0\) must be finite"),
        (two_tokens(start=(2,)), "start must be tokens"),
        (two_tokens(start=[[0, 1]]), "start must have shape"),
        (two_tokens(horizon=0), "horizon must be at least 1"),
        (two_tokens(branch=3), "branch must be at most the horizon"),
        (two_tokens(patterns=np.array([0, -1])), "patterns must be at least 0"),
        (two_tokens(trained=np.ones(3, bool)), "trained must be bool of shape"),
    ],
)
def test_bad_policies(call, message):
    """Each says what was wrong."""
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_flows():
    """An answer out of reach, patterns alone, natural geometry, rewards of other policies."""
    never = np.array([[0.0, 0.0], [-np.inf, 0.0]])
    policy = qra.policies.MarkovPolicy(never, np.array([0]), 3)
    with pytest.raises(ValueError, match="reachable answer"):
        qra.solve_flow(policy, qra.GradientFlow(qra.RLVR(), qra.Problem(np.array([1])), "all"),
                       log_times=jnp.zeros(1))  # fmt: skip
    policy, problem = random_policy((3, 3, 1, 1)), qra.Problem(np.array([0, 0]))
    with pytest.raises(ValueError, match="trainable must be 'all' for a MarkovPolicy"):
        qra.solve_flow(policy, problem, log_times=jnp.zeros(1))
    natural = qra.GradientFlow(qra.RLVR(), problem, "all", qra.Natural())
    with pytest.raises(ValueError, match=r"geometry must be Euclidean\(\) for a MarkovPolicy"):
        qra.solve_flow(policy, natural, log_times=jnp.zeros(1))
    table, one = qra.two_stage(PROBS, RATES)
    with pytest.raises(
        TypeError,
        match="policy must draw tokens, as a MarkovPolicy does, for this",
    ):
        qra.solve_flow(
            table,
            qra.GradientFlow(qra.RLIF(qra.objectives.MeanTokenEntropy()), one),
            log_times=jnp.zeros(1),
        )
    with pytest.raises(ValueError, match="tokens must have shape"):
        qra.solve_flow(
            policy,
            qra.GradientFlow(
                qra.Objective(qra.objectives.EndsIn(np.ones(5, bool))), problem, "all"
            ),
            log_times=jnp.zeros(1),
        )
