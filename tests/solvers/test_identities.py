"""Identities along trajectories: gradient gap, entropy, and what Assumption 5.1 sets to zero."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special

import qra_jax as qra
from tests._support import systems

START, RATES = np.array(systems.CHECK_PROBS), np.array(systems.CHECK_RATES)
UTILITIES = {"mean": qra.objectives.Mean(), "GRPO": qra.GRPO()}
SLOPES = {"mean": lambda a: 1.0, "GRPO": lambda a: 1 / np.sqrt(a * (1 - a))}
GEOMETRIES = {"euclidean": qra.Euclidean(), "natural": qra.Natural()}


@functools.cache
def trained():
    """The check case with trainable answers until V passes .7, and its problem."""
    policy, problem = qra.two_stage(START, RATES)
    flow = qra.GradientFlow(qra.RLVR(), problem, "all")
    return qra.solve_flow(policy, flow, until=qra.AccuracyReaches(0.7)), policy, problem


@functools.cache
def points():
    """States with leading axis: 8 of that trajectory, 8 of a natural one with frozen answers."""
    trajectory, policy, _ = trained()
    some = np.linspace(0, len(trajectory.log_times) - 1, 8).astype(int)
    moved = jax.tree_util.tree_map(lambda x: x[some], trajectory.policy)
    natural = [systems.natural_probs(START, RATES, t) for t in np.linspace(0, 12, 8)]
    logits = np.concatenate([moved.pattern_logits, np.log(natural)[:, None]])
    frozen = np.tile(policy.answer_logits, (8, 1, 1, 1))
    answers = np.concatenate([moved.answer_logits, frozen])
    return jax.vmap(qra.TabularPolicy)(jnp.asarray(logits), jnp.asarray(answers))


@functools.cache
def rates_of_change(utility, geometry, trainable):
    """At every point: the velocity of `(patterns, answers)`, dA/dt and dH/dt."""
    _, _, problem = trained()
    objective = qra.Objective(qra.Verifiable(), utility=UTILITIES[utility])
    flow = qra.GradientFlow(objective, problem, trainable, GEOMETRIES[geometry])

    @jax.jit
    @jax.vmap
    def at(policy):
        params, frozen = flow.split(policy)
        speed = flow.velocity(params, frozen, policy)
        answers = speed.answer_logits
        if answers is None:
            answers = jnp.zeros_like(policy.answer_logits)
        speed = qra.TabularPolicy(speed.pattern_logits, answers)

        def seen(policy):
            return qra.accuracy(policy, problem)[0], policy.entropy()[0]

        _, (accuracy, entropy) = jax.jvp(seen, (policy,), (speed,))
        return speed.pattern_logits[0], speed.answer_logits[0], accuracy, entropy

    return jax.tree_util.tree_map(np.asarray, at(points()))


def tables(lane):
    """pi(r), pi(a|r) and A at a point."""
    log_patterns, log_answers = jax.tree_util.tree_map(lambda x: x[lane], points()).log_probs()
    probs, answers = np.exp(log_patterns[0]), np.exp(log_answers[0])
    return probs, answers, probs @ answers[:, 0]


def mean_scores(probs, answers, right):
    """The mean of d log pi(r, a) over samples that are right (a = 0) or wrong (a = 1)."""
    joint = probs * answers[:, 0 if right else 1]
    share = joint / joint.sum()
    chosen = np.array([1.0, 0.0] if right else [0.0, 1.0])
    return share - probs, share[:, None] * (chosen - answers)


@pytest.mark.parametrize("trainable", ["patterns", "all"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("utility", UTILITIES)
def test_gradient_gap(utility, geometry, trainable):
    """d logit A/dt = <d theta/dt, g+ - g->, the mean scores of right and wrong samples."""
    patterns, answers, change, _ = rates_of_change(utility, geometry, trainable)
    for lane in range(len(change)):
        *probs, accuracy = tables(lane)
        right, wrong = (mean_scores(*probs, right=outcome) for outcome in (True, False))
        gap = np.sum(patterns[lane] * (right[0] - wrong[0]))
        gap += np.sum(answers[lane] * (right[1] - wrong[1]))
        found = change[lane] / (accuracy * (1 - accuracy))
        np.testing.assert_allclose(found, gap, rtol=1e-9)
        assert found > 1e-3
    assert np.any(answers) == (trainable == "all")


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("utility", UTILITIES)
def test_entropy(utility, geometry):
    """dH/dt = -f'(A) Cov_pi(log pi, pi A_r), and without pi along the natural gradient."""
    *_, change = rates_of_change(utility, geometry, "patterns")
    for lane in range(len(change)):
        probs, answers, accuracy = tables(lane)
        moved = (answers[:, 0] - accuracy) * (probs if geometry == "euclidean" else 1)
        surprise = np.log(probs) - probs @ np.log(probs)
        expected = -SLOPES[utility](accuracy) * (probs @ (surprise * moved))
        np.testing.assert_allclose(change[lane], expected, rtol=1e-9, atol=1e-14)
    assert np.ptp(np.sign(change)) == 2  # it both rises and falls on the way


def test_trainable_answers():
    """Within patterns success rates drift, and V passes .7 at t = 2.43 (frozen: at 94.3)."""
    trajectory, start, problem = trained()
    assert trajectory.status == qra.Status.EVENT
    assert f"{np.exp(trajectory.final_log_time):.2f}" == "2.43"

    def drifted(policy):
        return qra.objectives.success_rate_drift(policy, problem, reference=start)

    drift = np.array(jax.vmap(drifted)(trajectory.policy))[:, 0]
    assert drift[0] == 0
    assert np.all(np.diff(drift) > 0)

    def velocity(state):
        """Of theta_r, and of the log odds of the right answer of each pattern."""
        probs, rates = scipy.special.softmax(state[0]), scipy.special.expit(state[1])
        return np.stack([probs * (rates - probs @ rates), 2 * probs * rates * (1 - rates)])

    times = np.exp(trajectory.log_times[1:])
    start = np.stack([np.log(START), np.log(RATES / (1 - RATES))])
    states = systems.integrate(velocity, start, times)
    probs, rates = scipy.special.softmax(states[:, 0], axis=-1), scipy.special.expit(states[:, 1])
    np.testing.assert_allclose(trajectory.accuracy[1:], np.sum(probs * rates, axis=1), rtol=1e-7)
    expected = np.sum(probs * np.abs(rates - RATES), axis=1)
    np.testing.assert_allclose(drift[1:], expected, rtol=1e-6)


def test_drift_under_the_assumption():
    """Patterns alone move: no drift, however far; other shapes are an error, padding is not."""
    start, problem = qra.two_stage(START, RATES)
    moved = qra.TabularPolicy(start.pattern_logits + np.array([[3.0, 0, -2]]), start.answer_logits)
    assert qra.objectives.success_rate_drift(moved, problem, reference=start) == 0
    other, _ = qra.two_stage(np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    with pytest.raises(ValueError, match=r"reference must have shape \(1, 3\), got \(1, 2\)"):
        qra.objectives.success_rate_drift(moved, problem, reference=other)
    gap, _ = qra.two_stage(np.array([0.4, 0.6, 0.0]), np.array([0.5, 0.7, 0.99]))
    found = qra.objectives.success_rate_drift(gap, problem, reference=start)
    np.testing.assert_allclose(found, 0.4 * 0.4, rtol=1e-12)


def test_advantage():
    """R_r - V by the formula, for two rewards; digits kept at 1e-200 from a vertex; padding 0."""
    policy, problem = qra.two_stage(START, RATES)
    np.testing.assert_allclose(
        qra.objectives.advantage(policy, problem)[0], RATES - START @ RATES, rtol=1e-13
    )
    values = np.array([2.0, -1.0, 0.5])
    found = qra.objectives.advantage(policy, problem, reward=qra.PatternReward(values))[0]
    np.testing.assert_allclose(found, values - START @ values, rtol=1e-13)

    near, _ = qra.two_stage(np.array([1e-200, 1.0, 3e-200]), RATES)
    found = qra.objectives.advantage(near, problem)[0]
    with mpmath.workdps(250):
        leading = -(1e-200 * mpmath.mpf(0.9 - 0.7) + 3e-200 * mpmath.mpf(0.1 - 0.7))
    np.testing.assert_allclose(found, [0.2, float(leading), -0.6], rtol=1e-13)

    gap, _ = qra.two_stage(np.array([0.4, 0.6, 0.0]), np.array([0.9, 0.7, np.pi / 4]))
    np.testing.assert_allclose(
        qra.objectives.advantage(gap, problem)[0], [0.12, -0.08, 0], atol=1e-15
    )


def test_advantage_differentiates():
    """Its derivative by the logits is that of R_r - V."""
    policy, problem = qra.two_stage(START, RATES)

    def found(logits):
        return qra.objectives.advantage(qra.TabularPolicy(logits, policy.answer_logits), problem)[0]

    value = START @ RATES
    expected = np.tile(-START * (RATES - value), (3, 1))
    np.testing.assert_allclose(
        jax.jacobian(found)(policy.pattern_logits)[:, 0], expected, rtol=1e-12
    )
