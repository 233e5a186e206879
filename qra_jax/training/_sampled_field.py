r"""Mean and noise of the sampled ascent direction, as functions of a policy's parameters.

Source: derived in docs/training.md#the-mean-and-the-noise-of-a-step, where (S1) and (S2) are.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._core.checks import instance, is_concrete, require, require_all
from .._core.types import Scalar
from ..flows._flow import GradientFlow
from ..objectives._metrics import mean_accuracy
from ..objectives._objective import Objective
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._token_values import reward_table
from ..policies._two_stage import AbstractTwoStagePolicy
from ._groups import SampledGroups
from ._noise import Normals, StepNoise


def no_reward(policy: AbstractPolicy, problem: Problem) -> Float[Array, "1 1 1"]:
    """A reward of 0, for an objective of penalties alone."""
    return jnp.zeros((1, 1, 1), problem.weights.dtype)


class SampledField(eqx.Module):
    r"""The first two moments of a step's ascent direction, for policies that write down their
    patterns and rewards of 0 and 1.

    A step estimates the gradient in the pattern logits of each question, with the mean $\mu_q$ and
    the noise $\epsilon_q$ of `StepNoise`. A parameter moves by what these become through the
    derivative of the logits, $g = \sum_q J_q^\top (\mu_q + \epsilon_q)$ (S1), so mean and noise are
    found by one reverse pass each.
    """

    flow: GradientFlow
    objective: Objective
    noise: StepNoise
    reference: AbstractPolicy

    def _logits(self, params: PyTree, frozen: PyTree) -> Float[Array, "Q R"]:
        policy = having(eqx.combine(params, frozen), AbstractTwoStagePolicy, "for sampled steps")
        return policy.log_probs()[0]

    def _pulled(self, params: PyTree, frozen: PyTree, in_logits: Float[Array, "Q R"]) -> PyTree:
        """What a direction in the pattern logits is in the parameters. The entries of a question
        sum to 0, so log-probabilities serve as well as logits."""
        _, back = jax.vjp(lambda live: self._logits(live, frozen), params)
        policy = eqx.combine(params, frozen)
        return self.flow.geometry.direction(policy, back(in_logits)[0])

    def _tables(self, params: PyTree, frozen: PyTree):
        policy = eqx.combine(params, frozen)
        probs, rates = policy.pattern_table(self.flow.problem, self.objective.reward)
        return probs, rates, self.flow.problem.weights

    def normals(self, policy: AbstractPolicy) -> Normals:
        """Shapes of the normals that `spread` takes."""
        probs = jax.eval_shape(lambda: policy.pattern_table(self.flow.problem)[0])
        return self.noise.normals(probs.shape, probs.dtype)

    def mean(self, params: PyTree, frozen: PyTree) -> PyTree:
        """The mean of a step's ascent direction, penalties included (these are exact)."""
        drift = self._pulled(params, frozen, self.noise.mean(*self._tables(params, frozen)))
        regularisers = self.objective.regularisers
        if not regularisers:
            return drift
        penalties = Objective(no_reward, regularisers=regularisers)
        held = GradientFlow(
            penalties, self.flow.problem, self.flow.trainable, self.flow.geometry
        ).velocity(params, frozen, self.reference)
        return jtu.tree_map(jnp.add, drift, held)

    def spread(self, normals: Normals, params: PyTree, frozen: PyTree) -> PyTree:
        """The noise of a step's ascent direction, linear in its normals."""
        in_logits = self.noise.spread(normals, *self._tables(params, frozen))
        return self._pulled(params, frozen, in_logits)

    def number_of_normals(self, policy: AbstractPolicy) -> int:
        """How many normals a step has."""
        return sum(int(np.prod(x.shape)) for x in jtu.tree_leaves(self.normals(policy)))

    def _columns(self, flat: Float[Array, "N M"], params: PyTree, frozen: PyTree) -> PyTree:
        """The noise of each of N vectors of normals."""
        shapes = self.normals(eqx.combine(params, frozen))
        sizes = [int(np.prod(x.shape)) for x in jtu.tree_leaves(shapes)]

        def one(row: Float[Array, " M"]) -> PyTree:
            parts = jnp.split(row, np.cumsum(sizes)[:-1])
            leaves = zip(parts, jtu.tree_leaves(shapes), strict=True)
            normals = [part.reshape(like.shape) for part, like in leaves]
            return self.spread(jtu.tree_unflatten(jtu.tree_structure(shapes), normals),
                               params, frozen)  # fmt: skip

        return jax.vmap(one)(flat)

    def variance(self, params: PyTree, frozen: PyTree) -> PyTree:
        r"""The variance of each entry of a step's ascent direction, $\sum_m L_m^2$ (S2), $L_m$ the
        noise of the normal m alone."""
        number = self.number_of_normals(eqx.combine(params, frozen))
        dtype = jtu.tree_leaves(params)[0].dtype
        columns = self._columns(jnp.eye(number, dtype=dtype), params, frozen)
        return jtu.tree_map(lambda x: jnp.sum(x**2, axis=0), columns)

    def seen(self, params: PyTree, frozen: PyTree) -> tuple[Float[Array, "Q R"], Float[Array, ""]]:
        """Pattern probabilities and the accuracy at parameters."""
        row, problem = eqx.combine(params, frozen), self.flow.problem
        return row.pattern_table(problem)[0], mean_accuracy(row, problem)

    def moments(self, params: PyTree, frozen: PyTree) -> tuple[PyTree, PyTree]:
        """E[g] and E[g^2] of each entry of a step's ascent direction g."""
        mean, spread = self.mean(params, frozen), self.variance(params, frozen)
        return mean, jtu.tree_map(lambda m, s: m**2 + s, mean, spread)

    def clipped_moments(
        self, params: PyTree, frozen: PyTree, most: Scalar | float, normals: Float[Array, "N M"]
    ) -> tuple[PyTree, PyTree]:
        """The same of g min(1, most / |g|), |g| over all entries (S3), over given normals."""
        mean, noise = self.mean(params, frozen), self._columns(normals, params, frozen)
        drawn = jtu.tree_map(lambda m, e: m[None] + e, mean, noise)
        squares = [jnp.sum(x.reshape(len(x), -1) ** 2, axis=1) for x in jtu.tree_leaves(drawn)]
        norm = jnp.sqrt(jnp.sum(jnp.stack(squares), axis=0))
        factor = jnp.minimum(1, most / jnp.where(norm > 0, norm, most))
        cut = jtu.tree_map(lambda x: factor.reshape(-1, *[1] * (x.ndim - 1)) * x, drawn)
        return (
            jtu.tree_map(lambda x: jnp.mean(x, axis=0), cut),
            jtu.tree_map(lambda x: jnp.mean(x**2, axis=0), cut),
        )


def sampled_field(
    policy: AbstractPolicy,
    flow: GradientFlow,
    sampler: SampledGroups,
    reference: AbstractPolicy | None,
) -> SampledField:
    """The sampled field of a flow.

    **Raises:** `ValueError` unless answers are frozen, rewards are 0 or 1, the sampler has one
    epoch and the objective is one that its samples estimate; `TypeError` for a policy that does not
    write down its patterns.
    """
    instance(sampler, SampledGroups, "sampler", "SampledGroups(8)")
    table = having(policy, AbstractTwoStagePolicy, "for sampled steps")
    objective = flow.objective
    if not isinstance(objective, Objective):
        raise TypeError(f"flow.objective must be an Objective to be sampled, got {objective!r}")
    require(flow.freezes_answers, "flow.trainable", 'be "patterns"', flow.trainable)
    require(
        not objective.differentiate_reward,
        "differentiate_reward",
        "be False with a sampler (sampled rewards are constants)",
        True,
    )
    sampler.check_utility(objective.utility)
    joint = table.log_joint()
    paid = reward_table(objective.reward(policy, flow.problem), joint.shape)
    if is_concrete(paid):
        seen = np.where(np.asarray(joint) > -np.inf, np.broadcast_to(paid, joint.shape), 0)
        require_all(seen, lambda r: (r == 0) | (r == 1), "reward", "be 0 or 1")
    return SampledField(
        flow, objective, StepNoise(sampler), policy if reference is None else reference
    )
