"""Trajectories as data: rows, validity, the state at any time, the labelled dataset."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from tests._support import compiled, systems
from tests._support.compiled import one

PROBS, RATES = np.array([0.2, 0.5, 0.3]), np.array([0.8, 0.6, 0.1])
LOG_TIMES = np.concatenate([[-np.inf], np.linspace(-3, 5, 9)])


@pytest.fixture(scope="module")
def stopped():
    """A trajectory that is asked for rows up to e^5 and stops at accuracy 0.7."""
    policy, problem = qra.two_stage(PROBS, RATES)
    return qra.solve_flow(policy, problem, log_times=LOG_TIMES, until=qra.AccuracyReaches(0.7))


@pytest.fixture(scope="module")
def free():
    """A trajectory without requested times."""
    policy, problem = qra.two_stage(PROBS, RATES)
    return qra.solve_flow(policy, problem, until=qra.PatternReaches(0, 0.99))


def states(log_times):
    """Exact probabilities at these log times."""
    times = np.exp(np.asarray(log_times))
    grid = np.unique(np.concatenate([[0.0, 1.0], times]))
    rows = systems.euclidean_probs(PROBS, RATES, grid)
    return rows[np.searchsorted(grid, times)]


def test_rows_after_the_stop(stopped):
    """They repeat the final state and are not valid; those before are exact."""
    assert stopped.status == qra.Status.EVENT
    assert stopped.event == 0
    np.testing.assert_array_equal(stopped.log_times, LOG_TIMES)
    np.testing.assert_array_equal(stopped.valid, float(stopped.final_log_time) >= LOG_TIMES)
    valid = np.asarray(stopped.valid)
    assert 0 < valid.sum() < len(LOG_TIMES)
    np.testing.assert_allclose(
        stopped.pattern_probs[valid, 0], states(LOG_TIMES[valid]), rtol=0, atol=1e-8
    )
    last = np.exp(stopped.final_policy.log_probs()[0][0])
    repeated = np.broadcast_to(last, (np.sum(~valid), 3))
    np.testing.assert_allclose(stopped.pattern_probs[~valid, 0], repeated, rtol=1e-14)
    np.testing.assert_allclose(stopped.accuracy[~valid], 0.7, rtol=0, atol=1e-13)


def test_first_row_at_time_zero(stopped):
    """log t = -inf is the start."""
    np.testing.assert_allclose(stopped.pattern_probs[0, 0], PROBS, rtol=1e-14)


def test_rows_are_policies(stopped):
    """The stacked policy is that of every row, frozen answers included."""
    stacked = stopped.policy
    assert stacked.pattern_logits.shape == (len(LOG_TIMES), 1, 3)
    assert stacked.answer_logits.shape == (len(LOG_TIMES), 1, 3, 2)
    logits = np.asarray(stacked.pattern_logits)
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(stopped.pattern_probs, probs, rtol=1e-14)
    np.testing.assert_allclose(stopped.accuracy, probs[:, 0] @ RATES, rtol=1e-14)


@pytest.mark.parametrize("log_time", [-np.inf, -5.0, 0.3, 1.0, 100.0])
def test_at_any_time(stopped, log_time):
    """The policy between rows, before the first, on one, and past the stop (the final one)."""
    found = np.exp(stopped.at(log_time).log_probs()[0][0])
    if log_time > float(stopped.final_log_time):
        expected = stopped.pattern_probs[-1, 0]
    else:
        expected = states([log_time])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_rows_without_requested_times(free):
    """128 rows from t = 0 to the stop, all of them valid, each at the time it says."""
    log_times = np.asarray(free.log_times)
    assert len(log_times) == 128
    assert log_times[0] == -np.inf
    assert np.all(np.diff(log_times[1:]) > 0)
    assert log_times[-1] == pytest.approx(float(free.final_log_time), abs=1e-8)
    assert np.asarray(free.valid).all()
    np.testing.assert_allclose(free.pattern_probs[:, 0], states(log_times), rtol=0, atol=1e-8)
    assert free.pattern_probs[-1, 0, 0] == pytest.approx(0.99, abs=1e-9)


def test_already_stopped(stopped):
    """An event at the start: every row is the start, and only that at t = 0 is valid."""
    policy, problem = qra.two_stage(PROBS, RATES)
    traj = qra.solve_flow(policy, problem, log_times=LOG_TIMES, until=qra.AccuracyReaches(0.1))
    assert traj.status == qra.Status.EVENT
    assert traj.final_log_time == -np.inf
    np.testing.assert_array_equal(traj.valid, -np.inf == LOG_TIMES)
    np.testing.assert_allclose(traj.pattern_probs[:, 0], np.tile(PROBS, (10, 1)), rtol=1e-14)


def test_at_rest_for_ever():
    """On a vertex nothing moves: valid rows without an event, and an event never happens."""
    vertex = np.array([0.0, 1.0, 0.0])
    policy, problem = qra.two_stage(vertex, RATES)
    traj = qra.solve_flow(policy, problem, log_times=LOG_TIMES, until=qra.AccuracyReaches(0.7))
    assert traj.status == qra.Status.STATIONARY
    assert traj.event == -1
    found = one(compiled.follow(), vertex, RATES, compiled.log_time_rows(1, 1e9))
    assert found["status"] == qra.Status.COMPLETED
    assert found["valid"].all()
    for rows in (traj.pattern_probs[:, 0], found["probs"][:, :3]):
        np.testing.assert_array_equal(rows, np.broadcast_to(vertex, rows.shape))


def test_dataset(stopped):
    """Labelled data with the same numbers."""
    data = stopped.to_dataset()
    assert set(data.variables) >= {"log_time", "valid", "pattern_prob", "success_rate", "accuracy"}
    assert dict(data.sizes) == {"time": len(LOG_TIMES), "question": 1, "pattern": 3}
    np.testing.assert_array_equal(data["log_time"], LOG_TIMES)
    np.testing.assert_array_equal(data["valid"], stopped.valid)
    np.testing.assert_array_equal(
        data["pattern_prob"].transpose("time", "question", "pattern"), stopped.pattern_probs
    )
    np.testing.assert_array_equal(data["accuracy"], stopped.accuracy)
    np.testing.assert_allclose(np.asarray(data["success_rate"]).ravel()[:3], RATES, rtol=1e-14)
    assert data["log10_time"][0] == -np.inf
    np.testing.assert_allclose(data["log10_time"][1:], np.log10(np.exp(LOG_TIMES[1:])), atol=1e-14)
    assert data["pattern"].values.tolist() == [0, 1, 2]
    assert data.attrs["status"] == "EVENT"
    assert data.attrs["version"] == qra.__version__


def test_dataset_with_names(stopped):
    """A pattern is found by its name; another number of names is refused."""
    data = stopped.to_dataset(patterns=["right", "misleading", "bad"])
    np.testing.assert_array_equal(
        data["pattern_prob"].sel(pattern="misleading")[:, 0], stopped.pattern_probs[:, 0, 1]
    )
    with pytest.raises(ValueError, match=r"^patterns must hold 3 names, got 2$"):
        stopped.to_dataset(patterns=["right", "bad"])
    batch = jax.tree_util.tree_map(lambda x: x[None], stopped)
    with pytest.raises(ValueError, match="trajectory must be a single one"):
        batch.to_dataset()


def test_shown_in_a_few_lines(stopped):
    """What a trajectory is, how it ended, when, and with which accuracy."""
    first, second, third = repr(stopped).splitlines()
    assert first == f"Trajectory: {len(LOG_TIMES)} rows, 1 questions, 3 patterns"
    assert re.fullmatch(r"  status EVENT after \d+ steps of (ODE|Exact)\(\)", second)
    time, accuracy = map(float, re.findall(r"-?\d+\.?\d*", third.replace("log10", "")))
    assert time == pytest.approx(float(stopped.final_log_time) / np.log(10), rel=1e-3)
    assert accuracy == pytest.approx(float(stopped.accuracy[-1]), rel=1e-3)
    shown = []
    jax.vmap(lambda x: shown.append(repr(eqx.tree_at(lambda t: t.accuracy, stopped, x))))(
        stopped.accuracy[None]
    )
    assert shown == [f"Trajectory(log_times of shape {stopped.log_times.shape})"]


def test_codes_by_name():
    """Names in the shape of the codes; invalid input; a number that is no code."""
    assert qra.Status.names(jnp.asarray(1)) == "EVENT"
    codes = np.array([[0, 2], [-1, 1]])
    assert qra.Regime.names(codes) == [["STRONG", "MIXED"], ["INVALID", "ENTANGLED"]]
    with pytest.raises(ValueError, match="9 is not a valid Regime"):
        qra.Regime.names(9)


def test_rest_with_a_reference_other_than_the_start():
    """A KL flow rests at its reference's optimum, wherever it starts; rows after that say so."""
    policy, problem = qra.two_stage(PROBS, RATES)
    reference, _ = qra.two_stage(np.array([0.6, 0.1, 0.3]), RATES)
    flow = qra.GradientFlow(qra.RLVR(jnp.asarray(0.2)), problem)
    log_times = np.array([-3.0, 1.0, 40.0, 60.0])
    traj = qra.solve_flow(policy, flow, log_times=log_times, reference=reference)
    assert traj.status == qra.Status.STATIONARY
    assert traj.valid.tolist() == [True, True, False, False]
    weights = np.array([0.6, 0.1, 0.3]) * np.exp(RATES / 0.2)
    for row in traj.pattern_probs[2:, 0]:
        np.testing.assert_allclose(row, weights / weights.sum(), rtol=0, atol=1e-6)
