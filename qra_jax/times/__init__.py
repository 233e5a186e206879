"""Regimes and first passage times."""

from ._passage import convergence as convergence
from ._passage import entanglement as entanglement
from ._passage import log_convergence_time as log_convergence_time
from ._passage import log_entanglement_time as log_entanglement_time
from ._passage import log_time_to_accuracy as log_time_to_accuracy
from ._regime import Regime as Regime
from ._regime import entanglement_ratio as entanglement_ratio
from ._regime import regime as regime

__all__ = [
    "Regime",
    "convergence",
    "entanglement",
    "entanglement_ratio",
    "log_convergence_time",
    "log_entanglement_time",
    "log_time_to_accuracy",
    "regime",
]
