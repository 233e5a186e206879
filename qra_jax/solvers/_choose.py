"""Which method solves a flow if none is asked for."""

from .._core.checks import instance
from ..flows._event import AbstractEvent
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ._method import AbstractMethod
from .exact._exact import Exact
from .ode._ode import ODE


def method_for(
    policy: AbstractPolicy,
    flow: GradientFlow,
    until: tuple[AbstractEvent, ...],
    method: AbstractMethod | None,
) -> AbstractMethod:
    """The method given, or else the exact one where the flow is integrable.

    **Raises:** `ValueError` if the method given cannot follow the flow.
    """
    if method is None:
        exact = Exact()
        return exact if exact.why_not(policy, flow, until) is None else ODE()
    instance(method, AbstractMethod, "method", "Exact() or ODE()")
    reason = method.why_not(policy, flow, until)
    if reason is not None:
        name = type(method).__name__
        raise ValueError(f"method must be ODE() for this flow: {reason}, got {name}()")
    return method
