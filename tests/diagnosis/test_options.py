"""Every option of a diagnosis, at another value than its own: against SciPy and closed forms."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

import qra_jax as qra
from qra_jax.diagnosis import Diagnosis, TrainingRun, diagnose, forecast_run
from qra_jax.diagnosis._bands import LEVELS
from qra_jax.diagnosis._run import drawn
from qra_jax.diagnosis._settle import open_points

PROBS, RATES = np.array([0.15, 0.60, 0.25]), np.array([0.9, 0.7, 0.2])
OTHERS = np.array([0.55, 0.15, 0.30]), np.array([0.2, 0.8, 0.5])
GROUP, EPS = 4, 0.03
# One objective and one eps, neither the default, so that all tests share the compiled solver.
SETTINGS = {
    "objective": qra.Objective(qra.Verifiable(), utility=qra.GRPO(GROUP)),
    "eps": EPS,
    # What is asked of posteriors here is asked of counts, whose questions are all there is.
    "questions": "fixed",
}


def counts_of(probs, rates, number=1e13):
    samples = np.round(np.asarray(probs) * number)
    return samples, np.round(samples * np.asarray(rates))


def speed(value: float) -> float:
    """How many times faster than its mean reward GRPO moves: E[kappa] / V (1 - V), over the
    number of right samples in a group, with advantages (reward - mean) / deviation."""
    right = np.arange(GROUP + 1)
    chance = stats.binom(GROUP, value).pmf(right)
    mean = right / GROUP
    deviation = np.sqrt(mean * (1 - mean))
    scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
    # Estimate: s b (pi+ - pi) + (G - s) a (pi- - pi), both along pi (p - V).
    along = right * (1 - mean) * scale / value + (GROUP - right) * mean * scale / (1 - value)
    return float(chance @ along) / GROUP


def follow(probs, rates, last: float, eps: float | None = None):
    """The flow of GRPO by SciPy, up to `last` or until the best pattern has 1 - eps."""
    best = int(np.argmax(rates))

    def policy(theta):
        weights = np.exp(theta - theta.max())
        return weights / weights.sum()

    def field(t, theta):
        pi = policy(theta)
        value = pi @ rates
        return speed(value) * pi * (rates - value)

    def converged(t, theta):
        return -1.0 if eps is None else policy(theta)[best] - (1 - eps)

    converged.terminal = True
    found = integrate.solve_ivp(
        field, (0, last), np.log(probs), "DOP853", rtol=1e-9, atol=1e-10,
        events=converged, dense_output=True,
    )  # fmt: skip
    times = found.t_events[0]
    return (times[0] if len(times) else None), lambda t: policy(found.sol(t))


@functools.cache
def both(pooling="per_question") -> Diagnosis:
    """Two questions that differ in everything, of so many rollouts that nothing is open."""
    samples, correct = counts_of(*(np.stack(x) for x in zip((PROBS, RATES), OTHERS, strict=True)))
    return diagnose((samples, correct), pooling=pooling, draws=39, ks=(1, 3, 7), **SETTINGS)


def test_objective_and_eps_are_those_asked_for():
    """The times of GRPO to pi_* = 0.97, of two questions at half the speed each, by SciPy; what is
    the mean over questions is that of both flows."""
    found = both()
    assert found.settings.eps == EPS
    assert "GRPO" in found.settings.objective
    ends, shares, accuracy = [], [], []
    for question, (probs, rates) in enumerate(((PROBS, RATES), OTHERS)):
        last, path = follow(probs, rates, 2e4, EPS)
        log_time = math.log(2 * last)
        for level in vars(found.rlvr.log_convergence_time.band).values():
            assert level[question] == pytest.approx(log_time, abs=1e-5)
        ends.append(rates.max())
        rows = [path(min(t, last)) for t in np.exp(found.rlvr.forecast.log_times) / 2]
        shares.append(rows)
        accuracy.append(np.array(rows) @ rates)
    times = np.exp(found.rlvr.forecast.log_times) / 2
    early = times < min(follow(*x, 2e4, EPS)[0] for x in ((PROBS, RATES), OTHERS))
    assert early.sum() > 40
    np.testing.assert_allclose(
        found.rlvr.forecast.accuracy.median[early], np.mean(accuracy, axis=0)[early], atol=1e-5
    )
    np.testing.assert_allclose(
        found.rlvr.forecast.pattern_shares.median[early], np.mean(shares, axis=0)[early], atol=1e-5
    )
    assert found.rlvr.forecast.end_accuracy.median == pytest.approx(np.mean(ends), abs=1e-6)
    start = np.array([PROBS @ RATES, OTHERS[0] @ OTHERS[1]])
    assert found.start.accuracy.median == pytest.approx(start.mean(), abs=1e-6)
    for k, before, after in zip(
        (1, 3, 7),
        found.rlvr.pass_at_k.before.median,
        found.rlvr.pass_at_k.after.median,
        strict=True,
    ):
        assert before == pytest.approx(np.mean(1 - (1 - start) ** k), abs=1e-6)
        assert after == pytest.approx(np.mean(1 - (1 - np.array(ends)) ** k), abs=1e-6)
    assert found.status == {"EVENT": 2 * 2 * 39, "COMPLETED": 2 * 39}


def test_weights_of_questions_in_a_forecast():
    """Questions of unequal weight: each learns at its own weight times the speed, and counts by
    it, by SciPy."""
    weights, rate = np.array([0.2, 0.8]), 0.6
    samples, correct = counts_of(*(np.stack(x) for x in zip((PROBS, RATES), OTHERS, strict=True)))
    posterior = qra.posteriors.per_question_posterior(samples, correct)
    run = TrainingRun(30, learning_rate=rate)
    found = forecast_run(posterior, run, weights=weights, objective=SETTINGS["objective"], draws=39)
    expected, shares = np.zeros(31), np.zeros((31, 3))
    for weight, (probs, rates) in zip(weights, ((PROBS, RATES), OTHERS), strict=True):
        _, path = follow(probs, rates, 40)
        rows = np.array([path(weight * rate * step) for step in found.steps])
        expected += weight * rows @ rates
        shares += weight * rows
    # Between the rows of a solve it is linear in log time.
    np.testing.assert_allclose(found.accuracy.median, expected, atol=1e-3)
    np.testing.assert_allclose(found.pattern_shares.high, shares, atol=1e-3)
    np.testing.assert_allclose(found.pattern_shares.low, shares, atol=1e-3)
    assert found.effective_draws == pytest.approx(39)


PRIOR = qra.posteriors.Prior(3.0, 2.0, 9.0)
FEW = np.array([[6, 3, 1], [4, 2, 0]]), np.array([[5, 1, 0], [4, 1, 0]])
DRAWS = 399


def assert_quantiles(band, index, law):
    """The 5, 50 and 95 % points of 399 draws: their places in the law are of beta
    distributions."""
    for level, ends in zip(LEVELS, (band.low, band.median, band.high), strict=True):
        place = stats.beta(level * (DRAWS + 1), (1 - level) * (DRAWS + 1))
        assert 1e-5 < place.cdf(law.cdf(ends[index])) < 1 - 1e-5


@functools.cache
def few(pooling: str, seed: int = 3) -> Diagnosis:
    return diagnose(FEW, pooling=pooling, prior=PRIOR, draws=DRAWS, seed=seed, **SETTINGS)


@pytest.mark.parametrize("pooling", ["pooled", "per_question"])
def test_prior_moves_the_posterior(pooling):
    """A strong prior that expects failure: Dirichlet(3 + n) and Beta(2 + k, 9 + n - k), entry by
    entry, of all questions together or of each."""
    found = few(pooling)
    samples, correct = FEW
    if pooling == "pooled":
        samples, correct = samples.sum(0, keepdims=True), correct.sum(0, keepdims=True)
    np.testing.assert_array_equal(found.data.samples, samples)
    np.testing.assert_array_equal(found.data.correct, correct)
    for index in np.ndindex(samples.shape):
        rest = samples[index[0]].sum() - samples[index] + 2 * 3.0
        assert_quantiles(found.start.pattern_probs, index, stats.beta(3 + samples[index], rest))
        law = stats.beta(2 + correct[index], 9 + samples[index] - correct[index])
        assert_quantiles(found.start.success_rates, index, law)
    assert found.settings.prior == PRIOR
    # 3 samples of every pattern, of every question told apart, beside 16 rollouts.
    weight = 9 * len(samples)
    assert any(f"weighs as much as {weight} rollouts beside 16" in x for x in found.limits)


def test_prior_of_stuck_questions():
    """Wrong and right ends of an asymmetric prior."""
    samples, correct = np.array([[4, 1], [2, 4], [3, 2]]), np.array([[0, 0], [2, 4], [1, 0]])
    found = diagnose((samples, correct), pooling="per_question", prior=PRIOR, draws=39, **SETTINGS)
    zero, one = found.data.stuck
    assert (zero.question, zero.at, zero.samples) == ("0", 0, 5)
    assert zero.bound == pytest.approx(stats.beta(2, 9 + 5).ppf(0.95))
    assert (one.question, one.at, one.samples) == ("1", 1, 6)
    assert one.bound == pytest.approx(stats.beta(2 + 6, 9).ppf(0.05))


NESTED = ("data", "settings", "start", "regime", "rlvr")


def of_each(found: Diagnosis) -> dict[str, str]:
    """The fields of a diagnosis, and of its parts, by name."""
    parts = found.to_dict()
    fields = {f"{part}.{name}": x for part in NESTED for name, x in parts.pop(part).items()}
    return {name: json.dumps(value) for name, value in (fields | parts).items()}


def with_everything(seed: int) -> Diagnosis:
    """All parts that are random: draws, strengths, RLIF, further rollouts, and a noisy run."""
    rng = np.random.default_rng(0)
    question, pattern = np.repeat(np.arange(8), 4), np.tile([0, 1, 1, 2], 8)
    rollouts = qra.Rollouts(
        tuple("abcdefgh"), ("x", "y", "z"), question, pattern, rng.random(32) < 0.5,
        confidence=rng.normal(size=32),
    )  # fmt: skip
    run = TrainingRun(12, learning_rate=0.1, sampler=qra.SampledGroups(GROUP, 3), particles=20)
    return diagnose(rollouts, pooling="partial", draws=39, seed=seed, run=run, **SETTINGS)


def test_seed_is_of_all_randomness(monkeypatch):
    """The same seed gives the same diagnosis, another seed other draws, in every part; what is not
    random stays."""
    given = []

    # What a run and further rollouts make of the seed is tested of them; here that they get it.
    def asked(rollouts, run, *, seed, **settings):
        given.append(seed)
        return forecast_run(rollouts, run, seed=seed, **settings)

    def opened(*arguments):
        given.append(arguments[8])
        return open_points(*arguments)

    monkeypatch.setattr("qra_jax.diagnosis._diagnose.forecast_run", asked)
    monkeypatch.setattr("qra_jax.diagnosis._diagnose.open_points", opened)
    found = [with_everything(seed) for seed in (3, 3, 4)]
    assert given == [3, 3, 3, 3, 4, 4]
    # Internal rewards are read from the rollouts, not from draws of the base model.
    rewards = [diagnosis.rlif.pattern_rewards.median for diagnosis in found]
    assert np.all(rewards[0] != rewards[2])
    one, again, other = map(of_each, found)
    assert one == again
    changed = {name for name in one if one[name] != other[name]}
    random = {
        "settings.seed", "start.strengths", "start.pattern_probs", "start.success_rates",
        "start.accuracy", "regime.gamma", "rlvr.log_entanglement_time",
        "rlvr.log_convergence_time", "rlvr.forecast", "rlvr.step_forecast", "rlif",
        "rlvr.pass_at_k", "open_points",
    }  # fmt: skip
    assert random <= changed
    fixed = {
        "data.patterns", "data.questions", "data.weights", "data.samples", "data.correct",
        "data.stuck", "data.num_questions", "settings.pooling", "settings.prior",
        "settings.objective", "settings.eps", "settings.draws",
    }  # fmt: skip
    assert fixed <= set(one)
    assert not fixed & changed


def test_seed_of_a_run():
    """Of its draws of base models; of its noise, where the base model is known."""
    posterior = qra.posteriors.pooled_posterior(*FEW)
    sure = qra.posteriors.pooled_posterior(*counts_of(PROBS, RATES, 1e16))
    exact = TrainingRun(12, learning_rate=0.1)
    noisy = dataclasses.replace(exact, sampler=qra.SampledGroups(GROUP, 3), particles=20)
    for start, run in ((posterior, exact), (sure, noisy)):
        one, again, other = (
            forecast_run(start, run, objective=SETTINGS["objective"], draws=39, seed=seed)
            for seed in (3, 3, 4)
        )
        np.testing.assert_array_equal(one.accuracy.low, again.accuracy.low)
        assert np.all(one.accuracy.low[5:] != other.accuracy.low[5:])


def test_draws_and_bands():
    """As many draws as asked for, of the key that the seed says, and bands of all of them."""
    found = few("per_question")
    padded = qra.posteriors.per_question_posterior(
        *(np.pad(x, ((0, 0), (0, 1))) for x in FEW), PRIOR, exists=np.array([True] * 3 + [False])
    )
    tables = drawn(padded, jax.random.fold_in(jax.random.key(3), 1), DRAWS)
    probs, rates = (x[..., :3] for x in tables)
    ordered = np.sort(probs, axis=0)
    np.testing.assert_array_equal(found.start.pattern_probs.low, ordered[19])
    np.testing.assert_array_equal(found.start.pattern_probs.median, ordered[199])
    np.testing.assert_array_equal(found.start.pattern_probs.high, ordered[379])
    np.testing.assert_array_equal(found.start.success_rates.high, np.sort(rates, axis=0)[379])
    value = np.sum(probs * rates, axis=-1)
    np.testing.assert_allclose(
        found.start.accuracy.low, np.sort(value.mean(axis=1))[19], rtol=1e-12
    )
    # Regimes, entry by entry, of V(0) against the values in order.
    low, second, best = np.moveaxis(np.sort(rates, axis=-1), -1, 0)
    strong, entangled = value > second, (value < second) & (value > low)
    np.testing.assert_allclose(found.regime.probs[:, 0], strong.mean(axis=0))
    np.testing.assert_allclose(found.regime.probs[:, 1], entangled.mean(axis=0))
    np.testing.assert_allclose(found.rlvr.log_entanglement_time.at_once, strong.mean(axis=0))
    np.testing.assert_array_equal(found.rlvr.log_entanglement_time.never, 0)
    top = rates == best[..., None]
    np.testing.assert_allclose(found.regime.best_probs, top.mean(axis=0))
    misleads = (rates > value[..., None]) & ~top
    np.testing.assert_allclose(found.regime.misleading_probs, misleads.mean(axis=0))
    # Times apart for strong starts and for others.
    both_kinds = found.rlvr.log_convergence_if_strong, found.rlvr.log_convergence_if_weak
    assert np.all(both_kinds[0].median < both_kinds[1].median)
    assert sum(found.status.values()) == 3 * 2 * DRAWS


def test_strengths_of_partial_pooling(monkeypatch):
    """Questions that share how they are answered and how often one pattern is right, but not how
    often the other is: three strengths in this order, the last by quadrature."""
    samples = np.tile([30, 20], (8, 1))
    right = np.stack([np.full(8, 15), np.array([20, 0, 19, 2, 0, 20, 4, 20])], axis=1)
    prior = qra.posteriors.Prior(1.0, 2.0, 3.0)
    # What further rollouts would settle takes most of the time, and is not asked here.
    monkeypatch.setattr("qra_jax.diagnosis._diagnose.open_points", lambda *_: ())
    found = diagnose((samples, right), pooling="partial", prior=prior, draws=39, **SETTINGS)
    assert found.start.strengths is not None
    strengths = np.geomspace(0.1, 1e5, 49)
    share = (np.arange(2000) + 0.5) / 2000

    def law(counts, others):
        a, b = strengths[:, None] * share, strengths[:, None] * (1 - share)
        rows = special.betaln(a[..., None] + counts, b[..., None] + others)
        rows -= special.betaln(a, b)[..., None]
        logs = rows.sum(-1) + stats.beta(2, 3).logpdf(share)
        mass = np.exp(logs - logs.max()).sum(axis=1)
        return np.cumsum(mass / mass.sum())

    step = strengths[1] / strengths[0]
    for column, pattern in ((1, 0), (2, 1)):
        passed = law(right[:, pattern], samples[:, pattern] - right[:, pattern])
        for name, level in zip(("low", "median", "high"), LEVELS, strict=True):
            least, most = (
                strengths[min(np.searchsorted(passed, x), 48)] for x in (level - 0.03, level + 0.03)
            )
            end = getattr(found.start.strengths, name)[column]
            assert least / step * 0.999 < end < most * step * 1.001
    # Shares that are the same to a rollout are pooled; what is all or nothing is not.
    assert found.start.strengths.low[0] > 50
    assert found.start.strengths.high[2] < 5
