"""A sweep over a grid of initial policies of three patterns."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core.compiled import enable_compilation_cache
from ..plot import style
from ..policies import two_stage
from ..solvers import Exact
from ..sweep import Grid, StoreError, open_sweep, run_sweep
from ..times import convergence, entanglement
from ._grid import PARAMETERS, GridSweep
from ._grid_figure import draw_grid
from ._settings import BadSetting


def times_function(quantities: Sequence[str], fixed: Mapping[str, float], method: Exact):
    """The times of a point: what `run_sweep` calls."""

    def function(point, key):
        del key
        at: dict[str, Any] = {**fixed, **point}
        rest = 1 - at["pi_best"]
        share = at["misleading"]
        probs = jnp.stack([at["pi_best"], rest * share, rest * (1 - share)])
        best = jnp.asarray(at["best_rate"])
        rates = jnp.stack([best, best - at["gap"], jnp.asarray(at["low_rate"])])
        policy, problem = two_stage(probs, rates)
        found = {}
        for name in quantities:
            if name == "convergence":
                end = convergence(policy, problem, at["eps"], method=method)
            else:
                end = entanglement(policy, problem, method=method)
            found[f"log_{name}_time"] = end.log_time[0]
            found[f"{name}_status"] = end.status[0]
        return found

    return function


def run(settings: GridSweep) -> str:
    """Run a sweep, draw it if it is complete, and say what came of it: in the first process only.

    **Raises:** `BadSetting` if the folder holds another sweep, or cannot be written.
    """
    jax.config.update("jax_enable_x64", True)
    enable_compilation_cache(settings.cache)
    if settings.several:
        jax.distributed.initialize(
            settings.coordinator, settings.num_processes, settings.process_id
        )
    try:
        said = swept(settings)
    except StoreError as error:
        raise BadSetting(str(error)) from None
    return said if jax.process_index() == 0 else ""


def swept(settings: GridSweep) -> str:
    """Run a sweep, draw it if it is complete, and say what came of it."""
    axes, fixed = settings.parameters()
    quantities = settings.quantities
    summary = run_sweep(
        times_function(quantities, fixed, Exact()),
        Grid(axes),
        settings.out,
        retry=times_function(quantities, fixed, Exact(tol=1e-12, max_steps=2**16)),
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
            with style():  # it says how many dots an inch has
                figure.savefig(wrote[-1])
    return "\n".join([str(summary), *(f"wrote {path}" for path in wrote)])
