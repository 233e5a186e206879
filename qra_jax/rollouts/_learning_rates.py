"""The learning rate that a trainer logs beside rollouts, step by step."""

import numpy as np
from jaxtyping import Float, Int

from ._rollouts import listed
from ._values import NO_STEP


def logged_rates(
    step: Int[np.ndarray, " N"], rate: Float[np.ndarray, " N"], column: str
) -> tuple[Float[np.ndarray, "K 2"] | None, tuple[str, ...]]:
    """Steps and learning rates, one a step, from those of rows (NaN where there is none); None
    where they cannot be read; and a note."""
    known = np.isfinite(rate)
    if not known.any():
        return None, ()
    step, rate = step[known], rate[known]
    if (rate < 0).any() or not (rate > 0).any():
        return None, (f"{column} was not read: it must be at least 0, and not 0 everywhere",)
    steps, which = np.unique(step, return_inverse=True)
    low, high = np.full(len(steps), np.inf), np.zeros(len(steps))
    np.minimum.at(low, which, rate)
    np.maximum.at(high, which, rate)
    several = high > low * (1 + 1e-9)
    if several.any():
        at = listed(tuple(steps[several].tolist()), 4)
        return None, (f"{column} was not read: it has several values at step {at}",)
    ends = f"from {low[0]:.3g} at step {steps[0]} to {low[-1]:.3g} at step {steps[-1]}"
    ends = f"{low[0]:.3g} at every step" if low.min() == low.max() else ends
    note = (
        f"learning rates from {column} ({ends}): read as the schedule of the run; what a step is "
        "worth they do not say"
    )
    return np.stack([steps.astype(float), low], axis=1), (note,)


def rates_of_rows(
    arrays: dict[str, np.ndarray], column: str
) -> tuple[Float[np.ndarray, "K 2"] | None, tuple[str, ...]]:
    """The same of the rows of a table, out of whose arrays the rates are taken."""
    rates = arrays.pop("learning_rate", None)
    if rates is None:
        return None, ()
    if "step" not in arrays:
        return None, (f"{column} was not read: there are no steps",)
    known = arrays["step"] != NO_STEP
    return logged_rates(arrays["step"][known], rates[known], column)
