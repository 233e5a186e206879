"""The equations of training as it is run, against many sampled runs.

`python -m experiments.small_steps` writes experiments/data/small_steps.json (some minutes on two
cores): the equation of Adam in the mean at three learning rates beside 4,096 sampled runs each, and
the diffusion of plain gradient ascent beside sampled groups at three ratios of the learning rate to
the group size. Settings were chosen before results were seen.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
import optax

import qra_jax as qra
from qra_jax.training import RLOO, MeanFieldAdam, solve_diffusion, solve_mean_field

from ._lab.start import CHECK_PROBS, CHECK_RATES

RESULTS = Path(__file__).parent / "data" / "small_steps.json"
RATES = (0.04, 0.02, 0.01)
RATIOS = (0.05, 0.2, 0.4)
_RUNS, _PATHS, _GROUP, _HORIZON = 4096, 2000, 8, 400.0
_LENGTH, _ROWS = 6.0, 13  # of a run by Adam: learning rate times steps, and rows
_Z99 = 2.5758293035489004


def _sampled(optimiser, number: int, sampler, runs: int, rows: int):
    """Accuracies `(runs, rows)` and shares of the best pattern at the end, in blocks."""
    policy, problem = qra.two_stage(np.array(CHECK_PROBS), np.array(CHECK_RATES))
    best = int(np.argmax(CHECK_RATES))

    @jax.jit
    def block(keys):
        def run(key):
            found = qra.train(
                policy, problem, optimiser, number, sampler=sampler, key=key, rows=rows
            )
            return found.accuracy, found.pattern_probs[-1, 0, best]

        return jax.vmap(run)(keys)

    keys = jax.random.split(jax.random.key(1), runs)
    parts = [block(keys[i : i + 512]) for i in range(0, runs, 512)]
    return tuple(np.concatenate([np.asarray(x[i]) for x in parts]) for i in range(2))


def mean_field(rate: float, runs: int = _RUNS) -> dict:
    """The farthest of twelve rows of the equation from the mean of runs; memories last as long in
    the cumulated rate at every learning rate."""
    policy, problem = qra.two_stage(np.array(CHECK_PROBS), np.array(CHECK_RATES))
    sampler = qra.SampledGroups(_GROUP, batch=32, estimator=RLOO())
    number = round(_LENGTH / rate)
    b1, b2 = 1 - 2.5 * rate, 1 - 0.5 * rate
    steps = np.linspace(0, number, _ROWS).round()[1:]
    adam = MeanFieldAdam(rate, b1, b2)
    found = np.asarray(solve_mean_field(policy, problem, sampler, adam, steps=steps).accuracy)
    did, _ = _sampled(optax.adam(rate, b1=b1, b2=b2), number, sampler, runs, _ROWS)
    apart = np.abs(found - did.mean(axis=0)[1:])
    noise = did.std(axis=0)[1:] / runs**0.5
    at = int(apart.argmax())
    return {
        "rate": rate,
        "runs": runs,
        "step": int(steps[at]),
        "apart": round(float(apart[at]), 5),
        "standard_error": round(float(noise[at]), 5),
        "mean_apart": round(float(apart.mean()), 5),
        "mean_standard_error": round(float(noise.mean()), 5),
    }


def order(rows: list[dict]) -> float:
    """The power of the learning rate with which the mean distance falls, by least squares."""
    rates, apart = (np.log([row[name] for row in rows]) for name in ("rate", "mean_apart"))
    return round(float(np.polyfit(rates, apart, 1)[0]), 2)


def _interval(a: float, b: float, number: int) -> list[float]:
    """99 % of the difference of two shares."""
    half = _Z99 * np.sqrt((a * (1 - a) + b * (1 - b)) / number)
    return [round(float(x), 4) for x in (a - b - half, a - b + half)]


def diffusion(ratio: float, paths: int = _PATHS) -> dict:
    """How often the best pattern is lost, and mean and spread of the accuracy at the end of a third
    and of the whole run, by the diffusion and by sampled groups."""
    policy, problem = qra.two_stage(np.array(CHECK_PROBS), np.array(CHECK_RATES))
    sampler = qra.SampledGroups(_GROUP, estimator=RLOO())
    rate, best = ratio * _GROUP, int(np.argmax(CHECK_RATES))
    number = round(_HORIZON / rate)
    rows = 21
    times = np.linspace(0, _HORIZON, rows)[1:]
    paths_of = solve_diffusion(
        policy, problem, sampler, rate, jax.random.key(2), times=times, num_paths=paths
    )
    did, share = _sampled(optax.sgd(rate), number, sampler, paths, rows)
    foretold = float(np.mean(np.asarray(paths_of.pattern_probs)[:, -1, 0, best] < 0.5))
    lost = float(np.mean(share < 0.5))
    accuracy = np.asarray(paths_of.accuracy)
    out: dict = {
        "ratio": ratio,
        "learning_rate": rate,
        "paths": paths,
        "lost": {"diffusion": foretold, "groups": lost, "99 %": _interval(foretold, lost, paths)},
    }
    for row in (7, 20):
        out[f"t = {times[row - 1]:g}"] = {
            "mean": [round(float(x[:, row].mean()), 4) for x in (accuracy, did)],
            "spread": [round(float(x[:, row].std()), 4) for x in (accuracy, did)],
        }
    return out


def main() -> None:
    """Compute all, and write it."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(prog="python -m experiments.small_steps", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found: dict = {"diffusion": [], "adam": []}
    for name, values, compute in (
        ("diffusion", RATIOS, diffusion),
        ("adam", RATES, mean_field),
    ):
        for value in values:
            found[name].append(compute(value))
            print(json.dumps(found[name][-1]), flush=True)
    found["order"] = order(found["adam"])
    asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
