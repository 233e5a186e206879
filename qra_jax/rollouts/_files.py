"""Files of rows: CSV, JSON lines and Parquet, in chunks, with the line or row of every value.

CSV and JSON lines are read by the standard library: it names the line of a fault, and a million
rollouts take seconds.
"""

import abc
import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# At a time: lines in bytes, so that memory does not grow with long texts; and rows, few of them,
# since Python's garbage collector looks through all that is kept, time and again.
_BYTES, _ROWS, _PARQUET_ROWS = 1 << 22, 1 << 9, 1 << 12


class Chunk(NamedTuple):
    """Some rows: their numbers in the file, and their values by column."""

    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]


class Table(abc.ABC):
    """A file of rows, to be read once: the names of its columns, then chunks of some of them."""

    unit = "line"

    def __init__(self, path: Path):
        self.path = path
        self.names: tuple[str, ...] = ()
        self.first = 1
        self.notes: list[str] = []

    def at(self, number: int) -> str:
        """A place in the file, in words."""
        return f"{self.path}, {self.unit} {number}"

    def fault(self, number: int, name: str, must: str, was: object) -> ValueError:
        """What is wrong there."""
        return ValueError(f"{self.at(number)}: {name} must {must}, got {was}")

    def decoded(self, raw: bytes, number: int) -> str:
        """A line as text; a byte order mark is left out."""
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            byte = f"the byte 0x{raw[error.start]:02x}"
            raise self.fault(number, "the text", "be UTF-8", byte) from None
        if "\0" in text:
            raise self.fault(number, "the text", "be UTF-8", "binary data")
        return text.removeprefix("\ufeff") if number == 1 else text

    @abc.abstractmethod
    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """The rows, in their order; of the columns `names` only."""


class CsvTable(Table):
    """Comma- (or tab-) separated values under a header; `#` between rows begins a comment."""

    def __init__(self, path: Path, delimiter: str = ","):
        super().__init__(path)
        self._start, self._between_rows = 0, True
        self._records = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        header = next(self._rows(), None)
        if header is None:
            raise ValueError(f"{path} must hold a header and rows, got an empty file")
        self.first = header[0]
        self.names = tuple(name.strip() for name in header[1])
        for name in self.names:
            if name and self.names.count(name) > 1:
                raise self.fault(self.first, "columns", "be all different", f"{name!r} twice")

    def _lines(self) -> Iterator[str]:
        comments = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = self.decoded(raw, number)
                # Not within a quoted text, where a heading may begin with `#`.
                if self._between_rows:
                    bare = line.lstrip()
                    if not bare or bare[0] == "#":
                        comments += bool(bare and self.names)
                        continue
                    self._start, self._between_rows = number, False
                yield line
        if comments:
            self.notes.append(f"lines below the header that are comments (#): {comments}")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.names)
        try:
            for record in self._records:
                self._between_rows = True
                if len(record) != width and width:
                    raise self.fault(self._start, "a row", f"have {width} fields", len(record))
                yield self._start, record
        except csv.Error as error:
            must = "be comma-separated values, quotes closed"
            raise self.fault(self._start, "the row", must, f"an error: {error}") from None

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        places = [self.names.index(name) for name in names]
        rows = self._rows()
        while part := list(itertools.islice(rows, _ROWS)):
            numbers, records = zip(*part, strict=True)
            columns = list(zip(*records, strict=True))
            yield Chunk(numbers, {name: columns[i] for name, i in zip(names, places, strict=True)})


class JsonTable(Table):
    """One JSON object a line. Columns are the keys that occur in the first 4 MB."""

    def __init__(self, path: Path):
        super().__init__(path)
        with path.open("rb") as file:
            first = self._parsed(1, file.readlines(_BYTES))
        if not first:
            raise ValueError(f"{path} must hold JSON objects, one a line, got an empty file")
        self.names = tuple(dict.fromkeys(name for _, row in first for name in row))

    def _parsed(self, number: int, lines: Sequence[bytes]) -> list[tuple[int, dict[str, Any]]]:
        rows = []
        for at, raw in enumerate(lines, start=number):
            line = self.decoded(raw, at).strip()
            if line:
                rows.append((at, self._object(line, at)))
        return rows

    def _object(self, line: str, number: int) -> dict[str, Any]:
        shown = repr(line if len(line) <= 60 else line[:57] + "...")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg}, column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else str(error)
            )
            must = "be one whole JSON object"
            raise self.fault(number, "the line", must, f"{shown} ({reason})") from None
        if not isinstance(value, dict):
            raise self.fault(number, "the line", "be one JSON object", shown)
        return value

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        number = 1
        with self.path.open("rb") as file:
            while lines := file.readlines(_BYTES):
                for start in range(0, len(lines), _ROWS):
                    rows = self._parsed(number + start, lines[start : start + _ROWS])
                    columns = {name: [row.get(name) for _, row in rows] for name in names}
                    yield Chunk([at for at, _ in rows], columns)
                number += len(lines)


class ParquetTable(Table):
    """A Parquet file, by polars."""

    unit = "row"

    def __init__(self, path: Path):
        super().__init__(path)
        polars = needed_polars("a Parquet file")
        # Of a damaged file polars may fail in ways that it has no exception of its own for.
        self._failures = (Exception, polars.exceptions.PanicException)
        self._frame = polars.scan_parquet(path, glob=False)
        self.names = tuple(self._guarded(self._frame.collect_schema).names())

    def _guarded(self, call):
        try:
            return call()
        except self._failures as error:
            reason = str(error).split("\n", 1)[0] or type(error).__name__
            raise ValueError(f"{self.path} must be a Parquet file, got: {reason}") from None

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        chosen = self._frame.select(names)
        for start in itertools.count(0, _PARQUET_ROWS):
            part = self._guarded(chosen.slice(start, _PARQUET_ROWS).collect)
            if not len(part):
                return
            for offset in range(0, len(part), _ROWS):
                rows = part[offset : offset + _ROWS]
                first = start + offset + 1
                columns = {name: rows[name].to_list() for name in names}
                yield Chunk(range(first, first + len(rows)), columns)


def needed_polars(purpose: str):
    """The module polars, imported on use.

    **Raises:** `ImportError` that names the extra, if it is not installed.
    """
    try:
        import polars
    except ImportError:
        raise ImportError(
            f"polars is needed for {purpose}: python -m pip install 'qra-jax[report]'"
        ) from None
    return polars


_KINDS = {
    ".csv": CsvTable,
    ".tsv": lambda path: CsvTable(path, "\t"),
    ".jsonl": JsonTable,
    ".ndjson": JsonTable,
    ".json": JsonTable,
    ".parquet": ParquetTable,
}


def open_table(path: Path, kind: str | None = None) -> Table:
    """The rows of a file, by the ending of its name (or by `kind`, an ending).

    **Raises:** `ValueError` if it cannot be read, is empty or of another kind.
    """
    kind = path.suffix.lower() if kind is None else kind
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path} must be a file that can be read, got: {reason}") from None
    if kind not in _KINDS:
        raise ValueError(f"{path} must end in one of {', '.join(_KINDS)}, got {kind or 'nothing'}")
    if empty:
        raise ValueError(f"{path} must hold rows, got an empty file")
    return _KINDS[kind](path)
