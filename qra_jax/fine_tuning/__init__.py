"""Fine-tuning before reinforcement learning: its total time and its design."""

from ._design import SFTDesign as SFTDesign
from ._design import design_sft as design_sft
from ._total_time import log_total_time as log_total_time

__all__ = [
    "SFTDesign",
    "design_sft",
    "log_total_time",
]
