"""A differentiable laboratory for the training dynamics of RL on reasoning models."""

from ._clock import AbstractClock as AbstractClock
from ._clock import ArcLength as ArcLength
from ._clock import LogTime as LogTime
from ._clock import Time as Time
from ._event import AbstractEvent as AbstractEvent
from ._event import AccuracyReaches as AccuracyReaches
from ._event import LogitPeaks as LogitPeaks
from ._event import PatternReaches as PatternReaches
from ._event import Stationary as Stationary
from ._event import TimeReached as TimeReached
from ._event import ValueReaches as ValueReaches
from ._flow import AbstractGeometry as AbstractGeometry
from ._flow import Euclidean as Euclidean
from ._flow import GradientFlow as GradientFlow
from ._flow import Natural as Natural
from ._objective import RLIF as RLIF
from ._objective import RLVR as RLVR
from ._objective import SFT as SFT
from ._objective import AbstractObjective as AbstractObjective
from ._objective import AbstractRegulariser as AbstractRegulariser
from ._objective import Objective as Objective
from ._objective import ReverseKL as ReverseKL
from ._ode import ODE as ODE
from ._ode import AbstractMethod as AbstractMethod
from ._policy import AbstractPolicy as AbstractPolicy
from ._policy import TabularPolicy as TabularPolicy
from ._policy import two_stage as two_stage
from ._problem import Problem as Problem
from ._reward import AbstractReward as AbstractReward
from ._reward import SelfCertainty as SelfCertainty
from ._reward import Verifiable as Verifiable
from ._status import Status as Status
from ._trajectory import EventTime as EventTime
from ._trajectory import Trajectory as Trajectory
from ._trajectory import event_time as event_time
from ._trajectory import solve_flow as solve_flow

__version__ = "0.1.0"
