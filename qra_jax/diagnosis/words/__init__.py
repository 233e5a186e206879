"""A diagnosis in words: the same sentences for the console and the page."""

from ._advice import Advice as Advice
from ._alarms import alarms as alarms
from ._alarms import check_sentence as check_sentence
from ._alarms import withheld as withheld
from ._numbers import interval as interval
from ._numbers import number as number
from ._numbers import share as share
from ._numbers import time as time
from ._patterns import difference as difference
from ._signal import questions_csv as questions_csv
from ._signal import signal_lines as signal_lines
from ._signal import size_rows as size_rows
from ._summary import box as box
from ._summary import key_figures as key_figures
from ._summary import mean_band as mean_band
from ._summary import open_lines as open_lines
from ._summary import pattern_rows as pattern_rows
from ._summary import slowest as slowest
from ._summary import summary as summary
from ._summary import verdict as verdict
from ._trust import trust_lines as trust_lines

__all__ = [
    "Advice",
    "alarms",
    "box",
    "check_sentence",
    "difference",
    "interval",
    "key_figures",
    "mean_band",
    "number",
    "open_lines",
    "pattern_rows",
    "questions_csv",
    "share",
    "signal_lines",
    "size_rows",
    "slowest",
    "summary",
    "time",
    "trust_lines",
    "verdict",
    "withheld",
]
