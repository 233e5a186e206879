"""Responses of a model, drawn token by token."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ._model import Transformer


class Format(NamedTuple):
    """How a response is written: the token that ends it, the one after its end, and the length up
    to which it is drawn."""

    end: int
    pad: int
    length: int

    def live(self, responses: Int[Array, "*N L"]) -> Bool[Array, "*N L"]:
        """The tokens of a response up to and with its end."""
        ends = responses == self.end
        return jnp.cumsum(ends, axis=-1) - ends == 0


class Drawn(NamedTuple):
    """G responses to each question, padded after their end, and the log probability of each token
    as it was drawn, 0 for padding."""

    tokens: Int[Array, "B G L"]
    log_probs: Float[Array, "B G L"]


def draw(
    model: Transformer, questions: Int[Array, "B P"], number: int, key: PRNGKeyArray, form: Format
) -> Drawn:
    """Responses to questions.

    **Arguments:** `model`; `questions`; `number`: G, of each question; `key`; `form`.
    """
    before, batch = questions.shape[1], questions.shape[0]
    first, past = model.read(questions)

    def token(state: tuple, inside: tuple):
        log_probs, cache, done = state
        at, key = inside
        keys = jax.random.split(key, done.shape[0])
        chosen = jnp.where(done, form.pad, jax.vmap(jax.random.categorical)(keys, log_probs))
        own = jnp.take_along_axis(log_probs, chosen[:, None], axis=-1)[:, 0]
        then, cache = model.step(chosen, at, cache)
        return (then, cache, done | (chosen == form.end)), (chosen, jnp.where(done, 0, own))

    start = (
        jnp.repeat(first[:, -1], number, axis=0),
        past.padded(before + form.length).repeated(number),
        jnp.zeros(batch * number, bool),
    )
    places = before + jnp.arange(form.length)
    keys = jax.random.split(key, form.length)
    found = jax.lax.scan(token, start, (places, keys))[1]
    return Drawn(*(jnp.moveaxis(x, 0, 1).reshape(batch, number, -1) for x in found))


class Columns(NamedTuple):
    """What a model says of responses: log probabilities of their tokens, 0 for padding, and of all
    tokens in their places."""

    log_probs: Float[Array, "B G L"]
    columns: Float[Array, "B G L V"]

    @property
    def total(self) -> Float[Array, "B G"]:
        """Log probabilities of whole responses."""
        return jnp.sum(self.log_probs, axis=-1)


def columns_of(
    model: Transformer,
    questions: Int[Array, "B P"],
    responses: Int[Array, "B G L"],
    form: Format,
) -> Columns:
    """Log probabilities of responses, all places at once.

    **Arguments:** `model`; `questions`; `responses`: as drawn; `form`.
    """

    batch, number, length = responses.shape
    first, past = model.read(questions)
    after = responses.reshape(-1, length)[:, :-1]
    rest, _ = model.read(after, past.repeated(number))
    first = jnp.repeat(first[:, -1:], number, axis=0)
    columns = jnp.concatenate([first, rest], axis=1).reshape(batch, number, length, -1)
    chosen = jax.nn.one_hot(responses, columns.shape[-1], dtype=columns.dtype)
    own = jnp.sum(chosen * columns, axis=-1)
    return Columns(jnp.where(form.live(responses), own, 0), columns)
