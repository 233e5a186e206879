"""What RLVR will do from rows of initial policies: first passage times, and what needs no solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra
from qra_jax.sweep import Chunked

from .progress import Progress

CHECK_PROBS, CHECK_RATES = (0.05, 0.70, 0.25), (0.9, 0.7, 0.1)
"""The check case: the entangled start of arXiv 2506.04695 (gamma = 6); its success rates are
ours."""
_PATTERNS = 4
"""Rows of fewer patterns are padded, so that maps of the same run share their program."""


def pad_patterns(rows: np.ndarray, width: int) -> np.ndarray:
    """Rows of patterns, with zeros up to `width`."""
    return np.pad(rows, ((0, 0), (0, max(0, width - rows.shape[-1]))))


@functools.cache
def _solver(eps: float) -> Chunked:
    def solve(task):
        found = qra.times.passage_times(*qra.two_stage(*task), eps=eps)
        return jax.tree_util.tree_map(lambda times: times[0], found)

    return Chunked(solve)


def first_times(
    probs: np.ndarray, rates: np.ndarray, eps: float, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """The end of entanglement and the time to 1 - eps, with the statuses of their solves.

    By one program that serves all maps of a run: compilation takes longer than the solves.

    **Arguments:** `probs`, `rates`: `(N, R)`, a probability of 0 stands for no pattern; `eps`: in
    (0, 0.1]; `progress`: called with the numbers of starts done.

    **Returns:** arrays `(N,)` by the names of `qra.times.PassageTimes`.
    """
    probs, rates = (pad_patterns(rows, _PATTERNS) for rows in (probs, rates))
    values = np.where(probs > 0, rates, -np.inf)
    best = values == values.max(axis=1, keepdims=True)
    # The rarer the best pattern, the longer it takes.
    cost = -np.sum(probs * best, axis=1)
    return dict(vars(_solver(eps)((probs, rates), cost=cost, progress=progress)))


def first_look(probs: np.ndarray, rates: np.ndarray) -> dict[str, np.ndarray]:
    """Regime, gamma, and the entanglement law with its correction where it holds (NaN elsewhere).

    **Arguments:** `probs`, `rates`: `(N, R)`.

    **Returns:** arrays `(N,)` by name.
    """

    @jax.jit
    @jax.vmap
    def each(probs, rates):
        policy, problem = qra.two_stage(probs, rates)
        law = qra.laws.log_entanglement_time_law(policy, problem)
        return {
            "regime": qra.regime(policy, problem)[0],
            "gamma": qra.entanglement_ratio(policy, problem)[0],
            "law_log_entanglement_time": jnp.where(law.valid, law.value, jnp.nan)[0],
            "law_relative_error": jnp.where(law.valid, law.relative_error, jnp.nan)[0],
        }

    return {key: np.asarray(value) for key, value in each(probs, rates).items()}
