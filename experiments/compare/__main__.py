"""`python -m experiments.compare`: what pairs gain, and whether the order of times is called right
as often as stated, written to experiments/data/compare.json and docs/compare.png.

Pairs of base models of two to four patterns on the same 100 questions of 8 rollouts. Success rates
of a question are beta, of mean p_r and intra-question correlation .5, by one rank of difficulty
that both models share. The second model has the shares and rates of the first, moved in logits by
normal numbers of deviation .7 and .4.

- Width: of the 90 % interval of the difference in accuracy, beside that of two independent models
  (the root of the sum of squares of their own widths), and whether it holds the truth.
- Order: the stated probability that the first converges sooner, beside how often it does.
"""

import argparse
import itertools
import json
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit, logit
from scipy.stats import beta

import qra_jax as qra
from qra_jax import plot
from qra_jax.diagnosis import Solver, Tables, compare

QUESTIONS, EACH, CORRELATION, DRAWS = 100, 8, 0.5, 199
MOVED = 0.7, 0.4
EDGES = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
RESULTS = Path(__file__).parents[1] / "data" / "compare.json"
FIGURE = Path(__file__).parents[2] / "docs" / "compare.png"


def _models(rng: np.random.Generator):
    """Shares and success rates of both, `(2, R)`."""
    number = int(rng.integers(2, 5))
    shares, rates = rng.dirichlet(np.ones(number)), rng.uniform(0.05, 0.95, number)
    logits = np.log(shares) + MOVED[0] * rng.normal(size=number)
    other = np.exp(logits) / np.exp(logits).sum()
    moved = expit(logit(rates) + MOVED[1] * rng.normal(size=number))
    return np.stack([shares, other]), np.stack([rates, moved])


def _rollouts(rng, shares, rates, rank) -> qra.Rollouts:
    strength = (1 - CORRELATION) / CORRELATION
    own = beta(rates * strength, (1 - rates) * strength).ppf(rank[:, None])
    samples = rng.multinomial(EACH, shares, QUESTIONS)
    correct = rng.binomial(samples, own)
    cells = np.stack([samples - correct, correct], axis=-1)
    question, pattern, right = np.nonzero(cells)
    names = (tuple(map(str, range(QUESTIONS))), tuple(map(str, range(len(shares)))))
    count = cells[question, pattern, right]
    return qra.Rollouts(*names, question, pattern, right.astype(bool), count)


def _one(rng: np.random.Generator, solver: Solver) -> dict[str, float]:
    shares, rates = _models(rng)
    rank = rng.uniform(size=QUESTIONS)
    both = {
        name: _rollouts(rng, own, right, rank)
        for name, own, right in zip("ab", shares, rates, strict=True)
    }
    found = compare(both, ks=(1,), draws=DRAWS, seed=int(rng.integers(1 << 30)))
    now, times = found.quantities["accuracy now"], found.quantities["time to converge"]
    width = now.each.high - now.each.low
    truth = np.sum(shares * rates, axis=1)
    true_times = solver.times(Tables(shares[:, None], rates[:, None]), np.ones(1))
    first, second = true_times.log_convergence[:, 0]
    return {
        "ratio": float((now.less.high - now.less.low)[0, 1] / np.hypot(*width)),
        "covered": bool(now.less.low[0, 1] <= truth[0] - truth[1] <= now.less.high[0, 1]),
        "stated": float(times.above[1, 0]),
        "sooner": bool(first < second),
    }


def _figure(bins: list[dict]) -> Figure:
    with plot.style():
        figure = Figure(figsize=(3.4, 3.2))
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color=plot.THEORY, ls=":", lw=0.9, label="exact")
        stated, seen, number = (
            np.array([x[name] for x in bins]) for name in ("stated", "seen", "of")
        )
        error = 1.96 * np.sqrt(stated * (1 - stated) / number)
        ax.errorbar(stated, seen, error, fmt="o", lw=0.8, label="pairs, with 95 % ranges")
        ax.set(xlabel="stated probability that the first is sooner", ylabel="how often it was",
               xlim=(-0.02, 1.02), ylim=(-0.05, 1.05))  # fmt: skip
        ax.set_title("The stated order of times can be trusted")
        ax.legend(loc="upper left")
    return figure


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    solver, rows = Solver.of(qra.RLVR(), 0.1), []
    for index in range(asked.pairs):
        rows.append(_one(np.random.default_rng([asked.seed, index]), solver))
        if index % 20 == 19:
            print(index + 1, np.median([x["ratio"] for x in rows]), flush=True)
    ratio, covered, stated, sooner = (np.array([x[k] for x in rows], float) for k in rows[0])
    bins = []
    for low, high in itertools.pairwise(EDGES):
        within = (stated >= low) & ((stated < high) | (high == 1))
        if within.any():
            mean, seen = stated[within].mean(), sooner[within].mean()
            bins.append({"stated": round(float(mean), 3), "seen": round(float(seen), 3),
                         "of": int(within.sum())})  # fmt: skip
    # What probabilities that are exact would score, by drawing outcomes from them.
    rng = np.random.default_rng(0)
    exact = np.mean((rng.random((4000, len(stated))) < stated).astype(float) - stated, axis=1)
    scores = np.mean(((rng.random((4000, len(stated))) < stated) - stated) ** 2, axis=1)
    numbers = {
        "settings": {"pairs": asked.pairs, "seed": asked.seed, "questions": QUESTIONS,
                     "each": EACH, "correlation": CORRELATION, "draws": DRAWS},
        "width beside independent models": {
            name: round(float(np.quantile(ratio, level)), 3)
            for name, level in (("median", 0.5), ("5 %", 0.05), ("95 %", 0.95))
        },
        "at most half": int(np.sum(ratio <= 0.5)),
        "truth within 90 %": round(float(covered.mean()), 3),
        "order of times": bins,
        "mean of outcome less stated": {
            "found": round(float(np.mean(sooner - stated)), 4),
            "95 % range if exact": np.quantile(exact, [0.025, 0.975]).round(4).tolist(),
        },
        "Brier score": {
            "found": round(float(np.mean((sooner - stated) ** 2)), 4),
            "95 % range if exact": np.quantile(scores, [0.025, 0.975]).round(4).tolist(),
        },
    }  # fmt: skip
    print(json.dumps(numbers, indent=1))
    asked.out.write_text(json.dumps(numbers, indent=1) + "\n")
    figure = _figure(bins)
    with plot.style():
        figure.savefig(asked.figure)


if __name__ == "__main__":
    main()
