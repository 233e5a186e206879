"""The posterior of one table for all questions."""

from typing import NamedTuple

import numpy as np

from ..posteriors._clustered import (
    LEAST_QUESTIONS,
    ClusteredPosterior,
    clustered_posterior,
    design_effects,
)
from ..posteriors._posteriors import ConjugatePosterior, Prior, pooled_posterior
from ..posteriors._within import WithinQuestions, within_questions
from ._drift import RateDrift, rate_drift
from ._log_fit import Logs
from ._model import Model
from ._result import RatesWithin
from ._solve import width_for

_SURE, _FAR = 1.645, 2.576


class Pooled(NamedTuple):
    """The posterior, and what it rests on.

    `worth`: independent rollouts that the counts are worth, divided by their number, by pattern
    of the rates `(R,)`, of the shares, and of the accuracy; `drift`: of the rates over logs.
    """

    posterior: ConjugatePosterior | ClusteredPosterior
    within: RatesWithin | None
    drift: RateDrift | None
    rates_worth: np.ndarray
    shares_worth: float
    accuracy_worth: float


def resamples(model: Model, questions: str) -> bool:
    """Whether questions are a sample, of which the rollouts tell how much they differ."""
    samples = model.samples.sum(axis=1)
    enough = len(samples) >= LEAST_QUESTIONS and bool(samples.max() > 1)
    return questions == "sampled" and enough


def pooled(
    model: Model, prior: Prior, questions: str, logs: Logs | None, paired: bool = False
) -> Pooled:
    """The posterior of the base model's rates and shares, from its rollouts and right answers of
    logged steps.

    **Arguments:** `model`; `prior`; `questions`: "sampled" or "fixed"; `logs`; `paired`: resample
    questions of one sample each too, since other models answered them.
    """
    number = len(model.patterns)
    width = width_for(number)
    exists = np.arange(width) < number
    right, total = model.correct.sum(axis=0), model.samples.sum(axis=0)
    rates, shares, accuracy, within = np.ones(number), 1.0, 1.0, None
    sampled = paired or resamples(model, questions)
    if sampled:
        effects = design_effects(model.samples, model.correct)
        rates, shares, accuracy = 1 / effects.rates, 1 / effects.shares, 1 / effects.accuracy
        within = within_questions(model.samples, model.correct)
    drift, extra = None, np.zeros((2, width))
    if logs is not None:
        drift = rate_drift(total * rates, right * rates, logs, (prior.right, prior.wrong))
        known = (drift.right - prior.right, right), (drift.wrong - prior.wrong, total - right)
        for row, (all_of, own) in enumerate(known):
            extra[row, :number] = all_of - own * rates
    if sampled:
        # Of questions padded to one of few numbers, for which alone programs are compiled.
        rows = 1 << (len(model.samples) - 1).bit_length()
        pad = ((0, rows - len(model.samples)), (0, width - number))
        counts = np.pad(model.samples, pad), np.pad(model.correct, pad)
        posterior = clustered_posterior(
            *counts, prior, exists=exists, within=within, extra=np.maximum(extra, 0)
        )
    else:
        pad = ((0, 0), (0, width - number))
        counts = np.pad(model.samples, pad), np.pad(model.correct, pad)
        plain = pooled_posterior(*counts, prior, exists=exists)
        both = (plain.right + extra[:1], plain.wrong + extra[1:])
        posterior = ConjugatePosterior(plain.concentrations, *both)
    compared = None if within is None else _compared(model, within)
    return Pooled(posterior, compared, drift, rates, shares, accuracy)


def _compared(model: Model, within: WithinQuestions) -> RatesWithin:
    """Beside the pooled rates, and whether the two agree about the order of patterns."""
    right, total = model.correct.sum(axis=0), model.samples.sum(axis=0)
    rate = (right + 0.5) / (total + 1)
    moves = (model.correct - rate * model.samples) / (np.maximum(total, 1) * rate * (1 - rate))
    mine, other = (np.log(x) - np.log1p(-x) for x in (within.rates, rate))
    disagree = False
    which = np.flatnonzero(within.compared)
    for at, r in enumerate(which):
        for s in which[:at]:
            gap, before = mine[r] - mine[s], other[r] - other[s]
            influence = within.influence[:, r] - within.influence[:, s]
            change = influence - (moves[:, r] - moves[:, s])
            sure = abs(gap) > _SURE * np.sqrt(np.sum(influence**2)) and gap * before < 0
            far = abs(gap - before) > _FAR * np.sqrt(np.sum(change**2))
            points = abs(within.rates[r] - within.rates[s] - rate[r] + rate[s])
            disagree |= bool(sure or (far and points > 0.05))
    return RatesWithin(
        np.where(within.compared, within.rates, right / np.maximum(total, 1)),
        right / np.maximum(total, 1),
        within.compared,
        disagree,
        within.spread,
    )
