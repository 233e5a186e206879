"""The numerical method: an adaptive ODE solve of a flow over a clock, on diffrax."""

import abc
import math
from collections.abc import Callable
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ._checks import require
from ._clock import AbstractClock, ArcLength, Time, reading_at
from ._event import AbstractEvent, FlowState, Stationary, TimeReached
from ._flow import GradientFlow
from ._policy import AbstractPolicy
from ._status import Status

_Scalar = Float[Array, ""]

# A solve without requested times shows this many rows, evenly spaced along the clock.
DEFAULT_ROWS = 128
# Longest stretch of arc taken in one step: a longer one can jump over an event unseen.
_MAX_ARC_STEP = 2.0
_ENDLESS = 1e12


class AbstractMethod(eqx.Module):
    """A way to follow a flow."""

    @abc.abstractmethod
    def integrate(
        self,
        flow: GradientFlow,
        policy: AbstractPolicy,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> "Path":
        """Follow `flow` from `policy` until the first of: an event, the last requested time, rest.

        **Arguments:** `until`: events, the first to happen stops the solve; `log_times`: requested
        outputs; `rows`: whether outputs are wanted at all, or the final state alone.

        **Returns:** a `Path`.
        """


class Path(eqx.Module):
    """What a method returns: rows of states, and how the solve ended."""

    log_times: Float[Array, " T"]
    valid: Bool[Array, " T"]
    params: PyTree
    final_log_time: _Scalar
    final_params: PyTree
    status: Int[Array, ""]
    event: Int[Array, ""]
    num_steps: Int[Array, ""]


def where_usable(condition: Bool[Array, ""], tree: PyTree, value: float) -> PyTree:
    """`tree` where `condition`, otherwise `value` in every inexact entry."""
    return jtu.tree_map(
        lambda x: jnp.where(condition, x, value) if eqx.is_inexact_array(x) else x, tree
    )


def all_usable(tree: PyTree) -> Bool[Array, ""]:
    """No NaN and no +inf anywhere (-inf is a logit of probability 0)."""
    leaves = jtu.tree_leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.all(jnp.stack([jnp.all(leaf < jnp.inf) for leaf in leaves]))


def _unit_and_log_norm(tree: PyTree) -> tuple[PyTree, _Scalar]:
    """The direction and the logarithm of the length, free of underflow in the squares."""
    leaves = jtu.tree_leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    tiny = jnp.finfo(largest.dtype).tiny
    scale = jax.lax.stop_gradient(jnp.maximum(largest, tiny))
    square = sum(jnp.sum((leaf / scale) ** 2) for leaf in leaves)
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    unit = jtu.tree_map(lambda leaf: leaf / scale / norm, tree)
    return unit, jnp.log(scale) + jnp.log(norm)


class _System(eqx.Module):
    """A flow over a clock, as one ODE on `(theta, clock state)`; travels as diffrax's args.

    Entries of the parameters that are `-inf` are kept out of the state (`missing`). A lane that
    has nothing to solve (`active` False: already at its event, at rest, invalid) is replaced by
    constant motion on an all-zero policy, which ends at once and has benign derivatives; its
    results are masked afterwards.
    """

    flow: GradientFlow
    frozen: PyTree
    reference: AbstractPolicy
    until: tuple[AbstractEvent, ...]
    missing: PyTree
    start: _Scalar
    active: Bool[Array, ""]
    clock: AbstractClock

    def params(self, theta: PyTree) -> PyTree:
        return jtu.tree_map(lambda gone, x: jnp.where(gone, -jnp.inf, x), self.missing, theta)

    def motion(self, theta: PyTree) -> tuple[PyTree, _Scalar]:
        velocity = self.flow.velocity(self.params(theta), self.frozen, self.reference)
        velocity = jtu.tree_map(lambda gone, v: jnp.where(gone, 0, v), self.missing, velocity)
        return _unit_and_log_norm(where_usable(self.active, velocity, 1.0))

    def field(self, s: _Scalar, y: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        theta, clock_state = y
        unit, log_speed = self.motion(theta)
        log_rate, clock_rate = self.clock.rates(s, clock_state, log_speed, self.start)
        return jtu.tree_map(lambda v: v * jnp.exp(log_rate), unit), clock_rate

    def log_time(self, s: Float[Array, "..."], clock_state: PyTree) -> Float[Array, "..."]:
        return self.clock.log_time(s, clock_state, self.start)

    def event_values(self, s: _Scalar, y: tuple[PyTree, PyTree]) -> Float[Array, " E"]:
        theta, clock_state = y
        state = FlowState(
            self.flow,
            eqx.combine(self.params(theta), self.frozen),
            self.log_time(s, clock_state),
            lambda: self.motion(theta),
        )
        return jnp.stack([event.value(state) for event in self.until])

    def crossing(self, s: _Scalar, y: tuple[PyTree, PyTree]) -> _Scalar:
        # The first of several events is where their maximum crosses 0.
        return jnp.where(self.active, jnp.max(self.event_values(s, y)), s - 0.01)


class _Lane(eqx.Module):
    """A system ready to be solved, and what is already known about how its solve ends."""

    system: _System
    theta: PyTree
    theta_given: PyTree
    usable: Bool[Array, ""]
    happened: Bool[Array, ""]
    event: Int[Array, ""]


def _prepare(
    flow: GradientFlow,
    policy: AbstractPolicy,
    reference: AbstractPolicy,
    until: tuple[AbstractEvent, ...],
    clock: AbstractClock,
) -> _Lane:
    """Look at the start, and put a benign problem in place of one that is not to be solved."""
    params, frozen = flow.split(policy)
    missing = jtu.tree_map(lambda x: x == -jnp.inf, params)
    theta_given = jtu.tree_map(lambda gone, x: jnp.where(gone, 0, x), missing, params)
    dtype = jtu.tree_leaves(params)[0].dtype
    zero, yes = jnp.zeros((), dtype), jnp.asarray(True)

    usable = all_usable((flow, policy, reference, until))
    look = _System(flow, frozen, reference, until, missing, zero, yes, clock)
    _, log_speed = look.motion(theta_given)
    at_rest = log_speed <= jnp.log(jnp.finfo(dtype).tiny)
    values = look.event_values(zero, (theta_given, clock.init(zero)))
    happened = usable & jnp.any(values >= 0)
    active = usable & ~happened & ~at_rest

    system = _System(
        where_usable(active, flow, 0.0),
        where_usable(active, frozen, 0.0),
        where_usable(active, reference, 0.0),
        where_usable(active, until, 0.0),
        jtu.tree_map(lambda gone: gone & active, missing),
        # Any constant would do as the clock's unit, so its own derivative is 0.
        jax.lax.stop_gradient(jnp.where(active, log_speed, 0)),
        active,
        clock,
    )
    theta = where_usable(active, theta_given, 0.0)
    return _Lane(system, theta, params, usable, happened, jnp.argmax(values))


def default_tolerance(dtype) -> float:
    """The tolerance of a solve where none is given."""
    return 1e-9 if dtype == jnp.float64 else 1e-5


class ODE(AbstractMethod):
    r"""Adaptive Runge-Kutta on diffrax.

    **Arguments:**

    - `solver`: any explicit diffrax solver; `Tsit5` was the fastest measured (`benchmarks/`).
    - `clock`: `ArcLength()`, `LogTime()` or `Time()`.
    - `rtol`, `atol`: tolerances on the logits and on the clock; 1e-9 in float64 and 1e-5 in
      float32 if not given.
    - `max_steps`: at most so many steps, accepted and rejected, before the status `MAX_STEPS`.
    - `adjoint`: a diffrax adjoint; the default serves `grad`, `diffrax.ForwardMode()` serves
      `jvp` and `jacfwd`.

    **Raises:** `ValueError` if a tolerance is not above 0 or `max_steps` not at least 1.

    ??? example

        ```python
        import diffrax
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        method = qra.ODE(diffrax.Dopri8(), rtol=1e-11, atol=1e-11)
        traj = qra.solve_flow(qra.GradientFlow(qra.RLVR(), problem), policy,
                              log_times=[0.0, 2.0, 4.0], method=method)
        ```

    Source: derived in docs (clocks); diffrax for the solvers.
    """

    solver: diffrax.AbstractSolver = eqx.field(static=True)
    clock: AbstractClock = eqx.field(static=True)
    rtol: float | None = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint = eqx.field(static=True)

    def __init__(
        self,
        solver: diffrax.AbstractSolver = diffrax.Tsit5(),
        clock: AbstractClock = ArcLength(),
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int = 4096,
        adjoint: diffrax.AbstractAdjoint = diffrax.RecursiveCheckpointAdjoint(),
    ):
        for name, tol in (("rtol", rtol), ("atol", atol)):
            require(tol is None or tol > 0, name, "be above 0", tol)
        require(max_steps >= 1, "max_steps", "be at least 1", max_steps)
        self.solver = solver
        self.clock = clock
        self.rtol = rtol
        self.atol = atol
        self.max_steps = max_steps
        self.adjoint = adjoint

    def integrate(
        self,
        flow: GradientFlow,
        policy: AbstractPolicy,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> Path:
        dtype = jtu.tree_leaves(flow.split(policy)[0])[0].dtype
        if log_times is not None:
            log_times = log_times.astype(dtype)
        events, kinds = self._events(flow, until, log_times, dtype)
        lane = _prepare(flow, policy, reference, events, self.clock)
        system = lane.system
        solution = self._solve(lane, log_times, rows, dtype)
        stopped = solution.result == diffrax.RESULTS.event_occurred
        times: Any = solution.ts
        states: Any = solution.ys
        s_last = times["final"][0]
        y_last = jtu.tree_map(lambda x: x[0], states["final"])
        tableau = _tableau(self.solver)
        zero = jnp.zeros((), dtype)
        s_end, y_end, landed = _land(
            system,
            tableau,
            lambda system, s, y, _: system.crossing(s, y),
            zero,
            (s_last, y_last),
            (-s_last, zero),
            stopped,
        )

        status, event = self._status(lane, solution.result, landed, s_end, y_end, kinds, log_times)
        final_params = self._params(lane, y_end[0])
        final_log_time = jnp.where(system.active, system.log_time(s_end, y_end[1]), -jnp.inf)
        steps = jnp.where(system.active, solution.stats["num_steps"], 0)
        if not rows:
            params = jtu.tree_map(lambda x: x[None], final_params)
            return Path(
                final_log_time[None],
                jnp.ones(1, bool),
                params,
                final_log_time,
                final_params,
                status,
                event,
                steps,
            )

        knots = times["knots"], states["knots"]
        if log_times is None:
            valid = jnp.ones(DEFAULT_ROWS, bool)
            s_rows = s_end * jnp.linspace(0, 1, DEFAULT_ROWS, dtype=dtype)
            found = jax.vmap(lambda s: _state_at(system, tableau, knots, s))(s_rows)
            log_times = jnp.where(
                system.active, jax.vmap(system.log_time)(s_rows, found[1]), -jnp.inf
            )
        else:
            valid = (status == Status.COMPLETED) | (log_times <= final_log_time)
            found = jax.vmap(lambda t, ok: _state_when(system, tableau, knots, t, ok))(
                log_times, valid
            )
        theta = jtu.tree_map(
            lambda row, last: jnp.where(_like(valid, row), row, last), found[0], y_end[0]
        )
        params = jax.vmap(lambda theta: self._params(lane, theta))(theta)
        return Path(log_times, valid, params, final_log_time, final_params, status, event, steps)

    def _events(self, flow, until, log_times, dtype):
        """All events a solve stops at, and the status that each stands for."""
        kinds = [Status.EVENT] * len(until)
        resting = any(isinstance(event, Stationary) for event in until)
        if flow.objective.has_interior_optimum and not resting:
            until, kinds = (*until, Stationary()), [*kinds, Status.STATIONARY]
        if log_times is not None:
            until, kinds = (*until, TimeReached(log_times[-1])), [*kinds, Status.COMPLETED]
        # Times beyond are an overflow: speeds there are close to the smallest number of the type.
        limit = 0.98 * math.log(float(jnp.finfo(dtype).max))
        until = (*until, TimeReached(jnp.asarray(limit, dtype)))
        return until, [*kinds, Status.OVERFLOW]

    def _solve(self, lane, log_times, rows, dtype) -> diffrax.Solution:
        system = lane.system
        first = self.clock.solver_time(
            jnp.log(jnp.asarray(0.01, dtype)) - system.start, system.start
        )
        closed_form = first is not None
        subs = {"final": diffrax.SubSaveAt(t1=True)}
        if rows:
            subs["knots"] = diffrax.SubSaveAt(t0=True, steps=True)
        end = jnp.asarray(_ENDLESS, dtype)
        if closed_form and log_times is not None:
            end = cast(Array, self.clock.solver_time(log_times[-1], system.start))
        elif isinstance(self.clock, Time):
            end = jnp.asarray(jnp.finfo(dtype).max / 2, dtype)
        tolerance = default_tolerance(dtype)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: args.field(t, y)),
            self.solver,
            t0=jnp.zeros((), dtype),
            t1=end,
            dt0=first if closed_form else jnp.asarray(0.01, dtype),
            y0=(lane.theta, self.clock.init(system.start)),
            args=system,
            saveat=diffrax.SaveAt(subs=subs),
            stepsize_controller=diffrax.PIDController(
                rtol=self.rtol or tolerance,
                atol=self.atol or tolerance,
                dtmax=None if closed_form else _MAX_ARC_STEP,
            ),
            # The step that crosses is found here; where in it, `_land` says.
            event=diffrax.Event(lambda t, y, args, **_: args.crossing(t, y) >= 0),
            max_steps=self.max_steps,
            adjoint=self.adjoint,
            throw=False,
        )

    def _status(self, lane, result, landed, s_end, y_end, kinds, log_times):
        """The status of a lane, and the index of the event in `until` that stopped it (or -1)."""
        codes = jnp.asarray(kinds, jnp.int32)
        values = lane.system.event_values(s_end, y_end)
        stopped = result == diffrax.RESULTS.event_occurred
        arrived = Status.OVERFLOW if log_times is None else Status.COMPLETED
        status = jnp.where(
            stopped,
            codes[jnp.argmax(values)],
            jnp.where(
                result == diffrax.RESULTS.successful,
                arrived,
                jnp.where(
                    result == diffrax.RESULTS.max_steps_reached, Status.MAX_STEPS, Status.FAILED
                ),
            ),
        )
        sound = landed & all_usable(y_end) & jnp.isfinite(s_end)
        status = jnp.where(sound, status, Status.FAILED)
        # Lanes that were never solved: at their event, at rest (for ever), or invalid.
        asks_for_times_only = Status.EVENT not in kinds and log_times is not None
        rest = Status.COMPLETED if asks_for_times_only else Status.STATIONARY
        idle = jnp.where(lane.happened, codes[lane.event], rest)
        idle = jnp.where(lane.usable, idle, Status.INVALID_INPUT)
        status = jnp.where(lane.system.active, status, idle).astype(jnp.int32)
        which = jnp.where(lane.system.active, jnp.argmax(values), lane.event)
        return status, jnp.where(status == Status.EVENT, which, -1).astype(jnp.int32)

    def _params(self, lane, theta):
        """The parameters of a state, in the given form; NaN for a lane whose input is invalid."""

        def fill(x, given):
            x = jnp.where(lane.system.active, x, given)
            x = jnp.where(given == -jnp.inf, given, x)
            return jnp.where(lane.usable, x, jnp.nan)

        return jtu.tree_map(fill, theta, lane.theta_given)


def _like(mask: Bool[Array, " T"], x: Float[Array, "T ..."]) -> Bool[Array, "..."]:
    return mask.reshape(mask.shape + (1,) * (x.ndim - 1))


def _tableau(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau:
    """The coefficients with which to step from a knot to a point between two knots."""
    tableau = getattr(solver, "tableau", None)
    explicit = isinstance(solver, diffrax.AbstractERK)
    return tableau if explicit and tableau is not None else diffrax.Dopri8.tableau


def _step(
    system: _System,
    tableau: diffrax.ButcherTableau,
    s: _Scalar,
    y: tuple[PyTree, PyTree],
    h: _Scalar,
) -> tuple[PyTree, PyTree]:
    """One Runge-Kutta step of length h, of either sign.

    States between two knots come from such a step, not from the solver's interpolant, whose error
    is larger by orders of magnitude.
    """

    used = 1 + max(i for i, w in enumerate(tableau.b_sol) if w != 0)
    dtype = h.dtype
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


def _land(
    system: _System,
    tableau: diffrax.ButcherTableau,
    value: Callable[[_System, _Scalar, tuple[PyTree, PyTree], _Scalar], _Scalar],
    target: _Scalar,
    knot: tuple[_Scalar, tuple[PyTree, PyTree]],
    bracket: tuple[_Scalar, _Scalar],
    wanted: Bool[Array, ""],
) -> tuple[_Scalar, tuple[PyTree, PyTree], Bool[Array, ""]]:
    """Step from a knot `(s, y)` to where `value(system, s, y, target)` crosses 0 from below.

    Newton's iteration inside a shrinking bracket of step lengths finds the place; one more step
    outside of the loop carries the derivatives (the implicit function theorem).

    **Returns:** s and y there, and whether it was found; the knot itself where not `wanted`.
    """

    def look(system, knot, target, h):
        s, y = knot
        point = s + h, _step(system, tableau, s, y, h)
        motion = jnp.ones_like(s), system.field(*point)
        shown, slope = jax.jvp(lambda s, y: value(system, s, y, target), point, motion)
        return point, motion[1], shown, slope

    fixed = jax.lax.stop_gradient((system, knot, target))
    precision = 8 * float(jnp.finfo(knot[0].dtype).eps)

    def go_on(carry):
        *_, arrived, count = carry
        return ~arrived & (count < 64)

    def improve(carry):
        h, lower, upper, _, count = carry
        _, _, shown, slope = look(*fixed, h)
        lower, upper = jnp.where(shown < 0, h, lower), jnp.where(shown < 0, upper, h)
        newton = h - shown / slope
        inside = (newton >= lower) & (newton <= upper)
        new = jnp.where(inside, newton, lower + (upper - lower) / 2)
        arrived = jnp.abs(new - h) <= precision * (1 + jnp.abs(fixed[1][0]))
        return new, lower, upper, arrived, count + 1

    lower, upper = jax.lax.stop_gradient(bracket)
    h, _, _, arrived, _ = jax.lax.while_loop(
        go_on, improve, (jnp.zeros_like(knot[0]), lower, upper, ~wanted, 0)
    )
    (s, y), rate, shown, slope = look(system, knot, target, jax.lax.stop_gradient(h))
    slope = jax.lax.stop_gradient(slope)
    usable = wanted & (slope > 0)
    change = jnp.where(usable, -shown / jnp.where(usable, slope, 1), 0)
    moved = jtu.tree_map(lambda x, v: x + change * v, y, rate)
    return s + change, moved, arrived


def _state_at(
    system: _System,
    tableau: diffrax.ButcherTableau,
    knots: tuple[Float[Array, " N"], PyTree],
    s: _Scalar,
) -> tuple[PyTree, PyTree]:
    """The state at solver time s."""
    times, states = knots
    index = jnp.maximum(jnp.searchsorted(times, s, side="right") - 1, 0)
    state = jtu.tree_map(lambda x: x[index], states)
    return _step(system, tableau, times[index], state, s - times[index])


def _state_when(
    system: _System,
    tableau: diffrax.ButcherTableau,
    knots: tuple[Float[Array, " N"], PyTree],
    log_time: _Scalar,
    wanted: Bool[Array, ""],
) -> tuple[PyTree, PyTree]:
    """The state when the flow's time is `exp(log_time)`."""
    clock = system.clock
    s = clock.solver_time(log_time, system.start)
    if s is not None:
        return _state_at(system, tableau, knots, jnp.where(wanted, s, 0))
    times, states = knots
    readings = clock.reading(times, states[1], system.start)
    target = reading_at(log_time, system.start)
    index = jnp.maximum(jnp.searchsorted(readings, target, side="right") - 1, 0)
    knot = times[index], jtu.tree_map(lambda x: x[index], states)
    length = times[jnp.minimum(index + 1, times.shape[0] - 1)] - times[index]
    # A target at the last knot can lie beyond it by rounding; the rows after it are inf.
    length = jnp.where(jnp.isfinite(length), length, _MAX_ARC_STEP)
    _, state, _ = _land(
        system,
        tableau,
        lambda system, s, y, target: clock.reading(s, y[1], system.start) - target,
        target,
        knot,
        (jnp.zeros_like(length), length),
        wanted,
    )
    return state
