"""Training in steps: exact steps against the flow, and samples against what they estimate."""

import functools
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import qra_jax as qra
from qra_jax.training._train import _checked
from tests._support import compiled

TREE = jax.tree_util
KEYS = jax.random.split(jax.random.key(7), 16384)
START, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
POLICY, PROBLEM = qra.two_stage(START, RATES)
SGD = optax.sgd(0.5)
ESTIMATORS = {
    "reinforce": qra.training.REINFORCE(),
    "rloo": qra.RLOO(),
    "Dr. GRPO": qra.training.SampledDrGRPO(),
    "GRPO": qra.SampledGRPO(),
    "GRPO, sample deviation": qra.SampledGRPO(ddof=1),
    "GRPO, redrawn": qra.SampledGRPO(redraw=True),
    "GRPO, sample deviation, redrawn": qra.SampledGRPO(ddof=1, redraw=True),
    "rejection": qra.training.RejectionFineTuning(),
    "MaxRL": qra.training.SampledMaxRL(),
    "MaxRL, centred": qra.training.SampledMaxRL(centred=True),
    "pass@2": qra.training.SampledPassAtK(2),
    "pass@1": qra.training.SampledPassAtK(1),
}


class Shared(qra.policies.AbstractTwoStagePolicy):
    """Two questions of two patterns whose logits are multiples of the same parameters."""

    theta: jax.Array
    independent_questions: ClassVar[bool] = False

    def log_probs(self):
        """Both factors; answers are given."""
        slopes = jnp.array([[[1.0, 0.5], [0.0, -1.0]], [[0.3, 0.0], [1.0, 2.0]]])
        answers = jnp.log(jnp.array([[[0.8, 0.2], [0.3, 0.7]], [[0.5, 0.5], [0.1, 0.9]]]))
        return jax.nn.log_softmax(slopes @ self.theta), answers

    def part(self, name):
        """All of it."""
        return TREE.tree_map(lambda _: True, self)

    def natural(self, gradient):
        """Not needed."""
        raise NotImplementedError


def two_questions(policy=None):
    """Two questions of different weight, the first with a padded pattern."""
    if policy is None:
        rates = np.array([[0.6, 0.2, 0.5], [0.1, 0.4, 0.05]])
        policy, _ = qra.two_stage(np.array([[0.3, 0.7, 0.0], [0.2, 0.3, 0.5]]), rates)
    problem = qra.Problem(np.zeros(2, int), np.array([0.3, 0.7]))
    return policy, qra.GradientFlow(qra.RLVR(), problem, "all")


def flat(policy):
    """All parameters of a policy in a row, -inf as 0; leading axes of a batch are kept."""
    lead = policy.theta.ndim - 1 if isinstance(policy, Shared) else policy.pattern_logits.ndim - 2
    rows = [x.reshape(*x.shape[:lead], -1) for x in TREE.tree_leaves(policy)]
    row = np.concatenate(rows, axis=-1)
    return np.where(np.isneginf(row), 0, row)


def same(one, other, tolerance=0.0):
    """Whether two pytrees of arrays agree."""
    for x, y in zip(TREE.tree_leaves(one), TREE.tree_leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def slope(x, y):
    """Of a straight line through logarithms."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]


# Most runs are of this many steps: those that are otherwise alike share their compilation.
STEPS = 12
run_exactly = functools.partial(qra.train, optimiser=SGD, num_steps=STEPS)
run_sampled = functools.partial(run_exactly, sampler=qra.SampledGroups(4))


def test_steps_follow_the_flow():
    """At a given time, the error of exact steps is of first order in their size."""
    end, numbers = 20.0, np.array([20, 40, 80, 160])

    def run(rate):
        found = qra.train(POLICY, PROBLEM, optax.sgd(rate), 160, rows=161)
        return found.pattern_probs[:, 0], found.status

    probs, status = jax.jit(jax.vmap(run))(end / numbers)
    np.testing.assert_array_equal(status, qra.Status.COMPLETED)
    times = np.full(compiled.ROWS, np.log(end))
    flow = compiled.one(compiled.follow(), START, RATES, times)["probs"][-1:, :3]
    # Smaller steps take longer to the same time.
    errors = np.max(np.abs(np.asarray(probs)[np.arange(4), numbers] - flow), axis=1)
    assert slope(end / numbers, errors) == pytest.approx(1, abs=0.1)


def test_natural_steps_are_exact():
    """Along the natural gradient steps of any size follow the flow, a tilt of the start."""
    run = run_exactly(POLICY, qra.GradientFlow(qra.RLVR(), PROBLEM, geometry=qra.Natural()))
    tilted = START * np.exp(0.5 * np.asarray(run.steps)[:, None] * RATES)
    same(run.pattern_probs[:, 0], tilted / np.sum(tilted, axis=1, keepdims=True), 1e-12)


def test_exact_steps():
    """A step is the learning rate times the velocity; rows are those of shorter runs."""
    flow = qra.GradientFlow(qra.RLVR(0.1), PROBLEM)
    run = qra.train(POLICY, flow, SGD, 10, rows=4)
    np.testing.assert_array_equal(run.steps, [0, 3, 7, 10])
    params, frozen = flow.split(POLICY)
    velocity = jax.jit(lambda params: flow.velocity(params, frozen, POLICY))
    rows = []
    for step in range(11):
        if step in run.steps:
            rows.append(params.pattern_logits)
        params = TREE.tree_map(lambda x, v: x + 0.5 * v, params, velocity(params))
    same(run.policy.pattern_logits, jnp.stack(rows), 1e-13)
    same(run.final_policy, TREE.tree_map(lambda x: x[-1], run.policy))
    probs = np.exp(np.stack(rows))[:, 0]
    probs /= np.sum(probs, axis=1, keepdims=True)
    same(run.pattern_probs[:, 0], probs, 1e-13)
    same(run.entropy, -np.sum(probs * np.log(probs), axis=1), 1e-13)
    same(run.kl, np.sum(probs * np.log(probs / START), axis=1), 1e-13)
    same(run.accuracy, probs @ RATES, 1e-13)
    same(run.reward, probs @ RATES, 1e-13)


@pytest.mark.parametrize("group_size", [2, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_expectation(estimator, group_size):
    """Over all outcomes of a group, the mean of the estimate is the gradient of its utility."""
    sampler = qra.SampledGroups(group_size, estimator=estimator)
    objective = qra.Objective(qra.Verifiable(), utility=sampler.utility)
    flow = qra.GradientFlow(objective, PROBLEM, "all")
    wanted = flow.velocity(*flow.split(POLICY), POLICY)

    def joint(policy):
        patterns, answers = policy.log_probs()
        return (patterns[:, :, None] + answers).reshape(-1)

    rewards = jnp.tile(jnp.array([1.0, 0.0]), 3)
    outcomes = np.array(list(itertools.product(range(6), repeat=group_size)))
    chances = np.prod(np.exp(joint(POLICY))[outcomes], axis=1)
    successes = np.sum(np.array(rewards)[outcomes], axis=1)
    drawn = np.full(len(outcomes), True)
    if getattr(sampler.estimator, "redraw", False):
        drawn = (successes > 0) & (successes < group_size)
    if isinstance(sampler.estimator, qra.training.RejectionFineTuning):
        drawn = successes > 0
    chances = chances * drawn / np.sum(chances * drawn)

    def mean(policy):
        losses = sampler.loss(rewards[outcomes], joint(policy)[outcomes])
        return -jnp.sum(chances * losses)

    same(jax.grad(mean)(POLICY), wanted, 1e-12)


def test_unbiased_or_not():
    """What is unbiased says that it is, and Dr. GRPO by how much it is not."""
    sampler = functools.partial(qra.SampledGroups, 4)
    assert sampler(estimator=qra.training.REINFORCE()).utility == qra.objectives.Mean()
    assert sampler(estimator=qra.RLOO()).utility == qra.objectives.Mean()
    value = jnp.array([0.3])
    assert sampler(estimator=qra.training.SampledDrGRPO()).utility.slope(value, 1 - value) == 0.75


@functools.cache
def one_step(name, batch, group_size):
    """Parameters moved by a step: of each key `(16384, P)`, and exactly `(P,)`."""
    policy, flow = two_questions()
    if name == "shared":
        policy, flow = two_questions(Shared(jnp.array([0.3, -0.2])))
        name = "rloo"
    sampler = qra.SampledGroups(group_size, batch, ESTIMATORS[name])
    objective = qra.Objective(qra.Verifiable(), utility=sampler.utility)
    exact = qra.GradientFlow(objective, flow.problem, "all")

    def step(key):
        run = qra.train(policy, flow, SGD, 1, sampler=sampler, key=key)
        return run.final_policy

    each = jax.jit(jax.vmap(step))(KEYS)
    target = qra.train(policy, exact, SGD, 1).final_policy
    return flat(each) - flat(policy), flat(target) - flat(policy)


SAMPLED = [
    ("GRPO", 3, 4),
    ("GRPO, redrawn", 1, 2),
    ("rejection", None, 3),
    ("shared", 2, 2),
]


@pytest.mark.parametrize(("name", "batch", "group_size"), SAMPLED)
def test_mean_of_sampled_steps(name, batch, group_size):
    """The mean of a sampled step is the exact step, within five standard errors."""
    each, exact = one_step(name, batch, group_size)
    error = np.std(each, axis=0) / np.sqrt(len(each))
    moves = error > 0
    assert moves.sum() >= 2
    np.testing.assert_array_equal(exact[~moves], 0)
    assert np.all(np.abs(np.mean(each, axis=0) - exact)[moves] < 5 * error[moves])
    # What is compared is known well enough to tell this estimator from another.
    assert np.max(error[moves]) < 0.1 * np.max(np.abs(exact))


def estimates_of(policy, question, sampler):
    """Every estimate from a group of one question, `(N, P)`, and its chance, `(N,)`."""
    patterns, answers = (np.exp(x[question]) for x in policy.log_probs())
    number, width = answers.shape
    scores, chances, rewards = [], [], []
    for pattern, answer in itertools.product(range(number), range(width)):
        of_patterns, of_answers = np.zeros((2, number)), np.zeros((2, number, width))
        of_patterns[question] = (np.arange(number) == pattern) - patterns
        of_answers[question, pattern] = (np.arange(width) == answer) - answers[pattern]
        scores.append(np.concatenate([of_patterns.ravel(), of_answers.ravel()]))
        chances.append(patterns[pattern] * answers[pattern, answer])
        rewards.append(float(answer == 0))
    scores, chances, rewards = map(np.array, (scores, chances, rewards))
    kept = np.flatnonzero(chances)
    outcomes = np.array(list(itertools.product(kept, repeat=sampler.group_size)))
    chances = np.prod(chances[outcomes], axis=1)
    earned = rewards[outcomes]
    if sampler.estimator.redraws:
        failing = earned.min(axis=1) == 0
        chances *= earned.any(axis=1) & (failing | (sampler.estimator != qra.SampledGRPO(0, True)))
        chances /= chances.sum()
    advantages = np.asarray(sampler.estimator.advantages(jnp.asarray(earned)))
    return np.mean(advantages[:, :, None] * scores[outcomes], axis=1), chances


@pytest.mark.parametrize(("name", "batch", "group_size"), SAMPLED[:3])
def test_noise_of_sampled_steps(name, batch, group_size):
    """The covariance of a step is that of independent groups, all of whose outcomes are known:
    divided by the batch with questions drawn by weight, or by squared weights without."""
    each, _ = one_step(name, batch, group_size)
    policy, flow = two_questions()
    sampler = qra.SampledGroups(group_size, batch, ESTIMATORS[name])
    weights = np.asarray(flow.problem.weights)
    means, squares = [], []
    for question in range(2):
        found, chances = estimates_of(policy, question, sampler)
        means.append(chances @ found)
        squares.append((found * chances[:, None]).T @ found)
    means, squares = np.array(means), np.array(squares)
    if batch is None:
        within = squares - means[:, :, None] * means[:, None, :]
        expected = np.tensordot(weights**2, within, 1)
    else:
        mean = weights @ means
        expected = (np.tensordot(weights, squares, 1) - np.outer(mean, mean)) / batch
    expected *= 0.5**2  # the rate
    found = np.cov(each.T)
    # The error of a covariance, from the products whose mean it is.
    off = each - each.mean(axis=0)
    products = off[:, :, None] * off[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(each))
    assert np.all(np.abs(found - expected) <= 5 * error + 1e-12)
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(expected)


def test_steps_are_independent():
    """A policy that hardly moves draws anew at each step: no two are correlated, in any of the
    parameters; those of one run are spread as those of one step are."""
    policy, flow = two_questions()
    sampler = qra.SampledGroups(2, 3, qra.RLOO())

    def moves(key):
        run = qra.train(policy, flow, optax.sgd(1e-7), 4, sampler=sampler, key=key)
        return jnp.diff(run.policy.pattern_logits, axis=0)

    found = np.asarray(jax.jit(jax.vmap(moves))(KEYS[:4096]))[..., policy.exists]
    number, steps, width = found.shape
    for parameter in range(width):
        between = np.corrcoef(found[..., parameter].T) - np.eye(steps)
        assert np.abs(between).max() < 5 / np.sqrt(number)
    spread = found.std(axis=0)
    np.testing.assert_allclose(spread, np.broadcast_to(spread.mean(axis=0), spread.shape), rtol=0.1)
    # Other keys, other runs: hardly any two are the same.
    assert len(np.unique(np.round(found[:, 0] * 1e7, 6), axis=0)) > 10


def test_sampled_run_by_hand():
    """Step n draws with `fold_in(key, n)` at the policy it finds, and is learnt from `epochs`
    times; penalties enter exactly, against the reference that is reset. For two seeds."""
    policy, moving = two_questions()
    shift = jnp.array([[0.5, -0.2, 0.0], [0.3, 0.0, -0.4]])
    reference = qra.TabularPolicy(policy.pattern_logits + shift, policy.answer_logits)
    problem = moving.problem
    flow = qra.GradientFlow(qra.RLVR(0.3), problem, "all")
    sampler = qra.SampledGroups(3, 2, qra.RLOO(), clip=(0.1, 0.3), epochs=2)
    optimiser = optax.sgd(0.5, momentum=0.6)
    run = functools.partial(
        qra.train, policy, flow, optimiser, 5, sampler=sampler, reference=reference,
        reset_reference_every=2,
    )  # fmt: skip
    values = flow.objective.reward(policy, problem)

    def loss(theta, samples, compared):
        return samples.loss(sampler, theta) + 0.3 * problem.mean(theta.kl(compared))

    @jax.jit
    def update(theta, state, samples, compared):
        slope = jax.grad(loss)(theta, samples, compared)
        updates, state = optimiser.update(slope, state)
        return TREE.tree_map(lambda x, u: x + jnp.where(x > -jnp.inf, u, 0), theta, updates), state

    draw = jax.jit(lambda key, theta: sampler.draw(key, problem.weights, theta, values))
    ends = []
    for seed in (3, 8):
        key = jax.random.key(seed)
        found = run(key=key)
        theta, state, compared = policy, optimiser.init(policy), reference
        for step in range(5):
            row = TREE.tree_map(lambda x, n=step: x[n], found.policy)
            np.testing.assert_allclose(flat(row), flat(theta), rtol=0, atol=1e-12)
            kl = problem.mean(theta.kl(compared))
            np.testing.assert_allclose(found.kl[step], kl, rtol=0, atol=1e-12)
            samples = draw(jax.random.fold_in(key, step), theta)
            for _ in range(2):
                theta, state = update(theta, state, samples, compared)
            compared = theta if step % 2 else compared
        np.testing.assert_allclose(flat(found.final_policy), flat(theta), rtol=0, atol=1e-12)
        ends.append(flat(theta))
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def test_rows_are_means_by_weight():
    """Of two questions of unequal weight: accuracy, another reward, entropy and divergence."""
    policy, moving = two_questions()
    reference = qra.TabularPolicy(policy.pattern_logits * 0.5, policy.answer_logits)
    rewards = np.array([[2.0, -1.0, 0.0], [0.5, 3.0, 1.0]])
    flow = qra.GradientFlow(qra.RLIF(qra.PatternReward(rewards), 0.1), moving.problem)
    run = qra.train(policy, flow, optax.adamw(0.3, weight_decay=0.2), 3, reference=reference)
    np.testing.assert_array_equal(run.steps, np.arange(4))
    params, frozen = flow.split(policy)
    probs, asked, rates = (
        np.exp(x) for x in (policy.log_probs()[0], reference.log_probs()[0], policy.log_probs()[1])
    )
    # The first step by hand: what weight decay adds, and Adam's, which is the sign at first.
    slope = flow.velocity(params, frozen, reference).pattern_logits
    logits = np.where(policy.exists, policy.pattern_logits, 0)
    first = logits + 0.3 * np.sign(np.where(policy.exists, slope, 0)) - 0.3 * 0.2 * logits
    found = np.where(policy.exists, run.policy.pattern_logits[1], 0)
    np.testing.assert_allclose(found, first, atol=1e-5)
    for row in range(4):
        probs = np.asarray(run.pattern_probs[row])
        logits = np.asarray(run.policy.pattern_logits[row])
        np.testing.assert_allclose(probs, scipy.special.softmax(logits, axis=1), rtol=1e-12)
        wanted = {
            "accuracy": np.sum(probs * rates[..., 0], axis=1),
            "reward": np.sum(probs * rewards, axis=1),
            "entropy": np.sum(scipy.special.entr(probs), axis=1),
            "kl": np.sum(scipy.special.rel_entr(probs, asked), axis=1),
        }
        for name, each in wanted.items():
            np.testing.assert_allclose(getattr(run, name)[row], each @ [0.3, 0.7], rtol=1e-10)


def test_rows_of_a_long_run():
    """129 if none are asked for, evenly spaced; between rows all steps are done."""
    run = qra.train(POLICY, PROBLEM, optax.sgd(0.01), 300)
    np.testing.assert_array_equal(run.steps, np.round(np.linspace(0, 300, 129)))
    few = qra.train(POLICY, PROBLEM, optax.sgd(0.01), 300, rows=2)
    np.testing.assert_array_equal(few.steps, [0, 300])
    same(few.final_policy, run.final_policy, 1e-13)
    same(few.accuracy, run.accuracy[jnp.array([0, -1])], 1e-13)
    assert (run.num_steps, few.num_steps) == (300, 300)


def test_mean_over_seeds_converges():
    """The mean over n seeds converges to the exact step at the rate 1/sqrt(n)."""
    each, exact = one_step("GRPO", 3, 4)
    numbers = np.array([4, 16, 64, 256])
    errors = []
    for number in numbers:
        means = np.mean(each.reshape(-1, number, each.shape[-1]), axis=1)
        errors.append(np.sqrt(np.mean((means - exact) ** 2)))
    assert slope(numbers, errors) == pytest.approx(-0.5, abs=0.1)


GROUPS = [(qra.SampledGRPO(redraw=True), 2.0), (qra.training.RejectionFineTuning(), 0.0)]


@functools.cache
def draws(estimator):
    """Many groups of 3, as a compiled function of probabilities and rewards, `(5,)` each."""
    keys = jax.random.split(jax.random.key(3), 100_000)

    def draw(probs, rewards):
        return jax.vmap(lambda key: estimator.draw(key, probs, rewards, 3))(keys)

    return jax.jit(draw)


@pytest.mark.parametrize(("estimator", "other"), GROUPS, ids=["GRPO", "rejection"])
def test_redrawn_groups(estimator, other):
    """Redrawn groups have the conditional distribution, however improbable they are."""
    probs, rewards = np.array([0.9, 0.0, 0.03, 0.06, 0.01]), np.array([0.0, 0.0, 1.0, other, 1.0])
    found = np.asarray(draws(estimator)(probs, rewards))
    outcomes = np.array(list(itertools.product(range(5), repeat=3)))
    chances = np.prod(probs[outcomes], axis=1)
    earned = rewards[outcomes]
    differ = np.ptp(earned, axis=1) > 0
    chances *= differ if isinstance(estimator, qra.SampledGRPO) else np.any(earned > 0, axis=1)
    chances /= np.sum(chances)
    counts = np.bincount(found @ [25, 5, 1], minlength=125)
    deviation = np.sqrt(len(found) * chances * (1 - chances))
    np.testing.assert_array_equal(counts[chances == 0], 0)
    assert np.all(np.abs(counts - len(found) * chances) <= 5 * deviation)


@pytest.mark.parametrize(("estimator", "other"), GROUPS, ids=["GRPO", "rejection"])
def test_nothing_to_redraw(estimator, other):
    """Where no redrawing would help, what exists is drawn and contributes nothing."""
    rewards = np.array([0.0, 0.0, 1.0, other, 1.0])
    found = np.asarray(draws(estimator)(np.array([0.5, 0.5, 0.0, 0.0, 0.0]), rewards))
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(estimator.advantages(jnp.array(rewards[found])), 0)


def test_equal_rewards_have_no_deviation():
    """Rounding of the mean of equal rewards is not a deviation."""
    rewards = jnp.full((1, 3), 0.7)
    assert jnp.std(rewards) > 0
    np.testing.assert_array_equal(qra.SampledGRPO().advantages(rewards), 0)


def test_clipped_loss():
    """The loss term by term, on both sides of both bounds."""
    ratio = np.array([0.5, 0.5, 0.95, 1.0, 1.15, 1.15, 1.5, 1.5])
    rewards = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    gains = []
    for rho, advantage in zip(ratio, (rewards - 0.5) / 0.5, strict=True):
        bounded = min(max(rho, 0.8), 1.3)
        gains.append(min(rho * advantage, bounded * advantage))
    drawn_at = jnp.linspace(-3, -1, 8)
    sampler = qra.SampledGroups(8, clip=(0.2, 0.3), epochs=2)
    loss = sampler.loss(jnp.array(rewards), drawn_at + jnp.log(ratio), drawn_at)
    np.testing.assert_allclose(loss, -np.mean(gains), rtol=1e-14)
    assert not np.isclose(loss, -np.mean(ratio * (rewards - 0.5) / 0.5))


def test_clipping_in_training():
    """One epoch never clips; where the bound binds, a second epoch learns from failures only."""
    policy, problem = qra.two_stage(np.array([0.4, 0.6]), np.array([1.0, 0.0]))
    size, rate = 8, 2.0

    def moved(**options):
        sampler = qra.SampledGroups(size, **options)
        run = qra.train(policy, problem, optax.sgd(rate), 1, sampler=sampler, key=jax.random.key(1))
        assert run.status == qra.Status.COMPLETED
        return float((run.final_policy.pattern_logits - policy.pattern_logits)[0, 0])

    first = moved()
    assert moved(clip=1e-3) == first
    # Advantages sqrt(f/s) and -sqrt(s/f) of s successes and f failures move the logit of success
    # by rate/G (s sqrt(f/s) (1 - pi) + f sqrt(s/f) pi) = rate sqrt(s f)/G.
    product = (first * size / rate) ** 2
    right = next(s for s in range(1, size) if np.isclose(s * (size - s), product))
    wrong = size - right
    odds = np.log(0.4 / 0.6) + 2 * first
    prob = 1 / (1 + np.exp(-odds))
    assert prob / 0.4 > 1.2
    successes = np.sqrt(right * wrong) / size * prob / 0.4 * (1 - prob)
    failures = np.sqrt(right * wrong) / size * (1 - prob) / 0.6 * prob
    assert moved(epochs=2) == pytest.approx(first + rate * (successes + failures), rel=1e-12)
    only_failures = moved(epochs=2, clip=(0.9, 0.2))
    assert only_failures == pytest.approx(first + rate * failures, rel=1e-12)


def test_regularisers_enter_exactly():
    """Without a reward, a sampled run is the exact run of its regularisers."""
    flow = qra.GradientFlow(qra.RLIF(qra.PatternReward(np.zeros(3)), 0.5), PROBLEM)
    reference, _ = qra.two_stage(np.array([0.3, 0.3, 0.4]), RATES)
    exact = run_exactly(POLICY, flow, reference=reference)
    assert exact.kl[-1] < 0.5 * exact.kl[0]
    same(run_sampled(POLICY, flow, reference=reference, key=KEYS[0]).kl, exact.kl, 1e-12)


def test_moving_reference():
    """Against itself a policy feels no pull; against that of some steps ago it does."""
    flow = qra.GradientFlow(qra.RLVR(0.5), PROBLEM)
    free = run_exactly(POLICY, PROBLEM)
    every = run_exactly(POLICY, flow, reset_reference_every=1)
    same(every.pattern_probs, free.pattern_probs, 1e-12)
    np.testing.assert_array_equal(every.kl, 0)
    fourth = run_exactly(POLICY, flow, reset_reference_every=4)
    np.testing.assert_array_equal(fourth.kl == 0, np.arange(STEPS + 1) % 4 == 0)
    start = POLICY
    for first in range(0, STEPS, 4):
        held = run_exactly(start, flow)
        same(fourth.pattern_probs[first : first + 5], held.pattern_probs[:5], 1e-14)
        start = TREE.tree_map(lambda x: x[4], held.policy)
    held = run_exactly(POLICY, flow)
    assert free.accuracy[-1] > fourth.accuracy[-1] > held.accuracy[-1]


@pytest.mark.parametrize("run", [run_exactly, functools.partial(run_sampled, key=KEYS[1])])
def test_stops_at_the_last_finite_policy(run):
    """NaN from the optimiser freezes training, and the status says so."""
    bad = optax.scale_by_schedule(lambda count: jnp.where(count >= 3, jnp.nan, -0.5))
    found, good = run(POLICY, PROBLEM, optimiser=bad), run(POLICY, PROBLEM)
    assert (found.status, found.num_steps) == (qra.Status.FAILED, 3)
    assert (good.status, good.num_steps) == (qra.Status.COMPLETED, STEPS)
    same(found.final_policy, TREE.tree_map(lambda x: x[3], good.policy), 1e-14)
    last = jnp.minimum(jnp.arange(STEPS + 1), 3)
    same(found.pattern_probs, good.pattern_probs[last], 1e-14)
    assert np.any(good.pattern_probs[3] != good.pattern_probs[4])


def test_start_that_is_not_finite():
    """A traced NaN cannot be checked before: the status says so."""

    def status(logit):
        policy = qra.TabularPolicy(jnp.stack([logit, 0.0])[None], jnp.zeros((1, 2, 2)))
        run = qra.train(policy, qra.Problem(np.zeros(1, int)), SGD, 2)
        return run.status, run.num_steps

    assert jax.jit(status)(jnp.nan) == (qra.Status.INVALID_INPUT, 0)


@pytest.mark.parametrize("sampler", [None, qra.SampledGroups(4, 3)])
def test_padded_patterns_and_frozen_answers(sampler):
    """What does not exist stays so, weight decay or not; what is frozen does not move."""
    policy, moving = two_questions()
    frozen = qra.GradientFlow(qra.RLVR(0.1), moving.problem)
    optimiser = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.05, weight_decay=0.1))
    key = None if sampler is None else KEYS[0]
    run = qra.train(policy, frozen, optimiser, STEPS, sampler=sampler, key=key)
    assert run.status == qra.Status.COMPLETED
    gone = np.isneginf(policy.pattern_logits)
    rows = np.asarray(run.policy.pattern_logits)
    np.testing.assert_array_equal(np.isneginf(rows), np.broadcast_to(gone, rows.shape))
    assert np.all(np.isfinite(rows[:, ~gone]))
    assert np.all(rows[-1][~gone] != rows[0][~gone])
    np.testing.assert_array_equal(run.pattern_probs[:, gone], 0)
    same(run.final_policy.answer_logits, policy.answer_logits)
    assert np.all(np.isfinite([run.reward, run.entropy, run.kl, run.accuracy]))


def test_float32():
    """Single precision stays so, and agrees with double precision."""
    policy, problem = qra.two_stage(START.astype(np.float32), RATES.astype(np.float32))
    run = run_exactly(policy, problem)
    assert run.accuracy.dtype == run.final_policy.pattern_logits.dtype == np.float32
    same(run.accuracy, run_exactly(POLICY, PROBLEM).accuracy, 1e-6)
    flow = qra.GradientFlow(qra.RLVR(0.1), problem)
    sampler = qra.SampledGroups(4, 2, qra.SampledGRPO(redraw=True), clip=0.2, epochs=2)
    sampled = qra.train(policy, flow, optax.adam(0.1), 50, sampler=sampler, key=KEYS[0])
    assert sampled.final_policy.pattern_logits.dtype == np.float32
    assert sampled.status == qra.Status.COMPLETED
    assert sampled.accuracy[-1] > sampled.accuracy[0]


def test_keys():
    """A key fixes a run, however rows are stored and seeds are batched."""
    run = functools.partial(run_sampled, POLICY, PROBLEM)
    keys = KEYS[:3]
    loop = [run(key=key) for key in keys]
    same(run(key=keys[0]), loop[0])
    same(run(key=keys[0], rows=3).final_policy, loop[0].final_policy)
    assert np.any(loop[0].pattern_probs != loop[1].pattern_probs)
    batch = jax.vmap(lambda key: run(key=key))(keys)
    stacked = TREE.tree_map(lambda *rows: jnp.stack(rows), *loop)
    same(batch, stacked, 1e-12)
    same(TREE.tree_map(lambda x: x[1], batch.policy), loop[1].policy, 1e-12)
    assert batch.policy.answer_logits.shape == (3, STEPS + 1, 1, 3, 2)


def test_batches_and_gradients():
    """Policies and learning rates can be mapped over, and a run be differentiated."""

    def accuracy(logit, rate):
        policy = qra.TabularPolicy(POLICY.pattern_logits.at[0, 0].add(logit), POLICY.answer_logits)
        return qra.train(policy, PROBLEM, optax.sgd(rate), STEPS, rows=4).accuracy[-1]

    step = 1e-5
    logits, rates = jnp.array([0.0, step, -step, 0.0]), jnp.array([0.5, 0.5, 0.5, 1.0])
    values, slopes = jax.vmap(jax.value_and_grad(accuracy))(logits, rates)
    same(values[0], run_exactly(POLICY, PROBLEM).accuracy[-1], 1e-13)
    assert values[3] > values[0] + 1e-3
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / (2 * step), rtol=1e-6)


def groups(*args, **options):
    """A call of `SampledGroups`."""
    return lambda: qra.SampledGroups(*args, **options)


def train(flow=PROBLEM, optimiser=SGD, num_steps=5, **options):
    """A call of `train` on the check case."""
    return lambda: qra.train(POLICY, flow, optimiser, num_steps, **options)


def objective(*args, **options):
    """A flow with this objective."""
    return qra.GradientFlow(qra.Objective(*args, **options), PROBLEM)


SAMPLER, KEY = qra.SampledGroups(4), KEYS[0]
WITH = {"sampler": SAMPLER, "key": KEY}
BAD = {
    "no group": (groups(0), "group_size", "at least 1", "0"),
    "no batch": (groups(4, 0), "batch", "at least 1", "0"),
    "no epochs": (groups(4, epochs=0), "epochs", "at least 1", "0"),
    "clip of 0": (groups(4, clip=0.0), "clip", "above 0", "0.0"),
    "negative clip": (groups(4, clip=(0.2, -0.1)), "clip", "above 0", "-0.1"),
    "group of one": (groups(1), "group_size", "at least 2 for SampledGRPO", "1"),
    "one for a mean": (groups(1, estimator=qra.RLOO()), "group_size", "at least 2", "1"),
    "group below k": (groups(3, estimator=qra.training.SampledPassAtK(4)), "group_size", "4", "3"),
    "k of 0": (lambda: qra.training.SampledPassAtK(0), "k", "at least 1", "0"),
    "ddof": (lambda: qra.SampledGRPO(ddof=2), "ddof", "0 or 1", "2"),
    "no steps": (train(num_steps=0), "num_steps", "at least 1", "0"),
    "one row": (train(rows=1), "rows", "at least 2", "1"),
    "many rows": (train(rows=7), "rows", "at most num_steps + 1 = 6", "7"),
    "reset": (train(reset_reference_every=0), "reset_reference_every", "at least 1", "0"),
    "no key": (train(sampler=SAMPLER), "key", "be given with a sampler", "None"),
    "no sampler": (train(key=KEY), "key", "come with a sampler", "key"),
    "nothing to train": (
        train(qra.GradientFlow(qra.RLVR(), PROBLEM, lambda p: TREE.tree_map(lambda _: False, p))),
        "flow.trainable",
        "select a leaf",
        "none",
    ),
    "utility": (
        train(objective(qra.Verifiable(), utility=qra.objectives.LogLikelihood()), **WITH),
        "utility",
        "mean or that of the estimator, GRPO(group=4",
        "LogLikelihood()",
    ),
    "differentiated": (
        train(objective(qra.Verifiable(), differentiate_reward=True), **WITH),
        "differentiate_reward",
        "be False",
        "True",
    ),
    "not a success": (
        train(
            objective(qra.PatternReward(np.array([1.0, 0.5, 0.0]))),
            sampler=qra.SampledGroups(4, estimator=qra.training.SampledMaxRL()),
            key=KEY,
        ),
        "reward",
        "0 or 1 for SampledMaxRL",
        "0.5",
    ),
}


@pytest.mark.parametrize(("call", "name", "must", "was"), BAD.values(), ids=BAD)
def test_bad_input(call, name, must, was):
    """A message that names the argument, what it must be and what it was."""
    with pytest.raises(ValueError, match="must") as caught:
        call()
    message = str(caught.value)
    assert name in message.split(" must ")[0]
    assert must in message
    assert was in message.split("got ")[-1]


def test_same_utility_is_accepted():
    """The objective may already have the utility of the estimator: the run is the same."""
    flow = objective(qra.Verifiable(), utility=qra.GRPO(4))
    run = run_sampled(POLICY, flow, key=KEY)
    same(run.final_policy, run_sampled(POLICY, PROBLEM, key=KEY).final_policy, 1e-13)


def test_rewards_of_what_cannot_be_drawn():
    """Those that can be earned must be 0 or 1; of a pattern of probability 0 any will do."""
    policy, flow = two_questions()
    sampler = qra.SampledGroups(4, estimator=qra.training.SampledMaxRL())

    def check(padded, drawn):
        values = jnp.array([[1.0, 0.0, padded], [drawn, 0.0, 1.0]])[..., None]
        objective = qra.Objective(lambda policy, problem: values)
        return _checked(
            policy, qra.GradientFlow(objective, flow.problem, "all"), sampler, jax.random.key(0)
        )

    assert check(0.5, 1.0).sampler is sampler
    with pytest.raises(ValueError, match="reward must be 0 or 1 for SampledMaxRL"):
        check(0.0, 0.5)


def test_only_two_stage_objectives_are_sampled():
    """SFT has no samples to learn from."""
    with pytest.raises(TypeError, match=r"flow\.objective must be an Objective"):
        train(qra.GradientFlow(qra.SFT(np.array([0.5, 0.5, 0.0])), PROBLEM), **WITH)()
