"""The noise of a training step: against enumeration of groups, and as it adds up over steps."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.diagnosis import TrainingRun, forecast_run
from qra_jax.diagnosis._bands import LEVELS
from qra_jax.training._noise import StepNoise

PROBS, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
OTHERS = np.array([0.45, 0.15, 0.40]), np.array([0.3, 0.8, 0.6])


def group_moments(sampler: qra.SampledGroups, probs: np.ndarray, rates: np.ndarray):
    """Mean and covariance of the estimate of a group, over all outcomes of its samples."""
    estimator, size = sampler.estimator, sampler.group_size
    redraws_failures = isinstance(estimator, qra.training.RejectionFineTuning) or (
        isinstance(estimator, qra.SampledGRPO) and estimator.redraw
    )
    redraws_successes = isinstance(estimator, qra.SampledGRPO) and estimator.redraw
    outcomes = np.array(list(itertools.product(range(2 * len(probs)), repeat=size)))
    pattern, right = outcomes // 2, outcomes % 2
    chance = np.prod(probs[pattern] * np.where(right, rates[pattern], 1 - rates[pattern]), axis=1)
    total = right.sum(axis=1)
    chance[(redraws_failures & (total == 0)) | (redraws_successes & (total == size))] = 0
    chance /= chance.sum()
    advantages = np.asarray(sampler.estimator.advantages(jnp.asarray(right.astype(float))))
    score = np.eye(len(probs))[pattern] - probs
    estimate = np.einsum("ng,ngr->nr", advantages, score) / size
    mean = chance @ estimate
    return mean, (estimate * chance[:, None]).T @ estimate - np.outer(mean, mean)


@pytest.mark.parametrize(
    "estimator",
    [
        qra.SampledGRPO(),
        qra.training.REINFORCE(),
        qra.training.RLOO(),
        qra.training.SampledDrGRPO(),
        qra.training.SampledMaxRL(),
        qra.training.RejectionFineTuning(),
        qra.SampledGRPO(redraw=True),
    ],
    ids=["grpo", "reinforce", "rloo", "dr_grpo", "maxrl", "rejection", "redrawn"],
)
def test_moments_by_enumeration(estimator):
    """Mean and covariance of the estimate of a group, over all outcomes of its three samples."""
    sampler = qra.SampledGroups(3, estimator=estimator)
    mean, covariance = group_moments(sampler, PROBS, RATES)
    value = PROBS @ RATES
    kappa, variance, spread = StepNoise(sampler).moments(jnp.asarray(value), jnp.asarray(1 - value))
    right, wrong = PROBS * RATES / value, PROBS * (1 - RATES) / (1 - value)
    gap = right - wrong
    np.testing.assert_allclose(kappa * gap, mean, atol=1e-12)
    found = variance * np.outer(gap, gap)
    for factor, p in zip(spread, (right, wrong), strict=True):
        found += factor * (np.diag(p) - np.outer(p, p))
    np.testing.assert_allclose(found, covariance, atol=1e-12)


@pytest.mark.parametrize("batch", [5, None])
def test_sampled_steps_have_the_moments_of_batches(batch):
    """Mean and the whole covariance, within questions and between them, of steps of two questions
    of unequal weight: those of enumerated groups, of questions drawn by weight or one of each."""
    sampler, weights = qra.SampledGroups(4, batch), np.array([0.3, 0.7])
    tables = np.stack([PROBS, OTHERS[0]]), np.stack([RATES, OTHERS[1]])
    each = [group_moments(sampler, *table) for table in zip(*tables, strict=True)]
    means = np.stack([mean for mean, _ in each])
    covariance = np.zeros((2, 3, 2, 3))
    for q, (mean, within) in enumerate(each):
        if batch is None:
            covariance[q, :, q] = weights[q] ** 2 * within
        else:  # second moments of one group of a question drawn by weight
            covariance[q, :, q] = weights[q] * (within + np.outer(mean, mean)) / batch
    drift = weights[:, None] * means
    if batch is not None:
        covariance -= np.einsum("qr,ps->qrps", drift, drift) / batch
    step = jax.jit(jax.vmap(StepNoise(sampler).step, (0, None, None, None)))
    keys = jax.random.split(jax.random.key(4), 100_000)
    found = np.asarray(step(keys, *map(jnp.asarray, (*tables, weights))))
    np.testing.assert_allclose(found.sum(axis=-1), 0, atol=1e-12)
    found, covariance = found.reshape(-1, 6), covariance.reshape(6, 6)
    variance = np.diag(covariance)
    error = np.sqrt(variance / len(found))
    assert np.all(np.abs(found.mean(axis=0) - drift.ravel()) < 5 * error)
    # The standard error of a covariance of (nearly) normal variables.
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / len(found))
    assert np.all(np.abs(np.cov(found.T) - covariance) < 5 * error)
    if batch is not None:
        # Where one question is drawn more often, the other is less: none of it is lost in errors.
        assert np.any(np.abs(covariance[:3, 3:]) > 10 * error[:3, 3:])


def test_questions_of_one_outcome_are_still():
    """A question that is always right, or never, teaches nothing: its step is 0, not NaN."""
    noise = StepNoise(qra.SampledGroups(4, 2))
    probs = jnp.array([[0.3, 0.7], [0.3, 0.7], [0.3, 0.7]])
    rates = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.2, 0.6]])
    step = eqx.filter_jit(StepNoise.step)(noise, jax.random.key(0), probs, rates, jnp.ones(3) / 3)
    np.testing.assert_array_equal(step[:2], np.zeros((2, 2)))
    assert abs(float(step[2, 0])) > 1e-3


def test_noise_is_new_at_every_step():
    """At a learning rate so small that the policy hardly moves, the 90 % interval after n steps is
    sqrt(n) times as wide as that of one, of the covariance of enumerated groups: steps are
    independent, and so are the policies trained."""
    sampler, rate, steps = qra.SampledGroups(4), 1e-4, 30
    counts = PROBS * 1e16, PROBS * 1e16 * RATES
    run = TrainingRun(steps, learning_rate=rate, sampler=sampler, particles=4000)
    found = forecast_run(qra.posteriors.pooled_posterior(*counts), run, draws=20)
    _, covariance = group_moments(sampler, PROBS, RATES)
    slope = np.diag(PROBS) - np.outer(PROBS, PROBS)
    of_shares = slope @ covariance @ slope
    number = np.arange(1, steps + 1)
    quantile = 1.6448536269514722
    # An interval's width errs by 0.064 standard deviations / 3.29 for 4000 policies: 2 %. What the
    # counts leave open of the shares is a thousandth of a step's noise.
    for bands, variance in (
        (found.pattern_shares, np.diag(of_shares)),
        (found.accuracy, RATES @ of_shares @ RATES),
    ):
        width = (bands.high - bands.low)[1:]
        expected = 2 * quantile * rate * np.sqrt(np.multiply.outer(number, variance))
        np.testing.assert_allclose(width, expected, rtol=0.09)
    assert found.noise == repr(sampler)


def test_forecast_is_that_of_trained_groups():
    """GRPO trained in NumPy, group by group, 4000 times: its 5, 50 and 95 % points are those
    foretold, at every tenth step, from a start with both questions' weights unequal."""
    size, steps, rate, weights = 4, 60, 0.1, np.array([0.25, 0.75])
    tables = np.stack([PROBS, OTHERS[0]]), np.stack([RATES, OTHERS[1]])
    posterior = qra.posteriors.per_question_posterior(
        tables[0] * 1e12, tables[0] * tables[1] * 1e12
    )
    run = TrainingRun(steps, learning_rate=rate, sampler=qra.SampledGroups(size, 2), particles=4000)
    found = forecast_run(posterior, run, weights=weights, draws=20)

    rng, number = np.random.default_rng(8), 4000
    logits = np.broadcast_to(np.log(tables[0]), (number, 2, 3)).copy()
    rows = []
    for step in range(steps + 1):
        probs = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probs /= probs.sum(axis=-1, keepdims=True)
        if step % 10 == 0:
            rows.append(np.sum(probs * tables[1], axis=-1) @ weights)
        for _ in range(2):  # groups of a batch
            question = (rng.random(number) < weights[1]).astype(int)
            own = probs[np.arange(number), question]
            pattern = (rng.random((number, size, 1)) > own.cumsum(-1)[:, None, :-1]).sum(-1)
            right = rng.random((number, size)) < tables[1][question[:, None], pattern]
            deviation = right.std(axis=1, keepdims=True)
            advantage = (right - right.mean(axis=1, keepdims=True)) / np.where(
                deviation > 0, deviation, 1
            )
            score = np.eye(3)[pattern] - own[:, None]
            estimate = np.mean(advantage[..., None] * score, axis=1)
            logits[np.arange(number), question] += rate * estimate / 2
    exact = np.quantile(np.array(rows)[1:], LEVELS, axis=1)
    foretold = np.stack([found.accuracy.low, found.accuracy.median, found.accuracy.high])
    width = exact[2] - exact[0]
    assert np.all(width > 0.01)
    # Ends of 4000 runs err by 2 % of the width, and so do those of as many policies.
    assert np.max(np.abs(foretold[:, 10::10] - exact) / width) < 0.08


def test_a_sampler_of_several_epochs_is_refused():
    """Its samples are not fresh."""
    with pytest.raises(ValueError, match=r"sampler\.epochs must be 1, got 2"):
        StepNoise(qra.SampledGroups(4, epochs=2))
