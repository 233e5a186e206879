"""Which attractor a start ends at, how long that takes, and what share of starts each one wins."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_float, require, require_all, whole
from .._core.trees import in_groups
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..solvers._method import AbstractMethod
from ..solvers.exact._exact import Exact
from ..solvers.ode._ode import ODE
from ..times._passage import isolated
from ._attractors import Attractors, known_attractors
from ._fates import exact_fate, solved_fate
from ._field import PatternField, log_probs_of, pattern_field
from ._fixed_points import FixedPoints

_WIDTH = 64  # starts solved together: each waits for the slowest beside it only


class Basins(eqx.Module):
    r"""What became of N starts, and what that says about the M attractors.

    Of one flow; of a batch (from `jax.vmap` over flows) the measures are taken by `jax.vmap`.

    - `attractors`: the `Attractors`.
    - `attractor`: `(N,)`, the index of the one that won the start, -1 if undecided.
    - `winner`: `(N,)`, the most probable pattern of that attractor, or -1.
    - `log_time`: `(N,)`, natural logarithm of the flow's own time until the start is within `eps`
      of it; `-inf` if it is at t = 0, NaN if undecided.
    - `status`: `(N,)`, a `Status`: `EVENT` if won; `STATIONARY` if the start rests elsewhere, or no
      attractor can be reached from its face, or two tied patterns are equally probable;
      `MAX_STEPS` or `OVERFLOW` if it came near none in what the solver could do, as on a
      separatrix.
    - `weights`: `(N,)`, of the starts in all measures.
    """

    attractors: Attractors
    attractor: Int[Array, " N"]
    winner: Int[Array, " N"]
    log_time: Float[Array, " N"]
    status: Int[Array, " N"]
    weights: Float[Array, " N"]

    def _won(self) -> Bool[Array, "N M"]:
        return self.attractor[:, None] == jnp.arange(self.attractors.valid.shape[0])[None]

    def _shares(self, won: Bool[Array, "N *M"]) -> Float[Array, "*M"]:
        weights = self.weights / jnp.sum(self.weights)
        return jnp.tensordot(weights, won.astype(weights.dtype), axes=1)

    def _errors(self, won: Bool[Array, "N M"]) -> Float[Array, " M"]:
        weights = self.weights / jnp.sum(self.weights)
        apart = won.astype(weights.dtype) - self._shares(won)[None]
        return jnp.sqrt(jnp.sum((weights[:, None] * apart) ** 2, axis=0))

    @property
    def fractions(self) -> Float[Array, " M"]:
        r"""The share of starts (by weight) that each attractor wins, $\sum_n w_n 1[m_n = m]$ over
        $\sum_n w_n$. With `undecided` they sum to 1. Piecewise constant: their gradient is 0."""
        return self._shares(self._won())

    @property
    def standard_errors(self) -> Float[Array, " M"]:
        r"""Of `fractions`, where the starts are independent draws:
        $\sqrt{\sum_n w_n^2 (1[m_n = m] - f_m)^2} / \sum_n w_n$, which for equal weights is
        $\sqrt{f_m (1 - f_m) / N}$."""
        return self._errors(self._won())

    @property
    def pattern_fractions(self) -> Float[Array, " R"]:
        """The share of starts won by attractors in which each pattern is the most probable one."""
        return self._shares(self._by_pattern())

    @property
    def pattern_standard_errors(self) -> Float[Array, " R"]:
        """Of `pattern_fractions`, as `standard_errors`."""
        return self._errors(self._by_pattern())

    def _by_pattern(self) -> Bool[Array, "N R"]:
        return self.winner[:, None] == jnp.arange(self.attractors.face.shape[1])[None]

    @property
    def undecided(self) -> Float[Array, ""]:
        """The share of starts that no attractor wins."""
        return self._shares(self.attractor < 0)

    def convergence_probability(self, log_horizon: ArrayLike) -> Float[Array, "*T M"]:
        r"""Finite-time convergence probability: the share of starts that each attractor wins by a
        time, $\sum_n w_n 1[m_n = m, t_n \le t]$; summed over attractors, that any does.

        **Arguments:** `log_horizon`: any shape `(...)`, natural logarithms of times.

        **Returns:** `(..., M)`.

        Source: the quantifier of the same name of Attractors.jl (JuliaDynamics).
        """
        horizon = as_float(log_horizon, "log_horizon").astype(self.log_time.dtype)
        times = jnp.where(self.attractor >= 0, self.log_time, jnp.nan)

        def by(horizon):
            return self._shares(self._won() & (times <= horizon)[:, None])

        found = jax.vmap(by)(horizon.reshape(-1))
        return found.reshape(*horizon.shape, found.shape[-1])

    def log_time_quantile(self, share: ArrayLike) -> Float[Array, " M"]:
        r"""The log time by which a share of an attractor's starts (by weight) have come to it: the
        smallest $\log t_n$ with $\sum_{t_k \le t_n} w_k \ge$ `share` $\sum_k w_k$. It is the time
        of one start, with the gradient of that.

        **Arguments:** `share`: a scalar in [0, 1].

        **Returns:** `(M,)`, NaN for attractors that win no start.

        **Raises:** `ValueError` if `share` is out of range.
        """
        require_all(share, lambda x: (x >= 0) & (x <= 1), "share", "lie in [0, 1]")
        level = as_float(share, "share").astype(self.log_time.dtype)

        def of_one(won):
            times = jnp.where(won, jax.lax.stop_gradient(self.log_time), jnp.inf)
            order = jnp.argsort(times)
            weights = jnp.where(won, self.weights, 0)
            passed = jnp.cumsum(weights[order])
            # Rounding of the sums must not skip the last one, nor the first at share 0.
            enough = level * passed[-1] * (1 - 8 * jnp.finfo(passed.dtype).eps)
            last = jnp.maximum(jnp.sum(won) - 1, 0)
            at = jnp.minimum(jnp.argmax((passed >= enough) & (passed > 0)), last)
            return jnp.where(jnp.any(won), self.log_time[order[at]], jnp.nan)

        return jax.vmap(of_one, in_axes=1)(self._won())

    @property
    def median_log_time(self) -> Float[Array, " M"]:
        """Median convergence time: `log_time_quantile(0.5)`, the lower of the two middle ones."""
        return self.log_time_quantile(0.5)

    @property
    def worst_log_time(self) -> Float[Array, " M"]:
        """The slowest start of each attractor: `log_time_quantile(1)`."""
        return self.log_time_quantile(1.0)

    def joined(self) -> "Basins":
        """One `Basins` out of several of the same attractors (a leading axis C of chunks)."""
        flat = [x.reshape(-1) for x in (self.attractor, self.winner, self.log_time, self.status)]
        one = jtu.tree_map(lambda x: jnp.asarray(x[0]), self.attractors)
        return Basins(one, *(jnp.asarray(x) for x in (*flat, self.weights.reshape(-1))))


def basins(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    pattern_probs: ArrayLike,
    *,
    attractors: FixedPoints | Attractors | None = None,
    eps: ArrayLike = 1e-2,
    weights: ArrayLike | None = None,
    question: int = 0,
    reference: AbstractPolicy | None = None,
    method: AbstractMethod | None = None,
    most: int = 32,
) -> Basins:
    r"""Which attractor wins each of N starts: the first that comes within `eps` of it,
    $\max_r |\pi_r(t) - P_{mr}| \le \epsilon$.

    Attractors are sinks, and vertices whose pattern is tied for best. Coming near a saddle, such as
    the vertex of a misleading pattern, does not count. A start in which a pattern has probability 0
    never gets it back: it is won by what attracts on its own face, a start at a vertex by that
    vertex. For an integrable flow no path is followed: the best pattern of the face wins (of tied
    ones the most probable), and the time is that of `log_convergence_time`, however long.

    **Arguments:**

    - `flow`: on patterns (frozen answers), or a `Problem` for Euclidean RLVR.
    - `policy`: a `TabularPolicy` that gives the answers, says which patterns exist, and is the
      reference of regularisers.
    - `pattern_probs`: `(N, R)`, the starts.
    - `attractors`: those known, from `fixed_points` or another `Basins`; looked for if not given
      (up to 10 patterns where the flow is not integrable; fixed-size arrays, also under `jit`).
    - `eps`: in probability, above 0 and below 1/2.
    - `weights`: `(N,)`, at least 0, of the starts in the measures; all 1 if not given.
    - `question`: whose patterns; those of other questions stay at `policy`.
    - `reference`: what regularisers compare with, `policy` if not given.
    - `method`: if not given, `Exact()` where the flow is integrable, or else an `ODE` of tolerance
      1e-5: log times are then good to about 1e-3. A start closer to a separatrix than that may
      fall on either side of it.
    - `most`: room for so many attractors, sinks of the whole simplex first; further ones win
      nothing, and `attractors.left_out` counts them.

    **Returns:** `Basins`; log times are differentiable in flow, policy and starts.

    **Raises:** `TypeError` or `ValueError` for a policy that is no table, trained answers,
    probabilities that do not fit, or an argument out of range.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        policy, problem = qra.two_stage([0.3, 0.4, 0.3], [0.9, 0.9, 0.9])
        flow = qra.GradientFlow(qra.RLIF(qra.objectives.SequenceProbability()), problem)
        starts = qra.dynamics.random_starts(jax.random.key(0), 3, 200)
        found = qra.basins(policy, flow, starts)
        print(found.pattern_fractions, found.pattern_standard_errors)  # thirds
        ```

    Source: derived in docs/derivations.md#basins-of-attraction; the measures are those of
    Attractors.jl (JuliaDynamics).
    """
    field = pattern_field(policy, flow, question, reference)
    require_all(eps, lambda x: (x > 0) & (x < 0.5), "eps", "lie strictly between 0 and 1/2")
    require(jnp.ndim(eps) == 0, "eps", "be a scalar", jnp.shape(eps))
    log_probs = log_probs_of(field, pattern_probs, 2)
    number, dtype = log_probs.shape[0], log_probs.dtype
    require(number > 0, "pattern_probs", "hold at least one start", number)
    weights = (
        jnp.ones(number, dtype) if weights is None else as_float(weights, "weights").astype(dtype)
    )
    require(weights.shape == (number,), "weights", f"have shape ({number},)", weights.shape)
    require_all(weights, lambda x: (x >= 0) & (x < math.inf), "weights", "be finite, at least 0")
    integrable = Exact().why_not(policy, field.flow, ()) is None
    if method is None:
        method = Exact(1e-9) if integrable else ODE(rtol=1e-5, atol=1e-5, max_steps=1024)
    attractors = known_attractors(field, attractors, integrable, whole(most, "most", 1))
    return _basins(
        field, attractors, log_probs, as_float(eps, "eps").astype(dtype), weights, method
    )


@eqx.filter_jit
def _basins(
    field: PatternField,
    attractors: Attractors,
    log_probs: Float[Array, "N R"],
    eps: Float[Array, ""],
    weights: Float[Array, " N"],
    method: AbstractMethod,
) -> Basins:
    field = eqx.tree_at(lambda f: f.flow, field, isolated(field.policy, field.flow, field.question))
    if isinstance(method, Exact):

        def fate(start):
            return exact_fate(field, attractors, start, eps, method)
    else:
        measured = field.measured()

        def fate(start):
            return solved_fate(measured, attractors, start, eps, method)

    # What is rare changes slowly, and takes many steps: like beside like, in groups of one width.
    rarest = jnp.min(jnp.where(log_probs > -jnp.inf, log_probs, 0), axis=-1)
    order = jnp.argsort(jax.lax.stop_gradient(rarest))
    back = jnp.argsort(order)
    found = jtu.tree_map(lambda x: x[back], in_groups(fate, log_probs[order], _WIDTH))
    winner = jnp.where(found.attractor >= 0, attractors.patterns[found.attractor], -1)
    return Basins(
        attractors, found.attractor, winner.astype(jnp.int32), found.log_time, found.status, weights
    )
