"""Later steps whose rollouts name no pattern: right and wrong alone are read."""

import json

import numpy as np
import pytest

import qra_jax as qra

COUNTS = """step,question,pattern,samples,correct
0,q,long,30,6
0,q,short,20,2
0,r,long,10,5
50,q,long,40,10
100,q,,60,15
100,r,,20,0
200,q,,80,40
"""


def written(folder, text, name="x.csv"):
    (folder / name).write_text(text)
    return folder / name


def tables(plain):
    """Steps, and by question samples and right ones of each."""
    return [
        (step, *(x.sum(axis=1).tolist() for x in plain.at_step(step).counts()))
        for step in plain.steps
    ]


def test_counts(tmp_path):
    """Apart from the rollouts, by question and step; it is said."""
    found = qra.read_rollouts(written(tmp_path, COUNTS))
    assert found.steps == (0, 50)
    assert len(found) == 100
    plain = found.without_patterns
    assert plain is not None
    assert tables(plain) == [(100, [60, 20], [15, 0]), (200, [80, 0], [40, 0])]
    (note,) = (x for x in found.notes if "no pattern" in x)
    assert "at the steps 100, 200: of their 160 rollouts right and wrong alone are read" in note


@pytest.mark.parametrize(
    "row",
    ["0,r,,20,1", "50,r,,20,1", "-5,q,,20,1"],
    ids=["base model", "beside patterns", "before the base model"],
)
def test_counts_that_must_have_a_pattern(tmp_path, row):
    """At the first step, and beside rows that name one."""
    with pytest.raises(ValueError, match=r"line 9: pattern must have a name, except at later"):
        qra.read_rollouts(written(tmp_path, COUNTS + row + "\n"))


def test_counts_without_any_pattern(tmp_path):
    """Nothing to begin with."""
    with pytest.raises(ValueError, match=r"line 2: pattern must have a name"):
        qra.read_rollouts(written(tmp_path, "step,pattern,samples,correct\n0,,5,2\n9,,5,3\n"))
    with pytest.raises(ValueError, match=r"line 3: pattern must have a name, got nothing"):
        qra.read_rollouts(written(tmp_path, "pattern,samples,correct\na,5,2\n,5,3\n"))


def rows(step, pattern, *grades, question="q", **more):
    return [
        {"question": question, "step": step, "pattern": pattern, "correct": grade, **more}
        for grade in grades
    ]


def test_rows(tmp_path):
    """Of rows: steps where none has a pattern; beside others a row without one is dropped."""
    all_of = [
        *rows(0, "a", 1, 0, 1), *rows(0, None, 1), *rows(10, "b", 0), *rows(10, None, 1, 1),
        *rows(20, None, 1, 0, 0), *rows(20, None, 1, question="r"), *rows(30, None, 0, 0),
        *rows(20, None, None),
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in all_of)
    found = qra.read_rollouts(written(tmp_path, text, "x.jsonl"))
    assert found.steps == (0, 10)
    assert len(found) == 4
    assert found.without_patterns is not None
    assert tables(found.without_patterns) == [(20, [3, 1], [1, 1]), (30, [2, 0], [0, 0])]
    assert found.dropped == {"pattern missing": 4}


def test_data_sets_have_questions_of_their_own(tmp_path):
    """Also at steps without patterns."""
    all_of = [
        *rows(0, "a", 1, 0, dataset="x"), *rows(5, None, 1, 1, dataset="x"),
        *rows(5, None, 0, dataset="y"),
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in all_of)
    found = qra.read_rollouts(written(tmp_path, text, "x.jsonl"))
    assert found.without_patterns is not None
    assert tables(found.without_patterns) == [(5, [2, 1], [2, 0])]


def test_steps_that_do_not_fit():
    """Those of the rollouts themselves, or before them, or none."""
    zero = np.zeros(1, int)

    def one(step, later=None):
        at = None if step is None else np.array([step])
        return qra.Rollouts(("q",), ("a",), zero, zero, np.array([True]), step=at,
                            without_patterns=later)  # fmt: skip

    assert one(3, one(4)).without_patterns is not None
    for step, later in ((3, 3), (3, 2), (None, 4), (3, None)):
        with pytest.raises(ValueError, match="without_patterns must be of later steps"):
            one(step, one(later))
