"""Fixed points that attract: from the whole simplex, or from a face of it."""

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int

from .._core.checks import require
from ._field import PatternField
from ._fixed_points import FixedPoints, fixed_points
from ._stability import outward

_MANY = 10  # patterns up to which all faces are searched for attractors


class Attractors(eqx.Module):
    """Fixed points that attract on their own face, `(M,)` of them.

    - `pattern_probs`: `(M, R)`, 0 outside the point's face.
    - `face`: `(M, R)`, the patterns that are there.
    - `outward`: `(M, R)`, 1 for absent patterns that would grow, -1 for those that would die out,
      0 for those that do neither (and on the face).
    - `valid`: `(M,)`, False for rows that hold no attractor.
    - `left_out`: how many there was no room for.
    """

    pattern_probs: Float[Array, "M R"]
    face: Bool[Array, "M R"]
    outward: Float[Array, "M R"]
    valid: Bool[Array, " M"]
    left_out: Int[Array, ""]

    def within(self, exists: Bool[Array, " R"]) -> Bool[Array, " M"]:
        """Which of them attract where only some patterns exist: those on whose face nothing else
        is, and that none of the absent patterns leaves. A vertex attracts also if others are tied
        with it: of tied patterns the most probable wins."""
        inside = jnp.all(~self.face | exists[None], axis=-1)
        absent = exists[None] & ~self.face
        vertex = jnp.sum(self.face, axis=-1) == 1
        dies = self.outward + jnp.where(vertex, 0, 0.5)[:, None] < 0.25
        return self.valid & inside & jnp.all(jnp.where(absent, dies, True), axis=-1)

    @property
    def patterns(self) -> Int[Array, " M"]:
        """The most probable pattern of each, -1 for none."""
        return jnp.where(self.valid, jnp.argmax(self.pattern_probs, axis=-1), -1)


def _from_values(field: PatternField) -> Attractors:
    """Constant values: every vertex attracts from the face on which its pattern is best."""
    objective = field.flow.objective
    gaps = field.policy.pattern_gaps(field.flow.problem, objective.reward)
    values, exists = gaps.gaps[field.question], field.exists
    corners = jnp.eye(values.shape[0], dtype=values.dtype)
    better = jnp.sign(gaps.between()[field.question])
    return Attractors(
        corners, corners > 0, better, exists & jnp.isfinite(values), jnp.zeros((), jnp.int32)
    )


@eqx.filter_jit
def _from_points(field: PatternField, found: FixedPoints, most: int) -> Attractors:
    """Of all fixed points those that attract on their own face, at most `most`; first those that
    attract from everywhere."""
    exists = field.exists
    absent = exists[None] & ~found.face
    leaves = jnp.where(absent, outward(found.growth, found.pull), 0)
    vertex = jnp.sum(found.face, axis=-1) == 1
    holds = found.valid & (vertex | found.settles)
    everything = Attractors(
        jnp.where(holds[:, None], found.pattern_probs, 0),
        found.face & holds[:, None],
        leaves,
        holds,
        jnp.zeros((), jnp.int32),
    )
    first = jnp.where(everything.within(exists), 0, jnp.where(holds, 1, 2))
    kept = jnp.argsort(first)[: min(most, len(first))]
    rows = jtu.tree_map(lambda x: x[kept], eqx.tree_at(lambda x: x.left_out, everything, None))
    left = jnp.sum(holds) - jnp.sum(rows.valid)
    return Attractors(rows.pattern_probs, rows.face, rows.outward, rows.valid, left)


def known_attractors(
    field: PatternField, given: FixedPoints | Attractors | None, integrable: bool, most: int
) -> Attractors:
    """The attractors given, or else those of the flow, in arrays of one size."""
    patterns = field.num_patterns
    if given is None and integrable:
        return _from_values(field)
    if given is None:
        few = f"be given where there are more than {_MANY} patterns"
        require(patterns <= _MANY, "attractors", few, f"None and {patterns} patterns")
        given = fixed_points(
            field.policy, field.flow, question=field.question, reference=field.reference
        )
    if not isinstance(given, FixedPoints | Attractors):
        raise TypeError(f"attractors must be FixedPoints or Attractors, got {given!r}")
    width = given.face.shape[1]
    require(width == patterns, "attractors", f"be of {patterns} patterns", width)
    return given if isinstance(given, Attractors) else _from_points(field, given, most)
