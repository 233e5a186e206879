"""What every map shares: settings, the files it writes, and how it is run."""

import abc
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra

from ._claim import Claim, plain

Progress = Callable[[int], Any]
OUTSIDE = -1
"""Status of a grid point that stands for no policy, such as probabilities that sum to over 1."""


class BadSetting(Exception):
    """A setting of a map that is out of range.

    Not a `ValueError`: tyro would put one into a box of several lines, and the command line
    answers bad input with one line.
    """


@dataclasses.dataclass(frozen=True)
class Map(abc.ABC):
    """A map of the lab: settings, and how to compute, judge and draw it."""

    out: Path = Path("results")
    """folder that the map's own folder is written into"""
    quick: bool = False
    """a small version, for a first look and for tests"""
    redraw: bool = False
    """make figure and summary again from the stored data, computing nothing"""
    seed: int = 0
    """seed of all random draws, a whole number of at least 0"""
    quiet: bool = False
    """no progress bar"""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        require_setting(self.seed >= 0, "seed", "be at least 0", self.seed)

    @abc.abstractmethod
    def shrunk(self) -> "Map":
        """The settings of the `quick` version."""

    @abc.abstractmethod
    def ticks(self) -> int:
        """How many units of work `compute` reports to its progress."""

    @abc.abstractmethod
    def compute(self, progress: Progress) -> xr.Dataset:
        """The data of the map. Variables named `status` or `*_status` hold `qra.Status` codes."""

    @staticmethod
    @abc.abstractmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        """The claims that the data bear on."""

    @staticmethod
    @abc.abstractmethod
    def draw(data: xr.Dataset) -> Figure:
        """The figure, from the stored data alone."""

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        """Lines for the console beside the claims."""
        return []

    @property
    def folder(self) -> Path:
        """Where the map's files are."""
        return self.out / self.name

    @property
    def chosen(self) -> "Map":
        """The settings that are computed: the `quick` version's, if that is wanted."""
        return self.shrunk() if self.quick else self

    def data(self, progress: Progress) -> xr.Dataset:
        """The map's data, computed, or with `redraw` read.

        **Raises:** `ValueError` if, with `redraw`, the folder holds no data.
        """
        if self.redraw:
            return read_data(self.folder)
        data = self.chosen.compute(progress)
        data.attrs.update(provenance(self.chosen))
        return data


@dataclasses.dataclass(frozen=True)
class MapResult:
    """What a map wrote, and what it found."""

    folder: Path
    failed: dict[str, int]
    claims: list[Claim]
    notes: list[str]


def require_writable(out: Path) -> None:
    """Raise `ValueError` unless `out` is, or can be made, a folder that can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"out must be a folder that can be written, got {out} ({reason})"
        ) from None


def read_data(folder: Path) -> xr.Dataset:
    """The stored data of a map."""
    store = folder / "data.zarr"
    if not store.is_dir():
        raise ValueError(f"redraw must find the data of an earlier run, got none at {store}")
    try:
        return xr.open_zarr(store, chunks=None).load().drop_encoding()
    except Exception as error:
        raise ValueError(f"redraw must find readable data, got {store} ({error})") from None


def provenance(settings: Map) -> dict[str, str]:
    """Versions, device, seed and settings, as attributes of the data."""
    device = jax.devices()[0]
    versions = {
        name: sys.modules[name].__version__ for name in ("jax", "diffrax", "equinox", "numpy")
    }
    kept = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(settings).items()
        if key not in ("out", "quick", "redraw", "quiet")
    }
    return {
        "map": settings.name,
        "version": qra.__version__,
        "versions": json.dumps(versions),
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
        "seed": str(settings.seed),
        "settings": json.dumps(kept),
    }


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


def write_map(settings: Map, data: xr.Dataset) -> MapResult:
    """Write data, figures and summary: all of them, or none where something fails on the way."""
    claims, failed = settings.claims(data), failures(data)
    summary = {
        "map": settings.name,
        "settings": json.loads(data.attrs["settings"]),
        "failed_cells": sum(failed.values()),
        "claims": [
            {key: plain(x) if isinstance(x, float) else x for key, x in vars(claim).items()}
            for claim in claims
        ],
    }
    figure = settings.draw(data)
    folder = settings.folder
    fresh = Path(tempfile.mkdtemp(prefix=f".{settings.name}-", dir=settings.out))
    try:
        os.chmod(fresh, 0o755)
        # Format 2: consolidated metadata is part of it, so xarray opens it without a warning.
        _portable(data).to_zarr(fresh / "data.zarr", mode="w", zarr_format=2, consolidated=True)
        for suffix in ("png", "pdf"):
            figure.savefig(fresh / f"figure.{suffix}")
        (fresh / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{settings.name}-old-", dir=settings.out))
            os.replace(folder, old / folder.name)
            os.replace(fresh, folder)
            shutil.rmtree(old)
        else:
            os.replace(fresh, folder)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"out must be a folder that can be written, got {folder} ({reason})"
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return MapResult(folder, failed, claims, settings.notes(data))


def require_setting(ok: bool, name: str, must: str, was: object) -> None:
    """Raise `BadSetting` unless a setting is what it must be."""
    if not ok:
        raise BadSetting(f"{name} must {must}, got {was}")
