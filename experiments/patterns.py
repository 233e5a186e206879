"""A measured base model: a small table of patterns, their shares and success rates."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

_SHARES = ("pattern", "probability", "success_rate")
_COUNTS = ("pattern", "samples", "correct")


@dataclasses.dataclass(frozen=True)
class PatternTable:
    """The patterns of a base model.

    `samples` and `correct` are None where the file states shares and rates instead of counts.
    """

    names: tuple[str, ...]
    probs: np.ndarray
    rates: np.ndarray
    samples: np.ndarray | None
    correct: np.ndarray | None
    note: str

    def draw(self, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws of shares and success rates from their posterior under uniform priors.

        **Arguments:** `number` of draws; `seed`.

        **Returns:** `(number, R)` twice; the stated values themselves where there are no counts.
        """
        if self.samples is None or self.correct is None:
            return self.probs[None], self.rates[None]
        rng = np.random.default_rng(seed)
        probs = rng.dirichlet(self.samples + 1.0, size=number)
        wrong = self.samples - self.correct
        rates = rng.beta(self.correct + 1.0, wrong + 1.0, size=(number, len(self.names)))
        return probs, rates


class _Line:
    """One line of the file, which knows how to complain about itself."""

    def __init__(self, path: Path, number: int):
        self.where = f"{path}, line {number}"

    def require(self, ok: bool, name: str, must: str, was: object) -> None:
        if not ok:
            raise ValueError(f"{self.where}: {name} must {must}, got {was}")

    def number(self, row: dict[str, str], name: str) -> float:
        text = row[name].strip()
        try:
            return float(text)
        except ValueError:
            self.require(False, name, "be a number", repr(text))
            raise AssertionError from None

    def share(self, row: dict[str, str], name: str) -> float:
        value = self.number(row, name)
        self.require(0 <= value <= 1, name, "lie in [0, 1]", row[name].strip())
        return value

    def count(self, row: dict[str, str], name: str) -> float:
        value = self.number(row, name)
        whole = value >= 0 and value == np.floor(value) and value < 1e15
        self.require(bool(whole), name, "be a whole number of at least 0", row[name].strip())
        return value


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The numbered rows of a CSV file, without blank lines and `#` comments."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"patterns must be a readable CSV file, got {path} ({reason})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"patterns must be a text file in UTF-8, got {path} (binary data)")
    lines = enumerate(text.splitlines(), start=1)
    kept = [(i, line) for i, line in lines if line.strip() and not line.lstrip().startswith("#")]
    try:
        return [(i, next(csv.reader([line], strict=True))) for i, line in kept]
    except csv.Error as error:
        raise ValueError(f"patterns must be a CSV file, got {path} ({error})") from None


def read_patterns(path: Path) -> PatternTable:
    """Read a table of patterns from a CSV file.

    **Arguments:** `path`: columns `pattern,probability,success_rate` (a sum of the probabilities
    within 0.01 of 1 is renormalised, and `note` says so) or `pattern,samples,correct`; lines that
    begin with `#` are comments.

    **Returns:** a `PatternTable`; with counts its shares and rates are posterior means under
    uniform priors.

    **Raises:** `ValueError`, with the line number where there is one, if the file is missing,
    empty, binary or malformed, has other columns, or values that are out of range.
    """
    lines = _lines(path)
    if not lines:
        raise ValueError(f"patterns must be a CSV file with a header, got {path} (empty)")
    (header_line, header), *rows = lines
    columns = tuple(name.strip() for name in header)
    if sorted(columns) not in (sorted(_SHARES), sorted(_COUNTS)):
        raise ValueError(
            f"{path}, line {header_line}: the columns must be {','.join(_SHARES)} or "
            f"{','.join(_COUNTS)}, got {','.join(columns)}"
        )
    names: list[str] = []
    numbers: list[tuple[float, float]] = []
    for number, fields in rows:
        line = _Line(path, number)
        line.require(
            len(fields) == len(columns), "a row", f"have {len(columns)} fields", len(fields)
        )
        row = dict(zip(columns, fields, strict=True))
        name = row["pattern"].strip()
        line.require(bool(name), "pattern", "have a name", "nothing")
        line.require(name not in names, "pattern", "have a name of its own", f"{name!r} again")
        if "samples" in columns:
            pair = line.count(row, "samples"), line.count(row, "correct")
            line.require(
                pair[1] <= pair[0], "correct", f"be at most samples = {pair[0]:g}", f"{pair[1]:g}"
            )
        else:
            pair = line.share(row, "probability"), line.share(row, "success_rate")
        names.append(name)
        numbers.append(pair)
    if len(names) < 2:
        raise ValueError(f"patterns must hold at least 2 patterns, got {len(names)} in {path}")
    first, second = np.array(numbers).T
    if "samples" in columns:
        if first.sum() == 0:
            raise ValueError(f"samples must not all be 0, got {path}")
        probs = (first + 1) / (first + 1).sum()
        rates = (second + 1) / (first + 2)
        return PatternTable(tuple(names), probs, rates, first, second, "")
    total = first.sum()
    if abs(total - 1) > 0.01:
        raise ValueError(
            f"the sum of probability must be within 0.01 of 1, got {total:g} in {path}"
        )
    exact = abs(total - 1) <= 1e-9
    note = "" if exact else f"probabilities summed to {total:.6g} and were renormalised"
    return PatternTable(tuple(names), first / total, second, None, None, note)
