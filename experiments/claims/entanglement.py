"""Sharp laws of the flow: the length of the entangled phase."""

import math

import numpy as np

from .._lab.claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._shared import CASE, LAWS, worst
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    ROWS,
    columns_of,
    entanglement,
    follow,
    t0_law,
)

DERIVED = "derived in docs/laws.md#the-entanglement-law"

SUBJECT = Subject(LAWS)
claim = SUBJECT.claim


@once
def _near_t0() -> tuple[np.ndarray, np.ndarray]:
    """The check case on a fine grid: times and probabilities of the three patterns."""
    ends = (45.9, 46.3), (75.6, 75.9), (94.0, 94.6)
    spans = np.array([np.linspace(math.log(low), math.log(high), ROWS) for low, high in ends])
    found = follow([CHECK_PROBS] * 3, [CHECK_RATES] * 3, spans)
    return np.exp(spans), np.exp(found.log_probs[..., :3])


def _turn(times: np.ndarray, values: np.ndarray) -> float:
    """Where a parabola through sampled values turns."""
    middle = times.mean()
    curve = np.polyfit(times - middle, values, 2)
    return float(middle - curve[1] / (2 * curve[0]))


@claim(
    id="t0-of-the-check-case",
    source=DERIVED,
    statement="T0 = 94.30486, at pi = (.036568, .951242, .012189)",
    setting=f"{CASE}; the state must agree to its digits",
    ours=True,
)
def t0_of_the_check_case(context: Context) -> Outcome:
    found = entanglement(CHECK_PROBS, CHECK_RATES)
    there = np.abs(found.probs[0, :3] - [0.036568, 0.951242, 0.012189]).max() < 5.1e-7
    t0 = np.exp(found.log_time[0])
    return computed(94.30486, t0, bool(abs(t0 - 94.30486) < 5.1e-6 and there))


@claim(
    id="t0-is-the-peak-of-a-logit",
    source=DERIVED,
    statement="T0 is the moment at which theta of the misleading pattern peaks",
    setting=f"{CASE}: when V passes p(r'), and when theta(r') turns (parabola through 48 times)",
    ours=True,
)
def t0_is_the_peak_of_a_logit(context: Context) -> Outcome:
    times, probs = _near_t0()
    # The flow conserves sum theta, so that theta is log pi less its mean.
    theta = np.log(probs[2]) - np.log(probs[2]).mean(axis=1, keepdims=True)
    t0 = np.exp(entanglement(CHECK_PROBS, CHECK_RATES).log_time[0])
    return close(t0, _turn(times[2], theta[:, 1]), atol=1e-3)


@claim(
    id="probability-peaks-before-t0",
    source=DERIVED,
    statement="the probability of the misleading pattern peaks earlier, at t = 75.761",
    setting=f"{CASE}, T0 = 94.305",
    ours=True,
)
def probability_peaks_before_t0(context: Context) -> Outcome:
    times, probs = _near_t0()
    return close(75.761, _turn(times[1], probs[1, :, 1]), atol=1e-3)


@claim(
    id="best-pattern-is-rarest-at-46",
    source=DERIVED,
    statement="pi(r*) has its minimum at t = 46.08",
    setting=CASE,
    ours=True,
)
def best_pattern_is_rarest_at_46(context: Context) -> Outcome:
    times, probs = _near_t0()
    return close(46.08, _turn(times[0], probs[0, :, 0]), atol=6e-3)


def _fan(patterns: int, rare: float) -> tuple[np.ndarray, np.ndarray]:
    """A best pattern of probability `rare` among `patterns`, one misleading, distinct others."""
    others = np.arange(patterns, 2.0, -1.0)
    probs = np.concatenate([[rare], (1 - rare) * np.append(0.5, 0.5 * others / others.sum())])
    return probs, np.append([0.9, 0.7], np.linspace(0.3, 0.1, patterns - 2))


@claim(
    id="entanglement-law",
    source=DERIVED,
    statement="T0 obeys a closed law as pi(r*) -> 0: relative error 1e-6 at most at pi(r*) = 1e-8",
    setting="K = 3 to 12, gaps of order .1: largest |T0/law - 1|, bounded by 1.3e-6",
    ours=True,
)
def entanglement_law(context: Context) -> Outcome:
    starts = [_fan(patterns, 1e-8) for patterns in range(3, 13)]
    columns = columns_of(starts)
    law, _ = t0_law(*columns)
    off = np.abs(np.expm1(entanglement(*columns).log_time - law)).max()
    return computed(1.3e-6, off, off <= 1.3e-6)


@claim(
    id="entanglement-exponent",
    source=DERIVED,
    statement="T0 grows like pi(r*)^-(K-1): polynomially, for each number of patterns K",
    setting="K = 3 to 12, pi(r*) = 1e-8 and 1e-9: exponents over -(K - 1), the farthest from 1",
    ours=True,
)
def entanglement_exponent(context: Context) -> Outcome:
    sizes = np.arange(3, 13)
    times = [
        entanglement(*columns_of([_fan(int(k), rare) for k in sizes])).log_time
        for rare in (1e-8, 1e-9)
    ]
    exponents = (times[1] - times[0]) / np.log(10) / (sizes - 1)
    return close(*worst(1.0, exponents), atol=1e-5)


@claim(
    id="entanglement-law-of-the-check-case",
    source=DERIVED,
    statement="at pi(r*) = .05 the law is still right to 8 %: T0/law = 1.078",
    setting=CASE,
    ours=True,
)
def entanglement_law_of_the_check_case(context: Context) -> Outcome:
    log_t0 = entanglement(CHECK_PROBS, CHECK_RATES).log_time[0]
    law, _ = t0_law(CHECK_PROBS, CHECK_RATES)
    return close(1.078, np.exp(log_t0 - law[0]), atol=5e-4)


_OUT_OF_RANGE = {
    "a tie for second best": ((1e-6, 0.5, 0.3, 0.2 - 1e-6), (0.9, 0.6, 0.6, 0.1)),
    "a gap of 1e-9": ((1e-6, 0.5, 0.3, 0.2 - 1e-6), (0.9, 0.6, 0.6 - 1e-9, 0.1)),
    "a pattern 18 times rarer": ((1.8e-5, 0.7, 0.3 - 1.9e-5, 1e-6), (0.9, 0.6, 0.1, 0.3)),
}


@claim(
    id="entanglement-law-knows-its-range",
    source=DERIVED,
    statement="outside its conditions the law is off by factors of 30 and more, and says so",
    setting="; ".join(_OUT_OF_RANGE)
    + ": share of cases flagged; in all of them the law must be off",
    ours=True,
)
def entanglement_law_knows_its_range(context: Context) -> Outcome:
    columns = columns_of(list(_OUT_OF_RANGE.values()))
    law, valid = t0_law(*columns)
    off = np.abs(entanglement(*columns).log_time - law)
    flagged = 1 - valid.mean()
    return computed(1.0, flagged, bool(flagged == 1 and off.min() > math.log(30)))


@claim(
    id="two-patterns-are-never-entangled",
    source=DERIVED,
    statement="with two patterns there is no entanglement that the law could tell of: it is 0",
    setting="pi = (1e-9, 1 - 1e-9), rates (.9, .4): T0 of the flow, whose V starts at the second "
    "best",
    ours=True,
)
def two_patterns_are_never_entangled(context: Context) -> Outcome:
    start = [(1e-9, 1 - 1e-9)], [(0.9, 0.4)]
    return close(np.exp(t0_law(*start)[0][0]), np.exp(entanglement(*start).log_time[0]))
