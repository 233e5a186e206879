"""A base model as a small table: its patterns, their shares and success rates."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ._files import Chunk, CsvTable, Table
from ._streams import require_data

_SHARES = ("pattern", "probability", "success_rate")
_COUNTS = ("pattern", "samples", "correct")


@dataclasses.dataclass(frozen=True, eq=False)
class PatternTable:
    r"""Patterns of a base model: shares $\pi(r)$ and success rates $p(r)$, NumPy.

    - `patterns`: the R names.
    - `probs`, `rates`: `(R,)` each, as stated, or posterior means under uniform priors,
      $(n_r + 1)/(n + R)$ and $(c_r + 1)/(n_r + 2)$, of counts.
    - `samples`, `correct`: `(R,)` each, the counts $n_r$ and $c_r$; None where the source states
      shares and rates.
    - `note`: what the reader changed, in words; else empty.
    """

    patterns: tuple[str, ...]
    probs: Float[np.ndarray, " R"]
    rates: Float[np.ndarray, " R"]
    samples: Float[np.ndarray, " R"] | None = None
    correct: Float[np.ndarray, " R"] | None = None
    note: str = ""


class CountedRow(NamedTuple):
    """One row of a table of counts."""

    number: int
    question: str
    pattern: str
    step: int | None
    samples: int
    correct: int
    learning_rate: float


def counted_rows(
    table: Table,
    chunks: Iterable[Chunk],
    names: Mapping[str, str],
    seen: set[tuple],
    at_step: int | None = None,
) -> Iterator[CountedRow]:
    """The rows of a table of counts; where steps are told, the name of a pattern may be empty.

    **Arguments:** `chunks`: those of the table; `names`: the columns of `pattern`, `samples`,
    `correct` and, if there are any, of `question`, `dataset`, `step` and `learning_rate`; `seen`:
    of the rows before, added to; `at_step`: the step of all rows where no column tells it.

    **Raises:** `ValueError`, with line or row, if a name is missing or no name, occurs again for
    the same question and step, or a count is not a whole number or more than its samples.
    """
    for chunk in chunks:
        columns = [chunk.columns[name] for name in names.values()]
        for number, *values in zip(chunk.numbers, *columns, strict=True):
            row = dict(zip(names, values, strict=True))
            question = _name(table, number, "question", row.get("question", POOLED))
            if "dataset" in row:
                question = f"{_name(table, number, 'dataset', row['dataset'])}: {question}"
            step = at_step
            if "step" in row:
                step = int(_number(table, number, "step", row["step"], is_whole, _WHOLE))
            # At a later step of a run patterns may not be known: the caller sees to which.
            unknown = step is not None and row["pattern"] in ("", None)
            pattern = "" if unknown else _name(table, number, "pattern", row["pattern"])
            _once(table, number, pattern, (question, pattern, step), seen, _AGAIN)
            samples, correct = (
                _number(table, number, name, row[name], _is_count, f"{_WHOLE} of at least 0")
                for name in ("samples", "correct")
            )
            if correct > samples:
                must = f"be at most samples = {samples:g}"
                raise table.fault(number, "correct", must, f"{correct:g}")
            rate = row.get("learning_rate")
            rate = math.nan if rate in ("", None) else _number(
                table, number, "learning_rate", rate, lambda x: x >= 0, "be at least 0"
            )  # fmt: skip
            yield CountedRow(number, question, pattern, step, int(samples), int(correct), rate)


POOLED = "all questions"
_AGAIN = "; --step-field NAME reads steps, --where NAME=VALUE some rows, if these tell them apart"
_WHOLE = "be a whole number"


def is_whole(value: float) -> bool:
    """Whether a number is an integer that floating point holds exactly."""
    return math.isfinite(value) and value.is_integer() and abs(value) < 2**53


def _is_count(value: float) -> bool:
    return is_whole(value) and value >= 0


def _name(table: Table, number: int, name: str, value: Any) -> str:
    plain = value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool))
    if not plain:
        raise table.fault(number, name, "be one text or number", _shown(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or value != value else str(value).strip()
    if not text:
        raise table.fault(number, name, "have a name", "nothing")
    return text


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _once(
    table: Table, number: int, pattern: str, key: tuple, seen: set[tuple], hint: str = ""
) -> None:
    if key in seen:
        must = "have a name of its own"
        raise table.fault(number, "pattern", must, f"{pattern!r} again{hint}")
    seen.add(key)


def _number(table: Table, number: int, name: str, value: Any, fits, must: str) -> float:
    shown = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(shown)
    except (TypeError, ValueError):
        raise table.fault(number, name, "be a number", _shown(shown)) from None
    except OverflowError:
        found = math.inf
    if not fits(found):
        raise table.fault(number, name, must, _shown(shown) if isinstance(shown, int) else shown)
    return found


def read_pattern_table(path: str | os.PathLike) -> PatternTable:
    """Read a table of patterns from a CSV file.

    **Arguments:**

    - `path`: columns `pattern,probability,success_rate` (a sum of the probabilities within 0.01
      of 1 is renormalised, and `note` says so) or `pattern,samples,correct`; lines that begin
      with `#` are comments.

    **Returns:** a `PatternTable` of at least two patterns.

    **Raises:** `ValueError`, with the line number where there is one, if the file is missing,
    empty, binary or malformed, has other columns, or values that are out of range.

    ??? example

        ```python
        import qra_jax as qra
        table = qra.rollouts.read_pattern_table("experiments/data/paper_entangled.csv")
        policy, problem = qra.two_stage(table.probs, table.rates)
        ```
    """
    path = Path(path)
    require_data(path)
    table = CsvTable(path)
    columns = table.names
    counts = sorted(columns) == sorted(_COUNTS)
    if not counts and sorted(columns) != sorted(_SHARES):
        must = f"be {','.join(_SHARES)} or {','.join(_COUNTS)}"
        raise table.fault(table.first, "the columns", must, ",".join(columns))
    return _counted(table) if counts else _stated(table)


def _counted(table: Table) -> PatternTable:
    rows = list(counted_rows(table, table.chunks(_COUNTS), {name: name for name in _COUNTS}, set()))
    patterns = _several(table, [row.pattern for row in rows])
    samples = np.array([row.samples for row in rows], float)
    correct = np.array([row.correct for row in rows], float)
    if samples.sum() == 0:
        raise ValueError(f"{table.path}: samples must not all be 0")
    probs = (samples + 1) / (samples + 1).sum()
    return PatternTable(patterns, probs, (correct + 1) / (samples + 2), samples, correct)


def _stated(table: Table) -> PatternTable:
    names: list[str] = []
    numbers: list[list[float]] = []
    seen: set[tuple] = set()
    for chunk in table.chunks(_SHARES):
        columns = [chunk.columns[name] for name in _SHARES]
        for number, name, *values in zip(chunk.numbers, *columns, strict=True):
            names.append(_name(table, number, "pattern", name))
            _once(table, number, names[-1], (names[-1],), seen)
            numbers.append(
                [
                    _number(table, number, key, value, lambda x: 0 <= x <= 1, "lie in [0, 1]")
                    for key, value in zip(_SHARES[1:], values, strict=True)
                ]
            )
    patterns = _several(table, names)
    probs, rates = np.array(numbers).T
    total = probs.sum()
    if abs(total - 1) > 0.01:
        must = "be within 0.01 of 1"
        raise ValueError(f"{table.path}: the sum of probability must {must}, got {total:g}")
    exact = abs(total - 1) <= 1e-9
    note = "" if exact else f"probabilities summed to {total:.6g} and were renormalised"
    return PatternTable(patterns, probs / total, rates, note=note)


def _several(table: Table, patterns: list[str]) -> tuple[str, ...]:
    if len(patterns) < 2:
        raise ValueError(f"{table.path} must hold at least 2 patterns, got {len(patterns)}")
    return tuple(patterns)
