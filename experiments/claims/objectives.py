"""Objectives of the field: the clocks of their utilities, their penalties, their identities."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    ROWS,
    Settings,
    entanglement,
    follow,
    number_of,
    stop,
    velocity,
)

SUBJECT = Subject("Objectives: utilities, noise, penalties")
claim = SUBJECT.claim

_DERIVED = "derived in docs"
_CASE = "p = (.9, .7, .1) from pi = (.05, .70, .25)"
_LEVELS = np.array([0.1, 0.3, 0.6389, 0.9])
_REFERENCE = (0.2, 0.3, 0.5)


# The utility of an estimator, from the estimator itself


def _sampled_clock(
    estimator: qra.AbstractEstimator,
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


def _farthest(expected, measured, rtol: float = 1e-10) -> Outcome:
    """The pair of numbers that are relatively farthest apart."""
    expected, measured = np.broadcast_arrays(expected, measured)
    at = np.argmax(np.abs(measured / expected - 1))
    return close(expected.ravel()[at], measured.ravel()[at], rtol=rtol)


_EVERY_GROUP = "A = .1, .3, .6389, .9, over all groups: the farther expected gradient per grad A"


@claim(
    id="policy-gradient-field",
    source=_DERIVED,
    statement="REINFORCE, RLOO and any baseline: theta_r moves like pi_r (p_r - A)",
    setting="random policies and success rates, K = 3: largest difference of velocities",
    ours=True,
)
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
    return _farthest(1.0, _sampled_clock(qra.RLOO(), 4))


@claim(
    id="dr-grpo-is-rloo-scaled",
    source="arXiv 2503.20783, as summarised",
    statement="without the division by the deviation, the advantages of GRPO are those of RLOO up "
    "to the factor (G - 1)/G",
    setting="random rewards, G = 4: largest difference of advantages",
)
def _(context: Context) -> Outcome:
    rewards = jnp.asarray(context.rng.normal(size=(8, 4)))
    scaled = 0.75 * qra.RLOO().advantages(rewards)
    return close(
        0.0, float(abs(qra.SampledDrGRPO().advantages(rewards) - scaled).max()), atol=1e-14
    )


@claim(
    id="grpo-is-arcsine",
    source="arXiv 2510.13651",
    statement="GRPO ascends the arcsine of the square root of A: 2 arcsin sqrt A, with the slope "
    "1/sqrt(A (1 - A))",
    setting=f"groups of 256 and 512, extrapolated; {_EVERY_GROUP}",
)
def _(context: Context) -> Outcome:
    half, whole = (_sampled_clock(qra.SampledGRPO(), group) for group in (256, 512))
    return _farthest(1 / np.sqrt(_LEVELS * (1 - _LEVELS)), 2 * whole - half, rtol=1e-3)


@claim(
    id="rejection-sampling-is-log",
    source="arXiv 2510.13651",
    statement="rejection sampling, averaged over kept samples, ascends log A",
    setting=f"groups of 8, redrawn if nothing is kept; {_EVERY_GROUP}",
)
def _(context: Context) -> Outcome:
    clocks = _sampled_clock(qra.RejectionFineTuning(), 8, lambda successes: successes > 0)
    return _farthest(1 / _LEVELS, clocks)


@claim(
    id="finite-groups",
    source="arXiv 2510.13651, as summarised",
    statement="GRPO with groups of M has a polynomial as its slope: 1 at M = 2, sqrt 2 at M = 3",
    setting=_EVERY_GROUP,
)
def _(context: Context) -> Outcome:
    clocks = [_sampled_clock(qra.SampledGRPO(), group) for group in (2, 3)]
    return _farthest(np.array([[1.0], [math.sqrt(2)]]), np.array(clocks))


@claim(
    id="finite-groups-by-number",
    source=_DERIVED,
    statement="at A = .6389 its slope is 1.62498 for M = 4 and 1.90640 for M = 8",
    setting="over all groups: the farther expected gradient per grad A",
    ours=True,
)
def _(context: Context) -> Outcome:
    found = np.array([_sampled_clock(qra.SampledGRPO(), group)[2] for group in (4, 8)])
    off = np.abs(found - [1.62498, 1.90640])
    return close([1.62498, 1.90640][np.argmax(off)], found[np.argmax(off)], atol=5.1e-6)


@claim(
    id="sample-deviation-is-slower",
    source=_DERIVED,
    statement="GRPO with the sample deviation runs at sqrt((M - 1)/M) of the speed",
    setting=f"M = 4; {_EVERY_GROUP}",
    ours=True,
)
def _(context: Context) -> Outcome:
    clocks = [_sampled_clock(qra.SampledGRPO(ddof=ddof), 4) for ddof in (0, 1)]
    return _farthest(math.sqrt(3 / 4) * clocks[0], clocks[1])


@claim(
    id="redrawn-groups-are-faster",
    source=_DERIVED,
    statement="redrawing groups without deviation divides the speed by 1 - A^M - (1 - A)^M",
    setting=f"M = 4; {_EVERY_GROUP}",
    ours=True,
)
def _(context: Context) -> Outcome:
    estimator = qra.SampledGRPO(redraw=True)
    clocks = _sampled_clock(estimator, 4, lambda successes: (successes > 0) & (successes < 4))
    both = 1 - _LEVELS**4 - (1 - _LEVELS) ** 4
    return _farthest(_sampled_clock(qra.SampledGRPO(), 4) / both, clocks)


@claim(
    id="maxrl-is-truncated-likelihood",
    source="arXiv 2602.02710",
    statement="MaxRL, the mean score of successes, is an unbiased gradient of log A truncated "
    "after N terms: (1 - (1 - A)^N)/A",
    setting=f"N = 8; {_EVERY_GROUP}",
)
def _(context: Context) -> Outcome:
    expected = (1 - (1 - _LEVELS) ** 8) / _LEVELS
    return _farthest(expected, _sampled_clock(qra.SampledMaxRL(), 8))


@claim(
    id="centred-maxrl-loses-a-term",
    source=_DERIVED,
    statement="in the form (r - mean)/mean MaxRL is truncated after N - 1 terms",
    setting=f"N = 8; {_EVERY_GROUP}",
    ours=True,
)
def _(context: Context) -> Outcome:
    expected = (1 - (1 - _LEVELS) ** 7) / _LEVELS
    return _farthest(expected, _sampled_clock(qra.SampledMaxRL(centred=True), 8))


@claim(
    id="maxrl-tends-to-likelihood",
    source="arXiv 2602.02710",
    statement="with more and more samples MaxRL becomes maximum likelihood",
    setting=f"{_CASE}: T0 of MaxRL with N = 8 (truncation: (1 - A)^8 <= .001), against log A",
)
def _(context: Context) -> Outcome:
    found = np.exp(_check_times())
    return close(found[number_of("log-likelihood")], found[number_of("maxrl-8")], rtol=1e-3)


@claim(
    id="pass-at-k",
    source="arXiv 2505.15201",
    statement="the transformed rewards of pass@k training are an unbiased gradient of "
    "1 - (1 - A)^k",
    setting=f"k = 3 in groups of 8; {_EVERY_GROUP}",
)
def _(context: Context) -> Outcome:
    return _farthest(3 * (1 - _LEVELS) ** 2, _sampled_clock(qra.SampledPassAtK(3), 8))


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
    source=_DERIVED,
    statement="utilities are clocks: T0 of REINFORCE, GRPO, GRPO of 4, 8, 16, log-likelihood, "
    "MaxRL, "
    "Tsallis and pass@8, nine values from 43.8 to 41299.2",
    setting=f"{_CASE}: the value farthest from theory's digits",
    ours=True,
)
def _(context: Context) -> Outcome:
    return _farthest(np.array(list(_CHECK_TIMES.values())), np.exp(_check_times()), rtol=1e-5)


@claim(
    id="clocks-keep-the-orbit",
    source=_DERIVED,
    statement="a utility changes the pace, not the path: all cross at pi = (.036568, .951242, "
    ".012189)",
    setting=f"{_CASE}, nine utilities: largest difference of the patterns at T0",
    ours=True,
)
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
    times = _time_to_half("mean", np.array([1e-8, 1e-12]))
    return close(-1.0, np.log(times[1] / times[0]) / np.log(1e-4), atol=1e-3)


@claim(
    id="cold-start-of-likelihood",
    source="arXiv 2604.25907",
    statement="the pole q = 1 (log-likelihood) needs a time of order log(1/p0)",
    setting="the same: (T(1e-12) - T(1e-8)) / log 1e4, over the same from 1e-4 to 1e-8",
)
def _(context: Context) -> Outcome:
    times = _time_to_half("log-likelihood", np.array([1e-4, 1e-8, 1e-12]))
    first, second = np.diff(times)
    return close(1.0, second / first, atol=0.02)


# Noise


@claim(
    id="noise-decides-fate-by-its-sign",
    source="arXiv 2601.04411",
    statement="a noisy verifier with J = TPR - FPR > 0 still teaches, with J = 0 nothing, and with "
    "J < 0 the reverse, up to collapse",
    setting=f"{_CASE}; (TPR, FPR) = (.8, .3), (.5, .5), (.3, .8), t = e^14: the accuracy farthest "
    "from "
    "the best rate, its start and the worst rate",
)
def _(context: Context) -> Outcome:
    rates = np.array([0.8, 0.5, 0.3]), np.array([0.3, 0.5, 0.8])
    starts = [CHECK_PROBS] * 3, [CHECK_RATES] * 3
    found = follow(*starts, np.linspace(0, 14, ROWS), 0, *rates).accuracy[:, -1]
    expected = np.array([0.9, np.dot(CHECK_PROBS, CHECK_RATES), 0.1])
    return _farthest(expected, found, rtol=1e-3)


@claim(
    id="noise-sets-the-rate",
    source="arXiv 2601.04411",
    statement="noise of J > 0 only rescales time, by 1/J (policy gradient without normalisation)",
    setting=f"{_CASE}, (TPR, FPR) = (.8, .3): largest difference of accuracy at t/J from that at t",
)
def _(context: Context) -> Outcome:
    log_times = np.linspace(-1, 8, ROWS)
    both = np.stack([log_times, log_times - math.log(0.5)])
    accuracy = follow(
        [CHECK_PROBS] * 2, [CHECK_RATES] * 2, both, 0, np.array([1, 0.8]), np.array([0, 0.3])
    ).accuracy
    return close(0.0, np.abs(accuracy[0] - accuracy[1]).max(), atol=1e-7)


@claim(
    id="noise-under-a-utility",
    source=_DERIVED,
    statement="under a utility f the clock of a noisy verifier is J f'(FPR + J A): no rescaling "
    "by J",
    setting=f"{_CASE}, GRPO, (TPR, FPR) = (.8, .3): velocity over the clean one of the mean",
    ours=True,
)
def _(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    noisy = qra.Objective(qra.NoisyVerifier(0.8, 0.3), qra.GRPO())
    found, clean = (velocity(o, policy, problem).pattern_logits for o in (noisy, qra.RLVR()))
    seen = 0.3 + 0.5 * np.dot(CHECK_PROBS, CHECK_RATES)
    return _farthest(0.5 / math.sqrt(seen * (1 - seen)), np.asarray(found / clean), rtol=1e-9)


# Penalties


_PENALISED = {
    "k3": Settings(k3_loss=0.2),
    "reverse": Settings(reverse_kl=0.2),
    "grpo": Settings(reverse_kl=0.8, grpo=True),
    "natural, .5": Settings(reverse_kl=0.25, natural=True, log_time=math.log(0.5)),
    "natural, 2": Settings(reverse_kl=0.25, natural=True, log_time=math.log(2)),
    "natural, 8": Settings(reverse_kl=0.25, natural=True, log_time=math.log(8)),
}


@once
def _penalised() -> dict[str, np.ndarray]:
    """Patterns at the end of flows with penalties, the reference being `_REFERENCE`."""
    found = stop(list(_PENALISED.values()), reference=_REFERENCE)
    return dict(zip(_PENALISED, found.probs, strict=True))


def _boltzmann(reference, scale: float) -> np.ndarray:
    weights = np.asarray(reference) * np.exp((CHECK_RATES - 0.9) / scale)
    return weights / weights.sum()


def _root(function, low: float, high: float) -> float:
    """By bisection, of a function that is positive at `low` and negative at `high`."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


@once
def _compared():
    """A random policy, a reference, the problem and their divergence."""
    rng = Context(False, 0, "penalties").rng
    policy = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, 2)))
    reference = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, 2)))
    return policy, reference, qra.Problem(np.array([0]))


def _penalty_field(penalty: qra.AbstractRegulariser, policy=None) -> np.ndarray:
    """The velocity that a penalty alone adds, patterns and answers in a row."""
    own, reference, problem = _compared()
    objective = qra.Objective(qra.PatternReward(np.zeros(3)), regularisers=(penalty,))
    found = velocity(objective, own if policy is None else policy, problem, reference)
    return np.concatenate([np.ravel(found.pattern_logits), np.ravel(found.answer_logits)])


def _apart(one: qra.AbstractRegulariser, other: qra.AbstractRegulariser) -> float:
    """The largest difference of two penalties' velocities."""
    return float(np.abs(_penalty_field(one) - _penalty_field(other)).max())


_PAIR = "a random policy and reference, K = 3, two answers"


@claim(
    id="k3-value-is-unbiased",
    source="Schulman, Approximating KL divergence (2020)",
    statement="k3 = 1/ratio - 1 + log ratio is an unbiased estimate of the divergence, as is k1",
    setting=f"{_PAIR}: the expectation farther from KL(pi, pi_ref)",
)
def _(context: Context) -> Outcome:
    policy, reference, _ = _compared()
    kinds = [qra.KLEstimator(1.0, kind, "reward") for kind in ("k1", "k3")]
    values = np.array([kind(policy, reference, policy)[0] for kind in kinds])
    return _farthest(float(policy.kl(reference)[0]), values)


@claim(
    id="k2-value-is-right-nearby",
    source="Schulman, Approximating KL divergence (2020)",
    statement="k2 = (log ratio)^2 / 2 is biased, but by little where the policies are close: its "
    "expectation is the divergence to second order",
    setting="a policy 1e-3 from a random reference: E[k2] / KL",
)
def _(context: Context) -> Outcome:
    _, reference, _ = _compared()
    shift = 1e-3 * jnp.asarray(context.rng.normal(size=(1, 3)))
    near = qra.TabularPolicy(reference.pattern_logits + shift, reference.answer_logits)
    value = qra.KLEstimator(1.0, "k2", "reward")(near, reference, near)[0]
    return close(1.0, float(value / near.kl(reference)[0]), atol=1e-3)


@claim(
    id="k2-loss-is-k1-in-the-reward",
    source="arXiv 2510.01555",
    statement="on policy, k2 as a loss has the gradient of k1 in the reward, that of the reverse "
    "KL",
    setting=f"{_PAIR}: largest difference of velocities from the reverse KL's",
)
def _(context: Context) -> Outcome:
    exact = qra.ReverseKL(0.3)
    others = [qra.KLEstimator(0.3, "k2", "loss"), qra.KLEstimator(0.3, "k1", "reward")]
    return close(0.0, max(_apart(exact, other) for other in others), atol=1e-12)


@claim(
    id="k1-loss-does-nothing",
    source="arXiv 2510.01555",
    statement="k1 as a loss is no penalty: its expected gradient vanishes",
    setting=f"{_PAIR}: largest velocity",
)
def _(context: Context) -> Outcome:
    return close(0.0, np.abs(_penalty_field(qra.KLEstimator(0.3, "k1", "loss"))).max(), atol=1e-14)


@claim(
    id="k3-loss-is-first-order",
    source="arXiv 2510.01555",
    statement="k3 as a loss is a biased, first-order approximation of the reverse KL's gradient",
    setting="a policy 1e-4 from a random reference: length of its velocity over the reverse KL's",
)
def _(context: Context) -> Outcome:
    _, reference, _ = _compared()
    shift = 1e-4 * jnp.asarray(context.rng.normal(size=(1, 3)))
    near = qra.TabularPolicy(reference.pattern_logits + shift, reference.answer_logits)
    loss = _penalty_field(qra.KLEstimator(0.3, "k3", "loss"), near)
    exact = _penalty_field(qra.ReverseKL(0.3), near)
    return close(1.0, np.linalg.norm(loss) / np.linalg.norm(exact), atol=1e-3)


@claim(
    id="k3-loss-penalises-the-reverse-kl",
    source="arXiv 2402.03300, read as a penalty on KL(pi, pi_ref)",
    statement="GRPO's penalty, the unbiased k3 as a loss, regularises with KL(pi, pi_ref): its "
    "optimum is pi_ref exp(p / beta)",
    setting=f"{_CASE}, pi_ref = (.2, .3, .5), beta = .2: pi(r*) at rest",
    note="k3 is an unbiased estimate of the value, but its derivative with the samples held is not "
    "one of the gradient: its expectation is that of the forward KL (k3-loss-is-the-forward-kl), "
    "which comes to rest elsewhere (k3-loss-rests-elsewhere). The two agree near the reference "
    "only.",
)
def _(context: Context) -> Outcome:
    return close(_boltzmann(_REFERENCE, 0.2)[0], _penalised()["k3"][0], atol=1e-3)


@claim(
    id="k3-loss-is-the-forward-kl",
    source=_DERIVED,
    statement="k3 as a loss is the penalty KL(pi_ref, pi): patterns gain beta (pi_ref - pi)",
    setting=f"{_PAIR}: largest difference of velocities, from the forward KL's and the formula's",
    ours=True,
)
def _(context: Context) -> Outcome:
    loss = qra.KLEstimator(0.3, "k3", "loss")
    own, reference = (np.exp(one.log_probs()[0][0]) for one in _compared()[:2])
    formula = np.abs(_penalty_field(loss)[:3] - 0.3 * (reference - own)).max()
    return close(0.0, max(_apart(loss, qra.ForwardKL(0.3)), formula), atol=1e-12)


@claim(
    id="k3-loss-rests-elsewhere",
    source=_DERIVED,
    statement="with k3 as a loss the flow rests at pi = beta pi_ref / (beta + A - p)",
    setting=f"{_CASE}, pi_ref = (.2, .3, .5), beta = .2: largest difference",
    ours=True,
)
def _(context: Context) -> Outcome:
    rates = CHECK_RATES

    def probs(value):
        return 0.2 * np.array(_REFERENCE) / (0.2 + value - rates)

    value = _root(lambda v: probs(v).sum() - 1, 0.7 + 1e-9, 0.9)
    return close(0.0, np.abs(_penalised()["k3"] - probs(value)).max(), atol=1e-6)


@claim(
    id="k2-k3-in-the-reward-are-neither",
    source=_DERIVED,
    statement="k2 and k3 in the reward are the penalty of neither divergence",
    setting=f"{_PAIR}, beta = .3: least largest difference of velocities, above 1e-3",
    ours=True,
)
def _(context: Context) -> Outcome:
    least = min(
        _apart(qra.KLEstimator(0.3, kind, "reward"), divergence(0.3))
        for kind in ("k2", "k3")
        for divergence in (qra.ReverseKL, qra.ForwardKL)
    )
    return computed(1e-3, least, least > 1e-3)


@claim(
    id="grpo-with-kl-rests-implicitly",
    source=_DERIVED,
    statement="GRPO with a reverse KL rests at pi ~ pi_ref exp(p / (beta sqrt(A (1 - A)))), A its "
    "own",
    setting=f"{_CASE}, pi_ref = (.2, .3, .5), beta = .8: largest difference",
    ours=True,
)
def _(context: Context) -> Outcome:
    def probs(value):
        return _boltzmann(_REFERENCE, 0.8 * math.sqrt(value * (1 - value)))

    value = _root(lambda v: probs(v) @ CHECK_RATES - v, 0.2, 0.89)
    return close(0.0, np.abs(_penalised()["grpo"] - probs(value)).max(), atol=1e-6)


@once
def _with_entropy() -> np.ndarray:
    """Patterns under entropy regularisation, tau = .3, at t = 200, 300, 400, and at rest.

    It is the reverse KL to uniform patterns (entropy-bonus-is-a-kl).
    """
    log_times = [math.log(200), math.log(300), math.log(400), Settings().log_time]
    rows = [Settings(reverse_kl=0.3, log_time=log_time) for log_time in log_times]
    return stop(rows, reference=(1 / 3, 1 / 3, 1 / 3)).probs


@claim(
    id="entropy-bonus-is-a-kl",
    source=_DERIVED,
    statement="an entropy bonus adds tau pi_r (-log pi_r - H), as the reverse KL to uniform "
    "patterns",
    setting="a random policy, K = 3: largest difference of velocities of patterns",
    ours=True,
)
def _(context: Context) -> Outcome:
    policy, _, problem = _compared()
    uniform = qra.TabularPolicy(jnp.zeros((1, 3)), policy.answer_logits)
    fields = [
        velocity(
            qra.Objective(qra.PatternReward(np.zeros(3)), regularisers=(penalty,)),
            *(policy, problem, uniform),
        ).pattern_logits[0]
        for penalty in (qra.EntropyBonus(0.3), qra.ReverseKL(0.3))
    ]
    probs = np.exp(policy.log_probs()[0][0])
    entropy = -np.sum(probs * np.log(probs))
    formula = 0.3 * probs * (-np.log(probs) - entropy)
    return close(0.0, max(np.abs(field - formula).max() for field in fields), atol=1e-14)


@claim(
    id="entropy-bonus-rests",
    source=_DERIVED,
    statement="entropy regularisation rests at pi ~ exp(p / tau)",
    setting=f"{_CASE}, tau = .3: largest difference",
    ours=True,
)
def _(context: Context) -> Outcome:
    difference = np.abs(_with_entropy()[3] - _boltzmann(np.ones(3), 0.3))
    return close(0.0, difference.max(), atol=1e-6)


@claim(
    id="entropy-gives-a-linear-rate",
    source="arXiv 2005.06392",
    statement="with entropy regularisation softmax policy gradient converges like e^(-ct)",
    setting=f"{_CASE}, tau = .3: decay of log |pi - pi_end| from t = 300 to 400, over that from "
    "200 to 300",
)
def _(context: Context) -> Outcome:
    found, end = _with_entropy()[:3], _boltzmann(np.ones(3), 0.3)
    first, second = np.diff(np.log(np.linalg.norm(found - end, axis=1)))
    return close(1.0, second / first, atol=0.02)


@claim(
    id="natural-gradient-with-kl",
    source=_DERIVED,
    statement="natural gradient with a reverse KL, e = exp(-beta t): "
    "pi_ref^(1-e) pi_0^e exp((1 - e) p / beta)",
    setting=f"{_CASE}, pi_ref = (.2, .3, .5), beta = .25, t = .5, 2, 8: largest difference",
    ours=True,
)
def _(context: Context) -> Outcome:
    worst = 0.0
    for time in (0.5, 2, 8):
        e = math.exp(-0.25 * time)
        logs = (1 - e) * (np.log(_REFERENCE) + CHECK_RATES / 0.25)
        weights = np.exp(logs + e * np.log(CHECK_PROBS))
        found = _penalised()[f"natural, {str(time).lstrip('0')}"]
        worst = max(worst, np.abs(found - weights / weights.sum()).max())
    return close(0.0, worst, atol=1e-7)


# Iterations of optimal policies


_EPS = 1e-2
"""What the iteration of GRPO adds to the variance."""


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _best_response(reference: qra.TabularPolicy, problem: qra.Problem, beta: float):
    """The policy of largest reward less beta KL to a reference, patterns and answers free."""
    return qra.optimal_policy(reference, qra.GradientFlow(qra.RLVR(beta), problem, "all"))


@once
def _grpo_iterates() -> tuple[float, list[tuple[float, float]]]:
    """Of GRPO's iteration with beta = 1: the reference's success probability, and those of the
    iterates, by best responses and by the recurrence."""
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    start = p = float(qra.mean_accuracy(policy, problem))
    found, formula = [], p
    for _ in range(40):
        # The standardised reward is the reward over its deviation, up to a constant.
        response = _best_response(policy, problem, math.sqrt(p * (1 - p) + _EPS))
        p = float(qra.mean_accuracy(response, problem))
        odds = _logit(start) + 1 / math.sqrt(formula * (1 - formula) + _EPS)
        formula = 1 / (1 + math.exp(-odds))
        found.append((p, formula))
    return start, found


@claim(
    id="grpo-iteration",
    source="arXiv 2503.06639, as summarised",
    statement="best responses to GRPO's objective: logit p_n = logit p_ref + "
    "1/(beta sqrt(p_(n-1) (1 - p_(n-1)) + eps))",
    setting=f"{_CASE}, answers free, beta = 1, eps = .01, 40 iterations: largest difference of p",
)
def _(context: Context) -> Outcome:
    _, pairs = _grpo_iterates()
    return close(0.0, max(abs(one - other) for one, other in pairs), atol=1e-9)


@claim(
    id="grpo-iteration-amplifies",
    source="arXiv 2503.06639",
    statement="the iteration converges to a fixed point above the reference's success probability",
    setting=f"{_CASE}, beta = 1, eps = .01: p after 40 iterations, against p_ref; settled to 1e-6",
)
def _(context: Context) -> Outcome:
    start, pairs = _grpo_iterates()
    end = pairs[-1][0]
    return computed(start, end, end > start and abs(end - pairs[-2][0]) < 1e-6)


@claim(
    id="mean-only-response",
    source="arXiv 2503.06639, as summarised",
    statement="with the mean only, not the deviation, logit p = logit p_ref + 1/beta",
    setting=f"{_CASE}, answers free, beta = .5",
)
def _(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    found = float(qra.mean_accuracy(_best_response(policy, problem, 0.5), problem))
    return close(_logit(np.dot(CHECK_PROBS, CHECK_RATES)) + 2, _logit(found), atol=1e-10)


# Identities along the flow


@once
def _rates_of_change() -> np.ndarray:
    """At random policies, for policy gradients and natural ones: the changes of logit A and H, and
    what the identities have for them, `(2, 8, 4)`."""
    _, _, problem = _compared()
    rng = Context(False, 0, "identities").rng
    logits, answers = rng.normal(size=(8, 1, 3)), rng.normal(size=(8, 1, 3, 2))

    def at(geometry, logits, answers):
        policy = qra.TabularPolicy(logits, answers)
        flow = qra.GradientFlow(qra.RLVR(), problem, "all", geometry)
        speed = flow.velocity(*flow.split(policy), policy)

        def seen(policy):
            return jax.scipy.special.logit(qra.accuracy(policy, problem)[0]), policy.entropy()[0]

        _, changes = jax.jvp(seen, (policy,), (speed,))

        def mean_score(answer):
            """The inner product of the velocity with the mean score, given the answer."""
            held = jax.lax.stop_gradient(policy)

            def log_prob(policy):
                patterns, own = policy.log_probs()
                given = jax.nn.softmax(sum_of(held, answer)[0])
                return jnp.sum(given * (patterns + own[..., answer])[0])

            return jax.jvp(log_prob, (policy,), (speed,))[1]

        def sum_of(policy, answer):
            patterns, own = policy.log_probs()
            return patterns + own[..., answer]

        probs = jnp.exp(policy.log_probs()[0][0])
        moved = qra.advantage(policy, problem)[0] * (probs if geometry == "euclidean" else 1)
        surprise = jnp.log(probs) - jnp.sum(probs * jnp.log(probs))
        covariance = jnp.sum(probs * surprise * moved)
        return jnp.stack([*changes, mean_score(0) - mean_score(1), -covariance])

    return np.array(
        [
            jax.jit(jax.vmap(lambda *x, g=g: at(g, *x)))(logits, answers)
            for g in ("euclidean", "natural")
        ]
    )


@claim(
    id="gradient-gap",
    source="arXiv 2510.08539, as summarised",
    statement="d logit A/dt is the inner product of d theta/dt with the gradient gap, the mean "
    "score "
    "of right samples less that of wrong ones",
    setting="8 random policies, K = 3, both geometries, all trained: largest difference",
)
def _(context: Context) -> Outcome:
    found = _rates_of_change()
    return close(0.0, np.abs(found[..., 0] - found[..., 2]).max(), atol=1e-10)


@claim(
    id="entropy-mechanism",
    source="arXiv 2505.22617, as summarised",
    statement="entropy changes by minus the covariance of log pi and the change of logits: "
    "-Cov(log pi, pi A) for policy gradients, -Cov(log pi, A) for natural ones",
    setting="8 random policies, K = 3: largest difference of dH/dt",
)
def _(context: Context) -> Outcome:
    found = _rates_of_change()
    return close(0.0, np.abs(found[..., 1] - found[..., 3]).max(), atol=1e-10)


@claim(
    id="nothing-to-learn",
    source=_DERIVED,
    statement="where all success rates are 0, or all are 1, clocks of GRPO, likelihood and Tsallis "
    "are infinite or 0/0, the gradient is 0, and the flow rests",
    setting="both cases, nine utilities, t = e^20: largest change of log pi",
    ours=True,
)
def _(context: Context) -> Outcome:
    starts = [CHECK_PROBS] * 18
    rates = [(0.0,) * 3] * 9 + [(1.0,) * 3] * 9
    log_probs = follow(starts, rates, np.linspace(0, 20, ROWS), np.tile(np.arange(9), 2)).log_probs
    return close(0.0, np.abs(log_probs[:, -1, :3] - np.log(CHECK_PROBS)).max(), atol=1e-13)
