"""Forecasts over optimiser steps: one unknown time scale, training noise, logged accuracies."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..training._groups import SampledGroups
from ..training._noise import StepNoise
from ._bands import LEVELS, Band, time_band, weighted_band
from ._drift import RateDrift
from ._plan import Plan
from ._result import StepForecast
from ._solve import ROWS, Solver, Tables

_SCALES = 128
TIMED = 999  # pairs of draw and scale whose times in steps are told
LEAST = 1e-12  # a chance that no count makes impossible


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
    last = np.log(max(1.0, *plan.clock(plan.steps[-1:]), *plan.clock(plan.logs[:, 0])))

    def fit(low: float, high: float) -> Fit:
        curves = Curves.solve(solver, tables, weights, low, high + last)
        scales = np.linspace(low, high, 1 if plan.known else _SCALES)
        log_times = scales[:, None] + plan.log_clock(plan.logs[:, 0])[None]
        chances = curves.at(log_times, plan.patterns is not None)
        if plan.patterns is None:
            chances = np.stack([chances, 1 - chances], axis=-1)
        log_weights = np.einsum("dslc,lc->ds", np.log(np.maximum(chances, LEAST)), plan.counts)
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
    drift: RateDrift | None,
    seed: int,
) -> StepForecast:
    """The forecast without training noise: of infinitely many samples a step."""
    fit = fit_scale(solver, tables, weights, plan)
    mass = fit.weights.ravel()
    keep = np.flatnonzero(mass > 1e-9 * mass.max())
    # At most so many pairs: a systematic sample of them by weight.
    if len(keep) > 4000:
        keep = systematic(mass, 4000)
        share = np.full(len(keep), 1 / len(keep))
    else:
        share = mass[keep] / mass[keep].sum()
    draw, scale = np.unravel_index(keep, fit.weights.shape)
    curves, log_steps = fit.curves, plan.log_clock(plan.steps)
    moved = moved_rates(tables.rates, drift, plan.steps, seed)
    accuracy, shares = [], []
    for at, log_step in enumerate(log_steps):
        # Of each pair its own time.
        own = curves.at(fit.log_scales + log_step), curves.at(fit.log_scales + log_step, True)
        accuracy.append(own[0][draw, scale])
        shares.append(own[1][draw, scale])
        if moved is not None:
            accuracy[-1] = np.sum(shares[-1] * moved[at, draw], axis=-1)
    chosen = np.unravel_index(systematic(mass, TIMED), fit.weights.shape)
    times = solver.times(tables, weights)
    found = (x[chosen[0]] for x in (times.log_entanglement, times.log_convergence))
    steps = (plan.log_steps(x - fit.log_scales[chosen[1]][:, None]) for x in found)
    return StepForecast(
        steps=plan.steps,
        accuracy=weighted_band(np.stack(accuracy, axis=1), share),
        pattern_shares=weighted_band(np.stack(shares, axis=1), share),
        log_scale=weighted_band(fit.log_scales[scale], share),
        log_entanglement_step=time_band(next(steps)),
        log_convergence_step=time_band(next(steps)),
        logged=plan.logs,
        effective_draws=float(1 / np.sum(fit.weights.sum(axis=1) ** 2)),
        noise="",
    )


def systematic(mass: np.ndarray, number: int) -> np.ndarray:
    """Places by weight, equally likely each."""
    passed = np.cumsum(mass)
    places = np.searchsorted(passed, (np.arange(number) + 0.5) / number * passed[-1])
    return np.minimum(places, len(mass) - 1)


def moved_rates(rates, drift: RateDrift | None, steps, seed: int) -> np.ndarray | None:
    """Success rates `(T, D, R)` of one table at steps, as they drift; None if they do not."""
    if drift is None:
        return None
    start = np.clip(rates[:, 0], 1e-9, 1 - 1e-9)
    shifts = drift.shifts(np.random.default_rng([seed, 6]), start, steps)
    logits = np.log(start) - np.log1p(-start)
    return 0.5 * (1 + np.tanh((logits + shifts) / 2))


class _Particles(NamedTuple):
    logits: Float[Array, "P Q R"]
    rates: Float[Array, "P Q R"]
    log_scale: Float[Array, " P"]
    ancestor: Int[Array, " P"]
    log_weight: Float[Array, " P"]


def resampled(key: PRNGKeyArray, particles):
    """As many particles of equal weight, by systematic resampling."""
    number = particles.log_weight.shape[0]
    passed = jnp.cumsum(jax.nn.softmax(particles.log_weight))
    points = (jnp.arange(number) + jax.random.uniform(key)) / number
    chosen = jnp.minimum(jnp.searchsorted(passed, points * passed[-1]), number - 1)
    kept = jax.tree_util.tree_map(lambda x: x[chosen], particles)
    return kept._replace(log_weight=jnp.zeros_like(kept.log_weight))


def looked(key: PRNGKeyArray, counts: Float[Array, "N C"], chances: Callable, step, particles):
    """Particles weighed by what was logged at a step, and resampled where few count; as they
    are where nothing was.

    **Arguments:** `counts`: of every step; `chances`: a function of the particles, of each of what
    was counted `(P, C)`.
    """

    def weighed(particles):
        gain = jnp.log(jnp.maximum(chances(particles), LEAST)) @ counts[step]
        logs = jax.nn.log_softmax(particles.log_weight + gain)
        new = particles._replace(log_weight=logs)
        poor = jnp.exp(-jax.nn.logsumexp(2 * logs)) < logs.shape[0] / 2
        for_step = jax.random.fold_in(jax.random.fold_in(key, 1), step)
        return jax.lax.cond(poor, lambda p: resampled(for_step, p), lambda p: p, new)

    return jax.lax.cond(jnp.any(counts[step] > 0), weighed, lambda p: p, particles)


def points(
    values: Float[Array, "P *N"], shares: Float[Array, " P"], levels: tuple[float, ...] = LEVELS
) -> Float[Array, "L *N"]:
    """Weighted quantiles, those of a band unless given, over the first axis."""

    def of_one(column):
        order = jnp.argsort(column)
        passed = jnp.cumsum(shares[order])
        rank = jnp.searchsorted(passed, jnp.array(levels) * passed[-1])
        return column[order][jnp.minimum(rank, column.shape[0] - 1)]

    flat = values.reshape(values.shape[0], -1)
    found = jax.vmap(of_one, 1, 1)(flat)
    return found.reshape(len(levels), *values.shape[1:])


def _filter(
    key: PRNGKeyArray,
    noise: StepNoise,
    weights: Float[Array, " Q"],
    particles: _Particles,
    counts: Float[Array, "N C"],
    rows: Int[Array, " T"],
    speeds: Float[Array, " M"],
    moved: Float[Array, "T P R"] | None,
    by_pattern: bool,
):
    """Train all particles step by step; weigh them where something was logged.

    `counts`: of patterns or of right and wrong samples, at step 0, 1, ..., 0 where nothing was
    logged; `speeds`: of steps, relative; `moved`: success rates at `rows`, where they drift.
    """

    def mean_accuracy(particles: _Particles):
        probs = jax.nn.softmax(particles.logits, axis=-1)
        return probs, jnp.sum(probs * particles.rates, axis=-1) @ weights

    def chances(particles: _Particles):
        probs, accuracy = mean_accuracy(particles)
        if by_pattern:
            return jnp.einsum("q,pqr->pr", weights, probs)
        return jnp.stack([accuracy, 1 - accuracy], axis=-1)

    look = functools.partial(looked, key, counts, chances)

    def advance(step, particles: _Particles):
        probs = jax.nn.softmax(particles.logits, axis=-1)
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), step), len(probs))
        ascent = jax.vmap(noise.step, (0, 0, 0, None))(keys, probs, particles.rates, weights)
        scale = speeds[step] * jnp.exp(particles.log_scale)[:, None, None]
        return look(step + 1, particles._replace(logits=particles.logits + scale * ascent))

    def row(carry, task):
        (first, particles), (last, rates) = carry, task
        particles = jax.lax.fori_loop(first, last, advance, particles)
        probs, accuracy = mean_accuracy(particles)
        shares = jax.nn.softmax(particles.log_weight)
        mixed = jnp.einsum("q,pqr->pr", weights, probs)
        if rates is not None:
            accuracy = jnp.sum(mixed * rates[particles.ancestor], axis=-1)
        return (last, particles), (points(accuracy, shares), points(mixed, shares))

    start = look(jnp.zeros((), rows.dtype), particles)
    (_, final), bands = jax.lax.scan(row, (jnp.zeros((), rows.dtype), start), (rows, moved))
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
    drift: RateDrift | None,
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
    speeds = np.ones(longest) if plan.rates is None else plan.rates[:longest]
    moved = moved_rates(fresh.rates, drift, plan.steps, seed)
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
        jnp.asarray(speeds),
        None if moved is None else jnp.asarray(moved),
        plan.patterns is not None,
    )
    accuracy, shares = (np.asarray(x) for x in bands)
    share = np.asarray(jax.nn.softmax(final.log_weight))
    ancestor = np.asarray(final.ancestor)
    of_ancestor = np.bincount(ancestor, weights=share, minlength=number)
    chosen = systematic(share, min(TIMED, number))
    times = solver.times(Tables(*(x[ancestor[chosen]] for x in fresh)), weights)
    scale = np.asarray(final.log_scale)[chosen][:, None]
    return StepForecast(
        steps=plan.steps,
        accuracy=Band(*accuracy.swapaxes(0, 1)),
        pattern_shares=Band(*shares.swapaxes(0, 1)),
        log_scale=weighted_band(np.asarray(final.log_scale), share),
        log_entanglement_step=time_band(plan.log_steps(times.log_entanglement - scale)),
        log_convergence_step=time_band(plan.log_steps(times.log_convergence - scale)),
        logged=plan.logs,
        effective_draws=float(1 / np.sum(of_ancestor**2)),
        noise=repr(sampler),
    )
