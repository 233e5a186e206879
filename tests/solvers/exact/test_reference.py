"""The stored reference: it can be made again, and agrees with an independent route."""

import math
import random

import numpy as np
import pytest
import scipy.special

from tests._support import systems
from tests._support.reference import generate

PROBLEMS = generate.load()
NEAR = [
    problem["index"]
    for problem in PROBLEMS
    if problem["kind"] == "ordinary" and problem["log_times"][-1] < math.log(2e3)
]
"""Ordinary problems whose stored times a solver in time reaches soon."""


def numbers(value) -> np.ndarray:
    """All numbers of nested lists and dicts in order; strings must be compared apart."""
    if isinstance(value, dict):
        value = [item for item in value.values() if not isinstance(item, str)]
    if isinstance(value, list):
        return np.concatenate([numbers(item) for item in value])
    return np.array([value], float)


def test_contents():
    """500 problems in order, each kind as often as announced, times in order."""
    assert [problem["index"] for problem in PROBLEMS] == list(range(500))
    for problem in PROBLEMS:
        assert problem["kind"] == generate.kind_of(problem["index"])[0]
        assert problem["K"] == len(problem["logits"]) == len(problem["rates"])
        assert problem["log_T_eps"] == sorted(problem["log_T_eps"])
        total = [sum(logits) for logits in problem["theta"]]
        scale = np.abs(problem["theta"]).max()
        np.testing.assert_allclose(total, sum(problem["logits"]), rtol=0, atol=1e-14 * scale)
    assert sum("derivatives" in problem for problem in PROBLEMS) == 20


def test_regenerates():
    """Five problems, other ones in every run, come out as stored."""
    for index in random.SystemRandom().sample(range(len(PROBLEMS)), 5):
        stored, again = PROBLEMS[index], generate.regenerate(index)
        assert stored.keys() == again.keys(), index
        for key in stored:
            message = f"problem {index}, {key}"
            if isinstance(stored[key], str):
                assert stored[key] == again[key], message
            else:
                np.testing.assert_allclose(
                    numbers(again[key]), numbers(stored[key]), rtol=1e-15, atol=0, err_msg=message
                )


@pytest.mark.parametrize("index", NEAR[:: len(NEAR) // 6])
def test_against_ode(index):
    """Probabilities at the stored times, and V and pi at the events, by an ODE solver in time."""
    problem = PROBLEMS[index]
    rates = np.array(problem["rates"])
    probs = np.exp(problem["logits"])

    def follow(log_times):
        return systems.euclidean_probs(probs, rates, np.exp(log_times))

    expected = scipy.special.softmax(problem["theta"], axis=-1)
    order = np.argsort(problem["log_times"])
    found = follow(np.array(problem["log_times"])[order])
    np.testing.assert_allclose(found, expected[order], rtol=1e-9)
    (at_eps,) = follow([problem["log_T_eps"][0]])
    assert 1 - at_eps[rates.argmax()] == pytest.approx(generate.EPS[0], rel=1e-9)
    if problem["log_T0"] > -math.inf:
        (at_t0,) = follow([problem["log_T0"]])
        assert at_t0 @ rates == pytest.approx(np.sort(rates)[-2], abs=1e-11)
