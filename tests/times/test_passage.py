"""Entanglement and convergence times against closed forms, oracles and the theory's numbers."""

import math

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.special

import qra_jax as qra
from tests._support import compiled, systems
from tests._support.compiled import one

LN10 = math.log(10)


def agrees_to_digits(value: float, printed: str) -> bool:
    """Whether `value` rounds to the number as printed."""
    decimals = len(printed.partition(".")[2])
    return f"{value:.{decimals}f}" == printed


def test_check_case():
    """T0 = 94.30486, in the entangled regime with gamma = 6, at the policy that theory lists."""
    found = one(compiled.entanglement(), systems.CHECK_PROBS, systems.CHECK_RATES)
    assert agrees_to_digits(math.exp(found["log_time"]), "94.30486")
    printed = ("0.036568", "0.951242", "0.012189")
    assert all(map(agrees_to_digits, found["probs"][:3], printed))
    assert found["regime"] == qra.Regime.ENTANGLED
    assert found["gamma"] == pytest.approx(6, rel=1e-12)
    assert found["status"] == qra.Status.EVENT


def test_check_case_natural():
    """Natural gradient: T0 = 3.38506 at (.1184, .8422, .0395)."""
    engine = compiled.entanglement(compiled.natural)
    found = one(engine, systems.CHECK_PROBS, systems.CHECK_RATES)
    assert agrees_to_digits(math.exp(found["log_time"]), "3.38506")
    printed = ("0.1184", "0.8422", "0.0395")
    assert all(map(agrees_to_digits, found["probs"][:3], printed))


def test_check_case_log_likelihood():
    """A user's own reward (equal to RLVR's) and clock: T0 = 64.48575 on the same orbit."""
    arguments = systems.CHECK_PROBS, systems.CHECK_RATES
    found = one(compiled.entanglement(compiled.log_likelihood), *arguments)
    plain = one(compiled.entanglement(), *arguments)
    assert agrees_to_digits(math.exp(found["log_time"]), "64.48575")
    np.testing.assert_allclose(found["probs"], plain["probs"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("rare", ["1e-2", "1e-8", "1e-14"])
def test_rare_best_pattern(rare):
    """log T0 against the exact solution; log10 T0 = 14.98777 at pi_* = 1e-8."""
    found = one(compiled.entanglement(), systems.rare_probs(float(rare)), systems.RARE_RATES)
    expected = systems.EXACT_T0[rare]
    if rare != "1e-14":
        assert expected == systems.exact_t0(rare)
    assert found["log_time"] == pytest.approx(expected, abs=1e-7)
    if rare == "1e-8":
        assert agrees_to_digits(found["log_time"] / LN10, "14.98777")


def test_random_starts_against_the_exact_solution():
    """log T0 of entangled, mixed and cascading starts, K = 3 to 6."""
    for patterns in (3, 4, 5, 6):
        probs, rates = systems.random_problems(patterns, 60, patterns)
        second = np.sort(rates, axis=1)[:, -2]
        weak = np.sum(probs * rates, axis=1) < second - 0.02
        probs, rates = probs[weak][:5], rates[weak][:5]
        found = compiled.entanglement()(probs, rates)
        assert np.all(found["status"] == qra.Status.EVENT)
        exact = [
            float(systems.exact_log_entanglement_time(p, r))
            for p, r in zip(probs, rates, strict=True)
        ]
        np.testing.assert_allclose(found["log_time"], exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("probs", "rates"),
    [
        pytest.param((0.5, 0.3, 0.2), (0.9, 0.4, 0.1), id="strong"),
        pytest.param((0.5, 0.5), (0.6, 0.6), id="all tied"),
        pytest.param((1.0,), (0.3,), id="vertex"),
        pytest.param((0.0, 1.0, 0.0), (0.9, 0.6, 0.1), id="best pattern missing"),
        pytest.param((0.25, 0.25, 0.5), (0.75, 0.25, 0.5), id="V at the second best value"),
    ],
)
def test_no_entanglement(probs, rates):
    """-inf where V exceeds the second best rate at once, or there is none."""
    found = one(compiled.entanglement(), probs, rates)
    assert found["log_time"] == -np.inf
    assert found["status"] == qra.Status.EVENT


def test_out_of_range_is_a_status():
    """The ODE cannot go beyond the floating-point range (NaN, OVERFLOW); the exact route can."""
    rare = np.array([1e-120, 1e-170])
    columns = np.array([systems.rare_probs(p) for p in rare]), np.array([systems.RARE_RATES] * 2)
    found = compiled.entanglement()(*columns)
    assert found["status"].tolist() == [qra.Status.EVENT] * 2
    # Entanglement law of theory section 3, exact in this limit.
    law = math.log(0.7 * 0.3 * 0.5 / 0.3**2 * (0.5**2 / 2 - 0.5**3 / 3)) - 2 * np.log(rare)
    np.testing.assert_allclose(found["log_time"], law, rtol=1e-13)
    stepped = compiled.entanglement(method=qra.ODE())(*columns)
    assert stepped["status"].tolist() == [qra.Status.EVENT, qra.Status.OVERFLOW]
    assert np.isnan(stepped["log_time"][1])


def test_traced_eps_out_of_range():
    """What cannot be refused before a compile is invalid, the ends 0 and 1 as well."""
    eps = np.array([1.0, 0.0, -0.1, 1.1, 0.99])
    rows = (np.tile(x, (len(eps), 1)) for x in (systems.CHECK_PROBS, systems.CHECK_RATES))
    log_time, status, _ = compiled.convergence()(*rows, eps)
    assert (status[:4] == qra.Status.INVALID_INPUT).all()
    assert np.isnan(log_time[:4]).all()
    assert log_time[4] == -np.inf


def test_fine_tuning_first():
    """SFT for a time s on shares (f, 1 - f, 0), then RLVR: the nine values of T0."""
    cases = list(systems.SFT_CASES)
    shares = np.array([[f, 1 - f, 0.0] for f, _ in cases])
    durations = np.array([[np.log(s)] for _, s in cases], float)
    start = np.tile(systems.CHECK_PROBS, (len(cases), 1))
    tuned = compiled.fine_tune()(start, shares, durations)[:, 0]
    rates = np.tile(systems.CHECK_RATES, (len(cases), 1))
    found = compiled.entanglement()(tuned[:, :3], rates)
    for case, log_time in zip(cases, found["log_time"], strict=True):
        assert agrees_to_digits(math.exp(log_time), f"{systems.SFT_CASES[case]:.3f}"), case
    assert found["log_time"][-1] == -np.inf


@pytest.mark.parametrize("patterns", [2, 3, 5, 10])
def test_tail_law(patterns):
    """t (p* - V) -> (K-1)/K and t (1 - pi*) -> (1/K) sum 1/Delta, from a uniform start."""
    rates = np.linspace(0.9, 0.2, patterns)
    log_times = compiled.log_time_rows(1, 1e9)
    found = one(compiled.follow(), np.full(patterns, 1 / patterns), rates, log_times)
    gaps = rates[0] - rates[1:]
    shortfall = np.sum(found["probs"][-1, 1:patterns] * gaps)
    assert 1e9 * shortfall == pytest.approx((patterns - 1) / patterns, rel=1e-3)
    others = np.sum(found["probs"][-1, 1:patterns])
    assert 1e9 * others == pytest.approx(np.sum(1 / gaps) / patterns, rel=1e-3)


def test_convergence_time_of_two_patterns():
    """T_eps against the closed form, down to eps = 1e-12."""
    probs, rates = (0.1, 0.9), (0.8, 0.3)
    eps = np.array([0.5, 0.1, 1e-3, 1e-6, 1e-12])
    log_time, status, final = compiled.convergence()(
        np.tile(probs, (5, 1)), np.tile(rates, (5, 1)), eps
    )
    odds = np.log1p(-eps) - np.log(eps)
    exact = [np.log(systems.two_pattern_time(probs, rates, x)[0]) for x in odds]
    np.testing.assert_allclose(log_time, exact, rtol=0, atol=1e-8)
    np.testing.assert_allclose(final[:, 1], eps, rtol=1e-9)
    assert np.all(status == qra.Status.EVENT)


def test_convergence_follows_the_tail():
    """T_eps ~ (1/(K eps)) sum 1/Delta_i; -inf for a vertex; a tied pair counts together."""
    eps = np.array([1e-9, 0.1, 0.5, 0.4])
    probs = np.array([(1, 1, 1), (0, 3, 0), (0.75, 0.75, 1.5), (0.75, 0.75, 1.5)]) / 3
    rates = np.array([(0.9, 0.5, 0.4), (0.9, 0.5, 0.4), (0.8, 0.8, 0.3), (0.8, 0.8, 0.3)])
    log_time, _, final = compiled.convergence()(probs, rates, eps)
    assert log_time[0] == pytest.approx(np.log((1 / 0.4 + 1 / 0.5) / 3 / 1e-9), abs=2e-3)
    assert log_time[1] == -np.inf
    assert log_time[2] == -np.inf
    # The pair has the odds 2 e^d, whose logarithm grows at the rate 3/4 pi_* (1 - pi_*), from 1/2.
    time = (-1 / 0.6 + 1 / 0.4 + 2 * np.log(0.6 / 0.4)) / 0.75
    assert log_time[3] == pytest.approx(np.log(time), abs=1e-8)
    assert final[3, 2] == pytest.approx(0.4, abs=1e-10)


def test_time_to_accuracy():
    """Against the closed form; -inf below the start, inf at the best rate and above it, NaN for a
    level that is none."""
    probs, rates = (0.1, 0.9), (0.8, 0.3)
    level = np.array([0.5, 0.79, 0.2, 0.35, 0.8, 0.9, 0.0, -0.1, 1.1])
    log_time = compiled.time_to_accuracy()(np.tile(probs, (9, 1)), np.tile(rates, (9, 1)), level)
    share = (level[:2] - 0.3) / 0.5
    odds = np.log(share) - np.log1p(-share)
    exact = [np.log(systems.two_pattern_time(probs, rates, x)[0]) for x in odds]
    np.testing.assert_allclose(log_time[:2], exact, rtol=0, atol=1e-8)
    assert log_time[2:7].tolist() == [-np.inf, -np.inf, np.inf, np.inf, -np.inf]
    assert np.isnan(log_time[7:]).all()


def test_levels_that_are_numbers():
    """Those from 0 to 1 are taken, ends included; others are an error at once."""
    policy, problem = qra.two_stage(np.full((3, 2), 0.5), np.tile([0.8, 0.3], (3, 1)))

    def shape(*level):
        return jax.eval_shape(lambda: qra.log_time_to_accuracy(policy, problem, np.array(level)))

    assert shape(0.0, 0.7, 1.0).shape == (3,)
    for level in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"^level must lie in \[0, 1\], got level\[1\] = "):
            shape(0.0, level, 1.0)


def test_weights_and_padding():
    """A question of weight w runs w times as fast, and never at weight 0; ragged questions."""
    probs = np.array(
        [(0.05, 0.7, 0.25, 0), (0.1, 0.5, 0.2, 0.2), (0.02, 0.98, 0, 0), (0.1, 0.6, 0.3, 0)]
    )
    rates = np.array(
        [(0.9, 0.7, 0.1, 0), (0.7, 0.6, 0.3, 0.2), (0.8, 0.4, 0.5, 0.9), (0.9, 0.7, 0.1, 0)]
    )
    weights = np.array([0.5, 0.3, 0.2, 0.0])
    policy, problem = qra.two_stage(probs, rates)
    problem = qra.Problem(problem.correct, weights)
    found = qra.times.entanglement(policy, problem)
    alone = compiled.entanglement()(probs[:3], rates[:3])["log_time"]
    np.testing.assert_allclose(found.log_time[:3], alone - np.log(weights[:3]), rtol=0, atol=1e-8)
    assert found.log_time[3] == np.inf
    assert found.status[3] == qra.Status.STATIONARY


def test_a_penalty_can_stop_the_flow_first():
    """inf, not a number, where a KL flow comes to rest below the second best rate."""
    engine = compiled.entanglement(compiled.kl_patterns)
    found = engine(
        np.array([systems.CHECK_PROBS, (1e-4, 0.6, 0.4 - 1e-4)]),
        np.array([systems.CHECK_RATES, systems.CHECK_RATES]),
    )
    optimum = np.array([1e-4, 0.6, 0.4 - 1e-4]) * np.exp(np.array(systems.CHECK_RATES) / 0.1)
    assert optimum @ np.array(systems.CHECK_RATES) / optimum.sum() < 0.7
    rates, ref = np.array(systems.CHECK_RATES), np.array(systems.CHECK_PROBS)

    def field(_, logits):
        probs = scipy.special.softmax(logits)
        gains = rates - 0.1 * np.log(probs / ref)
        return probs * (gains - probs @ gains)

    def passes(_, logits):
        return scipy.special.softmax(logits) @ rates - 0.7

    passes.terminal = True
    path = scipy.integrate.solve_ivp(
        field, (0, 1e4), np.log(ref), "DOP853", events=passes, rtol=1e-10, atol=1e-12
    )
    assert found["log_time"][0] == pytest.approx(np.log(path.t_events[0][0]), abs=1e-5)
    assert found["log_time"][1] == np.inf
    assert found["status"].tolist() == [qra.Status.EVENT, qra.Status.STATIONARY]


# Entangled, strong, tied for best, at rest; questions of unequal weights. A pattern that does not
# exist makes them as wide as those above, which share what is compiled.
BATCH_PROBS = np.array(
    [[0.05, 0.7, 0.25, 0], [0.6, 0.3, 0.1, 0], [0.3, 0.2, 0.5, 0], [0.0, 1.0, 0.0, 0]]
)
BATCH_RATES = np.array(
    [[0.9, 0.7, 0.1, 0.95], [0.9, 0.5, 0.3, 0.2], [0.5, 0.5, 0.2, 0.9], [0.9, 0.7, 0.1, 0]]
)
WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])


def test_both_times_by_one_program():
    """The same times and statuses as one after the other, question by question, each with an eps of
    its own."""
    policy, problem = qra.two_stage(BATCH_PROBS, BATCH_RATES)
    problem = qra.Problem(problem.correct, WEIGHTS)
    eps = np.array([0.01, 0.2, 0.05, 0.1])
    both = qra.passage_times(policy, problem, eps=eps)
    first = qra.times.entanglement(policy, problem)
    last = qra.times.convergence(policy, problem, eps)
    np.testing.assert_array_equal(both.log_entanglement_time, first.log_time)
    np.testing.assert_array_equal(both.log_convergence_time, last.log_time)
    np.testing.assert_array_equal(both.entanglement_status, first.status)
    np.testing.assert_array_equal(both.convergence_status, last.status)
    alone = one(compiled.convergence(), BATCH_PROBS[1], BATCH_RATES[1], 0.2)[0]
    found = both.log_convergence_time[1] + np.log(WEIGHTS[1])
    assert found == pytest.approx(alone, abs=1e-9)
    with pytest.raises(ValueError, match=r"^eps must lie strictly between 0 and 1, got eps = 1"):
        qra.passage_times(policy, problem, eps=1.0)


@pytest.mark.slow
def test_both_times_where_the_flow_is_not_integrable():
    """By the ODE too, in which the level of V is an event of its own."""
    policy, problem = qra.two_stage(systems.CHECK_PROBS, systems.CHECK_RATES)
    flow = qra.GradientFlow(qra.RLVR(0.01), problem)
    both = qra.passage_times(policy, flow, eps=0.2)
    first, last = (
        qra.log_entanglement_time(policy, flow),
        qra.log_convergence_time(policy, flow, 0.2),
    )
    np.testing.assert_allclose(both.log_entanglement_time, first, rtol=0, atol=1e-9)
    np.testing.assert_allclose(both.log_convergence_time, last, rtol=0, atol=1e-9)
    assert np.isfinite(first).all()
    assert np.isfinite(last).all()
