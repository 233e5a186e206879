"""Draws of base models through the exact solver, in chunks of one width."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, Int

from .._core.checks import require
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..objectives._objective import Objective
from ..objectives._regularisers import ReverseKL
from ..objectives._rewards import NoisyVerifier, Verifiable
from ..policies._tabular import two_stage
from ..solvers._solve import solve_flow
from ..solvers.exact._exact import Exact
from ..solvers.ode._ode import ODE
from ..sweep import Chunked
from ..times._passage import passage_times
from ..times._regime import entanglement_ratio, regime

ROWS = 96
"""Rows of a trajectory; every forecast has as many, so that one program serves them all."""
SETTLED = 200
"""Over beta: the time after which a KL penalty has settled."""
_METHOD = Exact(1e-8)
_WIDTH = 64
# A fit follows some eight paths a step, all of them from nearby starts.
_FEW = 8


class Tables(NamedTuple):
    """D draws of base models; probabilities of 0 stand for no pattern."""

    probs: Float[np.ndarray, "D Q R"]
    rates: Float[np.ndarray, "D Q R"]

    @property
    def values(self) -> Float[np.ndarray, "D Q R"]:
        """Success rates, `-inf` where there is no pattern."""
        return np.where(self.probs > 0, self.rates, -np.inf)

    @property
    def accuracy(self) -> Float[np.ndarray, "D Q"]:
        """V(0)."""
        return np.sum(self.probs * self.rates, axis=-1)


class Times(NamedTuple):
    """Of every draw and question `(D, Q)`; log times in the flow's own time."""

    regime: Int[np.ndarray, "D Q"]
    gamma: Float[np.ndarray, "D Q"]
    log_entanglement: Float[np.ndarray, "D Q"]
    entanglement_status: Int[np.ndarray, "D Q"]
    log_convergence: Float[np.ndarray, "D Q"]
    convergence_status: Int[np.ndarray, "D Q"]


def check_objective(objective: Objective) -> None:
    """Raise `ValueError` unless a diagnosis follows the flow of this objective: that of a verifier,
    right more often on right answers than on wrong ones, and at most a reverse KL penalty."""
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be an Objective, got {objective!r}")
    reward, penalties = objective.reward, objective.regularisers
    is_rlvr = isinstance(reward, Verifiable | NoisyVerifier)
    require(is_rlvr, "objective.reward", "be Verifiable() or NoisyVerifier(...)", repr(reward))
    if isinstance(reward, NoisyVerifier):
        true, false = float(reward.true_positive_rate), float(reward.false_positive_rate)
        require(true > false, "tpr", f"be above fpr = {false:g}, or nothing is learnt", true)
    few = len(penalties) == 0 or (len(penalties) == 1 and isinstance(penalties[0], ReverseKL))
    shown = ", ".join(type(one).__name__ for one in penalties)
    require(few, "objective.regularisers", "be at most one ReverseKL(beta)", shown)
    if not penalties:
        missing = _why_not_exact(objective)
        require(missing is None, "objective", "be one that Exact() solves", missing)


def _why_not_exact(objective: Objective) -> str | None:
    policy, problem = two_stage(np.full(2, 0.5), np.array([0.4, 0.6]))
    return _METHOD.why_not(policy, GradientFlow(objective, problem), ())


def beta_of(objective: Objective) -> float:
    """The strength of the KL penalty, 0 without one."""
    penalties = (x for x in objective.regularisers if isinstance(x, ReverseKL))
    return float(sum(float(x.beta) for x in penalties))


def width_for(patterns: int) -> int:
    """Few widths, so that few programs are compiled."""
    return max(4, 1 << (patterns - 1).bit_length())


def _padded(table: np.ndarray, width: int) -> np.ndarray:
    flat = table.reshape(-1, table.shape[-1])
    return np.pad(flat, ((0, 0), (0, width - flat.shape[1])))


class Solver:
    """The programs of one objective. `Solver.of` keeps those made."""

    def __init__(self, objective: Objective, eps: float):
        self.beta = beta_of(objective)
        method = _METHOD if _why_not_exact(objective) is None else ODE()

        def times(task):
            policy, problem = two_stage(*task)
            flow = GradientFlow(objective, problem)
            found = passage_times(policy, flow, eps=eps, method=method)
            return (
                regime(policy, flow)[0],
                entanglement_ratio(policy, flow)[0],
                found.log_entanglement_time[0],
                found.entanglement_status[0],
                found.log_convergence_time[0],
                found.convergence_status[0],
            )

        def rows(task):
            probs, rates, log_times = task
            policy, problem = two_stage(probs, rates)
            flow = GradientFlow(objective, problem)
            path = solve_flow(policy, flow, log_times=log_times, method=method)
            return path.accuracy, path.pattern_probs[:, 0], path.status

        def starts(task):
            policy, problem = two_stage(*task)
            flow = GradientFlow(objective, problem)
            return regime(policy, flow)[0], entanglement_ratio(policy, flow)[0]

        self._times, self._rows = Chunked(times, _WIDTH), Chunked(rows, _WIDTH)
        self._few_rows = Chunked(rows, _FEW)
        self._starts, self._eps = Chunked(starts, _WIDTH), eps

    @classmethod
    def of(cls, objective: Objective, eps: float) -> "Solver":
        """The solver of an objective, that of before if there was one."""
        leaves, structure = jtu.tree_flatten(objective)
        arrays = tuple(np.asarray(leaf) for leaf in leaves)
        key = structure, tuple((x.dtype.str, x.shape, x.tobytes()) for x in arrays), eps
        return _made(key, _Unseen((objective, eps)))

    def times(self, tables: Tables, weights: Float[np.ndarray, " Q"]) -> Times:
        """Regimes and times. A question of weight w runs at w times the speed."""
        shape, width = tables.probs.shape, width_for(tables.probs.shape[-1])
        if self.beta > 0:
            found = self._times_of_rows(tables, width)
            return _slowed(Times(*(x.reshape(shape[:2]) for x in found)), weights)
        inputs = _padded(tables.probs, width), _padded(tables.rates, width)
        cost = -np.max(np.where(tables.values == tables.values.max(-1, keepdims=True),
                                tables.probs, 0), axis=-1).ravel()  # fmt: skip
        found = Times(*(x.reshape(shape[:2]) for x in self._times(inputs, cost=cost)))
        return _slowed(found, weights)

    def _times_of_rows(self, tables: Tables, width: int) -> tuple[np.ndarray, ...]:
        """Where a penalty pulls: times at which followed paths cross, between rows. (An event that
        never happens would be waited for at a point of rest that is approached for ever.)"""
        probs, rates = _padded(tables.probs, width), _padded(tables.rates, width)
        kinds, gamma = self._starts((probs, rates))
        log_times = np.linspace(-3, np.log(SETTLED / self.beta), ROWS)
        accuracy, shares, status = self._rows((probs, rates, np.tile(log_times, (len(probs), 1))))
        values = np.where(probs > 0, rates, -np.inf)
        best = values == values.max(axis=-1, keepdims=True)
        second = np.where(best, -np.inf, values).max(axis=-1)
        leading = np.einsum("ntr,nr->nt", shares, best)
        start = np.sum(probs * rates, axis=-1), np.sum(probs * best, axis=-1)
        failed = np.where(status > Status.STATIONARY, np.nan, 0)
        found = []
        for path, first, level in (
            (accuracy, start[0], second),
            (leading, start[1], np.full(len(probs), 1 - self._eps)),
        ):
            crossed = _first_crossing(log_times, path, first, level) + failed
            ended = np.where(np.isposinf(crossed), Status.STATIONARY, Status.EVENT)
            found += [crossed, np.where(np.isnan(crossed), status, ended)]
        return kinds, gamma, *found

    def follow(
        self,
        tables: Tables,
        weights: Float[np.ndarray, " Q"],
        log_times: Float[np.ndarray, " T"],
    ) -> tuple[Float[np.ndarray, "D T"], Float[np.ndarray, "D T R"], Int[np.ndarray, " N"]]:
        """Accuracy and pattern shares at log times, means over questions, and all statuses."""
        draws, questions, patterns = tables.probs.shape
        width = width_for(patterns)
        block = max(1, 20_000_000 // (questions * len(log_times) * width))
        found = []
        for first in range(0, draws, block):
            part = slice(first, first + block)
            probs, rates = (_padded(x[part], width) for x in tables)
            own = np.tile(log_times[None] + np.log(weights)[:, None], (len(probs) // questions, 1))
            accuracy, shares, status = self._rows((probs, rates, own))
            accuracy = accuracy.reshape(-1, questions, len(log_times))
            shares = shares[..., :patterns].reshape(-1, questions, len(log_times), patterns)
            mean = np.einsum("q,dqt->dt", weights, accuracy)
            found.append((mean, np.einsum("q,dqtr->dtr", weights, shares), status))
        accuracy, shares, status = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return accuracy, shares, status

    def paths(
        self,
        probs: Float[np.ndarray, "N R"],
        rates: Float[np.ndarray, "N R"],
        log_times: Float[np.ndarray, "N T"],
    ) -> Float[np.ndarray, "N T R"]:
        """Pattern shares of tables of one question, each at log times of its own; T is `ROWS`."""
        width = width_for(probs.shape[-1])
        inputs = _padded(probs, width), _padded(rates, width), log_times
        return self._few_rows(inputs)[1][..., : probs.shape[-1]]


def _slowed(found: Times, weights: Float[np.ndarray, " Q"]) -> Times:
    with np.errstate(divide="ignore"):
        slower = -np.log(weights)[None]
    return found._replace(
        log_entanglement=found.log_entanglement + slower,
        log_convergence=found.log_convergence + slower,
    )


def _first_crossing(
    log_times: Float[np.ndarray, " T"],
    path: Float[np.ndarray, "N T"],
    start: Float[np.ndarray, " N"],
    level: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
    """Log times at which paths first reach a level, linear between rows in the time; -inf if they
    start there, inf if they never do."""
    times = np.concatenate([[0], np.exp(log_times)])
    every = np.concatenate([start[:, None], path], axis=1)
    above = every >= level[:, None]
    at = np.argmax(above, axis=1)
    rows, before = np.arange(len(path)), np.maximum(at - 1, 0)
    rise = every[rows, at] - every[rows, before]
    part = (level - every[rows, before]) / np.where(rise > 0, rise, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(times[before] + part * (times[at] - times[before]))
    found = np.where(at == 0, -np.inf, found)
    return np.where(above.any(axis=1), found, np.inf)


class _Unseen(NamedTuple):
    """What goes with a key of a cache, and does not count in it."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unseen)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(16)
def _made(key: Any, of: _Unseen) -> Solver:
    return Solver(*of.value)


def regimes_of(objective: Objective) -> Callable:
    """The regimes of tables `(..., Q, R)`, compiled by who calls it: `(..., Q)`."""

    def one(probs, rates):
        policy, problem = two_stage(probs, rates)
        return regime(policy, GradientFlow(objective, problem))[0]

    def all_of(probs, rates):
        flat = (x.reshape(-1, x.shape[-1]) for x in (probs, rates))
        return jax.vmap(one)(*flat).reshape(probs.shape[:-1])

    return all_of


def regime_counts(kinds: jax.Array) -> jax.Array:
    """How large a share of draws `(D, ...)` is of each regime: `(..., 3)`."""
    of_kind = jnp.arange(3).reshape((1,) * kinds.ndim + (3,))
    return jnp.mean(kinds[..., None] == of_kind, axis=0)
