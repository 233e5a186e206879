"""Sweeps: many problems through one function."""

from ._chunks import Chunked as Chunked
from ._chunks import map_chunks as map_chunks
from ._refine import Refined as Refined
from ._refine import refine as refine
