"""The flags of `qra diagnose` that say how files are read."""

import json

import numpy as np
import pytest

import qra_jax as qra
from qra_jax import cli
from qra_jax.diagnosis import Head

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


def test_an_optimiser_of_the_run(tmp_path, capsys, monkeypatch):
    """Each flag reaches the forecast: learning rate, schedule, batch, and what is said of the
    head."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": i % 8, "pattern": "ab"[i % 2], "correct": i % 3 == 0} for i in range(96)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = {}

    def remembered(rollouts, **given):
        seen.update(given)
        raise ValueError("seen")

    monkeypatch.setattr("qra_jax.commands._run_diagnose.diagnose", remembered)
    plain = ["diagnose", "x.jsonl", "--optimiser", "adam", "--learning-rate", "0.5", "--num-steps"]
    plain += ["10", "--estimator", "rloo", "--head-norm", "75", "--head-width", "64"]
    more = ["--schedule", "linear", "--row-spread", ".01", ".02", "--feature-rate", "5", "6"]
    assert cli.main([*plain, *more, "--group-size", "4", "--rollouts-per-step", "20"]) == 2
    assert capsys.readouterr().err == "error: seen\n"
    run = seen["run"]
    assert (run.sampler.group_size, run.sampler.batch) == (4, 5)
    assert run.learning_rate is None
    assert run.schedule is None
    head = run.head
    assert (head.norm, head.width, head.row_spread, head.feature_rate) == (
        75.0, 64, (0.01, 0.02), (5.0, 6.0),
    )  # fmt: skip
    # The first steps of Adam are as long as the learning rate, which falls to 0 in ten of them.
    state, lengths = run.optimiser.init(np.zeros(1)), []
    for _ in range(10):
        update, state = run.optimiser.update(np.ones(1), state, np.zeros(1))
        lengths.append(-float(update[0]))
    np.testing.assert_allclose(lengths, 0.5 * (1 - np.arange(10) / 10), rtol=1e-6)
    assert cli.main([*plain]) == 2
    assert seen["run"].head.row_spread == Head.row_spread
    for flag in ("--learning-rate", "--num-steps"):
        at = plain.index(flag)
        assert cli.main([*plain[:at], *plain[at + 2 :]]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {flag[2:]} must be given with an optimiser"), said
    without = [x for x in plain if x not in ("--optimiser", "adam")]
    assert cli.main(without) == 2
    assert "head-norm must come with an optimiser" in capsys.readouterr().err
    # Nothing of the network, and a batch in short: all that is not given is open, and GRPO.
    short = [*plain[:8], "--batch", "5x4"]
    assert cli.main(short) == 2
    run = seen["run"]
    assert (run.sampler.group_size, run.sampler.batch) == (4, 5)
    assert isinstance(run.sampler.estimator, qra.SampledGRPO)
    assert run.head.norm == (64.0, 32768.0)
    assert cli.main([*short, "--head-width", "100"]) == 2
    assert (seen["run"].head.norm, seen["run"].head.width) == ((50.0, 800.0), 100)
    # The learning rates of the file are the schedule, unless one is given.
    for at, row in enumerate(rows):
        row |= {"step": 10 * (at // 48), "learning_rate": [0.3, 0.1][at // 48]}
    (tmp_path / "y.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for more, last in (([], 0.5 / 3), (["--schedule", "constant"], 0.5)):
        assert cli.main(["diagnose", "y.jsonl", *short[2:7], "11", *more]) == 2
        optimiser = seen["run"].optimiser
        state = optimiser.init(np.zeros(1))
        for _ in range(11):
            update, state = optimiser.update(np.ones(1), state, np.zeros(1))
        assert -float(update[0]) == pytest.approx(last, rel=1e-5)
    # Momentum, memories and decay as they are given: two steps of 1, then one of 0.
    for flags, steps in (
        (["sgd", "--momentum", "0.5"], [0.5, 0.75, 0.375]),
        (["adam", "--betas", "0.5", "0.25"], [0.5, 0.5, 0.439155]),
        (["adamw", "--weight-decay", "2"], None),
    ):
        assert cli.main([*short[:3], *flags, *short[4:]]) == 2
        optimiser = seen["run"].optimiser
        state, found = optimiser.init(np.ones(1)), []
        for gradient in (1.0, 1.0, 0.0):
            update, state = optimiser.update(np.full(1, gradient), state, np.ones(1))
            found.append(-float(update[0]))
        if steps is None:
            assert found[0] == pytest.approx(0.5 + 0.5 * 2)
        else:
            np.testing.assert_allclose(found, steps, rtol=1e-6)
    for flags, says in (
        (["--batch", "5"], "batch must be QxG, as 128x8"),
        (["--batch", "0x4"], "batch must be QxG"),
        (["--batch", "5x4", "--group-size", "5"], "group-size must agree with batch = 5x4"),
        (["--momentum", "0.5"], "momentum must come with optimiser = sgd"),
        (["--weight-decay", "1"], "weight-decay must come with optimiser = adamw"),
        (["--betas", "0.9", "1"], "betas must lie in [0, 1)"),
        (["--head-norm", "-1"], "head-norm must be above 0"),
        (["--head-width", "1"], "head-width must be at least 2"),
        (["--feature-rate", "3", "2"], "feature-rate must be above 0 and not fall"),
        (["--beta", "0.1"], "beta must be 0 with an optimiser"),
    ):
        assert cli.main([*plain[:8], *flags]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {says}")
