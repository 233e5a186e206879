"""The map of calibration: do the intervals and probabilities of a diagnosis hold?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting
from qra_jax.diagnosis import Solver, Tables, band

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from .claims import CLAIMS
from .coverage import KINDS, calibration_error, covered
from .figure import draw_calibration

CASES = ("drawn from the prior", "off the prior")
_BLOCK = 50


@dataclasses.dataclass(frozen=True)
class Calibration(Map):
    """Base models whose truth is known, diagnosed from rollouts: pooled, with uniform priors."""

    models: int = 2000
    """base models of each case (from the prior, and off it), at least 20"""
    draws: int = 399
    """posterior draws of each, at least 39"""
    fewest: int = 200
    """fewest rollouts of a base model, at least 1; their number is even in its logarithm"""
    most: int = 5000
    """most rollouts, at least `fewest`"""
    patterns: int = 6
    """most patterns of a base model, at least 2; their number is even from 2 to this"""
    eps: float = 0.1
    """converged means that the best pattern has probability 1 - eps"""

    name: ClassVar[str] = "calibration"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(self.models >= 20, "models", "be at least 20", self.models)
        require_setting(self.draws >= 39, "draws", "be at least 39", self.draws)
        require_setting(self.fewest >= 1, "fewest", "be at least 1", self.fewest)
        require_setting(self.most >= self.fewest, "most", "be at least fewest", self.most)
        require_setting(self.patterns >= 2, "patterns", "be at least 2", self.patterns)
        require_setting(0 < self.eps < 1, "eps", "lie strictly between 0 and 1", self.eps)

    def shrunk(self) -> "Calibration":
        return dataclasses.replace(self, models=min(self.models, 50), draws=99)

    def ticks(self) -> int:
        return len(CASES) * self.models

    def compute(self, progress: Progress) -> xr.Dataset:
        solver = Solver.of(qra.RLVR(), self.eps)
        cases = []
        for case in range(len(CASES)):
            blocks = []
            for first in range(0, self.models, _BLOCK):
                models = range(first, min(first + _BLOCK, self.models))
                blocks.append(self._block(solver, case, models))
                progress(len(models))
            cases.append({key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]})
        dims = {"low": ("kind",), "high": ("kind",), "truth": ("kind",), "regime_prob": ("regime",)}
        return xr.Dataset(
            {
                key: (
                    ("case", "model", *dims.get(key, ())),
                    np.stack([case[key] for case in cases]),
                    _ATTRS[key],
                )
                for key in cases[0]
            },
            coords={
                "case": list(CASES),
                "kind": list(KINDS),
                "regime": [kind.name for kind in qra.Regime],
            },
            attrs={"draws": self.draws},
        )

    def _model(self, case: int, index: int) -> tuple[np.ndarray, ...]:
        """A base model and its rollouts: shares, success rates, samples, right ones."""
        rng = np.random.default_rng([self.seed, case, index])
        number = int(rng.integers(2, self.patterns + 1))
        rollouts = int(np.exp(rng.uniform(np.log(self.fewest), np.log(self.most))))
        if case == 0:
            probs, rates = rng.dirichlet(np.ones(number)), rng.uniform(size=number)
        else:
            # Rarer patterns, and success rates that are closer to each other.
            probs, rates = rng.dirichlet(np.full(number, 0.3)), rng.beta(6, 3, size=number)
        samples = rng.multinomial(rollouts, probs)
        columns = probs, rates, samples, rng.binomial(samples, rates)
        return tuple(np.pad(column, (0, self.patterns - number)) for column in columns)

    def _block(self, solver: Solver, case: int, models: range) -> dict[str, np.ndarray]:
        probs, rates, samples, correct = map(
            np.stack, zip(*(self._model(case, index) for index in models), strict=True)
        )
        exists = probs > 0
        truth = solver.times(Tables(probs[:, None], rates[:, None]), np.ones(1))
        fill = _BLOCK - len(models)
        padded = (np.pad(x, ((0, fill), (0, 0)), mode="edge") for x in (samples, correct, exists))
        keys = jnp.asarray(np.pad(np.array(models), (0, fill)) + case * 1_000_000)
        counts = tuple(map(jnp.asarray, padded))
        drawn = _compiled(jax.random.key(self.seed), keys, counts, self.draws)
        tables = Tables(
            *(np.asarray(x)[: len(models)].reshape(-1, 1, self.patterns) for x in drawn)
        )
        times = solver.times(tables, np.ones(1))
        shape = len(models), self.draws
        kinds, ends, starts = (
            x.reshape(shape) for x in (times.regime, times.log_convergence, times.log_entanglement)
        )
        strong, finite = kinds == qra.Regime.STRONG, np.isfinite(ends)
        wanted = {"all": finite, "strong": finite & strong, "weak": finite & ~strong}
        bands = [band(np.where(where, ends, np.nan), axis=1) for where in wanted.values()]
        bands.append(band(np.where(strong, np.nan, starts), axis=1))
        end, begin = truth.log_convergence[:, 0], truth.log_entanglement[:, 0]
        is_strong = truth.regime[:, 0] == qra.Regime.STRONG
        end = np.where(np.isfinite(end), end, np.nan)
        truths = (
            end,
            np.where(is_strong, end, np.nan),
            np.where(is_strong, np.nan, end),
            np.where(is_strong, np.nan, begin),
        )
        codes = (times.entanglement_status, times.convergence_status)
        below = np.sum(finite & (ends < end[:, None]), axis=1)
        return {
            "patterns": exists.sum(axis=1),
            "rollouts": samples.sum(axis=1),
            "true_regime": truth.regime[:, 0],
            "truth": np.stack(truths, axis=1),
            "low": np.stack([found.low for found in bands], axis=1),
            "high": np.stack([found.high for found in bands], axis=1),
            "rank": np.where(np.isnan(end), np.nan, below / np.maximum(finite.sum(axis=1), 1)),
            "regime_prob": np.stack([np.mean(kinds == k, axis=1) for k in qra.Regime], axis=1),
            "status": np.max([x.reshape(shape).max(axis=1) for x in codes], axis=0),
        }

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        off, lines = data.isel(case=1), []
        for kind in KINDS:
            inside, number = covered(off, kind)
            lines.append(f"off the prior, {KINDS[kind]}: {inside / max(number, 1):.3f} of {number}")
        found, bound = calibration_error(off)
        lines.append(f"off the prior, calibration error {found:.4f} (95 % point {bound:.4f})")
        return lines

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_calibration(data)


_ATTRS = {
    "patterns": {"long_name": "number of patterns", "units": "1"},
    "rollouts": {"long_name": "number of rollouts", "units": "1"},
    "true_regime": {"long_name": "true qra.Regime", "units": "1"},
    "truth": {"long_name": "true log time", "units": "ln(1/reward)"},
    "low": {"long_name": "5 % point of the log time", "units": "ln(1/reward)"},
    "high": {"long_name": "95 % point of the log time", "units": "ln(1/reward)"},
    "rank": {"long_name": "share of draws below the true convergence time", "units": "1"},
    "regime_prob": {"long_name": "posterior probability of the regime", "units": "1"},
    "status": {"long_name": "worst qra.Status of the draws", "units": "1"},
}


def _all_draws(key, indices, counts, number):
    def one(index, samples, correct, exists):
        posterior = qra.posteriors.pooled_posterior(samples, correct, exists=exists)
        return posterior.draw(jax.random.fold_in(key, index), number)

    samples, correct, exists = counts
    return jax.vmap(one)(indices, samples.astype(float), correct.astype(float), exists)


_compiled = jax.jit(_all_draws, static_argnums=3)
