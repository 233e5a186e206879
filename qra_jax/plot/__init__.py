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
