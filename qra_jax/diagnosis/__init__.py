"""What rollouts of a base model say of the training to come."""

from ._check import check_logs_of as check_logs_of
from ._checked import LEVEL as LEVEL
from ._checked import LogCheck as LogCheck
from ._checked import RateChange as RateChange
from ._diagnose import diagnose as diagnose
from ._log_fit import Logs as Logs
from ._result import Band as Band
from ._result import DiagnosedData as DiagnosedData
from ._result import Diagnosis as Diagnosis
from ._result import DiagnosisSettings as DiagnosisSettings
from ._result import Forecast as Forecast
from ._result import OpenPoint as OpenPoint
from ._result import PassAtKEstimate as PassAtKEstimate
from ._result import RatesWithin as RatesWithin
from ._result import RegimeEstimate as RegimeEstimate
from ._result import RLIFRisk as RLIFRisk
from ._result import RLVREstimate as RLVREstimate
from ._result import StartEstimate as StartEstimate
from ._result import StepForecast as StepForecast
from ._result import StuckQuestion as StuckQuestion
from ._result import TimeBand as TimeBand
from ._result import band as band
from ._run import TrainingRun as TrainingRun
from ._run import forecast_run as forecast_run
from ._solve import Solver as Solver
from ._solve import Tables as Tables
from ._solve import Times as Times

__all__ = [
    "LEVEL",
    "Band",
    "DiagnosedData",
    "Diagnosis",
    "DiagnosisSettings",
    "Forecast",
    "LogCheck",
    "Logs",
    "OpenPoint",
    "PassAtKEstimate",
    "RLIFRisk",
    "RLVREstimate",
    "RateChange",
    "RatesWithin",
    "RegimeEstimate",
    "Solver",
    "StartEstimate",
    "StepForecast",
    "StuckQuestion",
    "Tables",
    "TimeBand",
    "Times",
    "TrainingRun",
    "band",
    "check_logs_of",
    "diagnose",
    "forecast_run",
]
