"""The settings that say how files are read and what is asked of a model."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ._settings import require_setting

Estimator = Literal["reinforce", "rloo", "dr_grpo", "grpo", "rejection", "maxrl"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What every command that reads rollouts knows."""

    files: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH [PATH ...]")
    ]
    """rollouts, or a table of counts (pattern,samples,correct): CSV, JSON, JSON lines, Parquet or a
    log of Inspect (.eval), also .gz and .zst; several files, a pattern of names, or a folder"""
    rules: Path | None = None
    """TOML file of regular expressions that sort texts into patterns; or checking, code, language,
    length, steps or tags, which come with the library"""
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
    learning_rate_field: str | None = None
    """name of the field of the trainer's learning rate, the schedule of the run; '' for none"""
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
    estimator: Estimator | None = None
    """how the run will estimate its steps; plain RLVR if not given"""
    group_size: int = 8
    """samples of a question in a step"""
    beta: float = 0.0
    """strength of the KL penalty from the base model, in units of the reward; if pooled"""
    tpr: float = 1.0
    """how often the verifier accepts a right answer"""
    fpr: float = 0.0
    """how often the verifier accepts a wrong answer"""
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
        require_setting(0 <= self.beta < math.inf, "beta", "be at least 0", self.beta)
        for flag, rate in (("tpr", self.tpr), ("fpr", self.fpr)):
            require_setting(0 <= rate <= 1, flag, "lie in [0, 1]", rate)
        better = self.tpr > self.fpr
        require_setting(better, "tpr", f"be above fpr = {self.fpr:g}", self.tpr)
