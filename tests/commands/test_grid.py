"""The command that sweeps a grid: its settings, its figure, and what it says."""

import stat

import jax
import numpy as np
import pytest
import xarray as xr

import qra_jax as qra
from experiments import grid as command
from qra_jax import cli
from qra_jax.commands import PARAMETERS, BadSetting, GridSweep, _run_grid
from qra_jax.commands._grid import cache_folder
from qra_jax.commands._grid_figure import draw_grid
from qra_jax.sweep import open_sweep


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A small sweep by the command line, with its figure."""
    out = tmp_path_factory.mktemp("command")
    arguments = ["--axes", "pi_best=1e-4:0.05:6:log", "gap=0.1:0.3:3", "misleading=.6"]
    arguments += ["--quantities", "convergence", "--width", "8", "--quiet"]
    arguments += ["--out", str(out / "grid"), "--cache", str(out / "cache")]
    folder = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    yield out, arguments
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def test_command_line(stored, capsys):
    """The check case lies on the grid: its time is that of the law of the tail, to its accuracy."""
    out, arguments = stored
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "18 cells: 18 computed" in said
    assert (out / "grid/figure.pdf").exists()
    data = open_sweep(out / "grid")
    assert dict(data.sizes) == {"pi_best": 6, "gap": 3}
    # Slower the rarer the best pattern, and the closer the two best: T0 is of order pi_best^-2.
    time = data["log_convergence_time"].values
    assert (np.diff(time, axis=0) < 0).all()
    assert (np.diff(time, axis=1) < 0).all()
    slope = np.diff(time[:2, 1]) / np.diff(np.log(data["pi_best"].values[:2]))
    np.testing.assert_allclose(slope, -2, atol=0.01)
    assert command.main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert stat.S_IMODE((out / "cache").stat().st_mode) == 0o700
    assert any((out / "cache").iterdir())


@pytest.mark.parametrize(
    ("command", "name"),
    [(command.main, "python -m experiments.grid"), (lambda x: cli.main(["grid", *x]), "qra grid")],
)
def test_command_line_after_an_interrupt(stored, capsys, monkeypatch, command, name):
    """The command that continues is said."""

    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(_run_grid, "run", interrupted)
    _, arguments = stored
    assert command([*arguments, "--overwrite"]) == 130
    said = capsys.readouterr().err
    assert f"{name} --axes pi_best=1e-4:0.05:6:log" in said
    assert said.rstrip().endswith("--resume")
    assert "--overwrite" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": ("gap",)}, "axes must be NAME="),
        ({"axes": ("gap=0.1:0.2",)}, "axes must be NAME="),
        ({"axes": ("size=0.1:0.2:3",)}, "axes must name one of pi_best"),
        ({"axes": ("gap=0.1",)}, "axes must name at least one axis"),
        ({"axes": ("gap=0.1:0.95:3",)}, "gap must be at most best_rate"),
        ({"axes": ("pi_best=0.1:2:3",)}, "pi_best must lie strictly between 0 and 1"),
        ({"axes": ("pi_best=0:0.5:3:log",)}, "pi_best must lie above 0"),
        ({"points": 0}, "points must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"quantities": ()}, "quantities must be named"),
    ],
)
def test_bad_settings(options, message):
    """One line each."""
    with pytest.raises(BadSetting, match=message):
        GridSweep(**options).parameters()


def test_failed_cells_are_hatched():
    """And those whose time is 0 have a colour of their own, and are said to be."""
    shape = (5, 3, 4)
    dims, status = ("pi_best", "eps", "gap"), np.zeros(shape, int)
    status[1, 1, 2] = 3
    time = np.where(status > 0, np.nan, np.linspace(1, 2, 60).reshape(shape))
    time[4] = -np.inf
    data = xr.Dataset(
        {"log_entanglement_time": (dims, time), "entanglement_status": (dims, status)},
        {name: np.geomspace(0.1, 0.5, n) for name, n in zip(dims, shape, strict=True)},
    )
    figure = draw_grid(data, dims, ("entanglement",), PARAMETERS)
    ax = figure.axes[0]
    assert [getattr(drawn, "hatches", [None]) for drawn in ax.collections] == [[None], ["xxxx"]]
    assert ax.get_title("left") == "eps = 0.224"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["at once"]
    assert ax.get_xscale() == "log"


def test_points_lengthen_the_first_axis():
    """To at least as many cells as were asked for."""
    axes, fixed = GridSweep(points=10**7).parameters()
    assert [len(values) for values in axes.values()] == [10**4, 10, 100]
    assert fixed == {"best_rate": 0.9, "low_rate": 0.1, "eps": 0.01}


def test_programs_are_kept_in_private(tmp_path, monkeypatch):
    """A folder that others may write is refused: what is in it gets executed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "qra_jax"
    (tmp_path / "qra_jax").mkdir(mode=0o755)
    with pytest.raises(ValueError, match="of your own, of mode 700"):
        qra.enable_compilation_cache(cache_folder())
