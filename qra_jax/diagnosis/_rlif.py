"""Where RLIF would end: the pattern of the highest internal reward, as the rollouts show it."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..rollouts._rollouts import Rollouts
from ._bands import band
from ._result import RLIFRisk
from ._solve import Tables

AGREEMENT = "agreement with the majority answer"


class Rewards(NamedTuple):
    """Internal rewards of rollouts: which question, which pattern, how much, how often."""

    kind: str
    question: np.ndarray
    pattern: np.ndarray
    reward: np.ndarray
    times: np.ndarray


def internal_rewards(rollouts: Rollouts, pattern_of: np.ndarray) -> Rewards | None:
    """The rewards that rollouts have, by the patterns as modelled; None if they have none.

    Confidence where there is any, otherwise the agreement with the majority answer of the question:
    1 for it and 0 for others, 1/m each for m answers that are equally frequent.
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
    most, ties = np.zeros((2, len(rollouts.questions)))
    np.maximum.at(most, pair // number, votes)
    first = votes == most[pair // number]
    np.add.at(ties, pair // number, first)
    agrees = (first / ties[pair // number])[inverse]
    return Rewards(AGREEMENT, question, pattern[known], agrees, count)


def why_not_judged(rewards: Rewards) -> str:
    """Why rewards cannot tell patterns apart, as a sentence; empty if they may."""
    _, asked = np.unique(rewards.question, return_inverse=True)
    answers = np.bincount(asked, weights=rewards.times)
    if rewards.kind == AGREEMENT and answers.max() < 2:
        return (
            "every question has one answer, which agrees with itself: a majority needs several "
            "answers to a question"
        )
    if len(np.unique(rewards.pattern)) < 2:
        return "rollouts of one pattern only have an internal reward"
    mean = np.bincount(asked, weights=rewards.times * rewards.reward) / answers
    scale = np.abs(rewards.reward).max()
    if np.all(np.abs(rewards.reward - mean[asked]) <= 1e-12 * scale) and rewards.kind == AGREEMENT:
        return "all answers to a question agree equally: the reward does not tell patterns apart"
    return ""


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


def resampled_means(
    rewards: Rewards,
    questions: int,
    patterns: int,
    weights: Float[np.ndarray, "D Q"],
) -> np.ndarray:
    """The patterns' mean rewards within questions, by a Bayesian bootstrap over questions.

    **Arguments:** `rewards`; `questions`, `patterns`: how many; `weights`: of the questions, those
    of each draw.

    **Returns:** `(D, R)`, up to a constant; NaN for patterns without a reward.
    """
    cell = rewards.question.astype(np.int64) * patterns + rewards.pattern
    size, weigh = questions * patterns, rewards.times.astype(float)
    number, total = (
        np.bincount(cell, weights=x, minlength=size).reshape(questions, patterns)
        for x in (weigh, weigh * rewards.reward)
    )
    asked = np.maximum(number.sum(axis=1, keepdims=True), 1)
    matrices = (
        number[:, :, None] * np.eye(patterns) - number[:, :, None] * (number / asked)[:, None]
    )
    sides = total - number * (total.sum(axis=1, keepdims=True) / asked)
    matrix = weights @ matrices.reshape(questions, -1)
    matrix = matrix.reshape(len(weights), patterns, patterns)
    inverse = np.linalg.pinv(matrix, hermitian=True, rcond=1e-9)
    means = np.einsum("drs,ds->dr", inverse, weights @ sides)
    return np.where(number.sum(axis=0) > 0, means, np.nan)


class Ends(NamedTuple):
    """Where RLIF ends, draw by draw: the pattern selected and the accuracy `(D,)`, rewards of
    patterns `(D, R)`, and whether these are compared within questions."""

    chosen: np.ndarray
    accuracy: np.ndarray
    means: np.ndarray
    compared: str


def ends_of_rlif(
    rewards: Rewards,
    tables: Tables,
    weights: Float[np.ndarray, " Q"],
    questions: int,
    rng: np.random.Generator,
    resampled: Float[np.ndarray, "D K"] | None = None,
) -> Ends:
    """Draws of base models beside draws of rewards.

    `resampled`: weights of questions that are resampled, those of each draw; None for the normal
    law of independent rollouts.
    """
    draws, _, patterns = tables.probs.shape
    found = contest(rewards, questions, patterns)
    if resampled is not None and found.compared == "within questions":
        means = resampled_means(rewards, questions, patterns, resampled)
    else:
        noise = rng.multivariate_normal(
            np.zeros(patterns), found.covariance, size=draws, method="eigh", check_valid="ignore"
        )
        means = np.where(found.seen, found.mean + noise, np.nan)
    # What rounding leaves of equal rewards decides nothing: the first of them would always win.
    means = means + 1e-12 * rng.normal(size=means.shape)
    chosen = np.nanargmax(means, axis=1)
    ends = np.take_along_axis(tables.rates, chosen[:, None, None], axis=-1)[..., 0] @ weights
    return Ends(chosen, ends, means, found.compared)


def risk(
    rewards: Rewards,
    tables: Tables,
    weights: Float[np.ndarray, " Q"],
    questions: int,
    rng: np.random.Generator,
    resampled: Float[np.ndarray, "D K"] | None = None,
) -> RLIFRisk:
    """The risk that RLIF ends below its start; arguments as of `ends_of_rlif`."""
    draws, _, patterns = tables.probs.shape
    found = ends_of_rlif(rewards, tables, weights, questions, rng, resampled)
    why = why_not_judged(rewards)
    ends, start = found.accuracy, tables.accuracy @ weights
    if why:
        ends = np.full(draws, np.nan)
    return RLIFRisk(
        reward=rewards.kind,
        compared=found.compared,
        pattern_rewards=band(found.means),
        selects=np.full(patterns, np.nan)
        if why
        else np.bincount(found.chosen, minlength=patterns) / draws,
        ends_below_start=math.nan if why else float(np.mean(ends < start)),
        end_accuracy=band(ends),
        rollouts=int(rewards.times.sum()),
        why_not=why,
    )
