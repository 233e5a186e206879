"""Rollouts from tables of counts."""

from collections.abc import Mapping

import numpy as np

from ._columns import Selection
from ._files import Table
from ._learning_rates import logged_rates
from ._pattern_tables import POOLED, CountedRow, counted_rows
from ._plain import plain_rollouts, said_of
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
        self._pooled, self._rate_column = False, ""

    def add(self, table: Table, names: Mapping[str, str], source: Source) -> None:
        """Read one table."""
        chunks = self.selection.chunks(table, names, source.step)
        self._rows += counted_rows(table, chunks, names, self._seen, source.step)
        self._pooled |= "question" not in names
        self._rate_column = names.get("learning_rate", self._rate_column)

    def finished(self, where: str) -> Rollouts:
        """All rollouts that are counted."""
        plain = self._without_patterns(where)
        later = None if plain is None else set(plain.steps)
        rows = [row for row in self._rows if later is None or row.step not in later]
        questions, patterns = Codes(), Codes()
        twice = [(row, right) for row in rows for right in (True, False)]
        count = np.array([r.correct if right else r.samples - r.correct for r, right in twice])
        some = count > 0
        if not some.any():
            raise ValueError(f"{where}: samples must not all be 0")
        pattern = np.array([patterns[row.pattern] for row, _ in twice])[some]
        pattern, named = by_count(pattern, count[some], patterns.names)
        question = np.array([questions[row.question] for row, _ in twice])[some]
        steps = [row.step for row, _ in twice]
        rates, said = None, ()
        if steps and None not in steps:
            every = np.array([(row.step, row.learning_rate) for row in self._rows], float)
            rates, said = logged_rates(every[:, 0].astype(int), every[:, 1], self._rate_column)
        notes = (f"no field of questions: read as {POOLED}, one",) if self._pooled else ()
        return Rollouts(
            questions.names,
            named,
            question=question,
            pattern=pattern,
            correct=np.array([right for _, right in twice])[some],
            count=count[some],
            step=None if None in steps else np.array(steps)[some],
            notes=(*notes, *said_of(plain), *said),
            learning_rates=rates,
            without_patterns=plain,
        )

    def _without_patterns(self, where: str) -> Rollouts | None:
        """Later steps whose rows name no pattern.

        **Raises:** `ValueError` if other rows name none.
        """
        named = [row.step for row in self._rows if row.pattern and row.step is not None]
        rows = [row for row in self._rows if not row.pattern]
        for row in rows:
            if row.step is None or row.step in named or row.step < min(named, default=row.step + 1):
                must = "have a name, except at later steps where no row has one"
                raise ValueError(f"{where}: line {row.number}: pattern must {must}, got nothing")
        if not rows:
            return None
        columns = np.array([(row.step, row.samples, row.correct) for row in rows])
        return plain_rollouts([row.question for row in rows], *columns.T)
