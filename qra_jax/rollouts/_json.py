"""JSON: one object a line; one document, in which a list of records is found; a zip of them.

Read by the standard library, and never whole: a document is decoded value by value.
"""

import abc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _files
from ._files import Chunk, Table, in_chunks, of_rows
from ._json_text import JsonText
from ._names import COMMON, MODELS, SETS
from ._rollouts import listed
from ._shapes import RECORD, RECORDS, shapes
from ._streams import BAD_ARCHIVE, opened, unpacked_archive

# The longest first line that is tried as a row of JSON lines, bytes.
_LINE = 1 << 26
_SHAPED = 512
# Whether a record looks like a graded rollout.
Gradable = Callable[[Mapping[str, Any]], bool]


class JsonTable(Table):
    """One JSON object a line. Columns are the keys that occur in the first 4 MB."""

    def __init__(self, path: Path):
        super().__init__(path)
        with opened(path) as file:
            lines = self.guarded(lambda: file.readlines(_files.BYTES))
        first = self._parsed(1, lines)
        if not first:
            raise ValueError(f"{path} must hold JSON objects, one a line, got an empty file")
        self.names = tuple(dict.fromkeys(name for _, row in first for name in row))
        self._known = set(self.names)
        self.shapes = shapes(row for _, row in first[:_SHAPED])
        self.head = [row for _, row in first[: _files.HEAD]]

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
        number, late = 1, set[str]()
        known = self._known
        with opened(self.path) as file:
            while lines := self.guarded(lambda: file.readlines(_files.BYTES)):
                for start, part in in_chunks(lines):
                    rows = self._parsed(number + start, part)
                    if number > 1:
                        late.update(*(row.keys() - known for _, row in rows))
                    yield of_rows(rows, names, self.names)
                number += len(lines)
        if late:
            fields = listed(tuple(sorted(late)))
            self.notes.append(
                f"fields that first occur after the first 4 MB, and are not read: {fields}"
            )


class RecordTable(Table):
    """Records that come one after the other, numbered from 1."""

    unit = "record"

    def __init__(self, path: Path):
        super().__init__(path)
        first, size = [], 0
        for row in self.rows():
            first.append(row)
            size += 1 + sum(len(v) for v in row.values() if isinstance(v, (str, list)))
            if size > _files.BYTES or len(first) >= 8 * _SHAPED:
                break
        if not first:
            raise ValueError(f"{path} must hold records, JSON objects, got none")
        self.names = tuple(dict.fromkeys(name for row in first for name in row))
        self.shapes = shapes(first[:_SHAPED])
        self.head = first[: _files.HEAD]

    @abc.abstractmethod
    def rows(self) -> Iterator[dict[str, Any]]:
        """The records, from the first on."""

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        part: list[tuple[int, dict[str, Any]]] = []
        for number, row in enumerate(self.rows(), start=1):
            part.append((number, row))
            if len(part) == 256:
                yield of_rows(part, names, self.names)
                part = []
        if part:
            yield of_rows(part, names, self.names)


class DocumentTable(RecordTable):
    """One JSON document: an array of records, or an object with a list of them somewhere in it.

    What the objects around the list say (a model, a step) is said of every record that does not
    say it itself.
    """

    def __init__(self, path: Path, records: str | None, gradable: Gradable):
        self.path = path
        self.notes = []
        self._around: dict[str, Any] = {}
        self._place = self._found(records, gradable)
        notes = self.notes
        super().__init__(path)
        self.notes = notes

    def _found(self, records: str | None, gradable: Gradable) -> str | None:
        """Name of the list: empty for an array, None where the document is one record."""
        with opened(self.path) as file:
            text = JsonText(self, file)
            if text.peek() == "[":
                return ""
            lists = _lists(text, "", 3, self._around)
            text.end()
        names = tuple(lists)
        if records is not None:
            return records
        if names == ("",):
            self.notes.append("the keys of the document are read as questions")
        if not lists:
            return None
        if len(names) > 1:
            graded = [name for name, record in lists.items() if gradable(record)]
            if len(graded) != 1:
                among = graded or list(names)
                raise ValueError(
                    f"{self.path} must hold one list of records, got several "
                    f"({listed(tuple(among))}): --records {among[0]} reads one of them"
                )
            others = ", ".join(name for name in names if name != graded[0])
            self.notes.append(f"records from {graded[0]} (and not {others}; --records chooses)")
            return graded[0]
        return next(iter(lists))

    def rows(self) -> Iterator[dict[str, Any]]:
        with opened(self.path) as file:
            text = JsonText(self, file)
            if self._place is None:
                yield text.value()
                return
            number = 0
            for number, row in enumerate(self._at(text, self._place), start=1):
                if isinstance(row, dict):
                    yield {**self._around, **row} if self._around else row
                elif number == 1 and self._place:
                    break
                else:
                    raise self.fault(number, "the record", "be one JSON object", _short(row))
            else:
                text.end()
                if number or not self._place:
                    return
            raise ValueError(
                f"{self.path}: --records must name a list of records, got {self._place}"
            )

    def _at(self, text: "JsonText", place: str) -> Iterator[Any]:
        """What the list at a place holds; the rest of the document is passed over."""
        if place and text.peek() == "{":
            for key in text.members():
                if place == key or place.startswith(f"{key}."):
                    yield from self._at(text, place[len(key) + 1 :])
                else:
                    text.value()
        elif not place and text.peek() == "{":  # question -> its records
            for key in text.members():
                value = text.value()
                for row in value if isinstance(value, list) else [value]:
                    yield {"question": key, **row} if isinstance(row, dict) else row
        elif not place and text.peek() == "[":
            for number in text.elements():
                value = text.value()
                if isinstance(value, list) and value and isinstance(value[0], dict):
                    for row in value:
                        yield {"question": number, **row} if isinstance(row, dict) else row
                else:
                    yield value
        else:
            text.value()


class ArchiveTable(RecordTable):
    """A log of Inspect, `.eval`: a zip archive with one sample a file."""

    def rows(self) -> Iterator[dict[str, Any]]:
        try:
            with unpacked_archive(self.path) as archive:
                around = self._header(archive)
                names = [name for name in archive.namelist() if name.startswith("samples/")]
                for name in names:
                    yield {**around, **json.loads(archive.read(name))}
        except NotImplementedError:
            raise ImportError(
                f"backports.zstd is needed for {self.path}: python -m pip install 'qra-jax[report]'"
            ) from None
        except (*BAD_ARCHIVE, json.JSONDecodeError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.path} must be a log of Inspect, a zip archive, got: {reason}"
            ) from None

    @staticmethod
    def _header(archive: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("header.json", "_journal/start.json"):
            if name in archive.namelist():
                _around(json.loads(archive.read(name)).get("eval", {}), "eval.", found)
                break
        return found


def json_table(path: Path, records: str | None, gradable: Gradable) -> Table:
    """JSON lines or a document, whichever it is."""
    with opened(path) as file:
        table = JsonTable.__new__(JsonTable)
        Table.__init__(table, path)
        line = table.guarded(lambda: _first_line(file))
        alone = not table.guarded(lambda: _first_line(file))
    if not line:
        raise ValueError(f"{path} must hold JSON objects, one a line, got an empty file")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    begins = line.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if isinstance(row, dict):
        # One line may be a row of one question, too.
        kinds = shapes([row])
        asks = {kinds.get(name) for name in (*COMMON["question"], *COMMON["correct"])}
        held = {RECORD, RECORDS} & set(kinds.values())
        document = alone and bool(held) and asks <= {None, RECORD, RECORDS}
    else:
        document = begins == b"[" or (begins == b"{" and not alone)
    return DocumentTable(path, records, gradable) if document else JsonTable(path)


def _first_line(file) -> bytes:
    """The next line that is not empty, or as much of it as is tried."""
    while line := file.readline(_LINE):
        if line.strip():
            return line
    return b""


def _lists(text: "JsonText", before: str, depth: int, around: dict[str, Any]) -> dict[str, Any]:
    """Lists of records in an object, by name, with the first record of each."""
    found: dict[str, Any] = {}
    scalars: dict[str, Any] = {}
    keyed: list[Any] = []
    number = 0
    for key in text.members():
        name, number = f"{before}{key}", number + 1
        if text.peek() == "[":
            first: list[Any] = []
            for _ in text.elements():
                value = text.value()
                first = first or [value]
            inner = first[0] if first else None
            if isinstance(inner, list) and inner:
                inner = inner[0]
            if isinstance(inner, dict) and not {"role", "content"} <= set(inner):
                found[name] = inner
                asks = {*COMMON["question"]} & set(inner)
                keyed += [inner] if not asks or key in inner.values() else []
        elif text.peek() == "{" and depth > 1:
            found |= _lists(text, f"{name}.", depth - 1, around)
        else:
            scalars[key] = text.value()
    _around(scalars, before, around)
    # One list a question: it is the object that holds them all.
    if number > 1 and len(keyed) == number and len({tuple(r) for r in keyed}) == 1:
        return {before[:-1]: keyed[0]}
    return found


def _around(scalars: Mapping[str, Any], before: str, around: dict[str, Any]) -> None:
    """Keep what is said of all records: at the top everything, below it models and data sets."""
    for key, value in scalars.items():
        plain = isinstance(value, (str, int, float)) and len(str(value)) <= 1000
        if plain and (not before or key in MODELS or key in SETS):
            around.setdefault(f"{before}{key}", value)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
