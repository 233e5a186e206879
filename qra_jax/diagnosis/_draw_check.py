"""The check of logs where questions are told apart: by the draws of the forecast themselves.

Source: derived in docs/diagnosis.md#where-questions-are-told-apart.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._check import adjusted
from ._checked import LogCheck
from ._forecast import LEAST, fit_scale, systematic
from ._plan import Plan
from ._solve import Solver, Tables

_REPLICATES = 199
_FLOOR = 0.25  # of a variance: a single sample where none is expected refutes nothing


class _Kind(NamedTuple):
    """Counts of C outcomes at L logs: of right and wrong answers, or of patterns. Of all pairs of
    draw and scale the chances `(D, S, L, C)`; of the logs and of N - 1 replicates the counts."""

    name: str
    chances: Float[np.ndarray, "D S L C"]
    counts: Float[np.ndarray, "N L C"]

    @classmethod
    def drawn(cls, name: str, chances, logged, source, rng: np.random.Generator) -> "_Kind":
        """Replicates from the pairs `source`."""
        total = logged.sum(axis=-1)
        whole = np.maximum(np.rint(total), 1)
        of_source = chances[source]
        of_source = of_source / of_source.sum(axis=-1, keepdims=True)
        counts = rng.multinomial(whole.astype(int), of_source) * (total / whole)[:, None]
        return cls(name, chances, np.concatenate([logged[None], counts]))

    def fits(self) -> Float[np.ndarray, "N D S"]:
        """The log-likelihood of every row for every pair."""
        return np.einsum("dslc,nlc->nds", np.log(np.maximum(self.chances, LEAST)), self.counts)

    def departures(self, best) -> list[np.ndarray]:
        """From the best pair of each row: the largest one, and the sum of squares."""
        expected = self.counts.sum(axis=-1, keepdims=True) * self.chances[best]
        scaled = (self.counts - expected) / np.sqrt(expected + _FLOOR)
        flat = scaled.reshape(len(scaled), -1)
        return [np.max(np.abs(flat), axis=1), np.sum(flat**2, axis=1)]


def check_by_draws(
    solver: Solver,
    tables: Tables,
    weights: Float[np.ndarray, " Q"],
    plan: Plan,
    seed: int,
    number: int,
) -> LogCheck | None:
    """Whether logs of a run are such as draws of base models and scales give; None without logs.

    The best pair of draw and scale is found for the logs, and for logs that are drawn from likely
    pairs, each among the other draws: that draws are too few shows in both alike.

    **Arguments:** `tables`: draws; `plan`: with the logs; `seed`; `number`: of patterns, the others
    only pad.
    """
    moved = plan.clock(plan.logs[:, 0]) > 0
    if not moved.any():
        return None
    patterns = None if plan.patterns is None else plan.patterns[moved]
    plan = plan._replace(logs=plan.logs[moved], patterns=patterns)
    fit = fit_scale(solver, tables, weights, plan)
    log_times = fit.log_scales[:, None] + plan.log_clock(plan.logs[:, 0])
    accuracy, shares = fit.curves.at(log_times), fit.curves.at(log_times, True)
    rng = np.random.default_rng([seed, 8])
    source = np.unravel_index(systematic(fit.weights.ravel(), _REPLICATES), fit.weights.shape)
    right, graded = plan.logs[:, 1], plan.logs[:, 2]
    both = np.clip(np.stack([accuracy, 1 - accuracy], axis=-1), 0, 1)
    kinds = [_Kind.drawn("accuracy", both, np.stack([right, graded - right], -1), source, rng)]
    known = np.zeros(len(graded), bool) if patterns is None else patterns.sum(axis=1) > 0
    logged = np.full(shares.shape[2:], np.nan)
    if patterns is not None and known.any():
        kinds.append(_Kind.drawn("shares", shares[:, :, known], patterns[known], source, rng))
        logged[known] = patterns[known] / patterns[known].sum(axis=1, keepdims=True)
    fits = np.sum([kind.fits() for kind in kinds], axis=0)
    # A replicate must not find the very draw that it comes from.
    fits[1 + np.arange(_REPLICATES), source[0]] = -np.inf
    best = np.unravel_index(fits.reshape(len(fits), -1).argmax(axis=1), fits.shape[1:])
    columns = [column for kind in kinds for column in kind.departures(best)]
    names = [kind.name for kind in kinds for _ in range(2)]
    each = adjusted(np.stack(columns, axis=1), names, np.ones(len(names)))
    return LogCheck(
        chance=min(each.values()),
        chances=each,
        steps=plan.logs[:, 0],
        accuracy=right / graded,
        expected_accuracy=np.einsum("ds,dsl->l", fit.weights, accuracy),
        pattern_shares=logged[:, :number],
        expected_shares=np.einsum("ds,dslr->lr", fit.weights, shares)[:, :number],
        changes=(),
        with_patterns=int(known.sum()),
        without_patterns=int((~known).sum()),
        least_drift=float("nan"),
        least_slowing=float("nan"),
    )
