"""The settings of the commands, and what every command line needs. Nothing here loads JAX: help,
bad settings and folders that cannot be written are answered first."""

from .._core.folders import require_writable as require_writable
from .._core.folders import writing_to as writing_to
from .._core.interrupts import leaving_on_interrupt as leaving_on_interrupt
from .._core.interrupts import written_whole as written_whole
from ._compare import Compare as Compare
from ._diagnose import Diagnose as Diagnose
from ._grid import PARAMETERS as PARAMETERS
from ._grid import GridSweep as GridSweep
from ._rules import SuggestRules as SuggestRules
from ._settings import BadSetting as BadSetting
from ._settings import require_setting as require_setting

__all__ = [
    "PARAMETERS",
    "BadSetting",
    "Compare",
    "Diagnose",
    "GridSweep",
    "SuggestRules",
    "leaving_on_interrupt",
    "require_setting",
    "require_writable",
    "writing_to",
    "written_whole",
]
