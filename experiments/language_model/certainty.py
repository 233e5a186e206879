"""Why the end of RLIF by self-certainty cannot be foreseen from rollouts, and what logs show of it.

`python -m experiments.language_model.certainty` writes experiments/data/certainty.json (a minute on
two cores): two models of the answers that agree with every rollout of base model E and end apart,
and in the study's runs the evaluation at which the success rate of a pattern has visibly fallen,
beside that at which the accuracy has fallen below its start.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Float, Int

from qra_jax.rollouts import Rollouts

from ._bases import SHIPPED_BASE, load
from ._results import SHIPPED, read_study
from ._run import EVERY
from ._said import rollouts_of
from ._task import HELD_OUT, NUM_PATTERNS

RESULTS = Path(__file__).parents[1] / "data" / "certainty.json"
FALL, LOSS = 4.0, 2.33
"""Standard deviations by which a rate has visibly fallen, and by which the accuracy is below its
start: chosen before the runs were looked at by them. The first is large as it is asked of four
patterns at thirty evaluations."""
_PSEUDO = 0.01
_QUESTIONS, _STEPS, _RATE = 300, 600, 5.0


class Answers(NamedTuple):
    """What rollouts say of answers: shares of patterns and their mean confidence, and of each
    question and pattern how often each answer came, how much it counts, and which answer is right
    (-1 if none was)."""

    shares: Float[Array, " R"]
    confidence: Float[Array, " R"]
    table: Float[Array, "Q R A"]
    weights: Float[Array, "Q R"]
    right: Int[Array, " Q"]

    @classmethod
    def of(cls, rollouts: Rollouts) -> "Answers":
        assert rollouts.answer is not None
        assert rollouts.confidence is not None
        at = rollouts.question, rollouts.pattern, rollouts.answer
        sizes = len(rollouts.questions), NUM_PATTERNS, len(rollouts.answers)
        counts = np.zeros(sizes)
        np.add.at(counts, at, rollouts.count)
        right = np.full(sizes[0], -1)
        right[rollouts.question[rollouts.correct]] = rollouts.answer[rollouts.correct]
        each = counts.sum(axis=-1)
        table = (counts + _PSEUDO / sizes[2]) / (each + _PSEUDO)[..., None]
        weights = each / each.sum(axis=0)
        shares = each.sum(axis=0) / each.sum()
        certain = np.bincount(rollouts.pattern, rollouts.confidence * rollouts.count, NUM_PATTERNS)
        confidence = certain / each.sum(axis=0)
        return cls(*(jnp.asarray(x) for x in (shares, confidence, table, weights, right)))

    def accuracy(self, log_shares, log_table) -> Float[Array, ""]:
        """Of questions weighed as the rollouts are."""
        found = jnp.take_along_axis(log_table, jnp.maximum(self.right, 0)[:, None, None], axis=-1)
        rates = jnp.where(self.right[:, None] >= 0, jnp.exp(found[..., 0]), 0)
        return jnp.sum(jnp.exp(log_shares) * jnp.sum(self.weights * rates, axis=0))


def ends(answers: Answers, shared: bool) -> Float[np.ndarray, " N"]:
    """The accuracy over steps of plain gradient ascent on the mean self-certainty: of each pattern
    the confidence of its rollouts, and what KL(uniform || answers) has gained since.

    **Arguments:** `shared`: whether the answers of all questions move together, as they do by the
    bias of a last layer, or those of each question by themselves. At step 0 both are the rollouts.
    """
    first = jnp.log(answers.table)
    moved = jnp.zeros((1 if shared else first.shape[0], *first.shape[1:]))
    optimiser = optax.sgd(_RATE)
    begun = answers.confidence + jnp.sum(answers.weights * jnp.mean(first, axis=-1), axis=0)

    def tables(params):
        logits, more = params
        return jax.nn.log_softmax(logits), jax.nn.log_softmax(first + more)

    def loss(params):
        log_shares, log_table = tables(params)
        gained = jnp.sum(answers.weights * -jnp.mean(log_table, axis=-1), axis=0)
        return -jnp.sum(jnp.exp(log_shares) * (begun + gained))

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            update, state = optimiser.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, update), state), answers.accuracy(*tables(params))

        return jax.lax.scan(step, (params, optimiser.init(params)), None, _STEPS)[1]

    return np.asarray(run((jnp.log(answers.shares), moved)))


def _first(flags: Float[np.ndarray, " L"]) -> int | None:
    """The step of the first evaluation that is flagged."""
    return EVERY * int(np.argmax(flags)) if np.any(flags) else None


def alarms(run: xr.Dataset) -> dict[str, int | None]:
    """Of the evaluations of a run, the steps at which some pattern's success rate has fallen from
    that of step 0, the accuracy is at its largest, and it has fallen below its start."""
    number = len(HELD_OUT)
    accuracy = run["held_accuracy"].values.astype(float)
    rates, shares = (run[f"held_{x}"].values[:, :NUM_PATTERNS] for x in ("rates", "shares"))
    samples = np.round(number * shares.astype(float))
    right = np.round(samples * np.nan_to_num(rates.astype(float)))
    pooled = (right[0] + right) / np.maximum(samples[0] + samples, 1)
    spread = pooled * (1 - pooled) * (1 / np.maximum(samples[0], 1) + 1 / np.maximum(samples, 1))
    gap = right / np.maximum(samples, 1) - right[0] / np.maximum(samples[0], 1)
    far = gap / np.sqrt(np.maximum(spread, 1e-12))
    fallen = np.any((far < -FALL) & (samples >= 20), axis=1)
    start = accuracy[0]
    below = accuracy < start - LOSS * np.sqrt(2 * start * (1 - start) / number)
    return {
        "fallen": _first(fallen),
        "largest": EVERY * int(accuracy.argmax()),
        "below": _first(below),
    }


def all_alarms(data: xr.Dataset, kinds: tuple[str, ...]) -> dict[str, list[dict]]:
    """Of all runs of some kinds."""
    found = {}
    for kind in kinds:
        runs = [data.sel(base=b, kind=kind, seed=s) for b in data["base"] for s in data["seed"]]
        found[kind] = [alarms(x) for x in runs if bool(np.isfinite(x["held_accuracy"]).all())]
    return found


KINDS_READ = (
    "certainty",
    "certainty_table",
    "table",
    "gradient",
    "grouped",
    "adam",
    "brief",
    "rlvr",
)


def main() -> None:
    """Compute both, and write them."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.language_model.certainty", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    out: Callable[[str], int] = parser.parse_args().out.write_text
    model = load(SHIPPED / f"base_{SHIPPED_BASE}.eqx")
    key = jax.random.fold_in(jax.random.key(ord(SHIPPED_BASE)), 77)
    answers = Answers.of(rollouts_of(model, key, 8, _QUESTIONS))
    found: dict = {"accuracy": {}}
    for name, shared in (("each question by itself", False), ("all questions together", True)):
        path = ends(answers, shared)
        found["accuracy"][name] = {
            "start": round(float(path[0]), 4),
            "largest": round(float(path.max()), 4),
            "end": round(float(path[-1]), 4),
            "steps": _STEPS,
        }
        print(name, found["accuracy"][name], flush=True)
    found["runs"] = all_alarms(read_study(), KINDS_READ)
    out(json.dumps(found, indent=None, separators=(",", ": ")).replace("},", "},\n") + "\n")


if __name__ == "__main__":
    main()
