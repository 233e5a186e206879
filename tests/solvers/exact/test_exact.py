"""The exact method against a reference of 50 digits, and against the ODE route."""

import functools
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

import qra_jax as qra
from tests._support import compiled, systems
from tests._support.reference import generate

EXACT = qra.Exact()
WIDTH = 4  # a batch takes as many steps as its slowest: few share the thousands of a rare start
EPS = jnp.array([0.01, 1e-6])


def start(logits, rates):
    """One question with pattern rewards that are exactly `rates`."""
    policy = qra.TabularPolicy(logits[None], jnp.zeros((1, logits.shape[0], 2)))
    problem = qra.Problem(jnp.zeros(1, int), jnp.ones(1))
    return policy, qra.GradientFlow(qra.Objective(qra.PatternReward(rates)), problem)


def solve_all(problems, method):
    """Of every problem: log T0 and T_eps; logits and probabilities at three times; statuses."""

    def solve(logits, rates, log_times):
        policy, flow = start(logits, rates)
        first = qra.times.entanglement(policy, flow, method=method)
        found = jax.vmap(lambda eps: qra.times.convergence(policy, flow, eps, method=method))(EPS)
        traj = qra.solve_flow(policy, flow, log_times=log_times, method=method)
        status = jnp.stack([first.status[0], *found.status[:, 0], traj.status])
        times = jnp.append(first.log_time, found.log_time[:, 0])
        return times, traj.policy.pattern_logits[:, 0], traj.pattern_probs[:, 0], status

    widest = max(problem["K"] for problem in problems)
    rows = [
        (
            np.pad(problem["logits"], (0, widest - problem["K"]), constant_values=-np.inf),
            np.pad(problem["rates"], (0, widest - problem["K"])),
            np.sort(problem.get("log_times", np.log([0.1, 10, 1e3]))),
        )
        for problem in problems
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    missing = -len(problems) % WIDTH
    columns = [np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) for x in columns]
    engine = jax.jit(jax.vmap(solve))
    parts = [engine(*(x[i : i + WIDTH] for x in columns)) for i in range(0, len(columns[0]), WIDTH)]
    return jax.tree_util.tree_map(lambda *x: np.concatenate(x)[: len(problems)], *parts)


def scaled(problem, factor):
    """The problem with rewards larger by a power of 2: everything happens sooner by it."""
    rewards = {"rates": np.array(problem["rates"]) * factor}
    names = ("log_T0", "log_T_eps", "log_times")
    return problem | rewards | {name: np.array(problem[name]) - np.log(factor) for name in names}


@functools.cache
def solved():
    """The problems of the reference, solved exactly, and a few more with large or small rewards."""
    problems = generate.load()
    some = problems[:: len(problems) // 12][:12]
    problems = problems + [scaled(p, 2.0 ** (-20, 20)[i % 2]) for i, p in enumerate(some)]
    return problems, solve_all(problems, EXACT)


def test_log_times():
    """Relative error of log T0 and log T_eps at most 1e-10, over all 512 problems."""
    problems, (found, _, _, _) = solved()
    expected = np.array([[p["log_T0"], *p["log_T_eps"]] for p in problems])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_logits():
    """Error of the conserved logits at requested times at most 1e-9, over all 512 problems."""
    problems, (_, logits, _, status) = solved()
    for problem, rows in zip(problems, logits, strict=True):
        theta = np.array(problem["theta"])[np.argsort(problem["log_times"])]
        name = f"problem {problem['index']} ({problem['kind']})"
        np.testing.assert_allclose(
            rows[:, : problem["K"]], theta, rtol=1e-9, atol=1e-9, err_msg=name
        )
    assert np.isin(status, [qra.Status.COMPLETED, qra.Status.EVENT, qra.Status.STATIONARY]).all()


@pytest.mark.slow
def test_agrees_with_the_ode_on_a_thousand_problems():
    """Both routes on new problems of every kind: statuses, log times, pattern probabilities."""
    count = sum(generate.KINDS.values())
    seeds = (generate.SEED + 1000, generate.SEED + 2000)
    problems = [generate.draw(index, seed) for seed in seeds for index in range(count)]
    (exact, _, probs, status), (ode, _, probs_ode, status_ode) = (
        solve_all(problems, method) for method in (EXACT, qra.ODE())
    )
    # The ODE route ends at the largest number; nothing else may set the two apart.
    beyond = (status_ode[:, :3] == qra.Status.OVERFLOW) & (exact > np.log(np.finfo(float).max))
    assert beyond.any(axis=1).sum() <= 4
    np.testing.assert_array_equal(status[:, :3][~beyond], status_ode[:, :3][~beyond])
    np.testing.assert_array_equal(status[:, 3], status_ode[:, 3])
    np.testing.assert_allclose(exact[~beyond], ode[~beyond], rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(probs, probs_ode, rtol=0, atol=1e-7)


def test_directional_derivatives():
    """First to 1e-7 and second to 1e-4, of log times of 20 problems."""
    chosen = [problem for problem in generate.load() if "derivatives" in problem]
    assert len(chosen) == 20

    def derivatives(logits, rates, by_logits, by_rates, entangled):
        def moved(s):
            moved_start = logits + s * by_logits, rates + s * by_rates
            found = qra.passage_times(*start(*moved_start), eps=EPS[0], method=EXACT)
            log_times = found.log_entanglement_time, found.log_convergence_time
            return jnp.where(entangled, *log_times)[0]

        def slope(s):
            return jax.jvp(moved, (s,), (1.0,))[1]

        return jax.jvp(slope, (0.0,), (1.0,))

    def padded(x, fill):
        return np.pad(x, (0, 5 - len(x)), constant_values=fill)

    columns = [
        (
            padded(problem["logits"], -np.inf),
            padded(problem["rates"], 0),
            padded(problem["derivatives"]["direction_logits"], 0),
            padded(problem["derivatives"]["direction_rates"], 0),
            problem["derivatives"]["of"] == "log_T0",
        )
        for problem in chosen
    ]
    columns = [np.array(column) for column in zip(*columns, strict=True)]
    first, second = jax.jit(jax.vmap(derivatives))(*columns)
    for name, found, tolerance in (("first", first, 1e-7), ("second", second, 1e-4)):
        expected = np.array([problem["derivatives"][name] for problem in chosen])
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_trajectories_agree_with_the_ode():
    """Rows of two questions of different weight, some of them past an event."""
    probs, rates = systems.random_problems(8, 2, 4)
    policy, problem = qra.two_stage(probs, rates)
    problem = qra.Problem(problem.correct, jnp.array([0.25, 0.75]))
    log_times = compiled.log_time_rows(1e-2, 1e3)
    event = qra.PatternReaches(int(np.argmax(rates[0])), 0.5)
    exact, ode = (
        qra.solve_flow(policy, problem, log_times=log_times, until=event, method=method)
        for method in (EXACT, compiled.TIGHT)
    )
    assert exact.status == ode.status == qra.Status.EVENT
    assert float(exact.final_log_time) == pytest.approx(float(ode.final_log_time), abs=1e-9)
    np.testing.assert_array_equal(exact.valid, ode.valid)
    np.testing.assert_allclose(exact.pattern_probs, ode.pattern_probs, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_thousand_patterns():
    """1,024 patterns from a general start: the leader's x falls by e^1000 in a layer."""
    rng = np.random.default_rng(1)
    policy, problem = qra.two_stage(rng.dirichlet(np.ones(1024)), rng.random(1024))
    log_times = np.log([0.1, 1e2, 1e4, 1e6])
    exact, ode = (
        qra.solve_flow(policy, problem, log_times=log_times, method=method)
        for method in (EXACT, qra.ODE())
    )
    assert exact.status == ode.status == qra.Status.COMPLETED
    np.testing.assert_allclose(exact.accuracy, ode.accuracy, rtol=0, atol=1e-8)
    np.testing.assert_allclose(exact.pattern_probs, ode.pattern_probs, rtol=0, atol=1e-7)


def test_rows_without_requested_times():
    """Rows go from the start to the stop, in order."""
    policy, problem = qra.two_stage(np.array(systems.CHECK_PROBS), np.array(systems.CHECK_RATES))
    event = qra.PatternReaches(0, 0.99)
    traj = qra.solve_flow(policy, problem, until=event, method=EXACT)
    assert traj.log_times[0] == -np.inf
    assert np.all(np.diff(traj.log_times[1:]) > 0)
    np.testing.assert_allclose(traj.pattern_probs[0, 0], systems.CHECK_PROBS, rtol=1e-14)
    assert float(traj.pattern_probs[-1, 0, 0]) == pytest.approx(0.99, abs=1e-12)


def test_hand_over_of_nearly_equal_rewards():
    """Two of 64 patterns that meet, and a third that changes sooner, against SciPy."""
    rng = np.random.default_rng(64)
    probs, rates = rng.dirichlet(np.ones(64), 1024)[755], rng.uniform(size=(1024, 64))[755]
    times = np.geomspace(1, 1e3, 7)
    logits = systems.integrate(systems.policy_gradient(rates), np.log(probs), times)
    policy, flow = start(jnp.log(probs), jnp.array(rates))
    found = qra.solve_flow(policy, flow, log_times=np.log(times), method=EXACT)
    np.testing.assert_allclose(found.policy.pattern_logits[:, 0], logits, rtol=0, atol=1e-9)


def test_nothing_moves():
    """Equal rewards: time passes, the policy stays."""
    policy, problem = qra.two_stage(np.array([0.2, 0.8]), np.array([0.5, 0.5]))
    traj = qra.solve_flow(policy, problem, log_times=np.array([0.0, 5.0]), method=EXACT)
    assert traj.status == qra.Status.COMPLETED
    np.testing.assert_allclose(traj.pattern_probs[:, 0], [[0.2, 0.8]] * 2, rtol=1e-15)


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (lambda p: qra.GradientFlow(qra.RLVR(0.1), p), "regularisers"),
        (lambda p: qra.GradientFlow(qra.RLVR(), p, "all"), "patterns"),
        (lambda p: qra.GradientFlow(qra.RLVR(), p, geometry=qra.Natural()), "Natural"),
        (lambda p: qra.GradientFlow(qra.RLIF(qra.objectives.MajorityVote()), p), "constant"),
        (lambda p: qra.GradientFlow(qra.SFT(np.array([0.5, 0.5])), p), "SFT"),
    ],
)
def test_flows_that_are_not_integrable(flow, reason):
    """Asking for the exact method where there is none is an error that says why."""
    policy, problem = qra.two_stage(np.array([0.4, 0.6]), np.array([0.9, 0.1]))
    with pytest.raises(ValueError, match=reason):
        qra.solve_flow(policy, flow(problem), log_times=np.array([0.0]), method=EXACT)


def test_one_event_of_one_question():
    """All that can be looked for where there are two questions, beside times; of one question,
    any."""
    policy, problem = qra.two_stage(np.full((2, 2), 0.5), np.tile([0.9, 0.1], (2, 1)))
    flow = qra.GradientFlow(qra.RLVR(), problem)
    first, second = (qra.PatternReaches(0, 0.9, question) for question in (0, 1))
    assert EXACT.why_not(policy, flow, (first, qra.flows.TimeReached(1.0))) is None
    for events in ((first, second), (qra.AccuracyReaches(0.7),)):
        assert EXACT.why_not(policy, flow, events) == "events of several questions"
        with pytest.raises(ValueError, match="events of several questions"):
            qra.event_time(policy, flow, events, method=EXACT)
    policy, problem = qra.two_stage(np.full(2, 0.5), np.array([0.9, 0.1]))
    flow = qra.GradientFlow(qra.RLVR(), problem)
    assert EXACT.why_not(policy, flow, (first, qra.AccuracyReaches(0.7))) is None


@pytest.mark.parametrize("arguments", [{"tol": 1e-20}, {"max_steps": 0}])
def test_bad_settings(arguments):
    """Settings out of range are named."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        qra.Exact(**arguments)


def test_triple_near_tie():
    """Two best rewards within 3.3e-10 of each other, a third near: by SciPy in log time, with the
    gaps of the very floats that the solver is given, exact before they are rounded once."""
    rates = np.array([0.968, 0.998, 0.99988, 1 - 1.6e-9, 1 - 1.27e-9])
    gaps = np.array([[float(Decimal(a) - Decimal(b)) for b in rates] for a in rates])
    eps, first = 9.1e-4, -25.0

    def field(x, theta):
        weights = np.exp(theta - theta.max())
        probs = weights / weights.sum()
        return np.exp(x) * probs * (gaps @ probs)

    def converged(x, theta):
        return logsumexp(theta[:4] - theta[4]) - np.log(eps / (1 - eps))

    converged.terminal = True
    early = np.exp(first) * gaps.mean(axis=1) / 5
    span = (first, 40)
    found = solve_ivp(field, span, early, "DOP853", events=converged, rtol=1e-13, atol=1e-14)
    (log_time,) = found.t_events[0]
    assert log_time == pytest.approx(27.236321330182, abs=2e-10)
    policy, flow = start(jnp.zeros(5), jnp.asarray(rates))
    exact = qra.log_convergence_time(policy, flow, eps, method=qra.Exact(1e-10))[0]
    assert float(exact) == pytest.approx(log_time, abs=1e-10)
