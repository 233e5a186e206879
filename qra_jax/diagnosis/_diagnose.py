"""From rollouts to a diagnosis."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from .._core.checks import require, whole
from ..flows._status import Status
from ..objectives._objective import Objective
from ..posteriors._clustered import ClusteredPosterior, weights_shape
from ..posteriors._posteriors import (
    AbstractPosterior,
    PartialPosterior,
    Prior,
    partial_posterior,
    per_question_posterior,
)
from ..posteriors._spread import question_spread
from ..rollouts._rollouts import Rollouts
from ..training._groups import SampledGroups
from ..training._noise import StepNoise, noisy_runs
from ._bands import Band, band
from ._check import check_logs_of
from ._checked import LogCheck
from ._diagnosis import Diagnosis
from ._draw_check import check_by_draws
from ._drift import RateDrift
from ._group_size import check_budget
from ._level_check import check_by_levels
from ._limits import limits_of
from ._model import Model, RunLogs, as_rollouts, logs_of, modelled, rewards_of, run_of
from ._pooled import Pooled, pooled, resamples
from ._result import DiagnosedData, DiagnosisSettings, StartEstimate, StepForecast
from ._rlif import risk
from ._rlvr import forecast_of, regime_of, rlvr_of
from ._run import TrainingRun, drawn, forecast_run, objective_of
from ._settle import open_points, width_of
from ._signal import signal_of
from ._signal_path import Verifier, groups_of, path_ahead, verifier_of
from ._solve import Solver, Tables, beta_of, width_for
from ._tables import pass_at_k_of, stuck_questions

Pooling = Literal["pooled", "per_question", "partial"]
_KEPT = 16  # draws for the design of fine-tuning
Questions = Literal["sampled", "fixed"]
_QUESTIONS = ("sampled", "fixed")
_POOLINGS = ("pooled", "per_question", "partial")
_noisy_runs = jax.jit(noisy_runs, static_argnums=6)
_partial = jax.jit(partial_posterior, static_argnums=3)


def _posterior(pooling: str, key: PRNGKeyArray, model: Model, prior: Prior) -> AbstractPosterior:
    """Of questions told apart; of patterns padded to one of few widths, for which alone programs
    are compiled."""
    number = len(model.patterns)
    width = width_for(number)
    extra = ((0, 0), (0, width - number))
    counts = np.pad(model.samples, extra), np.pad(model.correct, extra)
    exists = np.arange(width) < number
    if pooling == "partial":
        return _partial(key, *counts, prior, exists=exists)
    return per_question_posterior(*counts, prior, exists=exists)


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


def _check(asked: DiagnosisSettings, ks: Sequence[int], max_patterns: int) -> None:
    require(asked.pooling in _POOLINGS, "pooling", f"be one of {_POOLINGS}", repr(asked.pooling))
    must = f"be one of {_QUESTIONS}"
    require(asked.questions in _QUESTIONS, "questions", must, repr(asked.questions))
    require(0 < asked.eps < 1, "eps", "lie strictly between 0 and 1", asked.eps)
    whole(asked.draws, "draws", 20)
    whole(asked.seed, "seed", 0)
    whole(max_patterns, "max_patterns", 2)
    for k in ks:
        whole(k, "ks", 1)


def _data(model: Model, asked: DiagnosisSettings, num_questions: int) -> DiagnosedData:
    together = asked.pooling == "pooled"
    tables = (model.samples, model.correct)
    samples, correct = (x.sum(0, keepdims=True) for x in tables) if together else tables
    return DiagnosedData(
        patterns=model.patterns,
        questions=("all questions",) if together else model.questions,
        weights=np.full(len(samples), 1 / len(samples)),
        samples=samples,
        correct=correct,
        num_questions=num_questions,
        stuck=stuck_questions(model.questions, model.samples, model.correct, asked.prior),
    )


def _step_forecast(
    posterior: AbstractPosterior,
    run: TrainingRun | None,
    objective: Objective,
    asked: DiagnosisSettings,
    patterns: int,
    drift: RateDrift | None,
    model: Model,
) -> StepForecast | None:
    """Of the patterns that there are, without the padding."""
    if run is None:
        return None
    found = forecast_run(
        posterior,
        run,
        objective=objective,
        draws=asked.draws,
        seed=asked.seed,
        eps=asked.eps,
        drift=drift,
        spread=question_spread(model.samples, model.correct),
    )
    shares = (x[:, :patterns] for x in vars(found.pattern_shares).values())
    return dataclasses.replace(found, pattern_shares=Band(*shares))


def _noisy(run: TrainingRun, seed: int):
    """Runs with the training noise of the sampler, for the check of logs; None without one."""
    if run.sampler is None:
        return None
    noise = StepNoise(run.sampler)

    def runs(probs, rates, scale, steps):
        rows = np.rint(steps).astype(int)
        speeds = run.rates()
        scales = np.full(rows[-1], scale) if speeds is None else scale * speeds[: rows[-1]]
        key = jax.random.fold_in(jax.random.key(seed), 7)
        arrays = (jnp.asarray(x) for x in (probs, rates, scales, rows))
        return np.asarray(_noisy_runs(key, noise, *arrays, 199))

    return runs


def _checked(
    model: Model,
    together: Pooled,
    run: TrainingRun | None,
    logs: RunLogs,
    log_worth: float,
    solver: Solver,
    asked: DiagnosisSettings,
) -> LogCheck | None:
    """None without logs; `log_worth`: independent samples that one of a log counts as."""
    if run is None or not logs:
        return None
    worth = min(together.accuracy_worth, together.shares_worth)
    prior, known = asked.prior, run.learning_rate
    found = check_logs_of(
        solver,
        model.samples.sum(axis=0) * worth,
        model.correct.sum(axis=0) * worth,
        logs.sorted,
        plain=logs.plain,
        scale_range=run.scale_range if known is None else (known, known),
        prior=(prior.concentration, prior.right, prior.wrong),
        noisy=_noisy(run, asked.seed),
        seed=asked.seed,
    )
    return found.in_samples(log_worth, worth)


def _checked_by_levels(
    found: StepForecast | None, run: TrainingRun | None, model: Model, logs: RunLogs, worth: float
) -> LogCheck | None:
    """Of a run with its own optimiser; None without logs."""
    if found is None or run is None:
        return None
    samples, correct = model.samples.sum(axis=0), model.correct.sum(axis=0)
    number = len(model.patterns)
    check = check_by_levels(found, run.plan(), number, samples, correct, logs.sorted)
    return None if check is None else check.in_samples(worth)


def _worth(model: Model, together: Pooled | None, questions: str) -> float | None:
    if together is None or not resamples(model, questions):
        return None
    return float(model.samples.sum() * together.accuracy_worth)


def _number_of(model: Model, posterior: AbstractPosterior) -> tuple[int, int | None] | None:
    """Rollouts, and of each question, where these are resampled."""
    if not isinstance(posterior, ClusteredPosterior):
        return None
    total = model.samples.sum()
    return int(total), max(1, round(total / len(model.samples)))


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
    questions: Questions = "sampled",
    groups: SampledGroups | None = None,
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
    - `objective`: of verifiable rewards, or those of a noisy verifier; with at most a reverse KL
      penalty from the base model, and then only if questions are pooled. For GRPO with groups of
      M it is `Objective(Verifiable(), utility=GRPO(M))`: the same way, another clock.
      Unless given that of the run's sampler, or `RLVR()`.
    - `eps`: converged means $\pi(r^*) = 1 - \epsilon$.
    - `draws`: D, at least 20; 20 i - 1 makes the bands exact.
    - `seed`: of all randomness.
    - `run`: a `TrainingRun` to forecast over its steps.
    - `ks`: for pass@k.
    - `max_patterns`: beyond so many, the rarest are grouped as one.
    - `questions`: with `"pooled"`, whether those of the file are `"sampled"` from many like them
      (they are resampled, and patterns are compared within them), or `"fixed"`, all that matter.
    - `groups`: of samples in a step, with a `batch`, of which `signal` tells how many are of use;
      64 groups of 8 unless given, or those of the run's sampler.

    **Returns:** a `Diagnosis`. Solves that fail are counted in its `status`.

    **Raises:** `ValueError` if a number is out of range, there are no rollouts, or the objective's
    flow has no exact solution.

    ??? example

        ```python
        import jax
        jax.config.update("jax_enable_x64", True)
        from qra_jax.diagnosis import diagnose
        found = diagnose(([412, 383, 5], [373, 350, 5]), draws=99)
        print(found.regime.probs, found.limits)
        ```

    Source: derived in docs/diagnosis.md#what-is-computed.
    """
    objective = objective_of(objective, run)
    asked = DiagnosisSettings(pooling, prior, repr(objective), eps, draws, seed, questions)
    _check(asked, ks, max_patterns)
    beta = beta_of(objective)
    alone = beta == 0 or pooling == "pooled"
    require(alone, "beta", 'be 0 unless pooling is "pooled"', beta)
    verifier = verifier_of(objective)
    noisy = run is not None and run.sampler is not None and verifier != Verifier()
    must = "be without a sampler where the verifier errs or a KL penalty pulls"
    require(not noisy, "run", must, None if run is None else repr(run.sampler))
    own = run is not None and run.optimiser is not None
    must = 'be of patterns pooled over questions: pooling must be "pooled"'
    require(not own or pooling == "pooled", "run.optimiser", must, pooling)
    groups = groups_of(groups, run)
    check_budget(groups, *verifier[:2])
    source = as_rollouts(rollouts)
    base = source.base_model()
    model = modelled(base, max_patterns)
    run, log_worth = run_of(source, run, model, questions)
    number, data = len(model.patterns), _data(model, asked, len(source.questions))
    key, rng = jax.random.key(seed), np.random.default_rng([seed, 0])
    keys = [jax.random.fold_in(key, i) for i in range(2)]
    solver = Solver.of(objective, eps)
    logs = logs_of(run, number)
    together, check = None, None
    if pooling == "pooled":
        together = pooled(model, prior, questions, logs.sorted)
        posterior = together.posterior
        if not own:
            check = _checked(model, together, run, logs, log_worth, solver, asked)
    else:
        posterior = _posterior(pooling, keys[0], model, prior)
    drift = None if together is None else together.drift
    padded = drawn(posterior, keys[1], draws)
    tables = Tables(*(x[..., :number] for x in padded))
    if run is not None and logs and together is None:
        check = check_by_draws(solver, padded, data.weights, run.plan(), seed, number)
    steps = _step_forecast(posterior, run, objective, asked, number, drift, model)
    if own:
        check = _checked_by_levels(steps, run, model, logs, log_worth)
    times = solver.times(tables, data.weights)
    regime = regime_of(tables, times)
    ahead = forecast_of(solver, tables, data.weights, times)
    sampled = resamples(model, questions)
    rewards, risks = rewards_of(base, model), None
    if rewards is not None:
        resampled = None
        if sampled:
            shape = weights_shape(model.samples.sum(axis=1))
            resampled = rng.gamma(shape, 1 / shape, (draws, len(model.asked)))
        risks = risk(rewards, tables, data.weights, len(model.asked), rng, resampled)
    path = path_ahead(pooling, tables, times, ahead, beta)
    found = Diagnosis(
        data=data,
        settings=asked,
        start=StartEstimate(
            pattern_probs=band(tables.probs),
            success_rates=band(tables.rates),
            accuracy=band(tables.accuracy @ data.weights),
            strengths=_strengths(posterior, number, rng),
            within=None if together is None else together.within,
            worth=_worth(model, together, questions),
            draws=None if together is None else (tables.probs[:_KEPT, 0], tables.rates[:_KEPT, 0]),
        ),
        regime=regime,
        rlvr=rlvr_of(
            times,
            solver.times(
                tables._replace(probs=np.full_like(tables.probs, 1 / number)), data.weights
            ),
            ahead.forecast,
            steps,
            pass_at_k_of(ks, model.samples, model.correct, tables, data.weights),
        ),
        rlif=risks,
        open_points=open_points(
            posterior.effective() if isinstance(posterior, ClusteredPosterior) else posterior,
            objective,
            solver,
            np.ceil(data.samples.sum(axis=1) * (1 if together is None else together.shares_worth)),
            data.weights,
            padded,
            float(regime.probs.max(axis=-1).mean()),
            # A penalty keeps the best pattern back: when it converges is then not asked.
            0.0 if beta > 0 else float(np.median(width_of(times.log_convergence))),
            seed,
            _number_of(model, posterior),
        ),
        limits=(),
        status=_statuses(times.entanglement_status, times.convergence_status, ahead.status),
        log_check=check,
        notes=tuple(source.notes),
        signal=signal_of(model, prior, sampled, *path, groups, verifier, seed),
    )
    missing = len(source.questions) - len(model.asked)
    return dataclasses.replace(
        found, limits=limits_of(found, source, model.grouped, missing, posterior)
    )
