"""Progress of a sweep: a bar on a terminal, lines elsewhere."""

import sys
import time

from tqdm import tqdm

_EVERY = 10.0


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
