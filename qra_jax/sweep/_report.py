"""What a sweep says: its progress while it runs, its summary at the end."""

import collections
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

_EVERY = 10.0
"""Seconds between two lines of progress, where there is no terminal."""


class Bar:
    """Cells done, cells a second and the time left.

    **Arguments:** `total`: all cells; `done`: those done earlier, which count in no rate; `quiet`:
    say nothing; `label`: what the cells belong to.
    """

    def __init__(self, total: int, done: int, quiet: bool, label: str):
        self._total, self._start, self._done = total, done, done
        self._label = label
        self._began: float | None = None
        self._said = time.monotonic()
        terminal = sys.stderr.isatty()
        self._lines = not quiet and not terminal
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit="cell",
            unit_scale=True,
            disable=quiet or not terminal,
        )

    def update(self, number: int) -> None:
        """Count so many more cells."""
        self._done += number
        self._bar.update(number)
        now = time.monotonic()
        if self._began is None:  # the rate is that after compilation
            self._began = self._said = now
            self._start = self._done
        elif self._lines and now - self._said >= _EVERY:
            self._said = now
            rate = (self._done - self._start) / (now - self._began)
            left = (self._total - self._done) / rate
            self._say(f", {rate:.4g} a second, {left:.0f} s left")

    def _say(self, more: str) -> None:
        line = f"{self._label}: {self._done} of {self._total} cells{more}"
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """The last line."""
        self._bar.close()
        if self._lines:
            self._say("")


@dataclasses.dataclass(frozen=True)
class SweepSummary:
    """What a run did, and what the store holds now.

    `cells` of the grid; `computed` by this run; `kept` from earlier ones; `repaired`: cells
    computed again because a checksum did not hold; `failed`: cells without success by name of their
    status, of those `retried` in this run `cured` succeeded; `complete`: whether all cells are
    there; seconds in all and up to the first result (which is compilation, mostly); cells a
    second after that, and peak memory in bytes, both over all `processes`.
    """

    folder: Path
    cells: int
    computed: int
    kept: int
    repaired: int
    failed: dict[str, int]
    retried: int
    cured: int
    complete: bool
    seconds: float
    seconds_to_first: float
    cells_per_second: float
    peak_memory: int
    processes: int
    devices: int

    def __str__(self) -> str:
        why = ", ".join(f"{number} x {name}" for name, number in self.failed.items())
        cells = (
            f"{self.cells} cells: {self.computed} computed, {self.kept} kept, "
            f"{self.repaired} repaired"
        )
        failed = f"failed cells: {sum(self.failed.values())}"
        speed = f"{self.seconds:.1f} s, {self.seconds_to_first:.1f} s of it before the first result"
        if self.cells_per_second:
            speed += f", then {self.cells_per_second:.4g} cells a second"
        where = (
            f"devices: {self.devices}, processes: {self.processes}, "
            f"peak memory: {self.peak_memory / 2**20:.0f} MiB"
        )
        if not self.complete:
            cells += "; not complete"
        if why:
            failed += f" ({why})"
        if self.retried:
            failed += f"; {self.retried} retried, {self.cured} of them cured"
        return "\n".join([cells, failed, speed, where])


def total(parts: list[dict[str, Any]], cells: int) -> dict[str, Any]:
    """What all processes did together."""
    failed: collections.Counter[str] = collections.Counter()
    for part in parts:
        failed.update(part["failed"])
    added = ("computed", "kept", "repaired", "retried", "cured", "devices", "peak_memory")
    sums = {name: sum(part[name] for part in parts) for name in (*added, "cells_per_second")}
    longest = {name: max(part[name] for part in parts) for name in ("seconds", "seconds_to_first")}
    return {
        "cells": cells,
        "failed": dict(failed),
        "complete": sums["computed"] + sums["kept"] == cells,
        "processes": len(parts),
        **sums,
        **longest,
    }


def peak_memory() -> int:
    """Of this process, in bytes."""
    import resource  # POSIX only, unlike the rest of the library

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
