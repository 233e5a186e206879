"""`python -m experiments.log_check`: alarms on simulated runs, written to
experiments/data/log_check.json.

A run has 1,000 steps, and 256 samples are graded at every log. Its base model is known by 800
rollouts. Two to five patterns with Dirichlet(1) shares and uniform success rates; scales such that
the flow gives its best pattern .9 at a step between 750 and 1,250, so that the run still moves
in its second half.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.integrate import solve_ivp

import qra_jax as qra
from qra_jax.diagnosis import LEVEL, Logs, Solver, Tables, check_logs_of

STEPS, SAMPLES, ROLLOUTS = 1000, 256, 800
KINDS = ("the model itself", "rates drift by .15", "the clock is halved", "collapse")
RESULTS = Path(__file__).parents[1] / "data" / "log_check.json"


def _table(rng: np.random.Generator, solver: Solver) -> tuple[np.ndarray, np.ndarray, float]:
    """Shares, success rates and the time at which the flow converges."""
    while True:
        number = int(rng.integers(2, 6))
        probs, rates = rng.dirichlet(np.ones(number)), rng.uniform(size=number)
        # The patterns of a run differ, and the run does not begin at its end.
        gap = np.diff(np.sort(rates))[-1]
        if gap > 0.05 and probs[np.argmax(rates)] < 0.5 and probs.min() > 0.002:
            times = solver.times(Tables(probs[None, None], rates[None, None]), np.ones(1))
            if times.log_convergence[0, 0] < np.log(4e4):
                return probs, rates, float(np.exp(times.log_convergence[0, 0]))


def _run(kind: int, every: int, probs, rates, scale: float, rng: np.random.Generator):
    """Shares and rates at every log."""
    steps = np.arange(every, STEPS + 1, every)
    drift = np.zeros(len(rates))
    if kind == 1:
        up = np.where(rates < 0.2, 1, np.where(rates > 0.8, -1, rng.choice([-1, 1])))
        drift = 0.15 * up

    def speed(step):
        return scale * (0.5 if kind == 2 and step > STEPS / 2 else 1.0)

    def field(step, theta):
        pi = np.exp(theta - theta.max())
        pi /= pi.sum()
        now = rates + drift * step / STEPS
        return speed(step) * pi * (now - pi @ now)

    parts, theta = [], np.log(probs)
    for first, last in ((0, STEPS // 2), (STEPS // 2, STEPS)):
        at = steps[(steps > first) & (steps <= last)]
        found = solve_ivp(field, (first, last), theta, "LSODA", t_eval=at, rtol=1e-8, atol=1e-9)
        theta = found.y[:, -1]
        parts.append(found.y.T)
    logits = np.concatenate(parts)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    now = rates + drift * steps[:, None] / STEPS
    if kind == 3:
        # A pattern that is never right takes over within 200 steps.
        middle = rng.uniform(300, 800)
        share = 0.95 / (1 + np.exp(-(steps - middle) / 40))
        shares = (1 - share)[:, None] * shares
        shares[:, np.argmin(rates)] += share
    return steps, shares, now


def _one(kind: int, every: int, index: int, seed: int, solver: Solver) -> dict[str, float]:
    rng = np.random.default_rng([seed, kind, index])
    probs, rates, time = _table(rng, solver)
    if kind == 3:
        rates[np.argmin(rates)] = 0.0
        times = solver.times(Tables(probs[None, None], rates[None, None]), np.ones(1))
        time = float(np.exp(times.log_convergence[0, 0]))
    scale = time / rng.uniform(0.75 * STEPS, 1.25 * STEPS)
    steps, shares, now = _run(kind, every, probs, rates, scale, rng)
    base = rng.multinomial(ROLLOUTS, probs)
    right = rng.binomial(base, rates)
    samples = rng.multinomial(SAMPLES, shares)
    correct = rng.binomial(samples, now)
    logs = Logs(*(x.astype(float) for x in (steps, steps, samples, correct)))
    found = check_logs_of(
        solver, base.astype(float), right.astype(float), logs, scale_range=(1e-4, 1e2), seed=index
    )
    return {"chance": found.chance, **found.chances}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, nargs=4, default=(500, 200, 200, 200))
    parser.add_argument("--every", type=int, default=10, help="steps between two logs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    solver, kinds = Solver.of(qra.RLVR(), 0.1), {}
    for kind, (name, number) in enumerate(zip(KINDS, asked.runs, strict=True)):
        found = [_one(kind, asked.every, i, asked.seed, solver) for i in range(number)]
        alarms = sum(x["chance"] < LEVEL for x in found)
        by = {key: sum(x[key] < LEVEL for x in found) for key in found[0]} if found else {}
        kinds[name] = {"runs": number, "alarms": alarms, "by": by}
        if kind == 0:
            chances = sorted(x["chance"] for x in found)
            kinds[name]["below"] = {
                str(x): sum(c < x for c in chances) for x in (0.01, 0.03, 0.05, 0.1, 0.25, 0.5)
            }
        print(name, kinds[name], flush=True)
    numbers: dict[str, Any] = {"intervals": {}}
    if asked.out.exists():
        numbers = json.loads(asked.out.read_text())
    numbers |= {"level": LEVEL, "steps": STEPS, "samples": SAMPLES, "rollouts": ROLLOUTS}
    numbers["intervals"][str(asked.every)] = {"seed": asked.seed, "kinds": kinds}
    asked.out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
