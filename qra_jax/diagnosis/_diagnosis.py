"""A diagnosis: the numbers, in words and as labelled data."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ._bands import Band
from ._result import Findings
from .words import Advice, summary

if TYPE_CHECKING:
    import xarray as xr

_LEVELS = ("low", "median", "high")


@dataclasses.dataclass(frozen=True)
class Diagnosis(Findings):
    """`Findings` of a base model, which say themselves what they mean.

    ??? example

        ```python
        import jax
        jax.config.update("jax_enable_x64", True)
        from qra_jax.diagnosis import diagnose
        found = diagnose(([412, 383, 5], [373, 350, 5]), draws=99)
        print("\\n".join(found.summary()))
        print(found.to_dataset().share.sel(level="median"))
        ```
    """

    def summary(self, plan: Advice | None = None) -> list[str]:
        """What the console says: alarms, the four lines for who decides, numbers, limits; with the
        fine-tuning before RL, if it was designed."""
        return summary(self, plan)

    def to_dataset(self) -> "xr.Dataset":
        """The numbers as a labelled `xarray.Dataset` over question, pattern, regime, time, k, level
        (the ends of bands) and, if it was forecast, step; those of `signal` are its own."""
        return _dataset(self)


def _dataset(found: Findings) -> "xr.Dataset":
    """The numbers of a diagnosis by name."""
    # Loaded here: nothing else of a diagnosis needs xarray.
    import xarray as xr

    def levels(over: Band, *dims: str):
        return (*dims, "level"), np.stack([getattr(over, end) for end in _LEVELS], axis=-1)

    start, rlvr, ahead = found.start, found.rlvr, found.rlvr.forecast
    named = {
        "samples": (("question", "pattern"), found.data.samples),
        "right": (("question", "pattern"), found.data.correct),
        "weight": (("question",), found.data.weights),
        "share": levels(start.pattern_probs, "question", "pattern"),
        "rate": levels(start.success_rates, "question", "pattern"),
        "accuracy_now": levels(start.accuracy),
        "accuracy_end": levels(ahead.end_accuracy),
        "regime_probability": (("question", "regime"), found.regime.probs),
        "best_probability": (("question", "pattern"), found.regime.best_probs),
        "misleading_probability": (("question", "pattern"), found.regime.misleading_probs),
        "log_entanglement_time": levels(rlvr.log_entanglement_time.overall, "question"),
        "log_convergence_time": levels(rlvr.log_convergence_time.overall, "question"),
        "accuracy": levels(ahead.accuracy, "time"),
        "pattern_share": levels(ahead.pattern_shares, "time", "pattern"),
        "entropy": levels(ahead.entropy, "time"),
        "kl": levels(ahead.kl, "time"),
        "measured_pass_at_k": (("k",), rlvr.pass_at_k.measured),
    }
    coords = {
        "pattern": list(found.data.patterns),
        "question": list(found.data.questions),
        "regime": ["STRONG", "ENTANGLED", "MIXED"],
        "log_time": ("time", ahead.log_times),
        "k": rlvr.pass_at_k.k,
        "level": list(_LEVELS),
    }
    steps = rlvr.step_forecast
    if steps is not None:
        named["step_accuracy"] = levels(steps.accuracy, "step")
        named["step_pattern_share"] = levels(steps.pattern_shares, "step", "pattern")
        coords["step"] = steps.steps
    if found.rlif is not None:
        named["internal_reward"] = levels(found.rlif.pattern_rewards, "pattern")
        named["rlif_accuracy_end"] = levels(found.rlif.end_accuracy)
    return xr.Dataset(named, coords=coords, attrs={"objective": found.settings.objective})
