"""Settings of a command: their checks, whose messages are one line, and reports of progress."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Progress = Callable[[int], Any]
"""Called with numbers of units of work done."""


class BadSetting(Exception):
    """A setting that is out of range.

    Not a `ValueError`: tyro would put one into a box of several lines, and the command line
    answers bad input with one line.
    """


def require_setting(ok: bool, name: str, must: str, was: object) -> None:
    """Raise `BadSetting` unless a setting is what it must be."""
    if not ok:
        raise BadSetting(f"{name} must {must}, got {was}")


def require_writable(out: Path) -> None:
    """Raise `ValueError` unless `out` is, or can be made, a folder that can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"out must be a folder that can be written, got {out} ({reason})"
        ) from None
