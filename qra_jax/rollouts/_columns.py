"""Columns that are not read: those of few values may tell rollouts apart that are pooled."""

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._fields import is_step
from ._files import Chunk, Table
from ._names import MODELS, STEP_WORD, TELLING
from ._rollouts import listed
from ._shapes import VALUE

_FEW = 12
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
# Questions of which the values of a column are remembered; past these it is taken to vary.
_QUESTIONS = 50_000
# What a run writes beside a rollout and nobody asks for.
_DULL = (
    "index",
    "run",
    "rank",
    "worker",
    "seed",
    "sample",
    "sample_index",
    "rollout",
    "rollout_id",
)


class _Column:
    """The values of one column, as long as they are few."""

    def __init__(self):
        self.count: collections.Counter[Any] = collections.Counter()
        self.of_question: dict[Any, Any] = {}
        self.of_step: dict[Any, Any] = {}
        self.varies = False  # within a question
        self.by_step = True  # one value a step, so that steps tell it apart

    def add(self, values: Sequence[Any], questions: Sequence[Any], steps: Sequence[Any]) -> bool:
        """Count; whether the column still has few values."""
        try:
            self.count.update(value for value in values if value is not None and value != "")
            if len(self.count) > _FEW:
                return False
            if not self.varies:
                self.varies = _adds(self.of_question, questions, values)
            if self.by_step:
                self.by_step = not _adds(self.of_step, steps, values)
        except TypeError:  # lists and records
            return False
        return True


def _plain(chunk: Chunk, name: str | None) -> Sequence[Any]:
    """A column of single values; empty for one of lists, and for none."""
    column = chunk.columns[name] if name else ()
    return () if {list, dict} & set(map(type, column)) else column


def _adds(into: dict[Any, Any], keys: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether a key has several values."""
    if len(into) > _QUESTIONS:
        return True
    pairs = set(zip(keys, values, strict=True))
    return any(into.setdefault(key, value) != value for key, value in pairs)


class Selection:
    """The rows that are wanted, of all files; and what the columns that are not read tell.

    - `where`: column -> the values that are wanted.
    """

    def __init__(self, where: Mapping[str, Sequence[str]]):
        self.where = {name: {_spelled(value) for value in values} for name, values in where.items()}
        self.dropped: collections.Counter[str] = collections.Counter()
        self.unused: dict[str, None] = {}
        self._columns: dict[str, _Column] = {}
        self._over: set[str] = set()

    def chunks(
        self, table: Table, names: Mapping[str, str], step: int | None = None
    ) -> Iterator[Chunk]:
        """The wanted rows of a file.

        **Arguments:** `names`: of every role, the column; `step`: that of the whole file.

        **Raises:** `ValueError` if a column of `where` is not there.
        """
        for name in self.where:
            if not table.has(name):
                raise ValueError(
                    f"--where must name a field of {table.path}, which has "
                    f"{listed(table.names)}, got {name!r}"
                )
        read = tuple(dict.fromkeys(names.values()))
        roots = {name.split(".")[0] for name in read} | set(read)
        beside = [name for name in table.names if name and name not in roots]
        self.unused.update(dict.fromkeys(beside))
        beside = [name for name in beside if table.shapes.get(name, VALUE) == VALUE]
        beside += [name for name in table.shapes if name not in read and _tells(table, name)]
        step_column, question = names.get("step"), names.get("question")
        every = tuple(dict.fromkeys([*read, *self.where, *beside]))
        for chunk in table.chunks(every):
            chunk = self._wanted(chunk)
            size = len(chunk.numbers)
            steps = _plain(chunk, step_column) or [step] * size
            questions = _plain(chunk, question) or [None] * size
            for name in beside:
                if name not in self._over:
                    column = self._columns.setdefault(name, _Column())
                    if not column.add(chunk.columns[name], questions, steps):
                        self._over.add(name)
            yield chunk

    def _wanted(self, chunk: Chunk) -> Chunk:
        for name, values in self.where.items():
            keep = [_spelled(value) in values for value in chunk.columns[name]]
            if not all(keep):
                self.dropped[f"not {name}={listed(tuple(sorted(values)))}"] += keep.count(False)
                numbers = [n for n, kept in zip(chunk.numbers, keep, strict=True) if kept]
                columns = {
                    key: [value for value, kept in zip(column, keep, strict=True) if kept]
                    for key, column in chunk.columns.items()
                }
                chunk = Chunk(numbers, columns)
        return chunk

    def counts(self, name: str) -> Mapping[Any, int] | None:
        """How often each value of a column that is not read occurs, where they are few."""
        column = self._columns.get(name)
        return None if column is None or name in self._over else column.count

    def notes(self, where: str, stepped: bool, grades: Sequence[str]) -> list[str]:
        """What is pooled, column by column.

        **Arguments:** `where`: the files, in words; `stepped`: whether steps are read; `grades`:
        columns of other grades, of which enough is said elsewhere.

        **Raises:** `ValueError` if there are two models and nothing tells them apart.
        """
        told, others = [], []
        for name, column in self._columns.items():
            values = column.count
            if name in self._over or name in self.where or len(values) < 2:
                continue
            shown = ", ".join(f"{str(value)[:40]}" for value in list(values)[:6])
            shown += f" and {len(values) - 6} more" if len(values) > 6 else ""
            last = name.rsplit(".", 1)[-1].lower()
            steps = all(is_step(value) for value in values)
            first = f"--where {name}={next(iter(values))}"
            if stepped and column.by_step and len(column.of_step) > 1:
                continue
            if steps and STEP_WORD.search(last) and not stepped:
                told.append(
                    f"{name} has the values {shown}, which are pooled: --step-field {name} reads "
                    f"them as training steps, {first} reads one of them"
                )
            elif last in MODELS and "." not in name.removeprefix("eval."):
                counted = ", ".join(f"{str(v)[:40]} ({n} rows)" for v, n in values.most_common(6))
                raise ValueError(
                    f"{where} must hold rollouts of one model, got the field {name} with {counted}:"
                    f" {first} reads one of them"
                )
            elif last in TELLING or STEP_WORD.search(last):
                told.append(f"{name} has the values {shown}, which are pooled: {first} reads one")
            elif name in grades:
                continue
            elif column.varies and last not in _DULL and _classes(values):
                others.append(f"{name} ({shown})")
        if others:
            told.append(
                f"fields of few values that are not read: {'; '.join(others[:6])}"
                + (f" and {len(others) - 6} more" if len(others) > 6 else "")
                + "; --where FIELD=VALUE reads the rows of one value"
            )
        return told


def _tells(table: Table, name: str) -> bool:
    """Whether a name with dots, of one value a row, is one of a step or a model."""
    if "." not in name or name in table.names or table.in_list(name):
        return False
    last = name.rsplit(".", 1)[-1].lower()
    telling = last in MODELS or last == "split" or STEP_WORD.search(last)
    return table.shapes[name] == VALUE and bool(telling)


def _classes(values: Mapping[Any, int]) -> bool:
    """Whether values may be classes: no numbers with fractions, and not one a row."""
    whole = all(not isinstance(value, float) or value.is_integer() for value in values)
    return whole and sum(values.values()) >= 2 * len(values)


def _spelled(value: Any) -> str:
    """One spelling of a value, as a command line has it: true, 1 (for 1.0 as well), a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = "" if value is None else str(value).strip()
    if text in ("True", "False"):
        return text.lower()
    return _WHOLE.sub(r"\1", text)
