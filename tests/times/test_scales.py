"""Rewards of any size: ties are relative, and times scale by exactly 1/s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.objectives import Mixture, NoisyVerifier, PatternReward

PROBS, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
POLICY, PROBLEM = qra.two_stage(PROBS, RATES)
RARE, _ = qra.two_stage(np.array([1e-30, 0.7, 0.3 - 1e-30]), RATES)
LOG_T0 = np.log(94.30486)


def flow_of(reward, problem=PROBLEM):
    return qra.GradientFlow(qra.Objective(reward), problem)


def regime_of(reward, policy=POLICY):
    return qra.Regime(int(qra.regime(policy, flow_of(reward))[0])).name


@pytest.mark.parametrize(
    ("method", "policy", "scales"),
    [
        (qra.Exact(), POLICY, [1.0, 1e-14, 3.7e-5, 1e-200, 1e300]),
        (qra.ODE(), RARE, [1.0, 1e-14, 3.7e-5, 1e-300, 1e300]),
    ],
)
def test_times_scale_by_the_inverse(method, policy, scales):
    """Regimes stay, both times are divided by s: in the check case, and with T0 = 1e59."""

    @jax.jit
    @jax.vmap
    def solved(scale):
        flow = flow_of(PatternReward(jnp.asarray(RATES) * scale))
        found = qra.passage_times(policy, flow, eps=0.01, method=method)
        shift = jnp.log(scale)
        return (
            qra.regime(policy, flow)[0],
            found.log_entanglement_time[0] + shift,
            found.log_convergence_time[0] + shift,
        )

    regimes, begun, done = solved(jnp.asarray(scales))
    assert set(regimes.tolist()) == {qra.Regime.ENTANGLED}
    np.testing.assert_allclose(begun, begun[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(done, done[0], rtol=0, atol=1e-9)
    if policy is POLICY:
        np.testing.assert_allclose(begun[0], LOG_T0, atol=1e-7)


def test_absolute_levels_of_tiny_rewards():
    """V reaches .75 s: the time is that of s = 1, divided by s, where subnormal numbers begin."""
    policy, problem = qra.two_stage(np.array([1e-6, 0.7, 0.3 - 1e-6]), RATES)

    @jax.jit
    @jax.vmap
    def solved(scale):
        flow = flow_of(PatternReward(jnp.asarray(RATES) * scale), problem)
        event = qra.flows.ValueReaches(0.75 * scale)
        return qra.solve_flow(policy, flow, until=event, method=qra.Exact()).final_log_time

    scales = np.array([1.0, 1e-290, 1e-300, 1e-305, 1e300])
    found = solved(jnp.asarray(scales)) + np.log(scales)
    np.testing.assert_allclose(found, found[0], rtol=0, atol=1e-9)


def test_verifiers_that_hardly_tell():
    """Youden's index J is exact however small: T0 is the clean one over J, the regime the same;
    J < 0 turns the order of the patterns round, and the worst is the best then."""
    rates = np.array([[0.5 + 1e-14, 0.5], [1.0, 1 - 4e-16], [1e-300, 0.0], [0.3, 0.3 + 3e-15]])

    @jax.jit
    @jax.vmap
    def found(true, false):
        flow = flow_of(NoisyVerifier(true, false))
        method = qra.ODE(rtol=1e-7, atol=1e-7)
        return qra.regime(POLICY, flow)[0], qra.log_entanglement_time(POLICY, flow, method=method)

    regimes, log_times = found(*jnp.asarray(rates.T))
    expected = ["ENTANGLED", "ENTANGLED", "ENTANGLED", "STRONG"]
    assert qra.Regime.names(regimes) == expected
    scaled = log_times[:3, 0] + np.log(rates[:3, 0] - rates[:3, 1])
    np.testing.assert_allclose(scaled, LOG_T0, atol=1e-5)
    assert log_times[3, 0] == -np.inf
    mixture = Mixture([NoisyVerifier(0.5 + 1e-14, 0.5)], np.array([2.0]))
    assert regime_of(mixture) == "ENTANGLED"


def test_what_ties():
    """Equal up to the rounding of what the values have come from, and not otherwise."""
    below = np.nextafter(1.0, 0)
    # Best and second best, or best twice: V(0) is above the third.
    assert regime_of(PatternReward(np.array([1.0, below, 0.1]))) == "STRONG"
    assert regime_of(PatternReward(np.array([1.0, 1 - 1e-13, 0.1]))) == "ENTANGLED"
    assert regime_of(PatternReward(np.array([1e-14, 0.7e-14, -1e-14]))) == "ENTANGLED"
    assert regime_of(PatternReward(np.array([1e-300, 1e-300 * (1 - 1e-10), 0.0]))) == "ENTANGLED"
    assert (
        regime_of(PatternReward(np.array([5.0, 5 - 4e-15, 5 - 4e-15]))) == "STRONG"
    )  # all of them
    # Negative values, and V(0) level with the second best: nothing lies between.
    level, _ = qra.two_stage(np.array([0.25, 0.5, 0.25]), RATES)
    assert regime_of(PatternReward(np.array([0.3, 0.2, 0.1])), level) == "MIXED"
    assert regime_of(PatternReward(np.array([0.3, 0.2, 0.1]) * 1e-290), level) == "MIXED"


def test_values_out_of_sums():
    """Self-certainty of nearly uniform answers is a difference of numbers of order 1: those of
    rates p and 1 - p tie although rounding makes 1e-17 of 5e-15 different."""
    off = 1e-7
    policy, problem = qra.two_stage(PROBS, np.array([0.5 + off, 0.5 - off, 0.5]))
    land = qra.regime(policy, flow_of(qra.SelfCertainty(), problem))
    assert qra.Regime.names(land) == ["STRONG"]
    gaps = policy.pattern_gaps(problem, qra.SelfCertainty())
    assert bool(gaps.less(gaps.gaps[:, :1], gaps.size[:, :1])[0, 1] == 0)
    # The same for a mixture, and not where the answers say something.
    mixture = Mixture([qra.SelfCertainty(), qra.Verifiable()], np.array([1.0, 1e-3]))
    assert regime_of(mixture) == regime_of(qra.Verifiable())


def test_laws_scale():
    """Every law in the flow's own time, to 1e-12."""

    @jax.jit
    @jax.vmap
    def found(scale):
        flow = flow_of(PatternReward(jnp.asarray(RATES) * scale))
        laws, late = qra.laws, 12 - jnp.log(scale)
        return (
            laws.value_tail_law(POLICY, flow, late),
            laws.pattern_tail_law(POLICY, flow, late),
            laws.log_convergence_time_law(POLICY, flow, 1e-6),
            laws.log_entanglement_time_law(POLICY, flow),
        )

    scales = np.array([1.0, 1e-300, 1e-14, 1e290])
    of_scale = (lambda x: x, lambda x: x * scales, *[lambda x: x + np.log(scales)] * 2)
    for law, scaled in zip(found(jnp.asarray(scales)), of_scale, strict=True):
        value = scaled(np.asarray(law.value[:, 0]))
        np.testing.assert_allclose(value, value[0], rtol=1e-12)
        np.testing.assert_allclose(law.relative_error[:, 0], law.relative_error[0, 0], rtol=1e-9)
        assert law.valid.all()


def test_rest_is_relative():
    """A flow with a penalty comes to rest at the same place whatever the unit of its reward."""

    @jax.jit
    @jax.vmap
    def ended(scale):
        reward = PatternReward(jnp.asarray(RATES) * scale)
        penalty = qra.objectives.ReverseKL(0.5 * scale)
        objective = qra.Objective(reward, regularisers=(penalty,))
        found = qra.event_time(
            POLICY, qra.GradientFlow(objective, PROBLEM), qra.PatternReaches(0, 0.999)
        )
        return found.status, found.policy.log_probs()[0][0]

    status, log_probs = ended(jnp.asarray([1.0, 1e-12, 1e-300, 1e300]))
    assert set(status.tolist()) == {qra.Status.STATIONARY}
    expected = np.log(PROBS) + RATES / 0.5
    expected -= np.logaddexp.reduce(expected)
    np.testing.assert_allclose(log_probs, np.tile(expected, (4, 1)), atol=1e-6)


def test_levels_and_groups_are_relative():
    """An expected reward of 1e-14 is not at a level beside it; a group whose rewards differ by
    rounding alone has no advantage, one of tiny rewards has."""
    reward = PatternReward(RATES * 1e-14)
    excess = POLICY.excess(reward, PROBLEM, jnp.asarray([0.55e-14]))
    np.testing.assert_allclose(excess, [0.01e-14], rtol=1e-9)
    groups = jnp.asarray([[0.8, 1 - 0.2 + 2.3e-16, 0.8], [1e-14, 0.0, 0.0]])
    advantages = qra.training.SampledGRPO().advantages(groups)
    np.testing.assert_array_equal(advantages[0], 0)
    np.testing.assert_allclose(advantages[1], [2**0.5, -(0.5**0.5), -(0.5**0.5)], rtol=1e-12)
