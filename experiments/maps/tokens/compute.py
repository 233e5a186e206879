"""The map of tokens: where along a response training acts, by outside and by own rewards."""

import dataclasses
import math
from typing import ClassVar

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
from ..._lab.start import CHECK_PROBS, CHECK_RATES
from .claims import CLAIMS
from .figure import draw_tokens
from .known import REWARDS

_LANES = 3  # ways through a response, one for each pattern


@dataclasses.dataclass(frozen=True)
class Tokens(Map):
    """Ranking changes along chains of a few branching points among near-deterministic tokens."""

    chains: int = 24
    """random chains, at least 2"""
    length: int = 16
    """tokens of a response, at least 4"""
    forks: int = 2
    """branching points on the way, beside the first token and the answer, fewer than length - 2"""
    certainty: float = 5.0
    """logit by which the likeliest token of a near-deterministic column leads, above 0"""
    pattern_probs: tuple[float, float, float] = CHECK_PROBS
    """initial probabilities of the patterns, above 0, with sum 1"""
    success_rates: tuple[float, float, float] = CHECK_RATES
    """success rates at the end of each way, strictly between 0 and 1"""
    longest: float = 1e4
    """length of the training, learning rate times steps (1/reward), above 1"""
    times: int = 33
    """times shown, at least 3"""

    name: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("chains", 2), ("length", 4), ("times", 3), ("forks", 0)):
            value = getattr(self, key)
            require_setting(value >= least, key, f"be at least {least}", value)
        few = self.forks < self.length - 2
        require_setting(few, "forks", "be fewer than length - 2", self.forks)
        require_setting(self.certainty > 0, "certainty", "be above 0", self.certainty)
        require_setting(1 < self.longest < math.inf, "longest", "be above 1", self.longest)
        probs, rates = self.pattern_probs, self.success_rates
        sound = min(probs) > 0 and abs(sum(probs) - 1) < 1e-6
        require_setting(sound, "pattern_probs", "be above 0 with sum 1", probs)
        inside = all(0 < rate < 1 for rate in rates)
        require_setting(inside, "success_rates", "lie strictly between 0 and 1", rates)

    def shrunk(self) -> "Tokens":
        return dataclasses.replace(self, chains=min(self.chains, 4), length=8, times=9)

    def ticks(self) -> int:
        return 2 * self.chains

    def chain(self, index: int) -> tuple[qra.policies.MarkovPolicy, qra.Problem]:
        """A base model: layers of one token a way, the next layer following with certainty, but
        for the forks; a start, and two answers."""
        rng = np.random.default_rng([self.seed, index])
        layers = self.length - 1
        number = 1 + layers * _LANES + 2
        right = number - 2
        logits = np.full((number, number), -np.inf)
        ways = np.arange(_LANES)
        logits[1 + ways, 0] = np.log(self.pattern_probs)
        forks = 1 + rng.choice(layers - 2, self.forks, replace=False) if self.forks else []
        for layer in range(layers - 1):
            here, there = 1 + layer * _LANES + ways, 1 + (layer + 1) * _LANES + ways
            block = rng.normal(size=(_LANES, _LANES))
            if layer not in forks:
                block[ways, ways] += self.certainty * rng.uniform(0.6, 1.4, _LANES)
            logits[there[:, None], here[None, :]] = block
        last = 1 + (layers - 1) * _LANES + ways
        rates = np.array(self.success_rates)
        logits[right, last], logits[right + 1, last] = np.log(rates), np.log1p(-rates)
        # Nothing follows an answer.
        logits[[right, right + 1], [right, right + 1]] = 0
        kinds = np.zeros(number, int)
        kinds[1 + ways] = ways
        policy = qra.policies.MarkovPolicy(logits, np.array([0]), self.length, patterns=kinds)
        return policy, qra.Problem(np.array([right]))

    def compute(self, progress: Progress) -> xr.Dataset:
        log_times = np.linspace(-1, math.log(self.longest), self.times)
        models = [self.chain(index) for index in range(self.chains)]
        problem = models[0][1]
        batch = jax.tree_util.tree_map(lambda *leaves: jnp.stack(leaves), *[m for m, _ in models])

        def train(weights, policy):
            # Both rewards in one program.
            reward = qra.objectives.Mixture(
                (qra.Verifiable(), qra.objectives.MeanSelfCertainty()), weights
            )
            flow = qra.GradientFlow(qra.Objective(reward), problem, "all")
            path = qra.solve_flow(policy, flow, log_times=jnp.asarray(log_times))

            def look(now):
                found = qra.tokens.critical_tokens(now, problem, reference=policy)
                change = qra.tokens.position_change(now, reference=policy, kind="variation")
                return {
                    "ratio": qra.tokens.ranking_change_ratio(now, problem, reference=policy),
                    "top_ratio": qra.tokens.ranking_change_ratio(
                        now, problem, reference=policy, kind="top"
                    ),
                    "critical_share": found.critical_share,
                    "change": change[0],
                    "entropy": qra.tokens.position_entropy(now)[0],
                }

            rows = jax.vmap(look)(path.policy)
            shares = path.pattern_probs[:, 0, :_LANES]
            return {**rows, "accuracy": path.accuracy, "share": shares, "status": path.status}

        @jax.jit
        def run(weights):
            return jax.lax.map(lambda policy: train(weights, policy), batch)

        found = []
        for weights in np.eye(len(REWARDS)):
            found.append(jax.tree_util.tree_map(np.asarray, run(weights)))
            progress(self.chains)
        stacked = {key: np.stack([one[key] for one in found]) for key in found[0]}
        cells = ("reward", "chain")
        dims = {
            "status": cells,
            "change": (*cells, "time", "position"),
            "entropy": (*cells, "time", "position"),
            "share": (*cells, "time", "pattern"),
        }
        return xr.Dataset(
            {
                key: (dims.get(key, (*cells, "time")), value, _ATTRS[key])
                for key, value in stacked.items()
            },
            coords={
                "reward": list(REWARDS),
                "time": ("time", np.exp(log_times), _ATTRS["time"]),
                "position": ("position", 1 + np.arange(self.length), _ATTRS["position"]),
            },
        )

    @staticmethod
    def claims(data: xr.Dataset) -> list[Claim]:
        return CLAIMS(data)

    @staticmethod
    def notes(data: xr.Dataset) -> list[str]:
        end = data.isel(time=-1)
        lines = []
        for reward in end["reward"].values:
            at = end.sel(reward=reward)
            lines.append(
                f"{reward}: {float(at['ratio'].mean()):.1%} of the tokens drawn changed rank, and "
                f"{float(at['critical_share'].mean()):.0%} of the columns carry 90 % of the change"
            )
        return lines

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return draw_tokens(data)


_ATTRS = {
    "time": {"long_name": "learning rate times steps", "units": "1/reward"},
    "position": {"long_name": "position in the response", "units": "1"},
    "ratio": {"long_name": "tokens drawn whose rank has changed", "units": "1"},
    "top_ratio": {"long_name": "positions whose likeliest token has changed", "units": "1"},
    "critical_share": {"long_name": "columns that carry 90 % of the change", "units": "1"},
    "change": {"long_name": "total variation of the next token", "units": "1"},
    "entropy": {"long_name": "entropy of the next token", "units": "nat"},
    "accuracy": {"long_name": "accuracy", "units": "1"},
    "share": {"long_name": "probability of a pattern", "units": "1"},
    "status": {"long_name": "qra.Status", "units": "1"},
}
