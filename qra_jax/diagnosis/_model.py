"""Rollouts as they are modelled: tables of counts, rare patterns grouped."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from .._core.checks import require, require_all
from ..posteriors._clustered import LEAST_QUESTIONS, design_effects
from ..posteriors._posteriors import check_counts
from ..rollouts._rollouts import Rollouts
from ._log_fit import Logs
from ._rlif import Rewards, internal_rewards
from ._run import MOST_STEPS, TrainingRun
from ._solve import width_for

_OTHERS = "other patterns"
_SAME_RATE = 0.1  # parts of the largest learning rate


class Model(NamedTuple):
    """Rollouts as modelled: rare patterns grouped, unseen questions left out."""

    questions: tuple[str, ...]
    patterns: tuple[str, ...]
    samples: Float[np.ndarray, "Q R"]
    correct: Float[np.ndarray, "Q R"]
    asked: Int[np.ndarray, " Q"]
    pattern_of: Int[np.ndarray, " R0"]
    grouped: int


def modelled(rollouts: Rollouts, most: int) -> Model:
    """The rollouts of one model, with at most so many patterns."""
    samples, correct = (x.astype(float) for x in rollouts.counts())
    require(bool(samples.sum() > 0), "rollouts", "hold at least one rollout", "none")
    asked = np.flatnonzero(samples.sum(axis=1) > 0)
    number = len(rollouts.patterns)
    pattern_of, names, grouped = np.arange(number), rollouts.patterns, 0
    if number > most:
        common = np.argsort(-samples.sum(axis=0), kind="stable")[: most - 1]
        kept = np.sort(common)
        pattern_of = np.full(number, most - 1)
        pattern_of[kept] = np.arange(most - 1)
        grouped = number - len(kept)
        label = _OTHERS
        while label in names:
            label += "'"
        names = (*(names[i] for i in kept), label)

    def merged(table: np.ndarray) -> np.ndarray:
        return table[asked] @ (pattern_of[:, None] == np.arange(len(names)))

    questions = tuple(rollouts.questions[i] for i in asked)
    return Model(questions, names, merged(samples), merged(correct), asked, pattern_of, grouped)


def as_rollouts(rollouts: Rollouts | tuple[ArrayLike, ArrayLike]) -> Rollouts:
    """Tables of counts as rollouts, with numbers for names."""
    if isinstance(rollouts, Rollouts):
        return rollouts
    if not (isinstance(rollouts, tuple) and len(rollouts) == 2):
        raise TypeError(f"rollouts must be Rollouts or (samples, correct), got {rollouts!r}")
    samples, correct = (np.asarray(x) for x in check_counts(*rollouts))
    for name, table in (("samples", samples), ("correct", correct)):
        require_all(table, lambda x: x == np.floor(x), name, "be whole numbers")
    tables = np.stack([samples - correct, correct], axis=-1).astype(np.int64)
    question, pattern, right = np.nonzero(tables)
    questions, patterns = (tuple(map(str, range(size))) for size in samples.shape)
    count = tables[question, pattern, right]
    return Rollouts(questions, patterns, question, pattern, right.astype(bool), count)


def _effect(rollouts: Rollouts) -> float:
    samples, correct = (x.astype(float) for x in rollouts.counts())
    asked = samples.sum(axis=1) > 0
    if asked.sum() < LEAST_QUESTIONS:
        return 1.0
    found = design_effects(samples[asked], correct[asked])
    return max(found.accuracy, found.shares)


def run_of(
    rollouts: Rollouts, run: TrainingRun | None, model: Model, questions: str
) -> tuple[TrainingRun | None, float]:
    """The run, with the later steps of the rollouts as its logs if it has none; and how many
    independent samples one of these counts as."""
    plain = rollouts.without_patterns
    later = dict.fromkeys(rollouts.steps[1:], rollouts)
    later |= {} if plain is None else dict.fromkeys(plain.steps, plain)
    run = None if run is None else with_rates(run, rollouts)
    if not later or (run is not None and run.logged is not None):
        return run, 1.0
    first = rollouts.steps[0]
    logged, patterns, rights, width = [], [], [], width_for(len(model.patterns))
    effects = []
    for step, source in sorted(later.items()):
        at = source.at_step(step)
        if questions == "sampled":
            effects.append(_effect(at))
        logged.append((step - first, at.count[at.correct].sum(), at.count.sum()))
        used = model.pattern_of[at.pattern]
        for rows, count in ((patterns, at.count), (rights, at.count * at.correct)):
            known = source is rollouts
            rows.append(np.bincount(used, count * known, minlength=width))
    found = {"logged": logged}
    if len(rollouts.steps) > 1:
        found |= {"logged_patterns": patterns, "logged_right": rights}
    logs = {name: np.array(rows, float) for name, rows in found.items()}
    # Samples of the same question are alike: as many independent ones as they are worth.
    worth = float(1 / np.mean(effects)) if effects else 1.0
    for rows in logs.values():
        rows[:, int(rows is logs["logged"]) :] *= worth
    if run is None:
        run = with_rates(TrainingRun(min(10 * (max(later) - first), MOST_STEPS)), rollouts)
    return dataclasses.replace(run, **logs), worth


def with_rates(run: TrainingRun, rollouts: Rollouts) -> TrainingRun:
    """The run, with the learning rates that were logged as its schedule; an optimiser has its own.

    **Raises:** `ValueError` if the run has a schedule of its own that contradicts them.
    """
    logged = rollouts.learning_rates
    if logged is None or run.optimiser is not None:
        return run
    if run.schedule is None:
        return dataclasses.replace(run, schedule=rollouts.schedule())
    steps, rates = logged[:, 0] - rollouts.steps[0], logged[:, 1] / logged[:, 1].max()
    own = run.rates()
    assert own is not None
    inside = (steps >= 0) & (steps < len(own))
    given, seen = own[steps[inside].astype(int)], rates[inside]
    if seen.size and seen.max() > 0:
        # Only the shape can be compared.
        given, seen = (x / x.max() if x.max() > 0 else x for x in (given, seen))
        at = int(np.argmax(np.abs(given - seen)))
        must = (
            "agree with the rollouts' learning rates (--learning-rate-field '' leaves these out), "
            f"{seen[at]:.3g} of the largest at step {steps[inside][at]:.0f}"
        )
        close = abs(given[at] - seen[at]) <= _SAME_RATE
        require(bool(close), "schedule", must, f"{given[at]:.3g}")
    return run


class RunLogs(NamedTuple):
    """Later steps of a run: those with patterns and their right answers, and those of which right
    and wrong answers alone are known."""

    sorted: Logs | None = None
    plain: Logs | None = None

    def __bool__(self) -> bool:
        return self.sorted is not None or self.plain is not None


def logs_of(run: TrainingRun | None, patterns: int) -> RunLogs:
    """Later steps at which the clock has moved, without padding."""
    if run is None or run.logged is None:
        return RunLogs()
    steps, right, graded = np.asarray(run.logged, float).reshape(-1, 3).T
    if not np.any(steps > 0):
        return RunLogs()
    samples, correct = np.zeros((2, len(steps), patterns))
    if run.logged_patterns is not None and run.logged_right is not None:
        both = run.logged_patterns, run.logged_right
        samples, correct = (np.asarray(x, float)[:, :patterns] for x in both)
    clock = run.plan().clock(steps)
    known = samples.sum(axis=1) > 0

    def logs(which, *tables) -> Logs | None:
        which = which & (clock > 0)
        return Logs(steps[which], clock[which], *(x[which] for x in tables)) if any(which) else None

    return RunLogs(logs(known, samples, correct), logs(~known, graded[:, None], right[:, None]))


def rewards_of(base: Rollouts, model: Model) -> Rewards | None:
    """Internal rewards of the base model's rollouts, by questions and patterns as modelled; None
    if they have none."""
    found = internal_rewards(base, model.pattern_of)
    if found is None:
        return None
    place = np.zeros(len(base.questions), np.int64)
    place[model.asked] = np.arange(len(model.asked))
    return found._replace(question=place[found.question])
