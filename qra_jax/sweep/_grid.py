"""The points of a sweep, made from their index."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from .._core.checks import require

_SAMPLE = "sample"


class Grid:
    """The points of a sweep: every combination of the values of named axes, or explicit samples.

    Points are made a few at a time from their index, which counts with the last axis fastest. The
    product of the axes never exists as a whole, so that a grid may have any number of points.

    **Arguments:**

    - `axes`: by name, the values of each axis, `(n,)`. A `range` is not stored: an axis
      `range(10**10)` counts random draws, for instance.
    - `samples`: in place of axes, by name, arrays with one leading axis `(N, ...)`.

    **Raises:** `ValueError` if both or neither are given, an axis is empty or not of one dimension,
    the samples differ in their leading axis, or a name is not a Python identifier.

    ??? example

        ```python
        import numpy as np
        from qra_jax.sweep import Grid
        grid = Grid({"pi_best": np.geomspace(1e-8, 1e-1, 1000), "gap": [0.1, 0.2, 0.4]})
        print(grid.shape, grid.points(0, 2))
        ```
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]

    def __init__(
        self,
        axes: Mapping[str, ArrayLike | range] | None = None,
        *,
        samples: Mapping[str, ArrayLike] | None = None,
    ):
        require(
            (axes is None) != (samples is None), "a grid", "have axes or samples", "both or none"
        )
        given: Mapping[str, Any] = samples if axes is None else axes  # type: ignore[assignment]
        self._sampled = axes is None
        require(len(given) > 0, "a grid", "have at least one name", dict(given))
        self._values: dict[str, np.ndarray | range] = {}
        for name, values in given.items():
            usable = isinstance(name, str) and name.isidentifier()
            require(usable, "the names of a grid", "be identifiers", repr(name))
            if not isinstance(values, range):
                values = np.asarray(values)
                require(values.dtype.kind in "biuf", name, "hold real numbers", values.dtype)
                if self._sampled:
                    require(values.ndim >= 1, name, "have a leading axis", values.shape)
                else:
                    require(values.ndim == 1, name, "have one dimension", values.shape)
            require(len(values) > 0, name, "hold at least one value", "none")
            self._values[name] = values
        if self._sampled:
            sizes = {len(values) for values in self._values.values()}
            require(len(sizes) == 1, "samples", "share one leading axis", sorted(sizes))
            require(
                _SAMPLE not in given, "the names of samples", "not be that of their axis", _SAMPLE
            )
            self.dims, self.shape = (_SAMPLE,), (sizes.pop(),)
        else:
            self.dims = tuple(self._values)
            self.shape = tuple(len(values) for values in self._values.values())

    @property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """What a point consists of."""
        return tuple(self._values)

    def points(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The points of the indices `start <= index < stop`.

        **Arguments:** `start`, `stop`: within the size of the grid.

        **Returns:** by name, arrays `(stop - start, ...)`.
        """
        if self._sampled:
            return {name: np.asarray(values[start:stop]) for name, values in self._values.items()}
        return dict(self._along_axes(np.arange(start, stop)))

    def _along_axes(self, index: np.ndarray):
        stride = self.size
        for name, values in self._values.items():
            stride //= len(values)
            at = index // stride % len(values)
            if isinstance(values, range):
                yield name, values.start + values.step * at
            else:
                yield name, values[at]

    def coordinates(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """What labels the points in a data set: by name, dimensions and values."""
        found = {}
        for name, values in self._values.items():
            if isinstance(values, range):
                continue
            first = self.dims if self._sampled else (name,)
            rest = tuple(f"{name}_{axis}" for axis in range(values.ndim - 1))
            found[name] = (*first, *rest), values
        return found

    def describe(self) -> dict[str, str]:
        """A line for each name, which changes whenever its values do."""
        lines = {}
        for name, values in self._values.items():
            if isinstance(values, range):
                lines[name] = repr(values)
            else:
                digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
                lines[name] = f"{values.dtype} {values.shape} {digest[:16]}"
        return lines
