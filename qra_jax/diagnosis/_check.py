"""Do the logs of a run bear out the model? A check of shares, accuracy and rates at every log.

Source: derived in docs/diagnosis.md#do-the-logs-bear-out-the-model.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from ._checked import LEVEL, LogCheck, RateChange
from ._log_fit import MOST_LOGS, Logs, Point, Problem, fitted, starts
from ._solve import Solver

REPLICATES = 999
_CHANGES = 12  # moments at which a change is looked for
_SHARES_OF_LEVEL = {"clock": 0.45, "rates": 0.3, "accuracy": 0.1, "shares": 0.15}
"""How the level is dealt out: a clock that changes shows least in the counts."""
NAMES = tuple(_SHARES_OF_LEVEL)
_DEALS, _MANY = 9_999, 100_000  # right answers dealt out at random; samples beyond which not
_POWER = 0.9  # of the least departure that is told
_Table = np.ndarray | float


class _Forms:
    """By which linear forms of the residuals a departure is looked for, at the best fit."""

    def __init__(self, problem: Problem, point: Point, logs: Logs, plain: Logs, weights):
        self.problem, self.point, self.weights = problem, point, weights
        self.steps = logs.steps, plain.steps
        every = np.unique(np.concatenate(self.steps))
        self.moments = every[np.unique(np.linspace(0, len(every) - 1, _CHANGES).astype(int))]
        rates = point.rates
        self.of_rates = problem.samples_of_rates * rates * (1 - rates) * weights[1]
        later = point.shares[problem.rows :] * rates * (1 - rates)
        self.later_rates = later * (problem.graded * weights[2])[:, None]

    def _form(
        self, shares: _Table = 0.0, rates: _Table = 0.0, accuracy: _Table = 0.0
    ) -> np.ndarray:
        """One row, from tables `(N, R)` and `(M,)`."""
        shape = self.problem.samples.shape
        tables = [np.broadcast_to(x, shape).ravel() for x in (shares, rates)]
        return np.concatenate([*tables, np.broadcast_to(accuracy, self.problem.graded.shape)])

    def clock(self, shape: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Log t moves by a function of the step."""
        problem, slopes = self.problem, self.point.slopes[-1]
        early, late = (shape(x) for x in self.steps)
        moved = slopes[: problem.rows] * problem.totals * self.weights[0]
        accuracy = problem.accuracy(slopes, self.point.rates) * problem.graded * self.weights[2]
        return self._form(moved * np.append(0, early)[:, None], 0.0, accuracy * late)

    def slower_from(self, start: float) -> np.ndarray:
        """To first order log t moves by 1 - c/s at step s if the speed falls to 0 at step c."""
        return self.clock(lambda steps: np.maximum(1 - start / steps, 0))

    def drift(self, shape: Callable[[np.ndarray], np.ndarray], which) -> np.ndarray:
        """The logits of some rates move by a function of the step."""
        early, late = (shape(x) for x in self.steps)
        part = np.zeros_like(self.of_rates)
        part[:, which] = (self.of_rates * np.append(0, early)[:, None])[:, which]
        return self._form(0.0, part, self.later_rates[:, which].sum(axis=1) * late)

    def trend(self, which) -> np.ndarray:
        """The same, in proportion to the step."""
        last = max(x[-1] for x in self.steps if len(x))
        return self.drift(lambda steps: steps / last, which)

    def all_of(self) -> dict[str, np.ndarray]:
        """Rows, by what they look for."""
        problem, number = self.problem, self.problem.number
        clock = [self.slower_from(c) for c in self.moments[:-1]]
        if problem.known:
            clock.append(self.clock(np.ones_like))
        # Without patterns nothing tells the rate of one from that of another.
        each = [[r] for r in range(number) if problem.rows > 1] + [list(range(number))]
        drifts = [self.trend(which) for which in each]
        for c in self.moments:
            drifts += [self.drift(lambda s, c=c: (s >= c).astype(float), which) for which in each]
        accuracy = []
        for row in range(1, problem.rows):
            parts = np.zeros((2, problem.rows, number))
            parts[0, row] = self.point.rates / self.weights[0][row]
            parts[1, row] = 1 / self.weights[1][row]
            accuracy.append(self._form(*parts))
        accuracy += [self._form(accuracy=row) for row in np.eye(len(problem.graded))]
        return {"clock": np.array(clock), "rates": np.array(drifts), "accuracy": np.array(accuracy)}


def _replicates(
    problem: Problem, point: Point, weights, noisy: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Residuals of counts drawn from the fit, `(REPLICATES, 2 N R + M)`, before these are
    fitted."""
    rates, rows = point.rates, problem.rows
    totals, pseudo = problem.totals[:, 0], problem.pseudo
    prior = np.zeros_like(problem.samples)
    prior[0] = pseudo[0]
    whole = np.rint(totals - prior.sum(axis=1)).astype(int)
    shares = np.broadcast_to(point.shares, (REPLICATES, *point.shares.shape))
    if noisy is not None:
        at = np.arange(REPLICATES) % len(noisy)
        shares = np.concatenate([shares[:, :1], noisy[at]], axis=1)
    shares = shares / shares.sum(axis=-1, keepdims=True)
    drawn = rng.multinomial(whole, shares[:, :rows]) + prior
    first = (drawn - problem.totals * point.shares[:rows]) * weights[0]
    asked = problem.samples_of_rates.copy()
    asked[0] -= pseudo[1] + pseudo[2]
    right = rng.binomial(np.rint(asked).astype(int), rates, (REPLICATES, *asked.shape)).astype(
        float
    )
    right[:, 0] += pseudo[1]
    second = (right - problem.samples_of_rates * rates) * weights[1]
    graded = np.maximum(np.rint(problem.graded), 1)
    drawn_right = rng.binomial(graded.astype(int), np.clip(problem.accuracy(shares, rates), 0, 1))
    expected = problem.accuracy(point.shares, rates)
    third = (drawn_right / graded - expected) * problem.graded * weights[2]
    return np.concatenate([*(x.reshape(REPLICATES, -1) for x in (first, second)), third], axis=1)


def _statistics(residuals: np.ndarray, forms: dict[str, np.ndarray], problem: Problem):
    """`(1 + REPLICATES, number)`, the data first; whose they are, and their shares of the level."""
    columns, names, weights = [], [], []
    by_pattern, half = problem.rows > 1, problem.samples.size
    for name, rows in forms.items():
        if len(rows) == 0:  # one log cannot show that the clock changes
            continue
        found = residuals @ rows.T
        spread = np.maximum(found[1:].std(axis=0), 1e-9)
        columns.append(np.max(np.abs(found / spread), axis=1))
        # Whatever moves, accuracies alone do not tell what it is.
        names.append(name if by_pattern else "accuracy")
        weights.append(_SHARES_OF_LEVEL[name] * (0.6 if name == "rates" else 1))
    of_shares, of_rates = residuals[:, :half], residuals[:, half : 2 * half]
    for name, part in (("shares", of_shares), ("rates", of_rates)) if by_pattern else ():
        columns += [np.max(np.abs(part), axis=1), np.sum(part**2, axis=1)]
        names += [name, name]
        weights += 2 * [_SHARES_OF_LEVEL[name] * (0.2 if name == "rates" else 0.5)]
    if len(problem.graded):
        columns.append(np.sum(residuals[:, 2 * half :] ** 2, axis=1))
        names.append("accuracy")
        weights.append(_SHARES_OF_LEVEL["accuracy"])
    return np.stack(columns, axis=1), names, np.array(weights)


def _levels(column: np.ndarray) -> np.ndarray:
    """Which share of all is at least as large; what rounding tells apart counts as equal."""
    ordered = np.sort(column)
    below = np.searchsorted(ordered, column - 1e-9 * (1 + np.abs(column)))
    return (len(column) - below) / len(column)


def _noisy_shares(noisy, point: Point, logs: Logs, plain: Logs) -> np.ndarray | None:
    """Of all logs, those without patterns last."""
    if noisy is None:
        return None
    steps = np.concatenate([logs.steps, plain.steps])
    order = np.argsort(steps, kind="stable")
    runs = noisy(point.shares[0], point.rates, float(np.exp(point.parameters[-1])), steps[order])
    found = np.empty_like(runs)
    found[:, order] = runs
    return found


def _least(form: np.ndarray, basis: np.ndarray, looks: int, share: float) -> float:
    """The factor of a form at which it is found in nine of ten runs, if `looks` forms have a share
    of the level; what refitting takes away is taken away."""
    seen = float(np.linalg.norm(form - basis @ (basis.T @ form)))
    needed = -ndtri(0.5 * LEVEL * share / looks) + ndtri(_POWER)
    return float(needed) / seen if seen > 1e-9 else float("inf")


def check_logs_of(
    solver: Solver,
    samples: Float[np.ndarray, " R"],
    correct: Float[np.ndarray, " R"],
    logs: Logs | None,
    *,
    scale_range: tuple[float, float],
    plain: Logs | None = None,
    prior: tuple[float, float, float] = (1.0, 1.0, 1.0),
    noisy: Callable[[np.ndarray, np.ndarray, float, np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> LogCheck:
    """Fit base model, rates and one time scale to all counts, and see whether they fit.

    **Arguments:** `samples`, `correct`: of the base model; `logs`: of later steps, all above 0;
    `scale_range`: of the time per unit of the clock, equal ends if it is known; `plain`: later
    steps of which right and wrong answers alone are known; `prior`: weights of a pattern, of right
    and of wrong answers; `noisy`: shares `(K, L, R)` of K noisy runs at rising steps, from start,
    rates, scale and steps, if the training noise is known.
    """
    logs = Logs.none(len(samples)) if logs is None else logs
    plain = Logs.none(1) if plain is None else plain
    with_patterns, without = len(logs.steps), len(plain.steps)
    if with_patterns + without > MOST_LOGS:
        most = max(1, MOST_LOGS * with_patterns // (with_patterns + without))
        logs, plain = logs.merged(most), plain.merged(MOST_LOGS - most if without else 1)
    else:
        logs, plain = logs.merged(), plain.merged()
    rng = np.random.default_rng([seed, 5])
    known = scale_range[0] == scale_range[1]
    problem = Problem(solver, samples, correct, logs, plain, prior, known)
    fits = [fitted(problem, start) for start in starts(problem, scale_range, rng)]
    _, point = min(fits, key=lambda found: found[0])
    weights = problem.weights(point.shares, point.rates)
    runs = _noisy_shares(noisy, point, logs, plain)
    data = problem.residuals(point.shares, point.rates, weights)
    all_of = np.concatenate([data[None], _replicates(problem, point, weights, runs, rng)])
    # What refitting takes away, to first order: the part along the derivatives.
    basis, values, _ = np.linalg.svd(problem.jacobian(point, weights), full_matrices=False)
    basis = basis[:, values > 1e-6 * values[0]]
    all_of -= (all_of @ basis) @ basis.T
    forms = _Forms(problem, point, logs, plain, weights)
    rows = forms.all_of()
    statistics, names, dealt = _statistics(all_of, rows, problem)
    each = adjusted(statistics, names, dealt)
    spread = float(np.mean(point.shares @ (point.rates * (1 - point.rates))))
    middle = forms.moments[len(forms.moments) // 2]
    shares = _SHARES_OF_LEVEL if with_patterns else dict.fromkeys(NAMES, 0.5)
    every = list(range(problem.number))
    drift = _least(forms.trend(every), basis, len(rows["rates"]), 0.6 * shares["rates"])
    slower = _least(forms.slower_from(middle), basis, max(1, len(rows["clock"])), shares["clock"])
    return LogCheck(
        chance=min(each.values()),
        chances=each,
        **_compared(problem, point, logs, plain),
        changes=rate_changes(samples, correct, logs),
        with_patterns=with_patterns,
        without_patterns=without,
        least_drift=drift * spread,
        least_slowing=slower,
    )


def adjusted(statistics: np.ndarray, names: list[str], dealt: np.ndarray) -> dict[str, float]:
    """The smallest of several levels, beside the smallest of every replicate (Westfall and
    Young)."""
    number = len(statistics)
    levels = np.stack([_levels(column) for column in statistics.T], axis=1) / dealt
    smallest = levels.min(axis=1)
    adjusted = [float(np.sum(smallest <= level) / number) for level in levels[0]]
    return {
        name: min(level for level, n in zip(adjusted, names, strict=True) if n == name)
        for name in NAMES
        if name in names
    }


def _compared(problem: Problem, point: Point, logs: Logs, plain: Logs) -> dict[str, np.ndarray]:
    """What was logged beside the best fit, in the order of steps."""
    steps = np.concatenate([logs.steps, plain.steps])
    order = np.argsort(steps, kind="stable")
    samples = np.concatenate([logs.samples.sum(axis=1), problem.graded])
    right = np.concatenate([logs.correct.sum(axis=1), problem.right])
    shares = np.full((len(steps), problem.number), np.nan)
    shares[: len(logs.steps)] = logs.samples / logs.samples.sum(axis=1, keepdims=True)
    found = {
        "steps": steps,
        "accuracy": right / samples,
        "expected_accuracy": point.shares[1:] @ point.rates,
        "pattern_shares": shares,
        "expected_shares": point.shares[1:],
    }
    return {name: values[order] for name, values in found.items()}


def rate_changes(
    samples: Float[np.ndarray, " R"], correct: Float[np.ndarray, " R"], logs: Logs
) -> tuple[RateChange, ...]:
    """The trend of each pattern's rate over steps, by its score: sum of (s - mean s)(k - n p).

    Its chance is that of right answers dealt out among the samples of all steps at random (an exact
    test, with half of what ties counted: the mid-p value of Lancaster 1961).
    """
    rng = np.random.default_rng(9)
    if len(logs.steps) == 0:
        return ()
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
                _chance_of(trend, steps - mean, number, right, rng),
            )
        )
    return tuple(found)


def _chance_of(trend: float, score, number, right, rng: np.random.Generator) -> float:
    """How likely a sum of scores as far out, in the same direction, is at random; by the normal law
    where there are very many samples."""
    if number.sum() > _MANY:
        return float(ndtr(-abs(trend)))
    whole = np.rint(number).astype(int)
    total = int(min(np.rint(right.sum()), whole.sum()))
    if whole.sum() == 0:
        return 0.5
    drawn = rng.multivariate_hypergeometric(whole, total, _DEALS, method="marginals") @ score
    seen = float(score @ np.minimum(np.rint(right), whole))
    # Without a trend both directions are as likely: the smaller one is meant.
    tie = 1e-9 * (1 + abs(seen))
    below, above = np.sum(drawn < seen - tie), np.sum(drawn > seen + tie)
    ties = _DEALS - below - above
    return float((min(below, above) + 0.5 * (ties + 1)) / (_DEALS + 1))
