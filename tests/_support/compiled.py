"""Solves compiled once and shared by all tests: compilation takes most of the suite's time.

Each engine takes columns with one row a lane, `(lanes, ...)`, of any number of lanes and at most
`PATTERNS` patterns. It pads patterns with probability 0 and lanes with zeros that nothing reads, so
that every call has the same shape, and returns NumPy arrays for the lanes given.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

LANES = 16
PATTERNS = 10
ROWS = 24

TIGHT = qra.ODE(diffrax.Dopri8(), rtol=1e-11, atol=1e-12)
FORWARD = qra.ODE(adjoint=diffrax.ForwardMode())


def rlvr(problem: qra.Problem) -> qra.GradientFlow:
    """Plain RLVR: Euclidean, on patterns, beta = 0."""
    return qra.GradientFlow(qra.RLVR(), problem)


def natural(problem: qra.Problem) -> qra.GradientFlow:
    """RLVR along the natural gradient."""
    return qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural())


def rlif(problem: qra.Problem) -> qra.GradientFlow:
    """RLIF with self-certainty."""
    return qra.GradientFlow(qra.RLIF(), problem)


def right_answer_prob(policy: qra.TabularPolicy, problem: qra.Problem) -> jax.Array:
    """A user's own reward: the probability of answer 0 under each pattern, `(Q, R, 1)`."""
    _, log_answers = policy.log_probs()
    return jnp.exp(log_answers[:, :, :1])


def log_likelihood(problem: qra.Problem) -> qra.GradientFlow:
    """A user's own reward and utility: the clock f'(V) = 1/V of maximum likelihood."""
    return qra.GradientFlow(qra.Objective(right_answer_prob, utility=jnp.log), problem)


def kl_patterns(problem: qra.Problem) -> qra.GradientFlow:
    """RLVR with beta = 0.1 on patterns."""
    return qra.GradientFlow(qra.RLVR(0.1), problem)


def kl_all(problem: qra.Problem) -> qra.GradientFlow:
    """RLVR with beta = 0.5 on patterns and answers."""
    return qra.GradientFlow(qra.RLVR(0.5), problem, "all")


def pad(rows: np.ndarray, width: int = PATTERNS) -> np.ndarray:
    """Rows of patterns with zeros at the end."""
    rows = np.asarray(rows)
    extra = [(0, 0)] * (rows.ndim - 1) + [(0, width - rows.shape[-1])]
    return np.pad(rows, extra)


def _fill(column: np.ndarray) -> np.ndarray:
    missing = LANES - len(column)
    assert missing >= 0, f"at most {LANES} lanes"
    return np.pad(column, [(0, missing)] + [(0, 0)] * (column.ndim - 1))


def batched(function: Callable, dtype=np.float64) -> Callable:
    """`function` of one lane as an engine; its first two arguments are probabilities and rates.

    One lane after the other, and only those given: most calls are of one or two, and each takes the
    steps that it needs itself.
    """
    one_lane = jax.jit(function)  # traced once, for its shapes and for the loop

    @jax.jit
    def over_lanes(count, *columns):
        def of_lane(i):
            return one_lane(*(column[i] for column in columns))

        def body(i, out):
            return jax.tree_util.tree_map(lambda x, row: x.at[i].set(row), out, of_lane(i))

        like = jax.eval_shape(of_lane, 0)
        out = jax.tree_util.tree_map(lambda x: jnp.zeros((LANES, *x.shape), x.dtype), like)
        return jax.lax.fori_loop(0, count, body, out)

    def call(probs, rates, *others):
        columns = [pad(probs), pad(rates), *map(np.asarray, others)]
        count = len(columns[0])
        out = over_lanes(count, *(_fill(column.astype(dtype)) for column in columns))
        return jax.tree_util.tree_map(lambda x: np.asarray(x)[:count], out)

    return call


def one(engine: Callable, *arguments):
    """An engine called with a single lane."""
    out = engine(*(np.asarray(argument)[None] for argument in arguments))
    return jax.tree_util.tree_map(lambda x: x[0], out)


def by_both(function: Callable, dtype=np.float64) -> Callable:
    """Engine of `function(method, ...) -> (log time, status, ...)`, exactly and by the ODE."""
    engines = (
        batched(functools.partial(function, method), dtype) for method in (qra.Exact(), qra.ODE())
    )
    return agreeing(*engines, dtype)


def agreeing(exact: Callable, ode: Callable, dtype) -> Callable:
    """Both engines at once: they must agree; what is returned is the exact one."""

    def call(*columns):
        found, other = exact(*columns), ode(*columns)
        keys = ("log_time", "status") if isinstance(found, dict) else (0, 1)
        (log_time, status), (log_time_ode, status_ode) = (
            [out[key] for key in keys] for out in (found, other)
        )
        # Only the exact route goes on past the largest number.
        beyond = (status_ode == qra.Status.OVERFLOW) & (status == qra.Status.EVENT)
        assert np.all(log_time[beyond] > np.log(np.finfo(dtype).max) - 12)
        np.testing.assert_array_equal(status[~beyond], status_ode[~beyond])
        tolerance = 1e-6 if dtype == np.float64 else 1e-3
        np.testing.assert_allclose(
            log_time[~beyond], log_time_ode[~beyond], rtol=tolerance, atol=tolerance
        )
        return found

    return call


def _entanglement(make_flow, method, probs, rates):
    policy, problem = qra.two_stage(probs, rates)
    flow = make_flow(problem)
    found = qra.times.entanglement(policy, flow, method=method)
    final = jax.vmap(lambda p: p.pattern_table(problem))(found.policy)
    return {
        "log_time": found.log_time[0],
        "status": found.status[0],
        "num_steps": found.num_steps[0],
        "probs": final[0][0, 0],
        "regime": qra.regime(policy, flow)[0],
        "gamma": qra.entanglement_ratio(policy, flow)[0],
    }


def entanglement(
    make_flow: Callable = rlvr, method: qra.solvers.AbstractMethod | None = None, dtype=np.float64
):
    """Engine `(probs, rates)`: log T0, how its solve ended, regime and gamma."""
    if method is None and make_flow is rlvr:
        engines = (_entangled_by(make_flow, one, dtype) for one in (qra.Exact(), qra.ODE()))
        return agreeing(*engines, dtype)
    return _entangled_by(make_flow, method, dtype)


@functools.cache
def _entangled_by(make_flow, method, dtype):
    return batched(functools.partial(_entanglement, make_flow, method), dtype)


@functools.cache
def convergence():
    """Engine `(probs, rates, eps)`: `(log T_eps, status, final probabilities)`."""

    def function(method, probs, rates, eps):
        policy, problem = qra.two_stage(probs, rates)
        found = qra.times.convergence(policy, problem, eps, method=method)
        final = jax.vmap(lambda p: p.pattern_table(problem)[0])(found.policy)
        return found.log_time[0], found.status[0], final[0, 0]

    return by_both(function)


@functools.cache
def time_to_accuracy():
    """Engine `(probs, rates, level)`: log of the time."""

    def function(method, probs, rates, level):
        policy, problem = qra.two_stage(probs, rates)
        log_time = qra.log_time_to_accuracy(policy, problem, level, method=method)[0]
        return log_time, jnp.isnan(log_time)

    engine = by_both(function)
    return lambda *columns: engine(*columns)[0]


def summary(trajectory: qra.Trajectory) -> dict:
    """What tests look at in the trajectory of a single question."""
    return {
        "probs": trajectory.pattern_probs[:, 0],
        "logits": trajectory.policy.pattern_logits[:, 0],
        "accuracy": trajectory.accuracy,
        "log_times": trajectory.log_times,
        "valid": trajectory.valid,
        "status": trajectory.status,
        "event": trajectory.event,
        "num_steps": trajectory.num_steps,
        "final_log_time": trajectory.final_log_time,
        "final_policy": trajectory.final_policy,
    }


@functools.cache
def follow(make_flow: Callable = rlvr, method: qra.ODE = TIGHT, dtype=np.float64):
    """Engine `(probs, rates, log_times)`: a trajectory; its number of rows is part of the shape."""

    def function(probs, rates, log_times):
        policy, problem = qra.two_stage(probs, rates)
        return summary(
            qra.solve_flow(policy, make_flow(problem), log_times=log_times, method=method)
        )

    return batched(function, dtype)


@functools.cache
def fine_tune():
    """Engine `(probs, shares, log_times)`: pattern probabilities after SFT on the shares."""

    def function(probs, shares, log_times):
        policy, problem = qra.two_stage(probs, jnp.full_like(probs, 0.5))
        flow = qra.GradientFlow(qra.SFT(shares), problem)
        return qra.solve_flow(policy, flow, log_times=log_times).pattern_probs[:, 0]

    return batched(function)


class Stops(NamedTuple):
    """Levels at which the events of `stops` happen, out of reach if not given."""

    best_reaches: float = 1 - 1e-15
    accuracy_rises: float = 2.0
    accuracy_falls: float = -1.0
    log_time: float = 600.0
    peaking_pattern: float = 0.0
    slowest: float = 1e-290
    others_left: float = 1e-200


@functools.cache
def stops():
    """Engine `(probs, rates, *Stops)`: `(log time, its status, which event, probabilities)`.

    Pattern 0 must be the best: its logit never peaks.
    """

    def function(method, probs, rates, *levels):
        policy, problem = qra.two_stage(probs, rates)
        level = Stops(*levels)
        best = jnp.arange(PATTERNS) == 0
        events = (
            qra.PatternReaches(0, level.best_reaches),
            qra.AccuracyReaches(level.accuracy_rises),
            qra.AccuracyReaches(level.accuracy_falls, 0, "falling"),
            qra.flows.TimeReached(level.log_time),
            qra.LogitPeaks(level.peaking_pattern.astype(int)),
            qra.flows.Stationary(level.slowest),
            qra.PatternReaches(best, shortfall=level.others_left),
        )
        found = qra.event_time(policy, problem, events, method=method)
        probs, _ = found.policy.pattern_table(problem)
        return found.log_time, found.status, found.event, probs[0]

    return by_both(function)


@functools.cache
def follow_until():
    """Engine `(probs, rates, log_times, level)`: rows until accuracy reaches the level."""

    def function(method, probs, rates, log_times, level):
        policy, problem = qra.two_stage(probs, rates)
        event = qra.AccuracyReaches(level)
        traj = qra.solve_flow(policy, problem, log_times=log_times, until=event, method=method)
        return traj.final_log_time, traj.status, summary(traj)

    engine = by_both(function)
    return lambda *columns: engine(*columns)[2]


@functools.cache
def rest(make_flow: Callable):
    """Engine `(probs, rates)`: where a flow with an interior optimum stops, and that optimum."""

    def function(probs, rates):
        policy, problem = qra.two_stage(probs, rates)
        flow = make_flow(problem)
        found = summary(qra.solve_flow(policy, flow))
        return found, qra.laws.optimal_policy(policy, flow)

    return batched(function)


def log_time_rows(first: float, last: float) -> np.ndarray:
    """`ROWS` log times from times `first` to `last`."""
    return np.linspace(np.log(first), np.log(last), ROWS)
