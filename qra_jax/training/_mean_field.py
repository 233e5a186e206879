r"""Optimisers with memory as ordinary differential equations of their moments.

Source: derived in docs/training.md#optimisers-as-equations, where (A1) to (A4) are.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from scipy.stats import qmc

from .._core.checks import as_float, instance, is_concrete, positive, require, require_all
from .._core.trees import Present, all_usable
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._groups import SampledGroups
from ._sampled_field import SampledField, sampled_field

_NORMALS = 256
LearningRate = float | Callable[[Any], Any]


class Moments(NamedTuple):
    """Running means of the gradient and of its square, with their zeros at the start."""

    first: PyTree
    second: PyTree


class AbstractMeanField(eqx.Module):
    """An optimiser as a differential equation in the number of steps."""

    learning_rate: eqx.AbstractVar[LearningRate]

    def rate(self, step: Float[Array, ""]) -> Float[Array, ""]:
        """The learning rate at a step, which may lie between two."""
        given = self.learning_rate
        return jnp.asarray(given(step) if callable(given) else given, step.dtype)

    @abc.abstractmethod
    def velocity(
        self, step: Float[Array, ""], params: PyTree, moments: Moments, mean: PyTree, square: PyTree
    ) -> tuple[PyTree, Moments]:
        """How fast parameters and moments move, per step.

        **Arguments:** `step`; `params`; `moments`; `mean`, `square`: E[g] and E[g^2] of the ascent
        direction g of a step at these parameters.
        """


def _pull(decay: float, step: Float[Array, ""]):
    """The rate per step at which a running mean forgets, and the weight it has gathered."""
    forgets = -np.log(decay)
    return forgets, -jnp.expm1(-forgets * step)


class MeanFieldAdam(AbstractMeanField):
    r"""Adam and AdamW, $m' = \lambda_1 (E g - m)$, $v' = \lambda_2 (E g^2 - v)$, $\theta' = h
    \big(\hat m / (\sqrt{\hat v} + \epsilon) - w \theta\big)$ per step, $\lambda_i = -\log \beta_i$
    and $\hat m = m / (1 - \beta_1^n)$ (A2).

    **Arguments:** `learning_rate`: h, a number above 0 or a schedule of optax (a function of the
    step); `b1`, `b2`: $\beta_1$ and $\beta_2$, in (0, 1); `eps`: $\epsilon$, at least 0;
    `weight_decay`: w, at least 0.

    **Raises:** `ValueError` if a number is out of range.

    Source: arXiv 1412.6980 (Adam), 1711.05101 (AdamW); derived in
    docs/training.md#optimisers-as-equations.
    """

    learning_rate: LearningRate = eqx.field(static=True)
    b1: float = eqx.field(static=True)
    b2: float = eqx.field(static=True)
    eps: float = eqx.field(static=True)
    weight_decay: float = eqx.field(static=True)

    def __init__(
        self,
        learning_rate: LearningRate,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.learning_rate = _learning_rate(learning_rate)
        for name, value in (("b1", b1), ("b2", b2)):
            require(0 < value < 1, name, "lie between 0 and 1", value)
        require(0 <= eps < np.inf, "eps", "be at least 0", eps)
        require(0 <= weight_decay < np.inf, "weight_decay", "be at least 0", weight_decay)
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay

    def velocity(
        self, step: Float[Array, ""], params: PyTree, moments: Moments, mean: PyTree, square: PyTree
    ) -> tuple[PyTree, Moments]:
        (first, gathered), (second, kept) = _pull(self.b1, step), _pull(self.b2, step)
        rate = self.rate(step)

        def corrected(moment, now, weight):
            # Before anything is gathered a running mean is what comes first.
            return jnp.where(step > 0, moment / jnp.where(step > 0, weight, 1), now)

        def move(x, m, v, g, s):
            m, v = corrected(m, g, gathered), corrected(v, s, kept)
            # Where nothing has ever pulled, 0/0 means no move.
            root = jnp.sqrt(jnp.maximum(v, 0)) + self.eps
            ahead = jnp.where(root > 0, m / jnp.where(root > 0, root, 1), 0)
            return rate * (ahead - self.weight_decay * x)

        moved = jtu.tree_map(move, params, moments.first, moments.second, mean, square)
        return moved, Moments(
            jtu.tree_map(lambda m, g: first * (g - m), moments.first, mean),
            jtu.tree_map(lambda v, s: second * (s - v), moments.second, square),
        )


class MeanFieldMomentum(AbstractMeanField):
    r"""Gradient ascent with momentum, $m' = \lambda (E g / (1 - \mu) - m)$, $\theta' = h m$ per
    step, $\lambda = -\log \mu$ (A3); plain gradient ascent if $\mu = 0$.

    **Arguments:** `learning_rate`: h, a number above 0 or a schedule; `momentum`: $\mu$, in [0, 1).

    **Raises:** `ValueError` if a number is out of range.

    Source: derived in docs/training.md#optimisers-as-equations.
    """

    learning_rate: LearningRate = eqx.field(static=True)
    momentum: float = eqx.field(static=True)

    def __init__(self, learning_rate: LearningRate, momentum: float = 0.0):
        self.learning_rate = _learning_rate(learning_rate)
        require(0 <= momentum < 1, "momentum", "lie in [0, 1)", momentum)
        self.momentum = momentum

    def velocity(
        self, step: Float[Array, ""], params: PyTree, moments: Moments, mean: PyTree, square: PyTree
    ) -> tuple[PyTree, Moments]:
        rate, mu = self.rate(step), self.momentum
        still = jtu.tree_map(jnp.zeros_like, moments.second)
        if mu == 0:
            moved = jtu.tree_map(lambda g: rate * g, mean)
            return moved, Moments(jtu.tree_map(jnp.zeros_like, mean), still)
        forgets = -np.log(mu)
        pulled = jtu.tree_map(lambda m, g: forgets * (g / (1 - mu) - m), moments.first, mean)
        return jtu.tree_map(lambda m: rate * m, moments.first), Moments(pulled, still)


def _learning_rate(given: LearningRate) -> LearningRate:
    return given if callable(given) else positive(given, "learning_rate")


class MeanFieldRun(eqx.Module):
    """Training in the mean: T rows.

    - `steps`: `(T,)`; `pattern_probs`: `(T, Q, R)`; `accuracy`: `(T,)`, mean over questions by
      weight.
    - `status`: `COMPLETED` or `FAILED` (the solver gave up, or a row is not finite), as an integer.
    """

    steps: Float[Array, " T"]
    pattern_probs: Float[Array, "T Q R"]
    accuracy: Float[Array, " T"]
    status: Int[Array, ""]


@eqx.filter_jit
def _solve(
    policy: AbstractPolicy,
    field: SampledField,
    optimiser: AbstractMeanField,
    scale: PyTree,
    steps: Float[Array, " T"],
    tol: float,
    clip: tuple[float, Float[Array, "N M"]] | None,
) -> MeanFieldRun:
    params, frozen = field.flow.split(policy)
    present = Present.of(params)

    def advance(step, state, args):
        params, moments = state
        now = present.whole(params)
        found = field.moments(now, frozen) if clip is None else field.clipped_moments(
            now, frozen, *clip)  # fmt: skip
        mean, square = map(present.only, found)
        moved, pulled = optimiser.velocity(step, params, moments, mean, square)
        return jtu.tree_map(lambda x, s: s * x, present.only(moved), scale), pulled

    begun = present.only(params)
    zero = jtu.tree_map(jnp.zeros_like, begun)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(advance),
        diffrax.Tsit5(),
        jnp.zeros((), steps.dtype),
        steps[-1],
        None,
        (begun, Moments(zero, zero)),
        saveat=diffrax.SaveAt(ts=steps),
        stepsize_controller=diffrax.PIDController(rtol=tol, atol=1e-3 * tol, dtmax=None),
        max_steps=100_000,
        throw=False,
    )
    assert found.ys is not None
    rows = found.ys[0]

    probs, accuracy = jax.vmap(lambda row: field.seen(present.whole(row), frozen))(rows)
    good = (found.result == diffrax.RESULTS.successful) & all_usable(rows)
    status = jnp.where(good, Status.COMPLETED, Status.FAILED).astype(jnp.int32)
    return MeanFieldRun(steps, probs, accuracy, status)


def solve_mean_field(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    sampler: SampledGroups,
    optimiser: AbstractMeanField,
    *,
    steps: ArrayLike,
    scale: PyTree | None = None,
    reference: AbstractPolicy | None = None,
    max_norm: float | None = None,
    tol: float = 1e-6,
) -> MeanFieldRun:
    r"""Sampled training by an optimiser with memory, in the mean: an ordinary differential equation
    in the parameters and the optimiser's moments.

    The moments follow E[g] and E[g^2] of the sampled ascent direction, in closed form, noise
    included. It is what many runs do on average where steps are small and the optimiser remembers
    many of them; a single run scatters around it.

    **Arguments:**

    - `policy`: the start, of patterns and answers: a `TabularPolicy`, a `factor_policy`, ...
    - `flow`: a `GradientFlow` of rewards of 0 and 1 with frozen answers, or a `Problem`.
    - `sampler`: a `SampledGroups` of one epoch.
    - `optimiser`: `MeanFieldAdam` or `MeanFieldMomentum`.
    - `steps`: `(T,)`, rising from 0 or more: the numbers of steps at which rows are wanted.
    - `scale`: a learning rate of its own for each trained leaf, relative to the optimiser's: a tree
      like the trained part of the policy, or numbers for its subtrees; 1 everywhere if not given.
    - `reference`: the policy that regularisers compare with; the start if not given.
    - `max_norm`: gradients are clipped to this norm over all parameters first, as
      `optax.clip_by_global_norm` does; the means over noise are taken over 256 quasi-random normal
      vectors then.
    - `tol`: relative error of the solver per step.

    **Returns:** a `MeanFieldRun`.

    **Raises:** `ValueError` if steps are not in order, rewards are not 0 or 1, answers are trained,
    or the objective is not one that the samples estimate; `TypeError` for an argument of another
    kind.

    ??? example

        ```python
        import numpy as np
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        sampler = qra.SampledGroups(8, batch=32, estimator=qra.RLOO())
        adam = qra.training.MeanFieldAdam(1e-2)
        run = qra.training.solve_mean_field(
            policy, problem, sampler, adam, steps=np.linspace(0, 300, 31)
        )
        print(run.accuracy[-1])
        ```

    Source: derived in docs/training.md#optimisers-as-equations.
    """
    flow = check_solve(policy, flow, reference)
    instance(optimiser, AbstractMeanField, "optimiser", "MeanFieldAdam(1e-3)")
    wanted = as_float(steps, "steps")
    require(wanted.ndim == 1 and wanted.size > 0, "steps", "have shape (T,)", wanted.shape)
    if is_concrete(wanted):
        rows = np.asarray(wanted)
        require_all(rows, lambda x: (x >= 0) & (x < np.inf), "steps", "be at least 0")
        require(bool(np.all(np.diff(rows) > 0)), "steps", "rise", wanted)
        require(bool(rows[-1] > 0), "steps[-1]", "be above 0", rows[-1])
    field = sampled_field(policy, flow, sampler, reference)
    params, _ = flow.split(policy)
    given = 1.0 if scale is None else scale
    each = jtu.tree_map(lambda s, x: jtu.tree_map(lambda y: jnp.asarray(s, y.dtype), x),
                        given, params)  # fmt: skip
    clip = None
    if max_norm is not None:
        number = field.number_of_normals(policy)
        law = qmc.MultivariateNormalQMC(np.zeros(number), rng=np.random.default_rng(0))
        half = law.random(_NORMALS // 2)
        # With their mirror images: what is not clipped keeps its mean.
        both = jnp.asarray(np.concatenate([half, -half]), wanted.dtype)
        clip = positive(max_norm, "max_norm"), both
    return _solve(policy, field, optimiser, each, wanted, positive(tol, "tol"), clip)
