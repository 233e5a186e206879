"""Training runs to forecast."""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from .._core.checks import require, require_all, whole
from ..objectives._objective import RLVR, Objective
from ..objectives._rewards import Verifiable
from ..posteriors._posteriors import AbstractPosterior, check_counts
from ..posteriors._spread import QuestionSpread
from ..training._groups import SampledGroups
from ._degree import degree_of
from ._drift import RateDrift
from ._forecast import forecast_steps, forecast_training
from ._head import Head
from ._plan import Plan, check_logs, check_patterns
from ._result import StepForecast
from ._solve import Solver, Tables, check_objective
from ._trained import forecast_optimised

MOST_STEPS = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRun:
    r"""A training run to forecast, step by step. The flow's time is a scale times steps, learning
    rate x steps for plain gradient ascent; where the scale is not known, it is fitted.

    **Arguments:**

    - `num_steps`: forecast up to here.
    - `learning_rate`: the scale, if known.
    - `logged`: `(L, 3)`: steps, right answers and samples of an evaluation that was made during
      the run (samples that it was not trained on). Not needed where the learning rate is given.
    - `sampler`: how steps are estimated, by plain gradient ascent; with it the band includes the
      noise of training. Without it steps are exact.
    - `scale_range`: between which two times per step the unknown scale lies, equally likely in its
      logarithm beforehand.
    - `particles`: draws that are trained, with a sampler.
    - `logged_patterns`: `(L, R)`, if known, how many of the samples of each row of `logged` used
      each pattern. The scale is fitted to these then: while a start is entangled the accuracy
      hardly moves, but the shares do.
    - `logged_right`: `(L, R)`, if known, how many of these were right. They inform the success
      rates, and show whether these drift.
    - `optimiser`: of optax, its learning rate or schedule inside: one that divides by the size of
      gradients (`optax.adam`, `optax.adamw`), or one that is linear in them (`optax.sgd`, with or
      without momentum). With it the run is forecast as that of a network's head, and the learning
      rate means what it says. It takes a `head` and a sampler with a `batch`, and neither
      `learning_rate` nor `schedule`.
    - `head`: a `Head`, what is known of the network's last layer.
    - `schedule`: the relative learning rate of step 0, 1, ...: a function of an array of steps
      (an optax schedule), or the rates themselves. The scale is that of a relative rate of 1. The
      clock of a run is its cumulated learning rate. Constant unless given.

    **Raises:** `ValueError` if a number is out of range; once it is forecast, also if neither
    learning rate nor logs are given.

    Source: derived in docs/derivations.md#forecast-of-a-training-run.
    """

    num_steps: int
    learning_rate: float | None = None
    logged: ArrayLike | None = None
    sampler: SampledGroups | None = None
    scale_range: tuple[float, float] = (1e-4, 1e2)
    particles: int = 2000
    logged_patterns: ArrayLike | None = None
    logged_right: ArrayLike | None = None
    schedule: Callable[[np.ndarray], ArrayLike] | ArrayLike | None = None
    optimiser: optax.GradientTransformation | None = None
    head: Head | None = None

    def __post_init__(self) -> None:
        whole(self.num_steps, "num_steps", 1)
        require(self.num_steps <= MOST_STEPS, "num_steps", f"be at most {MOST_STEPS}",
                self.num_steps)  # fmt: skip
        whole(self.particles, "particles", 20)
        rate, (low, high) = self.learning_rate, self.scale_range
        require(rate is None or 0 < rate < math.inf, "learning_rate", "be above 0", rate)
        require(0 < low < high < math.inf, "scale_range", "rise from above 0", self.scale_range)
        logs = check_logs(self.logged)
        patterns = check_patterns(self.logged_patterns, logs)
        known = patterns is not None or self.logged_right is None
        require(known, "logged_right", "come with logged_patterns", self.logged_right)
        if patterns is not None and self.logged_right is not None:
            check_counts(patterns, self.logged_right)
        self.rates()
        if self.optimiser is not None or self.head is not None:
            self._check_optimiser()

    def _check_optimiser(self) -> None:
        optimiser, head, sampler = self.optimiser, self.head, self.sampler
        if not isinstance(optimiser, optax.GradientTransformation):
            raise TypeError(f"optimiser must be an optax.GradientTransformation, got {optimiser!r}")
        if not isinstance(head, Head):
            raise TypeError(f"head must be a Head where an optimiser is given, got {head!r}")
        batch = None if sampler is None else sampler.batch
        require(batch is not None, "sampler", "have a batch where an optimiser is given", sampler)
        for name, given in (("learning_rate", self.learning_rate), ("schedule", self.schedule)):
            must = "be left out where an optimiser is given (it has its own)"
            require(given is None, name, must, given)
        degree_of(optimiser)

    def rates(self) -> Float[np.ndarray, " N"] | None:
        """The relative learning rates of all steps, up to the last forecast or log."""
        if self.schedule is None:
            return None
        logs = check_logs(self.logged)
        number = int(max(self.num_steps, *logs[:, 0])) if len(logs) else self.num_steps
        given = self.schedule(np.arange(number)) if callable(self.schedule) else self.schedule
        rates = np.asarray(given, float)
        must = f"give {number} rates"
        require(rates.ndim == 1 and len(rates) >= number, "schedule", must, rates.shape)
        require_all(rates, lambda x: (x >= 0) & (x < np.inf), "schedule", "be at least 0")
        require(bool(rates[:number].sum() > 0), "schedule", "rise above 0", "0 everywhere")
        return rates[:number]

    def plan(self) -> Plan:
        """At most 201 rows, the first at step 0, evenly spaced.

        **Raises:** `ValueError` if there is neither a learning rate nor a log above step 0.
        """
        moved = np.any(check_logs(self.logged)[:, 0] > 0)
        must = "hold a step above 0 where no learning rate is given"
        known = self.learning_rate is not None or self.optimiser is not None
        require(known or bool(moved), "logged", must, self.logged)
        rows = min(self.num_steps, 200) + 1
        steps = np.unique(np.round(np.linspace(0, self.num_steps, rows)).astype(np.int64))
        known = self.learning_rate
        scales = self.scale_range if known is None else (known, known)
        logs = check_logs(self.logged)
        patterns = check_patterns(self.logged_patterns, logs)
        return Plan(steps, logs, patterns, scales, self.rates())


def objective_of(objective: Objective | None, run: TrainingRun | None) -> Objective:
    """The objective given; else that of the run's sampler; else RLVR."""
    if objective is None and run is not None and run.sampler is not None:
        objective = Objective(Verifiable(), utility=run.sampler.utility)
    objective = RLVR() if objective is None else objective
    check_objective(objective)
    return objective


_draw = eqx.filter_jit(lambda posterior, key, number: posterior.draw(key, number))


def drawn(posterior: AbstractPosterior, key: PRNGKeyArray, number: int) -> Tables:
    return Tables(*(np.asarray(x) for x in _draw(posterior, key, number)))


def forecast_run(
    posterior: AbstractPosterior,
    run: TrainingRun,
    *,
    weights: ArrayLike | None = None,
    objective: Objective | None = None,
    draws: int = 399,
    seed: int = 0,
    eps: float = 0.1,
    drift: RateDrift | None = None,
    spread: QuestionSpread | None = None,
) -> StepForecast:
    r"""Accuracy and pattern shares over the steps of a training run.

    Draws of the base model and time scales are weighted by the likelihood of what was logged:
    binomial for right answers, multinomial for patterns where these were logged. With a sampler the
    draws are trained, each with noise of the mean and covariance that samples have, and weighted on
    the way (a particle filter).

    **Arguments:** `posterior`: of the base model; `run`; `weights`: `(Q',)` of its questions, equal
    unless given; `objective`, `draws`, `seed`: as for `diagnose` (with a sampler the objective's
    utility, unless given, is that of the sampler); `eps`: converged means that the best pattern has
    1 - eps; `drift`: of the success rates of one table, which the posterior knows already;
    `spread`: of success rates over questions, for an optimiser; all alike if not given.

    **Returns:** a `StepForecast`: of the true accuracy of the trained policy.

    **Raises:** `ValueError` as `diagnose`, or if the logged patterns are not as many as the
    posterior's.

    Source: derived in docs/derivations.md#forecast-of-a-training-run.
    """
    objective = objective_of(objective, run)
    keys = [jax.random.fold_in(jax.random.key(seed), i) for i in (1, 2)]
    tables = drawn(posterior, keys[0], draws)
    number, patterns = tables.probs.shape[1:]
    plan = run.plan()
    if plan.patterns is not None:
        must, was = f"have {patterns} columns", plan.patterns.shape[1]
        require(was == patterns, "logged_patterns", must, was)
    if run.optimiser is not None and run.head is not None and run.sampler is not None:
        require(number == 1, "posterior", "be of one table for an optimiser", number)
        return _optimised(posterior, keys[1], run, plan, spread, seed, eps, drift)
    shares = np.full(number, 1 / number) if weights is None else np.asarray(weights, float)
    solver = Solver.of(objective, eps)
    if run.sampler is None:
        return forecast_steps(solver, tables, shares, plan, drift, seed)
    fresh = drawn(posterior, keys[1], run.particles)
    return forecast_training(solver, tables, fresh, shares, plan, run.sampler, drift, seed)


def _optimised(
    posterior, key, run: TrainingRun, plan: Plan, spread, seed, eps, drift
) -> StepForecast:
    """Of draws of the base model, without patterns that only pad."""
    assert run.optimiser is not None
    assert run.head is not None
    assert run.sampler is not None
    fresh = drawn(posterior, key, run.particles)
    there = np.flatnonzero(np.any(fresh.probs[:, 0] > 0, axis=0))
    tables = Tables(*(x[..., there] for x in fresh))
    if spread is None:
        spread = QuestionSpread(np.zeros(len(there)), np.eye(len(there)))
    if plan.patterns is not None:
        plan = plan._replace(patterns=plan.patterns[:, there])
    given = run.sampler, run.optimiser, run.head
    return forecast_optimised(tables, spread, plan, *given, seed, eps, drift)
