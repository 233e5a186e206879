"""Sweeps: many problems through one function."""

from ._chunks import Chunked as Chunked
from ._chunks import map_chunks as map_chunks
