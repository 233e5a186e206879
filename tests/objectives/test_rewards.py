"""Rewards: their definitions, the flows they drive with both switches, and what is known of them.

Formulas are written out in NumPy for one policy; `pi` is `(Q, R)`, `q` is `(Q, R, A)`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import qra_jax as qra

SHAPES = {"one question": (1, 3, 2), "two questions": (2, 3, 4)}
LANES = 12
PATTERN_REWARD = qra.PatternReward(np.array([0.3, 1.2, -0.5]))
EVERYTHING = (
    qra.SelfCertainty(),
    qra.objectives.TrajectoryEntropy(),
    qra.objectives.TokenEntropy(),
    qra.objectives.TopTwoMargin(),
    qra.objectives.SequenceProbability(),
    qra.objectives.SelfConsistency(),
    qra.objectives.MajorityVote(),
    qra.objectives.ReferenceProbability(),
    qra.Verifiable(),
    qra.objectives.NoisyVerifier(0.8, 0.3),
    PATTERN_REWARD,
    qra.objectives.Mixture(
        (qra.Verifiable(), qra.objectives.SequenceProbability()), np.array([0.5, -2.0])
    ),
)


def name_of(reward):
    """The class of a reward, as a test's name."""
    return type(reward).__name__


each_reward = pytest.mark.parametrize("reward", EVERYTHING, ids=name_of)


class Case(NamedTuple):
    """A policy in numbers, and what the flow's formulas are made of."""

    pi: np.ndarray
    q: np.ndarray
    right: np.ndarray
    weight: np.ndarray

    @property
    def log_pi(self):
        """log pi, 0 where a pattern does not exist."""
        return np.log(np.where(self.pi > 0, self.pi, 1))

    @property
    def entropy(self):
        """The entropy of each pattern's answers, `(Q, R)`."""
        return -np.sum(scipy.special.xlogy(self.q, self.q), axis=-1)

    @property
    def share(self):
        """The marginal share of each answer, `(Q, 1, A)`."""
        return np.einsum("qr,qra->qa", self.pi, self.q)[:, None, :]

    def ranked(self, place):
        """1 at the answer in this place of each pattern's ranking (-1 is the first), (Q, R, A)."""
        return (np.argsort(self.q)[:, :, place, None] == np.arange(self.q.shape[-1])).astype(float)

    def patterns(self, values):
        """D(q) pi_r (W_r - mean W)."""
        mean = np.sum(self.pi * values, axis=-1, keepdims=True)
        return self.weight[:, None] * self.pi * (values - mean)

    def answers(self, rewards):
        """D(q) pi_r q_ra (X_ra - sum_b q_rb X_rb)."""
        mean = np.sum(self.q * rewards, axis=-1, keepdims=True)
        return (self.weight[:, None] * self.pi)[:, :, None] * self.q * (rewards - mean)


class Row(NamedTuple):
    """One row of the table: the reward's values, its pattern gradient with the reward held
    constant and differentiated through, and its answer gradient for both."""

    reward: np.ndarray
    patterns: tuple[np.ndarray, np.ndarray]
    answers: tuple[np.ndarray, np.ndarray]


def self_certainty(case):
    """KL(uniform, q_r)."""
    num_answers = case.q.shape[-1]
    values = scipy.special.rel_entr(1 / num_answers, case.q).sum(axis=-1)
    moved = (case.weight[:, None] * case.pi)[:, :, None] * (case.q - 1 / num_answers)
    patterns = case.patterns(values)
    return Row(values[:, :, None], (patterns, patterns), (0 * moved, moved))


def trajectory_entropy(case):
    """(log pi_r + log q_ra) / 2."""
    patterns = case.patterns((case.log_pi - case.entropy) / 2)
    log_q = np.log(case.q)
    weight = (case.weight[:, None] * case.pi)[:, :, None]
    answers = weight * case.q * (log_q + case.entropy[:, :, None]) / 2
    reward = (case.log_pi[:, :, None] + log_q) / 2
    return Row(reward, (patterns, patterns), (answers, answers))


def token_entropy(case):
    """-(H(pi) + H_r) / 2."""
    whole = -np.sum(scipy.special.xlogy(case.pi, case.pi), axis=-1, keepdims=True)
    reward = -(whole + case.entropy)[:, :, None] / 2
    other = trajectory_entropy(case)
    held = case.patterns(-case.entropy / 2)
    return Row(reward, (held, other.patterns[1]), (0 * case.q, other.answers[1]))


def top_two_margin(case):
    """q1 - q2."""
    ordered = np.sort(case.q)
    first, second = ordered[:, :, -1:], ordered[:, :, -2:-1]
    patterns = case.patterns((first - second)[:, :, 0])
    moved = first * (case.ranked(-1) - case.q) - second * (case.ranked(-2) - case.q)
    moved = (case.weight[:, None] * case.pi)[:, :, None] * moved
    return Row(first - second, (patterns, patterns), (0 * moved, moved))


def sequence_probability(case):
    """pi_r q_ra."""
    square = np.sum(case.q**2, axis=-1)
    patterns = case.patterns(case.pi * square)
    answers = case.q * (case.q - square[:, :, None])
    answers = (case.weight[:, None] * case.pi**2)[:, :, None] * answers
    reward = case.pi[:, :, None] * case.q
    return Row(reward, (patterns, 2 * patterns), (answers, 2 * answers))


def self_consistency(case):
    """m_a."""
    patterns = case.patterns(np.sum(case.q * case.share, axis=-1))
    answers = case.answers(np.broadcast_to(case.share, case.q.shape))
    return Row(case.share, (patterns, 2 * patterns), (answers, 2 * answers))


def majority_vote(case):
    """1[a = argmax m]."""
    vote = (case.share == case.share.max(axis=-1, keepdims=True)).astype(float)
    patterns = case.patterns(np.sum(case.q * vote, axis=-1))
    answers = case.answers(vote)
    return Row(vote, (patterns, patterns), (answers, answers))


def reference_probability(case):
    """q_r,a*."""
    success = np.sum(case.q * case.right, axis=-1)
    patterns, answers = case.patterns(success), case.answers(case.right)
    return Row(success[:, :, None], (patterns, patterns), (0 * answers, answers))


TABLE = {
    qra.SelfCertainty: self_certainty,
    qra.objectives.TrajectoryEntropy: trajectory_entropy,
    qra.objectives.TokenEntropy: token_entropy,
    qra.objectives.TopTwoMargin: top_two_margin,
    qra.objectives.SequenceProbability: sequence_probability,
    qra.objectives.SelfConsistency: self_consistency,
    qra.objectives.MajorityVote: majority_vote,
    qra.objectives.ReferenceProbability: reference_probability,
}


def lane(pattern_logits, answer_logits, correct, weights):
    """One policy and its problem."""
    return qra.TabularPolicy(pattern_logits, answer_logits), qra.Problem(correct, weights)


def both_velocities(reward, policy, problem):
    """Velocities of the mean utility: the reward held constant, and differentiated through."""

    def velocity(through):
        objective = qra.Objective(reward, differentiate_reward=through)
        flow = qra.GradientFlow(objective, problem, trainable="all")
        return flow.velocity(*flow.split(policy), policy)

    return velocity(False), velocity(True)


@jax.jit
def evaluate(reward, *columns):
    """Values of a reward and both velocities, of a batch of policies."""

    def of_one(*columns):
        policy, problem = lane(*columns)
        rewards = jnp.broadcast_to(reward(policy, problem), policy.answer_logits.shape)
        values = policy.pattern_table(problem, reward)[1]
        return rewards, values, *both_velocities(reward, policy, problem)

    return jax.vmap(of_one)(*columns)


@functools.cache
def policies(name, dtype=np.float64):
    """Columns of `lane` for random policies; in every third one a pattern does not exist."""
    num_questions, num_patterns, num_answers = SHAPES[name]
    rng = np.random.default_rng(11)
    patterns = rng.normal(scale=1.5, size=(LANES, num_questions, num_patterns))
    patterns[::3, 0, 1] = -np.inf
    answers = rng.normal(scale=1.5, size=(LANES, num_questions, num_patterns, num_answers))
    correct = rng.integers(num_answers, size=(LANES, num_questions))
    weights = rng.dirichlet(np.ones(num_questions), size=LANES)
    return patterns.astype(dtype), answers.astype(dtype), correct, weights.astype(dtype)


def cases(name):
    """`Case`s of the same policies."""
    for patterns, answers, correct, weights in zip(*policies(name), strict=True):
        right = (correct[:, None] == np.arange(answers.shape[-1]))[:, None, :].astype(float)
        pi, q = (scipy.special.softmax(logits, axis=-1) for logits in (patterns, answers))
        yield Case(pi, q, right, weights)


def close(found, expected):
    """Equal to 1e-12, of velocities and rewards of order 1."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_table(kind, shape):
    """Values, pattern values and both flows of every internal reward, by its row of the table."""
    rewards, values, *velocities = evaluate(kind(), *policies(shape))
    for index, case in enumerate(cases(shape)):
        row = TABLE[kind](case)
        exists = case.pi[:, :, None] > 0
        expected = exists * np.broadcast_to(row.reward, case.q.shape)
        close(np.where(exists, rewards[index], 0), expected)
        value = np.sum(case.q * row.reward, axis=-1)
        close(values[index], np.where(case.pi > 0, value, 0))
        for velocity, patterns, answers in zip(velocities, row.patterns, row.answers, strict=True):
            close(velocity.pattern_logits[index], patterns)
            close(velocity.answer_logits[index], answers)


@each_reward
def test_what_is_known_of_values(reward):
    """Each property against what happens when only patterns, or only answers, change."""
    patterns, answers, correct, weights = policies("two questions")
    moved = np.where(patterns > -np.inf, patterns[:, :, ::-1].clip(-1, 2) + 0.1, -np.inf)
    rewards, values, held, _ = evaluate(reward, patterns, answers, correct, weights)
    others, other_values, _, _ = evaluate(reward, moved, answers, correct, weights)
    exists = (patterns > -np.inf) & (moved > -np.inf)

    def spread(table):
        """Values less that of the last pattern, which exists everywhere."""
        return np.where(exists, table - table[:, :, -1:], 0)

    kept = np.allclose(spread(values), spread(other_values), rtol=0, atol=1e-13)
    assert kept is reward.keeps_pattern_values
    assert np.all((rewards == others) | ~exists[..., None]) == reward.ignores_patterns
    assert np.all(np.ptp(rewards, axis=-1) == 0) == reward.same_for_answers
    assert np.all(held.answer_logits == 0) == reward.same_for_answers


@pytest.mark.parametrize(
    ("members", "known"),
    [
        ((qra.SelfCertainty(), qra.objectives.TopTwoMargin()), (True, True, True)),
        ((qra.SelfCertainty(), qra.objectives.TokenEntropy()), (True, False, True)),
        ((qra.Verifiable(), qra.objectives.NoisyVerifier(0.5, 0.1)), (True, True, False)),
        ((qra.Verifiable(), qra.objectives.MajorityVote()), (False, False, False)),
        (
            (qra.objectives.TokenEntropy(), lambda policy, problem: jnp.ones((1, 1, 1))),
            (False,) * 3,
        ),
    ],
)
def test_what_is_known_of_mixtures(members, known):
    """What holds for every member."""
    mixture = qra.objectives.Mixture(members, np.array([1.0, 2.0]))
    found = mixture.keeps_pattern_values, mixture.ignores_patterns, mixture.same_for_answers
    assert found == known


def test_mixture_is_linear():
    """Values and both velocities are sums, whatever the shapes of the members' values."""
    members = (
        qra.Verifiable(),
        PATTERN_REWARD,
        qra.objectives.TrajectoryEntropy(),
    )
    weights = np.array([0.5, 2.0, -0.25])
    columns = policies("two questions")
    _, *found = evaluate(qra.objectives.Mixture(members, weights), *columns)
    parts = [evaluate(member, *columns)[1:] for member in members]
    expected = jax.tree_util.tree_map(lambda *each: np.tensordot(weights, each, 1), *parts)
    assert np.abs(expected[1].answer_logits).max() > 0.01
    jax.tree_util.tree_map(close, tuple(found), expected)


def test_gradient_in_weights_of_a_mixture_ignores_padding():
    """An infinite value where no pattern exists reaches neither the velocity nor its gradient."""
    policy, problem = qra.two_stage(np.array([0.4, 0.6, 0.0]), np.array([0.9, 0.6, 0.0]))

    def speed(weights):
        reward = qra.objectives.Mixture((qra.SelfCertainty(), qra.Verifiable()), weights)
        flow = qra.GradientFlow(qra.Objective(reward), problem)
        return flow.velocity(*flow.split(policy), policy).pattern_logits[0, 0]

    certainty = scipy.special.rel_entr(0.5, [[0.9, 0.1], [0.6, 0.4]]).sum(axis=-1)
    expected = 0.4 * 0.6 * np.array([certainty[0] - certainty[1], 0.9 - 0.6])
    np.testing.assert_allclose(jax.jit(jax.grad(speed))(np.array([0.3, 2.0])), expected, rtol=1e-12)


# The noisy verifier


POLICY, PROBLEM = qra.two_stage(np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.7, 0.1]))
RATES = [(0.8, 0.3), (1.0, 0.0), (0.2, 0.9), (0.4, 0.4)]


@pytest.mark.parametrize("rates", RATES)
def test_noisy_verifier(rates):
    """V = FPR + J A, and J times the clean velocity of the mean utility, with both switches."""
    youden = rates[0] - rates[1]
    reward = qra.objectives.NoisyVerifier(*rates)
    assert float(reward.youden) == youden
    columns = policies("two questions")
    found, values, *velocities = evaluate(reward, *columns)
    for index, case in enumerate(cases("two questions")):
        close(found[index], np.broadcast_to(np.where(case.right == 1, *rates), case.q.shape))
        success = np.sum(case.q * case.right, axis=-1)
        close(values[index], np.where(case.pi > 0, rates[1] + youden * success, 0))
        for velocity in velocities:
            close(velocity.pattern_logits[index], youden * case.patterns(success))
            close(velocity.answer_logits[index], youden * case.answers(case.right))


@pytest.mark.parametrize("rates", RATES)
def test_clock_of_a_noisy_verifier(rates):
    """Under GRPO, J f'(FPR + J A) times the clean velocity of the mean utility, each question."""
    true_positive, false_positive = rates
    youden = true_positive - false_positive
    found = noisy_grpo(jnp.asarray(true_positive), jnp.asarray(false_positive))
    for index, case in enumerate(cases("two questions")):
        success = np.sum(case.q * case.right, axis=-1)
        mean = false_positive + youden * np.sum(case.pi * success, axis=-1)
        clock = (youden / np.sqrt(mean * (1 - mean)))[:, None]
        close(found.pattern_logits[index], clock * case.patterns(success))
        close(found.answer_logits[index], clock[:, :, None] * case.answers(case.right))


@jax.jit
def noisy_grpo(true_positive_rate, false_positive_rate):
    """Velocities under GRPO with groups without end."""

    def of_one(*columns):
        policy, problem = lane(*columns)
        reward = qra.objectives.NoisyVerifier(true_positive_rate, false_positive_rate)
        flow = qra.GradientFlow(qra.Objective(reward, qra.GRPO()), problem, "all")
        return flow.velocity(*flow.split(policy), policy)

    return jax.vmap(of_one)(*policies("two questions"))


def follow(rates, policy, time):
    """The flow of the patterns with a verifier of these rates, up to a time."""
    flow = qra.GradientFlow(qra.Objective(qra.objectives.NoisyVerifier(*rates)), PROBLEM)
    found = qra.solve_flow(policy, flow, log_times=np.log([time]))
    assert isinstance(found.method, qra.Exact)
    assert found.status == qra.Status.COMPLETED
    final = found.final_policy
    assert isinstance(final, qra.TabularPolicy)
    return final


def test_misleading_verifier_retraces_the_flow():
    """J < 0: from where the clean flow is at time t, back to its start in time t / |J|."""
    time, youden = 30.0, 0.2 - 0.7
    there = follow((1.0, 0.0), POLICY, time)
    assert np.abs(there.pattern_logits - POLICY.pattern_logits).max() > 0.5
    back = follow((0.2, 0.7), there, time / abs(youden))
    np.testing.assert_allclose(back.pattern_logits, POLICY.pattern_logits, rtol=0, atol=1e-8)


def test_uninformative_verifier_stops_the_flow():
    """J = 0: time passes, and nothing moves."""
    there = follow((0.6, 0.6), POLICY, 100.0)
    np.testing.assert_array_equal(there.pattern_logits, POLICY.pattern_logits)


# Edges


def test_answer_of_probability_zero():
    """Velocities, with both switches, and their derivatives are finite where an answer or a
    pattern does not exist; self-certainty apart, which is infinite there."""
    # What is not finite in any member shows in the sum.
    members = tuple(kind() for kind in TABLE if kind is not qra.SelfCertainty)
    reward = qra.objectives.Mixture(members, np.linspace(0.5, 1.5, len(members)))
    patterns, answers, *others = policies("two questions")
    answers = answers.copy()
    answers[:, 0, :, 1] = -np.inf
    answers[:, 1, 0, 1:] = -np.inf

    @jax.jit
    @jax.vmap
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def slopes_of_speed(*columns):
        leaves = jax.tree_util.tree_leaves(both_velocities(reward, *lane(*columns)))
        return sum(jnp.sum(leaf**2) for leaf in leaves), leaves

    slopes, velocities = slopes_of_speed(patterns, answers, *others)
    assert len(velocities) == 4
    for leaf in (*velocities, *slopes):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-3
    for logits, slope in zip((patterns, answers), slopes, strict=True):
        assert np.all(slope[logits == -np.inf] == 0)


def test_float32():
    """A float32 policy has velocities in float32: those of float64, to its precision."""
    members = tuple(kind() for kind in TABLE)
    weights = np.linspace(0.5, 1.5, len(members))
    single = qra.objectives.Mixture(members, weights.astype(np.float32))
    velocities = evaluate(single, *policies("one question", np.float32))[2:]
    parts = [evaluate(member, *policies("one question"))[2:] for member in members]
    for found, *wanted in zip(*map(jax.tree_util.tree_leaves, (velocities, *parts)), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.tensordot(weights, wanted, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_no_cancellation_near_a_vertex(kind):
    """Logits keep their sum, to relative precision, at distances of 1e-3 to 1e-100 from a vertex
    of the patterns and of the leading pattern's answers, with both switches."""
    rare = np.geomspace(1e-3, 1e-100, LANES)
    pi = np.stack([1 - 3 * rare, rare, 2 * rare], axis=-1)[:, None]
    other = np.broadcast_to([[0.3, 0.7], [0.6, 0.4]], (LANES, 2, 2))
    q = np.concatenate([np.stack([1 - rare, rare], axis=-1)[:, None], other], axis=1)[:, None]
    _, _, correct, weights = policies("one question")
    _, _, *velocities = evaluate(kind(), np.log(pi), np.log(q), correct, weights)
    for velocity in velocities:
        for rows in (velocity.pattern_logits[:, 0], velocity.answer_logits[:, 0, 0]):
            np.testing.assert_allclose(rows[:, 0], -rows[:, 1:].sum(axis=-1), rtol=1e-11)
        assert np.all(velocity.pattern_logits[:, 0, 0] != 0)
    assert np.all(velocities[1].answer_logits[:, 0, 0, 0] != 0)


ONE_ANSWER = qra.TabularPolicy(np.zeros((1, 3)), np.zeros((1, 3, 1)))
SURE, _ = qra.two_stage(np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.7, 0.1]))
BAD = {
    "TPR above 1": (
        lambda: qra.objectives.NoisyVerifier(1.2, 0.1),
        "true_positive_rate must lie in",
    ),
    "FPR below 0": (
        lambda: qra.objectives.NoisyVerifier(0.9, -0.1),
        "false_positive_rate must lie in",
    ),
    "FPR of NaN": (
        lambda: qra.objectives.NoisyVerifier(0.9, np.nan),
        "false_positive_rate .* got .* nan",
    ),
    "several rates": (
        lambda: qra.objectives.NoisyVerifier(np.ones(2), 0.0),
        "true_positive_rate .* scalar",
    ),
    "no rewards": (
        lambda: qra.objectives.Mixture((), np.zeros(0)),
        "rewards must hold at least one reward",
    ),
    "missing weight": (
        lambda: qra.objectives.Mixture(
            (qra.Verifiable(), qra.objectives.TokenEntropy()), np.ones(1)
        ),
        r"weights must have shape \(2,\), .* got \(1,\)",
    ),
    "infinite weight": (
        lambda: qra.objectives.Mixture((qra.Verifiable(),), np.array([np.inf])),
        r"weights must be finite, got weights\[0\] = inf",
    ),
    "NaN weight": (
        lambda: qra.objectives.Mixture((qra.Verifiable(),), np.array([np.nan])),
        "weights must be finite",
    ),
    "margin of one answer": (
        lambda: qra.objectives.TopTwoMargin().validate(ONE_ANSWER, PROBLEM),
        "policy must have at least 2 answers for TopTwoMargin, got 1",
    ),
    "margin of one answer, called": (
        lambda: qra.objectives.TopTwoMargin()(ONE_ANSWER, PROBLEM),
        "policy must have at least 2 answers",
    ),
    "member of a mixture": (
        lambda: qra.objectives.Mixture(
            (qra.Verifiable(), qra.objectives.TopTwoMargin()), np.ones(2)
        ).validate(ONE_ANSWER, PROBLEM),
        "policy must have at least 2 answers",
    ),
    "self-certainty in a mixture": (
        lambda: qra.objectives.Mixture((qra.SelfCertainty(),), np.ones(1)).validate(SURE, PROBLEM),
        "success_rates must lie strictly between 0 and 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    """One line that names the argument, what it must be and what it was."""
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
