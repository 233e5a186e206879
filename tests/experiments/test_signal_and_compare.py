"""The stored studies of groups and of pairs, beside what the pages say, and a few runs of each."""

import json
from pathlib import Path

import numpy as np
import pytest

import qra_jax as qra
from experiments.compare import __main__ as pairs
from experiments.signal import __main__ as groups
from qra_jax.diagnosis import Solver

ROOT = Path(__file__).parents[2]


def stored(name: str) -> tuple[dict, str]:
    """The numbers and the page."""
    numbers = json.loads((ROOT / "experiments" / "data" / f"{name}.json").read_text())
    return numbers, (ROOT / "docs" / f"{name}.md").read_text()


def shown(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("0.", ".", 1)


def test_signal_page():
    """Shares within their intervals, sizes beside the recommended one."""
    numbers, page = stored("signal")
    within = numbers["share of use within 99 % of the prediction"]
    assert len(within) == 5
    for size, (inside, of) in within.items():
        assert inside >= 0.9 * of
        assert f"| {size} | {inside} of {of} |" in page
    beside = numbers["steps beside the recommended size"]
    for name in ("half", "twice"):
        assert beside[name]["median"] > 1
        assert f"| {name} | {beside[name]['median']:.3f} | {beside[name]['slower in']} of" in page


def test_compare_page():
    """The gain of pairs and every row of the calibration."""
    numbers, page = stored("compare")
    width = numbers["width beside independent models"]["median"]
    assert width < 0.5
    assert f"is {shown(width)} times as wide" in page
    for row in numbers["order of times"]:
        assert f"| {shown(row['stated'])} | {shown(row['seen'])} | {row['of']} |" in page
    for name in ("mean of outcome less stated", "Brier score"):
        low, high = numbers[name]["95 % range if exact"]
        assert low <= numbers[name]["found"] <= high


def test_simulated_training():
    """Groups that are of use in the simulator are those of the formula; a step has no net score."""
    rng = np.random.default_rng(0)
    model = groups.Model(rng)
    _, (useful, number) = groups.train(model, 4, rng, 2, None)
    expected = qra.diagnosis.useful_share(model.table @ model.shares, 4).mean()
    assert useful / number == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(number))
    low, middle, high = groups.predicted(
        *(x.sum(axis=1) for x in model.rollouts(rng)), 4, number, rng
    )
    assert low < middle < high


@pytest.mark.slow
def test_pairs_again():
    """Twelve pairs of another seed: the width is halved in the median."""
    solver = Solver.of(qra.RLVR(), 0.1)
    rows = [pairs._one(np.random.default_rng([8, i]), solver) for i in range(12)]
    assert np.median([row["ratio"] for row in rows]) < 0.5


@pytest.mark.slow
def test_sizes_again():
    """Two models of another seed: groups of 2 take longer than those of 16."""
    for index in range(2):
        rng = np.random.default_rng([5, index])
        found = groups._of_sizes(groups.Model(rng), 16, rng)
        assert found["smallest"] > found["best"]
