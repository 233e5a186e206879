r"""Estimators: what is drawn in a group of samples, and the advantages that weigh its scores."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._core.checks import require, whole
from .._core.floats import snapped_difference
from ..objectives._utilities import (
    GRPO,
    AbstractUtility,
    DrGRPO,
    LogLikelihood,
    MaxRL,
    Mean,
    PassAtK,
)

Groups = Float[Array, "*B G"]


def _pick(uniform: Float[Array, ""], weights: Float[Array, " N"]) -> Int[Array, ""]:
    """An index with probability proportional to its weight, by the inverse of their sum."""
    total = jnp.cumsum(weights)
    return jnp.minimum(jnp.sum(total <= uniform * total[-1]), weights.shape[0] - 1)


pick_each = jax.vmap(_pick, in_axes=(0, None))


def _draw_including(
    uniforms: Float[Array, " U"], probs: Float[Array, " N"], wanted: Bool[Array, " N"]
) -> Int[Array, " G"]:
    """Independent draws, given that at least one is wanted: as if redrawn until one is.

    Nothing before the first wanted one is wanted, and nothing is known of those after it. Where
    nothing wanted has a probability above 0 the draws are those of `probs`.
    """
    wanted |= ~jnp.any(wanted & (probs > 0))
    unwanted = jnp.where(wanted, 0, probs)
    order = jnp.arange(uniforms.shape[0] - 1)
    first = _pick(uniforms[-1], jnp.sum(unwanted) ** order.astype(probs.dtype))
    tables = jnp.stack([unwanted, jnp.where(wanted, probs, 0), probs])
    return jax.vmap(_pick)(uniforms[:-1], tables[1 + jnp.sign(order - first)])


class AbstractEstimator(eqx.Module):
    r"""Advantages $a_i$ of a group of G samples; its estimate is $\frac1G \sum_i a_i
    \nabla \log \pi(x_i)$ with $x_i$ the pattern and answer of a sample.

    Its expectation is the gradient of its `utility`.
    """

    @property
    def least_group(self) -> int:
        """The smallest group for which advantages are defined."""
        return 1

    @property
    def of_success(self) -> bool:
        """Whether rewards must be 0 or 1."""
        return False

    @property
    def redraws(self) -> bool:
        """Whether what is drawn depends on the rewards."""
        return False

    @abc.abstractmethod
    def advantages(self, rewards: Groups) -> Groups:
        """**Arguments:** `rewards`: `(..., G)`. **Returns:** `(..., G)`."""

    @abc.abstractmethod
    def utility(self, group_size: int) -> AbstractUtility:
        """The utility whose exact gradient is the expectation of the estimate.

        **Arguments:** `group_size`: G.
        """

    def draw(
        self, key: PRNGKeyArray, probs: Float[Array, " N"], rewards: Float[Array, " N"], size: int
    ) -> Int[Array, " G"]:
        """The outcomes of a group.

        **Arguments:** `key`; `probs`, `rewards`: `(N,)`, of each outcome; `size`: G.

        **Returns:** `(G,)`, each an index of an outcome of probability above 0.
        """
        return pick_each(jax.random.uniform(key, (size,), probs.dtype), probs)


def _centred(rewards: Groups) -> Groups:
    return rewards - jnp.mean(rewards, axis=-1, keepdims=True)


class REINFORCE(AbstractEstimator):
    r"""The rewards themselves, $a_i = r_i$: unbiased.

    Source: derived in docs/objectives.md#optimiser-and-samples.
    """

    def advantages(self, rewards: Groups) -> Groups:
        return rewards

    def utility(self, group_size: int) -> AbstractUtility:
        return Mean()


class RLOO(AbstractEstimator):
    r"""Less the mean of the others, $a_i = r_i - \frac1{G-1} \sum_{j \ne i} r_j$: unbiased.

    Source: arXiv 2402.14740.
    """

    @property
    def least_group(self) -> int:
        return 2

    def advantages(self, rewards: Groups) -> Groups:
        size = rewards.shape[-1]
        return _centred(rewards) * (size / (size - 1))

    def utility(self, group_size: int) -> AbstractUtility:
        return Mean()


class SampledDrGRPO(AbstractEstimator):
    r"""Less the mean of the group, $a_i = r_i - \bar r$: $(G-1)/G$ of the gradient.

    Source: arXiv 2503.20783 (the method); derived in docs/objectives.md#optimiser-and-samples.
    """

    @property
    def least_group(self) -> int:
        return 2

    def advantages(self, rewards: Groups) -> Groups:
        return _centred(rewards)

    def utility(self, group_size: int) -> AbstractUtility:
        return DrGRPO(group_size)


class SampledGRPO(AbstractEstimator):
    r"""Less the mean, by the standard deviation: $a_i = (r_i - \bar r)/s$; 0 where all are equal.

    **Arguments:** `ddof`: 0 for the population deviation, 1 for the sample deviation; `redraw`:
    groups of equal rewards are drawn again (for the same question), not dropped.

    **Raises:** `ValueError` if `ddof` is not 0 or 1.

    Source: arXiv 2402.03300 (the method), 2510.13651 (its expectation).
    """

    ddof: int = eqx.field(static=True)
    redraw: bool = eqx.field(static=True)

    def __init__(self, ddof: int = 0, redraw: bool = False):
        require(ddof in (0, 1), "ddof", "be 0 or 1", ddof)
        self.ddof = ddof
        self.redraw = redraw

    @property
    def least_group(self) -> int:
        return 2

    @property
    def redraws(self) -> bool:
        return self.redraw

    def advantages(self, rewards: Groups) -> Groups:
        deviation = jnp.std(rewards, axis=-1, keepdims=True, ddof=self.ddof)
        # Rewards that are equal up to rounding would be divided by what rounding has made.
        most, least = (f(rewards, axis=-1, keepdims=True) for f in (jnp.max, jnp.min))
        differ = (snapped_difference(most, least) > 0) & (deviation > 0)
        return jnp.where(differ, _centred(rewards) / jnp.where(differ, deviation, 1), 0)

    def utility(self, group_size: int) -> AbstractUtility:
        return GRPO(group_size, self.ddof, self.redraw)

    def draw(
        self, key: PRNGKeyArray, probs: Float[Array, " N"], rewards: Float[Array, " N"], size: int
    ) -> Int[Array, " G"]:
        if not self.redraw:
            return super().draw(key, probs, rewards, size)
        uniforms = jax.random.uniform(key, (size + 1,), probs.dtype)
        # The first sample, given that some later one differs from it, and then the others.
        different = rewards[:, None] != rewards[None, :]
        others = jnp.minimum(jnp.sum(jnp.where(different, probs[None, :], 0), axis=1), 1)
        seen = probs * -jnp.expm1((size - 1) * jnp.log1p(-others))
        first = _pick(uniforms[0], jnp.where(jnp.any(seen > 0), seen, probs))
        rest = _draw_including(uniforms[1:], probs, different[first])
        return jnp.concatenate([first[None], rest])


def _per_success(rewards: Groups) -> Groups:
    rate = jnp.mean(rewards, axis=-1, keepdims=True)
    return jnp.where(rate > 0, rewards / jnp.where(rate > 0, rate, 1), 0)


class SampledMaxRL(AbstractEstimator):
    r"""The mean score of the successes, $a_i = r_i/\bar r$; 0 if there is none.

    **Arguments:** `centred`: the form $a_i = (r_i - \bar r)/\bar r$, whose expectation is that of
    one sample fewer.

    Source: arXiv 2602.02710.
    """

    centred: bool = eqx.field(static=True, default=False)

    @property
    def least_group(self) -> int:
        return 2 if self.centred else 1

    @property
    def of_success(self) -> bool:
        return True

    def advantages(self, rewards: Groups) -> Groups:
        each = _per_success(rewards)
        return _centred(each) if self.centred else each

    def utility(self, group_size: int) -> AbstractUtility:
        return MaxRL(group_size - 1 if self.centred else group_size)


class RejectionFineTuning(AbstractEstimator):
    r"""The mean score of the successes, $a_i = r_i/\bar r$; drawn again (for the same question)
    until there is one. A question of which nothing can succeed contributes 0.

    Source: derived in docs/objectives.md#optimiser-and-samples.
    """

    @property
    def of_success(self) -> bool:
        return True

    @property
    def redraws(self) -> bool:
        return True

    def advantages(self, rewards: Groups) -> Groups:
        return _per_success(rewards)

    def utility(self, group_size: int) -> AbstractUtility:
        return LogLikelihood()

    def draw(
        self, key: PRNGKeyArray, probs: Float[Array, " N"], rewards: Float[Array, " N"], size: int
    ) -> Int[Array, " G"]:
        uniforms = jax.random.uniform(key, (size + 1,), probs.dtype)
        return _draw_including(uniforms, probs, rewards > 0)


class SampledPassAtK(AbstractEstimator):
    r"""What a success adds to pass@k, $a_i = r_i \, k \binom{F}{k-1} / \binom{G-1}{k-1}$, F the
    number of failures in the group.

    The fraction is the share of the choices of $k - 1$ of the other samples that are all failures:
    an unbiased estimate of $(1-V)^{k-1}$ that does not depend on sample i.

    **Arguments:** `k`: at least 1 and at most G.

    **Raises:** `ValueError` if k is below 1.

    Source: arXiv 2505.15201 (its leave-one-out-minus-one form, which comes to this for rewards of
    0 and 1); the expectation is derived in docs/objectives.md#optimiser-and-samples.
    """

    k: int = eqx.field(static=True)

    def __init__(self, k: int):
        self.k = whole(k, "k", 1)

    @property
    def least_group(self) -> int:
        return self.k

    @property
    def of_success(self) -> bool:
        return True

    def advantages(self, rewards: Groups) -> Groups:
        size, chosen = rewards.shape[-1], self.k - 1
        shares = [math.comb(f, chosen) / math.comb(size - 1, chosen) for f in range(size)]
        # Of G failures there is no success to weigh.
        table = self.k * jnp.asarray([*shares, 0.0], rewards.dtype)
        failures = jnp.sum(rewards == 0, axis=-1, keepdims=True)
        return rewards * table[failures]

    def utility(self, group_size: int) -> AbstractUtility:
        return PassAtK(self.k)
