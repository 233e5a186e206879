"""Which groups are of use and how large they should be: against enumeration and simulated steps."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

import qra_jax as qra
from qra_jax.diagnosis import KINDS, Solver, Tables, group_signal, useful_share
from qra_jax.diagnosis import measured_useful_share as measured
from qra_jax.diagnosis._group_size import GroupMoments, sizes_within, steps_of
from qra_jax.diagnosis._model import as_rollouts, modelled
from qra_jax.diagnosis._signal import question_rates, signal_of
from qra_jax.diagnosis._signal_path import Path, Verifier, ends_of, groups_of, path_of
from qra_jax.posteriors import Prior
from qra_jax.training import REINFORCE, RLOO, SampledGroups, SampledGRPO

TPR, FPR = 0.85, 0.2
SHARES = np.array([[0.15, 0.5, 0.35]])
SHIFTS = np.array([-2.5, -0.3, 0.4, 3.0])
RATES = expit(logit(np.array([0.8, 0.5, 0.15])) + SHIFTS[:, None])[None]
WEIGHTS = np.array([[0.1, 0.2, 0.3, 0.4]])


def test_useful_share_by_enumeration():
    """All outcomes of a group; both ends without cancellation; a verifier that errs."""
    for size, rate in ((2, 0.3), (5, 0.85)):
        v = FPR + (TPR - FPR) * rate
        chance = stats.binom(size, v).pmf(np.arange(1, size)).sum()
        assert useful_share(rate, size, TPR, FPR) == pytest.approx(chance, rel=1e-12)
    assert useful_share(1e-18, 8) == pytest.approx(8e-18, rel=1e-12)
    np.testing.assert_array_equal(useful_share(np.array([0.0, 1.0, 0.4]), 1), 0)
    assert useful_share(0.0, 4, fpr=0.5) == pytest.approx(1 - 2 / 16)


def test_measured_by_choosing():
    """The share of all choices of G of n samples that differ."""
    for n, c, size in ((6, 2, 3), (5, 4, 4), (4, 0, 2), (7, 7, 5), (3, 1, 3)):
        rewards = [1] * c + [0] * (n - c)
        differ = [0 < sum(x) < size for x in itertools.combinations(rewards, size)]
        assert measured(np.array([n]), np.array([c]), size)[0] == pytest.approx(
            np.mean(differ), abs=1e-12
        )
    assert np.isnan(measured(np.array([3]), np.array([1]), 4)[0])


def simulated(estimator, size, number, rng, keep=False):
    """Estimates of single groups of questions drawn by weight, `(N, 3)`."""
    question = rng.choice(4, size=number, p=WEIGHTS[0])
    pattern = rng.choice(3, size=(number, size), p=SHARES[0])
    right = rng.random((number, size)) < RATES[0][question[:, None], pattern]
    reward = (rng.random((number, size)) < np.where(right, TPR, FPR)).astype(float)
    advantages = np.asarray(estimator.advantages(jnp.asarray(reward)))
    scores = np.eye(3)[pattern] - SHARES[0]
    if keep:
        differ = (reward.min(axis=1) < reward.max(axis=1)).nonzero()[0]
        advantages, scores = advantages[differ], scores[differ]
    return np.mean(advantages[..., None] * scores, axis=1)


@pytest.mark.parametrize("estimator", [SampledGRPO(), RLOO(), REINFORCE(), SampledGRPO(ddof=1)])
def test_steps_against_simulation(estimator):
    """Mean and mean square of a step of several groups, with a verifier that errs."""
    size, batch, rng = 5, 3.0, np.random.default_rng(4)
    one = simulated(estimator, size, 400_000, rng)
    mean, square = one.mean(axis=0), np.sum(one**2, axis=1).mean()
    success = RATES[0] @ SHARES[0]
    gradient = WEIGHTS[0] @ (SHARES * (RATES[0] - success[:, None]))
    both = mean @ mean + (square - mean @ mean) / batch
    along, length = gradient @ mean, gradient @ gradient
    groups = SampledGroups(size, estimator=estimator)
    found = steps_of(GroupMoments.of(groups, size), SHARES, RATES, WEIGHTS, batch, TPR, FPR)
    assert found.pace[0] == pytest.approx(along / length, rel=0.02)
    assert found.signal[0] == pytest.approx(along**2 / (length * both), rel=0.03)


def test_groups_that_are_kept():
    """As many rollouts on groups that are drawn until they are of use."""
    size, batch, rng = 4, 6.0, np.random.default_rng(5)
    kept = simulated(SampledGRPO(), size, 400_000, rng, keep=True)
    useful = len(kept) / 400_000
    mean, square = kept.mean(axis=0), np.sum(kept**2, axis=1).mean()
    success = RATES[0] @ SHARES[0]
    gradient = WEIGHTS[0] @ (SHARES * (RATES[0] - success[:, None]))
    both = mean @ mean + (square - mean @ mean) / (batch * useful)
    moments = GroupMoments.of(SampledGroups(size), size)
    found = steps_of(moments, SHARES, RATES, WEIGHTS, batch, TPR, FPR)
    expected = (gradient @ mean) ** 2 / (gradient @ gradient * both)
    assert found.kept[0] == pytest.approx(expected, rel=0.03)
    assert found.kept[0] > found.signal[0]


def test_nothing_to_learn():
    """Patterns of equal success: no gradient, no signal, and no division by it."""
    moments = GroupMoments.of(SampledGroups(4), 4)
    found = steps_of(moments, SHARES, np.full((1, 4, 3), 0.3), WEIGHTS, 2.0)
    assert (found.pace[0], found.signal[0], found.kept[0]) == (0, 0, 0)
    alone = group_signal((np.full((9, 1), 4), np.arange(9)[:, None] % 5), draws=20)
    assert (alone.by_size.best, alone.by_size.as_good) == (0, ())
    assert np.isnan(alone.by_size.best_probs).all()
    assert np.all(alone.by_size.useful.median > 0)


def test_rates_of_questions():
    """The difficulty that gives a question its success, found by SciPy."""
    shares = np.array([[0.2, 0.8], [0.6, 0.4]])
    rates = np.array([[0.9, 0.3], [0.5, 0.05]])
    success = np.array([[0.01, 0.4, 0.99], [0.2, 1e-6, 1 - 1e-6]])
    found = question_rates(success, shares, rates)
    np.testing.assert_allclose(np.einsum("dr,dnr->dn", shares, found), success, rtol=2e-4)
    moved = logit(found) - logit(rates)[:, None]
    np.testing.assert_allclose(moved[..., 0], moved[..., 1], atol=1e-6)


def test_path():
    """Now, parts of a time, and the end; ties for best share it, missing patterns have nothing."""
    log_times = np.linspace(-1, 5, 13)
    rise = np.stack([log_times, 1 - log_times], axis=-1)[None]
    start, end = np.array([[0.25, 0.75]]), np.array([[1.0, 0.0]])
    found = path_of(log_times, rise, start, end, 3.0)
    assert found.log_times[[0, 4, -1]].tolist() == [-np.inf, 3.0, np.inf]
    np.testing.assert_allclose(found.shares[0, 1:-1, 0], 3 + np.log([0.125, 0.25, 0.5, 1, 2]))
    np.testing.assert_array_equal(found.shares[0, [0, -1]], [start[0], end[0]])
    shares = np.array([[0.3, 0.7, 0.0], [0.5, 0.25, 0.25]])
    rates = np.array([[0.4, 0.2, 0.9], [0.6, 0.1, 0.6]])
    np.testing.assert_array_equal(ends_of(shares, rates), [[1, 0, 0], [0.5, 0, 0.5]])


def counted(rng, number=40, each=8):
    """Questions whose difficulty differs, two patterns."""
    shift = rng.normal(0, 1.5, number)
    samples = rng.multinomial(each, (0.3, 0.7), number)
    rates = expit(logit(np.array([0.7, 0.4])) + shift[:, None])
    return samples, rng.binomial(samples, rates)


@pytest.fixture(scope="module")
def table():
    return counted(np.random.default_rng(6))


def test_group_signal(table):
    """Means over the law, or over the very questions; the sizes of a budget; the classes."""
    groups = SampledGroups(4, 10, RLOO())
    found = group_signal(table, groups=groups, draws=40)
    by = found.by_size
    assert by.sizes.tolist() == [2, 4, 8, 16, 32]
    assert sizes_within(20, SampledGroups(5, 4)) == (2, 4, 5, 8, 16)
    assert (found.group_size, found.batch, found.estimator) == (4, 10, "RLOO")
    totals = table[0].sum(axis=1), table[1].sum(axis=1)
    each = measured(*totals, 8)
    assert by.measured[2] == pytest.approx(each.mean())
    assert by.error[2] == pytest.approx(each.std(ddof=1) / np.sqrt(40))
    assert by.questions.tolist() == [40, 40, 40, 0, 0]
    assert np.all(by.useful.low < by.useful.high)
    np.testing.assert_allclose(by.samples_per_useful.median * by.useful.median, by.sizes, rtol=0.02)
    assert by.best_probs.sum() == pytest.approx(1)
    assert by.best in by.as_good
    # Of the measured share, of the law, and half a question of 40.
    of_law = (by.useful.high[2] - by.useful.low[2]) / (2 * 1.6448536269514722)
    error = np.sqrt(by.error[2] ** 2 + of_law**2 + (0.5 / 40) ** 2)
    assert found.misfit == pytest.approx((by.measured[2] - by.useful.median[2]) / error)
    # RLOO is unbiased: the pace of the mean reward, whatever the size.
    np.testing.assert_allclose(by.pace.median, 1, rtol=1e-3)
    fixed = group_signal(table, groups=groups, draws=40, questions="fixed")
    # With many samples these questions are known, and others like them are not.
    many = [
        group_signal(tuple(40 * x for x in table), groups=groups, draws=40, questions=which)
        for which in ("sampled", "fixed")
    ]
    width = [x.by_size.useful.high[1] - x.by_size.useful.low[1] for x in many]
    assert width[1] < 0.3 * width[0]
    assert (found.asked, fixed.asked) == ("questions like these", "these questions")
    kinds = fixed.by_question.kinds[0]
    np.testing.assert_allclose(kinds.sum(axis=1), 1)
    np.testing.assert_allclose(fixed.counts[0], kinds.mean(axis=0), atol=1e-12)
    # Beta(c + s m, n - c + s (1 - m)) of about s = 2: cold is below 1 - 2^(-1/4).
    never, always = totals[1] == 0, totals[1] == 8
    assert kinds[never, 0].min() > 0.5
    assert kinds[always, 2].min() > 0.5
    assert group_signal(table, draws=40, seed=1).by_size.useful.low[0] != by.useful.low[0]


def test_labels(table):
    """The same by name."""
    found = group_signal(table, draws=20)
    data = found.to_dataset()
    assert data.kind.values.tolist() == list(KINDS)
    by = found.by_size
    assert float(data.useful_share.sel(size=8, level="high")) == by.useful.high[2]
    assert (
        float(data.kind_probability[0].sel(question="3", kind="cold"))
        == (found.by_question.kinds[0, 3, 0])
    )
    assert "gain" not in data


def test_a_verifier_that_errs(table):
    """What it accepts differs more often, and says less."""
    clean, noisy = (group_signal(table, draws=20, tpr=x, fpr=1 - x) for x in (1.0, 0.7))
    assert np.all(noisy.by_size.useful.median > clean.by_size.useful.median)
    assert np.all(noisy.by_size.pace.median < 0.7 * clean.by_size.pace.median)
    assert np.isnan(noisy.by_size.measured).all()
    assert np.isnan(noisy.misfit)
    assert (clean.verifier_errs, noisy.verifier_errs) == (False, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": SampledGroups(8)}, "groups.batch must be the number of groups"),
        ({"groups": SampledGroups(8, 4, epochs=2)}, "groups.epochs must be 1"),
        ({"tpr": 1.5}, r"tpr must lie in \[0, 1\], got 1.5"),
        ({"draws": 3}, "draws must be at least 20"),
        (
            {"rollouts": (np.tile([1, 0], (9, 1)),) * 2},
            "have at least 2 samples of each of some questions",
        ),
    ],
)
def test_bad_input(table, change, message):
    """One line that names the argument."""
    rollouts = change.pop("rollouts", table)
    with pytest.raises(ValueError, match=message):
        group_signal(rollouts, **change)
    with pytest.raises(ValueError, match=r"rates must lie in \[0, 1\]"):
        useful_share(1.5, 4)


def test_pull_of_the_penalty(table):
    """Beside the change of the accuracy over a short step along the penalty's gradient."""
    # So many samples that the success of every question is known.
    model = modelled(as_rollouts(tuple(4000 * x for x in table)), 16)
    beta, start, now = 0.3, np.array([0.3, 0.7]), np.array([0.65, 0.35])
    rates = np.array([0.75, 0.4])
    shares = np.broadcast_to(np.stack([start, now, [1.0, 0.0]]), (30, 3, 2))
    path = Path(np.array([-np.inf, 2.0, np.inf]), shares)
    found = signal_of(
        model, Prior(), False, path, np.tile(rates, (30, 1)), SampledGroups(8, 4),
        Verifier(beta=beta), 0,
    )  # fmt: skip
    pull = found.kl_pull
    assert pull.kl.median[1] == pytest.approx(now @ np.log(now / start))
    assert pull.kl.median[2] == pytest.approx(-np.log(0.3))
    assert pull.lost.median[[0, 2]] == pytest.approx(0, abs=1e-12)
    # By hand for the mean question: the other way would be up.
    each = question_rates(found.by_question.success.median[None], start[None], rates[None])[0]

    def accuracy(theta):
        share = np.exp(theta) / np.exp(theta).sum()
        return np.mean(each @ share)

    kl = now * (np.log(now / start) - now @ np.log(now / start))
    step = 1e-5
    slope = (accuracy(np.log(now) - step * kl) - accuracy(np.log(now))) / step
    useless = 1 - useful_share(each @ now, 8).mean()
    assert pull.lost.median[1] == pytest.approx(beta * useless * slope, rel=0.01)
    assert pull.lost.median[1] < 0 < pull.gain.median[1]
    # Groups drawn until useful pull nowhere else: no penalty, no entry.
    without = signal_of(model, Prior(), False, path, np.tile(rates, (30, 1)), SampledGroups(8, 4),
                        Verifier(), 0)  # fmt: skip
    assert without.kl_pull is None
    assert without.log_times.tolist() == [-np.inf, 2.0, np.inf]
    # More of the better pattern: fewer cold questions, more saturated ones.
    assert without.counts[2, 0] <= without.counts[0, 0]
    assert without.counts[2, 2] > without.counts[0, 2]


def test_groups_of_a_run():
    """Those of the run's sampler, as many as usual where it has one of each question."""
    run = qra.diagnosis.TrainingRun(5, 0.1, sampler=SampledGroups(16, estimator=RLOO()))
    own = groups_of(None, run)
    assert (own.group_size, own.batch, type(own.estimator)) == (16, 64, RLOO)
    assert groups_of(SampledGroups(2, 3), run).batch == 3
    assert groups_of(None, None).group_size == 8


def test_a_penalty_is_followed():
    """Paths, times and ends beside SciPy's solution; a start whose best pattern never converges."""
    beta, eps = 0.2, 0.1
    probs = np.array([[0.1, 0.6, 0.3], [0.05, 0.05, 0.9], [0.3, 0.6, 0.1]])
    rates = np.array([[0.9, 0.5, 0.2], [0.6, 0.5, 0.55], [0.9, 0.1, 0.05]])
    solver = Solver(qra.RLVR(beta=beta), eps)
    tables = Tables(probs[:, None], rates[:, None])
    times = solver.times(tables, np.ones(1))
    optimum = probs * np.exp(rates / beta)
    optimum /= optimum.sum(axis=1, keepdims=True)
    assert optimum[0, 0] < 1 - eps
    log_times = np.linspace(-1, 7, 96)
    accuracy, shares, _ = solver.follow(tables, np.ones(1), log_times)
    np.testing.assert_allclose(shares[:, -1], optimum, atol=1e-3)
    np.testing.assert_allclose(accuracy[:, -1], np.sum(shares[:, -1] * rates, axis=1), rtol=1e-6)

    def policy(theta):
        pi = np.exp(theta - theta.max())
        return pi / pi.sum()

    def log_time(at, passes):
        def field(_, theta):
            pi = policy(theta)
            value = rates[at] - beta * np.log(pi / probs[at])
            return pi * (value - pi @ value)

        passes.terminal = True
        start = np.log(probs[at])
        solved = integrate.solve_ivp(
            field, (0, 1e3), start, "DOP853", rtol=1e-9, atol=1e-10, events=passes
        )
        return np.log(solved.t_events[0][0])

    second = log_time(0, lambda _, theta: policy(theta) @ rates[0] - 0.5)
    assert times.log_entanglement[0, 0] == pytest.approx(second, abs=0.02)
    converged = log_time(2, lambda _, theta: policy(theta)[0] - (1 - eps))
    assert times.log_convergence[2, 0] == pytest.approx(converged, abs=0.02)
    assert np.all(np.isposinf(times.log_convergence[:2]))
    ends = [qra.Status.STATIONARY, qra.Status.STATIONARY, qra.Status.EVENT]
    assert times.convergence_status[:, 0].tolist() == ends
    assert times.log_entanglement[2, 0] == -np.inf


def test_questions_that_are_all_alike():
    """Every group measured is of use, with a standard error of 0: no alarm, as little is known."""
    found = group_signal((np.full((10, 1), 100), np.full((10, 1), [[47]])), draws=40)
    assert found.by_size.error[found.by_size.sizes.tolist().index(32)] < 1e-6
    assert abs(found.misfit) < 1


def test_one_question_says_nothing_of_others():
    """As a table of counts without questions does."""
    with pytest.raises(ValueError, match="2 samples of each of some questions"):
        group_signal((np.array([[30, 20]]), np.array([[10, 15]])), draws=40)
