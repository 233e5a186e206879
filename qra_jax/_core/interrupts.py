"""Ctrl-C in a program: one line, exit code 130, at once, and no file left half-written.

An exception would do neither: raised while JAX traces it comes out as something else, pools wait
for their threads, and an interpreter that is taken down under a running compilation crashes. So a
thread of its own, which is woken even while the main one is inside XLA, ends the process. Nothing
here loads JAX.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

CODE = 130
"""The exit code of a program that Ctrl-C has ended: 128 and the number of the signal."""

# Of the process, as signals are: whoever writes files holds it, and nobody leaves meanwhile.
_WRITING = threading.RLock()


@contextlib.contextmanager
def written_whole() -> Iterator[None]:
    """Files that are written in here are written before Ctrl-C ends the program."""
    with _WRITING:
        yield


def say_interrupted(said: str) -> None:
    """The one line, after the ^C of a terminal or a bar of progress on it."""
    start = "\n" if os.isatty(2) else ""
    os.write(2, f"{start}{said}\n".encode())


def leave_while_loading() -> None:
    """Ctrl-C ends the process while a program loads its modules, which takes seconds; from
    `leaving_on_interrupt` on that says what becomes of it."""

    def leave(number, frame):
        say_interrupted("interrupted: nothing was written")
        os._exit(CODE)

    signal.signal(signal.SIGINT, leave)


@contextlib.contextmanager
def leaving_on_interrupt(said: str, program: bool) -> Iterator[None]:
    """Inside, Ctrl-C ends the process with a line on standard error.

    **Arguments:** `said`: the line; `program`: False where the caller is no program of its own:
    then Ctrl-C does what it did.
    """
    if not program or threading.current_thread() is not threading.main_thread():
        yield
        return
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def watch() -> None:
        while number := os.read(woken, 1):
            if number[0] == signal.SIGINT:
                with _WRITING:
                    with contextlib.suppress(OSError, ValueError):
                        sys.stdout.flush()
                    say_interrupted(said)
                    os._exit(CODE)

    # The signal's own number arrives in the pipe whatever the main thread is doing. The handler
    # has nothing left to do, but without one there is no wake-up.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    file = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(file)
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        os.close(wake)
        watcher.join()
        os.close(woken)
