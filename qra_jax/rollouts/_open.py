"""Opens a file of rows, whatever it is called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._events import EventTable, holds_events
from ._files import CsvTable, ParquetTable, Table
from ._json import ArchiveTable, DocumentTable, JsonTable, json_table
from ._names import COMMON, RIGHT
from ._streams import kind_of, require_data

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".eval")


def open_table(path: Path, kind: str | None = None, records: str | None = None) -> Table:
    """The rows of a file, by the ending of its name (or by `kind`, an ending).

    **Arguments:** `records`: of a JSON document, the list that holds the records.

    **Raises:** `ValueError` if it cannot be read, is empty or of another kind. `ImportError` if a
    package is missing for it.
    """
    kind = kind_of(path) if kind is None else kind
    require_data(path)
    if kind not in KINDS:
        endings = ", ".join(KINDS)
        raise ValueError(
            f"{path} must end in one of {endings} (or one of these and .gz or .zst), "
            f"got {kind or 'nothing'}"
        )
    if kind == ".csv":
        return CsvTable(path)
    if kind == ".tsv":
        return CsvTable(path, "\t")
    if kind == ".parquet":
        return ParquetTable(path)
    if kind == ".eval":
        return ArchiveTable(path)
    table = json_table(path, records, _gradable)
    if isinstance(table, JsonTable) and holds_events(table):
        return EventTable(path)
    return table


def reads_records(table: Table) -> bool:
    """Whether the list that holds the records was found on opening."""
    return isinstance(table, DocumentTable)


def _gradable(record: Mapping[str, Any]) -> bool:
    """Whether a record looks like a graded rollout, or a question with some."""
    keys = set(record)
    if keys & {*COMMON["correct"], *RIGHT}:
        return True
    return isinstance(record.get("scores"), dict) or isinstance(record.get("metric"), dict)
