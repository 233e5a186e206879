"""Labelled data from trajectories. Imported on use: xarray is slow to load."""

from typing import TYPE_CHECKING

import jax
import numpy as np
import xarray as xr

from .._core.version import VERSION
from ..flows._status import Status

if TYPE_CHECKING:
    from ._trajectory import Trajectory


def trajectory_dataset(trajectory: "Trajectory") -> xr.Dataset:
    """See `Trajectory.to_dataset`."""
    problem = trajectory.flow.problem
    rates = jax.vmap(lambda policy: policy.pattern_table(problem)[1])(trajectory.policy)
    over_time, over_patterns = ("time",), ("time", "question", "pattern")
    status = Status(int(trajectory.status))
    return xr.Dataset(
        {
            "log_time": (over_time, np.asarray(trajectory.log_times), {"units": "ln(1/reward)"}),
            "valid": (over_time, np.asarray(trajectory.valid)),
            "pattern_prob": (over_patterns, np.asarray(trajectory.pattern_probs)),
            "success_rate": (over_patterns, np.asarray(rates)),
            "accuracy": (over_time, np.asarray(trajectory.accuracy)),
        },
        attrs={
            "status": status.name,
            "final_log_time": float(trajectory.final_log_time),
            "num_steps": int(trajectory.num_steps),
            "method": type(trajectory.method).__name__,
            "version": VERSION,
        },
    )
