"""What people draw, of data made by hand: the numbers, and the axes they are on."""

import jax.numpy as jnp
import matplotlib.colors
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax import plot
from qra_jax.plot import LN10

RNG = np.random.default_rng(5)


@pytest.fixture
def ax():
    with plot.style():
        figure = Figure()
        yield figure.subplots()
        figure.draw_without_rendering()


def line_of(ax, label):
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return line


def path(number=6, names=("right", "bad"), questions=1) -> xr.Dataset:
    """A trajectory that begins at t = 0 and lasts to 1e600, which no float can hold."""
    shares = RNG.random((number, questions, len(names)))
    return xr.Dataset(
        {
            "log_time": ("time", np.append(-np.inf, np.linspace(0, 600 * LN10, number - 1))),
            "pattern_prob": (("time", "question", "pattern"), shares),
            "accuracy": ("time", RNG.random(number)),
        },
        {"pattern": list(names)},
    )


def test_trajectory(ax):
    """Shares and accuracy over decades without t = 0; marks that are times, with their labels."""
    data = path()
    marks = {"$T_0$": 100 * LN10, "never": np.inf, "at once": -np.inf, "none": np.nan}
    assert plot.trajectory(ax, data, marks) is ax
    for index, name in enumerate(("right", "bad")):
        line = line_of(ax, f"share of {name}")
        np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 600, 5))
        np.testing.assert_array_equal(line.get_ydata(), data["pattern_prob"][1:, 0, index])
    np.testing.assert_array_equal(line_of(ax, "accuracy V").get_ydata(), data["accuracy"][1:])
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == pytest.approx([100])
    assert [text.get_text() for text in ax.texts] == ["$T_0$"]
    assert ax.get_xlabel() == "time (1/reward)"
    assert len(ax.get_legend().get_texts()) == 3
    assert len({str(line.get_linestyle()) for line in ax.lines[:2]}) == 2


def test_trajectory_without_legend(ax):
    plot.trajectory(ax, path().isel(question=0), unit="1/nat", legend=False)
    assert (ax.get_legend(), ax.get_xlabel()) == (None, "time (1/nat)")


def test_several_questions_are_refused(ax):
    with pytest.raises(ValueError, match="data must be of one question"):
        plot.trajectory(ax, path(questions=2))


def labels_of(axis, low, high) -> list[str]:
    """What an axis in decades says between two of them."""
    ax = Figure().subplots()
    ax.set(**{f"{axis}lim": (low, high)})
    one = getattr(ax, f"{axis}axis")
    plot.decades(one)
    ax.figure.draw_without_rendering()
    ticks = [*one.get_major_ticks(), *one.get_minor_ticks()]
    inside = [tick for tick in ticks if low <= tick.get_loc() <= high]
    texts = [tick.label1.get_text() for tick in sorted(inside, key=lambda tick: tick.get_loc())]
    return [text for text in texts if text]


def test_decades():
    """Powers of ten over a wide range, numbers within a decade, on either axis."""
    assert labels_of("x", -2.2, 2.2) == [f"$10^{{{x}}}$" for x in (-2, -1, 0, 1, 2)]
    assert labels_of("y", 0, 600)[:2] == ["$10^{0}$", "$10^{200}$"]
    assert labels_of("x", -0.75, 0.4) == ["0.2", "0.5", "1", "2"]
    assert labels_of("y", 2.5, 3.4) == ["500", "1000", "2000"]


def test_comparison(ax):
    """Each path by its name, with a line of its own, and a dot at its mark."""
    paths = {"one": path(), "two": path()}
    assert plot.comparison(ax, paths, {"two": 75 * LN10}) is ax
    for name, data in paths.items():
        np.testing.assert_array_equal(line_of(ax, name).get_ydata(), data["accuracy"][1:])
    assert len({str(line_of(ax, name).get_linestyle()) for name in paths}) == 2
    (dot,) = (line for line in ax.lines if line.get_marker() == "o")
    between = (paths["two"]["accuracy"][1] + paths["two"]["accuracy"][2]) / 2
    np.testing.assert_allclose(dot.get_xydata(), [[75, float(between)]])
    assert ax.get_ylabel() == "accuracy"
    with pytest.raises(ValueError, match="quantity must have one value a time"):
        plot.comparison(ax, paths, quantity="pattern_prob")


def test_seed_band(ax):
    """Median and quantiles over seeds, whichever axis they are on; lost runs are left out."""
    runs = RNG.random((7, 5))
    runs[2, 3:] = np.nan
    data = xr.DataArray(runs.T, [("step", np.arange(0, 50, 10)), ("seed", np.arange(7))],
                        name="accuracy")  # fmt: skip
    assert plot.seed_band(ax, data, label="RLOO", share=0.5, index=1) is ax
    low, middle, high = np.nanquantile(runs, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(line_of(ax, "RLOO").get_ydata(), middle)
    vertices = ax.collections[0].get_paths()[0].vertices
    for at, ends in zip(np.arange(0, 50, 10), zip(low, high, strict=True), strict=True):
        here = vertices[vertices[:, 0] == at, 1]
        assert (here.min(), here.max()) == pytest.approx(ends)
    assert ax.collections[0].get_label() == "50 % of 7 runs"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "accuracy")
    with pytest.raises(ValueError, match="runs must be over seed and x"):
        plot.seed_band(ax, data.rename(seed="run"), label="")
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        plot.seed_band(ax, data, label="", share=1.0)


def test_regime_map(ax):
    """Times in decades, 0 below the scale, no policy left out, failures hatched; in the legend."""
    times = np.array([[-np.inf, 1.0, 2.0], [np.nan, np.nan, 500 * LN10]])
    data = xr.DataArray(times, [("b", [0.1, 0.2]), ("a", [1e-3, 1e-2, 1e-1])])
    status = xr.full_like(data, 0, int)
    status[1, 0] = qra.Status.FAILED
    assert plot.regime_map(ax, data, status, at_once="at once") is ax
    shown = np.ma.filled(ax.collections[0].get_array(), np.nan)
    finite = np.isfinite(times)
    np.testing.assert_allclose(shown[finite], times[finite] / LN10)
    assert shown[0, 0] < 1 / LN10
    assert np.isnan(shown[1, 1])
    assert ax.collections[0].norm.vmax == pytest.approx(500)
    under = ax.collections[0].cmap.get_under()
    assert matplotlib.colors.to_hex(under) == plot.AT_ONCE.lower()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "at once", "no such policy",
    ]  # fmt: skip
    assert len(ax.collections) == 2  # the hatching of the failed cell
    data[1, 1] = 4.0  # what failed is not said to be no policy
    plot.regime_map(ax, data, status)
    assert len(ax.get_legend().get_texts()) == 1
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "a", "b")


def branch() -> qra.dynamics.Branch:
    """Two stable rows, then two unstable ones after a fold; one row is not valid."""
    kinds = qra.dynamics.Stability
    return qra.dynamics.Branch(
        value=jnp.array([0.1, 0.3, 0.2, 0.1, 0.1]),
        pattern_probs=jnp.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.3, 0.7], [0.3, 0.7]]),
        eigenvalues=jnp.zeros((5, 1), complex),
        kind=jnp.array([kinds.SINK, kinds.SINK, kinds.SADDLE, kinds.SADDLE, kinds.SADDLE]),
        valid=jnp.array([True, True, True, True, False]),
        special=jnp.array([qra.dynamics.Special.FOLD, -1]),
        special_value=jnp.array([0.31, jnp.nan]),
        special_probs=jnp.array([[0.5, 0.5], [jnp.nan, jnp.nan]]),
        located=jnp.array([True, False]),
        num_special=jnp.array(1),
        status=jnp.array(qra.Status.COMPLETED),
    )


def test_branch_as_a_dataset():
    """By name, without the rows that are none."""
    data = branch().to_dataset(["right", "bad"])
    right = data.sel(pattern="right")
    np.testing.assert_array_equal(right["pattern_prob"], [0.9, 0.6, 0.4, 0.3, np.nan])
    np.testing.assert_array_equal(data["value"], [0.1, 0.3, 0.2, 0.1, np.nan])
    assert data["kind"].values[-1] == -1
    np.testing.assert_array_equal(right["special_pattern_prob"], [0.5, np.nan])
    np.testing.assert_array_equal(data["special_value"], [0.31, np.nan])
    assert list(branch().to_dataset()["pattern"].values) == [0, 1]
    assert data.attrs["status"] == "COMPLETED"
    with pytest.raises(ValueError, match="patterns must hold 2 names"):
        branch().to_dataset(["right"])


def test_branch_diagram(ax):
    """The stable part solid, the unstable one dashed and joined to it; the fold as a disc."""
    data = branch().to_dataset(["right", "bad"]).sel(pattern="bad")
    assert plot.branch_diagram(ax, data, label="bad") is ax
    stable, unstable, fold, none = ax.lines
    assert (stable.get_label(), stable.get_linestyle()) == ("bad", "-")
    np.testing.assert_array_equal(stable.get_ydata()[:3], [0.1, 0.4, np.nan])
    np.testing.assert_array_equal(unstable.get_ydata()[1:4], [0.4, 0.6, 0.7])
    assert unstable.get_linestyle() == "--"
    np.testing.assert_allclose(fold.get_xydata(), [[0.31, 0.5]])
    assert (fold.get_marker(), len(none.get_xdata())) == ("o", 0)
    words = [entry.get_label() for entry in plot.branch_legend(data["special"].values)]
    assert words == ["stable", "unstable", "fold"]
    with pytest.raises(ValueError, match="quantity must have one value a row"):
        plot.branch_diagram(ax, branch().to_dataset())


def test_looks_differ_in_grey():
    """Six lines have six styles, then they begin again."""
    assert len({str(plot.look(index)["ls"]) for index in range(6)}) == 6
    assert plot.look(7) == plot.look(1)
