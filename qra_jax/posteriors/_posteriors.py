r"""What counts say of a base model: posteriors of pattern shares and success rates."""

import abc
import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from .._core.checks import as_float, is_concrete, require, require_all, whole
from ._hierarchy import Hierarchy, from_gammas, hierarchy

_Table = Float[Array, "Q R"]


@dataclasses.dataclass(frozen=True)
class Prior:
    r"""What is assumed before the first rollout: $\pi \sim \mathrm{Dirichlet}(\alpha, ...,
    \alpha)$ over the patterns of the file, $p(r) \sim \mathrm{Beta}(a, b)$, all independent.

    **Arguments:** `concentration`: $\alpha$; it weighs as much as $\alpha$ samples of every
    pattern; `right`, `wrong`: a and b, as much as so many right and wrong samples. All above 0; 1
    is uniform.

    **Raises:** `ValueError` if one is not above 0 and finite.

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """

    concentration: float = 1.0
    right: float = 1.0
    wrong: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 < value < math.inf, name, "be above 0 and finite", value)

    def __str__(self) -> str:
        return (
            f"Dirichlet({self.concentration:g}) over patterns, "
            f"Beta({self.right:g}, {self.wrong:g}) for success rates"
        )


class AbstractPosterior(eqx.Module):
    """A distribution of tables: pattern probabilities and success rates of Q' questions."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> tuple[_Table, _Table]:
        """One draw: pattern probabilities and success rates, `(Q', R)` each."""

    @abc.abstractmethod
    def mean(self) -> tuple[_Table, _Table]:
        """The posterior means of both, `(Q', R)` each."""

    @abc.abstractmethod
    def updated(self, samples: ArrayLike, correct: ArrayLike) -> "AbstractPosterior":
        """The posterior after further counts, `(Q', R)` each."""

    @abc.abstractmethod
    def of_questions(self, index: Int[ArrayLike, " N"]) -> "AbstractPosterior":
        """The posterior of some of the questions."""

    def draw(
        self, key: PRNGKeyArray, number: int
    ) -> tuple[Float[Array, "N Q R"], Float[Array, "N Q R"]]:
        """Independent draws.

        **Arguments:** `key`: `fold_in(key, i)` is that of draw i, whatever their number; `number`.

        **Returns:** pattern probabilities and success rates, `(number, Q', R)` each. A pattern that
        exists has a probability above 0.

        **Raises:** `ValueError` if the number is below 1.
        """
        whole(number, "number", 1)
        return jax.vmap(lambda i: self.sample(jax.random.fold_in(key, i)))(jnp.arange(number))


def _tables(
    key: PRNGKeyArray, concentrations: _Table, right: _Table, wrong: _Table
) -> tuple[_Table, _Table]:
    """Draws of Dirichlet shares and beta rates, by one call: it takes long to compile."""
    exists = concentrations > 0
    parts = jnp.stack([jnp.where(exists, concentrations, 1), right, wrong])
    logs = jax.random.loggamma(key, parts)
    return from_gammas(logs[0], exists), jax.nn.sigmoid(logs[1] - logs[2])


class ConjugatePosterior(AbstractPosterior):
    r"""Independent $\pi(\cdot|q) \sim \mathrm{Dirichlet}$ and $p(q, r) \sim \mathrm{Beta}$.

    **Arguments:** `concentrations`: `(Q', R)`, 0 for no pattern; `right`, `wrong`: `(Q', R)`,
    above 0.

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """

    concentrations: _Table
    right: _Table
    wrong: _Table

    def sample(self, key: PRNGKeyArray) -> tuple[_Table, _Table]:
        return _tables(key, self.concentrations, self.right, self.wrong)

    def mean(self) -> tuple[_Table, _Table]:
        total = jnp.sum(self.concentrations, axis=-1, keepdims=True)
        return self.concentrations / total, self.right / (self.right + self.wrong)

    def updated(self, samples: ArrayLike, correct: ArrayLike) -> "ConjugatePosterior":
        samples, correct = check_counts(samples, correct)
        return ConjugatePosterior(
            self.concentrations + samples, self.right + correct, self.wrong + (samples - correct)
        )

    def of_questions(self, index: Int[ArrayLike, " N"]) -> "ConjugatePosterior":
        return ConjugatePosterior(
            *(x[index] for x in (self.concentrations, self.right, self.wrong))
        )


def check_counts(samples: ArrayLike, correct: ArrayLike) -> tuple[_Table, _Table]:
    """Counts as arrays `(Q, R)`; one row `(R,)` stands for one question.

    **Raises:** `ValueError` if they are negative, not finite, or more are right than there are.
    """
    samples, correct = as_float(samples, "samples"), as_float(correct, "correct")
    shape = samples.shape
    require(1 <= len(shape) <= 2 and 0 not in shape, "samples", "have shape (Q, R)", shape)
    require(correct.shape == shape, "correct", f"have shape {shape}", correct.shape)
    for name, values in (("samples", samples), ("correct", correct)):
        require_all(values, lambda x: (x >= 0) & (x < np.inf), name, "be finite and at least 0")
    if is_concrete(samples, correct):
        excess = np.asarray(samples) - np.asarray(correct)
        require_all(excess, lambda x: x >= 0, "samples - correct", "be at least 0")
    return jnp.atleast_2d(samples), jnp.atleast_2d(correct)


def _conjugate(samples: _Table, correct: _Table, prior: Prior, exists) -> ConjugatePosterior:
    present = jnp.ones(samples.shape[-1], bool) if exists is None else jnp.asarray(exists)
    base = jnp.where(present, prior.concentration, 0).astype(samples.dtype)
    return ConjugatePosterior(
        base[None] + jnp.where(present[None], samples, 0),
        prior.right + correct,
        prior.wrong + (samples - correct),
    )


def pooled_posterior(
    samples: ArrayLike,
    correct: ArrayLike,
    prior: Prior = Prior(),
    *,
    exists: Bool[ArrayLike, " R"] | None = None,
) -> ConjugatePosterior:
    r"""One policy for all questions: $\pi \sim \mathrm{Dirichlet}(\alpha + n_r)$, $p(r) \sim
    \mathrm{Beta}(a + k_r, b + n_r - k_r)$.

    **Arguments:** `samples`, `correct`: `(Q, R)` or `(R,)` counts, how often each pattern was
    sampled and was right, $n_r$ and $k_r$ their sums over questions; `prior`; `exists`: `(R,)`,
    False for columns that only pad.

    **Returns:** a posterior of one question, Q' = 1. A pattern of count 0 has a posterior all the
    same; what is in no column has none.

    **Raises:** `ValueError` if counts are negative, not finite, or more are right than there are.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        posterior = qra.posteriors.pooled_posterior([412, 383, 5], [373, 350, 5])
        probs, rates = posterior.draw(jax.random.key(0), 100)  # (100, 1, 3) each
        ```

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """
    samples, correct = check_counts(samples, correct)
    sums = samples.sum(axis=0, keepdims=True), correct.sum(axis=0, keepdims=True)
    return _conjugate(*sums, prior, exists)


def per_question_posterior(
    samples: ArrayLike,
    correct: ArrayLike,
    prior: Prior = Prior(),
    *,
    exists: Bool[ArrayLike, " R"] | None = None,
) -> ConjugatePosterior:
    """As `pooled_posterior`, of every question by itself.

    **Arguments, raises:** as for `pooled_posterior`.

    **Returns:** a posterior of Q' = Q questions.

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """
    return _conjugate(*check_counts(samples, correct), prior, exists)


class PartialPosterior(AbstractPosterior):
    r"""Questions that resemble each other as much as the data say.

    $\pi(\cdot|q) \sim \mathrm{Dirichlet}(s\,m + n_q)$ and $p(q, r) \sim \mathrm{Beta}$ likewise,
    given strengths and shared shares that are drawn from their posterior.

    - `samples`, `correct`: `(Q, R)` counts.
    - `patterns`: a `Hierarchy` of the shares; `answers`: one for each pattern's success rate,
      `(R, P)` of categories right and wrong.

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """

    samples: _Table
    correct: _Table
    patterns: Hierarchy
    answers: Hierarchy

    def sample(self, key: PRNGKeyArray) -> tuple[_Table, _Table]:
        for_shares, for_rates, for_tables = jax.random.split(key, 3)
        one = jax.random.categorical(for_shares, self.patterns.log_weights)
        shared = self.patterns.strengths[one] * self.patterns.shares[one]
        exists = (self.patterns.shares[0] > 0)[None]
        concentrations = jnp.where(exists, jnp.maximum(shared, 1e-12)[None] + self.samples, 0)
        each = jax.random.categorical(for_rates, self.answers.log_weights, axis=-1)
        at = (jnp.arange(each.shape[0]), each)
        shared = jnp.maximum(self.answers.strengths[at][:, None] * self.answers.shares[at], 1e-12)
        right = shared[None, :, 0] + self.correct
        wrong = shared[None, :, 1] + (self.samples - self.correct)
        return _tables(for_tables, concentrations, right, wrong)

    def mean(self) -> tuple[_Table, _Table]:
        def of(counts, level: Hierarchy):
            def one(strength, shares):
                whole = strength + jnp.sum(counts, axis=-1, keepdims=True)
                return (strength * shares[None] + counts) / whole

            each = jax.vmap(one)(level.strengths, level.shares)
            return jnp.tensordot(jnp.exp(level.log_weights), each, 1)

        answers = jnp.stack([self.correct, self.samples - self.correct], axis=-1)
        rates = jax.vmap(of, (1, 0), 1)(answers, self.answers)
        return of(self.samples, self.patterns), rates[..., 0]

    def updated(self, samples: ArrayLike, correct: ArrayLike) -> "PartialPosterior":
        """As of `AbstractPosterior`, strengths and shared shares taken as known already."""
        samples, correct = check_counts(samples, correct)
        new = self.samples + samples, self.correct + correct
        return eqx.tree_at(lambda p: (p.samples, p.correct), self, new)

    def of_questions(self, index: Int[ArrayLike, " N"]) -> "PartialPosterior":
        some = self.samples[index], self.correct[index]
        return eqx.tree_at(lambda p: (p.samples, p.correct), self, some)


def partial_posterior(
    key: PRNGKeyArray,
    samples: ArrayLike,
    correct: ArrayLike,
    prior: Prior = Prior(),
    *,
    exists: Bool[ArrayLike, " R"] | None = None,
    particles: int = 1024,
) -> PartialPosterior:
    r"""Partial pooling: how much questions share is itself inferred.

    Dirichlet-multinomial for patterns, with $m \sim \mathrm{Dirichlet}(\alpha)$ and a strength s;
    beta-binomial for every pattern's success rate, with $m \sim \mathrm{Beta}(a, b)$ and a strength
    of its own. Both strengths are equally likely beforehand on 49 points (0.1 to 1e5 samples,
    evenly in their logarithm), and integrated over. Large s is pooling, small s is every question
    for itself.

    **Arguments:** `key` of the particles; `samples`, `correct`, `prior`, `exists` as for
    `pooled_posterior`; `particles`: of strength and shared shares, at least 1.

    **Returns:** a posterior of Q' = Q questions.

    **Raises:** as `pooled_posterior`.

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """
    samples, correct = check_counts(samples, correct)
    whole(particles, "particles", 1)
    present = jnp.ones(samples.shape[-1], bool) if exists is None else jnp.asarray(exists)
    base = jnp.where(present, prior.concentration, 0).astype(samples.dtype)
    samples = jnp.where(present[None], samples, 0)
    for_patterns, for_answers = jax.random.split(key)
    patterns = hierarchy(for_patterns, samples, base, particles)
    answers = jnp.stack([correct, samples - correct], axis=-1).swapaxes(0, 1)
    beta = jnp.array([prior.right, prior.wrong], samples.dtype)

    def of_pattern(task):
        index, counts = task
        return hierarchy(jax.random.fold_in(for_answers, index), counts, beta, particles)

    each = jax.lax.map(of_pattern, (jnp.arange(len(answers)), answers))
    return PartialPosterior(samples, correct, patterns, each)
