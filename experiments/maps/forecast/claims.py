"""The claims of the forecast map, from its stored data."""

from collections.abc import Iterator

import xarray as xr

from ..._lab.claim import Claim, Claims, computed, estimate, mean_and_error

DERIVED = "derived in docs/diagnosis.md#does-it-hold"

CLAIMS = Claims()
_WIDEST = 0.15


def _late(data: xr.Dataset) -> xr.Dataset:
    """The steps that were not logged."""
    return data.sel(step=data["step"] > data.attrs["logged"])


@CLAIMS.register
def truth_lies_in_the_band(data: xr.Dataset) -> Iterator[Claim]:
    """In the mean over runs."""
    late = _late(data)
    inside = (late["low"] <= late["accuracy"]) & (late["accuracy"] <= late["high"])
    shares = inside.mean("step").values
    text = (
        "share of later steps at which the true accuracy of the trained policy lies in the "
        "90 % band"
    )
    yield Claim.of(text, DERIVED, estimate(0.9, *mean_and_error(shares), margin=0.1))


@CLAIMS.register
def band_is_narrow(data: xr.Dataset) -> Iterator[Claim]:
    """In the median over runs and steps."""
    late = _late(data)
    width = float((late["high"] - late["low"]).median())
    text = f"median width of that band, at most {_WIDEST:g}"
    yield Claim.of(text, DERIVED, computed(_WIDEST, width, width <= _WIDEST))
