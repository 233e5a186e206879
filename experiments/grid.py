"""A grid of initial policies of three patterns, of any size: `python -m experiments.grid`.

The grid may have any of the parameters below as an axis; the others keep one value. The sweep runs
on all devices of all processes, and continues with `--resume` after any interruption.
"""

import dataclasses
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import qra_jax as qra
from qra_jax.sweep import Grid, StoreError, open_sweep, run_sweep

from ._cache import cache_folder, keep_programs
from ._grid_figure import draw_grid
from ._lab.settings import BadSetting, require_setting

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


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings of a sweep over a grid, and where it runs."""

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
        ends = {name: (np.min(x), np.max(x)) for name, x in {**fixed, **axes}.items()}
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


def times_function(quantities: Sequence[str], fixed: Mapping[str, float], method: qra.Exact):
    """The times of a point: what `run_sweep` calls."""

    def function(point, key):
        del key
        at: dict[str, Any] = {**fixed, **point}
        rest = 1 - at["pi_best"]
        share = at["misleading"]
        probs = jnp.stack([at["pi_best"], rest * share, rest * (1 - share)])
        best = jnp.asarray(at["best_rate"])
        rates = jnp.stack([best, best - at["gap"], jnp.asarray(at["low_rate"])])
        policy, problem = qra.two_stage(probs, rates)
        found = {}
        for name in quantities:
            if name == "convergence":
                end = qra.times.convergence(policy, problem, at["eps"], method=method)
            else:
                end = qra.times.entanglement(policy, problem, method=method)
            found[f"log_{name}_time"] = end.log_time[0]
            found[f"{name}_status"] = end.status[0]
        return found

    return function


def run(settings: Sweep) -> str:
    """Run a sweep, draw it if it is complete, and say what came of it."""
    axes, fixed = settings.parameters()
    quantities = settings.quantities
    summary = run_sweep(
        times_function(quantities, fixed, qra.Exact()),
        Grid(axes),
        settings.out,
        retry=times_function(quantities, fixed, qra.Exact(tol=1e-12, max_pieces=2**16)),
        width=settings.width,
        cells_per_chunk=settings.cells_per_chunk,
        settings={"quantities": list(quantities), "fixed": fixed},
        resume=settings.resume,
        overwrite=settings.overwrite,
        workers=settings.workers,
        quiet=settings.quiet,
    )
    wrote = [settings.out / "data.zarr", settings.out / "summary.json"]
    if summary.complete and jax.process_index() == 0 and len(axes) > 1:
        figure = draw_grid(open_sweep(settings.out), tuple(axes), quantities, PARAMETERS)
        for suffix in ("png", "pdf"):
            wrote.append(settings.out / f"figure.{suffix}")
            figure.savefig(wrote[-1])
    return "\n".join([str(summary), *(f"wrote {path}" for path in wrote)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep asked for; returns the exit code (2 for bad input, 130 after Ctrl-C)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    program = "python -m experiments.grid"
    jax.config.update("jax_enable_x64", True)
    try:
        settings = tyro.cli(Sweep, args=arguments, prog=program, description=__doc__)
        settings.parameters()
        keep_programs(settings.cache)
        if settings.several:
            jax.distributed.initialize(
                settings.coordinator, settings.num_processes, settings.process_id
            )
        said = run(settings)
    except (BadSetting, StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = [word for word in arguments if word not in ("--overwrite", "--resume")]
        command = shlex.join([*program.split(), *again, "--resume"])
        print(f"interrupted; this continues:\n  {command}", file=sys.stderr)
        return 130
    if jax.process_index() == 0:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
