"""The maps, their command line, and the reading of measured base models."""

import importlib
import json

import pytest

import qra_jax as qra
from experiments.sweep import main

SHARES = "pattern,probability,success_rate\n"
COUNTS = "pattern,samples,correct\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\x00\x01\x02", "binary"),
        ("a,b,c\nx,1,1\n", "line 1: the columns must be"),
        (COUNTS + "a,5,6\nb,5,1\n", "line 2: correct must be at most samples = 5, got 6"),
        (COUNTS + "a,5,1\nb,x,1\n", "line 3: samples must be a number, got 'x'"),
        (COUNTS + "a,-5,1\nb,5,1\n", "line 2: samples must be a whole number"),
        (COUNTS + "# comment\na,5\n", "line 3: a row must have 3 fields, got 2"),
        (SHARES + "a,0.5,1.5\nb,0.5,0.2\n", "line 2: success_rate must lie in"),
        (SHARES + "a,nan,0.5\nb,0.5,0.2\n", "line 2: probability must lie in"),
        (SHARES + "a,0.5,0.5\nb,0.4,0.2\n", "sum of probability must be within 0.01 of 1"),
        (SHARES + "a,0.5,0.5\na,0.5,0.2\n", "line 3: pattern must have a name of its own"),
        (SHARES + "a,1.0,0.5\n", "at least 2 patterns"),
    ],
)
def test_bad_pattern_files(tmp_path, capsys, text, message):
    """One line that says what was wrong and where; exit code 2 and nothing written."""
    file = tmp_path / "patterns.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"patterns|line|sum") as error:
        qra.rollouts.read_pattern_table(file)
    assert message in str(error.value)
    out = tmp_path / "out"
    assert main(["regimes", "--quiet", "--patterns", str(file), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(out.iterdir())


def test_renormalised_patterns(tmp_path):
    """A sum within 0.01 of 1 is renormalised, and said."""
    file = tmp_path / "patterns.csv"
    file.write_text("# a comment\n" + SHARES + "a,0.5,0.9\nb,0.495,0.2\n")
    table = qra.rollouts.read_pattern_table(file)
    assert table.probs.sum() == pytest.approx(1, abs=1e-15)
    assert "0.995" in table.note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["regimes", "--resolution", "0"], "resolution must be at least 2, got 0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["regimes", "--eps", "5"], "eps must lie in"),
        (["regimes", "--out", "/dev/null/x"], "out must be a folder that can be written"),
        (
            ["regimes", "--patterns", "no-such-file.csv"],
            "no-such-file.csv must be a file that",
        ),
    ],
)
def test_bad_settings(tmp_path, monkeypatch, capsys, arguments, message):
    """Each is one line on the error stream, exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--quiet"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_quick_sweep(tmp_path, capsys):
    """All three maps, and a redraw: every file, no failed cell, the claims on the console."""
    assert main(["--quick", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("regimes", "sft", "rlif"):
        folder = tmp_path / name
        assert {path.name for path in folder.iterdir()} == {
            "data.zarr",
            "figure.png",
            "figure.pdf",
            "summary.json",
        }
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["map"] == name
        assert summary["failed_cells"] == 0
        keys = {"statement", "source", "predicted", "measured", "standard_error", "verdict"}
        assert summary["claims"]
        assert all(set(claim) == keys for claim in summary["claims"])
        assert summary["claims"][0]["statement"].split()[0] in printed
    before = (tmp_path / "regimes" / "summary.json").read_text()
    assert main(["regimes", "--redraw", "--quiet", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "regimes" / "summary.json").read_text() == before
    regimes = json.loads(before)["claims"]
    assert all(claim["verdict"] == "agrees" for claim in regimes)


BY_NAME = ("gap", "branches", "portraits", "tokens", "calibration", "forecast")


@pytest.mark.parametrize("name", BY_NAME)
def test_quick_maps_by_name(tmp_path, name):
    """The maps that the default sweep leaves out: every file, no failed cell, and no claim that
    disagrees (a quick run may be too small to decide)."""
    assert main([name, "--quick", "--quiet", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / name / "summary.json").read_text())
    assert summary["failed_cells"] == 0
    assert (tmp_path / name / "figure.pdf").stat().st_size > 0
    assert summary["claims"]
    assert all(claim["verdict"] != "disagrees" for claim in summary["claims"])


def test_claims_have_names():
    """Of their own, each over all maps, for a traceback to say."""
    maps = ("regimes", "sft", "rlif", *BY_NAME)
    modules = [importlib.import_module(f"experiments.maps.{name}.claims") for name in maps]
    names = [judge.__name__ for module in modules for judge in module.CLAIMS.judges]
    assert len(names) >= 2 * len(maps)
    assert sorted(set(names)) == sorted(names)
    assert all(name[0].isalpha() for name in names)
