"""Maps that are solved finely only along their boundaries."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int

from .._core.checks import require, whole
from ._chunks import Chunked

_MOST_POINTS = 2**62  # on the finest grid: points are known by one number each


@dataclasses.dataclass(frozen=True)
class Refined:
    r"""A map over n axes in N points and M cells, which are fine along boundaries only.

    - `names`: of the axes; `spacing`: `(n,)`, of the finest grid, in the axes' units.
    - `points`: `(N, n)`, where the function was solved, in the axes' units and in lexical order;
      `values`: `(N,)`, what it returned; `labels`: `(N,)`, integers, of boundaries between which
      the map is made.
    - `lower`, `upper`: `(M, n)`, opposite corners of the cells, which cover the map without
      overlap; `cell_labels`: `(M,)`, that of the lower corner; `crossed`: `(M,)`, whether the
      corners differ: such cells are of the finest size.
    - `num_full`: how many points the finest grid has.
    """

    names: tuple[str, ...]
    spacing: Float[np.ndarray, " n"]
    points: Float[np.ndarray, "N n"]
    values: np.ndarray
    labels: Int[np.ndarray, " N"]
    lower: Float[np.ndarray, "M n"]
    upper: Float[np.ndarray, "M n"]
    cell_labels: Int[np.ndarray, " M"]
    crossed: Bool[np.ndarray, " M"]
    num_full: int
    _corners: Int[np.ndarray, "M C"]  # rows of points: the corners of each cell, in binary order

    @property
    def num_solves(self) -> int:
        """How many points were solved."""
        return len(self.points)

    @property
    def saved(self) -> float:
        """How many times fewer these are than on the finest grid."""
        return self.num_full / self.num_solves

    def volume(self, label: int) -> float:
        """The area (volume) on which the map has a label, in the product of the axes' units: that
        of its cells, a crossed one counting by its share of corners with the label."""
        share = np.mean(self.labels[self._corners] == label, axis=1)
        return float(np.sum(share * np.prod(self.upper - self.lower, axis=1)))

    def boundary(self) -> Float[np.ndarray, "S 2 2"]:
        """The boundaries of a map over two axes, as line segments.

        Where an edge of a crossed cell has different labels at its ends the boundary passes through
        it: by linear interpolation where the function returns numbers that are finite at both ends,
        in the middle where it returns labels. Two such edges of a cell are joined; three or four
        (where three labels meet, or at a saddle) are each joined to their mean.

        **Returns:** `(S, 2, 2)`: segments, ends, coordinates in the axes' units. None is further
        from the boundary than the tolerance asked for.

        **Raises:** `ValueError` for a map over more or fewer axes.
        """
        require(len(self.names) == 2, "map", "have two axes", len(self.names))
        rows = self._corners[self.crossed]
        ends = rows[:, [[0, 1], [2, 3], [0, 2], [1, 3]]]  # cells, edges, ends
        cut = self.labels[ends[..., 0]] != self.labels[ends[..., 1]]
        at = self._between(ends)
        count = cut.sum(axis=1)
        order = np.argsort(~cut, axis=1, kind="stable")[:, :2]
        pairs = np.take_along_axis(at, order[..., None], axis=1)[count == 2]
        centre = np.sum(np.where(cut[..., None], at, 0), axis=1) / np.maximum(count, 1)[:, None]
        meeting = cut & (count > 2)[:, None]
        spokes = np.stack([at, np.broadcast_to(centre[:, None], at.shape)], axis=2)[meeting]
        return np.concatenate([pairs, spokes])

    def _between(self, ends: np.ndarray) -> np.ndarray:
        """Where on edges, `(..., 2)` rows of points, the boundary passes: `(..., 2)`."""
        share = np.full(ends.shape[:-1], 0.5)
        if np.issubdtype(self.values.dtype, np.floating):
            first, last = self.values[ends[..., 0]], self.values[ends[..., 1]]
            with np.errstate(invalid="ignore", divide="ignore"):
                crossing = first / (first - last)
            share = np.where((crossing >= 0) & (crossing <= 1), crossing, share)
        start, stop = self.points[ends[..., 0]], self.points[ends[..., 1]]
        return start + share[..., None] * (stop - start)


def refine(
    function: Callable[[dict[str, Any]], ArrayLike],
    axes: Mapping[str, tuple[float, float]],
    *,
    tolerance: Mapping[str, float],
    coarse: int | Mapping[str, int] = 16,
    width: int = 64,
    workers: int = 2,
    progress: Callable[[int], Any] | None = None,
) -> Refined:
    r"""A map that is solved on a coarse grid, and then wherever a boundary passes, until cells are
    smaller than a tolerance.

    A cell is divided into $2^n$ if its corners differ in label, or if a point on its sides that was
    solved for a finer neighbour differs from them: so a boundary is followed into cells that it
    enters and leaves by one side. What is divided depends on labels alone, not on the order of
    solves: the map is the same for every width and number of workers.

    What lies within a coarse cell and touches none of the points solved is missed: thin islands and
    closed loops narrower than a coarse cell may be. Choose `coarse` by the smallest that matters.

    **Arguments:**

    - `function`: of a dict of scalars, one for each axis, as for `map_chunks`. It returns an
      integer or a boolean, which is the label (give failed solves one of their own); or a number,
      of which the sign is the label: 1 above 0, 0 at most 0, -1 if NaN, so that an iso-level of f
      is the boundary of f - level.
    - `axes`: name to `(low, high)`. Of a logarithmic axis pass the logarithm.
    - `tolerance`: name to the largest size of a cell on a boundary, in the units of the axis.
    - `coarse`: cells of the coarse grid along each axis, at least 1.
    - `width`, `workers`: as for `map_chunks`. Each round of divisions pads its last chunk.
    - `progress`: called with the number of points just solved.

    **Returns:** a `Refined`.

    **Raises:** `ValueError` if an axis or a number is out of range, the names differ, the finest
    grid is too large to count, or the function returns more than one number a point.

    ??? example

        ```python
        import qra_jax as qra
        from qra_jax.sweep import refine

        def regime(x):
            rest = 1 - x["best"] - x["misleading"]
            policy, problem = qra.two_stage([x["best"], x["misleading"], rest], [0.9, 0.7, 0.1])
            return qra.regime(policy, problem)[0]

        found = refine(regime, {"best": (0.01, 0.49), "misleading": (0.1, 0.5)},
                       tolerance={"best": 1e-3, "misleading": 1e-3})
        print(found.saved, found.boundary().shape)
        ```
    """
    names = tuple(axes)
    require(len(names) > 0, "axes", "name at least one axis", dict(axes))
    for name, (low, high) in axes.items():
        ordered = bool(-math.inf < low < high < math.inf)
        require(ordered, f"axes[{name!r}]", "be finite and rise", (low, high))
    fits = set(tolerance) == set(names)
    require(fits, "tolerance", f"name the axes, {names}", tuple(tolerance))
    for name in names:
        require(bool(tolerance[name] > 0), f"tolerance[{name!r}]", "be above 0", tolerance[name])
    cells = coarse if isinstance(coarse, Mapping) else dict.fromkeys(names, coarse)
    require(set(cells) == set(names), "coarse", f"name the axes, {names}", tuple(cells))
    numbers = np.array([whole(cells[name], f"coarse[{name!r}]", 1) for name in names])
    low, high = (np.array([float(axes[name][i]) for name in names]) for i in (0, 1))
    wanted = np.array([float(tolerance[name]) for name in names])
    # A hair of slack, so that a tolerance of exactly a cell's size takes no further level.
    ratios = (high - low) / numbers / wanted * (1 - 1e-12)
    levels = max(0, math.ceil(math.log2(ratios.max())))
    finest = [int(n) * 2**levels for n in numbers]
    full = math.prod(n + 1 for n in finest)
    require(full < _MOST_POINTS, "tolerance", f"leave fewer than {_MOST_POINTS} points", full)

    def located(coordinates: np.ndarray) -> np.ndarray:
        return low + (high - low) * (coordinates / np.array(finest))

    solve = Chunked(function, width)

    def solved(coordinates: np.ndarray) -> np.ndarray:
        inputs = dict(zip(names, located(coordinates).T, strict=True))
        values = np.asarray(solve(inputs, workers=workers, progress=progress))
        require(values.ndim == 1, "function", "return one number a point", values.shape[1:])
        return values

    tree = _Tree(numbers, levels, solved)
    tree.grow()
    lower, sizes = tree.leaves()
    corners = tree.corner_rows(lower, sizes)
    labels = tree.labels
    return Refined(
        names=names,
        spacing=(high - low) / np.array(finest),
        points=located(tree.coordinates(tree.ids)),
        values=tree.values,
        labels=labels,
        lower=located(lower),
        upper=located(lower + sizes[:, None]),
        cell_labels=labels[corners[:, 0]],
        crossed=np.any(labels[corners] != labels[corners[:, :1]], axis=1),
        num_full=full,
        _corners=corners,
    )


class _Tree:
    """Cells in the integer coordinates of the finest grid, known by their lower corners."""

    def __init__(self, coarse: np.ndarray, levels: int, solved: Callable[[np.ndarray], np.ndarray]):
        self._top = 2**levels
        self._shape = tuple(int(n) * self._top + 1 for n in coarse)
        self._solved = solved
        self._offsets = np.array(list(itertools.product((0, 1), repeat=len(coarse))))
        starts = np.stack(np.meshgrid(*(np.arange(n) for n in coarse), indexing="ij"), axis=-1)
        lower = starts.reshape(-1, len(coarse)) * self._top
        self._cells = {self._top: self._number(lower)}  # sorted numbers of lower corners by size
        self.ids = np.empty(0, np.int64)
        self.values = np.empty(0)
        self._solve(self._corners(lower, self._top))

    def _number(self, coordinates: np.ndarray) -> np.ndarray:
        """One number for each point."""
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(coordinates, -1, 0)), self._shape))

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        return np.stack(np.unravel_index(ids, self._shape), axis=-1)

    @property
    def labels(self) -> np.ndarray:
        if np.issubdtype(self.values.dtype, np.floating):
            return np.where(np.isnan(self.values), -1, self.values > 0)
        return self.values.astype(np.int64)

    def _corners(self, lower: np.ndarray, size: int | np.ndarray) -> np.ndarray:
        """Numbers `(M, 2^n)` of the corners of cells."""
        return self._number(lower[:, None] + self._offsets[None] * np.reshape(size, (-1, 1, 1)))

    def corner_rows(self, lower: np.ndarray, size: int | np.ndarray) -> np.ndarray:
        """Rows `(M, 2^n)` of the corners among the points, all of them solved."""
        return np.searchsorted(self.ids, self._corners(lower, size))

    def _solve(self, ids: np.ndarray) -> None:
        new = np.setdiff1d(ids, self.ids)
        if len(new) == 0:
            return
        values = self._solved(self.coordinates(new))
        if len(self.ids) == 0:
            self.values = values[:0]
        merged = np.concatenate([self.ids, new])
        order = np.argsort(merged)
        self.ids, self.values = merged[order], np.concatenate([self.values, values])[order]

    def grow(self) -> None:
        """Divide cells until none that can be is crossed by a boundary."""
        while marked := self._marked():
            children = {size // 2: self._divide(size, which) for size, which in marked.items()}
            for half, ids in children.items():
                known = self._cells.get(half, np.empty(0, np.int64))
                self._cells[half] = np.sort(np.concatenate([known, ids]))
            # One batch a round, whatever the sizes.
            corners = [self._corners(self.coordinates(ids), half) for half, ids in children.items()]
            self._solve(np.unique(np.concatenate([ids.ravel() for ids in corners])))

    def _divide(self, size: int, which: np.ndarray) -> np.ndarray:
        """Take cells away; the numbers of what they are divided into."""
        lower = self.coordinates(self._cells[size][which])
        self._cells[size] = self._cells[size][~which]
        children = lower[:, None] + self._offsets[None] * (size // 2)
        return self._number(children.reshape(-1, lower.shape[1]))

    def _marked(self) -> dict[int, np.ndarray]:
        """Which cells to divide, by their size: those that some point solved in or on them differs
        from."""
        labels, at = self.labels, self.coordinates(self.ids)
        marked = {}
        for size, cells in self._cells.items():
            if size == 1 or len(cells) == 0:
                continue
            own = labels[np.searchsorted(self.ids, cells)]
            which = np.zeros(len(cells), bool)
            # A point lies on up to 2^n cells of a size: the one that begins with it, and those
            # below it along each axis on whose far side it is.
            for offset in self._offsets:
                lower = at // size * size - offset[None] * size
                touches = np.all((offset[None] == 0) | (at % size == 0), axis=1)
                touches &= np.all((lower >= 0) & (lower + size < np.array(self._shape)), axis=1)
                ids = self._number(lower[touches])
                row = np.minimum(np.searchsorted(cells, ids), len(cells) - 1)
                differs = (cells[row] == ids) & (own[row] != labels[touches])
                which[row[differs]] = True
            if which.any():
                marked[size] = which
        return marked

    def leaves(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower corners `(M, n)` and sizes `(M,)` of all cells, in lexical order."""
        ids = np.concatenate(list(self._cells.values()))
        sizes = np.concatenate([np.full(len(x), size) for size, x in self._cells.items()])
        order = np.argsort(ids)
        return self.coordinates(ids[order]), sizes[order]
