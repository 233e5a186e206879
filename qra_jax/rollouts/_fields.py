"""How a file of rollouts is meant: which field says what, and which text is which pattern."""

import dataclasses
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._files import Table, needed_polars
from ._rollouts import listed

# The first name that is there is taken; a harness's `answer` is often the reference answer.
_COMMON = {
    "question": (
        *("question", "question_id", "problem_id", "prompt_id", "problem", "prompt"),
        *("doc_id", "task_id", "idx", "input"),
    ),
    "pattern": ("pattern",),
    "correct": (
        *("correct", "is_correct", "passed", "acc", "score", "exact_match", "reward"),
        *("symbolic_correct", "correctness_math_verify"),
    ),
    "text": (
        *("text", "response", "responses", "completion", "completions", "generation"),
        *("generations", "output", "outputs", "resps", "code"),
    ),
    "answer": (
        *("pred", "prediction", "predicted_answer", "extracted_answer", "model_answer"),
        *("filtered_resps", "answer"),
    ),
    "confidence": ("confidence", "self_certainty", "mean_logprob", "mean_log_prob", "avg_logprob"),
    "step": ("step", "global_step", "training_step"),
}


@dataclasses.dataclass(frozen=True)
class Fields:
    """Names of the fields (columns) of a file of rollouts.

    None looks for the common names, an empty name leaves the field out:

    - `question`: `question`, `question_id`, `problem_id`, `prompt_id`, `problem`, `prompt`,
      `doc_id`, `task_id`, `idx` or `input`.
    - `pattern`: `pattern`.
    - `correct`: `correct`, `is_correct`, `passed`, `acc`, `score`, `exact_match`, `reward`,
      `symbolic_correct` or `correctness_math_verify`.
    - `text`, which rules sort into patterns: `text`, `response`, `completion`, `generation`,
      `output` (or their plurals), `resps` or `code`.
    - `answer`: `pred`, `prediction`, `predicted_answer`, `extracted_answer`, `model_answer`,
      `filtered_resps` or `answer`.
    - `confidence`: `confidence`, `self_certainty`, `mean_logprob`, `mean_log_prob` or
      `avg_logprob`.
    - `step`: `step`, `global_step` or `training_step`.

    The first of these that the file has is taken; `Rollouts.notes` says which, and what else there
    was.
    """

    question: str | None = None
    pattern: str | None = None
    correct: str | None = None
    text: str | None = None
    answer: str | None = None
    confidence: str | None = None
    step: str | None = None


def chosen_fields(table: Table, fields: Fields, by_rules: bool) -> tuple[dict[str, str], list[str]]:
    """Field of every role that is to be read, and what to say about the choice.

    **Raises:** `ValueError` if a name is not in the file, or a field that is needed is not there.
    """
    has = f"has {listed(table.names)}"
    asked = dataclasses.asdict(fields)
    given = {role: name for role, name in asked.items() if name}
    for role, name in given.items():
        if name not in table.names:
            raise ValueError(f"the {role} field must be in {table.path}, which {has}, got {name!r}")
    names, remarks = dict(given), []
    for role, common in _COMMON.items():
        there = [name for name in common if name in table.names and name not in given.values()]
        if asked[role] is not None or not there or (role == "text" and not by_rules):
            continue
        names[role] = there[0]
        others = f" (and not {listed(tuple(there[1:]))})" if there[1:] else ""
        if role != there[0] or others:
            remarks.append(f"{role} from {there[0]}{others}")
    if by_rules and "pattern" in given:
        raise ValueError(
            "the pattern field must not be given where rules assign the patterns, "
            f"got {given['pattern']!r}"
        )
    names.pop("pattern" if by_rules else "text", None)
    if "samples" in table.names and "pattern" in names and "correct" in names:
        for role in ("answer", "confidence"):
            if role in given:
                raise ValueError(
                    f"the {role} field must not be given for {table.path}, a table of counts, "
                    f"got {given[role]!r}"
                )
            names.pop(role, None)
        names["samples"] = "samples"
    elif {"probability", "success_rate"} <= set(table.names):
        raise ValueError(
            f"{table.path} must hold rollouts or counts, got stated shares: read_pattern_table "
            "reads them"
        )
    needed = ["correct", "text" if by_rules else "pattern"]
    needed += [] if "samples" in names else ["question"]
    for role in needed:
        if role not in names:
            or_rules = ", or rules assign patterns" if role == "pattern" else ""
            raise ValueError(
                f"{table.path} must have a {role} field{or_rules}, got {listed(table.names)}"
            )
    return names, [f"read {'; '.join(remarks)}"] if remarks else []


class PatternRules:
    """Ordered regular expressions, of which the first that is found names the pattern.

    The file is TOML: `default = "prose"`, then tables `[[pattern]]` with `name` and `regex`, the
    syntax of the Rust crate regex: no look-around, no back-references, and so a time that grows
    like the length of the text.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        settings = _settings(path)
        unknown = [key for key in settings if key not in ("default", "pattern")]
        rules = settings.get("pattern", [])
        _require(not unknown, path, "keys", "be default and pattern", ", ".join(unknown))
        default = _name(path, "default", settings.get("default"))
        tables = isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules)
        _require(tables and rules != [], path, "pattern", "be tables [[pattern]]", repr(rules))
        polars = needed_polars("rules")
        chosen: Any = polars
        for number, rule in enumerate(rules, start=1):
            where = f"pattern {number}"
            keys = ", ".join(rule)
            _require(set(rule) == {"name", "regex"}, path, where, "have name and regex", keys)
            name = _name(path, f"{where}, name", rule["name"])
            regex = rule["regex"]
            _require(isinstance(regex, str), path, f"{where}, regex", "be a text", repr(regex))
            try:
                polars.Series([""]).str.contains(regex)
            except polars.exceptions.ComputeError as error:
                reason = str(error).split("error: ", 2)[-1].split("\n", 1)[0]
                must = "be a regular expression of Rust's regex"
                _require(False, path, f"{where}, regex", must, f"{regex!r} ({reason})")
            found = polars.col("text").str.contains(regex)
            chosen = chosen.when(found).then(polars.lit(name))
        missing = polars.col("text").is_null()
        self._chosen = polars.when(~missing).then(chosen.otherwise(polars.lit(default)))
        self._polars = polars
        self.names = tuple(dict.fromkeys([*(rule["name"] for rule in rules), default]))

    def __call__(self, texts: Sequence[str | None]) -> list[str | None]:
        """The patterns of texts; None for None."""
        polars = self._polars
        try:
            column = polars.Series("text", texts, polars.String)
        except UnicodeEncodeError:  # half of a surrogate pair, where a text was cut
            whole = [
                None if text is None else text.encode(errors="replace").decode() for text in texts
            ]
            column = polars.Series("text", whole, polars.String)
        return column.to_frame().select(pattern=self._chosen)["pattern"].to_list()


def _settings(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path} must be a file that can be read, got: {reason}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a TOML file, got: {error}") from None


def _name(path: Path, what: str, name: object) -> str:
    text = name.strip() if isinstance(name, str) else ""
    _require(bool(text), path, what, "be a name", "nothing" if name is None else repr(name))
    return text


def _require(ok: bool, path: Path, what: str, must: str, was: str) -> None:
    if not ok:
        raise ValueError(f"{path}: {what} must {must}, got {was or 'nothing'}")
