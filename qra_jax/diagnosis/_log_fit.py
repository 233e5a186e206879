"""A base model, success rates and one time scale, fitted to the counts of a run's logs.

Source: derived in docs/diagnosis.md#do-the-logs-bear-out-the-model.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._solve import ROWS, Solver

MOST_LOGS = 47  # neighbouring logs beyond so many are added up, and take two rows of a solve
_STARTS, _GUESSES, _SCALES = 3, 63, 128
_DAMPING = (0.0, 0.03, 0.3, 3.0, 30.0, 300.0)
_STEPS = 25
_DIFFERENCE = 1e-4
# Added to expected counts and variances: a single sample where none is expected refutes nothing.
_FLOOR, _RATE_FLOOR = 0.5, 0.25


class Logs(NamedTuple):
    """Counts by pattern at L moments: `clock` is steps, or the cumulated relative learning rate;
    `spread` is its deviation among logs that were added up. Where patterns are not known there is
    one column, of all samples."""

    steps: Float[np.ndarray, " L"]
    clock: Float[np.ndarray, " L"]
    samples: Float[np.ndarray, "L R"]
    correct: Float[np.ndarray, "L R"]
    spread: Float[np.ndarray, " L"] | None = None

    @classmethod
    def none(cls, patterns: int) -> "Logs":
        """No log."""
        return cls(*np.zeros((2, 0)), *np.zeros((2, 0, patterns)))

    def merged(self, most: int = MOST_LOGS) -> "Logs":
        """At most so many rows: neighbours added up, at their mean step."""
        if len(self.steps) == 0:
            return self
        group = np.arange(len(self.steps)) // -(-len(self.steps) // most)
        number = np.bincount(group)

        def mean(values):
            return np.bincount(group, weights=values) / number

        def total(table):
            return np.stack([table[group == i].sum(axis=0) for i in range(len(number))])

        centre = mean(self.clock)
        spread = np.sqrt(np.maximum(mean((self.clock - centre[group]) ** 2), 0))
        tables = total(self.samples), total(self.correct)
        return Logs(mean(self.steps), centre, *tables, spread)


class Point(NamedTuple):
    """Logits of shares, logits of rates, log scale, and what follows from them at step 0, at every
    log with patterns and at every log without: shares `(N + M, R)`, and derivatives by the
    parameters."""

    parameters: Float[np.ndarray, " P"]
    shares: Float[np.ndarray, "K R"]
    slopes: Float[np.ndarray, "P K R"]

    @property
    def rates(self) -> Float[np.ndarray, " R"]:
        """Success rates."""
        return sigmoid(self.parameters[self.shares.shape[-1] : -1])


class Problem:
    """The base model's counts and the logs of patterns as one table of N = 1 + L rows; M logs of
    right and wrong answers alone."""

    def __init__(
        self, solver: Solver, samples, correct, logs: Logs, plain: Logs, pseudo, known: bool
    ):
        self.solver, self.known = solver, known
        self.samples = np.concatenate([samples[None] + pseudo[0], logs.samples])
        self.correct = np.concatenate([correct[None] + pseudo[1], logs.correct])
        self.samples_of_rates = self.samples.copy()
        self.samples_of_rates[0] = samples + pseudo[1] + pseudo[2]
        self.pseudo = pseudo
        self.totals = self.samples.sum(axis=1, keepdims=True)
        self.graded, self.right = plain.samples.sum(axis=1), plain.correct.sum(axis=1)
        self.rows, self.number = len(self.samples), samples.shape[0]
        clock = np.concatenate([logs.clock, plain.clock])
        self.clock = np.log(clock)
        # The mean over logs that were added up, to second order: that of two moments.
        spread = np.concatenate(
            [np.zeros(len(x.clock)) if x.spread is None else x.spread for x in (logs, plain)]
        )
        early = np.maximum(clock - spread, 1e-6 * clock)
        moments = np.log(np.stack([early, clock + spread], axis=1)).ravel()
        self.order = np.argsort(moments, kind="stable")
        self.moments = moments[self.order]

    def shares(self, parameters: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B K R"]:
        """Of a batch of parameters."""
        number = self.number
        logits = parameters[:, :number]
        start = np.exp(logits - logits.max(axis=1, keepdims=True))
        start /= start.sum(axis=1, keepdims=True)
        rates = sigmoid(parameters[:, number:-1])
        times = parameters[:, -1:] + self.moments[None]
        fill = times[:, -1:] + 0.01 * np.arange(1, ROWS - times.shape[1] + 1)
        found = self.solver.paths(start, rates, np.concatenate([times, fill], axis=1))
        both = np.empty((len(found), times.shape[1], number))
        both[:, self.order] = found[:, : times.shape[1]]
        later = both.reshape(len(both), len(self.clock), 2, number).mean(axis=2)
        return np.concatenate([start[:, None], later], axis=1)

    def at(self, parameters: Float[np.ndarray, " P"]) -> Point:
        """With derivatives, by one batch of differences."""
        moved = parameters + _DIFFERENCE * np.eye(len(parameters))
        found = self.shares(np.concatenate([parameters[None], moved]))
        slopes = (found[1:] - found[0]) / _DIFFERENCE
        return Point(parameters, found[0], slopes)

    def accuracy(self, shares, rates) -> np.ndarray:
        """At the logs without patterns, `(..., M)`."""
        return np.sum(shares[..., self.rows :, :] * rates, axis=-1)

    def weights(self, shares, rates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the residuals of shares, rates and accuracies: one over their deviations."""
        of_rates = self.samples_of_rates * rates * (1 - rates)
        accuracy = self.accuracy(shares, rates)
        return (
            (self.totals * shares[: self.rows] + _FLOOR) ** -0.5,
            (of_rates + _RATE_FLOOR) ** -0.5,
            (self.graded * accuracy * (1 - accuracy) + _RATE_FLOOR) ** -0.5,
        )

    def residuals(self, shares, rates, weights) -> np.ndarray:
        """Observed less expected counts over their deviations, `(..., 2 N R + M)`."""
        first = (self.samples - self.totals * shares[..., : self.rows, :]) * weights[0]
        second = (self.correct - self.samples_of_rates * rates) * weights[1]
        third = (self.right - self.graded * self.accuracy(shares, rates)) * weights[2]
        flat = (*shares.shape[:-2], -1)
        second = np.broadcast_to(second, first.shape)
        return np.concatenate([first.reshape(flat), second.reshape(flat), third], axis=-1)

    def jacobian(self, point: Point, weights) -> np.ndarray:
        """Derivatives of expected counts over deviations, `(2 N R + M, P)`."""
        number, rates = self.number, point.rates
        first = point.slopes[:, : self.rows] * self.totals * weights[0]
        second = np.zeros_like(first)
        third = self.accuracy(point.slopes, rates)
        for at in range(number):
            spread = rates[at] * (1 - rates[at])
            second[number + at, :, at] = (self.samples_of_rates * weights[1])[:, at] * spread
            third[number + at] += point.shares[self.rows :, at] * spread
        parts = [x.reshape(len(point.parameters), -1) for x in (first, second)]
        found = np.concatenate([*parts, third * self.graded * weights[2]], axis=1).T
        if self.known:
            found[:, -1] = 0
        return found


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Success rates from their logits."""
    return 0.5 * (1 + np.tanh(logits / 2))


def _logit(rates: np.ndarray) -> np.ndarray:
    return np.log(rates) - np.log1p(-rates)


def starts(problem: Problem, scale_range, rng: np.random.Generator) -> np.ndarray:
    """A few parameters to begin from: the best of draws of the base model and scales."""
    samples, correct = problem.samples[0], problem.correct[0]
    others = problem.samples_of_rates[0] - correct
    probs = np.maximum(rng.dirichlet(samples, _GUESSES), 1e-9)
    rates = np.clip(rng.beta(correct, others, (_GUESSES, len(samples))), 1e-6, 1 - 1e-6)
    probs = np.concatenate([(samples / samples.sum())[None], probs])
    rates = np.concatenate([(correct / (correct + others))[None], rates])
    low, high = np.log(scale_range)
    first, last = problem.clock.min(), problem.clock.max()
    grid = np.linspace(low + first, high + last + 1e-3, ROWS)
    paths = problem.solver.paths(probs, rates, np.tile(grid, (len(probs), 1)))
    scales = np.linspace(low, high, 1 if problem.known else _SCALES)
    # The likelihood at the nearest rows: good enough to begin from.
    near = np.rint((scales[:, None] + problem.clock - grid[0]) / (grid[1] - grid[0])).astype(int)
    near = np.clip(near, 0, ROWS - 1)
    logs, fits = problem.rows - 1, np.zeros((len(probs), len(scales)))
    if logs:
        chances = np.log(paths + _FLOOR / problem.totals[1:].mean())
        fits += np.einsum("bslr,lr->bs", chances[:, near[:, :logs]], problem.samples[1:])
    if len(problem.graded):
        accuracy = np.einsum("btr,br->bt", paths, rates)[:, near[:, logs:]]
        right = np.log(np.clip([accuracy, 1 - accuracy], 1e-6, 1))
        fits += right[0] @ problem.right + right[1] @ (problem.graded - problem.right)
    best = np.argsort(-fits, axis=None)
    kept: list[tuple[int, int]] = []
    for draw, at in zip(*np.unravel_index(best, fits.shape), strict=True):
        if all(draw != other[0] for other in kept):
            kept.append((int(draw), int(at)))
        if len(kept) == _STARTS:
            break
    rows = [np.concatenate([np.log(probs[d]), _logit(rates[d]), [scales[s]]]) for d, s in kept]
    return np.array(rows)


def fitted(problem: Problem, start: np.ndarray) -> tuple[float, Point]:
    """Quasi-likelihood by Fisher scoring with Levenberg's damping; the squared residuals."""
    number, parameters = problem.number, start
    for _ in range(_STEPS):
        point = problem.at(parameters)
        weights = problem.weights(point.shares, point.rates)
        residual = problem.residuals(point.shares, point.rates, weights)
        slopes = problem.jacobian(point, weights)
        gram = slopes.T @ slopes
        ridge = np.diag(np.maximum(np.diag(gram), 1e-3))
        gradient = slopes.T @ residual
        steps = [np.linalg.solve(gram + (1e-6 + damping) * ridge, gradient) for damping in _DAMPING]
        tried = parameters + np.clip(np.array(steps), -3, 3)
        tried[:, :-1] = np.clip(tried[:, :-1], -25, 25)
        shares, rates = problem.shares(tried), sigmoid(tried[:, None, number:-1])
        squares = np.sum(problem.residuals(shares, rates, weights) ** 2, axis=-1)
        squares = np.where(np.isfinite(squares), squares, np.inf)
        best, before = int(np.argmin(squares)), float(residual @ residual)
        if not squares[best] < before - 1e-3:
            break
        parameters = tried[best]
    point = problem.at(parameters)
    last = problem.residuals(point.shares, point.rates, problem.weights(point.shares, point.rates))
    return float(last @ last), point
