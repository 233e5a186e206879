"""Fixed points, continuation, attractors and basins."""

from ._attractors import Attractors as Attractors
from ._basins import Basins as Basins
from ._basins import basins as basins
from ._branch import Branch as Branch
from ._branch import Special as Special
from ._continuation import continue_fixed_point as continue_fixed_point
from ._field import simplex_velocity as simplex_velocity
from ._fixed_points import FixedPoints as FixedPoints
from ._fixed_points import fixed_points as fixed_points
from ._stability import Stability as Stability
from ._starts import random_starts as random_starts
from ._starts import simplex_grid as simplex_grid

__all__ = [
    "Attractors",
    "Basins",
    "Branch",
    "FixedPoints",
    "Special",
    "Stability",
    "basins",
    "continue_fixed_point",
    "fixed_points",
    "random_starts",
    "simplex_grid",
    "simplex_velocity",
]
