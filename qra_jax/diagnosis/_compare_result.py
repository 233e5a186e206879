"""What a comparison of models says: plain data."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ._bands import Band, counted
from ._result import plain

if TYPE_CHECKING:
    import xarray as xr

SURE = 0.9


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One thing that is compared, of M models.

    - `name`; `unit`; `more`: whether more of it is better, None where that cannot be said.
    - `each`: bands `(M,)`; `less`: bands `(M, M)`, of the first less the second, drawn in pairs.
    - `above`: `(M, M)`, probability that the first has more, ties shared.
    - `first`: `(M,)`, probability that the model has the best value of all (NaN where that cannot
      be said), ties shared.
    - `questions`: how many questions it rests on.
    """

    name: str
    unit: str
    more: bool | None
    each: Band
    less: Band
    above: Float[np.ndarray, "M M"]
    first: Float[np.ndarray, " M"]
    questions: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models beside each other on the questions that they share.

    - `models`: names `(M,)`; `questions`: names of the shared ones; `dropped`: how many rollouts of
      each model are of other questions; `samples`: rollouts of each that were compared.
    - `paired`: whether questions were resampled, the same for all models.
    - `quantities`: by name.
    - `regimes`: `(M, 3)`, probabilities of STRONG, ENTANGLED and MIXED.
    - `patterns`: names `(R,)` of all; `shares`, `rates`: bands `(M, R)`, 0 and NaN for patterns
      that the model never uses.
    - `log_times`: `(T,)`, natural logarithms of the flow's time; `accuracy`: bands `(M, T)`;
      `ahead`: `(M, T)`, probability that the model has the highest accuracy at the time.
    - `notes`: what the reader must know; `draws`: how many there were.
    """

    models: tuple[str, ...]
    questions: tuple[str, ...]
    dropped: tuple[int, ...]
    samples: tuple[int, ...]
    paired: bool
    quantities: dict[str, Quantity]
    regimes: Float[np.ndarray, "M 3"]
    patterns: tuple[str, ...]
    shares: Band
    rates: Band
    log_times: Float[np.ndarray, " T"]
    accuracy: Band
    ahead: Float[np.ndarray, "M T"]
    notes: tuple[str, ...]
    draws: int

    def summary(self) -> list[str]:
        """Which model to start from and how sure that is, in whole sentences, the finding first."""
        end, time = self.quantities["accuracy in the end"], self.quantities["time to converge"]
        lines = [self._start()]
        for quantity, verb in ((end, "ends highest"), (time, "converges first")):
            at = int(np.nanargmax(quantity.first))
            chance = counted(float(quantity.first[at]), self.draws)
            lines.append(f"'{self.models[at]}' {verb} with probability {chance}.")
        return lines

    def _start(self) -> str:
        end, time = self.quantities["accuracy in the end"], self.quantities["time to converge"]
        best = int(np.nanargmax(end.first))
        name, sure = self.models[best], float(end.first[best])
        if sure < SURE:
            # Ends that cannot be told apart: the way there decides, if it can.
            soon = int(np.nanargmax(time.first))
            if time.first[soon] >= SURE:
                return (
                    f"Where RL ends is not settled between the models; start from "
                    f"'{self.models[soon]}', which converges first."
                )
            return (
                "These rollouts do not settle which model to start RL from: collect more questions."
            )
        others = [x for x in range(len(self.models)) if x != best]
        slower = [x for x in others if time.above[best, x] >= SURE]
        line = f"Start RL from '{name}': it ends highest."
        if slower:
            named = ", ".join(f"'{self.models[x]}'" for x in slower)
            line = f"{line[:-1]}, though it takes longer than {named}."
        return line

    def to_dict(self) -> dict[str, Any]:
        """As lists, strings and numbers for JSON."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def to_dataset(self) -> "xr.Dataset":
        """As a labelled `xarray.Dataset` over quantity, model, other model, time, pattern and
        level."""
        # Loaded here: nothing else of a diagnosis needs xarray.
        import xarray as xr

        def levels(bands: list[Band], *dims: str):
            ends = (np.stack([getattr(x, end) for x in bands]) for end in _LEVELS)
            return dims, np.stack(list(ends), axis=-1)

        every = list(self.quantities.values())

        def one(over: Band, *dims: str):
            names, values = levels([over], "one", *dims)
            return names[1:], values[0]

        return xr.Dataset(
            {
                "value": levels([x.each for x in every], "quantity", "model", "level"),
                "difference": levels(
                    [x.less for x in every], "quantity", "model", "other", "level"
                ),
                "above": (("quantity", "model", "other"), np.stack([x.above for x in every])),
                "first": (("quantity", "model"), np.stack([x.first for x in every])),
                "regime_probability": (("model", "regime"), self.regimes),
                "share": one(self.shares, "model", "pattern", "level"),
                "rate": one(self.rates, "model", "pattern", "level"),
                "accuracy": one(self.accuracy, "model", "time", "level"),
                "ahead": (("model", "time"), self.ahead),
            },
            coords={
                "quantity": list(self.quantities),
                "unit": ("quantity", [x.unit for x in every]),
                "model": list(self.models),
                "other": list(self.models),
                "regime": ["STRONG", "ENTANGLED", "MIXED"],
                "pattern": list(self.patterns),
                "log_time": ("time", self.log_times),
                "level": list(_LEVELS),
            },
        )


_LEVELS = ("low", "median", "high")
