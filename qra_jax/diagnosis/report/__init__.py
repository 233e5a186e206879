"""The report of a diagnosis: in words, as one page, as figures. The page needs jinja2."""

from ._compare import comparison_lines as comparison_lines
from ._compare import write_comparison as write_comparison
from ._design import Plan as Plan
from ._design import design as design
from ._figures import draw_figures as draw_figures
from ._page import page as page
from ._page import write_report as write_report
from ._text import summary as summary
from ._text import verdict as verdict

__all__ = [
    "Plan",
    "comparison_lines",
    "design",
    "draw_figures",
    "page",
    "summary",
    "verdict",
    "write_comparison",
    "write_report",
]
