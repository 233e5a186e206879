"""A diagnosis: rollouts are read, judged and reported on."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ..diagnosis import Diagnosis, Head, TrainingRun, diagnose
from ..diagnosis.report import Plan, design, write_report
from ..diagnosis.words import difference
from ..posteriors import patterns_differ
from ..rollouts import Account, Rollouts
from ..training import SampledGroups, SampledGRPO
from ._diagnose import Diagnose
from ._run_reading import account_of, objective_of, sampler_of
from ._settings import require_setting


def run(settings: Diagnose) -> str:
    """Diagnose, write the report, and say what came of it.

    **Raises:** `ValueError` or `BadSetting` if the rollouts cannot be read, or bear no such
    diagnosis; `ImportError` if a package of the extra `report` is missing.
    """
    account = account_of(settings, settings.files)
    if settings.dry_run:
        differ = ["", difference(patterns_differ(*account.rollouts.base_model().counts()))]
        return "\n".join([*account.lines(), *differ])
    jax.config.update("jax_enable_x64", True)
    sampler = sampler_of(settings)
    found = _diagnosis(settings, account.rollouts, sampler)
    plan = _plan(settings, found, sampler)
    written = write_report(settings.out, _title(settings, account), found, plan)
    lines = []
    if not settings.quiet:
        lines = found.summary(plan)
    return "\n".join([*lines, *(f"  wrote {path}" for path in written)])


def _title(settings: Diagnose, account: Account) -> str:
    """What was read, in a few words."""
    first, number = settings.files[0].name, len(account.files)
    return first if number == 1 else f"{first} ({number} files)"


def _diagnosis(settings: Diagnose, rollouts: Rollouts, sampler: SampledGroups | None) -> Diagnosis:
    run = None
    logged = rollouts.learning_rates
    varies = logged is not None and bool(np.ptp(logged[:, 1]) > 0)
    must = "agree with the rollouts' learning rates (--learning-rate-field '' leaves these out)"
    if settings.schedule == "constant" and settings.num_steps is None:
        require_setting(not varies, "schedule", must, "constant")
    if settings.num_steps is not None:
        logs = len(rollouts.steps) > 1
        given = logs or settings.learning_rate is not None
        must = "come with a learning rate, or with rollouts of later steps"
        require_setting(given, "num-steps", must, settings.num_steps)
        own = settings.optimiser is not None
        run = TrainingRun(
            settings.num_steps,
            learning_rate=None if own else settings.learning_rate,
            sampler=_in_batches(settings, sampler) if own else sampler,
            schedule=None if own else relative_rates(settings),
            optimiser=_optimiser(settings, rollouts),
            head=_head(settings),
        )
    estimator = SampledGRPO() if sampler is None else sampler.estimator
    batch = settings.rollouts_per_step // settings.group_size
    found = diagnose(
        rollouts,
        pooling=settings.pooling,
        questions=settings.questions,
        objective=objective_of(settings, sampler),
        groups=SampledGroups(settings.group_size, batch, estimator),
        eps=settings.eps,
        draws=settings.draws,
        seed=settings.seed,
        run=run,
    )
    supposed = _not_given(settings)
    return dataclasses.replace(found, limits=(*supposed, *found.limits)) if supposed else found


def _not_given(settings: Diagnose) -> list[str]:
    """What the forecast of an optimiser's steps had to suppose of the network."""
    if settings.optimiser is None:
        return []
    lines, head = [], _head(settings)
    assert head is not None
    if settings.head_norm is None:
        low, high = head.norm if isinstance(head.norm, tuple) else (head.norm, head.norm)
        of = "128 to 4,096" if settings.head_width is None else f"{settings.head_width:,}"
        lines.append(
            "the learning rate alone does not give the pace: the sum of the absolute hidden values "
            f"that the last layer reads is supposed to lie between {low:,.0f} and {high:,.0f} with "
            f"90 % (models of width {of}); measure it, and give --head-norm and --head-width"
        )
    if settings.optimiser != "sgd" and settings.feature_rate is None:
        assert isinstance(Head.feature_rate, tuple)
        low, high = Head.feature_rate
        lines.append(
            f"hidden values are supposed to move {low:.0f} to {high:.0f} times as fast as a weight "
            "of the last layer, which was measured on small transformers only; give --feature-rate"
        )
    return lines


def _in_batches(settings: Diagnose, sampler: SampledGroups | None) -> SampledGroups:
    """The groups of a step, whose questions are drawn."""
    assert sampler is not None
    batch = settings.rollouts_per_step // settings.group_size
    return SampledGroups(settings.group_size, batch, sampler.estimator)


def _head(settings: Diagnose) -> Head | None:
    """What is said of the network's last layer, and what such layers may be where nothing is."""
    if settings.optimiser is None:
        return None
    # Hidden values after a norm are of the order of its weights: 1/2 to 8, with 90 %.
    widths = (128, 4096) if settings.head_width is None else (settings.head_width,) * 2
    norm = settings.head_norm or (0.5 * widths[0], 8.0 * widths[1])
    width = round(math.sqrt(widths[0] * widths[1]))
    return Head(
        norm,
        width,
        feature_rate=settings.feature_rate or Head.feature_rate,
        row_spread=settings.row_spread or Head.row_spread,
    )


def _optimiser(settings: Diagnose, rollouts: Rollouts) -> optax.GradientTransformation | None:
    """At the learning rate and schedule that were given, or at the schedule that was logged."""
    if settings.optimiser is None:
        return None
    assert settings.learning_rate is not None
    assert settings.num_steps is not None
    shape = relative_rates(settings) or rollouts.schedule()
    rate: float | Callable[[Any], Any] = settings.learning_rate
    if shape is not None:
        rates = settings.learning_rate * jnp.asarray(shape(np.arange(settings.num_steps)))
        rate = functools.partial(_rate_at, rates)
    if settings.optimiser == "sgd":
        return optax.sgd(rate, momentum=settings.momentum or None)
    b1, b2 = settings.betas
    if settings.optimiser == "adam":
        return optax.adam(rate, b1=b1, b2=b2)
    return optax.adamw(rate, b1=b1, b2=b2, weight_decay=settings.weight_decay)


def _rate_at(rates: Float[Array, " N"], step: Any) -> Float[Array, ""]:
    """The learning rate of a step, the last one beyond the end."""
    return rates[jnp.minimum(step, rates.shape[0] - 1)]


def relative_rates(settings: Diagnose) -> Callable[[np.ndarray], np.ndarray] | None:
    """The learning rate of each step beside the largest, as trainers take it: step i of a warm-up
    over w steps has (i + 1)/w, and the decay reaches 0 at the end. None if nothing is said."""
    warm, name, last = settings.warmup_steps, settings.schedule, settings.num_steps
    if last is None or (name is None and warm == 0):
        return None

    def rates(steps: np.ndarray) -> np.ndarray:
        passed = np.clip((steps - warm) / (last - warm), 0, 1)
        decay = {
            "constant": np.ones(len(steps)),
            "linear": 1 - passed,
            "cosine": 0.5 * (1 + np.cos(np.pi * passed)),
        }[name or "constant"]
        return np.where(steps < warm, (steps + 1) / max(warm, 1), decay)

    return rates


def _plan(settings: Diagnose, found: Diagnosis, sampler: SampledGroups | None) -> Plan | None:
    """The fine-tuning designed, if it is wanted."""
    if not settings.design:
        return None
    return design(
        found,
        budget=settings.sft_budget,
        floor=settings.sft_floor,
        cost=settings.sft_cost,
        utility=None if sampler is None else sampler.utility,
    )
