"""The settings of a diagnosis."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from ._reading import Reading
from ._settings import require_setting

Pooling = Literal["pooled", "per_question", "partial"]
Questions = Literal["sampled", "fixed"]
Schedule = Literal["constant", "linear", "cosine"]
Optimiser = Literal["adam"]


@dataclasses.dataclass(frozen=True)
class Diagnose(Reading):
    """Say from rollouts which regime a base model is in, how long RLVR will take, whether RLIF
    will degrade it, and how sure all this is."""

    name: ClassVar[str] = "diagnose"

    out: Path = Path("results/diagnosis")
    """folder that report.html, report.json and the figures are written into"""
    pooling: Pooling = "pooled"
    """one policy for all questions, one for each, or as alike as the data say"""
    questions: Questions = "sampled"
    """whether the questions are a sample of many like them, or all that matter; if pooled"""
    rollouts_per_step: int = 512
    """rollouts of a step in all, for which the best size of groups is found"""
    num_steps: int | None = None
    """forecast over so many optimiser steps; needs a learning rate or logged steps"""
    learning_rate: float | None = None
    """that of --optimiser; without one, of plain gradient ascent on the logits of patterns, fitted
    to the logged steps if not given"""
    optimiser: Optimiser | None = None
    """the run's own optimiser: steps are then those of a network whose head is given by --head-norm
    and --head-width; needs --estimator, --learning-rate and --num-steps"""
    head_norm: float | None = None
    """sum of the absolute hidden values that the last layer reads where a pattern is chosen"""
    head_width: int | None = None
    """number of these values"""
    feature_rate: tuple[float, float] | None = None
    """90 % range of how much faster than a weight of the last layer a hidden value moves; that of a
    small transformer if not given"""
    row_spread: tuple[float, float] | None = None
    """90 % range of the standard deviation between the last layer's rows that choose patterns"""
    schedule: Schedule | None = None
    """how the learning rate goes on after the warm-up: to 0 at --num-steps unless constant; that of
    the rollouts' field of learning rates if there is one, else constant"""
    warmup_steps: int = 0
    """steps over which the learning rate rises from 0"""
    design: bool = False
    """find the fine-tuning (SFT) before RLVR that makes the total time shortest"""
    sft_budget: float = 10.0
    """longest fine-tuning, learning rate times steps"""
    sft_floor: float = 0.0
    """entropy of the patterns, nats, that fine-tuning must not fall below"""
    sft_cost: float = 1.0
    """what a unit of fine-tuning time costs in units of RL time"""

    def __post_init__(self) -> None:
        super().__post_init__()
        enough = self.rollouts_per_step >= self.group_size
        must = f"be at least group-size = {self.group_size}"
        require_setting(enough, "rollouts-per-step", must, self.rollouts_per_step)
        alone = self.beta == 0 or self.pooling == "pooled"
        require_setting(alone, "beta", "be 0 unless pooling is pooled", self.beta)
        plain = self.estimator is None or self.num_steps is None
        clean = self.beta == 0 and (self.tpr, self.fpr) == (1, 0)
        must = "not be given with num-steps where beta, tpr or fpr are: its noise is not known then"
        require_setting(plain or clean, "estimator", must, self.estimator)
        self._check_optimiser()
        steps = self.num_steps is not None or self.learning_rate is None
        require_setting(steps, "num-steps", "be given with a learning rate", "none")
        plain = self.schedule in (None, "constant") and self.warmup_steps == 0
        must = "be given with a schedule or a warm-up: it is the length of the run"
        require_setting(plain or self.num_steps is not None, "num-steps", must, "none")
        most = self.num_steps or 0
        must = "lie in [0, num-steps)"
        within = self.warmup_steps == 0 or 0 <= self.warmup_steps < most
        require_setting(within, "warmup-steps", must, self.warmup_steps)

    def _check_optimiser(self) -> None:
        of_head = {
            "head-norm": self.head_norm,
            "head-width": self.head_width,
            "feature-rate": self.feature_rate,
            "row-spread": self.row_spread,
        }
        if self.optimiser is None:
            for flag, given in of_head.items():
                require_setting(given is None, flag, "come with an optimiser", given)
            return
        for flag, given in (
            *list(of_head.items())[:2],
            ("estimator", self.estimator),
            ("learning-rate", self.learning_rate),
            ("num-steps", self.num_steps),
        ):
            require_setting(given is not None, flag, "be given with an optimiser", "none")
