"""100,000 random problems: no error above tol that is not said.

`pytest -m slow -s tests/solvers/exact/test_random_problems.py` solves each at two tolerances, and
those that differ most, with others drawn at random, in many digits; docs/exact.md has what came of
it.
"""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import qra_jax as qra
from tests._support.reference import generate

TOL, EPS = 1e-10, 0.01
MANY = {1: 2_000, 2: 18_000, 3: 20_000, 5: 20_000, 8: 20_000, 16: 12_000, 64: 6_000, 256: 2_000}


def problems(patterns: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and rewards: spreads from 1 to 700 nats, near ties, exact ties, absent patterns."""
    rng = np.random.default_rng([7, patterns])
    logits = rng.normal(size=(number, patterns))
    logits *= rng.choice([1, 3, 10, 40, 120], size=(number, 1))
    rewards = rng.random((number, patterns))
    every = np.arange(number)
    one, other = rng.integers(0, patterns, (2, number))
    near = 10.0 ** rng.uniform(-12, -1, number)
    near = np.where(rng.random(number) < 0.2, 0, near)
    tied = rng.random(number) < 0.3
    rewards[every[tied], other[tied]] = (rewards[every, one] * (1 - near))[tied]
    if patterns > 2:
        absent = rng.random((number, patterns)) < 0.15
        absent[:, :2] = False
        logits[absent] = -np.inf
    return np.clip(logits, -700, 700), rewards


def solved(logits: np.ndarray, rewards: np.ndarray, tol: float) -> list[np.ndarray]:
    """Both log times `(N,)` of each problem, and their statuses."""

    def one(given):
        logits, rewards = given
        policy = qra.TabularPolicy(logits[None], jnp.zeros((1, len(logits), 2)))
        problem = qra.Problem(jnp.zeros(1, int), jnp.ones(1))
        flow = qra.GradientFlow(qra.Objective(qra.PatternReward(rewards)), problem)
        found = qra.passage_times(policy, flow, eps=EPS, method=qra.Exact(tol))
        times = found.log_entanglement_time[0], found.log_convergence_time[0]
        return *times, found.entanglement_status[0], found.convergence_status[0]

    run = jax.jit(lambda *x: jax.lax.map(one, x, batch_size=1024))
    return [np.asarray(x) for x in run(jnp.asarray(logits), jnp.asarray(rewards))]


def in_many_digits(logits: np.ndarray, rewards: np.ndarray) -> tuple[float, float]:
    there = logits > -np.inf
    with mpmath.workdps(generate.DIGITS):
        orbit = generate.Orbit(logits[there].tolist(), rewards[there].tolist())
        first = generate.log_entanglement_time(orbit)
        return float(first), float(generate.log_convergence_time(orbit, EPS))


def far(a, b):
    """How far apart log times are; equal infinities not at all, NaN beside a number infinitely."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.asarray(a) - np.asarray(b))
    same = (np.asarray(a) == np.asarray(b)) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0, np.where(np.isnan(gap), np.inf, gap))


@pytest.mark.slow
def test_random_problems():
    for patterns, number in MANY.items():
        logits, rewards = problems(patterns, number)
        loose, tight = (solved(logits, rewards, tol) for tol in (TOL, 1e-12))
        gaps = np.maximum(*(far(a, b) for a, b in zip(loose[:2], tight[:2], strict=True)))
        failed = np.any(np.stack(loose[2:]) >= int(qra.Status.MAX_STEPS), axis=0)
        gaps = np.where(failed, 0, gaps)
        most = 2 if patterns > 16 else 6
        chosen = [*np.argsort(gaps)[-most:], *range(0, number, max(1, number // (2 * most)))]
        worst = 0.0
        for i in chosen if patterns > 1 else []:
            if failed[i]:
                continue
            exact = in_many_digits(logits[i], rewards[i])
            worst = max(worst, *(float(far(loose[k][i], exact[k])) for k in range(2)))
        print(
            f"K = {patterns}: {number} problems, {failed.sum()} that say they failed, two "
            f"tolerances at most {gaps.max():.2g} apart, {len(chosen)} in many digits at most "
            f"{worst:.2g} off",
            flush=True,
        )
        assert gaps.max() <= TOL
        assert worst <= TOL
