"""The map of supervised fine-tuning before RLVR: how far it cuts the slow phase."""

import dataclasses
from functools import cached_property
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting
from qra_jax.sweep import map_chunks

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from ..._lab.start import CHECK_PROBS, CHECK_RATES, first_times
from .claims import CLAIMS
from .figure import draw_sft
from .known import CHECK_DURATIONS, CHECK_QUALITIES, CHECK_TIMES

_METHOD = qra.ODE(clock=qra.flows.LogTime(), max_steps=4096)
"""SFT comes to rest where arc length chatters: its steps grow in proportion to time."""


@dataclasses.dataclass(frozen=True)
class Sft(Map):
    """Times after SFT of some duration, on data of some quality: what the best SFT saves."""

    resolution: int = 192
    """grid points along each axis, at least 2"""
    pattern_probs: tuple[float, ...] = CHECK_PROBS
    """initial probabilities of the patterns, above 0, with sum 1"""
    success_rates: tuple[float, ...] = CHECK_RATES
    """success rates of the patterns, in [0, 1]; the start must be weak, that is, have an accuracy
    below the second best of them"""
    shortest: float = 0.1
    """shortest duration of SFT, learning rate times steps (1/reward), at least 1e-6"""
    longest: float = 100.0
    """longest duration of SFT, learning rate times steps (1/reward), at most 1e4"""
    eps: float = 0.01
    """converged means that the best pattern has probability 1 - eps, in (0, 0.1]"""

    name: ClassVar[str] = "sft"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(self.resolution >= 2, "resolution", "be at least 2", self.resolution)
        probs, rates = self.pattern_probs, self.success_rates
        fits = len(probs) == len(rates) >= 3
        lengths = f"{len(probs)} and {len(rates)}"
        require_setting(fits, "pattern_probs and success_rates", "have one length >= 3", lengths)
        require_setting(all(x > 0 for x in probs), "pattern_probs", "be above 0", probs)
        normal = abs(sum(probs) - 1) <= 1e-6
        require_setting(normal, "pattern_probs", "sum to 1", f"a sum of {sum(probs):g}")
        require_setting(all(0 <= x <= 1 for x in rates), "success_rates", "lie in [0, 1]", rates)
        top, second = sorted(rates)[:-3:-1]
        accuracy = sum(p * x for p, x in zip(probs, rates, strict=True))
        weak = top > second > accuracy
        require_setting(weak, "success_rates", "have a single best and a weak start", rates)
        require_setting(self.shortest >= 1e-6, "shortest", "be at least 1e-6", self.shortest)
        longer = self.shortest < self.longest <= 1e4
        require_setting(longer, "longest", "lie between shortest and 1e4", self.longest)
        require_setting(0 < self.eps <= 0.1, "eps", "lie in (0, 0.1]", self.eps)

    def shrunk(self) -> "Sft":
        return dataclasses.replace(self, resolution=min(self.resolution, 24))

    @property
    def qualities(self) -> np.ndarray:
        """The rows of the map, and after them those of the curves."""
        return np.append((np.arange(self.resolution) + 0.5) / self.resolution, CHECK_QUALITIES)

    @property
    def durations(self) -> np.ndarray:
        """The columns of the map."""
        return np.geomspace(self.shortest, self.longest, self.resolution)

    def ticks(self) -> int:
        return len(self.qualities) * len(np.union1d(self.durations, CHECK_DURATIONS)) + 1

    def compute(self, progress: Progress) -> xr.Dataset:
        start = _Start(self.pattern_probs, self.success_rates)
        durations = np.union1d(self.durations, CHECK_DURATIONS)
        spread = 1 / (1 + np.exp(-np.linspace(-6, 6, 241)))
        line_qualities = np.union1d(self.qualities, spread)
        tuned, line = start.tune(self.qualities, line_qualities, durations)
        times = start.times(tuned["probs"], self.eps, progress)

        grid, curve = ("quality", "duration"), ("curve_quality", "curve_duration")
        number = self.resolution
        columns = np.isin(durations, self.durations)
        data = xr.Dataset(
            coords={
                "quality": ("quality", self.qualities[:number], _ATTRS["quality"]),
                "duration": ("duration", self.durations, _ATTRS["duration"]),
                "curve_quality": ("curve_quality", self.qualities[number:], _ATTRS["quality"]),
                "curve_duration": ("curve_duration", durations, _ATTRS["duration"]),
                "line_quality": ("line_quality", line_qualities, _ATTRS["quality"]),
            }
        )
        for key, (value, without) in times.items():
            data[key] = grid, value[:number][:, columns], _ATTRS[key]
            data[f"curve_{key}"] = curve, value[number:], _ATTRS[key]
            data[f"start_{key}"] = (), without, _ATTRS[key]
        data["sft_status"] = "quality", tuned["status"][:number], _ATTRS["sft_status"]
        data["curve_sft_status"] = "curve_quality", tuned["status"][number:], _ATTRS["sft_status"]
        for key, name in (("log_strong_duration", "log_strong"), ("strong_status", "status")):
            data[key] = "line_quality", line[name], _ATTRS[key]
        data["initial_prob"] = "pattern", np.array(self.pattern_probs), _ATTRS["initial_prob"]
        data["success_rate"] = "pattern", np.array(self.success_rates), _ATTRS["success_rate"]
        if (self.pattern_probs, self.success_rates) == (CHECK_PROBS, CHECK_RATES):
            data["check_duration"] = "check_duration", list(CHECK_DURATIONS), _ATTRS["duration"]
            check = ("curve_quality", "check_duration")
            data["check_entanglement_time"] = check, np.array(CHECK_TIMES), _ATTRS["check"]
        data.attrs["eps"] = self.eps
        return _with_best(data)

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        before = float(np.exp(data["start_log_entanglement_time"]))
        best = data.isel(curve_quality=-1)
        share, total = float(best["curve_quality"]), float(best["curve_best_total"])
        return [
            f"without SFT the entangled phase lasts {before:.4g} (1/reward); with SFT first on "
            f"data of which {share:.0%} go by the best pattern, SFT and that phase together last "
            f"{total:.3g}"
        ]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_sft(data)


_LOG_TIME = {"units": "ln(1/reward)"}
_ATTRS = {
    "quality": {"long_name": "quality f of the data: share of the best pattern", "units": "1"},
    "duration": {"long_name": "duration s of SFT", "units": "1/reward"},
    "log_entanglement_time": {"long_name": "T0 after SFT, natural log", **_LOG_TIME},
    "log_convergence_time": {"long_name": "time to 1 - eps after SFT, natural log", **_LOG_TIME},
    "entanglement_status": {"long_name": "qra.Status of the solve for T0", "units": "1"},
    "convergence_status": {"long_name": "qra.Status of the solve for convergence", "units": "1"},
    "sft_status": {"long_name": "qra.Status of the SFT solve", "units": "1"},
    "log_strong_duration": {"long_name": "SFT to a strong start, natural log", **_LOG_TIME},
    "strong_status": {"long_name": "qra.Status of the solve for the strong line", "units": "1"},
    "check": {"long_name": "known T0 after SFT", "units": "1/reward"},
    "break_even_quality": {"long_name": "quality from which on SFT pays for T0", "units": "1"},
    "best_duration": {"long_name": "SFT of least s + T0; 0: no SFT", "units": "1/reward"},
    "best_total": {"long_name": "least s + T0", "units": "1/reward"},
    "best_on_line": {"long_name": "the least s + T0 lies on the strong line", "units": "1"},
    "best_duration_to_eps": {
        "long_name": "SFT of least s + time to 1 - eps; 0: no SFT; NaN: beyond the map",
        "units": "1/reward",
    },
    "best_total_to_eps": {"long_name": "least s + time to 1 - eps", "units": "1/reward"},
    "initial_prob": {"long_name": "initial probability", "units": "1"},
    "success_rate": {"long_name": "success rate", "units": "1"},
}


@dataclasses.dataclass(frozen=True)
class _Start:
    """The policy before SFT, and what SFT and RLVR make of it."""

    pattern_probs: tuple[float, ...]
    success_rates: tuple[float, ...]

    @cached_property
    def model(self) -> tuple[qra.TabularPolicy, qra.Problem]:
        return qra.two_stage(jnp.array(self.pattern_probs), jnp.array(self.success_rates))

    def sft(self, quality: Float[Array, ""]) -> qra.GradientFlow:
        """The flow of SFT on data that hold the best and the misleading pattern only."""
        misleading, best = np.argsort(self.success_rates)[-2:]
        shares = jnp.zeros(len(self.success_rates)).at[best].set(quality)
        return qra.GradientFlow(qra.SFT(shares.at[misleading].set(1 - quality)), self.model[1])

    def tune(
        self, qualities: np.ndarray, line_qualities: np.ndarray, durations: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """SFT on data of each quality: policies at all durations, and for the second qualities the
        duration at which V reaches the second best rate (NaN: beyond the longest).

        One program does both: no accuracy reaches the level 2.
        """
        policy, level = self.model[0], sorted(self.success_rates)[-2]
        log_times = np.log(durations)

        def solve(task):
            flow, until = self.sft(task[0]), qra.ValueReaches(task[1])
            path = qra.solve_flow(policy, flow, log_times=log_times, until=until, method=_METHOD)
            solved = path.status <= qra.Status.STATIONARY
            return {
                "probs": jnp.where(solved, path.pattern_probs[:, 0], jnp.nan),
                "log_strong": jnp.where(path.event == 0, path.final_log_time, jnp.nan),
                "status": path.status,
            }

        number = len(qualities)
        levels = np.repeat([2.0, level], [number, len(line_qualities)])
        found = map_chunks(solve, (np.append(qualities, line_qualities), levels), width=64)
        tuned = {key: value[:number] for key, value in found.items()}
        return tuned, {key: value[number:] for key, value in found.items()}

    def times(
        self, probs: np.ndarray, eps: float, progress: Progress
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Times of RLVR from policies `(F, S, R)`, each `(F, S)` and beside it without SFT."""
        states = np.concatenate([[self.pattern_probs], probs.reshape(-1, probs.shape[-1])])
        rates = np.broadcast_to(self.success_rates, states.shape)
        times = first_times(states, rates, eps, progress)
        return {
            key: (found[1:].reshape(probs.shape[:-1]), found[0]) for key, found in times.items()
        }


def _lowest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest point of each row of y over evenly spaced x: the vertex of the parabola through
    the lowest grid point and its two neighbours, where there are two and both are finite."""
    rows, at = np.arange(len(y)), np.argmin(y, axis=1)
    middle = np.clip(at, 1, max(y.shape[1] - 2, 1))
    left, right = y[rows, middle - 1], y[rows, np.minimum(middle + 1, y.shape[1] - 1)]
    with np.errstate(invalid="ignore"):
        bend = left - 2 * y[rows, at] + right
        usable = (at == middle) & np.isfinite(left + right) & (bend > 0)
        shift = np.where(usable, (left - right) / 2 / np.where(usable, bend, 1), 0)
        lowest = y[rows, at] - np.where(usable, (left - right) * shift / 4, 0)
    return x[at] + shift * (x[1] - x[0]), lowest


def _known(values: np.ndarray) -> np.ndarray:
    """Infinite where there is no value."""
    return np.where(np.isnan(values), np.inf, values)


def _with_best(data: xr.Dataset) -> xr.Dataset:
    """The data with the SFT of least total time, and the quality from which on SFT pays."""
    log_line, qualities = data["log_strong_duration"].values, data["line_quality"].values
    known = np.isfinite(log_line)
    # Along the line T0 = 0 and the total is s itself, which falls with the quality.
    log_start = float(data["start_log_entanglement_time"])
    even = np.nan
    if known.any():
        even = np.interp(-log_start, -log_line[known], np.log(qualities[known]), even, even)
    data["break_even_quality"] = (), np.exp(even), _ATTRS["break_even_quality"]
    for prefix in ("", "curve_"):
        for key, value in _best(data, prefix).items():
            data[prefix + key] = f"{prefix}quality", value, _ATTRS[key]
    return data


def _best(data: xr.Dataset, prefix: str) -> dict[str, np.ndarray]:
    """The least total times of each quality; a best duration of 0 means no SFT.

    The least s + T0 may lie at a kink, the line on which the start becomes strong: the durations
    before it are searched, and compared with the line itself.
    """
    durations = data["duration"].values
    cells = data.sel({f"{prefix}duration": durations})
    log_durations = np.log(durations)
    line = np.exp(data["log_strong_duration"].sel(line_quality=data[f"{prefix}quality"]).values)
    log_t0 = cells[f"{prefix}log_entanglement_time"].values
    before = np.where(np.isneginf(log_t0), np.inf, durations + np.exp(log_t0))
    at, inside = _lowest(log_durations, _known(before))
    on_line = _known(line) <= inside
    total, duration = np.where(on_line, line, inside), np.where(on_line, line, np.exp(at))
    without = float(np.exp(data["start_log_entanglement_time"]))

    settled = _known(durations + np.exp(cells[f"{prefix}log_convergence_time"].values))
    at, total_eps = _lowest(log_durations, settled)
    beyond = np.argmin(settled, axis=1) == len(durations) - 1
    without_eps = float(np.exp(data["start_log_convergence_time"]))
    duration_eps = np.where(total_eps < without_eps, np.where(beyond, np.nan, np.exp(at)), 0)
    return {
        "best_duration": np.where(total < without, duration, 0),
        "best_total": np.minimum(total, without),
        "best_on_line": on_line & (total < without),
        "best_duration_to_eps": duration_eps,
        "best_total_to_eps": np.minimum(total_eps, without_eps),
    }
