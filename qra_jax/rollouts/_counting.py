"""Rollouts from tables of counts."""

from collections.abc import Mapping

import numpy as np

from ._columns import Selection
from ._files import Table
from ._pattern_tables import POOLED, CountedRow, counted_rows
from ._rollouts import Rollouts
from ._sources import Source
from ._values import Codes, by_count


class CountReader:
    """Collects the rows of tables of counts."""

    def __init__(self, selection: Selection):
        self.selection = selection
        self.samples: dict[str, tuple[str, ...]] = {}
        self._rows: list[CountedRow] = []
        self._seen: set[tuple] = set()
        self._pooled = False

    def add(self, table: Table, names: Mapping[str, str], source: Source) -> None:
        """Read one table."""
        chunks = self.selection.chunks(table, names, source.step)
        self._rows += counted_rows(table, chunks, names, self._seen, source.step)
        self._pooled |= "question" not in names

    def finished(self, where: str) -> Rollouts:
        """All rollouts that are counted."""
        questions, patterns = Codes(), Codes()
        twice = [(row, right) for row in self._rows for right in (True, False)]
        count = np.array([r.correct if right else r.samples - r.correct for r, right in twice])
        some = count > 0
        if not some.any():
            raise ValueError(f"{where}: samples must not all be 0")
        pattern = np.array([patterns[row.pattern] for row, _ in twice])[some]
        pattern, named = by_count(pattern, count[some], patterns.names)
        question = np.array([questions[row.question] for row, _ in twice])[some]
        steps = [row.step for row, _ in twice]
        return Rollouts(
            questions.names,
            named,
            question=question,
            pattern=pattern,
            correct=np.array([right for _, right in twice])[some],
            count=count[some],
            step=None if None in steps else np.array(steps)[some],
            notes=(f"no field of questions: read as {POOLED}, one",) if self._pooled else (),
        )
