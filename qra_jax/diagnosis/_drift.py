r"""Success rates within patterns over the steps of a run: constant, or a random walk on the logit.

Source: derived in docs/diagnosis.md#rates-that-drift.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky_banded, solve_banded, solveh_banded
from scipy.special import betaln

from ._log_fit import Logs

SPREADS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Deviations of the change of a logit over the logged steps. Half of the prior is at 0."""
_NEWTON = 60


class RateDrift(NamedTuple):
    r"""The posterior of the drift.

    - `steps`: `(1 + L,)`, 0 and those of the logs.
    - `chances`: `(S,)`, of each of `SPREADS`.
    - `right`, `wrong`: `(R,)`, of the Beta law of each pattern's rate at step 0 that has the mean
      and the variance of the posterior: exact if nothing drifts.
    - `means` `(S, R, 1 + L)`, `factors` `(S, R, 2, 1 + L)`: normal approximation of the logits and
      the banded Cholesky factor of its precision; unused for the spread 0.
    """

    steps: Float[np.ndarray, " N"]
    chances: Float[np.ndarray, " S"]
    right: Float[np.ndarray, " R"]
    wrong: Float[np.ndarray, " R"]
    means: Float[np.ndarray, "S R N"]
    factors: Float[np.ndarray, "S R 2 N"]

    def shifts(
        self, rng: np.random.Generator, rates: Float[np.ndarray, "D R"], steps: np.ndarray
    ) -> Float[np.ndarray, "T D R"]:
        """Draws of how far the logit of each rate has moved at steps `(T,)`, given the rates at
        step 0; between logs linear in the step, after the last one a random walk. Patterns beyond
        those of the drift only pad."""
        number, patterns = rates.shape
        found = np.zeros((len(steps), number, patterns))
        start = np.log(rates) - np.log1p(-rates)
        last = self.steps[-1]
        beyond = np.maximum(steps - last, 0) / last
        ahead = np.sqrt(np.diff(beyond, prepend=0.0))
        chosen = rng.choice(len(SPREADS), size=number, p=self.chances)
        for at in np.unique(chosen[chosen > 0]):
            draws = np.flatnonzero(chosen == at)
            for r in range(len(self.right)):
                factor, mean = self.factors[at, r], self.means[at, r]
                normal = rng.normal(size=(len(mean), len(draws)))
                path = mean[:, None] + solve_banded((0, 1), factor, normal)
                # Given the rate at step 0: the path is moved by its regression on that.
                unit = np.zeros(len(mean))
                unit[0] = 1
                slope = solve_banded((0, 1), factor, solve_banded((1, 0), _lower(factor), unit))
                path += np.outer(slope / slope[0], start[draws, r] - path[0])
                # Sums of increments in the order of steps.
                walk = np.cumsum(ahead[:, None] * rng.normal(size=(len(steps), len(draws))), axis=0)
                moved = np.stack([np.interp(steps, self.steps, x) for x in (path - path[0]).T])
                found[:, draws, r] = moved.T + SPREADS[at] * walk
        return found


def _lower(factor: np.ndarray) -> np.ndarray:
    """The transpose of an upper band of width 1."""
    return np.stack([factor[1], np.append(factor[0, 1:], 0)])


def _path(samples, correct, prior: tuple[float, float], steps, spread: float):
    """The mode of the logits, the factor of the precision there, and the log evidence (Laplace).

    Source: Rue, Martino and Chopin 2009, section 2.
    """
    tie = 1 / (spread**2 * np.diff(steps) / steps[-1])
    right = correct + np.append(prior[0], np.zeros(len(steps) - 1))
    total = samples + np.append(sum(prior), np.zeros(len(steps) - 1))
    x = np.full(len(steps), np.log(right.sum() / (total.sum() - right.sum())))

    def bands(x):
        p = 0.5 * (1 + np.tanh(x / 2))
        diagonal = total * p * (1 - p) + np.append(tie, 0) + np.append(0, tie)
        return p, np.stack([np.append(0, -tie), np.maximum(diagonal, 1e-12)])

    for _ in range(_NEWTON):
        p, matrix = bands(x)
        pull = np.append(0, tie * np.diff(x))
        gradient = right - total * p - pull + np.append(pull[1:], 0)
        step = solveh_banded(matrix, gradient)
        x = x + np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-9:
            break
    factor = cholesky_banded(bands(x)[1])
    fit = right @ x - total @ np.logaddexp(0, x) - betaln(*prior)
    walk = -0.5 * np.sum(tie * np.diff(x) ** 2) + 0.5 * np.sum(np.log(tie / (2 * np.pi)))
    evidence = fit + walk + 0.5 * len(x) * np.log(2 * np.pi) - np.sum(np.log(factor[1]))
    return x, factor, evidence


def rate_drift(
    samples: Float[np.ndarray, " R"],
    correct: Float[np.ndarray, " R"],
    logs: Logs,
    prior: tuple[float, float],
) -> RateDrift:
    """The rates of the base model and their drift, from its counts and those of all logs.

    **Arguments:** `samples`, `correct`: of the base model; `logs`; `prior`: a and b of the Beta law
    of every rate.
    """
    logs = logs.merged()
    steps = np.append(0.0, logs.steps)
    number, right = (
        np.concatenate([base[None], later])
        for base, later in ((samples, logs.samples), (correct, logs.correct))
    )
    patterns = len(samples)
    all_right, all_number = right.sum(axis=0), number.sum(axis=0)
    after = prior[0] + all_right, prior[1] + all_number - all_right
    evidence = np.zeros(len(SPREADS))
    evidence[0] = np.sum(betaln(*after) - betaln(*prior))
    shape = len(SPREADS), patterns
    means, factors = np.zeros((*shape, len(steps))), np.ones((*shape, 2, len(steps)))
    for at, spread in enumerate(SPREADS[1:], 1):
        for r in range(patterns):
            found = _path(number[:, r], right[:, r], prior, steps, spread)
            means[at, r], factors[at, r] = found[:2]
            evidence[at] += found[2]
    weigh = np.append(1.0, np.full(len(SPREADS) - 1, 1 / (len(SPREADS) - 1)))
    chances = weigh * np.exp(evidence - evidence.max())
    chances /= chances.sum()
    mean, square = _start_moments(means, factors, after)
    mean, square = chances @ mean, chances @ square
    weight = mean * (1 - mean) / np.maximum(square - mean**2, 1e-300) - 1
    # No law with a pole at 0 or 1 where the prior has none.
    weight = np.maximum(weight, np.maximum(prior[0] / mean, prior[1] / (1 - mean)))
    return RateDrift(steps, chances, weight * mean, weight * (1 - mean), means, factors)


def _start_moments(means, factors, after) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of the rates at step 0, `(S, R)`, for each spread."""
    points, mass = np.polynomial.hermite_e.hermegauss(15)
    mass = mass / mass.sum()
    moments = np.zeros((2, *means.shape[:2]))
    total = after[0] + after[1]
    moments[:, 0] = after[0] / total, after[0] * (after[0] + 1) / (total * (total + 1))
    for at in range(1, means.shape[0]):
        for r in range(means.shape[1]):
            unit = np.zeros(means.shape[2])
            unit[0] = 1
            factor = factors[at, r]
            deviation = np.linalg.norm(solve_banded((1, 0), _lower(factor), unit))
            rate = 0.5 * (1 + np.tanh((means[at, r, 0] + deviation * points) / 2))
            moments[:, at, r] = mass @ rate, mass @ rate**2
    return moments[0], moments[1]
