"""All runs of the study, and their curves as one table."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optax
import xarray as xr

import qra_jax as qra

from ._bases import MIXTURES, Reading, base_model, read
from ._run import EVERY, Run, train, write_curves
from ._task import HELD_OUT, NUM_PATTERNS, RESPONSE, Pattern
from ._training import Reinforcement

NUM_STEPS = 300
NUM_SEEDS = 3
GRPO = qra.SampledGroups(8, batch=32, estimator=qra.SampledGRPO())
RLOO = qra.SampledGroups(8, batch=32, estimator=qra.RLOO())
ADAM, GRADIENT, SLOW_GRADIENT = optax.adam(1e-4), optax.sgd(3.5e-3), optax.sgd(1.5e-3)
BRIEF_ADAM = optax.adam(1e-4, b2=0.9)
TUNING = Reading((1.0, 0.0, 0.0, 0.0), 100, 2e-4)
"""Supervised fine-tuning on worked answers."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to train: what the figures call it, its steps, fine-tuning before it, which base models
    it is applied to, and how many seeds."""

    label: str
    how: Reinforcement
    tuning: Reading | None = None
    bases: str = "".join(MIXTURES)
    seeds: int = NUM_SEEDS


KINDS: Mapping[str, Kind] = {
    "table": Kind(
        "RLOO, gradient, openings only",
        Reinforcement("verifiable", RLOO, GRADIENT, openings_only=True),
    ),
    "gradient": Kind("RLOO, gradient", Reinforcement("verifiable", RLOO, GRADIENT)),
    "grouped": Kind("GRPO, gradient", Reinforcement("verifiable", GRPO, SLOW_GRADIENT)),
    "adam": Kind("RLOO, Adam", Reinforcement("verifiable", RLOO, ADAM)),
    "rlvr": Kind("GRPO, Adam", Reinforcement("verifiable", GRPO, ADAM)),
    "certainty": Kind("RLIF, self-certainty", Reinforcement("self_certainty", GRPO, ADAM)),
    "majority": Kind("RLIF, majority vote", Reinforcement("majority", GRPO, ADAM)),
    "certainty_table": Kind(
        "RLIF, self-certainty, openings only",
        Reinforcement("self_certainty", GRPO, SLOW_GRADIENT, openings_only=True),
    ),
    "majority_table": Kind(
        "RLIF, majority vote, openings only",
        Reinforcement("majority", GRPO, SLOW_GRADIENT, openings_only=True),
    ),
    "tuned": Kind("SFT, then GRPO, Adam", Reinforcement("verifiable", GRPO, ADAM), TUNING, "EFGH"),
    "kl": Kind(
        "GRPO, Adam, KL", Reinforcement("verifiable", GRPO, ADAM, beta=0.02), None, "AEH", 1
    ),
    "brief": Kind("RLOO, Adam, short memory", Reinforcement("verifiable", RLOO, BRIEF_ADAM)),
}
"""The first five differ by one thing each: all parameters are trained, advantages are divided by
their group's deviation, the optimiser; `brief` differs from `adam` in how long squares of gradients
are remembered, ten steps instead of a thousand."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of the study, with so many questions in an evaluation."""

    base: str
    kind: str
    seed: int
    num_steps: int = NUM_STEPS
    held_out: int = len(HELD_OUT)

    def path(self, folder: Path) -> Path:
        """Of its checkpoint; its curves lie beside it."""
        return folder / "runs" / f"{self.base}_{self.kind}_{self.seed}.eqx"

    def done(self, folder: Path) -> bool:
        """Whether it has nothing left to do."""
        return self.path(folder).with_suffix(".npz").exists()

    def run(self, folder: Path, seen: Callable[[int], None]) -> None:
        """From the base model's file, or from the checkpoint."""
        base = begun = base_model(self.base, folder)
        kind = KINDS[self.kind]
        if kind.tuning is not None:
            path = folder / f"tuned_{self.base}_{self.seed}.eqx"
            begun = read(kind.tuning, base, 100 + self.seed, path)
        # No two runs share random numbers.
        seed = list(MIXTURES).index(self.base) + 100 * list(KINDS).index(self.kind)
        run = Run(kind.how, self.num_steps, 10_000 * self.seed + seed, self.held_out)
        path = self.path(folder)
        saved = train(run, begun, path, reference=base, seen=seen)
        write_curves(path.with_suffix(".npz"), saved)


def all_jobs() -> list[Job]:
    """Seeds outermost, so that a study that is cut short has every curve, of fewer seeds."""
    return [
        Job(base, name, seed)
        for seed in range(NUM_SEEDS)
        for name, kind in KINDS.items()
        for base in kind.bases
        if seed < kind.seeds
    ]


def run_all(
    folder: Path, jobs: Sequence[Job], workers: int, seen: Callable[[], Any] = lambda: None
) -> None:
    """Every run that is not done yet, `workers` of them at a time; `seen` is called once a step."""
    todo = [job for job in jobs if not job.done(folder)]
    names = sorted({job.base for job in todo})
    for name in names[:1]:
        base_model(name, folder)  # and the trunk of them all
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda name: base_model(name, folder), names):
            pass
    lock = threading.Lock()

    def count(step: int) -> None:
        with lock:
            seen()

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda job: job.run(folder, count), todo):
            pass


_SIGHT = {"accuracy": (), "shares": ("pattern",), "rates": ("pattern",)}
_LOG = dict.fromkeys(("reward", "pass_at_4", "entropy", "kl", "gradient_norm"), ())
_SEEN = {"forced": ("way",), "token_rank": (), "top": (), "moved": (), "by_place": ("place",)}
VARIABLES: dict[str, tuple[str, tuple[str, ...]]] = (
    {f"log.sight.{name}": (name, ("step", *dims)) for name, dims in _SIGHT.items()}
    | {f"log.{name}": (name, ("step", *dims)) for name, dims in _LOG.items()}
    | {f"held_out.sight.{name}": (f"held_{name}", ("look", *dims)) for name, dims in _SIGHT.items()}
    | {f"held_out.{name}": (name, ("look", *dims)) for name, dims in _SEEN.items()}
)
"""Name of an array in a run's file -> that in the table, and its axes after run's."""


def collect(folder: Path, num_steps: int = NUM_STEPS) -> xr.Dataset:
    """Curves of all runs that are done, NaN for others, held-out ones at every tenth step; and
    `stop`, the step at which a run was not finite, -1 if it always was."""
    sizes = {
        "base": len(MIXTURES),
        "kind": len(KINDS),
        "seed": NUM_SEEDS,
        "step": num_steps,
        "look": num_steps // EVERY + 1,
        "pattern": NUM_PATTERNS + 1,
        "way": NUM_PATTERNS,
        "place": RESPONSE,
    }
    found = {
        name: np.full([sizes[d] for d in ("base", "kind", "seed", *dims)], np.nan, np.float32)
        for name, dims in VARIABLES.values()
    }
    stops = np.full([sizes[d] for d in ("base", "kind", "seed")], -1, np.int32)
    for job in all_jobs():
        if not job.done(folder):
            continue
        at = list(MIXTURES).index(job.base), list(KINDS).index(job.kind), job.seed
        with np.load(job.path(folder).with_suffix(".npz")) as arrays:
            for key, (name, _) in VARIABLES.items():
                found[name][at] = arrays[key]
            stops[at] = arrays["stop"]
    data = xr.Dataset(
        {name: (("base", "kind", "seed", *dims), found[name]) for name, dims in VARIABLES.values()},
        {
            "base": list(MIXTURES),
            "kind": list(KINDS),
            "seed": np.arange(NUM_SEEDS),
            "step": np.arange(num_steps),
            "look": EVERY * np.arange(sizes["look"]),
            "pattern": [*(p.name.lower() for p in Pattern), "none"],
        },
    )
    return data.assign(stop=(("base", "kind", "seed"), stops))
