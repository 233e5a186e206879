"""Trajectories and event times: what a solve returns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lazy_loader as lazy
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from .._core.checks import is_concrete, require
from .._core.trees import chosen
from .._core.types import Scalar
from .._core.version import VERSION
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ._method import AbstractMethod

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = lazy.load("xarray")  # slow to load, and for this method alone


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
    final_log_time: Scalar
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

    def to_dataset(self, patterns: Sequence[str] | None = None) -> "xr.Dataset":
        """The trajectory as a labelled `xarray.Dataset` over time, question and pattern.

        **Arguments:** `patterns`: R names, for the labels of the axis `pattern`; their indices if
        not given.

        **Returns:** variables `log_time`, `valid`, `pattern_prob`, `success_rate`, `accuracy`, the
        coordinates `pattern` and `log10_time`, and the solve's status and the library's version as
        attributes.

        **Raises:** `ValueError` for a batch of trajectories (make one dataset of each), or for
        another number of names.
        """
        require(self.log_times.ndim == 1, "trajectory", "be a single one", self.log_times.shape)
        number = self.pattern_probs.shape[-1]
        names = range(number) if patterns is None else list(patterns)
        require(len(names) == number, "patterns", f"hold {number} names", len(names))
        problem = self.flow.problem
        rates = jax.vmap(lambda policy: policy.pattern_table(problem)[1])(self.policy)
        log_time = np.asarray(self.log_times)
        rows, tables = ("time",), ("time", "question", "pattern")
        return xr.Dataset(
            {
                "log_time": (rows, log_time, {"units": "ln(1/reward)"}),
                "valid": (rows, np.asarray(self.valid)),
                "pattern_prob": (tables, np.asarray(self.pattern_probs)),
                "success_rate": (tables, np.asarray(rates)),
                "accuracy": (rows, np.asarray(self.accuracy)),
            },
            coords={
                "pattern": names,
                "log10_time": (rows, log_time / np.log(10), {"units": "log10(1/reward)"}),
            },
            attrs={
                "status": Status.names(self.status),
                "final_log_time": float(self.final_log_time),
                "num_steps": int(self.num_steps),
                "method": type(self.method).__name__,
                "version": VERSION,
            },
        )

    def __repr__(self) -> str:
        if not is_concrete(self.accuracy, self.status) or self.log_times.ndim != 1:
            return f"Trajectory(log_times of shape {jnp.shape(self.log_times)})"
        rows, questions, patterns = self.pattern_probs.shape
        # Rows after the stop repeat the final state.
        final = float(np.asarray(self.accuracy)[-1])
        return (
            f"Trajectory: {rows} rows, {questions} questions, {patterns} patterns\n"
            f"  status {Status.names(self.status)} after {int(self.num_steps)} steps of "
            f"{type(self.method).__name__}()\n"
            f"  ends at log10 time {float(self.final_log_time) / np.log(10):.4g} "
            f"with an accuracy of {final:.4g}"
        )


class EventTime(eqx.Module):
    """When an event happens, the policy then, and how the solve for it ended.

    `log_time` is `-inf` if it has happened at the start and NaN unless `status` is `EVENT`.
    """

    log_time: Float[Array, "*Q"]
    policy: AbstractPolicy
    status: Int[Array, "*Q"]
    event: Int[Array, "*Q"]
    num_steps: Int[Array, "*Q"]


@eqx.filter_jit
def _at(trajectory: Trajectory, log_time: Scalar) -> AbstractPolicy:
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
        eqx.combine(params, trajectory._frozen),
        trajectory.flow,
        trajectory.reference,
        (),
        log_step[None],
        rows=False,
    )
    final = chosen(there, params, path.final_params)
    return eqx.combine(final, trajectory._frozen)
