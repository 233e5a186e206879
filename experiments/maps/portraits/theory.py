"""What theory says of the basins of a mixture."""

import numpy as np


def critical_weight(rates: np.ndarray, pattern: int) -> float:
    r"""The weight of the verifiable reward beyond which a pattern's vertex attracts no more in a
    mixture with sequence probability: $w (p_* - p_r) = (1 - w) S_r$."""
    certain = rates[pattern] ** 2 + (1 - rates[pattern]) ** 2
    return float(certain / (certain + rates[0] - rates[pattern]))
