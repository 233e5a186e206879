"""Oracles: the same systems solved without the library, in closed form or by SciPy and mpmath.

Everything here is for one question with pattern probabilities `probs`, constant pattern rewards
`rates` and, unless said otherwise, the Euclidean flow without penalties.
"""

import functools
import math
from collections.abc import Callable, Sequence

import mpmath
import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.special

CHECK_PROBS, CHECK_RATES = (0.05, 0.70, 0.25), (0.9, 0.7, 0.1)
"""The check case: one misleading pattern, gamma = 6."""

SFT_CASES = {
    (0.2, 1): 67.169,
    (0.2, 2): 49.064,
    (0.2, 4): 28.136,
    (0.5, 1): 31.664,
    (0.5, 2): 13.827,
    (0.5, 4): 3.514,
    (0.8, 1): 16.365,
    (0.8, 2): 5.136,
    (0.8, 4): 0.0,
}
"""T0 of the check case after fine-tuning on shares (f, 1 - f, 0) for a time s, by (f, s)."""


def rare_probs(rare: float) -> np.ndarray:
    """The start (rare, .7, .3 - rare), which goes with rates (.9, .6, .1) in the second check."""
    return np.array([rare, 0.7, 0.3 - rare])


RARE_RATES = (0.9, 0.6, 0.1)


def random_problems(seed: int, count: int, patterns: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` starts and rates with `patterns` patterns each, `(count, patterns)` twice."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(patterns, 1.5), size=count)
    return probs, rng.uniform(0.05, 0.95, size=(count, patterns))


# Euclidean flow, in time


def two_pattern_log_odds(
    probs: Sequence[float], rates: Sequence[float], time: float | np.ndarray
) -> np.ndarray:
    """Log odds of two patterns: delta + sinh delta = delta_0 + sinh delta_0 + (R_1 - R_2) t."""
    start = np.log(probs[0]) - np.log(probs[1])
    levels = start + np.sinh(start) + (rates[0] - rates[1]) * np.atleast_1d(time)

    def solve(level):
        width = np.arcsinh(abs(level)) + 1e-12
        return scipy.optimize.brentq(
            lambda x: x + np.sinh(x) - level, -width, width, xtol=1e-15, rtol=1e-15
        )

    return np.array([solve(level) for level in levels])


def two_pattern_time(
    probs: Sequence[float], rates: Sequence[float], log_odds: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The time at which two patterns have these log odds; the gradient of its logarithm with
    respect to (delta_0, R_1, R_2), and with respect to the log odds."""
    start, gap = np.log(probs[0] / probs[1]), rates[0] - rates[1]
    way = log_odds + np.sinh(log_odds) - start - np.sinh(start)
    gradient = np.array([-(1 + np.cosh(start)) / way, -1 / gap, 1 / gap])
    return way / gap, gradient, (1 + np.cosh(log_odds)) / way


def integrate(
    velocity: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """States `(T, ...)` of `d theta/dt = velocity(theta)`, by DOP853 at rtol 1e-12."""
    shape = np.shape(theta)
    solution = scipy.integrate.solve_ivp(
        lambda _, y: velocity(y.reshape(shape)).ravel(),
        (0.0, times[-1]),
        np.ravel(theta),
        method="DOP853",
        t_eval=times,
        rtol=1e-12,
        atol=1e-13,
    )
    assert solution.success
    return solution.y.T.reshape(-1, *shape)


def policy_gradient(rates: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """The velocity pi_r (R_r - V)."""

    def velocity(theta):
        probs = scipy.special.softmax(theta)
        return probs * (rates - probs @ np.asarray(rates))

    return velocity


def euclidean_probs(
    probs: Sequence[float], rates: Sequence[float], times: np.ndarray
) -> np.ndarray:
    """Pattern probabilities `(T, K)` under the plain policy gradient."""
    logits = integrate(policy_gradient(np.asarray(rates)), np.log(probs), np.asarray(times))
    return scipy.special.softmax(logits, axis=-1)


# Natural gradient


def natural_probs(
    probs: Sequence[float],
    rates: Sequence[float],
    time: float,
    beta: float = 0.0,
    reference: Sequence[float] | None = None,
    xp=np,
):
    """Closed form with the KL penalty: pi_ref^(1-e) pi_0^e exp((1-e) R/beta), e = exp(-beta t).

    `xp` is the array module, so that JAX can differentiate it.
    """
    start, rates = xp.log(xp.asarray(probs)), xp.asarray(rates)
    if reference is None:
        reference = probs
    decay = xp.exp(-beta * time)
    gain = time if isinstance(beta, float) and beta == 0 else -xp.expm1(-beta * time) / beta
    logits = (1 - decay) * xp.log(xp.asarray(reference)) + decay * start + gain * rates
    weights = xp.exp(logits - logits.max())
    return weights / weights.sum()


# Euclidean flow, exactly: the integrals of motion


class ExactFlow:
    """The flow in x_i = exp(-theta_i) over tau: x_i(0) - R_i tau + c, prod x conserved.

    One root (for c) and one quadrature (for t) in high-precision arithmetic, at any time scale.
    """

    digits = 30

    def __init__(self, probs: Sequence, rates: Sequence):
        self.start = [1 / mpmath.mpf(p) for p in probs]
        self.rates = [mpmath.mpf(r) for r in rates]
        self.log_product = sum(mpmath.log(x) for x in self.start)

    def at(self, tau):
        """x(tau), from the root of sum log x for the smallest x (no cancellation)."""
        moved = [x - r * tau for x, r in zip(self.start, self.rates, strict=True)]
        gaps = [m - min(moved) for m in moved]
        # First in floats, then in all digits: Newton's iteration only polishes in the latter, and
        # doubles the digits that are right each time.
        log_x = mpmath.mpf(self._near([float(gap) for gap in gaps]))
        enough = mpmath.mpf(10) ** (-mpmath.mp.dps / 2)
        for _ in range(200):
            least = mpmath.exp(log_x)
            xs = [least + gap for gap in gaps]
            excess = mpmath.log(mpmath.fprod(xs)) - self.log_product
            step = excess / sum(least / x for x in xs)
            log_x -= step
            if abs(step) < enough:
                least = mpmath.exp(log_x)
                return [least + gap for gap in gaps]
        raise AssertionError("no root")

    def _near(self, gaps):
        """The same root in floats, by the same iteration from the right of it."""
        log_product = float(self.log_product)
        log_x = log_product / len(gaps)
        for _ in range(200):
            xs = [math.exp(log_x) + gap for gap in gaps]
            excess = math.fsum(map(math.log, xs)) - log_product
            step = excess / sum(math.exp(log_x) / x for x in xs)
            log_x -= step
            if abs(step) < 1e-10:
                break
        return log_x

    def value_above(self, tau, level):
        """The sign of V - level, times a number in (0, 1] that keeps its root well scaled."""
        terms = [(r - level) / x for r, x in zip(self.rates, self.at(tau), strict=True)]
        return sum(terms) / sum(abs(term) for term in terms)

    def log_time(self, tau):
        """log t = log of the integral of sum 1/x."""
        scale = min(self.start)
        knots = [mpmath.mpf(0)]
        while scale < tau:
            knots.append(scale)
            scale *= 30
        speed = lambda tau: sum(1 / x for x in self.at(tau))  # noqa: E731
        return mpmath.log(mpmath.quad(speed, [*knots, tau], method="gauss-legendre"))


def exact_log_entanglement_time(probs: Sequence, rates: Sequence):
    """log T0 as an mpmath number: when V exceeds the second best rate; the start must be below."""
    with mpmath.workdps(ExactFlow.digits):
        flow = ExactFlow(probs, rates)
        level = sorted(set(flow.rates))[-2]
        high = mpmath.mpf(1)
        while flow.value_above(high, level) < 0:
            high *= 2
        low = high / 2 if high > 1 else mpmath.mpf(0)
        tau = mpmath.findroot(
            lambda tau: flow.value_above(tau, level), (low, high), solver="anderson", tol=1e-40
        )
        return flow.log_time(tau)


def _moved(rare: str, shift):
    """log T0 of the second check case, with log pi_* moved by `shift` at the expense of the third
    pattern."""
    first = mpmath.mpf(rare) * mpmath.exp(shift)
    probs = [first, mpmath.mpf("0.7"), mpmath.mpf("0.3") - first]
    return exact_log_entanglement_time(probs, ["0.9", "0.6", "0.1"])


EXACT_T0 = {
    "1e-2": 6.858139072316562,
    "1e-4": 16.089509643558298,
    "1e-8": 34.5106054760393,
    "1e-12": 52.93128626189216,
    "1e-14": 62.1416266338725,
    "1e-17": 75.95713719183681,
    "1e-20": 89.77264774980108,
    "1e-25": 112.79849867974154,
    "1e-30": 135.824349609682,
    "1e-36": 163.45537072561055,
}
"""log T0 for the second check case, by `exact_t0` once: it takes half a second each."""


def exact_t0(rare: str) -> float:
    """log T0 for the second check case."""
    with mpmath.workdps(ExactFlow.digits):
        return float(_moved(rare, mpmath.mpf(0)))


@functools.cache
def exact_t0_derivatives(rare: str) -> tuple[float, float]:
    """The first and the second derivative of log T0 in log pi_*, for the second check case."""
    with mpmath.workdps(ExactFlow.digits):
        step = mpmath.mpf("1e-6")
        below, here, above = (_moved(rare, x) for x in (-step, mpmath.mpf(0), step))
        return (
            float((above - below) / (2 * step)),
            float((above - 2 * here + below) / step**2),
        )
