"""Bands of a posterior: 5 %, 50 % and 95 % points."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

_Numbers = Float[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Band:
    """The 5 %, 50 % and 95 % points of the posterior of an array, entry by entry."""

    low: _Numbers
    median: _Numbers
    high: _Numbers


@dataclasses.dataclass(frozen=True)
class TimeBand:
    r"""A posterior of log times, of each question `(Q',)`; what is infinite is counted apart.

    - `at_once`: probability that the time is 0 (its logarithm `-inf`).
    - `never`: probability that the event never happens.
    - `failed`: share of draws of which the solve failed.
    - `band`: of the natural logarithm of the time where it is neither; NaN where no draw is.
    - `overall`: the band of all draws that did not fail, `-inf` and `inf` included.
    """

    at_once: Float[np.ndarray, " Q"]
    never: Float[np.ndarray, " Q"]
    failed: Float[np.ndarray, " Q"]
    band: Band
    overall: Band


LEVELS = (0.05, 0.5, 0.95)
QUANTILES = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Of a whole distribution; those of a band are its ends and its middle."""


def counted(value: float, draws: int) -> str:
    """A probability that was counted in draws, to three decimals: never quite 0 or 1."""
    if math.isnan(value):
        return "-"
    least = 1 / (draws + 1)
    at = min(max(value, least), 1 - least)
    sign = "< " if value < least else "> " if value > 1 - least else ""
    return sign + f"{at:.3f}".rstrip("0").rstrip(".")


def band(values: np.ndarray, axis: int = 0) -> Band:
    """The band of draws along an axis.

    The ends are order statistics i and n + 1 - i with i the largest whole number up to 0.05 (n + 1)
    (at least 1): one more draw of the same falls between them with probability 0.9 or a little
    more. NaN are left out, infinities count.
    """
    values = np.moveaxis(np.asarray(values, dtype=float), axis, 0)
    if values.shape[0] == 0:
        return Band(*(np.full(values.shape[1:], np.nan) for _ in LEVELS))
    ordered = np.sort(values, axis=0)  # NaN last
    number = np.sum(~np.isnan(values), axis=0)
    # 1e-9: 0.05 * 400 must not round up to 21.
    first = np.maximum(np.floor(LEVELS[0] * (number + 1) + 1e-9).astype(int) - 1, 0)

    def at(rank):
        return np.asarray(np.take_along_axis(ordered, np.maximum(rank, 0)[None], axis=0)[0])

    return Band(at(first), _middle(at((number - 1) // 2), at(number // 2)), at(number - 1 - first))


def _middle(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Half way, of infinities too; between -inf and inf, NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(below == above, below, (below + above) / 2))


def finite_band(log_times: np.ndarray, where: np.ndarray) -> Band:
    """The band of the draws that are finite, and meant."""
    return band(np.where(np.isfinite(log_times) & where, log_times, np.nan))


def time_band(log_times: np.ndarray) -> TimeBand:
    """Of draws `(D, Q)`."""
    return TimeBand(
        at_once=np.mean(log_times == -np.inf, axis=0),
        never=np.mean(log_times == np.inf, axis=0),
        failed=np.mean(np.isnan(log_times), axis=0),
        band=finite_band(log_times, np.isfinite(log_times)),
        overall=band(log_times),
    )


def weighted_band(values: np.ndarray, weights: np.ndarray) -> Band:
    """The band of weighted draws: values `(D, ...)`, weights `(D,)` that sum to 1."""
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    passed = np.cumsum(weights[order], axis=0)

    def at(level):
        rank = np.minimum(np.sum(passed < level, axis=0), len(values) - 1)
        return np.asarray(np.take_along_axis(ordered, rank[None], axis=0)[0])

    return Band(*(at(level) for level in LEVELS))
