"""What an event is: a number that crosses 0 from below when it happens."""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from .._core.types import Scalar
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._flow import GradientFlow


class FlowState(eqx.Module):
    """A point of a trajectory, as an event sees it.

    `velocity` is a function without arguments that returns `(direction, log_speed)`: the unit
    vector of the motion in the structure of the trainable leaves, and the logarithm of its speed.
    `log_scale` is the logarithm of a speed that is natural to the flow.
    """

    flow: GradientFlow
    policy: AbstractPolicy
    log_time: Scalar
    velocity: Callable[[], tuple[PyTree, Scalar]] = eqx.field(static=True)
    log_scale: Scalar | float = 0.0


class AbstractEvent(eqx.Module):
    """A condition on which a solve stops."""

    @abc.abstractmethod
    def value(self, state: FlowState) -> Scalar:
        """Negative before the event, 0 at it. At least 0 at the start: it has happened already."""

    @abc.abstractmethod
    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """Raise `ValueError` or `TypeError` where the event means nothing: an index out of range,
        a policy of the wrong kind. Looks at shapes and concrete values only."""

    def lasts(self) -> bool | Bool[Array, ""]:
        """Whether, in a flow of constant pattern rewards, it surely goes on once it has begun."""
        return False

    def balance(self, policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " R"] | None:
        """Weights $a_r$ with the event where $\\sum_r a_r \\pi(r|q)$ becomes positive, if they are
        constant where pattern rewards are; None if there are none, or none are known."""
        return None
