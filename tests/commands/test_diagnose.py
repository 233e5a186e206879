"""The flags of `qra diagnose` that say how files are read."""

import json

import pytest

from qra_jax import cli

ROWS = [
    {"id": i % 3, "out": "1. a" if i % 2 else "b", "verdict": ["ok", "bad", "half"][i % 3]}
    | {"reward": i / 10, "model": "xy"[i % 2], "set": "s", "at": i % 4, "p": "z", "sure": -1.0}
    | {"pred_of": str(i), "n": 1}
    for i in range(12)
]
NAMED = ["--question-field", "id", "--text-field", "out"]


@pytest.fixture
def ask(tmp_path, capsys, monkeypatch):
    """Runs a dry run in a folder with a file of rows and rules."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "r.toml").write_text('default="o"\n[[pattern]]\nname="steps"\nregex="1[.]"\n')

    def run(*words):
        code = cli.main(["diagnose", *words, "--dry-run"])
        said = capsys.readouterr()
        return code, said.out.splitlines() if code == 0 else said.err

    return run


def test_a_dry_run_writes_nothing(ask, tmp_path):
    """It shows the account, and no folder is made."""
    before = sorted(tmp_path.iterdir())
    code, lines = ask("x.jsonl", *NAMED, "--rules", "r.toml", "--correct-field", "verdict",
                      "--right", "ok", "--right", "half", "--where", "model=x")  # fmt: skip
    assert code == 0
    assert "  correct: verdict" in lines
    assert "  half: 2, right" in lines
    assert "  bad: 2, wrong" in lines
    assert "  not model=x: 6" in lines
    assert sorted(tmp_path.iterdir()) == before


def test_every_reading_flag(ask):
    """Each is handed on: a field of its own, and a limit of rewards."""
    code, lines = ask(
        *("x.jsonl", "--question-field", "id", "--pattern-field", "p", "--answer-field", "pred_of"),
        *("--confidence-field", "sure", "--step-field", "at", "--dataset-field", "set"),
        *("--correct-field", "reward", "--right-above", "-0.5", "--where", "model=x"),
        *("--where", "model=y"),
    )
    assert code == 0
    fields = lines[lines.index("fields") + 1 : lines.index("fields") + 8]
    assert sorted(fields) == sorted(
        f"  {role}: {name}"
        for role, name in {
            **{"question": "id", "pattern": "p", "correct": "reward", "answer": "pred_of"},
            **{"confidence": "sure", "step": "at", "dataset": "set"},
        }.items()
    )
    assert "  above -0.5: 12, right" in lines
    code, lines = ask(
        *("x.jsonl", "--samples-field", "n", "--correct-field", "at", "--pattern-field", "p"),
        *("--question-field", "pred_of", "--where", "at=1", "--where", "at=0"),
        *("--where", "model=x", "--where", "model=y"),
    )
    assert code == 0
    assert "  samples: n" in lines


def test_several_paths_and_records(ask, tmp_path):
    """Files, patterns of names; the list of a document."""
    document = {"a": [{"question": 1, "pattern": "p", "correct": 1}]}
    document["b"] = [{**document["a"][0], "correct": 0}] * 2
    for name in ("1.json", "2.json"):
        (tmp_path / name).write_text(json.dumps(document))
    code, lines = ask("1.json", "2.json", "--records", "b")
    assert (code, lines[0]) == (0, "read 2 files: 1.json, 2.json")
    assert "steps: 1, 2" in lines
    code, again = ask("*.json", "--records", "b")
    assert (code, again) == (0, lines)
    code, error = ask("1.json")
    assert code == 2
    assert "--records a reads one of them" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "path must name at least one file, got none"),
        (("x.jsonl", "--where", "a"), "where must be FIELD=VALUE, got a"),
        (("x.jsonl", "--where", "=a"), "where must be FIELD=VALUE, got =a"),
        (
            ("x.jsonl", "--right", "a", "--right-above", "1"),
            "right must not be given beside right-above, got a",
        ),
        (("none.jsonl",), "none.jsonl must be a file that can be read, got: No such file"),
        (("x.jsonl", "--question-field", "id"), "x.jsonl must have a pattern field"),
    ],
)
def test_bad_flags(ask, words, message):
    """One line that names the flag."""
    code, error = ask(*words)
    assert code == 2
    assert error.startswith(f"error: {message}") or message in error
    assert error.count("\n") == 1


def test_a_schedule_against_logged_rates(tmp_path, capsys, monkeypatch):
    """An error that names the flag, before anything is solved; the field may be left out."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": 1, "pattern": "ab"[i % 2], "correct": i % 3 > 0, "step": at, "lr": 1 / (at + 1)}
        for at in (0, 50)
        for i in range(12)
    ]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for more in ((), ("--num-steps", "99"), ("--warmup-steps", "40", "--num-steps", "99")):
        assert cli.main(["diagnose", "x.jsonl", "--schedule", "constant", *more]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: schedule must agree with the rollouts' learning rates")
        assert "--learning-rate-field '' leaves these out" in said
    assert cli.main(["diagnose", "x.jsonl", "--learning-rate-field", "eta", "--dry-run"]) == 2
    assert "the learning_rate field must be in x.jsonl" in capsys.readouterr().err
    assert cli.main(["diagnose", "x.jsonl", "--learning-rate-field", "", "--dry-run"]) == 0
    assert "columns that were not read: lr" in capsys.readouterr().out
