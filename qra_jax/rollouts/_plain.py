"""Rollouts of later steps at which no pattern is known: right and wrong, as logs of a run."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from ._rollouts import Rollouts, listed
from ._values import NO_STEP, Codes

ROLES = ("question", "dataset", "correct", "step")


def plain_rollouts(
    questions: Sequence[str],
    step: Int[np.ndarray, " N"],
    samples: Int[np.ndarray, " N"],
    correct: Int[np.ndarray, " N"],
) -> Rollouts | None:
    """From a row for each question and step; None if there are none."""
    if not np.sum(samples):
        return None
    codes = Codes()
    question = np.array([codes[name] for name in questions])
    count = np.concatenate([correct, samples - correct])
    some, right = count > 0, np.arange(len(count)) < len(correct)
    return Rollouts(
        codes.names,
        ("any",),
        question=np.tile(question, 2)[some],
        pattern=np.zeros(some.sum(), np.int64),
        correct=right[some],
        count=count[some],
        step=np.tile(step, 2)[some],
    )


def said_of(plain: Rollouts | None) -> tuple[str, ...]:
    """The note about such steps."""
    if plain is None:
        return ()
    return (
        f"no pattern is given at the steps {listed(plain.steps)}: of their {len(plain)} rollouts "
        "right and wrong alone are read",
    )


def rows_without(arrays: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " N"]:
    """Which rows are of later steps at which no row has a pattern."""
    question = arrays["question"]
    none = np.zeros(question.size, bool)
    if "step" not in arrays:
        return none
    steps, known = arrays["step"], arrays["pattern"] >= 0
    whole = (question >= 0) & (arrays["correct"] >= 0) & (arrays["filter"] <= 0)
    whole &= steps != NO_STEP
    named = np.unique(steps[whole & known])
    if named.size == 0:
        return none
    return whole & ~known & (steps > named[0]) & ~np.isin(steps, named)


def plain_of_rows(
    arrays: Mapping[str, np.ndarray], is_right: Bool[np.ndarray, " G"]
) -> Rollouts | None:
    """Of rows for which `rows_without` is true; `is_right`: of each grade."""
    right = is_right[arrays["correct"]]
    if right.size == 0:
        return None
    keys = np.stack([arrays[role] for role in ROLES if role in arrays and role != "correct"])
    rows, which = np.unique(keys, axis=1, return_inverse=True)
    which = which.ravel()
    samples, correct = (
        np.bincount(which, weights, rows.shape[1]).astype(np.int64) for weights in (None, right)
    )
    names = [" ".join(map(str, row)) for row in rows[:-1].T.tolist()]
    return plain_rollouts(names, rows[-1], samples, correct)
