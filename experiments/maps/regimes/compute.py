"""The map of the two regimes: convergence and entanglement times over the initial policy."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting
from qra_jax.sweep import map_chunks

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.measured import describe, measure
from ..._lab.progress import Progress
from ..._lab.start import CHECK_PROBS, CHECK_RATES, first_look, first_times, pad_patterns
from ..._lab.store import OUTSIDE
from .claims import CLAIMS
from .figure import draw_regimes

# The paper's entangled case (gamma = 6), a strong start, and a cascade of two misleading patterns.
CASES = {
    "strong": ((0.6, 0.3, 0.1), (0.9, 0.7, 0.1)),
    "entangled": (CHECK_PROBS, CHECK_RATES),
    "cascade": ((1e-5, 1e-3, 0.5, 0.499 - 1e-5), (0.9, 0.75, 0.55, 0.1)),
}
_TAIL = 1e-5


@dataclasses.dataclass(frozen=True)
class Regimes(Map):
    """Times over initial probabilities: where RLVR is fast, and where it is entangled first."""

    resolution: int = 256
    """grid points along each axis, at least 2"""
    success_rates: tuple[float, float, float] = (0.9, 0.7, 0.1)
    """success rates of the best, the misleading and the remaining pattern, falling, in [0, 1]"""
    lowest: float = 1e-12
    """lowest initial probability of the best pattern, above 0 and below 0.1"""
    eps: float = 0.01
    """converged means that the best pattern has probability 1 - eps, in (0, 0.1]"""
    patterns: Path | None = None
    """CSV file of a measured base model to put on the map (and to take its success rates from):
    columns pattern,probability,success_rate or pattern,samples,correct"""
    draws: int = 1000
    """posterior draws for a measured base model that states counts, at least 100"""

    name: ClassVar[str] = "regimes"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(self.resolution >= 2, "resolution", "be at least 2", self.resolution)
        rates = self.success_rates
        falling = 1 >= rates[0] > rates[1] > rates[2] >= 0
        require_setting(falling, "success_rates", "fall strictly and lie in [0, 1]", rates)
        require_setting(0 < self.lowest < 0.1, "lowest", "lie between 0 and 0.1", self.lowest)
        require_setting(self.lowest >= 1e-100, "lowest", "be at least 1e-100", self.lowest)
        require_setting(0 < self.eps <= 0.1, "eps", "lie in (0, 0.1]", self.eps)
        require_setting(self.draws >= 100, "draws", "be at least 100", self.draws)

    def shrunk(self) -> "Regimes":
        return dataclasses.replace(
            self, resolution=min(self.resolution, 24), draws=min(self.draws, 200)
        )

    def ticks(self) -> int:
        return self.resolution**2 + len(CASES)

    def compute(self, progress: Progress) -> xr.Dataset:
        table = None if self.patterns is None else qra.rollouts.read_pattern_table(self.patterns)
        plane = _Plane.of(self, table)
        best, misleading = plane.axes(self.lowest, self.resolution)
        probs, inside = plane.points(best, misleading)
        rates = np.broadcast_to(plane.rates, probs.shape)

        extra_probs, extra_rates = _padded(CASES.values(), probs.shape[-1])
        width = extra_probs.shape[-1]
        starts = np.concatenate([pad_patterns(probs[inside], width), extra_probs])
        start_rates = np.concatenate([pad_patterns(rates[inside], width), extra_rates])
        # Beside each other: one compiles while another runs.
        with ThreadPoolExecutor() as pool:
            trajectories = pool.submit(_trajectories, extra_probs, extra_rates)
            measured = pool.submit(self._measured, table)
            times = {
                **first_times(starts, start_rates, self.eps, progress),
                **first_look(starts, start_rates),
            }
        progress(int((~inside).sum()))

        data = xr.Dataset(
            coords={
                "misleading": ("misleading", misleading, {"long_name": plane.misleading_label}),
                "best": ("best", best, {"long_name": plane.best_label}),
                "case": list(CASES),
            }
        )
        for key, value in times.items():
            fill = OUTSIDE if np.issubdtype(value.dtype, np.integer) else np.nan
            whole = np.full(inside.shape, fill, value.dtype)
            whole[inside] = value[: inside.sum()]
            data[key] = ("misleading", "best"), whole, _ATTRS[key]
            if not key.startswith("law"):
                data[f"case_{key}"] = "case", value[-len(CASES) :], _ATTRS[key]
        data["boundary"] = (
            "best",
            plane.boundary(best),
            {"long_name": "misleading probability at which V = p(r')"},
        )
        data = data.merge(trajectories.result()).merge(measured.result())
        data.attrs["rates"] = json.dumps(plane.rates.tolist())
        data.attrs["eps"] = self.eps
        if table is not None:
            data.attrs["note"] = table.note
            data.attrs["measured"] = json.dumps(table.patterns)
        return data

    def _measured(self, table: qra.rollouts.PatternTable | None) -> xr.Dataset:
        nothing = xr.Dataset()
        return nothing if table is None else measure(table, self.eps, self.draws, self.seed)

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        inside = data["regime"] != OUTSIDE
        entangled = float((data["regime"] == qra.Regime.ENTANGLED).sum() / inside.sum())
        log_times = data["log_entanglement_time"].values
        longest = float(np.max(log_times[np.isfinite(log_times)])) / np.log(10)
        found = (
            f"{entangled:.0%} of the base models on this map are entangled; the longest entangled "
            f"phase among them lasts 10^{longest:.1f} (1/reward)"
        )
        if "measured" not in data.attrs:
            return [found]
        note = [data.attrs["note"]] if data.attrs["note"] else []
        return [found, *note, *(f"measured model: {line}" for line in describe(data))]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_regimes(data)


_LOG_TIME = {"units": "ln(1/reward)"}
_ATTRS = {
    "log_entanglement_time": {"long_name": "entanglement time T0, natural log", **_LOG_TIME},
    "log_convergence_time": {"long_name": "convergence time, natural log", **_LOG_TIME},
    "law_log_entanglement_time": {
        "long_name": "entanglement law, natural log of T0; NaN where it does not hold",
        **_LOG_TIME,
    },
    "law_relative_error": {
        "long_name": "leading correction to the entanglement law, T0/law - 1",
        "units": "1",
    },
    "entanglement_status": {"long_name": "qra.Status of the solve for T0; -1: no policy"},
    "convergence_status": {"long_name": "qra.Status of the solve for convergence; -1: no policy"},
    "regime": {"long_name": "qra.Regime; -1: no policy"},
    "gamma": {"long_name": "entanglement ratio gamma"},
}


@dataclasses.dataclass(frozen=True)
class _Plane:
    """The plane of the map: two groups of patterns vary, the others share what is left.

    Patterns tied for best (or second best) vary together, and the patterns of a group keep their
    proportions, so that a measured model lies on its own map.
    """

    rates: np.ndarray
    shares: np.ndarray  # (3, R): proportions within the best, the misleading and the other group
    best_label: str
    misleading_label: str

    @staticmethod
    def of(settings: Regimes, table: qra.rollouts.PatternTable | None) -> "_Plane":
        best, misleading = "initial probability of best", "initial probability of misleading"
        if table is None:
            return _Plane(np.array(settings.success_rates), np.eye(3), best, misleading)
        exists = table.probs > 0
        levels = np.unique(table.rates[exists])[::-1]
        if len(levels) < 2:
            raise ValueError(
                f"patterns must differ in success rate, got {levels[0]:g} for all of them"
            )
        groups = np.stack(
            [
                exists & (table.rates == levels[0]),
                exists & (table.rates == levels[1]),
                exists & (table.rates < levels[1]),
            ]
        )
        rates, probs = table.rates, table.probs
        if not groups[2].any():
            # Nothing else was seen: what is in neither group goes to a pattern that always fails.
            rates, probs = np.append(rates, 0.0), np.append(probs, 1.0)
            groups = np.pad(groups, ((0, 0), (0, 1)))
            groups[2, -1] = True
        shares = groups * probs
        named = [
            " + ".join(np.array(table.patterns)[group[: len(table.patterns)]]) for group in groups
        ]
        return _Plane(
            rates,
            shares / shares.sum(axis=1, keepdims=True),
            f"{best} ({named[0]})",
            f"{misleading} ({named[1]})",
        )

    def axes(self, lowest: float, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        return np.geomspace(lowest, 0.9, resolution), np.linspace(0.01, 0.99, resolution)

    def points(self, best: np.ndarray, misleading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities `(Y, X, R)`, and which points are policies with all three groups."""
        y, x = np.meshgrid(misleading, best, indexing="ij")
        rest = 1 - x - y
        inside = rest > 1e-9
        return np.stack([x, y, np.maximum(rest, 0)], axis=-1) @ self.shares, inside

    def boundary(self, best: np.ndarray) -> np.ndarray:
        """Misleading probability at which V equals the misleading rate (below 0: V is above it)."""
        top, second, rest = self.shares @ self.rates
        return 1 - best * (top - rest) / (second - rest)


def _padded(cases, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cases of different numbers of patterns in one array, padded with probability 0."""
    cases = list(cases)
    width = max(width, *(len(probs) for probs, _ in cases))
    rows = [[pad_patterns(np.array([row]), width)[0] for row in case] for case in cases]
    probs, rates = np.array(rows).transpose(1, 0, 2)
    return probs, rates


def _trajectories(probs: np.ndarray, rates: np.ndarray) -> xr.Dataset:
    """The trajectories of the cases, to a tail much closer to 1 than `eps`."""

    def follow(x):
        policy, problem = qra.two_stage(*x)
        traj = qra.solve_flow(policy, problem, until=qra.PatternReaches(0, shortfall=_TAIL))
        return traj.log_times, traj.pattern_probs[:, 0], traj.accuracy, traj.status

    log_time, pattern_prob, accuracy, status = map_chunks(follow, (probs, rates), width=len(probs))
    rows, data = ("case", "row"), xr.Dataset()
    data["case_log_time"] = rows, log_time, _LOG_TIME
    data["case_pattern_prob"] = (*rows, "pattern"), pattern_prob
    data["case_accuracy"] = rows, accuracy
    data["case_trajectory_status"] = "case", status
    data["case_initial_prob"] = ("case", "pattern"), probs
    data["case_success_rate"] = ("case", "pattern"), rates
    return data
