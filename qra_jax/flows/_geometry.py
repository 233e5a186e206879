"""Geometries: what makes a velocity of a gradient."""

import abc

import equinox as eqx
from jaxtyping import PyTree

from ..policies._policy import AbstractPolicy


class AbstractGeometry(eqx.Module):
    """How a gradient becomes a direction of motion."""

    @abc.abstractmethod
    def direction(self, policy: AbstractPolicy, gradient: PyTree) -> PyTree:
        """The direction of steepest ascent, in the structure of `gradient`."""


class Euclidean(AbstractGeometry):
    r"""$\dot\theta = \nabla J$."""

    def direction(self, policy: AbstractPolicy, gradient: PyTree) -> PyTree:
        return gradient


class Natural(AbstractGeometry):
    r"""$\dot\theta = F^{-1} \nabla J$ with the Fisher matrix F of each question by itself, so that
    question weights stay: $\dot\theta_r = D(q) (R_r - V_q)$ for tabular patterns.

    Source: derived in docs/derivations.md#natural-geometry.
    """

    def direction(self, policy: AbstractPolicy, gradient: PyTree) -> PyTree:
        return policy.natural(gradient)
