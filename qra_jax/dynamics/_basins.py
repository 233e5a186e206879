"""Which attractor a start ends at, how long that takes, and what share of starts each one wins."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_float, require, require_all, whole
from .._core.floats import safe_log, snapped_difference
from .._core.trees import in_groups
from ..flows._events import Approaches, PatternReaches, Stationary
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..policies._tabular import TabularPolicy
from ..solvers._method import AbstractMethod
from ..solvers._solve import first_event
from ..solvers.exact._exact import Exact
from ..solvers.ode._ode import ODE
from ..times._passage import isolated
from ..times._regime import landscape
from ._attractors import Attractors, known_attractors
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
        horizon = as_float(log_horizon).astype(self.log_time.dtype)
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
        level = as_float(share).astype(self.log_time.dtype)

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

    Source: derived in docs; the measures are those of Attractors.jl (JuliaDynamics).
    """
    field = pattern_field(policy, flow, question, reference)
    require_all(eps, lambda x: (x > 0) & (x < 0.5), "eps", "lie strictly between 0 and 1/2")
    require(jnp.ndim(eps) == 0, "eps", "be a scalar", jnp.shape(eps))
    log_probs = log_probs_of(field, pattern_probs, 2)
    number, dtype = log_probs.shape[0], log_probs.dtype
    require(number > 0, "pattern_probs", "hold at least one start", number)
    weights = jnp.ones(number, dtype) if weights is None else as_float(weights).astype(dtype)
    require(weights.shape == (number,), "weights", f"have shape ({number},)", weights.shape)
    require_all(weights, lambda x: (x >= 0) & (x < math.inf), "weights", "be finite, at least 0")
    integrable = Exact().why_not(policy, field.flow, ()) is None
    if method is None:
        method = Exact(1e-9) if integrable else ODE(rtol=1e-5, atol=1e-5, max_steps=1024)
    attractors = known_attractors(field, attractors, integrable, whole(most, "most", 1))
    return _basins(field, attractors, log_probs, as_float(eps).astype(dtype), weights, method)


class _Fate(eqx.Module):
    """What became of one start."""

    attractor: Int[Array, "*N"]
    log_time: Float[Array, "*N"]
    status: Int[Array, "*N"]


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
            return _exact_fate(field, attractors, start, eps, method)
    else:
        scale = _pull_scale(field)

        def fate(start):
            return _solved_fate(field, attractors, start, eps, method, scale)

    # What is rare changes slowly, and takes many steps: like beside like, in groups of one width.
    rarest = jnp.min(jnp.where(log_probs > -jnp.inf, log_probs, 0), axis=-1)
    order = jnp.argsort(jax.lax.stop_gradient(rarest))
    back = jnp.argsort(order)
    found = jtu.tree_map(lambda x: x[back], in_groups(fate, log_probs[order], _WIDTH))
    winner = jnp.where(found.attractor >= 0, attractors.patterns[found.attractor], -1)
    return Basins(
        attractors, found.attractor, winner.astype(jnp.int32), found.log_time, found.status, weights
    )


def _fate(
    index: Array, won: Array, inside: Array, log_time: Array, status: Array, usable: Array
) -> _Fate:
    log_time = jnp.where(inside, -jnp.inf, log_time)
    status = jnp.where(usable, jnp.where(inside, Status.EVENT, status), Status.INVALID_INPUT)
    won = (won | inside) & usable
    return _Fate(
        jnp.where(won, index, -1).astype(jnp.int32),
        jnp.where(won, log_time, jnp.nan),
        status.astype(jnp.int32),
    )


def _exact_fate(
    field: PatternField, attractors: Attractors, start: Array, eps: Array, method: Exact
) -> _Fate:
    """Constant values: the best pattern of the start's face wins."""
    exists = start > -jnp.inf
    usable = ~jnp.any(jnp.isnan(start))
    policy: TabularPolicy = field.at(jnp.where(usable, start, 0))
    land = landscape(policy, field.flow)
    best = land.best[field.question]
    highest = jnp.max(jnp.where(best, start, -jnp.inf))
    # Of tied patterns the most probable; equally probable ones keep their shares for ever.
    level = best & (snapped_difference(jnp.where(best, start, 0), highest) == 0)
    alone = jnp.sum(level) == 1
    moves = land.has_second[field.question] & (field.flow.problem.weights[field.question] > 0)
    target = jnp.where(moves, jnp.argmax(level), jnp.argmax(start))

    corner = jnp.arange(start.shape[0]) == target
    row = attractors.within(exists) & jnp.all(attractors.face == corner[None], axis=-1)
    others = jnp.sum(jnp.where(corner, 0, jnp.exp(start)))
    known = usable & jnp.any(row)
    inside = known & (others <= eps)
    goes = known & ~inside & moves & alone
    # From 1/2 on the probability of a best pattern does not fall again.
    event = PatternReaches(target, None, field.question, shortfall=eps, lasting=True)
    event = eqx.tree_at(lambda e: e.log_odds, event, jnp.where(goes, event.log_odds, -jnp.inf))
    found = first_event(policy, field.flow, field.reference, (event,), method)
    won = goes & (found.event == 0)
    status = jnp.where(goes, found.status, Status.STATIONARY)
    return _fate(jnp.argmax(row), won, inside, found.log_time, status, usable & land.valid.all())


def _pull_scale(field: PatternField) -> Float[Array, ""]:
    """How large pulls are in this flow: the largest at points half-way to the corners."""
    exists = field.exists
    number = jnp.sum(exists)

    def at(corner):
        probs = jnp.where(exists, (1 + number * corner) / (2 * number), 0)
        pull = field.pull(safe_log(probs))
        return jnp.max(jnp.where(exists & (corner.sum() > 0), jnp.abs(pull), 0))

    corners = jnp.eye(exists.shape[0], dtype=field.log_probs.dtype) * exists[:, None]
    return jax.lax.stop_gradient(jnp.max(jax.vmap(at)(corners)))


def _solved_fate(
    field: PatternField,
    attractors: Attractors,
    start: Array,
    eps: Array,
    method: AbstractMethod,
    scale: Array,
) -> _Fate:
    """Followed until it comes near an attractor."""
    exists = start > -jnp.inf
    usable = ~jnp.any(jnp.isnan(start))
    among = attractors.within(exists)
    near = Approaches(attractors.pattern_probs, eps, field.question, among)
    inside = jnp.min(near.distances(jnp.exp(start))) <= eps
    # No pattern with an advantage, up to rounding: a point of rest, where rounding alone would say
    # which way to leave. Such a lane is not solved: its event has happened.
    pull = jnp.max(jnp.where(exists, field.pull(start), -jnp.inf))
    rests = pull <= 1e3 * float(jnp.finfo(start.dtype).eps) * scale
    goes = ~inside & ~rests & jnp.any(among)
    near = eqx.tree_at(lambda e: (e.eps, e.among), near, (
        jnp.where(goes | inside, eps, 2.0), among | ~(goes | inside)
    ))  # fmt: skip
    events = (near,)
    if field.flow.objective.has_interior_optimum:
        # In place of the default: an entangled plateau is slower than a point of rest seems.
        floor = float(jnp.finfo(start.dtype).tiny) ** 0.5
        events = (near, Stationary(jnp.asarray(floor, start.dtype)))
    found = first_event(field.at(start), field.flow, field.reference, events, method)
    final, _ = found.policy.pattern_table(field.flow.problem)
    index = jnp.argmin(near.distances(final[field.question]))
    won = goes & (found.event == 0)
    status = jnp.where(goes & (found.event != 1), found.status, Status.STATIONARY)
    return _fate(index, won, inside, found.log_time, status, usable)
