r"""How the success rates within patterns differ between questions, from counts by question.

Source: derived in docs/training.md#questions-that-differ, where (Q1) and (Q2) are.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import qmc

from .._core.checks import require, whole
from ._posteriors import check_counts

_MOST = 0.999  # of a correlation: a Beta law with a spread of its own is left
_ENOUGH = 30.0  # pairs of samples by which a correlation counts half


class QuestionSpread(NamedTuple):
    r"""The spread of success rates over questions, as fractions.

    - `within`: `(R,)`, the correlation of two samples of one question that use the same pattern:
      0 if all questions are alike, 1 if each is always right or always wrong.
    - `between`: `(R, R)`, the correlation of the success rates of two patterns over questions.
    """

    within: Float[np.ndarray, " R"]
    between: Float[np.ndarray, "R R"]

    def draw(
        self, rates: Float[np.ndarray, "D R"], number: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "D T R"]:
        r"""Kinds of questions, equally frequent, whose success rates have these spreads.

        Each pattern's rates are Beta with the mean asked for and the variance $\rho\, p (1 - p)$
        (Q2), joined by a normal copula.

        **Arguments:** `rates`: `(D, R)`, means over questions; `number`: T, kinds; `rng`.

        **Returns:** `(D, T, R)`, the mean over kinds being `rates`.
        """
        draws, patterns = rates.shape
        number = whole(number, "number", 1)
        # One set of points for all, shifted for each: even in every draw, and apart between them.
        points = qmc.Sobol(patterns, scramble=True, rng=rng).random(number)
        shifted = (points[None] + rng.uniform(size=(draws, 1, patterns))) % 1
        values, vectors = np.linalg.eigh(self.between)
        root = vectors * np.sqrt(np.maximum(values, 0))
        joined = ndtri(np.clip(shifted, 1e-12, 1 - 1e-12)) @ root.T
        joined /= np.linalg.norm(root, axis=1)
        mean = np.clip(rates, 1e-9, 1 - 1e-9)[:, None]
        strength = (1 - self.within) / np.maximum(self.within, 1e-6)
        found = betaincinv(strength * mean, strength * (1 - mean), ndtr(joined))
        found = np.where(self.within < 1e-6, mean, found)
        return _with_mean(found, mean)


def _with_mean(found: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Moved towards 0 or 1, in proportion, until the mean over kinds is the one asked for."""
    have = np.clip(found.mean(axis=1, keepdims=True), 1e-12, 1 - 1e-12)
    down = found * mean / have
    up = 1 - (1 - found) * (1 - mean) / (1 - have)
    return np.where(have > mean, down, up)


def question_spread(samples: ArrayLike, correct: ArrayLike) -> QuestionSpread:
    r"""The spread of success rates over questions, by moments of pairs of samples of one question,
    $\rho_{rs} = \frac{E[x y] - E[x] E[y]}{\sqrt{\cdot}}$ (Q1).

    **Arguments:** `samples`, `correct`: `(Q, R)`, counts by question and pattern.

    **Returns:** a `QuestionSpread`; where no question has two samples of a pattern, its rates are
    taken to be alike.

    **Raises:** `ValueError` if counts do not fit together.
    """
    n, k = (np.asarray(x, float) for x in check_counts(samples, correct))
    require(n.ndim == 2, "samples", "have shape (Q, R)", n.shape)
    # Pairs of different samples of a question: by pattern and pattern.
    pairs, both = n.T @ n, k.T @ k
    first = k.T @ n
    at = np.arange(n.shape[1])
    pairs[at, at], both[at, at] = np.sum(n * (n - 1), 0), np.sum(k * (k - 1), 0)
    first[at, at] = np.sum(k * (n - 1), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = first / pairs
        covariance = both / pairs - mean * mean.T
        within = np.diag(covariance) / np.diag(mean * (1 - mean))
        within = np.clip(np.nan_to_num(within), 0, _MOST)
        size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        between = np.nan_to_num(covariance / size, posinf=0, neginf=0)
    between = np.clip(between, -_MOST, _MOST) * pairs / (pairs + _ENOUGH)
    between[at, at] = 1
    return QuestionSpread(within, between)
