"""What to fine-tune on before RL, and for how long, so that the total time is shortest.

(D1), and how it is solved: docs/design.md#how-it-is-solved.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._core.checks import as_float, is_concrete, require_all, whole
from .._core.compiled import compiled
from .._core.trees import chosen, where_usable
from .._core.types import Scalar
from ..flows._status import Status
from ..objectives._utilities import AbstractUtility
from ._total_time import Task, as_task, design_score, longest, mixture_of, tuned

_LEARNING_RATE = 0.3
# Every round narrows the duration down to two of these cells.
_GRID = 17
_ROUNDS = 9
_SHORTEST = 1e-4  # first duration tried, in shares of the longest
_SETTLED = 1e-3  # in the score, over the last tenth of the steps

_OF_DRAWS = (
    "pattern_probs",
    "log_time",
    "log_time_nothing",
    "log_time_naive",
    "log_time_naive_full",
)


class SFTDesign(eqx.Module):
    r"""A fine-tuning run before RL, beside what it is measured against.

    All scores are the mean over draws of $\log(1 + cs + T)$, a time of less than one unit counting
    as about one. Times are natural logarithms of $cs + T$, in the time of RL.

    - `mixture`: `(R,)`, the shares $\mu$ of the data; without meaning where `duration` is 0.
    - `duration`: s, learning rate times steps; 0 if no fine-tuning is best.
    - `pattern_probs`: `(*draws, R)`, the policy after it.
    - `log_time`: `(*draws)`, of this design; `log_time_nothing`: without fine-tuning;
      `log_time_naive`: all data on the best pattern, for the best duration that budget and floor
      allow; `log_time_naive_full`: the same for the longest one.
    - `naive_mixture`: `(R,)`; `naive_duration`, `naive_full_duration`: of these two.
    - `score`, `score_nothing`, `score_naive`, `score_naive_full`: as above.
    - `entropy`: nats after fine-tuning, mean over draws; `entropy_slack`: what of it is above the
      floor; `duration_slack`: what of the budget is left. A constraint binds where its slack is 0.
    - `start_scores`: `(S,)`, the best that each start of the optimiser found; `converged`: `(S,)`,
      whether that had settled; `start_status`: `(S,)`, a `Status`: `COMPLETED`, or `FAILED` if no
      solve succeeded.
    - `status`: `COMPLETED`; `FAILED` if solves failed; `INVALID_INPUT` for traced input that is out
      of range, with NaN in all else.
    """

    mixture: Float[Array, " R"]
    duration: Scalar
    pattern_probs: Float[Array, "*draws R"]
    log_time: Float[Array, "*draws"]
    log_time_nothing: Float[Array, "*draws"]
    log_time_naive: Float[Array, "*draws"]
    log_time_naive_full: Float[Array, "*draws"]
    naive_mixture: Float[Array, " R"]
    naive_duration: Scalar
    naive_full_duration: Scalar
    score: Scalar
    score_nothing: Scalar
    score_naive: Scalar
    score_naive_full: Scalar
    entropy: Scalar
    entropy_slack: Scalar
    duration_slack: Scalar
    start_scores: Float[Array, " S"]
    converged: Bool[Array, " S"]
    start_status: Int[Array, " S"]
    status: Int[Array, ""]

    @property
    def log_gain(self) -> Scalar:
        """Logarithm of the factor gained over the better of both baselines: at least 0."""
        return jnp.minimum(self.log_gain_over_nothing, self.log_gain_over_naive)

    @property
    def log_gain_over_nothing(self) -> Scalar:
        """`score_nothing - score`: the logarithm of the factor gained over no fine-tuning."""
        return self.score_nothing - self.score

    @property
    def log_gain_over_naive(self) -> Scalar:
        """`score_naive - score`: over all data on the best pattern, at its best duration."""
        return self.score_naive - self.score


class _Descent(NamedTuple):
    logits: Float[Array, "S R"]
    log_odds: Float[Array, " S"]
    score: Float[Array, " S"]


def _descend(task: Task, starts: _Descent, steps: int) -> tuple[_Descent, Float[Array, "T S"]]:
    """The best point on the way down from every start, and the best scores after each step."""
    schedule = optax.cosine_decay_schedule(_LEARNING_RATE, steps, alpha=0.01)
    # A solve that failed has NaN for a slope; as a 0 it does not spoil Adam's memory.
    optimiser = optax.chain(optax.zero_nans(), optax.adam(schedule))
    look = jax.vmap(jax.value_and_grad(lambda at: design_score(task, *at)))

    def step(carry, _):
        at, state, best = carry
        score, slope = look(at)
        # The best of the way, not its end: Adam does not descend in every step. NaN is never
        # better.
        better = score < best.score
        best = _Descent(
            jnp.where(better[:, None], at[0], best.logits),
            jnp.where(better, at[1], best.log_odds),
            jnp.where(better, score, best.score),
        )
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(at, change), state, best), best.score

    at = starts.logits, starts.log_odds
    (_, _, best), scores = jax.lax.scan(step, (at, optimiser.init(at), starts), length=steps)
    return best, scores


def _starts(task: Task, best: Int[Array, ""], number: int, key: Array) -> _Descent:
    """Near both baselines, an even mixture, and random ones."""
    patterns, dtype = task.logits.shape[1], task.logits.dtype
    for_mixture, for_share = jax.random.split(key)
    # The first is near the naive choice, the second near doing nothing, the third even.
    own = jnp.mean(jax.nn.softmax(task.logits), axis=0)
    corner = (jnp.arange(patterns) == best).astype(dtype)
    drawn = jax.random.exponential(for_mixture, (number, patterns), dtype)
    drawn = drawn / jnp.sum(drawn, axis=1, keepdims=True)  # uniform on the simplex
    known = jnp.stack([0.95 * corner + 0.05 * own, own, jnp.full_like(own, 1 / patterns)])
    mixtures = jnp.concatenate([known, drawn])[:number]
    # Not near 0 or 1, where the slope of a share in its log odds vanishes.
    shares = jax.random.uniform(for_share, (number,), dtype, 0.05, 0.95)
    shares = jnp.concatenate([jnp.asarray([0.95, 0.05, 0.5], dtype), shares])[:number]
    # A logit of -inf would never come back.
    least = jnp.asarray(1e-6, dtype)
    return _Descent(
        jnp.log(jnp.maximum(mixtures, least)),
        jnp.log(shares) - jnp.log1p(-shares),
        jnp.full(number, jnp.inf, dtype),
    )


class _Found(NamedTuple):
    """The best duration on some data."""

    share: Scalar
    score: Scalar
    log_time: Float[Array, " D"]
    logits: Float[Array, "D R"]


def _best_duration(task: Task, mixture, limit, guess) -> tuple[_Found, _Found, _Found]:
    """No fine-tuning, the longest, and the best by a search in rounds: where fine-tuning alone is
    enough the score has a kink, and often its minimum, which no gradient method lands on."""
    dtype = task.logits.dtype

    def look(share):
        duration = _share_of(limit.duration, share)
        logits = tuned(task, mixture, task.logits, duration)
        log_rl_time = task.log_rl_time(logits)
        score = task.score(duration, log_rl_time)
        # A solve that failed must not be what `argmin` finds.
        score = jnp.where(jnp.isnan(score), jnp.inf, score)
        return _Found(share, score, task.log_total(duration, log_rl_time), logits)

    def narrow(carry, _):
        grid, best = carry
        found = jax.vmap(look)(grid)
        at = jnp.argmin(found.score)
        this = _take(found, at)
        best = chosen(this.score < best.score, this, best)
        # The two cells around the best hold a minimum, be it a kink.
        low, high = grid[jnp.maximum(at - 1, 0)], grid[jnp.minimum(at + 1, _GRID - 1)]
        grid = low + (high - low) * jnp.linspace(0, 1, _GRID, dtype=dtype)
        return (grid, best), (_take(found, 0), _take(found, -1))

    # Denser towards 0. It holds 0 and 1, hence both baselines, and what the optimiser found.
    between = jnp.geomspace(_SHORTEST, 1, _GRID - 2, dtype=dtype)[:-1]
    first = jnp.sort(jnp.concatenate([jnp.asarray([0, 1], dtype), between, guess[None]]))
    zero, infinite = jnp.zeros((), dtype), jnp.asarray(jnp.inf, dtype)
    nowhere = _Found(zero, infinite, jnp.full(task.logits.shape[0], jnp.nan), task.logits)
    (_, best), ends = jax.lax.scan(narrow, (first, nowhere), length=_ROUNDS)
    # The ends of the first round's grid.
    nothing, full = (_take(end, 0) for end in ends)
    return nothing, full, best


def _share_of(duration: Array, share: Array) -> Array:
    """No fine-tuning at all is possible even where the longest is not known (NaN)."""
    return jnp.where(share > 0, share * duration, 0)


def _take(found: _Found, index) -> _Found:
    return jax.tree_util.tree_map(lambda x: x[index], found)


@compiled
def _design(
    task: Task, rates: Float[Array, "D R"], valid: Bool[Array, ""], starts: int, steps: int,
    key: Array,
) -> SFTDesign:  # fmt: skip
    best = _best_pattern(task, rates)
    found, scores = _descend(task, _starts(task, best, starts, key), steps)
    settled = scores[-1 - steps // 10] - scores[-1] <= _SETTLED

    at = jnp.argmin(found.score)
    # The naive data are searched as carefully as the design's, so that a gain is one of the data.
    naive = (jnp.arange(rates.shape[1]) == best).astype(rates.dtype)
    mixtures = jnp.stack([naive, mixture_of(task, found.logits[at])])
    guesses = jnp.stack([jnp.full_like(task.budget, 0.5), jax.nn.sigmoid(found.log_odds[at])])
    limits = jax.vmap(lambda mixture: longest(task, mixture))(mixtures)
    search = jax.vmap(lambda *data: _best_duration(task, *data))
    nothing, full, by_data = search(mixtures, limits, guesses)

    # The first of equals: the naive data, unless others are better.
    which = jnp.argmin(by_data.score)
    own = _take(by_data, which)
    durations = _share_of(limits.duration, by_data.share)
    entropy = task.entropy(own.logits)
    spent = durations[which]
    # Without the limit of either data no duration but 0 was looked at on them.
    ok = jnp.isfinite(own.score) & jnp.all(jnp.isfinite(limits.duration))
    status = jnp.where(ok, Status.COMPLETED, Status.FAILED)
    design = SFTDesign(
        mixture=mixtures[which],
        duration=spent,
        pattern_probs=jax.nn.softmax(own.logits),
        log_time=own.log_time,
        log_time_nothing=nothing.log_time[0],
        log_time_naive=by_data.log_time[0],
        log_time_naive_full=full.log_time[0],
        naive_mixture=naive,
        naive_duration=durations[0],
        naive_full_duration=limits.duration[0],
        score=own.score,
        score_nothing=nothing.score[0],
        score_naive=by_data.score[0],
        score_naive_full=full.score[0],
        entropy=entropy,
        entropy_slack=entropy - task.floor,
        duration_slack=task.budget - spent,
        start_scores=found.score,
        converged=settled & jnp.isfinite(found.score),
        start_status=jnp.where(jnp.isfinite(found.score), Status.COMPLETED, Status.FAILED).astype(
            jnp.int32
        ),
        status=jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32),
    )
    return jax.lax.stop_gradient(where_usable(valid, design, jnp.nan))


def _best_pattern(task: Task, rates: Float[Array, "D R"]) -> Int[Array, ""]:
    """Of those offered, that of the highest mean success rate where it exists; of tied ones the
    most probable."""
    there = jnp.sum(task.exists, axis=0)
    mean = jnp.sum(jnp.where(task.exists, rates, 0), axis=0) / jnp.maximum(there, 1)
    mean = jnp.where(task.offered, mean, -jnp.inf)
    probs = jnp.mean(jax.nn.softmax(task.logits), axis=0)
    return jnp.argmax(jnp.where(task.offered & (mean == jnp.max(mean)), probs, -1))


def design_sft(
    pattern_probs: ArrayLike,
    success_rates: ArrayLike,
    *,
    budget: ArrayLike,
    key: Array,
    floor: ArrayLike = 0.0,
    eps: ArrayLike = 0.01,
    cost: ArrayLike = 1.0,
    available: ArrayLike | None = None,
    utility: AbstractUtility | None = None,
    starts: int = 8,
    steps: int = 150,
) -> SFTDesign:
    r"""The data and the duration of SFT before RL that make the total time shortest:

    $$\min_{\mu, s} \; \overline{\log(1 + c s + T_\epsilon)}, \qquad \dot\theta = \mu - \pi
    \text{ for } s \le B, \qquad \overline{H(\pi)} \ge h \text{ all the while},$$

    the mean being over draws. With one draw the 1 changes nothing in what is best.

    Adam goes down from several starts in a mixture softmax(z) and a share of the longest duration
    that budget and floor allow on it, so that every point on the way is feasible; the duration of
    the best, and that of the naive choice, are then searched on a line that begins with no
    fine-tuning. The best of all is returned: it is never worse than a baseline.

    **Arguments:**

    - `pattern_probs`: `(R,)`, $\pi(r)$ at the start, or `(D, R)`: draws of it (say from a
      posterior), or D questions; one mixture and one duration serve all. A pattern of probability
      0 has no logit that data could raise: it gets none.
    - `success_rates`: the same shape, or `(R,)`, $p(r)$.
    - `budget`: B, the longest duration (learning rate times steps), in [0, 1e4].
    - `key`: of `jax.random`, for the starts beyond the third.
    - `floor`: h, nats of pattern entropy (mean over draws) that SFT must not fall below; at most
      the entropy of the start, so that doing nothing is always allowed.
    - `eps`: RL has converged at $\pi(r^*) = 1 - \epsilon$.
    - `cost`: c, what a unit of SFT time costs in units of RL time, at least 0.
    - `available`: `(R,)` booleans, the patterns that there are data of; all if not given.
    - `utility`: of the RL objective, such as `GRPO()`; the mean reward if not given.
    - `starts`, `steps`: S and the optimiser's steps, at least 1 and 10.

    **Returns:** an `SFTDesign`; constant in derivatives. By the envelope theorem the derivative of
    the shortest time is that of `log_total_time` at the design, where the floor does not bind.

    **Raises:** `ValueError` for arguments out of range, or a floor above the entropy of the start.

    ??? example

        ```python
        import jax
        import qra_jax as qra
        design = qra.design_sft([0.05, 0.70, 0.25], [0.9, 0.7, 0.1], budget=5.0, floor=0.5,
                                key=jax.random.key(0))
        print(design.mixture, design.duration, design.log_gain_over_nothing)
        ```

    Source: arXiv 2506.04695 v1 (SFT before RLVR); derived in docs/design.md#the-problem.
    """
    task, rates = as_task(
        pattern_probs, success_rates, available, utility, budget, floor, eps, cost
    )
    whole(starts, "starts", 1)
    whole(steps, "steps", 10)
    most = task.entropy(task.logits)
    tiny = 1e-9 if most.dtype == jnp.float64 else 1e-5
    if is_concrete(task):
        must = f"be at most the entropy of the start, {float(most):.6g}"
        require_all(task.floor, lambda h: h <= float(most) + tiny, "floor", must)
    valid = jnp.isfinite(most) & (task.floor <= most + tiny)
    for value in (task.budget, task.floor, task.eps, task.cost):
        valid &= jnp.isfinite(value)
    # An event that has happened at the start would never be seen to happen.
    task = eqx.tree_at(lambda t: t.floor, task, jnp.minimum(task.floor, most - tiny))
    found = _design(task, rates, valid, starts, steps, key)
    if as_float(pattern_probs, "pattern_probs").ndim == 2:
        return found
    # One draw was given without an axis, and comes back without one.
    first = {name: getattr(found, name)[0] for name in _OF_DRAWS}
    return dataclasses.replace(found, **first)
