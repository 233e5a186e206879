"""Events: when to stop a solve."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._core.checks import as_float, check_probabilities, require, require_all
from .._core.floats import safe_log, snapped_difference
from .._core.types import Scalar
from ..objectives._rewards import AbstractReward, Verifiable
from ..policies._policy import AbstractPolicy, having
from ..policies._problem import Problem
from ..policies._two_stage import AbstractTablePolicy
from ._event import AbstractEvent, FlowState
from ._flow import GradientFlow


def _check_index(index: ArrayLike, name: str, number: int, whose: str) -> None:
    """Require an index below `number`, where it can be looked at."""
    array = jnp.asarray(index)
    must = f"index one of {whose}, from 0 to {number - 1}"
    require(jnp.issubdtype(array.dtype, jnp.integer), name, must, index)
    require_all(array, lambda i: (i >= 0) & (i < number), name, must)


def _check_question(question: ArrayLike, problem: Problem) -> None:
    _check_index(question, "question", problem.num_questions, "the problem's questions")


def _check_pattern(pattern: ArrayLike, policy: AbstractPolicy) -> None:
    _check_index(pattern, "pattern", policy.num_patterns, "the policy's patterns")


class ValueReaches(AbstractEvent):
    r"""The expected reward of one question, $V_q$, reaches a level.

    On the ODE route levels below 1e-290 lose digits to subnormal numbers; `Exact` keeps them.

    **Arguments:** `level`: in units of the reward; `question`: its index, or None for the mean
    over questions by weight; `direction`: `"rising"` (from below) or `"falling"`; `reward`: the
    reward meant, that of the flow's objective if None.

    **Raises:** `ValueError` if `direction` is unknown or the level NaN.
    """

    level: Float[Array, ""]
    question: Array | int | None
    direction: Literal["rising", "falling"] = eqx.field(static=True)
    reward: AbstractReward | None

    def __init__(
        self,
        level: ArrayLike,
        question: ArrayLike | None = None,
        direction: Literal["rising", "falling"] = "rising",
        reward: AbstractReward | None = None,
    ):
        known = ("rising", "falling")
        require(direction in known, "direction", f"be one of {known}", repr(direction))
        self.level = as_float(level, "level")
        require_all(self.level, lambda x: x == x, "level", "not be NaN")
        self.question = None if question is None else jnp.asarray(question)
        self.direction = direction
        self.reward = reward

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if the problem has no such question."""
        if self.question is not None:
            _check_question(self.question, problem)

    def value(self, state: FlowState) -> Scalar:
        problem = state.flow.problem
        reward = state.flow.objective.reward if self.reward is None else self.reward
        level = jnp.broadcast_to(self.level, problem.correct.shape)
        excess = state.policy.excess(reward, problem, level.astype(_float_dtype(state.policy)))
        excess = problem.mean(excess) if self.question is None else excess[self.question]
        return excess if self.direction == "rising" else -excess

    def balance(self, policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " R"] | None:
        reward = flow.objective.reward if self.reward is None else self.reward
        known = isinstance(reward, AbstractReward) and reward.keeps_pattern_values
        alone = flow.problem.num_questions == 1
        if not known or (self.question is None and not alone):
            return None
        question = 0 if self.question is None else self.question
        _, values = policy.pattern_table(flow.problem, reward)
        above = snapped_difference(values[question], self.level.astype(values.dtype))
        above = jnp.where(policy.exists[question], above, 0)
        return above if self.direction == "rising" else -above


def _float_dtype(policy: AbstractPolicy):
    return jnp.result_type(*jax.tree_util.tree_leaves(eqx.filter(policy, eqx.is_inexact_array)))


def AccuracyReaches(
    level: ArrayLike,
    question: ArrayLike | None = None,
    direction: Literal["rising", "falling"] = "rising",
) -> ValueReaches:
    r"""Accuracy, the probability of the correct answer, reaches a level, whatever is trained on.

    A function, not a class: what it returns is recognised by `isinstance(x, ValueReaches)`.

    **Arguments:** `level`: in [0, 1]; `question`: its index, or None for the mean over questions
    by weight; `direction`: `"rising"` or `"falling"`.

    **Returns:** an event.

    **Raises:** `ValueError` if the level lies outside [0, 1] or `direction` is unknown.
    """
    require_all(jnp.asarray(level), lambda x: (x >= 0) & (x <= 1), "level", "lie in [0, 1]")
    return ValueReaches(level, question, direction, Verifiable())


class PatternReaches(AbstractEvent):
    r"""The probability of a pattern (or of a set of patterns) rises to a level,
    $\sum_{r \in S} \pi(r|q) = 1 - \epsilon$.

    **Arguments:** `pattern`: an index, or a boolean mask `(R,)` of a set S; `level`: the
    probability, strictly between 0 and 1; `question`: the question's index; `shortfall`: the
    distance $\epsilon$ of the level from 1, in place of `level` where it is tiny; `lasting`: True
    if it is known not to fall below the level again (so for B best patterns from B / (B + 1) on).

    **Raises:** `ValueError` unless exactly one of `level` and `shortfall` is given, strictly
    between 0 and 1.
    """

    pattern: Array
    log_odds: Float[Array, ""]
    question: Array
    lasting: Array

    def __init__(
        self,
        pattern: ArrayLike,
        level: ArrayLike | None = None,
        question: ArrayLike = 0,
        *,
        shortfall: ArrayLike | None = None,
        lasting: ArrayLike = False,
    ):
        require(
            (level is None) != (shortfall is None),
            "level",
            "be given, or shortfall, and not both",
            f"level={level}, shortfall={shortfall}",
        )
        given, name = (level, "level") if level is not None else (shortfall, "shortfall")
        assert given is not None
        amount = as_float(given, name)
        require_all(amount, lambda x: (x > 0) & (x < 1), name, "lie strictly between 0 and 1")
        odds = jnp.log(amount) - jnp.log1p(-amount)
        self.log_odds = odds if shortfall is None else -odds
        self.pattern = jnp.asarray(pattern)
        self.question = jnp.asarray(question)
        self.lasting = jnp.asarray(lasting, bool)

    def lasts(self) -> Bool[Array, ""]:
        return self.lasting

    def _inside(self, number: int) -> Bool[Array, " R"]:
        """Which of the patterns count."""
        if self.pattern.dtype == bool:
            return self.pattern
        return jnp.arange(number) == self.pattern

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there is no such pattern or question."""
        _check_question(self.question, problem)
        if self.pattern.dtype == bool:
            wanted, shape = (policy.num_patterns,), self.pattern.shape[-1:]
            require(shape == wanted, "pattern", f"be an index or a mask of shape {wanted}", shape)
        else:
            _check_pattern(self.pattern, policy)

    def value(self, state: FlowState) -> Scalar:
        probs, _ = state.policy.pattern_table(state.flow.problem)
        probs = probs[self.question]
        inside = self._inside(probs.shape[0])
        # Log odds, since 1 - pi cancels; tiny keeps the logarithm of an underflowed sum finite.
        tiny = jnp.finfo(probs.dtype).tiny
        log_in = jnp.log(jnp.maximum(jnp.sum(jnp.where(inside, probs, 0)), tiny))
        log_out = jnp.log(jnp.maximum(jnp.sum(jnp.where(inside, 0, probs)), tiny))
        return log_in - log_out - self.log_odds.astype(probs.dtype)

    def balance(self, policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " R"]:
        there = policy.exists[self.question]
        inside = self._inside(there.shape[0])
        odds = self.log_odds.astype(policy.log_pattern_weights().dtype)
        # In the proportion e^-odds to 1, neither of which can overflow.
        return jnp.where(there, jnp.where(inside, jax.nn.sigmoid(-odds), -jax.nn.sigmoid(odds)), 0)


class ValuePasses(AbstractEvent):
    r"""V exceeds the value of a pattern, $\sum_{R_j > R_r} \pi_j (R_j - R_r) = \sum_{R_j < R_r}
    \pi_j (R_r - R_j)$.

    The logarithms of the two sides are compared: on a plateau they neither underflow nor cancel,
    and nor do their derivatives.

    **Arguments:** `pattern`: its index; `question`: the question's index; `past`: True if it is
    known to have happened.
    """

    pattern: Array
    question: Array
    past: Array

    def __init__(self, pattern: ArrayLike, question: ArrayLike = 0, past: ArrayLike = False):
        self.pattern = jnp.asarray(pattern)
        self.question = jnp.asarray(question)
        self.past = jnp.asarray(past)

    def lasts(self) -> bool:
        return True

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there is no such pattern or question."""
        _check_question(self.question, problem)
        _check_pattern(self.pattern, policy)

    def value(self, state: FlowState) -> Scalar:
        logits = state.policy.log_pattern_weights()[self.question]
        above = self.balance(state.policy, state.flow)
        # A side without patterns counts as next to nothing.
        nothing = jax.lax.stop_gradient(jnp.max(logits)) - 1e4

        def log_side(amount):
            return jax.nn.logsumexp(jnp.append(logits + safe_log(amount), nothing))

        ahead = jnp.where(jnp.any(above > 0), log_side(above) - log_side(-above), -1)
        return jnp.where(self.past, 1, ahead)

    def balance(self, policy: AbstractPolicy, flow: GradientFlow) -> Float[Array, " R"]:
        values = policy.pattern_gaps(flow.problem, flow.objective.reward)
        gaps, size = values.gaps[self.question], values.size[self.question]
        above = snapped_difference(gaps, gaps[self.pattern], jnp.maximum(size, size[self.pattern]))
        return jnp.where(policy.exists[self.question], above, 0)


class Approaches(AbstractEvent):
    r"""The patterns come within a distance of one of several points,
    $\min_m \max_r |\pi(r|q) - P_{mr}| = \epsilon$.

    **Arguments:** `points`: `(M, R)`, each a row of pattern probabilities; `eps`: the distance in
    probability (max norm), above 0; `question`: the question's index; `among`: `(M,)`, which of
    the points count, all if not given.

    **Raises:** `ValueError` if `points` are not rows of probabilities that sum to 1, `among` does
    not fit, or `eps` is not above 0.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        event = qra.flows.Approaches([[1.0, 0.0, 0.0]], 0.01)
        print(qra.event_time(policy, problem, event).log_time)
        ```
    """

    points: Float[Array, "M R"]
    eps: Float[Array, ""]
    question: Array
    among: Bool[Array, " M"]

    def __init__(
        self,
        points: ArrayLike,
        eps: ArrayLike,
        question: ArrayLike = 0,
        among: ArrayLike | None = None,
    ):
        self.points, self.eps = as_float(points, "points"), as_float(eps, "eps")
        require(self.points.ndim == 2, "points", "have shape (M, R)", self.points.shape)
        check_probabilities(self.points, "points", 1e-5)
        require_all(self.eps, lambda x: x > 0, "eps", "be above 0")
        self.question = jnp.asarray(question)
        number = self.points.shape[:1]
        self.among = jnp.ones(number, bool) if among is None else jnp.asarray(among)
        require(self.among.shape == number, "among", f"have shape {number}", self.among.shape)

    def distances(self, probs: Float[Array, " R"]) -> Float[Array, " M"]:
        """Distances (max norm) to all points, infinite for those that do not count."""
        points = self.points.astype(probs.dtype)
        apart = probs[None] - points
        # The largest entry's from the others': next to a vertex 1 - pi cancels, they do not.
        largest = jnp.arange(points.shape[1])[None] == jnp.argmax(points, axis=1)[:, None]
        rest = jnp.sum(jnp.where(largest, 0, apart), axis=1, keepdims=True)
        apart = jnp.abs(jnp.where(largest, -rest, apart))
        return jnp.where(self.among, jnp.max(apart, axis=1), jnp.inf)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if the points are of other patterns, or there is no such
        question."""
        _check_question(self.question, problem)
        wanted, width = policy.num_patterns, self.points.shape[-1]
        require(width == wanted, "points", f"have a column for each of {wanted} patterns", width)

    def value(self, state: FlowState) -> Scalar:
        probs, _ = state.policy.pattern_table(state.flow.problem)
        nearest = jnp.min(self.distances(probs[self.question]))
        # In logarithms: the distance falls by many orders of magnitude, and is 0 at a point.
        floor = jnp.finfo(probs.dtype).tiny
        nearest = jnp.clip(nearest, floor, 1 / floor)
        return jnp.log(self.eps.astype(probs.dtype)) - jnp.log(nearest)


class LogitPeaks(AbstractEvent):
    """The logit of a pattern stops rising (its probability peaks earlier). For a table of logits.

    **Arguments:** `pattern`: its index; `question`: the question's index.
    """

    pattern: Array
    question: Array

    def __init__(self, pattern: ArrayLike, question: ArrayLike = 0):
        self.pattern = jnp.asarray(pattern)
        self.question = jnp.asarray(question)

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """**Raises:** `ValueError` if there is no such pattern or question, `TypeError` if the
        policy is no table."""
        having(policy, AbstractTablePolicy, "for LogitPeaks, which looks at a logit")
        _check_question(self.question, problem)
        _check_pattern(self.pattern, policy)

    def value(self, state: FlowState) -> Scalar:
        direction, _ = state.velocity()
        return -direction.pattern_logits[self.question, self.pattern]


class TimeReached(AbstractEvent):
    """Flow time reaches `exp(log_time)`.

    **Arguments:** `log_time`: the natural logarithm of the time.

    **Raises:** `ValueError` if `log_time` is NaN.
    """

    log_time: Float[Array, ""]

    def __init__(self, log_time: ArrayLike):
        self.log_time = as_float(log_time, "log_time")
        require_all(self.log_time, lambda x: x == x, "log_time", "not be NaN")

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """Fits every policy and problem."""

    def value(self, state: FlowState) -> Scalar:
        level = self.log_time.astype(state.log_time.dtype)
        # Time 0 is over at the start, where the log time is -inf as well.
        return jnp.where(
            level > -jnp.inf, state.log_time - jnp.where(level > -jnp.inf, level, 0), 1
        )


class Stationary(AbstractEvent):
    r"""The norm of the velocity falls to `tol`: $|\dot\theta| \le$ `tol`.

    Added by default to flows that can come to rest inside the simplex (KL penalty, SFT). A flow
    without one slows down for ever, and on an entangled plateau long before it has converged.

    **Arguments:** `tol`: in logits per unit of time, above 0; if not given, 5e-9 (in float32 5e-5)
    of the flow's speed at the start, or where all logits are equal if that is larger.

    **Raises:** `ValueError` if `tol` is not above 0.
    """

    tol: Float[Array, ""] | None

    def __init__(self, tol: ArrayLike | None = None):
        if tol is None:
            self.tol = None
        else:
            self.tol = as_float(tol, "tol")
            require_all(self.tol, lambda x: x > 0, "tol", "be above 0")

    def validate(self, policy: AbstractPolicy, problem: Problem) -> None:
        """Fits every policy and problem."""

    def value(self, state: FlowState) -> Scalar:
        _, log_speed = state.velocity()
        if self.tol is None:
            share = 5e-9 if log_speed.dtype == jnp.float64 else 5e-5
            return jnp.log(share) + state.log_scale - log_speed
        return jnp.log(self.tol.astype(log_speed.dtype)) - log_speed
