"""Rewards that a model gives itself (RLIF): the others, and majority votes."""

import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close
from ._ledger import Context, Subject, once
from ._shared import INTERNAL, random_policy, tables
from ._solves import velocity

DERIVED = "derived in docs/objectives.md#reward"

SUBJECT = Subject(INTERNAL)
claim = SUBJECT.claim


def _pattern_values(
    policy: qra.TabularPolicy,
) -> list[tuple[qra.objectives.AbstractReward, np.ndarray]]:
    """What each reward is worth to a pattern, up to a constant."""
    pi, q = tables(policy)
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
def internal_rewards_are_replicators(context: Context) -> Outcome:
    policy, problem = random_policy(context)
    pi, _ = tables(policy)
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
def differentiating_doubles(context: Context) -> Outcome:
    at, worst = random_policy(context), 0.0
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
def reference_probability_is_rlvr(context: Context) -> Outcome:
    policy, problem = random_policy(context)
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
def majority_vote_sharpens(context: Context) -> Outcome:
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
def majority_vote_collapses_if_wrong(context: Context) -> Outcome:
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
def majority_vote_is_a_replicator_of_votes(context: Context) -> Outcome:
    policy, problem = random_policy(context)
    pi, q = tables(policy)
    vote = int(np.argmax(pi @ q))
    found = velocity(qra.Objective(qra.objectives.MajorityVote()), policy, problem).answer_logits[
        0, :, vote
    ]
    return close(0.0, np.abs(found - pi * q[:, vote] * (1 - q[:, vote])).max(), atol=1e-15)
