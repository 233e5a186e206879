"""Utilities: clocks of the methods people use, sampled and in the limit; noisy verifiers."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close
from ._ledger import Context, Subject, once
from ._shared import CASE, farthest
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    ROWS,
    entanglement,
    follow,
    number_of,
    velocity,
)

DERIVED = "derived in docs/objectives.md#advantage-the-utility"

SUBJECT = Subject("Utilities and noisy verifiers")
claim = SUBJECT.claim

_LEVELS = np.array([0.1, 0.3, 0.6389, 0.9])


# The utility of an estimator, from the estimator itself


def _sampled_clock(
    estimator: qra.training.AbstractEstimator,
    group: int,
    drawn: Callable[[np.ndarray], np.ndarray] = lambda successes: successes >= 0,
) -> np.ndarray:
    """What a group's expected estimate is, in units of the gradient of A, at `_LEVELS`.

    The mean over all groups of advantage times score, the score being that of a single success
    probability; groups that are not `drawn`, by their number of successes, are drawn again.
    """
    successes = np.arange(group + 1)
    rewards = (np.arange(group) < successes[:, None]).astype(float)
    advantages = np.asarray(estimator.advantages(jnp.asarray(rewards)))
    kept = drawn(successes)
    log_ways = [math.lgamma(group + 1) - math.lgamma(s + 1) - math.lgamma(group - s + 1)
                for s in successes]  # fmt: skip
    clocks = []
    for level in _LEVELS:
        chance = np.exp(
            log_ways + successes * math.log(level) + (group - successes) * math.log1p(-level)
        )
        score = (rewards - level) / (level * (1 - level))
        each = np.mean(advantages * score, axis=1)
        clocks.append(np.sum(np.where(kept, chance * each, 0)) / np.sum(chance[kept]))
    return np.array(clocks)


_EVERY_GROUP = "A = .1, .3, .6389, .9, over all groups: the farther expected gradient per grad A"


@claim(
    id="policy-gradient-field",
    source=DERIVED,
    statement="REINFORCE, RLOO and any baseline: theta_r moves like pi_r (p_r - A)",
    setting="random policies and success rates, K = 3: largest difference of velocities",
    ours=True,
)
def policy_gradient_field(context: Context) -> Outcome:
    probs, rates = context.rng.dirichlet(np.ones(3), 8), context.rng.uniform(0.05, 0.95, (8, 3))
    found = np.array(
        [
            velocity(qra.RLVR(), *qra.two_stage(p, r)).pattern_logits[0]
            for p, r in zip(probs, rates, strict=True)
        ]
    )
    value = np.sum(probs * rates, axis=1, keepdims=True)
    return close(0.0, np.abs(found - probs * (rates - value)).max(), atol=1e-14)


@claim(
    id="rloo-is-unbiased",
    source="arXiv 2402.14740",
    statement="leave-one-out baselines (RLOO) leave the policy gradient unbiased",
    setting=f"groups of 4; {_EVERY_GROUP}",
)
def rloo_is_unbiased(context: Context) -> Outcome:
    return farthest(1.0, _sampled_clock(qra.RLOO(), 4))


@claim(
    id="dr-grpo-is-rloo-scaled",
    source="arXiv 2503.20783, as summarised",
    statement="without the division by the deviation, the advantages of GRPO are those of RLOO up "
    "to the factor (G - 1)/G",
    setting="random rewards, G = 4: largest difference of advantages",
)
def dr_grpo_is_rloo_scaled(context: Context) -> Outcome:
    rewards = jnp.asarray(context.rng.normal(size=(8, 4)))
    scaled = 0.75 * qra.RLOO().advantages(rewards)
    return close(
        0.0, float(abs(qra.training.SampledDrGRPO().advantages(rewards) - scaled).max()), atol=1e-14
    )


@claim(
    id="grpo-is-arcsine",
    source="arXiv 2510.13651",
    statement="GRPO ascends the arcsine of the square root of A: 2 arcsin sqrt A, with the slope "
    "1/sqrt(A (1 - A))",
    setting=f"groups of 256 and 512, extrapolated; {_EVERY_GROUP}",
)
def grpo_is_arcsine(context: Context) -> Outcome:
    half, whole = (_sampled_clock(qra.SampledGRPO(), group) for group in (256, 512))
    return farthest(1 / np.sqrt(_LEVELS * (1 - _LEVELS)), 2 * whole - half, rtol=1e-3)


@claim(
    id="rejection-sampling-is-log",
    source="arXiv 2510.13651",
    statement="rejection sampling, averaged over kept samples, ascends log A",
    setting=f"groups of 8, redrawn if nothing is kept; {_EVERY_GROUP}",
)
def rejection_sampling_is_log(context: Context) -> Outcome:
    clocks = _sampled_clock(qra.training.RejectionFineTuning(), 8, lambda successes: successes > 0)
    return farthest(1 / _LEVELS, clocks)


@claim(
    id="finite-groups",
    source="arXiv 2510.13651, as summarised",
    statement="GRPO with groups of M has a polynomial as its slope: 1 at M = 2, sqrt 2 at M = 3",
    setting=_EVERY_GROUP,
)
def finite_groups(context: Context) -> Outcome:
    clocks = [_sampled_clock(qra.SampledGRPO(), group) for group in (2, 3)]
    return farthest(np.array([[1.0], [math.sqrt(2)]]), np.array(clocks))


@claim(
    id="finite-groups-by-number",
    source=DERIVED,
    statement="at A = .6389 its slope is 1.62498 for M = 4 and 1.90640 for M = 8",
    setting="over all groups: the farther expected gradient per grad A",
    ours=True,
)
def finite_groups_by_number(context: Context) -> Outcome:
    found = np.array([_sampled_clock(qra.SampledGRPO(), group)[2] for group in (4, 8)])
    off = np.abs(found - [1.62498, 1.90640])
    return close([1.62498, 1.90640][np.argmax(off)], found[np.argmax(off)], atol=5.1e-6)


@claim(
    id="sample-deviation-is-slower",
    source=DERIVED,
    statement="GRPO with the sample deviation runs at sqrt((M - 1)/M) of the speed",
    setting=f"M = 4; {_EVERY_GROUP}",
    ours=True,
)
def sample_deviation_is_slower(context: Context) -> Outcome:
    clocks = [_sampled_clock(qra.SampledGRPO(ddof=ddof), 4) for ddof in (0, 1)]
    return farthest(math.sqrt(3 / 4) * clocks[0], clocks[1])


@claim(
    id="redrawn-groups-are-faster",
    source=DERIVED,
    statement="redrawing groups without deviation divides the speed by 1 - A^M - (1 - A)^M",
    setting=f"M = 4; {_EVERY_GROUP}",
    ours=True,
)
def redrawn_groups_are_faster(context: Context) -> Outcome:
    estimator = qra.SampledGRPO(redraw=True)
    clocks = _sampled_clock(estimator, 4, lambda successes: (successes > 0) & (successes < 4))
    both = 1 - _LEVELS**4 - (1 - _LEVELS) ** 4
    return farthest(_sampled_clock(qra.SampledGRPO(), 4) / both, clocks)


@claim(
    id="maxrl-is-truncated-likelihood",
    source="arXiv 2602.02710",
    statement="MaxRL, the mean score of successes, is an unbiased gradient of log A truncated "
    "after N terms: (1 - (1 - A)^N)/A",
    setting=f"N = 8; {_EVERY_GROUP}",
)
def maxrl_is_truncated_likelihood(context: Context) -> Outcome:
    expected = (1 - (1 - _LEVELS) ** 8) / _LEVELS
    return farthest(expected, _sampled_clock(qra.training.SampledMaxRL(), 8))


@claim(
    id="centred-maxrl-loses-a-term",
    source=DERIVED,
    statement="in the form (r - mean)/mean MaxRL is truncated after N - 1 terms",
    setting=f"N = 8; {_EVERY_GROUP}",
    ours=True,
)
def centred_maxrl_loses_a_term(context: Context) -> Outcome:
    expected = (1 - (1 - _LEVELS) ** 7) / _LEVELS
    return farthest(expected, _sampled_clock(qra.training.SampledMaxRL(centred=True), 8))


@claim(
    id="maxrl-tends-to-likelihood",
    source="arXiv 2602.02710",
    statement="with more and more samples MaxRL becomes maximum likelihood",
    setting=f"{CASE}: T0 of MaxRL with N = 8 (truncation: (1 - A)^8 <= .001), against log A",
)
def maxrl_tends_to_likelihood(context: Context) -> Outcome:
    found = np.exp(_check_times())
    return close(found[number_of("log-likelihood")], found[number_of("maxrl-8")], rtol=1e-3)


@claim(
    id="pass-at-k",
    source="arXiv 2505.15201",
    statement="the transformed rewards of pass@k training are an unbiased gradient of "
    "1 - (1 - A)^k",
    setting=f"k = 3 in groups of 8; {_EVERY_GROUP}",
)
def pass_at_k(context: Context) -> Outcome:
    return farthest(3 * (1 - _LEVELS) ** 2, _sampled_clock(qra.training.SampledPassAtK(3), 8))


# Clocks


_CHECK_TIMES = {
    "mean": 94.30486,
    "grpo": 43.78606,
    "grpo-4": 57.786,
    "grpo-8": 48.433,
    "grpo-16": 45.597,
    "log-likelihood": 64.48575,
    "maxrl-8": 64.4936,
    "tsallis-0.5": 77.970,
    "pass@8": 41299.22,
}


@once
def _check() -> tuple[np.ndarray, np.ndarray]:
    """log T0 of the check case under each utility, and the patterns then."""
    count = len(_CHECK_TIMES)
    found = entanglement([CHECK_PROBS] * count, [CHECK_RATES] * count, np.arange(count))
    return found.log_time, found.probs[:, :3]


def _check_times() -> np.ndarray:
    return _check()[0]


@claim(
    id="clocks-of-the-check-case",
    source=DERIVED,
    statement="utilities are clocks: T0 of REINFORCE, GRPO, GRPO of 4, 8, 16, log-likelihood, "
    "MaxRL, "
    "Tsallis and pass@8, nine values from 43.8 to 41299.2",
    setting=f"{CASE}: the value farthest from theory's digits",
    ours=True,
)
def clocks_of_the_check_case(context: Context) -> Outcome:
    return farthest(np.array(list(_CHECK_TIMES.values())), np.exp(_check_times()), rtol=1e-5)


@claim(
    id="clocks-keep-the-orbit",
    source=DERIVED,
    statement="a utility changes the pace, not the path: all cross at pi = (.036568, .951242, "
    ".012189)",
    setting=f"{CASE}, nine utilities: largest difference of the patterns at T0",
    ours=True,
)
def clocks_keep_the_orbit(context: Context) -> Outcome:
    difference = np.abs(_check()[1] - [0.036568, 0.951242, 0.012189])
    return close(0.0, difference.max(), atol=5.1e-7)


def _time_to_half(objective: str, rare: np.ndarray) -> np.ndarray:
    """When a lone right pattern of probability `rare` beside a wrong one has one half."""
    starts, rates = [(p, 1 - p) for p in rare], [(1.0, 0.0)] * len(rare)
    scale = -np.log(rare) if objective == "mean" else np.log(-np.log(rare))
    log_times = scale[:, None] + np.linspace(-3, 2, ROWS)
    accuracy = follow(starts, rates, log_times, number_of(objective)).accuracy
    crossing = [np.interp(0.5, a, t) for a, t in zip(accuracy, log_times, strict=True)]
    return np.exp(crossing)


@claim(
    id="cold-start-of-reinforce",
    source="arXiv 2604.25907",
    statement="from a small success probability p0, the pole q = 0 of the Tsallis family "
    "(REINFORCE) needs a time of order 1/p0",
    setting="one right pattern of p0 = 1e-8 and 1e-12, one wrong; time to A = 1/2: exponent in p0",
)
def cold_start_of_reinforce(context: Context) -> Outcome:
    times = _time_to_half("mean", np.array([1e-8, 1e-12]))
    return close(-1.0, np.log(times[1] / times[0]) / np.log(1e-4), atol=1e-3)


@claim(
    id="cold-start-of-likelihood",
    source="arXiv 2604.25907",
    statement="the pole q = 1 (log-likelihood) needs a time of order log(1/p0)",
    setting="the same: (T(1e-12) - T(1e-8)) / log 1e4, over the same from 1e-4 to 1e-8",
)
def cold_start_of_likelihood(context: Context) -> Outcome:
    times = _time_to_half("log-likelihood", np.array([1e-4, 1e-8, 1e-12]))
    first, second = np.diff(times)
    return close(1.0, second / first, atol=0.02)


# Noise


@claim(
    id="noise-decides-fate-by-its-sign",
    source="arXiv 2601.04411",
    statement="a noisy verifier with J = TPR - FPR > 0 still teaches, with J = 0 nothing, and with "
    "J < 0 the reverse, up to collapse",
    setting=f"{CASE}; (TPR, FPR) = (.8, .3), (.5, .5), (.3, .8), t = e^14: the accuracy farthest "
    "from "
    "the best rate, its start and the worst rate",
)
def noise_decides_fate_by_its_sign(context: Context) -> Outcome:
    rates = np.array([0.8, 0.5, 0.3]), np.array([0.3, 0.5, 0.8])
    starts = [CHECK_PROBS] * 3, [CHECK_RATES] * 3
    found = follow(*starts, np.linspace(0, 14, ROWS), 0, *rates).accuracy[:, -1]
    expected = np.array([0.9, np.dot(CHECK_PROBS, CHECK_RATES), 0.1])
    return farthest(expected, found, rtol=1e-3)


@claim(
    id="noise-sets-the-rate",
    source="arXiv 2601.04411",
    statement="noise of J > 0 only rescales time, by 1/J (policy gradient without normalisation)",
    setting=f"{CASE}, (TPR, FPR) = (.8, .3): largest difference of accuracy at t/J from that at t",
)
def noise_sets_the_rate(context: Context) -> Outcome:
    log_times = np.linspace(-1, 8, ROWS)
    both = np.stack([log_times, log_times - math.log(0.5)])
    accuracy = follow(
        [CHECK_PROBS] * 2, [CHECK_RATES] * 2, both, 0, np.array([1, 0.8]), np.array([0, 0.3])
    ).accuracy
    return close(0.0, np.abs(accuracy[0] - accuracy[1]).max(), atol=1e-7)


@claim(
    id="noise-under-a-utility",
    source=DERIVED,
    statement="under a utility f the clock of a noisy verifier is J f'(FPR + J A): no rescaling "
    "by J",
    setting=f"{CASE}, GRPO, (TPR, FPR) = (.8, .3): velocity over the clean one of the mean",
    ours=True,
)
def noise_under_a_utility(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    noisy = qra.Objective(qra.objectives.NoisyVerifier(0.8, 0.3), qra.GRPO())
    found, clean = (velocity(o, policy, problem).pattern_logits for o in (noisy, qra.RLVR()))
    seen = 0.3 + 0.5 * np.dot(CHECK_PROBS, CHECK_RATES)
    return farthest(0.5 / math.sqrt(seen * (1 - seen)), np.asarray(found / clean), rtol=1e-9)
