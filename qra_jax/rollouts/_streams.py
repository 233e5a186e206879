"""Files as streams of bytes: plain, compressed by gzip or by zstd; and what is no data at all."""

import gzip
import importlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any


def _zstd_error(module: str, name: str) -> type[Exception]:
    for package in ("compression", "backports"):
        try:
            return getattr(importlib.import_module(f"{package}.{module}"), name)
        except (ImportError, AttributeError):
            continue
    return EOFError


# What unpacking raises where a file is cut off or damaged.
UNPACKING = (EOFError, OSError, zlib.error, _zstd_error("zstd", "ZstdError"))
BAD_ARCHIVE = (*UNPACKING, zipfile.BadZipFile, _zstd_error("zstd.zipfile", "BadZipFile"))
_PACKED = (".gz", ".zst")


def kind_of(path: Path) -> str:
    """The ending that says what is in a file: of `x.jsonl.gz` it is `.jsonl`."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in _PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def opened(path: Path) -> io.BufferedIOBase:
    """The bytes of a file, unpacked as they are read.

    **Raises:** `ImportError`, which names the extra, if zstd is not there.
    """
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.GzipFile(path)
    if ending == ".zst":
        return _zstd(path, "").open(path, "rb")
    return path.open("rb")


def unpacked_archive(path: Path) -> Any:
    """A zip archive; with zstd within it where that is there."""
    try:
        module: Any = _zstd(path, ".zipfile")
    except ImportError:
        module = zipfile
    return module.ZipFile(path)


def _zstd(path: Path, part: str) -> Any:
    # Part of the standard library from Python 3.14 on.
    for name in (f"compression.zstd{part}", f"backports.zstd{part}"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        f"backports.zstd is needed for {path}: python -m pip install 'qra-jax[report]'"
    )


def require_data(path: Path) -> None:
    """Raise unless a file can be read, holds something, and that is not what stands for it.

    **Raises:** `ValueError` of one line.
    """
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path} must be a file that can be read, got: {reason}") from None
    if not head:
        raise ValueError(f"{path} must hold rows, got an empty file")
    if head.startswith(b"version https://git-lfs.github.com/"):
        raise ValueError(
            f"{path} must be the data, got a git-lfs pointer to them: `git lfs pull` fetches them"
        )
    if b"/annex/objects/" in head and head.count(b"\n") <= 1:
        raise ValueError(
            f"{path} must be the data, got a git-annex pointer to them: `git annex get` fetches "
            "them"
        )
