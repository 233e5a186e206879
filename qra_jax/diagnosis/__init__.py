"""What rollouts of a base model say of the training to come."""

from ._bands import Band as Band
from ._bands import TimeBand as TimeBand
from ._bands import band as band
from ._bands import counted as counted
from ._check import check_logs_of as check_logs_of
from ._checked import LEVEL as LEVEL
from ._checked import LogCheck as LogCheck
from ._checked import RateChange as RateChange
from ._compare import compare as compare
from ._compare_result import Comparison as Comparison
from ._compare_result import Quantity as Quantity
from ._diagnose import diagnose as diagnose
from ._diagnosis import Diagnosis as Diagnosis
from ._group_size import measured_useful_share as measured_useful_share
from ._group_size import useful_share as useful_share
from ._head import Head as Head
from ._log_fit import Logs as Logs
from ._result import DiagnosedData as DiagnosedData
from ._result import DiagnosisSettings as DiagnosisSettings
from ._result import Findings as Findings
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
from ._run import TrainingRun as TrainingRun
from ._run import forecast_run as forecast_run
from ._signal import group_signal as group_signal
from ._signal_result import KINDS as KINDS
from ._signal_result import KLPull as KLPull
from ._signal_result import QuestionSignals as QuestionSignals
from ._signal_result import Signal as Signal
from ._signal_result import SignalBySize as SignalBySize
from ._solve import Solver as Solver
from ._solve import Tables as Tables
from ._solve import Times as Times
from ._votes import measured_maj_at_k as measured_maj_at_k

__all__ = [
    "KINDS",
    "LEVEL",
    "Band",
    "Comparison",
    "DiagnosedData",
    "Diagnosis",
    "DiagnosisSettings",
    "Findings",
    "Forecast",
    "Head",
    "KLPull",
    "LogCheck",
    "Logs",
    "OpenPoint",
    "PassAtKEstimate",
    "Quantity",
    "QuestionSignals",
    "RLIFRisk",
    "RLVREstimate",
    "RateChange",
    "RatesWithin",
    "RegimeEstimate",
    "Signal",
    "SignalBySize",
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
    "compare",
    "counted",
    "diagnose",
    "forecast_run",
    "group_signal",
    "measured_maj_at_k",
    "measured_useful_share",
    "useful_share",
]
