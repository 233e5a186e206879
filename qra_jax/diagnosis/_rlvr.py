"""What RLVR will do: regimes, times and forecasts of draws."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ..times._regime import Regime
from ._bands import band, finite_band, time_band
from ._result import Forecast, PassAtKEstimate, RegimeEstimate, RLVREstimate, StepForecast
from ._solve import ROWS, SETTLED, Solver, Tables, Times


class Ahead(NamedTuple):
    """A forecast, the shares of each draw on its grid, and all statuses."""

    forecast: Forecast
    shares: Float[np.ndarray, "D T R"]
    status: Int[np.ndarray, " N"]


def forecast_of(
    solver: Solver, tables: Tables, weights: Float[np.ndarray, " Q"], times: Times
) -> Ahead:
    """Up to where three of four draws have converged, and a little on; with a penalty up to where
    it has settled."""
    ends = times.log_convergence[np.isfinite(times.log_convergence)]
    last = max(np.quantile(ends, 0.75) + 2 if ends.size else 0.0, 4 - np.log(weights.max()))
    if solver.beta > 0:
        last = max(last, math.log(SETTLED / solver.beta))
    log_times = np.linspace(-1 - np.log(weights.max()), last, ROWS)
    accuracy, shares, status = solver.follow(tables, weights, log_times)
    end = accuracy[:, -1] if solver.beta > 0 else tables.values.max(axis=-1) @ weights
    # Of several questions the mean of the shares is known, which has another entropy.
    start = tables.probs[:, 0] if len(weights) == 1 else np.full_like(shares[:, 0], np.nan)
    entropy, kl = _spread(shares, start)
    return Ahead(
        Forecast(
            log_times=log_times,
            accuracy=band(accuracy),
            pattern_shares=band(shares),
            start_accuracy=band(tables.accuracy @ weights),
            end_accuracy=band(end),
            entropy=band(entropy),
            kl=band(kl),
        ),
        shares,
        status,
    )


def _spread(
    shares: Float[np.ndarray, "D T R"], start: Float[np.ndarray, "D R"]
) -> tuple[Float[np.ndarray, "D T"], Float[np.ndarray, "D T"]]:
    """Entropy of patterns, and their KL divergence from the start, nats."""
    logs = np.log(np.maximum(shares, 1e-300))
    before = np.log(np.maximum(start, 1e-300))[:, None]
    return -np.sum(shares * logs, axis=-1) + 0 * before.sum(axis=-1), np.sum(
        shares * (logs - before), axis=-1
    )


def regime_of(tables: Tables, times: Times) -> RegimeEstimate:
    """Regimes, and which patterns are best or mislead."""
    values, start = tables.values, tables.accuracy[..., None]
    best = values == values.max(axis=-1, keepdims=True)
    return RegimeEstimate(
        probs=np.stack([np.mean(times.regime == kind, axis=0) for kind in Regime], axis=-1),
        best_probs=np.mean(best, axis=0),
        misleading_probs=np.mean((values > start) & ~best, axis=0),
        gamma=band(times.gamma),
    )


def rlvr_of(
    times: Times,
    equal: Times,
    forecast: Forecast,
    steps: StepForecast | None,
    pass_at_k: PassAtKEstimate,
) -> RLVREstimate:
    """`equal`: the times from equal shares."""
    with np.errstate(invalid="ignore"):
        longer = times.log_convergence - equal.log_convergence
    strong = times.regime == Regime.STRONG
    return RLVREstimate(
        log_entanglement_time=time_band(times.log_entanglement),
        log_convergence_time=time_band(times.log_convergence),
        log_convergence_if_strong=finite_band(times.log_convergence, strong),
        log_convergence_if_weak=finite_band(times.log_convergence, ~strong),
        forecast=forecast,
        step_forecast=steps,
        pass_at_k=pass_at_k,
        relative_duration=finite_band(longer, np.isfinite(longer)),
    )
