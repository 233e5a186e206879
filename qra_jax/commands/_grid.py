"""The settings of a sweep over a grid of initial policies of three patterns.

The grid may have any of the parameters below as an axis; the others keep one value.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from ._settings import BadSetting, require_setting

PARAMETERS = {
    "pi_best": "initial probability of the best pattern",
    "misleading": "share of the misleading pattern in the rest of the probability",
    "gap": "success rate of the best pattern less that of the misleading one",
    "best_rate": "success rate of the best pattern",
    "low_rate": "success rate of the third pattern",
    "eps": "converged means that the best pattern has probability 1 - eps",
}
_FIXED = {
    "best_rate": 0.9,
    "low_rate": 0.1,
    "gap": 0.2,
    "misleading": 0.7,
    "pi_best": 0.05,
    "eps": 0.01,
}


def cache_folder() -> Path:
    """Where compiled programs are kept by default: the user's cache folder, by XDG's rules."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "qra_jax"


@dataclasses.dataclass(frozen=True)
class GridSweep:
    """Compute entanglement and convergence times over a grid of initial policies of three
    patterns, of any size, on all devices of all processes; `--resume` continues after any
    interruption."""

    name: ClassVar[str] = "grid"

    axes: tuple[str, ...] = (
        "pi_best=1e-8:0.1:100:log",
        "misleading=0.05:0.95:10",
        "gap=0.01:0.7:100",
    )
    """NAME=START:STOP:NUMBER[:log] for an axis, NAME=VALUE for one value; names: pi_best,
    misleading (share of what pi_best leaves), gap (of success rates), best_rate, low_rate, eps"""
    points: int | None = None
    """cells in all: the first axis gets as many values as that takes, rounded up"""
    quantities: tuple[Literal["convergence", "entanglement"], ...] = (
        "convergence",
        "entanglement",
    )
    """what to compute: the natural logarithm of the time, and the status of its solve"""
    out: Path = Path("results/grid")
    """folder for data.zarr, figure and summary.json; with several processes one that all see"""
    resume: bool = False
    """continue an interrupted sweep, or begin one"""
    overwrite: bool = False
    """replace the sweep in this folder"""
    width: int = 512
    """points in a compiled batch; results depend on it in the last bits"""
    cells_per_chunk: int = 2**16
    """at most so many cells are in one file of the store, and lost when the process is killed"""
    workers: int = 2
    """batches under way at a time on each device"""
    coordinator: str | None = None
    """HOST:PORT of process 0; found by itself under SLURM, MPI or on cloud TPUs"""
    num_processes: int | None = None
    """how many processes there are"""
    process_id: int | None = None
    """which of them this is, from 0"""
    distributed: bool = False
    """several processes, all found by JAX itself (SLURM, MPI, cloud TPU)"""
    cache: Path = dataclasses.field(default_factory=cache_folder)
    """folder that keeps compiled programs, of mode 700"""
    quiet: bool = False
    """no progress"""

    def __post_init__(self) -> None:
        require_setting(len(self.quantities) > 0, "quantities", "be named", "none")
        require_setting(self.width >= 1, "width", "be at least 1", self.width)
        require_setting(self.workers >= 1, "workers", "be at least 1", self.workers)
        cells = self.cells_per_chunk
        require_setting(cells >= 1, "cells_per_chunk", "be at least 1", cells)
        both = self.resume and self.overwrite
        require_setting(not both, "resume and overwrite", "not be given together", "both")
        self.parameters()

    @property
    def several(self) -> bool:
        """Whether there is more than this process."""
        told = (self.coordinator, self.num_processes, self.process_id)
        return self.distributed or any(value is not None for value in told)

    def parameters(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The values of the axes, and the parameters of one value."""
        specs = dict(map(_parsed, self.axes))
        fixed = {**_FIXED, **{name: x for name, x in specs.items() if isinstance(x, float)}}
        cuts = {name: cut for name, cut in specs.items() if isinstance(cut, _Cut)}
        require_setting(len(cuts) > 0, "axes", "name at least one axis", self.axes)
        if self.points is not None:
            require_setting(self.points >= 1, "points", "be at least 1", self.points)
            first, *others = cuts
            rest = math.prod(cuts[name].number for name in others)
            cuts[first] = cuts[first]._replace(number=-(-self.points // rest))
        axes = {name: cut.values() for name, cut in cuts.items()}
        fixed = {name: value for name, value in fixed.items() if name not in axes}
        ends = {name: (float(np.min(x)), float(np.max(x))) for name, x in {**fixed, **axes}.items()}
        for name, (low, high) in ends.items():
            within = low > 0 and high < 1
            require_setting(within, name, "lie strictly between 0 and 1", f"{low:g} to {high:g}")
        widest, lowest = ends["gap"][1], ends["best_rate"][0]
        require_setting(widest <= lowest, "gap", f"be at most best_rate ({lowest:g})", widest)
        return axes, fixed


class _Cut(NamedTuple):
    """Values between two ends."""

    start: float
    stop: float
    number: int
    log: bool

    def values(self) -> np.ndarray:
        spaced = np.geomspace if self.log else np.linspace
        return spaced(self.start, self.stop, self.number)


def _parsed(text: str) -> tuple[str, float | _Cut]:
    name, _, values = text.partition("=")
    require_setting(name in PARAMETERS, "axes", f"name one of {', '.join(PARAMETERS)}", name)
    parts = values.split(":")
    log = parts[-1] == "log"
    try:
        if len(parts) == 1:
            return name, float(values)
        start, stop, number = parts[: len(parts) - log]
        cut = _Cut(float(start), float(stop), int(number), log)
    except ValueError:
        must = "be NAME=START:STOP:NUMBER[:log] or NAME=VALUE"
        raise BadSetting(f"axes must {must}, got {text}") from None
    require_setting(cut.number >= 1, name, "have at least one value", cut.number)
    require_setting(min(cut.start, cut.stop) > 0, name, "lie above 0", min(cut.start, cut.stop))
    return name, cut
