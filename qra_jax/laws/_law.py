"""What a law returns, and the starts of the flows with constant rewards that have laws."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_float, require
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..objectives._objective import Objective
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._two_stage import AbstractTablePolicy
from ..solvers.exact._integrable import needed_to_integrate
from ..times._regime import Landscape, benign_start


class Law(eqx.Module):
    """What a law says of each question, and whether it holds there.

    - `value`: `(Q,)`, what the formula gives; a natural logarithm where it is a time. It may be a
      number where the law does not hold, and is NaN where the formula has no meaning.
    - `valid`: `(Q,)`, whether the law's conditions hold.
    - `relative_error`: `(Q,)`, an estimate of exact/law - 1 (of the time itself where `value` is
      its logarithm): the leading correction, 0 for an exact law, NaN if unknown.
    """

    value: Float[Array, " Q"]
    valid: Bool[Array, " Q"]
    relative_error: Float[Array, " Q"]


class LawStart(eqx.Module):
    """The patterns of each question at the start.

    `values` are those of `land`, up to a constant and in its unit. They and `log_probs` are 0 where
    a pattern does not exist, `log_weight` and `log_pace`, the logarithm of the weight times that
    unit, where a question does not move (weight 0, or invalid input).
    """

    log_probs: Float[Array, "Q R"]
    values: Float[Array, "Q R"]
    land: Landscape
    log_weight: Float[Array, " Q"]
    log_pace: Float[Array, " Q"]
    moves: Bool[Array, " Q"]

    def per_question(self, values: ArrayLike) -> Float[Array, " Q"]:
        """A scalar or `(Q,)` as `(Q,)`."""
        return jnp.broadcast_to(as_float(values).astype(self.values.dtype), self.moves.shape)


def check_law(policy: AbstractPolicy, flow: GradientFlow | Problem) -> GradientFlow:
    """The flow meant, after the checks that its rewards stay constant and its gradient is plain."""
    flow = check_solve(policy, flow, None)
    missing = needed_to_integrate(policy, flow)
    if missing is not None:
        require(False, *missing)
    assert isinstance(flow.objective, Objective)  # by `needed_to_integrate`
    utility = type(flow.objective.utility).__name__
    require(flow.objective.is_mean, "flow.objective", "be of the mean reward", utility)
    return flow


def law_start(policy: AbstractPolicy, flow: GradientFlow) -> LawStart:
    """The start of a checked flow, to be called from compiled code."""
    policy, flow, land = benign_start(policy, flow)
    log_probs, _ = having(policy, AbstractTablePolicy, "for a law").log_probs()
    weights = flow.problem.weights.astype(log_probs.dtype)
    moves = land.valid & (weights > 0)
    log_weight = jnp.log(jnp.where(moves, weights, 1))
    return LawStart(
        log_probs=jnp.where(land.exists, log_probs, 0),
        values=jnp.where(land.exists, land.values, 0),
        land=land,
        log_weight=log_weight,
        log_pace=log_weight + jnp.where(moves, jnp.log(land.unit), 0),
        moves=moves,
    )


def count(mask: Bool[Array, "Q R"]) -> Int[Array, " Q"]:
    """How many patterns of each question."""
    return jnp.sum(mask, axis=-1)


def total(mask: Bool[Array, "Q R"], terms: Float[Array, "Q R"]) -> Float[Array, " Q"]:
    """The sum of the terms of some patterns."""
    return jnp.sum(jnp.where(mask, terms, 0), axis=-1)


def first(mask: Bool[Array, "Q R"]) -> Bool[Array, "Q R"]:
    """The first pattern alone of those given."""
    return mask & (jnp.cumsum(mask, axis=-1) == 1)
