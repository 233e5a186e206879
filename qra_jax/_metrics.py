"""What is measured on a policy."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._checks import as_float, require_all
from ._policy import AbstractPolicy
from ._problem import Problem
from ._reward import Verifiable


def accuracy(policy: AbstractPolicy, problem: Problem) -> Float[Array, " Q"]:
    r"""Accuracy of each question, $A_q = \sum_r \pi(r|q) p(r)$.

    **Arguments:** `policy`, `problem`.

    **Returns:** `(Q,)`, in [0, 1].

    Source: arXiv 2506.04695, section 3.
    """
    return policy.expectation(Verifiable(), problem)


def mean_accuracy(policy: AbstractPolicy, problem: Problem) -> Float[Array, ""]:
    r"""Accuracy over questions by weight, $\sum_q D(q) A_q$.

    **Arguments:** `policy`, `problem`.

    **Returns:** a scalar in [0, 1].

    Source: arXiv 2506.04695, section 3.
    """
    each = accuracy(policy, problem)
    return jnp.sum(problem.weights.astype(each.dtype) * each)


def pass_at_k(policy: AbstractPolicy, problem: Problem, k: ArrayLike) -> Float[Array, " Q"]:
    r"""Probability that at least one of k samples is right, $1 - (1 - A_q)^k$.

    **Arguments:** `policy`, `problem`; `k`: the number of samples, at least 1.

    **Returns:** `(Q,)`, in [0, 1].

    **Raises:** `ValueError` if k is below 1.

    Source: derived in docs.
    """
    require_all(k, lambda k: k >= 1, "k", "be at least 1")
    each = accuracy(policy, problem)
    certain = each >= 1
    log_wrong = jnp.log1p(-jnp.where(certain, 0, each))
    return jnp.where(certain, 1, -jnp.expm1(as_float(k).astype(each.dtype) * log_wrong))
