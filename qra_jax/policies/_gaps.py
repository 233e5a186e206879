"""Pattern values up to a constant, with the digits in which they differ, and their rounding.

The rule for ties: docs/derivations.md#ties.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.floats import rounding, snapped_difference, unit_of
from ._token_values import RewardValues, TokenValues


class PatternGaps(eqx.Module):
    r"""The patterns of each question by value, $R_r = b + u g_r$.

    - `probs`: their probabilities.
    - `gaps`: $g_r$, values up to a constant of the question and in a unit of its own.
    - `size`: of the largest number that went into each, in the same unit: rounding is relative to
      it.
    - `base`, `unit`: $b$ and $u$; constants, u a power of 2.
    """

    probs: Float[Array, "Q R"]
    gaps: Float[Array, "Q R"]
    size: Float[Array, "Q R"]
    base: Float[Array, " Q"]
    unit: Float[Array, " Q"]

    @staticmethod
    def of(
        probs: Float[Array, "Q R"],
        values: Float[Array, "Q R"],
        size: Float[Array, "Q R"],
        base: Float[Array, "Q 1"],
    ) -> "PatternGaps":
        """Of values less `base`."""
        unit = unit_of(values, -1)
        size = jax.lax.stop_gradient(size)
        return PatternGaps(probs, values / unit, size / unit, base[:, 0], unit[:, 0])

    def less(self, gaps: Float[Array, "Q #R"], size: Float[Array, "Q #R"]) -> Float[Array, "Q R"]:
        """All gaps less other ones of a size, exactly 0 where rounding may have made it."""
        return snapped_difference(self.gaps, gaps, jnp.maximum(self.size, size))

    def between(self) -> Float[Array, "Q R R"]:
        """The gap of the last axis less that of the one before, 0 for a tie."""
        size = jnp.maximum(self.size[:, None], self.size[:, :, None])
        return snapped_difference(self.gaps[:, None], self.gaps[:, :, None], size)

    def above(self) -> Float[Array, "Q R"]:
        """The mean less each gap, exactly 0 where rounding may have made it."""
        # V - R_r from the leading pattern m: (R_m - R_r) + sum_j pi_j (R_j - R_m).
        leader = jnp.argmax(self.probs, axis=-1, keepdims=True)
        base, size = (jnp.take_along_axis(x, leader, axis=-1) for x in (self.gaps, self.size))
        ahead = self.less(base, size)
        above = jnp.sum(self.probs * ahead, axis=-1, keepdims=True) - ahead
        # What ties with the leader adds nothing, and no rounding.
        noise = jnp.where(ahead == 0, 0, jnp.maximum(self.size, size))
        noise = jnp.sum(self.probs * noise, axis=-1, keepdims=True) + noise
        return jnp.where(jnp.abs(above) <= rounding(above) * noise, 0, above)


def sizes_of(reward, values: RewardValues, policy, problem) -> RewardValues:
    """The sizes of the numbers that a reward's values come from: what its method `size` says, if
    it has one, or else the values themselves."""
    own = getattr(reward, "size", None)
    if own is not None:
        return own(policy, problem)
    if isinstance(values, TokenValues):
        return TokenValues(jnp.abs(values.along), jnp.abs(values.end))
    return jnp.abs(jnp.asarray(values))


class Sizes(eqx.Module):
    """A reward that pays the sizes of another's values."""

    reward: Callable[..., RewardValues]

    def __call__(self, policy, problem) -> RewardValues:
        return sizes_of(self.reward, self.reward(policy, problem), policy, problem)
