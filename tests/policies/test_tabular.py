"""Problems, tabular policies and metrics: plain arithmetic, against NumPy and SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import qra_jax as qra

LOGITS = np.array([[0.3, -1.2, 0.8, -np.inf], [2.0, -np.inf, -0.5, 0.1]])
ANSWERS = np.random.default_rng(0).normal(size=(2, 4, 3))
CORRECT = np.array([2, 0])


@pytest.fixture
def policy():
    """Two questions, up to three of four patterns, three answers."""
    return qra.TabularPolicy(LOGITS, ANSWERS)


@pytest.fixture
def problem():
    """Which answers are right, with unequal weights."""
    return qra.Problem(CORRECT, np.array([0.3, 0.7]))


def tables():
    """Pattern probabilities `(Q, R)` and answer probabilities `(Q, R, A)`, by SciPy."""
    return scipy.special.softmax(LOGITS, axis=-1), scipy.special.softmax(ANSWERS, axis=-1)


def rates():
    """Success rates of existing patterns, 0 where padded."""
    _, answers = tables()
    found = np.stack([answers[q, :, CORRECT[q]] for q in range(2)])
    return np.where(np.isfinite(LOGITS), found, 0)


def test_problem_defaults():
    """Questions weigh the same unless told otherwise."""
    problem = qra.Problem(np.array([0, 1, 1]))
    assert problem.num_questions == 3
    np.testing.assert_allclose(problem.weights, 1 / 3, rtol=1e-15)
    right = np.array([[[1, 0, 0]], [[0, 1, 0]], [[0, 1, 0]]])
    np.testing.assert_array_equal(problem.correctness(3), right)


def test_log_probs(policy):
    """Both stages are softmax of their logits; a padded pattern has probability 0."""
    patterns, answers = map(np.exp, policy.log_probs())
    np.testing.assert_allclose(patterns, tables()[0], rtol=1e-14)
    np.testing.assert_allclose(answers, tables()[1], rtol=1e-14)
    np.testing.assert_array_equal(policy.exists, np.isfinite(LOGITS))


def test_pattern_table_and_accuracy(policy, problem):
    """Pattern probabilities, success rates, accuracy by question and by weight, pass@k."""
    probs, success = policy.pattern_table(problem)
    np.testing.assert_allclose(probs, tables()[0], rtol=1e-14)
    np.testing.assert_allclose(success, rates(), rtol=1e-13)
    each = np.sum(tables()[0] * rates(), axis=-1)
    np.testing.assert_allclose(qra.accuracy(policy, problem), each, rtol=1e-14)
    np.testing.assert_allclose(qra.mean_accuracy(policy, problem), each @ [0.3, 0.7], rtol=1e-14)
    for k in (1, 2, 8):
        expected = 1 - (1 - each) ** k
        np.testing.assert_allclose(
            qra.objectives.pass_at_k(policy, problem, k), expected, rtol=1e-13
        )


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (1.0, 1.0), (1e-18, 1e-15)])
def test_pass_at_k_at_the_edges(rate, expected):
    """pass@1000 does not lose a tiny accuracy, and is exact at 0 and 1, gradients included."""
    policy, problem = qra.two_stage(np.array([0.5, 0.5]), np.array([rate, rate]))
    found = qra.objectives.pass_at_k(policy, problem, 1000)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

    def of_logits(logits, answers):
        return qra.objectives.pass_at_k(qra.TabularPolicy(logits, answers), problem, 3).sum()

    slopes = jax.jit(jax.grad(of_logits))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-15)
    close(slopes(policy.pattern_logits, policy.answer_logits), 0)
    policy, _ = qra.two_stage(np.array([0.3, 0.7]), np.array([rate, 0.5]))
    value = 0.3 * rate + 0.35
    # V moves by pi_r (p_r - V), and with it 1 - (1 - V)^3.
    moved = np.array([[0.3 * (rate - value), 0.7 * (0.5 - value)]])
    found = slopes(policy.pattern_logits, policy.answer_logits)
    close(found, 3 * (1 - value) ** 2 * moved)


def test_entropy_and_kl(policy):
    """Entropy of patterns; KL over patterns and answers together, infinite off the support."""
    patterns, answers = tables()
    np.testing.assert_allclose(policy.entropy(), scipy.stats.entropy(patterns, axis=-1), rtol=1e-13)
    reference = qra.TabularPolicy(LOGITS + np.arange(4) * 0.3, ANSWERS * 0.5)
    joint = patterns[:, :, None] * answers
    other_logits = LOGITS + np.arange(4) * 0.3
    other = scipy.special.softmax(other_logits, axis=-1)[:, :, None] * scipy.special.softmax(
        ANSWERS * 0.5, axis=-1
    )
    expected = scipy.special.rel_entr(joint, other).sum(axis=(1, 2))
    np.testing.assert_allclose(policy.kl(reference), expected, rtol=1e-12)
    np.testing.assert_array_equal(policy.kl(policy), 0)
    lacking = qra.TabularPolicy(np.where(np.arange(4) == 0, -np.inf, 0.0) + LOGITS, ANSWERS)
    assert np.isinf(policy.kl(lacking)).all()
    assert np.isfinite(lacking.kl(policy)).all()


def test_expectation_and_its_gradient(policy, problem):
    """V_q of any reward, and its gradient pi_r (R_r - V) with zeros where padded."""
    reward = np.random.default_rng(1).normal(size=(2, 4, 3))
    patterns, answers = tables()
    values = np.sum(answers * reward, axis=-1)
    expected = np.sum(patterns * values, axis=-1)

    def total(logits):
        live = qra.TabularPolicy(logits, ANSWERS)
        return live.expectation(lambda *_: jnp.asarray(reward), problem)

    np.testing.assert_allclose(total(jnp.asarray(LOGITS)), expected, rtol=1e-13)
    slope = jax.jacobian(total)(jnp.asarray(LOGITS))
    for q in range(2):
        np.testing.assert_allclose(
            slope[q, q], patterns[q] * (values[q] - expected[q]), rtol=1e-12, atol=1e-15
        )
        assert not slope[q, 1 - q].any()


def test_two_stage():
    """Two answers, the first of them right with the given probability; one row of rates for all."""
    probs, success = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([0.3, 1.0])
    policy, problem = qra.two_stage(probs, success)
    found_probs, found_rates = policy.pattern_table(problem)
    np.testing.assert_allclose(found_probs, probs, rtol=1e-14)
    np.testing.assert_allclose(found_rates, np.tile(success, (2, 1)), rtol=1e-14)
    np.testing.assert_array_equal(problem.correct, 0)
    assert policy.answer_logits.shape == (2, 2, 2)


def test_gradients_at_the_edge_of_the_simplex():
    """Probabilities and rates of exactly 0 and 1 give the derivatives of their values, 0 where
    padded; a rate of 0 or 1 has none itself."""

    def score(probs, success):
        policy, problem = qra.two_stage(probs, success)
        return qra.accuracy(policy, problem).sum()

    slopes = jax.jit(jax.grad(score, argnums=(0, 1)))
    probs = jnp.array([0.4, 0.6, 0.0])
    by_probs, by_rates = slopes(probs, jnp.array([1.0, 0.0, 0.5]))
    np.testing.assert_allclose(by_probs, [1 - 0.4, 0 - 0.4, 0], atol=1e-15)
    np.testing.assert_array_equal(by_rates, 0)
    by_probs, by_rates = slopes(probs, jnp.array([0.9, 0.2, 0.5]))
    np.testing.assert_allclose(by_probs, [0.9 - 0.48, 0.2 - 0.48, 0], atol=1e-15)
    np.testing.assert_allclose(by_rates, [0.4, 0.6, 0], atol=1e-15)


def test_self_certainty():
    """KL from uniform to the answers: 0 at a coin toss, and blind to which answer is right."""
    success = np.array([0.5, 0.9, 0.1, 0.01])
    policy, problem = qra.two_stage(np.full(4, 0.25), success)
    reward = np.asarray(qra.SelfCertainty()(policy, problem))
    answers = np.stack([success, 1 - success], axis=-1)
    expected = scipy.special.rel_entr(0.5, answers).sum(axis=-1)
    np.testing.assert_allclose(np.broadcast_to(reward, (1, 4, 1))[0, :, 0], expected, atol=1e-15)
    _, values = policy.pattern_table(problem, qra.SelfCertainty())
    np.testing.assert_allclose(values[0], expected, atol=1e-15)


def test_verifiable_is_the_success_rate(policy, problem):
    """E[1[a = a*]] under each pattern's answers is p(r)."""
    _, values = policy.pattern_table(problem, qra.Verifiable())
    np.testing.assert_allclose(values, rates(), rtol=1e-13)
