"""Compiled solves that the claims share: batches of one shape, patterns padded with probability 0.

Compiling takes most of the ledger's time, so that what differs between claims (utility, noise,
penalties, geometry) enters as numbers.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as tree
import numpy as np
from jaxtyping import Array, ArrayLike

import qra_jax as qra

from .._lab import start

CHECK_PROBS, CHECK_RATES = (np.array(row) for row in (start.CHECK_PROBS, start.CHECK_RATES))
UTILITIES = {
    "mean": qra.objectives.Mean(),
    "grpo": qra.GRPO(),
    "grpo-4": qra.GRPO(4),
    "grpo-8": qra.GRPO(8),
    "grpo-16": qra.GRPO(16),
    "log-likelihood": qra.objectives.LogLikelihood(),
    "maxrl-8": qra.objectives.MaxRL(8),
    "tsallis-0.5": qra.objectives.Tsallis(0.5),
    "pass@8": qra.objectives.PassAtK(8),
}
ROWS = 48
"""Times of a trajectory of `follow`."""
Rows = Sequence[Any] | np.ndarray
"""Probabilities or rates of one start, or of several with any numbers of patterns."""
_PATTERNS, _LANES = 16, 4


# Traced once, not at every place where a solve asks for them.
@jax.jit
def _values(value, shortfall):
    return jnp.stack([one.value(value, shortfall) for one in UTILITIES.values()])


@jax.jit
def _slopes(value, shortfall):
    return jnp.stack([one.slope(value, shortfall) for one in UTILITIES.values()])


class _AnyOf(qra.objectives.AbstractUtility):
    """One of the utilities, chosen by a number."""

    which: Array

    def value(self, value, shortfall):
        """That of the utility chosen."""
        return _values(value, shortfall)[self.which]

    def slope(self, value, shortfall):
        """That of the utility chosen."""
        return _slopes(value, shortfall)[self.which]


class _Batched:
    """A function of one lane, compiled for batches of one width; broadcasts over rows."""

    def __init__(self, function: Callable[..., Any], patterns: int):
        self._function = jax.jit(jax.vmap(function))
        self._patterns = patterns
        self._lock = threading.Lock()  # two threads would compile it twice

    def __call__(self, probs, rates, *columns) -> Any:
        tables = [_padded(table, self._patterns) for table in (probs, rates)]
        columns = (*tables, *columns)
        lengths = [np.shape(leaf)[0] for leaf in tree.tree_leaves(columns) if np.ndim(leaf)]
        count = -(-max(lengths) // _LANES) * _LANES
        whole = tree.tree_map(lambda leaf: _rows(leaf, max(lengths), count), columns)
        parts = []
        with self._lock:
            for first in range(0, count, _LANES):
                part = tree.tree_map(lambda x, i=first: x[i : i + _LANES], whole)
                parts.append(tree.tree_map(np.asarray, self._function(*part)))
        return tree.tree_map(lambda *x: np.concatenate(x)[: max(lengths)], *parts)


def _padded(table, patterns: int) -> np.ndarray:
    """Rows of probabilities or rates, of any lengths, as one array."""
    single = np.ndim(table[0]) == 0
    rows = [table] if single else table
    out = np.zeros((len(rows), patterns))
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out


def columns_of(starts: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Starts `(probs, rates)` as probabilities and rates."""
    return [probs for probs, _ in starts], [rates for _, rates in starts]


def _rows(column, rows: int, count: int) -> np.ndarray:
    values = np.asarray(column)
    values = np.broadcast_to(values, (rows, *values.shape[1:]))
    return np.resize(values, (count, *values.shape[1:]))


class Entangled(NamedTuple):
    """The end of the entangled phase: log T0, the patterns then; the regime and gamma at first."""

    log_time: np.ndarray
    probs: np.ndarray
    regime: np.ndarray
    gamma: np.ndarray


def _entangle(probs, rates, which):
    policy, problem = qra.two_stage(probs, rates)
    flow = qra.GradientFlow(qra.Objective(qra.Verifiable(), _AnyOf(which)), problem)
    found = qra.times.entanglement(policy, flow)
    then = jax.vmap(lambda row: row.pattern_table(problem)[0])(found.policy)[0, 0]
    regime, gamma = qra.regime(policy, flow)[0], qra.entanglement_ratio(policy, flow)[0]
    return found.log_time[0], then, regime, gamma


def _law(probs, rates):
    law = qra.laws.log_entanglement_time_law(*qra.two_stage(probs, rates))
    return law.value[0], law.valid[0]


class Followed(NamedTuple):
    """A trajectory: log pi(r) and accuracy at the times asked for."""

    log_probs: np.ndarray
    accuracy: np.ndarray


def _follow(probs, rates, log_times, which, true_positive, false_positive):
    policy, problem = qra.two_stage(probs, rates)
    reward = qra.objectives.NoisyVerifier(true_positive, false_positive)
    flow = qra.GradientFlow(qra.Objective(reward, _AnyOf(which)), problem)
    found = qra.solve_flow(policy, flow, log_times=log_times)
    row = found.policy
    assert isinstance(row, qra.TabularPolicy)
    return jax.nn.log_softmax(row.pattern_logits[:, 0]), found.accuracy


_entangled = _Batched(_entangle, _PATTERNS)
_followed = _Batched(_follow, _PATTERNS)
_of_law = _Batched(_law, _PATTERNS)


def number_of(utility: str) -> int:
    """The number by which a solve knows a utility."""
    return list(UTILITIES).index(utility)


def entanglement(probs: Rows, rates: Rows, which: ArrayLike = 0) -> Entangled:
    """The end of entanglement of rows of starts, each under its utility, exactly."""
    return Entangled(*_entangled(probs, rates, which))


def t0_law(probs: Rows, rates: Rows) -> tuple[np.ndarray, np.ndarray]:
    """log T0 of rows of starts by the law, and whether it says that it holds."""
    return _of_law(probs, rates)


def follow(
    probs: Rows,
    rates: Rows,
    log_times: ArrayLike,
    which: ArrayLike = 0,
    true_positive: ArrayLike = 1.0,
    false_positive: ArrayLike = 0.0,
) -> Followed:
    """Rows of starts at `ROWS` times, `(ROWS,)` or `(rows, ROWS)`, exactly; a verifier may err."""
    times = np.atleast_2d(np.asarray(log_times, float))
    noise = np.asarray(true_positive, float), np.asarray(false_positive, float)
    return Followed(*_followed(probs, rates, times, which, *noise))


class Settings(NamedTuple):
    """What moves a start of three patterns, and what stops it: the time, V at a level, or rest."""

    reverse_kl: ArrayLike = 0.0
    k3_loss: ArrayLike = 0.0
    grpo: ArrayLike = False
    natural: ArrayLike = False
    answers: ArrayLike = False
    level: ArrayLike = 2.0
    log_time: ArrayLike = 40.0


class _Speed(qra.objectives.AbstractUtility):
    """The mean, or GRPO's utility."""

    grpo: ArrayLike

    def value(self, value, shortfall):
        """The mean, or GRPO's."""
        return jnp.where(self.grpo, qra.GRPO().value(value, shortfall), value)

    def slope(self, value, shortfall):
        """The mean's, or GRPO's."""
        return jnp.where(self.grpo, qra.GRPO().slope(value, shortfall), 1)


class _Geometry(qra.flows.AbstractGeometry):
    """Euclidean or natural, with or without answers."""

    natural: ArrayLike
    answers: ArrayLike

    def direction(self, policy, gradient):
        """The direction of the geometry chosen; 0 for answers that are not trained."""
        natural = qra.Natural().direction(policy, gradient)
        pattern, answer = (
            jnp.where(self.natural, one, other)
            for one, other in (
                (natural.pattern_logits, gradient.pattern_logits),
                (natural.answer_logits, gradient.answer_logits),
            )
        )
        return qra.TabularPolicy(pattern, jnp.where(self.answers, answer, 0))


class Stopped(NamedTuple):
    """Where a solve of `stop` ended: its log time, pattern logits and probabilities, and how far
    success rates have drifted."""

    log_time: np.ndarray
    logits: np.ndarray
    probs: np.ndarray
    drift: np.ndarray


def _stop(probs, rates, ref_probs, ref_rates, settings):
    policy, problem = qra.two_stage(probs, rates)
    reference, _ = qra.two_stage(ref_probs, ref_rates)
    penalties = (
        qra.ReverseKL(settings.reverse_kl),
        qra.objectives.KLEstimator(settings.k3_loss, "k3", "loss"),
    )
    objective = qra.Objective(qra.Verifiable(), _Speed(settings.grpo), penalties)
    geometry = _Geometry(settings.natural, settings.answers)
    flow = qra.GradientFlow(objective, problem, "all", geometry)
    until = (
        qra.ValueReaches(settings.level),
        qra.flows.TimeReached(settings.log_time),
        qra.flows.Stationary(1e-9),
    )
    method = qra.ODE(rtol=1e-9, atol=1e-11)
    end = qra.event_time(policy, flow, until, reference=reference, method=method)
    last = end.policy
    assert isinstance(last, qra.TabularPolicy)
    drift = qra.objectives.success_rate_drift(last, problem, reference=policy)[0]
    return end.log_time, last.pattern_logits[0], last.pattern_table(problem)[0][0], drift


_stopped = _Batched(_stop, 3)


def stop(
    rows: Sequence[Settings],
    *,
    probs: Rows = CHECK_PROBS,
    rates: Rows = CHECK_RATES,
    reference: Rows | None = None,
    ref_rates: Rows | None = None,
) -> Stopped:
    """Flows of three patterns by time steps: a row of `Settings` each, all from one start.

    The reference is the start unless given.
    """
    columns = Settings(*(np.array(column) for column in zip(*rows, strict=True)))
    compared = [
        np.atleast_2d(np.asarray(own if other is None else other, float))
        for own, other in ((probs, reference), (rates, ref_rates))
    ]
    return Stopped(*_stopped(probs, rates, *compared, columns))


@jax.jit
def velocity(objective, policy, problem, reference=None):
    """The velocity of patterns and answers, both trained: a policy of velocities."""
    flow = qra.GradientFlow(objective, problem, "all")
    return flow.velocity(*flow.split(policy), policy if reference is None else reference)
