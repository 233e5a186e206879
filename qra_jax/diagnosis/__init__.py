"""What rollouts of a base model say of the training to come."""

from ._diagnose import TrainingRun as TrainingRun
from ._diagnose import diagnose as diagnose
from ._diagnose import forecast_run as forecast_run
from ._result import Band as Band
from ._result import Diagnosis as Diagnosis
from ._result import Forecast as Forecast
from ._result import OpenPoint as OpenPoint
from ._result import PassAtK as PassAtK
from ._result import RLIFRisk as RLIFRisk
from ._result import StepForecast as StepForecast
from ._result import StuckQuestion as StuckQuestion
from ._result import TimeBand as TimeBand
from ._result import band as band
from ._solve import Solver as Solver
from ._solve import Tables as Tables
from ._solve import Times as Times
