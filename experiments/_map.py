"""What every map shares: settings, the files it writes, and how it is run."""

import abc
import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting, writing_to
from qra_jax.sweep import as_attributes, provenance

from ._claim import Claim, plain

Progress = Callable[[int], Any]
OUTSIDE = -1
"""Status of a grid point that stands for no policy, such as probabilities that sum to over 1."""


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
        data.attrs.update(_made(self.chosen))
        return data


@dataclasses.dataclass(frozen=True)
class MapResult:
    """What a map wrote, and what it found."""

    folder: Path
    failed: dict[str, int]
    claims: list[Claim]
    notes: list[str]


def read_data(folder: Path) -> xr.Dataset:
    """The stored data of a map."""
    store = folder / "data.zarr"
    if not store.is_dir():
        raise ValueError(f"redraw must find the data of an earlier run, got none at {store}")
    try:
        return xr.open_zarr(store, chunks=None).load().drop_encoding()
    except Exception as error:
        raise ValueError(f"redraw must find readable data, got {store} ({error})") from None


def _made(settings: Map) -> dict[str, str]:
    """Versions, device, seed and settings, as attributes of the data."""
    kept = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(settings).items()
        if key not in ("out", "quick", "redraw", "quiet")
    }
    return {
        "map": settings.name,
        "seed": str(settings.seed),
        **as_attributes(provenance(kept)),
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
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, fresh, ignore_errors=True)
        stack.enter_context(writing_to(folder))
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
    return MapResult(folder, failed, claims, settings.notes(data))
