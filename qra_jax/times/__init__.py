"""Regimes and first passage times."""

from ._passage import PassageTimes as PassageTimes
from ._passage import passage_times as passage_times
from ._regime import Regime as Regime
from ._regime import entanglement_ratio as entanglement_ratio
from ._regime import regime as regime
from ._times import convergence as convergence
from ._times import entanglement as entanglement
from ._times import log_convergence_time as log_convergence_time
from ._times import log_entanglement_time as log_entanglement_time
from ._times import log_time_to_accuracy as log_time_to_accuracy

__all__ = [
    "PassageTimes",
    "Regime",
    "convergence",
    "entanglement",
    "entanglement_ratio",
    "log_convergence_time",
    "log_entanglement_time",
    "log_time_to_accuracy",
    "passage_times",
    "regime",
]
