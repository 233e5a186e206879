"""What a numerical method is: a way to follow a flow, and what it returns."""

import abc

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..flows._event import AbstractEvent
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy


class AbstractMethod(eqx.Module):
    """A way to follow a flow."""

    @abc.abstractmethod
    def why_not(
        self,
        policy: AbstractPolicy,
        flow: GradientFlow,
        until: tuple[AbstractEvent, ...],
    ) -> str | None:
        """Why the method cannot follow this flow until these events, in a few words; None if it
        can. Looks at what is known before a compile."""

    @abc.abstractmethod
    def integrate(
        self,
        policy: AbstractPolicy,
        flow: GradientFlow,
        reference: AbstractPolicy,
        until: tuple[AbstractEvent, ...],
        log_times: Float[Array, " T"] | None,
        rows: bool,
    ) -> "Path":
        """Follow `flow` from `policy` until the first of: an event, the last requested time, rest.

        **Arguments:** `until`: events, the first to happen stops the solve; `log_times`: requested
        outputs; `rows`: whether outputs are wanted at all, or the final state alone.

        **Returns:** a `Path`.
        """


class Path(eqx.Module):
    """What a method returns: rows of states, and how the solve ended."""

    log_times: Float[Array, " T"]
    valid: Bool[Array, " T"]
    params: PyTree
    final_log_time: Float[Array, ""]
    final_params: PyTree
    status: Int[Array, ""]
    event: Int[Array, ""]
    num_steps: Int[Array, ""]
