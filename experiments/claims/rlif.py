"""Rewards that a model gives itself (RLIF)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import DERIVED, Outcome, close, share
from .._lab.rlif_questions import draw_rates
from ._ledger import Context, Subject, once
from ._shared import PAPER
from ._solves import velocity

SUBJECT = Subject("Internal rewards (RLIF)")
claim = SUBJECT.claim

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


# What self-certainty is


def _random_policy(context: Context, answers: int = 3) -> tuple[qra.TabularPolicy, qra.Problem]:
    rng = context.named("policy").rng
    policy = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, answers)))
    return policy, qra.Problem(np.array([0]))


def _tables(policy: qra.TabularPolicy) -> tuple[np.ndarray, np.ndarray]:
    """pi(r) and pi(a|r)."""
    patterns, answers = policy.log_probs()
    return np.exp(patterns[0]), np.exp(answers[0])


@claim(
    id="self-certainty-is-a-divergence",
    source="arXiv 2505.19590",
    statement="self-certainty is the divergence KL(uniform, pi(.|q,r)) of the answers",
    setting="a random policy, three patterns, three answers: largest difference of pattern values",
)
def _(context: Context) -> Outcome:
    policy, problem = _random_policy(context)
    found = policy.pattern_table(problem, qra.SelfCertainty())[1][0]
    _, answers = _tables(policy)
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
def _(context: Context) -> Outcome:
    policy, _ = _random_policy(context, answers=2)
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
def _(context: Context) -> Outcome:
    found = velocity(qra.RLIF(), *_random_policy(context)).answer_logits
    return close(0.0, float(abs(found).max()), atol=1e-15)


# Theorem 5.6


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
def _(context: Context) -> Outcome:
    return _share_of(1.0, _right(_many(context), "mean").rises)


@claim(
    id="rlif-rises-for-certain-by-count",
    source=PAPER.format("Thm. 5.6"),
    statement="the same, the majority being that of patterns",
    setting=f"{_UNIFORM}; right: most patterns have p > 1/2",
    note="The count of right patterns says less of the slope than the mean does: the limit is .585 "
    "(rlif-rise-given-count).",
)
def _(context: Context) -> Outcome:
    return _share_of(1.0, _right(_many(context), "count").rises)


@claim(
    id="rlif-rise-given-mean",
    source=DERIVED,
    statement="P(accuracy rises at t = 0 | mean p > 1/2) -> 1/2 + arcsin(.5272)/pi = .6768",
    setting=_UNIFORM,
    ours=True,
)
def _(context: Context) -> Outcome:
    return _share_of(0.6768, _right(_many(context), "mean").rises)


@claim(
    id="rlif-rise-given-count",
    source=DERIVED,
    statement="P(accuracy rises at t = 0 | most p > 1/2) -> .585",
    setting=_UNIFORM,
    ours=True,
)
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
    return _share_of(0.9985, _many(context, 1000, 0.3).rises)


@claim(
    id="rlif-rise-with-tilt-100",
    source=DERIVED,
    statement="at tilt .1 P(accuracy rises at t = 0) is Phi(sqrt(R) mu/sigma): .6199 at R = 100",
    setting="16,000 draws (quick: 4,000)",
    ours=True,
)
def _(context: Context) -> Outcome:
    return _share_of(0.6199, _many(context, 100, 0.1).rises)


@claim(
    id="rlif-rise-with-tilt-1000",
    source=DERIVED,
    statement="the same is .8329 at R = 1000",
    setting="16,000 draws (quick: 4,000)",
    ours=True,
)
def _(context: Context) -> Outcome:
    return _share_of(0.8329, _many(context, 1000, 0.1).rises)


@claim(
    id="rlif-ends-at-the-worst-by-half",
    source=PAPER.format("Thm. 5.6"),
    statement="with probability 1/2 the pattern of highest reward is the worst one",
    setting=f"{_UNIFORM}, given mean p > 1/2",
)
def _(context: Context) -> Outcome:
    found = _right(_many(context), "mean")
    return _share_of(0.5, found.end == found.lowest)


@claim(
    id="rlif-simulation",
    source=PAPER.format("simulation"),
    statement="of their runs (R = 1e3, 1e4) 48.7 % ended improved",
    setting=f"{_UNIFORM}, given mean p > 1/2; how many runs theirs is a share of is not known here",
)
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
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
def _(context: Context) -> Outcome:
    found = _many(context, 10, 0.5)
    return _share_of((1 - 0.5 * 10 / 11) / 2, found.end < found.start)


@claim(
    id="rlif-worst-with-tilt",
    source=DERIVED,
    statement="P(the pattern of highest reward is the worst) -> (1 - tilt)/2",
    setting="tilt .1, R = 1000, 16,000 draws (quick: 4,000)",
    ours=True,
)
def _(context: Context) -> Outcome:
    found = _many(context, 1000, 0.1)
    return _share_of(0.45, found.end == found.lowest)


# The table of internal rewards


def _pattern_values(
    policy: qra.TabularPolicy,
) -> list[tuple[qra.objectives.AbstractReward, np.ndarray]]:
    """What each reward is worth to a pattern, up to a constant."""
    pi, q = _tables(policy)
    entropy = -np.sum(q * np.log(q), axis=1)
    ordered, share_of = np.sort(q, axis=1), pi @ q
    return [
        (qra.SelfCertainty(), -np.mean(np.log(q), axis=1)),
        (qra.objectives.TrajectoryEntropy(), (np.log(pi) - entropy) / 2),
        (qra.objectives.TokenEntropy(), -entropy / 2),
        (qra.objectives.TopTwoMargin(), ordered[:, -1] - ordered[:, -2]),
        (qra.objectives.SequenceProbability(), pi * np.sum(q**2, axis=1)),
        (qra.objectives.SelfConsistency(), q @ share_of),
        (qra.objectives.MajorityVote(), q[:, np.argmax(share_of)]),
        (qra.objectives.ReferenceProbability(), q[:, 0]),
    ]


@claim(
    id="internal-rewards-are-replicators",
    source=DERIVED,
    statement="held constant, each internal reward moves patterns by pi_r (W_r - mean W), W in "
    "closed form",
    setting="eight rewards, a random policy, three answers: largest difference of velocities",
    ours=True,
)
def _(context: Context) -> Outcome:
    policy, problem = _random_policy(context)
    pi, _ = _tables(policy)
    worst = 0.0
    for reward, values in _pattern_values(policy):
        found = velocity(qra.Objective(reward), policy, problem).pattern_logits[0]
        worst = max(worst, np.abs(found - pi * (values - pi @ values)).max())
    return close(0.0, worst, atol=1e-14)


@claim(
    id="differentiating-doubles",
    source=DERIVED,
    statement="differentiated through, sequence probability and soft self-consistency move "
    "patterns "
    "and answers twice as fast, trajectory entropy just as fast",
    setting="a random policy, three answers: largest difference of velocities",
    ours=True,
)
def _(context: Context) -> Outcome:
    at, worst = _random_policy(context), 0.0
    for reward, factor in (
        (qra.objectives.SequenceProbability(), 2),
        (qra.objectives.SelfConsistency(), 2),
        (qra.objectives.TrajectoryEntropy(), 1),
    ):
        held, through = (
            velocity(qra.Objective(reward, differentiate_reward=whether), *at)
            for whether in (False, True)
        )
        for one, other in (
            (held.pattern_logits, through.pattern_logits),
            (held.answer_logits, through.answer_logits),
        ):
            worst = max(worst, float(abs(factor * one - other).max()))
    return close(0.0, worst, atol=1e-14)


@claim(
    id="reference-probability-is-rlvr",
    source=DERIVED,
    statement="rewarding the probability of the reference answer moves patterns exactly as RLVR",
    setting="a random policy, three answers: largest difference of velocities",
    ours=True,
)
def _(context: Context) -> Outcome:
    policy, problem = _random_policy(context)
    objectives = qra.Objective(qra.objectives.ReferenceProbability()), qra.RLVR()
    found = [velocity(one, policy, problem).pattern_logits for one in objectives]
    return close(0.0, float(abs(found[0] - found[1]).max()), atol=1e-15)


# Majority votes


@once
def _votes(right: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the first majority answer, and accuracies, over 40 best responses to the majority
    vote with a KL of strength 1 to the iterate before; the right answer is given."""
    policy, _ = qra.two_stage(np.array([0.5, 0.3, 0.2]), np.array([0.7, 0.5, 0.2]))
    problem = qra.Problem(np.array([right]))
    shares, accuracies, first = [], [], None
    for _ in range(41):
        vote = int(np.argmax(qra.objectives.MajorityVote()(policy, problem)[0, 0]))
        first = vote if first is None else first
        chosen = qra.Problem(np.array([first]))
        shares.append(float(qra.mean_accuracy(policy, chosen)))
        accuracies.append(float(qra.mean_accuracy(policy, problem)))
        # The vote rewards one answer: RLVR, as if that were the right one.
        flow = qra.GradientFlow(qra.RLVR(1.0), qra.Problem(np.array([vote])), "all")
        policy = qra.laws.optimal_policy(policy, flow)
    return np.array(shares), np.array(accuracies)


@claim(
    id="majority-vote-sharpens",
    source="arXiv 2603.08660, as summarised",
    statement="majority vote (TTRL) with a KL to the iterate before sharpens the first majority: "
    "logit p_k = logit p_0 + k/beta",
    setting="pi = (.5, .3, .2), p = (.7, .5, .2), answers free, beta = 1, k up to 8: largest "
    "difference of logits",
)
def _(context: Context) -> Outcome:
    shares = _votes(0)[0][:9]
    logits = np.log(shares / (1 - shares))
    return close(0.0, np.abs(logits - logits[0] - np.arange(9)).max(), atol=1e-9)


@claim(
    id="majority-vote-collapses-if-wrong",
    source="arXiv 2603.08660, as summarised",
    statement="where the first majority is wrong, sharpening it ends in collapse",
    setting="the same with the other answer right, accuracy .46 at first: accuracy after 40 "
    "iterations",
)
def _(context: Context) -> Outcome:
    accuracies = _votes(1)[1]
    return close(0.0, accuracies[-1], atol=1e-12)


@claim(
    id="majority-vote-is-a-replicator-of-votes",
    source=DERIVED,
    statement="as a flow, majority vote moves the answers too: the majority's gain is "
    "pi_r q_r (1 - q_r)",
    setting="a random policy, three answers: largest difference of velocities of its logits",
    ours=True,
)
def _(context: Context) -> Outcome:
    policy, problem = _random_policy(context)
    pi, q = _tables(policy)
    vote = int(np.argmax(pi @ q))
    found = velocity(qra.Objective(qra.objectives.MajorityVote()), policy, problem).answer_logits[
        0, :, vote
    ]
    return close(0.0, np.abs(found - pi * q[:, vote] * (1 - q[:, vote])).max(), atol=1e-15)
