"""Rollouts from files, as people and evaluation harnesses write them."""

import collections
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._fields import Fields, PatternRules, chosen_fields
from ._files import Chunk, Table, open_table
from ._pattern_tables import POOLED, counted_rows, is_whole
from ._rollouts import Rollouts, listed

_NO_STEP = np.iinfo(np.int64).min


def read_rollouts(
    path: str | os.PathLike,
    *,
    fields: Fields = Fields(),
    rules: str | os.PathLike | None = None,
) -> Rollouts:
    """Read graded samples of a base model.

    **Arguments:**

    - `path`: CSV (`.csv`; `.tsv` with tabs), one JSON object a line (`.jsonl`, `.ndjson`,
      `.json`), or Parquet (`.parquet`). One row a rollout; or one row a question, in which
      `correct` and whatever else differs between its rollouts are lists of the same length; or a
      table of counts with the columns `pattern,samples,correct` and, if wanted, `question` and
      `step`.
    - `fields`: how the fields are called.
    - `rules`: a TOML file of regular expressions that assign patterns from the text, in place of
      a field of patterns: `default = "prose"` and tables `[[pattern]]` with `name` and `regex`,
      of which the first that is found counts.

    **Returns:** `Rollouts`, in the order of the file. Rows that lack a question, a pattern (or the
    text for it), a grade, a step, or a finite confidence are left out and counted in `dropped`.

    **Raises:** `ValueError`, of one line and with the line (in Parquet the row) where there is
    one, if the file cannot be read, a field is missing or has values of another kind, or nothing
    is left. `ImportError` if polars (the extra `report`) is missing for Parquet or rules.

    ??? example

        ```python
        import qra_jax as qra
        rollouts = qra.read_rollouts("experiments/data/rollouts.jsonl")
        samples, correct = rollouts.base_model().counts()
        ```
    """
    path = Path(path)
    table = open_table(path)
    names, notes = chosen_fields(table, fields, rules is not None)
    if "samples" in names:
        found = _of_counts(table, names)
    else:
        found = _Reader(table, names, fields, None if rules is None else PatternRules(rules)).read()
    return dataclasses.replace(found, notes=(*notes, *table.notes, *found.notes))


def _of_counts(table: Table, names: dict[str, str]) -> Rollouts:
    rows = list(counted_rows(table, names))
    questions, patterns = _Codes(), _Codes()
    twice = [(row, right) for row in rows for right in (True, False)]
    count = np.array([r.correct if right else r.samples - r.correct for r, right in twice])
    some = count > 0
    if not some.any():
        raise ValueError(f"{table.path}: samples must not all be 0")
    pattern = np.array([patterns[row.pattern] for row, _ in twice])[some]
    pattern, named = _by_count(pattern, count[some], patterns.names)
    question = np.array([questions[row.question] for row, _ in twice])[some]
    return Rollouts(
        questions.names,
        named,
        question=question,
        pattern=pattern,
        correct=np.array([right for _, right in twice])[some],
        count=count[some],
        step=np.array([row.step for row, _ in twice])[some] if "step" in names else None,
        notes=() if "question" in names else (f"no field of questions: read as {POOLED}, one",),
    )


class _Codes(dict):
    """Values -> codes, in the order of appearance; -1 for what is missing."""

    def __init__(self):
        super().__init__()
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._codes)

    def __missing__(self, value: Any) -> int:
        text = "" if value is None or value != value else str(value).strip()
        code = self._codes.setdefault(text, len(self._codes)) if text else -1
        if value == value:  # every NaN is a key of its own
            self[value] = code
        return code


class _Grades(dict):
    """Boolean-like values -> 1 or 0; -1 for what is missing."""

    def __missing__(self, value: Any) -> int:
        text = str(value).strip().lower()
        if text in ("", "none", "null", "nan"):
            grade = -1
        elif text in ("true", "yes", "false", "no"):
            grade = int(text in ("true", "yes"))
        else:
            grade = {1.0: 1, 0.0: 0}[float(text)]
        self[value] = grade
        return grade


def _number(value: Any) -> float:
    """A number, or NaN for what is missing."""
    if isinstance(value, float):
        return value
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null")):
        return math.nan
    return float(value)


def _step(value: Any) -> int:
    number = _number(value)
    if math.isnan(number):
        return _NO_STEP
    if not is_whole(number):
        raise ValueError
    return int(number)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _inner(entry: Any) -> Any:
    """A list itself; of a list that holds one list (lm-evaluation-harness), the inner one."""
    if isinstance(entry, list) and len(entry) == 1 and isinstance(entry[0], list):
        return entry[0]
    return entry


class _Reader:
    """Collects the chunks of a table of rollouts."""

    def __init__(
        self, table: Table, names: dict[str, str], fields: Fields, rules: PatternRules | None
    ):
        self.table, self.rules = table, rules
        self.guessed = {role for role in names if getattr(fields, role) is None}
        self.columns = dict(names)
        # lm-evaluation-harness logs every sample once for each filter of the answer.
        if {"doc_id", "filter"} <= set(table.names):
            self.columns["filter"] = "filter"
        self.codes = {role: _Codes() for role in ("question", "pattern", "answer", "filter")}
        grades = _Grades()
        self.convert: dict[str, tuple[Callable[[Any], Any], str]] = {
            role: (codes.__getitem__, "be one text or number") for role, codes in self.codes.items()
        } | {
            "correct": (grades.__getitem__, "be true or false (or 1 or 0, yes or no)"),
            "text": (_text, "be a text"),
            "confidence": (_number, "be a number"),
            "step": (_step, "be a whole number"),
        }
        self.dropped: collections.Counter[str] = collections.Counter()
        self.notes: list[str] = []

    def read(self) -> Rollouts:
        parts = collections.defaultdict(list)
        for chunk in self.table.chunks(tuple(dict.fromkeys(self.columns.values()))):
            for role, values in self._converted(self._flat(chunk)).items():
                parts[role].append(np.array(values, _TYPES[role]))
        return self._kept({role: np.concatenate(part) for role, part in parts.items()})

    def _of(self, role: str) -> str:
        column = self.columns[role]
        return role if column == role else f"{role} ({column})"

    def _flat(self, chunk: Chunk) -> tuple[Sequence[int], Mapping[str, Sequence[Any]]]:
        """One entry a rollout: the lists of a row are exploded together."""
        values = {role: chunk.columns[name] for role, name in self.columns.items()}
        if not any(list in set(map(type, column)) for column in values.values()):
            return chunk.numbers, values
        numbers: list[int] = []
        flat: dict[str, list[Any]] = {role: [] for role in values}
        for number, *row in zip(chunk.numbers, *values.values(), strict=True):
            entries = dict(zip(values, map(_inner, row), strict=True))
            correct = entries["correct"]
            several = len(correct) if isinstance(correct, list) else None
            if correct is None:  # not graded: as many rollouts as are listed beside it
                lengths = [len(entry) for entry in entries.values() if isinstance(entry, list)]
                several = max(lengths, default=None)
            if several == 0:
                self.dropped["no rollouts of the question"] += 1
            numbers += [number] * (1 if several is None else several)
            for role, entry in entries.items():
                flat[role] += self._spread(number, role, entry, several)
        return numbers, flat

    def _spread(self, number: int, role: str, entry: Any, several: int | None) -> list[Any]:
        """The entry of a row as one for each of its rollouts."""
        if isinstance(entry, list):
            if len(entry) == (1 if several is None else several):
                return entry
            must = "hold one value, as correct does"
            if several is not None:
                must = f"be a list of {several}, as correct is"
            raise self.table.fault(number, self._of(role), must, f"a list of {len(entry)}")
        if several is None:
            return [entry]
        if entry is None:
            return [None] * several
        if role in ("text", "confidence") or (role == "answer" and role not in self.guessed):
            must = f"be a list of {several}, as correct is"
            raise self.table.fault(number, self._of(role), must, "one value")
        if role == "answer":
            self._not_read_as_reference()
            return [None] * several
        return [entry] * several

    def _converted(self, flat: tuple[Sequence[int], Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
        numbers, values = flat
        found = {}
        for role, column in values.items():
            convert, must = self.convert[role]
            try:
                found[role] = list(map(convert, column))
            except (ValueError, TypeError, KeyError, OverflowError):
                self._complain(numbers, role, column, convert, must)
        if self.rules is not None:
            patterns = self.rules(found.pop("text"))
            found["pattern"] = [self.codes["pattern"][name] for name in patterns]
        return found

    def _complain(
        self,
        numbers: Sequence[int],
        role: str,
        column: Sequence[Any],
        convert: Callable[[Any], Any],
        must: str,
    ) -> None:
        for number, value in zip(numbers, column, strict=True):
            try:
                convert(value)
            except (ValueError, TypeError, KeyError, OverflowError):
                shown = repr(value)
                shown = shown if len(shown) <= 60 else shown[:57] + "..."
                raise self.table.fault(number, self._of(role), must, shown) from None

    def _kept(self, arrays: dict[str, np.ndarray]) -> Rollouts:
        """The rows that are whole, and the names that they use."""
        number = arrays["question"].size if arrays else 0
        keep = np.ones(number, bool)
        if not number:
            self._nothing_left()

        def drop(reason: str, bad: np.ndarray) -> None:
            nonlocal keep
            if (bad & keep).any():
                self.dropped[reason] += int((bad & keep).sum())
            keep &= ~bad

        drop("question missing", arrays["question"] < 0)
        drop("pattern missing" if self.rules is None else "text missing", arrays["pattern"] < 0)
        drop("correct missing", arrays["correct"] < 0)
        if "filter" in arrays:
            drop("graded again by another filter", arrays.pop("filter") > 0)
        if "step" in arrays:
            drop("step missing", arrays["step"] == _NO_STEP)
        if "confidence" in arrays:
            finite = np.isfinite(arrays["confidence"])
            if (finite & keep).any() or not keep.any():
                drop("confidence missing or not finite", ~finite)
            elif "confidence" in self.guessed:
                column = self.columns["confidence"]
                self.notes.append(f"{column} holds no finite number and was not read")
                del arrays["confidence"]
            else:
                what = f"{self.table.path}: {self._of('confidence')}"
                raise ValueError(f"{what} must hold finite numbers, got none")
        if not keep.any():
            self._nothing_left()
        arrays = {role: array[keep] for role, array in arrays.items()}
        if "answer" in arrays and self._is_reference(arrays):
            self._not_read_as_reference()
            del arrays["answer"]
        if "answer" in arrays and (arrays["answer"] < 0).all():
            del arrays["answer"]
        return self._named(arrays)

    def _nothing_left(self) -> None:
        why = ", ".join(f"{reason}: {number}" for reason, number in self.dropped.items())
        got = f"none of them whole ({why})" if why else "none"
        raise ValueError(f"{self.table.path} must hold rollouts, got {got}")

    def _is_reference(self, arrays: dict[str, np.ndarray]) -> bool:
        """Whether the answers say nothing about the grades, as those of the solution."""
        if self.columns["answer"] != "answer" or "answer" not in self.guessed:
            return False
        shape = len(self.codes["question"].names)
        question, grade = arrays["question"], arrays["correct"]
        most, least = np.full(shape, -2), np.full(shape, np.iinfo(np.int32).max)
        np.maximum.at(most, question, arrays["answer"])
        np.minimum.at(least, question, arrays["answer"])
        right, all_of = (np.bincount(question, weights, shape) for weights in (grade, None))
        varied = (right > 0) & (right < all_of)
        return bool(varied.any() and (most <= least).all())

    def _not_read_as_reference(self) -> None:
        note = "answer is one for all rollouts of a question: the reference, and not read"
        if note not in self.notes:
            self.notes.append(note)

    def _named(self, arrays: dict[str, np.ndarray]) -> Rollouts:
        question, questions = _used(arrays["question"], self.codes["question"].names)
        pattern, patterns = _used(arrays["pattern"], self.codes["pattern"].names)
        pattern, patterns = _by_count(pattern, np.ones(pattern.size), patterns)
        answer, answers = arrays.get("answer"), ()
        if answer is not None:
            answer, answers = _used(answer, self.codes["answer"].names)
        if self.rules is not None:
            unused = tuple(name for name in self.rules.names if name not in patterns)
            if unused:
                self.notes.append(f"no text is of pattern {listed(unused)}")
        return Rollouts(
            questions,
            patterns,
            question=question,
            pattern=pattern,
            correct=arrays["correct"] > 0,
            confidence=arrays.get("confidence"),
            answer=answer,
            answers=answers,
            step=arrays.get("step"),
            dropped=dict(self.dropped),
            notes=tuple(self.notes),
        )


_TYPES = {
    "question": np.int32,
    "pattern": np.int32,
    "answer": np.int32,
    "filter": np.int32,
    "correct": np.int8,
    "confidence": np.float64,
    "step": np.int64,
}


def _used(codes: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and names without the names that do not occur."""
    occurs = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
    new = np.append(np.cumsum(occurs) - 1, -1)
    return new[codes], tuple(name for name, is_there in zip(names, occurs, strict=True) if is_there)


def _by_count(
    codes: np.ndarray, count: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and names in the order of falling count."""
    total = np.bincount(codes, count, len(names))
    order = np.argsort(-total, kind="stable")
    new = np.empty(len(names), np.int64)
    new[order] = np.arange(len(names))
    return new[codes], tuple(names[i] for i in order)
