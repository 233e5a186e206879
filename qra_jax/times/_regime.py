"""The landscape of pattern values at the start, and the regime that it puts a question in."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core.codes import Code
from .._core.compiled import compiled
from .._core.trees import all_usable, where_usable
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem


class Regime(Code):
    """Which of the two regimes a start is in; -1 stands for invalid input.

    `Regime.names(regime(policy, flow))` reads the integers of a result.

    Source: arXiv 2506.04695, theorems 5.3 and 5.4.
    """

    STRONG = 0
    """V(0) exceeds the value of every pattern but the best: fast."""
    ENTANGLED = 1
    """Exactly one value lies between V(0) and the best: entangled with it first."""
    MIXED = 2
    """Everything else, such as several misleading patterns one after another."""


class Landscape(eqx.Module):
    """The patterns of each question at the start, by the reward of the flow.

    `values` are known up to a constant of the question and in its own `unit`, a power of 2; `above`
    is `V(0) - R_r` in the same unit, 0 where the two agree up to rounding; `second_value` is the
    second best value itself.
    """

    probs: Float[Array, "Q R"]
    values: Float[Array, "Q R"]
    unit: Float[Array, " Q"]
    exists: Bool[Array, "Q R"]
    best: Bool[Array, "Q R"]
    second: Bool[Array, "Q R"]
    second_value: Float[Array, " Q"]
    above: Float[Array, "Q R"]
    valid: Bool[Array, " Q"]

    @property
    def has_second(self) -> Bool[Array, " Q"]:
        return jnp.any(self.second, axis=-1)

    @property
    def passed_second(self) -> Bool[Array, " Q"]:
        """V(0) > second best value; also where there is no second best."""
        return jnp.all(jnp.where(self.second, self.above > 0, True), axis=-1)

    @property
    def kind(self) -> Int[Array, " Q"]:
        """The `Regime` of each question, -1 for invalid input."""
        between = self.exists & ~self.best & (self.above < 0)
        single = jnp.any(between, axis=-1) & ~jnp.any(between & ~self.second, axis=-1)
        level = jnp.any(self.exists & (self.above == 0), axis=-1)
        weak = jnp.where(single & ~level, Regime.ENTANGLED, Regime.MIXED)
        kind = jnp.where(self.passed_second, Regime.STRONG, weak)
        return jnp.where(self.valid, kind, -1).astype(jnp.int32)

    @property
    def underflows(self) -> Bool[Array, " Q"]:
        """Some pattern exists whose probability is too small for the floating-point type."""
        return jnp.any(self.exists & (self.probs == 0), axis=-1)


def landscape(policy: AbstractPolicy, flow: GradientFlow) -> Landscape:
    gaps, exists = policy.pattern_gaps(flow.problem, flow.objective.reward), policy.exists

    def top(among):
        level = jnp.max(jnp.where(among, gaps.gaps, -jnp.inf), axis=-1, keepdims=True)
        level = jnp.where(jnp.any(among, -1, keepdims=True), level, 0)
        size = jnp.max(
            jnp.where(among & (gaps.gaps == level), gaps.size, 0), axis=-1, keepdims=True
        )
        return level[:, 0], among & (gaps.less(level, size) == 0)

    _, best = top(exists)
    second_gap, second = top(exists & ~best)
    probs, finite = gaps.probs, jnp.where(exists, jnp.isfinite(gaps.gaps), True)
    second_value = gaps.base + gaps.unit * second_gap
    return Landscape(
        probs,
        gaps.gaps,
        gaps.unit,
        exists,
        best,
        second,
        jnp.where(jnp.any(second, axis=-1), second_value, 0),
        gaps.above(),
        jnp.all(finite & jnp.isfinite(probs), axis=-1),
    )


def benign_start(
    policy: AbstractPolicy, flow: GradientFlow
) -> tuple[AbstractPolicy, GradientFlow, Landscape]:
    """The start and its landscape, with zeros in place of input that is not finite.

    Such a lane is marked invalid; its NaN must not reach the derivatives of the others.
    """
    usable = all_usable((policy, flow))
    policy, flow = where_usable(usable, policy, 0.0), where_usable(usable, flow, 0.0)
    land = landscape(policy, flow)
    return policy, flow, eqx.tree_at(lambda x: x.valid, land, land.valid & usable)


def regime(policy: AbstractPolicy, flow: GradientFlow | Problem) -> Int[Array, " Q"]:
    r"""The regime of each question at the start.

    STRONG: $V(0)$ > second best value. ENTANGLED: exactly one value lies strictly between $V(0)$
    and the best, none equals $V(0)$. MIXED: everything else. Values are those of the flow's own
    reward; patterns of probability 0 do not count.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow`, or a `Problem` for RLVR.

    **Returns:** `(Q,)` integers, values of `Regime`; -1 for invalid input.

    **Raises:** `ValueError` if policy, problem and objective do not fit together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.Regime.names(qra.regime(policy, problem)))  # ['ENTANGLED']
        ```

    Source: arXiv 2506.04695, theorems 5.3 and 5.4.
    """
    return _kind(policy, check_solve(policy, flow, None))


@compiled
def _kind(policy: AbstractPolicy, flow: GradientFlow) -> Int[Array, " Q"]:
    return landscape(policy, flow).kind


def entanglement_ratio(policy: AbstractPolicy, flow: GradientFlow | Problem) -> Float[Array, " Q"]:
    r"""The ratio $\gamma = \sum_{r \ne r'} \pi(r) / \pi(r^*)$ that bounds the entangled phase.

    $r'$ is the second best pattern and $r^*$ the best; ties are taken together.

    **Arguments:** `policy`: the start; `flow`: a `GradientFlow`, or a `Problem` for RLVR.

    **Returns:** `(Q,)`, NaN in the strong regime.

    **Raises:** `ValueError` if policy, problem and objective do not fit together.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.entanglement_ratio(policy, problem))  # 6
        ```

    Source: arXiv 2506.04695, theorem 5.4.
    """
    return _ratio(policy, check_solve(policy, flow, None))


@compiled
def _ratio(policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " Q"]:
    land = landscape(policy, flow)
    weak = land.valid & ~land.passed_second
    others = jnp.sum(jnp.where(land.second, 0, land.probs), axis=-1)
    best = jnp.sum(jnp.where(land.best, land.probs, 0), axis=-1)
    return jnp.where(weak, others / jnp.where(weak, best, 1), jnp.nan)
