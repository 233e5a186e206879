"""The address of the explorer with a model's own numbers: a page that lies beside the report."""

from pathlib import Path
from urllib.parse import quote

import numpy as np

from .. import Diagnosis
from ..words import mean_band, withheld

EXPLORER = Path(__file__).with_name("explorer.html")
"""One page that needs no network. It reads its start from the part of its address after the #."""
_MOST = 6  # patterns that the explorer has sliders for
_ACCEPTED = (0.1, 0.01, 0.001)  # what may be left to the worse patterns in the end


def explorer_patterns(found: Diagnosis) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, shares and success rates for the explorer: medians, means over questions.

    Of more patterns than it takes, those that are most likely the best or misleading, or else the
    most used, keep their place. The others are one: its share is the sum of theirs, and its success
    rate their mean by share, so that the accuracy stays what it was.
    """
    start, names = found.start, list(found.data.patterns)
    shares = mean_band(found, start.pattern_probs).median
    rates = mean_band(found, start.success_rates).median
    if len(names) <= _MOST:
        return names, shares, rates
    weights = found.data.weights
    decides = weights @ (found.regime.best_probs + found.regime.misleading_probs)
    first = np.lexsort((-shares, -decides.round(2)))
    kept, others = np.sort(first[: _MOST - 1]), first[_MOST - 1 :]
    rest = float(shares[others].sum())
    mean = float(shares[others] @ rates[others]) / rest if rest > 0 else float(rates[others].mean())
    names = [*(names[i] for i in kept), f"{len(others)} others"]
    return names, np.append(shares[kept], rest), np.append(rates[kept], mean)


def explorer_link(found: Diagnosis) -> str:
    """The address relative to the report, or "" where there is nothing to explore: a single
    pattern, or forecasts that the logs refute."""
    if len(found.data.patterns) < 2 or "ends" in withheld(found):
        return ""
    names, shares, rates = explorer_patterns(found)
    parts = {
        "names": ",".join(quote(name, safe="") for name in names),
        "shares": ",".join(f"{x:.6g}" for x in shares),
        "rates": ",".join(f"{x:.6g}" for x in rates),
    }
    if found.settings.eps in _ACCEPTED:
        parts["eps"] = f"{found.settings.eps:g}"
    return f"{EXPLORER.name}#" + "&".join(f"{key}={value}" for key, value in parts.items())
