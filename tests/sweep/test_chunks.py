"""Chunks of one width."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qra_jax.sweep import Chunked, map_chunks


def test_chunks_give_what_vmap_does():
    """Whatever their order by cost, the workers and the devices; progress adds up."""
    inputs = {"x": np.arange(11.0), "y": np.arange(22.0).reshape(11, 2)}
    done = []
    for workers, cost, devices in ((1, None, None), (3, -inputs["x"], jax.devices())):
        found = map_chunks(
            lambda one: (one["x"] * 2, one["y"] + 1),
            inputs,
            width=4,
            cost=cost,
            devices=devices,
            workers=workers,
            progress=done.append,
        )
        np.testing.assert_array_equal(found[0], 2 * inputs["x"])
        np.testing.assert_array_equal(found[1], inputs["y"] + 1)
    assert sum(done) == 22


def test_chunks_are_of_one_width_and_of_like_cost():
    """The order in which a batch holds them, the filling of the last one, and what is said when."""
    together, done = [], []

    def note(x):
        together.append(x.tolist())
        return x

    def function(x):
        spec = jax.ShapeDtypeStruct((), float)
        return jax.pure_callback(note, spec, x, vmap_method="expand_dims") * 2

    inputs, cost = np.arange(7.0), np.array([3, 1, 2, 0, 6, 5, 4])
    for options in ({"width": 3, "cost": cost}, {"width": 4}):
        found = map_chunks(function, inputs, workers=1, progress=done.append, **options)
        np.testing.assert_array_equal(found, 2 * inputs)
    assert together[:3] == [[3, 1, 2], [0, 6, 5], [4, 4, 4]]
    assert together[3:] == [[0, 1, 2, 3], [4, 5, 6, 6]]
    assert done == [3, 3, 1, 4, 3]


def test_chunked_compiles_once_for_threads_that_share_it():
    """One trace for any number of inputs of one shape, another one for other shapes."""
    traced = []

    def double(x):
        traced.append(x)
        return 2 * x

    shared = Chunked(double, width=4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared, [np.arange(number) for number in (1, 4, 9, 30)]))
    assert [len(one) for one in found] == [1, 4, 9, 30]
    np.testing.assert_array_equal(found[-1], 2 * np.arange(30))
    assert len(traced) == 1
    np.testing.assert_array_equal(shared(np.ones((5, 3))), np.full((5, 3), 2.0))
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (np.arange(3), {"width": 0}, "width must be at least 1"),
        (np.arange(3), {"workers": 0}, "workers must be at least 1"),
        (np.arange(3), {"devices": []}, "devices must hold at least one"),
        ((np.arange(3), np.arange(4)), {}, "share one leading axis"),
        (np.arange(0), {}, "hold at least one entry"),
    ],
)
def test_bad_chunks(inputs, options, message):
    """Each with what was wrong."""
    with pytest.raises(ValueError, match=message):
        map_chunks(jnp.negative, inputs, **options)
