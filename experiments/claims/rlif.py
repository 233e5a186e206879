"""Rewards that a model gives itself (RLIF): self-certainty."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close, share
from .._lab.rlif_questions import draw_rates
from ._ledger import Context, Subject, once
from ._shared import INTERNAL, PAPER, random_policy, tables
from ._solves import velocity

DERIVED = "derived in docs/laws.md#internal-rewards-with-many-patterns"

SUBJECT = Subject(INTERNAL)
claim = SUBJECT.claim


@claim(
    id="self-certainty-is-a-divergence",
    source="arXiv 2505.19590",
    statement="self-certainty is the divergence KL(uniform, pi(.|q,r)) of the answers",
    setting="a random policy, three patterns, three answers: largest difference of pattern values",
)
def self_certainty_is_a_divergence(context: Context) -> Outcome:
    policy, problem = random_policy(context)
    found = policy.pattern_table(problem, qra.SelfCertainty())[1][0]
    _, answers = tables(policy)
    divergence = np.mean(np.log(1 / 3) - np.log(answers), axis=1)
    return close(0.0, np.abs(found - divergence).max(), atol=1e-14)


@claim(
    id="self-certainty-is-blind",
    source=PAPER.format("section 3"),
    statement="the reward cannot tell right from wrong: exchanging the answers keeps it and "
    "reverses the slope of accuracy",
    setting="a random policy, two answers: change of the velocity, and the sum of both slopes; the "
    "larger size",
)
def self_certainty_is_blind(context: Context) -> Outcome:
    policy, _ = random_policy(context, answers=2)
    slopes, fields = [], []
    for right in (0, 1):
        problem = qra.Problem(np.array([right]))
        speed = velocity(qra.RLIF(), policy, problem)
        fields.append(speed.pattern_logits)
        seen = jax.jvp(
            lambda p, problem=problem: qra.mean_accuracy(p, problem), (policy,), (speed,)
        )
        slopes.append(float(seen[1]))
    worst = max(float(abs(fields[0] - fields[1]).max()), abs(sum(slopes)))
    return close(0.0, worst, atol=1e-14)


@claim(
    id="self-certainty-moves-no-answer",
    source=DERIVED,
    statement="held constant in the gradient, self-certainty does not move the answers: success "
    "rates stay fixed (Assumption 5.1) though answers are trained",
    setting="a random policy, three answers: largest velocity of an answer logit",
    ours=True,
)
def self_certainty_moves_no_answer(context: Context) -> Outcome:
    found = velocity(qra.RLIF(), *random_policy(context)).answer_logits
    return close(0.0, float(abs(found).max()), atol=1e-15)


# Theorem 5.6

_SMALL, _LARGE = 100, 10_000


class _Ensemble(NamedTuple):
    """Random questions of two answers, patterns equally likely; an array over draws each."""

    rises: np.ndarray
    """dV/dt > 0 at t = 0, the reward held constant"""
    rises_through: np.ndarray
    """the same with the reward differentiated through, answers trained"""
    start: np.ndarray
    """accuracy at t = 0"""
    end: np.ndarray
    """success rate of the pattern of highest self-certainty, where the flow ends"""
    lowest: np.ndarray
    """the lowest success rate"""
    mostly_right: np.ndarray
    """most patterns have p > 1/2"""

    def given(self, condition: np.ndarray) -> "_Ensemble":
        """The draws of which something holds."""
        return _Ensemble(*(column[condition] for column in self))


def _question(key, size, tilt, padded: int) -> tuple:
    exists = jnp.arange(padded) < size
    rates = jnp.where(exists, draw_rates(key, padded, tilt), 0.5)
    policy, problem = qra.two_stage(jnp.where(exists, 1 / size, 0), rates)

    def slope(through):
        objective = qra.Objective(qra.SelfCertainty(), differentiate_reward=through)
        speed = velocity(objective, policy, problem)
        return jax.jvp(lambda policy: qra.mean_accuracy(policy, problem), (policy,), (speed,))[1]

    certainty = policy.pattern_table(problem, qra.SelfCertainty())[1][0]
    return (
        slope(False) > 0,
        slope(True) > 0,
        qra.mean_accuracy(policy, problem),
        rates[jnp.argmax(jnp.where(exists, certainty, -1))],
        jnp.min(jnp.where(exists, rates, 1)),
        jnp.sum(exists & (rates > 0.5)) > size / 2,
    )


def _map_questions(keys, size, tilt, padded: int) -> tuple:
    return jax.lax.map(lambda key: _question(key, size, tilt, padded), keys, batch_size=16)


_questions = jax.jit(_map_questions, static_argnums=3)


@once
def _ensemble(seed: int, size: int, tilt: float, draws: int) -> _Ensemble:
    """Random questions of `size` patterns whose success rates have the density 1 + tilt (2p - 1);
    the same for all claims that ask for them."""
    key = Context(False, seed, f"questions of {size} patterns, tilt {tilt}").key
    padded = _SMALL if size <= _SMALL else size
    found = _questions(jax.random.split(key, draws), size, tilt, padded)
    return _Ensemble(*(np.asarray(column) for column in found))


def _many(context: Context, size: int = _LARGE, tilt: float = 0.0) -> _Ensemble:
    full, quick = (4000, 1000) if size == _LARGE else (16_000, 4000)
    return _ensemble(context.seed, size, tilt, context.size(full, quick))


def _right(found: _Ensemble, reading: str) -> _Ensemble:
    """The draws whose majority is right: in the mean of p, or in the number of p > 1/2."""
    return found.given(found.start > 0.5 if reading == "mean" else found.mostly_right)


def _share_of(predicted: float, happens: np.ndarray, margin: float = 0.15) -> Outcome:
    return share(predicted, int(happens.sum()), happens.size, margin)


_UNIFORM = "R = 10^4, p uniform on [0, 1], 4,000 draws (quick: 1,000)"


@claim(
    id="rlif-rises-for-certain",
    source=PAPER.format("Thm. 5.6"),
    statement="if the majority is right, accuracy rises at t = 0 with probability 1 as R -> "
    "infinity",
    setting=f"{_UNIFORM}; right: mean p > 1/2",
    note="At a uniform start dV/dt is the covariance of p and the reward. Given mean p > 1/2 it is "
    "asymptotically normal with a correlation of .527 only, hence .677, whatever R "
    "(rlif-rise-given-mean). A mean that exceeds 1/2 by a margin that does not shrink with R does "
    "make the rise certain (rlif-rise-given-a-margin).",
)
def rlif_rises_for_certain(context: Context) -> Outcome:
    return _share_of(1.0, _right(_many(context), "mean").rises)


@claim(
    id="rlif-rises-for-certain-by-count",
    source=PAPER.format("Thm. 5.6"),
    statement="the same, the majority being that of patterns",
    setting=f"{_UNIFORM}; right: most patterns have p > 1/2",
    note="The count of right patterns says less of the slope than the mean does: the limit is .585 "
    "(rlif-rise-given-count).",
)
def rlif_rises_for_certain_by_count(context: Context) -> Outcome:
    return _share_of(1.0, _right(_many(context), "count").rises)


@claim(
    id="rlif-rises-if-every-pattern-is-right",
    source=PAPER.format("Assumption 5.5, read for every pattern"),
    statement="if the right answer is the most probable one in every pattern, accuracy rises at "
    "t = 0 with probability 1, for every R",
    setting="R = 3, p uniform on [0, 1], 16,000 draws (quick: 4,000); right: every p > 1/2",
    note="Above 1/2 self-certainty rises with p, and two functions that rise with p have a "
    "covariance above 0 (Chebyshev's sum inequality): no limit in R is needed. This reading of the "
    "assumption makes the theorem true; that of the mean does not (rlif-rises-for-certain).",
)
def rlif_rises_if_every_pattern_is_right(context: Context) -> Outcome:
    found = _many(context, 3)
    return _share_of(1.0, found.given(found.lowest > 0.5).rises)


@claim(
    id="rlif-rise-given-mean",
    source=DERIVED,
    statement="P(accuracy rises at t = 0 | mean p > 1/2) -> 1/2 + arcsin(.5272)/pi = .6768",
    setting=_UNIFORM,
    ours=True,
)
def rlif_rise_given_mean(context: Context) -> Outcome:
    return _share_of(0.6768, _right(_many(context), "mean").rises)


@claim(
    id="rlif-rise-given-count",
    source=DERIVED,
    statement="P(accuracy rises at t = 0 | most p > 1/2) -> .585",
    setting=_UNIFORM,
    ours=True,
)
def rlif_rise_given_count(context: Context) -> Outcome:
    return _share_of(0.5852, _right(_many(context), "count").rises)


@claim(
    id="rlif-rise-differentiated",
    source=DERIVED,
    statement="with the reward differentiated through, answers trained too, "
    "P(accuracy rises at t = 0 | mean p > 1/2) -> .784: not 1 either",
    setting=_UNIFORM,
    ours=True,
    note="Answers then move at pi(r) (q - 1/2), and a pattern adds (p - 1/2)(W - mean W) + "
    "p (1 - p)(2p - 1) to the slope, whose correlation with p is .778: 1/2 + arcsin(.778)/pi.",
)
def rlif_rise_differentiated(context: Context) -> Outcome:
    return _share_of(0.784, _right(_many(context), "mean").rises_through)


@claim(
    id="rlif-rise-unconditional",
    source=DERIVED,
    statement="without a condition P(accuracy rises at t = 0) = 1/2: exchanging the answers "
    "reverses "
    "the slope",
    setting=_UNIFORM,
    ours=True,
)
def rlif_rise_unconditional(context: Context) -> Outcome:
    return _share_of(0.5, _many(context).rises)


@claim(
    id="rlif-rise-given-a-margin",
    source=DERIVED,
    statement="a margin that does not shrink with R makes the rise certain as R grows: a tilt of "
    ".3 "
    "(mean p = .55) gives .9985 at R = 1000",
    setting="R = 1000, 16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_rise_given_a_margin(context: Context) -> Outcome:
    return _share_of(0.9985, _many(context, 1000, 0.3).rises)


@claim(
    id="rlif-rise-with-tilt-100",
    source=DERIVED,
    statement="at tilt .1 P(accuracy rises at t = 0) is Phi(sqrt(R) mu/sigma): .6199 at R = 100",
    setting="16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_rise_with_tilt_100(context: Context) -> Outcome:
    return _share_of(0.6199, _many(context, 100, 0.1).rises)


@claim(
    id="rlif-rise-with-tilt-1000",
    source=DERIVED,
    statement="the same is .8329 at R = 1000",
    setting="16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_rise_with_tilt_1000(context: Context) -> Outcome:
    return _share_of(0.8329, _many(context, 1000, 0.1).rises)


@claim(
    id="rlif-ends-at-the-worst-by-half",
    source=PAPER.format("Thm. 5.6"),
    statement="with probability 1/2 the pattern of highest reward is the worst one",
    setting=f"{_UNIFORM}, given mean p > 1/2",
)
def rlif_ends_at_the_worst_by_half(context: Context) -> Outcome:
    found = _right(_many(context), "mean")
    return _share_of(0.5, found.end == found.lowest)


@claim(
    id="rlif-simulation",
    source=PAPER.format("simulation"),
    statement="of their runs (R = 1e3, 1e4) 48.7 % ended improved",
    setting=f"{_UNIFORM}, given mean p > 1/2; how many runs theirs is a share of is not known here",
)
def rlif_simulation(context: Context) -> Outcome:
    found = _right(_many(context), "mean")
    return _share_of(0.487, found.end > found.start)


@claim(
    id="rlif-end-given-mean",
    source=DERIVED,
    statement="at finite R a right majority favours a good end: "
    "P(end above start | mean p > 1/2) = Phi(sqrt(3/R)), .569 at R = 100",
    setting="R = 100, p uniform, 16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_end_given_mean(context: Context) -> Outcome:
    found = _right(_many(context, 100), "mean")
    phi = (1 + math.erf(math.sqrt(3 / 100) / math.sqrt(2))) / 2
    return _share_of(phi, found.end > found.start)


@claim(
    id="rlif-end-with-tilt",
    source=DERIVED,
    statement="P(end below start) = (1 - tilt R/(R + 1))/2, exactly: .27273 at tilt .5, R = 10",
    setting="16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_end_with_tilt(context: Context) -> Outcome:
    found = _many(context, 10, 0.5)
    return _share_of((1 - 0.5 * 10 / 11) / 2, found.end < found.start)


@claim(
    id="rlif-worst-with-tilt",
    source=DERIVED,
    statement="P(the pattern of highest reward is the worst) -> (1 - tilt)/2",
    setting="tilt .1, R = 1000, 16,000 draws (quick: 4,000)",
    ours=True,
)
def rlif_worst_with_tilt(context: Context) -> Outcome:
    found = _many(context, 1000, 0.1)
    return _share_of(0.45, found.end == found.lowest)
