"""Points of rest along a parameter: branches, followed by arc length, and where they turn."""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Int

from .._core.checks import as_scalar, is_concrete, require, whole
from .._core.trees import chosen
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ..policies._two_stage import AbstractTablePolicy
from ._field import PatternField, log_probs_of, pattern_field
from ._fixed_points import equations, implicit_root, stability

Family = Callable[[Float[Array, ""]], GradientFlow]

_RANGE = 5.0  # nats that the parameter's whole range counts as, in arc length
_TURN = 0.9  # cosine of the largest angle between tangents of neighbouring points
_NEWTON = 10  # steps that a corrector may take


class Special(enum.IntEnum):
    """What happens on a branch between two of its points; -1 stands for nothing."""

    FOLD = 0
    """The branch turns back in the parameter: two points of rest meet and end."""
    BRANCH_POINT = 1
    """Another branch crosses it, as in a pitchfork: a real eigenvalue passes 0 without a fold."""
    HOPF = 2
    """A pair of complex eigenvalues passes the imaginary axis: a cycle is born or ends."""


class Branch(eqx.Module):
    r"""A branch of points of rest, `N` of them, and up to `K` special points on it.

    Rows after the end repeat the last, with `valid` False; without any row all is NaN.

    - `value`: `(N,)`, the parameter.
    - `pattern_probs`: `(N, R)`.
    - `eigenvalues`: `(N, R - 1)`, of the flow on the simplex linearised at the point, real parts
      falling, per unit of time; NaN in place of those of patterns that do not exist.
    - `kind`: `(N,)`, a `Stability`; -1 without any row.
    - `valid`: `(N,)`.
    - `special`: `(K,)`, a `Special`, in the order of the branch; -1 in empty places.
    - `special_value`: `(K,)`, the parameter there; NaN in empty places.
    - `special_probs`: `(K, R)`, the point there; NaN in empty places.
    - `located`: `(K,)`, whether the special point is known to rounding, as folds and branch points
      are; it is interpolated between two rows otherwise: at a Hopf point, or where several
      eigenvalues pass 0 at once.
    - `num_special`: how many there are on the branch, those beyond `K` included.
    - `status`: a `Status`: COMPLETED: a bound was reached; MAX_STEPS: the rows are used up;
      FAILED: no step was short enough to go on; INVALID_INPUT: the start led to no point of rest.
    """

    value: Float[Array, " N"]
    pattern_probs: Float[Array, "N R"]
    eigenvalues: Complex[Array, "N R-1"]
    kind: Int[Array, " N"]
    valid: Bool[Array, " N"]
    special: Int[Array, " K"]
    special_value: Float[Array, " K"]
    special_probs: Float[Array, "K R"]
    located: Bool[Array, " K"]
    num_special: Int[Array, ""]
    status: Int[Array, ""]

    @property
    def fold(self) -> Bool[Array, "*batch K"]:
        """Which of the special points are folds."""
        return self.special == Special.FOLD


def continue_fixed_point(
    policy: AbstractPolicy,
    family: Family,
    pattern_probs: ArrayLike,
    value: ArrayLike,
    *,
    bounds: Sequence[ArrayLike],
    direction: int = 1,
    step: float = 0.2,
    max_steps: int = 256,
    max_special: int = 4,
    question: int = 0,
    reference: AbstractPolicy | None = None,
) -> Branch:
    r"""Follows a point of rest along a parameter $\lambda$, around folds, up to a bound.

    Solves $F(\log\pi, \lambda) = 0$, $F_r = (\partial J/\partial\theta_r)/\pi_r$, together with
    $t \cdot (z - z_0 - h t) = 0$: the plane a distance h ahead along the tangent t in
    $z = (\log\pi, 5 \lambda / (\lambda_1 - \lambda_0))$. Where a row of $F_z$ and t change as at
    a fold or a branch point, that is located by
    $F + \mu\psi = 0$, $\psi^\top F_x = 0$, and $\mu = 0$ or $\psi \cdot F_\lambda = 0$.

    **Arguments:**

    - `family`: a function of the parameter, a scalar, to a `GradientFlow` on patterns. An
      `eqx.Module` or `jax.tree_util.Partial` is compiled once for all its arrays, any other
      function once for itself.
    - `policy`: a `TabularPolicy`, which gives the answers and says which patterns exist.
    - `pattern_probs`: `(R,)`, near the point of rest to start from; the branch stays on the face
      of its patterns of probability above 0.
    - `value`: the parameter there, within the bounds.
    - `bounds`: $(\lambda_0, \lambda_1)$, where the branch ends, in the parameter's unit.
    - `direction`: 1 towards larger values at first, -1 towards smaller ones.
    - `step`: the longest step, in nats, in which the range between the bounds counts as 5.
    - `max_steps`: N, rows of the branch, at least 2.
    - `max_special`: K, how many special points are kept, at least 1.
    - `question`: whose patterns; those of other questions stay at `policy`.
    - `reference`: what regularisers compare with, `policy` if not given.

    **Returns:** a `Branch`. Derivatives are implicit and exact: those of special points of all
    orders; a row moves in the plane across the branch's tangent at it, the first and one on a
    bound at a fixed parameter.

    **Raises:** `TypeError` or `ValueError` for a family that yields no flow on patterns, a policy
    that is no table, or an argument out of range.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.45, 0.55], [0.9, 0.6])

        def family(beta):
            return qra.GradientFlow(qra.RLIF(qra.objectives.SequenceProbability(), beta), problem)

        start = qra.fixed_points(policy, family(0.1), faces="interior").listed().pattern_probs[0]
        branch = qra.dynamics.continue_fixed_point(policy, family, start, 0.1, bounds=(0.05, 1.0))
        print(branch.special_value[branch.fold])  # where the less certain pattern cannot last
        ```

    All branches at some values of the parameter, without following any:

    ??? example

        ```python
        import jax
        import jax.numpy as jnp
        import qra_jax as qra
        policy, problem = qra.two_stage([0.45, 0.55], [0.9, 0.6])

        def at(beta):
            flow = qra.GradientFlow(qra.RLIF(qra.objectives.SequenceProbability(), beta), problem)
            return qra.fixed_points(policy, flow, faces="interior")

        print(jax.vmap(at)(jnp.asarray([0.1, 0.2, 0.5])).valid.sum(axis=1))
        ```

    Source: Keller, "Numerical solution of bifurcation and nonlinear eigenvalue problems" (1977),
    for the arc length; Moore, SIAM J. Numer. Anal. 17 (1980) 567, for branch points; derived in
    docs.
    """
    if not callable(family):
        raise TypeError(f"family must be a function of the parameter, got {family!r}")
    value = as_scalar(value, "value", np.isfinite, "be finite")
    ends = jnp.stack(
        [as_scalar(end, f"bounds[{i}]", np.isfinite, "be finite") for i, end in enumerate(bounds)]
    )
    require(len(ends) == 2, "bounds", "be two numbers", len(ends))
    if is_concrete(ends, value):
        require(bool(ends[0] < ends[1]), "bounds", "be a smaller and a larger number", ends)
        inside = bool((ends[0] <= value) & (value <= ends[1]))
        require(inside, "value", f"lie within the bounds {ends}", value)
    require(direction in (-1, 1), "direction", "be -1 or 1", direction)
    require(0 < step < np.inf, "step", "be above 0, finite", step)
    whole(max_steps, "max_steps", 2)
    whole(max_special, "max_special", 1)
    flow = family(value)
    if not isinstance(flow, GradientFlow):
        raise TypeError(f"family must return a GradientFlow, got {flow!r}")
    field = pattern_field(policy, flow, question, reference)
    log_probs = log_probs_of(field, pattern_probs, ndim=1)
    dtype = log_probs.dtype
    return _follow(
        field.policy,
        family,
        field.reference,
        log_probs,
        value.astype(dtype),
        ends.astype(dtype),
        jnp.asarray(direction, dtype),
        jnp.asarray(step, dtype),
        field.question,
        (max_steps, max_special),
    )


class _Curve(eqx.Module):
    """The equations of a branch in its coordinates z `(R + 1,)`: log-probabilities, and the
    parameter in units in which its range is a few nats."""

    family: Any
    policy: AbstractTablePolicy
    reference: AbstractPolicy
    mask: Bool[Array, " R"]
    origin: Float[Array, ""]
    unit: Float[Array, ""]
    question: int = eqx.field(static=True)

    def value(self, z: Float[Array, "*N Z"]) -> Float[Array, "*N"]:
        return self.origin + self.unit * z[..., -1]

    def field(self, z: Float[Array, " Z"]) -> PatternField:
        flow = self.family(self.value(z))
        return PatternField(flow, self.policy, self.reference, self.question)

    def log_probs(self, z: Float[Array, " Z"]) -> Float[Array, " R"]:
        return jax.nn.log_softmax(jnp.where(self.mask, z[:-1], -jnp.inf))

    def equations(self, z: Float[Array, " Z"]) -> Float[Array, " R"]:
        return equations(self.field(z), self.mask, z[:-1])

    def stability(self, z: Float[Array, " Z"]):
        return stability(self.field(z), self.mask, self.log_probs(z))

    def on_plane(self, z: Float[Array, " Z"], plane: Float[Array, " Z"], level: Float[Array, ""]):
        """0 at the point of rest on a plane across the branch."""
        return jnp.append(self.equations(z), plane @ z - level)

    def special(self, unknowns: Float[Array, " U"], scale: Float[Array, " R"], fold):
        r"""0 at a fold or else a branch point: $(z, \mu, \psi)$, with $\psi$ scaled by `scale`."""
        z, slack, left = (
            unknowns[: len(scale) + 1],
            unknowns[len(scale) + 1],
            unknowns[-len(scale) :],
        )
        # Forward all the way: half of what reversing a gradient again takes to compile.
        here, slopes = _look(self.equations, z)
        across = left @ slopes
        last = jnp.where(fold, slack, across[-1])
        rest = jnp.stack([scale @ left - 1, last])
        return jnp.concatenate([here + slack * left, across[:-1], rest])


def _look(function, x: Float[Array, " U"]) -> tuple[Float[Array, " V"], Float[Array, "V U"]]:
    """A function's value and slopes, in one pass."""
    slopes, value = jax.jacfwd(lambda x: (function(x),) * 2, has_aux=True)(x)
    return value, slopes


class _Walk(NamedTuple):
    """Where a walk along a branch is. `aim`: what a plane of fixed parameter is met from, at the
    start and at a bound."""

    here: Float[Array, " Z"]
    tangent: Float[Array, " Z"]
    step: Float[Array, ""]
    aim: Float[Array, " Z"]
    mode: Int[Array, ""]
    taken: Int[Array, ""]
    rows: Float[Array, "N Z"]
    tangents: Float[Array, "N Z"]
    frames: Float[Array, "N Z Z"]
    status: Int[Array, ""]


_START, _ALONG, _BOUND = 0, 1, 2
_GOING = -1  # no status yet


@eqx.filter_jit
def _follow(
    policy: AbstractTablePolicy,
    family,
    reference: AbstractPolicy,
    log_probs: Float[Array, " R"],
    value: Float[Array, ""],
    bounds: Float[Array, "2"],
    direction: Float[Array, ""],
    step: Float[Array, ""],
    question: int,
    sizes: tuple[int, int],
) -> Branch:
    # What a closure has captured comes into view like this, so that it can be held.
    converted = eqx.filter_closure_convert(family, value)
    mask = log_probs > -jnp.inf
    origin, unit = jax.lax.stop_gradient((bounds[0], (bounds[1] - bounds[0]) / _RANGE))
    curve = _Curve(converted, policy, reference, mask, origin, unit, question)
    held = _held(curve)

    start = jnp.append(jnp.where(mask, log_probs, 0), (value - origin) / unit)
    start = jax.lax.stop_gradient(start)
    sound = jnp.all(jnp.isfinite(start)) & ~jnp.any(jnp.isnan(log_probs))
    walk = _walk(held, jnp.where(sound, start, jnp.nan), direction, step, sizes[0])
    reached = walk.status == Status.COMPLETED
    number = jnp.arange(sizes[0])
    valid, last = number < walk.taken, jnp.maximum(walk.taken - 1, 0)
    filled = jnp.minimum(number, last)
    rows, tangents = walk.rows[filled], walk.tangents[filled]

    # Ends are met at a fixed parameter, all other rows across their tangent.
    is_start, is_end = filled == 0, reached & (filled == last)
    fixed = jnp.zeros_like(start).at[-1].set(1)
    planes = jnp.where((is_start | is_end)[:, None], fixed, tangents)
    bound = jnp.where(rows[-1, -1] > _RANGE / 2, bounds[1], bounds[0])
    end = jnp.where(is_end, bound, value)
    levels = jnp.where(is_start | is_end, (end - origin) / unit, jnp.sum(planes * rows, axis=1))

    live = jax.vmap(
        lambda z, plane, level, usable: implicit_root(
            lambda z: curve.on_plane(z, plane, level), z, usable
        )
    )(rows, planes, levels, valid[filled])
    eigenvalues, _, _, kind = jax.vmap(curve.stability)(live)

    between = valid[1:]
    tests = _tests(tangents, walk.frames[filled], jax.lax.stop_gradient(eigenvalues))
    special, at, guesses = _between(rows, tests, between, sizes[1])
    span = jnp.linalg.norm(rows[at + 1] - rows[at], axis=1)
    slopes = walk.frames[filled][at, :-1, :-1]
    found, located = jax.vmap(lambda *at: _locate(curve, held, *at))(guesses, slopes, special, span)

    some, present = walk.taken > 0, special >= 0
    values = jnp.where(is_start | is_end, end, curve.value(live))
    return Branch(
        value=jnp.where(some, values, jnp.nan),
        pattern_probs=jnp.where(some, jnp.exp(jax.vmap(curve.log_probs)(live)), jnp.nan),
        eigenvalues=jnp.where(some, eigenvalues, jnp.nan),
        kind=jnp.where(some, kind, -1),
        valid=valid,
        special=special,
        special_value=jnp.where(present, curve.value(found), jnp.nan),
        special_probs=jnp.where(
            present[:, None], jnp.exp(jax.vmap(curve.log_probs)(found)), jnp.nan
        ),
        located=located,
        num_special=jnp.sum(between & tests.kinds()[1]),
        status=walk.status,
    )


def _held(tree):
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def _newton(
    function: Callable[[Float[Array, " U"]], Float[Array, " U"]], start: Float[Array, " U"]
) -> tuple[Float[Array, " U"], Float[Array, "U U"], Bool[Array, ""]]:
    """A root near a guess, the slopes there (but for their last digits), and whether it is one."""
    small = float(np.sqrt(jnp.finfo(start.dtype).eps))

    def improve(state):
        x, _, _, count = state
        value, slopes = _look(function, x)
        move = jnp.linalg.solve(slopes, value)
        x = x - move
        return x, slopes, jnp.max(jnp.abs(move)) / (1 + jnp.max(jnp.abs(x))), count + 1

    def go_on(state):
        _, _, size, count = state
        # Of second order: a step after one that is this small would be below rounding.
        return (size > small) & (count < _NEWTON)

    slopes = jnp.zeros((len(start), len(start)), start.dtype)
    begin = start, slopes, jnp.ones_like(start[0]), 0
    root, slopes, size, _ = jax.lax.while_loop(go_on, improve, begin)
    return root, slopes, size <= small


def _walk(
    curve: _Curve,
    start: Float[Array, " Z"],
    direction: Float[Array, ""],
    longest: Float[Array, ""],
    number: int,
) -> _Walk:
    dtype = start.dtype
    upward = jnp.zeros_like(start).at[-1].set(1)
    shortest = longest * float(jnp.finfo(dtype).eps) ** 0.4

    def attempt(walk: _Walk) -> _Walk:
        along, begins = walk.mode == _ALONG, walk.mode == _START
        guess = jnp.where(along, walk.here + walk.step * walk.tangent, walk.aim)
        plane = jnp.where(along, walk.tangent, upward)
        root, slopes, ok = _newton(lambda z: curve.on_plane(z, plane, plane @ guess), guess)
        frame = slopes.at[-1].set(walk.tangent)
        tangent = jnp.linalg.solve(frame, upward)
        tangent = tangent / jnp.linalg.norm(tangent)
        turn = tangent @ walk.tangent
        # Far from where the tangent points, or at an angle to it, is another branch.
        near = jnp.linalg.norm(root - guess) <= jnp.where(along, walk.step / 2, walk.step)
        ok &= jnp.all(jnp.isfinite(tangent)) & (begins | (near & (turn >= _TURN)))

        outside = along & ok & ((root[-1] < 0) | (root[-1] > _RANGE))
        bound = jnp.where(root[-1] < 0, 0, _RANGE)
        share = (bound - walk.here[-1]) / (root[-1] - walk.here[-1])
        aim = (walk.here + share * (root - walk.here)).at[-1].set(bound)
        accept = ok & ~outside
        factor = jnp.where(turn > 0.99, 1.5, jnp.where(turn > 0.96, 1, 0.6))
        factor = jnp.where(begins, 1, jnp.where(accept, factor, jnp.where(outside, 1, 0.5)))
        step = jnp.minimum(walk.step * factor, longest)
        count = walk.taken + accept

        ends = [
            (accept & (walk.mode == _BOUND), Status.COMPLETED),
            (begins & ~ok, Status.INVALID_INPUT),
            (step < shortest, Status.FAILED),
            (count >= number, Status.MAX_STEPS),
        ]
        status = jnp.select(*map(list, zip(*ends, strict=True)), default=_GOING)
        here, tangent = chosen(accept, (root, tangent), (walk.here, walk.tangent))
        at = jnp.minimum(walk.taken, number - 1)
        return _Walk(
            here,
            tangent,
            step,
            aim,
            jnp.where(outside, _BOUND, _ALONG),
            count,
            walk.rows.at[at].set(jnp.where(accept, root, walk.rows[at])),
            walk.tangents.at[at].set(jnp.where(accept, tangent, walk.tangents[at])),
            walk.frames.at[at].set(jnp.where(accept, frame, walk.frames[at])),
            status.astype(jnp.int32),
        )

    begin = _Walk(
        start,
        direction * upward,
        longest / 4,
        start,
        jnp.asarray(_START),
        jnp.asarray(0),
        jnp.zeros((number, len(start)), dtype),
        jnp.broadcast_to(direction * upward, (number, len(start))),
        jnp.zeros((number, len(start), len(start)), dtype),
        jnp.asarray(_GOING, jnp.int32),
    )
    return jax.lax.while_loop(lambda walk: walk.status == _GOING, attempt, begin)


class _Tests(NamedTuple):
    """Functions on the rows, whose signs and counts change at special points."""

    along: Float[Array, " N"]
    """The tangent's component along the parameter: at folds, and on one branch of a pitchfork."""
    frame: Float[Array, " N"]
    """The determinant of slopes and the tangent before: where another branch crosses."""
    real_parts: Float[Array, "N E"]
    """Of the eigenvalues, falling; 0 where it is rounding."""
    paired: Bool[Array, "N E"]
    """Which eigenvalues are complex."""

    @property
    def growing(self) -> Int[Array, " N"]:
        return jnp.sum(self.real_parts > 0, axis=1)

    def kinds(self) -> tuple[Bool[Array, " M"], Bool[Array, " M"]]:
        """Whether a fold, and whether any special point, lies between two rows."""
        crossed = self.frame[1:] * self.frame[:-1] < 0
        turned = self.along[1:] * self.along[:-1] < 0
        # More than one eigenvalue may pass 0 at once, and the determinant keep its sign.
        return turned & ~crossed, turned | crossed | (jnp.diff(self.growing) != 0)


def _tests(
    tangents: Float[Array, "N Z"],
    frames: Float[Array, "N Z Z"],
    eigenvalues: Complex[Array, "N E"],
) -> _Tests:
    known = jnp.where(jnp.isnan(eigenvalues.real), 0, eigenvalues)
    zero = float(jnp.finfo(frames.dtype).eps) ** 0.6 * jnp.max(jnp.abs(known))
    real_parts = jnp.where(jnp.abs(known.real) > zero, eigenvalues.real, 0)
    return _Tests(tangents[:, -1], jnp.linalg.det(frames), real_parts, jnp.abs(known.imag) > zero)


def _between(
    rows: Float[Array, "N Z"], tests: _Tests, between: Bool[Array, " M"], number: int
) -> tuple[Int[Array, " K"], Int[Array, " K"], Float[Array, "K Z"]]:
    """The first special points: what they are, after which row, and about where."""
    fold, some = tests.kinds()
    (at,) = jnp.nonzero(between & some, size=number, fill_value=-1)
    fold = fold[at]
    here, there = (jax.tree_util.tree_map(lambda x, i=i: x[at + i], tests) for i in (0, 1))

    # The eigenvalue that passes, or the foremost one of several.
    fewer = jnp.minimum(here.growing, there.growing)[:, None]
    fewer = jnp.minimum(fewer, here.real_parts.shape[1] - 1)
    paired = jnp.take_along_axis(here.paired & there.paired, fewer, axis=1)[:, 0]
    turns = here.along * there.along < 0
    special = jnp.where(turns | ~paired, Special.BRANCH_POINT, Special.HOPF)
    special = jnp.where(at >= 0, jnp.where(fold, Special.FOLD, special), -1).astype(jnp.int32)

    def passing(test):
        real_part = jnp.take_along_axis(test.real_parts, fewer, axis=1)[:, 0]
        return jnp.where(turns, test.along, real_part)

    first, second = passing(here), passing(there)
    opposite = first * second < 0
    share = jnp.where(opposite, first / jnp.where(opposite, first - second, 1), 0.5)
    chord = rows[at + 1] - rows[at]
    return special, at, rows[at] + share[:, None] * chord


def _locate(
    curve: _Curve,
    held: _Curve,
    guess: Float[Array, " Z"],
    slopes: Float[Array, "R R"],
    special: Int[Array, ""],
    span: Float[Array, ""],
) -> tuple[Float[Array, " Z"], Bool[Array, ""]]:
    """A fold or branch point to rounding, from about where it is, and slopes of the equations in
    the probabilities not far off; `guess` if that fails."""
    fold = special == Special.FOLD
    scale = jnp.linalg.svd(slopes)[0][:, -1]
    begin = jnp.concatenate([guess, jnp.zeros_like(guess[:1]), scale])
    root, _, converged = _newton(lambda x: held.special(x, scale, fold), begin)
    near = jnp.linalg.norm(root[: len(guess)] - guess) <= span
    located = converged & near & (fold | (special == Special.BRANCH_POINT))
    root = implicit_root(
        lambda x: curve.special(x, scale, fold), jnp.where(located, root, begin), located
    )
    return root[: len(guess)], located
