"""The figure of a sweep over a grid, from its stored data."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..plot import regime_map, style

_MOST = 400  # values along an axis; more than that cannot be seen


def draw_grid(
    data: xr.Dataset, axes: Sequence[str], quantities: Sequence[str], labels: Mapping[str, str]
) -> Figure:
    """Each time over the first and the last axis, in the middle of all others."""
    x, *others, y = axes
    at = {name: data.sizes[name] // 2 for name in others}
    thin = {name: slice(None, None, -(-data.sizes[name] // _MOST)) for name in (x, y)}
    plane = data.isel({**at, **thin}).load()
    for name in (x, y):
        plane[name].attrs["long_name"] = labels[name]
    where = ", ".join(f"{name} = {float(plane[name]):.3g}" for name in others)
    with style():
        figure = Figure(figsize=(3.7 * len(quantities), 3.1), layout="constrained")
        panels = np.ravel(np.asarray(figure.subplots(1, len(quantities))))
        for ax, name in zip(panels, quantities, strict=True):
            shown = plane[f"log_{name}_time"].transpose(y, x)
            shown[x].attrs, shown[y].attrs = plane[x].attrs, plane[y].attrs
            status = plane[f"{name}_status"].transpose(y, x)
            spacing = np.diff(np.log(plane[x].values))
            even = np.allclose(spacing, spacing[:1], rtol=1e-6)
            label = f"{name} time (1/reward)"
            regime_map(ax, shown, status, label=label, at_once="at once", log_x=bool(even))
            ax.set_title(where)
    return figure
