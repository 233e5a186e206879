"""A decoder-only transformer, run over whole texts or token by token from a cache."""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int, PRNGKeyArray


class Cache(NamedTuple):
    """Keys and values, of each layer, of the S tokens read so far."""

    keys: Float[Array, "N B H S K"]
    values: Float[Array, "N B H S K"]

    def padded(self, length: int) -> "Cache":
        """With zeros for the tokens that are still to come, up to `length`."""
        more = [(0, 0)] * 3 + [(0, length - self.keys.shape[3]), (0, 0)]
        return Cache(jnp.pad(self.keys, more), jnp.pad(self.values, more))

    def repeated(self, number: int) -> "Cache":
        """Each text that many times."""
        return Cache(*(jnp.repeat(array, number, axis=1) for array in self))


def _each(layer: eqx.nn.Linear, stream: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
    # As one product of two matrices: XLA's derivative of a batched one is slow on CPUs.
    flat = stream.reshape(-1, stream.shape[-1]) @ layer.weight.T
    return flat.reshape(*stream.shape[:-1], -1)


def _normal(norm: eqx.nn.RMSNorm, stream: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    return jax.vmap(jax.vmap(norm))(stream)


class Block(eqx.Module):
    """Attention, then a layer of its own for each token; each adds to the stream."""

    before_attention: eqx.nn.RMSNorm
    attention_in: eqx.nn.Linear
    attention_out: eqx.nn.Linear
    before_inner: eqx.nn.RMSNorm
    inner_in: eqx.nn.Linear
    inner_out: eqx.nn.Linear
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, dtype: DTypeLike, key: PRNGKeyArray):
        def linear(num_in: int, num_out: int, index: int) -> eqx.nn.Linear:
            own = jax.random.fold_in(key, index)
            return eqx.nn.Linear(num_in, num_out, use_bias=False, dtype=dtype, key=own)

        self.before_attention = eqx.nn.RMSNorm(width, use_bias=False, dtype=dtype)
        self.attention_in = linear(width, 3 * width, 0)
        self.attention_out = linear(width, width, 1)
        self.before_inner = eqx.nn.RMSNorm(width, use_bias=False, dtype=dtype)
        self.inner_in = linear(width, 4 * width, 2)
        self.inner_out = linear(4 * width, width, 3)
        self.heads = heads

    def heads_of(self, stream: Float[Array, "B T D"]) -> Float[Array, "3 B H T K"]:
        """Queries, keys and values."""
        found = _each(self.attention_in, _normal(self.before_attention, stream))
        found = found.reshape(*stream.shape[:2], 3, self.heads, -1)
        return jnp.transpose(found, (2, 0, 3, 1, 4))

    def add(
        self,
        stream: Float[Array, "B T D"],
        queries: Float[Array, "B H T K"],
        keys: Float[Array, "B H S K"],
        values: Float[Array, "B H S K"],
        seen: Bool[Array, "T S"],
    ) -> Float[Array, "B T D"]:
        """The stream after this block; `seen` says which keys a token attends to."""
        scores = jnp.einsum("bhtk,bhsk->bhts", queries, keys) / math.sqrt(queries.shape[-1])
        weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("bhts,bhsk->bthk", weights, values).reshape(stream.shape)
        stream = stream + _each(self.attention_out, mixed)
        inner = jax.nn.gelu(_each(self.inner_in, _normal(self.before_inner, stream)))
        return stream + _each(self.inner_out, inner)


class Transformer(eqx.Module):
    """Log probabilities of the next token.

    **Arguments:** `num_tokens`: V; `length`: the longest text; `width`: D; `heads`; `layers`;
    `key`; `dtype`.
    """

    embedding: Float[Array, "V D"]
    place: Float[Array, "T D"]
    blocks: Block  # every leaf with a leading axis, one entry a layer
    last: eqx.nn.RMSNorm
    head: Float[Array, "V D"]

    def __init__(
        self,
        num_tokens: int,
        length: int,
        width: int,
        heads: int,
        layers: int,
        key: PRNGKeyArray,
        dtype: DTypeLike = jnp.float32,
    ):
        embed, place, head, inside = jax.random.split(key, 4)
        self.embedding = 0.02 * jax.random.normal(embed, (num_tokens, width), dtype)
        self.place = 0.02 * jax.random.normal(place, (length, width), dtype)
        keys = jax.random.split(inside, layers)
        self.blocks = eqx.filter_vmap(lambda key: Block(width, heads, dtype, key))(keys)
        self.last = eqx.nn.RMSNorm(width, use_bias=False, dtype=dtype)
        self.head = 0.02 * jax.random.normal(head, (num_tokens, width), dtype)

    def read(
        self, tokens: Int[Array, "B T"], past: Cache | None = None
    ) -> tuple[Float[Array, "B T V"], Cache]:
        """What comes after each of some tokens, all at once; and the cache that goes on from them.

        **Arguments:** `tokens`; `past`: of the S tokens before them, none if not given.
        """
        hidden, cache = self.hidden(tokens, past)
        return self._log_probs(hidden), cache

    def hidden(
        self, tokens: Int[Array, "B T"], past: Cache | None = None
    ) -> tuple[Float[Array, "B T D"], Cache]:
        """What the head reads after each of some tokens; and the cache."""
        past = self._nothing(tokens.shape[0]) if past is None else past
        before, number = past.keys.shape[3], tokens.shape[1]
        seen = jnp.arange(before + number)[None] <= before + jnp.arange(number)[:, None]

        def layer(block: Block, stream: Array, cache: Cache):
            query, *new = block.heads_of(stream)
            keys, values = (jnp.concatenate(x, axis=2) for x in zip(cache, new, strict=True))
            return block.add(stream, query, keys, values, seen), Cache(keys, values)

        places = self.place[before : before + number]
        return self._through(layer, self._embedded(tokens) + places[None], past)

    def step(
        self, token: Int[Array, " B"], at: Int[Array, ""], past: Cache
    ) -> tuple[Float[Array, "B V"], Cache]:
        """What comes after one more token, at place `at`; the cache keeps its length.

        **Arguments:** `token`; `at`: how many tokens are before it; `past`: padded beyond these.
        """
        seen = (jnp.arange(past.keys.shape[3]) <= at)[None]

        def layer(block: Block, stream: Array, cache: Cache):
            query, *new = block.heads_of(stream)
            keys, values = (
                jax.lax.dynamic_update_slice_in_dim(old, one, at, axis=2)
                for old, one in zip(cache, new, strict=True)
            )
            return block.add(stream, query, keys, values, seen), Cache(keys, values)

        stream = self._embedded(token[:, None]) + self.place[at][None, None]
        hidden, cache = self._through(layer, stream, past)
        return self._log_probs(hidden)[:, 0], cache

    def _embedded(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        # A product, since the derivative of an index is a scatter: slow where there are many.
        one_hot = jax.nn.one_hot(tokens, self.embedding.shape[0], dtype=self.embedding.dtype)
        return one_hot @ self.embedding

    def _nothing(self, number: int) -> Cache:
        layers, width = self.blocks.attention_out.weight.shape[:2]
        heads = self.blocks.heads
        shape = (layers, number, heads, 0, width // heads)
        return Cache(*2 * [jnp.zeros(shape, self.embedding.dtype)])

    def _through(
        self, layer: Callable, stream: Float[Array, "B T D"], past: Cache
    ) -> tuple[Float[Array, "B T D"], Cache]:
        arrays, rest = eqx.partition(self.blocks, eqx.is_array)

        def body(stream: Array, inside: tuple):
            block, cache = inside
            return layer(eqx.combine(block, rest), stream, cache)

        stream, cache = jax.lax.scan(body, stream, (arrays, past))
        return _normal(self.last, stream), cache

    def _log_probs(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        flat = hidden.reshape(-1, hidden.shape[-1]) @ self.head.T
        return jax.nn.log_softmax(flat).reshape(*hidden.shape[:2], -1)
