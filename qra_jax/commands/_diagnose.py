"""The settings of a diagnosis."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal

from ._reading import Reading
from ._settings import require_setting

Pooling = Literal["pooled", "per_question", "partial"]
Questions = Literal["sampled", "fixed"]
Schedule = Literal["constant", "linear", "cosine"]
Optimiser = Literal["adam", "adamw", "sgd"]


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
    batch: str | None = None
    """QxG: a step draws Q questions and G samples of each; instead of --rollouts-per-step and
    --group-size"""
    num_steps: int | None = None
    """forecast over so many optimiser steps; needs a learning rate or logged steps"""
    learning_rate: float | None = None
    """that of --optimiser; without one, of plain gradient ascent on the logits of patterns, fitted
    to the logged steps if not given"""
    optimiser: Optimiser | None = None
    """the run's own optimiser: steps are then those of a network whose last layer is described by
    --head-norm and --head-width; needs --learning-rate and --num-steps; --estimator is grpo then
    unless given"""
    betas: tuple[float, float] = (0.9, 0.999)
    """how much Adam keeps of its means of gradients and of their squares in a step"""
    momentum: float = 0.0
    """that of --optimiser sgd"""
    weight_decay: float = 0.01
    """that of --optimiser adamw"""
    head_norm: float | None = None
    """sum of the absolute hidden values that the last layer reads where a pattern is chosen; if not
    given, anything that models of the width may have"""
    head_width: int | None = None
    """number of these values; if not given, 128 to 4,096"""
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
        if self.batch is not None:
            self._take_batch(self.batch)
        super().__post_init__()
        enough = self.rollouts_per_step >= self.group_size
        must = f"be at least group-size = {self.group_size}"
        require_setting(enough, "rollouts-per-step", must, self.rollouts_per_step)
        alone = self.beta == 0 or self.pooling == "pooled"
        require_setting(alone, "beta", "be 0 unless pooling is pooled", self.beta)
        self._check_optimiser()
        plain = self.estimator is None or self.num_steps is None
        clean = self.beta == 0 and (self.tpr, self.fpr) == (1, 0)
        must = "not be given with num-steps where beta, tpr or fpr are: its noise is not known then"
        require_setting(plain or clean, "estimator", must, self.estimator)
        steps = self.num_steps is not None or self.learning_rate is None
        require_setting(steps, "num-steps", "be given with a learning rate", "none")
        plain = self.schedule in (None, "constant") and self.warmup_steps == 0
        must = "be given with a schedule or a warm-up: it is the length of the run"
        require_setting(plain or self.num_steps is not None, "num-steps", must, "none")
        most = self.num_steps or 0
        must = "lie in [0, num-steps)"
        within = self.warmup_steps == 0 or 0 <= self.warmup_steps < most
        require_setting(within, "warmup-steps", must, self.warmup_steps)

    def _take_batch(self, batch: str) -> None:
        """Set the numbers that QxG stands for."""
        questions, times, samples = batch.lower().partition("x")
        whole = bool(times) and questions.isdecimal() and samples.isdecimal()
        both = whole and int(questions) >= 1 and int(samples) >= 2
        must = "be QxG, as 128x8: Q >= 1 questions a step, G >= 2 samples of each"
        require_setting(both, "batch", must, batch)
        found = {"group_size": int(samples), "rollouts_per_step": int(questions) * int(samples)}
        for name, number in found.items():
            given, default = getattr(self, name), getattr(Diagnose, name)
            flag, must = name.replace("_", "-"), f"agree with batch = {batch} or be left out"
            require_setting(given in (default, number), flag, must, given)
            object.__setattr__(self, name, number)

    def _check_optimiser(self) -> None:
        of_adam = self.optimiser in ("adam", "adamw")
        for flag, changed, allowed, needed in (
            ("betas", self.betas != Diagnose.betas, of_adam, "optimiser = adam or adamw"),
            ("momentum", self.momentum != 0, self.optimiser == "sgd", "optimiser = sgd"),
            ("weight-decay", self.weight_decay != Diagnose.weight_decay,
             self.optimiser == "adamw", "optimiser = adamw"),
            ("head-norm", self.head_norm is not None, self.optimiser is not None, "an optimiser"),
            ("head-width", self.head_width is not None, self.optimiser is not None, "an optimiser"),
            ("feature-rate", self.feature_rate is not None, of_adam, "optimiser = adam or adamw"),
            ("row-spread", self.row_spread is not None, self.optimiser is not None, "an optimiser"),
        ):  # fmt: skip
            must = f"come with {needed}"
            given = getattr(self, flag.replace("-", "_"))
            require_setting(allowed or not changed, flag, must, given)
        inside = all(0 <= beta < 1 for beta in self.betas)
        require_setting(inside, "betas", "lie in [0, 1)", self.betas)
        require_setting(0 <= self.momentum < 1, "momentum", "lie in [0, 1)", self.momentum)
        decays = 0 <= self.weight_decay < math.inf
        require_setting(decays, "weight-decay", "be at least 0", self.weight_decay)
        if self.optimiser is None:
            return
        for flag, given, none in (
            ("beta", self.beta, 0),
            ("tpr", self.tpr, 1),
            ("fpr", self.fpr, 0),
        ):
            must = f"be {none} with an optimiser: the noise of its steps is not known then"
            require_setting(given == none, flag, must, given)
        if self.estimator is None:
            object.__setattr__(self, "estimator", "grpo")
        positive = self.head_norm is None or 0 < self.head_norm < math.inf
        require_setting(positive, "head-norm", "be above 0", self.head_norm)
        wide = self.head_width is None or self.head_width >= 2
        require_setting(wide, "head-width", "be at least 2", self.head_width)
        for flag, given in (("feature-rate", self.feature_rate), ("row-spread", self.row_spread)):
            rises = given is None or 0 < given[0] <= given[1] < math.inf
            require_setting(rises, flag, "be above 0 and not fall", given)
        rate = self.learning_rate
        for flag, given in (("learning-rate", rate), ("num-steps", self.num_steps)):
            require_setting(given is not None, flag, "be given with an optimiser", "none")
        positive = rate is None or 0 < rate < math.inf
        require_setting(positive, "learning-rate", "be above 0", rate)
