"""How files were read, in words: what `--dry-run` shows before anything is solved."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ._rollouts import Rollouts, listed, shown


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of files of rollouts.

    - `files`: their names, in the order in which they were read.
    - `fields`: role -> the columns that it was read from.
    - `grades`: value -> number of rollouts, and whether it is right.
    - `samples`: pattern -> a few of its texts.
    - `unused`: columns that were not read.
    """

    rollouts: Rollouts
    files: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    grades: Mapping[str, tuple[int, bool]]
    samples: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The account, line by line."""
        found = self.rollouts
        each = found.samples_per_question()
        each = each[each > 0]
        number = f"{len(self.files)} files" if len(self.files) > 1 else "1 file"
        lines = [f"read {number}: {listed(self.files, 4)}", "", "fields"]
        lines += [f"  {role}: {listed(columns)}" for role, columns in self.fields.items()]
        span = f"{each.min()}" if each.min() == each.max() else f"{each.min()} to {each.max()}"
        lines += ["", f"{len(found)} rollouts of {each.size} questions, {span} of each"]
        examples = tuple(shown(name, 60) for name in found.questions[:3])
        lines += [f"  such as: {'; '.join(examples)}", "", "patterns"]
        samples, correct = (table.sum(axis=0) for table in found.counts())
        for at, pattern in enumerate(found.patterns[:50]):
            share = samples[at] / samples.sum()
            right = f"{correct[at]} right"
            lines.append(f"  {shown(pattern, 60)}: {samples[at]} rollouts ({share:.1%}), {right}")
            lines += [f"    {shown(text, 100)!r}" for text in self.samples.get(pattern, ())]
        if len(found.patterns) > 50:
            lines.append(f"  and {len(found.patterns) - 50} more")
        lines += ["", "grades"]
        for value, (count, right) in self.grades.items():
            lines.append(f"  {value}: {count}, {'right' if right else 'wrong'}")
        if found.step is not None:
            lines += ["", f"steps: {listed(found.steps)}"]
            which = np.searchsorted(found.steps, found.step)
            counts = np.bincount(which, found.count).astype(int)
            lines.append(f"  rollouts of each: {listed(tuple(counts.tolist()))}")
        lines += ["", "dropped"]
        lines += [f"  {reason}: {count}" for reason, count in found.dropped.items()] or ["  none"]
        lines += ["", f"columns that were not read: {listed(self.unused, 30) or 'none'}"]
        if found.notes:
            lines += ["", "notes", *(f"  {note}" for note in found.notes)]
        return lines


def grades_of(rollouts: Rollouts) -> dict[str, tuple[int, bool]]:
    """The grades of a table of counts."""
    return {
        name: (int(np.sum(rollouts.count[rollouts.correct == right])), right)
        for name, right in (("counted as right", True), ("counted as wrong", False))
    }
