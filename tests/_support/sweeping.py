"""Sweeps in processes of their own: for what needs other devices, several processes, or a kill.

The processes are forked from one that has imported everything and started nothing.
"""

import contextlib
import multiprocessing
import os
import socket
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra
from qra_jax.sweep import Grid, run_sweep

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["sweeping"])

LIGHT_GRID = Grid({"x": np.linspace(-1, 1, 67), "y": np.geomspace(1e-3, 1, 12), "draw": range(5)})


def light(point, key):
    """Compiles in no time, and depends on the point, the key and the index; some cells fail."""
    draw = jax.random.normal(key)
    value = jnp.sin(point["x"]) * jnp.exp(point["y"]) + draw
    status = jnp.where(draw > 1.5, qra.Status.MAX_STEPS, qra.Status.COMPLETED)
    return {"value": value, "pair": jnp.stack([value, point["draw"] * 1.0]), "status": status}


def light_again(point, key):
    """Cures some of them."""
    found = light(point, key)
    hard = found["value"] > 3.0
    return {**found, "value": -found["value"], "status": jnp.where(hard, found["status"], 0)}


def run_light(folder: Path, **options):
    """The light sweep, with what is the same in all runs of it."""
    defaults = {"retry": light_again, "width": 16, "cells_per_chunk": 30, "quiet": True}
    cost = lambda points: -points["x"] * points["y"]  # noqa: E731
    return run_sweep(light, LIGHT_GRID, folder, cost=cost, **{**defaults, **options})


def run_real(folder: Path, **options):
    """Convergence times by the exact solver."""

    def function(point, key):
        rest = 1 - point["pi_best"]
        probs = jnp.stack([point["pi_best"], 0.7 * rest, 0.3 * rest])
        found = qra.times.convergence(*qra.two_stage(probs, [0.9, 0.7, 0.1]), 0.01)
        return {"log_time": found.log_time[0], "status": found.status[0]}

    grid = Grid({"pi_best": np.geomspace(1e-6, 0.5, 90)})
    return run_sweep(function, grid, folder, width=16, cells_per_chunk=40, quiet=True, **options)


_SWEEPS = {"light": run_light, "real": run_real}


def _in_child(kinds, folder, devices, team, options):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = flags
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    if team is not None:
        jax.distributed.initialize(*team)
    assert jax.local_device_count() == devices
    try:
        for kind in kinds:
            print(_SWEEPS[kind](folder / kind, **options), flush=True)
    finally:
        if team is not None:
            jax.distributed.shutdown()  # at exit, in processes that are no forks
        print(f"{time.process_time():.1f} s of CPU", flush=True)


def start(folder: Path, kinds=("light",), *, devices=1, team=None, **options):
    """A process that runs sweeps in `folder`; what it says is in the file `said` there."""
    child = _FORK.Process(target=_in_child, args=(kinds, folder, devices, team, options))
    child.start()
    return child


def finish(*children) -> list[int]:
    """The exit codes of processes."""
    for child in children:
        child.join(120)
        if child.is_alive():
            child.kill()
            child.join()
    return [child.exitcode for child in children]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a store."""
    store = folder / "data.zarr"
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
