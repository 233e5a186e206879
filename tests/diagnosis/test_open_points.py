"""What is open and how many further rollouts would settle it: the same simulated in NumPy."""

import math

import jax
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.diagnosis import _settle
from qra_jax.diagnosis._run import drawn
from qra_jax.diagnosis._settle import Future, future_posteriors, open_points, width_of
from qra_jax.diagnosis._solve import Solver, Tables, Times

RLVR = qra.RLVR()
EPS = 0.1
FUTURES, WITHIN, SOLVED = 32, 99, 16  # of the method; what it finds scatters as they say
DOUBLINGS = 10


class ClosedForm(Solver):
    """Times of two patterns: one unit of RLVR moves the log odds by 2 pi (1 - pi) gap."""

    def __init__(self):
        pass

    def times(self, tables, weights):
        shape = tables.probs.shape[:2]
        flat = (x.reshape(-1, x.shape[-1]) for x in tables)
        log_times = log_convergence_times(*flat).reshape(shape) - np.log(weights)
        nothing, codes = np.zeros(shape), np.zeros(shape, int)
        return Times(codes, nothing, nothing, codes, log_times, codes)


def log_convergence_times(probs, rates):
    best = np.argmax(rates, axis=1)
    start = probs[np.arange(len(probs)), best]
    ends = [np.log(p / (1 - p)) for p in (start, np.full(len(start), 1 - EPS))]
    gap = np.abs(rates[:, 0] - rates[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = ends[1] + np.sinh(ends[1]) - ends[0] - np.sinh(ends[0])
        return np.where(start >= 1 - EPS, -np.inf, np.log(np.maximum(left, 0) / gap))


def later(rng, samples, correct, further):
    """Draws of shares and rates after further rollouts of one truth of the present posterior."""
    probs = rng.dirichlet(samples + 1)
    rates = rng.beta(correct + 1, samples - correct + 1)
    new = rng.multinomial(further, probs)
    right = rng.binomial(new, rates)
    n, k = samples + new, correct + right
    return rng.dirichlet(n + 1, WITHIN), rng.beta(k + 1, n - k + 1, (WITHIN, len(n)))


def largest_regime(probs, rates):
    value, ordered = np.sum(probs * rates, axis=1), np.sort(rates, axis=1)
    strong = np.mean(value > ordered[:, -2])
    single = np.mean((value < ordered[:, -2]) & (value > ordered[:, -3]))
    return max(strong, single, 1 - strong - single)


def width(probs, rates):
    """5 % and 95 % points of 99 draws: the 5th and the 95th."""
    ordered = np.sort(np.maximum(log_convergence_times(probs, rates) / math.log(10), 0))
    return ordered[94] - ordered[4]


def first_doubling(enough) -> int:
    """By halving the range, as more is expected to be better; 11 where none is enough."""
    low, high = 0, DOUBLINGS
    if not enough(high):
        return high + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


THREE = np.array([25.0, 45, 30]), np.array([20.0, 27, 9])
TWO = np.array([40.0, 60]), np.array([24.0, 33])
REPEATS = 10


@pytest.mark.parametrize(
    ("counts", "settled", "wide", "about"),
    [(THREE, 0.766, 0.5, "regime"), (TWO, 0.97, 1.5, "convergence time")],
)
def test_further_rollouts_are_those_of_a_simulation(counts, settled, wide, about):
    """Which multiple settles it, over ten seeds, against the same procedure in NumPy; of the
    regime and, in closed form, of the convergence time."""
    samples, correct = counts
    posterior, total = qra.posteriors.pooled_posterior(samples, correct), int(samples.sum())
    found = []
    for seed in range(REPEATS):
        truths = drawn(posterior, jax.random.key(seed), 64)
        (point,) = open_points(
            posterior, RLVR, ClosedForm(), samples.sum(keepdims=True), np.ones(1), truths,
            settled, wide, seed,
        )  # fmt: skip
        assert point.about == about
        assert point.tried == 1023 * total
        if point.further_rollouts is None:
            found.append(DOUBLINGS + 1)
        else:
            found.append(math.log2(point.further_rollouts / total + 1))
    found = np.array(found)
    np.testing.assert_allclose(found, np.round(found), atol=1e-12)
    rng, expected = np.random.default_rng(11), []

    def enough(doubling):
        further = (2**doubling - 1) * total
        if about == "regime":
            futures = (largest_regime(*later(rng, *counts, further)) for _ in range(FUTURES))
            return np.mean(list(futures)) >= 0.9
        return np.median([width(*later(rng, *counts, further)) for _ in range(SOLVED)]) <= 1

    expected = np.array([first_doubling(enough) for _ in range(5 * REPEATS)])
    error = expected.std() * math.sqrt(1 / REPEATS + 1 / len(expected))
    assert 0 < error < 0.6
    assert abs(found.mean() - expected.mean()) < 4 * error
    # Far from the least and from the most that was tried.
    assert 2 < expected.mean() < 6


def test_the_first_doubling_that_is_enough():
    """Of every threshold, and of none."""
    for least in range(1, DOUBLINGS + 1):
        assert _settle._first(lambda i, least=least: i >= least) == least
    assert _settle._first(lambda i: False) is None


def test_some_of_many_questions_stand_for_all(monkeypatch):
    """Sixteen of forty, from the first to the last, each with multiples of its own rollouts; what
    is reported is of all of them. Times of many questions are not tried."""
    asked = []
    samples = np.arange(10.0, 50)

    def future(posterior, objective, truths, rollouts, seed):
        asked.append((rollouts, seed))
        np.testing.assert_array_equal(posterior.concentrations[:, 0], truths.probs[0, :, 0])
        return Future(np.where(rollouts >= 7 * samples[some], 0.95, 0.5), None, None)  # type: ignore

    monkeypatch.setattr(_settle, "future_posteriors", future)
    some = np.round(np.linspace(0, 39, 16) - 0.499).astype(int)
    table = np.stack([np.arange(40.0), 5.0 + np.arange(40)], axis=1)
    posterior = qra.posteriors.per_question_posterior(table, table)
    truths = Tables(table[None] + 1, table[None] + 1)
    points = open_points(
        posterior, RLVR, ClosedForm(), samples, np.full(40, 1 / 40), truths, 0.6, np.inf, 5
    )
    regime, time = points
    assert regime.further_rollouts == 7 * samples.sum()
    assert regime.tried == 1023 * samples.sum()
    assert (regime.measure, regime.target) == (0.6, 0.9)
    assert regime.statement == "the regime is not settled: its largest probability is 0.60"
    assert (time.further_rollouts, time.tried, time.measure) == (None, 0, np.inf)
    assert "without a bound" in time.statement
    assert len(asked) > 3
    for rollouts, (seed, doubling) in asked:
        assert seed == 5
        np.testing.assert_array_equal(rollouts, (2**doubling - 1) * samples[some])


def test_nothing_is_open_where_all_is_known():
    """At the targets themselves, of both."""
    nothing = Tables(np.ones((1, 1, 2)), np.ones((1, 1, 2)))
    posterior = qra.posteriors.pooled_posterior(*TWO)
    arguments = posterior, RLVR, ClosedForm(), np.array([100.0]), np.ones(1), nothing
    assert open_points(*arguments, 0.9, 1.0, 0) == ()


def test_expected_regime_by_nested_simulation():
    """The expected largest regime probability of two questions after more rollouts, unequally
    many, all of it in NumPy."""
    tables = np.array([[15.0, 50, 35], [3, 4, 5]]), np.array([[12.0, 30, 10], [1, 4, 2]])
    posterior = qra.posteriors.per_question_posterior(*tables)
    truths = drawn(posterior, jax.random.key(0), FUTURES)
    rollouts = np.array([300.0, 40.0])
    found = future_posteriors(posterior, RLVR, truths, rollouts, (0, 0))
    assert found.probs.shape == found.rates.shape == (FUTURES, WITHIN, 2, 3)
    rng = np.random.default_rng(3)
    for question in range(2):
        counts = tables[0][question], tables[1][question]
        largest = [
            largest_regime(*later(rng, *counts, int(rollouts[question]))) for _ in range(400)
        ]
        error = np.std(largest) * math.sqrt(1 / FUTURES + 1 / 400)
        assert abs(float(found.settled[question]) - np.mean(largest)) < 4 * error
        # Draws of a future scatter as those of so many rollouts do, no less and no more.
        shares = [later(rng, *counts, int(rollouts[question]))[0].std(axis=0) for _ in range(100)]
        spread = found.probs[:, :, question].std(axis=1).mean(axis=0)
        np.testing.assert_allclose(spread, np.mean(shares, axis=0), rtol=0.15)
    # Another seed, and another number of rollouts, has futures of its own.
    other = [
        future_posteriors(posterior, RLVR, truths, rollouts, seed).probs
        for seed in ((1, 0), (0, 1))
    ]
    assert np.all(found.probs != other[0])
    assert np.all(found.probs != other[1])
    assert np.all(other[0] != other[1])


def test_further_counts_are_of_the_seed(monkeypatch):
    """The rollouts that are imagined, not only what is drawn after them."""
    counts = []

    def after(posterior, objective, samples, correct, key):
        counts.append((np.asarray(samples), np.asarray(correct)))
        return np.zeros((1, 1)), np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 1, 2))

    monkeypatch.setattr(_settle, "_later", after)
    posterior = qra.posteriors.pooled_posterior(np.array([[20.0, 10]]), np.array([[9.0, 5]]))
    truths = Tables(np.full((4, 1, 2), 0.5), np.full((4, 1, 2), 0.5))
    for seed in ((3, 1), (3, 1), (4, 1), (3, 2)):
        future_posteriors(posterior, RLVR, truths, np.array([1000.0]), seed)
    for one, again, *others in zip(*counts, strict=True):
        np.testing.assert_array_equal(one, again)
        assert all(np.any(one != other) for other in others)
    samples, correct = counts[0]
    np.testing.assert_array_equal(samples.sum(axis=-1), 1000)
    assert np.all((correct > 0) & (correct < samples))


def test_width_of_an_interval():
    """In powers of ten, between the 5 % and the 95 % point; times below 1 count as 1."""
    powers = np.linspace(-3, 6, 399)[:, None]
    assert width_of(powers * math.log(10)) == pytest.approx(powers[379, 0], rel=1e-12)
    assert width_of((powers + 4) * math.log(10)) == pytest.approx(
        powers[379, 0] - powers[19, 0], rel=1e-12
    )
    never = np.where(powers > 5, np.inf, powers)
    assert width_of(never) == np.inf
    assert width_of(np.full((39, 1), np.inf)) == 0
