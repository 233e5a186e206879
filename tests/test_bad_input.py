"""Bad input: one line that names the argument, what it must be and what it was."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra

NAN, INF = float("nan"), float("inf")
POLICY, PROBLEM = qra.two_stage(np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1]))
FLOW = qra.GradientFlow(qra.RLVR(), PROBLEM)
SURE, SURE_PROBLEM = qra.two_stage(np.array([0.5, 0.5]), np.array([1.0, 0.5]))
GAP, _ = qra.two_stage(np.array([0.3, 0.7, 0.0]), np.array([0.9, 0.7, 0.1]))
HALVES = np.array([0.5, 0.5])


def a(*values):
    """A NumPy array."""
    return np.array(values)


def two_stage(probs, rates=HALVES):
    """A call with these probabilities and rates."""
    return lambda: qra.two_stage(probs, rates)


def tabular(patterns, answers=None):
    """A call with these pattern logits, answers unless given of shape (Q, R, 2)."""
    answers = np.zeros((*np.shape(patterns), 2)) if answers is None else answers
    return lambda: qra.TabularPolicy(patterns, answers)


def solve(**options):
    """A call of `solve_flow` on the check case."""
    return lambda: qra.solve_flow(POLICY, FLOW, **options)


def own_reward():
    """A reward for five patterns on a policy of three."""
    return qra.Objective(lambda policy, problem: jnp.ones((1, 5, 1)))


def flat_reward():
    """A value for each of two patterns, without its axes: there are two answers as well."""
    return qra.Objective(lambda policy, problem: jnp.ones(2))


# What is called, and what its message must contain: argument, requirement, value.
CASES = {
    "negative probability": (two_stage(a(-0.1, 1.1)), "pattern_probs", "non-negative", "-0.1"),
    "NaN probability": (two_stage(a(NAN, 1.0)), "pattern_probs", "not NaN", "nan"),
    "sum of probabilities": (two_stage(a(0.5, 0.4)), "sum of pattern_probs", "be 1", "0.9"),
    "one of several sums": (two_stage(np.array([[0.5, 0.5], [0.5, 0.6]])), "pattern_probs", "1.1"),
    "rate above 1": (two_stage(HALVES, a(0.5, 1.2)), "success_rates", "[0, 1]", "1.2"),
    "rate below 0": (two_stage(HALVES, a(-0.2, 0.5)), "success_rates", "[0, 1]", "-0.2"),
    "NaN rate": (two_stage(HALVES, a(0.5, NAN)), "success_rates", "[0, 1]", "nan"),
    "shape of probabilities": (two_stage(np.ones((1, 1, 1))), "pattern_probs", "(1, 1, 1)"),
    "no patterns": (two_stage(np.ones(0), np.ones(0)), "pattern_probs", "(R,)", "(0,)"),
    "scalar probability": (two_stage(1.0, 0.5), "pattern_probs", "(R,)", "()"),
    "shape of rates": (two_stage(HALVES, np.ones(3)), "success_rates", "(1, 2)", "(3,)"),
    "NaN logit": (tabular(np.array([[0.0, NAN]])), "pattern_logits", "finite", "nan"),
    "infinite logit": (tabular(np.array([[0.0, INF]])), "pattern_logits", "finite", "inf"),
    "no pattern exists": (tabular(np.array([[-INF, -INF]])), "pattern_logits", "finite", "-inf"),
    "logits of one question": (tabular(np.zeros(2)), "pattern_logits", "(Q, R)", "(2,)"),
    "answers of other patterns": (
        tabular(np.zeros((1, 2)), np.zeros((1, 3, 2))),
        *("answer_logits", "(1, 2)", "(1, 3, 2)"),
    ),
    "NaN answer": (tabular(np.zeros((1, 1)), np.array([[[NAN, 0]]])), "answer_logits", "nan"),
    "correct is a scalar": (lambda: qra.Problem(np.array(0)), "correct", "(Q,)", "()"),
    "correct is a number": (lambda: qra.Problem(a(0.5)), "correct", "integers", "float64"),
    "correct is negative": (lambda: qra.Problem(a(0, -1)), "correct", "non-negative", "-1"),
    "weights of other questions": (
        lambda: qra.Problem(a(0, 0), a(0.5, 0.25, 0.25)),
        *("weights", "(2,)", "(3,)"),
    ),
    "negative weight": (lambda: qra.Problem(a(0, 0), a(1.5, -0.5)), "weights", "-0.5"),
    "NaN weight": (lambda: qra.Problem(a(0), a(NAN)), "weights", "not NaN", "nan"),
    "sum of weights": (lambda: qra.Problem(a(0, 0), a(0.5, 0.4)), "weights", "sum to 1", "0.9"),
    "correct beyond the answers": (
        lambda: qra.regime(POLICY, qra.Problem(a(2))),
        *("correct", "2 answers", "= 2"),
    ),
    "other number of questions": (
        lambda: qra.regime(POLICY, qra.Problem(a(0, 0))),
        *("policy", "2", "got 1"),
    ),
    "self-certainty of a sure pattern": (
        lambda: qra.regime(SURE, qra.GradientFlow(qra.RLIF(), SURE_PROBLEM)),
        *("success_rates", "strictly between 0 and 1", "1.0"),
    ),
    "own reward of another shape": (
        lambda: qra.regime(POLICY, qra.GradientFlow(own_reward(), PROBLEM)),
        *("reward", "pattern (1 or R = 3)", "(1, 5, 1)"),
    ),
    "own reward a value for each pattern": (
        lambda: qra.regime(SURE, qra.GradientFlow(flat_reward(), SURE_PROBLEM)),
        *("reward", "three axes", "answer (1 or A = 2)", "(2,)", "values[None, :, None]"),
    ),
    "negative beta": (lambda: qra.RLVR(-0.1), "beta", "at least 0", "-0.1"),
    "NaN beta": (lambda: qra.RLIF(beta=NAN), "beta", "at least 0", "nan"),
    "infinite beta": (lambda: qra.RLVR(INF), "beta", "finite", "inf"),
    "several betas": (lambda: qra.RLVR(a(0.1, 0.2)), "beta", "scalar", "(2,)"),
    "negative share": (lambda: qra.SFT(a(1.5, -0.5)), "pattern_targets", "non-negative", "-0.5"),
    "sum of shares": (lambda: qra.SFT(a(0.5, 0.4)), "pattern_targets", "be 1", "0.9"),
    "shares of other patterns": (
        lambda: qra.solve_flow(POLICY, qra.GradientFlow(qra.SFT(HALVES), PROBLEM)),
        *("pattern_targets", "(3,)", "(2,)"),
    ),
    "share of a missing pattern": (
        lambda: qra.solve_flow(GAP, qra.GradientFlow(qra.SFT(a(0.5, 0.2, 0.3)), PROBLEM)),
        *("pattern_targets", "does not exist", "0.3"),
    ),
    "rtol 0": (lambda: qra.ODE(rtol=0.0), "rtol", "above 0", "0.0"),
    "negative atol": (lambda: qra.ODE(atol=-1e-3), "atol", "above 0", "-0.001"),
    "no steps": (lambda: qra.ODE(max_steps=0), "max_steps", "at least 1", "0"),
    "accuracy above 1": (lambda: qra.AccuracyReaches(1.5), "level", "[0, 1]", "1.5"),
    "NaN level": (lambda: qra.ValueReaches(NAN), "level", "NaN", "nan"),
    "probability of 1": (lambda: qra.PatternReaches(0, 1.0), "level", "strictly", "1.0"),
    "shortfall of 0": (lambda: qra.PatternReaches(0, shortfall=0.0), "shortfall", "0.0"),
    "no level": (lambda: qra.PatternReaches(0), "level", "given"),
    "NaN time": (lambda: qra.flows.TimeReached(NAN), "log_time", "NaN", "nan"),
    "speed 0": (lambda: qra.flows.Stationary(0.0), "tol", "above 0", "0.0"),
    "when to stop": (solve(), "log_times", "until", "neither"),
    "times in disorder": (solve(log_times=a(1.0, 0.0)), "log_times", "not decrease", "0."),
    "NaN log time": (solve(log_times=a(NAN)), "log_times", "not NaN", "nan"),
    "infinite time": (solve(log_times=a(0.0, INF)), "log_times", "below inf", "inf"),
    "only t = 0": (solve(log_times=a(-INF)), "log_times[-1]", "above -inf", "-inf"),
    "a table of times": (solve(log_times=np.zeros((1, 2))), "log_times", "(T,)", "(1, 2)"),
    "no times": (solve(log_times=np.zeros(0)), "log_times", "(T,)", "(0,)"),
    "no events": (lambda: qra.event_time(POLICY, FLOW, ()), "until", "at least one", "()"),
    "reference of another shape": (
        solve(log_times=a(0.0), reference=SURE),
        *("reference", "shapes", "(1, 2)"),
    ),
    "reference lacks a pattern": (
        lambda: qra.solve_flow(POLICY, qra.GradientFlow(qra.RLVR(0.1), PROBLEM), reference=GAP),
        *("reference", "above 0", "inf"),
    ),
    "eps 0": (lambda: qra.log_convergence_time(POLICY, FLOW, 0.0), "eps", "strictly", "0.0"),
    "NaN eps": (lambda: qra.log_convergence_time(POLICY, FLOW, NAN), "eps", "strictly", "nan"),
    "level above 1": (
        lambda: qra.log_time_to_accuracy(POLICY, FLOW, 1.2),
        "level",
        "[0, 1]",
        "1.2",
    ),
    "no samples": (lambda: qra.objectives.pass_at_k(POLICY, PROBLEM, 0), "k", "at least 1", "0"),
    "no optimum": (lambda: qra.laws.optimal_policy(POLICY, FLOW), "flow.objective", "ReverseKL"),
    "no formula": (
        lambda: qra.laws.optimal_policy(
            POLICY, qra.GradientFlow(qra.RLIF(beta=0.1), PROBLEM, "all")
        ),
        *("flow.objective.reward", "Verifiable", "SelfCertainty"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_value(name):
    """`ValueError` of one line with argument, requirement and value."""
    call, *fragments = CASES[name]
    with pytest.raises(ValueError, match=re.escape(fragments[0])) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_self_certainty_ignores_padding():
    """A pattern that does not exist may have any rate."""
    policy, problem = qra.two_stage(np.array([0.5, 0.5, 0.0]), np.array([0.9, 0.6, 0.0]))
    flow = qra.GradientFlow(qra.RLIF(), problem)
    assert qra.regime(policy, flow)[0] == qra.Regime.STRONG
