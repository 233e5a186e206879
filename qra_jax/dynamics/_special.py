"""Special points of a branch: which lie between two of its rows, and where.

Numbers of equations are those of docs/derivations.md#continuation-along-a-parameter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Int

from .._core.roots import implicit_root, solve_system
from ._branch import Special
from ._curve import LOOKS, Curve


class Tests(NamedTuple):
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
        # The determinant keeps its sign at a fold, and loses it where another branch crosses; on
        # the bent branch of a pitchfork both change. More than one eigenvalue may pass 0 at once,
        # and the determinant keep its sign.
        return turned & ~crossed, turned | crossed | (jnp.diff(self.growing) != 0)


def tests_of(
    tangents: Float[Array, "N Z"],
    frames: Float[Array, "N Z Z"],
    eigenvalues: Complex[Array, "N E"],
) -> Tests:
    known = jnp.where(jnp.isnan(eigenvalues.real), 0, eigenvalues)
    # An eigenvalue of 0 to rounding has no sign: it would make special points of noise.
    zero = float(jnp.finfo(frames.dtype).eps) ** 0.6 * jnp.max(jnp.abs(known))
    real_parts = jnp.where(jnp.abs(known.real) > zero, eigenvalues.real, 0)
    return Tests(tangents[:, -1], jnp.linalg.det(frames), real_parts, jnp.abs(known.imag) > zero)


def between_rows(
    rows: Float[Array, "N Z"], tests: Tests, between: Bool[Array, " M"], number: int
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
    # A complex pair that passes is a Hopf point, unless the tangent turns as well.
    special = jnp.where(turns | ~paired, Special.BRANCH_POINT, Special.HOPF)
    special = jnp.where(at >= 0, jnp.where(fold, Special.FOLD, special), -1).astype(jnp.int32)

    def passing(test):
        real_part = jnp.take_along_axis(test.real_parts, fewer, axis=1)[:, 0]
        return jnp.where(turns, test.along, real_part)

    first, second = passing(here), passing(there)
    opposite = first * second < 0
    # About where what passes is 0, by a line through both rows; their middle if it keeps its sign.
    share = jnp.where(opposite, first / jnp.where(opposite, first - second, 1), 0.5)
    chord = rows[at + 1] - rows[at]
    return special, at, rows[at] + share[:, None] * chord


def locate(
    curve: Curve,
    held: Curve,
    guess: Float[Array, " Z"],
    slopes: Float[Array, "R R"],
    special: Int[Array, ""],
    span: Float[Array, ""],
) -> tuple[Float[Array, " Z"], Bool[Array, ""]]:
    """A fold or branch point to rounding, from about where it is, and slopes of the equations in
    the probabilities not far off; `guess` if that fails. Derivatives are those of (C4)."""
    fold = special == Special.FOLD
    # The left singular vector of the smallest singular value: c of (C4), and a start for psi.
    scale = jnp.linalg.svd(slopes)[0][:, -1]
    begin = jnp.concatenate([guess, jnp.zeros_like(guess[:1]), scale])
    solution = solve_system(lambda x: held.special(x, scale, fold), begin, damped=False, most=LOOKS)
    near = jnp.linalg.norm(solution.root[: len(guess)] - guess) <= span
    located = solution.converged & near & (fold | (special == Special.BRANCH_POINT))
    root = implicit_root(
        lambda x: curve.special(x, scale, fold),
        jnp.where(located, solution.root, begin),
        located,
        system=True,
    )
    return root[: len(guess)], located
