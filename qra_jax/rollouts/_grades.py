"""Grades: which values say that a rollout was right."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

_RIGHT = ("true", "yes", "1", "correct", "right", "pass", "passed", "c", "y", "t", "success")
_WRONG = (
    *("false", "no", "0", "-1", "incorrect", "wrong", "fail", "failed", "i", "p", "n"),
    *("f", "failure"),
)
# What needs no word, since it cannot be meant otherwise.
_PLAIN = {"true", "false", "yes", "no", "1", "0"}
MISSING = ("", "none", "null", "nan")


class Grades(dict):
    """Values -> codes of what they say (`words`), and of each of these whether it is right.

    True and 1 are one key: true and false are to be looked up as words.

    - `right`: the values that are right, where they are given: all others are wrong.
    - `above`: rewards above it are right, where it is given.
    """

    def __init__(self, right: Iterable[str] = (), above: float | None = None):
        super().__init__()
        self._asked = {_word(value) for value in right}
        self._above = above
        self._codes: dict[str, int] = {}
        self.must = (
            "be a number, as --right-above is given"
            if above is not None
            else "be true or false (or 1 or 0, yes or no)"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """What the codes stand for."""
        return tuple(self._codes)

    def __missing__(self, value: Any) -> int:
        word = _word(value)
        if word in MISSING:
            code = -1
        elif self._above is not None:
            number = float(word.replace("true", "1").replace("false", "0"))
            if math.isnan(number):
                raise ValueError
            side = "above" if number > self._above else "at most"
            code = self._code(f"{side} {self._above:g}")
        elif self._asked:
            code = self._code(word)
        else:
            if word not in _RIGHT and word not in _WRONG:
                raise ValueError
            if {"-1": "0", "0": "-1"}.get(word) in self._codes:
                raise ValueError
            code = self._code(word)
        self[value] = code
        return code

    def _code(self, word: str) -> int:
        return self._codes.setdefault(word, len(self._codes))

    def help(self, value: Any) -> str:
        """The flag that would make a grade of a value that is none."""
        word = _word(value)
        if self._above is not None:
            return ""
        if word in ("0", "-1"):
            return "; 0 and -1 are two grades: --right-above 0 counts both as wrong"
        try:
            float(word)
        except ValueError:
            shown = str(value).strip()
            return f"; --right {shown if len(word) < 20 else 'VALUE'} counts a word as right"
        return "; --right-above X counts a reward above X as right"

    def is_right(self) -> np.ndarray:
        """Of each word, whether it says that a rollout was right."""
        if self._above is not None:
            right = [word.startswith("above") for word in self.words]
        else:
            among = self._asked or _RIGHT
            right = [word in among for word in self.words]
        return np.array(right, bool)

    def unseen(self) -> tuple[str, ...]:
        """Values that are asked for and that no rollout has."""
        return tuple(sorted(self._asked - set(self._codes)))

    def notes(self, column: str, count: np.ndarray) -> list[str]:
        """What was counted as right and as wrong, where that is not plain from the values."""
        words, right = self.words, self.is_right()
        if set(words) <= _PLAIN and not self._asked:
            return []
        sides = []
        for side, which in (("right", True), ("wrong", False)):
            some = [i for i in range(len(words)) if right[i] == which and count[i]]
            some.sort(key=lambda i: -count[i])
            shown = ", ".join(f"{_shown(words[i])} ({count[i]})" for i in some[:6])
            more = f" and {len(some) - 6} more" if len(some) > 6 else ""
            sides.append(f"{side}: {shown or 'none'}{more}")
        lines = [f"grades from {column}: {'; '.join(sides)}"]
        if self._asked or self._above is not None:
            return lines
        if "-1" in words:
            lines[0] += " (--right-above X sets another limit)"
        if {"p", "n"} & set(words) and "c" in words:
            lines[0] += (
                ". P is partly right and N is no answer: both count as wrong (--right C --right P "
                "counts P as right)"
            )
        return lines


def _word(value: Any) -> str:
    """One spelling of a value: 1, 1.0, "1" and "1.0" are one."""
    text = str(value).strip().lower()
    try:
        number = float(text)
    except ValueError:
        return text
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return text


def _shown(word: str) -> str:
    return word.upper() if len(word) == 1 else word[:40]
