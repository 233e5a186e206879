"""What a forecast over steps starts from: its steps, logs, scale and clock."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .._core.checks import require, require_all


class Plan(NamedTuple):
    """What a forecast over steps starts from.

    `logs`: `(L, 3)`, steps, right answers and samples. `patterns`: `(L, R)`, how many of these used
    each pattern, if that is known. `scale_range`: of the time per step; both ends equal where it is
    known. `rates`: of steps 0, 1, ... relative to the learning rate that the scale stands for;
    None if all are 1.
    """

    steps: Int[np.ndarray, " T"]
    logs: Float[np.ndarray, "L 3"]
    patterns: Float[np.ndarray, "L R"] | None
    scale_range: tuple[float, float]
    rates: Float[np.ndarray, " N"] | None = None

    def clock(self, steps: np.ndarray) -> Float[np.ndarray, "..."]:
        """The cumulated relative learning rate before a step: the step itself if it is constant."""
        steps = np.asarray(steps, float)
        if self.rates is None:
            return steps
        return np.append(0.0, np.cumsum(self.rates))[steps.astype(int)]

    def log_clock(self, steps: np.ndarray) -> Float[np.ndarray, "..."]:
        """Its logarithm, `-inf` at step 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.clock(steps))

    def log_steps(self, log_clock: np.ndarray) -> Float[np.ndarray, "..."]:
        """The step at which the clock shows a time; beyond the last rate, at that rate."""
        if self.rates is None:
            return log_clock
        shown = np.append(0.0, np.cumsum(self.rates))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            time = np.exp(log_clock)
            inside = np.interp(time, shown, np.arange(len(shown)))
            beyond = len(self.rates) + (time - shown[-1]) / self.rates[-1]
            found = np.log(np.where(time > shown[-1], beyond, inside))
        return np.where(np.isnan(log_clock), np.nan, found)

    @property
    def known(self) -> bool:
        return self.scale_range[0] == self.scale_range[1]

    @property
    def counts(self) -> Float[np.ndarray, "L C"]:
        """What the fit reads: samples by pattern, where that is known, else right and wrong ones.
        Given its pattern, whether a sample is right says nothing of the training."""
        if self.patterns is not None:
            return self.patterns
        _, right, samples = self.logs.T
        return np.stack([right, samples - right], axis=1)


def check_logs(logged: object) -> Float[np.ndarray, "L 3"]:
    """Logged accuracies as `(L, 3)`: steps, right answers, samples.

    **Raises:** `ValueError` unless steps are whole numbers that rise from 0 or more, and right
    answers lie between 0 and the samples.
    """
    logs = np.zeros((0, 3)) if logged is None else np.asarray(logged, float)
    require(logs.ndim == 2 and logs.shape[1] == 3, "logged", "have shape (L, 3)", logs.shape)
    steps, right, samples = logs.T
    require_all(steps, lambda x: (x >= 0) & (x == np.floor(x)), "logged steps", "be whole numbers")
    require(bool(np.all(np.diff(steps) > 0)), "logged steps", "rise", steps)
    require_all(samples, lambda x: (x > 0) & (x < np.inf), "logged samples", "be above 0")
    require_all(right, lambda x: x >= 0, "logged right answers", "be at least 0")
    require_all(samples - right, lambda x: x >= 0, "logged samples - right", "be at least 0")
    return logs


def check_patterns(
    logged: object, logs: Float[np.ndarray, "L 3"]
) -> Float[np.ndarray, "L R"] | None:
    """Logged counts of patterns as `(L, R)`, if there are any.

    **Raises:** `ValueError` unless they have a row for each of the logs, are at least 0, and sum to
    no more than its samples.
    """
    if logged is None:
        return None
    counts, name = np.asarray(logged, float), "logged_patterns"
    number = len(logs)
    must = f"have shape ({number}, R), a row for each of logged"
    require(counts.ndim == 2 and len(counts) == number, name, must, counts.shape)
    require_all(counts, lambda x: (x >= 0) & (x < np.inf), name, "be at least 0")
    spare = logs[:, 2] - counts.sum(axis=1)
    # Expected counts need not be whole, and their sum rounds.
    spare = np.where(np.abs(spare) <= 1e-9 * logs[:, 2], 0, spare)
    require_all(spare, lambda x: x >= 0, f"logged samples - {name}", "be at least 0")
    return counts
