"""The report of a diagnosis, or of a comparison: pages and figures. Pages need jinja2."""

from ._compare import comparison_lines as comparison_lines
from ._compare import write_comparison as write_comparison
from ._design import Plan as Plan
from ._design import design as design
from ._figures import draw_figures as draw_figures
from ._page import page as page
from ._page import write_report as write_report

__all__ = [
    "Plan",
    "comparison_lines",
    "design",
    "draw_figures",
    "page",
    "write_comparison",
    "write_report",
]
