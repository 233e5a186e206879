"""Figures of maps, of data made by hand: what is drawn are the numbers, on the axes named."""

import numpy as np
import pytest
import xarray as xr

import qra_jax as qra
from experiments.maps.forecast.figure import draw_forecast
from experiments.maps.gap.figure import draw_gap
from experiments.maps.tokens.figure import draw_tokens
from qra_jax.commands._grid_figure import draw_grid
from qra_jax.plot import LN10

RNG = np.random.default_rng(9)


def column_ends(collection, x) -> np.ndarray:
    """The lower and upper ends of a shaded band at each x."""
    vertices = collection.get_paths()[0].vertices
    rows = [vertices[np.isclose(vertices[:, 0], at), 1] for at in x]
    return np.array([[row.min(), row.max()] for row in rows])


def assert_line(ax, label, x, y) -> None:
    (line,) = (line for line in ax.lines if line.get_label() == label)
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), y)


def mesh_of(ax) -> np.ndarray:
    return np.ma.filled(ax.collections[0].get_array(), np.nan)


def test_gap_figure():
    """Largest gap, root mean square spread and lost runs over step and group; one step's curves."""
    steps, groups, times = np.array([0.01, 0.1, 1.0]), np.array([2, 8, 32]), np.arange(5.0)
    shape = len(steps), len(groups)
    data = xr.Dataset(
        {
            "mean_accuracy": (("step", "group", "time"), RNG.random((*shape, 5))),
            "spread": (("step", "group", "time"), RNG.random((*shape, 5))),
            "lost": (("step", "group"), RNG.random(shape)),
            "status": (("step", "group"), np.zeros(shape, int)),
            "step_accuracy": (("step", "time"), RNG.random((3, 5))),
            "flow_accuracy": (("time",), RNG.random(5)),
        },
        {"step": steps, "group": groups, "time": times},
    )
    mean, spread = data["mean_accuracy"].values, data["spread"].values
    gap, noise, lost, curves = draw_gap(data).axes[:4]
    expected = np.abs(mean - data["flow_accuracy"].values).max(axis=-1)
    for ax, values in (
        (gap, expected),
        (noise, np.sqrt(np.mean(spread**2, axis=-1))),
        (lost, data["lost"].values),
    ):
        np.testing.assert_allclose(mesh_of(ax), values.T)
        assert ax.get_xscale() == "log"
        assert (ax.get_xlabel(), ax.get_ylabel()) == (
            "step size $\\eta$ (1/reward)", "samples in a group, G",
        )  # fmt: skip
        assert [text.get_text() for text in ax.get_yticklabels()] == ["2", "8", "32"]
        (line,) = ax.lines  # along which the noise of a step is the same
        np.testing.assert_allclose(line.get_xdata() / 2 ** line.get_ydata(), 0.05)
    for index, group in enumerate((2, 8, 32)):
        assert_line(curves, f"groups of {group}", times, mean[1, index])
        ends = column_ends(curves.collections[index], times)
        np.testing.assert_allclose(ends[:, 0], mean[1, index] - spread[1, index])
        np.testing.assert_allclose(ends[:, 1], mean[1, index] + spread[1, index])
    assert_line(curves, "exact steps", times, data["step_accuracy"].values[1])
    assert_line(curves, "flow", times, data["flow_accuracy"].values)
    assert "step size 0.1" in curves.get_title("left")


def test_forecast_figure():
    """Three runs by the width of their bands, coverage over steps and by run, and widths."""
    steps, runs = np.arange(0, 60, 10), 10
    middle, half = RNG.random((runs, 6)), np.outer(np.arange(1.0, 11), np.linspace(0.01, 0.02, 6))
    truth = middle + 1.5 * half * RNG.uniform(-1, 1, (runs, 6))
    names = ("run", "step")
    data = xr.Dataset(
        {
            "low": (names, middle - half), "high": (names, middle + half),
            "median": (names, middle),
            "accuracy": (names, truth), "rollouts": ("run", np.arange(100, 110)),
            "rate": ("run", np.linspace(0.1, 1.0, runs)),
        },
        {"step": steps}, {"logged": 20},
    )  # fmt: skip
    *shown, coverage, by_run, widths = draw_forecast(data).axes
    for ax, run in zip(shown, (5, 8, 9), strict=True):
        (known,) = (text.get_text() for text in ax.texts)
        rate = float(data["rate"][run])
        assert known == f"{100 + run} rollouts,\nlearning rate {rate:.2g}"
        assert_line(ax, "median of the band", steps, middle[run])
        assert_line(ax, "run", steps, truth[run])
        (band,) = (c for c in ax.collections if c.get_label() == "90 % band")
        ends = column_ends(band, steps)
        np.testing.assert_allclose(ends, np.stack([middle - half, middle + half], -1)[run])
    inside = (truth >= middle - half) & (truth <= middle + half)
    assert 0.3 < inside.mean() < 0.95
    np.testing.assert_allclose(coverage.lines[-1].get_ydata(), inside.mean(axis=0))
    counts, _ = np.histogram(inside[:, steps > 20].mean(axis=1), bins=20, range=(0, 1))
    bars = [patch.get_height() for patch in by_run.patches]
    np.testing.assert_array_equal(bars, counts)
    quantiles = np.quantile(2 * half, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(widths.lines[0].get_ydata(), quantiles[1])
    np.testing.assert_allclose(column_ends(widths.collections[0], steps), quantiles[[0, 2]].T)


def test_tokens_figure(monkeypatch):
    """Means over chains and their middle half, in per cent where it says so; heat maps of the
    first chain."""
    times, positions = np.array([1.0, 10, 100]), np.arange(4)
    rewards, chains = ["RLVR", "RLIF"], 5
    names = ("reward", "chain", "time")
    data = xr.Dataset(
        {
            **{name: (names, RNG.random((2, chains, 3)))
               for name in ("accuracy", "ratio", "critical_share")},
            "change": ((*names, "position"), RNG.random((2, chains, 3, 4))),
            "entropy": ((*names, "position"), RNG.random((2, chains, 3, 4))),
        },
        {"reward": rewards, "time": times, "position": positions},
    )  # fmt: skip
    reported = {"20": {"RLVR": (1.0, 3.0), "RLIF": (4.0, 6.0)}}
    monkeypatch.setattr("experiments.maps.tokens.figure.REPORTED", reported)
    accuracy, share, ranks, known, entropy, places, *heat = draw_tokens(data).axes
    for ax, name, factor in (
        (accuracy, "accuracy", 1), (ranks, "ratio", 100), (share, "critical_share", 100)
    ):  # fmt: skip
        for index, reward in enumerate(rewards):
            values = factor * data[name].values[index]
            assert_line(ax, f"{reward}, mean", times, values.mean(axis=0))
            ends = column_ends(ax.collections[index], times)
            np.testing.assert_allclose(ends, np.quantile(values, [0.25, 0.75], axis=0).T)
        assert ax.get_xscale() == "log"
    spans = [tuple(line.get_ydata()) for line in known.lines]
    assert spans == [(1.0, 3.0), (4.0, 6.0)]
    assert known.get_shared_y_axes().joined(known, ranks)
    start = data["entropy"].values[:, :, 0].mean(axis=(0, 1))
    np.testing.assert_allclose([bar.get_height() for bar in entropy.patches], start)
    for index, reward in enumerate(rewards):
        ends = data["change"].values[index, :, -1].mean(axis=0)
        assert_line(places, reward, positions + 0.3 * (index - 0.5), ends)
        np.testing.assert_allclose(mesh_of(heat[2 * index]), data["change"].values[index, 0].T)


@pytest.mark.parametrize("failed", [False, True])
def test_grid_figure(failed):
    """A plane in the middle of the others, in powers of ten; failed cells are hatched."""
    shape = 4, 3, 5
    status = np.full(shape, qra.Status.EVENT)
    status[1, 1, 2] = qra.Status.FAILED if failed else qra.Status.EVENT
    times = RNG.normal(size=shape)
    data = xr.Dataset(
        {
            "log_entanglement_time": (("x", "z", "y"), times),
            "entanglement_status": (("x", "z", "y"), status),
        },
        {"x": [1e-3, 1e-2, 1e-1, 1.0], "z": [0.2, 0.3, 0.4], "y": np.arange(5.0)},
    )
    labels = {"x": "the first", "y": "the last"}
    ax = draw_grid(data, ("x", "z", "y"), ("entanglement",), labels).axes[0]
    np.testing.assert_allclose(mesh_of(ax), times[:, 1].T / LN10)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("the first", "the last")
    assert ax.get_xscale() == "log"
    assert ax.get_title("left") == "z = 0.3"
    assert (len(ax.collections) > 1) == failed
