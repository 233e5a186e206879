"""Policies over tokens: a gradient and a flow, in units of one pass over the columns."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import qra_jax as qra

from ._common import ratio, settings, table, take_turns, write

LENGTH, GROUP, STEPS = 32, 64, 20


def _competitors(tokens: int) -> dict[str, Callable[[], Any]]:
    logits = np.random.default_rng(tokens).normal(size=(tokens, tokens))
    policy = qra.policies.MarkovPolicy(
        logits, np.array([0]), LENGTH, patterns=np.arange(tokens) % 3
    )
    problem = qra.Problem(np.array([1]))
    flow = qra.GradientFlow(qra.RLVR(), problem, "all")
    sampler, key = qra.SampledGroups(GROUP), jax.random.key(0)

    @jax.jit
    def value(logits):
        now = qra.policies.MarkovPolicy(logits, policy.start, LENGTH, patterns=policy.pattern_of)
        return problem.mean(now.expectation(qra.Verifiable(), problem))

    @jax.jit
    def train(policy):
        return qra.train(policy, flow, optax.sgd(1.0), STEPS, sampler=sampler, key=key).accuracy

    @jax.jit
    def solve(policy):
        return qra.solve_flow(policy, flow, log_times=jnp.linspace(-1, 10, 12)).accuracy

    gradient = jax.jit(jax.value_and_grad(value))
    return {
        "value": lambda: value(policy.logits),
        "value and gradient": lambda: gradient(policy.logits),
        f"{STEPS} sampled steps": lambda: train(policy),
        "flow to log time 10": lambda: solve(policy),
    }


def main() -> None:
    """Time a value with its gradient, sampled steps and a flow, for growing vocabularies."""
    quick = settings(__doc__)
    rows = []
    for tokens in (8, 16) if quick else (16, 32, 64, 128):
        competitors = _competitors(tokens)
        for call in competitors.values():
            jax.block_until_ready(call())
        seconds = take_turns(competitors, 3 if quick else 7)
        row = {"V": tokens}
        for name, spent in seconds.items():
            row[f"{name}, ms"] = 1e3 * float(np.median(spent))
        row["gradient / value"] = ratio(seconds["value and gradient"], seconds["value"])
        rows.append(row)
    print(table(rows))
    config = {"L": LENGTH, "context": 1, "group size": GROUP, "questions": 1}
    write("tokens", config, {"rows": rows}, quick)


if __name__ == "__main__":
    main()
