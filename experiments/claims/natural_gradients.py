"""Sharp laws of the flow: natural gradients."""

import math

import jax
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, close, computed
from ._ledger import Context, Subject, once
from ._shared import CASE, LAWS
from ._solves import CHECK_PROBS, CHECK_RATES, Settings, stop

DERIVED = "derived in docs/derivations.md#natural-geometry"

SUBJECT = Subject(LAWS)
claim = SUBJECT.claim

_RARE_RATES = (0.9, 0.6, 0.1)


def _tilted(probs, rates, time: float) -> np.ndarray:
    weights = np.asarray(probs) * np.exp(time * np.asarray(rates))
    return weights / weights.sum()


@once
def _natural():
    """Natural gradients: at three times, at V = .7, and from rare best patterns at V = .6."""
    times = [Settings(natural=True, log_time=math.log(t)) for t in (1.0, 3.0, 10.0)]
    check = stop([*times, Settings(natural=True, level=0.7)])
    rare = [(1e-6, 0.7, 0.3 - 1e-6), (1e-9, 0.7, 0.3 - 1e-9)]
    late = stop([Settings(natural=True, level=0.6)] * 2, probs=rare, rates=_RARE_RATES)
    return check, late


@claim(
    id="natural-gradient-is-hedge",
    source="arXiv 1906.00190",
    statement="without the softmax's own gradient, policy gradient is the replicator flow: "
    "pi(t) ~ pi(0) exp(R t), exponential weights",
    setting=f"{CASE}, natural gradient, t = 1, 3, 10: largest difference",
)
def natural_gradient_is_hedge(context: Context) -> Outcome:
    expected = np.array([_tilted(CHECK_PROBS, CHECK_RATES, t) for t in (1.0, 3.0, 10.0)])
    return close(0.0, np.abs(_natural()[0].probs[:3] - expected).max(), atol=1e-7)


@claim(
    id="natural-gradient-rate",
    source="arXiv 1908.00261, for small steps",
    statement="natural policy gradient from a uniform start needs no constant of the problem but "
    "the number of actions: R* - V <= log(K) / t",
    setting="bandits, p = (.9, .7, .1): largest t (R* - V) at t = 1, 3, 10, 30; bound log 3",
)
def natural_gradient_rate(context: Context) -> Outcome:
    times = np.array([1.0, 3.0, 10.0, 30.0])
    rows = [Settings(natural=True, log_time=math.log(t)) for t in times]
    found = stop(rows, probs=(1 / 3, 1 / 3, 1 / 3))
    largest = np.max(times * (0.9 - found.probs @ CHECK_RATES))
    return computed(math.log(3), largest, bool(largest <= math.log(3)))


@claim(
    id="natural-gradient-of-the-check-case",
    source=DERIVED,
    statement="under the natural gradient T0 = 3.38506, at pi = (.1184, .8422, .0395): the "
    "misleading pattern rises all the same",
    setting=f"{CASE}; the state must agree to its digits",
    ours=True,
)
def natural_gradient_of_the_check_case(context: Context) -> Outcome:
    found = _natural()[0]
    there = np.abs(found.probs[3] - [0.1184, 0.8422, 0.0395]).max() < 5.1e-5
    t0 = np.exp(found.log_time[3])
    return computed(3.38506, t0, bool(abs(t0 - 3.38506) < 5.1e-6 and there))


@claim(
    id="natural-gradient-is-not-slowed",
    source=DERIVED,
    statement="under the natural gradient T0 grows only like log(1/pi(r*)), here with the "
    "coefficient 1/(R* - R_3)",
    setting="rates (.9, .6, .1), pi(r*) = 1e-6 and 1e-9",
    ours=True,
)
def natural_gradient_is_not_slowed(context: Context) -> Outcome:
    t0 = np.exp(_natural()[1].log_time)
    return close(1 / 0.8, np.diff(t0)[0] / math.log(1e3), rtol=1e-5)


@claim(
    id="natural-gradient-moves-the-sum",
    source=DERIVED,
    statement="the natural gradient does not conserve sum theta: it grows at the rate "
    "sum (R - V), which is 0 for the Euclidean flow's sum pi (R - V)",
    setting=f"{CASE}: initial rate of sum theta",
    ours=True,
)
def natural_gradient_moves_the_sum(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    flow = qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural())
    field = jax.jit(lambda p: flow.velocity(*flow.split(p), p).pattern_logits)(policy)
    value = np.dot(CHECK_PROBS, CHECK_RATES)
    return close(sum(CHECK_RATES) - 3 * value, float(field.sum()), rtol=1e-12)
