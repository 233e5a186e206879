"""`python -m experiments.signal`: the signal of groups foretold from rollouts, beside sampled
training, written to experiments/data/signal.json.

Base models of two to four patterns; a question shifts the logits of all success rates by a normal
number, so that success among questions is no beta law. What is known of a model is 8 rollouts of
each of 100 questions. Training is GRPO with Adam on the logits of shared patterns, 64 rollouts a
step, of fresh questions.

- Share of use: in the first steps of training with groups of five sizes, beside the prediction's
  99 % interval (of the law, and of the count).
- Size: steps until the accuracy has made nine tenths of its way, with groups of the recommended
  size, of half and of twice it, and of the smallest and the largest; medians over runs. Models that
  do not get there in 2,000 steps are counted apart.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom

import qra_jax as qra
from qra_jax.diagnosis import diagnose, useful_share
from qra_jax.posteriors import quantiles_of, success_spread

QUESTIONS, EACH, BUDGET, RATE = 100, 8, 64, 0.03
SIZES = (2, 4, 8, 16, 32)
RUNS, MOST, FIRST, POOL = 128, 2000, 2, 2000
WAY = 0.9
RESULTS = Path(__file__).parents[1] / "data" / "signal.json"


class Model:
    """A base model: shares, success rates, and questions whose difficulty differs."""

    def __init__(self, rng: np.random.Generator):
        number = int(rng.integers(2, 5))
        self.shares = 0.9 * rng.dirichlet(np.ones(number)) + 0.1 / number
        self.rates = rng.uniform(0.1, 0.9, number)
        self.spread = rng.uniform(0.5, 3)
        shifts = rng.normal(0, self.spread, POOL)
        self.table = expit(logit(self.rates) + shifts[:, None])

    def rollouts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Counts of some of the questions."""
        asked = rng.choice(POOL, QUESTIONS, replace=False)
        samples = rng.multinomial(EACH, self.shares, QUESTIONS)
        return samples, rng.binomial(samples, self.table[asked])

    def accuracy(self, shares: np.ndarray) -> np.ndarray:
        """Of all questions."""
        return shares @ self.table.mean(axis=0)


class Adam:
    """The usual moments, of many runs at once."""

    def __init__(self, shape: tuple[int, ...]):
        self.first, self.second, self.step = np.zeros(shape), np.zeros(shape), 0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        self.step += 1
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient**2 - self.second)
        first = self.first / (1 - 0.9**self.step)
        return RATE * first / (np.sqrt(self.second / (1 - 0.999**self.step)) + 1e-8)


def sampled(model: Model, theta: np.ndarray, size: int, rng: np.random.Generator):
    """Rewards `(runs, groups, size)` and patterns of one step of each run."""
    runs, groups = len(theta), BUDGET // size
    shares = np.exp(theta - theta.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    passed = np.cumsum(shares, axis=1)[:, None, None]
    draws = rng.random((runs, groups, size))
    pattern = np.minimum((draws[..., None] > passed).sum(axis=-1), shares.shape[1] - 1)
    question = rng.integers(POOL, size=(runs, groups, 1))
    right = rng.random((runs, groups, size)) < model.table[question, pattern]
    return right.astype(float), pattern, shares


def train(model: Model, size: int, rng: np.random.Generator, steps: int, goal: float | None):
    """Runs side by side until half of them have reached the goal, or for some steps.

    **Returns:** when each first did (in steps, linear in between; inf for those that had not when
    half of them had), and how many groups of how many were of use in the first steps.
    """
    theta = np.tile(np.log(model.shares), (RUNS, 1))
    adam, useful = Adam(theta.shape), [0, 0]
    before = np.full(RUNS, model.accuracy(model.shares))
    reached = np.full(RUNS, np.inf)
    for step in range(steps):
        right, pattern, shares = sampled(model, theta, size, rng)
        mean = right.mean(axis=-1, keepdims=True)
        deviation = right.std(axis=-1, keepdims=True)
        advantage = np.where(
            deviation > 0, (right - mean) / np.where(deviation > 0, deviation, 1), 0
        )
        if step < FIRST:
            useful[0] += int(np.sum(deviation > 0))
            useful[1] += deviation.size
        gradient = np.stack(
            [np.sum(advantage * (pattern == r), axis=(1, 2)) for r in range(shares.shape[1])],
            axis=1,
        )
        # Advantages of a group sum to 0, and so does what the baseline of the score would add.
        theta = theta + adam(gradient / BUDGET)
        if goal is None:
            continue
        weights = np.exp(theta - theta.max(axis=1, keepdims=True))
        now = model.accuracy(weights / weights.sum(axis=1, keepdims=True))
        new = (now >= goal) & np.isinf(reached)
        part = (goal - before) / np.where(now > before, now - before, 1)
        reached = np.where(new, step + part, reached)
        before = now
        if np.isfinite(reached).sum() > RUNS / 2 + 1:
            break
    return reached, useful


def predicted(samples, right, size: int, groups: int, rng: np.random.Generator):
    """A 99 % interval of the share of use among so many groups, from rollouts."""
    laws = success_spread(samples, right).draw(rng, 4000)
    share = useful_share(quantiles_of(laws, 256), size).mean(axis=1)
    counts = binom.rvs(groups, share, random_state=rng) / groups
    return np.quantile(counts, [0.005, 0.5, 0.995])


def _of_sizes(model: Model, best: int, rng: np.random.Generator) -> dict[str, float]:
    """Median steps to the goal, by what the size is to the best one."""
    start, end = model.accuracy(model.shares), model.table.mean(axis=0).max()
    goal = start + WAY * (end - start)
    sizes = {"best": best, "half": best // 2, "twice": 2 * best, "smallest": 2, "largest": BUDGET}
    found = {}
    for name, size in sizes.items():
        if 2 <= size <= BUDGET:
            found[name] = float(np.median(train(model, size, rng, MOST, goal)[0]))
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    groups = qra.SampledGroups(8, BUDGET // 8)
    within = {size: [0, 0] for size in SIZES}
    exact, models = {size: [0, 0.0, 0.0] for size in SIZES}, []
    for index in range(asked.models):
        rng = np.random.default_rng([asked.seed, index])
        model = Model(rng)
        samples, right = model.rollouts(rng)
        for size in SIZES:
            _, (useful, number) = train(model, size, rng, FIRST, None)
            low, _, high = predicted(samples.sum(axis=1), right.sum(axis=1), size, number, rng)
            within[size][0] += int(low <= useful / number <= high)
            within[size][1] += 1
            # Of the truth itself: the pattern moves little in the first two steps.
            truth = useful_share(model.table @ model.shares, size).mean()
            exact[size][0] += useful
            exact[size][1] += number * truth
            exact[size][2] += number * truth * (1 - truth)
        found = diagnose((samples, right), draws=99, groups=groups).signal
        assert found is not None
        best = found.by_size.best
        steps = _of_sizes(model, best, rng)
        expected = dict(zip(found.by_size.sizes.tolist(), found.by_size.speed.median, strict=True))
        models.append({"best": best, "steps": steps, "speed": expected})
        print(index, best, {name: round(x, 1) for name, x in steps.items()}, flush=True)
    ratios = {}
    for name in ("half", "twice", "smallest", "largest"):
        known = [x["steps"] for x in models if np.isfinite(x["steps"]["best"])]
        each = [x[name] / x["best"] for x in known if name in x]
        ratios[name] = {
            "median": round(float(np.median(each)), 4),
            "slower in": int(np.sum(np.array(each) > 1)),
            "of": len(each),
        }
    settings = {
        **{"models": asked.models, "seed": asked.seed, "questions": QUESTIONS, "each": EACH},
        **{"budget": BUDGET, "learning_rate": RATE, "runs": RUNS, "way": WAY},
    }
    numbers = {
        "share of use within 99 % of the prediction": {str(k): v for k, v in within.items()},
        "share of use less that of the truth, in standard errors": {
            str(k): round((seen - mean) / variance**0.5, 2)
            for k, (seen, mean, variance) in exact.items()
        },
        "steps beside the recommended size": ratios,
        "models that did not get there": int(sum(np.isinf(x["steps"]["best"]) for x in models)),
        "recommended": {
            str(size): sum(x["best"] == size for x in models)
            for size in sorted({x["best"] for x in models})
        },
    }
    print(json.dumps(numbers, indent=1))
    asked.out.write_text(json.dumps({**settings, **numbers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
