r"""Rollouts of the same question are alike: the posterior of one table that resamples questions.

Source: derived in docs/diagnosis.md#rollouts-of-one-question-are-alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray
from scipy.stats import t as student

from ._posteriors import AbstractPosterior, ConjugatePosterior, Prior, check_counts
from ._within import WithinQuestions

LEAST_QUESTIONS = 5
"""Below so many questions there is no telling how much questions differ."""
_NORMAL = 1.6448536269514722
_LEAST_SHAPE = 0.1


class DesignEffects(NamedTuple):
    """How many rollouts are worth one independent rollout: for the accuracy, the shares of
    patterns, and each success rate `(R,)`; at least 1."""

    accuracy: float
    shares: float
    rates: Float[np.ndarray, " R"]


def design_effects(
    samples: Float[np.ndarray, "Q R"], correct: Float[np.ndarray, "Q R"]
) -> DesignEffects:
    """Variances over questions beside those of as many independent rollouts.

    Source: Kish 1965, Survey Sampling, section 8.2; for shares the mean effect of Rao and Scott
    1981, section 3.
    """
    totals = samples.sum(axis=1)
    accuracy = _effect(totals, correct.sum(axis=1))
    rates = np.array([_effect(*x) for x in zip(samples.T, correct.T, strict=True)])
    share = samples.sum(axis=0) / totals.sum()
    questions, spread = np.sum(totals > 0), np.sum(share * (1 - share))
    between = np.sum((samples - totals[:, None] * share) ** 2) * questions / max(questions - 1, 1)
    shares = between / (totals.sum() * spread) if spread > 0 and questions > 1 else 1.0
    return DesignEffects(accuracy, max(1.0, float(shares)), rates)


def _effect(number: np.ndarray, right: np.ndarray) -> float:
    asked = number > 0
    number, right = number[asked], right[asked]
    if len(number) < 2 or not 0 < right.sum() < number.sum():
        return 1.0
    mean, questions = right.sum() / number.sum(), len(number)
    between = np.sum((right - mean * number) ** 2) * questions / (questions - 1)
    return max(1.0, float(between / (number.sum() * mean * (1 - mean))))


class ClusteredPosterior(AbstractPosterior):
    r"""One table for all questions, Q' = 1: a Bayesian bootstrap over questions.

    Every question has a weight $E_q$, gamma of shape $\kappa$ and mean 1; shares are those of
    $\mathrm{Gamma}(\alpha) + \sum_q E_q n_{qr}$ and success rates those of $\mathrm{Gamma}(a) +
    \sum_q E_q k_{qr}$ right and $\mathrm{Gamma}(b) + \sum_q E_q (n_{qr} - k_{qr})$ wrong ones. With
    one rollout a question and $\kappa = 1$ that is the conjugate posterior.

    Where patterns are compared within questions, their rates are $\sigma(\ell_r + \sum_q (E_q /
    \bar E - 1) I_{qr})$.

    - `samples`, `correct`: `(Q, R)`; rows of 0 only pad. `shape`: $\kappa$.
    - `prior`: `(3, R)`, $\alpha$ (0 for no pattern), a and b, with what other sources say of rates.
    - `alone`: `(2, R)`, parameters of a Beta law where a pattern is seen in too few questions.
    - `few`, `compared`: `(R,)`, which rates come from `alone`, and from within questions.
    - `logits` `(R,)`, `influence` `(Q, R)`: $\ell$ and I.
    - `effects`: `(1 + R,)`, design effects of shares and rates.

    Source: derived in docs/diagnosis.md#rollouts-of-one-question-are-alike.
    """

    samples: Float[Array, "Q R"]
    correct: Float[Array, "Q R"]
    shape: Float[Array, ""]
    prior: Float[Array, "3 R"]
    alone: Float[Array, "2 R"]
    few: Bool[Array, " R"]
    compared: Bool[Array, " R"]
    logits: Float[Array, " R"]
    influence: Float[Array, "Q R"]
    effects: Float[Array, " R1"]

    def sample(self, key: PRNGKeyArray) -> tuple[Float[Array, "1 R"], Float[Array, "1 R"]]:
        for_questions, for_prior = jax.random.split(key)
        shapes = jnp.full(self.samples.shape[:1], self.shape, self.samples.dtype)
        weights = jnp.exp(jax.random.loggamma(for_questions, shapes)) / self.shape
        return self.given(for_prior, weights)

    def given(
        self, key: PRNGKeyArray, weights: Float[Array, " Q"]
    ) -> tuple[Float[Array, "1 R"], Float[Array, "1 R"]]:
        """The draw of given weights of questions, which several posteriors may share.

        **Arguments:** `key`: of the prior's part; `weights`: `(Q,)`, of mean 1.
        """
        dtype = self.samples.dtype
        exists = self.prior[0] > 0
        parts = jnp.concatenate([jnp.where(exists, self.prior, 1), self.alone])
        gammas = jax.random.loggamma(key, parts)
        number, right = weights @ self.samples, weights @ self.correct
        shares = jnp.where(exists, jnp.exp(gammas[0]) + number, 0)
        shares = jnp.maximum(shares / jnp.sum(shares), jnp.finfo(dtype).tiny)
        rates = (jnp.exp(gammas[1]) + right) / (jnp.exp(gammas[1]) + jnp.exp(gammas[2]) + number)
        rates = jnp.where(self.few, jax.nn.sigmoid(gammas[3] - gammas[4]), rates)
        real = jnp.sum(self.samples, axis=1) > 0
        mean = jnp.sum(jnp.where(real, weights, 0)) / jnp.sum(real)
        moved = jnp.where(real, weights / mean - 1, 0) @ self.influence
        rates = jnp.where(self.compared, jax.nn.sigmoid(self.logits + moved), rates)
        return jnp.where(exists, shares, 0)[None], rates[None]

    def mean(self) -> tuple[Float[Array, "1 R"], Float[Array, "1 R"]]:
        """To first order in the weights."""
        return self.effective().mean()

    def effective(self) -> ConjugatePosterior:
        """The conjugate posterior of as many independent rollouts as these are worth."""
        number, right = jnp.sum(self.samples, axis=0), jnp.sum(self.correct, axis=0)
        spread = jnp.sum(self.influence**2, axis=0) / self.shape
        rates = jax.nn.sigmoid(self.logits)
        worth = 1 / jnp.maximum(spread * rates * (1 - rates), 1e-12)
        of_rates = self.effects[1:]
        pairs = []
        for at, (count, share) in enumerate(((right, rates), (number - right, 1 - rates))):
            plain = self.prior[1 + at] + count / of_rates
            plain = jnp.where(self.few, self.alone[at], plain)
            pairs.append(jnp.where(self.compared, worth * share, plain)[None])
        exists = self.prior[0] > 0
        shares = jnp.where(exists, self.prior[0] + number / self.effects[0], 0)
        return ConjugatePosterior(shares[None], pairs[0], pairs[1])

    def updated(self, samples: ArrayLike, correct: ArrayLike) -> ConjugatePosterior:
        """After further independent rollouts: that of `effective`, updated."""
        return self.effective().updated(samples, correct)

    def of_questions(self, index: Int[ArrayLike, " N"]) -> "ClusteredPosterior":
        """There is one table."""
        return self


def weights_shape(totals: np.ndarray) -> float:
    r"""The shape of weights whose intervals are those of Student's t.

    Dirichlet weights of shape $\kappa$ give a mean of Q values the variance $S^2 / (\kappa Q + 1)$,
    $S^2$ with divisor Q; wanted is $c^2 S^2 / (Q - 1)$, c the ratio of t's and the normal quantile.
    """
    worth = totals.sum() ** 2 / np.sum(totals**2)
    ratio = float(student.ppf(0.95, max(worth - 1, 1))) / _NORMAL
    return max(_LEAST_SHAPE, ((worth - 1) / ratio**2 - 1) / worth)


def clustered_posterior(
    samples: ArrayLike,
    correct: ArrayLike,
    prior: Prior = Prior(),
    *,
    exists: Bool[ArrayLike, " R"] | None = None,
    within: WithinQuestions | None = None,
    extra: Float[ArrayLike, "2 R"] | None = None,
) -> ClusteredPosterior:
    r"""One policy for all questions, of which those asked are a sample.

    **Arguments:** `samples`, `correct`: `(Q, R)` counts; rows without samples only pad; `prior`,
    `exists`: as for `pooled_posterior`; `within`: rates compared within questions, if these are to
    be used; `extra`: `(2, R)`, right and wrong answers from elsewhere.

    **Returns:** a posterior of one table, Q' = 1.

    **Raises:** `ValueError` as `pooled_posterior`.

    Source: Rubin 1981, Annals of Statistics 9:130.
    """
    samples, correct = (np.asarray(x) for x in check_counts(samples, correct))
    totals = samples.sum(axis=1)
    asked = totals > 0
    effects = design_effects(samples[asked], correct[asked])
    width = samples.shape[1]
    present = np.ones(width, bool) if exists is None else np.asarray(exists)
    more = np.zeros((2, width)) if extra is None else np.asarray(extra, float)
    base = np.stack([
        np.where(present, prior.concentration, 0),
        prior.right + more[0],
        prior.wrong + more[1],
    ])  # fmt: skip
    right = correct.sum(axis=0)
    worst = max(effects.accuracy, 1.0)
    alone = base[1:] + np.stack([right, samples.sum(axis=0) - right]) / worst
    few = (samples > 0).sum(axis=0) < LEAST_QUESTIONS
    compared, logits = np.zeros(width, bool), np.zeros(width)
    influence = np.zeros(samples.shape)
    if within is not None:
        number = len(within.rates)
        compared[:number] = within.compared
        logits[:number] = np.log(within.rates) - np.log1p(-within.rates)
        influence[np.flatnonzero(asked), :number] = within.influence
    arrays = (
        samples, correct, np.array(weights_shape(totals[asked])), base, alone,
        few & ~compared, compared, logits, influence,
        np.append(effects.shares, effects.rates),
    )  # fmt: skip
    return ClusteredPosterior(*(jnp.asarray(x) for x in arrays))
