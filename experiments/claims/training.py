"""Training in steps and from samples, against the flow."""

import functools

import jax
import numpy as np
import optax

import qra_jax as qra

from .._lab.claim import Outcome, close, estimate
from ._ledger import Context, Subject, once
from ._shared import CASE
from ._solves import CHECK_PROBS, CHECK_RATES, ROWS, follow

DERIVED = "derived in docs/objectives.md#optimiser-and-samples"

SUBJECT = Subject("Training in steps")
claim = SUBJECT.claim


_SIZES = np.array([1.0, 0.5, 0.25, 0.125, 0.1])


@once
def _exact_steps() -> np.ndarray:
    """Patterns of the check case after 0 to 160 exact steps of each of `_SIZES`."""
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)

    def run(size):
        return qra.train(policy, problem, optax.sgd(size), 160, rows=161).pattern_probs[:, 0]

    return np.asarray(jax.jit(jax.vmap(run))(_SIZES))


@claim(
    id="steps-approach-the-flow",
    source=DERIVED,
    statement="exact gradient steps approach the flow at order 1 in the step size",
    setting=f"{CASE}, t = 20, steps of 1, .5, .25, .125: exponent of the largest difference",
    ours=True,
)
def steps_approach_the_flow(context: Context) -> Outcome:
    sizes = _SIZES[:4]
    found = _exact_steps()[np.arange(4), np.round(20 / sizes).astype(int)]
    log_times = np.linspace(0, np.log(20), ROWS)
    exact = np.exp(follow(CHECK_PROBS, CHECK_RATES, log_times).log_probs[0, -1, :3])
    errors = np.abs(found - exact).max(axis=1)
    return close(1.0, np.polyfit(np.log(sizes), np.log(errors), 1)[0], atol=0.1)


@claim(
    id="natural-steps-are-multiplicative-weights",
    source="arXiv 1908.00261",
    statement="steps of natural policy gradient are multiplicative weights, pi_n ~ pi_0 exp(n eta "
    "R), "
    "however large they are",
    setting=f"{CASE}, 8 steps of eta = 2: largest difference",
)
def natural_steps_are_multiplicative_weights(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    flow = qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural())
    found = qra.train(policy, flow, optax.sgd(2.0), 8).pattern_probs[:, 0]
    weights = CHECK_PROBS * np.exp(2.0 * np.arange(9)[:, None] * CHECK_RATES)
    expected = weights / weights.sum(axis=1, keepdims=True)
    return close(0.0, np.abs(np.asarray(found) - expected).max(), atol=1e-12)


_STEPS = 100


@once
def _spreads(seed: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Spread and mean of accuracy over seeds after steps of .1, for `_GROUPS`."""
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    keys = jax.random.split(Context(False, seed, "sampled runs").key, seeds)

    @functools.partial(jax.jit, static_argnums=0)
    def runs(group):
        sampler = qra.SampledGroups(group, estimator=qra.RLOO())

        def run(key):
            end = qra.train(
                policy, problem, optax.sgd(0.1), _STEPS, sampler=sampler, key=key, rows=2
            )
            return end.accuracy[-1]

        return jax.vmap(run)(keys)

    found = np.array([runs(group) for group in _GROUPS])
    return found.std(axis=1, ddof=1), found.mean(axis=1)


_GROUPS = (16, 128)


@claim(
    id="sampled-steps-follow-exact-ones",
    source=DERIVED,
    statement="in the mean, small sampled steps follow exact steps",
    setting=f"{CASE}, RLOO, groups of 128, 100 steps of .1, 512 seeds (quick: 256): mean accuracy",
    ours=True,
)
def sampled_steps_follow_exact_ones(context: Context) -> Outcome:
    seeds = context.size(512, 256)
    spread, mean = _spreads(context.seed, seeds)
    exact = _exact_steps()[4, _STEPS] @ CHECK_RATES
    return estimate(exact, mean[1], spread[1] / np.sqrt(seeds), margin=0.002)


@claim(
    id="noise-of-groups",
    source=DERIVED,
    statement="the spread of sampled runs over seeds falls like (step size / group size)^(1/2)",
    setting=f"{CASE}, RLOO, steps of .1, t = 10, groups of 16 and 128, 512 seeds (quick: 256)",
    ours=True,
)
def noise_of_groups(context: Context) -> Outcome:
    seeds = context.size(512, 256)
    spread, _ = _spreads(context.seed, seeds)
    ratio = np.log(_GROUPS[1] / _GROUPS[0])
    # Of a normal sample the logarithm of the deviation has the variance 1 / (2 (n - 1)).
    error = np.sqrt(2 / (2 * (seeds - 1))) / ratio
    return estimate(0.5, np.log(spread[0] / spread[1]) / ratio, error, margin=0.2)


_RARE = np.array([1e-8, 1e-7, 1e-6])


@claim(
    id="adam-moves-with-the-square-root",
    source="derived in docs/training.md#the-end-of-entanglement-under-adam",
    statement="where noise dominates, Adam takes steps in proportion to pi^(-1/2) to raise a rare "
    "best pattern of share pi, and the gradient flow time in proportion to pi^(-1)",
    setting="p = (.9, .7), pi = 1e-8, 1e-7, 1e-6, RLOO, 32 groups of 8, Adam of .05 with beta_2 = "
    ".99, in the mean: exponent of the steps to ten times the share (by the flow -1); range: "
    "N pi (p - V)^2 far below s^2",
    ours=True,
)
def adam_moves_with_the_square_root(context: Context) -> Outcome:
    sampler = qra.SampledGroups(8, batch=32, estimator=qra.RLOO())
    adam = qra.training.MeanFieldAdam(0.05, b2=0.99, eps=0.0)
    rows, taken = np.geomspace(10, 1e5, 400), []
    for share in _RARE:
        policy, problem = qra.two_stage(np.array([share, 1 - share]), np.array([0.9, 0.7]))
        run = qra.training.solve_mean_field(policy, problem, sampler, adam, steps=rows)
        risen = np.log(np.asarray(run.pattern_probs)[:, 0, 0] / share)
        taken.append(np.interp(np.log(10), risen, rows))
    return close(-0.5, np.polyfit(np.log(_RARE), np.log(taken), 1)[0], atol=0.01)
