r"""What groups of samples say of questions that differ: which are of use, and how large they should
be.

Source: derived in docs/signal.md#how-large-should-a-group-be, where (S1) to (S4) are.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import gammaln
from scipy.stats import binom

from .._core.checks import require, require_all, whole
from ..training._groups import SampledGroups
from ..training._noise import StepNoise

_GRID = np.linspace(-16, 16, 641)  # logits at which moments are known, linear in between
_LEAST = 1e-300


def useful_share(
    rates: Float[ArrayLike, "*N"], size: int, tpr: float = 1.0, fpr: float = 0.0
) -> Float[np.ndarray, "*N"]:
    r"""How likely it is that not all rewards of a group are equal, $1 - v^G - (1 - v)^G$.

    $v = \mathrm{FPR} + (\mathrm{TPR} - \mathrm{FPR})\, q$ is the chance that the verifier accepts.

    **Arguments:** `rates`: q, in [0, 1], of any shape; `size`: G, at least 1; `tpr`, `fpr`: of the
    verifier, in [0, 1].

    **Returns:** probabilities of the same shape.

    **Raises:** `ValueError` if a number is out of range.

    ??? example

        ```python
        from qra_jax.diagnosis import useful_share
        print(useful_share([0.02, 0.5, 0.98], 8))  # .149, .992, .149
        ```

    Source: derived in docs/signal.md#which-groups-are-of-use.
    """
    whole(size, "size", 1)
    rates = np.asarray(rates, float)
    for name, value in (("rates", rates), ("tpr", np.asarray(tpr)), ("fpr", np.asarray(fpr))):
        require_all(value, lambda x: (x >= 0) & (x <= 1), name, "lie in [0, 1]")
    accepted = fpr + (tpr - fpr) * rates
    # By logarithms: 1 - (1 - v)^G of a small v would be a difference of two numbers near 1.
    with np.errstate(divide="ignore"):
        cold = -np.expm1(size * np.log1p(-accepted))
    return np.asarray(np.maximum(cold - accepted**size, 0))


def measured_useful_share(
    samples: ArrayLike, right: ArrayLike, size: int
) -> Float[np.ndarray, " Q"]:
    r"""The unbiased estimate $1 - \frac{\binom{c}{G} + \binom{n - c}{G}}{\binom nG}$ of each
    question: how many choices of G of its n samples differ. NaN for questions with n < G.

    **Arguments:** `samples`, `right`: n and c, `(Q,)`; `size`: G.

    Source: derived in docs/signal.md#which-groups-are-of-use.
    """
    samples, right = np.asarray(samples, float), np.asarray(right, float)

    def log_ratio(part):
        enough = part >= size
        part = np.where(enough, part, size)
        whole_of = np.maximum(samples, size)
        logs = gammaln(part + 1) - gammaln(part - size + 1)
        return np.where(
            enough, np.exp(logs - gammaln(whole_of + 1) + gammaln(whole_of - size + 1)), 0
        )

    found = 1 - log_ratio(right) - log_ratio(samples - right)
    return np.where(samples >= size, np.clip(found, 0, 1), np.nan)


class GroupMoments(NamedTuple):
    r"""Of the estimate of one group, on a grid of the chance v that an answer is accepted: the
    factor h of its mean $h\, \pi (p - v)$, $E[h_s^2]$, and the factors of $\mathrm{tr}\, C^+$ and
    $\mathrm{tr}\, C^-$; `(4, N)`. `size`: G."""

    size: int
    values: Float[np.ndarray, "4 N"]

    @classmethod
    def of(cls, groups: SampledGroups, size: int) -> "GroupMoments":
        """Those of groups of some size by the estimator of `groups`."""
        noise = StepNoise(SampledGroups(size, estimator=groups.estimator))
        number = np.arange(size + 1)
        rate = 1 / (1 + np.exp(-_GRID))[:, None]
        chance = binom.pmf(number, size, rate)
        kept = np.asarray(noise.log_choices) > -np.inf
        # What redrawing leaves of the law of s.
        chance = np.where(kept, chance, 0)
        chance /= np.maximum(chance.sum(axis=1, keepdims=True), _LEAST)
        kappa = np.asarray(noise.of_right) * (1 - rate) - np.asarray(noise.of_wrong) * rate
        pace = kappa / (rate * (1 - rate))
        means = np.sum(chance * pace, axis=1), np.sum(chance * pace**2, axis=1)
        return cls(size, np.stack([*means, *(np.asarray(noise.of_spread) @ chance.T)]))

    def at(self, rates: Float[np.ndarray, "*N"]) -> list[Float[np.ndarray, "*N"]]:
        """All four at chances in (0, 1)."""
        with np.errstate(divide="ignore"):
            logits = np.log(rates) - np.log1p(-rates)
        return [np.interp(logits, _GRID, row) for row in self.values]


class Steps(NamedTuple):
    """Of one step for each draw: `pace`, its mean along the gradient of the accuracy, beside that
    gradient; `signal`, the squared cosine of a step and the gradient, in the mean; `kept`, the same
    if as many rollouts are spent on groups that are drawn until they are of use; all `(D,)`."""

    pace: Float[np.ndarray, " D"]
    signal: Float[np.ndarray, " D"]
    kept: Float[np.ndarray, " D"]


def steps_of(
    moments: GroupMoments,
    shares: Float[np.ndarray, "D R"],
    rates: Float[np.ndarray, "D N R"],
    weights: Float[np.ndarray, "D N"],
    batch: float | int,
    tpr: float = 1.0,
    fpr: float = 0.0,
) -> Steps:
    r"""How far a step of `batch` groups goes along the gradient of the accuracy.

    With $g = E_q[\pi (p_q - V_q)]$ that gradient in the logits of shared patterns and $\hat g$ the
    step, `pace` is $g \cdot E \hat g / |g|^2$ and `signal` $(g \cdot E \hat g)^2 / (|g|^2 E|\hat
    g|^2)$, (S3).

    **Arguments:** `moments`: of one group; `shares`: `(D, R)`, of patterns; `rates`: `(D, N, R)`,
    success of patterns for each of N questions; `weights`: `(D, N)`, of the questions, summing to
    1; `batch`: groups in a step; `tpr`, `fpr`: of the verifier.

    Source: derived in docs/signal.md#how-large-should-a-group-be.
    """
    success = np.einsum("dr,dnr->dn", shares, rates)
    slopes = shares[:, None] * (rates - success[..., None])
    gradient = np.einsum("dn,dnr->dr", weights, slopes)
    youden = tpr - fpr
    accepted = np.clip(fpr + youden * success, 1e-12, 1 - 1e-12)
    pace, square, right, wrong = moments.at(accepted)
    # pi (p' - v) of the accepted share is J times that of the right one.
    mean = youden * np.einsum("dn,dn,dnr->dr", weights, pace, slopes)
    of_kept = shares[:, None] * (fpr + youden * rates) / accepted[..., None]
    of_rest = shares[:, None] * (1 - fpr - youden * rates) / (1 - accepted)[..., None]
    spread = right * (1 - np.sum(of_kept**2, axis=-1)) + wrong * (1 - np.sum(of_rest**2, axis=-1))
    one = youden**2 * square * np.sum(slopes**2, axis=-1) + spread
    # E|g|^2 of a single group, of a question drawn at random.
    one = np.sum(weights * one, axis=-1)
    long = np.sum(mean**2, axis=-1)
    both = long + (one - long) / batch  # (S2)
    along, length = np.sum(gradient * mean, axis=-1), np.sum(gradient**2, axis=-1)
    useful = np.sum(weights * useful_share(accepted, moments.size), axis=-1)
    # Of groups that are kept the number is fixed, (S4).
    fixed = np.maximum(long + (one - long / np.maximum(useful, _LEAST)) / batch, 0)

    def cosine(square):
        some = length * square > 0
        return np.where(some, along * abs(along) / np.where(some, length * square, 1), 0)

    some = length > 0
    return Steps(np.where(some, along / np.where(some, length, 1), 0), cosine(both), cosine(fixed))


def sizes_within(rollouts: int, groups: SampledGroups) -> tuple[int, ...]:
    """Powers of two from 2 to 128 that a budget of rollouts a step allows, and that of `groups`."""
    least = max(2, groups.estimator.least_group)
    powers = {1 << i for i in range(1, 8) if least <= 1 << i <= rollouts}
    return tuple(sorted({*powers, groups.group_size}))


def check_budget(groups: SampledGroups, tpr: float, fpr: float) -> None:
    """**Raises:** `ValueError` if groups have no batch or several epochs, or a rate of the verifier
    lies outside [0, 1]."""
    require(groups.batch is not None, "groups.batch", "be the number of groups in a step", None)
    require(groups.epochs == 1, "groups.epochs", "be 1", groups.epochs)
    for name, value in (("tpr", tpr), ("fpr", fpr)):
        require(0 <= value <= 1, name, "lie in [0, 1]", value)
