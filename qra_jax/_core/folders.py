"""Folders that results are written into. Nothing here loads JAX: a command asks before it does."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .interrupts import written_whole


@contextlib.contextmanager
def writing_to(folder: Path, name: str = "out") -> Iterator[None]:
    """Turn what the file system refuses into a `ValueError` of one line about the setting `name`,
    `folder`; Ctrl-C waits until all is written."""
    try:
        with written_whole():
            yield
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{name} must be a folder that can be written, got {folder} ({reason})"
        ) from None


def require_writable(folder: Path, name: str = "out") -> None:
    """Make a folder if it is not there, and raise `ValueError` unless it can be written."""
    with writing_to(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        # Root may write where permissions say no, and nobody on a read-only disk: try it.
        with tempfile.TemporaryFile(dir=folder):
            pass


def require_private(folder: Path, name: str) -> None:
    """Make a folder of mode 700 if it is not there, and raise `ValueError` unless it is the user's
    own and nobody else's to read or write."""
    with writing_to(folder, name):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ValueError(f"{name} must be a folder of your own, of mode 700, got {folder}")
