"""Rollouts: counted, and refused where they are wrong."""

import numpy as np
import pytest

import qra_jax as qra

from .._support.rollout_files import spelled


def rollouts(**changes):
    """Two rollouts, with changes."""
    given = {"questions": ("q",), "patterns": ("a", "b"), "question": [0, 0], "pattern": [0, 1]}
    given |= {"correct": [True, False]} | changes
    arrays = ("question", "pattern", "correct", "count", "confidence", "answer", "step")
    return qra.Rollouts(**{k: np.array(v) if k in arrays else v for k, v in given.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": [0, 1]}, "question must lie in [0, 0], got question[1] = 1"),
        ({"pattern": [-1, 0]}, "pattern must lie in [0, 1], got pattern[0] = -1"),
        ({"pattern": [0]}, "pattern must have shape (2,), got (1,)"),
        ({"pattern": [0.5, 1.0]}, "pattern must be of type int32, got float64"),
        ({"question": [[0, 0]]}, "question must have shape (N,), got (1, 2)"),
        ({"patterns": ("a", "a")}, "patterns must be all different"),
        ({"count": [1, 0]}, "count must be at least 1, got count[1] = 0"),
        ({"confidence": [0.5, float("nan")]}, "confidence must be finite, got confidence[1] = nan"),
        ({"answer": [0, -1]}, "answer must lie in [-1, -1], got answer[0] = 0"),
    ],
)
def test_bad_rollouts(changes, message):
    """Checked at construction."""
    with pytest.raises(ValueError, match="must") as caught:
        rollouts(**changes)
    assert message in str(caught.value)


def test_rollouts_cannot_change():
    """Nor can their arrays; without steps all are of the base model."""
    found = rollouts()
    with pytest.raises(ValueError, match="read-only"):
        found.correct[0] = False
    assert found.base_model() is found
    assert found.steps == ()
    assert repr(found) == "Rollouts(2 of 1 questions, 2 patterns)"
    assert [table.tolist() for table in found.counts()] == [[[1, 1]], [[1, 0]]]


def test_rollouts_that_stand_for_several():
    """Rows of unequal counts; a question and a pattern without rows; steps in no order."""
    found = qra.Rollouts(
        ("q0", "none", "q2"),
        ("a", "never", "c"),
        question=np.array([0, 2, 0, 2, 0]),
        pattern=np.array([0, 2, 2, 2, 0]),
        correct=np.array([True, False, True, True, False]),
        count=np.array([3, 1, 5, 7, 11]),
        confidence=np.array([-1.0, -2.0, -3.0, -4.0, -5.0]),
        answer=np.array([1, -1, 0, 1, 0]),
        answers=("x", "y"),
        step=np.array([8, -2, 8, 5, -2]),
        dropped={"pattern missing": 4},
        notes=("a note",),
    )
    samples, correct = found.counts()
    assert samples.tolist() == [[14, 0, 5], [0, 0, 0], [0, 0, 8]]
    assert correct.tolist() == [[3, 0, 5], [0, 0, 0], [0, 0, 7]]
    assert found.samples_per_question().tolist() == [19, 0, 8]
    assert (len(found), found.steps) == (27, (-2, 5, 8))
    assert repr(found) == "Rollouts(27 of 3 questions, 3 patterns)"
    base, last = found.base_model(), found.at_step(8)
    assert sorted(set(spelled(base))) == [
        ("q0", "a", False, "x", -5.0, -2),
        ("q2", "c", False, None, -2.0, -2),
    ]
    assert sorted(set(spelled(last))) == [
        ("q0", "a", True, "y", -1.0, 8),
        ("q0", "c", True, "x", -3.0, 8),
    ]
    assert base.count.tolist() == [1, 11]
    assert base.samples_per_question().tolist() == [11, 0, 1]
    assert last.counts()[0].tolist() == [[3, 0, 5], [0, 0, 0], [0, 0, 0]]
    for part in (base, last):
        assert (part.questions, part.patterns) == (found.questions, found.patterns)
        assert (part.dropped, part.notes) == (found.dropped, found.notes)
