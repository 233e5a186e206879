"""States between the knots of a solve, and the exact place of an event.

(R1): docs/derivations.md#states-between-steps-event-times-and-their-derivatives.
"""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..._core.roots import root_in_bracket
from ..._core.types import Scalar
from ...flows._clocks import reading_at
from .._lane import System

State = tuple[PyTree, PyTree]


def tableau_of(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau:
    """The coefficients with which to step from a knot to a point between two knots."""
    tableau = getattr(solver, "tableau", None)
    explicit = isinstance(solver, diffrax.AbstractERK)
    return tableau if explicit and tableau is not None else diffrax.Dopri8.tableau


def _step(
    system: System,
    tableau: diffrax.ButcherTableau,
    s: Scalar,
    y: State,
    h: Scalar,
) -> State:
    """One Runge-Kutta step of length h, of either sign.

    States between two knots come from such a step, not from the solver's interpolant, whose error
    is larger by orders of magnitude.
    """

    # Stages after the last that has a weight serve error estimates alone.
    used = 1 + max(i for i, w in enumerate(tableau.b_sol) if w != 0)
    dtype = h.dtype
    # Row i: from which slopes stage i starts; the last row: the step itself.
    weights = np.zeros((used + 1, used))
    for i, row in enumerate((*tableau.a_lower[: used - 1], tableau.b_sol[:used])):
        weights[i + 1, : len(row)] = row
    nodes = np.concatenate([[0.0], tableau.c])[:used]

    def shifted(weights, stages):
        return jtu.tree_map(lambda y, k: y + h * jnp.tensordot(weights, k, axes=1), y, stages)

    def stage(stages, i):
        # A scan, not a Python loop: the field is traced once, which is most of the compile time.
        k = system.field(s + nodes_[i] * h, shifted(weights_[i], stages))
        return jtu.tree_map(lambda ks, k: ks.at[i].set(k), stages, k), None

    weights_, nodes_ = jnp.asarray(weights, dtype), jnp.asarray(nodes, dtype)
    empty = jtu.tree_map(lambda x: jnp.zeros((used, *x.shape), x.dtype), y)
    stages, _ = jax.lax.scan(stage, empty, jnp.arange(used))
    return shifted(weights_[used], stages)


def land(
    system: System,
    tableau: diffrax.ButcherTableau,
    value: Callable[[Scalar, State], Scalar],
    knot: tuple[Scalar, State],
    bracket: tuple[Scalar, Scalar],
    wanted: Bool[Array, ""],
) -> tuple[Scalar, State, Bool[Array, ""]]:
    """Step from a knot `(s, y)` to where `value(s, y)` crosses 0 from below.

    Newton's iteration inside a shrinking bracket of step lengths; derivatives of any order are
    those of the implicit function theorem.

    **Returns:** s and y there, and whether it was found; the knot itself where not `wanted`.
    """
    start, state = knot
    precision = 8 * float(jnp.finfo(start.dtype).eps) * (1 + jnp.abs(start))

    def point(h):
        return start + h, _step(system, tableau, start, state, h)

    def look(h, aux):
        s, y = point(h)
        # The field there is the derivative of the step by its length, up to the solver's error.
        return *jax.jvp(value, (s, y), (jnp.ones_like(s), system.field(s, y))), aux

    # (R1): the root's derivatives are implicit, and the state's follow by one more step from the
    # knot.
    h, arrived = root_in_bracket(
        lambda h: value(*point(h)),
        jnp.zeros_like(start),
        bracket,
        lambda _: precision,
        look=look,
        narrow=lambda _: 2 * precision,
        wanted=wanted,
    )
    return *point(h), arrived


def state_at(
    system: System,
    tableau: diffrax.ButcherTableau,
    knots: tuple[Float[Array, " N"], PyTree],
    s: Scalar,
) -> State:
    """The state at solver time s."""
    times, states = knots
    # From the knot before: the step is then no longer than one that the solver has accepted.
    index = jnp.maximum(jnp.searchsorted(times, s, side="right") - 1, 0)
    state = jtu.tree_map(lambda x: x[index], states)
    return _step(system, tableau, times[index], state, s - times[index])


def state_when(
    system: System,
    tableau: diffrax.ButcherTableau,
    knots: tuple[Float[Array, " N"], PyTree],
    log_time: Scalar,
    wanted: Bool[Array, ""],
) -> State:
    """The state when the flow's time is `exp(log_time)`."""
    clock = system.clock
    s = clock.solver_time(log_time, system.start)
    # Clocks that are a function of time need no root.
    if s is not None:
        return state_at(system, tableau, knots, jnp.where(wanted, s, 0))
    times, states = knots
    # Of the arc length the time is a state (T1): the step whose clock reads the time, by its root.
    readings = clock.reading(times, states[1], system.start)
    target = reading_at(log_time, system.start)
    index = jnp.maximum(jnp.searchsorted(readings, target, side="right") - 1, 0)
    knot = times[index], jtu.tree_map(lambda x: x[index], states)
    length = times[jnp.minimum(index + 1, times.shape[0] - 1)] - times[index]
    # A target at the last knot can lie beyond it by rounding; the rows after it are inf.
    length = jnp.where(jnp.isfinite(length), length, clock.longest_step)
    _, state, _ = land(
        system,
        tableau,
        lambda s, y: clock.reading(s, y[1], system.start) - target,
        knot,
        (jnp.zeros_like(length), length),
        wanted,
    )
    return state
