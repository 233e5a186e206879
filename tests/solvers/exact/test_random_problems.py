"""100,000 random problems: no error beyond ten times tol; how many are above tol is printed.

`pytest -m slow -rP tests/solvers/exact/test_random_problems.py` solves each at two tolerances, and
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
    """Logits and rewards: spreads from 1 to hundreds of nats, near ties, exact ties, patterns that
    are absent or (as often) of a share of about e^-700."""
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
        logits[absent] = np.where(rng.random(absent.sum()) < 0.5, -np.inf, -700)
    return np.where(logits > -np.inf, np.clip(logits, -700, 700), -np.inf), rewards


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


HARD = (
    # logits, rewards, log T0 and log T_eps in many digits (`in_many_digits`)
    (
        [-58.10372242936146, 7.295788481705662, -46.88433900220118, 41.75154251328965, -700.0],
        [
            0.7332108118408696, 0.7332108118408696, 0.4492122906297188,
            0.18866499651249113, 0.7359272694882185,
        ],
        (2115.0135275022235, 2115.5367756459877),
    ),
    (
        [-61.36891411271095, 175.66145353447826, -700.0, -700.0, -36.30422086216147],
        [
            0.623296462628375, 0.10517072917578796, 0.897728149054592,
            0.9198191176722114, 0.623296462628375,
        ],
        (1538.7179075292765, 1538.7179075292765),
    ),
    (
        [-69.7106313983919, 34.984317915424555, -700.0, 47.32478591380742, -700.0],
        [
            0.2985836846061901, 0.3345284376694392, 0.26775075701201834,
            0.3345284376694392, 0.9894539628083502,
        ],
        (1372.7176411861838, 1373.3928101553486),
    ),
    (
        [-47.36987451771217, 71.34868629675185, -700.0, -37.53921659396486, 66.8806370357533],
        [
            0.0050444858197818965, 0.5018243325503149, 0.8166304186155185,
            0.15149696528342993, 0.5018243325503149,
        ],
        (2085.138804185756, 2085.6620523295205),
    ),
)  # fmt: skip


def test_hard_problems():
    """A best pattern of share e^-700 behind two that tie. Three of these times were wrong once, by
    up to 51 in log time: a hand-over was crossed at once beyond which most of the time passes, and
    a balance was measured beside the share of a pattern that has no part in it."""
    logits, rewards, exact = (np.array(x) for x in zip(*HARD, strict=True))
    *times, first, second = solved(logits, rewards, TOL)
    np.testing.assert_allclose(np.stack(times, axis=1), exact, rtol=0, atol=TOL)
    assert np.all(first == int(qra.Status.EVENT))
    assert np.all(second == int(qra.Status.EVENT))


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


def looked_at(gaps: np.ndarray, logits: np.ndarray, rewards: np.ndarray) -> list[int]:
    """Which are solved in many digits: those whose two tolerances differ most, some of all, and
    some in which the best pattern is rare and others tie."""
    number, patterns = rewards.shape
    most = 2 if patterns > 16 else 8
    ordered = np.sort(rewards, axis=1)
    tied = np.any(np.diff(ordered, axis=1) == 0, axis=1)
    rare = np.take_along_axis(logits, rewards.argmax(axis=1)[:, None], 1)[:, 0] < -100
    chosen = [*np.argsort(gaps)[-most:], *range(0, number, number // (2 * most))]
    return [int(i) for i in (*chosen, *np.flatnonzero(tied & rare)[: 2 * most])]


@pytest.mark.slow
@pytest.mark.parametrize("patterns", MANY)
def test_random_problems(patterns):
    number = MANY[patterns]
    logits, rewards = problems(patterns, number)
    loose, tight = (solved(logits, rewards, tol) for tol in (TOL, 1e-12))
    gaps = np.maximum(*(far(a, b) for a, b in zip(loose[:2], tight[:2], strict=True)))
    failed = np.any(np.stack([*loose[2:], *tight[2:]]) >= int(qra.Status.MAX_STEPS), axis=0)
    gaps = np.where(failed, 0, gaps)
    worst, counted = 0.0, 0
    for i in looked_at(gaps, logits, rewards) if patterns > 1 else []:
        if not failed[i]:
            exact = in_many_digits(logits[i], rewards[i])
            worst = max(worst, *(float(far(loose[k][i], exact[k])) for k in range(2)))
            counted += 1
    print(
        f"K = {patterns}: {number} problems, {failed.sum()} that say they failed, two tolerances "
        f"at most {gaps.max():.2g} apart, {np.sum(gaps > TOL)} by more than tol, {counted} in many "
        f"digits at most {worst:.2g} off"
    )
    assert max(worst, gaps.max()) <= 10 * TOL
