"""Measured pass@k and maj@k of every question."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from .._core.checks import whole
from ..rollouts._rollouts import Rollouts

_CHOICES = 256


def measured_maj_at_k(rollouts: Rollouts, k: int, seed: int = 0) -> Float[np.ndarray, " Q"]:
    """How often the most frequent answer of k rollouts of a question is right: the mean over
    choices of k of its n rollouts, all of them where these are at most 256, else 256 at random.

    Answers that are equally frequent share the vote; rollouts without an answer have none. An
    answer is right as often as the rollouts that gave it.

    **Arguments:** `rollouts`: with answers; `k`: at least 1; `seed`.

    **Returns:** `(Q,)`, NaN for questions with fewer than k rollouts, and everywhere if there are
    no answers.

    **Raises:** `ValueError` if k is below 1.

    ??? example

        ```python
        import qra_jax as qra
        from qra_jax.diagnosis import measured_maj_at_k
        rollouts = qra.read_rollouts("experiments/data/rollouts.jsonl")
        print(measured_maj_at_k(rollouts, 4)[:3])
        ```

    Source: arXiv 2203.11171 (the vote).
    """
    whole(k, "k", 1)
    number = len(rollouts.questions)
    found = np.full(number, np.nan)
    if rollouts.answer is None:
        return found
    order = np.argsort(rollouts.question, kind="stable")
    ends = np.searchsorted(rollouts.question[order], np.arange(number + 1))
    for question in range(number):
        rows = order[ends[question] : ends[question + 1]]
        answers = np.repeat(rollouts.answer[rows], rollouts.count[rows])
        if len(answers) < k:
            continue
        right = np.repeat(rollouts.correct[rows], rollouts.count[rows])
        names, which = np.unique(answers, return_inverse=True)
        rate = np.bincount(which, right) / np.bincount(which)
        rng = np.random.default_rng([seed, question])
        votes = _votes(which, _choices(len(answers), k, rng), len(names))
        votes[:, names < 0] = 0
        most = votes.max(axis=1, keepdims=True)
        first = (votes == most) & (most > 0)
        won = first @ rate / np.maximum(first.sum(axis=1), 1)
        found[question] = won.mean()
    return found


def _choices(number: int, k: int, rng: np.random.Generator) -> np.ndarray:
    if math.comb(number, k) <= _CHOICES:
        return np.array(list(itertools.combinations(range(number), k)))
    return rng.permuted(np.tile(np.arange(number), (_CHOICES, 1)), axis=1)[:, :k]


def _votes(which: np.ndarray, choices: np.ndarray, number: int) -> np.ndarray:
    """How often each answer is in each choice `(C, A)`."""
    rows = np.repeat(np.arange(len(choices)), choices.shape[1])
    flat = np.bincount(rows * number + which[choices].ravel(), minlength=len(choices) * number)
    return flat.reshape(len(choices), number)


def shared_mean(
    each: Sequence[Float[np.ndarray, " Q"]], weights: Float[np.ndarray, "D Q"]
) -> tuple[Float[np.ndarray, "M D"], int]:
    """Weighted means over the questions of which every model's value is known, and how many these
    are; NaN if there is none."""
    table = np.stack(each)
    known = ~np.isnan(table).any(axis=0)
    if not known.any():
        return np.full((len(table), len(weights)), np.nan), 0
    mass = weights[:, known]
    return (table[:, known] @ mass.T) / mass.sum(axis=1), int(known.sum())
