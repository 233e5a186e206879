"""Objectives: one number whose gradient is the flow."""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import is_concrete, require_all
from ..policies._policy import AbstractPolicy, RewardFunction
from ..policies._problem import Problem
from ..policies._token_values import RewardValues, TokenValues
from ._regularisers import AbstractRegulariser, Penalty, ReverseKL, as_regularisers
from ._rewards import AbstractReward, SelfCertainty, Verifiable, as_reward
from ._utilities import AbstractUtility, Mean, as_utility


class AbstractObjective(eqx.Module):
    """What is maximised. The flow is the gradient of `surrogate` in its first argument."""

    reward: eqx.AbstractVar[AbstractReward]

    @abc.abstractmethod
    def surrogate(
        self,
        policy: AbstractPolicy,
        problem: Problem,
        reference: AbstractPolicy,
        held: AbstractPolicy | None = None,
    ) -> Float[Array, ""]:
        """The objective $J$, as a function of `policy`.

        **Arguments:**

        - `policy`, `problem`: what is trained, and on what.
        - `reference`: the policy that regularisers compare with.
        - `held`: the policy at which rewards are evaluated, equal to `policy` but constant in its
          gradient; `stop_gradient(policy)` if not given. A flow passes it, so that derivatives
          *of the flow* still see how rewards depend on the policy.

        **Returns:** a scalar, in units of the utility.
        """

    @property
    @abc.abstractmethod
    def has_interior_optimum(self) -> bool:
        """Whether the flow can come to rest at a policy that is not a vertex of the simplex."""

    @abc.abstractmethod
    def validate(self, policy: AbstractPolicy, problem: Problem, reference: AbstractPolicy) -> None:
        """Raise `ValueError` where the objective is not defined; looks at concrete values only."""


class _Held(eqx.Module):
    """A reward that ignores the policy it is asked about and answers for the held one."""

    reward: AbstractReward
    policy: AbstractPolicy

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        return self.reward(self.policy, problem)


class _Shortfall(eqx.Module):
    """What is missing of a reward to 1."""

    reward: AbstractReward

    def __call__(self, policy: AbstractPolicy, problem: Problem) -> RewardValues:
        values = self.reward(policy, problem)
        return 1 - (values if isinstance(values, TokenValues) else jnp.asarray(values))


class Objective(AbstractObjective):
    r"""$J = \sum_q D(q) \big[ f(V_q) - \sum_i \mathrm{penalty}_i \big]$, $V_q$ the expected reward.

    **Arguments:**

    - `reward`: an `AbstractReward` or a plain JAX function of `(policy, problem)` to a scalar or
      to three axes: question (1 or Q), pattern (1 or R) and answer (1 or A).
    - `utility`: an `AbstractUtility`, or a plain JAX function $f$ from `(Q,)` expected rewards to
      `(Q,)`; the mean if not given.
    - `regularisers`: penalties: `AbstractRegulariser`s, or functions of `(policy, reference)` to
      `(Q,)`.
    - `differentiate_reward`: False: the reward is a constant in the gradient, as in a policy
      gradient, and $\partial J$ differentiates probabilities only; True: it is differentiated too.

    **Raises:** `TypeError` if an argument is of another kind, or a class in place of an instance.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra

        def prefers_short(policy, problem):  # one value a pattern, (1, R, 1)
            return jnp.asarray([1.0, 0.5, 0.0])[None, :, None]

        flow_objective = qra.Objective(prefers_short, utility=jnp.log)
        ```

    Source: arXiv 2506.04695, section 3, for the mean utility with reverse KL; derived in
    docs/derivations.md#rewards-at-a-held-policy.
    """

    reward: AbstractReward
    utility: AbstractUtility
    regularisers: tuple[AbstractRegulariser, ...]
    differentiate_reward: bool = eqx.field(static=True)

    def __init__(
        self,
        reward: RewardFunction,
        utility: AbstractUtility | Callable | None = None,
        regularisers: Sequence[Penalty] = (),
        differentiate_reward: bool = False,
    ):
        self.reward = as_reward(reward)
        self.utility = as_utility(utility)
        self.regularisers = as_regularisers(regularisers)
        self.differentiate_reward = differentiate_reward

    def surrogate(
        self,
        policy: AbstractPolicy,
        problem: Problem,
        reference: AbstractPolicy,
        held: AbstractPolicy | None = None,
    ) -> Float[Array, ""]:
        held = jax.lax.stop_gradient(policy) if held is None else held
        reward = self.reward if self.differentiate_reward else _Held(self.reward, held)
        value = policy.expectation(reward, problem)
        if not self.is_mean:
            now = self.moments(held, problem)
            slope = self.utility.slope(*now)
            # It is infinite only where nothing, or everything, is a success, and nothing moves.
            slope = jnp.where(slope == jnp.inf, 0, slope)
            value = self.utility.value(*now) + slope * (value - now[0])
        for regulariser in self.regularisers:
            value = value - regulariser(policy, reference, held)
        return problem.mean(value)

    def moments(
        self, policy: AbstractPolicy, problem: Problem
    ) -> tuple[Float[Array, " Q"], Float[Array, " Q"]]:
        """V and its shortfall 1 - V, each without cancellation: what a utility is a function of.

        **Arguments:** `policy`, `problem`.

        **Returns:** two arrays `(Q,)`.
        """
        return (
            policy.expectation(self.reward, problem),
            policy.expectation(_Shortfall(self.reward), problem),
        )

    @property
    def keeps_gaps(self) -> bool:
        """Whether differences of pattern values stay, and gaps in them alone move the patterns,
        while no answer moves."""
        kept = self.reward.ignores_patterns or not self.differentiate_reward
        return self.reward.keeps_pattern_values and kept

    @property
    def is_mean(self) -> bool:
        """Whether the utility is the expected reward itself."""
        return isinstance(self.utility, Mean)

    @property
    def has_interior_optimum(self) -> bool:
        return any(one.has_interior_optimum for one in self.regularisers)

    def validate(self, policy: AbstractPolicy, problem: Problem, reference: AbstractPolicy) -> None:
        self.reward.validate(policy, problem)
        if self.utility.of_probability:
            _, values = policy.pattern_table(problem, self.reward)
            require_all(
                jnp.where(policy.exists, values, 0),
                lambda value: (value >= 0) & (value <= 1),
                "reward",
                f"be the probability of a success, in [0, 1], for {type(self.utility).__name__}",
            )
        for regulariser in self.regularisers:
            regulariser.validate(policy, reference)


def _regularised(reward: RewardFunction, beta: ArrayLike) -> Objective:
    # beta = 0 leaves the penalty out, so that the flow is known to have no interior optimum.
    without = is_concrete(beta) and not np.any(np.asarray(beta) != 0)
    return Objective(reward, regularisers=() if without else (ReverseKL(beta),))


def RLVR(beta: ArrayLike = 0.0) -> Objective:
    r"""RL with verifiable rewards, $J = V - \beta \mathrm{KL}(\pi \| \pi_{ref})$.

    A function, not a class: what it returns is recognised by `isinstance(x, Objective)`.

    **Arguments:** `beta`: strength of the reverse KL penalty, at least 0.

    **Returns:** an `Objective` with the reward `Verifiable`.

    **Raises:** `ValueError` if `beta` is negative or not finite.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        flow = qra.GradientFlow(qra.RLVR(beta=0.1), problem)
        ```

    Source: arXiv 2506.04695, section 3.
    """
    return _regularised(Verifiable(), beta)


def RLIF(reward: RewardFunction = SelfCertainty(), beta: ArrayLike = 0.0) -> Objective:
    r"""RL with internal feedback, $J = E[R] - \beta \mathrm{KL}(\pi \| \pi_{ref})$.

    A function, not a class: what it returns is recognised by `isinstance(x, Objective)`.

    **Arguments:** `reward`: the internal reward, self-certainty if not given; `beta`: strength of
    the reverse KL penalty, at least 0.

    **Returns:** an `Objective`.

    **Raises:** `ValueError` if `beta` is negative or not finite; `TypeError` if `reward` is not
    callable.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.5, 0.5], [0.9, 0.05])
        flow = qra.GradientFlow(qra.RLIF(), problem)  # the wrong pattern is the more certain one
        ```

    Source: arXiv 2506.04695 v2, section 3.
    """
    return _regularised(reward, beta)
