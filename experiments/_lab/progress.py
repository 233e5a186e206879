"""Reports of progress, which can stop what reports them."""

import threading
from collections.abc import Callable
from typing import Any

Progress = Callable[[int], Any]
"""Called with numbers of units of work done."""


class Stopped(Exception):
    """Raised inside a computation whose result nobody waits for any more."""


def stoppable(progress: Progress, stop: threading.Event) -> Progress:
    """The same reports, until `stop` is set: the next one then raises `Stopped`."""

    def report(number: int) -> None:
        if stop.is_set():
            raise Stopped
        progress(number)

    return report
