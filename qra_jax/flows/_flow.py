"""The gradient flow of an objective: a vector field on the trainable part of a policy."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import ArrayLike, PyTree

from .._core.checks import instance, require
from ..objectives._objective import RLVR, AbstractObjective
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._geometry import AbstractGeometry, Euclidean

Filter = Callable[[Any], PyTree[bool]]


def _part_filter(name: str) -> Filter:
    # Module-level functions, so that equal flows are equal and share a compilation.
    return {"patterns": _patterns, "all": _all}[name]


def _patterns(policy: AbstractPolicy) -> PyTree[bool]:
    return policy.part("patterns")


def _all(policy: AbstractPolicy) -> PyTree[bool]:
    return policy.part("all")


class GradientFlow(eqx.Module):
    r"""The flow $\dot\theta = \nabla_\theta J$ of an objective on a problem.

    Time is learning rate times steps; its unit is that of 1/reward (of $\theta$ per unit of J).

    **Arguments:**

    - `objective`: what is maximised.
    - `problem`: the questions.
    - `trainable`: `"patterns"` (the answer layer is frozen: Assumption 5.1), `"all"`, or a
      function from a policy to its structure with a bool at each leaf.
    - `geometry`: an `AbstractGeometry`: `Euclidean()` (if not given) or `Natural()`.

    **Raises:** `ValueError` for an unknown part, `TypeError` for an argument of another kind.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        flow = qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural())
        print(qra.log_entanglement_time(policy, flow))  # log of 3.38506
        ```

    Source: arXiv 2506.04695, section 5.
    """

    objective: AbstractObjective
    problem: Problem
    trainable: Filter = eqx.field(static=True)
    geometry: AbstractGeometry

    def __init__(
        self,
        objective: AbstractObjective,
        problem: Problem,
        trainable: Literal["patterns", "all"] | Filter = "patterns",
        geometry: AbstractGeometry = Euclidean(),
    ):
        instance(objective, AbstractObjective, "objective", "RLVR() or Objective(...)")
        instance(problem, Problem, "problem", "Problem([0])")
        if isinstance(trainable, str):
            known = ("patterns", "all")
            require(trainable in known, "trainable", f"be one of {known}", repr(trainable))
            trainable = _part_filter(trainable)
        elif isinstance(trainable, type) or not callable(trainable):
            must = 'trainable must be "patterns", "all" or a function of the policy'
            raise TypeError(f"{must}, got {trainable!r}")
        instance(geometry, AbstractGeometry, "geometry", "Euclidean() or Natural()")
        self.objective = objective
        self.problem = problem
        self.trainable = trainable
        self.geometry = geometry

    @property
    def freezes_answers(self) -> bool:
        """Whether the answer layer is known not to move (Assumption 5.1)."""
        return self.trainable is _patterns

    @property
    def trains_all(self) -> bool:
        """Whether patterns and answers are both trained."""
        return self.trainable is _all

    def split(self, policy: AbstractPolicy) -> tuple[PyTree, PyTree]:
        """The policy's trainable and frozen leaves, each with None in place of the other."""
        return eqx.partition(policy, self.trainable(policy))

    def velocity(
        self, params: PyTree, frozen: PyTree, reference: AbstractPolicy, unit: ArrayLike = 1.0
    ) -> PyTree:
        r"""The vector field $\dot\theta(\theta)$.

        **Arguments:** `params`, `frozen`: as `split` returns them; `reference`: the policy that
        regularisers compare with; `unit`: what the velocity is divided by, at the source, so that
        rewards of 1e-300 do not underflow on the way.

        **Returns:** the structure of `params`, per unit of time, divided by `unit`.
        """
        policy = eqx.combine(params, frozen)

        def objective(params):
            live = eqx.combine(params, frozen)
            # `held` enters from outside: this gradient takes rewards as constants, but one taken
            # of the whole solve does not.
            return self.objective.surrogate(live, self.problem, reference, policy) / unit

        return self.geometry.direction(policy, jax.grad(objective)(params))

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        """Raise `ValueError` if policy, problem and objective do not fit together."""
        policy.validate(self.problem)
        self.objective.validate(policy, self.problem, reference)


def as_flow(flow: "GradientFlow | Problem") -> GradientFlow:
    """`flow` itself; a `Problem` stands for Euclidean RLVR on patterns with beta = 0."""
    if isinstance(flow, Problem):
        return GradientFlow(RLVR(), flow)
    if not isinstance(flow, GradientFlow):
        raise TypeError(f"flow must be a GradientFlow or a Problem, got {flow!r}")
    return flow
