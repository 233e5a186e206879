"""What a sweep computes, in which order, and what it says."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from qra_jax.sweep import Grid, StoreError, open_sweep, run_sweep
from tests._support import sweeping


def _double(point, key):
    return {"y": 2 * point["x"]}


def _times(factor):
    return lambda point, key: {"y": factor * point["x"]}


def _sweep(folder, function=_double, grid=Grid({"x": np.arange(1.0, 8.0)}), **options):
    return run_sweep(
        function, grid, folder, **{"width": 2, "cells_per_chunk": 3, "quiet": True, **options}
    )


def test_a_grid_is_the_product_of_its_axes():
    """In the order of `meshgrid(..., indexing="ij")`, piece by piece."""
    axes = {"a": np.linspace(0, 1, 4), "b": np.arange(3), "c": range(10, 2, -2)}
    grid = Grid(axes)
    assert (grid.shape, grid.size) == ((4, 3, 4), 48)
    full = np.meshgrid(*(np.asarray(x) for x in axes.values()), indexing="ij")
    pieces = [grid.points(start, min(start + 7, 48)) for start in range(0, 48, 7)]
    for name, values in zip(axes, full, strict=True):
        found = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_array_equal(found, values.ravel())


def test_a_grid_of_any_size():
    """10^16 points, of which two are made."""
    grid = Grid({"x": np.linspace(0, 1, 10**6), "draw": range(10**10)})
    found = grid.points(10**16 - 2, 10**16)
    np.testing.assert_array_equal(found["x"], [1.0, 1.0])
    np.testing.assert_array_equal(found["draw"], [10**10 - 2, 10**10 - 1])


@pytest.mark.parametrize(
    ("axes", "samples", "message"),
    [
        (None, None, "have axes or samples"),
        ({}, None, "have at least one name"),
        ({"a b": np.ones(2)}, None, "be identifiers, got 'a b'"),
        ({"a": np.ones((2, 2))}, None, r"a must have one dimension, got \(2, 2\)"),
        ({"a": range(0)}, None, "a must hold at least one value"),
        ({"a": np.array(["x"])}, None, "a must hold real numbers"),
        (None, {"a": np.ones(2), "b": np.ones(3)}, r"share one leading axis, got \[2, 3\]"),
        (None, {"a": np.float64(1)}, "a must have a leading axis"),
        (None, {"sample": np.ones(2)}, "not be that of their axis, got sample"),
    ],
)
def test_bad_grids(axes, samples, message):
    """Each with what was wrong."""
    with pytest.raises(ValueError, match=message):
        Grid(axes, samples=samples)


def test_what_a_sweep_computes(tmp_path):
    """What `vmap` does, cell by cell, with the key of the cell's index; labelled for xarray."""
    folder = tmp_path / "light"
    summary = sweeping.run_light(folder, retry=None)
    grid = sweeping.LIGHT_GRID
    index = jnp.arange(grid.size)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(index)
    expected = jax.jit(jax.vmap(sweeping.light))(grid.points(0, grid.size), keys)
    data = open_sweep(folder)
    for name, values in expected.items():
        found = data[name].values.reshape(values.shape)
        np.testing.assert_allclose(found, values, rtol=1e-13, atol=1e-13)
    assert data["value"].dims == grid.dims
    assert data["pair"].dims == (*grid.dims, "pair_0")
    np.testing.assert_array_equal(data["y"], grid.coordinates()["y"][1])
    number = int(np.sum(expected["status"] > 2))
    assert number > 100
    assert summary.failed == {"MAX_STEPS": number}
    assert (summary.retried, summary.complete) == (0, True)


def test_failed_cells_are_tried_again(tmp_path):
    """Replaced where that succeeds, kept as they were where it does not."""
    once, again = tmp_path / "once", tmp_path / "again"
    before = sweeping.run_light(once, retry=None)
    after = sweeping.run_light(again)
    first, second = open_sweep(once).load(), open_sweep(again).load()
    failed = first["status"].values > 2
    cured = failed & (first["value"].values <= 3)
    assert 0 < cured.sum() < failed.sum()
    np.testing.assert_array_equal(second["status"].values > 2, failed & ~cured)
    sign = np.where(cured, -1.0, 1.0)
    np.testing.assert_allclose(second["value"], sign * first["value"], rtol=1e-13)
    assert after.retried == failed.sum() == sum(before.failed.values())
    assert after.cured == cured.sum() == after.retried - sum(after.failed.values())


def test_a_nan_is_a_failure(tmp_path):
    """Where the function has no status of its own."""
    summary = _sweep(tmp_path, lambda point, key: {"y": jnp.log(point["x"] - 3)})
    assert summary.failed == {"FAILED": 2}
    np.testing.assert_array_equal(open_sweep(tmp_path)["status"], [5, 5, 0, 0, 0, 0, 0])


def test_samples(tmp_path):
    """Explicit points of any shape, kept beside the results."""
    samples = {"x": np.arange(5.0), "w": np.arange(10.0).reshape(5, 2)}
    function = lambda point, key: {"y": point["x"] + point["w"].sum()}  # noqa: E731
    _sweep(tmp_path, function, Grid(samples=samples))
    data = open_sweep(tmp_path)
    np.testing.assert_array_equal(data["y"], samples["x"] + samples["w"].sum(axis=1))
    assert data["w"].dims == ("sample", "w_0")
    np.testing.assert_array_equal(data["w"], samples["w"])


def test_an_index_past_32_bits(tmp_path):
    """Its key is one that no other cell has."""
    from qra_jax.sweep._cells import cell_key

    seed, low = jnp.uint32(3), jnp.uint32(17)
    keys = [cell_key(seed, low, jnp.uint32(high)) for high in (0, 1, 2)]
    assert jnp.array_equal(
        jax.random.key_data(keys[0]),
        jax.random.key_data(jax.random.fold_in(jax.random.key(3), 17)),
    )
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


def test_a_store_is_left_alone(tmp_path):
    """Unless it is to be continued or replaced; the message names both."""
    assert _sweep(tmp_path, resume=True).computed == 7  # nothing there yet: begins
    stored = sweeping.files(tmp_path)
    with pytest.raises(StoreError, match=r"--resume.*--overwrite"):
        _sweep(tmp_path)
    assert sweeping.files(tmp_path) == stored
    assert _sweep(tmp_path, resume=True).computed == 0
    assert _sweep(tmp_path, overwrite=True, seed=1).computed == 7


def test_overwrite_spares_other_files(tmp_path):
    """Whatever else is in the folder is the user's."""
    (tmp_path / "notes.txt").write_text("mine")
    _sweep(tmp_path)
    _sweep(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "width is 2 there and 3 now. overwrite"),
        ({"seed": 1}, "seed is 0 there and 1 now. overwrite"),
        ({"cells_per_chunk": 4}, "cells_per_chunk is 3 there and 4 now"),
        ({"grid": Grid({"x": np.arange(7.0)})}, "grid.x is"),
        ({"grid": Grid({"x": np.arange(1.0, 9.0)})}, "grid.x is"),
        ({"settings": {"beta": 1}}, "settings.beta is None there and 1 now"),
        ({"function": lambda point, key: {"y": 3 * point["x"]}}, "otherwise: mathematics is"),
        ({"function": _times(2.0 + 1e-15)}, "otherwise: mathematics is"),
        ({"retry": _double}, "otherwise: mathematics of retry is"),
        ({"cost": lambda points: -points["x"]}, "otherwise: order by cost is"),
    ],
)
def test_other_settings_are_refused(tmp_path, options, message):
    """With what differs."""
    _sweep(tmp_path, _times(2.0))
    stored = sweeping.files(tmp_path)
    with pytest.raises(StoreError, match=message):
        _sweep(tmp_path, **{"function": _times(2.0), "resume": True, **options})
    assert sweeping.files(tmp_path) == stored


def test_something_else_in_its_place(tmp_path):
    """A store that is not a sweep's."""
    xr.Dataset({"y": ("x", np.ones(3))}).to_zarr(tmp_path / "data.zarr", zarr_format=2)
    with pytest.raises(StoreError, match="is not a store of a sweep"):
        _sweep(tmp_path, resume=True)
    with pytest.raises(StoreError, match="there is no sweep at"):
        open_sweep(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True, "overwrite": True}, "not be given together"),
        ({"seed": 2**32}, r"seed must be below 2\*\*32"),
        ({"width": 0}, "width must be at least 1"),
        ({"cells_per_chunk": 0}, "cells_per_chunk must be at least 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"devices": []}, "devices must hold at least one"),
        ({"function": lambda point, key: point["x"]}, "function must return a dictionary"),
        ({"function": lambda point, key: {"x": point["x"]}}, "differ from the grid's"),
        ({"cost": lambda points: 1.0}, "cost must have shape"),
        ({"settings": {"function": _double}}, "settings must be plain numbers"),
        ({"retry": lambda point, key: {"z": point["x"]}}, "retry must return what function does"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    """Each with what was wrong, before anything is written."""
    with pytest.raises(ValueError, match=message):
        _sweep(tmp_path, **options)
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_wait_for_the_chunk(tmp_path, number):
    """What is under way is written; another run continues with the rest."""
    asked = []

    def cost(points):
        asked.append(points)
        if len(asked) == 5:  # two for the store's identity
            os.kill(os.getpid(), number)
        return points["x"]

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        _sweep(tmp_path, cost=cost, cells_per_chunk=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert (stored["computed"], stored["complete"]) == (3, False)
    assert (open_sweep(tmp_path)["status"].values == -1).sum() == 4
    assert (
        _sweep(tmp_path, cost=lambda points: points["x"], cells_per_chunk=1, resume=True).kept == 3
    )


def test_progress(tmp_path, capsys):
    """A line where there is no terminal; nothing if that is wanted."""
    _sweep(tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    summary = _sweep(tmp_path / "loud", quiet=False)
    assert "sweep: 7 of 7 cells" in capsys.readouterr().err
    assert summary.peak_memory > 2**20
    assert "7 cells: 7 computed, 0 kept, 0 repaired" in str(summary)
