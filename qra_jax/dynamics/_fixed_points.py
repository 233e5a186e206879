"""Fixed points of a flow on the faces of the simplex, and what is stable about them.

(F1), (F4): docs/derivations.md#fixed-points-and-their-spectra.
"""

import itertools
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from .._core.checks import require, whole
from .._core.roots import implicit_root, solve_system
from .._core.trees import in_groups
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._field import PatternField, on_face, pattern_field
from ._stability import index_along, outward, stability

_MANY = 10  # patterns up to which all faces are looked at
_GROUP = 16  # faces looked at together
_RARE = -50.0  # the logit of a pattern far from which a search begins
_LOOKS = 81  # at the equations, from each start
_STEPS = 6  # of Newton's iteration thereafter


class FixedPoints(eqx.Module):
    r"""Fixed points, `(N,)` of them; where `valid` is False, there is none and the rest is NaN.

    - `pattern_probs`: `(N, R)`, 0 outside the point's face.
    - `log_probs`: `(N, R)`, their natural logarithms, which do not underflow; `-inf` outside.
    - `face`: `(N, R)`, the patterns that are there.
    - `valid`: `(N,)`.
    - `residual`: `(N,)`, the largest pull that is left on a pattern of the face, in units of the
      objective.
    - `eigenvalues`: `(N, R - 1)`, of the flow on the simplex linearised at the point, real parts
      falling; NaN in place of those of patterns that do not exist.
    - `growth`: `(N, R)`, the eigenvalue of each pattern that is not there, the rate at which it
      would grow from next to nothing; 0 on the face, NaN for a pattern that does not exist. In a
      Euclidean flow it is mostly 0 (growth is of second order), and the sign of `pull` decides.
    - `pull`: `(N, R)`, the advantage of each pattern that is not there, infinite if a penalty
      forbids its absence; 0 on the face.
    - `kind`: `(N,)`, a `Stability`.
    - `regular`: `(N,)`, whether no eigenvalue along the face is 0; if not, the point may belong to
      a whole line of fixed points, of which only one is listed.
    - `settles`: `(N,)`, whether all eigenvalues along the face have negative real parts.
    - `index`: `(N,)`, the sign of det(-linearisation along the face): 1, -1, or 0 if not regular.
    """

    pattern_probs: Float[Array, "N R"]
    log_probs: Float[Array, "N R"]
    face: Bool[Array, "N R"]
    valid: Bool[Array, " N"]
    residual: Float[Array, " N"]
    eigenvalues: Complex[Array, "N R-1"]
    growth: Float[Array, "N R"]
    pull: Float[Array, "N R"]
    kind: Int[Array, " N"]
    regular: Bool[Array, " N"]
    settles: Bool[Array, " N"]
    index: Int[Array, " N"]

    def listed(self) -> "FixedPoints":
        """The valid ones alone. Not under `jit`: how many there are depends on values."""
        keep = np.asarray(self.valid)
        # In NumPy: each number of points would be compiled for anew.
        return jax.tree_util.tree_map(lambda leaf: jnp.asarray(np.asarray(leaf)[keep]), self)

    @property
    def saturated(self) -> Bool[Array, " N"]:
        """Whether no pattern that is not there would grow."""
        return self.valid & ~jnp.any(outward(self.growth, self.pull) > 0, axis=-1)

    @property
    def index_sum(self) -> Int[Array, ""]:
        r"""The sum of `index` over regular saturated points: 1 if all were found and all are
        regular. It looks at points from which no absent pattern grows; `index_sum_on` at others.

        Source: Hofbauer and Sigmund, "Evolutionary Games and Population Dynamics" (1998),
        chapter 13.
        """
        return self.index_sum_on(jnp.ones(self.face.shape[1], bool))

    def index_sum_on(self, patterns: ArrayLike) -> Int[Array, ""]:
        """`index_sum` of the flow in which only some patterns exist: 1 if all fixed points of that
        face and its own faces were found and all are regular. A point that is missed on a face
        shows there, even where other patterns would leave it.

        **Arguments:** `patterns`: `(R,)` bools, which patterns exist.
        """
        kept = jnp.asarray(patterns)[None]
        inside = self.valid & jnp.all(~self.face | kept, axis=-1)
        leaves = jnp.any((outward(self.growth, self.pull) > 0) & kept, axis=-1)
        return jnp.sum(jnp.where(inside & ~leaves, self.index, 0))


def fixed_points(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    faces: str | ArrayLike = "all",
    question: int = 0,
    starts: int = 32,
    reference: AbstractPolicy | None = None,
) -> FixedPoints:
    r"""All fixed points of a flow on the faces of its simplex, with their stability.

    On the face S, the patterns that are there, a point is at rest if
    $\partial J / \partial \theta_r = 0$ for r in S. The spectrum of the flow at it is that of the
    flow along S together with the growth rates of the patterns outside S. Roots are looked for
    from many starts on every face; `FixedPoints.index_sum`, and `index_sum_on` face by face, tell
    if one must have been missed.

    **Arguments:**

    - `flow`: on patterns (frozen answers), or a `Problem` for Euclidean RLVR.
    - `policy`: a `TabularPolicy`, which gives the answers and says which patterns exist.
    - `faces`: `"all"` (up to 10 patterns), `"vertices"`, `"interior"`, or a mask `(F, R)`.
    - `question`: whose patterns; those of other questions stay at `policy`.
    - `starts`: from how many points of each face roots are looked for, at least 1.
    - `reference`: what regularisers compare with, `policy` if not given.

    **Returns:** `FixedPoints`, differentiable in flow and policy where `regular` (repeated
    eigenvalues once).

    **Raises:** `TypeError` or `ValueError` for a policy that is no table, trained answers, or an
    argument out of range.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        found = qra.fixed_points(policy, qra.GradientFlow(qra.RLVR(beta=0.1), problem)).listed()
        for probs, kind in zip(found.pattern_probs, found.kind):
            print(probs, qra.dynamics.Stability.names(kind))
        ```

    Source: derived in docs/derivations.md#fixed-points-and-their-spectra.
    """
    field = pattern_field(policy, flow, question, reference)
    masks = _as_masks(faces, field.num_patterns)
    logits = _starts(masks, whole(starts, "starts", 1))
    return _fixed_points(field, jnp.asarray(masks), jnp.asarray(logits, field.log_probs.dtype))


def _as_masks(faces: str | ArrayLike, patterns: int) -> Bool[np.ndarray, "F R"]:
    if isinstance(faces, str):
        known = ("all", "vertices", "interior")
        require(faces in known, "faces", f"be one of {known} or a mask", repr(faces))
        if faces == "vertices":
            return np.eye(patterns, dtype=bool)
        if faces == "interior":
            return np.ones((1, patterns), bool)
        few = f"be a mask where there are more than {_MANY} patterns"
        require(patterns <= _MANY, "faces", few, f"{faces!r} and {patterns} patterns")
        every = np.array(list(itertools.product((False, True), repeat=patterns)))[1:]
        return every[np.argsort(every.sum(axis=1), kind="stable")]
    masks = np.asarray(faces)
    fits = masks.ndim == 2 and masks.shape[1] == patterns and masks.dtype == bool
    kind = f"have shape (F, {patterns}) and hold bools"
    require(fits, "faces", kind, f"shape {masks.shape} of {masks.dtype}")
    require(bool(masks.any(axis=1).all()), "faces", "hold a pattern in each row", masks)
    return masks


def _starts(masks: Bool[np.ndarray, "F R"], starts: int) -> Float[np.ndarray, "F S R"]:
    """Logits of starts on each face: its middle, next to each corner, then by turns far from some
    of the patterns and at random, ever further out.

    Under a small penalty the fixed points next to a smaller face attract Newton's iteration only
    from where the penalty outweighs all else that depends on a rare pattern: far out.
    """
    patterns = masks.shape[1]
    draws = np.random.default_rng(0).standard_normal((starts, patterns))
    spread = 1.5 * (1 + np.arange(starts) % 4)[:, None] * draws
    spread[0] = 0
    rows = np.repeat(spread[None], len(masks), axis=0)
    for row, mask in zip(rows, masks, strict=True):
        for logits, kept in zip(row[1:], _kept(mask), strict=False):
            logits[mask & ~kept] = _RARE
    return rows


def _kept(mask: Bool[np.ndarray, " R"]) -> Iterator[Bool[np.ndarray, " R"]]:
    """Which patterns of a face a start does not make rare: first one alone, then by turns all
    smaller sets and the whole face."""
    members = np.flatnonzero(mask)
    places = np.arange(len(mask))
    smaller = [
        np.isin(places, chosen)
        for size in range(2, len(members))
        for chosen in itertools.combinations(members, size)
    ]
    yield from (places == one for one in members)
    yield from itertools.cycle([*smaller, *[mask] * max(1, len(smaller))])


class _Root(eqx.Module):
    log_probs: Float[Array, "*batch R"]
    residual: Float[Array, "*batch"]
    found: Bool[Array, "*batch"]
    regular: Bool[Array, "*batch"]


@eqx.filter_jit
def _fixed_points(
    field: PatternField, masks: Bool[Array, "F R"], starts: Float[Array, "F S R"]
) -> FixedPoints:
    field = field.measured()

    def on_one(face):
        mask, starts = face
        root = _roots_on_face(field, mask, starts)
        found = jax.vmap(lambda x: stability(field, mask, x))(root.log_probs)
        return root, found, jnp.broadcast_to(mask, root.log_probs.shape)

    batch = in_groups(on_one, (masks, starts), _GROUP)
    root, found, face = jax.tree_util.tree_map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def shown(values, missing):
        return jnp.where(root.found.reshape(-1, *[1] * (values.ndim - 1)), values, missing)

    return FixedPoints(
        pattern_probs=shown(jnp.exp(root.log_probs), jnp.nan),
        log_probs=shown(root.log_probs, jnp.nan),
        face=shown(face, False),
        valid=root.found,
        residual=shown(root.residual, jnp.nan),
        eigenvalues=shown(found.eigenvalues, jnp.nan),
        growth=shown(found.growth, jnp.nan),
        pull=shown(found.pull, jnp.nan),
        kind=shown(found.kind, -1),
        regular=shown(root.regular, False),
        settles=shown(found.settles, False),
        index=shown(jnp.where(root.regular, found.sign, 0), 0),
    )


def _roots_on_face(
    field: PatternField, mask: Bool[Array, " R"], starts: Float[Array, "S R"]
) -> _Root:
    """The fixed points that the starts lead to, each marked `found` once."""
    dtype = starts.dtype
    root = jax.vmap(lambda start: _root(field, mask, start))(starts)
    # Two starts may lead to one point: the first keeps it. Close means close in log odds, since
    # near a vertex different points have nearly the same probabilities.
    there = jnp.where(mask[None], root.log_probs, 0)
    distance = jnp.max(jnp.abs(there[:, None] - there[None]), axis=-1)
    close = distance < 1e3 * jnp.sqrt(jnp.finfo(dtype).eps)
    found = root.found & ~jnp.any(jnp.tril(close & root.found[None], -1), axis=-1)
    # Of a line of fixed points, one.
    line = found & ~root.regular
    found &= root.regular | (jnp.cumsum(line) == 1)
    # A face on which nothing moves, as where rewards are tied, is all fixed points: its middle.
    pulls = jax.vmap(lambda start: field.pull(on_face(mask, start)))(starts)
    still = jnp.max(jnp.where(mask[None], jnp.abs(pulls), 0)) <= 64 * field.rounding
    middle = on_face(mask, jnp.zeros_like(starts[0]))
    # Where a penalty on absence is infinite, as that of ForwardKL, the flow is not defined.
    allowed = jnp.isfinite(field.objective(middle)) & ~jnp.any(mask & ~field.exists)
    return _Root(
        jnp.where(still, middle[None], root.log_probs),
        jnp.where(still, 0, root.residual),
        jnp.where(still, jnp.arange(len(starts)) == 0, found) & allowed,
        jnp.where(still, jnp.sum(mask) == 1, root.regular),
    )


def _root(field: PatternField, mask: Bool[Array, " R"], start: Float[Array, " R"]) -> _Root:
    """The fixed point that one start leads to, if to any."""
    eps = float(jnp.finfo(start.dtype).eps)
    held = jax.lax.stop_gradient(field)
    rough = solve_system(
        lambda x: jnp.where(mask, held.pull(on_face(mask, x)), 0),
        jnp.where(mask, start, 0),
        damped=True,
        most=_LOOKS,
    )
    left, vertex = jnp.max(jnp.abs(rough.value)), jnp.sum(mask) == 1
    # Where pulls die away towards the boundary they are small without being near a root, but not
    # small beside their own derivatives.
    found = (left <= eps**0.6 * jnp.max(jnp.abs(rough.slopes))) | vertex
    here = jnp.where(mask, on_face(mask, rough.root), 0)
    # Under a small penalty the derivatives are small themselves, and what pulls are left may be
    # rounding: then Newton's steps get short, as they do not where pulls die away.
    fine = solve_system(lambda x: held.equations(mask, x), here, damped=False, most=_STEPS)
    rest = jnp.max(jnp.where(mask, jnp.abs(held.pull(on_face(mask, fine.root))), 0))
    sharp = fine.converged & (rest <= held.rounding / jnp.sqrt(eps))
    here = jax.lax.stop_gradient(jnp.where(sharp, fine.root, here))
    found = jax.lax.stop_gradient(found | sharp)
    regular = found & (index_along(held, mask, on_face(mask, here)) != 0)
    # (F4).
    root = implicit_root(lambda x: field.equations(mask, x), here, regular, system=True)
    log_probs = on_face(mask, root)
    left = jnp.max(jnp.where(mask, jnp.abs(field.pull(log_probs)), 0))
    return _Root(log_probs, left, found, regular)
