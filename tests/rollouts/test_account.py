"""What is shown of how files were read."""

import numpy as np

from qra_jax.rollouts import read_with_account

from .._support.rollout_files import RULES, write


def test_account_of_texts(tmp_path):
    """Fields, questions, patterns with samples of their texts, grades, steps, what was dropped."""
    (tmp_path / "rules.toml").write_text(RULES)
    texts = [f"1. step\n{i}" for i in range(5)] + ["long " * 100, None]
    rows = [
        {"prompt": f"q{i % 3}", "completion": text, "score": (-1) ** i, "step": i // 4, "id_of": i}
        for i, text in enumerate(texts)
    ]
    account = read_with_account(write(tmp_path / "x.jsonl", rows), rules=tmp_path / "rules.toml")
    assert account.files == (str(tmp_path / "x.jsonl"),)
    assert account.fields == {
        "question": ("prompt",),
        "correct": ("score",),
        "text": ("completion",),
        "step": ("step",),
    }
    assert account.grades == {"1": (3, True), "-1": (3, False)}
    assert account.samples["steps"] == ("1. step\n0", "1. step\n1", "1. step\n2")
    assert account.samples["prose"] == (("long " * 100)[:200],)
    assert account.unused == ("id_of",)
    lines = account.lines()
    for line in (
        "6 rollouts of 3 questions, 2 of each",
        "  such as: q0; q1; q2",
        "  steps: 5 rollouts (83.3%), 3 right",
        "    '1. step 0'",
        "  prose: 1 rollouts (16.7%), 0 right",
        "  -1: 3, wrong",
        "steps: 0, 1",
        "  rollouts of each: 4, 2",
        "  text missing: 1",
        "columns that were not read: id_of",
        "  no text is of pattern python",
    ):
        assert line in lines, line
    assert not any("\n" in line or len(line) > 400 for line in lines)


def test_account_of_counts(tmp_path):
    """Of files of counts, with the fields by which each was read."""
    for name, step in (("a", 2), ("b", 7)):
        row = {"kind": "p", "n": 9, "n_correct": 4, "update": step}
        write(
            tmp_path / f"{name}.csv", [{"pattern" if k == "kind" else k: v for k, v in row.items()}]
        )
    account = read_with_account(tmp_path, where={"update": "7"})
    assert account.fields == {"pattern": ("pattern",), "correct": ("n_correct",), "samples": ("n",)}
    assert account.grades == {"counted as right": (4, True), "counted as wrong": (5, False)}
    lines = account.lines()
    assert lines[0] == f"read 2 files: {tmp_path / 'a.csv'}, {tmp_path / 'b.csv'}"
    assert "  not update=7: 1" in lines
    assert "  p: 9 rollouts (100.0%), 4 right" in lines


def test_account_of_many(tmp_path):
    """Many patterns, steps and long names are shortened."""
    rows = [
        {"question": "long " * 50 + str(i), "pattern": f"p{i}", "correct": True, "step": i}
        for i in range(200)
    ]
    lines = read_with_account(write(tmp_path / "x.jsonl", rows)).lines()
    assert "  and 150 more" in lines
    assert any(line.startswith("steps: 0, 1, 2") and "and 188 more" in line for line in lines)
    assert max(map(len, lines)) < 300
    assert "columns that were not read: none" in lines


def test_account_adds_up(tmp_path):
    """What is kept and what is dropped are all rows, with rows that are not wanted among them."""
    rng = np.random.default_rng(0)
    draw = [
        {
            "question": None if rng.random() < 0.1 else int(rng.integers(5)),
            "pattern": None if rng.random() < 0.1 else "p",
            "correct": None if rng.random() < 0.1 else bool(rng.integers(2)),
            "fold": int(rng.integers(2)),
        }
        for _ in range(700)
    ]
    account = read_with_account(write(tmp_path / "x.jsonl", draw), where={"fold": "1"})
    found = account.rollouts
    assert len(found) + sum(found.dropped.values()) == len(draw)
    assert found.dropped["not fold=1"] == sum(row["fold"] == 0 for row in draw)
    assert sum(number for number, _ in account.grades.values()) == len(found)
