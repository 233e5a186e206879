"""What a diagnosis made by hand draws and says: lines against its numbers, whole sentences."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

import qra_jax as qra
from qra_jax.diagnosis import Band, Forecast, TimeBand
from qra_jax.diagnosis._limits import limits_of
from qra_jax.diagnosis.report._figures import draw_figures
from qra_jax.diagnosis.report._text import (
    chance,
    interval,
    key_figures,
    number,
    open_lines,
    pattern_rows,
    share,
    slowest,
    time,
    verdict,
)
from qra_jax.plot import LN10
from tests._support.diagnosed import PLAIN, altered, bands


@pytest.fixture(scope="module")
def figures():
    return draw_figures(PLAIN)


def lines_of(ax, label=None):
    return [line for line in ax.lines if label is None or line.get_label() == label]


def edges(collection) -> np.ndarray:
    return collection.get_paths()[0].vertices


def assert_band(ax, index: int, x, band: Band, line) -> None:
    """The shaded band and the line through it are those of the numbers."""
    vertices = edges(ax.collections[index])
    for at, (low, high) in enumerate(zip(band.low, band.high, strict=True)):
        here = vertices[np.isclose(vertices[:, 0], x[at]), 1]
        assert here.min() == pytest.approx(low)
        assert here.max() == pytest.approx(high)
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), band.median)


def column(band: Band, at: int) -> Band:
    return Band(band.low[:, at], band.median[:, at], band.high[:, at])


@pytest.mark.parametrize("name", ["forecast", "steps"])
def test_forecasts_are_drawn(figures, name):
    """Accuracy and every pattern over log10 time, or steps; the start, and what was logged."""
    ahead = PLAIN.rlvr.forecast if name == "forecast" else PLAIN.rlvr.step_forecast
    assert ahead is not None
    x = ahead.log_times / LN10 if isinstance(ahead, Forecast) else ahead.steps
    left, right = figures[name].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy", "share")
    wanted = "time" if name == "forecast" else "optimiser step"
    assert wanted in left.get_xlabel()
    assert wanted in right.get_xlabel()
    assert_band(left, 0, x, ahead.accuracy, lines_of(left, "median; band: 90 %")[0])
    assert len(right.lines) == len(right.collections) == 3
    for at, pattern in enumerate(PLAIN.data.patterns):
        (line,) = lines_of(right, pattern)
        assert_band(right, at, x, column(ahead.pattern_shares, at), line)
    assert len({line.get_color() for line in right.lines}) == 3
    assert [text.get_text() for text in right.get_legend().get_texts()] == list(PLAIN.data.patterns)
    if isinstance(ahead, Forecast):
        (now,) = lines_of(left, "now")
        np.testing.assert_allclose(now.get_ydata(), float(ahead.start_accuracy.median))
    else:
        (logged,) = (c for c in left.containers if isinstance(c, ErrorbarContainer))
        np.testing.assert_array_equal(logged[0].get_xdata(), [2, 4])
        np.testing.assert_array_equal(logged[0].get_ydata(), [0.75, 0.7])
        ends = np.array([segment[:, 1] for segment in logged[2][0].get_segments()])
        error = 1.645 * np.sqrt(np.array([0.75 * 0.25 / 40, 0.7 * 0.3 / 50]))
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * error)


def test_patterns_are_drawn(figures):
    """Names from top to bottom; intervals and medians of share and success rate; the accuracy."""
    left, right = figures["patterns"].axes
    for ax, band in ((left, PLAIN.start.pattern_probs), (right, PLAIN.start.success_rates)):
        (dots,) = (line for line in ax.lines if line.get_marker() == "o")
        np.testing.assert_allclose(dots.get_xdata(), band.median[0])
        np.testing.assert_array_equal(dots.get_ydata(), [2, 1, 0])
        segments = np.array(ax.collections[0].get_segments())
        np.testing.assert_allclose(segments[:, 0, 0], band.low[0])
        np.testing.assert_allclose(segments[:, 1, 0], band.high[0])
        np.testing.assert_array_equal(segments[:, 0, 1], [2, 1, 0])
    assert [text.get_text() for text in left.get_yticklabels()] == list(PLAIN.data.patterns)
    (dotted,) = (line for line in right.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(dotted.get_xdata(), 0.42)
    box = right.patches[0].get_extents().transformed(right.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((0.31, 0.48))
    assert (left.get_xlabel(), right.get_xlabel()) == ("share of rollouts", "success rate")


def test_pass_at_k_is_drawn(figures):
    """Before and after over k in powers of two, and what was measured, where it was."""
    (ax,) = figures["pass_at_k"].axes
    k = PLAIN.rlvr.pass_at_k.k
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "k", "pass@k")
    np.testing.assert_array_equal(ax.get_xticks(), k)
    assert_band(ax, 0, k, PLAIN.rlvr.pass_at_k.before, lines_of(ax, "before")[0])
    assert_band(ax, 1, k, PLAIN.rlvr.pass_at_k.after, lines_of(ax, "after RLVR")[0])
    (dots,) = lines_of(ax, "measured")
    np.testing.assert_array_equal(dots.get_xydata(), [[1, 0.4], [2, 0.6]])


def test_rlif_is_drawn(figures):
    """Internal reward against success rate, of the patterns that have one, with both intervals."""
    (ax,) = figures["rlif"].axes
    reward, rates = PLAIN.rlif.pattern_rewards, PLAIN.start.success_rates
    for at, label in enumerate(("alpha: selected 0.20", "beta: selected 0.80")):
        (dot,) = lines_of(ax, label)
        np.testing.assert_allclose(dot.get_xydata(), [[reward.median[at], rates.median[0, at]]])
        across, up = (ax.collections[2 * at + i].get_segments()[0] for i in range(2))
        np.testing.assert_allclose(across[:, 0], (reward.low[at], reward.high[at]))
        np.testing.assert_allclose(across[:, 1], rates.median[0, at])
        np.testing.assert_allclose(up[:, 1], (rates.low[0, at], rates.high[0, at]))
        np.testing.assert_allclose(up[:, 0], reward.median[at])
    assert len(ax.collections) == 4
    assert ax.get_xlabel() == "confidence (nat, up to a constant)"
    (now,) = lines_of(ax, "accuracy now")
    np.testing.assert_allclose(now.get_ydata(), 0.42)


def test_the_most_common_patterns_keep_a_colour():
    """Of eight, the six whose shares ever are the largest, in their order."""
    shares = np.tile(np.array([0.1, 0.9, 0.2, 0.8, 0.01, 0.7, 0.02, 0.6]), (8, 1))
    shares[3, 4] = 0.99  # large at one time only
    ahead = dataclasses.replace(PLAIN.rlvr.forecast, pattern_shares=Band(*[shares] * 3))
    found = altered(
        data={"patterns": tuple("abcdefgh")},
        start={"pattern_probs": bands(1, 8), "success_rates": bands(1, 8)},
        rlvr={"forecast": ahead, "step_forecast": None},
        rlif=None,
    )
    drawn = draw_figures(found)
    assert set(drawn) == {"patterns", "forecast", "pass_at_k"}
    right = drawn["forecast"].axes[1]
    assert [line.get_label() for line in right.lines] == list("bcdefh")
    assert len({to_hex(line.get_color()) for line in right.lines}) == 6


def test_means_over_questions_are_by_weight():
    """Of bands and of probabilities of two questions, three to one."""
    overall = Band(*(np.log([x, 100 * x]) for x in (2.0, 3.0, 4.0)))
    found = altered(
        data={
            "questions": ("a", "b"),
            "weights": np.array([0.75, 0.25]),
            "samples": np.array([[1.0, 2, 3], [10, 20, 30]]),
            "correct": np.array([[1.0, 1, 0], [1, 2, 3]]),
        },
        start={
            "pattern_probs": Band(*(np.array([[x, 0, 0], [0, x, 0]]) for x in (0.2, 0.4, 0.8))),
            "success_rates": bands(2, 3),
        },
        regime={
            "best_probs": np.array([[0.6, 0.4, 0], [0, 1, 0]]),
            "misleading_probs": np.array([[0.4, 0, 0.6], [0, 0, 1.0]]),
            "probs": np.array([[0.5, 0.5, 0.0], [0.1, 0.1, 0.8]]),
        },
        rlvr={
            "log_convergence_time": TimeBand(
                np.zeros(2), np.zeros(2), np.zeros(2), bands(2), overall
            )
        },
    )
    rows = pattern_rows(found)
    assert (rows[0].share, rows[0].share_interval) == ("0.3", "0.15 to 0.6")
    assert (rows[1].share, rows[1].best) == ("0.1", "0.55")
    assert (rows[0].misleads, rows[2].misleads) == ("0.3", "0.7")
    assert (rows[1].samples, rows[1].correct) == (22, 3)
    assert verdict(found) == (
        "Of 2 questions, each by itself, expect 40 % STRONG, 40 % ENTANGLED, 20 % MIXED."
    )
    assert slowest(found) == [("b", "0.1", "300", "200 to 400"), ("a", "0.5", "3", "2 to 4")]
    assert slowest(PLAIN) == []


@pytest.mark.parametrize(
    ("regimes", "text"),
    [
        (
            [0.03, 0.95, 0.02],
            "Entangled start (probability 0.97): RLVR will first raise 'beta' (probability 0.93), "
            "which misleads, before it turns to 'alpha' (probability 0.9). "
            "Fine-tuning first would help.",
        ),
        ([0.03, 0.5, 0.47], "Weak start (probability 0.97): RLVR will first raise 'beta'"),
        (
            [1.0, 0.0, 0.0],
            "Strong start (probability > 0.99): RLVR needs no way out of entanglement, and raises "
            "'alpha' (probability 0.9) from the first step.",
        ),
        (
            [0.2, 0.8, 0.0],
            "These rollouts do not settle the regime: STRONG 0.2, ENTANGLED 0.8, MIXED < 0.01.",
        ),
    ],
)
def test_verdicts(regimes, text):
    """Settled from 90 % on, strong or not; otherwise all three probabilities."""
    found = altered(regime={"probs": np.array([regimes])})
    assert verdict(found).startswith(text)


def test_key_figures():
    """Every row, in its order: times with what is infinite apart, and in steps by the scale."""
    rows = {row.name: (row.value, row.interval) for row in key_figures(PLAIN)}
    assert rows["accuracy now"] == ("0.42", "0.31 to 0.48")
    assert rows["probability of STRONG"][0] == "0.03"
    assert rows["probability of ENTANGLED"][0] == "0.95"
    assert rows["gamma, unless STRONG"] == ("6.5", "4 to 9")
    assert rows["T0, the end of entanglement"] == (
        "100", "10 to 1e+03; 0 with probability 0.03; else 100 (10 to 1e+03)"
    )  # fmt: skip
    assert rows["time to pi(best) = 0.95"] == (
        "1e+03",
        "100 to 1.0e+05; never with probability 0.25; else 1e+03 (100 to 1.0e+05); "
        "0.125 of the solves failed",
    )
    assert rows["T0, the end of entanglement, in steps"][0] == "1e+03"
    assert rows["risk that RLIF ends below its start"] == ("0.37", "by confidence, 300 rollouts")
    assert open_lines(PLAIN) == [
        "one thing; about 3,100 further rollouts would settle it",
        "another; not even 9,000 further rollouts would settle it",
    ]


def test_numbers_in_words():
    """Probabilities never quite 0 or 1, times however large, NaN as a dash."""
    assert [chance(x, PLAIN) for x in (0.0, 0.0099, 0.5, 0.9901, 1.0)] == [
        "< 0.01", "< 0.01", "0.5", "> 0.99", "> 0.99",
    ]  # fmt: skip
    assert [share(x) for x in (0.1234, 0.5, 1.0, np.nan)] == ["0.123", "0.5", "1", "-"]
    assert [number(x) for x in (0.0, 1234.5, 2e5, 5e-4, np.nan)] == [
        "0", "1.23e+03", "2.0e+05", "5.0e-04", "-",
    ]  # fmt: skip
    times = (np.nan, np.inf, -np.inf, np.log(250.0), 1000 * LN10 + np.log(2.5))
    assert [time(x) for x in times] == ["-", "never", "0", "250", "2.5e1000"]
    assert interval(Band(np.array(1.0), np.array(2.0), np.array(np.nan))) == ""


def limits(found=PLAIN, grouped=0, missing=0, **source):
    rollouts = qra.Rollouts(
        ("q",), ("a",), np.zeros(2, int), np.zeros(2, int), np.array([True, False]), **source
    )
    posterior = qra.posteriors.pooled_posterior(np.ones(1), np.ones(1))
    return limits_of(found, rollouts, grouped, missing, posterior)


def test_limits_of_the_counts():
    """Whole sentences with their numbers: what goes unseen, few samples, the prior's weight."""
    lines = limits()
    assert (
        "a pattern that is in no rollout is not in the model: among 300 rollouts, one of "
        "probability 0.0099 goes unseen in 5 % of cases"
    ) in lines
    assert (
        "pattern 'alpha' has 5 samples: it is the best with probability 0.90 and misleads with "
        "0.05, and the result hangs on so few"
    ) in lines
    assert sum("hangs on so few" in line for line in lines) == 1
    assert not any("the prior weighs" in line for line in lines)
    heavy = altered(settings={"prior": qra.posteriors.Prior(11.0)})
    assert any("the prior weighs as much as 33 rollouts beside 300" in x for x in limits(heavy))
    light = altered(settings={"prior": qra.posteriors.Prior(9.9)})
    assert not any("the prior weighs" in line for line in limits(light))
    # Ten samples are not few, and what neither is the best nor misleads decides nothing.
    enough = altered(data={"samples": np.array([[10.0, 200, 95]])})
    nothing = altered(regime={"best_probs": np.array([[0.1, 0.8, 0.1]])})
    for found in (enough, nothing):
        assert not any("hangs on so few" in line for line in limits(found))


def test_limits_of_the_model():
    """Solves that failed, few effective draws, no noise, patterns without a reward, pooling."""
    lines = limits(grouped=7, missing=2)
    assert any("the 7 rarest patterns are grouped as one, 'gamma'" in line for line in lines)
    assert "questions left out, as the base model has no rollouts of them: 2" in lines
    assert any(line.startswith("the logs leave 17 effective draws") for line in lines)
    assert any("has no training noise" in line for line in lines)
    assert "RLIF is judged among the patterns with an internal reward only" in lines
    assert any("pass@k of the model ignores" in line for line in lines)
    assert not any("solves that failed" in line for line in lines)
    noisy = dataclasses.replace(PLAIN.rlvr.step_forecast, noise="some", effective_draws=31.0)
    found = altered(
        settings={"pooling": "per_question"},
        rlvr={"step_forecast": noisy},
        rlif=None,
        status={"EVENT": 5, "FAILED": 3},
    )
    lines = limits(found)
    assert "solves that failed: 3 x FAILED" in lines
    for words in ("effective draws", "no training noise", "RLIF", "pass@k"):
        assert not any(words in line for line in lines)
    assert any("questions do not learn from each other here" in line for line in lines)
