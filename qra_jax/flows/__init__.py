"""Gradient flows: geometries, clocks, events and statuses."""

from ._clocks import AbstractClock as AbstractClock
from ._clocks import ArcLength as ArcLength
from ._clocks import LogTime as LogTime
from ._clocks import Time as Time
from ._event import AbstractEvent as AbstractEvent
from ._events import AccuracyReaches as AccuracyReaches
from ._events import Approaches as Approaches
from ._events import LogitPeaks as LogitPeaks
from ._events import PatternReaches as PatternReaches
from ._events import Stationary as Stationary
from ._events import TimeReached as TimeReached
from ._events import ValuePasses as ValuePasses
from ._events import ValueReaches as ValueReaches
from ._flow import GradientFlow as GradientFlow
from ._geometry import AbstractGeometry as AbstractGeometry
from ._geometry import Euclidean as Euclidean
from ._geometry import Natural as Natural
from ._status import Status as Status

__all__ = [
    "AbstractClock",
    "AbstractEvent",
    "AbstractGeometry",
    "AccuracyReaches",
    "Approaches",
    "ArcLength",
    "Euclidean",
    "GradientFlow",
    "LogTime",
    "LogitPeaks",
    "Natural",
    "PatternReaches",
    "Stationary",
    "Status",
    "Time",
    "TimeReached",
    "ValuePasses",
    "ValueReaches",
]
