"""What is said and drawn of the signal of groups, beside its numbers."""

import csv
import dataclasses

import numpy as np
import pytest

from qra_jax.diagnosis import KLPull, QuestionSignals, Signal, SignalBySize
from qra_jax.diagnosis.report._figures import draw_figures
from qra_jax.diagnosis.words._signal import questions_csv, signal_lines, size_rows
from qra_jax.diagnosis.words._summary import summary
from tests._support.diagnosed import PLAIN, altered, bands

KINDS = np.linspace(0.01, 0.3, 14).reshape(7, 2)
SIGNAL = Signal(
    group_size=4,
    batch=16,
    estimator="SampledGRPO",
    verifier_errs=False,
    asked="these questions",
    mean=bands(),
    strength=bands(),
    by_size=SignalBySize(
        sizes=np.array([2, 4, 8]),
        useful=bands(3),
        measured=np.array([0.25, 0.5, np.nan]),
        questions=np.array([2, 2, 0]),
        error=np.array([0.125, 0.1, np.nan]),
        samples_per_useful=bands(3),
        pace=bands(3),
        speed=bands(3),
        best_probs=np.array([0.1, 0.2, 0.7]),
        best=8,
        as_good=(4, 8),
    ),
    log_times=np.array([-np.inf, 1, 2, 3, 4, 5, np.inf]),
    useful=bands(7),
    counts=np.stack([KINDS[:, 0], 1 - KINDS.sum(axis=1), KINDS[:, 1]], axis=-1),
    by_question=QuestionSignals(
        ("a", "b,c"), np.array([4.0, 6]), np.array([1.0, 5]), bands(2), np.array([0.75, 0.5]),
        np.random.default_rng(0).dirichlet(np.ones(3), (7, 2)),
    ),
    dynamic_speed=bands(),
    kl_pull=KLPull(*(dataclasses.replace(x) for x in (bands(7), bands(7), bands(7)))),
    misfit=-4.25,
)  # fmt: skip
FOUND = altered(signal=SIGNAL)


def test_lines():
    """Whole sentences with the numbers of the budget, the best size, the kinds and the misfit."""
    lines = signal_lines(FOUND)
    by = SIGNAL.by_size
    assert lines[0].startswith("Of groups of 4 samples of these questions, a share of ")
    assert f"{by.useful.median[1]:.3f}".rstrip("0") in lines[0]
    assert (
        "With 64 rollouts a step, groups of 8 move the policy fastest (probability 0.7)"
        in (lines[1])
    )
    assert "Sizes 4 reach at least 95 %" in lines[1]
    assert "2 % cold" not in lines[2]
    now, end = (f"{100 * SIGNAL.counts[at, 1]:.0f} % in band" for at in (0, -1))
    assert now in lines[2]
    assert f"{end} and" in lines[2].split("in the end")[0]
    assert f"discards {1 - by.useful.median[1]:.3f}".rstrip("0") in lines[3]
    assert "takes back" in lines[4]
    assert "4.2 standard errors below" in lines[5]
    assert all(line.endswith(".") for line in lines)
    assert f"  - {lines[0]}" in summary(FOUND)
    errs = altered(signal=dataclasses.replace(SIGNAL, verifier_errs=True, misfit=0.5, kl_pull=None))
    assert "Some differ only because the verifier errs" in signal_lines(errs)[0]
    assert len(signal_lines(errs)) == 4
    assert signal_lines(PLAIN)[0].startswith("Cannot tell: how many groups give a gradient")
    nothing = dataclasses.replace(SIGNAL, by_size=dataclasses.replace(by, best=0, as_good=()))
    assert "no size of groups is best" in signal_lines(altered(signal=nothing))[1]


def test_rows():
    """A row a size."""
    rows = size_rows(FOUND)
    assert [(row.size, row.measured, row.best) for row in rows] == [
        ("2", "0.25", "0.1"), ("4", "0.5", "0.2"), ("8", "-", "0.7"),
    ]  # fmt: skip
    assert float(rows[2].useful) == pytest.approx(SIGNAL.by_size.useful.median[2], abs=6e-4)
    assert size_rows(PLAIN) == []


def test_file_of_questions():
    """A row for each question; the times that are told, or now alone."""
    rows = list(csv.DictReader(questions_csv(FOUND).splitlines()))
    assert [(row["question"], row["samples"], row["right"]) for row in rows] == [
        ("a", "4", "1"), ("b,c", "6", "5"),
    ]  # fmt: skip
    kinds = SIGNAL.by_question.kinds
    for name, at in (("now", 0), ("halfway", 3), ("converged", 4), ("end", 6)):
        shown = [float(rows[1][f"{kind}_{name}"]) for kind in ("cold", "in_band", "saturated")]
        np.testing.assert_allclose(shown, kinds[at, 1], rtol=1e-3)
    success = SIGNAL.by_question.success
    shown = [float(rows[0][f"success{end}"]) for end in ("_low", "", "_high")]
    expected = [success.low[0], success.median[0], success.high[0]]
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    alone = dataclasses.replace(SIGNAL, log_times=np.array([-np.inf]), counts=SIGNAL.counts[:1])
    (head, *_) = questions_csv(altered(signal=alone)).splitlines()
    assert head.endswith("useful_now,cold_now,in_band_now,saturated_now")


def test_figures():
    """The share of use over sizes with what was measured; kinds over time."""
    drawn = draw_figures(FOUND)
    (ax,) = drawn["signal"].axes
    np.testing.assert_array_equal(ax.get_xticks(), [2, 4, 8])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), SIGNAL.by_size.useful.median)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[2, 0.25], [4, 0.5]])
    (ax,) = drawn["kinds"].axes
    below = np.zeros(len(SIGNAL.counts))
    for at, label in enumerate(("cold", "in band", "saturated")):
        bars = ax.containers[at]
        assert bars.get_label() == label
        np.testing.assert_allclose([bar.get_height() for bar in bars], SIGNAL.counts[:, at])
        np.testing.assert_allclose([bar.get_y() for bar in bars], below)
        below = below + SIGNAL.counts[:, at]
    (ax,) = draw_figures(altered(rlvr={"step_forecast": None}))["entropy"].axes
    ahead = PLAIN.rlvr.forecast
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ahead.entropy.median)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), ahead.kl.median)
    assert "signal" not in draw_figures(PLAIN)
