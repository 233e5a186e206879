"""The map of forecasts: sampled GRPO foretold from rollouts and the first tenth of the run."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import jax
import numpy as np
import optax
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting
from qra_jax.diagnosis import TrainingRun, forecast_run

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from .claims import CLAIMS
from .figure import draw_forecast

_MOST = 4  # patterns


@dataclasses.dataclass(frozen=True)
class ForecastMap(Map):
    """Runs of sampled GRPO against the bands foretold for them: base model known by rollouts, the
    learning rate not at all, accuracy by evaluations in the first tenth of the run."""

    runs: int = 200
    """base models, each with one run, at least 2"""
    steps: int = 200
    """steps of a run, a multiple of 10"""
    group: int = 8
    """samples in a group, at least 2"""
    batch: int = 16
    """groups in a step, at least 1"""
    evaluated: int = 256
    """samples of each evaluation, one after every step of the first tenth, at least 1"""
    fewest: int = 200
    """fewest rollouts of a base model, at least 1; their number is even in its logarithm"""
    most: int = 5000
    """most rollouts, at least `fewest`"""
    smallest_rate: float = 0.02
    """smallest learning rate, above 0; it is even in its logarithm"""
    largest_rate: float = 1.0
    """largest learning rate, above the smallest"""
    particles: int = 2000
    """draws that are trained for each forecast, at least 20"""

    name: ClassVar[str] = "forecast"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("runs", 2), ("group", 2), ("batch", 1), ("evaluated", 1),
                           ("fewest", 1), ("particles", 20)):  # fmt: skip
            value = getattr(self, key)
            require_setting(value >= least, key, f"be at least {least}", value)
        fit = self.steps >= 10 and self.steps % 10 == 0
        require_setting(fit, "steps", "be a multiple of 10", self.steps)
        require_setting(self.most >= self.fewest, "most", "be at least fewest", self.most)
        small, large = self.smallest_rate, self.largest_rate
        require_setting(0 < small < math.inf, "smallest_rate", "be above 0", small)
        require_setting(small < large < math.inf, "largest_rate", "be above the smallest", large)

    def shrunk(self) -> "ForecastMap":
        return dataclasses.replace(self, runs=min(self.runs, 12), steps=60, particles=400)

    def ticks(self) -> int:
        return self.runs

    @property
    def sampler(self) -> qra.SampledGroups:
        """How every step is estimated."""
        return qra.SampledGroups(self.group, batch=self.batch)

    def compute(self, progress: Progress) -> xr.Dataset:
        probs, rates, sizes, counts = self._models()
        keys = jax.random.split(jax.random.key(self.seed), self.runs)

        def train(probs, rates, size, key):
            policy, problem = qra.two_stage(probs, rates)
            found = qra.train(
                policy, problem, optax.sgd(size), self.steps,
                sampler=self.sampler, key=key, rows=self.steps + 1,
            )  # fmt: skip
            return found.accuracy, found.status

        accuracy, status = map(np.asarray, jax.jit(jax.vmap(train))(probs, rates, sizes, keys))

        def foretell(index):
            found = self._forecast(index, counts[index], accuracy[index])
            progress(1)
            return found

        with ThreadPoolExecutor(2) as pool:
            bands = list(pool.map(foretell, range(self.runs)))
        values = {
            "accuracy": (("run", "step"), accuracy[:, bands[0].steps]),
            "low": (("run", "step"), np.stack([x.accuracy.low for x in bands])),
            "median": (("run", "step"), np.stack([x.accuracy.median for x in bands])),
            "high": (("run", "step"), np.stack([x.accuracy.high for x in bands])),
            "effective": ("run", np.array([x.effective_draws for x in bands])),
            "rate": ("run", sizes),
            "rate_low": ("run", np.exp([float(x.log_scale.low) for x in bands])),
            "rate_high": ("run", np.exp([float(x.log_scale.high) for x in bands])),
            "rollouts": ("run", np.array([samples.sum() for samples, _ in counts])),
            "status": ("run", status),
        }
        return xr.Dataset(
            {key: (dims, x, _ATTRS[key]) for key, (dims, x) in values.items()},
            coords={"step": ("step", bands[0].steps, _ATTRS["step"])},
            attrs={"logged": self.steps // 10},
        )

    def _models(self):
        """Base models from the uniform prior, learning rates, and rollouts."""
        rows = []
        for index in range(self.runs):
            rng = np.random.default_rng([self.seed, index])
            number = int(rng.integers(2, _MOST + 1))
            probs, rates = rng.dirichlet(np.ones(number)), rng.uniform(size=number)
            ends = np.log([self.smallest_rate, self.largest_rate])
            size = float(np.exp(rng.uniform(*ends)))
            rollouts = int(np.exp(rng.uniform(np.log(self.fewest), np.log(self.most))))
            samples = rng.multinomial(rollouts, probs)
            counts = samples, rng.binomial(samples, rates)
            pad = (0, _MOST - number)
            rows.append((np.pad(probs, pad), np.pad(rates, pad), size, counts))
        probs, rates, sizes, counts = zip(*rows, strict=True)
        return np.stack(probs), np.stack(rates), np.array(sizes), counts

    def _forecast(self, index: int, counts, accuracy: np.ndarray):
        rng = np.random.default_rng([self.seed, index, 1])
        samples, correct = (np.pad(x, (0, _MOST - len(x))) for x in counts)
        steps = np.arange(1, self.steps // 10 + 1)
        right = rng.binomial(self.evaluated, np.clip(accuracy[steps], 0, 1))
        logged = np.stack([steps, right, np.full(len(steps), self.evaluated)], axis=1)
        run = TrainingRun(
            self.steps,
            logged=logged,
            sampler=self.sampler,
            scale_range=(self.smallest_rate, self.largest_rate),
            particles=self.particles,
        )
        exists = np.arange(_MOST) < len(counts[0])
        posterior = qra.posteriors.pooled_posterior(samples, correct, exists=exists)
        return forecast_run(posterior, run, draws=199, seed=index)

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        low, size, high = (data[key].values for key in ("rate_low", "rate", "rate_high"))
        found = float(np.mean((low <= size) & (size <= high)))
        few, median = np.quantile(data["effective"].values, [0.05, 0.5])
        return [
            f"learning rate in its 90 % interval: {found:.3f} of {len(size)} runs",
            f"effective draws of the fit: median {median:.0f}, 5 % of runs below {few:.0f}",
        ]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_forecast(data)


_ATTRS = {
    "step": {"long_name": "step", "units": "1"},
    "accuracy": {"long_name": "true accuracy of the trained policy", "units": "1"},
    "low": {"long_name": "5 % point of the forecast", "units": "1"},
    "median": {"long_name": "median of the forecast", "units": "1"},
    "high": {"long_name": "95 % point of the forecast", "units": "1"},
    "effective": {"long_name": "effective draws of the fit", "units": "1"},
    "rate": {"long_name": "true learning rate", "units": "1/reward"},
    "rate_low": {"long_name": "5 % point of the learning rate", "units": "1/reward"},
    "rate_high": {"long_name": "95 % point of the learning rate", "units": "1/reward"},
    "rollouts": {"long_name": "number of rollouts", "units": "1"},
    "status": {"long_name": "qra.Status of the run", "units": "1"},
}
