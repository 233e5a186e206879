"""The claims of the tokens map, from its stored data."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from ..._lab.claim import Claim, Claims, above, below, computed, mean_and_error

CLAIMS = Claims()
_PAPER = "arXiv 2506.04695 v2, as summarised"
_HERE = "this map"


def _ratio(data: xr.Dataset, reward: str) -> np.ndarray:
    """The ranking change ratio at the end, by chain."""
    return data["ratio"].isel(time=-1).sel(reward=reward).values


@CLAIMS.register
def rlif_changes_more_rankings(data: xr.Dataset) -> Iterator[Claim]:
    """In the mean over chains."""
    yield Claim.of(
        "RLIF changes more rankings than RLVR: difference of their ranking change ratios at "
        "the end above 0",
        _PAPER,
        above(0.0, *mean_and_error(_ratio(data, "RLIF") - _ratio(data, "RLVR"))),
    )


@CLAIMS.register
def rlvr_changes_few_rankings(data: xr.Dataset) -> Iterator[Claim]:
    """In the mean over chains."""
    yield Claim.of(
        "RLVR changes few rankings: ratio at the end below a tenth (Qwen2.5-3B had 5 to 7 %)",
        _PAPER,
        below(0.1, *mean_and_error(_ratio(data, "RLVR"))),
    )


@CLAIMS.register
def rlvr_is_sparse(data: xr.Dataset) -> Iterator[Claim]:
    """In columns, in the mean over chains."""
    critical = data["critical_share"].isel(time=-1).sel(reward="RLVR").values
    yield Claim.of(
        "RLVR is sparse: fewer than a fifth of the columns met carry 90 % of its change",
        _HERE,
        below(0.2, *mean_and_error(critical)),
    )


@CLAIMS.register
def rlvr_raises_every_chain(data: xr.Dataset) -> Iterator[Claim]:
    """From the first time to the last."""
    accuracy = data["accuracy"].sel(reward="RLVR")
    gain = (accuracy.isel(time=-1) - accuracy.isel(time=0)).values
    yield Claim.of(
        "RLVR raises the accuracy of every chain",
        _HERE,
        computed(1.0, float((gain > 0).mean()), bool((gain > 0).all())),
    )
