"""Events: found where they are, the first of several, rising and falling."""

import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.flows._event import FlowState
from tests._support import compiled, systems
from tests._support.compiled import Stops, one

BEST_FIRST = np.array([0.2, 0.5, 0.3]), np.array([0.8, 0.6, 0.1])

# Of a state of the flow from BEST_FIRST: what is 0 when the event happens, and below 0 before.
ZEROS = {
    "best_reaches": (0.7, lambda p, v: p[0] - 0.7),
    "accuracy_rises": (0.75, lambda p, v: p @ BEST_FIRST[1] - 0.75),
    "peaking_pattern": (1.0, lambda p, v: -v[1]),
    "slowest": (0.02, lambda p, v: 0.02 - np.linalg.norm(v)),
    "others_left": (0.05, lambda p, v: 0.05 - p[1] - p[2]),
}


@pytest.mark.parametrize("name", ZEROS)
def test_event_is_found_where_it_is(name):
    """An independent solve up to the event's time shows its condition met there, and not before."""
    level, zero = ZEROS[name]
    probs, rates = BEST_FIRST
    engine = compiled.stops()
    log_time, status, event, at_event = one(engine, probs, rates, *Stops(**{name: level}))
    assert status == qra.Status.EVENT
    assert event == Stops._fields.index(name)
    times = np.linspace(0, np.exp(log_time), 200)
    states = systems.euclidean_probs(probs, rates, times)
    np.testing.assert_allclose(at_event[:3], states[-1], rtol=0, atol=1e-8)
    values = np.array([zero(p, p * (rates - p @ rates)) for p in states])
    assert values[-1] == pytest.approx(0, abs=1e-9)
    assert np.all(values[:-1] < 0)


def test_time_reached():
    """Reaching a time stops at exactly that time, at the state then."""
    probs, rates = BEST_FIRST
    stop = Stops(log_time=3.0)
    log_time, _, event, at_event = one(compiled.stops(), probs, rates, *stop)
    assert log_time == pytest.approx(3.0, abs=1e-12)
    assert event == Stops._fields.index("log_time")
    expected = systems.euclidean_probs(probs, rates, [0, np.exp(3.0)])[-1]
    np.testing.assert_allclose(at_event[:3], expected, rtol=0, atol=1e-8)


def test_first_of_several():
    """Of several events the first stops the solve, and says which it was."""
    probs, rates = BEST_FIRST
    alone = {name: Stops(**{name: level}) for name, (level, _) in ZEROS.items()}
    together = Stops(**{name: level for name, (level, _) in ZEROS.items()})
    lanes = [*alone.values(), together]
    columns = [np.tile(x, (len(lanes), 1)) for x in (probs, rates)]
    log_time, _, event, _ = compiled.stops()(*columns, *np.array(lanes).T)
    assert log_time[-1] == pytest.approx(log_time[:-1].min(), abs=1e-9)
    assert event[-1] == event[np.argmin(log_time[:-1])]


def test_a_plateau_just_below_the_level_is_not_the_event():
    """Entangled, V misses the level by 1e-27 for ages: the last requested time is what stops."""
    lanes, ends = compiled.LANES, np.linspace(50, 120, 3 * compiled.LANES).reshape(3, -1)
    probs = np.tile(systems.rare_probs(1e-30), (lanes, 1))
    rates = np.tile(systems.RARE_RATES, (lanes, 1))
    for last in ends:
        log_times = np.stack([last - 1, last], axis=-1)
        found = compiled.follow_until()(probs, rates, log_times, np.full(lanes, 0.6))
        assert found["status"].tolist() == [qra.Status.COMPLETED] * lanes
        assert found["valid"].all()
        assert np.all(found["event"] == -1)


def test_logit_peak_is_the_entanglement_time():
    """The misleading pattern's logit peaks at T0 (its probability earlier: at 75.761)."""
    arguments = systems.CHECK_PROBS, systems.CHECK_RATES
    log_time, _, _, _ = one(compiled.stops(), *arguments, *Stops(peaking_pattern=1.0))
    t0 = float(systems.exact_log_entanglement_time(*arguments))
    assert log_time == pytest.approx(t0, abs=1e-8)
    times = np.linspace(70, 82, 25)
    rows = systems.euclidean_probs(*arguments, np.append(0, times))[1:]
    assert times[np.argmax(rows[:, 1])] == 76


@pytest.mark.parametrize(
    "stop",
    [
        Stops(best_reaches=0.1),
        Stops(accuracy_rises=0.3),
        Stops(accuracy_falls=0.6),
        Stops(log_time=-np.inf),
        Stops(peaking_pattern=2.0),
        Stops(slowest=10.0),
        Stops(others_left=0.9),
    ],
    ids=Stops._fields,
)
def test_has_happened_at_the_start(stop):
    """An event that is already past: -inf, EVENT, and the start itself."""
    probs, rates = BEST_FIRST
    log_time, status, event, at_event = one(compiled.stops(), probs, rates, *stop)
    assert log_time == -np.inf
    assert status == qra.Status.EVENT
    changed = [i for i, (x, y) in enumerate(zip(stop, Stops(), strict=True)) if x != y]
    assert event == changed[0]
    np.testing.assert_allclose(at_event[:3], probs, rtol=0, atol=1e-15)


def test_accuracy_rises_then_falls_under_self_certainty():
    """RLIF can degrade: accuracy first rises to a level, and later falls to one below the start."""
    probs, rates = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.97, 0.02])
    policy, problem = qra.two_stage(probs, rates)
    flow = compiled.rlif(problem)
    reward = -0.5 * (np.log(rates) + np.log1p(-rates)) - np.log(2)
    start = probs @ rates
    rising, falling = start + 0.1, start - 0.1
    both = (
        qra.AccuracyReaches(rising, direction="rising"),
        qra.AccuracyReaches(falling, direction="falling"),
    )
    up = qra.event_time(policy, flow, both)
    assert up.event == 0
    down = qra.event_time(policy, flow, (qra.AccuracyReaches(1.0, direction="rising"), both[1]))
    assert down.event == 1
    assert down.log_time > up.log_time
    for found, level in ((up, rising), (down, falling)):
        time = np.exp(float(found.log_time))
        state = systems.euclidean_probs(probs, reward, [0, time])[-1]
        assert state @ rates == pytest.approx(level, abs=1e-8)


def test_reached_for_a_while_while_others_lead():
    """Accuracy rises above the level and falls below it again between two hand-overs of the lead,
    by a pattern that is always right and never leads: found all the same."""
    probs, reward, rates = (
        np.array(x) for x in ([0.5, 0.25, 0.25], [0.1, 0.7, 0.9], [0.1, 1, 0.1])
    )
    policy, problem = qra.two_stage(probs, rates)
    flow = qra.GradientFlow(qra.Objective(qra.PatternReward(reward)), problem)
    found = qra.event_time(policy, flow, qra.AccuracyReaches(0.36))
    assert found.status == qra.Status.EVENT
    times = [0, np.exp(float(found.log_time)), 200.0]
    _, there, late = systems.euclidean_probs(probs, reward, times)
    assert there @ rates == pytest.approx(0.36, abs=1e-8)
    assert late @ rates < 0.11


def test_questions_have_their_own_events():
    """A level for one question is that question's; without a question it is the mean's."""
    probs, rates = systems.random_problems(3, 2, 3)
    policy, problem = qra.two_stage(probs, rates)
    start = np.sum(probs * rates, axis=1)
    levels = [start[0] + 0.05, start[1] + 0.02, start.mean() + 0.03]

    def first(which):
        questions = (np.asarray(0), np.asarray(1), None)
        events = [
            qra.ValueReaches(level if i == which else 2.0, question)
            for i, (level, question) in enumerate(zip(levels, questions, strict=True))
        ]
        return qra.event_time(policy, problem, events)

    for which, level in enumerate(levels):
        found = first(which)
        assert found.event == which
        time = np.exp(float(found.log_time))
        accuracy = np.array(
            [
                systems.euclidean_probs(p, r, [0, time / 2])[-1] @ r
                for p, r in zip(probs, rates, strict=True)
            ]
        )
        reached = accuracy.mean() if which == 2 else accuracy[which]
        assert reached == pytest.approx(level, abs=1e-8)


TABLE, PROBLEM = qra.two_stage(np.array([[0.2, 0.5, 0.3]] * 2), np.array([[0.9, 0.7, 0.1]] * 2))
CHAIN = qra.policies.MarkovPolicy(np.zeros((3, 3)), np.array([0, 0]), 2, patterns=np.arange(3))
LINEAR = qra.linear_policy(np.eye(2), 3, TABLE.answer_logits)
PATTERN = r"^pattern must index one of the policy's patterns, from 0 to 2, got "
QUESTION = r"^question must index one of the problem's questions, from 0 to 1, got "
NO_TABLE = "^policy must be a table of logits, .* for LogitPeaks, .* got a {}$"
MISFITS = {
    "logit of a pattern": (qra.LogitPeaks(3), TABLE, PATTERN + "pattern = 3"),
    "logit from the end": (qra.LogitPeaks(-1), TABLE, PATTERN + "pattern = -1"),
    "logit by a float": (qra.LogitPeaks(1.0), TABLE, PATTERN + "1.0"),
    "logit of a question": (qra.LogitPeaks(1, 2), TABLE, QUESTION + "question = 2"),
    "logit of a chain": (qra.LogitPeaks(1), CHAIN, NO_TABLE.format("MarkovPolicy")),
    "logit of features": (qra.LogitPeaks(1), LINEAR, NO_TABLE.format("FeaturePolicy")),
    "value of a question": (qra.ValueReaches(0.75, 9), TABLE, QUESTION + "question = 9"),
    "accuracy of a question": (qra.AccuracyReaches(0.75, 2), TABLE, QUESTION + "question = 2"),
    "probability of a pattern": (qra.PatternReaches(7, 0.9), TABLE, PATTERN + "pattern = 7"),
    "in a question": (qra.PatternReaches(1, 0.9, 2), TABLE, QUESTION + "question = 2"),
    "mask": (qra.PatternReaches(np.ones(4, bool), 0.9), TABLE, r"mask of shape \(3,\), got \(4,\)"),
    "value of a pattern": (qra.ValuePasses(3), TABLE, PATTERN + "pattern = 3"),
    "in another question": (qra.ValuePasses(0, 5), TABLE, QUESTION + "question = 5"),
    "value in a chain": (qra.ValuePasses(3), CHAIN, PATTERN + "pattern = 3"),
    "points": (qra.flows.Approaches(np.eye(4), 0.1), TABLE, "points must have a column for each"),
    "points of a question": (qra.flows.Approaches(np.eye(3), 0.1, 3), TABLE, QUESTION),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_event_that_means_nothing(case):
    """A pattern or question that is not there, a policy of the wrong kind: one line says which,
    also if it is the second of two events."""
    event, policy, message = MISFITS[case]
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM, "all")
    with pytest.raises((ValueError, TypeError), match=message):
        qra.event_time(policy, flow, (qra.flows.TimeReached(1.0), event))
    with pytest.raises((ValueError, TypeError), match=message):
        qra.solve_flow(policy, flow, until=event)


@pytest.mark.parametrize(
    "event",
    [
        qra.LogitPeaks(2, 1),
        qra.ValueReaches(0.75),
        qra.AccuracyReaches(0.75, 1),
        qra.PatternReaches(np.array([True, False, True]), 0.9, 1),
        qra.ValuePasses(0),
        qra.flows.Approaches(np.eye(3), 0.1, 1),
        qra.flows.TimeReached(1.0),
        qra.flows.Stationary(),
    ],
)
def test_an_event_that_fits(event):
    """The last pattern and the last question are there."""
    event.validate(TABLE, PROBLEM)


# Events of one question: how they are made, and their value at shares p, rates r and a direction v.
OF_A_QUESTION = {
    "PatternReaches": (
        lambda *q: qra.PatternReaches(1, 0.7, *q),
        lambda p, r, v: np.log(p[1] / (1 - p[1])) - np.log(0.7 / 0.3),
    ),
    "ValuePasses": (
        lambda *q: qra.ValuePasses(1, *q),
        lambda p, r, v: np.log(p @ np.maximum(r - r[1], 0)) - np.log(p @ np.maximum(r[1] - r, 0)),
    ),
    "Approaches": (
        lambda *q: qra.flows.Approaches(np.array([[0.1, 0.8, 0.1]]), 0.2, *q),
        lambda p, r, v: np.log(0.2 / np.max(np.abs(p - [0.1, 0.8, 0.1]))),
    ),
    "LogitPeaks": (lambda *q: qra.LogitPeaks(1, *q), lambda p, r, v: -v[1]),
}


@pytest.mark.parametrize("name", OF_A_QUESTION)
def test_events_look_at_the_question_that_they_name(name):
    """And at the first one unless they name one, as their formulas say for unequal questions."""
    make, expected = OF_A_QUESTION[name]
    probs = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    rates = np.array([[0.8, 0.6, 0.1], [0.1, 0.5, 0.7]])
    policy, problem = qra.two_stage(probs, rates)
    direction = np.array([[0.3, -0.2, 0.1], [-0.5, 0.7, 0.4]])
    moving = qra.TabularPolicy(direction, policy.answer_logits)
    flow = qra.GradientFlow(qra.RLVR(), problem)
    state = FlowState(flow, policy, jnp.zeros(()), lambda: (moving, jnp.zeros(())))
    for question, named in [(0, ()), (0, (0,)), (1, (1,))]:
        value = float(make(*named).value(state))
        rest = probs[question], rates[question], direction[question]
        assert value == pytest.approx(expected(*rest), abs=1e-12)
