"""The numerical method: an adaptive ODE solve of a flow over a clock, on diffrax."""

import math
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from ..._core.checks import instance, positive, whole
from ..._core.trees import all_usable
from ...flows._clocks import AbstractClock, ArcLength, Time
from ...flows._event import AbstractEvent
from ...flows._events import Stationary, TimeReached
from ...flows._flow import GradientFlow
from ...flows._status import Status
from ...policies._policy import AbstractPolicy
from .._lane import Pace, prepare
from .._method import AbstractMethod, Path
from ._landing import land, state_at, state_when, tableau_of

# A solve without requested times shows this many rows, evenly spaced along the clock.
DEFAULT_ROWS = 128
_ENDLESS = 1e12
# The stages of the steps to all rows of larger states leave the processor's cache: 3 times slower
# at 10,000 parameters than one row after the other.
_LARGE = 500
# At time t a flow moves at a speed of order 1/t. This far (in log time) below the largest number
# the terms that add up to it are still above the smallest; later is an overflow.
_RESERVE = 6.0


def default_tolerance(dtype) -> float:
    """The tolerance of a solve where none is given."""
    return 1e-9 if dtype == jnp.float64 else 1e-6


class ODE(AbstractMethod):
    r"""Adaptive Runge-Kutta on diffrax.

    **Arguments:**

    - `solver`: any explicit diffrax solver; `Tsit5` was the fastest measured (`benchmarks/`).
    - `clock`: `ArcLength()`, `LogTime()` or `Time()`.
    - `rtol`, `atol`: tolerances on the logits and on the clock; 1e-9 in float64 and 1e-6 in
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
        traj = qra.solve_flow(policy, qra.GradientFlow(qra.RLVR(), problem),
                              log_times=[0.0, 2.0, 4.0], method=method)
        ```

    Source: derived in docs/derivations.md#clocks; diffrax for the solvers.
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
        self.solver = instance(solver, diffrax.AbstractSolver, "solver", "diffrax.Tsit5()")
        self.clock = instance(clock, AbstractClock, "clock", "ArcLength() or LogTime()")
        instance(adjoint, diffrax.AbstractAdjoint, "adjoint", "diffrax.ForwardMode()")
        self.rtol = None if rtol is None else positive(rtol, "rtol")
        self.atol = None if atol is None else positive(atol, "atol")
        self.max_steps = whole(max_steps, "max_steps", 1)
        self.adjoint = adjoint

    def why_not(
        self, policy: AbstractPolicy, flow: GradientFlow, until: tuple[AbstractEvent, ...]
    ) -> None:
        """Every flow is a system of ODEs."""

    def integrate(
        self,
        policy: AbstractPolicy,
        flow: GradientFlow,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> Path:
        dtype = jtu.tree_leaves(flow.split(policy)[0])[0].dtype
        if log_times is not None:
            log_times = log_times.astype(dtype)
        pace = Pace.of(policy, flow, reference)
        events, kinds = self._events(flow, until, log_times, pace, dtype)
        lane = prepare(policy, flow, reference, events, self.clock, pace)
        system = lane.system
        solution = self._solve(lane, log_times, rows, dtype)
        stopped = solution.result == diffrax.RESULTS.event_occurred
        times: Any = solution.ts
        states: Any = solution.ys
        s_last = times["final"][0]
        y_last = jtu.tree_map(lambda x: x[0], states["final"])
        tableau = tableau_of(self.solver)
        last_step = -jnp.minimum(s_last, self.clock.longest_step), jnp.zeros((), dtype)
        s_end, y_end, landed = land(
            system, tableau, system.crossing, (s_last, y_last), last_step, stopped
        )
        # Events of different units meet here: one that has not happened by the end of the last
        # step is not the one, however close to 0 its value was when another did.
        last = system.event_values(s_last, y_last)
        happened = (last > 0) | (last >= jnp.max(last))
        which = jnp.argmax(jnp.where(happened, system.event_values(s_end, y_end), -jnp.inf))
        sound = landed & all_usable(y_end) & jnp.isfinite(s_end)

        status, event = self._status(lane, solution.result, sound, which, kinds, log_times)
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
            found = jax.vmap(lambda s: state_at(system, tableau, knots, s))(s_rows)
            log_times = jnp.where(
                system.active, jax.vmap(system.log_time)(s_rows, found[1]), -jnp.inf
            )
        else:
            valid = (status == Status.COMPLETED) | (log_times <= final_log_time)
            each = _one_by_one if _size(lane.theta) > _LARGE else jax.vmap
            found = each(lambda row: state_when(system, tableau, knots, *row))((log_times, valid))
        theta = jtu.tree_map(
            lambda row, last: jnp.where(_like(valid, row), row, last), found[0], y_end[0]
        )
        params = jax.vmap(lambda theta: self._params(lane, theta))(theta)
        return Path(log_times, valid, params, final_log_time, final_params, status, event, steps)

    def _events(self, flow, until, log_times, pace, dtype):
        """All events a solve stops at, and the status that each stands for."""
        kinds = [Status.EVENT] * len(until)
        resting = any(isinstance(event, Stationary) for event in until)
        if flow.objective.has_interior_optimum and not resting:
            until, kinds = (*until, Stationary()), [*kinds, Status.STATIONARY]
        if log_times is not None:
            until, kinds = (*until, TimeReached(log_times[-1])), [*kinds, Status.COMPLETED]
        limit = math.log(float(jnp.finfo(dtype).max)) - _RESERVE
        # In the flow's own unit of time: as much later as it is slower.
        until = (*until, TimeReached(jnp.asarray(limit, dtype) - jnp.log(pace.unit)))
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
                dtmax=None if math.isinf(self.clock.longest_step) else self.clock.longest_step,
            ),
            # The step that crosses is found here; where in it, `land` says.
            # (Strictly above: a value that has underflowed to 0 is not an event.)
            event=diffrax.Event(lambda t, y, args, **_: args.crossing(t, y) > 0),
            max_steps=self.max_steps,
            adjoint=self.adjoint,
            throw=False,
        )

    def _status(self, lane, result, sound, which, kinds, log_times):
        """The status of a lane, and the index of the event in `until` that stopped it (or -1).

        `which` event stopped the solver, if one did.
        """
        codes = jnp.asarray(kinds, jnp.int32)
        arrived = Status.OVERFLOW if log_times is None else Status.COMPLETED
        status = jnp.select(
            [
                ~sound,
                result == diffrax.RESULTS.event_occurred,
                result == diffrax.RESULTS.successful,
                result == diffrax.RESULTS.max_steps_reached,
            ],
            [jnp.asarray(Status.FAILED), codes[which], arrived, Status.MAX_STEPS],
            Status.FAILED,
        )
        idle, happened = lane.idle(kinds, log_times is not None)
        status = jnp.where(lane.system.active, status, idle).astype(jnp.int32)
        which = jnp.where(lane.system.active, which, happened)
        return status, jnp.where(status == Status.EVENT, which, -1).astype(jnp.int32)

    def _params(self, lane, theta):
        """The parameters of a state, in the given form; NaN for a lane whose input is invalid."""

        def fill(x, given):
            x = jnp.where(lane.system.active, x, given)
            x = jnp.where(given == -jnp.inf, given, x)
            return jnp.where(lane.usable, x, jnp.nan)

        return jtu.tree_map(fill, theta, lane.theta_given)


def _size(tree) -> int:
    return sum(leaf.size for leaf in jtu.tree_leaves(tree))


def _one_by_one(function):
    return lambda rows: jax.lax.map(function, rows)


def _like(mask: Bool[Array, " T"], x: Float[Array, "T ..."]) -> Bool[Array, "..."]:
    return mask.reshape(mask.shape + (1,) * (x.ndim - 1))
