"""500 problems of the constant-reward flow solved to many digits.

`python -m tests._support.reference.generate` writes the file anew, in about five minutes; `load`
reads it.
The flow is d theta_i/dt = pi_i (R_i - V), pi = softmax(theta). It is integrable: with
x_i = exp(-theta_i) and dt = (sum_i 1/x_i) d tau, x_i(tau) = x_i(0) - R_i tau + c(tau), where c
keeps the product of all x_i. A problem is the doubles in `logits` and `rates`, exactly.

Digits are kept, whatever the scales (x up to 1e300, layers down to 1e-1000 of the range of tau):

- The smallest x is the one on the lower envelope of the lines x_i(0) - R_i tau. The orbit is cut
  where the envelope changes from one line to the next, and described by the gaps x_i - min x,
  linear in tau on each segment. At the ends of the segments they are computed with as many digits
  as the cancellation takes; inside they are sums of terms >= 0, which lose none.
- A place in a segment is the logit v of the covered share of it (the logarithm of the covered tau
  in the last, infinite one), which resolves layers at both ends however thin.
- Given the gaps, the smallest x solves prod (x + gap_i) = const: Newton on logarithms in floats,
  for all nodes at once, then Halley on integers (all x_i in units a fixed number of bits below x).
- Time is the trapezoidal rule in v, where the integrand falls off exponentially on both sides,
  halved until it stands still. Floats tell which terms count.
"""

import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf

PATH = pathlib.Path(__file__).with_name("exact.json")
SEED = 20_261_123
EPS = (0.01, 1e-6)
KINDS = {
    "ordinary": 150,
    "entangled": 120,
    "cascade": 80,
    "near tie": 50,
    "strong": 40,
    "tie": 40,
    "wide": 10,
    "rare": 10,
}
"""How many problems of each kind, in this order."""

DIGITS, BITS = 70, 240
"""Working precision; that of the end points of segments is raised by the range of the problem."""
TOLERANCE = mpf("1e-27")
"""Largest relative change of a time in the last halving; its error is about the square."""
CUT = math.log(1e-58)
"""Terms of the trapezoidal rule below exp(CUT) of the sum do not count."""
REACH = 160
"""They end there in v, where its weight has fallen to 1e-69."""
STEP, FINE = mpf("1e-14"), mpf("1e-50")
"""Step of central differences, and the tolerance that their times need."""
DERIVATIVES = 10
"""So many of the first ordinary and entangled problems come with derivatives."""


# The solver


class Segment(NamedTuple):
    """A stretch of the orbit along which one x is the smallest; the last has no end."""

    length: mpf | None
    low: list[mpf]
    """The gaps x_i - min x where it begins."""
    high: list[mpf]
    """The gaps where it ends; in the last segment their slopes."""

    def shares(self, v: mpf) -> tuple[mpf, mpf, mpf]:
        """Weights of `low` and `high` in the gaps at the place v, and d tau/dv."""
        odds = mpmath.exp(v)
        if self.length is None:
            return mpf(1), odds, odds
        before, after = odds / (1 + odds), 1 / (1 + odds)
        return after, before, self.length * before * after

    def gaps(self, v: mpf) -> list[mpf]:
        """The gaps at the place v."""
        after, before, _ = self.shares(v)
        return [low * after + high * before for low, high in zip(self.low, self.high, strict=True)]

    def until(self, v: mpf) -> "Segment":
        """The segment from the beginning of this one to the place v."""
        _, before, _ = self.shares(v)
        length = before if self.length is None else self.length * before
        return Segment(length, self.low, self.gaps(v))


def segments(logits: Sequence, rates: Sequence) -> list[Segment]:
    """The orbit, cut where the smallest x changes, as gaps at the cuts to `DIGITS` digits."""
    spread = int((max(logits) - min(logits)) / math.log(10))
    pieces = []
    with mpmath.workdps(2 * DIGITS + 3 * spread):
        xs, rates = [mpmath.exp(-mpf(logit)) for logit in logits], [mpf(rate) for rate in rates]
        patterns = range(len(xs))
        least, tau = min(patterns, key=lambda i: (xs[i], -rates[i])), mpf(0)
        low = [x - xs[least] for x in xs]
        while rates[least] < max(rates):
            faster = [i for i in patterns if rates[i] > rates[least]]
            cuts = {i: (xs[i] - xs[least]) / (rates[i] - rates[least]) for i in faster}
            end = min(cuts.values())
            met = [i for i in faster if cuts[i] == end]
            high = [xs[i] - xs[least] - (rates[i] - rates[least]) * end for i in patterns]
            high = [mpf(0) if i in met else max(gap, mpf(0)) for i, gap in enumerate(high)]
            pieces.append(Segment(end - tau, low, high))
            least, tau, low = max(met, key=lambda i: rates[i]), end, high
        pieces.append(Segment(None, low, [rates[least] - rate for rate in rates]))
    rounded = lambda numbers: [+number for number in numbers]  # noqa: E731
    return [
        Segment(None if piece.length is None else +piece.length, *map(rounded, piece[1:]))
        for piece in pieces
    ]


def float_logs(numbers: Sequence[mpf]) -> np.ndarray:
    """Logarithms as floats, also of numbers that are not in their range, as a column `(K, 1)`."""
    pairs = map(mpmath.frexp, numbers)
    logs = [math.log(m) + e * math.log(2) if m else -math.inf for m, e in pairs]
    return np.array(logs)[:, None]


def shift(number: int, bits: int) -> int:
    """number 2^bits, rounded down."""
    return number << bits if bits >= 0 else number >> -bits


@functools.cache
def node(numerator: int, level: int) -> tuple[tuple[int, int], tuple[int, int], mpf]:
    """Shares after and before v = numerator/2^level (mantissa, exponent), and the node's weight."""
    odds = mpmath.exp(mpf(numerator) / 2**level)
    after, before = 1 / (1 + odds), odds / (1 + odds)
    return after.man_exp, before.man_exp, after * before / 2**level


class Place(NamedTuple):
    """A place on the orbit: the number of the segment, and v in it."""

    segment: int
    v: mpf


class Orbit:
    """The trajectory from `logits` with `rates`. Use it with `DIGITS` digits set."""

    def __init__(self, logits: Sequence, rates: Sequence, tolerance: mpf = TOLERANCE):
        assert mpmath.mp.dps == DIGITS
        self.rates = [mpf(rate) for rate in rates]
        log_product = -mpmath.fsum(map(mpf, logits))
        self.log_product, self.product = float(log_product), mpmath.exp(log_product).man_exp
        self.segments = segments(logits, rates)
        self.tolerance = tolerance
        self.breaks = [mpf(0)]  # times at which segments begin, as far as they were needed

    # in space

    def log_smallest(self, log_gaps: np.ndarray) -> np.ndarray:
        """Logarithm of the smallest x `(N,)` for gaps `(K, N)`, to the precision of floats."""
        # to the right of the root of a convex function
        log_x = np.full(log_gaps.shape[1], self.log_product / len(log_gaps))
        for _ in range(100):
            log_xs = np.logaddexp(log_x, log_gaps)
            excess = log_xs.sum(axis=0) - self.log_product
            move = excess / np.exp(log_x - log_xs).sum(axis=0)
            log_x = log_x - move
            if np.abs(move).max() < 1e-8:  # quadratic: the next would be below rounding
                return log_x
        raise AssertionError("no root")

    def positions(self, log_x: float, gaps: Sequence[Sequence]) -> tuple[list[int], int]:
        """All x_i as integers in units of 2^unit, and unit, given the smallest x roughly.

        A gap is the sum of `(mantissa, exponent)` pairs.
        """
        unit = math.floor(log_x / math.log(2)) - BITS
        x = int(math.exp(log_x - (unit + BITS) * math.log(2)) * 2**50) << BITS - 50
        whole = [sum(shift(man, exp - unit) for man, exp in pairs) for pairs in gaps]
        one, (mantissa, exponent) = 1 << BITS, self.product
        for _ in range(10):
            xs = [x + gap for gap in whole]
            product, missing = 1, exponent - len(xs) * unit
            for each in xs:
                product *= each
                extra = product.bit_length() - BITS
                product, missing = product >> extra, missing - extra
            excess = one - shift(mantissa, missing + BITS) // product
            inverses = [(x << BITS) // each for each in xs]
            slope, squares = sum(inverses), sum(inverse * inverse for inverse in inverses)
            slope2 = slope * slope
            curvature = (slope2 - squares) >> BITS
            move = (2 * excess * slope << BITS) // (2 * slope2 - excess * curvature)
            x -= x * move >> BITS
            if abs(move) < 1 << (BITS // 2):  # cubic
                return [x + gap for gap in whole], unit
        raise AssertionError("no root")

    def inverses(self, gaps: Sequence[mpf]) -> list[mpf]:
        """1/x_i = exp(theta_i) where the gaps are these."""
        (log_x,) = self.log_smallest(float_logs(gaps))
        xs, unit = self.positions(log_x, [[gap.man_exp] for gap in gaps])
        return [mpmath.ldexp(1 / mpf(x), -unit) for x in xs]

    def logits(self, place: Place) -> list[mpf]:
        """theta_i at a place."""
        gaps = self.segments[place.segment].gaps(place.v)
        return [mpmath.log(inverse) for inverse in self.inverses(gaps)]

    def find(self, event: Callable[[list[mpf]], mpf]) -> Place | None:
        """Where a function of exp(theta) that ends above 0 rises through 0; None: above before."""
        if event(self.inverses(self.segments[0].low)) >= 0:
            return None
        for number, segment in enumerate(self.segments):
            if segment.length is None or event(self.inverses(segment.high)) > 0:
                return Place(number, root(lambda v: event(self.inverses(segment.gaps(v)))))  # noqa: B023
        raise AssertionError("the last segment has no end")

    # in time

    def rough_terms(self, piece: Segment, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the smallest x and of dt/dv, per length, in floats at v `(N,)`."""
        after, before = -np.logaddexp(0.0, v), -np.logaddexp(0.0, -v)
        gaps = np.logaddexp(float_logs(piece.low) + after, float_logs(piece.high) + before)
        log_x = self.log_smallest(gaps)
        speed = np.logaddexp.reduce(-np.logaddexp(log_x, gaps), axis=0)
        return log_x, speed + after + before

    def rough_log_duration(self, piece: Segment) -> float:
        """Logarithm of the time spent in a finite segment, to about ten digits."""
        level = 5
        _, terms = self.rough_terms(piece, np.arange(-32 << level, 33 << level) / 2**level)
        (log_length,) = float_logs([piece.length])[0]
        return np.logaddexp.reduce(terms) - level * math.log(2) + log_length

    def duration(self, piece: Segment, elapsed: mpf) -> mpf:
        """Time spent in a finite segment that began at `elapsed`; its error is relative to both."""
        elapsed = elapsed / piece.length
        (least,) = float_logs([elapsed])[0]
        pairs = [(low.man_exp, high.man_exp) for low, high in zip(*piece[1:], strict=True)]
        total, first = mpf(0), 2
        for level in range(first, 12):
            numerators = np.arange(-REACH << level, (REACH << level) + 1)
            if level > first:
                numerators = numerators[numerators % 2 == 1]
            log_xs, terms = self.rough_terms(piece, numerators / 2**level)
            terms -= level * math.log(2)
            if level == first:
                least = CUT + np.logaddexp(least, np.logaddexp.reduce(terms))
            count = terms > least
            new = mpf(0)
            for numerator, log_x in zip(numerators[count], log_xs[count], strict=True):
                (after, e), (before, f), weight = node(int(numerator), level)
                gaps = [
                    ((low * after, low_e + e), (high * before, high_e + f))
                    for (low, low_e), (high, high_e) in pairs
                ]
                xs, unit = self.positions(log_x, gaps)
                speed = sum((1 << 2 * BITS) // x for x in xs)
                new += weight * mpmath.ldexp(speed, -2 * BITS - unit)
            coarse, total = total, total / 2 + new
            if level > first and abs(total - coarse) <= self.tolerance * (elapsed + total):
                return total * piece.length
        raise AssertionError("the quadrature does not converge")

    def time(self, place: Place) -> mpf:
        """t at a place."""
        begin = self.begin(place.segment)
        piece = self.segments[place.segment].until(place.v)
        return begin + self.duration(piece, begin)

    def begin(self, number: int) -> mpf:
        """t at which a segment begins."""
        while len(self.breaks) <= number:
            piece, begin = self.segments[len(self.breaks) - 1], self.breaks[-1]
            self.breaks.append(begin + self.duration(piece, begin))
        return self.breaks[number]

    def speed(self, place: Place) -> mpf:
        """dt/dv at a place."""
        segment = self.segments[place.segment]
        _, _, rate = segment.shares(place.v)
        return rate * sum(self.inverses(segment.gaps(place.v)))

    def at(self, log_time: float) -> Place:
        """The place at a time: a rough root, then Newton with the short way integrated exactly."""
        target = mpmath.exp(mpf(log_time))
        number = 0
        while self.segments[number].length is not None and self.begin(number + 1) < target:
            number += 1
        segment, left = self.segments[number], target - self.begin(number)
        log_left = mpmath.log(left)
        v = root(lambda v: self.rough_log_duration(segment.until(v)) - log_left, mpf("1e-8"))
        left -= self.duration(segment.until(v), mpf(0))
        for _ in range(4):
            move = left / self.speed(Place(number, v))
            assert abs(move) < 1e-5
            for abscissa, weight in ((-1, 5), (0, 8), (1, 5)):  # Gauss
                way = move * (1 + abscissa * mpmath.sqrt(mpf("0.6"))) / 2
                left -= move * weight / 18 * self.speed(Place(number, v + way))
            v += move
        return Place(number, v)


def root(function: Callable[[mpf], mpf], tolerance: mpf = mpf("1e-60")) -> mpf:
    """The place of a segment at which a function rises through 0."""
    start = function(mpf(0))
    end, width = mpf(0), mpf(1 if start < 0 else -1)
    while function(end + width) * start > 0:
        end, width = end + width, width * 2
    bracket = (end, end + width)
    return mpmath.findroot(
        function, bracket, solver="anderson", tol=tolerance, maxsteps=200, verify=False
    )


def log_entanglement_time(orbit: Orbit) -> mpf:
    """log T0: V first exceeds the second highest rate (-inf: from the start, or there is none)."""
    values = sorted(set(orbit.rates))
    if len(values) < 3:
        return mpf("-inf")
    level = values[-2]

    def event(inverses):
        terms = [(r - level) * inverse for r, inverse in zip(orbit.rates, inverses, strict=True)]
        gain = sum(term for term in terms if term > 0)
        return mpmath.log(-gain / sum(term for term in terms if term < 0))

    place = orbit.find(event)
    return mpf("-inf") if place is None else mpmath.log(orbit.time(place))


def log_convergence_time(orbit: Orbit, eps: float) -> mpf:
    """log T_eps: patterns below the highest rate have a share eps left (-inf: never had more)."""
    highest, threshold = max(orbit.rates), mpmath.log(mpf(eps) / (1 - mpf(eps)))
    if min(orbit.rates) == highest:
        return mpf("-inf")

    def event(inverses):
        pairs = list(zip(orbit.rates, inverses, strict=True))
        best = sum(inverse for rate, inverse in pairs if rate == highest)
        rest = sum(inverse for rate, inverse in pairs if rate < highest)
        return mpmath.log(best / rest) + threshold

    place = orbit.find(event)
    return mpf("-inf") if place is None else mpmath.log(orbit.time(place))


# The problems


def kind_of(index: int) -> tuple[str, int]:
    """The kind of a problem, and its number among those of the kind."""
    for kind, count in KINDS.items():
        if index < count:
            return kind, index
        index -= count
    raise IndexError("there are no more problems")


def decades(rng: np.random.Generator, low: float, high: float) -> float:
    """A random power of ten with its exponent between these."""
    return 10 ** rng.uniform(low, high)


def misled(rng: np.random.Generator, rare: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A start in the entangled regime, `(probs, rates)`: the best pattern at `rare` comes first."""
    share, rate = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.8)
    others = rng.dirichlet(np.full(count - 2, 1.5)) * (1 - share)
    probs = np.concatenate([[rare, share * (1 - rare)], others * (1 - rare)])
    low = rng.uniform(0.02, 0.98 * rate * share, count - 2)
    return probs, np.concatenate([[rng.uniform(rate + 0.02, 0.98), rate], low])


def draw(index: int, seed: int = SEED) -> dict[str, Any]:
    """Inputs of a problem, rounded to 12 decimals: they do not depend on the last bit of a log."""
    kind, number = kind_of(index)
    rng = np.random.default_rng(seed + index)
    count = int(rng.integers(3, 9))
    probs, rates = rng.dirichlet(np.full(count, 1.5)), rng.uniform(0.05, 0.95, count)
    if kind == "ordinary":
        count = 2 + number % 4 if number < DERIVATIVES else int(rng.integers(2, 9))
        probs, rates = rng.dirichlet(np.full(count, 1.5)), rng.uniform(0.05, 0.95, count)
    elif kind == "entangled":
        count = 3 + number % 3 if number < DERIVATIVES else count
        probs, rates = misled(rng, decades(rng, -30, -1), count)
    elif kind == "cascade":
        chain = 3 + number % 2  # the best and two or three misleading patterns
        others = int(rng.integers(1, 5))
        steps = 10 ** -np.cumsum(rng.uniform(1, 6, chain))
        top = np.sort(rng.uniform(0.4, 0.95, chain))
        probs = np.concatenate([steps, rng.dirichlet(np.full(others, 1.5)) * (1 - steps.sum())])
        rates = np.concatenate([top, rng.uniform(0.02, 0.4, others)])
    elif kind == "near tie":
        rates = np.sort(rates)[::-1].copy()
        first = number % 2  # best and second best, or second and third
        rates[first + 1] = rates[first] - 1e-9
        if number % 4 >= 2:
            probs[0] *= decades(rng, -8, -1)
    elif kind == "strong":
        left = decades(rng, -8, -0.3)
        probs = np.concatenate([[1 - left], rng.dirichlet(np.full(count - 1, 1.5)) * left])
        best = rng.uniform(0.5, 0.95)
        low = rng.uniform(0.02, 0.98 * best * (1 - left), count - 1)
        rates = np.concatenate([[best], low])
    elif kind == "tie":
        rates = np.sort(rates)[::-1].copy()
        if number % 8 >= 4:
            probs[0] *= decades(rng, -8, -1)
        first, second = ((0, 1), (0, 1), (1, 2), (-2, -1))[number % 4]
        rates[second] = rates[first]
        if number % 4 == 1:
            probs[second] = probs[first]
        if number == KINDS["tie"] - 1:
            rates[:] = rates[0]
    elif kind == "wide":
        count = 16
        probs, rates = rng.dirichlet(np.full(count, 1.5)), rng.uniform(0.05, 0.95, count)
        if number % 2:
            probs, rates = misled(rng, decades(rng, -10, -1), count)
    elif kind == "rare":
        probs, rates = misled(rng, 1e-300 if number < 2 else 1e-30, count)
    order = rng.permutation(len(probs))
    problem = {
        "index": index,
        "kind": kind,
        "K": len(probs),
        "logits": np.log(probs)[order].round(12).tolist(),
        "rates": rates[order].round(12).tolist(),
    }
    if kind in ("ordinary", "entangled") and number < DERIVATIVES:
        problem["derivatives"] = {
            "of": "log_T0" if kind == "entangled" else "log_T_eps[0]",
            "direction_logits": rng.normal(size=len(probs)).round(6).tolist(),
            "direction_rates": rng.normal(size=len(probs)).round(6).tolist(),
        }
    return problem


def differences(problem: dict[str, Any]) -> dict[str, Any]:
    """First and second derivative of a log time along the direction in a problem."""
    what = problem["derivatives"]

    def along(step):
        shifted = [
            [mpf(number) + step * mpf(slope) for number, slope in zip(start, way, strict=True)]
            for start, way in (
                (problem["logits"], what["direction_logits"]),
                (problem["rates"], what["direction_rates"]),
            )
        ]
        orbit = Orbit(*shifted, tolerance=FINE)
        if what["of"] == "log_T0":
            return log_entanglement_time(orbit)
        return log_convergence_time(orbit, EPS[0])

    below, here, above = along(-STEP), along(mpf(0)), along(STEP)
    return what | {
        "first": float((above - below) / (2 * STEP)),
        "second": float((above - 2 * here + below) / STEP**2),
    }


def regenerate(index: int) -> dict[str, Any]:
    """One problem and its solution, as in `load()[index]`.

    `logits` and `rates` `(K,)`; `log_T0`; `log_T_eps`, one for each of `EPS` (where the patterns
    below the best have the share eps left); `theta` `(3, K)`, the flow's own logits (their sum is
    conserved), at the three `log_times`. Some have `derivatives`: the `first` and `second` of one
    of the log times along a direction. Times before the start are -inf.
    """
    problem = draw(index)
    with mpmath.workdps(DIGITS):
        orbit = Orbit(problem["logits"], problem["rates"])
        problem["log_T0"] = float(log_entanglement_time(orbit))
        problem["log_T_eps"] = [float(log_convergence_time(orbit, eps)) for eps in EPS]
        last = next((time for time in problem["log_T_eps"] if time > -math.inf), 0.0)
        log_times = (0.5 * max(last, 1.0), last - 0.1, last + 1.0)
        problem["log_times"] = [round(time, 6) for time in log_times]
        problem["theta"] = [
            [float(logit) for logit in orbit.logits(orbit.at(time))]
            for time in problem["log_times"]
        ]
        if "derivatives" in problem:
            problem["derivatives"] = differences(problem)
    return problem


# The file


def load() -> list[dict[str, Any]]:
    """All problems of the file, in order, each as `regenerate` returns it."""

    def decode(value):
        if isinstance(value, list):
            return [decode(item) for item in value]
        return -math.inf if value == "-inf" else value

    problems = json.loads(PATH.read_text())["problems"]
    return [{key: decode(value) for key, value in problem.items()} for problem in problems]


def dump(problems: Sequence[dict[str, Any]]) -> str:
    """The text of the file: a line a problem, -inf as a string."""

    def encode(value):
        if isinstance(value, list):
            return [encode(item) for item in value]
        return "-inf" if value == -math.inf else value

    lines = [
        json.dumps({key: encode(value) for key, value in problem.items()}, allow_nan=False)
        for problem in problems
    ]
    head = f'{{"seed": {SEED}, "eps": {json.dumps(EPS)}, "problems": [\n'
    return head + ",\n".join(lines) + "\n]}\n"


def main():
    """Write the file."""
    total = sum(KINDS.values())
    problems = []
    for index in range(total):
        problems.append(regenerate(index))
        print(f"\r{index + 1}/{total}", end="", file=sys.stderr, flush=True)
    PATH.write_text(dump(problems))


if __name__ == "__main__":
    main()
