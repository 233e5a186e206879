"""What the lab says of a base model before it is trained, from graded responses alone."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, PRNGKeyArray

import qra_jax as qra
from qra_jax.diagnosis import Diagnosis, StepForecast, TrainingRun, diagnose, forecast_run

from ._model import Transformer
from ._run import EVERY
from ._sample import columns_of, draw
from ._study import KINDS
from ._task import (
    DIGITS,
    FORM,
    HELD_OUT,
    NUM_PATTERNS,
    Pattern,
    answer_of,
    grade,
    pattern_of,
    questions_of,
)
from ._training import Reinforcement, self_certainty

FORECAST = ("table", "gradient", "grouped", "adam", "brief", "rlvr")
"""Kinds of runs whose curves are foretold."""
RLIF = ("certainty_table", "certainty", "majority_table", "majority")
"""Kinds of runs of which it is said whether they end below their start."""
REGIMES = tuple(kind.name for kind in qra.Regime)
LEVELS = ("low", "median", "high")

_draw, _columns_of = eqx.filter_jit(draw), eqx.filter_jit(columns_of)


def rollouts_of(
    model: Transformer, key: PRNGKeyArray, each: int, questions: int = len(HELD_OUT)
) -> qra.Rollouts:
    """Graded responses to questions that are held out, `each` of them to one, with their answers
    and self-certainty."""
    asked = questions_of(jnp.asarray(HELD_OUT[:questions]))
    tokens = _draw(model, asked.tokens, each, key, FORM).tokens
    certain = self_certainty(_columns_of(model, asked.tokens, tokens, FORM), tokens)
    columns = {
        "question": np.repeat(np.arange(questions), each),
        "pattern": np.ravel(pattern_of(tokens)),
        "correct": np.ravel(grade(tokens, asked.answer[:, None])),
        "confidence": np.ravel(certain).astype(float),
        "answer": np.ravel(answer_of(tokens)),
    }
    opens = columns["pattern"] < NUM_PATTERNS
    return qra.Rollouts(
        tuple(f"q{i}" for i in range(questions)),
        tuple(p.name.lower() for p in Pattern),
        **{name: column[opens] for name, column in columns.items()},
        answers=tuple(str(i) for i in range(10**DIGITS)),
        dropped={"opens no pattern": int(np.sum(~opens))},
    )


def objective_of(how: Reinforcement) -> qra.Objective:
    """The flow whose gradient the run's steps estimate."""
    return qra.Objective(qra.Verifiable(), utility=how.sampler.utility)


class Flow(NamedTuple):
    """The median curves of a diagnosis: accuracy and pattern shares over the flow's log time."""

    log_times: Float[np.ndarray, " T"]
    accuracy: Float[np.ndarray, " T"]
    shares: Float[np.ndarray, "T R"]

    @classmethod
    def of(cls, found: Diagnosis) -> "Flow":
        """Of one of all questions together."""
        ahead = found.rlvr.forecast
        return cls(ahead.log_times, ahead.accuracy.median, ahead.pattern_shares.median)

    def log_time_at(self, accuracy: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """When the flow has an accuracy; NaN below its first row and above its last."""
        return np.interp(accuracy, self.accuracy, self.log_times, left=np.nan, right=np.nan)

    def shares_at(self, accuracy: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n R"]:
        """The shares it has then: where a run is that keeps to the flow's orbit, by any clock."""
        each = [np.interp(accuracy, self.accuracy, column) for column in self.shares.T]
        return np.where(np.isnan(accuracy)[..., None], np.nan, np.stack(each, axis=-1))


@dataclasses.dataclass(frozen=True)
class Said:
    """What is said of a base model that is to be trained by groups of some size.

    `found`: the diagnosis, its RLIF risk by self-certainty; `by_answer`: of the same rollouts
    without it, so that the risk is that of the majority's answer.
    """

    rollouts: qra.Rollouts
    found: Diagnosis
    by_answer: Diagnosis


def say(
    model: Transformer,
    how: Reinforcement,
    seed: int,
    draws: int = 399,
    questions: int = len(HELD_OUT),
) -> Said:
    """The diagnosis from as many responses to each question as a group of `how` has."""
    key = jax.random.fold_in(jax.random.key(seed), 77)
    rollouts = rollouts_of(model, key, how.sampler.group_size, questions)
    bare = dataclasses.replace(rollouts, confidence=None)
    # Every question that is held out is asked: these are all there are.
    objective = objective_of(how)
    found, by_answer = (
        diagnose(x, objective=objective, draws=draws, seed=seed, questions="fixed")
        for x in (rollouts, bare)
    )
    return Said(rollouts, found, by_answer)


def forecast(
    rollouts: qra.Rollouts,
    how: Reinforcement,
    accuracy: Float[np.ndarray, " L"],
    shares: Float[np.ndarray, "L R"] | None,
    responses: int,
    draws: int = 199,
    particles: int = 4000,
) -> StepForecast:
    """The rest of a run from its base model's rollouts and the evaluations in its first tenth.

    **Arguments:** `rollouts`; `how`; `accuracy`, `shares`: held out, at every `EVERY`th step of the
    run, of which the first tenth is read; without shares the scale is fitted to the accuracy alone;
    `responses`: of each evaluation.
    """
    number = EVERY * (len(accuracy) - 1)
    steps = np.arange(0, max(number // 10, EVERY) + 1, EVERY)

    def counts(of: np.ndarray) -> np.ndarray:
        return np.round(responses * np.asarray(of, float)[: len(steps)])

    samples = np.full(len(steps), responses)
    run = TrainingRun(
        number,
        logged=np.stack([steps, counts(accuracy), samples], axis=1),
        logged_patterns=None if shares is None else counts(shares[:, :NUM_PATTERNS]),
        sampler=how.sampler,
        scale_range=(1e-3, 10.0),
        particles=particles,
    )
    posterior = qra.posteriors.pooled_posterior(*rollouts.counts())
    return forecast_run(posterior, run, objective=objective_of(how), draws=draws)


def _empty(runs: xr.Dataset, dims: tuple[str, ...]) -> xr.DataArray:
    labels = {"level": list(LEVELS), "way": runs["pattern"].values[:NUM_PATTERNS]}
    coords = {dim: labels[dim] if dim in labels else runs[dim] for dim in dims}
    shape = [len(coords[dim]) for dim in dims]
    return xr.DataArray(np.full(shape, np.nan, np.float32), coords, dims)


def foretell(name: str, model: Transformer, runs: xr.Dataset) -> xr.Dataset:
    """All that is said of a base model, beside its runs.

    **Arguments:** `name`, which sets the random numbers; `model`; `runs`: the study's curves of it.

    **Returns:** `said_accuracy`, `said_shares`, `said_rates`: of the rollouts; `said_regime`: their
    probabilities; by kind `said_log_time`: natural logarithm of the flow's time to 90 % of the
    final accuracy, `said_loss`: the probability that RLIF ends below its start; of each run the
    bands `band_accuracy` and `band_shares` at its evaluations, `band_blind` the first of them
    fitted to the accuracy alone; and, at the accuracy that it had, the flow's log time
    `flow_log_time` and shares `flow_shares`.
    """
    hows: Mapping[str, Reinforcement] = {kind: KINDS[kind].how for kind in FORECAST}
    seed = ord(name)
    said = say(model, hows["table"], seed)
    grouped = objective_of(hows["grouped"])
    divided = diagnose(said.rollouts, objective=grouped, seed=seed, questions="fixed")
    samples, correct = (x.sum(axis=0) for x in said.rollouts.counts())
    out = xr.Dataset(
        {
            "said_accuracy": correct.sum() / samples.sum(),
            "said_shares": ("way", samples / samples.sum()),
            "said_rates": ("way", correct / np.maximum(samples, 1)),
            "said_regime": ("regime", said.found.regime.probs[0]),
            "said_log_time": _empty(runs, ("kind",)),
            "said_loss": _empty(runs, ("kind",)),
            "band_accuracy": _empty(runs, ("kind", "seed", "level", "look")),
            "band_blind": _empty(runs, ("kind", "seed", "level", "look")),
            "band_shares": _empty(runs, ("kind", "seed", "level", "look", "way")),
            "flow_log_time": _empty(runs, ("kind", "seed", "look")),
            "flow_shares": _empty(runs, ("kind", "seed", "look", "way")),
        },
        {"regime": list(REGIMES)},
    )
    for kind in RLIF:
        found = said.found if kind.startswith("certainty") else said.by_answer
        if found.rlif is not None:
            out["said_loss"].loc[kind] = found.rlif.ends_below_start
    for kind, how in hows.items():
        found = divided if how.sampler.utility == hows["grouped"].sampler.utility else said.found
        flow = Flow.of(found)
        level = 0.9 * found.rlvr.forecast.end_accuracy.median
        out["said_log_time"].loc[kind] = flow.log_time_at(level)
        for run in runs["seed"].values:
            at = {"kind": kind, "seed": run}
            held, shares = (runs[f"held_{x}"].sel(at).values for x in ("accuracy", "shares"))
            if np.isnan(held).any():
                continue
            out["flow_log_time"].loc[at] = flow.log_time_at(held)
            out["flow_shares"].loc[at] = flow.shares_at(held)
            fitted, blind = (
                band_at(forecast(said.rollouts, how, held, x, len(HELD_OUT)), runs["look"].values)
                for x in (shares, None)
            )
            out["band_accuracy"].loc[at], out["band_shares"].loc[at] = fitted
            out["band_blind"].loc[at] = blind[0]
    return out


def band_at(
    of: StepForecast, steps: np.ndarray
) -> tuple[Float[np.ndarray, "3 n"], Float[np.ndarray, "3 n R"]]:
    """Bands of the accuracy and of the shares at some steps."""

    def at(column: np.ndarray) -> np.ndarray:
        return np.interp(steps, of.steps, column)

    accuracy = np.stack([at(getattr(of.accuracy, level)) for level in LEVELS])
    shares = [
        np.stack([at(column) for column in getattr(of.pattern_shares, level).T], axis=-1)
        for level in LEVELS
    ]
    return accuracy, np.stack(shares)
