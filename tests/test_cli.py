"""The console script: what it answers before it loads JAX, and the rest of its errors."""

import importlib
import json
import subprocess
import sys

import pytest

import qra_jax as qra
from qra_jax import cli

ANSWERS = """
import contextlib, io, json, sys
from qra_jax.cli import main
found = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    found.append([code, out.getvalue(), err.getvalue(), "jax" in sys.modules])
print(json.dumps(found))
"""


def test_what_needs_no_jax(tmp_path):
    """Help, the version, bad settings and folders that cannot be written."""
    (tmp_path / "file").touch()
    below = str(tmp_path / "file" / "out")
    cases = {
        ("--help",): (0, "diagnose"),
        ("--version",): (0, f"qra {qra.__version__}\n"),
        ("diagnose", "--help"): (0, "--sft-budget"),
        ("grid", "--help"): (0, "--cells-per-chunk"),
        ("diagnose",): (2, "path must name at least one file, got none"),
        ("diagnose", "a.csv", "--beta", "-1"): (2, "beta must be at least 0, got -1"),
        ("diagnose", "a.csv", "--tpr", "0.2", "--fpr", "0.2"): (2, "tpr must be above fpr = 0.2"),
        ("diagnose", "a.csv", "--fpr", "1.2"): (2, "fpr must lie in [0, 1], got 1.2"),
        ("diagnose", "a.csv", "--rollouts-per-step", "7"): (2, "be at least group-size = 8"),
        ("diagnose", "a.csv", "--beta", "1", "--pooling", "partial"): (2, "be 0 unless pooling"),
        ("diagnose", "a.csv", "--seed", "-1"): (2, "seed must be at least 0, got -1"),
        ("diagnose", "a.csv", "--out", below): (2, f"out must be a folder that can be written, "
                                                   f"got {below} (Not a directory)"),
        ("grid", "--axes", "gap"): (2, "axes must be NAME="),
        ("grid", "--out", below): (2, "out must be a folder that can be written"),
    }  # fmt: skip
    command = [sys.executable, "-c", ANSWERS, json.dumps(list(cases))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    for (code, said), found in zip(cases.values(), json.loads(done.stdout), strict=True):
        assert found[0] == code
        assert said in (found[1] if code == 0 else found[2])
        assert not found[3]


def test_a_file_that_is_not_there(tmp_path, capsys):
    """One line, the exit code of bad input, an empty folder."""
    assert cli.main(["diagnose", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "a.csv" in error
    assert list((tmp_path / "out").iterdir()) == []


def test_the_extra_is_named(monkeypatch):
    """Without jinja2 the report cannot be written, which is said before anything is computed."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "qra_jax.diagnosis.report._page", raising=False)
    with pytest.raises(ImportError, match=r"jinja2 is needed .*'qra-jax\[report\]'"):
        importlib.import_module("qra_jax.diagnosis.report._page")
