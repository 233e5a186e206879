"""What RLVR will do from rows of initial policies: first passage times, and what needs no solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra
from qra_jax.sweep import Chunked

from .settings import Progress

CHECK_PROBS, CHECK_RATES = (0.05, 0.70, 0.25), (0.9, 0.7, 0.1)
"""The check case: the entangled start of arXiv 2506.04695 (gamma = 6); its success rates are
ours."""
_PATTERNS = 4
"""Rows of fewer patterns are padded, so that maps of the same run share their program."""
_OUT_OF_REACH = 1e-30


def pad_patterns(rows: np.ndarray, width: int) -> np.ndarray:
    """Rows of patterns, with zeros up to `width`."""
    return np.pad(rows, ((0, 0), (0, max(0, width - rows.shape[-1]))))


@functools.cache
def _solver(lasting: bool) -> Chunked:
    def solve(task):
        probs, rates, passed, past, best, shortfall = task
        policy, problem = qra.two_stage(probs, rates)
        until = (
            qra.ValuePasses(passed, past=past),
            qra.PatternReaches(best, shortfall=shortfall, lasting=lasting),
        )
        found = qra.event_time(policy, problem, until)
        return found.log_time, found.status

    return Chunked(solve)


def first_times(
    probs: np.ndarray, rates: np.ndarray, eps: float, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """The end of entanglement and the time to 1 - eps, with the statuses of their solves.

    As `qra.times.entanglement` and `qra.times.convergence` find them, but by one program that
    serves all maps of a run: compilation takes longer than the solves. Each solve is for one
    event, the other is out of its reach: V never passes the best value, and passes the second best
    long before the best patterns are within 1e-30 of probability 1.

    **Arguments:** `probs`, `rates`: `(N, R)`, a probability of 0 stands for no pattern; `eps`: in
    (0, 0.1]; `progress`: called with the numbers of solves done, 2 N in all.

    **Returns:** arrays `(N,)` by name.
    """
    number = len(probs)
    probs, rates = (pad_patterns(rows, _PATTERNS) for rows in (probs, rates))
    values = np.where(probs > 0, rates, -np.inf)
    best = values == values.max(axis=1, keepdims=True)
    below = np.where(best, -np.inf, values)
    alone = below.max(axis=1) == -np.inf
    tasks = (
        np.concatenate([probs, probs]),
        np.concatenate([rates, rates]),
        np.concatenate([below.argmax(axis=1), values.argmax(axis=1)]),
        # Without a second best there is nothing to be entangled with.
        np.concatenate([alone, np.zeros(number, bool)]),
        np.concatenate([best, best]),
        np.repeat([_OUT_OF_REACH, eps], number),
    )
    # Within the kind of the solve, the rarer the best pattern the longer it takes.
    cost = np.repeat([0.0, 2.0], number) - np.tile(np.sum(probs * best, axis=1), 2)
    # So much is never lost again, however many patterns tie for best.
    solve = _solver(eps <= 1 / probs.shape[1])
    log_time, status = solve(tasks, cost=cost, progress=progress)
    times = {}
    for index, name in enumerate(("entanglement", "convergence")):
        mine = slice(index * number, (index + 1) * number)
        times[f"log_{name}_time"], times[f"{name}_status"] = log_time[mine], status[mine]
    return times


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
