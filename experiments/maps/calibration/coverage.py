"""How often intervals hold the truth, and how far probabilities are from frequencies."""

import numpy as np
import xarray as xr

KINDS = {
    "all": "convergence time",
    "strong": "convergence time, T0 = 0",
    "weak": "convergence time, T0 > 0",
    "entangled phase": "T0, where it is above 0",
}
"""Of which log time, with its name: of convergence, where it does not begin there; by the true
start; and T0 of weak starts."""
_BINS = 15
_NULLS = 2000


def covered(data: xr.Dataset, kind: str) -> tuple[int, int]:
    """Of how many true values of one case the interval holds, and how many there are.

    Where no draw is of the kind there is no interval: the truth is missed.
    """
    at = data.sel(kind=kind)
    known = np.isfinite(at["truth"].values)
    inside = (at["low"] <= at["truth"]) & (at["truth"] <= at["high"])
    return int(inside.values[known].sum()), int(known.sum())


def binned(probs: np.ndarray, happened: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, mean probabilities and frequencies in bins of equal width (NaN in empty ones)."""
    bins = np.minimum((probs.ravel() * _BINS).astype(int), _BINS - 1)
    number = np.bincount(bins, minlength=_BINS)
    sums = (np.bincount(bins, weights=x.ravel(), minlength=_BINS) for x in (probs, happened))
    with np.errstate(invalid="ignore"):
        mean, frequency = (total / number for total in sums)
    return number, mean, frequency


def calibration_error(data: xr.Dataset) -> tuple[float, float]:
    """The expected calibration error of the regime probabilities of one case, and its 95 % point
    were they exact: regimes of each model drawn from its own probabilities."""
    probs = data["regime_prob"].values

    def error(regimes):
        number, mean, frequency = binned(probs, regimes[:, None] == np.arange(3))
        return float(np.nansum(number * np.abs(frequency - mean)) / probs.size)

    rng, passed = np.random.default_rng(0), np.cumsum(probs, axis=1)
    draws = (
        np.minimum((rng.uniform(size=(len(probs), 1)) >= passed).sum(axis=1), 2)
        for _ in range(_NULLS)
    )
    return error(data["true_regime"].values), float(np.quantile([error(x) for x in draws], 0.95))
