"""The map of RLIF: how often self-certainty raises accuracy at first, and lowers it in the end."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting
from qra_jax.sweep import map_chunks

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from ..._lab.rlif_questions import draw_rates, ends, observe
from .claims import CLAIMS
from .figure import draw_rlif

LOG10_SCALED_TIMES = np.concatenate(
    [[-1.5, -1.1, -0.8], np.linspace(-0.7, 0.5, 25), [0.7, 1, 1.5, 2, 3]]
)
"""Rows of the curves, log10 of t/R: from a uniform start of R patterns all happens at t ~ R."""
_PADDED = 1000
"""Curves of up to so many patterns share a program, padded with patterns of probability 0 (the
first R of more random numbers are those of R: the padding changes no draw)."""
_METHOD = qra.ODE(clock=qra.flows.LogTime(), rtol=1e-5, atol=1e-5, max_steps=128)
_MAX_DRAWS = 1_000_000
_ENSEMBLES, _CURVES = 0, 1  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Rlif(Map):
    """Ensembles of two-answer questions whose patterns start equally likely, under RLIF."""

    sizes: tuple[int, ...] = (10, 100, 1000, 10000)
    """numbers of patterns R of an ensemble, rising, from 2 to 100000"""
    tilts: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    """tilts delta of the density 1 + delta (2p - 1) of success rates p on (0, 1), rising from 0,
    below 1"""
    draws: int = 2000
    """draws of an ensemble for each R and tilt, from 100 to 1000000"""
    curves: int = 100
    """solved accuracy curves for each R, at least 10"""
    curve_tilt: float = 0.1
    """tilt of the solved curves, in [0, 1)"""

    name: ClassVar[str] = "rlif"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes, tilts = self.sizes, self.tilts
        rising = len(sizes) > 0 and list(sizes) == sorted(set(sizes))
        require_setting(rising, "sizes", "be rising numbers", sizes)
        fit = min(sizes) >= 2 and max(sizes) <= 100_000
        require_setting(fit, "sizes", "lie between 2 and 100000", sizes)
        rising = len(tilts) > 0 and list(tilts) == sorted(set(tilts))
        fit = rising and min(tilts) == 0 and max(tilts) < 1
        require_setting(fit, "tilts", "rise from 0 and stay below 1", tilts)
        fit = 100 <= self.draws <= _MAX_DRAWS
        require_setting(fit, "draws", "be from 100 to 1000000", self.draws)
        require_setting(self.curves >= 10, "curves", "be at least 10", self.curves)
        fit = 0 <= self.curve_tilt < 1
        require_setting(fit, "curve_tilt", "lie in [0, 1)", self.curve_tilt)

    def shrunk(self) -> "Rlif":
        return dataclasses.replace(
            self,
            sizes=tuple(size for size in self.sizes if size <= 100) or self.sizes[:1],
            draws=min(self.draws, 500),
            curves=min(self.curves, 20),
        )

    def ticks(self) -> int:
        return len(self.sizes) * (len(self.tilts) * self.draws + self.curves)

    def compute(self, progress: Progress) -> xr.Dataset:
        small = tuple(size for size in self.sizes if size <= _PADDED)
        groups = [small, *((size,) for size in self.sizes if size > _PADDED)]
        # Two at a time, the longest first: one compiles while another runs.
        with ThreadPoolExecutor(2) as pool:
            large = [pool.submit(self._curves, group, progress) for group in groups[:0:-1]]
            ensembles = [pool.submit(self._ensemble, size, progress) for size in self.sizes[::-1]]
            padded = pool.submit(self._curves, small, progress)
            curves = [future.result() for future in (padded, *large[::-1])]
            looks = [future.result() for future in ensembles[::-1]]
        results = {**_joined(looks), **_joined([found for found in curves if found])}
        data = xr.Dataset(
            coords={
                "patterns": ("patterns", list(self.sizes), _ATTRS["patterns"]),
                "tilt": ("tilt", list(self.tilts), _ATTRS["tilt"]),
                "log_scaled_time": ("log_scaled_time", LOG10_SCALED_TIMES, _ATTRS["time"]),
            }
        )
        for key, value in results.items():
            kind = ("patterns", "tilt", "draw")
            if key.startswith("curve"):
                kind = ("patterns", "curve", "log_scaled_time")[: value.ndim]
            data[key] = kind, value, _ATTRS[key]
        peak = data["curve_accuracy"].max("log_scaled_time")
        gain = peak - np.maximum(data["curve_start"], data["curve_accuracy"][..., -1])
        data["example"] = gain.argmax("curve").assign_attrs(_ATTRS["example"])
        data.attrs["curve_tilt"] = self.curve_tilt
        return _with_predictions(data)

    def _key(self, stream: int, size: int | Int[Array, ""], index: Int[Array, ""]) -> Array:
        """A key that depends on nothing but the seed, what it is for, R and `index`."""
        key = jax.random.fold_in(jax.random.key(self.seed), stream)
        return jax.random.fold_in(jax.random.fold_in(key, size), index)

    def _ensemble(self, size: int, progress: Progress) -> dict[str, np.ndarray]:
        """What is known without a solve, of all draws at all tilts, as `(1, tilt, draw)`."""
        tilts = jnp.array(self.tilts)

        def look(index):
            tilt, draw = index
            key = self._key(_ENSEMBLES, size, tilt * _MAX_DRAWS + draw)
            return observe(draw_rates(key, size, tilts[tilt]))

        shape = len(self.tilts), self.draws
        indices = tuple(grid.ravel() for grid in np.indices(shape))
        width = min(max(1, 2**18 // size), 4096)
        found = map_chunks(look, indices, width=width, workers=1, progress=progress)
        return {key: value.reshape(1, *shape) for key, value in found.items()}

    def _curves(self, sizes: tuple[int, ...], progress: Progress) -> dict[str, np.ndarray]:
        """Solved accuracy curves, `(size, curve)`, of sizes padded to one number of patterns."""
        if not sizes:
            return {}
        padded = max(_PADDED, sizes[-1])

        def follow(task):
            size, draw = task
            exists = jnp.arange(padded) < size
            key = self._key(_CURVES, size, draw)
            rates = jnp.where(exists, draw_rates(key, padded, self.curve_tilt), 0.5)
            policy, problem = qra.two_stage(jnp.where(exists, 1 / size, 0), rates)
            flow = qra.GradientFlow(qra.RLIF(), problem)
            log_times = jnp.array(LOG10_SCALED_TIMES * math.log(10)) + jnp.log(size)
            path = qra.solve_flow(policy, flow, log_times=log_times, method=_METHOD)
            return path.accuracy, path.status, *ends(rates, exists)

        shape = len(sizes), self.curves
        tasks = np.repeat(sizes, self.curves), np.tile(np.arange(self.curves), len(sizes))
        # Wider chunks leave the processor's cache: two lanes of 10,000 take as long as four.
        width = max(1, 10_000 // padded)
        found = map_chunks(follow, tasks, width=width, workers=1, progress=progress)
        names = ("curve_accuracy", "curve_status", "curve_start", "curve_end")
        return {
            key: value.reshape(*shape, *value.shape[1:])
            for key, value in zip(names, found, strict=True)
        }

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        most = data.sel(tilt=0.0).isel(patterns=-1)
        right = most.isel(draw=(most["start_accuracy"] > 0.5).values)
        rises = float((right["initial_slope"] > 0).mean())
        drops = float((right["end_accuracy"] < right["start_accuracy"]).mean())
        size = int(most["patterns"])
        return [
            f"of models of {size} patterns whose mean success rate exceeds 1/2, RLIF "
            f"first raises the accuracy of {rises:.0%} and leaves {drops:.0%} below their start"
        ]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_rlif(data)


_ATTRS = {
    "patterns": {"long_name": "number of patterns R", "units": "1"},
    "tilt": {"long_name": "tilt delta of the success rates", "units": "1"},
    "time": {"long_name": "log10 of t/R", "units": "log10(1/reward)"},
    "initial_slope": {"long_name": "dV/dt at t = 0", "units": "reward"},
    "start_accuracy": {"long_name": "accuracy at t = 0", "units": "1"},
    "end_accuracy": {"long_name": "accuracy as t -> infinity", "units": "1"},
    "share_above_half": {"long_name": "share of patterns with p > 1/2", "units": "1"},
    "ends_at_worst": {"long_name": "the most certain pattern is the worst", "units": "1"},
    "curve_accuracy": {"long_name": "accuracy", "units": "1"},
    "curve_status": {"long_name": "qra.Status of the solve", "units": "1"},
    "curve_start": {"long_name": "accuracy at t = 0", "units": "1"},
    "curve_end": {"long_name": "accuracy as t -> infinity", "units": "1"},
    "example": {"long_name": "the curve whose peak exceeds both its ends by most", "units": "1"},
    "predicted_rise": {"long_name": "predicted probability of an early rise", "units": "1"},
    "predicted_drop": {
        "long_name": "predicted probability of an end below the start",
        "units": "1",
    },
    "rise_by_mean": {"long_name": "limit of P(rise | mean p > 1/2)", "units": "1"},
    "rise_by_count": {"long_name": "limit of P(rise | most p > 1/2)", "units": "1"},
}


def _joined(results: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Results by rising size, with a leading axis of sizes each, as one."""
    return {key: np.concatenate([result[key] for result in results]) for key in results[0]}


def _with_predictions(data: xr.Dataset) -> xr.Dataset:
    """The data with the predictions for each R and tilt, and for a correct majority."""
    sizes, tilts = data["patterns"].values, np.linspace(0, float(data["tilt"][-1]), 51)
    tilts = np.union1d(tilts, data["tilt"].values)
    data = data.assign_coords(theory_tilt=("theory_tilt", tilts, _ATTRS["tilt"]))
    both = ("patterns", "theory_tilt")
    grid = np.meshgrid(sizes, tilts, indexing="ij")
    for name, law in (
        ("predicted_rise", qra.laws.rlif_rise_probability),
        ("predicted_drop", qra.laws.rlif_drop_probability),
    ):
        data[name] = both, np.asarray(law(*grid)), _ATTRS[name]
    for reading in ("mean", "count"):
        name = f"rise_by_{reading}"
        data[name] = (), qra.laws.rlif_rise_given_majority(reading), _ATTRS[name]
    return data
