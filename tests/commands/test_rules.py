"""The command `qra rules`, and what a dry run says of rules."""

import numpy as np
import pytest

from qra_jax import cli
from qra_jax.diagnosis.words import difference
from qra_jax.posteriors import patterns_differ
from qra_jax.rollouts import Rollouts
from tests.rollouts.test_suggest import texts


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 20},{text.replace(',', ';')},{i // 20 % 2}" for i, text in enumerate(texts()[1])]
    (tmp_path / "a.csv").write_text("\n".join(["number,out,correct", *rows]) + "\n")
    return tmp_path / "a.csv"


def test_rules_are_written_once(file, capsys):
    """A file of rules that reads back; it is not written over, and a dry run writes none."""
    words = ["rules", "a.csv", "--question-field", "number", "--text-field", "out", "--number", "3"]
    assert cli.main([*words, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Suggested from")
    assert not (file.parent / "rules.toml").exists()
    assert cli.main(words) == 0
    assert "3 rules from 300 openings" in capsys.readouterr().out
    assert (file.parent / "rules.toml").read_text() == text[:-1]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        "error: out must be a file that is not there yet, got rules.toml\n"
    )
    assert cli.main(["diagnose", *words[1:-2], "--rules", "rules.toml", "--dry-run"]) == 0
    assert (
        "no difference in success between patterns was found within questions"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--number", "1"), "number must be at least 2, got 1"),
        (("--letters", "0"), "letters must be at least 1, got 0"),
        (("--rules", "code"), "rules must not be given: they are what is suggested, got code"),
        (("--out", "none/x.toml", "--question-field", "number", "--text-field", "out"),
         "out must be a file that can be written, got No such file"),
    ],
)  # fmt: skip
def test_bad_flags(file, capsys, words, message):
    """One line that names the flag."""
    assert cli.main(["rules", "a.csv", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_whether_patterns_differ():
    """Said either way, or that it cannot be told."""
    question, pattern = np.repeat(np.arange(30), 8), np.tile([0, 1], 120)
    names = tuple(map(str, range(30)))

    def said(correct):
        rollouts = Rollouts(names, ("a", "b"), question, pattern, correct)
        return difference(patterns_differ(*rollouts.counts()))

    rng = np.random.default_rng(0)
    apart = said(rng.random(240) < 0.2 + 0.6 * pattern)
    assert apart.startswith("patterns differ in success within questions")
    assert "with probability less than 0.01; " in apart
    same = said(rng.random(240) < 0.5)
    assert same.startswith("no difference in success between patterns was found")
    assert "or the rollouts are too few" in same  # a test that finds nothing proves nothing
    assert said(question < 15).startswith("whether patterns differ in success cannot be told")
