"""Fine-tuning before RL: the total time as a differentiable function of data and duration.

(D1): docs/design.md#the-problem, (S1): docs/derivations.md#the-flow-of-supervised-fine-tuning.
"""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, as_scalar, check_probabilities, is_concrete, require
from .._core.compiled import compiled
from .._core.floats import safe_log
from .._core.roots import newton_in_bracket
from .._core.trees import largest
from .._core.types import Scalar
from ..flows._flow import GradientFlow
from ..objectives._objective import Objective
from ..objectives._rewards import Verifiable
from ..objectives._utilities import AbstractUtility, as_utility
from ..policies._problem import Problem
from ..policies._tabular import TabularPolicy, two_stage
from ..times._times import convergence

_MOST_STEPS = 4096
_PIECES = 16  # of the way to the longest duration, looked at for the floor
_LOOKS = 8  # for the floor, within one of them


class Task(eqx.Module):
    """D draws of one problem, with what a design costs and must keep."""

    logits: Float[Array, "D R"]
    answer_logits: Float[Array, "D R A"]
    available: Bool[Array, " R"]
    utility: AbstractUtility
    budget: Scalar
    floor: Scalar
    eps: Scalar
    cost: Scalar

    @property
    def exists(self) -> Bool[Array, "D R"]:
        return self.logits > -jnp.inf

    @property
    def offered(self) -> Bool[Array, " R"]:
        """The patterns that data can be of."""
        return self.available & jnp.any(self.exists, axis=0)

    def velocity(self, mixture: Float[Array, " R"], logits: Float[Array, "D R"]):
        # (S1). Data on a pattern that is not there teach nothing about those that are.
        share = jnp.where(self.exists, mixture[None], 0)
        return share - jnp.sum(share, axis=-1, keepdims=True) * jax.nn.softmax(logits)

    def entropy(self, logits: Float[Array, "D R"]) -> Scalar:
        """Mean over draws."""
        log_probs = jnp.where(self.exists, jax.nn.log_softmax(logits), 0)
        each = -jnp.sum(jnp.where(self.exists, jnp.exp(log_probs), 0) * log_probs, axis=-1)
        return jnp.mean(each)

    def log_rl_time(self, logits: Float[Array, "D R"]) -> Float[Array, " D"]:
        """RL from these policies; NaN where the solve failed."""

        def one(logits, answers):
            policy = TabularPolicy(logits[None], answers[None])
            objective = Objective(Verifiable(), utility=self.utility)
            flow = GradientFlow(objective, Problem(jnp.zeros(1, jnp.int32)))
            return convergence(policy, flow, self.eps).log_time[0]

        return jax.vmap(one)(logits, self.answer_logits)

    def score(self, duration: Scalar, log_rl_time: Float[Array, " D"]) -> Scalar:
        # (D1). A mean of logarithms, lest the slowest draw decide everything; the 1 keeps a draw
        # that is solved already, of log time -inf, from doing so.
        return jnp.mean(jnp.logaddexp(jnp.log1p(self.cost * duration), log_rl_time))

    def log_total(self, duration: Scalar, log_rl_time: Float[Array, " D"]) -> Float[Array, " D"]:
        return jnp.logaddexp(safe_log(self.cost * duration), log_rl_time)


def as_task(pattern_probs, success_rates, available, utility, budget, floor, eps, cost):
    """The task, and the rates `(D, R)`, after all checks."""
    probs, rates = (
        as_float(pattern_probs, "pattern_probs"),
        as_float(success_rates, "success_rates"),
    )
    require(probs.ndim in (1, 2) and probs.size > 0, "pattern_probs",
            "have shape (R,) or (D, R)", probs.shape)  # fmt: skip
    policy, problem = two_stage(probs, rates)
    dtype = policy.pattern_logits.dtype
    _, rates = policy.pattern_table(problem)
    eps = as_scalar(eps, "eps", lambda e: (e > 0) & (e < 1), "lie strictly between 0 and 1")
    cost = as_scalar(cost, "cost", lambda c: (c >= 0) & (c < jnp.inf), "be finite, at least 0")
    budget = as_scalar(budget, "budget", lambda b: (b >= 0) & (b <= 1e4), "lie in [0, 1e4]")
    floor = as_scalar(floor, "floor", lambda h: (h >= 0) & (h < jnp.inf), "be finite, at least 0")
    scalars = (x.astype(dtype) for x in (budget, floor, eps, cost))
    shape = rates.shape[1:]
    offer = jnp.ones(shape, bool) if available is None else jnp.asarray(available)
    fits = offer.shape == shape and offer.dtype == bool
    require(fits, "available", f"be booleans of shape {shape}", f"{offer.dtype} {offer.shape}")
    task = Task(policy.pattern_logits, policy.answer_logits, offer, as_utility(utility), *scalars)
    if is_concrete(task.offered):
        some = bool(jnp.any(task.offered))
        require(some, "available", "hold a pattern that exists", np.asarray(offer).tolist())
    return task, rates


def _solve(task: Task, mixture, start, duration) -> diffrax.Solution:
    """The flow of SFT in units of its duration; `solve_flow` with its clocks and its landing on
    events compiles ten times as long, which an optimiser pays three times over."""
    tolerance = 1e-10 if start.dtype == jnp.float64 else 1e-6

    def field(t, moved, args):
        start, mixture, duration = args
        return duration * task.velocity(mixture, start + moved)

    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        t0=jnp.zeros((), start.dtype),
        t1=jnp.ones((), start.dtype),
        # A first step of at most one unit of SFT time, as logits move at a speed of at most 1.
        dt0=1 / jnp.maximum(1, jax.lax.stop_gradient(duration)),
        # The change of the logits, not the logits: patterns that are not there have -inf.
        y0=jnp.zeros_like(start),
        args=(start, mixture, duration),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance, norm=largest),
        max_steps=_MOST_STEPS,
        throw=False,
    )


def tuned(task: Task, mixture, start, duration) -> Float[Array, "D R"]:
    """Logits after SFT; NaN if the solve failed."""
    solution = _solve(task, mixture, start, duration)
    assert solution.ys is not None
    moved = jnp.where(solution.result == diffrax.RESULTS.successful, solution.ys[0], jnp.nan)
    return start + moved


class Longest(NamedTuple):
    """The longest duration that budget and floor allow on some data."""

    duration: Scalar
    binding: Bool[Array, ""]  # whether the floor is met before the budget is used up


def longest(task: Task, mixture: Float[Array, " R"]) -> Longest:
    dtype = task.logits.dtype
    # Evenly in log(1 + s). A dip of the entropy between two of these goes unseen.
    ends = jnp.expm1(jnp.log1p(task.budget) * jnp.linspace(0, 1, _PIECES + 1, dtype=dtype))

    def onwards(logits, duration):
        logits = tuned(task, mixture, logits, duration)
        return logits, logits

    _, rows = jax.lax.scan(onwards, task.logits, jnp.diff(ends))
    below = jax.vmap(task.entropy)(rows) < task.floor
    met, first = jnp.any(below), jnp.argmax(below)
    before = jnp.where(first > 0, rows[first - 1], task.logits)
    start, width = ends[first], jnp.where(met, ends[first + 1] - ends[first], 0)

    # Always from where the bracket begins: SFT forgets errors forwards,
    # and magnifies them backwards.
    def look(duration, aux):
        logits = tuned(task, mixture, before, duration)
        # The entropy falls towards the floor: with the sign turned, a function that rises through
        # 0.
        value, slope = jax.jvp(task.entropy, (logits,), (task.velocity(mixture, logits),))
        return task.floor - value, -slope, aux

    small = 1e-9 if dtype == jnp.float64 else 1e-5
    bracket = jnp.zeros_like(width), width
    found = newton_in_bracket(look, width, bracket, lambda _: small, wanted=met, most=_LOOKS)
    # The low end of the bracket keeps the floor, whatever has become of the search.
    within = jnp.where(found.arrived, found.root, found.low)
    failed = jnp.any(jnp.isnan(rows))
    duration = jnp.where(met, start + within, task.budget)
    return Longest(jnp.where(failed, jnp.nan, duration), met)


def mixture_of(task: Task, logits: Float[Array, " R"]) -> Float[Array, " R"]:
    return jax.nn.softmax(jnp.where(task.offered, logits, -jnp.inf))


def design_score(task: Task, logits: Float[Array, " R"], log_odds: Scalar) -> Scalar:
    """The score as a function without constraints: data `softmax(logits)`, for a share
    `sigmoid(log_odds)` of the longest duration that they allow."""
    mixture, share = mixture_of(task, logits), jax.nn.sigmoid(log_odds)
    # The search itself is not differentiated: a root's derivatives follow from the equation it
    # solves.
    limit = longest(*jax.lax.stop_gradient((task, mixture)))

    # Where the limit is the floor, it moves with the mixture: one Newton step on the entropy at the
    # limit, next to nothing in value, has the derivative of the implicit function.
    def onwards(logits, share):
        logits = tuned(task, mixture, logits, share * limit.duration)
        return logits, logits

    # One solve to the duration chosen, and on from there to the limit.
    _, (there, end) = jax.lax.scan(onwards, task.logits, jnp.stack([share, 1 - share]))
    moving = jax.lax.stop_gradient(task.velocity(mixture, end))
    still = jax.lax.stop_gradient(end)
    _, falling = jax.jvp(task.entropy, (still,), (moving,))
    # Where the budget is what binds, the limit is a constant.
    usable = limit.binding & (falling < 0)
    excess = jnp.where(usable, task.entropy(end) - task.floor, 0)
    later = excess / jnp.where(usable, -jax.lax.stop_gradient(falling), 1)
    duration = share * (limit.duration + later)
    # The same step, for the state at the share of the duration.
    there = there + task.velocity(mixture, there) * (share * later)
    return task.score(duration, task.log_rl_time(there))


def log_total_time(
    pattern_probs: ArrayLike,
    success_rates: ArrayLike,
    mixture: ArrayLike,
    duration: ArrayLike,
    *,
    eps: ArrayLike = 0.01,
    cost: ArrayLike = 1.0,
    utility: AbstractUtility | None = None,
) -> Float[Array, "*draws"]:
    r"""$\log(c s + T_\epsilon)$: fine-tuning on pattern shares $\mu$ for a duration s,
    $\dot\theta = \mu - \pi$, and then RL until $\pi(r^*) = 1 - \epsilon$.

    **Arguments:** `mixture`: `(R,)`, the shares $\mu$, with sum 1; `duration`: s, learning rate
    times steps, at least 0; the others as for `design_sft`.

    **Returns:** `(*draws)`, natural logarithms in the time of RL; `-inf` where nothing is left to
    do, NaN where a solve failed. Differentiable in all arrays.

    **Raises:** `ValueError` for arguments out of range.

    ??? example

        ```python
        import qra_jax as qra
        start = [0.05, 0.70, 0.25], [0.9, 0.7, 0.1]
        print(qra.fine_tuning.log_total_time(*start, [1.0, 0.0, 0.0], 3.0))
        ```

    Source: arXiv 2506.04695 v1 (SFT before RLVR); derived in
    docs/derivations.md#the-flow-of-supervised-fine-tuning.
    """
    task, _ = as_task(pattern_probs, success_rates, None, utility, 0.0, 0.0, eps, cost)
    dtype = task.logits.dtype
    shares = as_float(mixture, "mixture").astype(dtype)
    wanted = task.logits.shape[1:]
    require(shares.shape == wanted, "mixture", f"have shape {wanted}", shares.shape)
    check_probabilities(shares, "mixture", 1e-5)
    duration = as_scalar(duration, "duration", lambda s: (s >= 0) & (s <= 1e4), "lie in [0, 1e4]")
    found = _log_total(task, shares, duration.astype(dtype))
    return found[0] if as_float(pattern_probs, "pattern_probs").ndim == 1 else found


@compiled
def _log_total(task: Task, mixture, duration) -> Float[Array, " D"]:
    logits = tuned(task, mixture, task.logits, duration)
    return task.log_total(duration, task.log_rl_time(logits))
