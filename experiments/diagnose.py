"""What the rollouts of a base model say of its training: `python -m experiments.diagnose FILE`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

import qra_jax as qra
from qra_jax.diagnosis import Diagnosis, TrainingRun, diagnose

from ._diagnosis_design import Plan, design
from ._diagnosis_page import write_report
from ._diagnosis_text import summary
from ._lab.settings import BadSetting, require_setting, require_writable

Pooling = Literal["pooled", "per_question", "partial"]
Estimator = Literal["reinforce", "rloo", "dr_grpo", "grpo", "rejection", "maxrl"]


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Say from rollouts which regime a base model is in, how long RLVR will take, whether RLIF
    will degrade it, and how sure all this is."""

    file: tyro.conf.Positional[Path]
    """rollouts: CSV, JSON lines or Parquet, or a table of counts (pattern,samples,correct)"""
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
    pooling: Pooling = "pooled"
    """one policy for all questions, one for each, or as alike as the data say"""
    estimator: Estimator | None = None
    """how the run will estimate its steps; plain RLVR if not given"""
    group_size: int = 8
    """samples of a question in a step, with an estimator"""
    num_steps: int | None = None
    """forecast over so many optimiser steps; needs a learning rate or logged steps"""
    learning_rate: float | None = None
    """of plain gradient ascent; fitted to the logged steps if not given"""
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
        require_setting(self.seed >= 0, "seed", "be at least 0", self.seed)
        steps = self.num_steps is not None or self.learning_rate is None
        require_setting(steps, "num-steps", "be given with a learning rate", "none")

    @property
    def sampler(self) -> qra.SampledGroups | None:
        """How the run estimates its steps."""
        if self.estimator is None:
            return None
        return qra.SampledGroups(self.group_size, estimator=self.estimator)

    def read(self) -> qra.Rollouts:
        """The rollouts."""
        names = (field.name for field in dataclasses.fields(qra.rollouts.Fields))
        fields = qra.rollouts.Fields(**{name: getattr(self, f"{name}_field") for name in names})
        return qra.read_rollouts(self.file, fields=fields, rules=self.rules)

    def diagnose(self, rollouts: qra.Rollouts) -> Diagnosis:
        """The diagnosis of rollouts with these settings.

        **Raises:** `ValueError` if steps are asked for and nothing says how long one is.
        """
        run, sampler = None, self.sampler
        if self.num_steps is not None:
            logs = len(rollouts.steps) > 1
            given = logs or self.learning_rate is not None
            must = "come with a learning rate, or with rollouts of later steps"
            require_setting(given, "num-steps", must, self.num_steps)
            run = TrainingRun(
                self.num_steps, learning_rate=self.learning_rate, sampler=sampler, logged=None
            )
        objective = None
        if sampler is not None:
            objective = qra.Objective(qra.Verifiable(), utility=sampler.utility)
        return diagnose(
            rollouts,
            pooling=self.pooling,
            objective=objective,
            eps=self.eps,
            draws=self.draws,
            seed=self.seed,
            run=run,
        )

    def plan(self, found: Diagnosis) -> Plan | None:
        """The fine-tuning designed, if it is wanted."""
        if not self.design:
            return None
        return design(
            found,
            budget=self.sft_budget,
            floor=self.sft_floor,
            cost=self.sft_cost,
            utility=None if self.sampler is None else self.sampler.utility,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose, write the report, and print its summary; returns the exit code (2 for bad
    input)."""
    jax.config.update("jax_enable_x64", True)
    try:
        settings = tyro.cli(
            Annotated[Diagnose, tyro.conf.arg(name="")],
            args=arguments,
            prog="python -m experiments.diagnose",
            description=__doc__,
        )
        require_writable(settings.out)
        rollouts = settings.read()
        found = settings.diagnose(rollouts)
        plan = settings.plan(found)
        written = write_report(settings.out, settings.file.name, found, plan)
    except (BadSetting, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not settings.quiet:
        print("\n".join([*summary(found), *([] if plan is None else ["", *plan.summary()])]))
    print("\n".join(f"  wrote {path}" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
