"""Points of rest of a flow on the faces of the simplex, and what is stable about them."""

import enum
import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from .._core.checks import require, whole
from .._core.trees import chosen, in_groups
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._field import PatternField, pattern_field

_MANY = 10  # patterns up to which all faces are looked at
_GROUP = 16  # faces looked at together


class Stability(enum.IntEnum):
    """What becomes of small disturbances of a point of rest; -1 stands for no point."""

    SINK = 0
    """All of them die out."""
    SADDLE = 1
    """Some die out, some grow."""
    SOURCE = 2
    """All of them grow."""
    DEGENERATE = 3
    """Some neither grow nor die out to the order looked at, and none of the others decides."""


class FixedPoints(eqx.Module):
    r"""Points of rest, `(N,)` of them; where `valid` is False, there is none and the rest is NaN.

    - `pattern_probs`: `(N, R)`, 0 outside the point's face.
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
      a whole line of points of rest, of which only one is listed.
    """

    pattern_probs: Float[Array, "N R"]
    face: Bool[Array, "N R"]
    valid: Bool[Array, " N"]
    residual: Float[Array, " N"]
    eigenvalues: Complex[Array, "N R-1"]
    growth: Float[Array, "N R"]
    pull: Float[Array, "N R"]
    kind: Int[Array, " N"]
    regular: Bool[Array, " N"]

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
        r"""The sum of indices over regular saturated points, $\sum (-1)^{u}$, u the number of
        growing directions along the face: 1 if all were found and all are regular.

        Source: Hofbauer and Sigmund, "Evolutionary Games and Population Dynamics" (1998),
        chapter 13.
        """
        # A pair of complex eigenvalues leaves the sign as it is. Those of absent patterns do not
        # count, and at a saturated point they do not grow.
        real = jnp.abs(self.eigenvalues.imag) == 0
        growing = jnp.sum(real & (self.eigenvalues.real > 0), axis=-1)
        counted = self.saturated & self.regular
        return jnp.sum(jnp.where(counted, 1 - 2 * (growing % 2), 0))


def fixed_points(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    faces: str | ArrayLike = "all",
    question: int = 0,
    starts: int = 32,
    reference: AbstractPolicy | None = None,
) -> FixedPoints:
    r"""All points of rest of a flow on the faces of its simplex, with their stability.

    On the face S, the patterns that are there, a point is at rest if
    $\partial J / \partial \theta_r = 0$ for r in S. The spectrum of the flow at it is that of the
    flow along S together with the growth rates of the patterns outside S. Roots are looked for
    from many starts on every face; `FixedPoints.index_sum` tells if one must have been missed.

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
            print(probs, qra.dynamics.Stability(int(kind)).name)
        ```

    Source: derived in docs.
    """
    field = pattern_field(policy, flow, question, reference)
    masks = _as_masks(faces, field.num_patterns)
    logits = _spread(field.num_patterns, whole(starts, "starts", 1))
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


def _spread(patterns: int, starts: int) -> Float[np.ndarray, "S R"]:
    """Logits of starts: the middle, then at and between the corners, ever further out."""
    draws = np.random.default_rng(0).standard_normal((starts, patterns))
    size = 1.5 * (1 + np.arange(starts) % 4)[:, None]
    return np.where(np.arange(starts)[:, None] == 0, 0, size * draws)


class _Root(eqx.Module):
    log_probs: Float[Array, "*batch R"]
    residual: Float[Array, "*batch"]
    found: Bool[Array, "*batch"]
    regular: Bool[Array, "*batch"]


@eqx.filter_jit
def _fixed_points(
    field: PatternField, masks: Bool[Array, "F R"], starts: Float[Array, "S R"]
) -> FixedPoints:

    def on_face(mask):
        root = _roots_on_face(field, mask, starts)
        found = jax.vmap(lambda x: stability(field, mask, x))(root.log_probs)
        return root, found, jnp.broadcast_to(mask, root.log_probs.shape)

    batch = in_groups(on_face, masks, _GROUP)
    flat = jax.tree_util.tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    root, (eigenvalues, growth, pull, kind), face = flat

    def shown(values, missing):
        found = root.found.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.where(found, values, missing)

    return FixedPoints(
        pattern_probs=shown(jnp.exp(root.log_probs), jnp.nan),
        face=shown(face, False),
        valid=root.found,
        residual=shown(root.residual, jnp.nan),
        eigenvalues=shown(eigenvalues, jnp.nan),
        growth=shown(growth, jnp.nan),
        pull=shown(pull, jnp.nan),
        kind=shown(kind, -1),
        regular=shown(root.regular, False),
    )


def equations(
    field: PatternField, mask: Bool[Array, " R"], logits: Float[Array, " R"]
) -> Float[Array, " R"]:
    """What is 0 at a point of rest of a face with normalised `logits`, as many equations as
    unknowns: the pulls on its patterns, whose mean is 0 by itself, and the normalisation."""
    total = jax.nn.logsumexp(jnp.where(mask, logits, -jnp.inf))
    pulls = field.pull(jnp.where(mask, logits, -jnp.inf) - total)
    return jnp.where(mask, pulls + total, logits)


def solve_equations(
    function: Callable[[Float[Array, " N"]], Float[Array, " N"]], start: Float[Array, " N"]
) -> Float[Array, " N"]:
    """A root by Levenberg's and Marquardt's method, or where that comes to a stop without one."""

    def look(x):
        return function(x), jax.jacfwd(function)(x)

    def size(value):
        finite = jnp.all(jnp.isfinite(value))
        return jnp.where(finite, jnp.linalg.norm(jnp.where(finite, value, 0)), jnp.inf)

    def step(state):
        x, (value, slope), damping, count, _ = state
        diagonal = damping * jnp.max(jnp.abs(slope)) ** 2 + jnp.finfo(x.dtype).tiny
        normal = slope.T @ slope + diagonal * jnp.eye(x.shape[0], dtype=x.dtype)
        move = jnp.linalg.solve(normal, slope.T @ value)
        there = look(x - move)
        better = size(there[0]) < size(value)
        damping = jnp.where(better, damping / 10, damping * 4)
        # At a root to rounding nothing gets better any more, however short the step.
        over = ~better & ((damping > 1e8) | (size(move) <= 1e-14 * size(x)))
        state = x - move, there
        return *chosen(better, state, (x, (value, slope))), damping, count + 1, over

    damping = jnp.asarray(1e-3, start.dtype)
    state = start, look(start), damping, 0, jnp.asarray(False)
    state = jax.lax.while_loop(lambda s: ~s[-1] & (s[-2] < 80), step, state)
    return state[0]


def implicit_root(
    function: Callable[[Float[Array, " N"]], Float[Array, " N"]],
    root: Float[Array, " N"],
    usable: Bool[Array, ""],
) -> Float[Array, " N"]:
    """A root that has been found, with the derivatives of all orders that it has implicitly; they
    are 0 where not `usable`."""
    known = jax.lax.stop_gradient(root)

    def linear_solve(linear, target):
        return jnp.linalg.solve(jax.jacfwd(linear)(target), target)

    return jax.lax.custom_root(
        lambda x: jnp.where(usable, function(x), x - known),
        known,
        lambda _, guess: guess,
        linear_solve,
    )


def _roots_on_face(
    field: PatternField, mask: Bool[Array, " R"], starts: Float[Array, "S R"]
) -> _Root:
    """The points of rest that the starts lead to, each marked `found` once."""
    dtype = starts.dtype
    root = jax.vmap(lambda start: _root(field, mask, start))(starts)
    # Two starts may lead to one point: the first keeps it. Close means close in log odds, since
    # near a vertex different points have nearly the same probabilities.
    there = jnp.where(mask[None], root.log_probs, 0)
    distance = jnp.max(jnp.abs(there[:, None] - there[None]), axis=-1)
    close = distance < 1e3 * jnp.sqrt(jnp.finfo(dtype).eps)
    found = root.found & ~jnp.any(jnp.tril(close & root.found[None], -1), axis=-1)
    # Of a line of points of rest, one.
    line = found & ~root.regular
    found &= root.regular | (jnp.cumsum(line) == 1)
    # A face on which nothing moves, as where rewards are tied, is all points of rest: its middle.
    pulls = jax.vmap(lambda start: field.pull(_on_face(mask, start)))(starts)
    still = jnp.max(jnp.where(mask[None], jnp.abs(pulls), 0)) <= 64 * _rounding(field)
    middle = _on_face(mask, jnp.zeros_like(starts[0]))
    # Where a penalty on absence is infinite, as that of ForwardKL, the flow is not defined.
    allowed = jnp.isfinite(field.objective(middle)) & ~jnp.any(mask & ~field.exists)
    return _Root(
        jnp.where(still, middle[None], root.log_probs),
        jnp.where(still, 0, root.residual),
        jnp.where(still, jnp.arange(len(starts)) == 0, found) & allowed,
        jnp.where(still, jnp.sum(mask) == 1, root.regular),
    )


def _on_face(mask: Bool[Array, " R"], logits: Float[Array, " R"]) -> Float[Array, " R"]:
    return jax.nn.log_softmax(jnp.where(mask, logits, -jnp.inf))


def _rounding(field: PatternField) -> Float[Array, ""]:
    """Rounding errors of a pull of rewards of order 1."""
    dtype = field.policy.pattern_logits.dtype
    return jnp.finfo(dtype).eps * field.flow.problem.weights[field.question].astype(dtype)


def _root(field: PatternField, mask: Bool[Array, " R"], start: Float[Array, " R"]) -> _Root:
    """The point of rest that one start leads to, if to any."""
    eps = float(jnp.finfo(start.dtype).eps)
    held = jax.lax.stop_gradient(field)
    guess = jax.lax.stop_gradient(
        solve_equations(lambda x: equations(held, mask, x), jnp.where(mask, start, 0))
    )
    left = jnp.max(jnp.abs(equations(held, mask, guess)))
    jacobian = jax.jacfwd(lambda x: equations(held, mask, x))(guess)
    # Of the pulls alone. Where those die away towards the boundary they are small without being
    # near a root, but not small beside their own derivatives.
    both = mask[:, None] & mask[None]
    slopes = jnp.where(both, jacobian - jnp.exp(_on_face(mask, guess))[None], 0)
    size = jnp.max(jnp.abs(slopes))
    found = (left <= eps**0.6 * size) | (jnp.sum(mask) == 1)
    # The normalisation on the scale of the pulls, so that it does not hide a small eigenvalue.
    scaled = jnp.where(
        both, slopes + size / jnp.sum(mask), jnp.where(mask[None], 0, jacobian * size)
    )
    values = jnp.linalg.svd(scaled, compute_uv=False)
    regular = found & (values[-1] > eps**0.4 * values[0])
    regular |= jnp.sum(mask) == 1
    root = implicit_root(lambda x: equations(field, mask, x), guess, regular)
    return _Root(_on_face(mask, root), left, found, regular)


def stability(
    field: PatternField, mask: Bool[Array, " R"], log_probs: Float[Array, " R"]
) -> tuple[Complex[Array, " R-1"], Float[Array, " R"], Float[Array, " R"], Int[Array, ""]]:
    """Spectrum at a point of rest of a face; growth and pull of the patterns outside it; kind.

    A pattern that is not there stays so, hence the linearisation is block triangular: the face and
    each pattern outside have eigenvalues of their own.
    """
    along = _along_face(field, mask, log_probs)
    growth, pull = _outside(field, mask, log_probs)
    outside = field.exists & ~mask
    spectrum = jnp.concatenate([along, jnp.where(outside, growth, jnp.nan).astype(along.dtype)])
    order = jnp.argsort(jnp.where(jnp.isnan(spectrum.real), jnp.inf, -spectrum.real))

    rounding = jnp.finfo(log_probs.dtype).eps ** 0.6
    zero = rounding * jnp.max(jnp.where(jnp.isnan(along.real), 0, jnp.abs(along)))
    settled = jnp.where(jnp.abs(along.real) <= zero, 0, jnp.sign(along.real))
    signs = jnp.concatenate([settled, jnp.where(outside, outward(growth, pull), jnp.nan)])
    grows, dies = jnp.any(signs > 0), jnp.any(signs < 0)
    kind = jnp.where(grows, Stability.SOURCE, Stability.SINK)
    kind = jnp.where(jnp.any(signs == 0), Stability.DEGENERATE, kind)
    kind = jnp.where(grows & dies, Stability.SADDLE, kind).astype(jnp.int32)
    return spectrum[order[: mask.shape[0] - 1]], growth, pull, kind


@jax.custom_jvp
def spectrum(matrix: Float[Array, "N N"]) -> Complex[Array, " N"]:
    r"""Eigenvalues of a matrix, differentiable more than once.

    A simple eigenvalue is a root of $p = \det(M - \lambda 1)$: $d\lambda = -dp / \partial_\lambda
    p$, to all orders. Repeated ones move by the diagonal of $V^{-1} dM\, V$, to first order.
    """
    return jnp.linalg.eigvals(matrix)


@spectrum.defjvp
def _spectrum_jvp(primals, tangents):
    (matrix,), (moved,) = primals, tangents
    values = spectrum(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def simple(value):
        def determinant(matrix, value):
            return jnp.linalg.det(matrix - value * identity)

        still, unit = jnp.zeros_like(moved, values.dtype), jnp.ones_like(value)
        point = matrix.astype(values.dtype), value
        _, change = jax.jvp(determinant, point, (moved.astype(values.dtype), 0 * unit))
        _, slope = jax.jvp(determinant, point, (still, unit))
        return change, slope

    change, slope = jax.vmap(simple)(values)
    held = jax.lax.stop_gradient(matrix)
    _, vectors = jnp.linalg.eig(held)
    # The slope is a product of distances to the other eigenvalues.
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(values))) ** (matrix.shape[0] - 1)
    repeated = jnp.abs(slope) <= jnp.finfo(matrix.dtype).eps ** 0.6 * size
    diagonal = jnp.diag(jnp.linalg.solve(vectors, moved.astype(vectors.dtype) @ vectors))
    return values, jnp.where(repeated, diagonal, -change / jnp.where(repeated, 1, slope))


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
        vanishes = jnp.abs(nearer) <= 64 * _rounding(field)
        # A penalty on absence goes like log pi or 1/pi; anything else has settled long before.
        grows = rises > 64 * _rounding(field) * jnp.abs(log_tiny)
        grown = jnp.where(grows, jnp.sign(nearer) * jnp.inf, nearer)
        return jnp.where(vanishes, 0, grown)

    limits = jax.vmap(limit)(patterns)
    limits = jnp.where(mask[:, None], 0, jnp.where(field.exists[:, None], limits, jnp.nan))
    return limits[:, 0], limits[:, 1]


def outward(growth: Float[Array, "..."], pull: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sign of what becomes of absent patterns: where the rate is 0, that of the pull."""
    return jnp.where(growth == 0, jnp.sign(pull), jnp.sign(growth))
