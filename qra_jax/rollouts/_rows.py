"""Rollouts from tables with a row for each, or with a row for each question."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._columns import Selection
from ._fields import Fields
from ._files import Chunk, Table
from ._grades import Grades
from ._learning_rates import rates_of_rows
from ._plain import ROLES, plain_of_rows, rows_without, said_of
from ._rollouts import Rollouts, listed, shown
from ._rules import Sorter, keep_examples
from ._shapes import joined, said
from ._sources import Source
from ._values import (
    ABSENT,
    BOOLEAN,
    NAMED,
    NO_STEP,
    REFUSED,
    TYPES,
    WORDED,
    Codes,
    Filters,
    by_count,
    in_sets,
    inner,
    kind,
    no_booleans,
    number,
    says_nothing,
    step,
    text,
    used,
)


class RowReader:
    """Collects the rows of files of rollouts."""

    def __init__(
        self,
        fields: Fields,
        rules: Sorter | None,
        selection: Selection,
        grades: Grades,
    ):
        self.fields, self.rules, self.selection, self.grades = fields, rules, selection, grades
        self.codes = {role: Codes() for role in ("question", "pattern", "answer", "dataset")}
        self.convert: dict[str, tuple[Callable[[Any], Any], str]] = {
            role: (codes.__getitem__, "be one text or number") for role, codes in self.codes.items()
        } | {
            "correct": (grades.__getitem__, grades.must),
            "text": (text, "be a text"),
            "confidence": (number, "be a number"),
            "step": (step, "be a whole number"),
            "learning_rate": (number, "be a number"),
        }
        self.dropped: collections.Counter[str] = collections.Counter()
        self.notes: list[str] = []
        self.samples: dict[str, tuple[str, ...]] = {}
        self.graded: dict[str, tuple[int, bool]] = {}
        self.questions: tuple[str, ...] = ()
        self._parts: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        self._files: list[tuple[set[str], int]] = []
        self._kinds: dict[str, set[str]] = collections.defaultdict(set)
        self._firsts = 0

    def add(self, table: Table, names: Mapping[str, str], source: Source) -> None:
        """Read one file."""
        self.table, self.columns = table, dict(names)
        self.guessed = {role for role in names if getattr(self.fields, role) is None}
        filters = Filters()
        # lm-evaluation-harness logs every sample once for each filter of the answer.
        if {"doc_id", "filter"} <= set(table.names):
            self.columns["filter"] = "filter"
            self.convert["filter"] = (filters.__getitem__, "be a name")
        rows = 0
        for chunk in self.selection.chunks(table, self.columns, source.step):
            found = self._converted(self._flat(chunk))
            size = len(found["question"])
            rows += size
            if source.step is not None and "step" not in found:
                found["step"] = [source.step] * size
            if source.dataset is not None and "dataset" not in found:
                found["dataset"] = [self.codes["dataset"][source.dataset]] * size
            for role, values in found.items():
                self._parts[role].append(np.array(values, TYPES[role]))
            self._parts["file"].append(np.full(size, len(self._files), np.int32))
            for role in ABSENT.keys() - found.keys():
                self._parts[role].append(np.full(size, ABSENT[role], TYPES[role]))
        has = {role for role in self.columns if role != "text"}
        if source.step is not None:
            has.add("step")
        if source.dataset is not None:
            has.add("dataset")
        self._files.append((has, rows))
        if filters.votes and filters.counted is None:
            votes = listed(tuple(filters.votes))
            raise ValueError(
                f"{table.path}: a filter must grade single responses, got {votes}, a vote of all "
                "responses: --where filter=NAME chooses another"
            )
        self._note(filters.notes())

    def _note(self, notes: Sequence[str]) -> None:
        self.notes += [note for note in notes if note not in self.notes]

    def _of(self, role: str) -> str:
        column = self.columns[role]
        return role if column == role else f"{role} ({column})"

    def _flat(self, chunk: Chunk) -> tuple[Sequence[int], Mapping[str, Sequence[Any]]]:
        """One entry a rollout: the lists of a row are exploded together."""
        values = {role: chunk.columns[name] for role, name in self.columns.items()}
        types = {role: set(map(type, column)) for role, column in values.items()}
        for role, speak in (("text", said), ("question", joined)):
            if role in values and types[role] & {list, dict}:
                values[role] = list(map(speak, values[role]))
                types[role] = set(map(type, values[role]))
        for role in NAMED & types.keys():
            self._kinds[role] |= kind(types[role])
        if not any(list in seen for seen in types.values()):
            return chunk.numbers, values
        numbers: list[int] = []
        flat: dict[str, list[Any]] = {role: [] for role in values}
        for at, *row in zip(chunk.numbers, *values.values(), strict=True):
            entries = dict(zip(values, map(inner, row), strict=True))
            correct = entries["correct"]
            several = len(correct) if isinstance(correct, list) else None
            if correct is None:  # not graded: as many rollouts as are listed beside it
                lengths = [len(entry) for entry in entries.values() if isinstance(entry, list)]
                several = max(lengths, default=None)
            if several == 0:
                self.dropped["no rollouts of the question"] += 1
            numbers += [at] * (1 if several is None else several)
            if several is None and isinstance(entries.get("text"), list):
                counted = (
                    "filter" not in entries or self.convert["filter"][0](entries["filter"]) == 0
                )
                self._firsts += counted and len(entries["text"]) > 1
            for role, entry in entries.items():
                flat[role] += self._spread(at, role, entry, several)
        for role in NAMED & flat.keys():
            self._kinds[role] |= kind(set(map(type, flat[role])))
        return numbers, flat

    def _spread(self, at: int, role: str, entry: Any, several: int | None) -> list[Any]:
        """The entry of a row as one for each of its rollouts."""
        if isinstance(entry, list):
            if len(entry) == (1 if several is None else several):
                return entry
            if (
                several is None
                and entry
                and role in ("text", "answer")
                and self._graded_first(role)
            ):
                return entry[:1]
            if several is None and role == "answer" and role in self.guessed:
                return [None]
            must = "hold one value, as correct does"
            if several is not None:
                must = f"be a list of {several}, as correct is"
            raise self.table.fault(at, self._of(role), must, f"a list of {len(entry)}")
        if several is None:
            return [entry]
        if entry is None:
            return [None] * several
        if role in ("text", "confidence") or (role == "answer" and role not in self.guessed):
            must = f"be a list of {several}, as correct is"
            raise self.table.fault(at, self._of(role), must, "one value")
        if role == "answer":
            self._not_read_as_reference()
            return [None] * several
        return [entry] * several

    def _graded_first(self, role: str) -> bool:
        """Whether one grade beside several responses is that of the first of them."""
        last = self.columns[role].rsplit(".", 1)[-1]
        logged = "filter" in self.columns or last in ("resps", "filtered_resps")
        return role in ("text", "answer") and logged

    def _converted(self, flat: tuple[Sequence[int], Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
        numbers, values = flat
        found = {}
        for role, column in values.items():
            convert, must = self.convert[role]
            types = set(map(type, column)) if role in WORDED else set()
            if bool in types:
                if role in ("answer", "correct"):
                    column = [BOOLEAN[v] if v is True or v is False else v for v in column]
                else:
                    convert = no_booleans(convert)
            try:
                found[role] = list(map(convert, column))
            except REFUSED:
                self._complain(numbers, role, values, convert, must)
        if self.rules is not None:
            texts = found.pop("text")
            patterns = self.rules(texts)
            keep_examples(self.samples, patterns, texts)
            found["pattern"] = [self.codes["pattern"][name] for name in patterns]
        return found

    def _complain(
        self,
        numbers: Sequence[int],
        role: str,
        values: Mapping[str, Sequence[Any]],
        convert: Callable[[Any], Any],
        must: str,
    ) -> None:
        for place, (at, value) in enumerate(zip(numbers, values[role], strict=True)):
            try:
                convert(value)
            except REFUSED:
                was = shown(repr(value), 60)
                if role == "correct":
                    was += self.grades.help(value)
                row = {self.columns[r]: column[place] for r, column in values.items()}
                was += f"; the row is {shown({k: shown(v, 40) for k, v in row.items()})}"
                raise self.table.fault(at, self._of(role), must, was) from None

    def finished(self, where: str) -> Rollouts:
        """The rows that are whole, and the names that they use."""
        arrays = self._together()
        rows = arrays["question"].size if arrays else 0
        keep = np.ones(rows, bool)
        if not rows:
            self._nothing_left(where)

        def drop(reason: str, bad: np.ndarray) -> None:
            nonlocal keep
            if (bad & keep).any():
                self.dropped[reason] += int((bad & keep).sum())
            keep &= ~bad

        rates, notes = rates_of_rows(arrays, self.columns.get("learning_rate", ""))
        self._note(notes)
        plain = rows_without(arrays)
        keep &= ~plain
        apart = {role: arrays[role][plain] for role in arrays if role in ROLES}
        drop("question missing", arrays["question"] < 0)
        drop("pattern missing" if self.rules is None else "text missing", arrays["pattern"] < 0)
        drop("correct missing", arrays["correct"] < 0)
        drop("graded again by another filter", arrays.pop("filter") > 0)
        if "step" in arrays:
            drop("step missing", arrays["step"] == NO_STEP)
        if "confidence" in arrays:
            finite = np.isfinite(arrays["confidence"])
            if (finite & keep).any() or not keep.any():
                drop("confidence missing or not finite", ~finite)
            elif "confidence" in self.guessed:
                self.notes.append(
                    f"{self.columns['confidence']} holds no finite number and was not read"
                )
                del arrays["confidence"]
            else:
                what = f"{where}: {self._of('confidence')}"
                raise ValueError(f"{what} must hold finite numbers, got none")
        if not keep.any():
            self._nothing_left(where)
        arrays = {role: array[keep] for role, array in arrays.items()}
        later = plain_of_rows(apart, self.grades.is_right())
        self._note(said_of(later))
        self._grade(arrays)
        self.questions = self.codes["question"].names
        self._name_sets(arrays)
        self._say()
        if "answer" in arrays and self._is_reference(arrays):
            self._not_read_as_reference()
            del arrays["answer"]
        if "answer" in arrays and (arrays["answer"] < 0).all():
            del arrays["answer"]
        return dataclasses.replace(
            self._named(arrays), without_patterns=later, learning_rates=rates
        )

    def _together(self) -> dict[str, np.ndarray]:
        """The arrays of all files, of the roles that they have."""
        some = set().union(*(has for has, _ in self._files))
        every = [has for has, rows in self._files if rows]
        arrays = {
            role: np.concatenate(part)
            for role, part in self._parts.items()
            if role in some or role in ("file", "filter", "pattern")
        }
        if "confidence" in arrays and not all("confidence" in has for has in every):
            self.notes.append("confidence is not in every file and was not read")
            del arrays["confidence"]
        return arrays

    def _grade(self, arrays: dict[str, np.ndarray]) -> None:
        """Codes of grades become right and wrong; what was counted is said."""
        codes = arrays["correct"]
        right = self.grades.is_right()
        count = np.bincount(codes, minlength=right.size)
        self.notes += self.grades.notes(self.columns["correct"], count)
        unseen = self.grades.unseen()
        if unseen:
            values = listed(self.grades.words)
            raise ValueError(
                f"--right must be a value of {self._of('correct')} ({values}), got {listed(unseen)}"
            )
        order = np.argsort(-count, kind="stable")
        self.graded = {
            self.grades.words[i]: (int(count[i]), bool(right[i])) for i in order if count[i]
        }
        arrays["correct"] = right[codes]

    def _name_sets(self, arrays: dict[str, np.ndarray]) -> None:
        """A name that occurs in several data sets is that of several questions."""
        sets = arrays.pop("dataset", None)
        if sets is None:
            self._say_shared(arrays)
            return
        titles = self.codes["dataset"].names
        found = in_sets(arrays["question"], sets, self.questions, titles)
        if found is None:
            return
        arrays["question"], self.questions = found
        by_file = "" if "dataset" in self.columns else ", after which files are named,"
        self.notes.append(
            f"questions of the same name in several data sets ({listed(titles, 6)}){by_file} are "
            "several questions"
        )

    def _say_shared(self, arrays: Mapping[str, np.ndarray]) -> None:
        """That files have questions in common, which only their names tell."""
        if len(self._files) < 2 or "step" in arrays:
            return
        file = arrays["file"].astype(np.int64)
        pairs = np.unique(arrays["question"] * np.int64(len(self._files)) + file)
        shared = pairs.size - np.unique(arrays["question"]).size
        if shared:
            self.notes.append(
                "questions of the same name in several files are read as one question (with "
                "--dataset-field as several)"
            )

    def _say(self) -> None:
        """Notes on what was met on the way."""
        if self._firsts:
            self.notes.append(
                f"{self._firsts} rows have several responses and one grade: it is that of the "
                "first, which is read; the others are not"
            )
        for role, kinds in self._kinds.items():
            if len(kinds) > 1 and role != "answer":
                kinds_shown = " and ".join(sorted(kinds))
                self.notes.append(f"{self._of(role)} holds {kinds_shown}, read alike")

    def _nothing_left(self, where: str) -> None:
        left_out = {**self.selection.dropped, **self.dropped}
        why = ", ".join(f"{reason}: {number}" for reason, number in left_out.items())
        got = f"none of them whole ({why})" if why else "none"
        raise ValueError(f"{where} must hold rollouts, got {got}")

    def _is_reference(self, arrays: dict[str, np.ndarray]) -> bool:
        """Whether the answers say nothing about the grades, as those of the solution."""
        if self.columns.get("answer") != "answer" or "answer" not in self.guessed:
            return False
        question, answer, right = (arrays[role] for role in ("question", "answer", "correct"))
        return says_nothing(question, answer, right, len(self.questions))

    def _not_read_as_reference(self) -> None:
        self._note(["answer is one for all rollouts of a question: the reference, and not read"])

    def _named(self, arrays: dict[str, np.ndarray]) -> Rollouts:
        question, questions = used(arrays["question"], self.questions)
        pattern, patterns = used(arrays["pattern"], self.codes["pattern"].names)
        pattern, patterns = by_count(pattern, np.ones(pattern.size), patterns)
        answer, answers = arrays.get("answer"), ()
        if answer is not None:
            answer, answers = used(answer, self.codes["answer"].names)
        if self.rules is not None:
            unused = tuple(name for name in self.rules.names if name not in patterns)
            if unused:
                self.notes.append(f"no text is of pattern {listed(unused)}")
        return Rollouts(
            questions,
            patterns,
            question=question,
            pattern=pattern,
            correct=arrays["correct"],
            confidence=arrays.get("confidence"),
            answer=answer,
            answers=answers,
            step=arrays.get("step"),
            dropped=dict(self.dropped),
            notes=tuple(self.notes),
        )
