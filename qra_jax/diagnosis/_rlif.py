"""Where RLIF would end: the pattern of the highest internal reward, as the rollouts show it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..rollouts._rollouts import Rollouts
from ._result import RLIFRisk, band
from ._solve import Tables


class Rewards(NamedTuple):
    """Internal rewards of rollouts: which question, which pattern, how much, how often."""

    kind: str
    question: np.ndarray
    pattern: np.ndarray
    reward: np.ndarray
    times: np.ndarray


def internal_rewards(rollouts: Rollouts, pattern_of: np.ndarray) -> Rewards | None:
    """The rewards that rollouts have, by the patterns as modelled; None if they have none.

    Confidence where there is any, otherwise 1 for the majority answer of the question and 0 for
    others (of several equally frequent answers the one of the lowest index is the majority).
    """
    pattern = pattern_of[rollouts.pattern]
    if rollouts.confidence is not None:
        return Rewards("confidence", rollouts.question, pattern, rollouts.confidence,
                       rollouts.count)  # fmt: skip
    if rollouts.answer is None:
        return None
    known = rollouts.answer >= 0
    if not known.any():
        return None
    question, answer = rollouts.question[known], rollouts.answer[known].astype(np.int64)
    count, number = rollouts.count[known], len(rollouts.answers)
    pair, inverse = np.unique(question * np.int64(number) + answer, return_inverse=True)
    votes = np.bincount(inverse, weights=count)
    # Sorted by question, then by falling votes: the first of each question is its majority.
    order = np.lexsort((pair, -votes, pair // number))
    asked, first = np.unique(pair[order] // number, return_index=True)
    majority = np.full(len(rollouts.questions), -1, np.int64)
    majority[asked] = pair[order][first] % number
    agrees = (majority[question] == answer).astype(float)
    return Rewards("agreement with the majority answer", question, pattern[known], agrees, count)


class Contest(NamedTuple):
    """Posterior of the patterns' mean rewards: normal, up to a constant; `seen` has any."""

    mean: Float[np.ndarray, " R"]
    covariance: Float[np.ndarray, "R R"]
    seen: np.ndarray
    compared: str


def contest(rewards: Rewards, questions: int, patterns: int) -> Contest:
    r"""Least squares for reward = question + pattern + noise, of one variance.

    $\hat\beta = A^+ b$ with $A = \mathrm{diag}(n_r) - \sum_q n_{qr} n_{qr'}/n_q$ and $b_r = \sum_q
    (y_{qr} - n_{qr} \bar y_q)$; covariance $\sigma^2 A^+$. With a flat prior that is the posterior.
    Where some pattern is never beside another within a question, questions are not told apart.
    """
    cell = rewards.question.astype(np.int64) * patterns + rewards.pattern
    weigh = rewards.times.astype(float)

    def table(values):
        sums = np.bincount(cell, weights=values * weigh, minlength=questions * patterns)
        return sums.reshape(questions, patterns)

    number, total = table(np.ones(len(cell))), table(rewards.reward)
    squares = float(np.sum(weigh * rewards.reward**2))
    seen = number.sum(axis=0) > 0
    inverse, beta, compared = None, None, "within questions"
    for number_by, total_by in ((number, total), (number.sum(0)[None], total.sum(0)[None])):
        asked = number_by.sum(axis=1)
        used = asked > 0
        share = number_by[used] / asked[used][:, None]
        matrix = np.diag(number_by.sum(axis=0)) - share.T @ number_by[used]
        right = total_by.sum(axis=0) - share.T @ total_by[used].sum(axis=1)
        fitted = np.sum(total_by[used].sum(axis=1) ** 2 / asked[used])
        if np.linalg.matrix_rank(matrix, tol=1e-9 * max(1, weigh.sum())) == seen.sum() - 1:
            inverse = np.linalg.pinv(matrix, hermitian=True, rcond=1e-12)
            beta = inverse @ right
            freedom = max(weigh.sum() - used.sum() - seen.sum() + 1, 1)
            variance = max(squares - fitted - beta @ right, 0) / freedom
            return Contest(beta, variance * inverse, seen, compared)
        compared = "over all"
    raise AssertionError("patterns of one table can always be compared")


def risk(
    rewards: Rewards,
    tables: Tables,
    weights: Float[np.ndarray, " Q"],
    questions: int,
    rng: np.random.Generator,
) -> RLIFRisk:
    """The risk that RLIF ends below its start, draws of base models beside draws of rewards."""
    draws, _, patterns = tables.probs.shape
    found = contest(rewards, questions, patterns)
    noise = rng.multivariate_normal(
        np.zeros(patterns), found.covariance, size=draws, method="eigh", check_valid="ignore"
    )
    means = np.where(found.seen, found.mean + noise, np.nan)
    chosen = np.nanargmax(means, axis=1)
    ends = np.take_along_axis(tables.rates, chosen[:, None, None], axis=-1)[..., 0] @ weights
    start = tables.accuracy @ weights
    return RLIFRisk(
        reward=rewards.kind,
        compared=found.compared,
        pattern_rewards=band(means),
        selects=np.bincount(chosen, minlength=patterns) / draws,
        ends_below_start=float(np.mean(ends < start)),
        end_accuracy=band(ends),
        rollouts=int(rewards.times.sum()),
    )
