"""Properties of every flow, on problems drawn by hypothesis and solved by compiled functions."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np

import qra_jax as qra
from tests._support import compiled
from tests._support.compiled import one

LOG_TIMES = compiled.log_time_rows(1e-2, 1e4)
OK = (qra.Status.COMPLETED, qra.Status.EVENT, qra.Status.STATIONARY)


@st.composite
def problems(draw, patterns=st.integers(2, 8)):
    """A start with probabilities down to about 1e-9, and rates that may be equal."""
    count = draw(patterns)
    logs = draw(st.lists(st.floats(-20, 0), min_size=count, max_size=count))
    rates = draw(st.lists(st.floats(0.01, 0.99), min_size=count, max_size=count))
    weights = np.exp(logs)
    return weights / weights.sum(), np.round(rates, 6)


@st.composite
def strong_problems(draw):
    """A start whose accuracy exceeds the second best rate."""
    probs, rates = draw(problems())
    order = np.argsort(rates)
    best, second = rates[order[-1]], rates[order[-2]]
    hypothesis.assume(best > second + 1e-3)
    # Enough of the best pattern to lift V over the second best rate, and some more.
    share = draw(st.floats(0.05, 0.95))
    others = np.where(np.arange(len(rates)) == order[-1], 0, probs)
    others = others / others.sum()
    needed = (second - others @ rates) / (best - others @ rates)
    mass = needed + (1 - needed) * share
    hypothesis.assume(mass < 1 - 1e-6)
    probs = (1 - mass) * others
    probs[order[-1]] = mass
    return probs, rates


def rows_of(problem, *more, make_flow=compiled.rlvr):
    """Trajectories of a problem, and of more `(probs, rates, log_times)` beside it."""
    lanes = [(*problem, LOG_TIMES), *more]
    columns = [np.stack(column) for column in zip(*lanes, strict=True)]
    return compiled.follow(make_flow)(*columns)


@hypothesis.given(problems())
def test_simplex_is_kept(problem):
    """Probabilities stay probabilities, padding stays 0, and every solve succeeds."""
    found = rows_of(problem)
    assert found["status"][0] == qra.Status.COMPLETED
    probs = found["probs"][0]
    assert np.all(probs >= 0)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=0, atol=1e-13)
    assert not probs[:, len(problem[0]) :].any()


@hypothesis.given(problems())
def test_logit_sum_is_conserved(problem):
    """Euclidean flow: sum theta stays, whatever the rewards."""
    logits = rows_of(problem)["logits"][0, :, : len(problem[0])]
    start = np.log(problem[0]).sum()
    np.testing.assert_allclose(logits.sum(axis=1), start, rtol=1e-9, atol=1e-9)


@hypothesis.given(problems(), st.sampled_from([compiled.rlvr, compiled.natural]))
def test_accuracy_never_falls(problem, make_flow):
    """RLVR climbs, in either geometry."""
    found = rows_of(problem, make_flow=make_flow)
    assert np.all(np.diff(found["accuracy"][0]) >= -1e-11)
    assert found["accuracy"][0, 0] >= problem[0] @ problem[1] - 1e-11


@hypothesis.given(problems(), st.randoms(use_true_random=False))
def test_permuting_patterns_permutes_the_result(problem, random):
    """Names of patterns mean nothing: trajectories, T0, regimes and gamma follow them."""
    probs, rates = problem
    order = list(range(len(probs)))
    random.shuffle(order)
    found = rows_of(problem, (probs[order], rates[order], LOG_TIMES))
    here, there = found["probs"]
    np.testing.assert_allclose(there[:, : len(probs)], here[:, order], rtol=0, atol=1e-9)
    times = compiled.entanglement()(
        np.stack([probs, probs[order]]), np.stack([rates, rates[order]])
    )
    np.testing.assert_allclose(*times["log_time"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(*times["gamma"], rtol=1e-10)
    assert times["regime"][0] == times["regime"][1]


@hypothesis.given(problems(), st.floats(0.05, 1.0))
def test_scaling_rewards_rescales_time(problem, scale):
    """c times the rewards is c times the speed."""
    probs, rates = problem
    found = rows_of(problem, (probs, scale * rates, LOG_TIMES - np.log(scale)))
    np.testing.assert_allclose(*found["probs"], rtol=0, atol=1e-9)
    times = compiled.entanglement()(np.stack([probs, probs]), np.stack([rates, scale * rates]))
    here, there = times["log_time"]
    np.testing.assert_allclose(there, here - np.log(scale), rtol=0, atol=1e-7)


@hypothesis.given(strong_problems())
def test_best_pattern_rises_from_a_strong_start(problem):
    """Theorem 5.3: pi(r*) is monotone, and there is no entanglement."""
    probs, rates = problem
    best = np.argmax(rates)
    rising = rows_of(problem)["probs"][0][:, best]
    assert np.all(np.diff(rising) >= -1e-12)
    assert rising[-1] > probs[best]
    times = one(compiled.entanglement(), probs, rates)
    assert times["regime"] == qra.Regime.STRONG
    assert times["log_time"] == -np.inf


@hypothesis.given(problems())
def test_every_time_carries_a_status(problem):
    """T0 is a number with the right policy, -inf, inf, or NaN with a status that says why."""
    probs, rates = problem
    found = one(compiled.entanglement(), probs, rates)
    status, log_time = found["status"], found["log_time"]
    assert np.isnan(log_time) == (status not in OK)
    strong = found["regime"] == qra.Regime.STRONG
    if strong:
        assert log_time == -np.inf
    if np.isfinite(log_time):
        assert not strong
        second = np.unique(rates)[-2]
        accuracy = found["probs"][: len(rates)] @ rates
        np.testing.assert_allclose(accuracy, second, rtol=0, atol=1e-12)


@hypothesis.given(problems())
def test_convergence_takes_longer_for_a_smaller_eps(problem):
    """T_eps falls with eps, and pi(best) = 1 - eps then."""
    probs, rates = problem
    eps = np.array([0.3, 0.1, 0.01, 1e-4])
    log_time, status, final = compiled.convergence()(
        np.tile(probs, (4, 1)), np.tile(rates, (4, 1)), eps
    )
    assert np.all(np.isin(status, OK))
    assert np.all(log_time[1:] >= log_time[:-1])
    solved = np.isfinite(log_time)
    others = np.sum(final[:, : len(rates)] * (rates < rates.max()), axis=1)
    np.testing.assert_allclose(others[solved], eps[solved], rtol=1e-9)


@functools.cache
def pair():
    """Engine `(probs, rates, weights)` for two questions: probabilities, mean accuracy, T0."""

    def function(probs, rates, weights):
        policy, problem = qra.two_stage(probs, rates)
        problem = qra.Problem(problem.correct, weights)
        log_times = jnp.asarray(LOG_TIMES)
        rows = qra.solve_flow(policy, problem, log_times=log_times, method=compiled.TIGHT)
        return rows.pattern_probs, rows.accuracy

    return compiled.batched(function)


@hypothesis.given(
    problems(patterns=st.just(3)), problems(patterns=st.just(3)), st.floats(0.02, 0.98)
)
def test_questions_move_by_themselves(first, second, weight):
    """Question q of weight w runs as if alone, w times as fast; accuracy is their mean."""
    probs, rates = (np.stack(pair) for pair in zip(first, second, strict=True))
    weights = np.array([weight, 1 - weight])
    together, accuracy = one(pair(), probs, rates, weights)
    alone = compiled.follow()(probs, rates, LOG_TIMES + np.log(weights)[:, None])
    for q in range(2):
        np.testing.assert_allclose(together[:, q], alone["probs"][q], rtol=0, atol=1e-9)
    np.testing.assert_allclose(accuracy, weights @ alone["accuracy"], rtol=0, atol=1e-9)
