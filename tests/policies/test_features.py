"""Policies that share parameters across questions, against tables, the chain rule and SciPy."""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import qra_jax as qra
from tests._support import systems

Q, R, F = 2, 3, 4
WEIGHTS = np.array([0.3, 0.7])
PROBS = np.array([systems.CHECK_PROBS, (0.3, 0.3, 0.4)])
RATES = np.array([systems.CHECK_RATES, (0.6, 0.5, 0.2)])
TABLE, _ = qra.two_stage(PROBS, RATES)
ANSWERS = np.asarray(TABLE.answer_logits)
PROBLEM = qra.Problem(np.zeros(Q, int), WEIGHTS)
FEATURES = np.random.default_rng(4).normal(size=(Q, F))
EXISTS = np.array([[True, True, True], [True, False, True]])


def network(exists=None, key=1):
    """Four tanh units."""
    return qra.policies.network_policy(
        FEATURES, R, ANSWERS, 4, 1, jax.random.key(key), exists=exists
    )


def leaves(tree):
    """Its arrays."""
    return jax.tree_util.tree_leaves(tree)


def test_one_hot_features_are_a_table():
    """F = Q one-hot features: the tabular flow of each question (SciPy), to 1e-9, by the method
    that is the default."""
    policy = qra.linear_policy(np.eye(Q), R, ANSWERS, np.log(PROBS).T)
    times = np.array([1.0, 10.0, 100.0])
    found = qra.solve_flow(policy, PROBLEM, log_times=np.log(times))
    assert isinstance(found.method, qra.ODE)
    for q in range(Q):
        expected = systems.euclidean_probs(PROBS[q], RATES[q], WEIGHTS[q] * times)
        np.testing.assert_allclose(found.pattern_probs[:, q], expected, rtol=0, atol=1e-9)
    assert found.policy.arrays.weights.shape == (3, R, Q)
    np.testing.assert_array_equal(found.policy.features, np.tile(np.eye(Q), (3, 1, 1)))
    with pytest.raises(ValueError, match=r"^method must be ODE\(\).*FeaturePolicy"):
        qra.solve_flow(policy, PROBLEM, log_times=np.log(times), method=qra.Exact())


def test_linear_gradient_couples_questions():
    """dW/dt = sum_q D(q) pi_q (p_q - V_q) x_q^T, on all questions at once; features stay."""
    weights = np.random.default_rng(5).normal(size=(R, F))
    policy = qra.linear_policy(FEATURES, R, ANSWERS, weights)
    probs = scipy.special.softmax(FEATURES @ weights.T, axis=-1)
    value = np.sum(probs * RATES, axis=-1, keepdims=True)
    expected = (WEIGHTS[:, None] * probs * (RATES - value)).T @ FEATURES
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM)
    speed = eqx.filter_jit(flow.velocity)(*flow.split(policy), policy)
    np.testing.assert_allclose(speed.arrays.weights, expected, rtol=1e-12)
    assert speed.features is None
    assert speed.answer_logits is None
    zero = qra.linear_policy(FEATURES, R, ANSWERS)
    np.testing.assert_allclose(np.exp(zero.log_probs()[0]), 1 / R, rtol=1e-15)


@pytest.mark.parametrize("exists", [None, EXISTS], ids=["all patterns", "one padded"])
def test_chain_rule(exists):
    """Any objective, on patterns and answers: the tabular velocity through the network's own
    derivative, and the table's for the answers."""
    policy, reference = network(exists), network(exists, key=2)
    penalties = (
        qra.ReverseKL(0.2),
        qra.EntropyBonus(0.1),
        qra.objectives.KLEstimator(0.3, "k3", "loss"),
    )
    objective = qra.Objective(qra.Verifiable(), qra.GRPO(), penalties)
    flow = qra.GradientFlow(objective, PROBLEM, "all")
    there = np.ones((Q, R), bool) if exists is None else exists

    def logits(arrays):
        rows = jax.vmap(eqx.combine(arrays, policy.static))(policy.features)
        return jnp.where(there, rows, -jnp.inf)

    @jax.jit
    def both(policy, reference):
        own = flow.velocity(*flow.split(policy), reference)
        rows, pull = jax.vjp(logits, policy.arrays)
        table = qra.TabularPolicy(rows, policy.answer_logits)
        other = qra.TabularPolicy(logits(reference.arrays), reference.answer_logits)
        speed = flow.velocity(*flow.split(table), other)
        return own, pull(speed.pattern_logits)[0], speed.answer_logits

    own, patterns, answers = both(policy, reference)
    assert len(leaves(own.arrays)) == 4
    for found, expected in zip(leaves(own.arrays), leaves(patterns), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)
        assert np.any(np.abs(found) > 1e-3)
    np.testing.assert_allclose(own.answer_logits, answers, rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(policy.exists, there)
    assert not np.exp(policy.log_probs()[0])[~there].any()


def moved_along(shift):
    """The network's policy with all features shifted."""
    policy = network()
    return eqx.tree_at(lambda p: p.features, policy, policy.features + shift)


def test_convergence_time_and_its_derivative():
    """Under jit and vmap: question 0 is at 1 - eps in SciPy's solve at that time, the derivative
    by the features is the difference quotient's, and the regime that of the table."""
    eps, step = 0.05, 1e-4
    forward = qra.ODE(adjoint=diffrax.ForwardMode())

    def log_time(shift):
        return qra.log_convergence_time(moved_along(shift), PROBLEM, eps, method=forward)

    def with_slope(shift):
        return jax.jvp(log_time, (shift,), (jnp.ones_like(shift),))

    found, slopes = jax.jit(jax.vmap(with_slope))(jnp.array([0.0, step, -step]))
    quotient = (found[1] - found[2]) / (2 * step)
    np.testing.assert_allclose(slopes[0], quotient, rtol=1e-5)

    policy = network()
    table = qra.TabularPolicy(policy.log_probs()[0], policy.answer_logits)
    assert qra.regime(policy, PROBLEM).tolist() == qra.regime(table, PROBLEM).tolist()

    flat, restore = jax.flatten_util.ravel_pytree(policy.arrays)

    def probs(vector):
        net = eqx.combine(restore(vector), policy.static)
        return jax.nn.softmax(jax.vmap(net)(jnp.asarray(FEATURES)))

    velocity = jax.jit(jax.grad(lambda v: jnp.asarray(WEIGHTS) @ jnp.sum(probs(v) * RATES, -1)))
    for q in range(Q):
        best, time = int(np.argmax(RATES[q])), np.exp(found[0, q])
        end = systems.integrate(lambda v: np.asarray(velocity(v)), np.asarray(flat), [0.0, time])
        np.testing.assert_allclose(probs(jnp.asarray(end[-1]))[q, best], 1 - eps, atol=1e-8)


def test_networks_of_one_shape_are_one_structure():
    """Only arrays are leaves: policies stack, and differ by nothing that is compiled in."""
    one, other = network(), network(key=2)
    assert jax.tree_util.tree_structure(one) == jax.tree_util.tree_structure(other)
    assert all(eqx.is_array(leaf) for leaf in leaves(one))
    stacked = jax.tree_util.tree_map(lambda *x: jnp.stack(x), one, other)
    found = jax.vmap(lambda policy: policy.log_probs()[0])(stacked)
    np.testing.assert_allclose(found[1], other.log_probs()[0], rtol=1e-14)
    assert not np.allclose(found[0], found[1])
    np.testing.assert_allclose(found[0, 1], scipy.special.log_softmax(
        np.asarray(one.network(jnp.asarray(FEATURES[1])))), rtol=1e-13)  # fmt: skip


def test_float32_stays():
    """Features and answers of float32: parameters, probabilities and velocity are."""
    policy = qra.policies.network_policy(
        FEATURES.astype(np.float32), R, ANSWERS.astype(np.float32), 4, 1, jax.random.key(0)
    )
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM)
    speed = eqx.filter_jit(flow.velocity)(*flow.split(policy), policy)
    for leaf in (*leaves(policy), *leaves(speed), *policy.log_probs()):
        assert leaf.dtype == np.float32


def test_no_natural_gradient():
    """The natural gradient is that of one question by itself: a clear error, before solving."""
    policy = network()
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM, geometry=qra.Natural())
    with pytest.raises(ValueError, match=r"^geometry must be Euclidean\(\) for a FeaturePolicy"):
        qra.solve_flow(policy, flow, log_times=np.zeros(1))


def linear(features=FEATURES, answers=ANSWERS, **options):
    """A call of `linear_policy`."""
    return lambda: qra.linear_policy(features, R, answers, **options)


def mlp(patterns=R, width=4, depth=1):
    """A call of `network_policy`."""
    key = jax.random.key(0)
    return lambda: qra.policies.network_policy(FEATURES, patterns, ANSWERS, width, depth, key)


NARROW = eqx.nn.Linear(3, R, key=jax.random.key(0))

CASES = {
    "one row of features": (linear(np.ones(F)), "features", "(Q, F)", "(4,)"),
    "a cube of features": (
        lambda: qra.policies.FeaturePolicy(NARROW, np.ones((Q, F, 1)), ANSWERS),
        *("features", "(Q, F)", "(2, 4, 1)"),
    ),
    "features of other questions": (linear(np.ones((3, F))), "features", "Q = 2", "(3, 4)"),
    "NaN feature": (linear(np.full((Q, F), np.nan)), "features", "finite", "nan"),
    "infinite feature": (linear(np.full((Q, F), np.inf)), "features", "finite", "inf"),
    "shape of weights": (linear(weights=np.ones((F, R))), "weights", "(3, 4)", "(4, 3)"),
    "NaN weight": (linear(weights=np.full((R, F), np.nan)), "weights", "finite", "nan"),
    "output of the network": (mlp(patterns=5), "network", "(R,) = (3,)", "(5,)"),
    "input of the network": (
        lambda: qra.policies.FeaturePolicy(NARROW, FEATURES, ANSWERS),
        *("network", "(F,) = (4,)", "error"),
    ),
    "network without parameters": (
        lambda: qra.policies.FeaturePolicy(jnp.tanh, FEATURES, ANSWERS),
        *("network", "floating-point array"),
    ),
    "no units": (mlp(width=0), "width", "at least 1", "0"),
    "negative depth": (mlp(depth=-1), "depth", "at least 0", "-1"),
    "answers of one question": (linear(answers=ANSWERS[0]), "answer_logits", "(Q, R, A)", "(3, 2)"),
    "NaN answer": (linear(answers=np.full_like(ANSWERS, np.nan)), "answer_logits", "nan"),
    "exists is a number": (linear(exists=np.ones((Q, R))), "exists", "bool", "float64"),
    "shape of exists": (linear(exists=EXISTS[0]), "exists", "(2, 3)", "(3,)"),
    "no pattern exists": (linear(exists=np.zeros((Q, R), bool)), "exists", "True", "False"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_value(name):
    """`ValueError` of one line with argument, requirement and value."""
    call, *fragments = CASES[name]
    with pytest.raises(ValueError, match="^" + re.escape(fragments[0])) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
