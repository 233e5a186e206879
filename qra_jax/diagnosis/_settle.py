"""How many further rollouts would settle what is open: by simulating them."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._objective import Objective
from .._posterior import AbstractPosterior
from ._result import OpenPoint, band
from ._solve import Solver, Tables, regime_counts, regimes_of

DOUBLINGS = 10
SETTLED, NARROW = 0.9, 1.0
_FUTURES, _WITHIN = 48, 99
_LN10 = float(np.log(10))


def multinomial(
    key: PRNGKeyArray, number: Float[Array, "*Q"], probs: Float[Array, "*Q R"]
) -> Float[Array, "*Q R"]:
    """Multinomial counts, one binomial after the other."""
    keys = jax.random.split(key, probs.shape[-1])

    def one(carry, task):
        left, mass = carry
        key, prob = task
        share = jnp.clip(prob / jnp.where(mass > 0, mass, 1), 0, 1)
        count = jax.random.binomial(key, left, share, dtype=probs.dtype)
        return (left - count, jnp.maximum(mass - prob, 0)), count

    mass = jnp.flip(jnp.cumsum(jnp.flip(probs, -1), axis=-1), -1)
    # All that is left goes to the last pattern there is.
    tasks = keys, jnp.moveaxis(probs, -1, 0)
    (left, _), counts = jax.lax.scan(one, (number, mass[..., 0]), tasks)
    counts = jnp.moveaxis(counts, 0, -1)
    last = jnp.argmax(probs, axis=-1)
    return counts + left[..., None] * (jnp.arange(probs.shape[-1]) == last[..., None])


class Future(NamedTuple):
    """What is expected after further rollouts: the largest regime probability of each question
    (mean over futures), and draws from each of the posteriors."""

    settled: Float[Array, " Q"]
    probs: Float[Array, "F D Q R"]
    rates: Float[Array, "F D Q R"]


@eqx.filter_jit
def _futures(
    posterior: AbstractPosterior,
    objective: Objective,
    rollouts: Float[Array, " Q"],
    key: PRNGKeyArray,
) -> Future:
    """Posteriors after so many further rollouts of each question, drawn from the present one."""
    kinds = regimes_of(objective)

    def one(index):
        keys = jax.random.split(jax.random.fold_in(key, index), 4)
        probs, rates = posterior.sample(keys[0])
        samples = multinomial(keys[1], rollouts, probs)
        correct = jax.random.binomial(keys[2], samples, rates, dtype=probs.dtype)
        later = posterior.updated(samples, correct)
        drawn = later.draw(keys[3], _WITHIN)
        return regime_counts(kinds(*drawn)).max(axis=-1), *drawn

    largest, probs, rates = jax.lax.map(one, jnp.arange(_FUTURES))
    return Future(jnp.mean(largest, axis=0), probs, rates)


def open_points(
    posterior: AbstractPosterior,
    objective: Objective,
    solver: Solver,
    samples: Float[np.ndarray, " Q"],
    weights: Float[np.ndarray, " Q"],
    settled: float,
    width: float,
    key: PRNGKeyArray,
) -> tuple[OpenPoint, ...]:
    """What is open, and the further rollouts that are expected to settle it.

    **Arguments:** `samples`: rollouts of each question; `settled`: the largest regime probability
    now (mean over questions); `width`: of the 90 % interval of log10 of the convergence time (mean
    over questions).
    """
    open_regime, open_time = settled < SETTLED, not width <= NARROW
    total = int(samples.sum())
    wanted: dict[str, int | None] = {"regime": None, "time": None}
    # Solves of all futures of many questions would take longer than the diagnosis itself.
    solve_times = open_time and len(samples) == 1
    tried = 0
    for doubling in range(1, DOUBLINGS + 1):
        missing_regime = open_regime and wanted["regime"] is None
        missing_time = solve_times and wanted["time"] is None
        if not (missing_regime or missing_time):
            break
        further = (2**doubling - 1) * samples
        tried = int(further.sum())
        future = _futures(posterior, objective, jnp.asarray(further), key)
        if missing_regime and float(np.mean(future.settled)) >= SETTLED:
            wanted["regime"] = tried
        if missing_time and _expected_width(solver, future, weights) <= NARROW:
            wanted["time"] = tried
    points = []
    if open_regime:
        text = "the regime is not settled: its largest probability is {:.2f}"
        points.append(
            OpenPoint("regime", text.format(settled), settled, SETTLED, wanted["regime"], tried)
        )
    if open_time:
        text = "the convergence time is known to within {} only (90 % interval)"
        how = f"a factor of {10**width:.3g}" if np.isfinite(width) else "no bounds"
        points.append(
            OpenPoint(
                "convergence time",
                text.format(how),
                width,
                NARROW,
                wanted["time"],
                tried if solve_times else 0,
            )  # fmt: skip
        )
    return tuple(points) if total else ()


def _expected_width(solver: Solver, future: Future, weights: np.ndarray) -> float:
    probs, rates = (np.asarray(x) for x in (future.probs, future.rates))
    shape = probs.shape
    tables = Tables(*(x.reshape(-1, *shape[2:]) for x in (probs, rates)))
    log_times = solver.times(tables, weights).log_convergence.reshape(shape[:3])
    return float(np.mean(width_of(np.moveaxis(log_times, 1, 0))))


def width_of(log_times: np.ndarray) -> np.ndarray:
    """The width of the 90 % interval of log10 time, of draws along the first axis.

    A time of 0 counts as 1: nothing is gained by telling the two apart.
    """
    found = band(np.maximum(log_times / _LN10, 0))
    with np.errstate(invalid="ignore"):
        return np.where(found.high == found.low, 0, found.high - found.low)
