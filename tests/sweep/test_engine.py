"""What a sweep computes, in which order, and what it says."""

import json
import math
import os
import signal
import threading

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from qra_jax.sweep import Grid, StoreError, SweepSummary, _engine, _report, open_sweep, run_sweep
from qra_jax.sweep._chunks import Crew
from qra_jax.sweep._store import Blocks
from qra_jax.sweep._team import Team
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
    lines = grid.describe()
    for name, values in axes.items():
        # A line for each, which tells its values from any others.
        other = Grid({**axes, name: np.asarray(values) + 1}).describe()
        assert {key for key in lines if lines[key] != other[key]} == {name}
    assert grid.names == grid.dims == ("a", "b", "c")
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


@pytest.mark.parametrize("seed", [3, 2**32 - 1])
def test_seeds(tmp_path, seed):
    """Each cell draws with `fold_in(key(seed), index)`: other seeds, other draws."""

    def draw(point, key):
        return {"y": point["x"] + jax.random.normal(key)}

    _sweep(tmp_path, draw, seed=seed)
    keys = [jax.random.fold_in(jax.random.key(seed), index) for index in range(7)]
    expected = [x + float(jax.random.normal(key)) for x, key in enumerate(keys, 1)]
    found = open_sweep(tmp_path)["y"].values
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    with pytest.raises(StoreError, match=f"seed is {seed} there and 0 now"):
        _sweep(tmp_path, draw, resume=True)
    np.testing.assert_array_equal(open_sweep(tmp_path)["y"].values, found)


# Two status outputs, the second of two solves: whatever the order, the worst one counts.
_CODES = np.array([[0, 1, 2], [5, 0, 1], [0, 4, 0], [0, 0, 3], [3, 0, 5], [2, 2, 2], [6, 4, 0]])
_OUTPUTS = {"first_status": np.s_[0], "status": np.s_[1:]}


def _two_statuses(outputs, codes):
    def function(point, key):
        row = jnp.asarray(codes)[point["x"].astype(int) - 1]
        return {"y": point["x"], **{name: row[outputs[name]] for name in outputs}}

    return function


@pytest.mark.parametrize("names", [("first_status", "status"), ("status", "first_status")])
def test_the_worst_status_counts(tmp_path, names):
    """Of several outputs and of all their entries: in the summary, and in what is tried again."""
    outputs = {name: _OUTPUTS[name] for name in names}
    function = _two_statuses(outputs, _CODES)
    summary = _sweep(tmp_path / "once", function)
    counted = {"FAILED": 2, "OVERFLOW": 1, "MAX_STEPS": 1, "INVALID_INPUT": 1}
    assert summary.failed == counted
    data = open_sweep(tmp_path / "once")
    np.testing.assert_array_equal(data["first_status"], _CODES[:, 0])
    np.testing.assert_array_equal(data["status"], _CODES[:, 1:])
    # Counted again from the store, by a run that computes nothing.
    kept = _sweep(tmp_path / "once", function, resume=True)
    assert (kept.computed, kept.failed) == (0, counted)

    again = np.array([[9] * 3, [0, 0, 2], [4, 0, 0], [0, 0, 4], [1, 2, 1], [9] * 3, [0, 6, 0]])
    retry = _two_statuses(outputs, again)
    summary = _sweep(tmp_path / "again", function, retry=lambda p, k: {**retry(p, k), "y": 10.0})
    assert (summary.retried, summary.cured) == (5, 2)
    assert summary.failed == {"OVERFLOW": 1, "MAX_STEPS": 1, "INVALID_INPUT": 1}
    data = open_sweep(tmp_path / "again")
    cured = np.array([False, True, False, False, True, False, False])
    np.testing.assert_array_equal(data["y"], np.where(cured, 10.0, np.arange(1.0, 8.0)))
    found = np.column_stack([data["first_status"], data["status"]])
    np.testing.assert_array_equal(found, np.where(cured[:, None], again, _CODES))


def test_a_status_of_its_own_counts_alone(tmp_path):
    """A NaN is no failure where the function says how it ended; a code of none is said as it is."""

    def function(point, key):
        return {"y": jnp.log(point["x"] - 3), "status": jnp.where(point["x"] > 5, 77, 1)}

    assert _sweep(tmp_path, function).failed == {"status 77": 2}


def test_points_of_like_cost_are_solved_together(tmp_path):
    """Within a chunk of the store, batches of the width; every cell keeps its own result."""
    together = []

    def note(x):
        together.append(x.tolist())
        return x

    def function(point, key):
        spec = jax.ShapeDtypeStruct((), float)
        return {"y": jax.pure_callback(note, spec, point["x"], vmap_method="expand_dims")}

    cost = lambda points: np.abs(points["x"] - 2.1)  # noqa: E731
    _sweep(tmp_path, function, width=3, cells_per_chunk=4, cost=cost, workers=1)
    # The last batch of a chunk is filled up with its last point.
    assert together == [[2.0, 3.0, 1.0], [4.0] * 3, [5.0, 6.0, 7.0]]
    data = open_sweep(tmp_path)
    np.testing.assert_array_equal(data["y"], np.arange(1.0, 8.0))
    assert sorted(path.name for path in (tmp_path / "data.zarr/y").glob("c.*")) == ["c.0", "c.1"]


def test_devices_and_workers_are_those_given(tmp_path, monkeypatch):
    """As many batches under way on each device as was asked for."""
    crews = []

    class Noted(Crew):
        def __init__(self, devices, workers):
            crews.append((devices, workers))
            super().__init__(devices, workers)

    monkeypatch.setattr(_engine, "Crew", Noted)
    two = jax.devices()[:1] * 2
    assert _sweep(tmp_path, devices=two, workers=3).devices == 2
    assert _sweep(tmp_path, resume=True).devices == jax.local_device_count()
    assert crews == [(two, 3), (jax.local_devices(), 2)]


def test_a_crew_runs_on_all_its_devices():
    """So many at a time on each, no fewer: they wait for each other."""
    meet = threading.Barrier(6)

    def run(device, number):
        meet.wait(60)
        return device, number

    with Crew(["one", "two", "three"], 2) as crew:
        futures = [crew.submit(run, number) for number in range(6)]
        found = [future.result() for future in futures]
    assert sorted(device for device, _ in found) == sorted(["one", "two", "three"] * 2)
    assert [number for _, number in found] == list(range(6))


@hypothesis.given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), st.integers(1, 60)
)
def test_blocks_cut_a_grid(shape, cells):
    """Into boxes of at most so many cells that follow each other: each cell is in one, once."""
    index = np.arange(math.prod(shape)).reshape(shape)
    blocks = Blocks(shape, cells)
    stop = 0
    for number, block in enumerate(blocks):
        assert (block.number, block.start) == (number, stop)
        stop = block.stop
        np.testing.assert_array_equal(index[block.slices].ravel(), np.arange(block.start, stop))
        assert 0 < stop - block.start <= cells
    assert (stop, len(blocks)) == (index.size, number + 1)
    # Not more of them than needed: no two neighbours along an axis fit into one.
    assert len(blocks) == 1 or 2 * math.prod(blocks.box) > cells


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


def test_what_was_cut_short_is_removed(tmp_path):
    """Stores half made or half removed, and files half written, by the next run."""
    _sweep(tmp_path)
    left = [tmp_path / ".data-x", tmp_path / ".old-x"]
    for folder in left:
        (folder / "data.zarr").mkdir(parents=True)
    left.append(tmp_path / "data.zarr/y/c.partial")
    left[-1].write_text("half")
    assert _sweep(tmp_path, resume=True).computed == 0
    assert not any(path.exists() for path in left)


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
def test_interrupts_wait_for_the_chunk(tmp_path, number, monkeypatch):
    """What is under way is written, other processes are told to stop; another run continues with
    the rest, and tells nobody."""
    asked, told = [], []
    monkeypatch.setattr(Team, "tell", lambda self, what: told.append(what))

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
    assert told == ["stop"]
    data = open_sweep(tmp_path)
    np.testing.assert_array_equal(data["status"], [0] * 3 + [-1] * 4)
    np.testing.assert_array_equal(data["y"], [2.0, 4.0, 6.0] + [np.nan] * 4)
    assert (
        _sweep(tmp_path, cost=lambda points: points["x"], cells_per_chunk=1, resume=True).kept == 3
    )
    assert told == ["stop"]


def test_progress(tmp_path, capsys):
    """A line where there is no terminal; nothing if that is wanted."""
    _sweep(tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    summary = _sweep(tmp_path / "loud", quiet=False)
    assert "sweep: 7 of 7 cells" in capsys.readouterr().err
    assert summary.peak_memory > 2**20
    assert "7 cells: 7 computed, 0 kept, 0 repaired" in str(summary)


def test_lines_of_progress(monkeypatch, capsys):
    """Every ten seconds, with the rate since the first result; cells of earlier runs count in
    none."""
    times = iter([0.0, 20.0, 25.0, 31.0])
    monkeypatch.setattr(_report.time, "monotonic", lambda: next(times))
    bar = _report.Bar(1000, 100, False, "sweep")
    for number in (50, 30, 80):  # the first holds the compilation, the second comes too soon
        bar.update(number)
    bar.close()
    said = capsys.readouterr().err.splitlines()
    assert said == ["sweep: 260 of 1000 cells, 10 a second, 74 s left", "sweep: 260 of 1000 cells"]


def test_a_summary_of_several_processes(tmp_path):
    """Numbers add up, seconds are those of the longest, and all of it is said."""
    parts = [
        {
            "failed": {"FAILED": 2, "OVERFLOW": 1},
            **{"computed": 20, "kept": 7, "repaired": 3, "retried": 5, "cured": 4},
            **{"devices": 2, "peak_memory": 2**20, "cells_per_second": 1.5},
            **{"seconds": 9.0, "seconds_to_first": 1.0},
        },
        {
            "failed": {"FAILED": 1},
            **{"computed": 10, "kept": 1, "repaired": 0, "retried": 2, "cured": 1},
            **{"devices": 1, "peak_memory": 2**21, "cells_per_second": 2.0},
            **{"seconds": 8.0, "seconds_to_first": 2.5},
        },
    ]
    found = _report.total(parts, 38)
    assert found == {
        "failed": {"FAILED": 3, "OVERFLOW": 1},
        **{"cells": 38, "computed": 30, "kept": 8, "repaired": 3, "retried": 7, "cured": 5},
        **{"devices": 3, "peak_memory": 3 * 2**20, "cells_per_second": 3.5, "processes": 2},
        **{"seconds": 9.0, "seconds_to_first": 2.5, "complete": True},
    }
    assert not _report.total(parts, 39)["complete"]
    assert str(SweepSummary(tmp_path, **{**found, "complete": False})).splitlines() == [
        "38 cells: 30 computed, 8 kept, 3 repaired; not complete",
        "failed cells: 4 (3 x FAILED, 1 x OVERFLOW); 7 retried, 5 of them cured",
        "9.0 s, 2.5 s of it before the first result, then 3.5 cells a second",
        "devices: 3, processes: 2, peak memory: 3 MiB",
    ]
