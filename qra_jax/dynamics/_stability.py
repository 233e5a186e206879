"""What becomes of small disturbances of a fixed point: its spectrum, and its class.

(F2), (F3), (F6): docs/derivations.md#fixed-points-and-their-spectra.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from .._core.codes import Code
from .._core.spectrum import graded_spectrum
from ..flows._geometry import Euclidean, Natural
from ._field import PatternField, on_face


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
    not there, and its class; whether no eigenvalue along the face is 0, whether all of them die
    out, and the sign of det(-linearisation along the face), 0 if not regular."""

    eigenvalues: Complex[Array, "*N R-1"]
    growth: Float[Array, "*N R"]
    pull: Float[Array, "*N R"]
    kind: Int[Array, "*N"]
    regular: Bool[Array, "*N"]
    settles: Bool[Array, "*N"]
    sign: Int[Array, "*N"]


def stability(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> Linearised:
    """The flow linearised at a fixed point of a face.

    A pattern that is not there stays so, hence the linearisation is block triangular: the face and
    each pattern outside, by (F2), have eigenvalues of their own.
    """
    along, relative, sign = _along_face(field, mask, log_probs)
    growth, pull = _outside(field, mask, log_probs)
    outside = field.exists & ~mask
    every = jnp.concatenate([along, jnp.where(outside, growth, jnp.nan).astype(along.dtype)])
    order = jnp.argsort(jnp.where(jnp.isnan(every.real), jnp.inf, -every.real))

    rounding = jnp.finfo(log_probs.dtype).eps ** 0.6
    size = jnp.where(jnp.isnan(relative.real), 0, jnp.abs(relative))
    # Of a regular point no eigenvalue is 0, however small, but its real part may be.
    zero = rounding * jnp.where(sign != 0, size, jnp.max(size, initial=0))
    settled = jnp.where(jnp.abs(relative.real) <= zero, 0, jnp.sign(relative.real))
    signs = jnp.concatenate([settled, jnp.where(outside, outward(growth, pull), jnp.nan)])
    grows, dies = jnp.any(signs > 0), jnp.any(signs < 0)
    kind = jnp.where(grows, Stability.SOURCE, Stability.SINK)
    kind = jnp.where(jnp.any(signs == 0), Stability.DEGENERATE, kind)
    kind = jnp.where(grows & dies, Stability.SADDLE, kind).astype(jnp.int32)
    eigenvalues = every[order[: mask.shape[0] - 1]]
    return Linearised(eigenvalues, growth, pull, kind, sign != 0, ~jnp.any(settled >= 0), sign)


def _along_face(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> tuple[Complex[Array, " R-1"], Complex[Array, " R-1"], Int[Array, ""]]:
    """Eigenvalues of the flow along the face, NaN in place of missing ones; the same, each in a
    unit of its own in which it does not underflow; and the index, 0 where an eigenvalue is 0."""
    patterns = mask.shape[0]
    logits = jnp.where(mask, log_probs, 0)
    leader = jnp.argmax(jnp.where(mask, log_probs, -jnp.inf))
    # In log odds against the leading pattern, which goes last.
    order = jnp.argsort(jnp.arange(patterns) == leader)[:-1]
    inside = mask[order]

    def matrix_of(slopes):
        return jnp.where(inside[:, None] & inside[None], slopes[order][:, order], 0)

    slopes = jax.jacfwd(lambda x: field.pull(on_face(mask, x)))(logits)
    apart = matrix_of(slopes - slopes[leader][None])
    sign = _sign(apart, inside)
    if isinstance(field.flow.geometry, Euclidean):
        # (F6): the scale of a pattern's rate is its probability, which may be 1e-300.
        pulls = matrix_of(slopes - slopes[:, leader][:, None])
        return *graded_spectrum(log_probs[order], pulls, inside), sign
    if not isinstance(field.flow.geometry, Natural):
        velocity = jax.jacfwd(lambda x: field.logit_velocity(on_face(mask, x)))(logits)
        apart = matrix_of(velocity - velocity[leader][None])
    return *graded_spectrum(jnp.zeros(patterns - 1, logits.dtype), apart, inside), sign


def index_along(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> Int[Array, ""]:
    """The index of a fixed point on its face, 0 where it is not regular."""
    return _along_face(field, mask, log_probs)[2]


def _sign(matrix: Float[Array, "N N"], inside: Bool[Array, " N"]) -> Int[Array, ""]:
    """The sign of det(-M), 0 if M is singular up to rounding."""
    # Columns in units of their own: rare patterns have slopes smaller by orders of magnitude, and
    # are no less regular for it.
    unit = jnp.linalg.norm(matrix, axis=0)
    scaled = matrix / jnp.where(unit > 0, unit, 1)[None] - jnp.diag(jnp.where(inside, 0, 1.0))
    values = jnp.linalg.svd(scaled, compute_uv=False)
    small = float(jnp.finfo(matrix.dtype).eps) ** 0.4
    regular = jnp.min(values, initial=1) > small * jnp.max(values, initial=1)
    sign, _ = jnp.linalg.slogdet(-scaled)
    return jnp.where(regular, sign, 0).astype(jnp.int32)


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
        rises = nearer - near
        vanishes = jnp.abs(nearer) <= 64 * field.rounding
        # A penalty on absence goes like log pi or 1/pi; anything else has settled long before. A
        # small one may not have overcome the rest of the pull yet, but will.
        grows = jnp.abs(rises) > 64 * field.rounding * jnp.abs(log_tiny)
        vanishes &= ~grows
        grown = jnp.where(grows, jnp.sign(rises) * jnp.inf, nearer)
        return jnp.where(vanishes, 0, grown)

    limits = jax.vmap(limit)(patterns)
    limits = jnp.where(mask[:, None], 0, jnp.where(field.exists[:, None], limits, jnp.nan))
    return limits[:, 0], limits[:, 1]


def outward(growth: Float[Array, "..."], pull: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sign of what becomes of absent patterns: where the rate is 0, that of the pull."""
    # By (F3) growth of second order has the sign of the pull.
    return jnp.where(growth == 0, jnp.sign(pull), jnp.sign(growth))
