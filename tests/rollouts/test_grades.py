"""Grades of all kinds, and what is said of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra
from qra_jax.rollouts._grades import Grades

from .._support.rollout_files import write


def rows(grades, **more):
    """A rollout for each grade."""
    return [{"question": "q", "pattern": "p", "score": grade, **more} for grade in grades]


def right(found):
    """Whether each rollout was right."""
    return found.correct.tolist()


# Grades as they stand in a file -> which are right; None for a rollout that is left out.
KINDS = {
    "true and false": ([True, False, None], [True, False, None]),
    "words of CSV": (["True", "FALSE", " yes ", "No", ""], [True, False, True, False, None]),
    "numbers": ([1, 0, 1.0, 0.0, math.nan], [True, False, True, False, None]),
    "minus one": ([-1, 1, -1.0, "1"], [False, True, False, True]),
    "Inspect": (["C", "I", "P", "N", "C"], [True, False, False, False, True]),
    "tests": (["pass", "fail", "passed", "Failed"], [True, False, True, False]),
    "words": (["correct", "incorrect", "right", "wrong"], [True, False, True, False]),
}


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_grades(tmp_path, case, ending):
    """Each kind is read, and what is not plain is said."""
    grades, expected = KINDS[case]
    found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows(grades)))
    assert right(found) == [each for each in expected if each is not None]
    missing = expected.count(None)
    assert found.dropped == ({"correct missing": missing} if missing else {})
    plain = case in ("true and false", "words of CSV", "numbers")
    assert any(note.startswith("grades from score: right: ") for note in found.notes) != plain


def test_what_is_said_of_grades(tmp_path):
    """The values, the most frequent first, and the flag that counts otherwise."""
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows([-1, 1, -1])))
    assert found.notes[1] == (
        "grades from score: right: 1 (1); wrong: -1 (2) (--right-above X sets another limit)"
    )
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows(["P", "C", "N", "I", "I"])))
    assert found.notes[1].startswith("grades from score: right: C (1); wrong: I (2), P (1), N (1).")
    assert "--right C --right P" in found.notes[1]


def test_right_values(tmp_path):
    """What is asked for is right, in letters of any size; the rest is wrong, and said."""
    status = ["ok", "timeout", "OK", "error", None, "done"]
    file = write(tmp_path / "x.csv", rows(status))
    found = qra.read_rollouts(file, right="Ok")
    assert right(found) == [True, False, True, False, False]
    assert found.dropped == {"correct missing": 1}
    assert "right: ok (2); wrong: timeout (1), error (1), done (1)" in found.notes[1]
    assert right(qra.read_rollouts(file, right=["ok", "done"])) == [True, False, True, False, True]
    with pytest.raises(ValueError, match=r"--right must be a value of correct \(score\) \(ok, t"):
        qra.read_rollouts(file, right="fine")
    # A number is the same however it is written, and true is not 1.
    file = write(tmp_path / "x.jsonl", rows([2, "2.0", 1, True, 2.0]))
    assert right(qra.read_rollouts(file, right="2")) == [True, True, False, False, True]
    assert right(qra.read_rollouts(file, right="true")) == [False, False, False, True, False]
    # P may count, as may a grade that is otherwise wrong.
    file = write(tmp_path / "x.jsonl", rows(["C", "P", "I"]))
    assert right(qra.read_rollouts(file, right=("C", "P"))) == [True, True, False]
    assert right(qra.read_rollouts(file, right="I")) == [False, False, True]


@given(
    st.lists(st.floats(-5, 5) | st.integers(-3, 3) | st.booleans() | st.none(), min_size=1),
    st.floats(-4, 4),
)
def test_rewards_above(rewards, limit):
    """Strictly above; without a reward there is no grade."""
    grades = Grades(above=limit)
    codes = [grades[str(r) if isinstance(r, bool) else r] for r in rewards]
    sides = grades.is_right()
    expected = [-1 if r is None else bool(float(r) > limit) for r in rewards]
    assert [-1 if code < 0 else bool(sides[code]) for code in codes] == expected


def test_rewards_of_a_file(tmp_path):
    """A reward is a grade by a limit only, and the message says so with the row."""
    file = write(tmp_path / "x.jsonl", rows([1.0, 0.0, 0.7, -0.2, None]))
    with pytest.raises(ValueError, match=r"line 3: correct \(score\) must be .*, got 0.7; ") as it:
        qra.read_rollouts(file)
    assert "; --right-above X counts a reward above X as right; the row is " in str(it.value)
    found = qra.read_rollouts(file, right_above=0.5)
    assert right(found) == [True, False, True, False]
    assert "right: above 0.5 (2); wrong: at most 0.5 (2)" in found.notes[1]
    assert right(qra.read_rollouts(file, right_above=0.7)) == [True, False, False, False]
    assert right(qra.read_rollouts(file, right_above=-0.2)) == [True, True, True, False]
    with pytest.raises(ValueError, match=r"right must not be given beside right_above, got 1 and"):
        qra.read_rollouts(file, right="1", right_above=0.5)
    file = write(tmp_path / "y.jsonl", rows([0.1, "high"]))
    with pytest.raises(ValueError, match=r"line 2: .* must be a number, as --right-above is given"):
        qra.read_rollouts(file, right_above=0.5)


@pytest.mark.parametrize(
    ("grades", "line", "flag"),
    [
        ([1, -1, 0], 3, "0 and -1 are two grades: --right-above 0 counts both as wrong"),
        ([0, 1, -1], 3, "0 and -1 are two grades: --right-above 0 counts both as wrong"),
        ([True, 2], 2, "--right-above X counts a reward above X as right"),
        (["pass", "timeout"], 2, "--right timeout counts a word as right"),
        (["pass", "w" * 30], 2, "--right VALUE counts a word as right"),
    ],
)
def test_grades_that_are_none(tmp_path, grades, line, flag):
    """The first offending row, and the flag that would help."""
    file = write(tmp_path / "x.jsonl", rows(grades))
    with pytest.raises(ValueError, match=rf"line {line}: correct \(score\) must be true") as caught:
        qra.read_rollouts(file)
    assert flag in str(caught.value)
    assert "the row is {'question': 'q'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_grades(tmp_path):
    """Of two grades the first is taken; the other, and how often it says right, is told."""
    row = {"question": "q", "pattern": "p"}
    both = [{**row, "exact_match": 0, "math_verify": int(i > 2)} for i in range(16)]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", both))
    assert right(found) == [False] * 16
    assert found.notes == (
        "read correct from exact_match (and not math_verify: --correct-field chooses)",
        "the grade that is read, exact_match, says right 0 of 16 times; math_verify, which is not "
        "read, 13 of 16 (--correct-field math_verify reads it)",
    )
    chosen = qra.rollouts.Fields(correct="math_verify")
    found = qra.read_rollouts(tmp_path / "x.jsonl", fields=chosen)
    assert right(found) == [False] * 3 + [True] * 13
    # lm-evaluation-harness names its metrics, whatever they are called.
    own = [{**row, "metrics": ["my_metric"], "my_metric": i % 2} for i in range(3)]
    found = qra.read_rollouts(write(tmp_path / "y.jsonl", own))
    assert right(found) == [False, True, False]
    assert found.notes[0] == "read correct from my_metric"


def test_a_grade_that_changes_its_kind(tmp_path):
    """From true and false to numbers: read alike; to something else: the row is named."""
    file = write(tmp_path / "x.jsonl", rows([True] * 600 + [0] * 600 + ["pass"]))
    found = qra.read_rollouts(file)
    assert right(found) == [True] * 600 + [False] * 600 + [True]
    assert "grades from score: right: true (600), pass (1); wrong: 0 (600)" in found.notes
    file = write(tmp_path / "x.jsonl", rows([True] * 600 + [{"value": 1}]))
    with pytest.raises(ValueError, match=r"line 601: correct \(score\) must be .*, got \{'value'"):
        qra.read_rollouts(file)
