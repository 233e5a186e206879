"""What a diagnosis says: plain data, ready for a report."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..posteriors._posteriors import Prior
from ._bands import Band, TimeBand
from ._checked import LogCheck
from ._signal_result import Signal


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Accuracy and pattern shares over the flow's time, mean over questions by weight.

    - `log_times`: `(T,)`, natural logarithms of the flow's time (learning rate x steps).
    - `accuracy`: bands `(T,)`; `pattern_shares`: bands `(T, R)`. Pointwise, 90 %.
    - `start_accuracy`, `end_accuracy`: scalars, at t = 0 and as t -> infinity (with a KL penalty,
      at the last time).
    - `entropy`, `kl`: bands `(T,)`, of the patterns, and from the patterns of the start, nats; NaN
      where questions are told apart.
    """

    log_times: Float[np.ndarray, " T"]
    accuracy: Band
    pattern_shares: Band
    start_accuracy: Band
    end_accuracy: Band
    entropy: Band
    kl: Band


@dataclasses.dataclass(frozen=True)
class StepForecast:
    """Accuracy and pattern shares over optimiser steps: of the trained policy itself, not of
    what is measured on a batch.

    - `steps`: `(T,)`; `accuracy`: bands `(T,)`; `pattern_shares`: bands `(T, R)`. Pointwise, 90 %;
      at steps with a log, given the logs up to there.
    - `log_scale`: the natural logarithm of the flow's time per step, a band of scalars (all three
      equal for a given learning rate).
    - `log_entanglement_step`, `log_convergence_step`: `TimeBand`s of the natural logarithm of the
      step, the uncertainty of the scale included.
    - `logged`: `(L, 3)` steps, right answers and samples that it was fitted to, these or, where
      they were logged, the patterns of the samples.
    - `effective_draws`: how many equally weighted draws the fit is worth.
    - `noise`: where the band includes training noise, the sampler it is that of, else "".
    - `optimised`: whether it is of the run's own optimiser on a network's head. Steps beyond the
      last forecast are infinite then, and `log_scale` is the learning rate that acts, relative to
      the one that was set.
    - `accuracy_quantiles`: `(19, T)`, of the run's own optimiser, 5 %, 10 %, ..., 95 % points of
      the accuracy.
    - `log_levels`: `(L,)`, of each log, where it is of the run's own optimiser, the probability of
      a smaller count of the best pattern (of right answers where patterns were not logged), given
      the logs before it; uniform if the forecast is right.
    """

    steps: Int[np.ndarray, " T"]
    accuracy: Band
    pattern_shares: Band
    log_scale: Band
    log_entanglement_step: TimeBand
    log_convergence_step: TimeBand
    logged: Float[np.ndarray, "L 3"]
    effective_draws: float
    noise: str
    optimised: bool = False
    accuracy_quantiles: Float[np.ndarray, "N T"] | None = None
    log_levels: Float[np.ndarray, " L"] | None = None


@dataclasses.dataclass(frozen=True)
class RLIFRisk:
    """Where RLIF ends: it selects the pattern of the highest internal reward.

    - `reward`: "confidence" or "agreement with the majority answer"; `compared`: "within
      questions" or "over all" (where no pattern can be compared within a question).
    - `pattern_rewards`: bands `(R,)`, up to a constant; NaN for patterns without any.
    - `selects`: `(R,)`, probability that the pattern is the one selected.
    - `ends_below_start`: probability that the accuracy ends below its start.
    - `end_accuracy`: a band of scalars.
    - `rollouts`: how many rollouts had the reward.
    - `why_not`: why it cannot be judged, if it cannot; the probabilities are NaN then.
    """

    reward: str
    compared: str
    pattern_rewards: Band
    selects: Float[np.ndarray, " R"]
    ends_below_start: float
    end_accuracy: Band
    rollouts: int
    why_not: str = ""


@dataclasses.dataclass(frozen=True)
class PassAtKEstimate:
    """Expected pass@k, mean over questions, for each of `k` `(N,)`.

    - `measured`: `(N,)`, the unbiased estimate of each question with at least k samples (NaN where
      there is none); `questions`: `(N,)`, how many these are.
    - `before`, `after`: bands `(N,)` of the posterior at t = 0 and as t -> infinity.
    """

    k: Int[np.ndarray, " N"]
    measured: Float[np.ndarray, " N"]
    questions: Int[np.ndarray, " N"]
    before: Band
    after: Band


@dataclasses.dataclass(frozen=True)
class StuckQuestion:
    """A question all of whose samples are wrong (`at` 0) or right (`at` 1).

    `bound`: with probability 95 % its accuracy is at most (at 0) or at least (at 1) this.
    """

    question: str
    at: int
    samples: int
    bound: float


@dataclasses.dataclass(frozen=True)
class OpenPoint:
    """Something too uncertain to say.

    - `about`: "regime" or "convergence time"; `statement`: one sentence.
    - `measure`: what is expected of it now, in the unit of `target`.
    - `target`: what it would have to be. Regime: the largest of its three probabilities; time:
      the width of the 90 % interval of log10 of the time (of many questions, the median one).
    - `further_rollouts`: the smallest number of further rollouts (among 1, 3, 7, 15, ... times
      those there are) after which it is expected to be; None if not within the largest tried.
    - `tried`: the largest number of further rollouts that was tried, 0 if none was.
    - `each`: where questions are resampled, samples of each of the further questions (it takes new
      questions, not more samples of those there are); else None.
    """

    about: str
    statement: str
    measure: float
    target: float
    further_rollouts: int | None
    tried: int
    each: int | None = None


@dataclasses.dataclass(frozen=True)
class DiagnosedData:
    """The rollouts as modelled: Q' questions, R patterns. With pooling "pooled", Q' = 1: one policy
    over patterns stands for all questions.

    - `patterns`: names, `(R,)`; rare ones may be grouped as one (the limits say so).
    - `questions`: names, `(Q',)`; `weights`: `(Q',)`.
    - `samples`, `correct`: `(Q', R)` counts.
    - `num_questions`: of the file; `stuck`: those of them at 0 or 1.
    """

    patterns: tuple[str, ...]
    questions: tuple[str, ...]
    weights: Float[np.ndarray, " Q"]
    samples: Float[np.ndarray, "Q R"]
    correct: Float[np.ndarray, "Q R"]
    num_questions: int
    stuck: tuple[StuckQuestion, ...]


@dataclasses.dataclass(frozen=True)
class DiagnosisSettings:
    """What was asked for, see `diagnose`; `objective` as it shows itself."""

    pooling: str
    prior: Prior
    objective: str
    eps: float
    draws: int
    seed: int
    questions: str = "fixed"


@dataclasses.dataclass(frozen=True)
class RatesWithin:
    """Success rates compared within questions: as if every question were answered by every pattern.

    - `rates`, `pooled`: `(R,)`, within questions and of all rollouts together.
    - `compared`: `(R,)`, False where a pattern is beside another in too few questions: its rate is
      the pooled one.
    - `disagree`: whether the order of two patterns, or their distance, is another one within
      questions, beyond chance.
    - `spread`: deviation of the questions' difficulty in logits.
    """

    rates: Float[np.ndarray, " R"]
    pooled: Float[np.ndarray, " R"]
    compared: Bool[np.ndarray, " R"]
    disagree: bool
    spread: float


@dataclasses.dataclass(frozen=True)
class StartEstimate:
    """The base model, which is where training starts.

    - `pattern_probs`, `success_rates`: bands `(Q', R)`.
    - `accuracy`: band of a scalar, the mean over questions by weight.
    - `strengths`: with partial pooling, a band `(1 + R,)`: how many samples the shared shares
      weigh as, then the shared success rate of each pattern; else None.
    - `within`: success rates compared within questions, which `success_rates` are then; None where
      questions have too few samples of several patterns, or are told apart, or are taken as fixed.
    - `worth`: how many independent rollouts those are worth for the accuracy over questions like
      these; None where questions are taken as fixed.
    - `draws`: a few draws of shares and success rates of one table, for designs; None where
      questions are told apart.
    """

    pattern_probs: Band
    success_rates: Band
    accuracy: Band
    strengths: Band | None
    within: RatesWithin | None = None
    worth: float | None = None
    draws: tuple[Float[np.ndarray, "N R"], Float[np.ndarray, "N R"]] | None = None


@dataclasses.dataclass(frozen=True)
class RegimeEstimate:
    """The regime of the start.

    - `probs`: `(Q', 3)`, of STRONG, ENTANGLED, MIXED.
    - `best_probs`: `(Q', R)`, probability that the pattern has the highest success rate;
      `misleading_probs`: that its value lies between V(0) and the best (it grows first, and
      falls later).
    - `gamma`: band `(Q',)` over draws that are not STRONG, NaN where none is.
    """

    probs: Float[np.ndarray, "Q 3"]
    best_probs: Float[np.ndarray, "Q R"]
    misleading_probs: Float[np.ndarray, "Q R"]
    gamma: Band


@dataclasses.dataclass(frozen=True)
class RLVREstimate:
    """What RLVR will do.

    - `log_entanglement_time`, `log_convergence_time`: `TimeBand`s, of the flow's own time.
    - `log_convergence_if_strong`, `log_convergence_if_weak`: bands `(Q',)` of finite log times, of
      the draws whose regime is STRONG (T0 = 0) and of the others: the two may lie far apart.
    - `forecast`; `step_forecast`: None unless asked for; `pass_at_k`.
    - `relative_duration`: band `(Q',)` of the natural logarithm of the convergence time over that
      of the same success rates from equal shares.
    """

    log_entanglement_time: TimeBand
    log_convergence_time: TimeBand
    log_convergence_if_strong: Band
    log_convergence_if_weak: Band
    forecast: Forecast
    step_forecast: StepForecast | None
    pass_at_k: PassAtKEstimate
    relative_duration: Band


@dataclasses.dataclass(frozen=True)
class Findings:
    r"""What rollouts say of a base model.

    - `data`: the rollouts as modelled; `settings`: what was asked for.
    - `start`: the base model; `regime`: strong, entangled or mixed.
    - `rlvr`: what RLVR will do; `rlif`: where RLIF would end, None where there is neither
      confidence nor answers.
    - `log_check`: whether the logged steps bear out the model; None without logs of patterns and
      right answers, or where questions are told apart.
    - `notes`: what the reader of the file decided, in words.
    - `open_points`: what is too uncertain to say; `limits`: what the reader must know.
    - `status`: how many solves ended how, by the name of the `qra.Status`.
    - `signal`: what groups of samples have to say; None where fewer than two questions
      have two samples.
    """

    data: DiagnosedData
    settings: DiagnosisSettings
    start: StartEstimate
    regime: RegimeEstimate
    rlvr: RLVREstimate
    rlif: RLIFRisk | None
    open_points: tuple[OpenPoint, ...]
    limits: tuple[str, ...]
    status: dict[str, int]
    log_check: LogCheck | None = None
    notes: tuple[str, ...] = ()
    signal: Signal | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as lists, strings and numbers for JSON, which knows no infinities and no NaN:
        a string says what such a number was."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def plain(value: Any) -> Any:
    """As JSON knows it."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
