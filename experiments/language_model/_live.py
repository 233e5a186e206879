"""One run of RLVR and one of RLIF, made just now, beside what was said of their base model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

import qra_jax as qra
from qra_jax.diagnosis import StepForecast

from ._compare import inside
from ._model import Transformer
from ._run import EVERY, Curves, Run, reason, stop_of, train, write_curves
from ._said import Said, band_at, forecast
from ._study import KINDS, NUM_STEPS, Kind
from ._task import HELD_OUT, Pattern

LIVE = ("rlvr", "majority")
"""The kinds of runs; the first is forecast."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is computed: steps, questions and samples of a step, questions of an evaluation,
    draws of the diagnosis and of the fit of its time scale."""

    num_steps: int = NUM_STEPS
    groups: tuple[int, int] = (32, 8)
    held_out: int = len(HELD_OUT)
    draws: int = 399
    fitted: int = 199

    def of(self, kind: Kind) -> Kind:
        """The kind with this size of step."""
        batch, number = self.groups
        sampler = qra.SampledGroups(number, batch, kind.how.sampler.estimator)
        return dataclasses.replace(kind, how=dataclasses.replace(kind.how, sampler=sampler))


QUICK = Size(20, (4, 4), 128, 39, 39)


def told(said: Said) -> list[str]:
    """What is said of a base model, in lines."""
    found = said.found
    probs = found.start.pattern_probs.median[0]
    shares = ", ".join(f"{p.name.lower()} {probs[p]:.3f}" for p in Pattern)
    kinds = zip(qra.Regime, found.regime.probs[0], strict=True)
    out = [
        f"from {len(said.rollouts)} rollouts: {shares}",
        "regime: " + ", ".join(f"{kind.name} {chance:.2f}" for kind, chance in kinds),
    ]
    if (risk := said.by_answer.rlif) is not None:
        chance = f"{risk.ends_below_start:.2f}"
        out.append(f"RLIF by majority vote ends below its start with probability {chance}")
    return out


@dataclasses.dataclass(frozen=True)
class Live:
    """What the runs did.

    - `curves`, `stops`: by kind; `band`: the forecast of the first; `inside`: how many of the
      evaluations that it was not fitted to lie in its 90 % band, NaN if it stopped before there
      were any.
    """

    curves: dict[str, Curves]
    stops: dict[str, int]
    band: StepForecast | None
    inside: float

    def logs(self) -> dict[str, dict[str, Float[np.ndarray, "n *R"]]]:
        """Accuracy and pattern shares of each step, by kind."""
        return {name: run.log.sight._asdict() for name, run in self.curves.items()}

    def lines(self) -> list[str]:
        """A summary."""
        out = []
        for name, curves in self.curves.items():
            held = curves.held_out.sight.accuracy
            held = held[np.isfinite(held)]
            line = f"{KINDS[name].label}: held-out accuracy {held[0]:.3f} -> {held[-1]:.3f}"
            why = reason(self.stops[name])
            out.append(f"{line}; {why}" if why else line)
        if self.band is None:
            return out
        label, share = KINDS[LIVE[0]].label, f"{100 * self.inside:.0f} %"
        return [*out, f"{label}: {share} of later evaluations lie in the forecast's 90 % band"]


def live(
    base: Transformer,
    said: Said,
    folder: Path,
    seed: int,
    size: Size,
    seen: Callable[[str, int], None] = lambda label, step: None,
) -> Live:
    """Train a base model, and compare with what was said of it.

    **Arguments:** `base`; `said` of it; `folder`: for checkpoints and curves; `seed`; `size`;
    `seen`: called with the label of a run after each of its steps.
    """
    curves, stops = {}, {}
    kinds = {name: size.of(KINDS[name]) for name in LIVE}
    for name, kind in kinds.items():
        path = folder / f"live_{name}.eqx"
        path.unlink(missing_ok=True)
        run = Run(kind.how, size.num_steps, seed, size.held_out)
        saved = train(run, base, path, seen=lambda step, label=kind.label: seen(label, step))
        write_curves(path.with_suffix(".npz"), saved)
        curves[name], stops[name] = saved.curves, stop_of(saved)
    if stops[LIVE[0]] >= 0:
        return Live(curves, stops, None, np.nan)
    how, sight = kinds[LIVE[0]].how, curves[LIVE[0]].held_out.sight
    held, shares = np.asarray(sight.accuracy), np.asarray(sight.shares)
    band = forecast(said.rollouts, how, held, shares, size.held_out, size.fitted)
    low, _, high = band_at(band, EVERY * np.arange(len(held)))[0]
    later = EVERY * np.arange(len(held)) > band.logged[-1, 0]
    within = inside(held[later], low[later], high[later], size.held_out)
    return Live(curves, stops, band, float(np.mean(within)))
