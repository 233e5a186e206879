r"""What counts say of a base model: posteriors of pattern shares and success rates."""

import abc
import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from ._checks import as_float, is_concrete, require, require_all, whole
from ._tree import in_groups

_Table = Float[Array, "Q R"]
STRENGTHS = tuple(float(s) for s in np.geomspace(0.1, 1e5, 49))
"""Strengths of partial pooling, in samples; equally likely beforehand."""
_PILOTS = 8


@dataclasses.dataclass(frozen=True)
class Prior:
    r"""What is assumed before the first rollout: $\pi \sim \mathrm{Dirichlet}(\alpha, ...,
    \alpha)$ over the patterns of the file, $p(r) \sim \mathrm{Beta}(a, b)$, all independent.

    **Arguments:** `concentration`: $\alpha$; it weighs as much as $\alpha$ samples of every
    pattern; `right`, `wrong`: a and b, as much as so many right and wrong samples. All above 0; 1
    is uniform.

    **Raises:** `ValueError` if one is not above 0 and finite.

    Source: derived in docs.
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


def _dirichlet(key: PRNGKeyArray, concentrations: Float[Array, "*N R"]) -> Float[Array, "*N R"]:
    """Draws over the last axis; a concentration of 0 stands for no pattern."""
    exists = concentrations > 0
    logs = jax.random.loggamma(key, jnp.where(exists, concentrations, 1))
    probs = jax.nn.softmax(jnp.where(exists, logs, -jnp.inf), axis=-1)
    return jnp.where(exists, jnp.maximum(probs, jnp.finfo(probs.dtype).tiny), 0)


def _beta(key: PRNGKeyArray, right: Float[Array, "*N"], wrong: Float[Array, "*N"]):
    keys = jax.random.split(key)
    return jax.nn.sigmoid(jax.random.loggamma(keys[0], right) - jax.random.loggamma(keys[1], wrong))


class ConjugatePosterior(AbstractPosterior):
    r"""Independent $\pi(\cdot|q) \sim \mathrm{Dirichlet}$ and $p(q, r) \sim \mathrm{Beta}$.

    **Arguments:** `concentrations`: `(Q', R)`, 0 for no pattern; `right`, `wrong`: `(Q', R)`,
    above 0.

    Source: derived in docs.
    """

    concentrations: _Table
    right: _Table
    wrong: _Table

    def sample(self, key: PRNGKeyArray) -> tuple[_Table, _Table]:
        for_patterns, for_answers = jax.random.split(key)
        return (
            _dirichlet(for_patterns, self.concentrations),
            _beta(for_answers, self.right, self.wrong),
        )

    def mean(self) -> tuple[_Table, _Table]:
        total = jnp.sum(self.concentrations, axis=-1, keepdims=True)
        return self.concentrations / total, self.right / (self.right + self.wrong)

    def updated(self, samples: ArrayLike, correct: ArrayLike) -> "ConjugatePosterior":
        samples, correct = check_counts(samples, correct)
        return ConjugatePosterior(
            self.concentrations + samples, self.right + correct, self.wrong + (samples - correct)
        )


def check_counts(samples: ArrayLike, correct: ArrayLike) -> tuple[_Table, _Table]:
    """Counts as arrays `(Q, R)`; one row `(R,)` stands for one question.

    **Raises:** `ValueError` if they are negative, not finite, or more are right than there are.
    """
    samples, correct = as_float(samples), as_float(correct)
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
        posterior = qra.pooled_posterior([412, 383, 5], [373, 350, 5])
        probs, rates = posterior.draw(jax.random.key(0), 100)  # (100, 1, 3) each
        ```

    Source: derived in docs.
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

    Source: derived in docs.
    """
    return _conjugate(*check_counts(samples, correct), prior, exists)


class Hierarchy(eqx.Module):
    r"""Weighted particles of the shared shares $m$ and the strength $s$ of partial pooling.

    Rows $n_q \sim$ multinomial with shares $\mathrm{Dirichlet}(s\,m)$ of their own, $m \sim
    \mathrm{Dirichlet}(\alpha)$, s equally likely on `STRENGTHS`. Any leading axes.

    - `strengths`: `(..., P)`; `shares`: `(..., P, C)`; `log_weights`: `(..., P)`, normalised.
    """

    strengths: Float[Array, "*B P"]
    shares: Float[Array, "*B P C"]
    log_weights: Float[Array, "*B P"]

    @property
    def effective(self) -> Float[Array, "*B"]:
        """How many equally weighted particles they are worth."""
        return jnp.exp(-jax.nn.logsumexp(2 * self.log_weights, axis=-1))


def log_marginal(
    counts: Float[Array, "Q C"], concentrations: Float[Array, " C"]
) -> Float[Array, ""]:
    r"""Logarithm of the Dirichlet-multinomial probability of rows of counts, up to the
    multinomial coefficients: $\sum_q \log \frac{\Gamma(s)}{\Gamma(s + n_q)} \prod_c
    \frac{\Gamma(s m_c + n_{qc})}{\Gamma(s m_c)}$.

    **Arguments:** `counts`; `concentrations`: $s\,m$, 0 where there is no category.

    Source: derived in docs.
    """
    total = jnp.sum(concentrations)
    some = counts > 0
    base = jnp.where(some, jnp.maximum(concentrations, 1e-300)[None], 1)
    each = jnp.where(some, gammaln(base + jnp.where(some, counts, 0)) - gammaln(base), 0)
    rows = gammaln(total) - gammaln(total + jnp.sum(counts, axis=-1))
    return jnp.sum(each) + jnp.sum(rows)


def _log_dirichlet(log_shares, concentrations):
    exists = concentrations > 0
    a = jnp.where(exists, concentrations, 1)
    terms = jnp.where(exists, (a - 1) * jnp.where(exists, log_shares, 0) - gammaln(a), 0)
    return jnp.sum(terms) + gammaln(jnp.sum(concentrations))


def hierarchy(
    key: PRNGKeyArray, counts: Float[Array, "Q C"], base: Float[Array, " C"], particles: int
) -> Hierarchy:
    r"""The posterior of strength and shared shares, by importance sampling.

    Given the strength s, rows say as much of the shared shares as $t_c = \sum_q \sum_{i < n_{qc}}
    s m_c / (s m_c + i)$ direct samples would (expected tables of Chinese restaurants), so shares
    are proposed from $\mathrm{Dirichlet}(\alpha + t)$ and weighted by $p(n | s, m)$ exactly.

    **Arguments:** `key`; `counts`; `base`: $\alpha$ of each category, 0 for none; `particles`: P.

    Source: derived in docs.
    """
    dtype, exists = counts.dtype, base > 0
    grid = jnp.asarray(STRENGTHS, dtype)
    totals = jnp.sum(counts, axis=0)

    def tables(strength):
        def once(_, proposal):
            shares = proposal / jnp.sum(proposal)
            rate = jnp.where(exists, jnp.maximum(strength * shares, 1e-12), 1)[None]
            seen = jnp.sum(rate * (digamma(rate + counts) - digamma(rate)), axis=0)
            return base + jnp.where(exists, jnp.minimum(seen, totals), 0)

        return jax.lax.fori_loop(0, 8, once, base + totals)

    proposals = in_groups(tables, grid, 8)

    def particles_at(key, at):
        """Shares at strengths of the grid, and their weights beside a uniform choice of these."""

        def particle(task):
            index, at = task
            proposal = proposals[at]
            shares = _dirichlet(jax.random.fold_in(key, index), proposal)
            log_shares = jnp.log(jnp.where(exists, shares, 1))
            log_weight = log_marginal(counts, grid[at] * shares)
            log_weight += _log_dirichlet(log_shares, base) - _log_dirichlet(log_shares, proposal)
            return shares, log_weight

        return in_groups(particle, jnp.stack([jnp.arange(len(at)), at], axis=1), 16)

    # A first few of every strength say where the others are worth having.
    for_first, for_choice, for_all = jax.random.split(key, 3)
    number = len(STRENGTHS)
    _, first = particles_at(for_first, jnp.tile(jnp.arange(number), _PILOTS))
    found = jax.nn.softmax(jax.nn.logsumexp(first.reshape(_PILOTS, number), axis=0))
    chance = 0.8 * found + 0.2 / number
    at = jax.random.categorical(for_choice, jnp.log(chance), shape=(particles,))
    shares, log_weights = particles_at(for_all, at)
    log_weights -= jnp.log(chance)[at]
    return Hierarchy(grid[at], shares, jax.nn.log_softmax(log_weights))


class PartialPosterior(AbstractPosterior):
    r"""Questions that resemble each other as much as the data say.

    $\pi(\cdot|q) \sim \mathrm{Dirichlet}(s\,m + n_q)$ and $p(q, r) \sim \mathrm{Beta}$ likewise,
    given strengths and shared shares that are drawn from their posterior.

    - `samples`, `correct`: `(Q, R)` counts.
    - `patterns`: a `Hierarchy` of the shares; `answers`: one for each pattern's success rate,
      `(R, P)` of categories right and wrong.

    Source: derived in docs.
    """

    samples: _Table
    correct: _Table
    patterns: Hierarchy
    answers: Hierarchy

    def sample(self, key: PRNGKeyArray) -> tuple[_Table, _Table]:
        keys = jax.random.split(key, 4)
        one = jax.random.categorical(keys[0], self.patterns.log_weights)
        shared = self.patterns.strengths[one] * self.patterns.shares[one]
        exists = (self.patterns.shares[0] > 0)[None]
        concentrations = jnp.where(exists, jnp.maximum(shared, 1e-12)[None] + self.samples, 0)
        probs = _dirichlet(keys[1], concentrations)
        each = jax.random.categorical(keys[2], self.answers.log_weights, axis=-1)
        at = (jnp.arange(each.shape[0]), each)
        shared = self.answers.strengths[at][:, None] * self.answers.shares[at]
        wrong = self.samples - self.correct
        shared = jnp.maximum(shared, 1e-12)
        return probs, _beta(keys[3], shared[None, :, 0] + self.correct, shared[None, :, 1] + wrong)

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
    of its own. Both strengths are equally likely beforehand on `STRENGTHS` (0.1 to 1e5 samples,
    evenly in their logarithm), and integrated over. Large s is pooling, small s is every question
    for itself.

    **Arguments:** `key` of the particles; `samples`, `correct`, `prior`, `exists` as for
    `pooled_posterior`; `particles`: of strength and shared shares, at least 1.

    **Returns:** a posterior of Q' = Q questions.

    **Raises:** as `pooled_posterior`.

    Source: derived in docs.
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
