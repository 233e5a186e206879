"""Rows that are left out are counted."""

import collections

import qra_jax as qra

from .._support.rollout_files import spelled, write


def test_dropped_rows_are_counted(tmp_path):
    """Every row is either kept or counted under the first thing it lacks."""
    whole = {"question": "a", "pattern": "p", "correct": True, "confidence": -1.0, "step": 1}
    lacking = [
        ("question", None, "question missing"),
        ("question", " ", "question missing"),
        ("pattern", None, "pattern missing"),
        ("correct", None, "correct missing"),
        ("correct", float("nan"), "correct missing"),
        ("confidence", float("nan"), "confidence missing or not finite"),
        ("confidence", -float("inf"), "confidence missing or not finite"),
        ("confidence", None, "confidence missing or not finite"),
        ("step", None, "step missing"),
    ]
    rows = [whole, *({**whole, key: value} for key, value, _ in lacking), whole]
    expected = collections.Counter(reason for _, _, reason in lacking)
    # Two, three and all of them: once, for what is looked for first.
    for lost in (
        ("question", "step"),
        ("pattern", "correct"),
        ("pattern", "confidence", "step"),
        ("correct", "confidence"),
        ("confidence", "step"),
        ("question", "pattern", "correct", "confidence", "step"),
    ):
        rows.insert(3, {**whole, **dict.fromkeys(lost)})
    expected += collections.Counter(
        {
            "question missing": 2,
            "pattern missing": 2,
            "correct missing": 1,
            "step missing": 1,
        }
    )
    for ending in ("jsonl", "csv"):
        found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
        assert spelled(found) == [("a", "p", True, -1.0, 1)] * 2
        assert found.dropped == expected
        assert len(found) + sum(found.dropped.values()) == len(rows)


def test_dropped_rows_of_lists(tmp_path):
    """Questions without rollouts and without grades, in files of lists."""
    rows = [
        {"question": "a", "pattern": ["p", "q", "p"], "correct": [True, None, False]},
        {"question": "b", "pattern": [], "correct": []},
        {"question": "c", "pattern": ["p", "q"], "correct": None},
        {"question": "d", "pattern": "p", "correct": [True, True]},
    ]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    kept = [("a", "p", True), ("a", "p", False), ("d", "p", True), ("d", "p", True)]
    assert spelled(found) == kept
    assert found.dropped == {"no rollouts of the question": 1, "correct missing": 3}
    assert found.questions == ("a", "d")
    assert found.patterns == ("p",)


def test_confidence_of_nothing_is_not_read(tmp_path):
    """A field of confidence that nobody named and that is empty does not cost the rows."""
    rows = [{"question": "a", "pattern": "p", "correct": 1, "confidence": None}] * 2
    found = qra.read_rollouts(write(tmp_path / "x.csv", rows))
    assert found.confidence is None
    assert found.dropped == {}
    assert found.notes == ("confidence holds no finite number and was not read",)
