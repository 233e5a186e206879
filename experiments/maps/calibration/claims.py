"""The claims of the calibration map, from its stored data: models drawn from the prior."""

from collections.abc import Iterator

import xarray as xr

from ..._lab.claim import Claim, Claims, computed, share
from .coverage import KINDS, calibration_error, covered

DERIVED = "derived in docs/diagnosis.md#does-it-hold"

CLAIMS = Claims()


@CLAIMS.register
def intervals_hold_the_truth(data: xr.Dataset) -> Iterator[Claim]:
    """For each kind of log time."""
    prior = data.isel(case=0)
    for kind, name in KINDS.items():
        text = f"share of true values in the 90 % interval: {name}"
        margin = 0.04 if kind == "all" else 0.08
        yield Claim.of(text, DERIVED, share(0.9, *covered(prior, kind), margin))


@CLAIMS.register
def probabilities_are_calibrated(data: xr.Dataset) -> Iterator[Claim]:
    """Those of the regimes, within the noise of so many models."""
    prior = data.isel(case=0)
    found, bound = calibration_error(prior)
    number = prior["regime_prob"].size
    text = f"calibration error of {number} regime probabilities, below its 95 % point (noise)"
    yield Claim.of(text, DERIVED, computed(bound, found, found < bound))
