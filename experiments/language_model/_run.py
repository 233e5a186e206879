"""Runs of training: logged, evaluated, stopped where they are no longer finite, and resumed."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._model import Transformer
from ._sample import columns_of, draw
from ._task import FORM, HELD_OUT, NUM_PATTERNS, OPENINGS, Questions, grade, questions_of
from ._training import Log, Reinforcement, Sight, State, begin, sight

EVERY = 10
"""Steps between evaluations."""


class Evaluation(NamedTuple):
    """Of a model on questions that no training sees, one response to each.

    `forced`: success rates of patterns whose opening is given, each on the same questions: what
    training does to them is not a choice of questions. `token_rank`, `top`: share of tokens whose
    rank, or whose place's most probable token, is not that of the reference; `moved`: share of
    places where the next token's distribution has moved by more than .1 in total variation;
    `by_place`: mean variation at each place of a response.
    """

    sight: Sight
    forced: Float[Array, " R"]
    token_rank: Float[Array, ""]
    top: Float[Array, ""]
    moved: Float[Array, ""]
    by_place: Float[Array, " L"]


def _forced(model: Transformer, key: PRNGKeyArray, asked: Questions) -> Float[Array, " R"]:
    """Success rates after each opening, all on the same questions."""
    number = asked.answer.shape[0]
    opened = jnp.repeat(jnp.arange(OPENINGS.start, OPENINGS.stop), number)[:, None]
    tokens, answer = (jnp.concatenate([x] * NUM_PATTERNS) for x in asked)
    begun = jnp.concatenate([tokens, opened], axis=1)
    form = FORM._replace(length=FORM.length - 1)
    rest = draw(model, begun, 1, key, form).tokens[:, 0]
    right = grade(jnp.concatenate([opened, rest], axis=1), answer)
    return jnp.mean(right.reshape(NUM_PATTERNS, number), axis=1, dtype=jnp.float32)


@eqx.filter_jit
def evaluate(
    model: Transformer, reference: Transformer, key: PRNGKeyArray, asked: Questions
) -> Evaluation:
    """One response to each of some questions, and to a quarter of them one in each pattern."""
    for_samples, for_forced = jax.random.split(key)
    tokens = draw(model, asked.tokens, 1, for_samples, FORM).tokens
    few = Questions(*(x[: max(1, x.shape[0] // 4)] for x in asked))
    now, then = (columns_of(m, asked.tokens, tokens, FORM).columns for m in (model, reference))
    live = FORM.live(tokens)
    drawn = tokens[..., None]

    def rank(columns: Array) -> Array:
        own = jnp.take_along_axis(columns, drawn, axis=-1)
        return jnp.sum(columns > own, axis=-1)

    def share(of: Array) -> Array:
        return (jnp.sum(of & live) / jnp.sum(live)).astype(jnp.float32)

    variation = jnp.sum(jnp.abs(jnp.exp(now) - jnp.exp(then)), axis=-1) / 2
    met = jnp.maximum(jnp.sum(live, axis=(0, 1)), 1)
    return Evaluation(
        sight(tokens, grade(tokens, asked.answer[:, None])),
        _forced(model, for_forced, few),
        share(rank(now) != rank(then)),
        share(jnp.argmax(now, axis=-1) != jnp.argmax(then, axis=-1)),
        share(variation > 0.1),
        (jnp.sum(jnp.where(live, variation, 0), axis=(0, 1)) / met).astype(jnp.float32),
    )


class Curves(NamedTuple):
    """What was seen of a run: `log` of every step, before its update; `held_out` after every
    `EVERY` steps, the first at step 0. NaN for what was not reached."""

    log: Log
    held_out: Evaluation


class Saved(NamedTuple):
    """A checkpoint: enough to go on bit by bit."""

    state: State
    curves: Curves


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of reinforcement.

    - `how`; `num_steps`; `seed`: of all that is random in it; `held_out`: how many of the questions
      that no training sees are asked in an evaluation.
    """

    how: Reinforcement
    num_steps: int
    seed: int
    held_out: int = len(HELD_OUT)

    @property
    def key(self) -> PRNGKeyArray:
        """Of the run."""
        return jax.random.key(self.seed)

    @property
    def asked(self) -> Questions:
        """The questions of an evaluation."""
        return questions_of(jnp.asarray(HELD_OUT[: self.held_out]))

    def fresh(self, base: Transformer) -> Saved:
        """Nothing done yet."""
        state = begin(base, self.how.optimiser)
        log = eqx.filter_eval_shape(self.how.step, self.key, base, state)[1]
        seen = eqx.filter_eval_shape(evaluate, base, base, self.key, self.asked)

        def empty(shapes: Any, number: int) -> Any:
            return jtu.tree_map(lambda s: np.full((number, *s.shape), np.nan, s.dtype), shapes)

        return Saved(
            state, Curves(empty(log, self.num_steps), empty(seen, self.num_steps // EVERY + 1))
        )


def stop_of(saved: Saved) -> int:
    """The step at which a run was not finite and ended, -1 if it had not to."""
    return -1 if bool(saved.state.finite) else int(saved.state.step)


def reason(stop: int) -> str:
    """Why a run went no further, in words; "" if it had not to stop."""
    return "" if stop < 0 else f"not finite at step {stop}: the model before it is kept"


def write(path: Path, saved: Any) -> None:
    """All arrays of a tree, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    eqx.tree_serialise_leaves(part, saved)
    os.replace(part, path)


def write_curves(path: Path, saved: Saved) -> None:
    """As a NumPy archive, each array by its name, such as `log.sight.accuracy`; and `stop`, as
    `stop_of` says."""
    leaves, _ = jtu.tree_flatten_with_path(saved.curves)
    arrays = {jtu.keystr(where, simple=True, separator="."): value for where, value in leaves}
    arrays["stop"] = np.array(stop_of(saved))
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)


@functools.cache
def _compiled(how: Reinforcement) -> Callable:
    return eqx.filter_jit(how.step)


def train(
    run: Run,
    base: Transformer,
    path: Path,
    *,
    reference: Transformer | None = None,
    seen: Callable[[int], None] = lambda step: None,
    every: int = 50,
) -> Saved:
    """A run from a base model, or from where its checkpoint has left it.

    **Arguments:** `run`; `base`; `path`: of the checkpoint; `reference`: what changes and the
    divergence are measured from, the base if not given; `seen`: called after each step; `every`:
    steps between checkpoints.

    **Returns:** the last checkpoint; `stop_of` says whether it is finite.
    """
    reference = base if reference is None else reference
    saved = run.fresh(base)
    if path.exists():
        saved = eqx.tree_deserialise_leaves(path, saved)
    (state, curves), asked = saved, run.asked

    def note(into: Any, at: int, found: Any) -> None:
        for array, value in zip(jtu.tree_leaves(into), jtu.tree_leaves(found), strict=True):
            array[at] = value

    def look(at: int) -> None:
        key = jax.random.fold_in(jax.random.fold_in(run.key, 1), at)
        note(curves.held_out, at // EVERY, evaluate(state.model, reference, key, asked))

    begun = step = int(state.step)
    if step == 0:
        look(0)
    while step < run.num_steps and bool(state.finite):
        state, log = _compiled(run.how)(jax.random.fold_in(run.key, 0), reference, state)
        note(curves.log, step, log)
        step += 1
        seen(step)
        if step % EVERY == 0 and bool(state.finite):
            look(step)
        if step % every == 0:
            write(path, Saved(state, curves))
    if step > begun:
        write(path, Saved(state, curves))
    return Saved(state, curves)
