"""What a sampled base model gave: which pattern answered which question, and was it right?"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int

from .._core.checks import require, require_all


@dataclasses.dataclass(frozen=True, eq=False)
class Rollouts:
    r"""Samples of a base model, graded and sorted into patterns; NumPy, checked at construction.

    Row $n$ stands for `count[n]` rollouts of one question that used one pattern and were all
    right or all wrong, so that tables of counts need no expansion.

    **Arguments:**

    - `questions`, `patterns`: the Q and R names, all different. A pattern, or a question, may have
      no rows. `read_rollouts` orders patterns by falling count, questions as they come.
    - `question`, `pattern`: `(N,)` integers, indices into the names.
    - `correct`: `(N,)` booleans.
    - `count`: `(N,)` integers of at least 1; 1 each unless given.
    - `confidence`: `(N,)`, finite, in nats: mean log-probability or self-certainty; or None.
    - `answer`: `(N,)` indices into `answers`, -1 where no answer was found; or None.
    - `answers`: the names of the answers.
    - `step`: `(N,)` integers, the training step that was sampled; or None. The base model is the
      earliest step.
    - `without_patterns`: rollouts of later steps of which right and wrong is known but not the
      pattern, as `Rollouts` of one pattern; or None. They count nowhere but as logs of a run.
    - `learning_rates`: `(K, 2)`, steps and the learning rate of a trainer at each, rising; or None.
    - `dropped`: reason -> how many rollouts of the source were left out for it.
    - `notes`: what a reader of the source decided, in words.

    **Raises:** `ValueError` if a shape does not fit, an index lies outside the names, a name
    occurs twice, a count is below 1 or a confidence is not finite.

    ??? example

        ```python
        import numpy as np
        import qra_jax as qra
        rollouts = qra.Rollouts(
            ("q0", "q1"),
            ("prose", "python"),
            question=np.array([0, 0, 1]),
            pattern=np.array([0, 1, 0]),
            correct=np.array([True, True, False]),
            count=np.array([3, 1, 4]),
        )
        samples, correct = rollouts.counts()  # [[3, 1], [4, 0]] and [[3, 1], [0, 0]]
        ```
    """

    questions: tuple[str, ...]
    patterns: tuple[str, ...]
    question: np.ndarray
    pattern: np.ndarray
    correct: np.ndarray
    count: np.ndarray = None  # pyright: ignore[reportAssignmentType]
    confidence: np.ndarray | None = None
    answer: np.ndarray | None = None
    answers: tuple[str, ...] = ()
    step: np.ndarray | None = None
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    without_patterns: "Rollouts | None" = None
    learning_rates: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows = np.shape(self.question)
        require(len(rows) == 1, "question", "have shape (N,)", rows)
        if self.count is None:
            self._set("count", np.ones(rows, np.int64))
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            require(array.shape == rows, name, f"have shape {rows}", array.shape)
            fits = array.size == 0 or np.can_cast(array.dtype, kind, "same_kind")
            require(fits, name, f"be of type {np.dtype(kind)}", array.dtype)
            array = array.astype(kind, copy=False).view()
            array.flags.writeable = False
            self._set(name, array)
        for name, least in (("question", 0), ("pattern", 0), ("answer", -1)):
            names = tuple(getattr(self, name + "s"))
            self._set(name + "s", names)
            require(len(set(names)) == len(names), name + "s", "be all different", "one again")
            indices = getattr(self, name)
            if indices is not None:
                most = len(names) - 1
                require_all(
                    indices,
                    lambda i, least=least, most=most: (i >= least) & (i <= most),
                    name,
                    f"lie in [{least}, {most}]",
                )
        require_all(self.count, lambda c: c >= 1, "count", "be at least 1")
        if self.without_patterns is not None:
            later = self.without_patterns.steps
            alone = bool(self.steps and later) and self.steps[0] < later[0]
            alone = alone and not set(self.steps) & set(later)
            must = "be of later steps than the base model, and of others than the rollouts"
            require(alone, "without_patterns", must, f"steps {listed(later) or 'None'}")
        if self.learning_rates is not None:
            rates = np.asarray(self.learning_rates, float)
            shaped = rates.ndim == 2 and rates.shape[1] == 2 and len(rates) > 0
            require(shaped, "learning_rates", "have shape (K, 2)", rates.shape)
            require_all(rates[:, 1], lambda x: (x >= 0) & (x < np.inf), "learning_rates",
                        "be at least 0")  # fmt: skip
            require(bool(rates[:, 1].max() > 0), "learning_rates", "rise above 0", "0 everywhere")
            rising = bool(np.all(np.diff(rates[:, 0]) > 0))
            require(rising, "steps of learning_rates", "rise", rates[:, 0])
            self._set("learning_rates", rates)
        if self.confidence is not None:
            require_all(self.confidence, np.isfinite, "confidence", "be finite")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """The number of rollouts, the sum of `count`."""
        return int(self.count.sum())

    def __repr__(self) -> str:
        questions, patterns = len(self.questions), len(self.patterns)
        return f"Rollouts({len(self)} of {questions} questions, {patterns} patterns)"

    def counts(self) -> tuple[Int[np.ndarray, "Q R"], Int[np.ndarray, "Q R"]]:
        """How often each question was answered by way of each pattern.

        **Returns:** `(samples, correct)`, each `(Q, R)` int64: rollouts, and right ones among them.
        """
        shape = len(self.questions), len(self.patterns)
        cell = self.question.astype(np.int64) * shape[1] + self.pattern
        samples, correct = np.zeros((2, shape[0] * shape[1]), np.int64)
        np.add.at(samples, cell, self.count)
        np.add.at(correct, cell[self.correct], self.count[self.correct])
        return samples.reshape(shape), correct.reshape(shape)

    def samples_per_question(self) -> Int[np.ndarray, " Q"]:
        """The number of rollouts of each question, `(Q,)` int64."""
        samples = np.zeros(len(self.questions), np.int64)
        np.add.at(samples, self.question, self.count)
        return samples

    @property
    def steps(self) -> tuple[int, ...]:
        """The training steps that were sampled, rising; empty where none are known."""
        return () if self.step is None else tuple(int(step) for step in np.unique(self.step))

    def at_step(self, step: int) -> "Rollouts":
        """The rollouts of one training step, with the names (and so the indices) of all.

        **Raises:** `ValueError` if there are none.
        """
        require(step in self.steps, "step", f"be one of {listed(self.steps)}", step)
        rows = self.step == step
        parts = {name: getattr(self, name) for name in _KINDS}
        kept = {name: None if value is None else value[rows] for name, value in parts.items()}
        return dataclasses.replace(self, **kept)

    def base_model(self) -> "Rollouts":
        """The rollouts of the earliest step; all of them where no steps are known."""
        return self.at_step(self.steps[0]) if self.steps else self

    def schedule(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """The learning rates that were logged, as parts of the largest, as a function of steps
        since the earliest of the rollouts: linear between logged steps, constant after the last.
        None if there are none, or if they do not change."""
        logged = self.learning_rates
        if logged is None or np.ptp(logged[:, 1]) == 0:
            return None
        first = self.steps[0] if self.steps else 0
        steps, rates = logged[:, 0] - first, logged[:, 1] / logged[:, 1].max()
        return lambda at: np.interp(at, steps, rates)


_KINDS = {
    "question": np.int32,
    "pattern": np.int32,
    "correct": np.bool_,
    "count": np.int64,
    "confidence": np.float64,
    "answer": np.int32,
    "step": np.int64,
}


def listed(values: tuple[object, ...], most: int = 12) -> str:
    """Some names in words, on one line."""
    shown = ", ".join(" ".join(str(value).split()) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def shown(value: object, most: int = 160) -> str:
    """A value on one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."
