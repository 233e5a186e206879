"""Sweeps: many problems through one function."""

from .._core.provenance import as_attributes as as_attributes
from .._core.provenance import provenance as provenance
from ._chunks import Chunked as Chunked
from ._chunks import map_chunks as map_chunks
from ._engine import run_sweep as run_sweep
from ._grid import Grid as Grid
from ._refine import Refined as Refined
from ._refine import refine as refine
from ._report import SweepSummary as SweepSummary
from ._store import StoreError as StoreError
from ._store import open_sweep as open_sweep

__all__ = [
    "Chunked",
    "Grid",
    "Refined",
    "StoreError",
    "SweepSummary",
    "as_attributes",
    "map_chunks",
    "open_sweep",
    "provenance",
    "refine",
    "run_sweep",
]
