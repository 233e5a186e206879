"""The elements that figures are made of: one style, and labelled data drawn onto given axes."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator

from ..flows._status import Status

LN10 = float(np.log(10))
"""Natural logarithm of 10: natural logarithms of times over it are decades."""
BEST = "#0072B2"
"""Colour of the best pattern."""
MISLEADING = "#D55E00"
"""Colour of the misleading pattern, the second best."""
REST = "#009E73"
"""Colour of a third pattern."""
THEORY = "#000000"
"""Colour of what is predicted."""
NO_POLICY = "#D9D9D9"
"""Colour of grid points that stand for no policy; failed cells are hatched."""
AT_ONCE = "#E3ECF4"
"""Colour of grid points whose time is 0."""
COLOURS = (BEST, MISLEADING, REST, "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of what is drawn side by side, in their order."""
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Line styles that go with them: colours alone look alike in grey."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Markers that go with them."""
_NARROW = 1.6  # decades: below that, ticks within a decade are labelled


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures, for the length of a `with` block."""
    with (
        as_file(files("qra_jax.plot") / "qra.mplstyle") as path,
        matplotlib.style.context(str(path)),
    ):
        yield


def look(index: int) -> dict[str, Any]:
    """Colour and line style of one line among several, as keywords of `Axes.plot`; after six they
    begin again."""
    at = index % len(COLOURS)
    return {"color": COLOURS[at], "ls": LINES[at]}


class _WithinDecades(Locator):
    """Two to nine times a power of ten, where decades lie far enough apart."""

    def __call__(self) -> list[float]:
        """The places in view."""
        axis = self.axis
        return [] if axis is None else self.tick_values(*axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """The places between two values."""
        if vmax - vmin > 7:
            return []
        powers = np.arange(np.floor(vmin), np.ceil(vmax))
        places = np.ravel(powers[:, None] + np.log10(np.arange(2, 10)))
        return places[(places >= vmin) & (places <= vmax)].tolist()


def decades(axis: Axis) -> None:
    """Label an axis whose values are logarithms to the base 10 by the powers of ten that they stand
    for: a logarithmic axis that holds numbers of any size.

    **Arguments:** `axis`: `ax.xaxis`, `ax.yaxis`, or that of a colour bar.
    """

    def narrow() -> bool:
        low, high = axis.get_view_interval()
        return bool(abs(high - low) < _NARROW)

    def plain(x: float) -> str:
        return f"{10.0**x:.0f}" if 0 <= x < 5 else f"{10.0**x:.2g}"

    def power(x: float | np.integer, _) -> str:
        return plain(float(x)) if narrow() else f"$10^{{{x:g}}}$"

    def between(x: float | np.integer, _) -> str:
        x = float(x)
        digit = round(10 ** (x - np.floor(x)))
        return plain(x) if narrow() and digit in (2, 5) else ""

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(power))
    axis.set_minor_locator(_WithinDecades())
    axis.set_minor_formatter(FuncFormatter(between))


def heatmap(
    ax: Axes,
    data: xr.DataArray,
    status: xr.DataArray | None = None,
    *,
    label: str,
    log_x: bool = False,
    log10: bool = False,
    **kwargs,
) -> QuadMesh:
    """A map over two named axes, with its colour bar; x runs along the last dimension.

    NaN is left grey, and cells whose `status` is a failure are hatched.

    **Arguments:** `label`: of the colour bar; `log_x`: whether x is logarithmic; `log10`: whether
    the data are logarithms to the base 10, which the colour bar then shows as powers of ten;
    `kwargs`: of `Axes.pcolormesh`.
    """
    y_name, x_name = data.dims
    x, y = data[x_name].values, data[y_name].values
    mesh = ax.pcolormesh(
        x, y, np.ma.masked_invalid(data.values), shading="nearest", rasterized=True, **kwargs
    )
    ax.set_facecolor(NO_POLICY)
    if status is not None:
        failed = np.where(status.values > Status.STATIONARY, 1.0, np.nan)
        if np.isfinite(failed).any():
            ax.contourf(x, y, np.nan_to_num(failed), levels=[0.5, 1.5], colors="none",
                        hatches=["xxxx"])  # fmt: skip
    if log_x:
        ax.set_xscale("log")
    ax.set_xlabel(data[x_name].attrs.get("long_name", x_name))
    ax.set_ylabel(textwrap.fill(data[y_name].attrs.get("long_name", y_name), 32))
    bar = ax.figure.colorbar(mesh, ax=ax, label=label, pad=0.02)
    if log10:
        decades(bar.ax.yaxis)
    return mesh
