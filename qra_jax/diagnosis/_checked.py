"""What the check of logs says: plain data."""

import dataclasses

import numpy as np
from jaxtyping import Float

LEVEL = 0.04
"""Below this probability the logs refute the model: chosen so that false alarms stay below 5 % even
where replicates that are refitted to first order are a little off."""


@dataclasses.dataclass(frozen=True)
class RateChange:
    """How the success rate of a pattern moved.

    - `first`, `last`: right answers and samples, of the base model and of the last third of logs.
    - `trend`: the score of a trend over steps, in standard deviations; `chance`: how likely one as
      large, in this direction, is if nothing moves.
    """

    first: tuple[float, float]
    last: tuple[float, float]
    trend: float
    chance: float


@dataclasses.dataclass(frozen=True)
class LogCheck:
    """Whether the logged steps of a run can be runs of the model: constant success rates within
    patterns, shares that follow the flow, one time scale.

    - `chance`: how often the model itself would fit its own logs as badly, by the worst of all
      statistics, corrected for there being several; `chances`: the same by what each looks at,
      "clock", "rates", "shares" and "accuracy".
    - `steps`: `(L,)`, of the logs as compared (of very many, neighbours are added up).
    - `accuracy`, `expected_accuracy`: `(L,)`; `pattern_shares` (NaN where patterns are not logged),
      `expected_shares`: `(L, R)`; as logged, and of the best fit.
    - `changes`: of each pattern's success rate; empty where no log has patterns.
    - `with_patterns`, `without_patterns`: how many logged steps are of each kind. Of those without,
      the accuracy alone is checked.
    - `least_drift`: by how much all success rates must drift over the logged steps for the check to
      find it in nine of ten runs, about; `least_slowing`: which part of its speed the run must lose
      in the middle of the logs. Infinite, or above 1, where these logs cannot show it.
    """

    chance: float
    chances: dict[str, float]
    steps: Float[np.ndarray, " L"]
    accuracy: Float[np.ndarray, " L"]
    expected_accuracy: Float[np.ndarray, " L"]
    pattern_shares: Float[np.ndarray, "L R"]
    expected_shares: Float[np.ndarray, "L R"]
    changes: tuple[RateChange, ...]
    with_patterns: int
    without_patterns: int
    least_drift: float
    least_slowing: float

    def in_samples(self, worth: float, first: float = 1.0) -> "LogCheck":
        """With the counts of changes as they are in the file, where a sample of the logs was
        counted as `worth` independent ones, one of the base model as `first`."""
        changes = [
            dataclasses.replace(
                x,
                first=(x.first[0] / first, x.first[1] / first),
                last=(x.last[0] / worth, x.last[1] / worth),
            )
            for x in self.changes
        ]
        return dataclasses.replace(self, changes=tuple(changes))

    @property
    def refuted(self) -> tuple[str, ...]:
        """What the logs refute, of the names of `chances`."""
        return tuple(name for name, chance in self.chances.items() if chance < LEVEL)

    @property
    def drifting(self) -> tuple[int, ...]:
        """Patterns whose success rate has a trend, at 5 % in each direction over all patterns."""
        many = len(self.changes)
        return tuple(i for i, x in enumerate(self.changes) if x.chance < 0.05 / many)
