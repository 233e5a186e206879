"""What training has changed, token by token."""

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_share, require
from ..policies._columns import column_divergence
from ..policies._markov import MarkovPolicy
from ..policies._policy import check_order
from ..policies._problem import Problem

Kind = Literal["token", "top", "order"]
Change = Literal["kl", "variation"]


def _same_kind(policy: MarkovPolicy, reference: MarkovPolicy) -> None:
    shape, other = policy.logits.shape, reference.logits.shape
    require(other == shape, "reference", f"have logits of shape {shape}", other)


def position_entropy(policy: MarkovPolicy) -> Float[Array, "Q L"]:
    r"""Entropy of the next token at every position, $E\, H(\pi(\cdot | c_l))$ over its contexts.

    **Arguments:** `policy`.

    **Returns:** `(Q, L)` in nats; with contexts of one token their sum over positions is the
    entropy of the sequence.

    Source: derived in docs/derivations.md#policies-over-tokens.
    """
    columns = policy.log_columns()
    possible = columns > -jnp.inf
    terms = jnp.exp(columns) * jnp.where(possible, columns, 0)
    return _over_contexts(policy, -jnp.sum(terms, axis=-1))


def position_change(
    policy: MarkovPolicy, *, reference: MarkovPolicy, kind: Change = "kl"
) -> Float[Array, "Q L"]:
    r"""How far the distribution of the next token has moved at every position, over the contexts
    that `policy` meets: $E\, \mathrm{KL}(\pi(\cdot|c_l) \| \pi_0(\cdot|c_l))$, or the total
    variation $E \frac12 \sum_y |\pi(y|c_l) - \pi_0(y|c_l)|$.

    **Arguments:** `policy`: after training; `reference`: before it; `kind`: `"kl"` or
    `"variation"`.

    **Returns:** `(Q, L)`, in nats or as a probability.

    **Raises:** `ValueError` if the policies differ in shape or the kind is unknown.

    Source: derived in docs/derivations.md#policies-over-tokens.
    """
    return _over_contexts(policy, _column_change(policy, reference, kind))


def _over_contexts(policy: MarkovPolicy, each: Float[Array, "*context"]) -> Float[Array, "Q L"]:
    mass = policy.visits()
    terms = jnp.where(mass > 0, mass * each[None, None], 0)
    return jnp.sum(terms.reshape(*mass.shape[:2], -1), axis=-1).T


def _column_change(
    policy: MarkovPolicy, reference: MarkovPolicy, kind: Change
) -> Float[Array, "*context"]:
    _same_kind(policy, reference)
    known = get_args(Change)
    require(kind in known, "kind", f"be one of {known}", repr(kind))
    now, then = policy.log_columns(), reference.log_columns()
    if kind == "variation":
        return jnp.sum(jnp.abs(jnp.exp(now) - jnp.exp(then)), axis=-1) / 2
    each, lacks = column_divergence(now, then)
    return jnp.where(lacks, jnp.inf, each)


def _ranks(policy: MarkovPolicy) -> Int[Array, "*context V"]:
    """The rank of every next token, 0 for the most probable; ties in the order of tokens."""
    return jnp.argsort(jnp.argsort(-policy.log_columns(), axis=-1, stable=True), axis=-1)


def rank_changes(
    policy: MarkovPolicy, *, reference: MarkovPolicy, kind: Kind = "token"
) -> Float[Array, "*context V"]:
    """Which draws count as a change of ranking: 1 where they do.

    **Arguments:** as for `ranking_change_ratio`.

    **Returns:** `(V,) * n + (V,)`: context, and the token drawn in it.

    **Raises:** `ValueError` if the policies differ in shape or the kind is unknown.
    """
    _same_kind(policy, reference)
    known = get_args(Kind)
    require(kind in known, "kind", f"be one of {known}", repr(kind))
    now, then = _ranks(policy), _ranks(reference)
    moved = now != then
    if kind == "top":
        moved = jnp.any(moved & (now == 0), axis=-1, keepdims=True)
    elif kind == "order":
        moved = jnp.any(moved, axis=-1, keepdims=True)
    return jnp.broadcast_to(moved, now.shape).astype(policy.logits.dtype)


def ranking_change_ratio(
    policy: MarkovPolicy,
    problem: Problem,
    *,
    reference: MarkovPolicy,
    kind: Kind = "token",
    sequences: Int[Array, "Q N L"] | None = None,
) -> Float[Array, ""]:
    r"""The share of tokens in responses whose ranking training has changed.

    **Arguments:**

    - `policy`: after training, whose responses are looked at; `reference`: before it.
    - `problem`: whose weights the questions have.
    - `kind`: what counts: `"token"`, the rank of the token drawn among those that could follow
      differs; `"top"`, the most probable token does; `"order"`, the rank of any token does.
    - `sequences`: `(Q, N, L)`, sampled responses of every question; if not given, the exact mean
      over all of them.

    **Returns:** a scalar in [0, 1].

    **Raises:** `ValueError` if the policies or the sequences do not fit, or the kind is unknown.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        chain = lambda logits: qra.policies.MarkovPolicy(jnp.array(logits), start=[0], horizon=2)
        before, after = chain([[0.5, 0.0], [0.0, 0.0]]), chain([[0.5, 0.0], [1.0, 0.0]])
        print(qra.tokens.ranking_change_ratio(after, qra.Problem([1]), reference=before))
        ```

    Source: arXiv 2506.04695 v2 (the ratio by name, as summarised); which ranking it looks at is
    this library's reading.
    """
    check_order(policy, problem, "problem")
    moved = rank_changes(policy, reference=reference, kind=kind)
    if sequences is None:
        each = jnp.sum(jnp.exp(policy.log_columns()) * moved, axis=-1)
        return problem.mean(jnp.mean(_over_contexts(policy, each), axis=1))
    shape = (policy.start.shape[0], policy.horizon)
    fits = sequences.ndim == 3 and (sequences.shape[0], sequences.shape[2]) == shape
    require(fits, "sequences", f"have shape (Q, N, L) with (Q, L) = {shape}", sequences.shape)
    each = moved[policy.draws(sequences, policy.start[:, None])]
    return problem.mean(jnp.mean(each, axis=(1, 2)))


class Sparsity(eqx.Module):
    """Where the change of a training run sits: contexts by how much of it they carry.

    - `carried`: `(V,) * n`, the share of the whole change that each context carries.
    - `curve`: `(V^n,)`, the share that the k + 1 foremost contexts carry together.
    - `critical`: bool, `(V,) * n`, the fewest contexts that carry the share asked for.
    - `met`: bool, `(V,) * n`, the contexts that responses come through at all.
    """

    carried: Float[Array, "*context"]
    curve: Float[Array, " C"]
    critical: Bool[Array, "*context"]
    met: Bool[Array, "*context"]

    @property
    def critical_share(self) -> Float[Array, ""]:
        """How many of the contexts met are critical, as a share."""
        return jnp.sum(self.critical) / jnp.sum(self.met)


def critical_tokens(
    policy: MarkovPolicy,
    problem: Problem,
    *,
    reference: MarkovPolicy,
    share: ArrayLike = 0.9,
    kind: Change = "kl",
) -> Sparsity:
    r"""The contexts whose columns carry a stated share of the change: each carries the change of
    its column times the expected number of visits, $\sum_l P(c_l = c)\, d(c)$.

    **Arguments:** `policy`: after training; `problem`: whose weights the questions have;
    `reference`: before training; `share`: in [0, 1]; `kind`: as for `position_change`.

    **Returns:** a `Sparsity`; where nothing has changed, nothing is critical.

    **Raises:** `ValueError` if the policies differ in shape, or an argument is out of range.

    Source: derived in docs/derivations.md#policies-over-tokens.
    """
    check_order(policy, problem, "problem")
    level = as_share(share, "share")
    visits = jnp.sum(policy.visits(), axis=0)
    weights = problem.weights.astype(visits.dtype)
    weights = weights.reshape(-1, *[1] * policy.context)
    number = jnp.sum(weights * visits, axis=0)
    each = jnp.where(number > 0, number * _column_change(policy, reference, kind), 0)
    total = jnp.sum(each)
    carried = jnp.where(total > 0, each / jnp.where(total > 0, total, 1), 0)
    flat = carried.reshape(-1)
    order = jnp.argsort(-flat)
    curve = jnp.cumsum(flat[order])
    # One more context as long as those before it do not carry enough.
    wanted = (curve - flat[order] < level.astype(flat.dtype)) & (flat[order] > 0)
    critical = jnp.zeros(flat.shape, bool).at[order].set(wanted).reshape(carried.shape)
    return Sparsity(carried, curve, critical, number > 0)
