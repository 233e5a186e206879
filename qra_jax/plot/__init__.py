"""Figures from labelled data; needs matplotlib, which is loaded with this module only."""

from ._curves import branch_diagram as branch_diagram
from ._curves import branch_legend as branch_legend
from ._curves import comparison as comparison
from ._curves import regime_map as regime_map
from ._curves import seed_band as seed_band
from ._curves import trajectory as trajectory
from ._elements import AT_ONCE as AT_ONCE
from ._elements import BEST as BEST
from ._elements import COLOURS as COLOURS
from ._elements import LINES as LINES
from ._elements import LN10 as LN10
from ._elements import MARKERS as MARKERS
from ._elements import MISLEADING as MISLEADING
from ._elements import NO_POLICY as NO_POLICY
from ._elements import REST as REST
from ._elements import THEORY as THEORY
from ._elements import decades as decades
from ._elements import heatmap as heatmap
from ._elements import look as look
from ._elements import style as style
from ._simplex import basin_legend as basin_legend
from ._simplex import draw_portrait as draw_portrait
from ._simplex import path_legend as path_legend
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
    "AT_ONCE",
    "BEST",
    "COLOURS",
    "LINES",
    "LN10",
    "MARKERS",
    "MISLEADING",
    "NO_POLICY",
    "REST",
    "THEORY",
    "basin_legend",
    "branch_diagram",
    "branch_legend",
    "comparison",
    "decades",
    "draw_portrait",
    "heatmap",
    "look",
    "path_legend",
    "phase_portrait",
    "point_legend",
    "portrait",
    "regime_map",
    "seed_band",
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
