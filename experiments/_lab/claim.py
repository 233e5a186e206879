"""Claims: what was predicted, what was measured, and whether the two agree."""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterable
from typing import SupportsFloat

import numpy as np
import xarray as xr

_Z99 = 2.5758293035489004  # of a two-sided level of 99 %
_MARGIN = 0.2


class Verdict(enum.StrEnum):
    """Whether a measurement bears a prediction out."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDECIDED = "undecided"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Two numbers side by side, and what they say of each other."""

    predicted: float
    measured: float
    standard_error: float | None
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement, what was predicted for it and what was measured."""

    statement: str
    source: str
    predicted: float
    measured: float
    standard_error: float | None
    verdict: Verdict

    @classmethod
    def of(cls, statement: str, source: str, outcome: Outcome) -> "Claim":
        """The claim that had this outcome."""
        return cls(statement, source, **vars(outcome))


def computed(predicted: SupportsFloat, measured: SupportsFloat, agrees: bool) -> Outcome:
    """An outcome without sampling error, for which the condition itself decides; NaN disagrees."""
    verdict = Verdict.AGREES if agrees else Verdict.DISAGREES
    return Outcome(float(predicted), float(measured), None, verdict)


def close(
    predicted: SupportsFloat, measured: SupportsFloat, *, rtol: float = 0.0, atol: float = 0.0
) -> Outcome:
    """Two computed numbers agree within the given tolerances."""
    expected, found = float(predicted), float(measured)
    return computed(expected, found, abs(found - expected) <= atol + rtol * abs(expected))


def _interval_verdict(predicted: float, low: float, high: float, margin: float) -> Verdict:
    if not low <= predicted <= high:
        return Verdict.DISAGREES
    return Verdict.AGREES if high - low <= margin else Verdict.UNDECIDED


def wilson_interval(successes: int, draws: int, z: float = _Z99) -> tuple[float, float]:
    """The Wilson score interval of a probability; z of its two-sided level, 99 % by default."""
    share = successes / draws
    centre = (share + z**2 / (2 * draws)) / (1 + z**2 / draws)
    half = z / (1 + z**2 / draws) * math.sqrt(share * (1 - share) / draws + z**2 / (4 * draws**2))
    # The ends are exactly 0 and 1 there; rounding would put a certain prediction outside.
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == draws else centre + half


def share(predicted: float, successes: int, draws: int, margin: float = _MARGIN) -> Outcome:
    """A probability, by counting: it disagrees outside the 99 % Wilson interval, and is undecided
    inside one wider than `margin`, the difference that would matter."""
    if draws == 0:
        return Outcome(float(predicted), math.nan, None, Verdict.UNDECIDED)
    part = successes / draws
    verdict = _interval_verdict(predicted, *wilson_interval(successes, draws), margin)
    return Outcome(float(predicted), part, math.sqrt(part * (1 - part) / draws), verdict)


def estimate(
    predicted: float, measured: float, standard_error: float, margin: float = _MARGIN
) -> Outcome:
    """A number with a normal error: it disagrees outside the 99 % interval, and is undecided
    inside one wider than `margin`, the difference that would matter."""
    half = _Z99 * standard_error
    verdict = _interval_verdict(predicted, measured - half, measured + half, margin)
    return Outcome(float(predicted), float(measured), float(standard_error), verdict)


def above(bound: float, measured: float, standard_error: float) -> Outcome:
    """A number with a normal error lies above a bound: it agrees if its 99 % interval does, and is
    undecided if that holds the bound."""
    half = _Z99 * standard_error
    verdict = Verdict.AGREES if measured - half > bound else Verdict.UNDECIDED
    verdict = Verdict.DISAGREES if measured + half < bound else verdict
    return Outcome(float(bound), float(measured), float(standard_error), verdict)


def below(bound: float, measured: float, standard_error: float) -> Outcome:
    """A number with a normal error lies below a bound, as `above`."""
    mirrored = above(-bound, -measured, standard_error)
    return Outcome(float(bound), float(measured), float(standard_error), mirrored.verdict)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of independent values `(N,)` and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def plain(value: float | None) -> float | str | None:
    """A number for JSON, which knows no infinities: a string says what such a number was."""
    return value if value is None or math.isfinite(value) else str(value)


def value_claim(
    statement: str,
    source: str,
    predicted: float,
    measured: float,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> Claim:
    """A claim on a computed number: it agrees within the given tolerances."""
    return Claim.of(statement, source, close(predicted, measured, rtol=rtol, atol=atol))


def probability_claim(
    statement: str, source: str, predicted: float, successes: int, draws: int
) -> Claim:
    """A claim on a probability, judged by `share`."""
    return Claim.of(statement, source, share(predicted, successes, draws))


Judge = Callable[[xr.Dataset], Iterable[Claim]]
"""From the data of a map to claims: one, or one for each of several cases, or none."""


class Claims:
    """The claims of a map, by functions with names, in the order in which they were written."""

    def __init__(self) -> None:
        self.judges: list[Judge] = []

    def register(self, judge: Judge) -> Judge:
        """Take up a function; as a decorator."""
        self.judges.append(judge)
        return judge

    def __call__(self, data: xr.Dataset) -> list[Claim]:
        """All claims on the data of a map."""
        return [claim for judge in self.judges for claim in judge(data)]
