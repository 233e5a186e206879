"""How logs move a forecast: against conjugate posteriors, quadrature and weights by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import qra_jax as qra
from qra_jax.diagnosis import TrainingRun, forecast_run
from qra_jax.diagnosis._bands import LEVELS, weighted_band
from qra_jax.diagnosis._forecast import (
    Curves,
    Fit,
    _Particles,
    _proposed_scales,
    points,
    resampled,
)
from qra_jax.diagnosis._plan import Plan, check_logs
from qra_jax.diagnosis._run import drawn

SAMPLES, CORRECT = np.array([6.0, 3, 5]), np.array([6.0, 1, 0])
USED = np.array([[2.0, 9, 4]])
SAMPLER = qra.SampledGroups(4, batch=10**8)


@pytest.mark.parametrize("sampler", [None, SAMPLER])
def test_patterns_logged_at_the_start_are_more_counts(sampler):
    """Before any training, patterns of logged samples are further samples of the base model: the
    Dirichlet posterior of all of them, and the weights of the draws by hand."""
    posterior = qra.posteriors.pooled_posterior(SAMPLES, CORRECT)
    logged = np.array([[0.0, 7, 15]])
    run = TrainingRun(
        1, learning_rate=1e-9, logged=logged, logged_patterns=USED, sampler=sampler, particles=4000
    )
    draws = 4000
    found = forecast_run(posterior, run, objective=qra.RLVR(), draws=draws, seed=1)
    tables = drawn(posterior, jax.random.fold_in(jax.random.key(1), 1 if sampler is None else 2),
                   draws)  # fmt: skip
    logs = np.log(tables.probs[:, 0]) @ USED[0]
    mass = np.exp(logs - logs.max())
    mass /= mass.sum()
    effective = 1 / np.sum(mass**2)
    if sampler is None:
        assert found.effective_draws == pytest.approx(effective, rel=1e-9)
    else:  # what is left after resampling
        assert 0.5 * effective < found.effective_draws < 2 * effective
    assert effective > 300
    total = SAMPLES + 1 + USED[0]
    for pattern in range(3):
        law = stats.beta(total[pattern], total.sum() - total[pattern])
        for level, ends in zip(LEVELS, vars(found.pattern_shares).values(), strict=True):
            error = np.sqrt(level * (1 - level) / effective)
            assert abs(law.cdf(ends[0, pattern]) - level) < 4.5 * error
    # The accuracy, by weights of the same draws.
    value = np.sum(tables.probs * tables.rates, axis=-1)[:, 0]
    for level, ends in zip(LEVELS, vars(found.accuracy).values(), strict=True):
        below = mass[value < ends[0]].sum()
        assert abs(below - level) < (1e-2 if sampler else 1e-3) + mass.max()
    np.testing.assert_array_equal(found.logged, logged)


def test_right_answers_logged_at_the_start():
    """Where the patterns of the samples are not known, the binomial of right and wrong ones."""
    posterior = qra.posteriors.pooled_posterior(SAMPLES, CORRECT)
    logged = np.array([[0.0, 12, 15]])
    run = TrainingRun(1, learning_rate=1e-9, logged=logged)
    found = forecast_run(posterior, run, objective=qra.RLVR(), draws=2000)
    tables = drawn(posterior, jax.random.fold_in(jax.random.key(0), 1), 2000)
    value = np.sum(tables.probs * tables.rates, axis=-1)[:, 0]
    mass = stats.binom(15, value).pmf(12)
    mass /= mass.sum()
    assert found.effective_draws == pytest.approx(1 / np.sum(mass**2), rel=1e-9)
    order = np.argsort(value)
    passed = np.cumsum(mass[order])
    for level, ends in zip(LEVELS, vars(found.accuracy).values(), strict=True):
        at = value[order][np.searchsorted(passed, level)]
        assert ends[0] == pytest.approx(at, abs=3e-3)


def toy_curves(number: int) -> Curves:
    grid = np.linspace(-3.0, 5.0, 9)
    rng = np.random.default_rng(1)
    accuracy, start = rng.random((number, 9)), rng.random(number)
    shares, start_shares = rng.random((number, 9, 2)), rng.random((number, 2))
    return Curves(grid, accuracy, shares, start, start_shares)


def test_curves_between_rows_and_before_them():
    """Linear in log time between rows, linear in time before the first, constant after the last;
    accuracy and shares alike, at times of any shape."""
    curves = toy_curves(3)
    times = np.array([[-np.inf, -4.2, -3.0], [0.3, 4.999, 7.0]])
    for shares in (False, True):
        values = curves.shares if shares else curves.accuracy[..., None]
        starts = curves.start_shares if shares else curves.start[:, None]
        found = curves.at(times, shares)
        found = found if shares else found[..., None]
        for index in np.ndindex(times.shape):
            time = times[index]
            for draw in range(3):
                for at in range(values.shape[-1]):
                    row = values[draw, :, at]
                    expected = np.interp(time, curves.log_times, row)
                    if time < curves.log_times[0]:
                        part = np.exp(time - curves.log_times[0])
                        expected = starts[draw, at] + part * (row[0] - starts[draw, at])
                    assert found[(draw, *index, at)] == pytest.approx(expected, abs=1e-12)


def plan_of(scale_range) -> Plan:
    return Plan(np.arange(3), check_logs(None), None, scale_range)


def test_proposed_scales_stand_for_the_prior():
    """Log scales from a lopsided fit, weighted: evenly spread over the range, as they are
    beforehand."""
    low, high = 1e-3, 1e1
    scales = np.linspace(-2.0, 1.0, 31)
    weights = np.exp(-0.5 * ((scales - 0.3) / 0.2) ** 2)[None] * np.array([[0.3], [0.7]])
    fit = Fit(toy_curves(2), scales, weights / weights.sum())
    chosen, logs = _proposed_scales(fit, plan_of((low, high)), 400_000, np.random.default_rng(0))
    mass = np.exp(logs)
    assert mass.mean() == pytest.approx(1, abs=0.02)
    ends = np.linspace(np.log(low), np.log(high), 7)
    counts, _ = np.histogram(chosen, ends, weights=mass)
    np.testing.assert_allclose(counts / len(chosen), 1 / 6, rtol=0.06)
    # Most of them are where the fit is: its square root is sqrt(2) times as wide.
    assert np.mean(np.abs(chosen - 0.3) < 3 * 0.2 * 2**0.5) > 0.88
    known, nothing = _proposed_scales(fit, plan_of((0.3, 0.3)), 5, np.random.default_rng(0))
    np.testing.assert_allclose(np.exp(known), 0.3)
    np.testing.assert_array_equal(nothing, 0)


def test_resampling_keeps_shares():
    """Every particle as often as its weight says, rounded up or down, whole."""
    mass = np.array([0.05, 0.4, 0.0, 0.25, 0.3])
    number = len(mass)
    logits = jnp.arange(5.0)[:, None, None] * jnp.ones((1, 2, 3))
    with np.errstate(divide="ignore"):
        particles = _Particles(
            logits, logits + 10, jnp.arange(5.0), jnp.arange(5), jnp.asarray(np.log(mass))
        )
    resample = jax.jit(jax.vmap(resampled, (0, None)))
    found = resample(jax.random.split(jax.random.key(0), 2000), particles)
    times = (np.asarray(found.ancestor)[:, :, None] == np.arange(5)).sum(axis=1)
    assert np.all(np.abs(times - number * mass) < 1)
    np.testing.assert_allclose(times.mean(axis=0), number * mass, atol=0.05)
    np.testing.assert_array_equal(found.log_weight, 0)
    np.testing.assert_array_equal(found.logits[..., 1, 2], found.ancestor)
    np.testing.assert_array_equal(found.rates[..., 0, 0], found.ancestor + 10)
    np.testing.assert_array_equal(found.log_scale, found.ancestor)


def test_weighted_quantiles():
    """Of unequal weights: the first value at which the weights up to it reach the level; in NumPy
    and as compiled, column by column."""
    rng = np.random.default_rng(2)
    values, mass = rng.normal(size=(200, 3)), rng.random(200) ** 3
    mass /= mass.sum()
    bands = weighted_band(values, mass)
    compiled = points(jnp.asarray(values), jnp.asarray(mass))
    for column in range(3):
        order = np.argsort(values[:, column])
        passed = np.cumsum(mass[order])
        expected = [values[order, column][np.argmax(passed >= level)] for level in LEVELS]
        found = [x[column] for x in vars(bands).values()]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(compiled[:, column], expected)


def test_rows_of_a_run():
    """Every step of a short run, 201 rows of a long one, and the scales between which it looks."""
    short = TrainingRun(7, learning_rate=0.3).plan()
    np.testing.assert_array_equal(short.steps, np.arange(8))
    assert short.scale_range == (0.3, 0.3)
    assert short.known
    long = TrainingRun(1000, logged=np.array([[10, 3, 9]]), scale_range=(1e-2, 5.0)).plan()
    np.testing.assert_array_equal(long.steps, np.arange(0, 1001, 5))
    assert long.scale_range == (1e-2, 5.0)
    assert not long.known
    np.testing.assert_array_equal(long.counts, [[3, 6]])


def test_scale_range_bounds_the_scale():
    """What a log says is cut off where the range ends: the interval lies within, at its edge."""
    posterior = qra.posteriors.pooled_posterior(SAMPLES * 1e6, CORRECT * 1e6)
    value = SAMPLES @ (CORRECT / SAMPLES) / SAMPLES.sum()
    logged = np.array([[50, 2000 * value, 2000]])  # no progress: as small a scale as there is
    run = TrainingRun(60, logged=logged, scale_range=(2e-3, 1e-1))
    scale = forecast_run(posterior, run, objective=qra.RLVR(), draws=40).log_scale
    assert np.log(2e-3) <= scale.low < scale.median < scale.high < np.log(1e-1)
    assert scale.low < np.log(2.6e-3)
