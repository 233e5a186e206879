"""The claims of the gap map, from its stored data."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from ..._lab.claim import Claim, Claims, value_claim

DERIVED = "derived in docs/objectives.md#where-the-flow-stops-predicting-the-run"

CLAIMS = Claims()


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@CLAIMS.register
def steps_approach_the_flow(data: xr.Dataset) -> Iterator[Claim]:
    """Exact steps approach the flow at first order."""
    gap = abs(data["step_accuracy"] - data["flow_accuracy"]).max("time").values
    sizes = data["step"].values
    first = sizes <= sizes[0] * 4.01
    order = _slope(sizes[first], gap[first])
    text = "exact steps approach the flow at order 1 in the step size"
    yield value_claim(text, DERIVED, 1.0, order, atol=0.1)


@CLAIMS.register
def spread_is_noise(data: xr.Dataset) -> Iterator[Claim]:
    """Before the entangled phase ends, and where steps are small and groups are large, the spread
    is that of a noise of variance step size over group size."""
    spread = data["spread"].isel(time=2).transpose("group", "step").values
    noise = (data["step"] / data["group"]).transpose("group", "step").values
    small = noise <= np.sort(noise.ravel())[noise.size // 3]
    text = "early spread over seeds grows like (step size / group size)^(1/2) where that is small"
    yield value_claim(text, DERIVED, 0.5, _slope(noise[small], spread[small]), atol=0.1)
