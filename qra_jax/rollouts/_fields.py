"""Which field of a file says what."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._files import Table
from ._grades import Grades
from ._names import COMMON, DOTTED_GRADE, REWARD_WORD, RIGHT, SAMPLES, STEP_TEXT
from ._rollouts import listed, shown
from ._shapes import CHAT, LIST, RECORDS, VALUE, reached


@dataclasses.dataclass(frozen=True)
class Fields:
    """Names of the fields (columns) of a file of rollouts.

    None looks for the common names, an empty name leaves the field out. A name with dots leads
    into records (`scores.match.value`).

    - `question`: `question`, `question_id`, `problem_id`, `prompt_id`, `problem`, `prompt`,
      `doc_id`, `task_id`, `sample_id`, `idx`, `qid`, `input`, `query`, `instruction`, `uid`,
      `id`, `doc.query` or `doc.id`.
    - `pattern`: `pattern`.
    - `correct`: `correct`, `is_correct`, `passed`, `acc`, `score`, `exact_match`, `reward`,
      `symbolic_correct`, `correctness_math_verify`, `math_verify`, `extractive_match`,
      `plus_status`, `base_status`, `success`, `solved`, `resolved`, `grade`, `accuracy` or
      `scores`; else what the field `metrics` of lm-evaluation-harness names, Inspect's
      `scores.*.value`, lighteval's `metric.*`, or the only column of rewards.
    - `text`, which rules sort into patterns: `text`, `response`, `completion`, `generation`,
      `output` (or their plurals), `resps`, `code`, `generated_text`, `model_output`,
      `model_response`, `sampled`, `predictions`, `messages`, `conversations`, `solution`, `content`
      or `model_response.text`.
    - `answer`: `pred`, `prediction`, `predicted_answer`, `extracted_answer`, `model_answer`,
      `filtered_resps`, `pred_value`, `picked` or `answer`.
    - `confidence`: `confidence`, `self_certainty`, `mean_logprob`, `mean_log_prob` or
      `avg_logprob`.
    - `step`: `step`, `global_step`, `training_step`, `checkpoint_step`, `global_steps`,
      `train_step`, `training_steps`, `optimizer_step`, `update_step`, `ckpt_step`, `model_step` or
      `policy_step`.
    - `learning_rate`, of the trainer at a step: `learning_rate`, `lr`, `train/learning_rate`,
      `actor/lr`, `current_lr` or `optimizer/lr`.
    - `dataset`, in which the name of a question is one of its own: `dataset`, `dataset_name`,
      `data_source`, `benchmark`, `task`, `task_name`, `eval_name` or `eval.task`.
    - `samples`, of a table of counts: `samples`, `n_samples`, `num_samples`, `n_rollouts`,
      `num_rollouts`, `n`, `k`, `total`, `count`, `attempts`, `n_total`, `num_total`, `n_attempts`
      or `trials`; and beside one of these `correct` may be called `n_correct`, `num_correct`,
      `correct_count`, `n_right`, `num_right`, `c`, `successes`, `n_success`, `num_success`,
      `n_passed`, `num_passed` or `passes`.

    In letters of either size. The first of these that the file has is taken; `Rollouts.notes` says
    which, and what else there was.
    """

    question: str | None = None
    pattern: str | None = None
    correct: str | None = None
    text: str | None = None
    answer: str | None = None
    confidence: str | None = None
    step: str | None = None
    learning_rate: str | None = None
    dataset: str | None = None
    samples: str | None = None


class Choice(NamedTuple):
    """Field of every role that is to be read, what to say about the choice, and other fields of
    grades."""

    names: dict[str, str]
    notes: list[str]
    other_grades: tuple[str, ...] = ()


# Roles that may differ between the rollouts of one row, and lie in a list of records.
_NESTED = ("pattern", "correct", "text", "answer", "confidence")
_SPOKEN = ("completion", "text", "content", "generated_text", "message", "choices", "outputs")


def chosen_fields(
    table: Table, fields: Fields, by_rules: bool, records: str | None = None
) -> Choice:
    """Choose.

    **Arguments:** `by_rules`: whether rules assign the patterns; `records`: the field that holds a
    list of records, one a rollout.

    **Raises:** `ValueError` if a name is not in the file, or a field that is needed is not there.
    """
    return _Chooser(table, fields, by_rules, records).choice()


class _Chooser:
    def __init__(self, table: Table, fields: Fields, by_rules: bool, records: str | None):
        self.table, self.by_rules = table, by_rules
        self.asked = dataclasses.asdict(fields)
        self.remarks: list[str] = []
        self.notes: list[str] = []
        self.nest = self._nest(records)
        self.given = {role: self._named(role, name) for role, name in self.asked.items() if name}

    def choice(self) -> Choice:
        table, given = self.table, self.given
        if self.by_rules and "pattern" in given:
            raise ValueError(
                "the pattern field must not be given where rules assign the patterns, "
                f"got {given['pattern']!r}"
            )
        counts = self._counts()
        names = dict(given)
        for role in COMMON:
            if self.asked[role] is not None or (role == "text" and not self.by_rules):
                continue
            there = [name for name in self._there(role) if name not in given.values()]
            if not there:
                continue
            names[role] = there[0]
            self._remark(role, there)
        spoken = names.get("text", "")
        chat = table.shapes.get(spoken) == CHAT
        if chat and "question" not in names and self.asked["question"] is None:
            names["question"] = spoken
            self.remarks.append(f"question from the messages before the last of {spoken}")
        names.pop("pattern" if self.by_rules else "text", None)
        if counts and "pattern" in names:
            self._take_counts(names, *counts)
        elif {"probability", "success_rate"} <= set(table.names):
            raise ValueError(
                f"{table.path} must hold rollouts or counts, got stated shares: "
                "read_pattern_table reads them"
            )
        if counts and "pattern" not in names and not self.nest:
            raise self._lacking("pattern", "a table of counts")
        needed = ["correct", "text" if self.by_rules else "pattern"]
        for role in needed + ([] if "samples" in names else ["question"]):
            if role not in names:
                raise self._lacking(role)
        read = [f"read {'; '.join(self.remarks)}"] if self.remarks else []
        asked = "samples" in names or "correct" in given
        others = () if asked else self._there("correct")
        others = tuple(name for name in others if name != names["correct"])
        return Choice(names, [*read, *self.notes], others)

    def _take_counts(self, names: dict[str, str], samples: str, right: str) -> None:
        """Read counts, in place of grades."""
        names["correct"] = right
        for role in ("answer", "confidence"):
            if role in self.given:
                raise ValueError(
                    f"the {role} field must not be given for {self.table.path}, a table of "
                    f"counts, got {self.given[role]!r}"
                )
            names.pop(role, None)
        self.remarks = [r for r in self.remarks if not r.startswith(("correct", "answer"))]
        if (samples, right) != ("samples", "correct"):
            self.remarks.append(f"counts from {samples}, and of right ones {right}")
        names["samples"] = samples

    def _nest(self, records: str | None) -> str | None:
        """The list of records, one a rollout, that rows hold, if they do."""
        shapes = self.table.shapes
        if records is not None:
            if shapes.get(records) != RECORDS:
                lists = tuple(name for name, shape in shapes.items() if shape == RECORDS)
                raise ValueError(
                    f"{self.table.path}: --records must name a list of records "
                    f"({listed(lists) or 'there is none'}), got {records!r}"
                )
            return records
        lists = [name for name, shape in shapes.items() if shape == RECORDS]
        lists = [name for name in lists if not self.table.in_list(name)]
        graded = [
            name for name in lists if any(f"{name}.{key}" in shapes for key in COMMON["correct"])
        ]
        if graded and self._is_rollout():
            self.notes.append(
                f"each row is read as one rollout: --records {graded[0]} would read each record of "
                f"{graded[0]} as one"
            )
            return None
        if len(graded) > 1:
            raise ValueError(
                f"{self.table.path} must hold one list of graded records, got several "
                f"({listed(tuple(graded))}): --records {graded[0]} reads one of them"
            )
        if graded:
            self.notes.append(f"each record of {graded[0]} is read as one rollout")
        return graded[0] if graded else None

    def _is_rollout(self) -> bool:
        """Whether a row has a grade, and what it is of, outside of lists of records."""
        shapes, names = self.table.shapes, self.table.names
        there = {role: [n for n in COMMON[role] if n in names] for role in _NESTED}
        graded = any(shapes[name] == VALUE for name in there["correct"])
        spoken = any(shapes[name] in (VALUE, CHAT) for name in there["text"] + there["pattern"])
        return graded and spoken

    def _named(self, role: str, name: str) -> str:
        for candidate in (name, f"{self.nest}.{name}" if self.nest else name):
            if self.table.has(candidate):
                return candidate
        near = _with_end(self.table, name.split(".")[-1:])
        hint = f"; --{role.replace('_', '-')}-field {near[0]} may be it" if near else ""
        raise ValueError(
            f"the {role} field must be in {self.table.path}, which has "
            f"{listed(self.table.names)}, got {name!r}{hint}"
        )

    def _there(self, role: str) -> list[str]:
        """Fields that may play a role, the best first."""
        shapes = self.table.shapes
        found = []
        if self.nest and role in _NESTED:
            found += [f"{self.nest}.{key}" for key in COMMON[role]]
            found = [name for name in found if name in shapes]
        # In letters of either size, as spreadsheets have them.
        there = {name.lower(): name for name in (*reversed(self.table.names), *shapes)}
        there |= {name: name for name in shapes}
        named = [there[name] for name in COMMON[role] if name in there]
        found += [name for name in named if self._fits(role, name)]
        if role == "correct":
            found += self._more_grades(found)
        elif not found and role in _NESTED:
            # Beside the grade, in the same record.
            before = self.given.get("correct", "").rpartition(".")[0]
            found += [f"{before}.{key}" for key in COMMON[role] if f"{before}.{key}" in shapes]
        if role == "answer" and "correct" not in self.given:
            grade = next(iter(self._there("correct")), "")
            if grade.startswith("scores.") and (beside := f"{grade[:-5]}answer") in shapes:
                found.insert(0, beside)
        return found

    def _fits(self, role: str, name: str) -> bool:
        shape = self.table.shapes.get(name, VALUE)
        if role == "text":
            inner = (f"{name}.{key}" in self.table.shapes for key in _SPOKEN)
            return shape in (VALUE, LIST, CHAT) or any(inner)
        if role == "step":
            first = next((row[name] for row in self.table.head if row.get(name) is not None), 0)
            return shape in (VALUE, LIST) and (name == "step" or is_step(first))
        if role == "learning_rate":
            return shape == VALUE and self._is_number(name)
        return shape in (VALUE, LIST) or (role == "question" and shape == CHAT)

    def _is_number(self, name: str) -> bool:
        """Whether the first value of a column is a number."""
        first = next((row[name] for row in self.table.head if row.get(name) not in (None, "")), "")
        try:
            return not isinstance(first, bool) and float(first) >= 0
        except (TypeError, ValueError):
            return False

    def _more_grades(self, common: Sequence[str]) -> list[str]:
        """Grades by names that a tool chose: those in `metrics`, with dots, or of rewards."""
        table = self.table
        found: list[str] = []
        for row in table.head:
            named = row.get("metrics")
            for name in named if isinstance(named, list) else ():
                if isinstance(name, str) and name in table.names and name not in (*common, *found):
                    found.append(name)
        if not common:
            dotted = [name for name in table.shapes if DOTTED_GRADE.fullmatch(name)]
            found += [name for name in dotted if table.shapes[name] == VALUE]
        if not (common or found):
            rewards = [name for name in table.names if REWARD_WORD.search(name)]
            if len(rewards) == 1 and table.shapes[rewards[0]] in (VALUE, LIST):
                found += rewards
        return found

    def _remark(self, role: str, there: list[str]) -> None:
        others = f" (and not {listed(tuple(there[1:]))})" if there[1:] else ""
        if others and role in ("correct", "step"):
            others = f"{others[:-1]}: --{role}-field chooses)"
        if role != there[0] or others:
            self.remarks.append(f"{role} from {there[0]}{others}")

    def _counts(self) -> tuple[str, str] | None:
        """The fields of a table of counts: how many, and how many of them right."""
        table, given = self.table, self.given
        names = set(table.names)
        if self.asked["samples"] == "" or (self.nest and "samples" not in given):
            return None
        samples = [given["samples"]] if "samples" in given else [n for n in SAMPLES if n in names]
        right = [name for name in RIGHT if name in names]
        grades = [name for name in COMMON["correct"] if name in names]
        if not samples:
            return None
        if "samples" in given or samples[0] == "samples":
            correct = given.get("correct") or next(iter([*grades[:1], *right]), None)
            return (samples[0], correct) if correct else None
        if given.get("correct") in right or (right and not grades and "correct" not in given):
            return samples[0], given.get("correct") or right[0]
        correct = given.get("correct") or next(iter(grades), None)
        if correct is None:
            return None
        pairs = [(_whole(row.get(samples[0])), _whole(row.get(correct))) for row in table.head]
        whole = [(n, c) for n, c in pairs if n is not None and c is not None]
        if not whole or len(whole) < len(pairs):
            return None
        if max(c for _, c in whole) > 1 and all(c <= n for n, c in whole):
            return samples[0], correct
        if min(n for n, _ in whole) > 1:
            self.notes.append(
                f"each row is read as one rollout: --samples-field {samples[0]} would read "
                f"{samples[0]} and {correct} as counts"
            )
        return None

    def _lacking(self, role: str, what: str = "") -> ValueError:
        """That a field is missing, with what may be it and the first row."""
        table = self.table
        if what:
            return ValueError(
                f"{table.path}, {what}, must have a pattern field, got {listed(table.names)}; "
                "--pattern-field names it, --samples-field '' reads each row as one rollout"
            )
        or_rules = ", or rules assign patterns" if role == "pattern" else ""
        message = f"{table.path} must have a {role} field{or_rules}, got {listed(table.names)}"
        unfit = [name for name in COMMON[role] if name in table.names]
        unfit = [name for name in unfit if table.shapes.get(name, VALUE) not in (VALUE, LIST)]
        if unfit and self.asked[role] is None:
            value = next((row[unfit[0]] for row in table.head if unfit[0] in row), "records")
            message = f"{table.path}: {unfit[0]} must hold single values to be the {role} field"
            message += f", got {shown(value, 60)}"
        near = _with_end(table, COMMON[role])
        if role == "correct":
            near += [name for name in _graded(table) if name not in near]
            near += [name for name in table.names if REWARD_WORD.search(name) and name not in near]
        if near:
            others = f" (or {listed(tuple(near[1:4]))})" if near[1:] else ""
            message += f"; --{role}-field {near[0]}{others} may be it"
        elif role == "pattern":
            message += "; --rules FILE assigns them from the texts, --pattern-field names a field"
        else:
            message += f"; --{role}-field names it"
        row = f"; the first row is {shown(table.head[0])}" if table.head else ""
        return ValueError(message + row)


def is_step(value: Any) -> bool:
    """Whether a value is, or names, a number of steps."""
    if isinstance(value, str):
        text = value.strip()
        return bool(STEP_TEXT.fullmatch(text)) or _whole(text) is not None
    return _whole(value) is not None


def _whole(value: Any) -> int | None:
    """A whole number, whatever it is written as; None for what is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _with_end(table: Table, ends: Sequence[str]) -> list[str]:
    """Names with dots whose last part is one of some."""
    order = {end: at for at, end in enumerate(ends)}
    near = [name for name in table.shapes if "." in name and name.split(".")[-1] in order]
    near = [name for name in near if table.shapes[name] in (VALUE, LIST)]
    return sorted(near, key=lambda name: (order[name.split(".")[-1]], len(name)))


def _graded(table: Table) -> list[str]:
    """Fields whose values look like grades: true or false, or words that say so."""
    grades = Grades()
    found = []
    for name, shape in table.shapes.items():
        if shape != VALUE:
            continue
        parts = [name] if name in table.names else name.split(".")
        values = [_first(reached(row, parts)) for row in table.head]
        values = [value for value in values if isinstance(value, (bool, str)) and value != ""]
        # Not a column of numbers, nor one of letters that might mean anything.
        words = {str(value).strip().lower() for value in values}
        telling = any(len(word) > 2 or word in ("c", "i") for word in words)
        if telling and all(_is_grade(grades, value) for value in values):
            found.append(name)
    return found


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _is_grade(grades: Mapping[Any, int], value: Any) -> bool:
    try:
        return grades[str(value)] >= 0
    except ValueError:
        return False
