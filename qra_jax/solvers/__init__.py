"""Solvers: trajectories and event times of a flow."""

from ._method import AbstractMethod as AbstractMethod
from ._solve import event_time as event_time
from ._solve import solve_flow as solve_flow
from ._trajectory import EventTime as EventTime
from ._trajectory import Trajectory as Trajectory
from .exact._exact import Exact as Exact
from .ode._ode import ODE as ODE

__all__ = ["ODE", "AbstractMethod", "EventTime", "Exact", "Trajectory", "event_time", "solve_flow"]
