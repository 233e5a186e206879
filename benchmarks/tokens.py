"""Policies over tokens: a gradient and a flow, in units of one pass over the columns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import qra_jax as qra

from ._common import ratio, settings, table, take_turns, write

LENGTH, GROUP = 32, 64


def main() -> None:
    """Time a value with its gradient, sampled steps and a flow, for growing vocabularies."""
    quick = settings(__doc__)
    rows = []
    for tokens in (8, 16) if quick else (16, 32, 64, 128):
        logits = np.random.default_rng(tokens).normal(size=(tokens, tokens))
        policy = qra.MarkovPolicy(logits, np.array([0]), LENGTH, patterns=np.arange(tokens) % 3)
        problem = qra.Problem(np.array([1]))
        flow = qra.GradientFlow(qra.RLVR(), problem, "all")
        times = jnp.linspace(-1, 10, 12)
        sampler = qra.SampledGroups(GROUP)
        steps = 20

        @jax.jit
        def value(logits, policy=policy, problem=problem):
            now = qra.MarkovPolicy(logits, policy.start, LENGTH, patterns=policy.pattern_of)
            return problem.mean(now.expectation(qra.Verifiable(), problem))

        gradient = jax.jit(jax.value_and_grad(value))
        solve = jax.jit(lambda p, flow=flow: qra.solve_flow(flow, p, log_times=times).accuracy)
        train = jax.jit(
            lambda p, flow=flow: qra.train(
                flow, p, optax.sgd(1.0), steps, sampler=sampler, key=jax.random.key(0)
            ).accuracy
        )
        competitors = {
            "value": lambda v=value, x=policy.logits: v(x),
            "value and gradient": lambda g=gradient, x=policy.logits: g(x),
            f"{steps} sampled steps": lambda t=train, p=policy: t(p),
            "flow to log time 10": lambda s=solve, p=policy: s(p),
        }
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
