"""What is read and what is trained on, by settings that several commands share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..objectives import Mean, NoisyVerifier, Objective, ReverseKL, Verifiable
from ..rollouts import Account, Fields, read_with_account
from ..training import (
    REINFORCE,
    RLOO,
    AbstractEstimator,
    RejectionFineTuning,
    SampledDrGRPO,
    SampledGroups,
    SampledGRPO,
    SampledMaxRL,
)
from ._reading import Estimator, Reading

_ESTIMATORS: dict[Estimator, AbstractEstimator] = {
    "reinforce": REINFORCE(),
    "rloo": RLOO(),
    "dr_grpo": SampledDrGRPO(),
    "grpo": SampledGRPO(),
    "rejection": RejectionFineTuning(),
    "maxrl": SampledMaxRL(),
}


def sampler_of(settings: Reading) -> SampledGroups | None:
    """Groups of the estimator that was named; None without one."""
    if settings.estimator is None:
        return None
    return SampledGroups(settings.group_size, estimator=_ESTIMATORS[settings.estimator])


def reading_of(settings: Reading) -> dict[str, Any]:
    """How files are read, as arguments of the readers."""
    names = (field.name for field in dataclasses.fields(Fields))
    where: dict[str, list[str]] = {}
    for wanted in settings.where:
        name, _, value = wanted.partition("=")
        where.setdefault(name, []).append(value)
    return {
        "fields": Fields(**{name: getattr(settings, f"{name}_field") for name in names}),
        "records": settings.records,
        "where": where,
        "right": settings.right,
        "right_above": settings.right_above,
    }


def account_of(settings: Reading, files: Sequence[Path]) -> Account:
    """The rollouts of files, and how they were read."""
    return read_with_account(files, rules=settings.rules, **reading_of(settings))


def objective_of(settings: Reading, sampler: SampledGroups | None) -> Objective:
    """What is trained on: the verifier, the clock of the estimator, the penalty."""
    exact = (settings.tpr, settings.fpr) == (1, 0)
    return Objective(
        Verifiable() if exact else NoisyVerifier(settings.tpr, settings.fpr),
        utility=Mean() if sampler is None else sampler.utility,
        regularisers=(ReverseKL(settings.beta),) if settings.beta > 0 else (),
    )
