"""Single precision, with float64 switched on: results stay float32 and are as good as it allows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from tests._support import compiled, systems

SINGLE = np.float32


def check_case():
    """The check case in float32."""
    return qra.two_stage(
        *(jnp.asarray(x, SINGLE) for x in (systems.CHECK_PROBS, systems.CHECK_RATES))
    )


def floats(tree):
    """The floating-point types in a tree."""
    return {
        leaf.dtype
        for leaf in jax.tree_util.tree_leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


@functools.cache
def entanglement():
    """Engine `(probs, rates)`: log T0, its status and regime; and its gradient, in float32."""

    def function(probs, rates):
        policy, problem = qra.two_stage(probs, rates)
        found = qra.times.entanglement(policy, problem)
        return found.log_time[0], (found.status[0], qra.regime(policy, problem)[0])

    with_gradient = jax.value_and_grad(function, argnums=(0, 1), has_aux=True)
    return compiled.batched(with_gradient, SINGLE)


def test_policies_and_metrics():
    """Everything computed from a float32 policy is float32."""
    policy, problem = check_case()
    flow = qra.GradientFlow(qra.RLVR(jnp.asarray(0.1, SINGLE)), problem)
    results = (
        policy,
        policy.log_probs(),
        policy.kl(policy),
        policy.entropy(),
        qra.accuracy(policy, problem),
        qra.mean_accuracy(policy, problem),
        qra.objectives.pass_at_k(policy, problem, 4),
        qra.entanglement_ratio(policy, problem),
        qra.laws.optimal_policy(policy, flow),
        qra.Objective(qra.SelfCertainty()).surrogate(policy, problem, policy),
    )
    assert floats(results) == {np.dtype(SINGLE)}
    assert qra.regime(policy, problem)[0] == qra.Regime.ENTANGLED
    assert float(qra.accuracy(policy, problem)[0]) == pytest.approx(0.56, abs=1e-6)


def test_double_weights_do_not_widen():
    """A problem made without thought about precision leaves a float32 policy in float32."""
    policy, _ = check_case()
    problem = qra.Problem(np.array([0]), np.array([1.0]))
    assert problem.weights.dtype == np.float64
    assert floats(qra.accuracy(policy, problem)) == {np.dtype(SINGLE)}
    flow = qra.GradientFlow(qra.RLVR(0.1), problem)
    velocity = flow.velocity(*flow.split(policy), policy)
    assert floats(velocity) == {np.dtype(SINGLE)}


def test_entanglement_times():
    """log T0 to 1e-3 relative to at most its size, far beyond e^80."""
    rare = ("1e-2", "1e-8", "1e-12", "1e-17", "1e-20", "1e-25", "1e-36")
    probs = np.array([systems.rare_probs(float(r)) for r in rare])
    found, _ = entanglement()(probs, np.array([systems.RARE_RATES] * 7))
    log_time, (status, regime) = found
    assert log_time.dtype == SINGLE
    exact = [systems.EXACT_T0[r] for r in rare]
    np.testing.assert_allclose(log_time, exact, rtol=1e-5, atol=1e-4)
    assert status.tolist() == [qra.Status.EVENT] * 7
    assert regime.tolist() == [qra.Regime.ENTANGLED] * 7


# Central differences of `systems.exact_log_entanglement_time`, in 40 digits: in the rates, and in
# log pi of the first two patterns at the expense of the third.
CHECK_SLOPES = ((-8.6087412, 9.8116547, -1.2029136), (-1.9700349, -0.9998906))
RARE_SLOPES = {
    "1e-2": ((-6.4581991, 8.3331178, -1.8749187), (-2.0051703, -1.1927327)),
    "1e-8": ((-6.6666676, 8.6666675, -1.9999998), (-2.0, -1.3333332)),
    "1e-20": ((-6.6666677, 8.6666676, -1.9999999), (-2.0, -1.3333332)),
}


def test_gradient():
    """Slopes of log T0 in all rates and probabilities, to 1e-5 of the largest; 0 in degenerate
    lanes."""
    starts = [systems.CHECK_PROBS, *(systems.rare_probs(float(rare)) for rare in RARE_SLOPES)]
    degenerate = [(0.6, 0.2, 0.2), (0.0, 1.0, 0.0)]
    rates = [systems.CHECK_RATES, *[systems.RARE_RATES] * (len(RARE_SLOPES) + 2)]
    probs = np.array([*starts, *degenerate])
    (values, _), (by_probs, by_rates) = entanglement()(probs, np.array(rates))
    assert floats((values, by_probs, by_rates)) == {np.dtype(SINGLE)}
    for lane, wanted in enumerate((CHECK_SLOPES, *RARE_SLOPES.values())):
        np.testing.assert_allclose(by_rates[lane, :3], wanted[0], rtol=0, atol=1e-4)
        along = (by_probs[lane, :2] - by_probs[lane, 2]) * probs[lane, :2]
        np.testing.assert_allclose(along, wanted[1], rtol=0, atol=2e-5)
    by_probs, by_rates, values = (x[len(starts) - 1 :] for x in (by_probs, by_rates, values))
    assert not by_probs[1:].any()
    assert not by_rates[1:].any()
    assert np.all(values[1:] == -np.inf)


def test_trajectories():
    """Rows against DOP853 to 1e-4, in float32 whatever the type of the requested times."""
    probs, rates = systems.random_problems(5, 3, 4)
    log_times = np.tile(compiled.log_time_rows(1e-2, 1e3), (3, 1))
    engine = compiled.follow(method=qra.ODE(), dtype=SINGLE)
    found = engine(probs, rates, log_times)
    assert floats(found) == {np.dtype(SINGLE)}
    for lane in range(3):
        expected = systems.euclidean_probs(probs[lane], rates[lane], np.exp(log_times[lane]))
        np.testing.assert_allclose(found["probs"][lane, :, :4], expected, rtol=0, atol=1e-4)


def test_rest():
    """A KL flow stops at its optimum, at the resolution of float32."""
    policy, problem = check_case()
    flow = qra.GradientFlow(qra.RLVR(0.1), problem)
    traj = qra.solve_flow(policy, flow, log_times=np.linspace(-2, 60, 5))
    assert traj.status == qra.Status.STATIONARY
    assert floats((traj.pattern_probs, traj.accuracy, traj.log_times)) == {np.dtype(SINGLE)}
    weights = np.array(systems.CHECK_PROBS) * np.exp(np.array(systems.CHECK_RATES) / 0.1)
    np.testing.assert_allclose(
        traj.pattern_probs[-1, 0], weights / weights.sum(), rtol=0, atol=1e-3
    )
