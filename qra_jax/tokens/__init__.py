"""Policies over tokens: from tables to tokens, patterns of paths, metrics of tokens."""

from ._as_tokens import as_tokens as as_tokens
from ._metrics import Sparsity as Sparsity
from ._metrics import critical_tokens as critical_tokens
from ._metrics import position_change as position_change
from ._metrics import position_entropy as position_entropy
from ._metrics import rank_changes as rank_changes
from ._metrics import ranking_change_ratio as ranking_change_ratio
from ._path_patterns import PathPatterns as PathPatterns

__all__ = [
    "PathPatterns",
    "Sparsity",
    "as_tokens",
    "critical_tokens",
    "position_change",
    "position_entropy",
    "rank_changes",
    "ranking_change_ratio",
]
