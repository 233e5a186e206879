"""Do the logs of a run bear out the model? A check of shares, accuracy and rates at every log.

Source: derived in docs/diagnosis.md#do-the-logs-bear-out-the-model.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from ._checked import LogCheck, RateChange
from ._solve import ROWS, Solver

REPLICATES = 999
_MOST_LOGS = 47  # neighbouring logs beyond so many are added up, and take two rows of a solve
_STARTS, _GUESSES, _SCALES = 3, 63, 128
_DAMPING = (0.0, 0.03, 0.3, 3.0, 30.0, 300.0)
_STEPS = 25
_DIFFERENCE = 1e-4
# Added to expected counts and variances: a single sample where none is expected refutes nothing.
_FLOOR, _RATE_FLOOR = 0.5, 0.25
_CHANGES = 12  # moments at which a change is looked for
_SHARES_OF_LEVEL = {"clock": 0.45, "rates": 0.3, "accuracy": 0.1, "shares": 0.15}
"""How the level is dealt out: a clock that changes shows least in the counts."""
NAMES = tuple(_SHARES_OF_LEVEL)


class Logs(NamedTuple):
    """Counts by pattern at L moments: `clock` is steps, or the cumulated relative learning rate;
    `spread` is its deviation among logs that were added up."""

    steps: Float[np.ndarray, " L"]
    clock: Float[np.ndarray, " L"]
    samples: Float[np.ndarray, "L R"]
    correct: Float[np.ndarray, "L R"]
    spread: Float[np.ndarray, " L"] | None = None

    def merged(self, most: int = _MOST_LOGS) -> "Logs":
        """At most so many rows: neighbours added up, at their mean step."""
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


class _Point(NamedTuple):
    """Logits of shares, logits of rates, log scale, and what follows from them at step 0 and at
    every log: shares `(1 + L, R)`, and derivatives `(P, 1 + L, R)`."""

    parameters: Float[np.ndarray, " P"]
    shares: Float[np.ndarray, "N R"]
    slopes: Float[np.ndarray, "P N R"]


class _Problem:
    """The base model's counts and the logs as one table of N = 1 + L rows."""

    def __init__(self, solver: Solver, samples, correct, logs: Logs, pseudo, known: bool):
        self.solver, self.known = solver, known
        self.samples = np.concatenate([samples[None] + pseudo[0], logs.samples])
        self.correct = np.concatenate([correct[None] + pseudo[1], logs.correct])
        self.samples_of_rates = self.samples.copy()
        self.samples_of_rates[0] = samples + pseudo[1] + pseudo[2]
        self.pseudo = pseudo
        self.totals = self.samples.sum(axis=1, keepdims=True)
        self.clock, self.number = np.log(logs.clock), samples.shape[0]
        # The mean over logs that were added up, to second order: that of two moments.
        spread = np.zeros(len(logs.clock)) if logs.spread is None else logs.spread
        early = np.maximum(logs.clock - spread, 1e-6 * logs.clock)
        self.moments = np.log(np.stack([early, logs.clock + spread], axis=1)).ravel()

    def shares(self, parameters: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B N R"]:
        """Of a batch of parameters."""
        number = self.number
        logits = parameters[:, :number]
        start = np.exp(logits - logits.max(axis=1, keepdims=True))
        start /= start.sum(axis=1, keepdims=True)
        rates = _sigmoid(parameters[:, number:-1])
        times = parameters[:, -1:] + self.moments[None]
        fill = times[:, -1:] + 0.01 * np.arange(1, ROWS - times.shape[1] + 1)
        both = self.solver.paths(start, rates, np.concatenate([times, fill], axis=1))
        both = both[:, : times.shape[1]]
        later = both.reshape(len(both), len(self.clock), 2, number).mean(axis=2)
        return np.concatenate([start[:, None], later], axis=1)

    def at(self, parameters: Float[np.ndarray, " P"]) -> _Point:
        """With derivatives, by one batch of differences."""
        moved = parameters + _DIFFERENCE * np.eye(len(parameters))
        found = self.shares(np.concatenate([parameters[None], moved]))
        slopes = (found[1:] - found[0]) / _DIFFERENCE
        return _Point(parameters, found[0], slopes)

    def weights(self, shares, rates) -> tuple[np.ndarray, np.ndarray]:
        """Of the residuals of shares and rates: one over their deviations."""
        of_rates = self.samples_of_rates * rates * (1 - rates)
        return (self.totals * shares + _FLOOR) ** -0.5, (of_rates + _RATE_FLOOR) ** -0.5

    def residuals(self, shares, rates, weights) -> np.ndarray:
        """Observed less expected counts over their deviations, `(..., 2 N R)`."""
        first = (self.samples - self.totals * shares) * weights[0]
        second = (self.correct - self.samples_of_rates * rates) * weights[1]
        flat = (*shares.shape[:-2], -1)
        second = np.broadcast_to(second, first.shape)
        return np.concatenate([first.reshape(flat), second.reshape(flat)], axis=-1)

    def jacobian(self, point: _Point, weights) -> np.ndarray:
        """Derivatives of expected counts over deviations, `(2 N R, P)`."""
        number = self.number
        first = point.slopes * self.totals * weights[0]
        rates = _sigmoid(point.parameters[number:-1])
        second = np.zeros_like(first)
        for at in range(number):
            spread = rates[at] * (1 - rates[at])
            second[number + at, :, at] = (self.samples_of_rates * weights[1])[:, at] * spread
        both = [x.reshape(len(point.parameters), -1) for x in (first, second)]
        found = np.concatenate(both, axis=1).T
        if self.known:
            found[:, -1] = 0
        return found


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(logits / 2))


def _logit(rates: np.ndarray) -> np.ndarray:
    return np.log(rates) - np.log1p(-rates)


def _starts(problem: _Problem, scale_range, rng: np.random.Generator) -> np.ndarray:
    """A few parameters to begin from: the best of draws of the base model and scales."""
    samples, correct = problem.samples[0], problem.correct[0]
    others = problem.samples_of_rates[0] - correct
    probs = np.maximum(rng.dirichlet(samples, _GUESSES), 1e-9)
    rates = np.clip(rng.beta(correct, others, (_GUESSES, len(samples))), 1e-6, 1 - 1e-6)
    probs = np.concatenate([(samples / samples.sum())[None], probs])
    rates = np.concatenate([(correct / (correct + others))[None], rates])
    low, high = np.log(scale_range)
    grid = np.linspace(low + problem.clock[0], high + problem.clock[-1] + 1e-3, ROWS)
    paths = problem.solver.paths(probs, rates, np.tile(grid, (len(probs), 1)))
    scales = np.linspace(low, high, 1 if problem.known else _SCALES)
    # The likelihood of the shares at the nearest rows: good enough to begin from.
    near = np.rint((scales[:, None] + problem.clock - grid[0]) / (grid[1] - grid[0])).astype(int)
    logs = np.log(paths + _FLOOR / problem.totals[1:].mean())
    fits = np.einsum("bslr,lr->bs", logs[:, np.clip(near, 0, ROWS - 1)], problem.samples[1:])
    best = np.argsort(-fits, axis=None)
    kept: list[tuple[int, int]] = []
    for draw, at in zip(*np.unravel_index(best, fits.shape), strict=True):
        if all(draw != other[0] for other in kept):
            kept.append((int(draw), int(at)))
        if len(kept) == _STARTS:
            break
    rows = [np.concatenate([np.log(probs[d]), _logit(rates[d]), [scales[s]]]) for d, s in kept]
    return np.array(rows)


def _fitted(problem: _Problem, start: np.ndarray) -> tuple[float, _Point]:
    """Quasi-likelihood by Fisher scoring with Levenberg's damping; the squared residuals."""
    number, parameters = problem.number, start
    for _ in range(_STEPS):
        point = problem.at(parameters)
        rates = _sigmoid(parameters[number:-1])
        weights = problem.weights(point.shares, rates)
        residual = problem.residuals(point.shares, rates, weights)
        slopes = problem.jacobian(point, weights)
        gram = slopes.T @ slopes
        ridge = np.diag(np.maximum(np.diag(gram), 1e-3))
        gradient = slopes.T @ residual
        steps = [np.linalg.solve(gram + (1e-6 + damping) * ridge, gradient) for damping in _DAMPING]
        tried = parameters + np.clip(np.array(steps), -3, 3)
        tried[:, :-1] = np.clip(tried[:, :-1], -25, 25)
        shares, tried_rates = problem.shares(tried), _sigmoid(tried[:, None, number:-1])
        squares = np.sum(problem.residuals(shares, tried_rates, weights) ** 2, axis=-1)
        squares = np.where(np.isfinite(squares), squares, np.inf)
        best, before = int(np.argmin(squares)), float(residual @ residual)
        if not squares[best] < before - 1e-3:
            break
        parameters = tried[best]
    point = problem.at(parameters)
    rates = _sigmoid(parameters[number:-1])
    last = problem.residuals(point.shares, rates, problem.weights(point.shares, rates))
    return float(last @ last), point


def _directions(problem: _Problem, point: _Point, logs: Logs, weights) -> dict[str, np.ndarray]:
    """By which linear forms of the residuals a departure is looked for: rows, by its name."""
    number, rows = problem.number, len(problem.totals)
    rates, steps = _sigmoid(point.parameters[number:-1]), logs.steps
    empty = np.zeros((rows, number))

    def form(shares, of_rates):
        return np.concatenate([shares.ravel(), of_rates.ravel()])

    # The clock runs at another speed from step c on: log t moves by 1 - c/s to first order.
    slope = point.slopes[-1] * problem.totals * weights[0]
    moments = steps[np.unique(np.linspace(0, len(steps) - 1, _CHANGES).astype(int))]
    late = [np.append(0, np.maximum(1 - c / steps, 0)) for c in moments[:-1]]
    if problem.known:
        late.append(np.append(0, np.ones(len(steps))))
    clock = [form(slope * x[:, None], empty) for x in late]
    # Rates of one pattern, or of all, change step by step, or at once from some log on.
    of_rates = problem.samples_of_rates * rates * (1 - rates) * weights[1]
    shapes = [np.append(0, steps / steps[-1])]
    shapes += [np.append(0, (steps >= c).astype(float)) for c in moments]
    drifts = []
    for shape in shapes:
        for at in (*range(number), slice(None)):
            part = empty.copy()
            part[:, at] = (of_rates * shape[:, None])[:, at]
            drifts.append(form(empty, part))
    # Accuracy at a log: right answers beside those expected of the shares.
    accuracy = []
    for row in range(1, rows):
        parts = np.zeros((2, rows, number))
        parts[0, row] = rates / weights[0][row]
        parts[1, row] = 1 / weights[1][row]
        accuracy.append(form(*parts))
    return {"clock": np.array(clock), "rates": np.array(drifts), "accuracy": np.array(accuracy)}


def _replicates(
    problem: _Problem, point: _Point, weights, noisy: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Residuals of counts drawn from the fit, `(REPLICATES, 2 N R)`, before these are fitted."""
    rates = _sigmoid(point.parameters[problem.number : -1])
    totals, pseudo = problem.totals[:, 0], problem.pseudo
    prior = np.zeros_like(problem.samples)
    prior[0] = pseudo[0]
    whole = np.rint(totals - prior.sum(axis=1)).astype(int)
    shares = np.broadcast_to(point.shares, (REPLICATES, *point.shares.shape))
    if noisy is not None:
        at = np.arange(REPLICATES) % len(noisy)
        shares = np.concatenate([shares[:, :1], noisy[at]], axis=1)
    drawn = rng.multinomial(whole, shares / shares.sum(axis=-1, keepdims=True)) + prior
    first = (drawn - problem.totals * point.shares) * weights[0]
    asked = problem.samples_of_rates.copy()
    asked[0] -= pseudo[1] + pseudo[2]
    right = rng.binomial(np.rint(asked).astype(int), rates, (REPLICATES, *asked.shape)).astype(
        float
    )
    right[:, 0] += pseudo[1]
    second = (right - problem.samples_of_rates * rates) * weights[1]
    return np.concatenate([x.reshape(REPLICATES, -1) for x in (first, second)], axis=1)


def _statistics(residuals: np.ndarray, forms: dict[str, np.ndarray], half: int, rates: slice):
    """`(1 + REPLICATES, number)`, the data first; whose they are, and their shares of the level."""
    columns, names, weights = [], [], []
    for name, rows in forms.items():
        if len(rows) == 0:  # one log cannot show that the clock changes
            continue
        found = residuals @ rows.T
        spread = np.maximum(found[1:].std(axis=0), 1e-9)
        columns.append(np.max(np.abs(found / spread), axis=1))
        names.append(name)
        weights.append(_SHARES_OF_LEVEL[name] * (0.6 if name == "rates" else 1))
    of_shares, of_rates = residuals[:, :half], residuals[:, rates]
    for name, part in (("shares", of_shares), ("rates", of_rates)):
        columns += [np.max(np.abs(part), axis=1), np.sum(part**2, axis=1)]
        names += [name, name]
        weights += 2 * [_SHARES_OF_LEVEL[name] * (0.2 if name == "rates" else 0.5)]
    return np.stack(columns, axis=1), names, np.array(weights)


def _levels(column: np.ndarray) -> np.ndarray:
    """Which share of all is at least as large; what rounding tells apart counts as equal."""
    ordered = np.sort(column)
    below = np.searchsorted(ordered, column - 1e-9 * (1 + np.abs(column)))
    return (len(column) - below) / len(column)


def check_logs_of(
    solver: Solver,
    samples: Float[np.ndarray, " R"],
    correct: Float[np.ndarray, " R"],
    logs: Logs,
    *,
    scale_range: tuple[float, float],
    prior: tuple[float, float, float] = (1.0, 1.0, 1.0),
    noisy: Callable[[np.ndarray, np.ndarray, float, Logs], np.ndarray] | None = None,
    seed: int = 0,
) -> LogCheck:
    """Fit base model, rates and one time scale to all counts, and see whether they fit.

    **Arguments:** `samples`, `correct`: of the base model; `logs`: of later steps, all above 0;
    `scale_range`: of the time per unit of the clock, equal ends if it is known; `prior`: weights of
    a pattern, of right and of wrong answers; `noisy`: shares `(K, L, R)` of K noisy runs of start,
    rates and scale, if the training noise is known.
    """
    logs, rng = logs.merged(), np.random.default_rng([seed, 5])
    known = scale_range[0] == scale_range[1]
    problem = _Problem(solver, samples, correct, logs, prior, known)
    fits = [_fitted(problem, start) for start in _starts(problem, scale_range, rng)]
    _, point = min(fits, key=lambda found: found[0])
    rates = _sigmoid(point.parameters[problem.number : -1])
    weights = problem.weights(point.shares, rates)
    runs = None
    if noisy is not None:
        runs = noisy(point.shares[0], rates, float(np.exp(point.parameters[-1])), logs)
    data = problem.residuals(point.shares, rates, weights)
    all_of = np.concatenate([data[None], _replicates(problem, point, weights, runs, rng)])
    # What refitting takes away, to first order: the part along the derivatives.
    basis, values, _ = np.linalg.svd(problem.jacobian(point, weights), full_matrices=False)
    basis = basis[:, values > 1e-6 * values[0]]
    all_of -= (all_of @ basis) @ basis.T
    half = problem.samples.size
    forms = _directions(problem, point, logs, weights)
    statistics, names, dealt = _statistics(all_of, forms, half, slice(half, None))
    # The smallest of several levels, beside the smallest of every replicate (Westfall and Young).
    number = len(statistics)
    levels = np.stack([_levels(column) for column in statistics.T], axis=1) / dealt
    smallest = levels.min(axis=1)

    def adjusted(level: float) -> float:
        return float(np.sum(smallest <= level) / number)

    each = {
        name: min(adjusted(levels[0, i]) for i, n in enumerate(names) if n == name)
        for name in NAMES
        if name in names
    }
    expected = np.einsum("lr,r->l", point.shares[1:], rates)
    return LogCheck(
        chance=min(each.values()),
        chances=each,
        steps=logs.steps,
        accuracy=logs.correct.sum(axis=1) / logs.samples.sum(axis=1),
        expected_accuracy=expected,
        pattern_shares=logs.samples / logs.samples.sum(axis=1, keepdims=True),
        expected_shares=point.shares[1:],
        changes=rate_changes(samples, correct, logs),
    )


def rate_changes(
    samples: Float[np.ndarray, " R"], correct: Float[np.ndarray, " R"], logs: Logs
) -> tuple[RateChange, ...]:
    """The trend of each pattern's rate over steps, by its score: sum of (s - mean s)(k - n p)."""
    last = max(1, len(logs.steps) // 3)
    steps = np.append(0.0, logs.steps)
    found = []
    for r in range(len(samples)):
        number = np.append(samples[r], logs.samples[:, r])
        right = np.append(correct[r], logs.correct[:, r])
        rate = right.sum() / max(number.sum(), 1)
        mean = number @ steps / max(number.sum(), 1)
        spread = np.sqrt(rate * (1 - rate) * (number @ (steps - mean) ** 2))
        score = float((steps - mean) @ (right - rate * number))
        trend = score / spread if spread > 0 else 0.0
        found.append(
            RateChange(
                (float(right[0]), float(number[0])),
                (float(right[-last:].sum()), float(number[-last:].sum())),
                trend,
                float(ndtr(-abs(trend))),
            )
        )
    return tuple(found)
