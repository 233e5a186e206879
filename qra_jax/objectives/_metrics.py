"""What is measured on a policy."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, require, require_all
from ..policies._means import from_leader
from ..policies._policy import AbstractPolicy, RewardFunction, check_order
from ..policies._problem import Problem
from ._rewards import Verifiable


def accuracy(policy: AbstractPolicy, problem: Problem) -> Float[Array, " Q"]:
    r"""Accuracy of each question, $A_q = \sum_r \pi(r|q) p(r)$.

    **Arguments:** `policy`, `problem`.

    **Returns:** `(Q,)`, in [0, 1].

    Source: arXiv 2506.04695, section 3.
    """
    check_order(policy, problem, "problem")
    return policy.expectation(Verifiable(), problem)


def mean_accuracy(policy: AbstractPolicy, problem: Problem) -> Float[Array, ""]:
    r"""Accuracy over questions by weight, $\sum_q D(q) A_q$.

    **Arguments:** `policy`, `problem`.

    **Returns:** a scalar in [0, 1].

    Source: arXiv 2506.04695, section 3.
    """
    each = accuracy(policy, problem)
    return problem.mean(each)


def pass_at_k(policy: AbstractPolicy, problem: Problem, k: ArrayLike) -> Float[Array, " Q"]:
    r"""Probability that at least one of k samples is right, $1 - (1 - A_q)^k$.

    **Arguments:** `policy`, `problem`; `k`: the number of samples, at least 1.

    **Returns:** `(Q,)`, in [0, 1].

    **Raises:** `ValueError` if k is below 1.

    Source: derived in docs/derivations.md#passk.
    """
    require_all(k, lambda k: k >= 1, "k", "be at least 1")
    each = accuracy(policy, problem)
    certain = each >= 1
    log_wrong = jnp.log1p(-jnp.where(certain, 0, each))
    return jnp.where(certain, 1, -jnp.expm1(as_float(k, "k").astype(each.dtype) * log_wrong))


def advantage(
    policy: AbstractPolicy, problem: Problem, *, reward: RewardFunction | None = None
) -> Float[Array, "Q R"]:
    r"""Advantage of each pattern over the mean, $R_r - \sum_j \pi(j|q) R_j$.

    **Arguments:** `policy`, `problem`; `reward`: a function `(policy, problem)` whose values
    have three axes that broadcast to `(Q, R, A)`, the verifiable reward if not given.

    **Returns:** `(Q, R)`, in units of the reward, to full relative precision near a vertex; 0
    where a pattern does not exist.

    Source: derived in docs/derivations.md#centring-on-the-leading-pattern.
    """
    check_order(policy, problem, "problem")
    probs, values = policy.pattern_table(problem, reward)
    base, rest = from_leader(probs, values)
    return jnp.where(policy.exists, (values - base[:, None]) - rest[:, None], 0)


def success_rate_drift(
    policy: AbstractPolicy, problem: Problem, *, reference: AbstractPolicy
) -> Float[Array, " Q"]:
    r"""How far success rates have moved within patterns, $\sum_r \pi(r|q) |p(r) - p_0(r)|$.

    Assumption 5.1 (a frozen answer layer) sets it to 0.

    **Arguments:** `policy`: whose $\pi$ and $p$ are meant; `problem`; `reference`: whose success
    rates are $p_0$, such as the start.

    **Returns:** `(Q,)`, in [0, 1].

    **Raises:** `ValueError` if the two differ in shape.

    Source: arXiv 2506.04695, assumption 5.1 (as summarised); derived in
    docs/derivations.md#notation.
    """
    check_order(policy, problem, "problem")
    probs, rates = policy.pattern_table(problem)
    _, before = reference.pattern_table(problem)
    require(before.shape == rates.shape, "reference", f"have shape {rates.shape}", before.shape)
    return jnp.sum(probs * jnp.abs(rates - before), axis=-1)
