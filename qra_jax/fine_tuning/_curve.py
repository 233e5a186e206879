"""The total time against the duration of fine-tuning.

(D1): docs/design.md#the-problem.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_float, require, require_all
from .._core.compiled import compiled
from ..objectives._utilities import AbstractUtility
from ._total_time import Task, as_task, tuned


class TotalTimes(NamedTuple):
    """At N durations, for D draws: natural logarithms, in the time of RL, of what is left for RL
    and of the total, `(N, D)`; `entropy` `(N,)`: nats of the patterns after fine-tuning, mean over
    draws. NaN where a solve failed."""

    log_rl_time: Float[Array, "N D"]
    log_time: Float[Array, "N D"]
    entropy: Float[Array, " N"]


def total_times(
    pattern_probs: ArrayLike,
    success_rates: ArrayLike,
    mixture: ArrayLike,
    durations: ArrayLike,
    *,
    eps: ArrayLike = 0.01,
    cost: ArrayLike = 1.0,
    utility: AbstractUtility | None = None,
) -> TotalTimes:
    """`log_total_time` at rising durations, in one run of fine-tuning.

    **Arguments:** `pattern_probs`, `success_rates`: `(D, R)`; `mixture`: `(R,)`, the shares of the
    data; `durations`: `(N,)`, learning rate times steps, at least 0; the others as for
    `design_sft`.

    **Raises:** `ValueError` unless durations rise from at least 0.
    """
    task, _ = as_task(pattern_probs, success_rates, None, utility, 0.0, 0.0, eps, cost)
    dtype = task.logits.dtype
    ends = as_float(durations, "durations").astype(dtype)
    require(ends.ndim == 1 and ends.size > 0, "durations", "have shape (N,)", ends.shape)
    require_all(jnp.diff(ends, prepend=0), lambda x: x >= 0, "durations", "rise from at least 0")
    return _total_times(task, as_float(mixture, "mixture").astype(dtype), ends)


@compiled
def _total_times(task: Task, mixture: Float[Array, " R"], ends: Float[Array, " N"]) -> TotalTimes:
    def onwards(carry, end):
        logits, before = carry
        logits = tuned(task, mixture, logits, end - before)
        log_rl_time = task.log_rl_time(logits)
        found = TotalTimes(log_rl_time, task.log_total(end, log_rl_time), task.entropy(logits))
        return (logits, end), found

    return jax.lax.scan(onwards, (task.logits, jnp.zeros_like(ends[0])), ends)[1]
