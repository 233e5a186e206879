r"""Training from sampled groups, as steps with normal noise of the same mean and covariance.

Source: derived in docs/derivations.md#the-noise-of-sampled-groups, where (N1) and (N2) are.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._core.checks import require
from ._estimators import RejectionFineTuning, SampledGRPO
from ._groups import SampledGroups

# One program a size, where every single operation would be compiled by itself.
_advantages = eqx.filter_jit(lambda estimator, rewards: estimator.advantages(rewards))


class StepNoise(eqx.Module):
    r"""The first two moments of the estimate of a group, for rewards of 0 and 1.

    Of G samples s are right; these have patterns $\pi^+ \propto \pi p$, the others $\pi^- \propto
    \pi (1 - p)$, and advantages $b_s$ and $a_s$. Given s the estimate has the mean $\kappa_s
    (\pi^+ - \pi^-)$, $\kappa_s = \frac{s b_s (1-V) - (G - s) a_s V}{G}$, and the covariance
    $\frac{s b_s^2}{G^2} C^+ + \frac{(G - s) a_s^2}{G^2} C^-$, $C = \mathrm{diag}\,\pi - \pi
    \pi^\top$.

    **Arguments:** `sampler`: of one epoch.

    **Raises:** `ValueError` for more epochs: their samples are not fresh.

    Source: derived in docs/derivations.md#the-noise-of-sampled-groups.
    """

    of_right: Float[Array, " S"]
    of_wrong: Float[Array, " S"]
    of_spread: Float[Array, "2 S"]
    log_choices: Float[Array, " S"]
    batch: Float[Array, ""] | None

    def __init__(self, sampler: SampledGroups):
        require(sampler.epochs == 1, "sampler.epochs", "be 1", sampler.epochs)
        size, estimator = sampler.group_size, sampler.estimator
        # Advantages depend on s alone: one group for each s, its right samples first.
        number = np.arange(size + 1)
        rewards = (number[:, None] > np.arange(size)[None]).astype(float)
        advantages = np.array(_advantages(estimator, jnp.asarray(rewards)), float)
        right, wrong = advantages[:, 0], advantages[:, -1]
        right[0], wrong[-1] = 0, 0  # of none
        # Of kappa_s in (N1) the factors of 1 - V and V, and of the covariance those of C+ and C-.
        self.of_right = jnp.asarray(number * right / size)
        self.of_wrong = jnp.asarray((size - number) * wrong / size)
        spread = number * right**2, (size - number) * wrong**2
        self.of_spread = jnp.asarray(np.stack(spread) / size**2)
        # Logarithms of binomial coefficients; an s that is redrawn has none.
        choices = np.concatenate([[0], np.cumsum(np.log((size - number[:-1]) / number[1:]))])
        redrawn = np.zeros(size + 1, bool)
        if isinstance(estimator, RejectionFineTuning):
            redrawn = number == 0
        elif isinstance(estimator, SampledGRPO) and estimator.redraw:
            redrawn = (number == 0) | (number == size)
        self.log_choices = jnp.asarray(np.where(redrawn, -np.inf, choices))
        batch = sampler.batch
        self.batch = None if batch is None else jnp.asarray(float(batch))

    def moments(
        self, value: Float[Array, ""], shortfall: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " 2"]]:
        r"""$E\kappa$, $\mathrm{Var}\,\kappa$ and the two factors of $C^+$ and $C^-$.

        **Arguments:** `value`: V, the accuracy; `shortfall`: $1 - V$.
        """
        number = jnp.arange(self.log_choices.shape[0], dtype=value.dtype)
        tiny = jnp.finfo(value.dtype).tiny
        logs = number * jnp.log(jnp.maximum(value, tiny))
        logs += (number[-1] - number) * jnp.log(jnp.maximum(shortfall, tiny))
        # The law of s, normalised over what redrawing leaves of it.
        chance = jax.nn.softmax(logs + self.log_choices)
        kappa = self.of_right * shortfall - self.of_wrong * value
        mean = chance @ kappa
        # (N2): the mean over s, the variance of kappa_s, and the means of the covariances.
        return mean, chance @ (kappa - mean) ** 2, self.of_spread @ chance

    def parts(self, probs: Float[Array, "Q R"], rates: Float[Array, "Q R"]):
        r"""$\pi^+$ and $\pi^-$, their difference, and the `moments` of each question."""
        value = jnp.sum(probs * rates, axis=-1)
        shortfall = jnp.sum(probs * (1 - rates), axis=-1)
        right = probs * rates / jnp.where(value > 0, value, 1)[:, None]
        wrong = probs * (1 - rates) / jnp.where(shortfall > 0, shortfall, 1)[:, None]
        # Where every sample is right, or none, pi+ or pi- means nothing, and no gradient is left.
        both = (value > 0) & (shortfall > 0)
        gap = jnp.where(both[:, None], right - wrong, 0)
        return (right, wrong), gap, jax.vmap(self.moments)(value, shortfall)

    def mean(
        self,
        probs: Float[Array, "Q R"],
        rates: Float[Array, "Q R"],
        weights: Float[Array, " Q"],
    ) -> Float[Array, "Q R"]:
        """The mean of the ascent direction of a step, in the pattern logits of each question.

        **Arguments:** `probs`, `rates`: of the policy; `weights`: of the questions.
        """
        _, gap, (mean, _, _) = self.parts(probs, rates)
        return weights[:, None] * mean[:, None] * gap

    def normals(self, shape: tuple[int, ...], dtype: Any) -> "Normals":
        """What standard normals the noise of one step takes, `shape` being (Q, R)."""

        def like(*shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        asked = None if self.batch is None else like(shape[0])
        return Normals(like(shape[0]), like(2, *shape), asked)

    def spread(
        self,
        normals: "Normals",
        probs: Float[Array, "Q R"],
        rates: Float[Array, "Q R"],
        weights: Float[Array, " Q"],
    ) -> Float[Array, "Q R"]:
        """The noise of the ascent direction of a step: linear in its normals.

        **Arguments:** `normals`: as `normals` says; the others as for `mean`.
        """
        among, gap, (mean, variance, spread) = self.parts(probs, rates)
        # One normal for the part of rank 1 in (N2), and one vector each for C+ and C-.
        noise = (jnp.sqrt(variance) * normals.clock)[:, None] * gap
        for part, shares, factor in zip(normals.samples, among, spread.T, strict=True):
            noise += jnp.sqrt(factor)[:, None] * _multinomial(part, shares)
        if self.batch is None:
            return weights[:, None] * noise
        # Groups of each question vary as a multinomial of the batch, and the noise with their
        # number.
        asked = _multinomial(normals.asked, weights) / self.batch**0.5
        return (asked * mean)[:, None] * gap + jnp.sqrt(weights / self.batch)[:, None] * noise

    def step(
        self,
        key: PRNGKeyArray,
        probs: Float[Array, "Q R"],
        rates: Float[Array, "Q R"],
        weights: Float[Array, " Q"],
    ) -> Float[Array, "Q R"]:
        """A draw of the ascent direction of one step.

        **Arguments:** `key`; `probs`, `rates`: of the policy; `weights`: of the questions, which
        are drawn by them where the sampler has a `batch`.
        """
        shapes = self.normals(probs.shape[:2], probs.dtype)
        keys = jax.random.split(key, 3)
        drawn = [
            None if x is None else jax.random.normal(at, x.shape, x.dtype)
            for at, x in zip(keys, shapes, strict=True)
        ]
        noise = self.spread(Normals(*drawn), probs, rates, weights)
        return self.mean(probs, rates, weights) + noise


class Normals(NamedTuple):
    """Standard normals of one step: for the number of right samples in the groups of each question
    `(Q,)`, for the patterns of right and of wrong ones `(2, Q, R)`, and for how often each question
    is asked `(Q,)`, if questions are drawn."""

    clock: Any
    samples: Any
    asked: Any


def _multinomial(normal: Float[Array, "*Q R"], probs: Float[Array, "*Q R"]):
    r"""Standard normals made to have the covariance $\mathrm{diag}\,p - p p^\top$."""
    roots = jnp.sqrt(probs)
    return roots * normal - probs * jnp.sum(roots * normal, axis=-1, keepdims=True)


def noisy_runs(
    key: PRNGKeyArray,
    noise: StepNoise,
    probs: Float[Array, " R"],
    rates: Float[Array, " R"],
    scales: Float[Array, " N"],
    rows: Int[Array, " L"],
    number: int,
) -> Float[Array, "K L R"]:
    """Pattern shares at some steps of several runs of one question that start alike.

    **Arguments:** `key`; `noise`; `probs`, `rates`: of the start; `scales`: of each step; `rows`:
    steps, rising; `number`: K.
    """
    one = jnp.ones(1, probs.dtype)

    def run(key):
        def advance(step, logits):
            now = jax.nn.softmax(logits)[None]
            at = jax.random.fold_in(key, step)
            return logits + scales[step] * noise.step(at, now, rates[None], one)[0]

        def row(carry, last):
            first, logits = carry
            logits = jax.lax.fori_loop(first, last, advance, logits)
            return (last, logits), jax.nn.softmax(logits)

        start = jnp.zeros((), rows.dtype), jnp.log(probs)
        return jax.lax.scan(row, start, rows)[1]

    return jax.vmap(run)(jax.random.split(key, number))
