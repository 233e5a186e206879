r"""How questions differ in how often they are answered right: a beta law, fitted to their counts.

Source: derived in docs/signal.md#how-questions-differ.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import betaincinv, gammaln

from .._core.checks import require, require_all
from ._posteriors import Prior

_STRENGTHS = (0.01, 1e5)
_LOGITS = (-12.0, 12.0)
_MEANS, _POINTS = 97, 49
_LOOKS, _FINE = 12, 16  # at most so many grids, until so many points of each axis are likely


@dataclasses.dataclass(frozen=True)
class SuccessSpread:
    r"""The posterior of a beta law of success among questions, $v_q \sim \mathrm{Beta}(s m, s (1 -
    m))$, given that $c_q \sim \mathrm{Bin}(n_q, v_q)$ of the samples of a question are right.

    - `logits`, `log_strengths`: grids `(M,)` and `(S,)` of $\mathrm{logit}\, m$ and $\log s$.
    - `chances`: `(M, S)`, the posterior probability of each cell of the grid.
    - `samples`, `right`: `(Q,)` counts.
    """

    logits: Float[np.ndarray, " M"]
    log_strengths: Float[np.ndarray, " S"]
    chances: Float[np.ndarray, "M S"]
    samples: Float[np.ndarray, " Q"]
    right: Float[np.ndarray, " Q"]

    def draw(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, "2 D"]:
        """Draws of the two parameters of the beta law, `(2, number)`."""
        cell = rng.choice(self.chances.size, size=number, p=self.chances.ravel())
        which = np.unravel_index(cell, self.chances.shape)
        grids = self.logits, self.log_strengths
        logit, log_strength = (
            grid[at] + (grid[1] - grid[0]) * rng.uniform(-0.5, 0.5, number)
            for grid, at in zip(grids, which, strict=True)
        )
        strength = np.exp(log_strength)
        return np.stack([strength / (1 + np.exp(-logit)), strength / (1 + np.exp(logit))])

    def of_questions(
        self, rng: np.random.Generator, laws: Float[np.ndarray, "2 D"]
    ) -> Float[np.ndarray, "D Q"]:
        r"""A draw of the success of these questions for each law, from $\mathrm{Beta}(s m + c_q,
        s (1 - m) + n_q - c_q)$."""
        a, b = laws[:, :, None]
        return rng.beta(a + self.right, b + self.samples - self.right)


def quantiles_of(laws: Float[np.ndarray, "2 D"], number: int) -> Float[np.ndarray, "D N"]:
    """Evenly likely values of each beta law: means over them are means over the law."""
    levels = (np.arange(number) + 0.5) / number
    a, b = laws[:, :, None]
    return betaincinv(a, b, levels)


def success_spread(samples: ArrayLike, right: ArrayLike, prior: Prior = Prior()) -> SuccessSpread:
    r"""Fit a beta law of success among questions to their counts.

    The mean has the prior $\mathrm{Beta}(a, b)$ of success rates, the strength s, which is how many
    samples the law weighs as, is equally likely in its logarithm between .01 and 1e5, and both are
    summed over on a grid that closes in on where the beta-binomial likelihood is.

    **Arguments:** `samples`, `right`: `(Q,)` counts of questions; `prior`.

    **Returns:** a `SuccessSpread`.

    **Raises:** `ValueError` if there is no question, or a count is negative or more are right than
    there are.

    Source: derived in docs/signal.md#how-questions-differ.
    """
    samples, right = np.asarray(samples, float), np.asarray(right, float)
    require(samples.ndim == 1 and samples.size > 0, "samples", "have shape (Q,)", samples.shape)
    require(right.shape == samples.shape, "right", f"have shape {samples.shape}", right.shape)
    require_all(right, lambda x: (x >= 0) & (x < np.inf), "right", "be finite and at least 0")
    require_all(samples - right, lambda x: x >= 0, "samples - right", "be at least 0")
    ends = [_LOGITS, (math.log(_STRENGTHS[0]), math.log(_STRENGTHS[1]))]
    counts = tuple(np.unique(x, return_counts=True) for x in (right, samples - right, samples))
    looks = 0
    while True:
        logits = np.linspace(ends[0][0], ends[0][1], _MEANS)
        strengths = np.linspace(ends[1][0], ends[1][1], _POINTS)
        logs = _log_posterior(logits, strengths, counts, prior)
        chances = np.exp(logs - logs.max())
        chances /= chances.sum()
        places = [np.flatnonzero(chances.sum(axis=1 - axis) > 1e-5) for axis in (0, 1)]
        looks += 1
        if looks == _LOOKS or min(len(likely) for likely in places) > _FINE:
            break
        for axis, (grid, likely) in enumerate(zip((logits, strengths), places, strict=True)):
            first, last = max(likely[0] - 1, 0), min(likely[-1] + 1, len(grid) - 1)
            ends[axis] = float(grid[first]), float(grid[last])
    return SuccessSpread(logits, strengths, chances, samples, right)


def _log_posterior(logits, log_strengths, counts, prior: Prior) -> Float[np.ndarray, "M S"]:
    """Up to a constant, of evenly spaced logits of the mean and logarithms of the strength."""
    log_mean, log_rest = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    strength = np.exp(log_strengths)
    parts = strength * np.exp(log_mean)[:, None], strength * np.exp(log_rest)[:, None]
    # The density of the logit has the factor m (1 - m) beside that of m.
    found = (prior.right * log_mean + prior.wrong * log_rest)[:, None] + np.zeros(len(strength))
    # Only different counts are looked up: there are few of them, whatever the number of questions.
    signs = (1, 1, -1)
    for base, (values, times), sign in zip((*parts, strength[None]), counts, signs, strict=True):
        for value, number in zip(values, times, strict=True):
            found = found + sign * number * (gammaln(base + value) - gammaln(base))
    return found
