"""Optimisers as equations: against sampled runs, against optax, and against closed forms."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import qra_jax as qra
from qra_jax.training import RLOO, MeanFieldAdam, MeanFieldMomentum, solve_mean_field
from qra_jax.training._sampled_field import sampled_field

START = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
SAMPLER = qra.SampledGroups(8, batch=32, estimator=RLOO())


def mean_of_runs(optimiser, number, rows, runs):
    """Accuracies of sampled runs, and their standard errors."""
    policy, problem = qra.two_stage(*START)

    @jax.jit
    def all_of(keys):
        def run(key):
            return qra.train(
                policy, problem, optimiser, number, sampler=SAMPLER, key=key, rows=rows
            ).accuracy

        return jax.vmap(run)(keys)

    found = np.asarray(all_of(jax.random.split(jax.random.key(1), runs)))
    return found.mean(axis=0), found.std(axis=0) / runs**0.5


@pytest.mark.parametrize("rate", [0.04, 0.02])
def test_adam_is_what_many_runs_do_on_average(rate):
    """The farther of 12 rows from the mean of sampled runs falls at least as the learning rate does
    where the optimiser's memory lasts equally long in the cumulated rate: .0022 at .04, .0006 at
    .02, most of the second noise."""
    policy, problem = qra.two_stage(*START)
    number = round(6 / rate)
    memory = {"b1": 1 - 2.5 * rate, "b2": 1 - 0.5 * rate}
    rows = np.linspace(0, number, 13).round()
    found = solve_mean_field(
        policy, problem, SAMPLER, MeanFieldAdam(rate, **memory), steps=rows[1:]
    )
    did, error = mean_of_runs(optax.adam(rate, **memory), number, 13, 192)
    assert qra.Status(int(found.status)).name == "COMPLETED"
    apart = np.abs(np.asarray(found.accuracy) - did[1:])
    assert np.all(apart < 0.07 * rate + 3.3 * error[1:])
    # Where accuracy moves fastest noise is smallest beside what is tested.
    assert np.ptp(did) > 0.2


def test_clipping_is_what_runs_do_on_average():
    """Plain ascent clipped by its norm, which here cuts nearly every step to a half or a third;
    where the bound is far away, nothing changes."""
    policy, problem = qra.two_stage(*START)
    rows = np.linspace(0, 160, 9)[1:]
    plain = MeanFieldMomentum(0.15)

    def solved(**given):
        found = solve_mean_field(policy, problem, SAMPLER, plain, steps=rows, **given)
        return np.asarray(found.accuracy)

    found, free = solved(max_norm=0.04), solved()
    optimiser = optax.chain(optax.clip_by_global_norm(0.04), optax.sgd(0.15))
    did, error = mean_of_runs(optimiser, 160, 9, 192)
    assert np.all(np.abs(found - free) > 0.02)
    np.testing.assert_array_less(np.abs(found - did[1:]), 6e-4 + 3.3 * error[1:])
    np.testing.assert_allclose(solved(max_norm=1e3), free, rtol=1e-5)


def test_moments_of_clipped_steps():
    """Where every step is cut to a length, the second moments of all entries sum to its square; far
    below it, both moments are those of the steps."""
    policy, problem = qra.two_stage(*START)
    flow = qra.GradientFlow(qra.RLVR(), problem)
    params, frozen = flow.split(policy)
    field = sampled_field(policy, flow, SAMPLER, None)
    half = np.random.default_rng(0).normal(size=(4000, field.number_of_normals(policy)))

    @jax.jit
    def found(most):
        clipped = field.clipped_moments(params, frozen, most, jnp.concatenate([half, -half]))
        return clipped, field.moments(params, frozen)

    (_, square), _ = found(1e-6)
    total = sum(jnp.sum(x) for x in jtu.tree_leaves(square))
    assert float(total) == pytest.approx(1e-12, rel=1e-9)
    free, exact = found(1e6)
    for a, b in zip(jtu.tree_leaves(free[0]), jtu.tree_leaves(exact[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-15)
    for a, b in zip(jtu.tree_leaves(free[1]), jtu.tree_leaves(exact[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.1)


def test_noise_slows_adam():
    """Where noise dominates, the share of a rare pattern moves with the square root of the samples:
    four times the batch, twice the speed (theory of docs/training.md, equation A4)."""
    policy, problem = qra.two_stage(np.array([1e-5, 1 - 1e-5]), np.array([0.9, 0.7]))
    gained = []
    for batch in (8, 32):
        sampler = qra.SampledGroups(8, batch=batch, estimator=RLOO())
        run = solve_mean_field(
            policy, problem, sampler, MeanFieldAdam(1e-3, eps=0.0), steps=np.array([50.0, 100.0])
        )
        gained.append(np.log(np.asarray(run.pattern_probs)[-1, 0, 0] / 1e-5))
    assert gained[1] / gained[0] == pytest.approx(2, rel=0.02)
    # The speed of a logit itself: h sqrt(N pi) (p - V) / s, with s^2 of leave-one-out advantages.
    # That of the other pattern mirrors it.
    spread = np.sqrt(0.9 * 0.3**2 + 0.1 * 0.7**2 + 0.7 * 0.3 / 7)
    speed = 2e-3 * np.sqrt(64 * 1e-5) * 0.2 / spread
    assert gained[0] / 100 == pytest.approx(speed, rel=0.05)


def test_momentum_and_schedules():
    """Plain steps of a schedule are the flow at the cumulated rate; momentum m is a rate 1/(1 - m)
    as large, up to terms of the order of the rate."""
    policy, problem = qra.two_stage(*START)
    schedule = optax.linear_schedule(0.02, 0.0, 400)
    plain = solve_mean_field(
        policy,
        problem,
        SAMPLER,
        MeanFieldMomentum(schedule),
        steps=np.array([100.0, 400.0]),
        tol=1e-9,
    )
    clock = np.array([0.02 * (100 - 100**2 / 800), 4.0])
    flow = qra.solve_flow(policy, problem, log_times=np.log(clock))
    np.testing.assert_allclose(plain.accuracy, flow.accuracy, rtol=1e-7)
    apart = []
    for rate, number in ((0.002, 4000.0), (0.0002, 40_000.0)):
        pushed = solve_mean_field(policy, problem, SAMPLER, MeanFieldMomentum(rate, 0.9),
                                  steps=np.array([number]), tol=1e-9)  # fmt: skip
        # Behind by 1/k steps, k = -log m, and otherwise as inert as the rate is large.
        late = 10 * rate * (number + 1 / np.log(0.9))
        settled = qra.solve_flow(policy, problem, log_times=np.log(np.array([late])))
        apart.append(abs(float(pushed.accuracy[-1] - settled.accuracy[-1])))
    assert apart[0] < 1e-4
    assert apart[1] < apart[0] / 8


def test_decay_of_weights_and_rates_of_leaves():
    """AdamW without a gradient shrinks the logits; a scale of 0 keeps a leaf as it is."""
    policy, problem = qra.two_stage(np.array([0.2, 0.8]), np.array([0.5, 0.5]))
    sampler = qra.SampledGroups(2, estimator=RLOO())
    adam = MeanFieldAdam(0.01, eps=1.0, weight_decay=0.5)
    run = solve_mean_field(policy, problem, sampler, adam, steps=np.array([100.0]))
    odds = np.log(0.8 / 0.2) * np.exp(-0.01 * 0.5 * 100)
    np.testing.assert_allclose(run.pattern_probs[-1, 0, 1], 1 / (1 + np.exp(-odds)), rtol=1e-5)
    still = solve_mean_field(policy, problem, sampler, adam, steps=np.array([100.0]), scale=0.0)
    np.testing.assert_allclose(still.pattern_probs[-1, 0], [0.2, 0.8], rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steps": np.array([3.0, 2.0])}, "steps must rise"),
        ({"steps": np.array([0.0])}, r"steps\[-1\] must be above 0"),
        ({"steps": np.array([[1.0]])}, "steps must have shape"),
        ({"steps": np.array([1.0]), "tol": 0.0}, "tol"),
        ({"steps": np.array([1.0]), "max_norm": 0.0}, "max_norm must be above 0"),
    ],
)
def test_bad_settings(given, says):
    policy, problem = qra.two_stage(*START)
    with pytest.raises(ValueError, match=says):
        solve_mean_field(policy, problem, SAMPLER, MeanFieldAdam(0.1), **given)
    with pytest.raises(ValueError, match="b2 must lie between 0 and 1, got 1"):
        MeanFieldAdam(0.1, b2=1.0)
    with pytest.raises(ValueError, match="momentum"):
        MeanFieldMomentum(0.1, 1.0)
