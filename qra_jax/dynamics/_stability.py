"""What becomes of small disturbances of a fixed point: its spectrum, and its class.

(F2), (F3): docs/derivations.md#fixed-points-and-their-spectra.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from .._core.codes import Code
from .._core.spectrum import spectrum
from ._field import PatternField


class Stability(Code):
    """What becomes of small disturbances of a fixed point; -1 stands for no point."""

    SINK = 0
    """All of them die out."""
    SADDLE = 1
    """Some die out, some grow."""
    SOURCE = 2
    """All of them grow."""
    DEGENERATE = 3
    """Some neither grow nor die out to the order looked at, and none of the others decides."""


class Linearised(NamedTuple):
    """A flow linearised at a fixed point: its spectrum, growth and pull of the patterns that are
    not there, and its class."""

    eigenvalues: Complex[Array, "*N R-1"]
    growth: Float[Array, "*N R"]
    pull: Float[Array, "*N R"]
    kind: Int[Array, "*N"]


def stability(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> Linearised:
    """The flow linearised at a fixed point of a face.

    A pattern that is not there stays so, hence the linearisation is block triangular: the face and
    each pattern outside, by (F2), have eigenvalues of their own.
    """
    along = _along_face(field, mask, log_probs)
    growth, pull = _outside(field, mask, log_probs)
    outside = field.exists & ~mask
    every = jnp.concatenate([along, jnp.where(outside, growth, jnp.nan).astype(along.dtype)])
    order = jnp.argsort(jnp.where(jnp.isnan(every.real), jnp.inf, -every.real))

    rounding = jnp.finfo(log_probs.dtype).eps ** 0.6
    zero = rounding * jnp.max(jnp.where(jnp.isnan(along.real), 0, jnp.abs(along)))
    settled = jnp.where(jnp.abs(along.real) <= zero, 0, jnp.sign(along.real))
    signs = jnp.concatenate([settled, jnp.where(outside, outward(growth, pull), jnp.nan)])
    grows, dies = jnp.any(signs > 0), jnp.any(signs < 0)
    kind = jnp.where(grows, Stability.SOURCE, Stability.SINK)
    kind = jnp.where(jnp.any(signs == 0), Stability.DEGENERATE, kind)
    kind = jnp.where(grows & dies, Stability.SADDLE, kind).astype(jnp.int32)
    return Linearised(every[order[: mask.shape[0] - 1]], growth, pull, kind)


def _along_face(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> Complex[Array, " R-1"]:
    """Eigenvalues of the flow along the face, NaN in place of missing ones."""
    patterns = mask.shape[0]
    logits = jnp.where(mask, log_probs, 0)
    jacobian = jax.jacfwd(lambda x: field.logit_velocity(jnp.where(mask, x, -jnp.inf)))(logits)
    # In log odds against the leading pattern, which goes last.
    leader = jnp.argmax(log_probs)
    order = jnp.argsort(jnp.arange(patterns) == leader)[:-1]
    matrix = (jacobian - jacobian[leader][None])[order][:, order]
    inside = mask[order]
    matrix = jnp.where(inside[:, None] & inside[None], matrix, 0)
    # What is not on the face gets an eigenvalue beyond all others, by which it is told apart.
    beyond = 1 + 3 * jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
    matrix = matrix + jnp.diag(jnp.where(inside, 0, beyond))
    values = spectrum(matrix)
    return jnp.where(jnp.abs(values) > beyond / 2, jnp.nan, values)


def _outside(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Growth rate and pull of each pattern outside the face, as its probability tends to 0."""
    patterns = jnp.arange(mask.shape[0])
    log_tiny = float(np.log(jnp.finfo(log_probs.dtype).tiny))

    def at(log_prob, pattern):
        point = jnp.where(patterns == pattern, log_prob, log_probs)
        return field.growth(point)[pattern], field.pull(point)[pattern]

    def limit(pattern):
        near, nearer = jnp.stack(at(log_tiny / 4, pattern)), jnp.stack(at(log_tiny / 2, pattern))
        rises = (nearer - near) * jnp.sign(nearer)
        vanishes = jnp.abs(nearer) <= 64 * field.rounding
        # A penalty on absence goes like log pi or 1/pi; anything else has settled long before.
        grows = rises > 64 * field.rounding * jnp.abs(log_tiny)
        grown = jnp.where(grows, jnp.sign(nearer) * jnp.inf, nearer)
        return jnp.where(vanishes, 0, grown)

    limits = jax.vmap(limit)(patterns)
    limits = jnp.where(mask[:, None], 0, jnp.where(field.exists[:, None], limits, jnp.nan))
    return limits[:, 0], limits[:, 1]


def outward(growth: Float[Array, "..."], pull: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sign of what becomes of absent patterns: where the rate is 0, that of the pull."""
    # By (F3) growth of second order has the sign of the pull.
    return jnp.where(growth == 0, jnp.sign(pull), jnp.sign(growth))
