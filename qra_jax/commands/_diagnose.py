"""The settings of a diagnosis."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from ._settings import require_setting

Pooling = Literal["pooled", "per_question", "partial"]
Questions = Literal["sampled", "fixed"]
Schedule = Literal["constant", "linear", "cosine"]
Estimator = Literal["reinforce", "rloo", "dr_grpo", "grpo", "rejection", "maxrl"]


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Say from rollouts which regime a base model is in, how long RLVR will take, whether RLIF
    will degrade it, and how sure all this is."""

    name: ClassVar[str] = "diagnose"

    files: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH [PATH ...]")
    ]
    """rollouts, or a table of counts (pattern,samples,correct): CSV, JSON, JSON lines, Parquet or a
    log of Inspect (.eval), also .gz and .zst; several files, a pattern of names, or a folder"""
    out: Path = Path("results/diagnosis")
    """folder that report.html, report.json and the figures are written into"""
    rules: Path | None = None
    """TOML file of regular expressions that sort texts into patterns"""
    question_field: str | None = None
    """name of the field of questions; common names are found by themselves, here and below"""
    pattern_field: str | None = None
    """name of the field of patterns"""
    correct_field: str | None = None
    """name of the field of grades"""
    text_field: str | None = None
    """name of the field of texts, which the rules read"""
    answer_field: str | None = None
    """name of the field of answers"""
    confidence_field: str | None = None
    """name of the field of confidence: mean log-probability or self-certainty"""
    step_field: str | None = None
    """name of the field of training steps: the first is the base model, later ones are logs"""
    dataset_field: str | None = None
    """name of the field of data sets, in which a question has a name of its own"""
    samples_field: str | None = None
    """name of the field of numbers of rollouts, in a table of counts"""
    records: str | None = None
    """name of the list of records in a JSON document, or in every row"""
    where: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FIELD=VALUE: reads only rows with this value (again: with any of these), as of one model"""
    right: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """grade that says that a rollout was right (again: another one); all others are wrong"""
    right_above: float | None = None
    """rollouts with a reward above this were right"""
    dry_run: bool = False
    """only show how the files were read: fields, questions, patterns, grades, steps, what was left
    out; nothing is solved or written"""
    pooling: Pooling = "pooled"
    """one policy for all questions, one for each, or as alike as the data say"""
    questions: Questions = "sampled"
    """whether the questions are a sample of many like them, or all that matter; if pooled"""
    estimator: Estimator | None = None
    """how the run will estimate its steps; plain RLVR if not given"""
    group_size: int = 8
    """samples of a question in a step"""
    rollouts_per_step: int = 512
    """rollouts of a step in all, for which the best size of groups is found"""
    beta: float = 0.0
    """strength of the KL penalty from the base model, in units of the reward; if pooled"""
    tpr: float = 1.0
    """how often the verifier accepts a right answer"""
    fpr: float = 0.0
    """how often the verifier accepts a wrong answer"""
    num_steps: int | None = None
    """forecast over so many optimiser steps; needs a learning rate or logged steps"""
    learning_rate: float | None = None
    """of plain gradient ascent on the logits of patterns, not that of an optimiser such as AdamW;
    fitted to the logged steps if not given"""
    schedule: Schedule = "constant"
    """how the learning rate goes on after the warm-up: to 0 at --num-steps unless constant"""
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
    eps: float = 0.1
    """converged means that the best pattern has probability 1 - eps"""
    draws: int = 999
    """draws from the posterior, at least 20"""
    seed: int = 0
    """seed of all random draws, a whole number of at least 0"""
    quiet: bool = False
    """print only where the report is"""

    def __post_init__(self) -> None:
        require_setting(bool(self.files), "path", "name at least one file", "none")
        for wanted in self.where:
            require_setting("=" in wanted[1:], "where", "be FIELD=VALUE", wanted)
        both = bool(self.right) and self.right_above is not None
        require_setting(not both, "right", "not be given beside right-above", ", ".join(self.right))
        require_setting(self.seed >= 0, "seed", "be at least 0", self.seed)
        require_setting(self.group_size >= 2, "group-size", "be at least 2", self.group_size)
        enough = self.rollouts_per_step >= self.group_size
        must = f"be at least group-size = {self.group_size}"
        require_setting(enough, "rollouts-per-step", must, self.rollouts_per_step)
        require_setting(0 <= self.beta < math.inf, "beta", "be at least 0", self.beta)
        for flag, rate in (("tpr", self.tpr), ("fpr", self.fpr)):
            require_setting(0 <= rate <= 1, flag, "lie in [0, 1]", rate)
        better = self.tpr > self.fpr
        require_setting(better, "tpr", f"be above fpr = {self.fpr:g}", self.tpr)
        alone = self.beta == 0 or self.pooling == "pooled"
        require_setting(alone, "beta", "be 0 unless pooling is pooled", self.beta)
        plain = self.estimator is None or self.num_steps is None
        clean = self.beta == 0 and (self.tpr, self.fpr) == (1, 0)
        must = "not be given with num-steps where beta, tpr or fpr are: its noise is not known then"
        require_setting(plain or clean, "estimator", must, self.estimator)
        steps = self.num_steps is not None or self.learning_rate is None
        require_setting(steps, "num-steps", "be given with a learning rate", "none")
        plain = self.schedule == "constant" and self.warmup_steps == 0
        must = "be given with a schedule or a warm-up: it is the length of the run"
        require_setting(plain or self.num_steps is not None, "num-steps", must, "none")
        most = self.num_steps or 0
        must = "lie in [0, num-steps)"
        within = self.warmup_steps == 0 or 0 <= self.warmup_steps < most
        require_setting(within, "warmup-steps", must, self.warmup_steps)
