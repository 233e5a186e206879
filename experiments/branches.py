"""The map of branches: points of rest along penalties, noise and mixtures of rewards."""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra

from ._branches_figure import draw_branches
from ._claim import DERIVED, Claim, value_claim
from ._map import Map, Progress, require_setting
from ._start import CHECK_PROBS, CHECK_RATES

_LN10 = math.log(10)
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
class Diagram:
    """One diagram: a line of flows, and its theory, a curve `theory(s)` of (value, probabilities)
    for s between two ends, unknown to the library. `name` is the title in plain text."""

    name: str
    title: str
    axis: str
    probs: tuple[float, ...]
    rates: tuple[float, ...]
    start: tuple[float, ...]
    slope: tuple[float, ...]
    bounds: tuple[float, float]
    theory: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ends: tuple[float, float]

    def theory_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The parameter and the probabilities, at places along the curve."""
        return self.theory(s, np.array(self.probs), np.array(self.rates))

    def turns(self) -> list[float]:
        """The parameter where the theory's curve turns back, by a scan and bisection."""
        width = 1e-4 * (self.ends[1] - self.ends[0])

        def slope(s):
            # Of fourth order; its own rounding limits where it is 0 to about 1e-9 of the curve,
            # which at a turn moves the value by the square of that.
            near, far = (
                self.theory_at(s + h)[0] - self.theory_at(s - h)[0] for h in _SHIFTS * width
            )
            return 8 * near - far

        grid = np.linspace(*self.ends, 20001)
        at = slope(grid)
        lows = grid[:-1][np.sign(at[1:]) * np.sign(at[:-1]) < 0]
        values = []
        for low in lows:
            pair = np.array([low, low + grid[1] - grid[0]])
            for _ in range(40):
                middle = pair.mean()
                pair[int(np.sign(slope(middle)) != np.sign(slope(pair[0])))] = middle
            values.append(float(self.theory_at(pair.mean())[0]))
        inside = [x for x in values if self.bounds[0] < x < self.bounds[1]]
        return sorted(inside)


_SHIFTS = np.array([1.0, 2.0])


def _gibbs(log_ref: np.ndarray, values: np.ndarray) -> np.ndarray:
    """pi ∝ pi_ref exp(values), patterns last."""
    logits = log_ref + values
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _by_strength(s, ref, rates):
    """RLVR over s = log10 beta."""
    return s, _gibbs(np.log(ref), rates * np.exp(-_LN10 * np.asarray(s))[..., None])


def _by_noise(s, ref, rates):
    """J = s, at beta = 0.1."""
    return s, _gibbs(np.log(ref), rates * np.asarray(s)[..., None] / 0.1)


def _by_clock(s, ref, rates):
    """GRPO: pi ∝ pi_ref exp(k R) with beta = 1/(k sqrt(V (1 - V))), k = e^s."""
    k = np.exp(np.asarray(s))
    probs = _gibbs(np.log(ref), rates * k[..., None])
    value, short = probs @ rates, probs @ (1 - rates)
    return -np.log10(k * np.sqrt(value * short)), probs


def _pair(s):
    """Probabilities of log odds s, and the gap that sequence probability makes of them."""
    first = 1 / (1 + np.exp(-np.asarray(s)))
    return np.stack([first, 1 - first], axis=-1)


def _by_own_probability(s, ref, rates):
    """Log odds s = s_ref + (S_1 pi_1 - S_2 pi_2)/beta, solved for log10 beta."""
    probs, certainty = _pair(s), rates**2 + (1 - rates) ** 2
    gap = probs @ (certainty * [1, -1])
    distance = s - np.log(ref[0] / ref[1])
    # At the reference itself no finite beta is at rest, but where both are 0.
    ratio = gap / np.where(distance == 0, np.nan, distance)
    return np.where(ratio > 0, np.log10(np.where(ratio > 0, ratio, 1)), np.nan), probs


def _by_mixture(s, ref, rates):
    """s = s_ref + [(1 - w)(p_1 - p_2) + w (S_1 pi_1 - S_2 pi_2)]/beta, solved for w."""
    probs, certainty = _pair(s), rates**2 + (1 - rates) ** 2
    gap, lead = probs @ (certainty * [1, -1]), rates[0] - rates[1]
    return (0.15 * (s - np.log(ref[0] / ref[1])) - lead) / (gap - lead), probs


_STRENGTH = r"$\log_{10}$ KL strength $\beta$"
_CHECK = {"probs": CHECK_PROBS, "rates": CHECK_RATES}
_OVER_BETA = {"axis": _STRENGTH, "slope": (0.0, 0.0, 0.0, _LN10, 0.0)}
_VERIFIED, _OWN, _GRPO = (
    (1.0, 1.0, 0.0, 0.0, 0.0),
    (1.0, 0.0, 1.0, 0.0, 0.0),
    (1.0, 1.0, 0.0, 0.0, 1.0),
)

DIAGRAMS = {
    "strength": Diagram(
        "verifier, over log10 beta",
        "verifier", bounds=(-2.0, 1.0), theory=_by_strength, ends=(-2.0, 1.0),
        start=_VERIFIED, **_CHECK, **_OVER_BETA,
    ),
    "twins": Diagram(
        "sequence probability of equal patterns, over log10 beta",
        "sequence probability, equal patterns", probs=(0.5, 0.5), rates=(0.9, 0.1),
        bounds=(-1.1, 0.2), theory=_by_own_probability, ends=(-11.0, 11.0), start=_OWN,
        **_OVER_BETA,
    ),
    "own": Diagram(
        "sequence probability, over log10 beta",
        "sequence probability", probs=(0.45, 0.55), rates=(0.9, 0.2),
        bounds=(-1.1, 0.2), theory=_by_own_probability, ends=(-11.0, 11.0), start=_OWN,
        **_OVER_BETA,
    ),
    "grpo": Diagram(
        "GRPO, over log10 beta",
        "verifier, GRPO", probs=(0.05, 0.70, 0.25), rates=(0.99, 0.3, 0.1),
        bounds=(-0.7, 0.5), theory=_by_clock, ends=(-1.5, 5.0), start=_GRPO, **_OVER_BETA,
    ),
    "noise": Diagram(
        "noisy verifier, over J",
        r"noisy verifier, $\beta = 0.1$", axis="TPR - FPR of the verifier, J",
        start=(0.0, 1.0, 0.0, math.log(0.1), 0.0), slope=(1.0, 0.0, 0.0, 0.0, 0.0),
        bounds=(-1.0, 1.0), theory=_by_noise, ends=(-1.0, 1.0), **_CHECK,
    ),
    "mixture": Diagram(
        "verifier and sequence probability, over the weight",
        r"verifier and sequence probability, $\beta = 0.15$", probs=(0.2, 0.8), rates=(0.8, 0.1),
        axis="weight of sequence probability", start=(1.0, 1.0, 0.0, math.log(0.15), 0.0),
        slope=(0.0, -1.0, 1.0, 0.0, 0.0), bounds=(0.0, 1.0), theory=_by_mixture, ends=(-8.0, 8.0),
    ),
}  # fmt: skip


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
        return [*_closed_claims(data), *_turn_claims(data), _pitchfork_claim(data)]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        titles = {name: (one.title, one.axis) for name, one in DIAGRAMS.items()}
        return draw_branches(data, titles)


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


def _closed_claims(data: xr.Dataset) -> list[Claim]:
    claims = []
    for name, what in (("strength", "KL strength"), ("noise", "noise of the verifier")):
        cut = data.sel(diagram=name)
        value = cut["value"].values
        seen = np.isfinite(value)
        _, probs = DIAGRAMS[name].theory_at(value[seen])
        error = float(np.max(np.abs(cut["best"].values[seen] - probs[:, 0])))
        text = f"largest distance from pi ∝ pi_ref exp(J R/beta) along the {what}"
        claims.append(value_claim(text, "Prop. 5.2 of [1], as summarised", 0.0, error, atol=1e-9))
    return claims


def _turn_claims(data: xr.Dataset) -> list[Claim]:
    """Folds, and how many of them, against turns of the theory's curve."""
    claims = []
    for name, diagram in DIAGRAMS.items():
        if name == "twins":
            continue
        cut = data.sel(diagram=name)
        folds = np.sort(
            cut["special_value"].values[cut["special"].values == qra.dynamics.Special.FOLD]
        )
        turns = diagram.turns()
        text = f"{diagram.name}: number of folds"
        claims.append(value_claim(text, DERIVED, len(turns), len(folds)))
        if len(turns) == len(folds):
            for number, (turn, fold) in enumerate(zip(turns, folds, strict=True), 1):
                text = f"{diagram.name}: where fold {number} is, by a scan of the theory's curve"
                claims.append(value_claim(text, DERIVED, turn, fold, atol=1e-9))
    return claims


def _pitchfork_claim(data: xr.Dataset) -> Claim:
    cut = data.sel(diagram="twins")
    crossings = cut["special_value"].values[
        cut["special"].values == qra.dynamics.Special.BRANCH_POINT
    ]
    text = "two patterns of equal certainty S: equal shares are stable above beta = S/2 only"
    found = float(10 ** crossings[0]) if len(crossings) else math.nan
    return value_claim(text, DERIVED, 0.41, found, atol=1e-9)
