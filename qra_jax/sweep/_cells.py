"""What a sweep computes: its cells, and what tells it from other sweeps."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._core.checks import require
from .._core.provenance import SOLVERS, versions
from ..flows._status import Status
from ._chunks import Chunked
from ._grid import Grid
from ._store import Block, Blocks

Function = Callable[[Any, Array], Mapping[str, Array]]
_STATUS = "status"
_FORMAT = 1
"""Of the store: raised whenever what an older version wrote can no longer be continued."""


def cell_key(seed: Array, low: Array, high: Array) -> Array:
    """The key of a cell, `fold_in(key(seed), index)`; past 2^32 the upper half of the index is
    folded in as well."""
    key = jax.random.fold_in(jax.random.key(seed), low)
    return jnp.where(high > 0, jax.random.fold_in(key, high), key)


class Sweep:
    """What is computed, whoever does it."""

    def __init__(self, function, retry, grid, cost, seed, width, cells_per_chunk, settings):
        self.grid: Grid = grid
        self.blocks = Blocks(grid.shape, cells_per_chunk)
        self._cost = cost
        self._seed = seed
        self.batch = Chunked(_cell(function), width)
        self.again = None if retry is None else Chunked(_cell(retry), width)
        first, last = self.blocks[0], self.blocks[len(self.blocks) - 1]
        inputs = self.inputs(first)
        program, self.outputs = self.batch.describe(inputs)
        taken = {*grid.names, *grid.dims} & set(self.outputs)
        require(not taken, "names of outputs", "differ from the grid's", sorted(taken))
        self.codes = [name for name in self.outputs if name.endswith(_STATUS)]
        retried = None
        if self.again is not None:
            retried, outputs = self.again.describe(inputs)
            same = outputs == self.outputs
            require(same, "retry", "return what function does", _brief(outputs))
        order = None
        if cost is not None:
            order = [
                hashlib.sha256(np.argsort(values, kind="stable").tobytes()).hexdigest()[:16]
                for values in map(self.cost, (first, last))
                if values is not None
            ]
        identity = {
            "format": _FORMAT,
            "grid": grid.describe(),
            "outputs": _brief(self.outputs),
            "width": width,
            "cells_per_chunk": cells_per_chunk,
            "seed": seed,
            "order by cost": order,
            # The formulas of the library and the user's, as XLA gets them.
            "mathematics": program[:16],
            "mathematics of retry": retried and retried[:16],
            "platform": jax.default_backend(),
            "versions": versions(SOLVERS),
            "settings": dict(settings),
        }
        try:
            self.identity = json.loads(json.dumps(identity))
        except TypeError as error:
            must = "be plain numbers, strings, lists and dictionaries"
            raise ValueError(f"settings must {must}, got {settings} ({error})") from None

    def inputs(self, block: Block):
        index = np.arange(block.start, block.stop, dtype=np.uint64)
        seed = np.full(len(index), self._seed, np.uint32)
        low, high = (index & 0xFFFFFFFF).astype(np.uint32), (index >> 32).astype(np.uint32)
        return self.grid.points(block.start, block.stop), seed, low, high

    def cost(self, block: Block) -> np.ndarray | None:
        if self._cost is None:
            return None
        found = np.asarray(self._cost(self.grid.points(block.start, block.stop)))
        number = (block.stop - block.start,)
        require(found.shape == number, "cost", f"have shape {number}", found.shape)
        return found

    def failed(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The worst status of each cell."""
        codes = [values[name].reshape(len(values[name]), -1).max(axis=1) for name in self.codes]
        return np.max(codes, axis=0)


def _cell(function: Function):
    def run(inputs):
        point, seed, low, high = inputs
        found = function(point, cell_key(seed, low, high))
        usable = isinstance(found, Mapping) and len(found) > 0
        require(usable, "function", "return a dictionary of arrays", type(found).__name__)
        found = {name: jnp.asarray(value) for name, value in found.items()}
        codes = [name for name in found if name.endswith(_STATUS)]
        if not codes:
            floats = [x for x in found.values() if jnp.issubdtype(x.dtype, jnp.floating)]
            lost = jnp.any(jnp.stack([jnp.any(jnp.isnan(x)) for x in floats] or [False]))
            found[_STATUS] = jnp.where(lost, int(Status.FAILED), int(Status.COMPLETED))
        return {
            name: value.astype(jnp.int8) if name.endswith(_STATUS) else value
            for name, value in found.items()
        }

    return run


def _brief(outputs: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, str]:
    return {name: f"{spec.dtype} {spec.shape}" for name, spec in outputs.items()}
