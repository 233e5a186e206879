"""The elements that figures are made of. Each draws labelled data onto given axes."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

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


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures, for the length of a `with` block."""
    with (
        as_file(files("qra_jax.plot") / "qra.mplstyle") as path,
        matplotlib.style.context(str(path)),
    ):
        yield


def heatmap(
    ax: Axes,
    data: xr.DataArray,
    status: xr.DataArray | None = None,
    *,
    label: str,
    log_x: bool = False,
    **kwargs,
) -> QuadMesh:
    """A map over two named axes, with its colour bar; x runs along the last dimension.

    NaN is left grey, and cells whose `status` is a failure are hatched.
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
    ax.figure.colorbar(mesh, ax=ax, label=label, pad=0.02)
    return mesh


def trajectory(
    ax: Axes,
    log_time: np.ndarray,
    pattern_probs: np.ndarray,
    accuracy: np.ndarray,
    names: Sequence[str],
    marks: Sequence[tuple[float, str]] = (),
    colours: Sequence[str] = (BEST, MISLEADING, REST, "#CC79A7", "#E69F00", "#56B4E9"),
) -> None:
    """Pattern probabilities and accuracy over log10 time, with vertical marks at log times."""
    time = np.asarray(log_time) / LN10
    seen = np.isfinite(time)
    for index, name in enumerate(names):
        colour = colours[index % len(colours)]
        ax.plot(time[seen], pattern_probs[seen, index], color=colour, label=rf"$\pi$({name})")
    ax.plot(time[seen], accuracy[seen], color=THEORY, ls="--", lw=1.3, label="accuracy V")
    shown = sorted((log_mark, text) for log_mark, text in marks if np.isfinite(log_mark))
    for log_mark, text in shown:
        ax.axvline(log_mark / LN10, color="0.45", lw=0.9, ls=":")
        # To the left of its line, the last one to the right: two close marks stay apart.
        last = log_mark == shown[-1][0]
        ax.annotate(
            text,
            (log_mark / LN10, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2 if last else -2, 1),
            textcoords="offset points",
            ha="left" if last else "right",
            va="bottom",
            fontsize=8,
        )
    ax.set_xlabel(r"$\log_{10}$ time (1/reward)")
    ax.set_ylabel("probability")
    ax.set_ylim(-0.02, 1.02)
