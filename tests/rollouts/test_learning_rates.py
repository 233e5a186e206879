"""Columns of a learning rate: found by name, one value a step, else a note."""

import json

import numpy as np
import pytest

import qra_jax as qra


def read(folder, rows, **more):
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return qra.read_rollouts(path, **more)


def row(step, **more):
    return {"question": "q", "pattern": "a", "correct": 1, "step": step} | more


@pytest.mark.parametrize("name", ["learning_rate", "lr", "LR", "train/learning_rate", "actor/lr"])
def test_names(tmp_path, name):
    """One value a step, also at steps without patterns and where some rows have none."""
    rows = [
        row(0, **{name: 1e-6}), row(0, **{name: None}), row(10, **{name: "2e-6"}),
        row(20, pattern=None, **{name: 5e-7}), row(30),
    ]  # fmt: skip
    found = read(tmp_path, rows)
    np.testing.assert_allclose(found.learning_rates, [[0, 1e-6], [10, 2e-6], [20, 5e-7]])
    (note,) = (x for x in found.notes if x.startswith("learning rates"))
    assert f"from {name} (from 1e-06 at step 0 to 5e-07 at step 20): read as the sched" in note
    left = read(tmp_path, rows, fields=qra.rollouts.Fields(learning_rate=""))
    assert left.learning_rates is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, lr=1e-6), row(0, lr=2e-6), row(5, lr=1e-6)], "several values at step 0"),
        ([row(0, lr=0), row(5, lr=0)], "it must be at least 0, and not 0 everywhere"),
        ([row(0, lr=1), row(5, lr=-1)], "it must be at least 0"),
        ([{"question": "q", "pattern": "a", "correct": 1, "lr": 1}], "there are no steps"),
    ],
    ids=["several", "zero", "negative", "no steps"],
)
def test_what_is_not_read(tmp_path, rows, said):
    """And why."""
    found = read(tmp_path, rows)
    assert found.learning_rates is None
    (note,) = (x for x in found.notes if x.startswith("lr was not read"))
    assert said in note


def test_words_are_no_rates(tmp_path):
    """A column of another kind by that name is let be; a value that is none in a named one not."""
    assert read(tmp_path, [row(0, lr="cosine"), row(5, lr="linear")]).learning_rates is None
    with pytest.raises(ValueError, match=r"learning_rate \(eta\) must be a number"):
        read(tmp_path, [row(0, eta="x")], fields=qra.rollouts.Fields(learning_rate="eta"))


def test_counts(tmp_path):
    """A table of counts as well."""
    path = tmp_path / "x.csv"
    text = "step,pattern,samples,correct,lr\n0,a,5,2,1e-5\n0,b,5,2,1e-5\n9,a,5,3,\n20,,4,1,2e-5\n"
    path.write_text(text)
    found = qra.read_rollouts(path)
    np.testing.assert_allclose(found.learning_rates, [[0, 1e-5], [20, 2e-5]])
    assert any("learning rates from lr (from 1e-05 at step 0 to 2e-05" in x for x in found.notes)
    path.write_text(text.replace("2e-5", "-2"))
    with pytest.raises(ValueError, match=r"line 5: learning_rate must be at least 0, got -2"):
        qra.read_rollouts(path)
