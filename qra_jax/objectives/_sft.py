"""Supervised fine-tuning as an objective."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, check_probabilities, is_concrete, require, require_all
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._two_stage import AbstractTwoStagePolicy
from ._objective import AbstractObjective
from ._rewards import AbstractReward, Verifiable


class SFT(AbstractObjective):
    r"""Fine-tuning on pattern shares $\mu$: $J = \sum_q D(q) \sum_r \mu_r \log \pi(r|q)$.

    Its Euclidean flow is $\dot\theta_r = D(q) (\mu_r - \pi_r)$.

    **Arguments:** `pattern_targets`: `(R,)` or `(Q, R)`, the shares $\mu$ of the data set,
    non-negative and summing to 1.

    **Raises:** `ValueError` if a share is negative or NaN, or they do not sum to 1.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        flow = qra.GradientFlow(qra.SFT([0.5, 0.5, 0.0]), problem)
        tuned = qra.solve_flow(policy, flow, log_times=[0.0]).final_policy
        ```

    Source: arXiv 2506.04695 v1 (SFT before RLVR); the flow is derived in
    docs/derivations.md#the-flow-of-supervised-fine-tuning.
    """

    pattern_targets: Float[Array, "..."]
    reward: AbstractReward

    def __init__(self, pattern_targets: ArrayLike):
        targets = as_float(pattern_targets, "pattern_targets")
        require(
            targets.ndim in (1, 2), "pattern_targets", "have shape (R,) or (Q, R)", targets.shape
        )
        check_probabilities(targets, "pattern_targets", 1e-5)
        self.pattern_targets = targets
        self.reward = Verifiable()

    def surrogate(
        self,
        policy: AbstractPolicy,
        problem: Problem,
        reference: AbstractPolicy,
        held: AbstractPolicy | None = None,
    ) -> Float[Array, ""]:
        log_patterns, _ = having(policy, AbstractTwoStagePolicy, "for SFT").log_probs()
        targets = self.pattern_targets.astype(log_patterns.dtype)
        wanted = jnp.broadcast_to(targets, log_patterns.shape)
        log_patterns = jnp.where(policy.exists, log_patterns, 0)
        return problem.mean(jnp.sum(wanted * log_patterns, axis=-1))

    @property
    def has_interior_optimum(self) -> bool:
        return True

    def validate(self, policy: AbstractPolicy, problem: Problem, reference: AbstractPolicy) -> None:
        probs, _ = policy.pattern_table(problem)
        shape = self.pattern_targets.shape
        require(
            shape in (probs.shape, probs.shape[1:]),
            "pattern_targets",
            f"have shape {probs.shape} or {probs.shape[1:]}",
            shape,
        )
        if is_concrete(policy, self.pattern_targets):
            require_all(
                jnp.where(probs == 0, self.pattern_targets, 0),
                lambda share: share == 0,
                "pattern_targets",
                "be 0 where the pattern does not exist (probability 0)",
            )
