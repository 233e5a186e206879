"""Forecasts over optimiser steps: one unknown time scale, training noise, logged accuracies."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._core.checks import require, require_all
from ..training._groups import SampledGroups
from ._noise import StepNoise
from ._result import LEVELS, Band, StepForecast, weighted_band
from ._solve import ROWS, Solver, Tables

_SCALES = 128
_LEAST = 1e-12  # a chance that no count makes impossible


class Plan(NamedTuple):
    """What a forecast over steps starts from.

    `logs`: `(L, 3)`, steps, right answers and samples. `patterns`: `(L, R)`, how many of these used
    each pattern, if that is known. `scale_range`: of the time per step; both ends equal where it is
    known.
    """

    steps: Int[np.ndarray, " T"]
    logs: Float[np.ndarray, "L 3"]
    patterns: Float[np.ndarray, "L R"] | None
    scale_range: tuple[float, float]

    @property
    def known(self) -> bool:
        return self.scale_range[0] == self.scale_range[1]

    @property
    def counts(self) -> Float[np.ndarray, "L C"]:
        """What the fit reads: samples by pattern, where that is known, else right and wrong ones.
        Given its pattern, whether a sample is right says nothing of the training."""
        if self.patterns is not None:
            return self.patterns
        _, right, samples = self.logs.T
        return np.stack([right, samples - right], axis=1)


def check_logs(logged: object) -> Float[np.ndarray, "L 3"]:
    """Logged accuracies as `(L, 3)`: steps, right answers, samples.

    **Raises:** `ValueError` unless steps are whole numbers that rise from 0 or more, and right
    answers lie between 0 and the samples.
    """
    logs = np.zeros((0, 3)) if logged is None else np.asarray(logged, float)
    require(logs.ndim == 2 and logs.shape[1] == 3, "logged", "have shape (L, 3)", logs.shape)
    steps, right, samples = logs.T
    require_all(steps, lambda x: (x >= 0) & (x == np.floor(x)), "logged steps", "be whole numbers")
    require(bool(np.all(np.diff(steps) > 0)), "logged steps", "rise", steps)
    require_all(samples, lambda x: (x > 0) & (x < np.inf), "logged samples", "be above 0")
    require_all(right, lambda x: x >= 0, "logged right answers", "be at least 0")
    require_all(samples - right, lambda x: x >= 0, "logged samples - right", "be at least 0")
    return logs


def check_patterns(
    logged: object, logs: Float[np.ndarray, "L 3"]
) -> Float[np.ndarray, "L R"] | None:
    """Logged counts of patterns as `(L, R)`, if there are any.

    **Raises:** `ValueError` unless they have a row for each of the logs, are at least 0, and sum to
    no more than its samples.
    """
    if logged is None:
        return None
    counts, name = np.asarray(logged, float), "logged_patterns"
    number = len(logs)
    must = f"have shape ({number}, R), a row for each of logged"
    require(counts.ndim == 2 and len(counts) == number, name, must, counts.shape)
    require_all(counts, lambda x: (x >= 0) & (x < np.inf), name, "be at least 0")
    spare = logs[:, 2] - counts.sum(axis=1)
    # Expected counts need not be whole, and their sum rounds.
    spare = np.where(np.abs(spare) <= 1e-9 * logs[:, 2], 0, spare)
    require_all(spare, lambda x: x >= 0, f"logged samples - {name}", "be at least 0")
    return counts


class Curves(NamedTuple):
    """Accuracy and pattern shares of all draws on a grid of log times."""

    log_times: Float[np.ndarray, " J"]
    accuracy: Float[np.ndarray, "D J"]
    shares: Float[np.ndarray, "D J R"]
    start: Float[np.ndarray, " D"]
    start_shares: Float[np.ndarray, "D R"]

    @classmethod
    def solve(cls, solver: Solver, tables: Tables, weights, first: float, last: float) -> "Curves":
        """Evenly spaced log times, from `first` to `last`."""
        log_times = np.linspace(first, max(last, first + 1e-3), ROWS)
        accuracy, shares, _ = solver.follow(tables, weights, log_times)
        start = tables.accuracy @ weights, np.einsum("q,dqr->dr", weights, tables.probs)
        return cls(log_times, accuracy, shares, *start)

    def at(self, log_times: np.ndarray, shares: bool = False) -> np.ndarray:
        """Accuracy, or shares, at log times of any shape S: `(D, *S)` or `(D, *S, R)`.

        Between rows linear in log time; before the first linear in time.
        """
        values, start = (self.shares, self.start_shares) if shares else (self.accuracy, self.start)
        grid = self.log_times
        place = (np.clip(log_times, grid[0], grid[-1]) - grid[0]) / (grid[1] - grid[0])
        below = np.minimum(place.astype(int), len(grid) - 2)
        part = place - below
        early = np.exp(np.minimum(log_times - grid[0], 0))
        extra = (Ellipsis,) + (None,) * (values.ndim - 2)
        mixed = values[:, below] * (1 - part)[extra] + values[:, below + 1] * part[extra]
        before = start.reshape(start.shape[:1] + (1,) * np.ndim(log_times) + start.shape[1:])
        return before + (mixed - before) * early[extra]


def _log_steps(steps: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(steps, float))


class Fit(NamedTuple):
    """Weights of draws and log scales, without training noise: `(D, S)`, their sum 1."""

    curves: Curves
    log_scales: Float[np.ndarray, " S"]
    weights: Float[np.ndarray, "D S"]


def fit_scale(solver: Solver, tables: Tables, weights, plan: Plan) -> Fit:
    """Weigh draws of the base model and time scales by the logged accuracies.

    Scales are equally likely in their logarithm beforehand. A first look over the whole range finds
    where the likelihood is; a second one is made there.
    """
    low, high = map(math.log, plan.scale_range)
    last = np.log(max(1.0, plan.steps[-1], *plan.logs[:, 0]))  # from step 1

    def fit(low: float, high: float) -> Fit:
        curves = Curves.solve(solver, tables, weights, low, high + last)
        scales = np.linspace(low, high, 1 if plan.known else _SCALES)
        log_times = scales[:, None] + _log_steps(plan.logs[:, 0])[None]
        chances = curves.at(log_times, plan.patterns is not None)
        if plan.patterns is None:
            chances = np.stack([chances, 1 - chances], axis=-1)
        log_weights = np.einsum("dslc,lc->ds", np.log(np.maximum(chances, _LEAST)), plan.counts)
        fitted = np.exp(log_weights - log_weights.max())
        return Fit(curves, scales, fitted / fitted.sum())

    found = fit(low, high)
    for _ in range(0 if plan.known or len(plan.logs) == 0 else 2):
        scales, likely = found.log_scales, np.flatnonzero(found.weights.sum(axis=0) > 1e-6)
        ends = max(likely[0] - 1, 0), min(likely[-1] + 1, len(scales) - 1)
        found = fit(*(float(scales[end]) for end in ends))
    return found


def forecast_steps(
    solver: Solver,
    tables: Tables,
    weights: Float[np.ndarray, " Q"],
    plan: Plan,
) -> StepForecast:
    """The forecast without training noise: of infinitely many samples a step."""
    fit = fit_scale(solver, tables, weights, plan)
    mass = fit.weights.ravel()
    keep = np.flatnonzero(mass > 1e-9 * mass.max())
    # At most so many pairs: a systematic sample of them by weight.
    if len(keep) > 4000:
        keep = np.searchsorted(np.cumsum(mass), (np.arange(4000) + 0.5) / 4000)
        keep = np.minimum(keep, len(mass) - 1)
        share = np.full(len(keep), 1 / len(keep))
    else:
        share = mass[keep] / mass[keep].sum()
    draw, scale = np.unravel_index(keep, fit.weights.shape)
    curves, log_steps = fit.curves, _log_steps(plan.steps)
    accuracy, shares = [], []
    for log_step in log_steps:
        # Of each pair its own time.
        own = curves.at(fit.log_scales + log_step), curves.at(fit.log_scales + log_step, True)
        accuracy.append(own[0][draw, scale])
        shares.append(own[1][draw, scale])
    return StepForecast(
        steps=plan.steps,
        accuracy=weighted_band(np.stack(accuracy, axis=1), share),
        pattern_shares=weighted_band(np.stack(shares, axis=1), share),
        log_scale=weighted_band(fit.log_scales[scale], share),
        logged=plan.logs,
        effective_draws=float(1 / np.sum(fit.weights.sum(axis=1) ** 2)),
        noise="",
    )


class _Particles(NamedTuple):
    logits: Float[Array, "P Q R"]
    rates: Float[Array, "P Q R"]
    log_scale: Float[Array, " P"]
    ancestor: Int[Array, " P"]
    log_weight: Float[Array, " P"]


def _resampled(key: PRNGKeyArray, particles: _Particles) -> _Particles:
    """As many particles of equal weight, by systematic resampling."""
    number = particles.log_weight.shape[0]
    passed = jnp.cumsum(jax.nn.softmax(particles.log_weight))
    points = (jnp.arange(number) + jax.random.uniform(key)) / number
    chosen = jnp.minimum(jnp.searchsorted(passed, points * passed[-1]), number - 1)
    kept = jax.tree_util.tree_map(lambda x: x[chosen], particles)
    return kept._replace(log_weight=jnp.zeros_like(kept.log_weight))


def _points(values: Float[Array, "P *N"], shares: Float[Array, " P"]) -> Float[Array, "3 *N"]:
    """The weighted quantiles of a band, over the first axis."""

    def of_one(column):
        order = jnp.argsort(column)
        passed = jnp.cumsum(shares[order])
        rank = jnp.searchsorted(passed, jnp.array(LEVELS) * passed[-1])
        return column[order][jnp.minimum(rank, column.shape[0] - 1)]

    flat = values.reshape(values.shape[0], -1)
    found = jax.vmap(of_one, 1, 1)(flat)
    return found.reshape(3, *values.shape[1:])


def _filter(
    key: PRNGKeyArray,
    noise: StepNoise,
    weights: Float[Array, " Q"],
    particles: _Particles,
    counts: Float[Array, "N C"],
    rows: Int[Array, " T"],
    by_pattern: bool,
):
    """Train all particles step by step; weigh them where something was logged.

    `counts`: of patterns or of right and wrong samples, at step 0, 1, ..., 0 where nothing was
    logged.
    """

    def mean_accuracy(particles: _Particles):
        probs = jax.nn.softmax(particles.logits, axis=-1)
        return probs, jnp.sum(probs * particles.rates, axis=-1) @ weights

    def weighed(step, particles: _Particles):
        probs, accuracy = mean_accuracy(particles)
        if by_pattern:
            chances = jnp.einsum("q,pqr->pr", weights, probs)
        else:
            chances = jnp.stack([accuracy, 1 - accuracy], axis=-1)
        gain = jnp.log(jnp.maximum(chances, _LEAST)) @ counts[step]
        logs = jax.nn.log_softmax(particles.log_weight + gain)
        new = particles._replace(log_weight=logs)
        poor = jnp.exp(-jax.nn.logsumexp(2 * logs)) < logs.shape[0] / 2
        for_step = jax.random.fold_in(jax.random.fold_in(key, 1), step)
        return jax.lax.cond(poor, lambda p: _resampled(for_step, p), lambda p: p, new)

    def look(step, particles):
        seen = jnp.any(counts[step] > 0)
        return jax.lax.cond(seen, lambda p: weighed(step, p), lambda p: p, particles)

    def advance(step, particles: _Particles):
        probs = jax.nn.softmax(particles.logits, axis=-1)
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), step), len(probs))
        ascent = jax.vmap(noise.step, (0, 0, 0, None))(keys, probs, particles.rates, weights)
        scale = jnp.exp(particles.log_scale)[:, None, None]
        return look(step + 1, particles._replace(logits=particles.logits + scale * ascent))

    def row(carry, last):
        first, particles = carry
        particles = jax.lax.fori_loop(first, last, advance, particles)
        probs, accuracy = mean_accuracy(particles)
        shares = jax.nn.softmax(particles.log_weight)
        mixed = jnp.einsum("q,pqr->pr", weights, probs)
        return (last, particles), (_points(accuracy, shares), _points(mixed, shares))

    start = look(jnp.zeros((), rows.dtype), particles)
    (_, final), bands = jax.lax.scan(row, (jnp.zeros((), rows.dtype), start), rows)
    return final, bands


_compiled_filter = jax.jit(_filter, static_argnames="by_pattern")


def _proposed_scales(
    fit: Fit, plan: Plan, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Log scales for particles, and their log weights beside the prior.

    Nine in ten from the fit without noise, widened (its square root), the others from the prior.
    """
    low, high = np.log(plan.scale_range)
    if plan.known:
        return np.full(number, low), np.zeros(number)
    width = (fit.log_scales[-1] - fit.log_scales[0]) / (len(fit.log_scales) - 1)
    wide = np.sqrt(fit.weights.sum(axis=0))
    wide /= wide.sum()
    at = rng.choice(len(wide), size=number, p=wide)
    fitted = fit.log_scales[at] + width * rng.uniform(-0.5, 0.5, number)
    chosen = np.where(rng.uniform(size=number) < 0.9, fitted, rng.uniform(low, high, number))
    near = (chosen - fit.log_scales[0]) / width
    cell = np.round(near).astype(int)
    inside = (cell >= 0) & (cell < len(wide))
    density = np.where(inside, wide[np.clip(cell, 0, len(wide) - 1)] / width, 0)
    # What falls outside the range is impossible beforehand.
    allowed = (chosen >= low) & (chosen <= high)
    mixture = 0.9 * density + 0.1 / (high - low)
    return chosen, np.where(allowed, -np.log((high - low) * mixture), -np.inf)


def forecast_training(
    solver: Solver,
    tables: Tables,
    fresh: Tables,
    weights: Float[np.ndarray, " Q"],
    plan: Plan,
    sampler: SampledGroups,
    seed: int,
) -> StepForecast:
    """The forecast with training noise: every draw of the base model is trained with noise of its
    own, and weighted as the logs come in.

    **Arguments:** `tables`: draws that find the scale without noise; `fresh`: the P draws to train.
    """
    rng = np.random.default_rng([seed, 1])
    number = len(fresh.probs)
    fit = fit_scale(solver, tables, weights, plan)
    log_scale, log_weight = _proposed_scales(fit, plan, number, rng)
    longest = int(max(plan.steps[-1], plan.logs[-1, 0] if len(plan.logs) else 0))
    counts = np.zeros((longest + 1, plan.counts.shape[1]))
    counts[plan.logs[:, 0].astype(int)] = plan.counts
    with np.errstate(divide="ignore"):
        logits = np.log(fresh.probs)
    particles = _Particles(
        jnp.asarray(logits),
        jnp.asarray(fresh.rates),
        jnp.asarray(log_scale),
        jnp.arange(number),
        jnp.asarray(log_weight),
    )
    final, bands = _compiled_filter(
        jax.random.fold_in(jax.random.key(seed), 2),
        StepNoise(sampler),
        jnp.asarray(weights),
        particles,
        jnp.asarray(counts),
        jnp.asarray(plan.steps),
        plan.patterns is not None,
    )
    accuracy, shares = (np.asarray(x) for x in bands)
    share = np.asarray(jax.nn.softmax(final.log_weight))
    of_ancestor = np.bincount(np.asarray(final.ancestor), weights=share, minlength=number)
    return StepForecast(
        steps=plan.steps,
        accuracy=Band(*accuracy.swapaxes(0, 1)),
        pattern_shares=Band(*shares.swapaxes(0, 1)),
        log_scale=weighted_band(np.asarray(final.log_scale), share),
        logged=plan.logs,
        effective_draws=float(1 / np.sum(of_ancestor**2)),
        noise=repr(sampler),
    )
