r"""Do patterns differ in success within questions?

Source: Landis, Heyman and Koch 1978, International Statistical Review 46:237 (their statistic of
general association).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike
from scipy.stats import chi2

from ._posteriors import check_counts

_MOST = 64
"""Patterns that are told apart: the covariance is a matrix of this size, and chi-squared is not the
law of patterns that hardly occur."""


class PatternsDiffer(NamedTuple):
    """A test of whether success depends on the pattern within questions.

    - `statistic`, `freedom`: chi-squared, and its degrees of freedom.
    - `chance`: how likely one as large is where patterns do not differ; NaN if nothing can tell.
    - `questions`: how many can tell: they have right and wrong answers and several patterns.
    """

    statistic: float
    freedom: int
    chance: float
    questions: int


def patterns_differ(samples: ArrayLike, correct: ArrayLike) -> PatternsDiffer:
    r"""Test whether patterns differ in success within questions.

    Given how many of a question's n samples are right, K, and how many use each pattern, $m_r$,
    the right ones of each pattern are hypergeometric if patterns do not differ: of mean $m_r K/n$
    and covariance $\frac{K (n - K)}{n^2 (n - 1)} (n\, \mathrm{diag}\, m - m m^\top)$. The sum over
    questions of right answers less their means has the sum of these covariances, and its square in
    units of them is chi-squared. What makes questions hard for all patterns drops out. Of more than
    64 patterns the rarest are taken together.

    **Arguments:** `samples`, `correct`: `(Q, R)` counts, as for `pooled_posterior`.

    **Returns:** a `PatternsDiffer`.

    **Raises:** `ValueError` as `pooled_posterior`.

    ??? example

        ```python
        import qra_jax as qra
        rollouts = qra.read_rollouts("experiments/data/rollouts.jsonl")
        print(qra.posteriors.patterns_differ(*rollouts.counts()).chance)
        ```

    Source: Landis, Heyman and Koch 1978, International Statistical Review 46:237.
    """
    samples, correct = (np.asarray(x, float) for x in check_counts(samples, correct))
    if samples.shape[1] > _MOST:
        order = np.argsort(-samples.sum(axis=0), kind="stable")
        starts = np.arange(_MOST)
        samples, correct = (
            np.add.reduceat(x[:, order], starts, axis=1) for x in (samples, correct)
        )
    number, right = samples.sum(axis=1), correct.sum(axis=1)
    tells = (right > 0) & (right < number) & ((samples > 0).sum(axis=1) > 1)
    if not tells.any():
        return PatternsDiffer(0.0, 0, float("nan"), 0)
    samples, correct, number, right = samples[tells], correct[tells], number[tells], right[tells]
    excess = np.sum(correct - samples * (right / number)[:, None], axis=0)
    factor = right * (number - right) / (number**2 * (number - 1))
    covariance = np.diag((factor * number) @ samples) - (factor[:, None] * samples).T @ samples
    inverse = np.linalg.pinv(covariance, hermitian=True, rcond=1e-9)
    freedom = int(np.linalg.matrix_rank(covariance, tol=1e-9 * np.abs(covariance).max()))
    statistic = float(excess @ inverse @ excess)
    return PatternsDiffer(statistic, freedom, float(chi2.sf(statistic, freedom)), int(tells.sum()))
