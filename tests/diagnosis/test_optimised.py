"""Forecasts of runs with their own optimiser: moments by enumeration, sampled runs of a factor
table, and what logs and settings do."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom, chi2, kstest

import qra_jax as qra
from qra_jax.diagnosis import LEVEL, Head, Logs, TrainingRun, diagnose, forecast_run
from qra_jax.diagnosis._degree import degree_of
from qra_jax.diagnosis._drift import rate_drift
from qra_jax.diagnosis._level_check import chance_of
from qra_jax.diagnosis._solve import Tables
from qra_jax.diagnosis._trained import _drawn, _pooled_moments, begin, compiled_training
from qra_jax.posteriors import QuestionSpread, pooled_posterior
from qra_jax.training import RLOO
from qra_jax.training._noise import StepNoise
from tests.training.test_step_noise import group_moments

PROBS = np.array([0.15, 0.60, 0.25])
KINDS = np.array([[0.9, 0.9, 0.1], [0.7, 0.2, 0.3]])
SAMPLER = qra.SampledGroups(4, batch=16, estimator=RLOO())
KNOWN = Head(norm=15.0, width=12, feature_rate=20.0, row_spread=0.02, rate=1.0, wander=0.0)
ADAM = optax.adam(3e-3)
MANY = 1e7 * PROBS


def test_moments_of_a_table_that_kinds_of_questions_share():
    """Mean and covariance of a step, over the kinds of questions drawn and their groups."""
    sampler = qra.SampledGroups(3, batch=5, estimator=qra.SampledGRPO())
    mean, covariance = eqx.filter_jit(_pooled_moments)(StepNoise(sampler), PROBS, KINDS)
    each = [group_moments(sampler, PROBS, rates) for rates in KINDS]
    means = np.stack([x for x, _ in each])
    square = sum(within + np.outer(x, x) for x, within in each) / 2
    exact = (square - np.outer(means.mean(0), means.mean(0))) / 5
    np.testing.assert_allclose(mean, means.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(covariance, exact, atol=1e-13)


def test_normal_vectors_of_a_singular_badly_scaled_covariance():
    """Entries that sum to 0, one pattern of share 1e-9: the covariance asked for, each entry."""
    probs = np.array([1e-9, 0.3, 0.7 - 1e-9])
    root = np.sqrt(probs)
    exact = np.diag(probs) - np.outer(probs, probs)
    normals = jax.random.normal(jax.random.key(0), (200_000, 3))
    found = np.asarray(jax.jit(jax.vmap(_drawn, (0, None)))(normals, jnp.asarray(exact)))
    scaled = np.cov((found / root).T)
    np.testing.assert_allclose(scaled, exact / np.outer(root, root), atol=0.01)
    dead = jax.jit(_drawn)(normals[0], jnp.zeros((3, 3)))
    np.testing.assert_array_equal(dead, 0)


@pytest.fixture(scope="module")
def posterior():
    """A base model that is all but known."""
    return pooled_posterior(MANY, MANY * KINDS.mean(axis=0))


def _run(head=KNOWN, number=120, **given):
    return TrainingRun(number, optimiser=ADAM, head=head, sampler=SAMPLER, particles=400, **given)


@pytest.fixture(scope="module")
def foretold(posterior):
    alike = QuestionSpread(np.zeros(3), np.eye(3))
    return forecast_run(posterior, _run(), spread=alike)


@pytest.fixture(scope="module")
def sampled():
    """Accuracies of 200 runs at every tenth step, sampled group by group, by `train` with an
    optimiser of its own for rows and features."""
    table, problem = qra.two_stage(PROBS, KINDS.mean(axis=0))
    faster = optax.chain(ADAM, optax.scale(20.0))

    def labels(params):
        return eqx.tree_at(lambda p: (p.arrays.head, p.arrays.features), params, ("rows", "rest"))

    optimiser = optax.partition({"rows": ADAM, "rest": faster}, labels)
    # |h|_1 is what a draw makes of a root mean square: rescaled to 15 by a draw's own size.
    base = qra.policies.factor_policy(PROBS, table.answer_logits, jax.random.key(0), width=12)
    size = 15.0 / float(jnp.sum(jnp.abs(base.network.hidden))) * 1.4

    @jax.jit
    def runs(keys):
        def run(key):
            policy = qra.policies.factor_policy(
                PROBS, table.answer_logits, jax.random.key(0), width=12, size=size, row_spread=0.02
            )
            return qra.train(
                policy, problem, optimiser, 120, sampler=SAMPLER, key=key, rows=13
            ).accuracy

        return jax.vmap(run)(keys)

    return np.asarray(runs(jax.random.split(jax.random.key(2), 200)))


def test_sampled_runs_of_a_factor_table(foretold, sampled):
    """Bands of the forecast against quantiles of runs that are sampled."""
    at = np.arange(0, 121, 10)
    low, middle, high = (x[at] for x in vars(foretold.accuracy).values())
    assert np.ptp(middle) > 0.15
    np.testing.assert_allclose(np.median(sampled, axis=0), middle, atol=0.02)
    inside = np.mean((sampled >= low) & (sampled <= high), axis=0)[2:]
    assert np.all(inside > 0.75)
    assert inside.mean() > 0.84
    points = foretold.accuracy_quantiles
    np.testing.assert_array_equal(points[[0, 9, 18]], list(vars(foretold.accuracy).values()))
    assert np.all(np.diff(points, axis=0) >= 0)
    assert np.all(np.diff(points[:, 60]) > 0)


def _paths(head, number):
    """Accuracies at every step of single particles, each a base model of its own draw."""
    probs, rates = np.tile(PROBS, (number, 1, 1)), np.tile(KINDS.mean(axis=0), (number, 1, 1))
    alike = QuestionSpread(np.zeros(3), np.eye(3))
    drawn = begin(Tables(probs, rates), alike, head, ADAM, np.random.default_rng(4))
    rows, counts = jnp.arange(61), jnp.zeros((61, 2))
    found = []
    for i in range(number):
        one = jax.tree_util.tree_map(lambda x, i=i: x[i : i + 1], drawn)
        key = jax.random.fold_in(jax.random.key(9), i)
        given = one, counts, rows, 0.9, jnp.asarray(0), None, False
        bands = compiled_training(key, StepNoise(SAMPLER), ADAM, *given)[1]
        found.append(np.asarray(bands[0][:, 0]))
    return np.array(found)


def test_chances_of_levels():
    """All on one side, or far out on both; NaN is no log. By the normal and chi-squared laws."""
    z = ndtri(0.8)
    assert chance_of(np.append(np.full(12, 0.8), np.nan)) == pytest.approx(
        4 * ndtr(-(12**0.5) * z), rel=1e-12
    )
    both = np.tile([0.02, 0.98], 4)
    assert chance_of(both) == pytest.approx(2 * chi2.sf(8 * ndtri(0.02) ** 2, 8), rel=1e-12)
    assert chance_of((np.arange(20) + 0.5) / 20) > 0.5
    assert chance_of(np.array([np.nan])) == 1


@pytest.mark.parametrize("number", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_where_logs_fall(posterior, number):
    """Levels of logs given those before are uniform for runs of the model, each by itself; runs at
    a third of the pace are refuted, and a level is the binomial law's own."""
    rng = np.random.default_rng(3)
    steps = np.arange(0, 61, 6)
    head = dataclasses.replace(KNOWN, rate=(0.8, 1.25), wander=0.2)

    def logs(accuracy):
        right = rng.binomial(400, accuracy)
        return np.stack([steps, right, np.full(len(steps), 400)], axis=1).astype(float)

    def levels_of(accuracy):
        run = dataclasses.replace(_run(head, 60, logged=logs(accuracy)), particles=200)
        return forecast_run(posterior, run).log_levels

    paths = _paths(head, number)
    levels = np.array([levels_of(path[steps]) for path in paths])
    slowed = np.array([chance_of(levels_of(path[steps // 3])) for path in paths])
    assert kstest(levels.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(levels[:, :-1].ravel(), levels[:, 1:].ravel())[0, 1]) < 0.25
    alarms = np.sum([chance_of(x) < LEVEL for x in levels])
    assert alarms <= binom(number, LEVEL).ppf(0.995)
    assert np.mean(slowed < LEVEL) >= 0.8
    # At step 0 all particles have the accuracy of the base model.
    first = np.array([[0.0, 96, 200]])
    alone = forecast_run(posterior, _run(logged=first)).log_levels
    law = binom(200, PROBS @ KINDS.mean(axis=0))
    expected = law.cdf(first[0, 1]) - law.pmf(first[0, 1]) / 2
    np.testing.assert_allclose(alone, [expected], atol=2e-3)


def test_what_a_forecast_says(foretold):
    """Bands in order, rows from step 0, times of the bands' own curves, and that it is marked."""
    assert foretold.optimised
    assert foretold.noise == repr(SAMPLER)
    assert foretold.steps[0] == 0
    assert foretold.steps[-1] == 120
    low, middle, high = vars(foretold.accuracy).values()
    assert np.all((low <= middle) & (middle <= high))
    np.testing.assert_allclose(middle[0], PROBS @ KINDS.mean(axis=0), atol=1e-3)
    second = 0.55
    crossed = foretold.steps[np.argmax(middle >= second)]
    assert np.exp(foretold.log_entanglement_step.overall.median[0]) == pytest.approx(crossed, abs=3)
    share = foretold.pattern_shares.median[:, 0]
    leading = foretold.steps[np.argmax(share >= 0.9)] if share[-1] >= 0.9 else np.inf
    found = np.exp(foretold.log_convergence_step.overall.median[0])
    assert (np.isinf(found) and np.isinf(leading)) or found == pytest.approx(leading, abs=4)


def test_settings_do_what_they_say(posterior, foretold):
    """Faster features, a wider head, a smaller rate, a pace that wanders."""

    def at(step, **changed):
        found = forecast_run(posterior, _run(dataclasses.replace(KNOWN, **changed)))
        return found.accuracy.median[step], found.accuracy.high[step] - found.accuracy.low[step]

    plain, width = (x[25] for x in (foretold.accuracy.median, foretold.accuracy.high))
    width -= foretold.accuracy.low[25]
    changed = {
        "features": at(25, feature_rate=200.0),
        "rows": at(25, feature_rate=200.0, row_spread=0.06),
        "norm": at(25, norm=30.0),
        "rate": at(25, rate=0.5),
        "wander": at(25, wander=1.5),
    }
    assert changed["features"][0] > plain + 0.004
    assert changed["rows"][0] > changed["features"][0] + 0.004
    assert changed["norm"][0] > plain + 0.02
    assert changed["rate"][0] < plain - 0.02
    assert changed["wander"][1] > 1.3 * width


def test_logs_weigh_what_is_not_known(posterior):
    """Logs of a run at twice the rate: the rate is found, and the band narrows around the run."""
    twice = forecast_run(posterior, _run(dataclasses.replace(KNOWN, rate=2.0)))
    open_rate = dataclasses.replace(KNOWN, rate=(0.4, 2.5))
    at = np.array([0, 10, 20, 30])
    shares = twice.pattern_shares.median[at]
    counts = np.floor(195 * shares)
    right = np.round(200 * twice.accuracy.median[at])
    logs = np.stack([at, right, np.full(4, 200)], axis=1)
    told = forecast_run(posterior, _run(open_rate, logged=logs, logged_patterns=counts))
    blind = forecast_run(posterior, _run(open_rate))
    later = 50
    assert told.accuracy.low[later] <= twice.accuracy.median[later] <= told.accuracy.high[later]
    width, wide = (x.accuracy.high[later] - x.accuracy.low[later] for x in (told, blind))
    assert width < 0.6 * wide
    assert np.exp(told.log_scale.median) == pytest.approx(2.0, rel=0.25)
    assert 2 < told.effective_draws < 100


def test_a_diagnosis_says_it_in_words():
    """The optimiser's steps, what is later than the last of them, and what was not checked."""
    run = _run(number=20)
    found = diagnose((200 * PROBS, 200 * PROBS * KINDS.mean(axis=0)), run=run, draws=39)
    text = "\n".join(found.summary())
    assert "later than step 20 (with probability" in text
    assert "steps are those of the optimiser that was given" in text
    logged = dataclasses.replace(run, logged=np.array([[0, 20, 50], [10, 25, 50]]))
    found = diagnose((200 * PROBS, 200 * PROBS * KINDS.mean(axis=0)), run=logged, draws=39)
    assert found.log_check is not None
    assert 0.05 < found.log_check.chance < 1
    text = "\n".join(found.summary())
    assert "the logs were checked by the accuracy alone" in text
    far = dataclasses.replace(run, logged=np.array([[0, 0, 50], [10, 48, 50]]))
    found = diagnose((200 * PROBS, 200 * PROBS * KINDS.mean(axis=0)), run=far, draws=39)
    assert found.log_check.refuted == ("optimiser",)
    assert "moves otherwise than its optimiser would" in "\n".join(found.summary())
    counts = np.stack([200 * PROBS] * 2)
    with pytest.raises(ValueError, match="pooling must be"):
        diagnose((counts, counts * KINDS), run=run, draws=39, pooling="per_question")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sampler": qra.SampledGroups(4)}, "sampler must have a batch"),
        ({"sampler": None}, "sampler must have a batch"),
        ({"learning_rate": 0.1}, "learning_rate must be left out"),
        ({"schedule": np.ones(5)}, "schedule must be left out"),
    ],
)
def test_bad_runs(given, says):
    good = {"optimiser": ADAM, "head": KNOWN, "sampler": SAMPLER} | given
    with pytest.raises(ValueError, match=says):
        TrainingRun(5, **good)


def test_draws_of_a_head():
    """Nine in ten between the ends of a range, log-normal; fewer features that learn faster."""
    head = dataclasses.replace(KNOWN, width=64, norm=(50.0, 100.0), rate=(0.5, 3.0))
    found = head.draw(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.quantile(found.norm, (0.05, 0.95)), (50, 100), rtol=0.02)
    np.testing.assert_allclose(np.median(found.rate), np.sqrt(1.5), rtol=0.03)
    normal = np.random.default_rng(1).normal(size=(4000, 64))
    ratio = np.linalg.norm(normal, axis=1).mean() / np.abs(normal).sum(axis=1).mean()
    np.testing.assert_allclose(found.length / found.norm, ratio, rtol=0.01)
    known = dataclasses.replace(head, length=(9.0, 16.0)).draw(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.quantile(known.length, (0.05, 0.95)), (9, 16), rtol=0.02)
    assert head.simulated == 16
    np.testing.assert_allclose(found.feature_rate, 80.0)
    np.testing.assert_allclose(found.row_spread, 0.02)


def test_bad_heads():
    for given, says in (
        ({"norm": 0.0}, "norm must be above 0"),
        ({"width": 1}, "width must be at least 2"),
        ({"feature_rate": (3.0, 2.0)}, "feature_rate must be above 0, or rise"),
        ({"wander": -0.1}, "wander must be at least 0"),
    ):
        with pytest.raises(ValueError, match=says):
            dataclasses.replace(KNOWN, **given)
    with pytest.raises(TypeError, match="head must be a Head"):
        TrainingRun(5, optimiser=ADAM, sampler=SAMPLER)
    with pytest.raises(TypeError, match="optimiser must be an optax"):
        TrainingRun(5, head=KNOWN, sampler=SAMPLER)


def test_plain_gradients_are_those_of_a_table(posterior):
    """Linear in the gradient: a table at the rate |h|_2^2 (T1), as the plain forecast trains it;
    momentum .5 makes twice the rate, a little later."""
    head = dataclasses.replace(KNOWN, width=64, norm=20.0, length=3.0)
    plain = TrainingRun(120, learning_rate=9 * 0.02, sampler=SAMPLER, particles=400)
    table = forecast_run(posterior, plain)
    own = forecast_run(posterior, dataclasses.replace(_run(head), optimiser=optax.sgd(0.02)))
    assert np.ptp(table.accuracy.median) > 0.1
    for name in ("low", "median", "high"):
        of_table, of_own = (getattr(x.accuracy, name) for x in (table, own))
        np.testing.assert_allclose(of_own, of_table, atol=0.012)
    half = optax.sgd(0.01, momentum=0.5)
    found = forecast_run(posterior, dataclasses.replace(_run(head), optimiser=half))
    np.testing.assert_allclose(found.accuracy.median[1:], own.accuracy.median[:-1], atol=0.006)


def test_decay_acts_on_rows_alone(posterior):
    """Weight decay that halves the rows over the run; of the features it would make fast learners,
    as their speed is many times that of a weight."""
    still = dataclasses.replace(KNOWN, rate=1e-6)
    decayed = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(1e4), optax.scale(-1.0))
    found = forecast_run(posterior, dataclasses.replace(_run(still), optimiser=decayed))
    # Rows shrink by .99 a step: logits of the start, smaller by as much.
    logits = np.log(PROBS) * 0.99**120
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found.accuracy.median[-1] != found.accuracy.median[0]
    np.testing.assert_allclose(found.pattern_shares.median[-1], expected, atol=0.03)


@pytest.mark.parametrize(
    ("optimiser", "degree"),
    [
        (optax.adam(1e-3), 0),
        (optax.adamw(1e-3, weight_decay=0.5), 0),
        (optax.sgd(0.1, momentum=0.9), 1),
        (optax.sgd(optax.linear_schedule(0.0, 0.1, 10)), 1),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)), 0),
    ],
)
def test_degrees(optimiser, degree):
    assert degree_of(optimiser) == degree


def test_degrees_that_are_neither():
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    for optimiser, says in (
        (clipped, "must move in proportion to gradients .* or independently"),
        (optax.sgd(0.0), "must move within 100 steps"),
    ):
        with pytest.raises(ValueError, match=says):
            TrainingRun(5, optimiser=optimiser, head=KNOWN, sampler=SAMPLER)
    with pytest.raises(ValueError, match="length must rise within"):
        dataclasses.replace(KNOWN, length=30.0)


def test_rates_that_drift(posterior):
    """Logged rates of the first two patterns fall by two thirds: so does the foretold accuracy,
    beside that of rates that stay; the shares are those of the same particles."""
    steps = np.array([20.0, 40.0, 60.0])
    means = KINDS.mean(axis=0)
    fallen = np.linspace(1, 1 / 3, 4)[1:, None] * np.array([1, 1, 0]) + np.array([0, 0, 1])
    samples = np.tile(3000 * PROBS, (3, 1))
    logs = Logs(steps, steps, samples, samples * means * fallen)
    drift = rate_drift(3000 * PROBS, 3000 * PROBS * means, logs, (1.0, 1.0))
    still, moving = (forecast_run(posterior, _run(number=60), drift=x) for x in (None, drift))
    np.testing.assert_allclose(moving.pattern_shares.median, still.pattern_shares.median)
    assert moving.accuracy.median[-1] < 0.5 * still.accuracy.median[-1]
    np.testing.assert_allclose(moving.accuracy.median[0], still.accuracy.median[0], atol=2e-3)
