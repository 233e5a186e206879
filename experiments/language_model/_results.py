"""What the study has found: stored, read and drawn."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from zarr.storage import ZipStore

from ._bases import base_model
from ._compare import times
from ._comparison import draw_comparison
from ._figures import draw_accuracy, draw_forecast, draw_patterns, draw_tokens
from ._run import EVERY
from ._said import foretell

SHIPPED = Path(__file__).parents[1] / "data" / "language_model"
"""The results of the full study, and one of its base models."""
_STORE = "runs.zarr"


def with_foretold(folder: Path, data: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The study's curves, with all that `foretell` says of their base models, and `times`, how
    long the runs took."""
    said = [foretell(name, base_model(name, folder), data.sel(base=name)) for name in names]
    whole = data.merge(xr.concat(said, data["base"]))
    return whole.assign(times=times(whole))


def store(folder: Path, data: xr.Dataset) -> Path:
    """Keep the study, with means over ten steps of what was logged at every one."""
    logged = [name for name, x in data.data_vars.items() if "step" in x.dims]
    thin = data.drop_dims("step").merge(data[logged].coarsen(step=EVERY).mean())
    doubles = [name for name, x in thin.data_vars.items() if x.dtype == np.float64]
    thin = thin.assign({name: thin[name].astype(np.float32) for name in doubles})
    with tempfile.TemporaryDirectory() as whole:
        thin.to_zarr(whole, mode="w", zarr_format=2, consolidated=True)
        return Path(shutil.make_archive(str(folder / _STORE), "zip", whole))


def read_study(folder: Path = SHIPPED) -> xr.Dataset:
    """The study as it was stored."""
    with ZipStore(folder / f"{_STORE}.zip", mode="r") as found:
        return xr.open_zarr(found, chunks=None).load()


def figures(data: xr.Dataset) -> dict[str, Figure]:
    """Of a study, by name."""
    return {
        "accuracy": draw_accuracy(data),
        "patterns": draw_patterns(data),
        "forecast": draw_forecast(data),
        "tokens": draw_tokens(data),
        "comparison": draw_comparison(data),
    }
