"""The base class of the maps: settings, and how to compute, judge and draw."""

import abc
import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import xarray as xr
from matplotlib.figure import Figure

from qra_jax.commands import require_setting

from .claim import Claim, plain
from .progress import Progress
from .store import attributes, failures, read_data, write_files
from .text import table


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
        """What was found, in lines for the console."""
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
        kept = dataclasses.asdict(self.chosen)
        for key in ("out", "quick", "redraw", "quiet"):
            del kept[key]
        data.attrs.update(attributes(self.name, kept))
        return data


@dataclasses.dataclass(frozen=True)
class MapResult:
    """What a map wrote, and what it found."""

    folder: Path
    failed: dict[str, int]
    claims: list[Claim]
    notes: list[str]


def write_map(settings: Map, data: xr.Dataset) -> MapResult:
    """Judge and draw the data of a map, and write its files."""
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
    write_files(settings.folder, data, settings.draw(data), summary, table(claims))
    return MapResult(settings.folder, failed, claims, settings.notes(data))
