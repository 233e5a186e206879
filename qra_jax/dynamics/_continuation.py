"""Fixed points along a parameter: branches, followed by arc length, and where they turn."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_scalar, is_concrete, require, whole
from .._core.roots import implicit_root
from .._core.trees import held
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ..policies._two_stage import AbstractTablePolicy
from ._arc import Walk, walk_along
from ._branch import Branch
from ._curve import RANGE, Curve
from ._field import log_probs_of, pattern_field
from ._special import between_rows, locate, tests_of

Family = Callable[[Float[Array, ""]], GradientFlow]


def continue_fixed_point(
    policy: AbstractPolicy,
    family: Family,
    pattern_probs: ArrayLike,
    *,
    value: ArrayLike,
    bounds: Sequence[ArrayLike],
    direction: int = 1,
    step: float = 0.2,
    max_steps: int = 256,
    max_special: int = 4,
    question: int = 0,
    reference: AbstractPolicy | None = None,
) -> Branch:
    r"""Follows a fixed point along a parameter $\lambda$, around folds, up to a bound.

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
    - `pattern_probs`: `(R,)`, near the fixed point to start from; the branch stays on the face
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
        branch = qra.dynamics.continue_fixed_point(policy, family, start, value=0.1,
                                                   bounds=(0.05, 1.0))
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


class _Rows(NamedTuple):
    """Where the rows of a branch are, and the planes in which they move."""

    rows: Float[Array, "N Z"]
    tangents: Float[Array, "N Z"]
    frames: Float[Array, "N Z Z"]
    planes: Float[Array, "N Z"]
    levels: Float[Array, " N"]
    fixed: Bool[Array, " N"]
    values: Float[Array, " N"]


def _rows_of(walk: Walk, curve: Curve, value: Float[Array, ""], bounds: Float[Array, "2"]) -> _Rows:
    """Rows after the last repeat it. Ends are met at a fixed parameter, all other rows across
    their tangent."""
    number, reached = jnp.arange(len(walk.rows)), walk.status == Status.COMPLETED
    last = jnp.maximum(walk.taken - 1, 0)
    filled = jnp.minimum(number, last)
    rows, tangents, frames = walk.rows[filled], walk.tangents[filled], walk.frames[filled]
    is_end = reached & (filled == last)
    fixed = (filled == 0) | is_end
    bound = jnp.where(rows[-1, -1] > RANGE / 2, bounds[1], bounds[0])
    values = jnp.where(is_end, bound, value)
    upward = jnp.zeros_like(rows[0]).at[-1].set(1)
    planes = jnp.where(fixed[:, None], upward, tangents)
    own = jnp.sum(planes * rows, axis=1)
    levels = jnp.where(fixed, (values - curve.origin) / curve.unit, own)
    return _Rows(rows, tangents, frames, planes, levels, fixed, values)


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
    origin, unit = jax.lax.stop_gradient((bounds[0], (bounds[1] - bounds[0]) / RANGE))
    curve = Curve(converted, policy, reference, mask, origin, unit, question)
    hold = held(curve)

    start = jnp.append(jnp.where(mask, log_probs, 0), (value - origin) / unit)
    start = jax.lax.stop_gradient(start)
    sound = jnp.all(jnp.isfinite(start)) & ~jnp.any(jnp.isnan(log_probs))
    walk = walk_along(hold, jnp.where(sound, start, jnp.nan), direction, step, sizes[0])
    valid, some = jnp.arange(sizes[0]) < walk.taken, walk.taken > 0

    known = _rows_of(walk, curve, value, bounds)
    # dz/dp of (C2), with the plane held.
    live = jax.vmap(
        lambda z, plane, level: implicit_root(
            lambda z: curve.on_plane(z, plane, level), z, some, system=True
        )
    )(known.rows, known.planes, known.levels)
    found = jax.vmap(curve.stability)(live)

    between = valid[1:]
    tests = tests_of(known.tangents, known.frames, jax.lax.stop_gradient(found.eigenvalues))
    special, at, guesses = between_rows(known.rows, tests, between, sizes[1])
    span = jnp.linalg.norm(known.rows[at + 1] - known.rows[at], axis=1)
    slopes = known.frames[at, :-1, :-1]
    points, located = jax.vmap(lambda *at: locate(curve, hold, *at))(guesses, slopes, special, span)

    present = special >= 0
    probs, special_probs = (jnp.exp(jax.vmap(curve.log_probs)(z)) for z in (live, points))
    values = jnp.where(known.fixed, known.values, curve.value(live))
    return Branch(
        value=jnp.where(some, values, jnp.nan),
        pattern_probs=jnp.where(some, probs, jnp.nan),
        eigenvalues=jnp.where(some, found.eigenvalues, jnp.nan),
        kind=jnp.where(some, found.kind, -1),
        valid=valid,
        special=special,
        special_value=jnp.where(present, curve.value(points), jnp.nan),
        special_probs=jnp.where(present[:, None], special_probs, jnp.nan),
        located=located,
        num_special=jnp.sum(between & tests.kinds()[1]),
        status=walk.status,
    )
