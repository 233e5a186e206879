"""Rows within rows: lists of records, names with dots, chats."""

import json

import polars as pl
import pytest

import qra_jax as qra
from qra_jax.rollouts import Fields

from .._support.rollout_files import RULES, spelled, write


@pytest.fixture
def rules(tmp_path):
    """A file of rules."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


ROLLOUTS = [
    [{"correct": True, "text": "1. a", "pred": "3"}, {"correct": False, "text": "b", "pred": "4"}],
    [{"correct": False, "text": "```python", "pred": None}],
    [],
]
ROWS = [
    {"qid": i, "n_correct": 9, "n_rollouts": 9, "correct": [True] * 9, "rollouts": rollouts}
    for i, rollouts in enumerate(ROLLOUTS)
]
READ = [("0", "steps", True, "3"), ("0", "prose", False, "4"), ("1", "python", False, None)]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_lists_of_records(tmp_path, rules, ending):
    """Each record is a rollout; what else the row says of grades is not read."""
    if ending == "jsonl":
        file = write(tmp_path / "x.jsonl", ROWS)
    else:
        file = tmp_path / "x.parquet"
        pl.DataFrame(ROWS).write_parquet(file)
    found = qra.read_rollouts(file, rules=rules)
    assert spelled(found) == READ
    assert found.dropped == {"no rollouts of the question": 1}
    assert "each record of rollouts is read as one rollout" in found.notes
    named = Fields(correct="rollouts.correct", text="text", answer="rollouts.pred")
    assert spelled(qra.read_rollouts(file, rules=rules, fields=named)) == READ


def test_several_lists_of_records_in_a_row(tmp_path, rules):
    """Two graded ones are an error that names the flag."""
    rows = [{"qid": 0, "base": ROLLOUTS[0], "tuned": ROLLOUTS[1]}]
    file = write(tmp_path / "x.jsonl", rows * 2)
    with pytest.raises(ValueError, match=r"got several \(base, tuned\): --records base reads one"):
        qra.read_rollouts(file, rules=rules)
    assert spelled(qra.read_rollouts(file, rules=rules, records="base")) == READ[:2] * 2
    tuned = qra.read_rollouts(file, rules=rules, records="tuned")
    assert [row[:3] for row in spelled(tuned)] == [("0", "python", False)] * 2
    for name in ("qid", "none"):
        with pytest.raises(ValueError, match=rf"list of records \(base, tuned\), got '{name}'"):
            qra.read_rollouts(file, rules=rules, records=name)
    table = write(tmp_path / "x.csv", [{"question": 1, "text": "a", "correct": 1}])
    with pytest.raises(ValueError, match=r"list of records \(there is none\), got 'base'"):
        qra.read_rollouts(table, rules=rules, records="base")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_names_with_dots(tmp_path, ending):
    """Lead into records, however deep; a key with a dot is itself."""
    rows = [
        {
            "meta": {"id": f"q{i}", "kind": {"name": "ab"[i % 2]}},
            "result": {"is_right": i > 0, "at.all": 1},
            "a.b": {"step": 10 * i},
        }
        for i in range(3)
    ]
    file = tmp_path / f"x.{ending}"
    if ending == "jsonl":
        write(file, rows)
    else:
        pl.DataFrame(rows).write_parquet(file)
    fields = Fields(
        question="meta.id", pattern="meta.kind.name", correct="result.is_right", step="a.b.step"
    )
    found = qra.read_rollouts(file, fields=fields)
    assert spelled(found) == [("q0", "a", False, 0), ("q1", "b", True, 10), ("q2", "a", True, 20)]
    chosen = qra.read_rollouts(file, fields=fields, where={"meta.kind.name": "a"})
    assert spelled(chosen) == [("q0", "a", False, 0), ("q2", "a", True, 20)]
    with pytest.raises(ValueError, match=r"the question field must be in .*, got 'metas\.id'"):
        qra.read_rollouts(file, fields=Fields(question="metas.id"))
    with pytest.raises(ValueError, match=r"--where must name a field of .*, got 'kind'"):
        qra.read_rollouts(file, fields=fields, where={"kind": "a"})


def test_fields_that_may_be_meant_are_named(tmp_path, rules):
    """Within records by their last part, elsewhere by their values; with the first row."""
    row = {"question": "q", "text": "a"}
    for more, proposed in (
        ({"data": {"correct": True}}, "--correct-field data.correct may be it"),
        ({"verdict": "pass"}, "--correct-field verdict may be it"),
        ({"is_ok": False}, "--correct-field is_ok may be it"),
        ({"a_reward": 0.5, "b_reward": 1}, "--correct-field a_reward (or b_reward) may be it"),
        ({"number": 3}, "--correct-field names it"),
    ):
        file = write(tmp_path / "x.jsonl", [{**row, **more}] * 2)
        with pytest.raises(ValueError, match="must have a correct field") as caught:
            qra.read_rollouts(file, rules=rules)
        assert proposed in str(caught.value)
        assert f"; the first row is {{'question': 'q', 'text': 'a', '{next(iter(more))}'" in str(
            caught.value
        )
    file = write(tmp_path / "x.jsonl", [{"question": "q", "correct": 1, "x": {"output": "a"}}])
    with pytest.raises(ValueError, match=r"a text field.*; --text-field x\.output may be it"):
        qra.read_rollouts(file, rules=rules)
    with pytest.raises(ValueError, match=r"a pattern field.*; --rules FILE assigns them"):
        qra.read_rollouts(file)


USER = {"role": "user", "content": "1+1?"}
SYSTEM = {"role": "system", "content": "be brief"}


def says(content):
    """A message of the model."""
    return {"role": "assistant", "content": content}


CHATS = {
    "one message": ([says("1. two")], "steps"),
    "the last of the assistant": ([USER, says("```python"), USER, says("1. two")], "steps"),
    "a tool after it": ([says("```python"), {"role": "tool", "content": "2"}], "python"),
    "in parts": (
        [says([{"type": "text", "text": "a\n"}, {"type": "text", "text": "1. b"}])],
        "steps",
    ),
    "no words": ([USER, says(None)], None),
    "a choice": ({"choices": [{"message": says("1. two")}]}, "steps"),
    "a message": (says("1. two"), "steps"),
    "a completion": ({"completion": "1. two", "choices": [{"message": says("x")}]}, "steps"),
}


@pytest.mark.parametrize("case", CHATS)
def test_chats(tmp_path, rules, case):
    """The last message of the assistant is the text; the question is all that was asked."""
    text, pattern = CHATS[case]
    row = {"prompt": [SYSTEM, USER], "completion": text, "reward": 1}
    found = qra.read_rollouts(
        write(tmp_path / "x.jsonl", [row, {**row, "completion": "prose"}]), rules=rules
    )
    kept = [pattern] if pattern else []
    assert [row[:2] for row in spelled(found)] == [("be brief\n1+1?", p) for p in [*kept, "prose"]]
    assert found.dropped == ({} if pattern else {"text missing": 1})


def test_chats_in_lists(tmp_path, rules):
    """Several chats of one question are several rollouts, in Parquet as well."""
    row = {"prompt": [USER], "completions": [[says("1. a")], [says("b")]], "correct": [True, False]}
    expected = [("1+1?", "steps", True), ("1+1?", "prose", False)]
    file = write(tmp_path / "x.jsonl", [row])
    assert spelled(qra.read_rollouts(file, rules=rules)) == expected
    pl.DataFrame([row]).write_parquet(tmp_path / "x.parquet")
    assert spelled(qra.read_rollouts(tmp_path / "x.parquet", rules=rules)) == expected


def test_names_of_another_type(tmp_path):
    """True, 1 and "1" are not confused: truth is no name, and numbers are read as their texts."""
    rows = [{"question": 1, "pattern": pattern, "correct": 1} for pattern in (1, "1", 1.0, "a")]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    assert found.patterns == ("1", "a")
    assert "pattern holds numbers and texts, read alike" in found.notes
    for name in ("pattern", "question"):
        for bad in (True, {"a": 1}):
            file = write(tmp_path / "x.jsonl", [*rows * 200, {**rows[0], name: bad}])
            with pytest.raises(ValueError, match=rf"line 801: {name} must be one text or number"):
                qra.read_rollouts(file)
    answers = [{"question": 1, "pattern": "p", "correct": 1, "pred": a} for a in (1, True, "true")]
    file = write(tmp_path / "x.jsonl", answers)
    assert [row[3] for row in spelled(qra.read_rollouts(file))] == ["1", "true", "true"]


def test_a_field_that_becomes_a_list(tmp_path):
    """Of rollouts of one row and of several, each row is read as what it is."""
    row = {"question": "a", "pattern": "p", "correct": True}
    rows = [row, {**row, "pattern": ["p", "r"], "correct": [False, True]}]
    assert [r[2] for r in spelled(qra.read_rollouts(write(tmp_path / "x.jsonl", rows)))] == [
        True, False, True
    ]  # fmt: skip
    file = tmp_path / "y.jsonl"
    file.write_text("\n".join(map(json.dumps, [row, {**row, "pattern": ["p"] * 3}])))
    with pytest.raises(ValueError, match=r"line 2: pattern must hold one value, as corr"):
        qra.read_rollouts(file)


def test_grades_of_parts(tmp_path, rules):
    """A row with a text and a grade of its own is one rollout, whatever list it holds beside."""
    row = {"question": "q", "text": "1. a", "correct": True}
    steps = [{"text": "```python", "correct": False}, {"text": "b", "correct": True}]
    file = write(tmp_path / "x.jsonl", [{**row, "steps": steps}] * 2)
    found = qra.read_rollouts(file, rules=rules)
    assert spelled(found) == [("q", "steps", True)] * 2
    assert found.notes[0].startswith("each row is read as one rollout: --records steps would read")
    found = qra.read_rollouts(file, rules=rules, records="steps")
    assert spelled(found) == [("q", "python", False), ("q", "prose", True)] * 2
    # A grade of the whole question, without a text, is none of a rollout.
    file = write(tmp_path / "x.jsonl", [{"question": "q", "solved": True, "tries": steps}] * 2)
    assert spelled(qra.read_rollouts(file, rules=rules)) == [
        ("q", "python", False), ("q", "prose", True)
    ] * 2  # fmt: skip
    file = write(tmp_path / "x.jsonl", [{"question": "q", "out": {"tries": steps}}] * 2)
    assert len(qra.read_rollouts(file, rules=rules)) == 4


def test_chats_that_hold_the_question(tmp_path, rules):
    """Without a field of questions, what was asked in the chat is one; in either way of writing."""
    for chat in (
        [SYSTEM, USER, says("1. two")],
        [{"from": "system", "value": "be brief"}, {"from": "human", "value": "1+1?"},
         {"from": "gpt", "value": "1. two"}],
    ):  # fmt: skip
        file = write(tmp_path / "x.jsonl", [{"conversations": chat, "reward": 1}] * 2)
        found = qra.read_rollouts(file, rules=rules)
        assert spelled(found) == [("be brief\n1+1?", "steps", True)] * 2
        assert "question from the messages before the last of conversations" in found.notes[0]
    file = write(tmp_path / "x.jsonl", [{"conversations": chat, "reward": 1}])
    with pytest.raises(ValueError, match="must have a question field"):
        qra.read_rollouts(file, rules=rules, fields=Fields(question=""))


def test_several_responses_and_one_grade(tmp_path, rules):
    """Where lm-evaluation-harness wrote them, the first is graded; elsewhere nobody knows which."""
    row = {"doc_id": 1, "resps": [["1. a", "b"]], "exact_match": 1}
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", [row] * 2), rules=rules)
    assert [each[:3] for each in spelled(found)] == [("1", "steps", True)] * 2
    assert any(note.startswith("2 rows have several responses") for note in found.notes)
    row = {"doc_id": 1, "responses": ["1. a", "b"], "exact_match": 1}
    with pytest.raises(
        ValueError, match=r"text \(responses\) must hold one value, as correct does"
    ):
        qra.read_rollouts(write(tmp_path / "x.jsonl", [row] * 2), rules=rules)


def test_steps_and_models_within_records(tmp_path):
    """Are named where they are pooled."""
    rows = [
        {"question": 1, "pattern": "p", "correct": 1}
        | {"meta": {"ckpt_step": i // 2, "model": "ab"[i // 3], "tag": i % 2}}
        for i in range(6)
    ]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    steps, models = found.notes
    assert steps.startswith("meta.ckpt_step has the values 0, 1, 2, which are pooled: --step-field")
    assert models.startswith(
        "meta.model has the values a, b, which are pooled: --where meta.model=a"
    )
    found = qra.read_rollouts(tmp_path / "x.jsonl", fields=Fields(step="meta.ckpt_step"))
    assert found.steps == (0, 1, 2)
