"""Penalties: divergences from a reference, their estimators, entropy."""

import math

import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._shared import CASE, REFERENCE, boltzmann, farthest, random_pair
from ._solves import (
    CHECK_PROBS,
    CHECK_RATES,
    Settings,
    stop,
    velocity,
)

DERIVED = "derived in docs/objectives.md#penalty-the-regulariser"

SUBJECT = Subject("Penalties")
claim = SUBJECT.claim


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
    """Patterns at the end of flows with penalties, the reference being `REFERENCE`."""
    found = stop(list(_PENALISED.values()), reference=REFERENCE)
    return dict(zip(_PENALISED, found.probs, strict=True))


def _root(function, low: float, high: float) -> float:
    """By bisection, of a function that is positive at `low` and negative at `high`."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


def _penalty_field(penalty: qra.objectives.AbstractRegulariser, policy=None) -> np.ndarray:
    """The velocity that a penalty alone adds, patterns and answers in a row."""
    own, reference, problem = random_pair()
    objective = qra.Objective(qra.PatternReward(np.zeros(3)), regularisers=(penalty,))
    found = velocity(objective, own if policy is None else policy, problem, reference)
    return np.concatenate([np.ravel(found.pattern_logits), np.ravel(found.answer_logits)])


def _apart(
    one: qra.objectives.AbstractRegulariser, other: qra.objectives.AbstractRegulariser
) -> float:
    """The largest difference of two penalties' velocities."""
    return float(np.abs(_penalty_field(one) - _penalty_field(other)).max())


_PAIR = "a random policy and reference, K = 3, two answers"


@claim(
    id="k3-value-is-unbiased",
    source="Schulman, Approximating KL divergence (2020)",
    statement="k3 = 1/ratio - 1 + log ratio is an unbiased estimate of the divergence, as is k1",
    setting=f"{_PAIR}: the expectation farther from KL(pi, pi_ref)",
)
def k3_value_is_unbiased(context: Context) -> Outcome:
    policy, reference, _ = random_pair()
    kinds = [qra.objectives.KLEstimator(1.0, kind, "reward") for kind in ("k1", "k3")]
    values = np.array([kind(policy, reference, policy)[0] for kind in kinds])
    return farthest(float(policy.kl(reference)[0]), values)


@claim(
    id="k2-value-is-right-nearby",
    source="Schulman, Approximating KL divergence (2020)",
    statement="k2 = (log ratio)^2 / 2 is biased, but by little where the policies are close: its "
    "expectation is the divergence to second order",
    setting="a policy 1e-3 from a random reference: E[k2] / KL",
)
def k2_value_is_right_nearby(context: Context) -> Outcome:
    _, reference, _ = random_pair()
    shift = 1e-3 * jnp.asarray(context.rng.normal(size=(1, 3)))
    near = qra.TabularPolicy(reference.pattern_logits + shift, reference.answer_logits)
    value = qra.objectives.KLEstimator(1.0, "k2", "reward")(near, reference, near)[0]
    return close(1.0, float(value / near.kl(reference)[0]), atol=1e-3)


@claim(
    id="k2-loss-is-k1-in-the-reward",
    source="arXiv 2510.01555",
    statement="on policy, k2 as a loss has the gradient of k1 in the reward, that of the reverse "
    "KL",
    setting=f"{_PAIR}: largest difference of velocities from the reverse KL's",
)
def k2_loss_is_k1_in_the_reward(context: Context) -> Outcome:
    exact = qra.ReverseKL(0.3)
    others = [
        qra.objectives.KLEstimator(0.3, "k2", "loss"),
        qra.objectives.KLEstimator(0.3, "k1", "reward"),
    ]
    return close(0.0, max(_apart(exact, other) for other in others), atol=1e-12)


@claim(
    id="k1-loss-does-nothing",
    source="arXiv 2510.01555",
    statement="k1 as a loss is no penalty: its expected gradient vanishes",
    setting=f"{_PAIR}: largest velocity",
)
def k1_loss_does_nothing(context: Context) -> Outcome:
    return close(
        0.0, np.abs(_penalty_field(qra.objectives.KLEstimator(0.3, "k1", "loss"))).max(), atol=1e-14
    )


@claim(
    id="k3-loss-is-first-order",
    source="arXiv 2510.01555",
    statement="k3 as a loss is a biased, first-order approximation of the reverse KL's gradient",
    setting="a policy 1e-4 from a random reference: length of its velocity over the reverse KL's",
)
def k3_loss_is_first_order(context: Context) -> Outcome:
    _, reference, _ = random_pair()
    shift = 1e-4 * jnp.asarray(context.rng.normal(size=(1, 3)))
    near = qra.TabularPolicy(reference.pattern_logits + shift, reference.answer_logits)
    loss = _penalty_field(qra.objectives.KLEstimator(0.3, "k3", "loss"), near)
    exact = _penalty_field(qra.ReverseKL(0.3), near)
    return close(1.0, np.linalg.norm(loss) / np.linalg.norm(exact), atol=1e-3)


@claim(
    id="k3-loss-penalises-the-reverse-kl",
    source="arXiv 2402.03300, read as a penalty on KL(pi, pi_ref)",
    statement="GRPO's penalty, the unbiased k3 as a loss, regularises with KL(pi, pi_ref): its "
    "optimum is pi_ref exp(p / beta)",
    setting=f"{CASE}, pi_ref = (.2, .3, .5), beta = .2: pi(r*) at rest",
    note="k3 is an unbiased estimate of the value, but its derivative with the samples held is not "
    "one of the gradient: its expectation is that of the forward KL (k3-loss-is-the-forward-kl), "
    "which comes to rest elsewhere (k3-loss-rests-elsewhere). The two agree near the reference "
    "only.",
)
def k3_loss_penalises_the_reverse_kl(context: Context) -> Outcome:
    return close(boltzmann(REFERENCE, CHECK_RATES, 0.2)[0], _penalised()["k3"][0], atol=1e-3)


@claim(
    id="k3-loss-is-the-forward-kl",
    source=DERIVED,
    statement="k3 as a loss is the penalty KL(pi_ref, pi): patterns gain beta (pi_ref - pi)",
    setting=f"{_PAIR}: largest difference of velocities, from the forward KL's and the formula's",
    ours=True,
)
def k3_loss_is_the_forward_kl(context: Context) -> Outcome:
    loss = qra.objectives.KLEstimator(0.3, "k3", "loss")
    own, reference = (np.exp(one.log_probs()[0][0]) for one in random_pair()[:2])
    formula = np.abs(_penalty_field(loss)[:3] - 0.3 * (reference - own)).max()
    return close(0.0, max(_apart(loss, qra.objectives.ForwardKL(0.3)), formula), atol=1e-12)


@claim(
    id="k3-loss-rests-elsewhere",
    source=DERIVED,
    statement="with k3 as a loss the flow rests at pi = beta pi_ref / (beta + A - p)",
    setting=f"{CASE}, pi_ref = (.2, .3, .5), beta = .2: largest difference",
    ours=True,
)
def k3_loss_rests_elsewhere(context: Context) -> Outcome:
    rates = CHECK_RATES

    def probs(value):
        return 0.2 * np.array(REFERENCE) / (0.2 + value - rates)

    value = _root(lambda v: probs(v).sum() - 1, 0.7 + 1e-9, 0.9)
    return close(0.0, np.abs(_penalised()["k3"] - probs(value)).max(), atol=1e-6)


@claim(
    id="k2-k3-in-the-reward-are-neither",
    source=DERIVED,
    statement="k2 and k3 in the reward are the penalty of neither divergence",
    setting=f"{_PAIR}, beta = .3: least largest difference of velocities, above 1e-3",
    ours=True,
)
def k2_k3_in_the_reward_are_neither(context: Context) -> Outcome:
    least = min(
        _apart(qra.objectives.KLEstimator(0.3, kind, "reward"), divergence(0.3))
        for kind in ("k2", "k3")
        for divergence in (qra.ReverseKL, qra.objectives.ForwardKL)
    )
    return computed(1e-3, least, least > 1e-3)


@claim(
    id="grpo-with-kl-rests-implicitly",
    source=DERIVED,
    statement="GRPO with a reverse KL rests at pi ~ pi_ref exp(p / (beta sqrt(A (1 - A)))), A its "
    "own",
    setting=f"{CASE}, pi_ref = (.2, .3, .5), beta = .8: largest difference",
    ours=True,
)
def grpo_with_kl_rests_implicitly(context: Context) -> Outcome:
    def probs(value):
        return boltzmann(REFERENCE, CHECK_RATES, 0.8 * math.sqrt(value * (1 - value)))

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
    source=DERIVED,
    statement="an entropy bonus adds tau pi_r (-log pi_r - H), as the reverse KL to uniform "
    "patterns",
    setting="a random policy, K = 3: largest difference of velocities of patterns",
    ours=True,
)
def entropy_bonus_is_a_kl(context: Context) -> Outcome:
    policy, _, problem = random_pair()
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
    source=DERIVED,
    statement="entropy regularisation rests at pi ~ exp(p / tau)",
    setting=f"{CASE}, tau = .3: largest difference",
    ours=True,
)
def entropy_bonus_rests(context: Context) -> Outcome:
    difference = np.abs(_with_entropy()[3] - boltzmann(np.ones(3), CHECK_RATES, 0.3))
    return close(0.0, difference.max(), atol=1e-6)


@claim(
    id="entropy-gives-a-linear-rate",
    source="arXiv 2005.06392",
    statement="with entropy regularisation softmax policy gradient converges like e^(-ct)",
    setting=f"{CASE}, tau = .3: decay of log |pi - pi_end| from t = 300 to 400, over that from "
    "200 to 300",
)
def entropy_gives_a_linear_rate(context: Context) -> Outcome:
    found, end = _with_entropy()[:3], boltzmann(np.ones(3), CHECK_RATES, 0.3)
    first, second = np.diff(np.log(np.linalg.norm(found - end, axis=1)))
    return close(1.0, second / first, atol=0.02)


@claim(
    id="natural-gradient-with-kl",
    source=DERIVED,
    statement="natural gradient with a reverse KL, e = exp(-beta t): "
    "pi_ref^(1-e) pi_0^e exp((1 - e) p / beta)",
    setting=f"{CASE}, pi_ref = (.2, .3, .5), beta = .25, t = .5, 2, 8: largest difference",
    ours=True,
)
def natural_gradient_with_kl(context: Context) -> Outcome:
    worst = 0.0
    for time in (0.5, 2, 8):
        e = math.exp(-0.25 * time)
        logs = (1 - e) * (np.log(REFERENCE) + CHECK_RATES / 0.25)
        weights = np.exp(logs + e * np.log(CHECK_PROBS))
        found = _penalised()[f"natural, {str(time).lstrip('0')}"]
        worst = max(worst, np.abs(found - weights / weights.sum()).max())
    return close(0.0, worst, atol=1e-7)
