"""Where the results of a sweep are kept: blocks of one zarr store, each written once and whole."""

import contextlib
import json
import math
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ._grid import Grid

_DATA, _LOCK, _MEMBERS, _IDENTITY = "data.zarr", ".lock", ".members", "sweep"
_FRESH, _OLD = ".data-", ".old-"
_SHAPING = ("outputs", "platform", "versions", "width")
"""What shows in the program, too: where these differ, that the program does says nothing."""
NOT_COMPUTED = -1
"""Status of a cell that has not been computed yet."""


class StoreError(Exception):
    """A store that cannot be used: in use, of other settings, full or read-only."""


class Block(NamedTuple):
    """What is written at once: a range of flat indices that is a box along the axes."""

    number: int
    start: int
    stop: int
    at: tuple[int, ...]
    slices: tuple[slice, ...]


class Blocks:
    """A grid cut into boxes of at most `cells` points, each a range of flat indices.

    Trailing axes are whole, one is cut, those before it are taken value by value. The cut depends
    on the shape and `cells` alone.
    """

    def __init__(self, shape: tuple[int, ...], cells: int):
        box, left = [1] * len(shape), cells
        for axis in reversed(range(len(shape))):
            pieces = -(-shape[axis] // left)
            box[axis] = -(-shape[axis] // pieces)
            if pieces > 1:
                break
            left //= shape[axis]
        self.shape = shape
        self.box = tuple(box)
        self._counts = tuple(-(-n // b) for n, b in zip(shape, box, strict=True))

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Block:
        at = tuple(int(i) for i in np.unravel_index(number, self._counts))
        slices = tuple(
            slice(i * b, min((i + 1) * b, n))
            for i, b, n in zip(at, self.box, self.shape, strict=True)
        )
        start = 0
        for part, length in zip(slices, self.shape, strict=True):
            start = start * length + part.start
        cells = math.prod(part.stop - part.start for part in slices)
        return Block(number, start, start + cells, at, slices)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a `StoreError` of one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder} ({error.strerror or error}); what has been written is kept, "
            "resume (--resume) continues from it"
        ) from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run off a folder, for as long as this process lives.

    The lock is the kernel's, on an open file: it ends with the process, however that ends.

    **Raises:** `StoreError` if another run holds it or the folder cannot be written.
    """
    import fcntl  # POSIX only, unlike the rest of the library

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / _LOCK, "a+")  # noqa: SIM115
    with file:
        with writing(folder):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                message = f"{folder} is being written by another run ({holder})"
                raise StoreError(message) from None
        if (folder / _MEMBERS).exists():
            with writing(folder), open(folder / _MEMBERS, "a") as members:
                try:
                    fcntl.flock(members, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    message = f"{folder} is being written by processes of an earlier run"
                    raise StoreError(f"{message}, which are about to end") from None
        # Only for the message above: a full disk is for the data to report.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[None]:
    """What processes beside the first hold, so that no other run begins while they live on."""
    import fcntl  # POSIX only, unlike the rest of the library

    with writing(folder):
        file = open(folder / _MEMBERS, "a")  # noqa: SIM115
    with file:
        with writing(folder):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def differences(stored: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two descriptions differ, a phrase each."""
    found = []
    for key in sorted({*stored, *now}):
        old, new = stored.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} is {old} there and {new} now")
    return found


class Store:
    """The zarr store of a sweep, its blocks and what they hold.

    A block is there once a file of each variable is, each with a valid checksum: nothing else is
    believed, so no order of writing and no flush to disk has to be relied on. zarr writes each file
    under another name first.
    """

    def __init__(self, folder: Path, outputs: Mapping[str, jax.ShapeDtypeStruct], blocks: Blocks):
        self.folder = folder
        self.blocks = blocks
        self.path = folder / _DATA
        self._outputs = dict(outputs)
        self._arrays: dict[str, zarr.Array] = {}

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def create(self, grid: Grid, identity: Mapping[str, Any], attrs: Mapping[str, str]) -> None:
        """Make the empty store: all of it or nothing."""
        fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=self.folder))
        try:
            os.chmod(fresh, 0o755)
            root = zarr.create_group(
                fresh, zarr_format=3, attributes={_IDENTITY: json.dumps(identity), **attrs}
            )
            for name, (dims, values) in grid.coordinates().items():
                rows = min(len(values), 2**20)
                made = _create(root, name, dims, values.shape, (rows,), values.dtype, 0)
                made[...] = values
            for name, spec in self._outputs.items():
                own = tuple(f"{name}_{axis}" for axis in range(len(spec.shape)))
                fill = np.nan if np.issubdtype(spec.dtype, np.floating) else 0
                fill = NOT_COMPUTED if name.endswith("status") else fill
                shape = (*grid.shape, *spec.shape)
                _create(root, name, (*grid.dims, *own), shape, self.blocks.box, spec.dtype, fill)
            with warnings.catch_warnings():
                # zarr-python and xarray read it; other readers of format 3 leave it aside.
                warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
                zarr.consolidate_metadata(fresh, zarr_format=3)
            os.replace(fresh, self.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def open(self, identity: Mapping[str, Any]) -> None:
        """Open the store, if it is the one that `identity` describes.

        **Raises:** `StoreError` if it is another one, or unreadable.
        """
        try:
            root = zarr.open_group(self.path, mode="r+", zarr_format=3)
            stored = json.loads(str(root.attrs[_IDENTITY]))
        except Exception as error:
            raise StoreError(f"{self.path} is not a store of a sweep ({error})") from None
        unlike = differences(stored, identity)
        if any(line.startswith(_SHAPING) for line in unlike):
            unlike = [line for line in unlike if not line.startswith("mathematics")]
        if unlike:
            raise StoreError(
                f"{self.path} was made otherwise: {'; '.join(unlike)}. "
                "overwrite (--overwrite) replaces it"
            )
        for name in self._outputs:
            array = root[name]
            assert isinstance(array, zarr.Array)
            # A block equal to the fill value is a result, too.
            self._arrays[name] = array.with_config({"write_empty_chunks": True})

    def present(self) -> np.ndarray:
        """Which blocks have a file of each variable, unread."""
        names = {name: set(os.listdir(self.path / name)) for name in self._outputs}
        return np.array(
            [
                all(self._file(name, block) in found for name, found in names.items())
                for block in self.blocks
            ]
        )

    def _file(self, name: str, block: Block) -> str:
        array, own = self._arrays[name], len(self._outputs[name].shape)
        return array.metadata.encode_chunk_key((*block.at, *(0,) * own))

    def read(self, block: Block) -> dict[str, np.ndarray] | None:
        """The values of a block, `(cells, ...)`, or None if its checksums do not hold."""
        found = {}
        for name, array in self._arrays.items():
            try:
                values = np.asarray(array[block.slices])
            except Exception:  # each codec has errors of its own
                return None
            found[name] = values.reshape(block.stop - block.start, *self._outputs[name].shape)
        return found

    def write(self, block: Block, values: Mapping[str, np.ndarray]) -> None:
        """Write the values of a block, `(cells, ...)`."""
        lengths = [part.stop - part.start for part in block.slices]
        for name, array in self._arrays.items():
            array[block.slices] = values[name].reshape(*lengths, *self._outputs[name].shape)

    def remove(self) -> None:
        """Remove the store, never leaving half of it under its name."""
        old = Path(tempfile.mkdtemp(prefix=_OLD, dir=self.folder))
        os.replace(self.path, old / _DATA)
        shutil.rmtree(old)

    def remove_leftovers(self) -> None:
        """Remove what was cut short: files of chunks, and stores half made or half removed."""
        for name in self._outputs:
            for path in (self.path / name).glob("*.partial"):
                path.unlink(missing_ok=True)
        for path in (*self.folder.glob(f"{_FRESH}*"), *self.folder.glob(f"{_OLD}*")):
            shutil.rmtree(path)


def _create(root: zarr.Group, name, dims, shape, box, dtype, fill) -> zarr.Array:
    return root.create_array(
        name,
        shape=shape,
        chunks=(*box, *shape[len(box) :]),
        dtype=dtype,
        fill_value=np.asarray(fill, dtype)[()],
        dimension_names=dims,
        compressors=[ZstdCodec(), Crc32cCodec()],
        # All files of a variable in one folder.
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def open_sweep(folder: Path | str) -> xr.Dataset:
    """The data of a sweep, read as they are used: labelled, with `-1` as the status of cells that
    have not been computed yet.

    **Arguments:** `folder`: as given to `run_sweep`.

    **Returns:** a data set whose variables have the dimensions of the grid.

    **Raises:** `StoreError` if there is none.

    ??? example

        ```python
        import tempfile
        from qra_jax.sweep import Grid, open_sweep, run_sweep
        with tempfile.TemporaryDirectory() as folder:
            run_sweep(lambda point, key: {"y": 2 * point["x"]}, Grid({"x": [1.0, 2.0]}), folder)
            print(open_sweep(folder).load())
        ```
    """
    path = Path(folder) / _DATA
    if not path.is_dir():
        raise StoreError(f"there is no sweep at {folder}")
    return xr.open_zarr(path, chunks=None)
