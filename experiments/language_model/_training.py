"""Steps of training: on texts, and by reinforcement from sampled groups."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import qra_jax as qra

from ._model import Transformer
from ._sample import Columns, columns_of, draw
from ._task import (
    FORM,
    NUM_PATTERNS,
    OPENINGS,
    Questions,
    answer_of,
    draw_numbers,
    grade,
    pattern_of,
    questions_of,
    responses,
)

Reward = Literal["verifiable", "self_certainty", "majority"]


class State(NamedTuple):
    """What a step of training changes; once a step was not finite, nothing changes any more."""

    model: Transformer
    optimiser: Any
    step: Int[Array, ""]
    finite: Bool[Array, ""]


def begin(model: Transformer, optimiser: optax.GradientTransformation) -> State:
    """Training that has not done a step."""
    moments = optimiser.init(eqx.filter(model, eqx.is_array))
    return State(model, moments, jnp.zeros((), jnp.int32), jnp.array(True))


def _updated(
    state: State, optimiser: optax.GradientTransformation, gradient: Any
) -> tuple[State, Float[Array, ""]]:
    params = eqx.filter(state.model, eqx.is_array)
    updates, moments = optimiser.update(gradient, state.optimiser, params)
    model = eqx.apply_updates(state.model, updates)
    norm = optax.tree.norm(gradient)
    sums = [jnp.sum(leaf) for leaf in jtu.tree_leaves(eqx.filter(model, eqx.is_array))]
    finite = state.finite & jnp.isfinite(norm) & jnp.all(jnp.isfinite(jnp.stack(sums)))
    new, rest = eqx.partition((model, moments), eqx.is_array)
    old = eqx.filter((state.model, state.optimiser), eqx.is_array)
    kept = jtu.tree_map(lambda a, b: jnp.where(finite, a, b), new, old)
    model, moments = eqx.combine(kept, rest)
    return State(model, moments, state.step + finite, finite), norm


@dataclasses.dataclass(frozen=True)
class Imitation:
    """How a model is trained on texts, in pre-training and in supervised fine-tuning.

    - `shares`: of the patterns among the texts; `number`: of texts a step; `optimiser`.
    """

    shares: tuple[float, ...]
    number: int
    optimiser: optax.GradientTransformation

    def step(self, key: PRNGKeyArray, state: State) -> tuple[State, Float[Array, ""]]:
        """One step, with `fold_in(key, step)` for its texts; and the loss in nats per token."""
        keys = jax.random.split(jax.random.fold_in(key, state.step), 3)
        numbers = draw_numbers(keys[0], self.number)
        shares = jnp.asarray(self.shares, jnp.float32)
        kinds = jax.random.choice(keys[1], NUM_PATTERNS, (self.number,), p=shares)
        texts = responses(keys[2], numbers, kinds)
        asked = questions_of(numbers).tokens

        def loss(model: Transformer):
            found = columns_of(model, asked, texts[:, None], FORM)
            return -jnp.sum(found.log_probs) / jnp.sum(FORM.live(texts))

        value, gradient = eqx.filter_value_and_grad(loss)(state.model)
        return _updated(state, self.optimiser, gradient)[0], value


def self_certainty(found: Columns, tokens: Int[Array, "*B L"]) -> Float[Array, "*B"]:
    """Divergence of the next token from uniform chances, mean over a response, in nats."""
    live = FORM.live(tokens)
    each = -jnp.mean(found.columns, axis=-1) - jnp.log(found.columns.shape[-1])
    return jnp.sum(jnp.where(live, each, 0), axis=-1) / jnp.sum(live, axis=-1)


def majority(tokens: Int[Array, "B G L"]) -> Bool[Array, "B G"]:
    """Responses whose answer is the most frequent of their group, the first of several; those
    without an answer have no vote."""
    answers = answer_of(tokens)
    voting = answers >= 0
    same = (answers[:, :, None] == answers[:, None, :]) & voting[:, :, None]
    leader = jnp.argmax(jnp.sum(same, axis=-1), axis=-1)
    return (answers == jnp.take_along_axis(answers, leader[:, None], axis=-1)) & voting


def pass_at(right: Bool[Array, "B G"], number: int) -> Float[Array, ""]:
    """Chance that one of k different responses of a group is right, mean over the groups.

    **Arguments:** `right`; `number`: k.
    """
    size = right.shape[1]
    wrong = size - jnp.sum(right, axis=1)
    below = jnp.arange(number)[None]
    none = jnp.prod(jnp.maximum(wrong[:, None] - below, 0) / (size - below), axis=1)
    return 1 - jnp.mean(none)


class Sight(NamedTuple):
    """What is seen in responses.

    `shares`: of the patterns, the last of them those that open none; `rates`: success within each,
    NaN where there is none of it.
    """

    accuracy: Float[Array, ""]
    shares: Float[Array, " R"]
    rates: Float[Array, " R"]


def sight(tokens: Int[Array, "*B L"], right: Bool[Array, "*B"]) -> Sight:
    """Of graded responses."""
    opened = pattern_of(tokens).reshape(-1, 1) == jnp.arange(NUM_PATTERNS + 1)[None]
    number = jnp.sum(opened, axis=0)
    shares = (number / right.size).astype(jnp.float32)
    rates = jnp.sum(opened & right.reshape(-1, 1), axis=0) / number
    return Sight(jnp.mean(right, dtype=jnp.float32), shares, rates.astype(jnp.float32))


class Log(NamedTuple):
    """What is seen in the samples of a step.

    `pass_at_4`: the chance that one of four is right; `entropy`: of the next token, mean over
    tokens; `kl`: of whole responses, from the reference; both in nats.
    """

    sight: Sight
    reward: Float[Array, ""]
    pass_at_4: Float[Array, ""]
    entropy: Float[Array, ""]
    kl: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def group_loss(
    sampler: qra.SampledGroups,
    beta: float,
    rewards: Float[Array, "B G"],
    now: Float[Array, "B G"],
    reference: Float[Array, "B G"],
) -> Float[Array, ""]:
    """The mean loss of groups; its expected gradient is minus that of the sampler's utility, less
    beta times the KL divergence of whole responses from the reference.

    **Arguments:** `sampler`; `beta`; `rewards`; log probabilities `now` and of the `reference`.
    """
    loss = jnp.mean(sampler.loss(rewards, now))
    if beta == 0:
        return loss
    # The score times the log ratio less the mean of the others: unbiased for the divergence.
    size, ratio = now.shape[1], jax.lax.stop_gradient(now) - reference
    pull = (ratio - jnp.mean(ratio, axis=1, keepdims=True)) * size / (size - 1)
    return loss + beta * jnp.mean(pull * now)


@dataclasses.dataclass(frozen=True)
class Reinforcement:
    """How a model is trained by reinforcement.

    - `reward`; `sampler`: groups, their `batch` of questions a step, and the estimator;
      `optimiser`; `beta`: of the KL divergence from the model at the start, per nat;
      `openings_only`: train no weight but those that a pattern's opening token has in the head, so
      that the model is a table of patterns, nearly: the rest of a response is left as it is.
    """

    reward: Reward
    sampler: qra.SampledGroups
    optimiser: optax.GradientTransformation
    beta: float = 0.0
    openings_only: bool = False

    def rewards(
        self, found: Columns, tokens: Int[Array, "B G L"], right: Bool[Array, "B G"]
    ) -> Float[Array, "B G"]:
        """What responses earn."""
        if self.reward == "self_certainty":
            return jax.lax.stop_gradient(self_certainty(found, tokens))
        earned = right if self.reward == "verifiable" else majority(tokens)
        return earned.astype(found.log_probs.dtype)

    def _gradient(self, loss: Callable, model: Transformer) -> tuple[Any, Any]:
        if not self.openings_only:
            return eqx.filter_grad(loss, has_aux=True)(model)

        def with_rows(of: Any, rows: Array) -> Any:
            return eqx.tree_at(lambda m: m.head, of, of.head.at[OPENINGS].set(rows))

        rows, found = jax.grad(lambda rows: loss(with_rows(model, rows)), has_aux=True)(
            model.head[OPENINGS]
        )
        none = jtu.tree_map(jnp.zeros_like, eqx.filter(model, eqx.is_array))
        return with_rows(none, rows), found

    def step(self, key: PRNGKeyArray, reference: Transformer, state: State) -> tuple[State, Log]:
        """One step, with `fold_in(key, step)` for its questions and samples."""
        size, batch = self.sampler.group_size, self.sampler.batch or 1
        for_numbers, for_samples = jax.random.split(jax.random.fold_in(key, state.step))
        asked: Questions = questions_of(draw_numbers(for_numbers, batch))
        tokens = draw(state.model, asked.tokens, size, for_samples, FORM).tokens
        right = grade(tokens, asked.answer[:, None])
        first = columns_of(reference, asked.tokens, tokens, FORM).total

        def loss(model: Transformer):
            found = columns_of(model, asked.tokens, tokens, FORM)
            rewards = self.rewards(found, tokens, right)
            return group_loss(self.sampler, self.beta, rewards, found.total, first), (
                found,
                rewards,
            )

        gradient, (found, rewards) = self._gradient(loss, state.model)
        state, norm = _updated(state, self.optimiser, gradient)
        live = FORM.live(tokens)
        entropy = -jnp.sum(jnp.exp(found.columns) * found.columns, axis=-1)
        return state, Log(
            sight(tokens, right),
            jnp.mean(rewards),
            pass_at(right, min(4, size)),
            jnp.sum(jnp.where(live, entropy, 0)) / jnp.sum(live),
            jnp.mean(found.total - first),
            norm,
        )
