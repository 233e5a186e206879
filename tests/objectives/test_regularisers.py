"""Penalties: gradients against closed forms, and where the flows that carry them come to rest."""

import functools
import re
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import qra_jax as qra
from tests._support import compiled, systems

Q, R, A = 2, 3, 3
BETA = 0.3
WEIGHTS = np.array([0.2, 0.8])
RNG = np.random.default_rng(11)
LOGITS, ANSWERS, REF_LOGITS, REF_ANSWERS = (
    RNG.normal(size=shape) for shape in ((Q, R), (Q, R, A), (Q, R), (Q, R, A))
)
# A pattern and an answer that the policy lacks and the reference has.
LOGITS[1, 2] = ANSWERS[0, 1, 2] = -np.inf

# Of a whole sequence: what its score is multiplied by, as a function of l = log(pi/pi_ref).
ESTIMATORS = {
    ("k1", "reward"): lambda x: x,
    ("k1", "loss"): jnp.ones_like,
    ("k2", "reward"): lambda x: x**2 / 2,
    ("k2", "loss"): lambda x: x,
    ("k3", "reward"): lambda x: jnp.exp(-x) - 1 + x,
    ("k3", "loss"): lambda x: 1 - jnp.exp(-x),
}
PENALTIES = {
    **{"-".join(key): qra.objectives.KLEstimator(BETA, *key) for key in ESTIMATORS},
    "reverse": qra.ReverseKL(BETA),
    "forward": qra.objectives.ForwardKL(BETA),
    "entropy": qra.EntropyBonus(BETA),
}


def only(*regularisers):
    """An objective without reward."""
    return qra.Objective(qra.PatternReward(np.zeros(R)), regularisers=regularisers)


def reference_for(name):
    """A forward divergence is finite only where the policy has all that the reference has."""
    if name == "forward":
        missing = [np.where(x == -np.inf, x, 0) for x in (LOGITS, ANSWERS)]
        return qra.TabularPolicy(REF_LOGITS + missing[0], REF_ANSWERS + missing[1])
    return qra.TabularPolicy(REF_LOGITS, REF_ANSWERS)


def closed_form(name, logits, answers, reference):
    """-beta D(q) E[c s], from the probabilities of all sequences."""
    probs, answer_probs = jax.nn.softmax(logits), jax.nn.softmax(answers)
    ref = jax.nn.softmax(reference.pattern_logits)[..., None]
    ref = ref * jax.nn.softmax(reference.answer_logits)
    joint = probs[..., None] * answer_probs
    there = joint > 0
    log_ratio = jnp.log(jnp.where(there, joint, 1)) - jnp.log(jnp.where(there, ref, 1))
    if name == "entropy":
        some = jnp.where(probs > 0, probs, 1)
        weight = jnp.broadcast_to(jnp.log(some)[..., None], joint.shape)
    elif name == "forward":
        weight = -jnp.exp(-log_ratio)
    else:
        estimator = ("k1", "reward") if name == "reverse" else tuple(name.split("-"))
        weight = ESTIMATORS[estimator](log_ratio)
    each = jnp.sum(answer_probs * weight, axis=-1)
    mean = jnp.sum(probs * each, axis=-1, keepdims=True)
    scale = -BETA * jnp.asarray(WEIGHTS)[:, None] * probs
    return scale * (each - mean), scale[..., None] * answer_probs * (weight - each[..., None])


def with_slopes(function):
    """A compiled `(logits, answers, reference)`: velocities of patterns and answers, and the
    derivative of the patterns' by the logits."""

    def both(logits, answers, reference):
        value = function(logits, answers, reference)
        return value, jax.jacfwd(lambda x: function(x, answers, reference)[0])(logits)

    return jax.jit(both)


@functools.cache
def velocity(name):
    """The library's, for a penalty without reward."""
    flow = qra.GradientFlow(only(PENALTIES[name]), qra.Problem(np.zeros(Q, int), WEIGHTS), "all")

    @with_slopes
    def compiled(logits, answers, reference):
        policy = qra.TabularPolicy(logits, answers)
        speed = flow.velocity(*flow.split(policy), reference)
        return speed.pattern_logits, speed.answer_logits

    return compiled


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_and_its_derivative(name):
    """The velocity of patterns and answers to 1e-12, and the derivative of the patterns' by the
    logits: what is held in the gradient must move with the policy."""
    at = LOGITS, ANSWERS, reference_for(name)
    values, slopes = velocity(name)(*at)
    wanted, wanted_slopes = with_slopes(functools.partial(closed_form, name))(*at)
    for value, want in zip(values, wanted, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slopes, wanted_slopes, rtol=1e-11, atol=1e-14)
    # Only what moves the policy can bring a flow to rest.
    moves = name != "k1-loss"
    assert np.any(np.abs(values[0]) > 1e-3) == moves
    assert PENALTIES[name].has_interior_optimum == moves


def test_value():
    """The penalty itself: beta times the mean of the estimator, and each divergence's formula."""
    policy = qra.TabularPolicy(LOGITS, ANSWERS)
    joint, ref = (
        scipy.special.softmax(x, axis=-1)[..., None] * scipy.special.softmax(y, axis=-1)
        for x, y in ((LOGITS, ANSWERS), (REF_LOGITS, REF_ANSWERS))
    )
    there = joint > 0
    log_ratio = np.where(there, np.log(np.where(there, joint, 1) / ref), 0)
    kinds = {
        "k1": log_ratio,
        "k2": log_ratio**2 / 2,
        "k3": np.exp(-log_ratio) - 1 + log_ratio,
    }
    means = {kind: np.sum(joint * k, axis=(1, 2)) for kind, k in kinds.items()}
    entropy = scipy.special.entr(np.sum(joint, axis=-1)).sum(axis=1)
    # The forward divergence from the other side, where it is finite, is the reverse one.
    expected = {"-".join(key): means[key[0]] for key in ESTIMATORS}
    expected |= {"reverse": means["k1"], "entropy": -entropy, "forward": means["k1"]}

    @jax.jit
    def values(policy, reference):
        found = {name: penalty(policy, reference, policy) for name, penalty in PENALTIES.items()}
        infinite = found["forward"]
        return found | {"forward": PENALTIES["forward"](reference, policy, reference)}, infinite

    found, infinite = values(policy, reference_for("reverse"))
    for name, want in expected.items():
        np.testing.assert_allclose(found[name], BETA * want, rtol=1e-12, err_msg=name)
    assert np.all(infinite == np.inf)


def exact_velocity(name, probs, ref):
    """The velocity of three patterns in arithmetic of 700 digits."""
    probs, ref = ([mpmath.mpf(x) / sum(map(mpmath.mpf, row)) for x in row] for row in (probs, ref))
    log_ratio = [mpmath.log(p / w) for p, w in zip(probs, ref, strict=True)]
    ratio = [w / p for p, w in zip(probs, ref, strict=True)]
    weight = {
        "k1-reward": log_ratio,
        "k2-reward": [x**2 / 2 for x in log_ratio],
        "k2-loss": log_ratio,
        "k3-reward": [y - 1 + x for x, y in zip(log_ratio, ratio, strict=True)],
        "k3-loss": [-y for y in ratio],
        "reverse": log_ratio,
        "forward": [-y for y in ratio],
        "entropy": [mpmath.log(p) for p in probs],
    }[name]
    mean = sum(p * x for p, x in zip(probs, weight, strict=True))
    return [-BETA * p * (x - mean) for p, x in zip(probs, weight, strict=True)]


@pytest.mark.parametrize("rare", [1e-8, 1e-15, 1e-20, 1e-300])
def test_no_cancellation_near_a_vertex(rare):
    """Policy and reference both next to the same vertex: all components keep 12 digits."""
    probs, ref = [rare, 1.0, 2 * rare], [3 * rare, 1.0, rare]
    reference = qra.TabularPolicy(np.log([ref] * Q), np.zeros((Q, R, A)))
    for name in PENALTIES:
        (found, _), _ = velocity(name)(np.log([probs] * Q), np.zeros((Q, R, A)), reference)
        if name == "k1-loss":
            assert not found.any()
            continue
        with mpmath.workdps(700):
            exact = exact_velocity(name, probs, ref)
            expected = [[float(weight * x) for x in exact] for weight in WEIGHTS]
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", PENALTIES)
def test_nothing_is_nan(name):
    """Padded patterns, missing answers and probabilities that underflow, also in the reference."""
    inf = np.inf
    logits = np.array([[0.0, -800.0, -inf], [-inf, 0.0, 900.0]])
    ref_logits = np.array([[-900.0, 0.0, -inf], [-inf, 900.0, 0.0]])
    answers = np.array([[[0.0, -inf, 1.0], [-800.0, 0.0, -inf], [0.0, 0.0, 0.0]]] * Q)
    reference = qra.TabularPolicy(ref_logits, answers + np.array([1.0, 0.0, 0.0]))
    (patterns, rows), slopes = velocity(name)(logits, answers, reference)
    for array in (patterns, rows, slopes):
        assert np.all(np.isfinite(array))
    assert not patterns[logits == -inf].any()
    assert not rows[answers == -inf].any()


# Where flows come to rest, and how: one compilation for all, one lane for each.

START, RATES = np.array(systems.CHECK_PROBS), np.array(systems.CHECK_RATES)
REFERENCE = np.array([0.3, 0.5, 0.2])
LANES = 8


class Lane(NamedTuple):
    """Strengths of the penalties, and whether the utility is GRPO's and the geometry natural."""

    reverse: float = 0.0
    forward: float = 0.0
    entropy: float = 0.0
    k3_loss: float = 0.0
    k1_loss: float = 0.0
    grpo: float = 0.0
    natural: float = 0.0


class Blend(qra.objectives.AbstractUtility):
    """The mean at share 0 and GRPO at 1, so that both are one compilation."""

    share: jax.Array

    def value(self, value, shortfall):
        mean, grpo = (f.value(value, shortfall) for f in (qra.objectives.Mean(), qra.GRPO()))
        return (1 - self.share) * mean + self.share * grpo

    def slope(self, value, shortfall):
        mean, grpo = (f.slope(value, shortfall) for f in (qra.objectives.Mean(), qra.GRPO()))
        return (1 - self.share) * mean + self.share * grpo


class BlendedGeometry(qra.flows.AbstractGeometry):
    """Euclidean at share 0 and natural at 1."""

    share: jax.Array

    def direction(self, policy, gradient):
        ways = (g.direction(policy, gradient) for g in (qra.Euclidean(), qra.Natural()))
        return jax.tree_util.tree_map(
            lambda plain, natural: (1 - self.share) * plain + self.share * natural, *ways
        )


@jax.jit
@jax.vmap
def _rest(start, ref, lane):
    policy, problem = qra.two_stage(start, RATES)
    like, _ = qra.two_stage(ref, RATES)
    reference = qra.TabularPolicy(like.pattern_logits, policy.answer_logits)
    penalties = (
        qra.ReverseKL(lane.reverse),
        qra.objectives.ForwardKL(lane.forward),
        qra.EntropyBonus(lane.entropy),
        qra.objectives.KLEstimator(lane.k3_loss, "k3", "loss"),
        qra.objectives.KLEstimator(lane.k1_loss, "k1", "loss"),
    )
    objective = qra.Objective(qra.Verifiable(), Blend(lane.grpo), penalties)
    flow = qra.GradientFlow(objective, problem, geometry=BlendedGeometry(lane.natural))
    found = qra.solve_flow(policy, flow, reference=reference, method=compiled.TIGHT)
    return found.log_times, found.pattern_probs[:, 0], found.status


def rest(start, ref, lanes):
    """RLVR with penalties until it comes to rest: log times and probabilities of its rows, and
    the status, with an axis of lanes in front."""
    filled = [*lanes, *lanes[:1] * (LANES - len(lanes))]
    columns = Lane(*np.array(filled, float).T)
    out = _rest(np.tile(start, (LANES, 1)), np.tile(ref, (LANES, 1)), columns)
    return tuple(np.asarray(x)[: len(lanes)] for x in out)


def forward_rest(ref, beta):
    """pi = beta pi_ref / (beta + V - R), V from the sum of the probabilities."""
    probs = lambda value: beta * ref / (beta + value - RATES)  # noqa: E731
    best = np.argmax(np.where(ref > 0, RATES, -1))
    # Between these the sum falls from above 1 (the best alone has more) to below.
    low = RATES[best] - beta * (1 - ref[best] / 2)
    value = scipy.optimize.brentq(lambda v: probs(v).sum() - 1, low, RATES[best], xtol=1e-15)
    return probs(value)


def boltzmann(ref, scale):
    """pi proportional to ref exp(R / scale)."""
    weights = ref * np.exp((RATES - RATES.max()) / scale)
    return weights / weights.sum()


def grpo_rest(ref, beta):
    """The implicit pi proportional to pi_ref exp(R / (beta sqrt(A (1 - A))))."""
    at = lambda a: boltzmann(ref, beta * np.sqrt(a * (1 - a)))  # noqa: E731
    accuracy = scipy.optimize.brentq(lambda a: at(a) @ RATES - a, 0.2, 0.89, xtol=1e-15)
    return at(accuracy)


RESTS = {
    "reverse KL": (Lane(reverse=0.2), lambda ref: boltzmann(ref, 0.2)),
    "forward KL": (Lane(forward=0.4), lambda ref: forward_rest(ref, 0.4)),
    "entropy": (Lane(entropy=0.3), lambda ref: boltzmann((ref > 0).astype(float), 0.3)),
    "k3 as a loss": (Lane(k3_loss=0.2), lambda ref: forward_rest(ref, 0.2)),
    "and k1 as a loss": (Lane(reverse=0.2, k1_loss=0.7), lambda ref: boltzmann(ref, 0.2)),
    "GRPO, reverse KL": (Lane(reverse=0.8, grpo=1), lambda ref: grpo_rest(ref, 0.8)),
    "natural": (Lane(reverse=0.25, natural=1), lambda ref: boltzmann(ref, 0.25)),
}


@pytest.mark.parametrize(
    ("start", "ref"),
    [(START, REFERENCE), (np.array([0.4, 0.0, 0.6]), np.array([0.2, 0.0, 0.8]))],
    ids=["all patterns", "one padded"],
)
def test_points_of_rest(start, ref):
    """Each penalty's own stationary point to 1e-7, reached without being told when to stop."""
    _, probs, status = rest(start, ref, [lane for lane, _ in RESTS.values()])
    assert status.tolist() == [qra.Status.STATIONARY] * len(RESTS)
    found = dict(zip(RESTS, probs[:, -1], strict=True))
    for name, (_, closed) in RESTS.items():
        expected = closed(ref)
        assert expected.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-7, err_msg=name)
    # Neither of these is the optimum of proposition 5.2 at its strength.
    assert np.max(np.abs(found["k3 as a loss"] - found["reverse KL"])) > 0.01
    assert np.max(np.abs(found["GRPO, reverse KL"] - boltzmann(ref, 0.8))) > 0.01


def test_k1_as_a_loss_is_no_penalty():
    """Row by row the flow without a penalty, however strong it is: SciPy to 1e-9, past T0 = 94."""
    log_times, probs, _ = rest(START, REFERENCE, [Lane(k1_loss=3.0)])
    wanted = (log_times[0] > -2) & (log_times[0] < np.log(1e3))
    assert np.sum(wanted) > 10
    assert log_times[0, wanted].max() > np.log(94.3)
    expected = systems.euclidean_probs(START, RATES, np.exp(log_times[0, wanted]))
    np.testing.assert_allclose(probs[0, wanted], expected, rtol=0, atol=1e-9)


def test_natural_gradient_with_kl():
    """pi_ref^(1-e) pi_0^e exp((1-e) R/beta), e = exp(-beta t), to 1e-9, reference given."""
    beta = 0.25
    log_times, probs, _ = rest(START, REFERENCE, [Lane(reverse=beta, natural=1)])
    expected = [
        systems.natural_probs(START, RATES, t, beta, REFERENCE) for t in np.exp(log_times[0])
    ]
    np.testing.assert_allclose(probs[0], expected, rtol=0, atol=1e-9)


# Bad input


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (qra.objectives.ForwardKL, "beta"),
        (qra.EntropyBonus, "tau"),
        (lambda beta: qra.objectives.KLEstimator(beta, "k3", "loss"), "beta"),
    ],
)
def test_bad_strength(make, name):
    """A strength is a finite scalar of at least 0; the message names it."""
    for bad in (-0.1, np.nan, np.inf):
        message = f"^{name} must be at least 0, finite, got {name} = {bad}$"
        with pytest.raises(ValueError, match=message):
            make(bad)
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a scalar, got (2,)")):
        make(np.zeros(2))


UNKNOWN = """
import qra_jax as qra
for arguments in ((0.1, "k4", "loss"), (0.1, "k1", "metric")):
    try:
        qra.objectives.KLEstimator(*arguments)
    except ValueError as error:
        print(error)
"""


def test_unknown_kind_and_place():
    """One line that names the argument, the choices and what was given (without run-time types,
    which would come first)."""
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == [
        "kind must be one of ('k1', 'k2', 'k3'), got 'k4'",
        "place must be one of ('reward', 'loss'), got 'metric'",
    ]


def test_divergence_that_is_infinite():
    """The reverse divergence wants all of the policy in the reference, the forward one all of the
    reference in the policy."""
    whole, problem = qra.two_stage(START, RATES)
    gap, _ = qra.two_stage(np.array([0.3, 0.7, 0.0]), RATES)

    def solve(penalty, policy, reference):
        flow = qra.GradientFlow(only(penalty), problem)
        qra.solve_flow(policy, flow, reference=reference)

    for penalty in (qra.ReverseKL(0.1), qra.objectives.KLEstimator(0.1, "k2", "reward")):
        with pytest.raises(ValueError, match=r"^reference must give every pattern .* policy"):
            solve(penalty, whole, gap)
        penalty.validate(gap, whole)
    with pytest.raises(ValueError, match=r"^policy must give every pattern .* reference"):
        solve(qra.objectives.ForwardKL(0.1), gap, whole)
    qra.objectives.ForwardKL(0.1).validate(whole, gap)


def test_other_kinds_of_policy():
    """The reverse divergence is whatever a policy says it is; the others want both factors."""
    policy, reference = (
        qra.policies.MarkovPolicy(np.log([[p, 0.5], [1 - p, 0.5]]), np.array([0]), 1)
        for p in (0.5, 0.8)
    )
    expected = 0.1 * 0.5 * (np.log(0.5 / 0.8) + np.log(0.5 / 0.2))
    found = qra.ReverseKL(0.1)(policy, reference, policy)
    np.testing.assert_allclose(found, [expected], rtol=1e-14)
    for name in ("forward", "entropy", "k1-loss"):
        with pytest.raises(TypeError, match="policy must have patterns and answers for this pena"):
            PENALTIES[name](policy, policy, policy)
    table, _ = qra.two_stage(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    for one, other in ((table, policy), (policy, table)):
        with pytest.raises(TypeError, match=r"^policy must .* to be compared with, got a "):
            qra.ReverseKL(0.1)(one, other, one)
