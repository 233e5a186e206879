"""What the signal of groups is worked out for: a step, and the path of the policy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..objectives._objective import Objective
from ..objectives._rewards import NoisyVerifier
from ..training._groups import SampledGroups
from ._rlvr import Ahead
from ._run import TrainingRun
from ._solve import Tables, Times, beta_of

GROUPS = SampledGroups(8, 64)
"""Groups unless others are given: 8 samples of each of 64 questions, 512 rollouts a step."""
_PARTS = np.log([0.125, 0.25, 0.5, 1.0, 2.0])


class Path(NamedTuple):
    """Shares of patterns of each draw over time: `(T,)` log times, the first -inf, `(D, T, R)`."""

    log_times: Float[np.ndarray, " T"]
    shares: Float[np.ndarray, "D T R"]


class Verifier(NamedTuple):
    """What a step is made of, besides groups: `tpr`, `fpr` of the verifier, `beta` of the KL."""

    tpr: float = 1.0
    fpr: float = 0.0
    beta: float = 0.0


def verifier_of(objective: Objective) -> Verifier:
    """Of an objective that was checked."""
    reward, beta = objective.reward, beta_of(objective)
    if not isinstance(reward, NoisyVerifier):
        return Verifier(beta=beta)
    return Verifier(float(reward.true_positive_rate), float(reward.false_positive_rate), beta)


def groups_of(groups: SampledGroups | None, run: TrainingRun | None) -> SampledGroups:
    """Those given; else those of the run's sampler; else the usual ones. A sampler of one group of
    every question has as many groups as usual here."""
    if groups is not None or run is None or run.sampler is None:
        return GROUPS if groups is None else groups
    own = run.sampler
    return SampledGroups(own.group_size, own.batch or GROUPS.batch, own.estimator)


def ends_of(
    shares: Float[np.ndarray, "D R"], rates: Float[np.ndarray, "D R"]
) -> Float[np.ndarray, "D R"]:
    """Shares in the end: the best pattern of each draw has all."""
    values = np.where(shares > 0, rates, -np.inf)
    end = (values == values.max(axis=-1, keepdims=True)) * 1.0
    return end / end.sum(axis=-1, keepdims=True)


def path_of(
    log_times: Float[np.ndarray, " J"],
    shares: Float[np.ndarray, "D J R"],
    start: Float[np.ndarray, "D R"],
    end: Float[np.ndarray, "D R"],
    middle: float,
) -> Path:
    """Now, 1/8 to 2 of a time (a natural logarithm), and the end, from a forecast on a grid.

    **Arguments:** `log_times`, `shares`: the forecast; `start`, `end`: shares now and in the end;
    `middle`: the time.
    """
    at = np.clip(middle + _PARTS, log_times[0], log_times[-1])
    place = np.clip(np.searchsorted(log_times, at), 1, len(log_times) - 1)
    part = (at - log_times[place - 1]) / (log_times[place] - log_times[place - 1])
    mixed = shares[:, place - 1] * (1 - part)[:, None] + shares[:, place] * part[:, None]
    every = np.concatenate([start[:, None], mixed, end[:, None]], axis=1)
    return Path(np.concatenate([[-np.inf], middle + _PARTS, [np.inf]]), every)


def path_ahead(
    pooling: str, tables: Tables, times: Times, ahead: Ahead, beta: float
) -> tuple[Path, Float[np.ndarray, "D R"]]:
    """The path of shares, and success rates, of one table; of now alone where questions are told
    apart, each with a path of its own."""
    if pooling != "pooled":
        mass = np.maximum(tables.probs.sum(axis=1), np.finfo(float).tiny)
        rates = np.sum(tables.probs * tables.rates, axis=1) / mass
        return Path(np.array([-np.inf]), tables.probs.mean(axis=1)[:, None]), rates
    shares, rates = tables.probs[:, 0], tables.rates[:, 0]
    grid = ahead.forecast.log_times
    ends = times.log_convergence[np.isfinite(times.log_convergence)]
    middle = float(np.median(ends)) if ends.size else float(grid[-1]) - np.log(2)
    end = ahead.shares[:, -1] if beta > 0 else ends_of(shares, rates)
    return path_of(grid, ahead.shares, shares, end, middle), rates
