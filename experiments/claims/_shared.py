"""What the claims of several subjects share: sources, settings, small formulas."""

import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close
from ._ledger import Context, once

PAPER = "{} of arXiv 2506.04695 v2, as summarised"
CASE = "p = (.9, .7, .1) from pi = (.05, .70, .25)"
REFERENCE = (0.2, 0.3, 0.5)
LAWS, INTERNAL = "Sharp laws of the flow", "Internal rewards (RLIF)"
"""Titles of subjects whose claims fill several modules."""


def boltzmann(reference, rewards, beta: float) -> np.ndarray:
    """Shares in proportion to reference times e^(rewards / beta)."""
    weights = np.asarray(reference) * np.exp((np.asarray(rewards) - np.max(rewards)) / beta)
    return weights / weights.sum()


def worst(expected, measured) -> tuple[float, float]:
    """The two numbers, expected and measured, that are relatively farthest apart."""
    expected, measured = np.broadcast_arrays(expected, measured)
    at = np.argmax(np.abs(measured / expected - 1))
    return expected.ravel()[at], measured.ravel()[at]


def farthest(expected, measured, rtol: float = 1e-10) -> Outcome:
    """Whether the two numbers that are relatively farthest apart are close."""
    return close(*worst(expected, measured), rtol=rtol)


@once
def random_pair():
    """A random policy, a reference and the problem."""
    rng = Context(False, 0, "penalties").rng
    policy = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, 2)))
    reference = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, 2)))
    return policy, reference, qra.Problem(np.array([0]))


def random_policy(context: Context, answers: int = 3) -> tuple[qra.TabularPolicy, qra.Problem]:
    """A random policy of three patterns, and its problem."""
    rng = context.named("policy").rng
    policy = qra.TabularPolicy(rng.normal(size=(1, 3)), rng.normal(size=(1, 3, answers)))
    return policy, qra.Problem(np.array([0]))


def tables(policy: qra.TabularPolicy) -> tuple[np.ndarray, np.ndarray]:
    """pi(r) and pi(a|r)."""
    patterns, answers = policy.log_probs()
    return np.exp(patterns[0]), np.exp(answers[0])
