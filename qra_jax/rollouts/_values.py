"""Values of rows: names as codes, numbers, steps and texts."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._names import STEP_TEXT, VOTE
from ._pattern_tables import is_whole

NO_STEP = np.iinfo(np.int64).min
REFUSED = (ValueError, TypeError, KeyError, OverflowError)


# Roles whose values are names (or grades), which true, 1 and "1" must not be confused in.
NAMED = frozenset({"question", "pattern", "answer", "dataset"})
BOOLEAN = {True: "true", False: "false"}
WORDED = NAMED | {"correct"}
TYPES = {
    "question": np.int32,
    "pattern": np.int32,
    "answer": np.int32,
    "dataset": np.int32,
    "filter": np.int8,
    "correct": np.int32,
    "confidence": np.float64,
    "learning_rate": np.float64,
    "step": np.int64,
}
# What stands where a file lacks a role that others have.
ABSENT = {
    "answer": -1,
    "dataset": -1,
    "filter": 0,
    "confidence": np.nan,
    "learning_rate": np.nan,
    "step": NO_STEP,
}


class Codes(dict):
    """Values -> codes, in the order of appearance; -1 for what is missing."""

    def __init__(self):
        super().__init__()
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._codes)

    def __missing__(self, value: Any) -> int:
        if isinstance(value, (dict, list)):
            raise TypeError
        whole = isinstance(value, float) and value.is_integer()
        text = (
            "" if value is None or value != value else str(int(value) if whole else value).strip()
        )
        code = self._codes.setdefault(text, len(self._codes)) if text else -1
        if value == value:  # every NaN is a key of its own
            self[value] = code
        return code


class Filters(dict):
    """Filters of lm-evaluation-harness -> 0 for the one that counts, 1 for the others.

    The first that is met counts, unless its grade is one of all responses together: a vote.
    """

    def __init__(self):
        super().__init__()
        self.counted: str | None = None
        self.votes: list[str] = []
        self.others: list[str] = []

    def __missing__(self, value: Any) -> int:
        name = str(value)
        if VOTE.search(name):
            self.votes.append(name)
        elif self.counted is None:
            self.counted = name
        else:
            self.others.append(name)
        self[value] = int(name != self.counted)
        return self[value]

    def notes(self) -> list[str]:
        """Which filter was counted, and which was not."""
        left = (*self.others, *(f"{name}, a vote of all responses" for name in self.votes))
        if self.counted is None or not left:
            return []
        flag = f" (--where filter={self.others[0]} chooses another)" if self.others else ""
        return [f"graded by the filter {self.counted}, and not by {'; '.join(left)}{flag}"]


def number(value: Any) -> float:
    """A number, or NaN for what is missing."""
    if isinstance(value, float):
        return value
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null")):
        return math.nan
    return float(value)


def step(value: Any) -> int:
    """A whole number, or the one at the end of a name such as `checkpoint-300`."""
    if isinstance(value, str) and (named := STEP_TEXT.fullmatch(value.strip())):
        return int(named[1])
    found = number(value)
    if math.isnan(found):
        return NO_STEP
    if not is_whole(found):
        raise ValueError
    return int(found)


def text(value: Any) -> str | None:
    """A text or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def no_booleans(convert: Callable[[Any], int]) -> Callable[[Any], int]:
    """A conversion that takes no true and false, which are 1 and 0 as keys."""

    def checked(value: Any) -> int:
        if isinstance(value, bool):
            raise TypeError
        return convert(value)

    return checked


def inner(entry: Any) -> Any:
    """A list itself; of a list that holds one list (lm-evaluation-harness), the inner one."""
    if isinstance(entry, list) and len(entry) == 1 and isinstance(entry[0], list):
        return entry[0]
    return entry


def kind(types: set[type]) -> set[str]:
    """What kinds of value types are, apart from what is missing."""
    names = {bool: "true or false", int: "numbers", float: "numbers", str: "texts"}
    return {names[t] for t in types if t in names}


def used(codes: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and names without the names that do not occur."""
    occurs = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
    new = np.append(np.cumsum(occurs) - 1, -1)
    return new[codes], tuple(name for name, is_there in zip(names, occurs, strict=True) if is_there)


def by_count(
    codes: np.ndarray, count: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and names in the order of falling count."""
    total = np.bincount(codes, count, len(names))
    order = np.argsort(-total, kind="stable")
    new = np.empty(len(names), np.int64)
    new[order] = np.arange(len(names))
    return new[codes], tuple(names[i] for i in order)


def in_sets(
    question: np.ndarray, sets: np.ndarray, names: Sequence[str], titles: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Codes and names of questions where the same name in two data sets is two questions; None
    where no name is in two.

    **Arguments:** `question`, `sets`: codes of names and of titles, one a rollout; a set may be -1.
    """
    size = len(titles) + 1
    pairs, first, which = np.unique(
        question.astype(np.int64) * size + sets + 1, return_index=True, return_inverse=True
    )
    if np.unique(pairs // size).size == pairs.size:
        return None
    order = np.argsort(first)  # as they come
    spelled = [
        f"{titles[pair % size - 1]}: {names[pair // size]}" if pair % size else names[pair // size]
        for pair in pairs[order].tolist()
    ]
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    codes = Codes()
    new = np.array([codes[name] for name in spelled])
    return new[place[which]], codes.names


def says_nothing(question: np.ndarray, answer: np.ndarray, right: np.ndarray, number: int) -> bool:
    """Whether answers are one a question though grades differ, as those of a solution are.

    **Arguments:** `number`: of questions.
    """
    most, least = np.full(number, -2), np.full(number, np.iinfo(np.int32).max)
    np.maximum.at(most, question, answer)
    np.minimum.at(least, question, answer)
    number_right, all_of = (np.bincount(question, weights, number) for weights in (right, None))
    varied = (number_right > 0) & (number_right < all_of)
    return bool(varied.any() and (most <= least).all())
