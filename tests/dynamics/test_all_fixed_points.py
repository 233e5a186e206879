"""No fixed point is missed: against scans of scalar equations, for penalties of 1e-6 to 1."""

import collections

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._support import all_fixed_points as reference

OBJECTIVES = qra.objectives
UTILITIES = {
    "grpo": (OBJECTIVES.GRPO(), lambda a: -0.5 * np.log(a * (1 - a))),
    "log-likelihood": (OBJECTIVES.LogLikelihood(), lambda a: -np.log(a)),
    "pass@8": (OBJECTIVES.PassAtK(8), lambda a: np.log(8) + 7 * np.log1p(-a)),
}
FAMILIES = ("mean of 2", "mean of 3", "mean of 4", *UTILITIES, "mixture", "pair")
"""What is rewarded, or how many patterns there are; a mixture is of three patterns, a pair one of
two."""


def problem_of(family: str, seed: int, number: int):
    """The `number`-th random problem: reference, rates, weight of the second reward, beta."""
    rng = np.random.default_rng([FAMILIES.index(family), seed, number])
    patterns = int(family[-1]) if family.startswith("mean") else 2 if family == "pair" else 3
    probs = rng.dirichlet(np.ones(patterns))
    rates = rng.uniform(0.02, 0.98, patterns)
    return probs, rates, rng.uniform(0.3, 3.0), 10.0 ** rng.uniform(-6, 0)


def known_points(family, probs, rates, weight, beta):
    """All of them, from the scans."""
    if family.startswith("mean"):
        return reference.of_mean(probs, rates, beta)
    if family in UTILITIES:
        return reference.of_utility(probs, rates, beta, UTILITIES[family][1])
    return reference.of_mixture(probs, rates, weight, beta)


def found_points(family, probs, rates, weight, beta):
    """All that the library finds."""
    policy, problem = qra.two_stage(probs, rates)
    reward, utility = qra.Verifiable(), UTILITIES.get(family, (None, None))[0]
    if family in ("mixture", "pair"):
        rewards = (qra.Verifiable(), OBJECTIVES.SequenceProbability())
        reward = OBJECTIVES.Mixture(rewards, jnp.stack([jnp.ones(()), weight]))
    penalty = OBJECTIVES.ReverseKL(beta)
    objective = qra.Objective(reward, utility, regularisers=(penalty,))
    return qra.fixed_points(policy, qra.GradientFlow(objective, problem))


def compare(family: str, seed: int, count: int) -> collections.Counter:
    """Of the first problems: how many points are known, missed, and found beyond those; in how many
    problems some are missed without an index sum that says so."""
    problems = [problem_of(family, seed, number) for number in range(count)]
    arrays = [jnp.asarray(np.stack(x)) for x in zip(*problems, strict=True)]
    find = jax.jit(lambda *x: jax.lax.map(lambda one: found_points(family, *one), x))
    every = jax.tree_util.tree_map(np.asarray, find(*arrays))
    tally = collections.Counter()
    for number, problem in enumerate(problems):
        found = jax.tree_util.tree_map(lambda leaf, i=number: leaf[i], every)
        points = np.where(found.face, found.log_probs, -np.inf)[found.valid]
        known = known_points(family, *problem)
        missed = reference.missing(known, points)
        masks = [found.face[0] * False for _ in range(0)]
        for face in reference.faces(points.shape[1]):
            mask = np.zeros(points.shape[1], bool)
            mask[face] = True
            masks.append(mask)
        sums = [int(found.index_sum_on(mask)) for mask in masks]
        quiet = all(total == 1 for total in sums)
        tally += collections.Counter(
            problems=1,
            known=len(known),
            missed=len(missed),
            more=len(points) - len(known) + len(missed),
            silent=int(bool(missed) and quiet),
            alarms=int(not quiet),
        )
        if missed or not quiet or len(points) != len(known) - len(missed):
            tally["cases"] += 1
            print(family, number, problem[3], len(known), len(missed), len(points), sums)
    return tally


if __name__ == "__main__":
    import sys

    n = int(sys.argv[1])
    for f in sys.argv[3:] or FAMILIES:
        import time

        t = time.process_time()
        print(f, dict(compare(f, int(sys.argv[2]), n)), time.process_time() - t, flush=True)
