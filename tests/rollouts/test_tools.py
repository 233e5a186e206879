"""Files that the tools themselves wrote (`data/versions.toml` says which), each read by the one
command that the documentation names."""

import json
import pathlib
import tomllib

import polars as pl
import pytest

import qra_jax as qra
from qra_jax.rollouts import Fields

from .._support.rollout_files import RULES, spelled

DATA = pathlib.Path(__file__).parent / "data"


@pytest.fixture
def rules(tmp_path):
    """A file of rules."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES + '[[pattern]]\nname = "wait"\nregex = "Wait"\n')
    return file


@pytest.mark.parametrize("form", ["inspect", "inspect_json"])
def test_inspect(rules, form):
    """Both forms of a log: two epochs of three questions, graded by `match`, `includes` beside."""
    found = qra.read_rollouts(DATA / form, rules=rules)
    expected = {
        "Wait, check. So 3": ("wait", True),
        "1. add\n2. So 4": ("steps", False),
        "So it is 3": ("prose", True),
        "no idea": ("prose", False),
    }
    (log,) = (DATA / "inspect_json").glob("*.json")
    samples = json.loads(log.read_text())["samples"]
    rows = [
        (sample["input"], *expected[sample["output"]["completion"]], sample["scores"])
        for sample in samples
    ]
    assert [row[:3] for row in sorted(spelled(found))] == sorted(row[:3] for row in rows)
    assert [right for _, _, right, _ in rows] == [
        scores["match"]["value"] == "C" for *_, scores in rows
    ]
    assert found.questions == ("question 0", "question 1", "question 2")
    assert "scores.match.value (and not scores.includes.value: --correct-fi" in found.notes[0]
    assert any(note.startswith("epoch has the values 1, 2") for note in found.notes)
    one = qra.read_rollouts(DATA / form, rules=rules, where={"epoch": "2"})
    assert (len(one), one.dropped) == (3, {"not epoch=2": 3})


def test_lm_evaluation_harness(rules):
    """Two tasks of the same numbers of questions; four responses with one grade; a vote."""
    found = qra.read_rollouts(DATA / "lm_eval", rules=rules)
    graded = []
    for file in sorted((DATA / "lm_eval").glob("samples_*")):
        task = file.name.split("_")[1]
        for row in map(json.loads, file.read_text().splitlines()):
            if row["filter"] == "score-first":
                text = row["resps"][0][0]
                graded.append((f"{task}: {row['doc_id']}", "1. " in text, row["exact_match"] == 1))
    read = [(question, pattern == "steps", right) for question, pattern, right, _ in spelled(found)]
    assert sorted(read) == sorted(graded)
    assert found.dropped == {"graded again by another filter": 6}
    assert (
        "graded by the filter score-first, and not by maj@4, a vote of all responses"
        in " ".join(found.notes)
    )
    assert any(note.startswith("3 rows have several responses and one") for note in found.notes)
    flexible = qra.read_rollouts(DATA / "lm_eval", rules=rules, where={"filter": "flexible"})
    assert flexible.questions == ("0", "1", "2")
    with pytest.raises(ValueError, match="a filter must grade single responses, got maj@4, a vote"):
        qra.read_rollouts(DATA / "lm_eval", rules=rules, where={"filter": "maj@4"})


def test_trl(rules):
    """One file a step; the column of the only reward is the grade."""
    found = qra.read_rollouts(DATA / "trl", rules=rules)
    table = pl.concat(pl.read_parquet(file) for file in sorted((DATA / "trl").rglob("*.parquet")))
    assert found.step.tolist() == table["step"].to_list()
    assert found.correct.tolist() == (table["three_reward"] == 1).to_list()
    assert [found.questions[i] for i in found.question] == table["prompt"].to_list()
    assert "correct from three_reward" in found.notes[0]


def test_trl_with_several_rewards(tmp_path, rules):
    """Which of them is the grade must be said; a shaped one is made one by a limit."""
    rewards = {"accuracy_reward": [1.0, 0.0], "format_reward": [0.5, 0.2]}
    table = pl.DataFrame(
        {"step": [1, 1], "prompt": ["p", "p"], "completion": ["a", "b"], **rewards}
    )
    table.write_parquet(tmp_path / "completions_00001.parquet")
    with pytest.raises(ValueError, match=r"accuracy_reward \(or format_reward\) may be it") as it:
        qra.read_rollouts(tmp_path, rules=rules)
    assert "must have a correct field" in str(it.value)
    fields = Fields(correct="accuracy_reward")
    # The folder holds the rules, too, which are no rollouts.
    assert qra.read_rollouts(tmp_path, rules=rules, fields=fields).correct.tolist() == [True, False]
    fields = Fields(correct="format_reward")
    found = qra.read_rollouts(tmp_path, rules=rules, fields=fields, right_above=0.3)
    assert found.correct.tolist() == [True, False]


def test_verl(tmp_path, rules):
    """One file a step as its trainer dumps rollouts, with scores of -1 and 1."""
    folder = tmp_path / "rollouts"
    folder.mkdir()
    for step in (5, 10):
        rows = [
            {"input": f"q{i % 2}", "output": "1. so" if i < step / 5 else "so", "gts": "3"}
            | {"score": 1.0 if i else -1.0, "step": step}
            for i in range(4)
        ]
        (folder / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = qra.read_rollouts(folder, rules=rules)
    assert found.steps == (5, 10)
    assert [found.at_step(step).counts()[0].sum(axis=0).tolist() for step in (5, 10)] == [
        [3, 1], [2, 2]
    ]  # fmt: skip
    assert found.correct.tolist() == [False, True, True, True] * 2


def test_evalplus(tmp_path, rules):
    """One document, in which every task has a list of solutions with two grades in words."""
    task = {"base_fail_tests": [], "plus_fail_tests": []}
    solutions = [
        {"task_id": f"HumanEval/{i}", "solution": "```python", "base_status": "pass"}
        | {"plus_status": "fail" if i + j < 2 else "pass", **task}
        for i in range(3)
        for j in range(2)
    ]
    every = {f"HumanEval/{i}": solutions[2 * i : 2 * i + 2] for i in range(3)}
    file = tmp_path / "samples_eval_results.json"
    file.write_text(json.dumps({"date": "2025-01-01 00:00", "hash": "x", "eval": every}))
    found = qra.read_rollouts(file, rules=rules)
    assert found.questions == ("HumanEval/0", "HumanEval/1", "HumanEval/2")
    assert found.correct.tolist() == [False, False, False, True, True, True]
    assert found.patterns == ("python",)
    base = qra.read_rollouts(file, rules=rules, fields=Fields(correct="base_status"))
    assert base.correct.all()


def test_lighteval(tmp_path, rules):
    """Parquet details: structs, of which names with dots are read."""
    rows = [
        {"doc": {"query": f"q{i}", "id": str(i)}, "metric": {"extractive_match": float(i % 2)}}
        | {"model_response": {"text": [f"{i}. 1\n1. so"], "input_tokens": [[1, 2]]}}
        for i in range(4)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "details_x.parquet")
    found = qra.read_rollouts(tmp_path / "details_x.parquet", rules=rules)
    assert found.questions == ("q0", "q1", "q2", "q3")
    assert found.correct.tolist() == [False, True, False, True]
    assert found.patterns == ("steps",)
    assert "correct from metric.extractive_match" in found.notes[0]


def test_openai_evals(tmp_path, rules):
    """Events: what was sampled and how it was graded stand in rows of their own, mixed up."""
    rows: list[dict] = [{"spec": {"eval_name": "x"}}]
    for i in (0, 1):
        data = {"prompt": f"q{i}", "sampled": ["1. so" if i else "so"]}
        rows.append({"run_id": "r", "sample_id": f"t.{i}", "type": "sampling", "data": data})
    for i in (1, 0):
        data = {"correct": bool(i), "picked": str(i)}
        rows.append({"run_id": "r", "sample_id": f"t.{i}", "type": "match", "data": data})
    rows = [{"event_id": n, **row} for n, row in enumerate(rows)]
    rows.append({"final_report": {"accuracy": 0.5}})
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"--correct-field data\.correct may be it; the first row"):
        qra.read_rollouts(file, rules=rules)
    found = qra.read_rollouts(file, rules=rules, fields=Fields(correct="data.correct"))
    assert spelled(found) == [("t.1", "steps", True, "1"), ("t.0", "prose", False, "0")]


def test_vllm(tmp_path, rules):
    """Outputs of a request as a list of records; grades beside them or within."""
    row = {"prompt": "q", "outputs": [{"index": 0, "text": "1. a"}, {"index": 1, "text": "b"}]}
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({**row, "correct": [True, False]}) + "\n")
    expected = [("q", "steps", True), ("q", "prose", False)]
    assert spelled(qra.read_rollouts(file, rules=rules)) == expected
    graded = [{**output, "correct": output["index"] == 0} for output in row["outputs"]]
    file.write_text((json.dumps({**row, "outputs": graded}) + "\n") * 2)
    assert spelled(qra.read_rollouts(file, rules=rules)) == expected * 2


def test_versions():
    """Every folder of files says what wrote it."""
    versions = tomllib.loads((DATA / "versions.toml").read_text())
    assert sorted(versions) == sorted(path.name for path in DATA.iterdir() if path.is_dir())
