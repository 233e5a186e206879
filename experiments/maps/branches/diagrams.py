"""The diagrams of the map of branches, and the theory of each: curves unknown to the library."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._lab.start import CHECK_PROBS, CHECK_RATES

_LN10 = math.log(10)


@dataclasses.dataclass(frozen=True)
class Diagram:
    """One diagram: a line of flows, and its theory, a curve `theory(s)` of (value, probabilities)
    for s between two ends, unknown to the library. `name` says which diagram it is, `title` what it
    shows; `logarithmic`: the parameter is a logarithm to the base 10."""

    name: str
    title: str
    axis: str
    probs: tuple[float, ...]
    rates: tuple[float, ...]
    start: tuple[float, ...]
    slope: tuple[float, ...]
    bounds: tuple[float, float]
    theory: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ends: tuple[float, float]
    logarithmic: bool = False

    def theory_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The parameter and the probabilities, at places along the curve."""
        return self.theory(s, np.array(self.probs), np.array(self.rates))

    def turns(self) -> list[float]:
        """The parameter where the theory's curve turns back, by a scan and bisection."""
        width = 1e-4 * (self.ends[1] - self.ends[0])

        def slope(s):
            # Of fourth order; its own rounding limits where it is 0 to about 1e-9 of the curve,
            # which at a turn moves the value by the square of that.
            near, far = (
                self.theory_at(s + h)[0] - self.theory_at(s - h)[0] for h in _SHIFTS * width
            )
            return 8 * near - far

        grid = np.linspace(*self.ends, 20001)
        at = slope(grid)
        lows = grid[:-1][np.sign(at[1:]) * np.sign(at[:-1]) < 0]
        values = []
        for low in lows:
            pair = np.array([low, low + grid[1] - grid[0]])
            for _ in range(40):
                middle = pair.mean()
                pair[int(np.sign(slope(middle)) != np.sign(slope(pair[0])))] = middle
            values.append(float(self.theory_at(pair.mean())[0]))
        inside = [x for x in values if self.bounds[0] < x < self.bounds[1]]
        return sorted(inside)


_SHIFTS = np.array([1.0, 2.0])


def _gibbs(log_ref: np.ndarray, values: np.ndarray) -> np.ndarray:
    """pi ∝ pi_ref exp(values), patterns last."""
    logits = log_ref + values
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _by_strength(s, ref, rates):
    """RLVR over s = log10 beta."""
    return s, _gibbs(np.log(ref), rates * np.exp(-_LN10 * np.asarray(s))[..., None])


def _by_noise(s, ref, rates):
    """J = s, at beta = 0.1."""
    return s, _gibbs(np.log(ref), rates * np.asarray(s)[..., None] / 0.1)


def _by_clock(s, ref, rates):
    """GRPO: pi ∝ pi_ref exp(k R) with beta = 1/(k sqrt(V (1 - V))), k = e^s."""
    k = np.exp(np.asarray(s))
    probs = _gibbs(np.log(ref), rates * k[..., None])
    value, short = probs @ rates, probs @ (1 - rates)
    return -np.log10(k * np.sqrt(value * short)), probs


def _pair(s):
    """Probabilities of log odds s, and the gap that sequence probability makes of them."""
    first = 1 / (1 + np.exp(-np.asarray(s)))
    return np.stack([first, 1 - first], axis=-1)


def _by_own_probability(s, ref, rates):
    """Log odds s = s_ref + (S_1 pi_1 - S_2 pi_2)/beta, solved for log10 beta."""
    probs, certainty = _pair(s), rates**2 + (1 - rates) ** 2
    gap = probs @ (certainty * [1, -1])
    distance = s - np.log(ref[0] / ref[1])
    # At the reference itself no finite beta is at rest, but where both are 0.
    ratio = gap / np.where(distance == 0, np.nan, distance)
    return np.where(ratio > 0, np.log10(np.where(ratio > 0, ratio, 1)), np.nan), probs


def _by_mixture(s, ref, rates):
    """s = s_ref + [(1 - w)(p_1 - p_2) + w (S_1 pi_1 - S_2 pi_2)]/beta, solved for w."""
    probs, certainty = _pair(s), rates**2 + (1 - rates) ** 2
    gap, lead = probs @ (certainty * [1, -1]), rates[0] - rates[1]
    return (0.15 * (s - np.log(ref[0] / ref[1])) - lead) / (gap - lead), probs


_STRENGTH = r"KL strength $\beta$"
_CHECK: dict[str, Any] = {"probs": CHECK_PROBS, "rates": CHECK_RATES}
_OVER_BETA: dict[str, Any] = {
    "axis": _STRENGTH,
    "slope": (0.0, 0.0, 0.0, _LN10, 0.0),
    "logarithmic": True,
}
_VERIFIED, _OWN, _GRPO = (
    (1.0, 1.0, 0.0, 0.0, 0.0),
    (1.0, 0.0, 1.0, 0.0, 0.0),
    (1.0, 1.0, 0.0, 0.0, 1.0),
)

DIAGRAMS = {
    "strength": Diagram(
        "verifier, over log10 beta",
        "verifier: one outcome\nfor each strength",
        bounds=(-2.0, 1.0), theory=_by_strength, ends=(-2.0, 1.0),
        start=_VERIFIED, **_CHECK, **_OVER_BETA,
    ),
    "twins": Diagram(
        "sequence probability of equal patterns, over log10 beta",
        "own probability, equal\npatterns: a pitchfork", probs=(0.5, 0.5), rates=(0.9, 0.1),
        bounds=(-1.1, 0.2), theory=_by_own_probability, ends=(-11.0, 11.0), start=_OWN,
        **_OVER_BETA,
    ),
    "own": Diagram(
        "sequence probability, over log10 beta",
        "own probability: two\noutcomes below a fold", probs=(0.45, 0.55), rates=(0.9, 0.2),
        bounds=(-1.1, 0.2), theory=_by_own_probability, ends=(-11.0, 11.0), start=_OWN,
        **_OVER_BETA,
    ),
    "grpo": Diagram(
        "GRPO, over log10 beta",
        "GRPO: stays, or runs\naway to the best", probs=(0.05, 0.70, 0.25), rates=(0.99, 0.3, 0.1),
        bounds=(-0.7, 0.5), theory=_by_clock, ends=(-1.5, 5.0), start=_GRPO, **_OVER_BETA,
    ),
    "noise": Diagram(
        "noisy verifier, over J",
        "noisy verifier, $\\beta$ = .1:\none outcome",
        axis="verifier's TPR - FPR",
        start=(0.0, 1.0, 0.0, math.log(0.1), 0.0), slope=(1.0, 0.0, 0.0, 0.0, 0.0),
        bounds=(-1.0, 1.0), theory=_by_noise, ends=(-1.0, 1.0), **_CHECK,
    ),
    "mixture": Diagram(
        "verifier and sequence probability, over the weight",
        "mixture, $\\beta$ = .15:\nhysteresis", probs=(0.2, 0.8), rates=(0.8, 0.1),
        axis="weight of own\nprobability", start=(1.0, 1.0, 0.0, math.log(0.15), 0.0),
        slope=(0.0, -1.0, 1.0, 0.0, 0.0), bounds=(0.0, 1.0), theory=_by_mixture, ends=(-8.0, 8.0),
    ),
}  # fmt: skip
