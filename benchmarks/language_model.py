"""The small language model: what the cache of keys and values saves, and what a step costs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

import qra_jax as qra
from experiments.language_model import _task as task
from experiments.language_model._bases import TRUNK, blank
from experiments.language_model._model import Transformer
from experiments.language_model._sample import draw
from experiments.language_model._training import Reinforcement, begin

from ._common import ratio, settings, table, take_turns, write

GROUP = 8


def without_cache(
    model: Transformer, questions: Int[Array, "B P"], number: int, key: PRNGKeyArray
) -> Int[Array, "N L"]:
    """As `draw`, but each token reads the whole text again."""
    before, form = questions.shape[1], task.FORM
    tokens = jnp.repeat(questions, number, axis=0)
    texts = jnp.pad(tokens, ((0, 0), (0, form.length)), constant_values=form.pad)

    def token(state: tuple, inside: tuple):
        texts, done = state
        at, key = inside
        log_probs = model.read(texts)[0][:, at - 1]
        keys = jax.random.split(key, texts.shape[0])
        chosen = jnp.where(done, form.pad, jax.vmap(jax.random.categorical)(keys, log_probs))
        return (texts.at[:, at].set(chosen), done | (chosen == form.end)), None

    places = before + jnp.arange(form.length)
    start = texts, jnp.zeros(texts.shape[0], bool)
    (texts, _), _ = jax.lax.scan(token, start, (places, jax.random.split(key, form.length)))
    return texts[:, before:]


def _competitors(batch: int) -> dict[str, Callable[[], Any]]:
    model, key = blank(), jax.random.key(0)
    asked = task.questions_of(task.draw_numbers(key, batch)).tokens
    sampler = qra.SampledGroups(GROUP, batch=batch)
    adam = optax.adam(1e-4)
    every = Reinforcement("verifiable", sampler, adam)
    few = Reinforcement("verifiable", sampler, adam, openings_only=True)
    state, reading = begin(model, adam), TRUNK.imitation()
    begun = begin(model, reading.optimiser)
    cached, bare = eqx.filter_jit(draw), eqx.filter_jit(without_cache)
    step, step_few, read = (eqx.filter_jit(f) for f in (every.step, few.step, reading.step))
    return {
        "draw": lambda: cached(model, asked, GROUP, key, task.FORM),
        "draw without cache": lambda: bare(model, asked, GROUP, key),
        "step": lambda: step(key, model, state),
        "step, openings only": lambda: step_few(key, model, state),
        f"reading {TRUNK.number} texts": lambda: read(key, begun),
    }


def main() -> None:
    """Time draws, steps of reinforcement and of pre-training, side by side."""
    quick = settings(__doc__)
    rows = []
    for batch in (8,) if quick else (32, 64, 256):
        competitors = {
            name: lambda call=call: jax.block_until_ready(eqx.filter(call(), eqx.is_array))
            for name, call in _competitors(batch).items()
        }
        for call in competitors.values():
            call()
        seconds = take_turns(competitors, 3 if quick else 9)
        samples = batch * GROUP
        row: dict[str, Any] = {"samples": samples}
        for name, spent in seconds.items():
            row[f"{name}, ms"] = 1e3 * sorted(spent)[len(spent) // 2]
        row["samples/s of steps"] = 1e3 * samples / row["step, ms"]
        row["without cache / with"] = ratio(seconds["draw without cache"], seconds["draw"])
        rows.append(row)
    print(table(rows))
    model = blank()
    size = sum(x.size for x in jax.tree_util.tree_leaves(eqx.filter(model, eqx.is_array)))
    config = {"parameters": size, "group size": GROUP, "tokens": task.QUESTION + task.RESPONSE}
    write("language_model", config, {"rows": rows}, quick)


if __name__ == "__main__":
    main()
