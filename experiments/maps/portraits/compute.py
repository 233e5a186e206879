"""The map of portraits: where objectives lead, from everywhere on the simplex of three patterns."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax import plot
from qra_jax.commands import require_setting

from ..._lab.claim import Claim
from ..._lab.map import Map
from ..._lab.progress import Progress
from ..._lab.start import CHECK_PROBS, CHECK_RATES
from .claims import CLAIMS
from .figure import draw_portraits

_NAMES = ("right", "misleading", "bad")
# Of the rewards of `_mixed`: verifiable, self-certainty, sequence probability, self-consistency.
_MIXED = {
    "RLVR": ((1, 0, 0, 0), 0, 0),
    "RLVR, KL": ((1, 0, 0, 0), 1, 0),
    "RLVR, entropy bonus": ((1, 0, 0, 0), 0, 1),
    "RLIF, self-certainty": ((0, 1, 0, 0), 0, 0),
    "RLIF, sequence probability": ((0, 0, 1, 0), 0, 0),
    "RLIF, soft self-consistency": ((0, 0, 0, 1), 0, 0),
}


def _mixed(problem: qra.Problem, weights, penalties=()) -> qra.GradientFlow:
    """One structure for most panels, so that they share their compilations."""
    rewards = (
        qra.Verifiable(),
        qra.SelfCertainty(),
        qra.objectives.SequenceProbability(),
        qra.objectives.SelfConsistency(),
    )
    reward = qra.objectives.Mixture(rewards, np.array(weights, float))
    return qra.GradientFlow(qra.Objective(reward, regularisers=penalties), problem)


@dataclasses.dataclass(frozen=True)
class Portraits(Map):
    """Phase portraits and basins of attraction of objectives on one base model."""

    pattern_probs: tuple[float, float, float] = CHECK_PROBS
    """probabilities of the right, the misleading and the bad pattern, above 0, with sum 1"""
    success_rates: tuple[float, float, float] = CHECK_RATES
    """success rates of the patterns, falling, strictly between 0 and 1"""
    beta: float = 0.1
    """strength of the KL penalty, above 0"""
    tau: float = 0.2
    """strength of the entropy bonus, above 0"""
    starts: int = 2000
    """random starts, uniform on the simplex, at least 10"""
    resolution: int = 40
    """triangles along each side of the coloured basins, at least 3"""
    weights: int = 41
    """weights of the verifiable reward in the mixture, at least 3"""

    name: ClassVar[str] = "portraits"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("beta", "tau"):
            require_setting(getattr(self, key) > 0, key, "be above 0", getattr(self, key))
        for key, least in (("starts", 10), ("resolution", 3), ("weights", 3)):
            value = getattr(self, key)
            require_setting(value >= least, key, f"be at least {least}", value)
        probs, rates = self.pattern_probs, self.success_rates
        sound = min(probs) > 0 and abs(sum(probs) - 1) < 1e-6
        require_setting(sound, "pattern_probs", "be above 0 with sum 1", probs)
        falling = 1 > rates[0] > rates[1] > rates[2] > 0
        require_setting(falling, "success_rates", "fall, strictly between 0 and 1", rates)

    def shrunk(self) -> "Portraits":
        return dataclasses.replace(self, starts=min(self.starts, 300), resolution=12, weights=5)

    @property
    def complete(self) -> bool:
        """Whether flows with penalties and other speeds are shown as well, which takes most of the
        time."""
        return self.resolution >= 20

    def penalties(
        self, kl: float, entropy: float
    ) -> tuple[qra.objectives.AbstractRegulariser, ...]:
        """Those of a panel; also of strength 0, so that all panels share their compilations."""
        pair = qra.ReverseKL(kl * self.beta), qra.EntropyBonus(entropy * self.tau)
        return pair if self.complete else ()

    def panels(self, problem: qra.Problem) -> dict[str, qra.GradientFlow]:
        """The flows, in the order of the figure."""
        mixed = {
            key: _mixed(problem, weights, self.penalties(kl, entropy))
            for key, (weights, kl, entropy) in _MIXED.items()
            if self.complete or not kl + entropy
        }
        if not self.complete:
            return mixed
        natural = qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural())
        penalty = (qra.ReverseKL(self.beta),)
        grpo = qra.Objective(qra.Verifiable(), qra.GRPO(), penalty)
        flows = {**mixed, "RLVR, natural": natural, "GRPO, KL": qra.GradientFlow(grpo, problem)}
        order = ("RLVR", "RLVR, natural", "RLVR, KL", "GRPO, KL")
        return {key: flows[key] for key in (*order, *(key for key in mixed if key not in order))}

    def ticks(self) -> int:
        simple = sum(not kl + entropy for _, kl, entropy in _MIXED.values())
        return self.weights + (len(_MIXED) + 2 if self.complete else simple)

    def compute(self, progress: Progress) -> xr.Dataset:
        policy, problem = qra.two_stage(np.array(self.pattern_probs), np.array(self.success_rates))
        drawn = qra.dynamics.random_starts(jax.random.key(self.seed), 3, self.starts)
        corners = plot.simplex_triangles(self.resolution)
        starts = jnp.concatenate([jnp.asarray(corners.mean(axis=1)), drawn])
        begin = np.array([self.pattern_probs, (0.1, 0.1, 0.8), (0.32, 0.08, 0.6)])

        def fates(flow, found):  # one shape of arrays for all of them
            fate = qra.basins(policy, flow, starts, attractors=found)
            return {key: np.asarray(getattr(fate, key)) for key in ("winner", "status", "log_time")}

        panels = []
        for flow in self.panels(problem).values():
            found = qra.fixed_points(policy, flow)
            data = plot.portrait(policy, flow, names=_NAMES, starts=begin, points=found)
            fate = fates(flow, found)
            data["cell_corner"] = ("cell", "corner", "pattern"), corners
            for key, values in fate.items():
                data[f"cell_{key}"] = "cell", values[: len(corners)]
                data[f"start_{key}"] = "draw", values[len(corners) :]
            data["point_regular"] = "point", np.asarray(found.listed().regular)
            data["index_sum"] = (), int(found.index_sum)
            # A coordinate, so that panels with fewer points are padded.
            panels.append(data.assign_coords(point=np.arange(data.sizes["point"])))
            progress(1)
        whole = xr.concat(panels, "objective", join="outer", fill_value=_FILL)
        whole = whole.assign_coords(objective=list(self.panels(problem)))

        share, winners, status = np.linspace(0, 1, self.weights), [], []
        for weight in share:
            flow = _mixed(problem, (weight, 0, 1 - weight, 0), self.penalties(0, 0))
            fate = fates(flow, qra.fixed_points(policy, flow))
            winners.append(fate["winner"][len(corners) :])
            status.append(fate["status"][len(corners) :])
            progress(1)
        whole["mixture_winner"] = ("weight", "draw"), np.stack(winners)
        whole["mixture_status"] = ("weight", "draw"), np.stack(status)
        optimum, _ = qra.laws.optimal_policy(
            policy, qra.GradientFlow(qra.RLVR(self.beta), problem)
        ).pattern_table(problem)
        whole["kl_optimum"] = "pattern", np.asarray(optimum[0])
        whole["reference"] = "pattern", np.array(self.pattern_probs)
        whole["rate"] = "pattern", np.array(self.success_rates)
        whole = whole.assign_coords(weight=share)
        whole.attrs.update(beta=self.beta, tau=self.tau)
        for key, text in _TEXTS.items():
            whole[key].attrs.update(long_name=text)
        return whole

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        won = (data["start_winner"] == 0).mean("draw")
        shares = zip(won["objective"].values, won.values, strict=True)
        listed = ", ".join(f"{name} {float(share):.0%}" for name, share in shares)
        return [f"share of random starts from which the best pattern wins: {listed}"]

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_portraits(data)


_FILL = {"point_kind": -1, "point_regular": False, "point_prob": np.nan}
_TEXTS = {
    "weight": "weight of the verifiable reward",
    "mixture_winner": "pattern that wins the start in the mixture, -1 if none",
    "start_winner": "pattern that wins the random start, -1 if none",
    "start_log_time": "natural logarithm of the time until then",
    "cell_winner": "pattern that wins the centre of the triangle, -1 if none",
    "point_kind": "qra.dynamics.Stability of the point of rest, -1 for none",
    "index_sum": "sum of indices of regular saturated points of rest",
}
