"""The command `qra compare`: what it reads, asks and writes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from qra_jax import cli
from qra_jax.commands import Compare
from qra_jax.commands._run_compare import distinct_names, models_of
from qra_jax.commands._run_reading import account_of

EXAMPLE = Path(__file__).parents[2] / "experiments" / "data" / "rollouts.jsonl"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The example, and one whose prose is wrong two times in five."""
    folder = tmp_path_factory.mktemp("models")
    rows = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    rng = np.random.default_rng(0)
    for row in rows:
        row["correct"] &= row["pattern"] != "prose" or rng.random() > 0.4
    (folder / "less.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EXAMPLE, folder / "less.jsonl"


def test_report(files, tmp_path, capsys):
    """The finding first; a table of all pairs; a page that needs no network."""
    out = tmp_path / "out"
    words = ["--draws", "59", "--ks", "1", "2", "--out", str(out), "--names", "all", "less"]
    assert cli.main(["compare", *map(str, files), *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "Where RL ends is not settled between the models; start from 'less', which converges first."
    )
    assert "  100 shared questions, resampled in pairs" in said
    names = {path.name for path in out.iterdir()}
    assert {"compare.html", "compare.json", "compare.csv", "accuracy.png", "ahead.pdf"} <= names
    rows = list(csv.DictReader((out / "compare.csv").read_text().splitlines()))
    (now,) = (x for x in rows if (x["quantity"], x["model"], x["other"]) == (
        "accuracy now", "less", "all"))  # fmt: skip
    assert float(now["high"]) < 0
    assert float(now["more"]) == 0
    found = json.loads((out / "compare.json").read_text())["comparison"]
    assert found["quantities"]["accuracy now"]["less"]["low"][1][0] == pytest.approx(
        float(now["low"]), rel=1e-4
    )
    page = (out / "compare.html").read_text()
    assert "P(less has more than all)" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/svg+xml;base64,") == 2


def test_every_option_arrives(files, monkeypatch, capsys):
    """Each at a value that is not its own."""
    asked = {}

    def compared(models, **settings):
        asked.update(settings, models=models)
        raise ValueError("that is all")

    monkeypatch.setattr("qra_jax.commands._run_compare.compare", compared)
    words = "--estimator grpo --group-size 4 --beta 0.3 --tpr 0.9 --fpr 0.1 --eps 0.2 --draws 31"
    assert cli.main(["compare", *map(str, files), *words.split(), "--seed", "5", "--ks", "3"]) == 2
    assert "that is all" in capsys.readouterr().err
    assert list(asked["models"]) == ["rollouts", "less"]
    names = ("eps", "draws", "seed", "ks", "group_size")
    assert [asked[name] for name in names] == [0.2, 31, 5, (3,), 4]
    objective = asked["objective"]
    assert objective.utility.group == 4
    assert float(objective.regularisers[0].beta) == 0.3
    assert float(objective.reward.false_positive_rate) == 0.1


def test_steps_of_one_path(tmp_path, capsys):
    """Every step is a model; without steps two paths are needed. A dry run solves nothing."""
    file = tmp_path / "run.csv"
    rows = [f"q{i % 6},p{i % 2},{i % 3 == 0:d},{i // 12}" for i in range(36)]
    file.write_text("question,pattern,correct,step\n" + "\n".join(rows) + "\n")
    settings = Compare((file,))
    models = models_of(settings, [account_of(settings, (file,))])
    assert list(models) == ["step 0", "step 1", "step 2"]
    assert [len(x) for x in models.values()] == [12, 12, 12]
    assert cli.main(["compare", str(file), "--dry-run"]) == 0
    assert "36 rollouts of 6 questions" in capsys.readouterr().out
    file.write_text("\n".join(x.rsplit(",", 1)[0] for x in file.read_text().splitlines()))
    assert cli.main(["compare", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "path must name several models, or rollouts of several steps" in capsys.readouterr().err


def test_names():
    """Of files, of their folders where these alone differ; the same twice is an error."""
    assert distinct_names([Path("a/x.jsonl.gz"), Path("b/y.csv")]) == ("x", "y")
    assert distinct_names([Path("a/x.csv"), Path("b/x.csv")]) == ("a/x.csv", "b/x.csv")
    for words, message in (
        (["a.csv", "a.csv"], "a.csv"),
        (["a.csv", "b.csv", "--names", "x"], "names must be one for each of the 2 paths"),
        (["a.csv", "b.csv", "--names", "x", "x"], "names must differ"),
        (["a.csv", "b.csv", "--ks", "0"], "ks must be at least 1"),
    ):
        assert cli.main(["compare", *words]) == 2, message


def test_bad_names_are_said(capsys):
    """One line that names the flag."""
    assert cli.main(["compare", "a.csv", "b.csv", "--names", "x"]) == 2
    error = capsys.readouterr().err
    assert error == "error: names must be one for each of the 2 paths, got 1\n"
