"""How many further rollouts would settle what is open: by simulating them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..objectives._objective import Objective
from ..posteriors._posteriors import AbstractPosterior
from ._bands import band
from ._result import OpenPoint
from ._solve import Solver, Tables, regime_counts, regimes_of

DOUBLINGS = 10
SETTLED, NARROW = 0.9, 1.0
_FUTURES, _WITHIN = 32, 99
_QUESTIONS = 16
_SOLVED = 16  # futures whose times are solved for
_LN10 = float(np.log(10))


class Future(NamedTuple):
    """What is expected after further rollouts: the largest regime probability of each question
    (mean over futures), and draws from each of the posteriors."""

    settled: Float[np.ndarray, " Q"]
    probs: Float[np.ndarray, "F D Q R"]
    rates: Float[np.ndarray, "F D Q R"]


@eqx.filter_jit
def _later(posterior: AbstractPosterior, objective: Objective, samples, correct, key):
    """The posteriors after each of F further counts `(F, Q, R)`."""
    kinds = regimes_of(objective)

    def one(task):
        key, *counts = task
        drawn = posterior.updated(*counts).draw(key, _WITHIN)
        return regime_counts(kinds(*drawn)).max(axis=-1), *drawn

    return jax.lax.map(one, (jax.random.split(key, samples.shape[0]), samples, correct))


def future_posteriors(
    posterior: AbstractPosterior,
    objective: Objective,
    truths: Tables,
    rollouts: Float[np.ndarray, " Q"],
    seed: tuple[int, int],
) -> Future:
    """Posteriors after so many further rollouts of each question, drawn from some of the present
    one's draws."""
    rng = np.random.default_rng(seed)
    probs, rates = (x[:_FUTURES] for x in truths)
    probs = probs / probs.sum(axis=-1, keepdims=True)
    samples = rng.multinomial(np.broadcast_to(rollouts.astype(int), probs.shape[:-1]), probs)
    correct = rng.binomial(samples, rates)
    counts = [jnp.asarray(x, truths.probs.dtype) for x in (samples, correct)]
    key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
    found = _later(posterior, objective, counts[0], counts[1], key)
    largest, probs, rates = (np.asarray(x) for x in found)
    return Future(largest.mean(axis=0), probs, rates)


def open_points(
    posterior: AbstractPosterior,
    objective: Objective,
    solver: Solver,
    samples: Float[np.ndarray, " Q"],
    weights: Float[np.ndarray, " Q"],
    truths: Tables,
    settled: float,
    width: float,
    seed: int,
    rollouts: tuple[int, int | None] | None = None,
) -> tuple[OpenPoint, ...]:
    """What is open, and the further rollouts that are expected to settle it.

    **Arguments:** `samples`: rollouts of each question; `truths`: draws of what may be true;
    `settled`: the largest regime probability now (mean over questions); `width`: of the 90 %
    interval of log10 of the convergence time (of the median question); `rollouts`: how many these
    are, and of each question, where `samples` are the independent ones that they are worth.
    """
    total, each = (int(samples.sum()), None) if rollouts is None else rollouts
    points = []
    most = (2**DOUBLINGS - 1) * total

    # Some of many questions stand for all.
    some = np.unique(np.linspace(0, len(samples) - 1, _QUESTIONS).astype(int))
    posterior = posterior.of_questions(some)
    truths = Tables(*(x[:, some] for x in truths))

    @functools.cache
    def future(doubling: int) -> Future:
        further = (2**doubling - 1) * samples[some]
        return future_posteriors(posterior, objective, truths, further, (seed, doubling))

    if settled < SETTLED:
        after = _first(lambda i: float(np.mean(future(i).settled)) >= SETTLED)
        text = f"the regime is not settled: its largest probability is {settled:.2f}"
        points.append(
            OpenPoint(
                "regime", text, settled, SETTLED, after and (2**after - 1) * total, most, each
            )
        )
    if not width <= NARROW:
        # Solves of all futures of many questions would take longer than the diagnosis itself.
        alone = len(samples) == 1
        after = None
        if alone:
            after = _first(lambda i: _expected_width(solver, future(i), weights) <= NARROW)
        known = f"within a factor of {10**width:.3g}" if np.isfinite(width) else "without a bound"
        text = f"the convergence time is known {known} only (90 % interval)"
        further = after and (2**after - 1) * total
        points.append(
            OpenPoint("convergence time", text, width, NARROW, further, most if alone else 0, each)
        )
    return tuple(points)


def _first(enough: Callable[[int], bool]) -> int | None:
    """The first doubling that is enough, if more is enough wherever less is; None if none is."""
    low, high = 0, DOUBLINGS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _expected_width(solver: Solver, future: Future, weights: np.ndarray) -> float:
    probs, rates = (x[:_SOLVED] for x in (future.probs, future.rates))
    shape = probs.shape
    tables = Tables(*(x.reshape(-1, *shape[2:]) for x in (probs, rates)))
    log_times = solver.times(tables, weights).log_convergence.reshape(shape[:3])
    # Of the median future: a few may have no bound.
    return float(np.median(width_of(np.moveaxis(log_times, 1, 0))))


def width_of(log_times: np.ndarray) -> np.ndarray:
    """The width of the 90 % interval of log10 time, of draws along the first axis.

    A time of 0 counts as 1: nothing is gained by telling the two apart.
    """
    found = band(np.maximum(log_times / _LN10, 0))
    with np.errstate(invalid="ignore"):
        return np.where(found.high == found.low, 0, found.high - found.low)
