"""Mean and variance of a sampled step, in a policy's own parameters, against enumeration."""

import jax
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.training import RLOO
from qra_jax.training._sampled_field import sampled_field
from tests.training.test_step_noise import group_moments

PROBS = np.array([[0.05, 0.70, 0.25], [0.45, 0.15, 0.40]])
RATES = np.array([[0.9, 0.7, 0.1], [0.3, 0.8, 0.6]])
WEIGHTS = np.array([0.3, 0.7])


def enumerated(sampler):
    """Mean `(2, 3)` and covariance `(2, 3, 2, 3)` of a step in the logits of two questions."""
    each = [group_moments(sampler, *table) for table in zip(PROBS, RATES, strict=True)]
    means, covariance = np.stack([x for x, _ in each]), np.zeros((2, 3, 2, 3))
    drift = WEIGHTS[:, None] * means
    for q, (mean, within) in enumerate(each):
        covariance[q, :, q] = WEIGHTS[q] * (within + np.outer(mean, mean)) / sampler.batch
    return drift, covariance - np.einsum("qr,ps->qrps", drift, drift) / sampler.batch


@pytest.fixture(scope="module", params=[RLOO(), qra.SampledGRPO()], ids=["rloo", "grpo"])
def sampler(request):
    return qra.SampledGroups(3, batch=5, estimator=request.param)


def test_moments_of_a_table(sampler):
    """E[g] and Var[g] of every logit of two questions, drawn by unequal weights."""
    policy, problem = qra.two_stage(PROBS, RATES)[0], qra.Problem(np.array([0, 0]), WEIGHTS)
    flow = qra.GradientFlow(qra.Objective(qra.Verifiable(), utility=sampler.utility), problem)
    field = sampled_field(policy, flow, sampler, None)
    params, frozen = flow.split(policy)
    mean, variance = jax.jit(lambda p: (field.mean(p, frozen), field.variance(p, frozen)))(params)
    drift, covariance = enumerated(sampler)
    np.testing.assert_allclose(mean.pattern_logits, drift, atol=1e-13)
    spread = np.diag(covariance.reshape(6, 6)).reshape(2, 3)
    np.testing.assert_allclose(variance.pattern_logits, spread, atol=1e-13)


def test_moments_of_shared_parameters(sampler):
    """The same through the derivative of logits that questions share."""
    table, problem = qra.two_stage(PROBS, RATES)[0], qra.Problem(np.array([0, 0]), WEIGHTS)
    features = np.array([[1.0, 0.2, 0.5], [0.8, -0.5, 1.5]])
    weights = np.linalg.pinv(features) @ np.log(PROBS)
    policy = qra.linear_policy(features, 3, table.answer_logits, weights.T)
    np.testing.assert_allclose(policy.pattern_table(problem)[0], PROBS, rtol=1e-12)
    objective = qra.Objective(qra.Verifiable(), utility=sampler.utility)
    flow = qra.GradientFlow(objective, problem)
    field = sampled_field(policy, flow, sampler, None)
    params, frozen = flow.split(policy)
    mean, variance = jax.jit(lambda p: (field.mean(p, frozen), field.variance(p, frozen)))(params)
    drift, covariance = enumerated(sampler)
    np.testing.assert_allclose(mean.arrays.weights, drift.T @ features, atol=1e-13)
    found = np.einsum("qf,qrpr,pf->rf", features, covariance, features)
    np.testing.assert_allclose(variance.arrays.weights, found, atol=1e-13)


def test_the_mean_is_the_flow_with_its_penalty():
    """A KL penalty enters the mean, exactly, and not the noise."""
    sampler = qra.SampledGroups(8, estimator=RLOO())
    policy, problem = qra.two_stage(PROBS, RATES)[0], qra.Problem(np.array([0, 0]), WEIGHTS)
    start, _ = qra.two_stage(PROBS[::-1], RATES)
    flow = qra.GradientFlow(qra.RLVR(0.2), problem)
    params, frozen = flow.split(policy)

    field, plain = (
        sampled_field(policy, x, sampler, start)
        for x in (flow, qra.GradientFlow(qra.RLVR(), problem))
    )

    @jax.jit
    def found(params):
        exact = flow.velocity(params, frozen, start)
        spreads = (x.variance(params, frozen) for x in (field, plain))
        return field.mean(params, frozen), exact, *spreads

    mean, exact, *spreads = found(params)
    np.testing.assert_allclose(mean.pattern_logits, exact.pattern_logits, atol=1e-14)
    np.testing.assert_array_equal(spreads[0].pattern_logits, spreads[1].pattern_logits)
    assert np.all(np.asarray(spreads[0].pattern_logits) > 0)


def test_what_cannot_be_sampled_is_said():
    policy, problem = qra.two_stage(PROBS, RATES)
    sampler = qra.SampledGroups(8, estimator=RLOO())
    for flow, says in (
        (qra.GradientFlow(qra.RLVR(), problem, trainable="all"), "flow.trainable"),
        (
            qra.GradientFlow(qra.Objective(qra.objectives.NoisyVerifier(0.9, 0.1)), problem),
            "reward",
        ),
        (
            qra.GradientFlow(
                qra.Objective(qra.Verifiable(), utility=qra.objectives.PassAtK(2)), problem
            ),
            "flow.objective.utility",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            sampled_field(policy, flow, sampler, None)
    with pytest.raises(ValueError, match=r"sampler\.epochs must be 1, got 2"):
        sampled_field(policy, qra.GradientFlow(qra.RLVR(), problem),
                      qra.SampledGroups(8, epochs=2, estimator=RLOO()), None)  # fmt: skip
