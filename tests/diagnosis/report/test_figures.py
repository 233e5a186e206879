"""What a diagnosis made by hand draws and says: lines against its numbers, whole sentences."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

import qra_jax as qra
from qra_jax.diagnosis import Band, Forecast, LogCheck, RateChange, RatesWithin, TimeBand
from qra_jax.diagnosis._limits import limits_of
from qra_jax.diagnosis.report._figures import draw_figures
from qra_jax.diagnosis.words._alarms import alarms
from qra_jax.diagnosis.words._numbers import chance, interval, number, share, time
from qra_jax.diagnosis.words._summary import (
    box,
    key_figures,
    open_lines,
    pattern_rows,
    rlif_sentence,
    slowest,
    summary,
    verdict,
)
from qra_jax.plot import LN10
from tests._support.diagnosed import PLAIN, altered, bands, time_band


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


def drawn_of(name: str, step: bool):
    """The panels of a forecast over steps, or of one over time."""
    ahead = PLAIN if step else altered(rlvr={"step_forecast": None})
    (ax,) = draw_figures(ahead)[name].axes
    return ax


@pytest.mark.parametrize("step", [False, True])
def test_forecasts_are_drawn(step):
    """Accuracy and every pattern over log10 time, or steps; the start, T0, and what was logged."""
    ahead = PLAIN.rlvr.step_forecast if step else PLAIN.rlvr.forecast
    assert ahead is not None
    x = ahead.log_times / LN10 if isinstance(ahead, Forecast) else ahead.steps
    left = drawn_of("step_accuracy" if step else "accuracy", step)
    right = drawn_of("step_shares" if step else "pattern_shares", step)
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy", "share of answers")
    for ax in (left, right):
        assert ("optimiser step" if step else "time") in ax.get_xlabel()
    assert_band(left, 0, x, ahead.accuracy, lines_of(left, "median; band: 90 %")[0])
    for at, pattern in enumerate(PLAIN.data.patterns):
        (line,) = lines_of(right, pattern)
        assert_band(right, at, x, column(ahead.pattern_shares, at), line)
    assert len({line.get_color() for line in right.lines[:3]}) == 3
    if isinstance(ahead, Forecast):
        (now,) = lines_of(left, "now")
        np.testing.assert_allclose(now.get_ydata(), float(ahead.start_accuracy.median))
        for ax in (left, right):  # T0 is 100, from 10 to 1000
            (end,) = lines_of(ax, "T0 (grey: 90 %)")
            np.testing.assert_allclose(end.get_xdata(), 2)
            (box,) = ax.patches
            assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((1, 3))
    else:
        (logged,) = (c for c in left.containers if isinstance(c, ErrorbarContainer))
        np.testing.assert_array_equal(logged[0].get_xdata(), [2, 4])
        np.testing.assert_array_equal(logged[0].get_ydata(), [0.75, 0.7])
        ends = np.array([segment[:, 1] for segment in logged[2][0].get_segments()])
        error = 1.645 * np.sqrt(np.array([0.75 * 0.25 / 40, 0.7 * 0.3 / 50]))
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * error)
        assert not left.patches  # T0 lies far beyond the last step


def test_patterns_are_drawn(figures):
    """Names from top to bottom; intervals and medians of share and success rate; the accuracy."""
    for name, band in (("shares", PLAIN.start.pattern_probs), ("rates", PLAIN.start.success_rates)):
        (ax,) = figures[name].axes
        (dots,) = (line for line in ax.lines if line.get_marker() == "o")
        np.testing.assert_allclose(dots.get_xdata(), band.median[0])
        np.testing.assert_array_equal(dots.get_ydata(), [2, 1, 0])
        segments = np.array(ax.collections[0].get_segments())
        np.testing.assert_allclose(segments[:, 0, 0], band.low[0])
        np.testing.assert_allclose(segments[:, 1, 0], band.high[0])
        np.testing.assert_array_equal(segments[:, 0, 1], [2, 1, 0])
        assert [text.get_text() for text in ax.get_yticklabels()] == list(PLAIN.data.patterns)
    (dotted,) = (line for line in ax.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(dotted.get_xdata(), 0.42)
    box = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((0.31, 0.48))
    assert "success rate" in ax.get_xlabel()


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
    expected = {"shares", "rates", "accuracy", "pattern_shares", "entropy", "pass_at_k"}
    assert set(drawn) == expected
    (ax,) = drawn["pattern_shares"].axes
    assert [line.get_label() for line in ax.lines[:6]] == list("bcdefh")
    assert len({to_hex(line.get_color()) for line in ax.lines[:6]}) == 6


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
            "ENTANGLED start (probability 0.95): RLVR will first raise 'beta' (probability 0.93), "
            "which misleads, before it turns to 'alpha' (probability 0.9).",
        ),
        (
            [0.03, 0.5, 0.47],
            "ENTANGLED or MIXED start (probability 0.97): RLVR will first raise 'beta'",
        ),
        (
            [1.0, 0.0, 0.0],
            "STRONG start (probability > 0.99): RLVR raises 'alpha' (probability 0.9) from the "
            "first step",
        ),
        (
            [0.2, 0.8, 0.0],
            "These rollouts do not settle the regime: STRONG 0.2, ENTANGLED 0.8, MIXED < 0.01.",
        ),
    ],
)
def test_verdicts(regimes, text):
    """Settled from 90 % on, strong or not; otherwise all three probabilities, as in the table."""
    found = altered(regime={"probs": np.array([regimes])})
    assert verdict(found).startswith(text)


def test_two_patterns_are_strong_by_definition():
    """What that does not mean is said."""
    found = altered(
        data={"patterns": ("a", "b"), "samples": np.ones((1, 2)), "correct": np.ones((1, 2))},
        regime={"probs": np.array([[1.0, 0, 0]]), "best_probs": np.array([[0.05, 0.95]]),
                "misleading_probs": np.zeros((1, 2))},
    )  # fmt: skip
    said = verdict(found)
    assert said.startswith("RLVR raises 'b' (probability 0.95) from the first step")
    assert "does not say that RLVR is fast" in said


def test_key_figures():
    """Every row, in its order: times with what is infinite apart, and in steps with the scale."""
    rows = {row.name: (row.value, row.interval) for row in key_figures(PLAIN)}
    assert rows["accuracy now"] == ("0.42", "0.31 to 0.48")
    assert rows["probability of STRONG"][0] == "0.03"
    assert rows["probability of ENTANGLED"][0] == "0.95"
    assert rows["gamma, unless STRONG"] == ("6.5", "4 to 9")
    assert rows["T0, the end of entanglement"] == (
        "100", "10 to 1,000; 0 with probability 0.03; else 100 (10 to 1,000)"
    )  # fmt: skip
    assert rows["time until the best has 95 %"] == (
        "1,000",
        "100 to 100,000; never with probability 0.25; else 1,000 (100 to 100,000); "
        "0.125 of the solves failed",
    )
    steps = rows["T0, the end of entanglement, in steps"]
    assert steps == ("1,000", "32 to 100,000")
    assert rows["risk that RLIF ends below its start"] == ("0.37", "by confidence, 300 rollouts")
    assert open_lines(PLAIN) == [
        "one thing; about 3,100 further rollouts would settle it",
        "another; even 9,000 further rollouts would not settle it",
    ]
    point = PLAIN.open_points[0]
    clustered = altered(open_points=(
        dataclasses.replace(point, each=8),
        dataclasses.replace(point, further_rollouts=None, tried=0),
    ))  # fmt: skip
    assert open_lines(clustered) == [
        "one thing; about 388 further questions x 8 samples would settle it",
        "one thing; how many further rollouts would settle it was not worked out",
    ]


CHECK = LogCheck(
    0.004, {"clock": 0.3, "rates": 0.004, "accuracy": 0.03, "shares": 0.9}, np.array([10.0, 20]),
    np.array([0.5, 0.2]), np.array([0.5, 0.55]), np.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]]),
    np.array([[0.2, 0.3, 0.5], [0.35, 0.3, 0.35]]),
    (RateChange((4.0, 5.0), (6.0, 60.0), -3.0, 0.001),
     RateChange((150.0, 200.0), (1.0, 2.0), 0.5, 0.3),
     RateChange((10.0, 95.0), (9.0, 12.0), 2.5, 0.006)),
    2, 0, 0.1, 0.4,
)  # fmt: skip


def test_logs_that_refute_the_model():
    """Said first, in words; what rests on it is withheld everywhere."""
    found = altered(log_check=CHECK)
    first, second = alarms(found)
    assert first.startswith("The logged steps refute the model of this forecast: success rates")
    assert "So every forecast is withheld" in first
    assert "at step 20 the accuracy was 0.2, and 0.55 in the best fit" in first
    assert "'alpha' fell from 0.8 (4 of 5) to 0.1 (6 of 60)" in second
    assert "'gamma' rose from 0.105 (10 of 95) to 0.75 (9 of 12)" in second
    assert "beta" not in second
    lines = summary(found)
    assert lines[0] == f"ATTENTION: {first}"
    rows = box(found)
    assert [row.name for row in rows] == ["Start", "RLVR", "RLIF", "Next"]
    assert rows[1].value.startswith("Withheld")
    assert rows[2].value.startswith("Withheld")
    assert "why the logs leave the model" in rows[3].value
    names = {row.name for row in key_figures(found)}
    assert not any("T0" in name or "time to" in name or "in the end" in name for name in names)
    assert set(draw_figures(found)) == {"shares", "rates", "log_accuracy", "log_shares", "rlif"}
    assert "in the end" not in box(found)[1].value
    # Where success rates drift, and no more, the accuracy is that of the steps.
    fine = dict.fromkeys(CHECK.chances, 0.3)
    drifting = altered(log_check=dataclasses.replace(CHECK, chances=fine))
    assert "at step 5, if success rates go on to drift" in box(drifting)[1].value
    names = {row.name for row in key_figures(drifting)}
    assert "accuracy in the end (RLVR)" not in names
    assert "T0, the end of entanglement, in steps" in names
    assert "pass_at_k" not in draw_figures(drifting)
    # A clock that changes leaves what is not in steps.
    clock = altered(log_check=dataclasses.replace(CHECK, chances={**CHECK.chances, "rates": 0.5,
                    "accuracy": 0.5, "clock": 0.01}))  # fmt: skip
    names = {row.name for row in key_figures(clock)}
    assert "T0, the end of entanglement" in names
    assert not any("in steps" in name for name in names)
    assert "steps" not in box(clock)[1].value.split("(learning")[0]
    assert "times in steps are withheld" in alarms(clock)[0]
    fine, still = dict.fromkeys(CHECK.chances, 0.3), (CHECK.changes[1],) * 3
    quiet = altered(log_check=dataclasses.replace(CHECK, chances=fine, changes=still))
    assert alarms(quiet) == []
    assert "in steps" in str(key_figures(quiet))


def test_logs_are_drawn():
    """Dots as logged beside the lines of the fit."""
    drawn = draw_figures(altered(log_check=CHECK))
    (ax,) = drawn["log_accuracy"].axes
    np.testing.assert_array_equal(lines_of(ax, "logged")[0].get_xydata(), [[10, 0.5], [20, 0.2]])
    fit = lines_of(ax, "best fit of the model")[0]
    np.testing.assert_array_equal(fit.get_ydata(), [0.5, 0.55])
    (ax,) = drawn["log_shares"].axes
    np.testing.assert_array_equal(lines_of(ax, "alpha")[0].get_ydata(), [0.2, 0.35])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.2, 0.3])


def test_patterns_that_disagree_within_questions():
    """Both rates, in the order within questions, before anything else."""
    rates, pooled = np.array([0.4, 0.6, 0.2]), np.array([0.7, 0.5, 0.2])
    within = RatesWithin(rates, pooled, np.array([True, True, False]), True, 1.0)
    (line,) = alarms(altered(start={"within": within}))
    assert "'beta' 0.6 within questions, 0.5 pooled; 'alpha' 0.4 within questions, 0.7" in line
    assert "gamma" not in line
    assert alarms(altered(start={"within": dataclasses.replace(within, disagree=False)})) == []


def test_learning_rate_of_a_trainer():
    """A rate for which the run would be far too short is doubted, with both numbers."""
    run = PLAIN.rlvr.step_forecast
    known = Band(*[np.array(np.log(1e-5))] * 3)
    long = time_band(6.0, 6.5, 7.0)
    given = dataclasses.replace(run, log_scale=known, log_convergence_step=long)
    (line,) = alarms(altered(rlvr={"step_forecast": given}))
    assert "The learning rate 1.00e-5 is read as that of plain gradient ascent" in line
    assert "about 3.2e6 steps, where the run has 5" in line
    short = dataclasses.replace(given, log_convergence_step=time_band(0.1, 0.5, 1.0))
    for other in (short, dataclasses.replace(run, log_convergence_step=long)):
        assert alarms(altered(rlvr={"step_forecast": other})) == []


def test_rlif_in_words():
    """Safe, not safe or cannot tell; confidence with what the study found, from its file."""
    stored = json.loads((Path(qra.diagnosis.words.__file__).parent / "trust.json").read_text())
    said = rlif_sentence(PLAIN)
    called, models = stored["ends"]["certainty"], stored["models"]
    assert said.startswith("Cannot tell if all parameters are trained")
    assert f"right for {called} of {models} models" in said
    for risk, head in ((0.95, "Not safe"), (0.05, "Safe"), (0.5, "Cannot tell")):
        rlif = {"reward": "agreement with the majority answer", "ends_below_start": risk}
        assert rlif_sentence(altered(rlif=rlif)).startswith(f"{head}")
    why = altered(rlif={"why_not": "all is one"})
    assert rlif_sentence(why) == "Cannot tell: all is one."
    assert rlif_sentence(altered(rlif=None)).startswith("Cannot tell: the rollouts hold neither")
    assert "rlif" not in draw_figures(why)


def test_numbers_in_words():
    """Probabilities never quite 0 or 1, times however large, NaN as a dash."""
    assert [chance(x, PLAIN) for x in (0.0, 0.0099, 0.5, 0.9901, 1.0)] == [
        "< 0.01", "< 0.01", "0.5", "> 0.99", "> 0.99",
    ]  # fmt: skip
    assert [share(x) for x in (0.1234, 0.5, 1.0, np.nan)] == ["0.123", "0.5", "1", "-"]
    assert [number(x) for x in (0.0, 1234.5, 2e5, 5e-6, np.nan, 3.14159e7, 0.01234)] == [
        "0", "1,230", "200,000", "5.00e-6", "-", "3.14e7", "0.0123",
    ]  # fmt: skip
    assert [number(x, 2) for x in (999.0, 0.5, 14.4)] == ["1,000", "0.5", "14"]
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
    assert any("says nothing of pass@k" in line for line in lines)
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
