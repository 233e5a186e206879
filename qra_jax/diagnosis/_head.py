r"""What is known of a network's last layer, for forecasts of optimisers that divide by the size of
gradients.

Source: derived in docs/training.md#the-factor-table.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._core.checks import require, whole

Range = float | tuple[float, float]
_Z90 = 1.6448536269514722
SIMULATED = 16
"""Features of a simulated head, at most."""


def _ends(given: Range) -> tuple[float, float]:
    return given if isinstance(given, tuple) else (given, given)


class Heads(NamedTuple):
    """Draws of heads: of each the sum of absolute hidden values and their Euclidean length, how
    fast features learn, the spread of rows, and the learning rate that acts relative to the one
    that is set."""

    norm: Float[np.ndarray, " P"]
    length: Float[np.ndarray, " P"]
    feature_rate: Float[np.ndarray, " P"]
    row_spread: Float[np.ndarray, " P"]
    rate: Float[np.ndarray, " P"]


@dataclasses.dataclass(frozen=True)
class Head:
    r"""The last layer of a network at the token that chooses the pattern, as far as it is known.

    Each number is known, or a pair between which it lies with 90 % (log-normal beforehand). The
    defaults are those of one small transformer, within a factor of 1.67 (docs/training.md); those
    of another network are one forward and one backward pass away, and `norm` and `width` must be
    given.

    **Arguments:**

    - `norm`: $\sum_j |h_j|$, of the hidden values that the head reads (after the final norm).
    - `width`: D, how many these are.
    - `feature_rate`: $\kappa$, how much faster than a weight of the head a hidden value moves: the
      sum of $|dL/dw|$ over all other weights by that of $|dL/dh_j|$, L the gain of the patterns.
    - `row_spread`: the standard deviation between the head's rows of the tokens that choose the
      pattern, of what they have beyond the direction of h.
    - `rate`: the learning rate that acts, relative to the one that is set.
    - `length`: $\|h\|_2$, which alone matters to an optimiser that is linear in the gradient (plain
      or with momentum); unless given that of normal hidden values,
      $\sqrt{\pi / (2 D)}\, \|h\|_1$.
    - `wander`: by how much the logarithm of that rate changes over 100 steps, a standard deviation:
      what the model of the network leaves out.

    **Raises:** `ValueError` if a number is not above 0.

    Source: derived in docs/training.md#the-factor-table.
    """

    norm: Range
    width: int
    feature_rate: Range = (100.0, 277.0)
    row_spread: Range = (0.0027, 0.0075)
    rate: Range = 1.0
    wander: float = 0.2
    length: Range | None = None

    def __post_init__(self) -> None:
        whole(self.width, "width", 2)
        require(0 <= self.wander < math.inf, "wander", "be at least 0", self.wander)
        for name in ("norm", "feature_rate", "row_spread", "rate"):
            given = getattr(self, name)
            low, high = _ends(given)
            require(0 < low <= high < math.inf, name, "be above 0, or rise from above 0", given)
        if self.length is not None:
            # No vector of D entries is longer than the sum of these, or shorter than it / sqrt(D).
            least, most = _ends(self.norm)[0] / math.sqrt(self.width), _ends(self.norm)[1]
            low, high = _ends(self.length)
            must = f"rise within norm / sqrt(width) = {least:.3g} and norm = {most:.3g}"
            require(least <= low <= high <= most, "length", must, self.length)

    @property
    def simulated(self) -> int:
        """How many features are simulated: fewer, that learn faster, do the same to the logits."""
        return min(self.width, SIMULATED)

    def draw(self, number: int, rng: np.random.Generator) -> Heads:
        """Draws of what is not known, and of how fast the simulated features learn."""

        def one(given: Range) -> np.ndarray:
            low, high = np.log(_ends(given))
            return (low + high) / 2 + (high - low) / (2 * _Z90) * rng.normal(size=number)

        norm, feature_rate, row_spread, rate = (
            np.exp(one(x)) for x in (self.norm, self.feature_rate, self.row_spread, self.rate)
        )
        length = norm * math.sqrt(math.pi / (2 * self.width))
        if self.length is not None:
            length = np.exp(one(self.length))
        faster = self.width / self.simulated
        return Heads(norm, length, feature_rate * faster, row_spread, rate)
