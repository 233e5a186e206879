"""The files of a map: its data with their provenance, its figure, its summary."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax import plot
from qra_jax.commands import writing_to
from qra_jax.sweep import as_attributes, provenance

OUTSIDE = -1
"""Status of a grid point that stands for no policy, such as probabilities that sum to over 1."""


def read_data(folder: Path) -> xr.Dataset:
    """The stored data of a map."""
    store = folder / "data.zarr"
    if not store.is_dir():
        raise ValueError(f"redraw must find the data of an earlier run, got none at {store}")
    try:
        return xr.open_zarr(store, chunks=None).load().drop_encoding()
    except Exception as error:
        raise ValueError(f"redraw must find readable data, got {store} ({error})") from None


def attributes(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Versions, device, seed and settings of a map, as attributes of its data."""
    kept = {
        key: str(value) if isinstance(value, Path) else value for key, value in settings.items()
    }
    return {"map": name, "seed": str(settings["seed"]), **as_attributes(provenance(kept))}


def failures(data: xr.Dataset) -> dict[str, int]:
    """How many cells failed, by the name of their status."""
    counts: dict[str, int] = {}
    for name, variable in data.data_vars.items():
        if str(name).endswith("status"):
            for status in qra.Status:
                number = int(np.sum(variable.values == status))
                if not status.success and number:
                    counts[status.name] = counts.get(status.name, 0) + number
    return counts


def _portable(data: xr.Dataset) -> xr.Dataset:
    """The data with labels as strings of variable length, which zarr's format specifies."""
    labels = {
        name: variable.astype(object)
        for name, variable in data.variables.items()
        if variable.dtype.kind == "U"
    }
    return data.assign(
        {name: labels[name] for name in labels if name in data.data_vars}
    ).assign_coords({name: labels[name] for name in labels if name in data.coords})


def write_files(
    folder: Path, data: xr.Dataset, figure: Figure, summary: Mapping[str, Any], claims: str
) -> None:
    """Write data, figures, summary and the text of the claims: all of them, or none where something
    fails on the way.

    **Raises:** `ValueError` if the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing_to(folder))
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        stack.callback(shutil.rmtree, fresh, ignore_errors=True)
        os.chmod(fresh, 0o755)
        # Format 2: consolidated metadata is part of it, so xarray opens it without a warning.
        _portable(data).to_zarr(fresh / "data.zarr", mode="w", zarr_format=2, consolidated=True)
        for suffix in ("png", "pdf"):
            with plot.style():  # it says how many dots an inch has
                figure.savefig(fresh / f"figure.{suffix}")
        (fresh / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        (fresh / "claims.txt").write_text(claims)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old / folder.name)
            os.replace(fresh, folder)
            shutil.rmtree(old)
        else:
            os.replace(fresh, folder)
