r"""Partial pooling: how much rows of counts share, from what they are.

(P1): docs/derivations.md#posteriors-of-counts.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._core.trees import in_groups

STRENGTHS = tuple(float(s) for s in np.geomspace(0.1, 1e5, 49))
"""Strengths of partial pooling, in samples; equally likely beforehand."""
_PILOTS = 8


def from_gammas(logs: Float[Array, "*N R"], exists: Bool[Array, "*N R"]) -> Float[Array, "*N R"]:
    """Dirichlet draws over the last axis from logarithms of gamma draws."""
    # In logarithms: gamma draws of a small concentration underflow, and all at once would be 0/0.
    probs = jax.nn.softmax(jnp.where(exists, logs, -jnp.inf), axis=-1)
    return jnp.where(exists, jnp.maximum(probs, jnp.finfo(probs.dtype).tiny), 0)


def _dirichlet(key: PRNGKeyArray, concentrations: Float[Array, "*N R"]) -> Float[Array, "*N R"]:
    """Draws over the last axis; a concentration of 0 stands for no pattern."""
    exists = concentrations > 0
    return from_gammas(jax.random.loggamma(key, jnp.where(exists, concentrations, 1)), exists)


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

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """
    total = jnp.sum(concentrations)
    # (P1). A category without a count has the ratio 1 whatever its share, be it one that
    # underflows.
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

    Source: derived in docs/derivations.md#posteriors-of-counts.
    """
    dtype, exists = counts.dtype, base > 0
    grid = jnp.asarray(STRENGTHS, dtype)
    totals = jnp.sum(counts, axis=0)

    def tables(strength):
        def once(_, proposal):
            shares = proposal / jnp.sum(proposal)
            rate = jnp.where(exists, jnp.maximum(strength * shares, 1e-12), 1)[None]
            # The mean number of tables, sum of s m / (s m + i) over i < n, at most the number of
            # counts.
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
            # p(n | s, m) times prior over proposal: exact, however rough the proposal is.
            log_weight += _log_dirichlet(log_shares, base) - _log_dirichlet(log_shares, proposal)
            return shares, log_weight

        return in_groups(particle, jnp.stack([jnp.arange(len(at)), at], axis=1), 16)

    # A first few of every strength say where the others are worth having.
    for_first, for_choice, for_all = jax.random.split(key, 3)
    number = len(STRENGTHS)
    _, first = particles_at(for_first, jnp.tile(jnp.arange(number), _PILOTS))
    found = jax.nn.softmax(jax.nn.logsumexp(first.reshape(_PILOTS, number), axis=0))
    # A strength that the pilots missed keeps a chance, and its weight stays bounded.
    chance = 0.8 * found + 0.2 / number
    at = jax.random.categorical(for_choice, jnp.log(chance), shape=(particles,))
    shares, log_weights = particles_at(for_all, at)
    log_weights -= jnp.log(chance)[at]
    return Hierarchy(grid[at], shares, jax.nn.log_softmax(log_weights))
