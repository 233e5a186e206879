"""The study's runs by Adam, foretold from the base model's rollouts with their own optimiser; and
what simple curves foretell from the same logs."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import expit
from scipy.stats import rankdata

from qra_jax.diagnosis import Head, TrainingRun, forecast_run
from qra_jax.posteriors import QuestionSpread, pooled_posterior, question_spread

from ._bases import SHIPPED_BASE, load
from ._compare import inside
from ._results import SHIPPED
from ._run import EVERY
from ._said import rollouts_of
from ._study import KINDS
from ._task import HELD_OUT, NUM_PATTERNS

OWN = ("adam", "rlvr", "brief")
"""Kinds of runs by an optimiser that divides by the size of gradients."""
PLAIN = ("table", "gradient", "grouped")
"""Kinds of runs by plain gradient ascent."""
HEAD = Head(norm=75.0, width=64, feature_rate=(100.0, 277.0), row_spread=(0.0027, 0.0075))
"""Measured on base model E (`python -m experiments.language_model.probe`), within a factor of 1.67;
how far the pace wanders was chosen on half of the base models (docs/training.md)."""
PLAIN_HEAD = Head(norm=75.0, width=64, length=11.0, rate=(0.8, 1.25), wander=0.0)
"""The same model's |h|_2, within a factor of 1.25; chosen before any run was foretold with it. A
table has no pace that wanders."""
_SAMPLES = 8 * len(HELD_OUT)
_LEVELS = np.linspace(0.05, 0.95, 19)


class Foretold(NamedTuple):
    """Of one run: points `(N, L)` of the accuracy at its evaluations, N of them evenly spaced from
    5 % to 95 %."""

    points: Float[np.ndarray, "N L"]

    @property
    def low(self) -> Float[np.ndarray, " L"]:
        return self.points[0]

    @property
    def median(self) -> Float[np.ndarray, " L"]:
        return self.points[len(self.points) // 2]

    @property
    def high(self) -> Float[np.ndarray, " L"]:
        return self.points[-1]


def forecast_of(
    samples: Float[np.ndarray, " R"],
    correct: Float[np.ndarray, " R"],
    spread: QuestionSpread,
    kind: str,
    head: Head,
    particles: int,
    seed: int,
    logs: tuple[np.ndarray, np.ndarray] | None = None,
) -> Foretold:
    """A run of 300 steps, from the counts of a base model's rollouts.

    **Arguments:** `logs`: if any, rows of steps, right answers and samples, and counts of patterns.
    """
    how = KINDS[kind].how
    logged, patterns = (None, None) if logs is None else logs
    run = TrainingRun(300, optimiser=how.optimiser, head=head, sampler=how.sampler,
                      particles=particles, logged=logged, logged_patterns=patterns)  # fmt: skip
    posterior = pooled_posterior(jnp.asarray(samples), jnp.asarray(correct))
    found = forecast_run(posterior, run, spread=spread, seed=seed)
    looks = np.searchsorted(found.steps, np.arange(0, 301, EVERY))
    assert found.accuracy_quantiles is not None
    return Foretold(found.accuracy_quantiles[:, looks])


def own_forecast(
    base: xr.Dataset,
    spread: QuestionSpread,
    kind: str,
    seed: int | None,
    head: Head = HEAD,
    particles: int = 4000,
) -> Foretold:
    """A run of the study, from its base model's rollouts and, if a seed is given, the evaluations
    of the first tenth of that run."""
    samples = base["said_shares"].values.astype(float) * _SAMPLES
    correct = np.minimum(samples * base["said_rates"].values, samples)
    logs = None
    if seed is not None:
        number = len(HELD_OUT)
        seen = base.sel({"kind": kind, "seed": seed, "look": slice(0, 30)})
        patterns = np.round(number * seen["held_shares"].values[:, :NUM_PATTERNS])
        right = np.round(number * seen["held_accuracy"].values)
        steps = seen["look"].values
        logs = np.stack([steps, right, np.full(len(right), number)], axis=1), patterns
    name = ord(str(base["base"].values))
    return forecast_of(samples, correct, spread, kind, head, particles, name, logs)


def measured_spread() -> QuestionSpread:
    """The spread of success rates over questions, from rollouts of the base model that is shipped:
    those of the others were not kept, and the task is the same."""
    model = load(SHIPPED / f"base_{SHIPPED_BASE}.eqx")
    key = jax.random.fold_in(jax.random.key(ord(SHIPPED_BASE)), 77)
    return question_spread(*(x.astype(float) for x in rollouts_of(model, key, 8).counts()))


Curve = Callable[[Float[np.ndarray, "D P"], Float[np.ndarray, " T"]], Float[np.ndarray, "D T"]]
_DRAWS, _MOVES = 1000, 10


def _between(low: float, high: float, place: np.ndarray) -> np.ndarray:
    """Numbers equally likely in their logarithm, from places in (0, 1)."""
    # Places out of (0, 1) are refused, wherever they lead.
    return low * (high / low) ** np.clip(place, 0, 1)


def _exponential(u, steps):
    begin, end, pace = u[:, :1], u[:, 1:2], _between(10, 3000, u[:, 2:3])
    return end - (end - begin) * np.exp(-steps / pace)


def _sigmoid(u, steps):
    begin, end, middle = u[:, :1], u[:, 1:2], np.log(_between(10, 3000, u[:, 2:3]))
    power = _between(0.5, 8, u[:, 3:])
    return begin + (end - begin) * expit(power * (np.log(np.maximum(steps, 1e-9)) - middle))


def _logits(u, steps):
    return expit(12 * (u[:, :1] - 0.5) + 0.2 * (u[:, 1:] - 0.5) * steps)


OPPONENTS: dict[str, tuple[int, Curve]] = {
    "last value": (1, lambda u, steps: np.tile(u, len(steps))),
    "exponential approach": (3, _exponential),
    "sigmoid in log steps": (4, _sigmoid),
    "linear logits": (2, _logits),
}
"""Curves of the accuracy, with how many parameters, each equally likely in (0, 1) beforehand:
levels as they are, times in their logarithm from 10 to 3,000 steps, powers in theirs from .5 to 8,
logits from -6 to 6 and their slopes from -.1 to .1 a step."""


def opponent_forecast(name: str, accuracy: np.ndarray, seed: int) -> Foretold:
    """A curve fitted to the evaluations of the first tenth (the last value: to the last of these).

    Draws of its parameters from their posterior, binomial likelihood, by sequential Monte Carlo:
    the likelihood is raised to a power that grows to 1 as fast as half of the draws keep counting,
    and after each step draws are resampled and moved by Metropolis' rule.
    """
    rng = np.random.default_rng([seed, list(OPPONENTS).index(name)])
    size, curve = OPPONENTS[name]
    number, seen = len(HELD_OUT), 1 + 30 // EVERY
    first = seen - 1 if name == "last value" else 0
    steps = np.arange(first, seen) * float(EVERY)
    right = np.round(number * accuracy[first:seen])

    def likelihood(u):
        chance = np.clip(curve(u, steps), 1e-9, 1 - 1e-9)
        found = right @ np.log(chance).T + (number - right) @ np.log1p(-chance).T
        return np.where(np.all((u > 0) & (u < 1), axis=1), found, -np.inf)

    draws = rng.uniform(size=(_DRAWS, size))
    logs, power = likelihood(draws), 0.0
    while power < 1:
        rise = 1 - power

        def weights(rise, logs=logs):
            found = np.exp(rise * (logs - logs.max()))
            return found / found.sum()

        while 1 / np.sum(weights(rise) ** 2) < _DRAWS / 2:
            rise /= 1.5
        power += rise
        kept = np.searchsorted(np.cumsum(weights(rise)), (np.arange(_DRAWS) + 0.5) / _DRAWS)
        kept = np.minimum(kept, _DRAWS - 1)
        draws, logs = draws[kept], logs[kept]
        root = np.linalg.cholesky(np.atleast_2d(np.cov(draws.T)) + 1e-12 * np.eye(size))
        for move in range(_MOVES):
            reach = (1.0, 0.3, 0.1)[move % 3]
            tried = draws + reach * rng.normal(size=draws.shape) @ root.T
            new = likelihood(tried)
            taken = np.log(rng.uniform(size=_DRAWS)) < power * (new - logs)
            draws, logs = np.where(taken[:, None], tried, draws), np.where(taken, new, logs)
    ahead = curve(draws, np.arange(0, 301, EVERY).astype(float))
    return Foretold(np.quantile(ahead, _LEVELS, axis=0))


class Score(NamedTuple):
    """Of many runs, evaluations at steps 40 to 300: the share in the 90 % band, the median width of
    it, and the mean CRPS, twice the mean pinball loss of the points (Gneiting and Ranjan 2011,
    equation 11)."""

    covered: float
    width: float
    crps: float


def score(forecasts: Sequence[Foretold], accuracies: Sequence[np.ndarray]) -> Score:
    """**Arguments:** bands, and the held-out accuracies of the runs, at the same evaluations."""
    later = slice(1 + 30 // EVERY, None)
    covered, widths, losses = [], [], []
    for band, did in zip(forecasts, accuracies, strict=True):
        covered.append(inside(did, band.low, band.high, len(HELD_OUT))[later])
        widths.append((band.high - band.low)[later])
        off = (did - band.points)[:, later]
        level = np.linspace(0.05, 0.95, len(band.points))[:, None]
        losses.append(2 * np.where(off > 0, level * off, (level - 1) * off))
    return Score(
        float(np.mean(covered)), float(np.median(np.concatenate(widths))), float(np.mean(losses))
    )


def time_of(curve: Float[np.ndarray, " L"], level: float) -> float:
    """The first step at which a curve through evaluations has a level, infinite if none."""
    steps = np.arange(EVERY * (len(curve) - 1) + 1)
    above = np.interp(steps, EVERY * np.arange(len(curve)), curve) >= level
    return float(np.argmax(above)) if above.any() else np.inf


def compared(
    data: xr.Dataset,
    kinds: Sequence[str] = (*PLAIN, *OWN),
    heads: tuple[Head, Head] = (PLAIN_HEAD, HEAD),
    particles: int = 4000,
) -> Iterator[dict]:
    """For each kind of run: order of times without a fit, and scores of ours and of the opponents
    from the first tenth of each run, for the strong half of the base models, the other, and all.

    **Arguments:** `heads`: for plain gradients, and for optimisers that divide by their size.
    """
    spread = measured_spread()
    names = [str(name) for name in data["base"].values]
    halves = {"A to D": names[:4], "E to H": names[4:], "all": names}
    for kind in kinds:
        head = heads[kind in OWN]
        times, did, ours, others, held = [], [], {}, {x: {} for x in OPPONENTS}, {}
        for name in names:
            base = data.sel(base=name)
            blind = own_forecast(base, spread, kind, None, head, particles)
            times.append(time_of(blind.median, 0.9 * float(base["said_rates"].max())))
            did.append(float(base["times"].sel(kind=kind).median()))
            for seed in range(data.sizes["seed"]):
                run = base["held_accuracy"].sel(kind=kind, seed=seed).values.astype(float)
                held[name, seed] = run
                ours[name, seed] = own_forecast(base, spread, kind, seed, head, particles)
                for other, of in others.items():
                    of[name, seed] = opponent_forecast(other, run, ord(name) + 1000 * seed)
        order = float(np.corrcoef(rankdata(times), rankdata(did))[0, 1])
        found: dict = {"kind": kind, "foretold": times, "did": did, "order": order}
        for half, of in halves.items():
            keys = [key for key in held if key[0] in of]
            found[half] = {
                label: score([bands[key] for key in keys], [held[key] for key in keys])._asdict()
                for label, bands in {"factor table": ours, **others}.items()
            }
        yield found
