r"""Sampled groups: how a step is estimated from samples."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from .._core.checks import instance, positive, require, whole
from ..objectives._utilities import AbstractUtility, Mean
from ..policies._policy import AbstractSampledPolicy, Outcomes
from ..policies._token_values import RewardValues, as_token_values, reward_table
from ._estimators import AbstractEstimator, Groups, SampledGRPO, pick_each


def _as_clip(clip: float | Sequence[float] | None) -> tuple[float, float] | None:
    if clip is None:
        return None
    pair = tuple(clip) if isinstance(clip, tuple | list) else (clip, clip)
    require(len(pair) == 2, "clip", "be a number or a pair of numbers", clip)
    return positive(pair[0], "clip"), positive(pair[1], "clip")


class SampledGroups(eqx.Module):
    r"""How a step is estimated: groups of samples, their advantages and the loss.

    A sample x is a pattern and an answer, $\pi(x) = \pi(r|q) \pi(a|q,r)$ (a `MarkovPolicy` draws
    whole sequences of tokens), and $\rho$ the ratio of its probability to that at which it was
    drawn. The loss of a group is
    $L = -\frac1G \sum_i \min\big(\rho_i a_i, \mathrm{clip}(\rho_i, 1 - \epsilon_l, 1 + \epsilon_h)
    \, a_i\big)$.

    **Arguments:**

    - `group_size`: G, samples of a question.
    - `batch`: groups a step, their questions drawn by weight with replacement, and averaged. If
      not given, one group of every question, summed by weight. Either way the expected step is
      that of the objective.
    - `estimator`: an `AbstractEstimator`, `SampledGRPO()` if not given (population deviation,
      groups of equal rewards dropped).
    - `clip`: $\epsilon$, or the pair $(\epsilon_l, \epsilon_h)$; no clipping if not given.
    - `epochs`: E, updates of the optimiser with the same samples. Only beyond the first does the
      ratio leave 1.

    **Raises:** `ValueError` if a number is below 1, `group_size` too small for the estimator (1
    where it needs a mean or deviation of the group), or `clip` not above 0; `TypeError` if the
    estimator is of another kind.

    ??? example

        ```python
        import qra_jax as qra
        sampler = qra.SampledGroups(16, estimator=qra.SampledGRPO(ddof=1), clip=0.2, epochs=2)
        exact = qra.Objective(qra.Verifiable(), utility=sampler.utility)  # its expectation
        ```

    Source: arXiv 2402.03300, section 4.1 (GRPO), 1707.06347, equation 7 (clipping).
    """

    group_size: int = eqx.field(static=True)
    batch: int | None = eqx.field(static=True)
    estimator: AbstractEstimator
    clip: tuple[float, float] | None = eqx.field(static=True)
    epochs: int = eqx.field(static=True)

    def __init__(
        self,
        group_size: int,
        batch: int | None = None,
        estimator: AbstractEstimator = SampledGRPO(),
        clip: float | Sequence[float] | None = None,
        epochs: int = 1,
    ):
        instance(estimator, AbstractEstimator, "estimator", "SampledGRPO() or RLOO()")
        group_size = whole(group_size, "group_size", 1)
        least = estimator.least_group
        name = type(estimator).__name__
        require(group_size >= least, "group_size", f"be at least {least} for {name}", group_size)
        self.group_size = group_size
        self.batch = None if batch is None else whole(batch, "batch", 1)
        self.estimator = estimator
        self.clip = _as_clip(clip)
        self.epochs = whole(epochs, "epochs", 1)

    @property
    def utility(self) -> AbstractUtility:
        """The utility whose exact gradient is the expectation of the first update of a step."""
        return self.estimator.utility(self.group_size)

    def check_utility(self, utility: AbstractUtility) -> None:
        """**Raises:** `ValueError` if the samples do not estimate the gradient of an objective of
        this utility."""
        same = jtu.tree_structure(utility) == jtu.tree_structure(self.utility)
        require(
            same or isinstance(utility, Mean),
            "flow.objective.utility",
            f"be the mean or that of the estimator, {self.utility!r}",
            repr(utility),
        )

    def loss(
        self, rewards: Groups, log_probs: Groups, drawn_at: Groups | None = None
    ) -> Float[Array, "*B"]:
        r"""The loss of given groups; its gradient in `log_probs` is the estimate's negative.

        **Arguments:** `(..., G)` each: `rewards`, constants; `log_probs`: $\log \pi$ of the
        samples, in nats; `drawn_at`: the same when they were drawn, the present if not given.

        **Returns:** `(...)`, in units of the advantages.
        """
        drawn_at = log_probs if drawn_at is None else drawn_at
        ratio = jnp.exp(log_probs - jax.lax.stop_gradient(drawn_at))
        advantages = jax.lax.stop_gradient(self.estimator.advantages(rewards))
        gain = ratio * advantages
        if self.clip is not None:
            low, high = self.clip
            gain = jnp.minimum(gain, jnp.clip(ratio, 1 - low, 1 + high) * advantages)
        return -jnp.mean(gain, axis=-1)

    def draw(
        self,
        key: PRNGKeyArray,
        weights: Float[Array, " Q"],
        policy: AbstractSampledPolicy,
        values: RewardValues,
    ) -> "Samples":
        """The samples of a step.

        Pattern and answer are drawn first, then what else belongs to the outcome, given these:
        groups that are drawn again until they differ or succeed need no second try.

        **Arguments:** `key`; `weights`: of the questions; `policy`; `values`: its rewards, as the
        reward returns them.
        """
        for_questions, for_groups = jax.random.split(key)
        log_joint = policy.log_joint()
        if self.batch is None:
            questions, share = jnp.arange(weights.shape[0]), weights
        else:
            uniforms = jax.random.uniform(for_questions, (self.batch,), weights.dtype)
            questions = pick_each(uniforms, weights)
            share = jnp.full(self.batch, 1 / self.batch, weights.dtype)
        over_questions, number, answers = log_joint.shape
        flat = over_questions, number * answers
        probs = jnp.exp(log_joint).reshape(flat)
        # Where rewards depend on more than the outcome, no estimator may look at them.
        rewards = reward_table(as_token_values(values).end, log_joint.shape).astype(probs.dtype)
        rewards = jnp.broadcast_to(rewards, log_joint.shape).reshape(flat)

        def group(key, question):
            return self.estimator.draw(key, probs[question], rewards[question], self.group_size)

        keys = jax.random.split(for_groups, questions.shape[0])
        drawn = jax.vmap(group)(keys, questions)
        outcomes = Outcomes(questions[:, None], drawn // answers, drawn % answers)
        outcomes = policy.complete(jax.random.fold_in(for_groups, 0), outcomes)
        earned = policy.reward_of(values, outcomes)
        return Samples(outcomes, share.astype(probs.dtype), earned, policy.log_prob_of(outcomes))


class Samples(eqx.Module):
    """The samples of a step: B groups, and what does not change while they are learnt from."""

    outcomes: Outcomes
    share: Float[Array, " B"]
    rewards: Float[Array, "B G"]
    drawn_at: Float[Array, "B G"]

    def loss(self, sampler: SampledGroups, policy: AbstractSampledPolicy) -> Float[Array, ""]:
        """The loss of the step at a policy."""
        now = policy.log_prob_of(self.outcomes)
        return jnp.sum(self.share * sampler.loss(self.rewards, now, self.drawn_at))
