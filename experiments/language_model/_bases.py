"""Base models, from strong to deeply entangled: one trunk, then texts of each one's own mixture."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import optax

from ._model import Transformer
from ._run import write
from ._task import FORM, NUM_TOKENS, QUESTION
from ._training import Imitation, begin

WIDTH, HEADS, LAYERS = 64, 4, 2


def blank(seed: int = 0, layers: int = LAYERS) -> Transformer:
    """A model that has read nothing."""
    length = QUESTION + FORM.length
    return Transformer(NUM_TOKENS, length, WIDTH, HEADS, layers, jax.random.key(seed))


def load(path: Path, layers: int = LAYERS) -> Transformer:
    """A model from its file."""
    return eqx.tree_deserialise_leaves(path, blank(layers=layers))


@dataclasses.dataclass(frozen=True)
class Reading:
    """Pre-training on texts: Adam with weight decay, its rate warmed up and then lowered to 0.

    - `shares` of the patterns; `num_steps`; `rate`; `number`: texts a step.
    """

    shares: tuple[float, ...]
    num_steps: int
    rate: float
    number: int = 256

    def imitation(self) -> Imitation:
        """One step of it."""
        warm = min(100, self.num_steps // 5)
        rates = optax.warmup_cosine_decay_schedule(0, self.rate, warm, self.num_steps)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rates))
        return Imitation(self.shares, self.number, optimiser)


TRUNK = Reading((0.25, 0.25, 0.25, 0.25), 1500, 4e-3)
MIXTURES: dict[str, tuple[float, ...]] = {
    "A": (0.30, 0.62, 0.05, 0.03),
    "B": (0.20, 0.74, 0.04, 0.02),
    "C": (0.10, 0.88, 0.01, 0.01),
    "D": (0.15, 0.15, 0.40, 0.30),
    "E": (0.08, 0.22, 0.40, 0.30),
    "F": (0.04, 0.14, 0.46, 0.36),
    "G": (0.02, 0.06, 0.50, 0.42),
    "H": (0.005, 0.02, 0.50, 0.475),
}
"""Shares of `Pattern`s in the texts that each base model read last, by its name."""
LAST_STEPS = 300
SHIPPED_BASE = "E"
"""The one that is shipped with its runs."""


def read(
    how: Reading,
    model: Transformer,
    seed: int,
    path: Path,
    seen: Callable[[int], None] = lambda step: None,
) -> Transformer:
    """A model after its reading, from the file if that is there.

    **Raises:** `FloatingPointError` if training was no longer finite.
    """
    if path.exists():
        return eqx.tree_deserialise_leaves(path, model)
    imitation = how.imitation()
    step = eqx.filter_jit(imitation.step)
    state = begin(model, imitation.optimiser)
    for index in range(how.num_steps):
        state, _ = step(jax.random.key(seed), state)
        seen(index + 1)
    if not bool(state.finite):
        raise FloatingPointError(f"pre-training was not finite at step {int(state.step)}")
    write(path, state.model)
    return state.model


def base_model(
    name: str,
    folder: Path,
    seen: Callable[[int], None] = lambda step: None,
    seed: int = 0,
    layers: int = LAYERS,
) -> Transformer:
    """One of the `MIXTURES`, read now unless it is in the folder already."""
    path = folder / f"base_{name}.eqx"
    if path.exists():  # which needs no trunk
        return load(path, layers)
    trunk = read(TRUNK, blank(seed, layers), seed, folder / "trunk.eqx", seen)
    last = Reading(MIXTURES[name], LAST_STEPS, 5e-4)
    order = list(MIXTURES).index(name)
    return read(last, trunk, 1000 * (seed + 1) + order, path, seen)
