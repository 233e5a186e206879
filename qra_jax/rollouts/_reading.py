"""Rollouts from files, as people, trainers and evaluation harnesses write them."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ._account import Account, grades_of
from ._columns import Selection
from ._counting import CountReader
from ._fields import Choice, Fields, chosen_fields
from ._files import Table
from ._grades import Grades
from ._open import open_table, reads_records
from ._rollouts import Rollouts, listed
from ._rows import RowReader
from ._rules import PatternRules, Sorter
from ._sources import Source, found_files

PathLike = str | os.PathLike


def read_rollouts(
    path: PathLike | Sequence[PathLike],
    *,
    fields: Fields = Fields(),
    rules: PathLike | None = None,
    records: str | None = None,
    where: Mapping[str, str | Sequence[str]] | None = None,
    right: str | Sequence[str] = (),
    right_above: float | None = None,
) -> Rollouts:
    """Read graded samples of a model.

    **Arguments:**

    - `path`: one file or several; a pattern of names (`logs/*.jsonl`) or a folder, which stand for
      all such files. CSV (`.csv`; `.tsv` with tabs), one JSON object a line (`.jsonl`, `.ndjson`,
      `.json`), one JSON document with a list of records in it (the same endings), Parquet
      (`.parquet`) or a log of Inspect (`.eval`); all but the last two may be compressed (`.gz`,
      `.zst`). One row a rollout; or one row a question, in which `correct` and whatever else
      differs between its rollouts are lists of the same length, or which holds a list of records;
      or a table of counts with the columns `pattern,samples,correct` and, if wanted, `question`
      and `step`. Of several files without a field of steps the step is the number in the name
      (`12.jsonl`, `completions_00012.parquet`, `step-300/`), if all have one.
    - `fields`: how the fields are called.
    - `rules`: a TOML file of regular expressions that assign patterns from the text, in place of
      a field of patterns: `default = "prose"` and tables `[[pattern]]` with `name` and `regex`,
      of which the first that is found counts. Or the name of rules that come with the library:
      `"checking"`, `"code"`, `"language"`, `"length"`, `"steps"`, `"tags"`.
    - `records`: the list of records in a JSON document or in every row, where there are several.
    - `where`: field -> the value, or values, of the rows that are read.
    - `right`: the grades that say that a rollout was right; all others are wrong.
    - `right_above`: a number; a rollout is right if its reward is above it.

    **Returns:** `Rollouts`, in the order of the files. Rows that lack a question, a pattern (or
    the text for it), a grade, a step, or a finite confidence are left out and counted in
    `dropped`; `notes` says how the files were read.

    **Raises:** `ValueError`, of one line and with the line (or row, or record) where there is
    one, if a file cannot be read, a field is missing or has values of another kind, or nothing
    is left. `ImportError` if a package of the extra `report` is missing: polars for Parquet or
    rules, backports.zstd for zstd.

    ??? example

        ```python
        import qra_jax as qra
        rollouts = qra.read_rollouts("experiments/data/rollouts.jsonl")
        samples, correct = rollouts.base_model().counts()
        ```
    """
    return read_with_account(
        path,
        fields=fields,
        rules=rules,
        records=records,
        where=where,
        right=right,
        right_above=right_above,
    ).rollouts


def read_with_account(
    path: PathLike | Sequence[PathLike],
    *,
    fields: Fields = Fields(),
    rules: PathLike | None = None,
    records: str | None = None,
    where: Mapping[str, str | Sequence[str]] | None = None,
    right: str | Sequence[str] = (),
    right_above: float | None = None,
) -> Account:
    """`read_rollouts`, with an account of how the files were read.

    **Arguments:** those of `read_rollouts`.

    **Returns:** an `Account`: the rollouts, and the fields, grades, sample texts and unread
    columns, which `lines()` puts into words.

    **Raises:** as `read_rollouts`.
    """
    by_rules = None if rules is None else PatternRules(rules)
    return read_with(path, by_rules, fields, records, where, right, right_above)


def read_with(
    path: PathLike | Sequence[PathLike],
    by_rules: Sorter | None,
    fields: Fields,
    records: str | None,
    where: Mapping[str, str | Sequence[str]] | None,
    right: str | Sequence[str],
    right_above: float | None,
) -> Account:
    """`read_with_account`, with what sorts texts into patterns in place of a file of rules."""
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    right = (right,) if isinstance(right, str) else tuple(right)
    if right and right_above is not None:
        raise ValueError(
            f"right must not be given beside right_above, got {listed(right)} and {right_above:g}"
        )
    wanted = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in (where or {}).items()}
    sources, notes = found_files(paths)
    reading = _Reading(fields, by_rules, records, Selection(wanted), Grades(right, right_above))
    for source in sources:
        reading.add(source)
    return reading.account([*notes, *reading.notes()], sources)


class _Reading:
    """Reads file after file, each by its own fields."""

    def __init__(
        self,
        fields: Fields,
        rules: Sorter | None,
        records: str | None,
        selection: Selection,
        grades: Grades,
    ):
        self.fields, self.rules, self.records = fields, rules, records
        self.selection, self.grades = selection, grades
        self.reader: CountReader | RowReader | None = None
        self.columns: dict[str, dict[str, None]] = collections.defaultdict(dict)
        self.other_grades: dict[str, None] = {}
        self.said: dict[str, list[Path]] = {}
        self.files = 0
        self.stepped: tuple[Path, str] | None = None

    def add(self, source: Source) -> None:
        """Read one file."""
        self.files += 1
        table = open_table(source.path, records=self.records)
        nest = None if reads_records(table) else self.records
        choice = chosen_fields(table, self.fields, self.rules is not None, nest)
        for role, column in choice.names.items():
            self.columns[role].setdefault(column)
        self.other_grades.update(dict.fromkeys(choice.other_grades))
        source = self._with_step(source, table, choice)
        kind = CountReader if "samples" in choice.names else RowReader
        if self.reader is None:
            self.reader = (
                CountReader(self.selection)
                if kind is CountReader
                else RowReader(self.fields, self.rules, self.selection, self.grades)
            )
        if not isinstance(self.reader, kind):
            other = "counts" if kind is CountReader else "rollouts"
            must = "the files must all hold rollouts or all counts"
            raise ValueError(f"{must}, got {other} in {source.path}")
        self.reader.add(table, choice.names, source)
        for note in (*choice.notes, *table.notes):
            self.said.setdefault(note, []).append(source.path)

    def _with_step(self, source: Source, table: Table, choice: Choice) -> Source:
        """Leave the step in the name where a field tells it; it must be told of all files or none.

        **Raises:** `ValueError` otherwise.
        """
        if self.fields.step == "":
            source = source._replace(step=None)
        told = (
            "a field" if "step" in choice.names else "the name" if source.step is not None else ""
        )
        if self.stepped is None:
            self.stepped = source.path, told
        first, before = self.stepped
        if bool(before) != bool(told):
            having, lacking = (source.path, first) if told else (first, source.path)
            raise ValueError(
                f"the step must be told by every file or by none, got one in {having} and none in "
                f"{lacking}: --step-field names a field, --step-field '' leaves steps out"
            )
        return source._replace(step=None) if told == "a field" else source

    def notes(self) -> list[str]:
        """What was said of files, each once, with the file where it is not of all."""
        lines = []
        for note, paths in self.said.items():
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            lines.append(note if len(paths) == self.files else f"{paths[0].name}{more}: {note}")
        return lines

    def account(self, notes: Iterable[str], sources: Sequence[Source]) -> Account:
        """Everything together."""
        assert self.reader is not None
        where = str(sources[0].path) if len(sources) == 1 else f"the {len(sources)} files"
        found = self.reader.finished(where)
        if self.stepped is not None and self.stepped[1] == "the name":
            example = sources[-1]
            steps = f"steps from the names of files ({example.path.name}: {example.step})"
            notes = [*notes, steps]
        others = tuple(self.other_grades)
        pooled = self.selection.notes(where, bool(found.steps), others)
        pooled += self._of_other_grades(found, others)
        found = dataclasses.replace(
            found,
            dropped={**self.selection.dropped, **found.dropped},
            notes=(*notes, *found.notes, *_of_steps(found), *pooled),
        )
        grades = grades_of(found) if isinstance(self.reader, CountReader) else self.reader.graded
        return Account(
            found,
            tuple(str(source.path) for source in sources),
            {role: tuple(columns) for role, columns in self.columns.items()},
            grades,
            self.reader.samples,
            tuple(self.selection.unused),
        )

    def _of_other_grades(self, found: Rollouts, others: Sequence[str]) -> list[str]:
        """How many another grade says are right, beside the one that is read."""
        lines = []
        for name in others:
            counts, grades = self.selection.counts(name), Grades()
            try:
                codes = {value: grades[str(value)] for value in counts or ()}
            except ValueError:  # a reward, say
                continue
            right = grades.is_right()
            number = sum((counts or {})[value] for value, code in codes.items() if right[code])
            every = sum((counts or {}).values())
            if every:
                taken = ", ".join(self.columns["correct"])
                read = f"{int(found.count[found.correct].sum())} of {len(found)}"
                lines.append(
                    f"the grade that is read, {taken}, says right {read} times; {name}, which is "
                    f"not read, {number} of {every} (--correct-field {name} reads it)"
                )
        return lines


def _of_steps(rollouts: Rollouts) -> list[str]:
    """Whether the steps have the same questions."""
    steps = rollouts.steps
    if len(steps) < 2 or rollouts.step is None:
        return []
    which = np.searchsorted(steps, rollouts.step)
    pairs = np.unique(which * len(rollouts.questions) + rollouts.question)
    of_question = np.bincount(pairs % len(rollouts.questions))
    of_step = np.bincount(pairs // len(rollouts.questions))
    shared, every = int(np.sum(of_question == len(steps))), int(np.sum(of_question > 0))
    if shared == every:
        return []
    few, most = int(of_step.min()), int(of_step.max())
    return [
        f"the steps have different questions: {shared} of {every} are in every step, a step has "
        f"{few if few == most else f'{few} to {most}'}; a change from step to step may be one of "
        "questions"
    ]
