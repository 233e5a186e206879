"""Sharp laws of flows with constant rewards: what tails and times tend to, and where that holds.

Numbers of equations are those of docs/laws.md, and so are the symbols. In the code of tails: n is
`number`, G `leaders`, n/G `power`, the gaps Delta_j `gaps`, log a_i `keeps`, b_j `shift`, beta_j
`spread`, log c `log_unit`, log s `log_s`, log(D(q) t) `own_time`. In that of entanglement: K is
`number`, the gaps g_j `gaps`, delta `lead`, u `exp(log_share)`, log pi_* `rare`, log pi_r'
`common`. Times are natural logarithms of 1/reward.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, per_question, require_all
from .._core.floats import safe_log, snapped_difference
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ..times._regime import Regime
from ._law import Law, LawStart, check_law, count, first, law_start, total


class _Tail(eqx.Module):
    r"""The late flow, in $x_i = e^{-\theta_i}$: n patterns lose with $x_j = \Delta_j (s + b_j)$,
    and G leaders share one small x, so that $t \propto s^{n/G+1}$.

    - `power`: n/G. `log_unit`: log c in $t = (G/c)\, s^{n/G+1} / (n/G+1)$.
    - `spread`: the $b_j$ less their mean, in units of `exp(log_scale)`.
    - `log_behind`: log of the sum of 1/x over patterns tied for best that do not lead.
    """

    start: LawStart
    defined: Bool[Array, " Q"]
    losers: Bool[Array, "Q R"]
    gaps: Float[Array, "Q R"]
    leaders: Float[Array, " Q"]
    power: Float[Array, " Q"]
    log_unit: Float[Array, " Q"]
    log_scale: Float[Array, " Q"]
    spread: Float[Array, "Q R"]
    log_behind: Float[Array, " Q"]

    @staticmethod
    def of(start: LawStart) -> "_Tail":
        land, log_probs = start.land, start.log_probs
        losers = land.exists & ~land.best
        number = jnp.maximum(count(losers), 1).astype(log_probs.dtype)
        best = total(first(land.best), start.values)[:, None]
        gaps = jnp.where(losers, best - start.values, 1)

        top = jnp.max(jnp.where(land.best, log_probs, -jnp.inf), axis=-1, keepdims=True)
        leading = land.best & (snapped_difference(log_probs, top, 1 + jnp.abs(top)) == 0)
        behind = land.best & ~leading
        leaders = count(leading).astype(log_probs.dtype)
        # Patterns tied for best keep their differences in x, and with them an x of their own:
        # a_i = 1/pi_i - 1/pi, by expm1 of the log odds, so that nearly equal ones lose no digits.
        keeps = jnp.log(-jnp.expm1(jnp.where(behind, log_probs - top, -1))) - log_probs
        keeps = jnp.where(behind, keeps, 0)
        log_scale = jnp.max(-log_probs, axis=-1)
        # Starts 1/pi_j in units of the largest, since they may be beyond any float; the corrections
        # need them only relative to s.
        away = jnp.exp(-log_probs - log_scale[:, None]) - jnp.exp(-top - log_scale[:, None])
        shift = jnp.where(losers, away / gaps, 0)
        mean = jnp.sum(shift, axis=-1) / number
        return _Tail(
            start=start,
            defined=start.moves & jnp.any(losers, axis=-1),
            losers=losers,
            gaps=gaps,
            leaders=leaders,
            power=number / leaders,
            # The product of all x is conserved, which fixes c in (L2).
            log_unit=-jnp.sum(log_probs + keeps + jnp.log(gaps), axis=-1) / leaders,
            log_scale=log_scale,
            spread=jnp.where(losers, shift - mean[:, None], 0),
            log_behind=jax.nn.logsumexp(jnp.where(behind, -keeps, -jnp.inf), axis=-1),
        )

    @property
    def limit(self) -> Float[Array, " Q"]:
        r"""$\frac{G}{n+G} \sum_i 1/\Delta_i$."""
        return total(self.losers, 1 / self.gaps) / (1 + self.power)

    def log_s(self, own_time: Float[Array, " Q"]) -> Float[Array, " Q"]:
        # t of (L2), solved for s.
        log_area = own_time + self.log_unit + jnp.log1p(self.power) - jnp.log(self.leaders)
        return log_area / (1 + self.power)

    def value_error(self, own_time: Float[Array, " Q"]) -> Float[Array, " Q"]:
        """Leading corrections to `value_tail_law` at the log of `D(q) t`."""
        # The first correction of docs/laws.md#tails: of second order in the beta_j, whose mean is
        # 0. For n < G it is not the leading one, and left out.
        number = self.power * self.leaders
        excess = number - self.leaders
        log_ratio = self.log_s(own_time) - self.log_scale
        weight = self.leaders / (number * jnp.where(excess > 0, excess, 1))
        weight = jnp.where(excess > 0, weight, jnp.where(excess == 0, log_ratio / self.leaders, 0))
        variance = jnp.sum(self.spread**2, axis=-1)
        return self._shared_error(own_time) - weight * variance * jnp.exp(-2 * log_ratio)

    def pattern_error(self, own_time: Float[Array, " Q"]) -> Float[Array, " Q"]:
        """Leading corrections to `pattern_tail_law` at the log of `D(q) t`."""
        # The second one: of first order, since each loser weighs by its own 1/Delta_j.
        rates = jnp.where(self.losers, 1 / self.gaps, 0)
        lag = jnp.sum(rates * self.spread, axis=-1)
        lag = lag / jnp.where(self.defined, jnp.sum(rates, axis=-1), 1)
        return self._shared_error(own_time) - lag * jnp.exp(self.log_scale - self.log_s(own_time))

    def _shared_error(self, own_time: Float[Array, " Q"]) -> Float[Array, " Q"]:
        """What both laws have in common: best patterns that do not lead, and the slow start."""
        land, log_probs, log_s = self.start.land, self.start.log_probs, self.log_s(own_time)
        # The third one, of best patterns that do not lead.
        tied = 2 * self.power / (1 + self.power) * jnp.exp(self.log_behind + log_s - own_time)
        # The fourth one, of the terms 1/x_j in Z; it leads where the others vanish, as from equal
        # starts. In logarithms, because pi_j s may be anything.
        passing = jax.nn.softplus(jnp.log(self.gaps) + log_probs + log_s[:, None])
        passing = 2 * total(self.losers, passing / self.gaps) * jnp.exp(-own_time)
        # Two patterns: from the closed form (L6), sinh cut where it would overflow.
        pair = (count(land.exists) == 2) & self.defined
        odds = total(land.best, log_probs) - total(self.losers, log_probs)
        largest = jnp.log(jnp.finfo(odds.dtype).max) - 1
        begun = odds + jnp.sinh(jnp.clip(odds, -largest, largest))
        log_way = jnp.log(total(self.losers, self.gaps)) + own_time
        exact = (jnp.log(2) + log_way - begun - 0.5) * jnp.exp(-log_way)
        return tied + jnp.where(pair, exact, passing)


def _check_time(policy: AbstractPolicy, log_time: ArrayLike) -> Array:
    per_question(log_time, "log_time", policy.num_questions)
    require_all(log_time, lambda x: x > -jnp.inf, "log_time", "be above -inf and not NaN")
    return as_float(log_time, "log_time")


def _tail_law(
    tail: _Tail,
    limit: Float[Array, " Q"],
    log_pace: Float[Array, " Q"],
    error: Callable[[Float[Array, " Q"]], Float[Array, " Q"]],
    log_time: Array,
) -> Law:
    log_time = tail.start.per_question(log_time)
    at_the_end = log_time == jnp.inf
    # A tail at t = inf is the limit itself: no error, and no inf in what is differentiated.
    off = error(jnp.where(at_the_end, 0, log_time) + tail.start.log_pace)
    return Law(
        value=jnp.where(tail.defined, limit * jnp.exp(-log_pace), jnp.nan),
        valid=tail.defined,
        relative_error=jnp.where(tail.defined, jnp.where(at_the_end, 0, off), jnp.nan),
    )


@eqx.filter_jit
def _value_tail(policy: AbstractPolicy, flow: GradientFlow, log_time: Array) -> Law:
    tail = _Tail.of(law_start(policy, flow))
    # The product of the last two of (L2), n G / (n + G).
    limit = tail.power * tail.leaders / (1 + tail.power)
    return _tail_law(tail, limit, tail.start.log_weight, tail.value_error, log_time)


@eqx.filter_jit
def _pattern_tail(policy: AbstractPolicy, flow: GradientFlow, log_time: Array) -> Law:
    tail = _Tail.of(law_start(policy, flow))
    return _tail_law(tail, tail.limit, tail.start.log_pace, tail.pattern_error, log_time)


@eqx.filter_jit
def _convergence(policy: AbstractPolicy, flow: GradientFlow, eps: Array) -> Law:
    tail = _Tail.of(law_start(policy, flow))
    eps = tail.start.per_question(eps)
    defined = tail.defined & (eps > 0) & (eps < 1)
    # 1 - pi_* = eps in the law of the pattern's tail.
    own_time = jnp.log(jnp.where(defined, tail.limit, 1)) - jnp.log(jnp.where(defined, eps, 1))
    error = tail.pattern_error(own_time)
    ahead = total(tail.losers, tail.start.land.probs) > eps
    return Law(
        value=jnp.where(defined, own_time - tail.start.log_pace, jnp.nan),
        valid=defined & ahead & (jnp.abs(error) < 1),
        relative_error=jnp.where(defined, error, jnp.nan),
    )


@eqx.filter_jit
def _entanglement(policy: AbstractPolicy, flow: GradientFlow) -> Law:
    start = law_start(policy, flow)
    land, log_probs = start.land, start.log_probs
    misleading = first(land.second)
    others = land.exists & ~land.best & ~misleading
    defined = start.moves & land.has_second & (count(land.best) == 1)
    rare, common = total(land.best, log_probs), total(misleading, log_probs)
    second = total(misleading, start.values)
    lead = jnp.where(defined, total(land.best, start.values) - second, 1)
    # 0 for a tie.
    gaps = jnp.where(others & ~land.second, second[:, None] - start.values, 0)
    gaps = jnp.where(others, gaps, 1)
    log_gaps = safe_log(gaps)  # -inf for a tie

    # (L4) in logarithms, factor by factor: pi_* = 1e-300 with K = 1024 does no harm. With two
    # patterns there is no such phase; 3 in place of 2 keeps that lane finite.
    number = jnp.maximum(count(land.exists), 3).astype(log_probs.dtype)  # K
    log_share = jnp.log1p(-1 / (number - 1))
    probs_part = common + total(others, log_probs) - (number - 1) * rare
    gaps_part = jnp.sum(log_gaps, axis=-1) - (number - 1) * jnp.log(lead)
    number_part = (number - 1) * log_share + jnp.log(2 / (number * (number - 1)))
    three = count(land.exists) >= 3
    own_time = jnp.where(three, probs_part + gaps_part + number_part, -jnp.inf)

    # The first part of (L5), of order pi_*: x is 1/pi_j for the others at the start, not 0, and
    # 1/pi_r' for the leader.
    safe_gaps = jnp.where(gaps > 0, gaps, 1)
    share = jnp.exp(rare - common)
    head = jnp.where(others, jnp.exp(rare[:, None] - log_probs) - share[:, None], 0)
    head = head / safe_gaps * (number * lead / (number - 2))[:, None]
    # The second part, much smaller for K > 3: before and after r' leads the flow is slow as well,
    # and the time that takes counts twice, because it also holds back the logit of r'.
    log_end = log_share - rare - jnp.log(lead)
    after = jax.nn.softplus(log_gaps + log_probs + log_end[:, None])
    after = total(others, after / safe_gaps) + jnp.log(number - 1) / lead
    slow = 2 * after * jnp.exp(-own_time)
    error = jnp.sum(head, axis=-1) - number * share + slow
    # Parts of different sign may cancel in the estimate, but not in where the law holds.
    size = jnp.sum(jnp.abs(head), axis=-1) + number * share + slow

    rarest = jnp.all(land.best | ~land.exists | (log_probs > rare[:, None]), axis=-1)
    apart = defined & three & (count(land.second) == 1)
    return Law(
        value=jnp.where(defined, own_time - start.log_pace, jnp.nan),
        valid=apart & rarest & (land.kind == Regime.ENTANGLED) & (size < 1),
        relative_error=jnp.where(apart, error, jnp.nan),
    )


def value_tail_law(
    policy: AbstractPolicy, flow: GradientFlow | Problem, log_time: ArrayLike = jnp.inf
) -> Law:
    r"""The tail of the value: $t\, (R_* - V(t)) \to \frac{1}{D(q)} \frac{nG}{n+G}$.

    n patterns have a value below the best, and G of those tied for best share the largest
    probability: $(K-1)/K$ for a unique best among K patterns, $(K-B)/(K-B+1)$ for B tied of
    different probabilities, $B(K-B)/K$ for B tied of equal ones, whatever the gaps.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow` with constant rewards, or a
    `Problem` for Euclidean RLVR; `log_time`: a scalar or `(Q,)`, the natural logarithm of the
    flow's time at which the error is wanted, the limit if not given.

    **Returns:** a `Law`; `value` is the limit, a pure number. Valid where values differ and the
    question has a weight. `relative_error` is of order $t^{-2/K}$ for a unique best, and
    $\log(t) / t$ if all start equal.

    **Raises:** `ValueError` unless the reward keeps pattern values and `"patterns"` are trained,
    the geometry Euclidean, the utility the mean and without regularisers; or if `log_time` is -inf
    or NaN. `TypeError` if the policy is not tabular.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        law = qra.laws.value_tail_law(policy, problem, log_time=12.0)
        print(law.value, law.relative_error)  # 2/3, and how far t (R_* - V) is from it by then
        ```

    Source: derived in docs/laws.md#tails.
    """
    return _value_tail(policy, check_law(policy, flow), _check_time(policy, log_time))


def pattern_tail_law(
    policy: AbstractPolicy, flow: GradientFlow | Problem, log_time: ArrayLike = jnp.inf
) -> Law:
    r"""The tail of the best pattern:
    $t\, (1 - \pi_*(t)) \to \frac{1}{D(q)} \frac1K \sum_{i \ne *} \frac{1}{R_* - R_i}$.

    Patterns tied for best count together; with n and G as in `value_tail_law`, $1/K$ becomes
    $G/(n+G)$.

    **Arguments:** as for `value_tail_law`.

    **Returns:** a `Law`; `value` is the limit, in 1/reward. Valid where values differ and the
    question has a weight. `relative_error` is of order $t^{-1/K}$ for a unique best: with many
    patterns that start unequal it stays large for very long.

    **Raises:** as `value_tail_law`.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.laws.pattern_tail_law(policy, problem).value)  # (1/0.2 + 1/0.8) / 3
        ```

    Source: derived in docs/laws.md#tails.
    """
    return _pattern_tail(policy, check_law(policy, flow), _check_time(policy, log_time))


def log_convergence_time_law(
    policy: AbstractPolicy, flow: GradientFlow | Problem, eps: ArrayLike
) -> Law:
    r"""The time to $\pi_* = 1 - \epsilon$, as $\epsilon \to 0$:
    $T_\epsilon \sim \frac{1}{D(q)} \frac{1}{K \epsilon} \sum_{i \ne *} \frac{1}{R_* - R_i}$.

    It is that of `log_convergence_time`: patterns tied for best count together, and then $1/K$
    becomes $G/(n+G)$ (see `value_tail_law`).

    **Arguments:** `policy`, `flow`: as for `value_tail_law`; `eps`: a scalar or `(Q,)`, strictly
    between 0 and 1.

    **Returns:** a `Law`; `value` is the natural logarithm of the flow's own time (1/reward). Valid
    where values differ, the question has a weight and is not as far at the start, and
    `relative_error`, of order $\epsilon^{1/K}$, is below 1 in size.

    **Raises:** `ValueError` if `eps` is out of range, otherwise as `value_tail_law`.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.4, 0.3, 0.3], [0.9, 0.7, 0.1])
        law = qra.laws.log_convergence_time_law(policy, problem, 1e-9)
        print(law.value, qra.log_convergence_time(policy, problem, 1e-9))
        ```

    Source: derived in docs/laws.md#tails.
    """
    flow = check_law(policy, flow)
    per_question(eps, "eps", policy.num_questions)
    require_all(eps, lambda e: (e > 0) & (e < 1), "eps", "lie strictly between 0 and 1")
    return _convergence(policy, flow, as_float(eps, "eps"))


def log_entanglement_time_law(policy: AbstractPolicy, flow: GradientFlow | Problem) -> Law:
    r"""The entanglement law: $T_0$ with one misleading pattern $r'$ and $K - 2$ others $j$, as
    $\pi_* \to 0$,

    $$T_0 \sim \frac{1}{D(q)} \frac{\pi_{r'} \prod_j \pi_j}{\pi_*^{K-1}}
    \frac{\prod_j (R_{r'} - R_j)}{(R_* - R_{r'})^{K-1}}
    \frac{2}{K (K-1)} \Big( \frac{K-2}{K-1} \Big)^{K-1}.$$

    So $d \log T_0 / d \log \pi_* \to -(K-1)$: polynomial in $1/\pi_*$ for each K.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow` with constant rewards, or a
    `Problem` for Euclidean RLVR.

    **Returns:** a `Law`; `value` is the natural logarithm of the flow's own time (1/reward): `-inf`
    for K = 2 and for a tie for second best, where the formula gives 0, and NaN for a tie for best.
    Valid where the question has a weight, its regime is `ENTANGLED`, best and second best are
    unique, the best is rarer than every other pattern, $K \ge 3$, and the corrections in
    `relative_error`, of order $\pi_*$ but large near a tie, add up to less than 1 in size.

    **Raises:** as `value_tail_law`.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        law = qra.laws.log_entanglement_time_law(policy, problem)
        print(jnp.exp(law.value), law.relative_error)  # 87.5, 0.075; exactly it is 94.305
        ```

    Source: derived in docs/laws.md#the-entanglement-law.
    """
    return _entanglement(policy, check_law(policy, flow))
