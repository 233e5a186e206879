"""Regularisers: penalties on the policy, apart from its reward."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._checks import as_float, is_concrete, require, require_all
from ._policy import AbstractPolicy


class AbstractRegulariser(eqx.Module):
    """A penalty on the policy, subtracted from each question's utility."""

    @abc.abstractmethod
    def __call__(self, policy: Any, reference: Any, held: Any) -> Float[Array, " Q"]:
        """The penalty of each question.

        **Arguments:** `policy`: what is trained; `reference`: what it is compared with; `held`:
        the same policy, a constant in the gradient.

        **Returns:** `(Q,)`, in units of the utility.
        """

    @abc.abstractmethod
    def validate(self, policy: Any, reference: Any) -> None:
        """Raise `ValueError` where the penalty is not defined; looks at concrete values only."""


def as_strength(strength: ArrayLike, name: str) -> Float[Array, ""]:
    """A finite scalar of at least 0.

    **Raises:** `ValueError` otherwise.
    """
    array = as_float(strength)
    require(array.ndim == 0, name, "be a scalar", array.shape)
    require_all(array, lambda b: (b >= 0) & (b < jnp.inf), name, "be at least 0, finite")
    return array


class ReverseKL(AbstractRegulariser):
    r"""$\beta \, \mathrm{KL}(\pi \| \pi_{ref})$.

    **Arguments:** `beta`: the strength, at least 0, in units of the reward.

    **Raises:** `ValueError` if `beta` is negative or not finite.

    Source: arXiv 2506.04695, section 3.
    """

    beta: Float[Array, ""]

    def __init__(self, beta: ArrayLike):
        self.beta = as_strength(beta, "beta")

    def __call__(self, policy: Any, reference: Any, held: Any) -> Float[Array, " Q"]:
        divergence = policy.kl(reference)
        return self.beta.astype(divergence.dtype) * divergence

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        require_finite_kl(policy, reference)


def require_finite_kl(policy: AbstractPolicy, reference: AbstractPolicy) -> None:
    """**Raises:** `ValueError` if the reference lacks something that the policy has."""
    if is_concrete(policy, reference):
        require_all(
            policy.kl(reference),
            lambda d: d < jnp.inf,
            "reference",
            "give every pattern and answer of the policy a probability above 0 (the KL "
            "divergence is infinite otherwise)",
        )
