"""What is said of the signal of groups: plain data."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from ._bands import Band

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("cold", "in band", "saturated")


@dataclasses.dataclass(frozen=True)
class SignalBySize:
    r"""Groups of N sizes, at one budget of rollouts a step.

    - `sizes`: `(N,)`, G; `useful`: bands `(N,)`, the share of groups whose rewards differ;
      `measured`: `(N,)`, its unbiased estimate from questions with at least G samples (NaN where
      there is none), `questions`: `(N,)`, how many these are, and `error`: `(N,)`, its standard
      error over questions.
    - `samples_per_useful`: bands `(N,)`, rollouts for each group of use.
    - `pace`: bands `(N,)`, how fast the accuracy rises beside the flow of the mean reward, at the
      same learning rate; `speed`: bands `(N,)`, how far a step of given length goes, beside the
      best of these sizes. NaN where there is nothing to learn from.
    - `best_probs`: `(N,)`, probability that `speed` is the largest; `best`: the size of the largest
      mean speed, 0 if there is none; `as_good`: the sizes of at least .95 of its mean speed.
    """

    sizes: Int[np.ndarray, " N"]
    useful: Band
    measured: Float[np.ndarray, " N"]
    questions: Int[np.ndarray, " N"]
    error: Float[np.ndarray, " N"]
    samples_per_useful: Band
    pace: Band
    speed: Band
    best_probs: Float[np.ndarray, " N"]
    best: int
    as_good: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class QuestionSignals:
    """What each question gives to groups.

    - `names`, `samples`, `right`: `(Q,)`; `success`: bands `(Q,)`, how often it is answered right.
    - `useful`: `(Q,)`, how likely a group of it is of use now.
    - `kinds`: `(T, Q, 3)`, probability at each time that it is cold (most groups have no accepted
      answer), in band, or saturated (most groups have no other).
    """

    names: tuple[str, ...]
    samples: Float[np.ndarray, " Q"]
    right: Float[np.ndarray, " Q"]
    success: Band
    useful: Float[np.ndarray, " Q"]
    kinds: Float[np.ndarray, "T Q 3"]


@dataclasses.dataclass(frozen=True)
class KLPull:
    """How a KL penalty pulls at the accuracy while training goes on, bands `(T,)`.

    - `kl`: of patterns from the reference, nats.
    - `gain`: change of the accuracy per time by groups of use; `lost`: by the penalty on groups
      that are of none, at most 0 where the policy is better than the reference.
    """

    kl: Band
    gain: Band
    lost: Band


@dataclasses.dataclass(frozen=True)
class Signal:
    """What groups of samples have to say.

    - `group_size`, `batch`, `estimator`: of a step; `verifier_errs`: whether it may accept wrong
      answers, or not accept right ones; `asked`: "questions like these" or "these
      questions", over which means are taken.
    - `mean`, `strength`: bands of the beta law of success among questions: its mean, and how many
      samples it weighs as (small: questions differ much).
    - `by_size`: a `SignalBySize`.
    - `log_times`: `(T,)`, -inf is now, inf the end; the natural logarithm of the flow's time;
      `useful`: bands `(T,)` of the share of groups of use, of `group_size`; `counts`: `(T, 3)`,
      expected shares of questions that are cold, in band and saturated.
    - `by_question`: a `QuestionSignals`.
    - `dynamic_speed`: band of a scalar: speed at equal rollouts if groups are drawn until they are
      of use, beside that of plain groups.
    - `kl_pull`: None without a KL penalty.
    - `misfit`: measured less expected share of groups of use at the largest size that half of the
      questions allow, in standard errors; NaN if unknown.
    """

    group_size: int
    batch: int
    estimator: str
    verifier_errs: bool
    asked: str
    mean: Band
    strength: Band
    by_size: SignalBySize
    log_times: Float[np.ndarray, " T"]
    useful: Band
    counts: Float[np.ndarray, "T 3"]
    by_question: QuestionSignals
    dynamic_speed: Band
    kl_pull: KLPull | None
    misfit: float

    def to_dataset(self) -> "xr.Dataset":
        """The same as a labelled `xarray.Dataset` over size, time, question, kind and level (the
        ends of bands)."""
        # Loaded here: nothing else of a diagnosis needs xarray.
        import xarray as xr

        def levels(over: Band, *dims: str):
            return (*dims, "level"), np.stack([over.low, over.median, over.high], axis=-1)

        sizes, questions = self.by_size, self.by_question
        found = {
            "useful_share": levels(sizes.useful, "size"),
            "measured_useful_share": (("size",), sizes.measured),
            "samples_per_useful_group": levels(sizes.samples_per_useful, "size"),
            "pace": levels(sizes.pace, "size"),
            "speed": levels(sizes.speed, "size"),
            "best_probability": (("size",), sizes.best_probs),
            "useful_share_later": levels(self.useful, "time"),
            "kind_share": (("time", "kind"), self.counts),
            "samples": (("question",), questions.samples),
            "right": (("question",), questions.right),
            "success": levels(questions.success, "question"),
            "question_useful": (("question",), questions.useful),
            "kind_probability": (("time", "question", "kind"), questions.kinds),
        }
        if self.kl_pull is not None:
            found |= {name: levels(x, "time") for name, x in vars(self.kl_pull).items()}
        return xr.Dataset(
            found,
            coords={
                "size": sizes.sizes,
                "log_time": ("time", self.log_times),
                "question": list(questions.names),
                "kind": list(KINDS),
                "level": ["low", "median", "high"],
            },
            attrs={"group_size": self.group_size, "batch": self.batch, "asked": self.asked},
        )
