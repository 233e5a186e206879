"""Two patterns with constant rewards, in closed form at any time scale.

(L6): docs/laws.md#two-patterns. A level is either side of it, log odds plus their sinh.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, per_question, require_all
from .._core.floats import safe_log
from .._core.roots import root_in_bracket
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._law import Law, LawStart, check_law, count, first, law_start, total


def _pair(
    policy: AbstractPolicy, flow: GradientFlow
) -> tuple[LawStart, Bool[Array, " Q"], Float[Array, " Q"], Float[Array, " Q"]]:
    """The start, where it has exactly two patterns, their log odds and the log of their gap."""
    start = law_start(policy, flow)
    land = start.land
    ahead = first(land.best)
    behind = land.exists & ~ahead
    pair = land.valid & (count(land.exists) == 2)
    odds = total(ahead, start.log_probs) - total(behind, start.log_probs)
    # Values that are equal but for rounding make no speed: such odds stay.
    gap = total(ahead, start.values) - total(behind, start.values)
    differs = pair & start.moves & land.has_second
    log_speed = safe_log(jnp.where(differs, gap, 0)) + start.log_pace
    return start, pair, jnp.where(pair, odds, 0), log_speed


def _law(pair: Bool[Array, " Q"], value: Float[Array, " Q"]) -> Law:
    return Law(
        value=jnp.where(pair, value, jnp.nan),
        valid=pair,
        relative_error=jnp.where(pair, jnp.zeros_like(value), jnp.nan),
    )


@eqx.filter_jit
def _log_odds(policy: AbstractPolicy, flow: GradientFlow, log_time: Array) -> Law:
    start, pair, odds, log_speed = _pair(policy, flow)
    log_way = log_speed + start.per_question(log_time)
    # (L6), everything in units of exp(unit), which keeps the largest term of order 1: log odds may
    # exceed 700, where sinh overflows.
    unit = jax.lax.stop_gradient(jnp.maximum(jnp.maximum(jnp.abs(odds), log_way), 0))

    def level(odds):
        return odds * jnp.exp(-unit) + (jnp.exp(odds - unit) - jnp.exp(-odds - unit)) / 2

    target = level(odds) + jnp.exp(log_way - unit)

    # From arsinh of the level, where the function is convex and above its root: Newton's iteration
    # then descends to it, in at most 8 steps from everywhere. Small roots keep all their digits.
    log_level = safe_log(jnp.abs(target)) + unit
    near = jnp.arcsinh(jnp.exp(jnp.minimum(log_level, 20)))
    start = jnp.sign(target) * jnp.where(log_level < 20, near, log_level + jnp.log(2))
    bracket = jnp.minimum(start, 0), jnp.maximum(start, 0)
    tiny = 4 * float(jnp.finfo(start.dtype).eps)
    found, _ = root_in_bracket(
        lambda x: level(x) - target, start, bracket, lambda x: tiny * jnp.abs(x)
    )
    return _law(pair, found)


@eqx.filter_jit
def _log_time(policy: AbstractPolicy, flow: GradientFlow, log_odds: Array) -> Law:
    start, pair, odds, log_speed = _pair(policy, flow)
    goal = start.per_question(log_odds)
    ahead = goal > odds
    way = jnp.where(ahead, goal - odds, 1)
    middle = (goal + odds) / 2
    # The difference of two levels of (L6), which may agree in all digits.
    # sinh a - sinh b = 2 cosh((a+b)/2) sinh((a-b)/2): a sum of positive terms, nothing cancels.
    log_sinh = way / 2 + jnp.log(-jnp.expm1(-way))
    log_rise = jnp.logaddexp(middle, -middle) + log_sinh - jnp.log(2)
    log_way = jnp.logaddexp(jnp.log(way), log_rise)
    return _law(pair, jnp.where(ahead, log_way - log_speed, -jnp.inf))


def two_pattern_log_odds(
    policy: AbstractPolicy, flow: GradientFlow | Problem, log_time: ArrayLike
) -> Law:
    r"""The log odds $\delta$ of the better of two patterns at a time:
    $\delta + \sinh \delta = \delta_0 + \sinh \delta_0 + D(q)\, (R_1 - R_2)\, t$.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow` with constant rewards, or a
    `Problem` for Euclidean RLVR; `log_time`: a scalar or `(Q,)`, the natural logarithm of the
    flow's time, below inf.

    **Returns:** a `Law`; `value` is $\delta = \log \pi_1 - \log \pi_2$ (of the first, if both have
    the same value), at any size. Valid, and then exact, where exactly two patterns exist.

    **Raises:** `ValueError` if `log_time` is inf or NaN, otherwise as `value_tail_law`.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        policy, problem = qra.two_stage([1e-9, 1 - 1e-9], [0.8, 0.3])
        print(jax.nn.sigmoid(qra.laws.two_pattern_log_odds(policy, problem, 25.0).value))
        ```

    Source: derived in docs/laws.md#two-patterns.
    """
    flow = check_law(policy, flow)
    per_question(log_time, "log_time", policy.num_questions)
    require_all(log_time, lambda x: x < jnp.inf, "log_time", "be below inf and not NaN")
    return _log_odds(policy, flow, as_float(log_time, "log_time"))


def log_two_pattern_time(
    policy: AbstractPolicy, flow: GradientFlow | Problem, log_odds: ArrayLike
) -> Law:
    r"""The time at which the better of two patterns has the log odds $\delta$:
    $t = \frac{\delta + \sinh \delta - \delta_0 - \sinh \delta_0}{D(q)\, (R_1 - R_2)}$.

    **Arguments:** `policy`, `flow`: as for `two_pattern_log_odds`; `log_odds`: a scalar or `(Q,)`,
    $\log \pi_1 - \log \pi_2$.

    **Returns:** a `Law`; `value` is the natural logarithm of the flow's own time (1/reward), `-inf`
    if the start is as far, `inf` if it never happens. Valid, and then exact, where exactly two
    patterns exist.

    **Raises:** `ValueError` if `log_odds` is NaN, otherwise as `value_tail_law`.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([1e-9, 1 - 1e-9], [0.8, 0.3])
        print(qra.laws.log_two_pattern_time(policy, problem, 0.0).value)  # equal odds
        ```

    Source: derived in docs/laws.md#two-patterns.
    """
    flow = check_law(policy, flow)
    per_question(log_odds, "log_odds", policy.num_questions)
    require_all(log_odds, lambda x: x == x, "log_odds", "not be NaN")
    return _log_time(policy, flow, as_float(log_odds, "log_odds"))
