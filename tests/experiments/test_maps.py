"""The maps, their command line, and the reading of measured base models."""

import importlib
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import qra_jax as qra
from experiments._lab.store import read_data
from experiments.maps.branches.figure import draw_branches
from experiments.maps.calibration.figure import draw_calibration
from experiments.maps.portraits.figure import draw_portraits
from experiments.maps.regimes.figure import draw_regimes
from experiments.maps.rlif.figure import draw_rlif
from experiments.maps.sft.figure import draw_sft
from experiments.sweep import main
from qra_jax import plot

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


def shown(ax) -> np.ndarray:
    """The cells of a heat map, NaN where there are none."""
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def lines_of(ax, colour: str) -> list[np.ndarray]:
    """The rows of y of all lines of a colour, in the order in which they were drawn."""
    return [np.asarray(line.get_ydata(), float) for line in ax.lines if line.get_color() == colour]


def check_regimes(axes, data):
    """Both maps, in powers of ten, of finite times; T0 = 0 below the scale; trajectories."""
    for ax, kind in zip(axes, ("entanglement", "convergence"), strict=False):
        times = data[f"log_{kind}_time"].transpose("misleading", "best").values / plot.LN10
        finite = np.isfinite(times)
        np.testing.assert_allclose(shown(ax)[finite], times[finite])
        assert np.all(shown(ax)[times == -np.inf] < times[finite].min())
        assert np.all(np.isnan(shown(ax)[np.isnan(times)]))
        assert (ax.get_xscale(), ax.get_xlabel()) == ("log", data["best"].attrs["long_name"])
    for case in data["case"].values:
        (ax,) = (x for x in axes if case in x.get_title("left"))
        one = data.sel(case=case)
        one = one.isel(row=np.isfinite(one["case_log_time"].values))
        rows = [np.asarray(line.get_ydata()) for line in ax.lines]
        for column in one["case_pattern_prob"].values[:, one["case_initial_prob"].values > 0].T:
            assert any(row.shape == column.shape and np.allclose(row, column) for row in rows)
        accuracy = one["case_accuracy"].values
        assert any(row.shape == accuracy.shape and np.allclose(row, accuracy) for row in rows)


def check_sft(axes, data):
    """Totals of SFT and RL, in powers of ten."""
    for ax, kind in ((axes[1], "entanglement"), (axes[2], "convergence")):
        total = data["duration"] + np.exp(data[f"log_{kind}_time"])
        expected = np.log10(total.transpose("quality", "duration").values)
        np.testing.assert_allclose(shown(ax), expected)
        assert ax.get_xscale() == "log"
    curves = [line for line in axes[3].lines if line.get_label().startswith("f =")]
    rows = data["curve_log_entanglement_time"].values
    for line, row, quality in zip(curves, rows, data["curve_quality"].values, strict=True):
        assert line.get_label() == f"f = {quality:g}"
        np.testing.assert_allclose(line.get_ydata(), data["curve_duration"] + np.exp(row))


def check_rlif(axes, data):
    """Shares of draws whose accuracy rises at first, and ends below its start, by tilt."""
    happens = (
        data["initial_slope"].values > 0,
        (data["end_accuracy"] < data["start_accuracy"]).values,
    )
    for ax, rows in zip(axes, happens, strict=False):
        points = [container[0].get_ydata() for container in ax.containers]
        np.testing.assert_allclose(points, rows.mean(axis=-1))


def check_branches(axes, data):
    """Every diagram draws its own points, on the axis of its parameter, and marks folds."""
    for ax, name in zip(axes, data["diagram"].values, strict=False):
        cut = data.sel(diagram=name)
        for colour, key in ((plot.BEST, "best"), (plot.MISLEADING, "accuracy")):
            drawn = np.concatenate(lines_of(ax, colour))
            rows = np.where(np.isfinite(cut["value"].values), cut[key].values, np.nan)
            marks = cut[f"special_{key}"].values[np.isin(cut["special"].values, MARKED)]
            known = np.unique(np.concatenate([rows[np.isfinite(rows)], marks]))
            np.testing.assert_array_equal(np.unique(drawn[np.isfinite(drawn)]), known)


def check_portraits(axes, data):
    """Shares of starts won against the weight of the mixture."""
    (ax,) = (x for x in axes if x.get_ylabel() == "share of starts")
    winners = data["mixture_winner"].values
    for pattern, colour in enumerate((plot.BEST, plot.MISLEADING, plot.REST)):
        np.testing.assert_allclose(lines_of(ax, colour)[0], (winners == pattern).mean(axis=1))


def check_calibration(axes, data):
    """Ranks of the truth, less uniform, and coverage."""
    (ax,) = (x for x in axes if x.get_xlabel() == "share of draws below the truth, x")
    for index, colour in enumerate((plot.BEST, plot.MISLEADING)):
        ranks = np.sort(data["rank"].isel(case=index).values.ravel())
        ranks = ranks[np.isfinite(ranks)]
        reached = (np.arange(len(ranks)) + 0.5) / len(ranks)
        np.testing.assert_allclose(lines_of(ax, colour)[0], reached - ranks)


MARKED = qra.dynamics.Special.FOLD, qra.dynamics.Special.BRANCH_POINT
# The figures of the other maps are tested of data made by hand.
FIGURES = {
    "regimes": (draw_regimes, check_regimes),
    "sft": (draw_sft, check_sft),
    "rlif": (draw_rlif, check_rlif),
    "branches": (draw_branches, check_branches),
    "portraits": (draw_portraits, check_portraits),
    "calibration": (draw_calibration, check_calibration),
}


def check_figure(folder):
    """What is drawn of the stored data are the stored data."""
    draw, check = FIGURES[folder.name]
    data = read_data(folder)
    check(draw(data).axes, data)


def test_quick_sweep(tmp_path, capsys):
    """All three maps, and a redraw: every file, no failed cell; what was found and what disagrees
    on the console, every claim in the file that it names."""
    assert main(["--quick", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 14
    assert "of the base models on this map are entangled" in printed
    assert "without SFT the entangled phase lasts 94.3 (1/reward)" in printed
    assert "whose mean success rate exceeds 1/2, RLIF first raises the accuracy of" in printed
    for name in ("regimes", "sft", "rlif"):
        folder = tmp_path / name
        assert {path.name for path in folder.iterdir()} == {
            "data.zarr",
            "figure.png",
            "figure.pdf",
            "summary.json",
            "claims.txt",
        }
        check_figure(folder)
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["map"] == name
        assert summary["failed_cells"] == 0
        keys = {"statement", "source", "predicted", "measured", "standard_error", "verdict"}
        assert summary["claims"]
        assert all(set(claim) == keys for claim in summary["claims"])
        verdicts = [claim["verdict"] for claim in summary["claims"]]
        agree = f"{verdicts.count('agrees')} of {len(verdicts)} claims agree"
        whole = (folder / "claims.txt").read_text()
        assert f"{name}: {agree}" in printed
        assert whole.startswith(agree)
        assert whole.count("predicted ") == len(verdicts)
        assert f"wrote {folder}: claims.txt" in printed
    before = (tmp_path / "regimes" / "summary.json").read_text()
    assert main(["regimes", "--redraw", "--quiet", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "regimes" / "summary.json").read_text() == before
    regimes = json.loads(before)["claims"]
    assert all(claim["verdict"] == "agrees" for claim in regimes)


# How the line of what was found begins.
FOUND = {
    "gap": "exact steps of size 0.4 stay within 0.0",
    "branches": "folds found: strength 0, ",
    "portraits": "share of random starts from which the best pattern wins: RLVR 100%, ",
    "tokens": "RLVR: ",
    "calibration": "off the prior, ",
    "forecast": "learning rate in its 90 % interval: ",
}
# What these compute is tested under tests/dynamics and tests/diagnosis, and what they draw in
# tests/experiments/test_redraw.py; each takes some 17 s to compile.
LONG = ("branches", "portraits", "calibration", "forecast")


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in LONG else ()) for x in FOUND]
)
def test_quick_maps_by_name(tmp_path, monkeypatch, capsys, name):
    """The maps that the default sweep leaves out: every file, no failed cell, and no claim that
    disagrees (a quick run may be too small to decide)."""
    save = Figure.savefig

    def once(figure, path, **settings):
        """As PNG; that a figure is written as PDF too is tested above."""
        return save(figure, path, **settings) if path.suffix == ".png" else path.touch()

    monkeypatch.setattr(Figure, "savefig", once)
    assert main([name, "--quick", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 7
    assert printed.splitlines()[1].startswith(f"  {FOUND[name]}")
    summary = json.loads((tmp_path / name / "summary.json").read_text())
    assert summary["failed_cells"] == 0
    if name in FIGURES:
        check_figure(tmp_path / name)
    assert summary["claims"]
    assert all(claim["verdict"] != "disagrees" for claim in summary["claims"])


def test_claims_have_names():
    """Of their own, each over all maps, for a traceback to say."""
    maps = ("regimes", "sft", "rlif", *FOUND)
    modules = [importlib.import_module(f"experiments.maps.{name}.claims") for name in maps]
    names = [judge.__name__ for module in modules for judge in module.CLAIMS.judges]
    assert len(names) >= 2 * len(maps)
    assert sorted(set(names)) == sorted(names)
    assert all(name[0].isalpha() for name in names)
