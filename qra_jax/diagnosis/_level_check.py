"""The check of logs of a run with its own optimiser: by where each fell in what was foretold of it.

Source: derived in docs/training.md#do-the-logs-bear-it-out.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

from ._check import rate_changes
from ._checked import LogCheck
from ._log_fit import Logs
from ._plan import Plan
from ._result import StepForecast

_LEAST = 1e-12


def chance_of(levels: Float[np.ndarray, " L"]) -> float:
    """How likely levels are as far from uniform, on one side or far out on both (F4)."""
    levels = levels[~np.isnan(levels)]
    if len(levels) == 0:
        return 1.0
    scores = ndtri(np.clip(levels, _LEAST, 1 - _LEAST))
    one_side = 2 * ndtr(-abs(scores.sum()) / np.sqrt(len(scores)))
    far_out = chi2.sf(np.sum(scores**2), len(scores))
    return float(min(1.0, 2 * min(one_side, far_out)))


def check_by_levels(
    found: StepForecast,
    plan: Plan,
    number: int,
    samples: Float[np.ndarray, " R"],
    correct: Float[np.ndarray, " R"],
    logs: Logs | None,
) -> LogCheck | None:
    """Whether logged steps are such as the forecast of a run's own optimiser gave them beforehand;
    None without logs.

    **Arguments:** `found`; `plan`: with the logs; `number`: of patterns; `samples`, `correct`: of
    the base model; `logs`: those with patterns and right answers of each.
    """
    steps, right, graded = plan.logs.T
    if found.log_levels is None or not np.any(steps > 0):
        return None
    chance = chance_of(found.log_levels)
    logged = np.full((len(steps), number), np.nan)
    if plan.patterns is not None:
        total = plan.patterns.sum(axis=1, keepdims=True)
        logged = plan.patterns[:, :number] / np.where(total > 0, total, np.nan)

    def at(values: np.ndarray) -> np.ndarray:
        return np.interp(steps, found.steps, values)

    known = ~np.isnan(logged[:, 0])
    return LogCheck(
        chance=chance,
        chances={"optimiser": chance},
        steps=steps,
        accuracy=right / graded,
        expected_accuracy=at(found.accuracy.median),
        pattern_shares=logged,
        expected_shares=np.stack([at(x) for x in found.pattern_shares.median.T], axis=1),
        changes=() if logs is None else rate_changes(samples, correct, logs),
        with_patterns=int(known.sum()),
        without_patterns=int((~known).sum()),
        least_drift=float("nan"),
        least_slowing=float("nan"),
    )
