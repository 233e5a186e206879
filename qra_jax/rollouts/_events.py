"""Events of OpenAI's evals: what was sampled and how it was graded stand in rows of their own."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ._files import Chunk, of_rows
from ._json import JsonTable
from ._names import EVENTS
from ._shapes import shapes


class EventTable(JsonTable):
    """A row for every graded event, with what the sampling event of the same sample says."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._first: dict[Any, dict[str, Any]] = {}
        self._others = 0
        everything = ("run_id", "event_id", "sample_id", "type", "data", "spec", "final_report")
        rows = []
        for chunk in super().chunks(everything):
            rows += [row for _, row in self._joined(chunk)]
            if len(rows) >= 64:
                break
        if rows:
            self.names = tuple(dict.fromkeys(name for row in rows for name in row))
            self.shapes, self.head = shapes(rows), rows[:64]
        self.notes.append(
            "rows are events: those of one sample_id are joined, a rollout for each that is graded"
        )
        self._first = {}

    def _joined(self, chunk: Chunk) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = chunk.columns
        for at, sample, kind, data, run in zip(
            chunk.numbers,
            *(columns[name] for name in ("sample_id", "type", "data", "run_id")),
            strict=True,
        ):
            if sample is None or not isinstance(data, dict):
                continue
            if kind in ("match", "metrics") or "correct" in data:
                before = self._first.pop((run, sample), {})
                yield at, {"run_id": run, "sample_id": sample, "data": {**data, **before}}
            else:
                self._first.setdefault((run, sample), {}).update(
                    (key, value)
                    for key, value in data.items()
                    if key not in self._seen(run, sample)
                )

    def _seen(self, run: Any, sample: Any) -> dict[str, Any]:
        return self._first.get((run, sample), {})

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        self._first = {}
        for chunk in super().chunks(("run_id", "sample_id", "type", "data")):
            rows = list(self._joined(chunk))
            if rows:
                yield of_rows(rows, names, self.names)


def holds_events(table: JsonTable) -> bool:
    """Whether rows are events: most have all the fields of one."""
    return set(table.names) >= EVENTS
