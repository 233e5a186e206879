r"""Dynamic programming over the contexts of a chain of tokens.

`columns` are `(V,) * n + (V,)`: the probability (or its logarithm) of the next token, the last
axis, in each context, oldest token first. A `mass` has one entry for each context.

(K1), (K2): docs/derivations.md#policies-over-tokens. In its symbols columns are $\pi(y|c)$, masses
$m_l(c)$, values $v_l(c)$, `along` is $w(c)$, and chances are $h_l(c)$.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ._means import mean_of

Columns = Float[Array, "*context V"]


def pushed(mass: Float[Array, "Q *context"], columns: Columns) -> Float[Array, "Q *context"]:
    """One more token drawn: the oldest leaves the context."""
    # Forwards: a sum of positive terms, which loses no digit.
    return jnp.sum(mass[..., None] * columns[None], axis=1)


def pushed_times(
    mass: Float[Array, "Q *context"], columns: Columns, steps: int
) -> Float[Array, "Q *context"]:
    """`steps` more tokens drawn."""
    return jax.lax.scan(lambda m, _: (pushed(m, columns), None), mass, length=steps)[0]


def visits(
    begin: Float[Array, "Q *context"], columns: Columns, steps: int
) -> Float[Array, "L Q *context"]:
    """The mass of each context before each of `steps` tokens drawn."""

    def draw(mass, _):
        return pushed(mass, columns), mass

    return jax.lax.scan(draw, begin, length=steps)[1]


def earned(
    begin: Float[Array, "Q *context"],
    columns: Columns,
    along: Float[Array, "*context"],
    steps: int,
) -> tuple[Float[Array, "Q *context"], Float[Array, "Q *context"]]:
    """The mass of each context once `steps` tokens are drawn, and what it has earned on the way:
    `along` of each context that a token was drawn in."""

    def draw(state, _):
        # The gain of all paths that have led to a context, carried on with their mass, so that it
        # can be told by the end.
        mass, gain = state
        return (pushed(mass, columns), pushed(gain + mass * along[None], columns)), None

    return jax.lax.scan(draw, (begin, jnp.zeros_like(begin)), length=steps)[0]


def paid_at_end(end: Float[Array, "Q R _"], columns: Columns) -> Float[Array, "Q R *context"]:
    """What the last token pays, as a value of the context that it ends; axes of length 1 stay."""
    context, num_tokens = columns.ndim - 1, columns.shape[-1]
    lead = end.shape[:2]
    each = jnp.broadcast_to(end, (*lead, num_tokens))
    each = each.reshape(*lead, *[1] * (context - 1), num_tokens)
    return jnp.broadcast_to(each, (*lead, *columns.shape[:-1])).astype(columns.dtype)


def ahead(
    after: Float[Array, "Q R *context"],
    columns: Columns,
    along: Float[Array, "*context"],
    steps: int,
) -> Float[Array, "Q R *context"]:
    """What is still to come in each context, `steps` tokens before it is worth `after`, by the
    recursion v(c) = along(c) + sum_y pi(y|c) v(c, y)."""
    columns = columns[None, None]

    def back(value, _):
        # (K1). The oldest token of a context is no part of the next one. The mean over y is taken
        # from its leading value: (K2), its gradient, then keeps its digits next to a vertex.
        nexts = jnp.broadcast_to(value[:, :, None], (*value.shape[:2], *columns.shape[2:]))
        gain = mean_of(jnp.broadcast_to(columns, nexts.shape), nexts)
        return along[None, None] + gain, None

    return jax.lax.scan(back, after, length=steps)[0]


def chances(
    end: Float[Array, "N *context"], columns: Columns, steps: int
) -> Float[Array, "L N *context"]:
    """The chance of each of N ends from every context, that with the most tokens to go first; each
    in units of its largest, lest it underflow."""

    def back(chance, _):
        # Only ratios of chances count, so that each vector of them may have a unit of its own.
        largest = jnp.max(chance, axis=tuple(range(1, chance.ndim)), keepdims=True)
        chance = chance / jnp.where(largest > 0, largest, 1)
        return jnp.sum(columns[None] * chance[:, None], axis=-1), chance

    first, rest = jax.lax.scan(back, end, length=steps)
    return jnp.concatenate([first[None], rest[::-1]])


def drawn_given(
    keys: Key[Array, " L"],
    columns: Columns,
    last: Int[Array, "B n"],
    later: Float[Array, "L N *context"],
    own: Int[Array, " B"],
) -> tuple[Int[Array, "B n"], Int[Array, "L B"]]:
    """Tokens drawn one after the other, each weighed by the chance of what must come after it.

    **Arguments:** `keys`: L of them; `last`: the contexts at the start; `later`: the chances after
    each draw, of N ends; `own`: the end of each.

    **Returns:** the contexts at the end, and the tokens.
    """

    def step(last, now):
        key, chance = now
        # Given the end the tokens are a chain again, pi(y|c) h(c, y) / h(c): no draw is rejected,
        # however rare the end is.
        weights = columns[tuple(last.T)] * chance[(own, *last[:, 1:].T)]
        token = jax.random.categorical(key, jnp.log(weights))
        return jnp.concatenate([last[:, 1:], token[:, None]], axis=1), token

    return jax.lax.scan(step, last, (keys, later))


def column_divergence(
    columns: Columns, others: Columns
) -> tuple[Float[Array, "*context"], Bool[Array, "*context"]]:
    """KL divergence of columns of log probabilities from others, over the tokens that both have,
    and whether the others lack one."""
    here, there = columns > -jnp.inf, others > -jnp.inf
    both = here & there
    # Where both lack a token the difference would be NaN.
    ratio = jnp.where(both, columns, 0) - jnp.where(both, others, 0)
    return mean_of(jnp.exp(columns), ratio), jnp.any(here & ~there, axis=-1)
