"""Walks along orbits: how many steps they take, what batches change, other events and utilities."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.flows import AbstractEvent
from tests._support import systems

RATES = np.array([0.9, 0.7, 0.1])


def start(logits, utility=qra.objectives.Mean()):
    """The check case's rates, from other logits."""
    _, problem = qra.two_stage(np.full(3, 1 / 3), RATES)
    answers = qra.two_stage(np.full(3, 1 / 3), RATES)[0].answer_logits
    objective = qra.Objective(qra.objectives.Verifiable(), utility=utility)
    return qra.TabularPolicy(logits[None], answers), qra.GradientFlow(objective, problem)


@jax.jit
def passage(logits):
    """log T0, steps, and the logits at T0."""
    found = qra.times.entanglement(*start(logits), method=qra.Exact())
    return found.log_time[0], found.num_steps[0], found.policy.pattern_logits[0, 0]


def rare(log10: float) -> np.ndarray:
    """The best pattern at a power of 10, below all others."""
    share = 10.0**log10
    return np.log([share, 0.7 * (1 - share), 0.3 * (1 - share)])


def test_steps_do_not_grow_with_the_time():
    """pi_* = 10^-30 takes at most twice the steps of 10^-5, and 10^-300 at most 12 times those of
    10^-30; times by the law."""
    steps = {}
    for power in (-5, -8, -30, -100, -300):
        log_time, steps[power], _ = passage(rare(power))
        policy, flow = start(rare(power))
        expected = float(qra.laws.log_entanglement_time_law(policy, flow).value[0])
        assert float(log_time) == pytest.approx(expected, abs=2e-3 if power == -5 else 1e-6)
    assert steps[-30] < 2 * steps[-5]
    # What is left is the climb from the start, whose x lie as far apart.
    assert steps[-300] < 12 * steps[-30]


LOGITS = np.random.default_rng(3).normal(size=(8, 3)) - 4 * np.array([1.0, 0.0, 0.5])


def test_rows_do_not_notice_their_neighbours():
    """To the last bit: in another order, and beside other problems."""
    every = jax.jit(jax.vmap(passage))
    times, steps, logits = every(LOGITS)
    order = np.array([3, 7, 0, 5, 1, 2, 6, 4])
    for found, expected in zip(every(LOGITS[order]), (times, steps, logits), strict=True):
        np.testing.assert_array_equal(found, np.asarray(expected)[order])
    beside = np.concatenate([LOGITS[2:5], np.tile(rare(-30), (5, 1))])
    for found, expected in zip(every(beside), (times, steps, logits), strict=True):
        np.testing.assert_array_equal(np.asarray(found)[:3], np.asarray(expected)[2:5])


def test_however_a_function_is_mapped():
    """One problem, vmap, vmap of vmap and lax.map give the same times; more than one chunk too."""
    alone = np.array([passage(row)[0] for row in LOGITS[:4]])
    many = np.tile(LOGITS, (20, 1))
    nested = jax.vmap(jax.vmap(passage))(LOGITS.reshape(2, 4, 3))[0].ravel()
    mapped = jax.lax.map(passage, LOGITS)[0]
    chunks = jax.jit(jax.vmap(passage))(many)[0].reshape(20, 8)
    np.testing.assert_allclose(nested[:4], alone, rtol=1e-13)
    np.testing.assert_allclose(mapped, nested, rtol=1e-13)
    np.testing.assert_allclose(chunks, np.tile(nested, (20, 1)), rtol=1e-13)
    np.testing.assert_array_equal(chunks, np.tile(np.asarray(chunks)[:1], (20, 1)))


class Reaches(AbstractEvent):
    """V of the only question reaches a level, as a user would write it: any function of a state."""

    level: jax.Array

    def validate(self, policy, problem):
        """Fits all."""

    def value(self, state):
        probs, values = state.policy.pattern_table(state.flow.problem)
        return jnp.sum(probs * values) - self.level


def test_an_event_of_ones_own():
    """Looked for as a function of the state: the time and its gradient of the known event."""
    level = jnp.asarray(0.75)

    def log_time(logits, event):
        return qra.event_time(*start(logits), event, method=qra.Exact()).log_time

    def both(logits, event):
        return jax.value_and_grad(log_time)(logits, event)

    own, own_slope = jax.jit(both)(LOGITS[0], Reaches(level))
    known, slope = jax.jit(both)(LOGITS[0], qra.flows.ValueReaches(level, 0))
    assert float(own) == pytest.approx(float(known), rel=1e-10)
    np.testing.assert_allclose(own_slope, slope, rtol=1e-7)


ALONG = np.array([1.0, -0.5, 0.3])


def along(utility):
    """log T0 as the logits move."""

    def log_t0(s):
        policy, flow = start(LOGITS[1] + s * jnp.asarray(ALONG), utility)
        return qra.log_entanglement_time(policy, flow, method=qra.Exact())[0]

    return log_t0


def test_second_derivative():
    """Forward over reverse, as `jax.hessian` does it, against differences in 30 digits."""
    second = jax.jit(jax.hessian(along(qra.objectives.Mean())))(0.0)
    with mpmath.workdps(systems.ExactFlow.digits):
        step = mpmath.mpf("1e-6")

        def exact(s):
            moved = zip(LOGITS[1], ALONG, strict=True)
            weights = [mpmath.exp(mpmath.mpf(x) + s * mpmath.mpf(by)) for x, by in moved]
            probs = [weight / sum(weights) for weight in weights]
            return systems.exact_log_entanglement_time(probs, RATES)

        expected = (exact(step) - 2 * exact(0) + exact(-step)) / step**2
    assert float(second) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
def test_second_derivative_of_a_utility():
    """The same of Tsallis, against differences of gradients."""
    log_t0 = along(qra.objectives.Tsallis(0.5))
    slope = jax.grad(log_t0)
    second, left, right = jax.jit(lambda h: (jax.hessian(log_t0)(0.0), slope(-h), slope(h)))(1e-4)
    assert float(second) == pytest.approx(float((right - left) / 2e-4), rel=1e-6)


@functools.cache
def rows_of():
    """Logits at times as a compiled function, with its derivative in the logarithm of the time."""

    def states(logits, log_times):
        policy, flow = start(logits)
        solved = qra.solve_flow(policy, flow, log_times=log_times, method=qra.Exact())
        return solved.policy.pattern_logits[:, 0]

    def both(logits, log_times):
        ones = jnp.ones_like(log_times)
        return jax.jvp(lambda times: states(logits, times), (log_times,), (ones,))

    return jax.jit(both)


def test_rows_move_with_their_times():
    """d theta / d log t is t times the velocity, at rows as dense as rounding allows, too."""
    log_times = np.sort(np.concatenate([np.linspace(-3, 9, 20), 2 + 1e-9 * np.arange(5)]))
    logits, slopes = rows_of()(LOGITS[2], log_times)
    probs = jax.nn.softmax(logits)
    velocity = probs * (RATES[None] - (probs @ RATES)[:, None])
    expected = np.exp(log_times)[:, None] * velocity
    np.testing.assert_allclose(slopes, expected, rtol=1e-8, atol=1e-10)
