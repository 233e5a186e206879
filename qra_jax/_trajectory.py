"""Trajectories, and the front door to every solve."""

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ._checks import as_float, is_concrete, require, require_all
from ._event import AbstractEvent
from ._exact import method_for
from ._flow import GradientFlow, as_flow
from ._method import AbstractMethod, Path
from ._metrics import mean_accuracy
from ._ode import ODE
from ._policy import AbstractPolicy
from ._problem import Problem
from ._tree import chosen

if TYPE_CHECKING:
    import xarray

_Scalar = Float[Array, ""]
Until = AbstractEvent | Sequence[AbstractEvent] | None


class Trajectory(eqx.Module):
    r"""A solved flow: T rows of policies, and how the solve ended.

    - `log_times`: `(T,)`, natural logarithms of the flow's time, `-inf` at t = 0.
    - `valid`: `(T,)`, False for rows after the stop; those repeat the final state.
    - `pattern_probs`: `(T, Q, R)`, $\pi(r|q)$.
    - `accuracy`: `(T,)`, the mean over questions by weight.
    - `policy`: the policies of all rows, stacked (every leaf has a leading axis T).
    - `final_policy`, `final_log_time`: where the solve stopped.
    - `status`: a `Status`, as an integer; `event`: which event of `until` stopped it, or -1.
    - `num_steps`: accepted and rejected solver steps; `method`: what solved it.
    """

    log_times: Float[Array, " T"]
    valid: Bool[Array, " T"]
    pattern_probs: Float[Array, "T Q R"]
    accuracy: Float[Array, " T"]
    final_log_time: _Scalar
    status: Int[Array, ""]
    event: Int[Array, ""]
    num_steps: Int[Array, ""]
    method: AbstractMethod
    flow: GradientFlow
    reference: AbstractPolicy
    _start_params: PyTree
    _params: PyTree
    _final_params: PyTree
    _frozen: PyTree

    @property
    def policy(self) -> AbstractPolicy:
        """The policies of all rows, every leaf with a leading axis T."""
        length = self.log_times.shape[-1]
        frozen = jtu.tree_map(lambda x: jnp.broadcast_to(x, (length, *x.shape)), self._frozen)
        return eqx.combine(self._params, frozen)

    @property
    def final_policy(self) -> AbstractPolicy:
        """The policy at which the solve stopped."""
        return eqx.combine(self._final_params, self._frozen)

    def at(self, log_time: ArrayLike) -> AbstractPolicy:
        """The policy at any time, solved onwards from the last row before it.

        **Arguments:** `log_time`: a scalar; past the stop the final policy is returned.

        **Returns:** a policy, as accurate as the trajectory itself.
        """
        require(jnp.ndim(log_time) == 0, "log_time", "be a scalar", jnp.shape(log_time))
        return _at(self, jnp.asarray(log_time, self.log_times.dtype))

    def to_dataset(self) -> "xarray.Dataset":
        """The trajectory as a labelled `xarray.Dataset` over time, question and pattern.

        **Returns:** variables `log_time`, `valid`, `pattern_prob`, `success_rate`, `accuracy`,
        with the solve's status and the library's version as attributes.

        **Raises:** `ValueError` for a batch of trajectories: make one dataset of each.
        """
        from ._dataset import trajectory_dataset

        require(self.log_times.ndim == 1, "trajectory", "be a single one", self.log_times.shape)
        return trajectory_dataset(self)


class EventTime(eqx.Module):
    """When an event happens, the policy then, and how the solve for it ended.

    `log_time` is `-inf` if it has happened at the start and NaN unless `status` is `EVENT`.
    """

    log_time: Float[Array, "*Q"]
    policy: AbstractPolicy
    status: Int[Array, "*Q"]
    event: Int[Array, "*Q"]
    num_steps: Int[Array, "*Q"]


@functools.cache
def _advise_x64() -> None:
    warnings.warn(
        "qra_jax is computing in float32, in which log times beyond about 80 overflow and small "
        "probabilities are lost. For float64, before any computation: "
        'jax.config.update("jax_enable_x64", True)',
        stacklevel=4,
    )


def check_solve(
    flow: GradientFlow | Problem, policy: AbstractPolicy, reference: AbstractPolicy | None
) -> GradientFlow:
    """The flow meant, after all checks that can be made before a compile."""
    flow = as_flow(flow)
    if not isinstance(policy, AbstractPolicy):
        raise TypeError(f"policy must be an AbstractPolicy, got {policy!r}")
    if reference is not None:
        shapes, wanted = (jtu.tree_map(jnp.shape, tree) for tree in (reference, policy))
        require(shapes == wanted, "reference", f"have the shapes of policy, {wanted}", shapes)
    flow.validate(policy, policy if reference is None else reference)
    if not jax.config.read("jax_enable_x64"):
        _advise_x64()
    return flow


def _as_events(until: Until) -> tuple[AbstractEvent, ...]:
    events = () if until is None else (until,) if isinstance(until, AbstractEvent) else tuple(until)
    for event in events:
        if not isinstance(event, AbstractEvent):
            raise TypeError(f"until must be an event or a sequence of events, got {event!r}")
    return events


@eqx.filter_jit
def _solve(flow, policy, reference, until, log_times, method) -> Trajectory:
    reference = policy if reference is None else reference
    path: Path = method.integrate(flow, policy, reference, until, log_times, rows=True)
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
    flow: GradientFlow | Problem,
    policy: AbstractPolicy,
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
    interior point of rest, if `log_times` are not in order, or if policy, problem and objective
    do not fit together.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        traj = qra.solve_flow(problem, policy, log_times=jnp.linspace(0, 8, 50))
        print(traj.accuracy[-1], qra.Status(int(traj.status)).name)
        ```

    Source: arXiv 2506.04695, section 5; the method is derived in docs.
    """
    flow = check_solve(flow, policy, reference)
    events = _as_events(until)
    if log_times is not None:
        log_times = as_float(log_times)
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
    method = method_for(flow, policy, events, method)
    return _solve(flow, policy, reference, events, log_times, method)


def first_event(
    flow: GradientFlow,
    policy: AbstractPolicy,
    reference: AbstractPolicy | None,
    until: tuple[AbstractEvent, ...],
    method: AbstractMethod,
) -> EventTime:
    """`event_time` without checks, to be called from compiled code."""
    reference = policy if reference is None else reference
    path: Path = method.integrate(flow, policy, reference, until, None, rows=False)
    _, frozen = flow.split(policy)
    return EventTime(
        log_time=jnp.where(path.event >= 0, path.final_log_time, jnp.nan),
        policy=eqx.combine(path.final_params, frozen),
        status=path.status,
        event=path.event,
        num_steps=path.num_steps,
    )


_first_event = eqx.filter_jit(first_event)


def event_time(
    flow: GradientFlow | Problem,
    policy: AbstractPolicy,
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
        peak = qra.event_time(problem, policy, qra.LogitPeaks(1))
        print(peak.log_time)  # log of 94.305, the entanglement time
        ```

    Source: derived in docs.
    """
    flow = check_solve(flow, policy, reference)
    events = _as_events(until)
    require(len(events) > 0, "until", "hold at least one event", until)
    method = method_for(flow, policy, events, method)
    return _first_event(flow, policy, reference, events, method)


@eqx.filter_jit
def _at(trajectory: Trajectory, log_time: _Scalar) -> AbstractPolicy:
    log_time = jnp.minimum(log_time, trajectory.final_log_time)
    # Rows after the stop repeat the final state: they must not serve as "the last row before".
    usable = trajectory.valid & (trajectory.log_times <= log_time)
    index = jnp.max(jnp.where(usable, jnp.arange(usable.shape[0]), -1))
    before = jnp.maximum(index, 0)

    def since_start(row, start):
        return jnp.where(index >= 0, row[before], start)

    params = jtu.tree_map(since_start, trajectory._params, trajectory._start_params)
    log_before = since_start(trajectory.log_times, -jnp.inf)
    there = log_before >= log_time
    # log(t - t_before), and any time at all where there is nothing left to solve.
    ratio = jnp.exp(jnp.where(there, -jnp.inf, log_before - log_time))
    log_step = jnp.where(there, 0, log_time) + jnp.log1p(-ratio)
    path = trajectory.method.integrate(
        trajectory.flow,
        eqx.combine(params, trajectory._frozen),
        trajectory.reference,
        (),
        log_step[None],
        rows=False,
    )
    final = chosen(there, params, path.final_params)
    return eqx.combine(final, trajectory._frozen)
