"""Figures from labelled data; needs matplotlib, which is loaded with this module only."""

from ._elements import BEST as BEST
from ._elements import LN10 as LN10
from ._elements import MISLEADING as MISLEADING
from ._elements import NO_POLICY as NO_POLICY
from ._elements import REST as REST
from ._elements import THEORY as THEORY
from ._elements import heatmap as heatmap
from ._elements import style as style
from ._elements import trajectory as trajectory
from ._simplex import basin_legend as basin_legend
from ._simplex import draw_portrait as draw_portrait
from ._simplex import phase_portrait as phase_portrait
from ._simplex import point_legend as point_legend
from ._simplex import portrait as portrait
from ._simplex import simplex_axes as simplex_axes
from ._simplex import simplex_basins as simplex_basins
from ._simplex import simplex_paths as simplex_paths
from ._simplex import simplex_points as simplex_points
from ._simplex import simplex_stream as simplex_stream
from ._simplex import simplex_triangles as simplex_triangles
from ._simplex import simplex_xy as simplex_xy

__all__ = [
    "BEST",
    "LN10",
    "MISLEADING",
    "NO_POLICY",
    "REST",
    "THEORY",
    "basin_legend",
    "draw_portrait",
    "heatmap",
    "phase_portrait",
    "point_legend",
    "portrait",
    "simplex_axes",
    "simplex_basins",
    "simplex_paths",
    "simplex_points",
    "simplex_stream",
    "simplex_triangles",
    "simplex_xy",
    "style",
    "trajectory",
]
