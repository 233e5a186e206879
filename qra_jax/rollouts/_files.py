"""Files of rows, in chunks, with the line or row of every value: what they share, and CSV and
Parquet.

CSV is read by the standard library: it names the line of a fault, and a million rollouts take
seconds.
"""

import abc
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._rollouts import shown
from ._shapes import CHAT, LIST, RECORD, RECORDS, VALUE, reached
from ._streams import UNPACKING, opened

# At a time: lines in bytes, so that memory does not grow with long texts; and rows, few of them,
# since Python's garbage collector looks through all that is kept, time and again.
BYTES, ROWS, PARQUET_ROWS = 1 << 22, 1 << 9, 1 << 12
# Rows looked at to tell what a column holds.
HEAD = 64


class Chunk(NamedTuple):
    """Some rows: their numbers in the file, and their values by column."""

    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]


class Table(abc.ABC):
    """A file of rows, to be read once: the names of its columns, then chunks of some of them.

    - `names`: those of columns; `shapes`: what kind of value each has, and those within records
      under names with dots; `head`: the first rows.
    - `notes`: what was decided, in words.
    """

    unit = "line"

    def __init__(self, path: Path):
        self.path = path
        self.names: tuple[str, ...] = ()
        self.shapes: dict[str, str] = {}
        self.head: Sequence[Mapping[str, Any]] = ()
        self.first = 1
        self.notes: list[str] = []

    def has(self, name: str) -> bool:
        """Whether there is such a column, or a record in which there may be such a name."""
        if name in self.names or name in self.shapes:
            return True
        parts = name.split(".")
        above = (".".join(parts[:at]) for at in range(1, len(parts)))
        return any(self.shapes.get(part) in (RECORD, RECORDS) for part in above)

    def in_list(self, name: str) -> bool:
        """Whether a name with dots leads into a list of records."""
        parts = name.split(".")
        above = (".".join(parts[:at]) for at in range(1, len(parts)))
        return any(self.shapes.get(part) == RECORDS for part in above)

    def at(self, number: int) -> str:
        """A place in the file, in words."""
        return f"{self.path}, {self.unit} {number}"

    def fault(self, number: int, name: str, must: str, was: object) -> ValueError:
        """What is wrong there."""
        return ValueError(f"{self.at(number)}: {name} must {must}, got {was}")

    def guarded(self, read: Callable[[], Any]) -> Any:
        """What a stream gives, or one line about a file that does not unpack."""
        try:
            return read()
        except UNPACKING as error:
            raise self.cut(error) from None

    def cut(self, error: Exception) -> ValueError:
        """That a packed file cannot be unpacked."""
        reason = " ".join(str(error).split()) or type(error).__name__
        return ValueError(f"{self.path} must be a whole file, got: {reason}")

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


def in_chunks(lines: Sequence[Any]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Parts of few rows, with how many come before each."""
    for start in range(0, len(lines), ROWS):
        yield start, lines[start : start + ROWS]


def of_rows(
    rows: Sequence[tuple[int, Mapping[str, Any]]], names: Sequence[str], top: Sequence[str]
) -> Chunk:
    """Columns of numbered rows; a name with dots that is no key leads into records."""
    columns: dict[str, list[Any]] = {}
    for name in names:
        if name in top or "." not in name:
            columns[name] = [row.get(name) for _, row in rows]
        else:
            parts = _split(name, top)
            columns[name] = [reached(row, parts) for _, row in rows]
    return Chunk([at for at, _ in rows], columns)


def _split(name: str, top: Sequence[str]) -> list[str]:
    """Parts of a name with dots, of which the first may have dots itself."""
    parts = name.split(".")
    for at in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:at]) in top:
            return [".".join(parts[:at]), *parts[at:]]
    return parts


class CsvTable(Table):
    """Comma- (or tab-) separated values under a header; `#` between rows begins a comment."""

    def __init__(self, path: Path, delimiter: str = ","):
        super().__init__(path)
        self._start, self._between_rows = 0, True
        self._delimiter = delimiter
        self._records = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        header = next(self._rows(), None)
        if header is None:
            raise ValueError(f"{path} must hold a header and rows, got an empty file")
        self.first = header[0]
        self.names = tuple(name.strip() for name in header[1])
        for name in self.names:
            if name and self.names.count(name) > 1:
                raise self.fault(self.first, "columns", "be all different", f"{name!r} twice")
        self.shapes = dict.fromkeys(self.names, VALUE)
        self._ahead = list(itertools.islice(self._rows(), HEAD))
        self.head = [dict(zip(self.names, row, strict=True)) for _, row in self._ahead]

    def _lines(self) -> Iterator[str]:
        comments = 0
        with opened(self.path) as file:
            for number, raw in enumerate(self._raw(file), start=1):
                line = self.decoded(raw, number)
                # Not within a quoted text, where a heading may begin with `#`; and a delimiter
                # ends a field that is empty: it is no white space.
                if self._between_rows:
                    bare = line.lstrip(" ") if self._delimiter == "\t" else line.lstrip()
                    if not bare.strip("\r\n") or bare[0] == "#":
                        comments += bool(bare.strip() and self.names)
                        continue
                    self._start, self._between_rows = number, False
                yield line
        if comments:
            self.notes.append(f"lines below the header that are comments (#): {comments}")

    def _raw(self, file: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from file
        except UNPACKING as error:
            raise self.cut(error) from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.names)
        try:
            for record in self._records:
                self._between_rows = True
                if len(record) != width and width:
                    row = shown(self._delimiter.join(record), 80)
                    was = f"{len(record)}: {row!r}"
                    raise self.fault(self._start, "a row", f"have {width} fields", was)
                yield self._start, record
        except csv.Error as error:
            must = "be comma-separated values, quotes closed"
            raise self.fault(self._start, "the row", must, f"an error: {error}") from None

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        places = [self.names.index(name) for name in names]
        rows = itertools.chain(self._ahead, self._rows())
        while part := list(itertools.islice(rows, ROWS)):
            numbers, records = zip(*part, strict=True)
            columns = list(zip(*records, strict=True))
            yield Chunk(numbers, {name: columns[i] for name, i in zip(names, places, strict=True)})


class ParquetTable(Table):
    """A Parquet file, by polars."""

    unit = "row"

    def __init__(self, path: Path):
        super().__init__(path)
        polars = needed_polars("a Parquet file")
        # Of a damaged file polars may fail in ways that it has no exception of its own for.
        self._failures = (Exception, polars.exceptions.PanicException)
        self._polars = polars
        self._frame = polars.scan_parquet(path, glob=False)
        schema = self._whole(self._frame.collect_schema)
        self.names = tuple(schema.names())
        for name, kind in schema.items():
            self._describe(name, kind, 4)
        plain = [name for name in self.names if self.shapes[name] == VALUE]
        self.head = self._whole(self._frame.select(plain).head(HEAD).collect).to_dicts()

    def _describe(self, name: str, kind: Any, depth: int) -> None:
        polars, inner = self._polars, None
        if isinstance(kind, polars.Struct):
            self.shapes[name], inner = RECORD, kind
        elif isinstance(kind, (polars.List, polars.Array)):
            inner = kind.inner if isinstance(kind.inner, polars.Struct) else None
            fields = {field.name for field in inner.fields} if inner else set()
            chat = {"role", "content"} <= fields or {"from", "value"} <= fields
            self.shapes[name] = CHAT if chat else LIST if inner is None else RECORDS
        else:
            self.shapes[name] = VALUE
        for field in inner.fields if inner is not None and depth > 1 else ():
            self._describe(f"{name}.{field.name}", field.dtype, depth - 1)

    def _whole(self, call):
        try:
            return call()
        except self._failures as error:
            reason = str(error).split("\n", 1)[0] or type(error).__name__
            raise ValueError(f"{self.path} must be a Parquet file, got: {reason}") from None

    def _column(self, name: str):
        """A column; of structs, only the field that a name with dots leads to."""
        first, *rest = _split(name, self.names)
        column, path = self._polars.col(first), first
        while rest and self.shapes.get(path) == RECORD:
            part = rest.pop(0)
            path = f"{path}.{part}"
            if path not in self.shapes:
                return self._polars.lit(None).alias(name), []
            column = column.struct.field(part)
        return column.alias(name), rest

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        chosen = {name: self._column(name) for name in names}
        frame = self._frame.select([column for column, _ in chosen.values()])
        for start in itertools.count(0, PARQUET_ROWS):
            part = self._whole(frame.slice(start, PARQUET_ROWS).collect)
            if not len(part):
                return
            for offset in range(0, len(part), ROWS):
                rows = part[offset : offset + ROWS]
                first = start + offset + 1
                columns = {}
                for name, (_, rest) in chosen.items():
                    values = rows[name].to_list()
                    columns[name] = [reached(value, rest) for value in values] if rest else values
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
