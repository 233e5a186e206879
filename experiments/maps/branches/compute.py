"""The map of branches: points of rest along penalties, noise and mixtures of rewards."""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax.commands import require_setting

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from .claims import CLAIMS
from .diagrams import DIAGRAMS, Diagram
from .figure import draw_branches

_MOST = 4  # branches kept of a diagram
_SAMPLES = 8001  # of a theory's curve, which may be steep
_SEEKS = 16  # starts of the search for points of rest


class Blend(qra.objectives.AbstractUtility):
    """From the mean (share 0) to GRPO with large groups (share 1)."""

    share: jax.Array

    def value(self, value, shortfall):
        return (1 - self.share) * value + self.share * qra.GRPO().value(value, shortfall)

    def slope(self, value, shortfall):
        return 1 - self.share + self.share * qra.GRPO().slope(value, shortfall)


class Line(eqx.Module):
    """Flows along a line in Youden's index, the weights of verifier and sequence probability,
    log beta, and the share of GRPO: one family for all diagrams, compiled once."""

    problem: qra.Problem
    start: jax.Array
    slope: jax.Array

    def __call__(self, value):
        youden, verified, own, log_beta, share = self.start + self.slope * value
        verifier = qra.objectives.NoisyVerifier((1 + youden) / 2, (1 - youden) / 2)
        reward = qra.objectives.Mixture(
            (verifier, qra.objectives.SequenceProbability()), jnp.stack([verified, own])
        )
        penalty = qra.ReverseKL(jnp.exp(log_beta))
        return qra.GradientFlow(qra.Objective(reward, Blend(share), (penalty,)), self.problem)


@dataclasses.dataclass(frozen=True)
class Branches(Map):
    """Points of rest along penalties, noise and mixtures: branches, folds, pitchforks."""

    step: float = 0.1
    """longest step along a branch, above 0"""
    rows: int = 1024
    """points of a branch to each side of where it was found, at least 16"""
    places: int = 5
    """values of each parameter at which branches are looked for, at least 2"""

    name: ClassVar[str] = "branches"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(0 < self.step < math.inf, "step", "be above 0", self.step)
        require_setting(self.rows >= 16, "rows", "be at least 16", self.rows)
        require_setting(self.places >= 2, "places", "be at least 2", self.places)

    def shrunk(self) -> "Branches":
        return dataclasses.replace(self, step=0.4, rows=192, places=3)

    def ticks(self) -> int:
        return len(DIAGRAMS)

    def compute(self, progress: Progress) -> xr.Dataset:
        found = []
        for diagram in DIAGRAMS.values():
            found.append(self._diagram(diagram))
            progress(1)
        names = list(found[0])
        values = {name: np.stack([one[name] for one in found]) for name in names}
        return xr.Dataset(
            {name: (("diagram", *_DIMS[name]), x, _ATTRS[name]) for name, x in values.items()},
            coords={"diagram": list(DIAGRAMS)},
        )

    def _diagram(self, diagram: Diagram) -> dict[str, np.ndarray]:
        """All branches through the points of rest at some values of the parameter."""
        # Three patterns everywhere, so that diagrams share what is compiled.
        probs, rates = (np.pad(x, (0, 3 - len(x))) for x in (diagram.probs, diagram.rates))
        policy, problem = qra.two_stage(probs, rates)
        line = Line(problem, *map(jnp.asarray, (diagram.start, diagram.slope)))
        low, high = diagram.bounds
        # Off the ends and off round numbers, where symmetric cases have their special points.
        places = low + (high - low) * (np.arange(self.places) + 0.37) / self.places
        seen = _points_of_rest(line, policy, jnp.asarray(places))
        kept: list[dict[str, np.ndarray]] = []
        for place, points, valid in zip(places, *map(np.asarray, seen), strict=True):
            for point in points[valid & np.all((points > 0) == (probs > 0), axis=1)]:
                if not any(_passes(branch, place, point) for branch in kept):
                    kept.append(self._branch(line, policy, point, place, diagram.bounds, rates))
        if len(kept) > _MOST:
            raise ValueError(f"branches must be at most {_MOST}, got {len(kept)}")
        empty = {name: np.full_like(x, _EMPTY.get(name, np.nan)) for name, x in kept[0].items()}
        rows = {
            name: np.stack([branch[name] for branch in kept] + [empty[name]] * (_MOST - len(kept)))
            for name in kept[0]
            if name != "logs"
        }
        value, theory = diagram.theory_at(np.linspace(*diagram.ends, _SAMPLES))
        return rows | {
            "theory_value": value,
            "theory_best": theory[..., 0],
            "theory_accuracy": theory @ np.array(diagram.rates),
        }

    def _branch(self, line, policy, point, place, bounds, rates) -> dict[str, np.ndarray]:
        """The branch through a point, from one end to the other."""
        back, ahead = (
            qra.dynamics.continue_fixed_point(
                policy, line, jnp.asarray(point), value=place, bounds=bounds,
                direction=direction, step=self.step, max_steps=self.rows,
            )
            for direction in (-1, 1)
        )  # fmt: skip

        def joined(name):
            halves = [np.asarray(getattr(half, name)) for half in (back, ahead)]
            return np.concatenate([halves[0][::-1], halves[1]])

        probs, valid = joined("pattern_probs"), joined("valid")
        special_probs = joined("special_probs")
        with np.errstate(divide="ignore"):
            logs = np.log(probs)
        return {
            "value": np.where(valid, joined("value"), np.nan),
            "best": probs[:, 0],
            "accuracy": probs @ rates,
            "kind": joined("kind"),
            "special": joined("special"),
            "special_value": joined("special_value"),
            "special_best": special_probs[:, 0],
            "special_accuracy": special_probs @ rates,
            "status": np.array([back.status, ahead.status]),
            "logs": logs,
        }

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        folds = (data["special"] == qra.dynamics.Special.FOLD).sum(data["special"].dims[1:])
        counts = zip(folds["diagram"].values, folds.values, strict=True)
        return ["folds found: " + ", ".join(f"{name} {int(count)}" for name, count in counts)]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_branches(data)


@eqx.filter_jit
def _points_of_rest(line, policy, places):
    # Of three patterns and of two: again so that diagrams share what is compiled.
    faces = np.array([[True, True, True], [True, True, False]])

    def at(value):
        found = qra.fixed_points(policy, line(value), faces=faces, starts=_SEEKS)
        return found.pattern_probs, found.valid

    return jax.lax.map(at, places)


def _passes(branch: dict[str, np.ndarray], place: float, point: np.ndarray) -> bool:
    """Whether a branch goes through a point of rest."""
    over = branch["value"] - place
    there = point > 0
    at = np.nonzero(over[1:] * over[:-1] <= 0)[0]
    for i in at:
        share = over[i] / (over[i] - over[i + 1]) if over[i] != over[i + 1] else 0.5
        logs = (1 - share) * branch["logs"][i, there] + share * branch["logs"][i + 1, there]
        # Rows are a step apart, different branches much further.
        if np.max(np.abs(logs - np.log(point[there]))) < 0.05:
            return True
    return False


_ROWS, _SPECIALS, _THEORY = ("branch", "row"), ("branch", "place"), ("sample",)
_DIMS = {
    **dict.fromkeys(("value", "best", "accuracy", "kind"), _ROWS),
    **dict.fromkeys(("special", "special_value", "special_best", "special_accuracy"), _SPECIALS),
    "status": ("branch", "end"),
    **dict.fromkeys(("theory_value", "theory_best", "theory_accuracy"), _THEORY),
}
_EMPTY = {"kind": -1, "special": -1, "status": qra.Status.COMPLETED}
_ATTRS = {
    name: {"long_name": text, "units": "1"}
    for name, text in {
        "value": "parameter of the diagram",
        "best": "probability of the best pattern",
        "accuracy": "accuracy",
        "kind": "qra.dynamics.Stability of the point",
        "special": "qra.dynamics.Special point on the branch",
        "special_value": "parameter at a special point",
        "special_best": "probability of the best pattern at a special point",
        "special_accuracy": "accuracy at a special point",
        "status": "qra.Status of either end of a branch",
        "theory_value": "parameter, by theory",
        "theory_best": "probability of the best pattern, by theory",
        "theory_accuracy": "accuracy, by theory",
    }.items()
}
