"""Iterations of optimal policies, and identities along the flow."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._shared import CASE, random_pair
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    ROWS,
    follow,
)

DERIVED = "derived in docs/objectives.md#where-the-flow-stops-predicting-the-run"

SUBJECT = Subject("Iterations and identities")
claim = SUBJECT.claim

# Iterations of optimal policies


_EPS = 1e-2
"""What the iteration of GRPO adds to the variance."""


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _best_response(reference: qra.TabularPolicy, problem: qra.Problem, beta: float):
    """The policy of largest reward less beta KL to a reference, patterns and answers free."""
    return qra.laws.optimal_policy(reference, qra.GradientFlow(qra.RLVR(beta), problem, "all"))


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
    setting=f"{CASE}, answers free, beta = 1, eps = .01, 40 iterations: largest difference of p",
)
def grpo_iteration(context: Context) -> Outcome:
    _, pairs = _grpo_iterates()
    return close(0.0, max(abs(one - other) for one, other in pairs), atol=1e-9)


@claim(
    id="grpo-iteration-amplifies",
    source="arXiv 2503.06639",
    statement="the iteration converges to a fixed point above the reference's success probability",
    setting=f"{CASE}, beta = 1, eps = .01: p after 40 iterations, against p_ref; settled to 1e-6",
)
def grpo_iteration_amplifies(context: Context) -> Outcome:
    start, pairs = _grpo_iterates()
    end = pairs[-1][0]
    return computed(start, end, end > start and abs(end - pairs[-2][0]) < 1e-6)


@claim(
    id="mean-only-response",
    source="arXiv 2503.06639, as summarised",
    statement="with the mean only, not the deviation, logit p = logit p_ref + 1/beta",
    setting=f"{CASE}, answers free, beta = .5",
)
def mean_only_response(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    found = float(qra.mean_accuracy(_best_response(policy, problem, 0.5), problem))
    return close(_logit(np.dot(CHECK_PROBS, CHECK_RATES)) + 2, _logit(found), atol=1e-10)


# Identities along the flow


@once
def _rates_of_change() -> np.ndarray:
    """At random policies, for policy gradients and natural ones: the changes of logit A and H, and
    what the identities have for them, `(2, 8, 4)`."""
    _, _, problem = random_pair()
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
        moved = qra.objectives.advantage(policy, problem)[0] * (
            probs if geometry == qra.Euclidean() else 1
        )
        surprise = jnp.log(probs) - jnp.sum(probs * jnp.log(probs))
        covariance = jnp.sum(probs * surprise * moved)
        return jnp.stack([*changes, mean_score(0) - mean_score(1), -covariance])

    return np.array(
        [
            jax.jit(jax.vmap(lambda *x, g=g: at(g, *x)))(logits, answers)
            for g in (qra.Euclidean(), qra.Natural())
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
def gradient_gap(context: Context) -> Outcome:
    found = _rates_of_change()
    return close(0.0, np.abs(found[..., 0] - found[..., 2]).max(), atol=1e-10)


@claim(
    id="entropy-mechanism",
    source="arXiv 2505.22617, as summarised",
    statement="entropy changes by minus the covariance of log pi and the change of logits: "
    "-Cov(log pi, pi A) for policy gradients, -Cov(log pi, A) for natural ones",
    setting="8 random policies, K = 3: largest difference of dH/dt",
)
def entropy_mechanism(context: Context) -> Outcome:
    found = _rates_of_change()
    return close(0.0, np.abs(found[..., 1] - found[..., 3]).max(), atol=1e-10)


@claim(
    id="nothing-to-learn",
    source=DERIVED,
    statement="where all success rates are 0, or all are 1, clocks of GRPO, likelihood and Tsallis "
    "are infinite or 0/0, the gradient is 0, and the flow rests",
    setting="both cases, nine utilities, t = e^20: largest change of log pi",
    ours=True,
)
def nothing_to_learn(context: Context) -> Outcome:
    starts = [CHECK_PROBS] * 18
    rates = [(0.0,) * 3] * 9 + [(1.0,) * 3] * 9
    log_probs = follow(starts, rates, np.linspace(0, 20, ROWS), np.tile(np.arange(9), 2)).log_probs
    return close(0.0, np.abs(log_probs[:, -1, :3] - np.log(CHECK_PROBS)).max(), atol=1e-13)
