"""Which flows are integrable: constant pattern rewards, Euclidean, without penalties."""

from ...flows._flow import GradientFlow
from ...flows._geometry import Euclidean
from ...objectives._objective import Objective
from ...objectives._rewards import KEEPS
from ...policies._policy import AbstractPolicy, lacking
from ...policies._two_stage import AbstractTablePolicy


def needed_to_integrate(policy: AbstractPolicy, flow: GradientFlow) -> tuple[str, str, str] | None:
    """What keeps a flow from being integrable: an argument, what it must be, and what it is; None
    if nothing does."""
    objective = flow.objective
    must = lacking(policy, AbstractTablePolicy)
    if must is not None:
        return "policy", must.rstrip(","), type(policy).__name__
    if not isinstance(objective, Objective):
        return "flow.objective", "be an Objective", type(objective).__name__
    if objective.regularisers:
        shown = ", ".join(type(one).__name__ for one in objective.regularisers)
        return "flow.objective", "be without regularisers", shown
    reward = objective.reward
    # A shift common to all patterns changes V, but not the flow of the mean.
    if not (objective.keeps_gaps and (objective.is_mean or reward.ignores_patterns)):
        return "flow.objective.reward", KEEPS, type(reward).__name__
    held = not objective.differentiate_reward
    still = flow.freezes_answers or (flow.trains_all and held and reward.same_for_answers)
    if not still:
        return "flow.trainable", 'be "patterns"', getattr(flow.trainable, "__name__", "a filter")
    if not isinstance(flow.geometry, Euclidean):
        return "flow.geometry", "be Euclidean()", type(flow.geometry).__name__
    return None
