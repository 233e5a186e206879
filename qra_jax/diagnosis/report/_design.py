"""Fine-tuning before RLVR, designed for a diagnosed base model."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from ...fine_tuning import SFTDesign, design_sft
from ...flows import Status
from ...objectives import AbstractUtility
from ...posteriors import pooled_posterior
from .. import Band, Diagnosis, band
from ..words import interval, number, share, time

_DRAWS = 16
"""Draws that the design must serve all: its cost grows with them, its mean settles soon."""
_PURE = 0.99


class PlanRow(NamedTuple):
    """A plan beside the others."""

    plan: str
    duration: str
    time: str
    interval: str


class MixtureRow(NamedTuple):
    """What the data hold of a pattern, and what becomes of its share."""

    pattern: str
    data: str
    before: str
    after: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The fine-tuning found, beside no fine-tuning and all data on the best pattern."""

    patterns: tuple[str, ...]
    design: SFTDesign
    before: np.ndarray

    @property
    def sentence(self) -> str:
        """The finding, in a sentence or two."""
        found = self.design
        if float(found.duration) == 0:
            return "No fine-tuning is best: whatever it costs, RLVR alone is as fast."
        over = [float(x) for x in (found.log_gain_over_nothing, found.log_gain_over_naive)]
        factors = [number(float(np.exp(min(x, 290)))) for x in over]
        mixture = np.asarray(found.mixture)
        data = " and ".join(
            f"{100 * mixture[at]:.0f} % right answers by way of '{self.patterns[at]}'"
            for at in np.argsort(-mixture, kind="stable")
            if mixture[at] >= 0.005
        )
        return (
            f"Fine-tune on {data}, for a duration of {number(float(found.duration))} (learning "
            "rate times steps of plain gradient ascent). Fine-tuning and RLVR together then take "
            f"less time by a factor of {factors[0]} than RLVR alone, of {factors[1]} than after "
            "data of the best pattern only (geometric means over draws of the posterior)."
        )

    @property
    def rows(self) -> list[PlanRow]:
        """The plans, by total time."""
        found = self.design
        plans = (
            ("this design", found.duration, found.log_time),
            ("RLVR alone", 0.0, found.log_time_nothing),
            ("best pattern only, best duration", found.naive_duration, found.log_time_naive),
            ("best pattern only, full", found.naive_full_duration, found.log_time_naive_full),
        )
        rows = []
        for name, duration, log_times in plans:
            over = band(np.asarray(log_times))
            rows.append(
                PlanRow(name, number(float(duration)), time(float(over.median)), _within(over))
            )
        return rows

    @property
    def mixture(self) -> list[MixtureRow]:
        """What to fine-tune on."""
        after = np.asarray(self.design.pattern_probs).mean(axis=0)
        before = self.before.mean(axis=0)
        return [
            MixtureRow(name, *(share(float(x[at])) for x in (self.design.mixture, before, after)))
            for at, name in enumerate(self.patterns)
        ]

    @property
    def remarks(self) -> list[str]:
        """Constraints, and how the search ended."""
        found = self.design
        settled, starts = int(np.sum(found.converged)), len(found.converged)
        slack = "does not bind"
        if float(found.duration_slack) < 1e-6:
            slack = "binds (--sft-budget; longer fine-tuning might be better still)"
        lines = [
            f"the budget {slack}; the entropy of the patterns after fine-tuning is "
            f"{float(found.entropy):.3f} nats, {float(found.entropy_slack):.3f} above the floor",
            f"{settled} of {starts} starts of the search had settled; one mixture and one duration "
            f"serve {len(self.before)} draws of the posterior, and times in this section are "
            "medians over these, not over all draws as above",
        ]
        if float(found.duration) > 0 and float(np.max(found.mixture)) < _PURE:
            lines.append(
                "the data hold several patterns: that is best while answers stay as they are, but "
                "data of a bad pattern may teach a real model other things as well"
            )
        if found.status != Status.COMPLETED:
            lines.append("some solves failed")
        return lines

    def summary(self) -> list[str]:
        """The lines of the console."""
        lines = [f"  {self.sentence}"]
        for row in self.mixture:
            lines.append(
                f"  {row.pattern[:24]:<24} data {row.data:>6}   {row.before} -> {row.after}"
            )
        return [*lines, *(f"  - {line}" for line in self.remarks)]

    def to_dict(self) -> dict[str, Any]:
        """As lists, strings and numbers for JSON."""
        found = self.design
        names = [field.name for field in dataclasses.fields(found)]
        numbers = {name: np.asarray(getattr(found, name)).tolist() for name in names}
        return {"patterns": list(self.patterns), **{k: _json(v) for k, v in numbers.items()}}


def _within(over: Band) -> str:
    return interval(over, (), time)


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(x) for x in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def design(
    found: Diagnosis,
    *,
    budget: float,
    floor: float,
    cost: float,
    utility: AbstractUtility | None,
) -> Plan:
    """The best fine-tuning for draws of the base model as one table: one data set serves all
    questions. The draws are the diagnosis' own; where questions are told apart there, those of the
    pooled counts.

    **Arguments:** `found`; `budget`, `floor`, `cost`, `utility`: as for `design_sft`.

    **Raises:** `ValueError` as `design_sft`.
    """
    for_draws, for_starts = jax.random.split(
        jax.random.fold_in(jax.random.key(found.settings.seed), 3)
    )
    if found.start.draws is not None:
        probs, rates = found.start.draws
    else:
        posterior = pooled_posterior(found.data.samples, found.data.correct, found.settings.prior)
        probs, rates = (np.asarray(x)[:, 0] for x in posterior.draw(for_draws, _DRAWS))
    best = design_sft(
        probs,
        rates,
        budget=budget,
        floor=floor,
        cost=cost,
        eps=found.settings.eps,
        utility=utility,
        key=for_starts,
    )
    return Plan(found.data.patterns, best, probs)
