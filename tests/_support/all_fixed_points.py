"""Every fixed point of three families of flows, by scans of scalar equations, without the library.

With one question, rates p, a reference and a reverse KL penalty of strength beta, the fixed points
of each face solve

- the mean reward: pi ~ ref exp(p / beta), one a face;
- a utility f: pi ~ ref exp(c p) with beta c = f'(A(c)), a scalar equation for c;
- the reward p_r + w S_r pi_r, S_r = p_r^2 + (1 - p_r)^2: beta log(pi_r / ref_r) - w S_r pi_r - p_r
  is the same for all r. From the shortfall of the most probable pattern follows that number, from
  it two candidates for each other pattern, and their sum must be the shortfall.

All is done in log-probabilities, of which the smallest here is some -1e6.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp


def faces(patterns: int) -> Iterator[np.ndarray]:
    """Index arrays of all faces."""
    for size in range(1, patterns + 1):
        for members in itertools.combinations(range(patterns), size):
            yield np.array(members)


def _on(patterns: int, members: np.ndarray, logs: np.ndarray) -> np.ndarray:
    row = np.full(patterns, -np.inf)
    row[members] = logs - logsumexp(logs)
    return row


def of_mean(reference: np.ndarray, rates: np.ndarray, beta: float) -> list[np.ndarray]:
    """Log-probabilities of all fixed points of the mean reward."""
    logs = np.log(reference) + rates / beta
    return [_on(len(rates), face, logs[face]) for face in faces(len(rates))]


def _roots(function: Callable, grid: np.ndarray) -> list[float]:
    """Where a function changes sign between neighbours of a grid; it may be NaN in places."""
    values = function(grid)
    (at,) = np.nonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0)
    found = []
    for i in at:
        inner = np.linspace(grid[i], grid[i + 1], 65)
        if np.isfinite(function(inner)).all():
            found.append(brentq(function, grid[i], grid[i + 1], xtol=1e-300, rtol=1e-15))
        elif grid[i + 1] - grid[i] > 1e-9:
            found += _roots(function, inner)
    return found


def of_utility(
    reference: np.ndarray,
    rates: np.ndarray,
    beta: float,
    log_slope: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray]:
    """The same of a utility, of which the log of f'(A) is given."""
    found = []
    for face in faces(len(rates)):
        ref, own = np.log(reference[face]), rates[face]

        def value(log_c, ref=ref, own=own):
            logs = ref + np.exp(np.asarray(log_c)[..., None]) * own
            weights = np.exp(logs - logsumexp(logs, axis=-1, keepdims=True))
            return np.log(beta) + log_c - log_slope(weights @ own)

        ends = log_slope(np.linspace(own.min(), own.max(), 2001))
        grid = np.linspace(ends.min() - 1e-6, ends.max() + 1e-6, 4001) - np.log(beta)
        if len(face) == 1:
            found.append(_on(len(rates), face, np.zeros(1)))
            continue
        for log_c in _roots(value, grid):
            found.append(_on(len(rates), face, ref + np.exp(log_c) * own))
    return found


def _candidates(level, ref, worth, rate, beta):
    """Both u <= 0 with beta (u - ref) - worth e^u - rate = level, NaN where there is none."""
    goal = level + rate + beta * ref
    top = np.minimum(np.log(beta / worth), 0.0)

    def solve(low, high, rises):
        low, high = low + 0 * goal, high + 0 * goal

        def excess(u):
            return (beta * u - worth * np.exp(u) - goal) * (1 if rises else -1)

        with np.errstate(invalid="ignore", over="ignore"):
            exists = (excess(low) <= 0) & (excess(high) >= 0)
            for _ in range(80):
                middle = (low + high) / 2
                above = excess(middle) > 0
                low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.where(exists, (low + high) / 2, np.nan)

    below = np.minimum(goal / beta, top)
    below -= 1 + 1e-9 * np.abs(below)
    return solve(below, top, True), solve(top, 0.0, False)


_SHORTFALLS = np.unique(np.concatenate([-np.geomspace(40, 1e7, 800), np.linspace(-40, -0.2, 2400)]))


def of_mixture(
    reference: np.ndarray, rates: np.ndarray, weight: float, beta: float
) -> list[np.ndarray]:
    """The same of the reward p_r + w S_r pi_r."""
    worth, ref = weight * (rates**2 + (1 - rates) ** 2), np.log(reference)
    found = []
    for face in faces(len(rates)):
        if len(face) == 1:
            found.append(_on(len(rates), face, np.zeros(1)))
            continue
        for first in face:
            others = face[face != first]

            def logs_of(log_short, branches, first=first, others=others):
                short = np.exp(log_short)
                level = (
                    beta * (np.log1p(-short) - ref[first])
                    - worth[first] * (1 - short)
                    - rates[first]
                )
                pairs = (
                    _candidates(level, ref[i], worth[i], rates[i], beta)[branch]
                    for i, branch in zip(others, branches, strict=True)
                )
                return np.stack(list(pairs), axis=-1)

            for branches in itertools.product((0, 1), repeat=len(others)):

                def excess(log_short, branches=branches, logs_of=logs_of):
                    return logsumexp(logs_of(log_short, branches), axis=-1) - log_short

                for log_short in _roots(excess, _SHORTFALLS):
                    logs = logs_of(log_short, branches)
                    leads = np.log1p(-np.exp(log_short))
                    if leads >= logs.max():
                        row = np.full(len(rates), -np.inf)
                        row[others], row[first] = logs, leads
                        found.append(row)
    return found


def missing(known: list[np.ndarray], found: np.ndarray) -> list[np.ndarray]:
    """Which of the known points are not among those found: near in log odds, on the same face."""

    def near(row):
        there = row > -np.inf
        same = ((found > -np.inf) == there).all(axis=1)
        apart = np.where(there, found, 0) - np.where(there, row, 0)
        return (
            same & (np.abs(apart) <= 1e-4 + 1e-7 * np.abs(np.where(there, row, 0))).all(1)
        ).any()

    return [row for row in known if not near(row)]
