"""Reasoning patterns under RLVR: fine-tuning first."""

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close, computed
from ..maps.sft.known import CHECK_DURATIONS, CHECK_QUALITIES, CHECK_TIMES
from ._ledger import Context, Subject, once
from ._shared import CASE
from ._solves import CHECK_PROBS, CHECK_RATES, entanglement
from .regimes import SUBJECT as REGIMES

DERIVED = "derived in docs/derivations.md#the-flow-of-supervised-fine-tuning"

SUBJECT = Subject(REGIMES.title)
claim = SUBJECT.claim

SFT_TIMES = {
    (quality, duration): time
    for quality, row in zip(CHECK_QUALITIES, CHECK_TIMES, strict=True)
    for duration, time in zip(CHECK_DURATIONS, row, strict=True)
}
"""T0 after fine-tuning on shares (f, 1 - f, 0) for a time s, by (f, s), as theory has it."""


@once
def _fine_tuned() -> np.ndarray:
    """T0 after each of `SFT_TIMES`."""

    def tune(quality, duration):
        policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
        flow = qra.GradientFlow(qra.SFT(jnp.stack([quality, 1 - quality, 0 * quality])), problem)
        until = qra.flows.TimeReached(jnp.log(duration))
        end = qra.event_time(policy, flow, until).policy
        assert isinstance(end, qra.TabularPolicy)
        return jax.nn.softmax(end.pattern_logits[0])

    quality, duration = np.array(list(SFT_TIMES)).T
    starts = jax.jit(jax.vmap(tune))(quality, duration)
    return np.exp(entanglement(np.asarray(starts), [CHECK_RATES] * len(starts)).log_time)


def _saving(quality: float) -> float:
    """The least of s + T0 over the times T0 without fine-tuning."""
    without = np.exp(entanglement(CHECK_PROBS, CHECK_RATES).log_time[0])
    totals = [s + t0 for (f, s), t0 in zip(SFT_TIMES, _fine_tuned(), strict=True) if f == quality]
    return min(totals) / without


@claim(
    id="sft-first-cuts-the-slow-phase",
    source="arXiv 2506.04695 v1",
    statement="fine-tuning first, on data of high enough quality, cuts the slow phase",
    setting=f"{CASE}; shares (f, 1 - f, 0) of the data set, f = .5 and .8, for s = 1, 2, 4: the "
    "larger of the least (s + T0) / T0 without; below 1",
)
def sft_first_cuts_the_slow_phase(context: Context) -> Outcome:
    ratio = max(_saving(0.5), _saving(0.8))
    return computed(1.0, ratio, ratio < 1)


@claim(
    id="sft-first-table",
    source=DERIVED,
    statement="T0 after fine-tuning for s = 1, 2, 4 on f = .2, .5, .8, nine values from 67.169 to "
    "0",
    setting=f"{CASE}: largest difference from theory's digits",
    ours=True,
)
def sft_first_table(context: Context) -> Outcome:
    difference = np.abs(_fine_tuned() - list(SFT_TIMES.values()))
    return close(0.0, difference.max(), atol=5.1e-4)


@claim(
    id="sft-field",
    source=DERIVED,
    statement="the flow of fine-tuning on pattern shares mu is mu - pi",
    setting="random policies and shares, K = 3: largest difference of velocities",
    ours=True,
)
def sft_field(context: Context) -> Outcome:
    probs, shares = context.rng.dirichlet(np.ones(3), (2, 8))

    def field(probs, shares):
        policy, problem = qra.two_stage(probs, CHECK_RATES)
        flow = qra.GradientFlow(qra.SFT(shares), problem)
        return flow.velocity(*flow.split(policy), policy).pattern_logits[0]

    found = jax.jit(jax.vmap(field))(probs, shares)
    return close(0.0, np.abs(found - (shares - probs)).max(), atol=1e-12)
