"""Objectives and the vector fields of their flows, against the formulas written out in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import qra_jax as qra

Q, R, A = 2, 4, 3
RNG = np.random.default_rng(5)
LOGITS, ANSWERS = RNG.normal(size=(Q, R)), RNG.normal(size=(Q, R, A))
REF_LOGITS, REF_ANSWERS = RNG.normal(size=(Q, R)), RNG.normal(size=(Q, R, A))
WEIGHTS, CORRECT = np.array([0.2, 0.8]), np.array([1, 2])
PATTERNS_PROB, ANSWER_PROB = (scipy.special.softmax(x, axis=-1) for x in (LOGITS, ANSWERS))
RIGHT = (np.arange(A) == CORRECT[:, None])[:, None, :].astype(float)
RATES = np.sum(ANSWER_PROB * RIGHT, axis=-1)
CERTAINTY = -np.mean(np.log(ANSWER_PROB), axis=-1) - np.log(A)


def velocity(objective, trainable="patterns", geometry=qra.Euclidean()):
    """The library's velocity at the policy above, as `(patterns, answers or None)`."""
    problem = qra.Problem(CORRECT, WEIGHTS)
    flow = qra.GradientFlow(objective, problem, trainable, geometry)
    policy = qra.TabularPolicy(LOGITS, ANSWERS)
    reference = qra.TabularPolicy(REF_LOGITS, REF_ANSWERS)
    speed = eqx.filter_jit(flow.velocity)(*flow.split(policy), reference)
    return speed.pattern_logits, speed.answer_logits


def centred(values):
    """values_r - V, `(Q, R)`."""
    return values - np.sum(PATTERNS_PROB * values, axis=-1, keepdims=True)


def kl_terms():
    """log-ratios of patterns `(Q, R)` and answers `(Q, R, A)`, and KL of each pattern's answers."""
    patterns = np.log(PATTERNS_PROB) - scipy.special.log_softmax(REF_LOGITS, axis=-1)
    answers = np.log(ANSWER_PROB) - scipy.special.log_softmax(REF_ANSWERS, axis=-1)
    return patterns, answers, np.sum(ANSWER_PROB * answers, axis=-1)


@pytest.mark.parametrize(
    ("objective", "values"), [(qra.RLVR(), RATES), (qra.RLIF(), CERTAINTY)], ids=["RLVR", "RLIF"]
)
def test_pattern_gradient(objective, values):
    """d theta_r/dt = D(q) pi_r (R_r - V); the answers do not move."""
    patterns, answers = velocity(objective)
    expected = WEIGHTS[:, None] * PATTERNS_PROB * centred(values)
    np.testing.assert_allclose(patterns, expected, rtol=1e-12, atol=1e-16)
    assert answers is None


@pytest.mark.parametrize(
    ("objective", "values"), [(qra.RLVR(), RATES), (qra.RLIF(), CERTAINTY)], ids=["RLVR", "RLIF"]
)
def test_natural_pattern_gradient(objective, values):
    """d theta_r/dt = D(q) (R_r - V): question weights stay."""
    patterns, _ = velocity(objective, geometry=qra.Natural())
    np.testing.assert_allclose(patterns, WEIGHTS[:, None] * centred(values), rtol=1e-12)


def test_answer_gradient():
    """RLVR moves the answers by D(q) pi_r q_ra (1[a = a*] - p_r)."""
    patterns, answers = velocity(qra.RLVR(), "all")
    weight = WEIGHTS[:, None]
    np.testing.assert_allclose(patterns, weight * PATTERNS_PROB * centred(RATES), rtol=1e-12)
    advantage = RIGHT - RATES[:, :, None]
    expected = (weight * PATTERNS_PROB)[:, :, None] * ANSWER_PROB * advantage
    np.testing.assert_allclose(answers, expected, rtol=1e-12, atol=1e-16)
    _, natural = velocity(qra.RLVR(), "all", qra.Natural())
    expected = np.broadcast_to(weight[:, :, None] * advantage, natural.shape)
    np.testing.assert_allclose(natural, expected, rtol=1e-12)


def test_self_certainty_held_constant_leaves_answers_alone():
    """The reward is a constant in the gradient, so trainable answers stay where they are."""
    _, answers = velocity(qra.RLIF(), "all")
    np.testing.assert_allclose(answers, 0, atol=1e-16)


@pytest.mark.parametrize("trainable", ["patterns", "all"])
def test_reverse_kl_gradient(trainable):
    """Replace R_r by R_r - beta (log pi_r/ref_r + KL of the answers), in V too."""
    beta = 0.3
    patterns, answers = velocity(qra.RLVR(beta), trainable)
    log_ratio, answer_ratio, answer_kl = kl_terms()
    penalised = RATES - beta * (log_ratio + answer_kl)
    expected = WEIGHTS[:, None] * PATTERNS_PROB * centred(penalised)
    np.testing.assert_allclose(patterns, expected, rtol=1e-11, atol=1e-15)
    if trainable == "all":
        reward = RIGHT - beta * answer_ratio
        mean = np.sum(ANSWER_PROB * reward, axis=-1, keepdims=True)
        expected = (WEIGHTS[:, None] * PATTERNS_PROB)[:, :, None] * ANSWER_PROB * (reward - mean)
        np.testing.assert_allclose(answers, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("rows", [1, Q])
def test_sft_gradient(rows):
    """d theta_r/dt = D(q) (mu_r - pi_r), with shares for all questions or for each."""
    shares = np.random.default_rng(2).dirichlet(np.ones(R), size=rows)
    patterns, _ = velocity(qra.SFT(shares if rows == Q else shares[0]))
    expected = WEIGHTS[:, None] * (shares - PATTERNS_PROB)
    np.testing.assert_allclose(patterns, expected, rtol=1e-12, atol=1e-16)


def test_own_reward_and_utility():
    """A plain function of (policy, problem), and f'(V) in front of the gradient."""
    values = np.array([1.0, 0.5, -2.0, 0.25])
    objective = qra.Objective(
        lambda policy, problem: jnp.asarray(values)[None, :, None],
        utility=lambda v: jnp.exp(2 * v),
    )
    patterns, _ = velocity(objective)
    spread = centred(np.tile(values, (Q, 1)))
    mean = PATTERNS_PROB @ values
    slope = (WEIGHTS * 2 * np.exp(2 * mean))[:, None]
    np.testing.assert_allclose(patterns, slope * PATTERNS_PROB * spread, rtol=1e-12)


def test_reward_depending_on_patterns_is_held():
    """Trajectory entropy, log pi_r: no gradient through the reward, so pi_r (W_r - mean W)."""
    objective = qra.Objective(lambda policy, problem: policy.log_probs()[0][:, :, None])
    patterns, _ = velocity(objective)
    expected = WEIGHTS[:, None] * PATTERNS_PROB * centred(np.log(PATTERNS_PROB))
    np.testing.assert_allclose(patterns, expected, rtol=1e-12, atol=1e-16)


def test_derivative_of_the_flow_sees_the_reward():
    """Held in the flow's own gradient only: a derivative of the velocity moves the reward too."""
    problem = qra.Problem(np.array([0]))
    flow = qra.GradientFlow(
        qra.Objective(lambda policy, problem: policy.log_probs()[0][:, :, None]), problem
    )
    answers = jnp.zeros((1, R, 2))

    def speed(logits):
        policy = qra.TabularPolicy(logits, answers)
        return flow.velocity(*flow.split(policy), policy).pattern_logits

    def formula(logits):
        probs = jax.nn.softmax(logits)
        return probs * (jnp.log(probs) - jnp.sum(probs * jnp.log(probs), axis=-1, keepdims=True))

    logits = jnp.asarray(LOGITS[:1])
    np.testing.assert_allclose(
        jax.jacobian(speed)(logits), jax.jacobian(formula)(logits), rtol=1e-11, atol=1e-14
    )


@pytest.mark.parametrize("rare", [1e-20, 1e-100, 1e-300])
def test_no_cancellation_near_a_vertex(rare):
    """At probability `rare` from a vertex the velocity keeps its relative precision."""
    probs, rates = np.array([rare, 1.0, 2 * rare]), np.array([0.9, 0.6, 0.1])
    policy, problem = qra.two_stage(probs, rates)
    flow = qra.GradientFlow(qra.RLVR(), problem)
    found = flow.velocity(*flow.split(policy), policy).pattern_logits[0]
    drift = rare * (0.9 - 0.6) + 2 * rare * (0.1 - 0.6)
    expected = [rare * (0.9 - 0.6), -drift, 2 * rare * (0.1 - 0.6)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_trainable_by_a_filter():
    """A function that marks leaves: train the answers alone."""

    def answers_only(policy):
        return eqx.tree_at(lambda p: (p.pattern_logits, p.answer_logits), policy, (False, True))

    patterns, answers = velocity(qra.RLVR(), answers_only)
    assert patterns is None
    np.testing.assert_allclose(answers, velocity(qra.RLVR(), "all")[1], rtol=1e-14)


def test_surrogate_is_the_objective():
    """The number itself: J = sum_q D(q) (V_q - beta KL_q)."""
    problem = qra.Problem(CORRECT, WEIGHTS)
    policy = qra.TabularPolicy(LOGITS, ANSWERS)
    reference = qra.TabularPolicy(REF_LOGITS, REF_ANSWERS)
    log_ratio, _, answer_kl = kl_terms()
    each = np.sum(PATTERNS_PROB * (RATES - 0.3 * (log_ratio + answer_kl)), axis=-1)
    found = qra.RLVR(0.3).surrogate(policy, problem, reference)
    np.testing.assert_allclose(found, WEIGHTS @ each, rtol=1e-12)


@pytest.mark.parametrize(
    ("objective", "interior"),
    [(qra.RLVR(), False), (qra.RLIF(), False), (qra.RLVR(0.1), True), (qra.RLIF(beta=0.1), True)],
)
def test_beta_zero_leaves_the_penalty_out(objective, interior):
    """Only a penalised flow can come to rest inside the simplex."""
    assert objective.has_interior_optimum is interior


def test_optimal_policy_of_rlif():
    """Prop. 5.2 for self-certainty; as beta -> 0 it is the pattern of the highest reward."""
    policy = qra.TabularPolicy(LOGITS, ANSWERS)
    problem = qra.Problem(CORRECT, WEIGHTS)
    for beta in (0.5, 1e-6):
        flow = qra.GradientFlow(qra.RLIF(beta=beta), problem)
        found = np.exp(qra.laws.optimal_policy(policy, flow).log_probs()[0])
        expected = scipy.special.softmax(LOGITS + CERTAINTY / beta, axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(found[range(Q), CERTAINTY.argmax(axis=-1)], 1, rtol=1e-9)
