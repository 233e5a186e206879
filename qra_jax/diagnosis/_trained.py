r"""Forecasts of runs with their own optimiser: particles carry a factor table and its moments.

Source: derived in docs/training.md#forecasts, where (F1) and (F2) are.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..posteriors._spread import QuestionSpread
from ..training._groups import SampledGroups
from ..training._noise import StepNoise
from ._bands import QUANTILES, Band, time_band, weighted_band
from ._degree import degree_of
from ._drift import RateDrift
from ._forecast import TIMED, looked, moved_rates, points, systematic
from ._head import Head
from ._plan import Plan
from ._result import StepForecast
from ._solve import Tables

KINDS = 16
"""Kinds of questions that a particle has."""
_LEAST_SHARE = 1e-9
_RIDGE = 1e-7


class Weights(NamedTuple):
    """What the optimiser moves: a head's rows and the features that these read."""

    rows: Float[Array, "*P R D"]
    features: Float[Array, "*P D"]


class Particle(NamedTuple):
    """A base model in training; all have a leading axis P.

    `size` is the root mean square of the hidden values; `speed` how much faster than set rows and
    features move, and `wander` by how much this changes in a step; `rates`: success rates of each
    kind of question; `best`: the pattern of the highest mean rate, and `second`: the next rate;
    `ends_at`, `converged_at`: the steps at which the accuracy reached that, and the best pattern
    the share asked for; infinite so far.
    """

    weights: Weights
    moments: Any
    size: Float[Array, " P"]
    speed: Weights
    rates: Float[Array, "P T R"]
    wander: Float[Array, " P"]
    best: Int[Array, " P"]
    second: Float[Array, " P"]
    ends_at: Float[Array, " P"]
    converged_at: Float[Array, " P"]
    ancestor: Int[Array, " P"]
    log_weight: Float[Array, " P"]

    def hidden(self) -> Float[Array, "P D"]:
        """What the heads read: the features, normed."""
        x = self.weights.features
        root = jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True))
        return self.size[:, None] * x / root

    def probs(self) -> Float[Array, "P R"]:
        return jax.nn.softmax(jnp.einsum("prd,pd->pr", self.weights.rows, self.hidden()))

    def accuracy(self, probs: Float[Array, "P R"]) -> Float[Array, " P"]:
        """The mean over kinds of questions."""
        return jnp.mean(jnp.einsum("pr,ptr->pt", probs, self.rates), axis=-1)

    def noted(self, step: Int[Array, ""], probs: Float[Array, "P R"], share: float) -> "Particle":
        """With the steps at which entanglement ended, and the best pattern had its share."""

        def first(found, happened):
            return jnp.where(jnp.isinf(found) & happened, step.astype(found.dtype), found)

        leading = jnp.take_along_axis(probs, self.best[:, None], axis=1)[:, 0]
        return self._replace(
            ends_at=first(self.ends_at, self.accuracy(probs) >= self.second),
            converged_at=first(self.converged_at, leading >= share),
        )


def _pooled_moments(noise: StepNoise, probs, rates):
    """Mean and covariance of the step of a table that all kinds of questions share (F1)."""
    kinds = rates.shape[0]
    (right, wrong), gap, (mean, variance, spread) = noise.parts(
        jnp.broadcast_to(probs, rates.shape), rates
    )
    drift = mean[:, None] * gap
    within = jnp.einsum("t,tr,ts->rs", variance, gap, gap)
    for among, factor in zip((right, wrong), spread.T, strict=True):
        within += jnp.diag(factor @ among) - jnp.einsum("t,tr,ts->rs", factor, among, among)
    total = drift.mean(axis=0)
    # Questions are drawn: their groups differ in the mean, too.
    apart = jnp.einsum("tr,ts->rs", drift, drift) / kinds - jnp.outer(total, total)
    return total, (within / kinds + apart) / noise.batch


def _drawn(normal: Float[Array, " R"], covariance: Float[Array, "R R"]) -> Float[Array, " R"]:
    """A normal vector of a covariance that may be singular and badly scaled."""
    size = jnp.sqrt(jnp.maximum(jnp.diag(covariance), 0))
    safe = jnp.where(size > 0, size, 1)
    alike = covariance / jnp.outer(safe, safe)
    # Rounding must not make it indefinite: entries sum to 0, so one direction has no spread.
    unit = jnp.eye(len(normal), dtype=normal.dtype)
    root = jnp.linalg.cholesky(jnp.where(unit > 0, 1 + _RIDGE, alike))
    return size * (root @ normal)


def _level(count, total, chance: Float[Array, " P"], particles: Particle) -> Float[Array, ""]:
    """How likely a smaller count was, half of an equal one added (F3): uniform where the particles
    are right, whatever they were told before (Dawid 1984)."""
    # P(X <= k) of a binomial law is an incomplete beta function; what was counted may be weighed.
    rest = jnp.maximum(total - count, 1e-9)
    above = jax.scipy.special.betainc(jnp.maximum(count, 1e-9), rest + 1, chance)
    beyond = jax.scipy.special.betainc(count + 1, rest, chance)
    return jax.nn.softmax(particles.log_weight) @ (1 - (above + beyond) / 2)


def trained(
    key: PRNGKeyArray,
    noise: StepNoise,
    optimiser: optax.GradientTransformation,
    particles: Particle,
    counts: Float[Array, "N C"],
    rows: Int[Array, " T"],
    share: float,
    watched: Int[Array, ""],
    moved: Float[Array, "T P R"] | None,
    by_pattern: bool,
):
    """Train all particles step by step; weigh them where something was logged.

    **Arguments:** `watched`: the column of `counts` whose place among those foretold is told;
    `moved`: success rates at `rows`, where they drift.

    **Returns:** the particles at the end, points of accuracy and shares at `rows`, and of every
    step with a log the probability (F3) of a smaller count.
    """

    def chances(particles: Particle):
        probs = particles.probs()
        accuracy = particles.accuracy(probs)
        return probs if by_pattern else jnp.stack([accuracy, 1 - accuracy], axis=-1)

    def look(step, particles: Particle, seen):
        """Also where the log fell among what was foretold of it, given the logs before."""

        def level():
            chance = chances(particles)[:, watched]
            return _level(counts[step, watched], jnp.sum(counts[step]), chance, particles)

        known = jnp.any(counts[step] > 0)
        seen = seen.at[step].set(jax.lax.cond(known, level, lambda: jnp.nan))
        return looked(key, counts, chances, step, particles), seen

    def advance(step, carry):
        particles, seen = carry
        probs, hidden = particles.probs(), particles.hidden()
        particles = particles.noted(step, probs, share)
        at = jax.random.fold_in(jax.random.fold_in(key, 0), step)
        mean, covariance = jax.vmap(_pooled_moments, (None, 0, 0))(noise, probs, particles.rates)
        normals = jax.random.normal(at, probs.shape, probs.dtype)
        ascent = mean + jax.vmap(_drawn)(normals, covariance)
        # The gradients of rows and features (T2): the second through the norm.
        rows, features = particles.weights
        back = jnp.einsum("prd,pr->pd", rows, ascent)
        unit = hidden / particles.size[:, None]
        along = jnp.mean(unit * back, axis=-1, keepdims=True)
        root = jnp.sqrt(jnp.mean(features**2, axis=-1))
        of_features = (particles.size / root)[:, None] * (back - unit * along)
        descent = Weights(-ascent[:, :, None] * hidden[:, None], -of_features)
        updates: Any
        # Only rows can decay as weights do: features are what the whole trunk makes, and normed.
        decaying = Weights(rows, jnp.zeros_like(features))
        updates, moments = jax.vmap(optimiser.update)(descent, particles.moments, decaying)
        weights = Weights(
            rows + particles.speed.rows[:, None, None] * updates.rows,
            features + particles.speed.features[:, None] * updates.features,
        )
        # The pace of each particle makes a random walk (F2).
        wander = jax.random.normal(jax.random.fold_in(at, 1), probs.shape[:1], probs.dtype)
        pace = jnp.exp(particles.wander * wander)
        new = particles._replace(
            weights=weights,
            moments=moments,
            speed=Weights(pace * particles.speed.rows, pace * particles.speed.features),
        )
        return look(step + 1, new, seen)

    def row(carry, task):
        (first, state), (last, rates) = carry, task
        particles, seen = jax.lax.fori_loop(first, last, advance, state)
        probs = particles.probs()
        shares, accuracy = jax.nn.softmax(particles.log_weight), particles.accuracy(probs)
        if rates is not None:
            accuracy = jnp.sum(probs * rates[particles.ancestor], axis=-1)
        found = points(accuracy, shares, QUANTILES), points(probs, shares)
        return (last, (particles, seen)), found

    begun = jnp.zeros((), rows.dtype)
    start = look(begun, particles, jnp.full(counts.shape[0], jnp.nan))
    (last, (final, seen)), bands = jax.lax.scan(row, (begun, start), (rows, moved))
    return final.noted(last, final.probs(), share), bands, seen


compiled_training = eqx.filter_jit(trained)


def begin(
    tables: Tables,
    spread: QuestionSpread,
    head: Head,
    optimiser: optax.GradientTransformation,
    rng: np.random.Generator,
) -> Particle:
    """Particles at step 0, of draws `(P, 1, R)` of the base model."""
    probs = np.maximum(tables.probs[:, 0], _LEAST_SHARE)
    means = tables.rates[:, 0]
    number, patterns = probs.shape
    heads, width = head.draw(number, rng), head.simulated
    unit = rng.normal(size=(number, width))
    unit /= np.sqrt(np.mean(unit**2, axis=-1, keepdims=True))
    size = heads.norm / np.abs(unit).sum(axis=-1)
    hidden = size[:, None] * unit
    # Head rows that give the shares at the start (T1); what they have beyond is spread.
    logits = np.log(probs) - np.log(probs).mean(axis=-1, keepdims=True)
    beyond = heads.row_spread[:, None, None] * rng.normal(size=(number, patterns, width))
    needed = logits - np.einsum("prd,pd->pr", beyond, hidden)
    rows = beyond + (needed / np.sum(hidden**2, -1, keepdims=True))[..., None] * hidden[:, None]
    rates = spread.draw(means, KINDS, rng)
    order = np.sort(means, axis=-1)
    # Features in the unit of the hidden values, in which their speed is given.
    weights = Weights(jnp.asarray(rows), jnp.asarray(hidden))
    faster = heads.rate, heads.rate * heads.feature_rate
    if degree_of(optimiser) == 1:
        # A table at the rate |h|_2^2, which fewer features do not have; to the square of a
        # derivative the trunk adds next to nothing (docs/training.md#the-factor-table).
        faster = heads.rate * heads.length**2 / np.sum(hidden**2, axis=-1), np.zeros(number)
    speed = Weights(*(jnp.asarray(x) for x in faster))
    particles = Particle(
        weights,
        jax.vmap(optimiser.init)(weights),
        jnp.asarray(size),
        speed,
        jnp.asarray(rates),
        jnp.full(number, head.wander / 10),
        jnp.asarray(np.argmax(means, axis=-1)),
        jnp.asarray(order[:, -2]),
        jnp.full(number, jnp.inf),
        jnp.full(number, jnp.inf),
        jnp.arange(number),
        jnp.zeros(number),
    )
    return particles


def forecast_optimised(
    tables: Tables,
    spread: QuestionSpread,
    plan: Plan,
    sampler: SampledGroups,
    optimiser: optax.GradientTransformation,
    head: Head,
    seed: int,
    eps: float,
    drift: RateDrift | None = None,
) -> StepForecast:
    """The forecast of a run with its own optimiser: draws of the base model and of the head, each
    trained with noise of its own, and weighed as the logs come in.

    **Arguments:** `tables`: draws `(P, 1, R)` to train; `spread`: of success rates over questions;
    `plan`: without a scale, and without patterns that are not there; `drift`: of success rates.
    """
    rng = np.random.default_rng([seed, 8])
    longest = int(max(plan.steps[-1], plan.logs[-1, 0] if len(plan.logs) else 0))
    counts = np.zeros((longest + 1, plan.counts.shape[1]))
    counts[plan.logs[:, 0].astype(int)] = plan.counts
    moved = moved_rates(tables.rates, drift, plan.steps, seed)
    watched = int(np.bincount(np.argmax(tables.rates[:, 0], axis=-1)).argmax())
    final, bands, seen = compiled_training(
        jax.random.fold_in(jax.random.key(seed), 8),
        StepNoise(sampler),
        optimiser,
        begin(tables, spread, head, optimiser, rng),
        jnp.asarray(counts),
        jnp.asarray(plan.steps),
        1 - eps,
        jnp.asarray(watched if plan.patterns is not None else 0),
        None if moved is None else jnp.asarray(moved),
        plan.patterns is not None,
    )
    accuracy, shares = (np.asarray(x).swapaxes(0, 1) for x in bands)
    share = np.asarray(jax.nn.softmax(final.log_weight))
    of_ancestor = np.bincount(np.asarray(final.ancestor), weights=share, minlength=len(share))
    chosen = systematic(share, min(TIMED, len(share)))
    with np.errstate(divide="ignore"):
        ends, converged = (
            time_band(np.log(np.asarray(x, float)[chosen])[:, None])
            for x in (final.ends_at, final.converged_at)
        )
    rate = np.log(np.asarray(final.speed.rows))
    return StepForecast(
        steps=plan.steps,
        accuracy=Band(*(accuracy[i] for i in (0, len(QUANTILES) // 2, -1))),
        pattern_shares=Band(*shares),
        log_scale=weighted_band(rate, share),
        log_entanglement_step=ends,
        log_convergence_step=converged,
        logged=plan.logs,
        effective_draws=float(1 / np.sum(of_ancestor**2)),
        noise=repr(sampler),
        optimised=True,
        accuracy_quantiles=accuracy,
        log_levels=np.asarray(seen)[plan.logs[:, 0].astype(int)],
    )
