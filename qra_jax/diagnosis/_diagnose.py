"""From rollouts to a diagnosis."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray

from .._core.checks import require, require_all, whole
from ..flows._status import Status
from ..objectives._objective import Objective
from ..posteriors._posteriors import (
    AbstractPosterior,
    PartialPosterior,
    Prior,
    check_counts,
    partial_posterior,
    per_question_posterior,
    pooled_posterior,
)
from ..rollouts._rollouts import Rollouts
from ..times._regime import Regime
from ._limits import limits_of
from ._result import Band, Diagnosis, Forecast, TimeBand, band
from ._rlif import Rewards, internal_rewards, risk
from ._run import MOST_STEPS, TrainingRun, drawn, forecast_run, objective_of
from ._settle import open_points, width_of
from ._solve import ROWS, Solver, Tables, Times, width_for
from ._tables import pass_at_k_of, stuck_questions

Pooling = Literal["pooled", "per_question", "partial"]
_POOLINGS = ("pooled", "per_question", "partial")
_OTHERS = "other patterns"
_partial = jax.jit(partial_posterior, static_argnums=3)


class _Model(NamedTuple):
    """Rollouts as modelled: rare patterns grouped, unseen questions left out."""

    questions: tuple[str, ...]
    patterns: tuple[str, ...]
    samples: Float[np.ndarray, "Q R"]
    correct: Float[np.ndarray, "Q R"]
    asked: Int[np.ndarray, " Q"]
    pattern_of: Int[np.ndarray, " R0"]
    grouped: int


def _modelled(rollouts: Rollouts, most: int) -> _Model:
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
    return _Model(questions, names, merged(samples), merged(correct), asked, pattern_of, grouped)


def _as_rollouts(rollouts: Rollouts | tuple[ArrayLike, ArrayLike]) -> Rollouts:
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


def _posterior(pooling: str, key: PRNGKeyArray, model: _Model, prior: Prior) -> AbstractPosterior:
    """Of patterns padded to one of few widths, for which alone programs are compiled."""
    number = len(model.patterns)
    width = width_for(number)
    extra = ((0, 0), (0, width - number))
    counts = np.pad(model.samples, extra), np.pad(model.correct, extra)
    exists = np.arange(width) < number
    if pooling == "partial":
        return _partial(key, *counts, prior, exists=exists)
    kind = pooled_posterior if pooling == "pooled" else per_question_posterior
    return kind(*counts, prior, exists=exists)


def _finite_band(log_times: np.ndarray, where: np.ndarray) -> Band:
    """The band of the draws that are finite, and meant."""
    return band(np.where(np.isfinite(log_times) & where, log_times, np.nan))


def _time_band(log_times: np.ndarray) -> TimeBand:
    return TimeBand(
        at_once=np.mean(log_times == -np.inf, axis=0),
        never=np.mean(log_times == np.inf, axis=0),
        failed=np.mean(np.isnan(log_times), axis=0),
        band=_finite_band(log_times, np.isfinite(log_times)),
        overall=band(log_times),
    )


def _forecast(solver: Solver, tables: Tables, weights, times: Times) -> tuple[Forecast, np.ndarray]:
    """Up to where three of four draws have converged, and a little on; and all statuses."""
    ends = times.log_convergence[np.isfinite(times.log_convergence)]
    last = max(np.quantile(ends, 0.75) + 2 if ends.size else 0.0, 4 - np.log(weights.max()))
    log_times = np.linspace(-1 - np.log(weights.max()), last, ROWS)
    accuracy, shares, status = solver.follow(tables, weights, log_times)
    return Forecast(
        log_times=log_times,
        accuracy=band(accuracy),
        pattern_shares=band(shares),
        start_accuracy=band(tables.accuracy @ weights),
        end_accuracy=band(tables.values.max(axis=-1) @ weights),
    ), status


def _run_of(rollouts: Rollouts, run: TrainingRun | None, model: _Model) -> TrainingRun | None:
    """The run, with the later steps of the rollouts as its logs if it has none."""
    if len(rollouts.steps) < 2 or (run is not None and run.logged is not None):
        return run
    first, *later = rollouts.steps
    logged, patterns, width = [], [], width_for(len(model.patterns))
    for step in later:
        at = rollouts.at_step(step)
        logged.append((step - first, at.count[at.correct].sum(), at.count.sum()))
        used = model.pattern_of[at.pattern]
        patterns.append(np.bincount(used, weights=at.count, minlength=width))
    logs, used = np.array(logged), np.array(patterns)
    if run is None:
        number = min(10 * (later[-1] - first), MOST_STEPS)
        return TrainingRun(number, logged=logs, logged_patterns=used)
    return dataclasses.replace(run, logged=logs, logged_patterns=used)


def _statuses(*of: np.ndarray) -> dict[str, int]:
    codes = np.concatenate([array.ravel() for array in of])
    return {Status(code).name: int(np.sum(codes == code)) for code in np.unique(codes).tolist()}


def _strengths(
    posterior: AbstractPosterior, patterns: int, rng: np.random.Generator
) -> Band | None:
    if not isinstance(posterior, PartialPosterior):
        return None
    levels = [(posterior.patterns.strengths, posterior.patterns.log_weights)]
    answers = posterior.answers
    levels += list(zip(answers.strengths, answers.log_weights, strict=True))[:patterns]
    columns = []
    for strengths, log_weights in levels:
        chance = np.exp(np.asarray(log_weights, float))
        columns.append(rng.choice(np.asarray(strengths), size=999, p=chance / chance.sum()))
    return band(np.stack(columns, axis=1))


def diagnose(
    rollouts: Rollouts | tuple[ArrayLike, ArrayLike],
    *,
    pooling: Pooling = "pooled",
    prior: Prior = Prior(),
    objective: Objective | None = None,
    eps: float = 0.1,
    draws: int = 399,
    seed: int = 0,
    run: TrainingRun | None = None,
    ks: Sequence[int] = (1, 2, 4, 8, 16, 32),
    max_patterns: int = 16,
) -> Diagnosis:
    r"""What rollouts of a base model say of the training to come, and how sure that is.

    Shares and success rates are drawn from their posterior, and every draw goes through the exact
    solver: $P(\text{statement}) \approx$ the share of draws for which it holds.

    **Arguments:**

    - `rollouts`: a `Rollouts`, or a pair `(samples, correct)` of counts, `(R,)` or `(Q, R)`. Of
      rollouts at several training steps the first is the base model, the others are logs of `run`.
    - `pooling`: `"pooled"` (one policy for all questions), `"per_question"` (each by itself) or
      `"partial"` (as alike as the data say). Beyond `"pooled"`, the flow is that of tables: every
      question at its weight, 1/Q, times the speed.
    - `prior`: see `Prior`.
    - `objective`: of verifiable rewards, without penalties. For GRPO with
      groups of M it is `Objective(Verifiable(), utility=GRPO(M))`: the same way, another clock.
      Unless given that of the run's sampler, or `RLVR()`.
    - `eps`: converged means $\pi(r^*) = 1 - \epsilon$.
    - `draws`: D, at least 20; 20 i - 1 makes the bands exact.
    - `seed`: of all randomness.
    - `run`: a `TrainingRun` to forecast over its steps.
    - `ks`: for pass@k.
    - `max_patterns`: beyond so many, the rarest are grouped as one.

    **Returns:** a `Diagnosis`. Solves that fail are counted in its `status`.

    **Raises:** `ValueError` if a number is out of range, there are no rollouts, or the objective's
    flow has no exact solution.

    ??? example

        ```python
        import jax
        jax.config.update("jax_enable_x64", True)
        from qra_jax.diagnosis import diagnose
        found = diagnose(([412, 383, 5], [373, 350, 5]), draws=99)
        print(found.regime_probs, found.limits)
        ```

    Source: derived in docs.
    """
    objective = objective_of(objective, run)
    require(pooling in _POOLINGS, "pooling", f"be one of {_POOLINGS}", repr(pooling))
    require(0 < eps < 1, "eps", "lie strictly between 0 and 1", eps)
    whole(draws, "draws", 20)
    whole(seed, "seed", 0)
    whole(max_patterns, "max_patterns", 2)
    for k in ks:
        whole(k, "ks", 1)
    source = _as_rollouts(rollouts)
    base = source.base_model()
    model = _modelled(base, max_patterns)
    run = _run_of(source, run, model)
    key, rng = jax.random.key(seed), np.random.default_rng([seed, 0])
    keys = [jax.random.fold_in(key, i) for i in range(2)]
    posterior = _posterior(pooling, keys[0], model, prior)
    padded = drawn(posterior, keys[1], draws)
    tables = Tables(*(x[..., : len(model.patterns)] for x in padded))
    number = tables.probs.shape[1]
    weights = np.full(number, 1 / number)
    together = pooling == "pooled"
    samples = model.samples.sum(0, keepdims=True) if together else model.samples
    correct = model.correct.sum(0, keepdims=True) if together else model.correct

    solver = Solver.of(objective, eps)
    times = solver.times(tables, weights)
    kinds = np.stack([np.mean(times.regime == kind, axis=0) for kind in Regime], axis=-1)
    forecast, row_status = _forecast(solver, tables, weights, times)
    values, start = tables.values, tables.accuracy[..., None]
    best = values == values.max(axis=-1, keepdims=True)
    rewards = internal_rewards(base, model.pattern_of)
    risks = None
    if rewards is not None:
        of_model = _renumbered(rewards, model.asked, len(base.questions))
        risks = risk(of_model, tables, weights, len(model.asked), rng)
    strong = times.regime == Regime.STRONG
    planned = None
    if run is not None:
        planned = forecast_run(posterior, run, objective=objective, draws=draws, seed=seed)
        shares = (x[:, : len(model.patterns)] for x in vars(planned.pattern_shares).values())
        planned = dataclasses.replace(planned, pattern_shares=Band(*shares))
    status = _statuses(times.entanglement_status, times.convergence_status, row_status)
    found = Diagnosis(
        patterns=model.patterns,
        questions=("all questions",) if together else model.questions,
        weights=weights,
        samples=samples,
        correct=correct,
        pooling=pooling,
        prior=prior,
        objective=repr(objective),
        eps=eps,
        draws=draws,
        seed=seed,
        strengths=_strengths(posterior, len(model.patterns), rng),
        pattern_probs=band(tables.probs),
        success_rates=band(tables.rates),
        accuracy=band(tables.accuracy @ weights),
        regime_probs=kinds,
        best_probs=np.mean(best, axis=0),
        misleading_probs=np.mean((values > start) & ~best, axis=0),
        gamma=band(times.gamma),
        log_entanglement_time=_time_band(times.log_entanglement),
        log_convergence_time=_time_band(times.log_convergence),
        log_convergence_if_strong=_finite_band(times.log_convergence, strong),
        log_convergence_if_weak=_finite_band(times.log_convergence, ~strong),
        forecast=forecast,
        step_forecast=planned,
        rlif=risks,
        pass_at_k=pass_at_k_of(ks, model.samples, model.correct, tables, weights),
        stuck=stuck_questions(model.questions, model.samples, model.correct, prior),
        num_questions=len(source.questions),
        open_points=open_points(
            posterior,
            objective,
            solver,
            samples.sum(axis=1),
            weights,
            padded,
            float(kinds.max(axis=-1).mean()),
            float(np.median(width_of(times.log_convergence))),
            seed,
        ),
        limits=(),
        status=status,
    )
    missing = len(source.questions) - len(model.asked)
    return dataclasses.replace(
        found, limits=limits_of(found, source, model.grouped, missing, posterior)
    )


def _renumbered(rewards: Rewards, asked: np.ndarray, questions: int) -> Rewards:
    place = np.zeros(questions, np.int64)
    place[asked] = np.arange(len(asked))
    return rewards._replace(question=place[rewards.question])
