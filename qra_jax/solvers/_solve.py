"""Trajectories, and the front door to every solve."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._core.checks import as_float, is_concrete, no_class, require, require_all
from .._core.compiled import compiled
from ..flows._checks import check_solve
from ..flows._event import AbstractEvent
from ..flows._flow import GradientFlow
from ..objectives._metrics import mean_accuracy
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._choose import method_for
from ._method import AbstractMethod, Path
from ._trajectory import EventTime, Trajectory
from .ode._ode import ODE

if TYPE_CHECKING:
    pass

Until = AbstractEvent | Sequence[AbstractEvent] | None


def _as_events(until: Until, policy: AbstractPolicy, problem: Problem) -> tuple[AbstractEvent, ...]:
    no_class(until, "until")
    events = () if until is None else (until,) if isinstance(until, AbstractEvent) else until
    if not isinstance(events, Iterable):
        raise TypeError(f"until must be an event or a sequence of events, got {until!r}")
    events = tuple(events)
    for event in events:
        no_class(event, "until")
        if not isinstance(event, AbstractEvent):
            raise TypeError(f"until must be an event or a sequence of events, got {event!r}")
        event.validate(policy, problem)
    return events


@compiled
def _solve(policy, flow, reference, until, log_times, method) -> Trajectory:
    reference = policy if reference is None else reference
    path: Path = method.integrate(policy, flow, reference, until, log_times, rows=True)
    params, frozen = flow.split(policy)

    def observe(params):
        row = eqx.combine(params, frozen)
        probs, _ = row.pattern_table(flow.problem)
        return probs, mean_accuracy(row, flow.problem)

    probs, accuracy = jax.vmap(observe)(path.params)
    return Trajectory(
        log_times=path.log_times,
        valid=path.valid,
        pattern_probs=probs,
        accuracy=accuracy,
        final_log_time=path.final_log_time,
        status=path.status,
        event=path.event,
        num_steps=path.num_steps,
        method=method,
        flow=flow,
        reference=reference,
        _start_params=params,
        _params=path.params,
        _final_params=path.final_params,
        _frozen=frozen,
    )


def solve_flow(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    *,
    log_times: ArrayLike | None = None,
    until: Until = None,
    reference: AbstractPolicy | None = None,
    method: AbstractMethod | None = None,
) -> Trajectory:
    r"""Follow a flow from a policy: $\dot\theta = \nabla J$ from t = 0 until it is told to stop.

    **Arguments:**

    - `flow`: a `GradientFlow`, or a `Problem` for Euclidean RLVR on patterns with beta = 0.
    - `policy`: the start.
    - `log_times`: `(T,)`, non-decreasing natural logarithms of the times at which the state is
      wanted; the solve ends at the last. If not given, 128 rows evenly spaced along the path.
    - `until`: an event, or several, the first of which ends the solve.
    - `reference`: the policy that regularisers compare with; the start if not given.
    - `method`: how to solve. If not given, `Exact()` where the flow is integrable and `log_times`
      are, or else `ODE()`; the trajectory's `method` says which.

    **Returns:** a `Trajectory`; how the solve ended is in its `status`, it never raises for that.

    **Raises:** `ValueError` if neither `log_times` nor `until` is given and the flow has no
    interior fixed point, if `log_times` are not in order, or if policy, problem and objective
    do not fit together.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        traj = qra.solve_flow(policy, problem, log_times=jnp.linspace(0, 8, 50))
        print(traj.accuracy[-1], qra.Status.names(traj.status))
        ```

    Source: arXiv 2506.04695, section 5; the method is derived in docs/derivations.md#clocks.
    """
    flow = check_solve(policy, flow, reference)
    events = _as_events(until, policy, flow.problem)
    if log_times is not None:
        log_times = as_float(log_times, "log_times")
        shape = log_times.shape
        require(len(shape) == 1 and shape[0] > 0, "log_times", "have shape (T,)", shape)
        require_all(log_times, lambda x: x < jnp.inf, "log_times", "be below inf and not NaN")
        if is_concrete(log_times):
            steps = np.asarray(log_times)
            require(bool(np.all(steps[1:] >= steps[:-1])), "log_times", "not decrease", log_times)
            require(bool(steps[-1] > -np.inf), "log_times[-1]", "be above -inf", steps[-1])
    elif not events and not flow.objective.has_interior_optimum:
        raise ValueError(
            "log_times or until must be given: this flow never comes to rest, got neither"
        )
    if log_times is None and method is None:
        method = ODE()  # whose rows go by the path, not by time
    method = method_for(policy, flow, events, method)
    return _solve(policy, flow, reference, events, log_times, method)


def first_event(
    policy: AbstractPolicy,
    flow: GradientFlow,
    reference: AbstractPolicy | None,
    until: tuple[AbstractEvent, ...],
    method: AbstractMethod,
) -> EventTime:
    """`event_time` without checks, to be called from compiled code."""
    reference = policy if reference is None else reference
    path: Path = method.integrate(policy, flow, reference, until, None, rows=False)
    _, frozen = flow.split(policy)
    return EventTime(
        log_time=jnp.where(path.event >= 0, path.final_log_time, jnp.nan),
        policy=eqx.combine(path.final_params, frozen),
        status=path.status,
        event=path.event,
        num_steps=path.num_steps,
    )


_first_event = compiled(first_event)


def event_time(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    until: AbstractEvent | Sequence[AbstractEvent],
    *,
    reference: AbstractPolicy | None = None,
    method: AbstractMethod | None = None,
) -> EventTime:
    """The time at which the first of some events happens, without storing the way there.

    **Arguments:** as for `solve_flow`.

    **Returns:** an `EventTime`; differentiable in policy, problem, objective and event.

    **Raises:** as `solve_flow`.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        peak = qra.event_time(policy, problem, qra.LogitPeaks(1))
        print(peak.log_time)  # log of 94.305, the entanglement time
        ```

    Source: derived in docs/derivations.md#states-between-steps-event-times-and-their-derivatives.
    """
    flow = check_solve(policy, flow, reference)
    events = _as_events(until, policy, flow.problem)
    require(len(events) > 0, "until", "hold at least one event", until)
    method = method_for(policy, flow, events, method)
    return _first_event(policy, flow, reference, events, method)
