"""Columns that are not read, and rows that are not wanted: what is pooled is said."""

import pytest

import qra_jax as qra
from qra_jax.rollouts import Fields

from .._support.rollout_files import spelled, write


def rows(number=24, **columns):
    """Rollouts of four questions, with columns from functions of their number."""
    return [
        {"question": i % 4, "pattern": "ab"[i % 3 == 0], "correct": i % 5 == 0}
        | {name: value(i) for name, value in columns.items()}
        for i in range(number)
    ]


STEPS = {
    "update": lambda i: 10 * (i // 8),
    "iteration": lambda i: float(i // 8),
    "epoch": lambda i: str(i // 8),
    "checkpoint": lambda i: f"ckpt-{100 * (i // 8)}",
    "model_revision": lambda i: f"step-{i // 8}",
}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("name", STEPS)
def test_steps_that_are_pooled(tmp_path, name, ending):
    """A column that may be steps is named with its values and the flag; with it, it is read."""
    file = write(tmp_path / f"x.{ending}", rows(**{name: STEPS[name]}))
    found = qra.read_rollouts(file)
    assert found.step is None
    values = [str(STEPS[name](i)) for i in (0, 8, 16)]
    (note,) = found.notes
    assert note.startswith(
        f"{name} has the values {', '.join(values)}, which are pooled: --step-fi"
    )
    assert f"--where {name}={values[0]} reads one of them" in note
    found = qra.read_rollouts(file, fields=Fields(step=name))
    assert found.notes == ()
    steps = {"update": (0, 10, 20), "checkpoint": (0, 100, 200)}.get(name, (0, 1, 2))
    assert found.steps == steps
    one = qra.read_rollouts(file, where={name: values[1]})
    assert spelled(one) == [row[:3] for row in spelled(found.at_step(steps[1]))]
    assert one.dropped == {f"not {name}={values[1].removesuffix('.0')}": 16}


@pytest.mark.parametrize(
    "name", ["checkpoint_step", "global_steps", "train_step", "optimizer_step"]
)
def test_steps_of_names_in_use(tmp_path, name):
    """Are read, and that is said; not where the values are none."""
    file = write(tmp_path / "x.csv", rows(**{name: lambda i: i // 8}))
    found = qra.read_rollouts(file)
    assert found.steps == (0, 1, 2)
    assert found.notes == (f"read step from {name}",)
    file = write(tmp_path / "x.csv", rows(**{name: lambda i: "xyz"[i // 8]}))
    found = qra.read_rollouts(file)
    assert found.steps == ()
    assert found.notes[0].startswith(f"{name} has the values x, y, z, which are pooled: --where")


@pytest.mark.parametrize("name", ["model", "model_name", "model_alias", "policy_name"])
def test_two_models(tmp_path, name):
    """Are an error that says how to read one; unless steps tell them apart."""
    models = {name: lambda i: "base" if i < 10 else "tuned"}
    file = write(tmp_path / "x.jsonl", rows(**models))
    with pytest.raises(ValueError, match="must hold rollouts of one model") as caught:
        qra.read_rollouts(file)
    assert f"got the field {name} with tuned (14 rows), base (10 rows): --where {name}=" in str(
        caught.value
    )
    assert len(qra.read_rollouts(file, where={name: "base"})) == 10
    assert len(qra.read_rollouts(file, where={name: ["base", "tuned"]}, fields=Fields())) == 24
    stepped = rows(step=lambda i: int(i >= 10), **models)
    assert qra.read_rollouts(write(tmp_path / "x.jsonl", stepped)).notes == ()
    mixed = rows(step=lambda i: i // 4, **models)
    with pytest.raises(ValueError, match="must hold rollouts of one model"):
        qra.read_rollouts(write(tmp_path / "x.jsonl", mixed))
    same = rows(**{name: lambda i: "base"})
    assert qra.read_rollouts(write(tmp_path / "x.jsonl", same)).notes == ()


def test_what_else_is_pooled(tmp_path):
    """Few values that differ within questions are named; what is one of a question only where it
    tells of data; what is one a row, or a measure, not."""
    columns = {
        "split": lambda i: "train" if i % 4 < 2 else "test",
        "temperature": lambda i: i // 4 % 2,
        "gold": lambda i: f"answer {i % 4}",
        "length": lambda i: 0.5 * (i % 3),
        "uuid": lambda i: f"u{i}",
        "seed": lambda i: i % 3,
        "language": lambda i: None if i % 2 else ["en", "de"][i % 4 // 2],
        "level": lambda i: [1, 2, 3][i % 3],
    }
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows(**columns)))
    assert found.notes == (
        "split has the values train, test, which are pooled: --where split=train reads one",
        "fields of few values that are not read: temperature (0, 1); level (1, 2, 3); --where "
        "FIELD=VALUE reads the rows of one value",
    )


def test_many_values_are_not_few(tmp_path):
    """Twelve are, thirteen are not, wherever they come."""
    for number in (12, 13):
        few = {"kind": lambda i, number=number: max(0, i - 2000 + number)}
        file = write(tmp_path / "x.jsonl", rows(2000, **few))
        notes = qra.read_rollouts(file).notes
        assert len(notes) == (number == 12)
        if notes:
            assert "kind (0, 1, 2, 3, 4, 5 and 6 more)" in notes[0]


def test_where(tmp_path):
    """Rows by the spelling of a command line, several fields at once, dots, lists of values."""
    columns = {
        "a": lambda i: i % 2 == 0,
        "b": lambda i: float(i % 3),
        "c": lambda i: {"d": f"x{i % 4}"},
    }
    file = write(tmp_path / "x.jsonl", rows(**columns))
    found = qra.read_rollouts(file, where={"a": "true", "b": "2", "c.d": ["x0", "x2"]})
    kept = [i for i in range(24) if i % 2 == 0 and i % 3 == 2]
    assert found.question.size == len(kept)
    assert found.dropped == {"not a=true": 12, "not b=2": 8}
    with pytest.raises(ValueError, match=r"none of them whole \(not b=7: 24\)"):
        qra.read_rollouts(file, where={"b": "7"})
    with pytest.raises(ValueError, match=r"--where must name a field of .*, got 'z'"):
        qra.read_rollouts(file, where={"z": "7"})
    counts = [
        {"pattern": p, "samples": 5, "correct": 2, "model": m} for m in "xy" for p in ("a", "b")
    ]
    file = write(tmp_path / "x.csv", counts)
    assert len(qra.read_rollouts(file, where={"model": "y"})) == 10


def test_models_beside_lists(tmp_path):
    """Are told of where steps or questions are lists, too."""
    rows = [
        {"question": ["q", "r"], "pattern": "p", "correct": [True, False], "model": "ab"[i % 2]}
        for i in range(4)
    ]
    with pytest.raises(ValueError, match="must hold rollouts of one model, got the field model"):
        qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
