"""`python -m experiments.clusters`: coverage of 90 % intervals with questions that differ, written
to experiments/data/clusters.json.

Base models of two to four patterns, 100 questions of 8 rollouts. Success rates of a question are
beta, of mean p_r and intra-question correlation rho, by one common rank of difficulty; shares are
Dirichlet around pi with the same correlation, independent of difficulty. "Before" is the posterior
of independent rollouts, "after" the one that resamples questions.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from scipy import stats

import qra_jax as qra
from qra_jax.diagnosis import Solver, Tables
from qra_jax.posteriors import clustered_posterior, pooled_posterior, within_questions

QUESTIONS, EACH, DRAWS, PATTERNS = 100, 8, 399, 4
CORRELATIONS = (0.0, 0.15, 0.3, 0.6)
RESULTS = Path(__file__).parents[1] / "data" / "clusters.json"
_draw = eqx.filter_jit(lambda posterior, key: posterior.draw(key, DRAWS))


def _rollouts(rng: np.random.Generator, rho: float):
    """Samples, right ones, and the true table: the mean over all questions."""
    number = int(rng.integers(2, PATTERNS + 1))
    probs, rates = rng.dirichlet(np.full(number, 2.0)), rng.uniform(0.05, 0.95, number)
    if rho == 0:
        shares = np.tile(probs, (QUESTIONS, 1))
        own = np.tile(rates, (QUESTIONS, 1))
    else:
        strength = (1 - rho) / rho
        shares = rng.dirichlet(probs * strength, QUESTIONS)
        rank = rng.uniform(size=(QUESTIONS, 1))
        own = stats.beta(rates * strength, (1 - rates) * strength).ppf(rank)
    samples = np.stack([rng.multinomial(EACH, x) for x in shares])
    correct = rng.binomial(samples, own)
    pad = ((0, 0), (0, PATTERNS - number))
    exists = np.arange(PATTERNS) < number
    return (
        np.pad(samples, pad).astype(float),
        np.pad(correct, pad).astype(float),
        probs,
        rates,
        exists,
    )


def _covered(truth, draws) -> list[int]:
    """Inside, and looked at."""
    draws = np.sort(draws[~np.isnan(draws)])
    first = int(0.05 * (len(draws) + 1))
    return [int(draws[first - 1] <= truth <= draws[-first]), 1]


def _model(rng, rho: float, solver: Solver, key) -> dict[str, dict[str, list]]:
    samples, correct, probs, rates, exists = _rollouts(rng, rho)
    number = len(probs)
    within = within_questions(samples[:, :number], correct[:, :number])
    posteriors = {
        "before": pooled_posterior(samples, correct, exists=exists),
        "after": clustered_posterior(samples, correct, exists=exists, within=within),
    }
    truth = solver.times(Tables(probs[None, None], rates[None, None]), np.ones(1))
    found = {}
    for name, posterior in posteriors.items():
        drawn = (np.asarray(x)[..., :number] for x in _draw(posterior, key))
        tables = Tables(*drawn)
        times = solver.times(tables, np.ones(1)).log_convergence[:, 0]
        found[name] = {
            "accuracy": [_covered(probs @ rates, tables.accuracy[:, 0])],
            "share of a pattern": [_covered(probs[0], tables.probs[:, 0, 0])],
            "success rate of a pattern": [
                _covered(rates[r], tables.rates[:, 0, r]) for r in range(number)
                if samples[:, r].sum() > 0
            ],
            "convergence time": [_covered(truth.log_convergence[0, 0], times)],
        }  # fmt: skip
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    solver, numbers = Solver.of(qra.RLVR(), 0.1), {}
    for case, rho in enumerate(CORRELATIONS):
        sums: dict = {}
        for index in range(asked.models):
            rng = np.random.default_rng([asked.seed, case, index])
            found = _model(rng, rho, solver, jax.random.key(index))
            for when, parts in found.items():
                for what, pairs in parts.items():
                    old = sums.setdefault(when, {}).setdefault(what, [0, 0])
                    for pair in pairs:
                        old[0] += pair[0]
                        old[1] += pair[1]
        numbers[str(rho)] = {
            when: {what: {"coverage": round(x / n, 4), "of": n} for what, (x, n) in parts.items()}
            for when, parts in sums.items()
        }
        print(rho, numbers[str(rho)], flush=True)
    settings = {"models": asked.models, "questions": QUESTIONS, "each": EACH, "seed": asked.seed}
    asked.out.write_text(json.dumps({**settings, "correlations": numbers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
