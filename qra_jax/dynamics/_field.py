"""The flow of one question's patterns as a vector field on their probability simplex.

(F1): docs/derivations.md#fixed-points-and-their-spectra.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, check_probabilities, is_concrete, require, require_all, whole
from .._core.floats import safe_log, snapped_difference, unit_of
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..flows._geometry import Natural
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._tabular import log_of_probability
from ..policies._two_stage import AbstractTablePolicy


class PatternField(eqx.Module):
    r"""The vector field of one question's patterns; the other questions stay at the policy.

    Everything is a function of $\log \pi$ `(R,)`, `-inf` for patterns that do not exist. `scale`
    is how large pulls are, to which their rounding is relative, and `unit` a power of 2 near it, in
    which they are computed; both are 1 unless `measured`.
    """

    flow: GradientFlow
    policy: AbstractTablePolicy
    reference: AbstractPolicy
    question: int = eqx.field(static=True)
    scale: Float[Array, ""] | float = 1.0
    unit: Float[Array, ""] | float = 1.0

    def measured(self) -> "PatternField":
        """The same with `scale` and `unit` from its pulls half-way to the corners."""
        number = jnp.sum(self.exists)

        def at(corner):
            probs = jnp.where(self.exists, (1 + number * corner) / (2 * number), 0)
            pull = self.pull(safe_log(probs))
            return jnp.max(jnp.where(self.exists & (corner.sum() > 0), jnp.abs(pull), 0))

        corners = jnp.eye(self.num_patterns, dtype=self.log_probs.dtype) * self.exists[:, None]
        pulls = jnp.max(jax.vmap(at)(corners))
        # What values were rounded to may be larger than all their differences.
        reward, problem = self.flow.objective.reward, self.flow.problem
        gaps = self.policy.pattern_gaps(problem, reward)
        weight = problem.weights[self.question].astype(pulls.dtype)
        size = jnp.where(self.exists, gaps.size[self.question], 0)
        size = weight * gaps.unit[self.question] * jnp.max(size)
        scale = jax.lax.stop_gradient(pulls + jnp.where(jnp.isfinite(size), size, 0))
        return PatternField(
            self.flow, self.policy, self.reference, self.question, scale, unit_of(scale[None], 0)[0]
        )

    @property
    def log_probs(self) -> Float[Array, " R"]:
        return self.policy.log_probs()[0][self.question]

    @property
    def exists(self) -> Bool[Array, " R"]:
        return self.log_probs > -jnp.inf

    @property
    def num_patterns(self) -> int:
        return self.policy.num_patterns

    def at(self, log_probs: Float[Array, " R"]) -> AbstractTablePolicy:
        """The policy with these pattern probabilities."""
        logits = self.policy.pattern_logits.at[self.question].set(log_probs)
        return self.policy.with_pattern_logits(logits)

    def objective(self, log_probs: Float[Array, " R"]) -> Float[Array, ""]:
        """What is maximised; infinite where a penalty is."""
        return self.flow.objective.surrogate(self.at(log_probs), self.flow.problem, self.reference)

    def logit_velocity(self, log_probs: Float[Array, " R"]) -> Float[Array, " R"]:
        r"""$\dot\theta$, the motion of the logits."""
        return self._velocity(self.flow, log_probs)

    def pull(self, log_probs: Float[Array, " R"]) -> Float[Array, " R"]:
        r"""$(\partial J / \partial \theta_r) / \pi_r$, the advantage of each pattern as the
        objective sees it: 0 for all patterns that are there, at a fixed point.

        Of patterns so rare that their probability, or its powers in derivatives, would underflow,
        it is continued as a straight line in $\log \pi_r$: that of a reverse KL is one.
        """
        log_tiny = float(np.log(jnp.finfo(log_probs.dtype).tiny))
        ends = jnp.asarray([0.3 * log_tiny, 0.2 * log_tiny], log_probs.dtype)
        there = log_probs > -jnp.inf
        rare = there & (log_probs < ends[0])
        natural = eqx.tree_at(lambda flow: flow.geometry, self.flow, Natural())
        points = jnp.where(rare[None], ends[:, None], log_probs[None])
        pulls = jax.vmap(lambda point: self._velocity(natural, point))(points)
        # A line of rounding alone would meet 0 somewhere, too.
        size = jnp.maximum(jnp.abs(pulls[0]), jnp.abs(pulls[1]))
        slope = snapped_difference(pulls[0], pulls[1], size) / (ends[0] - ends[1])
        return pulls[0] + jnp.where(rare, slope * (jnp.where(rare, log_probs, 0) - ends[0]), 0)

    def growth(self, log_probs: Float[Array, " R"]) -> Float[Array, " R"]:
        r"""$d \log \pi_r / dt = \dot\theta_r - \sum_j \pi_j \dot\theta_j$."""
        velocity = self.logit_velocity(log_probs)
        return velocity - jnp.sum(jnp.exp(jax.nn.log_softmax(log_probs)) * velocity)

    def equations(self, mask: Bool[Array, " R"], logits: Float[Array, " R"]) -> Float[Array, " R"]:
        """(F1): what is 0 at a fixed point of a face with normalised `logits`, as many equations as
        unknowns: the pulls on its patterns (in `unit`), whose mean is 0 by itself, and the
        normalisation."""
        total = jax.nn.logsumexp(jnp.where(mask, logits, -jnp.inf))
        pulls = self.pull(jnp.where(mask, logits, -jnp.inf) - total)
        return jnp.where(mask, pulls / self.unit + total, logits)

    @property
    def rounding(self) -> Float[Array, ""]:
        """Rounding errors of a pull."""
        return jnp.finfo(self.policy.pattern_logits.dtype).eps * jnp.asarray(self.scale)

    def _velocity(self, flow: GradientFlow, log_probs: Float[Array, " R"]) -> Float[Array, " R"]:
        params, frozen = flow.split(self.at(log_probs))
        moved: Any = flow.velocity(params, frozen, self.reference, self.unit)
        return moved.pattern_logits[self.question] * self.unit


def on_face(mask: Bool[Array, " R"], logits: Float[Array, " R"]) -> Float[Array, " R"]:
    """Log-probabilities on a face."""
    return jax.nn.log_softmax(jnp.where(mask, logits, -jnp.inf))


def pattern_field(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    question: int,
    reference: AbstractPolicy | None,
) -> PatternField:
    """The field of one question, after all checks.

    **Raises:** `ValueError` or `TypeError` unless the flow moves the patterns of a table alone.
    """
    flow = check_solve(policy, flow, reference)
    policy = having(policy, AbstractTablePolicy, "for a field on the simplex")
    require(flow.freezes_answers, "flow.trainable", 'be "patterns"', flow.trainable)
    number = whole(question, "question", 0)
    last = policy.num_questions - 1
    require(number <= last, "question", f"be at most {last}", number)
    return PatternField(flow, policy, policy if reference is None else reference, number)


def log_probs_of(
    field: PatternField, pattern_probs: ArrayLike, ndim: int | None = None
) -> Float[Array, "*batch R"]:
    """Logarithms of given pattern probabilities, after checks of shape and values."""
    probs = as_float(pattern_probs, "pattern_probs").astype(field.policy.pattern_logits.dtype)
    wanted = field.num_patterns
    fits = probs.ndim >= 1 and probs.shape[-1] == wanted and ndim in (None, probs.ndim)
    shape = f"({'..., ' if ndim is None else '' if ndim == 1 else 'N, '}{wanted})"
    require(fits, "pattern_probs", f"have shape {shape}", probs.shape)
    check_probabilities(probs, "pattern_probs", 1e-5 if probs.dtype == jnp.float32 else 1e-6)
    if is_concrete(field.exists):
        lacking = jnp.where(field.exists, 0, probs)
        must = "be 0 where the pattern does not exist (policy has probability 0)"
        require_all(lacking, lambda x: x == 0, "pattern_probs", must)
    log_probs = jnp.where(field.exists, log_of_probability(probs), -jnp.inf)
    return jax.nn.log_softmax(log_probs)


@eqx.filter_jit
def _velocities(field: PatternField, log_probs: Float[Array, "*batch R"]):
    def one(log_probs):
        return jnp.exp(log_probs) * field.growth(log_probs)

    flat = log_probs.reshape(-1, log_probs.shape[-1])
    return jax.vmap(one)(flat).reshape(log_probs.shape)


def simplex_velocity(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    pattern_probs: ArrayLike,
    *,
    question: int = 0,
    reference: AbstractPolicy | None = None,
) -> Float[Array, "*batch R"]:
    r"""The flow on the simplex, $\dot\pi_r = \pi_r (\dot\theta_r - \sum_j \pi_j \dot\theta_j)$.

    **Arguments:** `flow`: on patterns (frozen answers), or a `Problem` for Euclidean RLVR;
    `policy`: a `TabularPolicy` that gives the answers, and the patterns of other questions;
    `pattern_probs`: `(..., R)`, the points asked about; `question`: whose patterns; `reference`:
    what regularisers compare with, `policy` if not given.

    **Returns:** `(..., R)`, per unit of the flow's time; each sums to 0.

    **Raises:** `TypeError` or `ValueError` for a policy that is no table, trained answers, or
    probabilities that do not fit or do not sum to 1.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        print(qra.dynamics.simplex_velocity(policy, problem, [0.2, 0.2, 0.6]))
        ```

    Source: arXiv 2506.04695, section 5; in these coordinates derived in
    docs/derivations.md#fixed-points-and-their-spectra.
    """
    field = pattern_field(policy, flow, question, reference)
    return _velocities(field, log_probs_of(field, pattern_probs))
