"""The two regimes of RLVR, and fine-tuning first."""

import numpy as np

from .._lab.claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._shared import CASE, PAPER, REFERENCE, boltzmann
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    ROWS,
    Settings,
    Stopped,
    columns_of,
    entanglement,
    follow,
    stop,
)

DERIVED = "derived in docs/derivations.md#the-end-of-the-entangled-phase"

SUBJECT = Subject("Reasoning patterns under RLVR")
claim = SUBJECT.claim


def _starts(context: Context, entangled: bool, count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Random starts of 3 to 5 patterns, the best first, in one of the two regimes."""
    rng, found = context.rng, []
    while len(found) < count:
        patterns = int(rng.integers(3, 6))
        probs, rates = np.zeros(5), np.zeros(5)
        probs[:patterns] = rng.dirichlet(np.ones(patterns))
        rates[:patterns] = np.sort(rng.uniform(0.05, 0.95, patterns))[::-1]
        value = probs @ rates
        strong = value > rates[1] + 0.01
        weak = rates[2] + 0.01 < value < rates[1] - 0.01 and rates[0] - rates[1] > 0.02
        if weak if entangled else strong:
            found.append((probs, rates))
    probs, rates = zip(*found, strict=True)
    return np.array(probs), np.array(rates)


@once
def _rests() -> Stopped:
    """Flows that come to rest, for the claims on where: the rows of `_REST`."""
    return stop(list(_REST.values()))


_REST = {
    "strong penalty": Settings(reverse_kl=0.5),
    "penalty": Settings(reverse_kl=0.2),
    "weak penalty": Settings(reverse_kl=0.1),
    "hardly a penalty": Settings(reverse_kl=0.02),
    "answers trained": Settings(reverse_kl=0.5, answers=True),
    "nothing, answers trained": Settings(answers=True, level=0.7),
}


def _rest(name: str) -> np.ndarray:
    return _rests().probs[list(_REST).index(name)]


@claim(
    id="success-rates-stay-fixed",
    source=PAPER.format("Assumption 5.1"),
    statement="training moves the patterns, while success rates within patterns stay as they are",
    setting=f"{CASE}, tabular answers trained beside the patterns, until V = .7; "
    "drift sum pi |p - p(0)|",
    note="This is an assumption, made after measurements on language models, where it is fair. It "
    "is no consequence of training two tables: tabular answers learn at the pace of the patterns. "
    "It holds where the answer layer is frozen, or gets no gradient "
    "(self-certainty-moves-no-answer).",
)
def success_rates_stay_fixed(context: Context) -> Outcome:
    found = _rests()
    drift = found.drift[list(_REST).index("nothing, answers trained")]
    return close(0.0, drift, atol=0.01)


@claim(
    id="trained-answers-pass-early",
    source=DERIVED,
    statement="with answers trained too, V passes the second best rate of t = 0 at t = 2.43 "
    "instead of 94.3",
    setting=f"{CASE}",
    ours=True,
)
def trained_answers_pass_early(context: Context) -> Outcome:
    log_time = _rests().log_time[list(_REST).index("nothing, answers trained")]
    return close(2.43, np.exp(log_time), atol=5e-3)


@claim(
    id="optimum-of-patterns",
    source=PAPER.format("Prop. 5.2"),
    statement="with frozen answers the optimum is pi(r) ~ pi_ref(r) exp(p(r) / beta)",
    setting=f"{CASE}, beta = .5, .2, .1: largest difference of a flow at rest from the formula",
)
def optimum_of_patterns(context: Context) -> Outcome:
    names = {"strong penalty": 0.5, "penalty": 0.2, "weak penalty": 0.1}
    formulas = [boltzmann(CHECK_PROBS, CHECK_RATES, beta) for beta in names.values()]
    return close(0.0, np.abs(np.array([_rest(name) for name in names]) - formulas).max(), atol=1e-6)


@claim(
    id="optimum-of-weak-penalty",
    source=PAPER.format("Prop. 5.2"),
    statement="as beta -> 0 the optimum is the pattern of the highest success rate",
    setting=f"{CASE}, beta = .02: pi(r*) of the flow at rest",
)
def optimum_of_weak_penalty(context: Context) -> Outcome:
    return close(1.0, _rest("hardly a penalty")[0], atol=2e-3)


@claim(
    id="optimum-of-another-reference",
    source=DERIVED,
    statement="if the frozen answers are not the reference's, rewards become "
    "p(r) - beta KL(answers of r, reference's)",
    setting=f"{CASE}, reference pi = (.2, .3, .5) with p = (.5, .9, .2), beta = .2: largest "
    "difference at rest",
    ours=True,
)
def optimum_of_another_reference(context: Context) -> Outcome:
    rates, other = CHECK_RATES, np.array([0.5, 0.9, 0.2])
    found = stop([Settings(reverse_kl=0.2)], reference=REFERENCE, ref_rates=other)
    divergence = rates * np.log(rates / other) + (1 - rates) * np.log((1 - rates) / (1 - other))
    expected = boltzmann(REFERENCE, rates - 0.2 * divergence, 0.2)
    return close(0.0, np.abs(found.probs[0] - expected).max(), atol=1e-6)


@claim(
    id="optimum-of-trained-answers",
    source=DERIVED,
    statement="with trained answers the patterns of the optimum are pi_ref (1 + (e^(1/beta) - 1) "
    "p)",
    setting=f"{CASE}, beta = .5: largest difference at rest",
    ours=True,
)
def optimum_of_trained_answers(context: Context) -> Outcome:
    weights = CHECK_PROBS * (1 + np.expm1(1 / 0.5) * CHECK_RATES)
    difference = np.abs(_rest("answers trained") - weights / weights.sum())
    return close(0.0, difference.max(), atol=1e-6)


@claim(
    id="strong-start-rises",
    source=PAPER.format("Thm. 5.3"),
    statement="if V(0) exceeds every other success rate, pi(r*) rises monotonically to 1",
    setting="16 random strong starts, K = 3 to 5, 48 times up to e^40: share in which it does",
)
def strong_start_rises(context: Context) -> Outcome:
    probs, rates = _starts(context, entangled=False)
    log_probs = follow(probs, rates, np.linspace(-2, 40, ROWS)).log_probs
    others = np.logaddexp.reduce(log_probs[..., 1:5], axis=-1)
    rises = np.all(np.diff(others, axis=1) < 0, axis=1) & (others[:, -1] < np.log(1e-3))
    return close(1.0, rises.mean())


@claim(
    id="strong-start-time",
    source=PAPER.format("Thm. 5.3"),
    statement="pi(r*) is 1 - eps after a time O(1/eps): exponent of the time in eps",
    setting="16 random strong starts, K = 3 to 5, eps = 1e-8 and 1e-9; the one farthest from -1",
)
def strong_start_time(context: Context) -> Outcome:
    probs, rates = _starts(context, entangled=False)
    log_times = np.linspace(-2, 40, ROWS)
    log_probs = follow(probs, rates, log_times).log_probs
    log_missing = np.logaddexp.reduce(log_probs[..., 1:5], axis=-1)
    levels = -np.log([1e-8, 1e-9])
    reached = np.array([np.interp(levels, -row, log_times) for row in log_missing])
    exponents = -np.diff(reached)[:, 0] / np.diff(levels)
    return close(-1.0, exponents[np.argmax(abs(exponents + 1))], atol=0.02)


@claim(
    id="gamma-of-the-simulation",
    source=PAPER.format("simulated case"),
    statement="gamma = (.25 + .05) / .05",
    setting=CASE,
)
def gamma_of_the_simulation(context: Context) -> Outcome:
    found = entanglement(CHECK_PROBS, CHECK_RATES)
    return close(6.0, found.gamma[0], atol=1e-9)


@claim(
    id="weak-start-follows-the-misleading",
    source=PAPER.format("Thm. 5.4"),
    statement="from a weak start the flow takes up the misleading pattern first: pi(r') rises, "
    "while pi(r*) falls",
    setting=f"{CASE}, 48 times up to T0: highest pi(r'), against its start; pi(r*) must fall too",
)
def weak_start_follows_the_misleading(context: Context) -> Outcome:
    log_t0 = entanglement(CHECK_PROBS, CHECK_RATES).log_time[0]
    log_times = log_t0 + np.linspace(-8, 0, ROWS)
    probs = np.exp(follow(CHECK_PROBS, CHECK_RATES, log_times).log_probs[0])
    start, peak = CHECK_PROBS[1], probs[:, 1].max()
    return computed(start, peak, peak > start and probs[:, 0].min() < CHECK_PROBS[0])


@claim(
    id="weak-start-need-not-mislead",
    source=DERIVED,
    statement="the condition p(r*) > p(r') > V(0) > p(r) is not enough for that: where pi(r*) "
    "starts no rarer than pi(r'), it stays ahead of it, though T0 > 0",
    setting="up to 16 random starts under the condition, K = 3 to 5, pi(r*) = pi(r') = .05: share "
    "with T0 > 0 and pi(r*) > pi(r') at 48 times up to T0",
    ours=True,
    note="The difference of the two logits moves at pi(r*) (p(r*) - V) - pi(r') (p(r') - V), which "
    "is above 0 where pi(r*) >= pi(r') and V < p(r'). The condition makes V wait for p(r'), which "
    "is what T0 measures; that r' takes over on the way needs pi(r') > pi(r*) as well.",
)
def weak_start_need_not_mislead(context: Context) -> Outcome:
    probs, rates = _starts(context, entangled=True)
    rest = 0.9 * probs[:, 2:] / probs[:, 2:].sum(axis=1, keepdims=True)
    probs = np.concatenate([np.full((len(probs), 2), 0.05), rest], axis=1)
    value = np.sum(probs * rates, axis=1)
    weak = (value < rates[:, 1] - 0.01) & (value > rates[:, 2])
    probs, rates = probs[weak], rates[weak]
    log_t0 = entanglement(probs, rates).log_time
    log_probs = follow(probs, rates, log_t0[:, None] + np.linspace(-8, 0, ROWS)).log_probs
    ahead = np.all(log_probs[..., 0] > log_probs[..., 1], axis=1)
    return close(1.0, np.mean(np.isfinite(log_t0) & ahead))


@claim(
    id="weak-start-ends-in-regime-1",
    source=PAPER.format("Thm. 5.4"),
    statement="the entangled phase has a finite length T0 > 0, after which regime 1 starts",
    setting="16 random entangled starts, K = 3 to 5: share with a finite T0 and V above every "
    "other "
    "rate from then on (48 times up to 1e6 T0)",
)
def weak_start_ends_in_regime_1(context: Context) -> Outcome:
    probs, rates = _starts(context, entangled=True)
    log_t0 = entanglement(probs, rates).log_time
    after = follow(probs, rates, log_t0[:, None] + np.linspace(1e-3, 14, ROWS)).accuracy
    above = np.all(after > rates[:, 1:2], axis=1)
    return close(1.0, np.mean(np.isfinite(log_t0) & above))


def _crowd(patterns: int) -> tuple[np.ndarray, np.ndarray]:
    """A misleading pattern of 1/2, the others equally rare: gamma = K - 1, fixed rates."""
    probs, rates = np.full(patterns, 0.5 / (patterns - 1)), np.full(patterns, 0.1)
    probs[1] = 0.5
    rates[:2] = 0.9, 0.7
    return probs, rates


@claim(
    id="weak-start-bound",
    source=PAPER.format("Thm. 5.4"),
    statement="T0 is of order gamma^(C gamma) at most: one constant C does for all gamma",
    setting="p = (.9, .7, .1, ...), K = 4 to 16 with gamma = K - 1, and K = 3 with gamma = 6 to "
    "3e11: largest C needed beyond gamma = 3, against the one needed there",
)
def weak_start_bound(context: Context) -> Outcome:
    starts = [_crowd(patterns) for patterns in range(4, 17)]
    for rare in (5e-2, 1e-3, 1e-6, 1e-12):
        starts.append((np.array([rare, 0.7, 0.3 - rare]), CHECK_RATES))
    found = entanglement(*columns_of(starts))
    needed = found.log_time / (found.gamma * np.log(found.gamma))
    return computed(needed[0], needed[1:].max(), needed[1:].max() <= needed[0])


@claim(
    id="weak-start-exponential-in-gamma",
    source=DERIVED,
    statement="at fixed success rates T0 grows exponentially in gamma as K grows with it, not "
    "super-exponentially: log T0 is all but straight in gamma",
    setting="p = (.9, .7, .1, ...), pi(r') = 1/2, K = 12, 14, 16, gamma = K - 1: "
    "gamma d^2 log T0 / d gamma^2, which is C for gamma^(C gamma); at most a fifth of the C needed",
    ours=True,
    note="By the entanglement law T0 is at most (gamma G / (K - 1))^(K - 1) up to powers of K, "
    "with G the largest ratio of gaps (p(r') - p(j)) / (p(r*) - p(r')), and the largest of these "
    "over K is e^(gamma G / e). Thm. 5.4, an upper bound, holds, but is not sharp.",
)
def weak_start_exponential_in_gamma(context: Context) -> Outcome:
    found = entanglement(*columns_of([_crowd(patterns) for patterns in (12, 14, 16)]))
    gamma = found.gamma[1]
    needed = found.log_time[1] / (gamma * np.log(gamma))
    curvature = gamma * np.diff(found.log_time, 2)[0] / 4
    return computed(needed / 5, curvature, bool(abs(curvature) <= needed / 5))


@claim(
    id="weak-start-needs-the-gap",
    source=DERIVED,
    statement="gamma alone does not bound T0: it grows like (p(r*) - p(r'))^-(K-1)",
    setting="K = 4, pi = (1e-10, .6, .3, .1), rates (.7 + d, .7, .3, .1), d = .01 and .02",
    ours=True,
)
def weak_start_needs_the_gap(context: Context) -> Outcome:
    gaps = np.array([0.01, 0.02])
    rates = [(0.7 + gap, 0.7, 0.3, 0.1) for gap in gaps]
    log_t0 = entanglement([(1e-10, 0.6, 0.3, 0.1 - 1e-10)] * 2, rates).log_time
    return close(-3.0, np.diff(log_t0)[0] / np.log(2), atol=1e-3)
