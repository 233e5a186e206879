"""The claims of the map of branches, from its stored data."""

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr

from qra_jax.dynamics import Special

from ..._lab.claim import Claim, Claims, value_claim
from .diagrams import DIAGRAMS

DERIVED = "derived in docs/derivations.md#continuation-along-a-parameter"

CLAIMS = Claims()


def _special_values(cut: xr.Dataset, kind: Special) -> np.ndarray:
    """Where a diagram has special points of a kind."""
    return cut["special_value"].values[cut["special"].values == kind]


@CLAIMS.register
def branch_is_the_closed_form(data: xr.Dataset) -> Iterator[Claim]:
    """Along the penalty's strength and the verifier's noise."""
    for name, what in (("strength", "KL strength"), ("noise", "noise of the verifier")):
        cut = data.sel(diagram=name)
        value = cut["value"].values
        seen = np.isfinite(value)
        _, probs = DIAGRAMS[name].theory_at(value[seen])
        error = float(np.max(np.abs(cut["best"].values[seen] - probs[:, 0])))
        text = f"largest distance from pi ∝ pi_ref exp(J R/beta) along the {what}"
        yield value_claim(text, "Prop. 5.2 of [1], as summarised", 0.0, error, atol=1e-9)


@CLAIMS.register
def folds_are_turns_of_the_theory(data: xr.Dataset) -> Iterator[Claim]:
    """Folds, and how many of them, against turns of the theory's curve."""
    for name, diagram in DIAGRAMS.items():
        if name == "twins":
            continue
        folds = np.sort(_special_values(data.sel(diagram=name), Special.FOLD))
        turns = diagram.turns()
        text = f"{diagram.name}: number of folds"
        yield value_claim(text, DERIVED, len(turns), len(folds))
        if len(turns) == len(folds):
            for number, (turn, fold) in enumerate(zip(turns, folds, strict=True), 1):
                text = f"{diagram.name}: where fold {number} is, by a scan of the theory's curve"
                yield value_claim(text, DERIVED, turn, fold, atol=1e-9)


@CLAIMS.register
def pitchfork_of_twins(data: xr.Dataset) -> Iterator[Claim]:
    """At half the certainty of the two."""
    crossings = _special_values(data.sel(diagram="twins"), Special.BRANCH_POINT)
    text = "two patterns of equal certainty S: equal shares are stable above beta = S/2 only"
    found = float(10 ** crossings[0]) if len(crossings) else math.nan
    yield value_claim(text, DERIVED, 0.41, found, atol=1e-9)
