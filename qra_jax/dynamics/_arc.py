"""The walk along a branch of fixed points, by arc length.

Numbers of equations are those of docs/derivations.md#continuation-along-a-parameter.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core.roots import solve_system
from .._core.trees import chosen
from ..flows._status import Status
from ._curve import LOOKS, RANGE, Curve

_TURN = 0.9  # cosine of the largest angle between tangents of neighbouring points, 26 degrees
_GOING = -1  # no status yet


class Aim(enum.IntEnum):
    """What a step is to meet."""

    START = 0
    """A plane of fixed parameter, the one at which the branch begins."""
    ALONG = 1
    """A plane across the branch, ahead along its tangent."""
    BOUND = 2
    """A plane of fixed parameter, a bound that the last step has passed."""


class Walk(NamedTuple):
    """Where a walk along a branch is: the last point and the tangent there, the length of the next
    step, what it is to meet and from where (`fixed`, where that is a fixed parameter); the points
    so far, their number `taken`, their tangents, and the slopes (C3) that these come from."""

    here: Float[Array, " Z"]
    tangent: Float[Array, " Z"]
    step: Float[Array, ""]
    fixed: Float[Array, " Z"]
    aim: Int[Array, ""]
    taken: Int[Array, ""]
    rows: Float[Array, "N Z"]
    tangents: Float[Array, "N Z"]
    frames: Float[Array, "N Z Z"]
    status: Int[Array, ""]


class _Attempt(NamedTuple):
    """A point that a step has led to: with the tangent there, how far that has turned (a cosine),
    and whether it is a point of this branch."""

    root: Float[Array, " Z"]
    tangent: Float[Array, " Z"]
    frame: Float[Array, "Z Z"]
    turn: Float[Array, ""]
    sound: Bool[Array, ""]


def walk_along(
    curve: Curve,
    start: Float[Array, " Z"],
    direction: Float[Array, ""],
    longest: Float[Array, ""],
    number: int,
) -> Walk:
    """A walk of at most `number` points from near `start`, up to a bound of the parameter."""
    dtype, size = start.dtype, len(start)
    tangent = direction * _upward(start)
    # Where steps this short do not hold, the branch is given up with a status.
    shortest = longest * float(jnp.finfo(dtype).eps) ** 0.4

    def go_on(walk: Walk) -> Walk:
        return _taken(walk, _attempt(curve, walk), longest, shortest)

    begin = Walk(
        here=start,
        tangent=tangent,
        # Shorter at first: nothing is known yet of how the branch bends.
        step=longest / 4,
        fixed=start,
        aim=jnp.asarray(Aim.START, jnp.int32),
        taken=jnp.zeros((), jnp.int32),
        rows=jnp.zeros((number, size), dtype),
        tangents=jnp.broadcast_to(tangent, (number, size)),
        frames=jnp.zeros((number, size, size), dtype),
        status=jnp.asarray(_GOING, jnp.int32),
    )
    return jax.lax.while_loop(lambda walk: walk.status == _GOING, go_on, begin)


def _upward(z: Float[Array, " Z"]) -> Float[Array, " Z"]:
    return jnp.zeros_like(z).at[-1].set(1)


def _attempt(curve: Curve, walk: Walk) -> _Attempt:
    """Predicted along the tangent, corrected by Newton's method in the plane of (C2)."""
    along = walk.aim == Aim.ALONG
    guess = jnp.where(along, walk.here + walk.step * walk.tangent, walk.fixed)
    plane = jnp.where(along, walk.tangent, _upward(walk.here))
    solution = solve_system(
        lambda z: curve.on_plane(z, plane, plane @ guess), guess, damped=False, most=LOOKS
    )
    root = solution.root
    # (C3): of the bordered matrix, which is regular at a fold too. The new tangent has a positive
    # product with the last one, so that the direction is kept around folds.
    frame = solution.slopes.at[-1].set(walk.tangent)
    tangent = jnp.linalg.solve(frame, _upward(root))
    tangent = tangent / jnp.linalg.norm(tangent)
    turn = tangent @ walk.tangent
    # Far from where the tangent points, or at an angle to it, is another branch.
    near = jnp.linalg.norm(root - guess) <= jnp.where(along, walk.step / 2, walk.step)
    same = (walk.aim == Aim.START) | (near & (turn >= _TURN))
    sound = solution.converged & jnp.all(jnp.isfinite(tangent)) & same
    return _Attempt(root, tangent, frame, turn, sound)


def _taken(
    walk: Walk, new: _Attempt, longest: Float[Array, ""], shortest: Float[Array, ""]
) -> Walk:
    """The walk after an attempt: with one more point, or a shorter step, or a bound to meet."""
    begins, number = walk.aim == Aim.START, len(walk.rows)
    outside = (walk.aim == Aim.ALONG) & new.sound & ((new.root[-1] < 0) | (new.root[-1] > RANGE))
    # A step across a bound is taken back: the next one aims at the bound itself, from where the
    # chord crosses it.
    bound = jnp.where(new.root[-1] < 0, 0, RANGE)
    share = (bound - walk.here[-1]) / (new.root[-1] - walk.here[-1])
    fixed = (walk.here + share * (new.root - walk.here)).at[-1].set(bound)
    accept = new.sound & ~outside
    # Longer steps on a straight stretch, shorter ones in a bend: 8 and 16 degrees of turn.
    factor = jnp.where(new.turn > 0.99, 1.5, jnp.where(new.turn > 0.96, 1, 0.6))
    factor = jnp.where(begins, 1, jnp.where(accept, factor, jnp.where(outside, 1, 0.5)))
    step = jnp.minimum(walk.step * factor, longest)
    count = walk.taken + accept.astype(jnp.int32)

    # The first that holds counts: a bound that is met ends the walk even with its last row.
    ends = [
        (accept & (walk.aim == Aim.BOUND), Status.COMPLETED),
        (begins & ~new.sound, Status.INVALID_INPUT),
        (step < shortest, Status.FAILED),
        (count >= number, Status.MAX_STEPS),
    ]
    status = jnp.select(*map(list, zip(*ends, strict=True)), default=_GOING)
    here, tangent = chosen(accept, (new.root, new.tangent), (walk.here, walk.tangent))
    at = jnp.minimum(walk.taken, number - 1)

    def kept(rows, one):
        return rows.at[at].set(jnp.where(accept, one, rows[at]))

    return Walk(
        here,
        tangent,
        step,
        fixed,
        jnp.where(outside, Aim.BOUND, Aim.ALONG).astype(jnp.int32),
        count,
        kept(walk.rows, new.root),
        kept(walk.tangents, new.tangent),
        kept(walk.frames, new.frame),
        status.astype(jnp.int32),
    )
