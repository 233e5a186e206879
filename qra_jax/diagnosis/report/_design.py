"""Fine-tuning before RLVR, designed for a diagnosed base model."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from ...fine_tuning import SFTDesign, design_sft
from ...fine_tuning._curve import TotalTimes, total_times
from ...flows import Status
from ...objectives import AbstractUtility
from ...posteriors import pooled_posterior
from .. import Band, Diagnosis, band
from ..words import Advice, interval, number, share, time

_DRAWS = 16
"""Draws that the design must serve all: its cost grows with them, its mean settles soon."""
_PURE = 0.99
_SAME = 1.005  # a factor that is shown as 1
_NEAR = 1.1  # times the shortest total time: hardly longer
_STEPS = (1, 1.5, 2, 3, 5, 7)  # of a power of ten
_LONGEST = 1e4  # of any fine-tuning


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


class CurveRow(NamedTuple):
    """A duration of fine-tuning on the data of the design, and what time it takes in all."""

    duration: str
    rl_time: str
    time: str
    interval: str
    naive: str
    entropy: str
    remark: str


@dataclasses.dataclass(frozen=True)
class Curve:
    """The total time against the duration of fine-tuning, within the budget and beyond it.

    `durations`: `(N,)`; `own`, `naive`: on the data of the design (of the best pattern only, where
    no fine-tuning is best), and of the best pattern only.
    """

    durations: np.ndarray
    own: TotalTimes
    naive: TotalTimes

    @property
    def medians(self) -> np.ndarray:
        """Logarithms of the total times, `(N,)`."""
        return np.median(np.asarray(self.own.log_time), axis=1)


@dataclasses.dataclass(frozen=True)
class Plan(Advice):
    """The fine-tuning found, beside no fine-tuning and all data on the best pattern."""

    patterns: tuple[str, ...]
    design: SFTDesign
    before: np.ndarray
    budget: float
    floor: float
    curve: Curve

    @property
    def sentence(self) -> str:
        """The finding, in a sentence or two."""
        found = self.design
        if float(found.duration) == 0:
            return "No fine-tuning is best: whatever it costs, RLVR alone is as fast."
        over = [float(x) for x in (found.log_gain_over_nothing, found.log_gain_over_naive)]
        factors = [math.exp(min(x, 290)) for x in over]
        naive = f"{number(factors[1])} times as long"
        if factors[1] < _SAME:
            naive = "as long"
        mixture = np.asarray(found.mixture)
        data = " and ".join(
            f"{100 * mixture[at]:.0f} % right answers by way of '{self.patterns[at]}'"
            for at in np.argsort(-mixture, kind="stable")
            if mixture[at] >= 0.005
        )
        return (
            f"Fine-tune on {data}, for a duration of {number(float(found.duration))} (learning "
            "rate times steps of plain gradient ascent). RLVR alone takes "
            f"{number(factors[0])} times as long as such fine-tuning and RLVR together; with data "
            f"of the best pattern only both together take {naive} (geometric means over draws of "
            "the posterior)."
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
    def curve_rows(self) -> list[CurveRow]:
        """The total time, duration by duration."""
        curve, found = self.curve, []
        best = int(np.nanargmin(curve.medians))
        for at, duration in enumerate(curve.durations):
            own = band(np.asarray(curve.own.log_time[at]))
            remarks = ["shortest of these"] if at == best else []
            if duration > self.budget:
                remarks.append("beyond the budget")
            if float(curve.own.entropy[at]) < self.floor - 1e-9:
                remarks.append("below the entropy floor")
            found.append(
                CurveRow(
                    number(float(duration)),
                    time(float(np.median(np.asarray(curve.own.log_rl_time[at])))),
                    time(float(own.median)),
                    _within(own),
                    time(float(np.median(np.asarray(curve.naive.log_time[at])))),
                    f"{float(curve.own.entropy[at]):.3f}",
                    ", ".join(remarks),
                )
            )
        return found

    @property
    def curve_sentence(self) -> str:
        """Which durations are about as good as the best, and whether more would be better."""
        curve, medians = self.curve, self.curve.medians
        best = int(np.nanargmin(medians))
        near = curve.durations[medians <= medians[best] + math.log(_NEAR)]
        low, high = (number(float(x)) for x in (near.min(), near.max()))
        which = f"a duration of {low}" if low == high else f"durations from {low} to {high}"
        alone = medians[0]
        said = (
            f"Of the durations below, {which} {'is' if low == high else 'are'} within 10 % of the "
            f"shortest total time, {time(float(medians[best]))}; RLVR alone takes "
            f"{time(float(alone))}."
        )
        if curve.durations[best] > self.budget:
            said += " The shortest lies beyond the budget: a larger --sft-budget would pay."
        return f"{said} Times here are learning rate times steps of plain gradient ascent."

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
            longer = self.curve.durations[int(np.nanargmin(self.curve.medians))] > self.budget
            slack = f"binds; {'some longer' if longer else 'no longer'} fine-tuning in the table"
            slack += " above pays"
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
        lines += ["", f"  {self.curve_sentence}"]
        lines.append("  duration of fine-tuning   RLVR after it   total time   best pattern only")
        for row in self.curve_rows:
            lines.append(
                f"  {row.duration:>23} {row.rl_time:>15} {row.time:>12} {row.naive:>19}"
                + (f"   {row.remark}" if row.remark else "")
            )
        return [*lines, "", *(f"  - {line}" for line in self.remarks)]

    def to_dict(self) -> dict[str, Any]:
        """As lists, strings and numbers for JSON."""
        found = self.design
        names = [field.name for field in dataclasses.fields(found)]
        numbers = {name: np.asarray(getattr(found, name)).tolist() for name in names}
        curve: dict[str, Any] = {"durations": self.curve.durations.tolist()}
        for name, of in (("own", self.curve.own), ("naive", self.curve.naive)):
            curve[name] = {key: _json(np.asarray(x).tolist()) for key, x in of._asdict().items()}
        plain = {key: _json(value) for key, value in numbers.items()}
        return {"patterns": list(self.patterns), **plain, "curve": curve}


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
    settings = {"eps": found.settings.eps, "cost": cost, "utility": utility}
    durations = durations_for(budget, float(best.duration))
    data = best.mixture if float(best.duration) > 0 else best.naive_mixture
    curves = [
        total_times(probs, rates, x, durations, **settings) for x in (data, best.naive_mixture)
    ]
    return Plan(found.data.patterns, best, probs, budget, floor, Curve(durations, *curves))


def durations_for(budget: float, chosen: float) -> np.ndarray:
    """0, the budget, the chosen one, round numbers from a thirtieth of the budget to five of it."""
    unit = budget if budget > 0 else 1.0
    powers = range(math.floor(math.log10(unit / 30)), math.ceil(math.log10(5 * unit)) + 1)
    ladder = [step * 10.0**power for power in powers for step in _STEPS]
    kept = [x for x in ladder if unit / 30 <= x <= min(5 * unit, _LONGEST)]
    return np.unique([0.0, *kept, budget, chosen])
