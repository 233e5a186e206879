r"""Utilities: what becomes of a question's expected reward, $f(V)$; the pace of its flow."""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_share, no_class, require, whole

_Values = Float[Array, "*Q"]


class AbstractUtility(eqx.Module):
    r"""A function f of the expected reward V. The flow of $f(V)$ is that of V, sped up by $f'(V)$.

    Both methods take V and its shortfall $1 - V$, which keeps its digits where V is nearly 1.
    """

    @property
    def of_probability(self) -> bool:
        """Whether V must be the probability of a reward of 1 against one of 0."""
        return True

    @abc.abstractmethod
    def value(self, value: _Values, shortfall: _Values) -> _Values:
        """$f(V)$, in units of the utility."""

    @abc.abstractmethod
    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        """$f'(V)$: the clock of its flow, in units of the utility per reward."""


class Mean(AbstractUtility):
    r"""The expected reward itself, $f(V) = V$: REINFORCE, RLOO, any baseline.

    Source: derived in docs/objectives.md#advantage-the-utility.
    """

    @property
    def of_probability(self) -> bool:
        return False

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        return value

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return jnp.ones_like(value)


class FunctionUtility(AbstractUtility):
    """A user's own utility, a JAX function of `(Q,)` expected rewards to `(Q,)`.

    `Objective` wraps a plain function in this by itself.
    """

    function: Callable[[Float[Array, " Q"]], ArrayLike] = eqx.field(static=True)

    @property
    def of_probability(self) -> bool:
        return False

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        return jnp.asarray(self.function(value))

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return jax.grad(lambda v: jnp.sum(self.value(v, 1 - v)))(value)


_NODES = np.polynomial.legendre.leggauss(64)


def _last(row: Float[Array, " N"], values: _Values) -> Float[Array, "..."]:
    """As an axis behind those of the values."""
    return jnp.expand_dims(row, tuple(range(values.ndim)))


class GRPO(AbstractUtility):
    r"""Advantages divided by the standard deviation of their group, $(r - \bar r)/s$.

    Infinite groups: $f'(V) = 1/\sqrt{V(1-V)}$. Groups of M, loss averaged over samples, population
    deviation, groups without deviation dropped:
    $f'(V) = \sum_s (b_s - a_s) \binom{M-1}{s} V^s (1-V)^{M-1-s}$ with
    $b_s = \sqrt{(M-s-1)/(s+1)}$, $-a_s = \sqrt{s/(M-s)}$.

    **Arguments:**

    - `group`: M, at least 2; infinite if not given.
    - `ddof`: 0 for the population deviation, 1 for the sample deviation ($\sqrt{(M-1)/M}$ times as
      fast).
    - `redraw`: groups without deviation are drawn again, not dropped (divided by
      $1 - V^M - (1-V)^M$).

    **Raises:** `ValueError` if the group is below 2, or `ddof` is not 0 or 1.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        objective = qra.Objective(qra.Verifiable(), utility=qra.GRPO(group=8))
        print(qra.log_entanglement_time(policy, qra.GradientFlow(objective, problem)))  # log 48.433
        ```

    Source: arXiv 2402.03300 (the method), 2510.13651 (finite groups); derived in
    docs/objectives.md#advantage-the-utility.
    """

    group: int | None = eqx.field(static=True)
    ddof: int = eqx.field(static=True)
    redraw: bool = eqx.field(static=True)

    def __init__(self, group: int | None = None, ddof: int = 0, redraw: bool = False):
        self.group = None if group is None else whole(group, "group", 2)
        require(ddof in (0, 1), "ddof", "be 0 or 1", ddof)
        self.ddof = ddof
        self.redraw = redraw

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        if self.group is None:
            return 2 * jnp.arctan2(jnp.sqrt(value), jnp.sqrt(shortfall))
        # From V = 1/2, over log odds: where groups are redrawn the slope grows like 1/V.
        nodes, weights = (jnp.asarray(x / 2, value.dtype) for x in _NODES)
        log_odds = _log_of(value, shortfall) - _log_of(shortfall, value)
        at = log_odds[..., None] * _last(0.5 + nodes, log_odds)
        right, wrong = jax.nn.sigmoid(at), jax.nn.sigmoid(-at)
        return log_odds * ((self.slope(right, wrong) * right * wrong) @ weights)

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        if self.group is None:
            return 1 / jnp.sqrt(value * shortfall)
        m, s = self.group, np.arange(self.group)
        slope = _bernstein(np.sqrt((m - s - 1) / (s + 1)) + np.sqrt(s / (m - s)), value, shortfall)
        if self.redraw:
            # The chance of a group with both outcomes is V (1 - V) times this, all terms positive.
            s = np.arange(m - 1)
            both = _bernstein(m * (m - 1) / ((s + 1) * (m - 1 - s)), value, shortfall)
            slope = slope / (value * shortfall * both)
        return slope * (math.sqrt((m - 1) / m) if self.ddof else 1)


def _bernstein(coefs: np.ndarray, value: _Values, shortfall: _Values) -> _Values:
    r"""$\sum_s c_s \binom{n}{s} V^s (1-V)^{n-s}$, by de Casteljau: stable for any n."""

    def step(_, rows):
        return shortfall[..., None] * rows + value[..., None] * jnp.roll(rows, -1, axis=-1)

    size = len(coefs)
    rows = jnp.broadcast_to(jnp.asarray(coefs, value.dtype), (*value.shape, size))
    return jax.lax.fori_loop(0, size - 1, step, rows)[..., 0]


class DrGRPO(AbstractUtility):
    r"""Advantages less the mean of their group, not divided: $f(V) = \frac{G-1}{G} V$.

    **Arguments:** `group`: G, at least 2; infinite (the mean itself) if not given.

    **Raises:** `ValueError` if the group is below 2.

    Source: arXiv 2503.20783 (the method); derived in docs/objectives.md#advantage-the-utility.
    """

    group: int | None = eqx.field(static=True)

    def __init__(self, group: int | None = None):
        self.group = None if group is None else whole(group, "group", 2)

    @property
    def of_probability(self) -> bool:
        return False

    @property
    def _share(self) -> float:
        return 1.0 if self.group is None else (self.group - 1) / self.group

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        return self._share * value

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return jnp.full_like(value, self._share)


class Tsallis(AbstractUtility):
    r"""$f(V) = (V^{1-q} - 1)/(1-q)$, $f'(V) = V^{-q}$: from the mean (q = 0) to `LogLikelihood`.

    **Arguments:** `q`: in [0, 1].

    **Raises:** `ValueError` if q lies outside.

    Source: arXiv 2604.25907.
    """

    q: Float[Array, ""]

    def __init__(self, q: ArrayLike):
        self.q = as_share(q, "q")

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        power = (1 - self.q).astype(value.dtype)
        log_value = _log_of(value, shortfall)
        small = jnp.abs(power) < 1e-8
        powers = jnp.expm1(power * log_value) / jnp.where(small, 1, power)
        return jnp.where(small, log_value, powers)

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return value ** -self.q.astype(value.dtype)


def _log_of(value: _Values, shortfall: _Values) -> _Values:
    near = shortfall < 0.5
    below = jnp.log(jnp.where(near, 1, value))
    return jnp.where(near, jnp.log1p(-jnp.where(near, shortfall, 0)), below)


class LogLikelihood(AbstractUtility):
    r"""$f(V) = \log V$: rejection fine-tuning, averaged over the samples that are kept (and drawn
    again if none is). Averaged over all samples it is the mean.

    Source: derived in docs/objectives.md#advantage-the-utility.
    """

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        return _log_of(value, shortfall)

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return 1 / value


class MaxRL(AbstractUtility):
    r"""The sum of the scores of successes over their number, of N samples:
    $f(V) = \sum_{i \le N} (1 - (1-V)^i)/i$, $f'(V) = (1 - (1-V)^N)/V$.

    **Arguments:** `samples`: N, at least 1 (the form $(r - \bar r)/\bar r$ is that of N - 1).

    **Raises:** `ValueError` if N is below 1.

    Source: arXiv 2602.02710.
    """

    samples: int = eqx.field(static=True)

    def __init__(self, samples: int):
        self.samples = whole(samples, "samples", 1)

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        power = _last(jnp.arange(1, self.samples + 1, dtype=value.dtype), value)
        log_shortfall = _log_of(shortfall, value)[..., None]
        return jnp.sum(-jnp.expm1(power * log_shortfall) / power, axis=-1)

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        some = value > 0
        chance = -jnp.expm1(self.samples * _log_of(shortfall, value))
        return jnp.where(some, chance / jnp.where(some, value, 1), self.samples)


class PassAtK(AbstractUtility):
    r"""At least one of k samples is right: $f(V) = 1 - (1-V)^k$, $f'(V) = k (1-V)^{k-1}$.

    **Arguments:** `k`: at least 1.

    **Raises:** `ValueError` if k is below 1.

    Source: arXiv 2505.15201 (the method); derived in docs/objectives.md#advantage-the-utility.
    """

    k: int = eqx.field(static=True)

    def __init__(self, k: int):
        self.k = whole(k, "k", 1)

    def value(self, value: _Values, shortfall: _Values) -> _Values:
        return -jnp.expm1(self.k * _log_of(shortfall, value))

    def slope(self, value: _Values, shortfall: _Values) -> _Values:
        return self.k * shortfall ** (self.k - 1)


def as_utility(utility: "AbstractUtility | Callable | None") -> AbstractUtility:
    """`utility` itself if it is one, `Mean()` for None, otherwise the function wrapped.

    **Raises:** `TypeError` if it is not callable, or a class in place of an instance.
    """
    if utility is None:
        return Mean()
    no_class(utility, "utility")
    if isinstance(utility, AbstractUtility):
        return utility
    if not callable(utility):
        raise TypeError(f"utility must be a function of (Q,) expected rewards, got {utility!r}")
    return FunctionUtility(utility)
