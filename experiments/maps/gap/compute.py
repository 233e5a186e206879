"""The map of the gap between flow and training: step size against group size."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from ..._lab.start import CHECK_PROBS, CHECK_RATES
from .claims import CLAIMS
from .figure import draw_gap

_TIMES = 24  # at which runs and flow are compared


@dataclasses.dataclass(frozen=True)
class Gap(Map):
    """Sampled training against the exact flow: where the flow stops predicting the run."""

    pattern_probs: tuple[float, ...] = CHECK_PROBS
    """initial probabilities of the patterns, above 0, with sum 1"""
    success_rates: tuple[float, ...] = CHECK_RATES
    """success rates of the patterns, in [0, 1]"""
    smallest_step: float = 0.1
    """smallest step size (learning rate), above 0; each next one is twice as large"""
    steps: int = 8
    """number of step sizes, at least 2"""
    groups: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    """samples in a group, each at least 2"""
    seeds: int = 64
    """runs of each cell, at least 2"""
    horizon: float = 400.0
    """length of a run, learning rate times steps (1/reward), at least the largest step size"""

    name: ClassVar[str] = "gap"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(self.steps >= 2, "steps", "be at least 2", self.steps)
        require_setting(self.seeds >= 2, "seeds", "be at least 2", self.seeds)
        small, groups = self.smallest_step, self.groups
        require_setting(0 < small < math.inf, "smallest_step", "be above 0", small)
        enough = len(groups) >= 2 and min(groups) >= 2
        require_setting(enough, "groups", "be two or more numbers of at least 2", groups)
        long = self.horizon >= self.step_sizes[-1]
        require_setting(bool(long), "horizon", "be at least the largest step size", self.horizon)

    def shrunk(self) -> "Gap":
        return dataclasses.replace(
            self, smallest_step=0.4, steps=4, groups=(8, 64), seeds=min(self.seeds, 32)
        )

    @property
    def step_sizes(self) -> np.ndarray:
        """The columns of the map."""
        return self.smallest_step * 2.0 ** np.arange(self.steps)

    def ticks(self) -> int:
        return len(self.groups) + 1

    def compute(self, progress: Progress) -> xr.Dataset:
        policy, problem = qra.two_stage(np.array(self.pattern_probs), np.array(self.success_rates))
        flow, best = qra.GradientFlow(qra.RLVR(), problem), int(np.argmax(self.success_rates))
        number = math.ceil(self.horizon / self.smallest_step)
        wanted = self.horizon * np.arange(1, _TIMES + 1) / _TIMES
        keys = jax.random.split(jax.random.key(self.seed), self.seeds)

        def run(size, sampler, key=None):
            """Accuracy and share of the best pattern at the steps nearest to the times."""
            found = qra.train(
                policy, flow, optax.sgd(size), number, sampler=sampler, key=key, rows=number + 1
            )
            at = _nearest(wanted, size)
            return found.accuracy[at], found.pattern_probs[at, 0, best], found.status

        def followed(size):
            """The flow at the same times, and exact steps."""
            log_times = jnp.log(_nearest(wanted, size) * size)
            exact = qra.solve_flow(policy, flow, log_times=log_times)
            stepped, _, status = run(size, None)
            return exact.accuracy, exact.pattern_probs[-1, 0, best], stepped, exact.status, status

        def sampled(size, sampler):
            accuracy, share, status = jax.vmap(lambda key: run(size, sampler, key))(keys)
            lost = jnp.mean(share[:, -1] < 0.5)
            return accuracy.mean(axis=0), accuracy.std(axis=0), lost, jnp.max(status)

        sizes = jnp.asarray(self.step_sizes)
        flowed, share, stepped, *codes = jax.jit(lambda x: jax.lax.map(followed, x))(sizes)
        progress(1)
        rows = []
        for group in self.groups:
            sampler = qra.SampledGroups(group, estimator=qra.RLOO())
            found = jax.jit(lambda x, s=sampler: jax.lax.map(lambda size: sampled(size, s), x))
            rows.append(jax.tree_util.tree_map(np.asarray, found(sizes)))
            progress(1)
        mean, spread, lost, status = map(np.stack, zip(*rows, strict=True))
        curves, cells = ("step", "time"), ("group", "step")
        values = {
            "flow_accuracy": (curves, flowed),
            "step_accuracy": (curves, stepped),
            "flow_share": ("step", share),
            "mean_accuracy": ((*cells, "time"), mean),
            "spread": ((*cells, "time"), spread),
            "lost": (cells, lost),
            "status": (cells, status),
            "flow_status": ("step", codes[0]),
            "step_status": ("step", codes[1]),
        }
        return xr.Dataset(
            {key: (dims, np.asarray(x), _ATTRS[key]) for key, (dims, x) in values.items()},
            coords={
                "step": ("step", self.step_sizes, _ATTRS["step"]),
                "group": ("group", np.array(self.groups), _ATTRS["group"]),
                "time": ("time", wanted, _ATTRS["time"]),
            },
            attrs={"seeds": self.seeds},
        )

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        off = abs(data["step_accuracy"] - data["flow_accuracy"]).max("time")
        return [
            f"exact steps of size {float(off['step'][0]):g} stay within {float(off[0]):.2g} of the "
            f"flow's accuracy, steps of size {float(off['step'][-1]):g} within {float(off[-1]):.2g}"
        ]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_gap(data)


_ATTRS = {
    "step": {"long_name": "step size (learning rate)", "units": "1/reward"},
    "group": {"long_name": "samples in a group", "units": "1"},
    "time": {"long_name": "learning rate times steps", "units": "1/reward"},
    "flow_accuracy": {"long_name": "accuracy of the flow", "units": "1"},
    "step_accuracy": {"long_name": "accuracy of exact gradient steps", "units": "1"},
    "flow_share": {"long_name": "share of the best pattern in the end, flow", "units": "1"},
    "mean_accuracy": {"long_name": "accuracy, mean over seeds", "units": "1"},
    "spread": {"long_name": "accuracy, standard deviation over seeds", "units": "1"},
    "lost": {"long_name": "share of runs that end with pi(best) < 1/2", "units": "1"},
    "status": {"long_name": "worst qra.Status of the runs", "units": "1"},
    "flow_status": {"long_name": "qra.Status of the flow", "units": "1"},
    "step_status": {"long_name": "qra.Status of exact steps", "units": "1"},
}


def _nearest(times: np.ndarray, size: jax.Array) -> jax.Array:
    """The numbers of steps, at least 1, that come nearest to some times."""
    return jnp.maximum(jnp.round(times / size), 1).astype(int)
