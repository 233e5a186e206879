"""Sweeps of any size: over the devices of any number of processes, into one store, resumable."""

import base64
import collections
import contextlib
import json
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike

from .._core.checks import require, whole
from .._core.provenance import as_attributes, provenance
from ..flows._status import Status
from ._cells import Function, Sweep
from ._chunks import Crew, Pending
from ._grid import Grid
from ._report import Bar, SweepSummary, peak_memory, total
from ._store import Block, Store, StoreError, joined, locked, writing
from ._team import Team, write_json


def run_sweep(
    function: Function,
    grid: Grid,
    folder: Path | str,
    *,
    retry: Function | None = None,
    cost: Callable[[Mapping[str, np.ndarray]], ArrayLike] | None = None,
    seed: int = 0,
    width: int = 256,
    cells_per_chunk: int = 2**16,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    devices: Sequence[Any] | None = None,
    workers: int = 2,
    quiet: bool = False,
) -> SweepSummary:
    r"""Compute `function` at every point of a grid and keep the results in a store.

    The points of a store chunk are solved by compiled batches of one width, on all devices, and
    written together; at most two chunks are under way in a process. What is stored depends neither
    on devices, processes and interruptions nor on which cells were computed when: bit by bit, on
    one kind of machine. Where `jax.distributed` has been initialised each process takes a share of
    the chunks, and all write to the folder, which all must see.

    **Arguments:**

    - `function`: of a point (a dictionary of the grid's names) and a key,
      `jax.random.fold_in(jax.random.key(seed), index)`; returns a dictionary of scalars or small
      arrays. Outputs named `status`, or `..._status`, are `qra.Status` codes; without any, a cell
      with a NaN is `FAILED`.
    - `grid`: the points.
    - `folder`: gets `data.zarr`, `summary.json` and a log for each process.
    - `retry`: the same with tighter settings, for cells that fail; it replaces them where it
      succeeds.
    - `cost`: of points, arrays `(N, ...)` by name, any numbers `(N,)` that grow with the expected
      cost; within a store chunk points of like cost are solved together.
    - `seed`: of the keys, below 2^32.
    - `width`: how many points a compiled batch has. Part of the store's identity: results depend on
      it in the last bits.
    - `cells_per_chunk`: at most so many cells are in a chunk of the store, a file each variable.
    - `settings`: anything else that says what is computed, as JSON.
    - `resume`: continue an interrupted sweep (or begin it); chunks with a wrong checksum are
      computed again.
    - `overwrite`: replace a sweep in this folder.
    - `devices`: of this process, `jax.local_devices()` if not given; `workers`: batches under way
      at a time on each.
    - `quiet`: no progress.

    **Returns:** a `SweepSummary`; the data come from `open_sweep`.

    **Raises:** `ValueError` for bad arguments; `StoreError` if the folder holds a sweep and neither
    `resume` nor `overwrite` is given, holds one that was made otherwise, is written by another run,
    or cannot be written; `KeyboardInterrupt` after Ctrl-C (or SIGTERM), when the chunks under way
    are written.

    ??? example

        ```python
        import tempfile
        import jax.numpy as jnp
        import numpy as np
        import qra_jax as qra
        from qra_jax.sweep import Grid, open_sweep, run_sweep

        def function(point, key):
            probs = jnp.stack([point["pi_best"], 0.7, 0.3 - point["pi_best"]])
            found = qra.times.entanglement(*qra.two_stage(probs, [0.9, 0.6, 0.1]))
            return {"log_t0": found.log_time[0], "status": found.status[0]}

        grid = Grid({"pi_best": np.geomspace(1e-3, 1e-2, 20)})
        with tempfile.TemporaryDirectory() as folder:
            print(run_sweep(function, grid, folder, width=10, quiet=True))
            print(open_sweep(folder).log_t0.values)
        ```
    """
    require(not (resume and overwrite), "resume and overwrite", "not be given together", "both")
    require(0 <= whole(seed, "seed", 0) < 2**32, "seed", "be below 2**32", seed)
    whole(cells_per_chunk, "cells_per_chunk", 1)
    started = time.monotonic()
    places = jax.local_devices() if devices is None else list(devices)
    with Crew(places, workers) as crew:
        sweep = Sweep(function, retry, grid, cost, seed, width, cells_per_chunk, settings or {})
        return _Run(sweep, Path(folder), crew, places, quiet, started)(resume, overwrite)


class _Run:
    """One run of a sweep in this process."""

    def __init__(
        self, sweep: Sweep, folder: Path, crew: Crew, devices, quiet: bool, started: float
    ):
        self._sweep = sweep
        self._folder = folder
        self._crew = crew
        self._devices = devices
        self._quiet = quiet
        self._store = Store(folder, sweep.outputs, sweep.blocks)
        self._team = Team(folder)
        self._log = folder / f"log-{self._team.index:05d}.jsonl"
        self._failed: collections.Counter[str] = collections.Counter()
        self._retried = self._cured = self._computed = self._kept = self._repaired = 0
        self._started = started
        self._first: tuple[float, int] | None = None

    def __call__(self, resume: bool, overwrite: bool) -> SweepSummary:
        team = self._team
        with contextlib.ExitStack() as stack:
            said: dict[str, Any] = {"run": secrets.token_hex(4)}
            if team.index == 0:
                try:
                    stack.enter_context(locked(self._folder))
                    said["present"] = self._prepare(resume, overwrite)
                except StoreError as error:
                    said["error"] = str(error)
            said = team.agree(said)
            if "error" in said:
                raise StoreError(said["error"])
            try:
                if team.index > 0:
                    stack.enter_context(joined(self._folder))
                    self._store.open(self._sweep.identity)
                bits = np.frombuffer(base64.b64decode(said["present"]), np.uint8)
                interrupted = self._compute(np.unpackbits(bits)[: len(self._sweep.blocks)] > 0)
                summary = self._summarise(said["run"])
            except BaseException:
                team.tell("failed")
                raise
        if interrupted:
            raise KeyboardInterrupt
        return summary

    def _prepare(self, resume: bool, overwrite: bool) -> str:
        """Make or open the store; returns which blocks are there."""
        store, folder = self._store, self._folder
        if store.exists and not (resume or overwrite):
            raise StoreError(
                f"{folder} holds a sweep: resume (--resume) continues it, overwrite (--overwrite) "
                "replaces it"
            )
        with writing(folder):
            if overwrite or not store.exists:
                if store.exists:
                    store.remove()
                for path in (folder / "summary.json", *folder.glob("log-*.jsonl")):
                    path.unlink(missing_ok=True)
                store.create(self._sweep.grid, self._sweep.identity, self._made())
            store.open(self._sweep.identity)
            store.remove_leftovers()
            # What runs that were killed have told each other.
            for path in (
                *folder.glob(".stop-*"),
                *folder.glob(".failed-*"),
                *folder.glob(".part-*"),
            ):
                path.unlink(missing_ok=True)
            return base64.b64encode(np.packbits(store.present()).tobytes()).decode()

    def _made(self) -> dict[str, str]:
        return as_attributes(provenance(device=self._devices[0]))

    def _compute(self, present: np.ndarray) -> bool:
        """Compute this process's share; returns whether it was interrupted."""
        sweep, team, blocks = self._sweep, self._team, self._sweep.blocks
        absent = np.flatnonzero(~present)[team.index :: team.count]
        mine = absent.tolist()
        for number in np.flatnonzero(present)[team.index :: team.count].tolist():
            block = blocks[number]
            values = self._store.read(block)
            cells = block.stop - block.start
            if values is None:
                self._repaired += cells
                mine.append(number)
            else:
                self._kept += cells
                self._count(values)
        cells = self._kept + sum(
            block.stop - block.start for block in map(blocks.__getitem__, mine)
        )
        label = "sweep" if team.count == 1 else f"sweep, process {team.index} of {team.count}"
        flight: collections.deque[tuple[Block, Any, Pending]] = collections.deque()
        bar = Bar(cells, self._kept, self._quiet, label)
        with contextlib.closing(bar), _Interrupt() as interrupt:
            for block in map(blocks.__getitem__, mine):
                if interrupt.seen or team.told("stop") or team.told("failed"):
                    break
                self._note(block, "begun")
                inputs = sweep.inputs(block)
                pending = sweep.batch.begin(self._crew, inputs, cost=sweep.cost(block))
                flight.append((block, inputs, pending))
                # One is computed while the other waits behind it, so that no device does.
                if len(flight) > 1:
                    self._finish(bar, *flight.popleft())
            while flight:
                self._finish(bar, *flight.popleft())
            if interrupt.seen:
                team.tell("stop")
            return interrupt.seen

    def _finish(self, bar: Bar, block: Block, inputs, pending: Pending) -> None:
        def progress(number):
            self._computed += number
            if self._first is None:
                self._first = time.monotonic(), self._computed
            bar.update(number)

        values = pending.result(progress)
        failed = np.flatnonzero(self._sweep.failed(values) > Status.STATIONARY)
        cured = 0
        if len(failed) and self._sweep.again is not None:
            rows = jax.tree_util.tree_map(lambda x: x[failed], inputs)
            found = self._sweep.again.begin(self._crew, rows).result()
            good = self._sweep.failed(found) <= Status.STATIONARY
            for name, value in values.items():
                value[failed[good]] = found[name][good]
            cured = int(good.sum())
            self._retried += len(failed)
            self._cured += cured
        with writing(self._folder):
            self._store.write(block, values)
        self._note(block, "written", failed=len(failed) - cured)
        self._count(values)

    def _count(self, values: Mapping[str, np.ndarray]) -> None:
        codes, numbers = np.unique(self._sweep.failed(values), return_counts=True)
        known = {int(status): status.name for status in Status}
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            if code > Status.STATIONARY:
                self._failed[known.get(code, f"status {code}")] += number

    def _note(self, block: Block, event: str, **more: Any) -> None:
        line = {"event": event, "chunk": block.number, "cells": block.stop - block.start, **more}
        with writing(self._folder), open(self._log, "a") as file:
            file.write(json.dumps({**line, "time": round(time.time(), 3)}) + "\n")

    def _summarise(self, run: str) -> SweepSummary:
        team, path = self._team, self._folder / "summary.json"
        now = time.monotonic()
        first, before = self._first or (now, self._computed)
        part = {
            "failed": dict(self._failed),
            "seconds": now - self._started,
            "seconds_to_first": first - self._started,
            "cells_per_second": (self._computed - before) / max(now - first, 1e-9),
            "peak_memory": peak_memory(),
            "devices": len(self._devices),
            **{
                name: getattr(self, f"_{name}")
                for name in ("computed", "kept", "repaired", "retried", "cured")
            },
        }
        parts = team.gather(part)
        if team.index == 0:
            with writing(self._folder):
                write_json(path, {"run": run, **total(parts, self._sweep.grid.size)})
            for old in self._folder.glob(f".stop-{run}"):
                old.unlink(missing_ok=True)
            found = json.loads(path.read_text())
        else:
            found = team.await_summary(path)
        found.pop("run")
        return SweepSummary(folder=self._folder, **found)


class _Interrupt:
    """Ctrl-C, or the signal with which a cluster takes a machine back, as a flag.

    A second one ends the process as it always would. Only the main thread may set handlers.
    """

    seen = False

    def __enter__(self) -> "_Interrupt":
        self._old, self._woken = {}, -1
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
            # Whoever is woken by signals otherwise would not wait for the chunks under way.
            self._woken = signal.set_wakeup_fd(-1)
        return self

    def _note(self, number, frame) -> None:
        self.seen = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            # None: a handler that was not set from Python, such as that of JAX's runtime.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._woken >= 0:
            signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)

    def __exit__(self, *_: object) -> None:
        self._restore()
