"""Adaptive refinement of maps against known boundaries and against the full grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

import qra_jax as qra
from qra_jax.sweep import Refined, map_chunks, refine

SQUARE = {"x": (-1.0, 1.0), "y": (-1.5, 1.5)}
FINE = {"x": 2 / 256, "y": 3 / 256}


def inside_circle(at):
    return at["x"] ** 2 + at["y"] ** 2 < 0.5


def circle_height(at):
    return 0.5 - at["x"] ** 2 - at["y"] ** 2


def three_parts(at):
    """Three labels that meet at (0.1, 0.2)."""
    angle = jnp.arctan2(at["y"] - 0.2, at["x"] - 0.1)
    return jnp.floor((angle + jnp.pi) / (2 * jnp.pi / 3)).astype(int).clip(0, 2)


@functools.cache
def circle() -> Refined:
    return refine(inside_circle, SQUARE, tolerance=FINE, coarse=8)


def full_grid(found: Refined, function) -> np.ndarray:
    """Labels on the finest grid, `(X, Y)`."""
    numbers = np.round((found.upper.max(axis=0) - found.lower.min(axis=0)) / found.spacing)
    x, y = (
        low + step * np.arange(int(number) + 1)
        for low, step, number in zip(found.lower.min(axis=0), found.spacing, numbers, strict=True)
    )
    grid = np.meshgrid(x, y, indexing="ij")
    at = dict(zip(found.names, (axis.ravel() for axis in grid), strict=True))
    return np.asarray(map_chunks(function, at, width=4096)).reshape(len(x), len(y))


def crossed_cells(found: Refined) -> set[tuple[int, ...]]:
    lower = (found.lower - found.lower.min(axis=0)) / found.spacing
    return set(map(tuple, np.round(lower[found.crossed]).astype(int)))


def crossed_in(labels: np.ndarray) -> set[tuple[int, ...]]:
    corners = np.stack([labels[:-1, :-1], labels[1:, :-1], labels[:-1, 1:], labels[1:, 1:]])
    return set(map(tuple, np.argwhere(np.any(corners != corners[:1], axis=0))))


def test_circle():
    """The same crossed cells as on the full grid, for a tenth of its solves or less; area and
    length to the tolerance, and no segment further from the circle than it."""
    found = circle()
    np.testing.assert_allclose(found.spacing, list(FINE.values()), rtol=1e-12)
    assert found.num_full == 257**2
    assert found.saved == found.num_full / found.num_solves
    assert found.saved > 20
    assert crossed_cells(found) == crossed_in(full_grid(found, inside_circle))
    assert found.volume(1) == pytest.approx(np.pi / 2, rel=2e-3)
    assert found.volume(0) + found.volume(1) == pytest.approx(6, rel=1e-12)
    radii = np.linalg.norm(found.boundary(), axis=-1)
    assert np.abs(radii - 0.5**0.5).max() < max(FINE.values())


def test_level_of_a_number():
    """A sign is the label, and interpolation puts the boundary where it is: errors of second
    order."""
    found = refine(circle_height, SQUARE, tolerance=FINE, coarse=8)
    np.testing.assert_array_equal(found.points, circle().points)
    np.testing.assert_array_equal(found.labels, circle().labels)
    segments = found.boundary()
    assert np.abs(np.linalg.norm(segments, axis=-1) - 0.5**0.5).max() < 1e-4
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum()
    assert length == pytest.approx(2 * np.pi * 0.5**0.5, rel=1e-4)


def test_three_labels_meet():
    """As on the full grid, and the segments join where the labels meet."""
    found = refine(three_parts, SQUARE, tolerance=FINE, coarse=8)
    assert set(found.labels) == {0, 1, 2}
    assert crossed_cells(found) == crossed_in(full_grid(found, three_parts))
    segments = found.boundary()
    ends, counts = np.unique(np.round(segments.reshape(-1, 2), 9), axis=0, return_counts=True)
    meeting = ends[counts == 3]
    assert len(meeting) == 1
    assert np.all(np.abs(meeting[0] - [0.1, 0.2]) <= found.spacing)
    # Elsewhere each segment goes on in another, but for the sides of the map.
    loose = ends[counts == 1]
    assert np.all(np.any(np.isclose(np.abs(loose), [1.0, 1.5]), axis=1))


def test_cells_cover_the_map():
    """Without overlap; corners of what is not crossed agree; crossed cells are of finest size."""
    found = circle()
    sizes = found.upper - found.lower
    assert np.prod(sizes, axis=1).sum() == pytest.approx(6, rel=1e-12)
    crossed = sizes[found.crossed]
    np.testing.assert_allclose(crossed, np.broadcast_to(found.spacing, crossed.shape), rtol=1e-9)
    # No point lies strictly within a cell, and none on the side of a coarse one differs from it.
    coarse = np.flatnonzero(sizes[:, 0] > 1.5 * found.spacing[0])
    tiny = found.spacing * 1e-6
    for cell in coarse[::7]:
        low, high = found.lower[cell], found.upper[cell]
        within = np.all((found.points > low + tiny) & (found.points < high - tiny), axis=1)
        on = np.all((found.points > low - tiny) & (found.points < high + tiny), axis=1)
        assert not within.any()
        assert np.all(found.labels[on] == found.cell_labels[cell])


def test_chunks_do_not_matter():
    """Another width, another number of workers: the same map."""
    done = []
    found = refine(
        inside_circle, SQUARE, tolerance=FINE, coarse=8, width=7, workers=1, progress=done.append
    )
    for name in ("points", "labels", "lower", "upper", "crossed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(circle(), name))
    assert sum(done) == found.num_solves


def test_axes_of_their_own_cells_and_tolerance():
    """The axis that needs most levels sets them for all, and no cell is finer than that; the first
    round is the coarse grid, in batches of the width."""
    rounds = []

    def note(x):
        rounds.append(x.shape)
        return x

    def function(at):
        spec = jax.ShapeDtypeStruct((), float)
        x = jax.pure_callback(note, spec, at["x"], vmap_method="expand_dims")
        return x + 2 * at["y"] - 0.73

    axes = {"x": (-1.0, 2.0), "y": (0.0, 10.0)}
    found = refine(
        function, axes, tolerance={"y": 2.0, "x": 0.13}, coarse={"y": 2, "x": 3}, width=5
    )
    # 3/3 = 1 to 0.13 takes three halvings, 10/2 = 5 to 2 takes two.
    assert found.names == ("x", "y")
    np.testing.assert_allclose(found.spacing, [1 / 8, 5 / 8], rtol=1e-14)
    assert found.num_full == 25 * 17
    assert set(rounds) == {(5,)}
    x, y = found.points.T
    np.testing.assert_allclose(found.values, x + 2 * y - 0.73, rtol=1e-13)
    np.testing.assert_array_equal(found.labels, found.values > 0)
    whole = np.round(found.points * [8, 8 / 5], 6)
    assert np.array_equal(whole, whole.astype(int))
    coarse = np.all(whole % 8 == 0, axis=1)
    assert coarse.sum() == 4 * 3
    # Tolerances that are met from the start leave the coarse grid, 16 cells a side if not given.
    found = refine(lambda at: at["x"] > 0.3, {"x": (0.0, 1.0)}, tolerance={"x": 1 / 16})
    assert (found.num_solves, found.num_full) == (17, 17)
    np.testing.assert_allclose(found.lower[found.crossed], 0.25)
    assert found.volume(1) == pytest.approx(11.5 / 16, rel=1e-12)


def test_solves_that_fail_have_a_label_of_their_own():
    """NaN is -1, 0 is not above 0; what is finite at one end only is cut in the middle."""

    def function(at):
        return jnp.where(at["x"] > 0.6, jnp.nan, jnp.maximum(at["x"] - 0.25, 0) + 0 * at["y"])

    unit = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    found = refine(function, unit, tolerance=dict.fromkeys(unit, 1 / 8), coarse=8)
    x = found.points[:, 0]
    np.testing.assert_array_equal(found.labels, np.where(x > 0.6, -1, x > 0.25))
    assert found.volume(-1) == pytest.approx(7 / 16, rel=1e-12)
    # From 0 at x = 1/4 interpolation ends there.
    np.testing.assert_allclose(np.unique(found.boundary()[..., 0]), [1 / 4, 9 / 16], rtol=1e-12)


def test_a_boundary_that_enters_by_one_side():
    """A tongue that ends within coarse cells is followed to its end, since it comes from cells
    that are fine; an island narrower than the coarse grid that touches no point is missed."""

    def tongue(at):
        return (at["x"] < 0.55) & (jnp.abs(at["y"] - 0.0301) < 0.01 * (0.6 - at["x"]))

    found = refine(tongue, {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, coarse={"x": 5, "y": 2},
                   tolerance={"x": 0.01, "y": 0.01})  # fmt: skip
    assert found.points[found.labels == 1].size == 0  # thinner than the coarse grid: missed

    def seen(at):
        return tongue(at) | (at["x"] + at["y"] < -0.9123)

    found = refine(seen, {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, coarse={"x": 5, "y": 2},
                   tolerance={"x": 0.01, "y": 0.01})  # fmt: skip
    assert crossed_cells(found) == crossed_in(full_grid(found, seen))


def test_one_and_three_axes():
    """A point on a line, and a ball."""
    line = refine(lambda at: at["x"] > 0.3, {"x": (0.0, 1.0)}, tolerance={"x": 1e-6}, coarse=4)
    ((low, high),) = np.concatenate([line.lower, line.upper], axis=1)[line.crossed]
    assert low <= 0.3 <= high <= low + 1e-6
    assert line.num_solves < 40
    axes = dict.fromkeys("xyz", (-1.0, 1.0))
    ball = refine(
        lambda at: at["x"] ** 2 + at["y"] ** 2 + at["z"] ** 2 < 0.64,
        axes,
        tolerance=dict.fromkeys(axes, 2 / 64),
        coarse=8,
        width=1024,
    )
    assert ball.volume(1) == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=1e-2)
    assert ball.saved > 3


def test_map_of_regimes():
    """ENTANGLED and STRONG part at V = p(r'): the known line to the tolerance, the same cells as on
    the full grid, at a twentieth of its solves."""
    rates = np.array([0.9, 0.7, 0.1])

    def regime(at):
        best = 10 ** at["log10_best"]
        rest = 1 - best - at["misleading"]
        inside = rest > 1e-9
        rest = jnp.where(inside, rest, 1 - best)
        probs = jnp.stack([best, jnp.where(inside, at["misleading"], 0), rest])
        return jnp.where(inside, qra.regime(*qra.two_stage(probs, rates))[0], -1)

    axes = {"log10_best": (-6.0, np.log10(0.9)), "misleading": (0.01, 0.99)}
    tolerance = {name: (high - low) / 256 for name, (low, high) in axes.items()}
    found = refine(regime, axes, tolerance=tolerance, width=256)
    assert found.saved > 20
    labels = full_grid(found, regime)
    assert crossed_cells(found) == crossed_in(labels)

    # V = p(r') is a line in the probabilities; beside it on both sides are the two regimes.
    cells = found.crossed & np.isin(found.cell_labels, [qra.Regime.STRONG, qra.Regime.ENTANGLED])
    corners = found.labels[found._corners[cells]]
    parted = np.all(np.isin(corners, [qra.Regime.STRONG, qra.Regime.ENTANGLED]), axis=1)
    low, high = found.lower[cells][parted], found.upper[cells][parted]
    assert len(low) > 100

    def line(log10_best):
        return 1 - 10**log10_best * (rates[0] - rates[2]) / (rates[1] - rates[2])

    assert np.all(line(high[:, 0]) <= high[:, 1] + 1e-12)
    assert np.all(line(low[:, 0]) >= low[:, 1] - 1e-12)


def test_points_are_known_once():
    """No point is solved twice."""
    tree = cKDTree(circle().points)
    assert len(tree.query_pairs(min(FINE.values()) / 2)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {}}, "axes must name at least one axis"),
        ({"axes": {"x": (1.0, 1.0)}}, r"axes\['x'\] must be finite and rise"),
        ({"axes": {"x": (0.0, np.inf)}}, r"axes\['x'\] must be finite and rise"),
        ({"tolerance": {"y": 0.1}}, "tolerance must name the axes"),
        ({"tolerance": {"x": 0.0}}, r"tolerance\['x'\] must be above 0"),
        ({"tolerance": {"x": 1e-30}}, "tolerance must leave fewer than"),
        ({"coarse": 0}, r"coarse\['x'\] must be at least 1"),
        ({"coarse": {"z": 3}}, "coarse must name the axes"),
        ({"width": 0}, "width must be at least 1"),
        ({"function": lambda at: jnp.ones(2) * at["x"]}, "function must return one number a point"),
    ],
)
def test_bad_input(changes, message):
    """Each with what was wrong."""
    given = {
        "function": lambda at: at["x"] > 0.5,
        "axes": {"x": (0.0, 1.0)},
        "tolerance": {"x": 0.1},
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        refine(given.pop("function"), given.pop("axes"), **given)


def test_boundary_needs_two_axes():
    """A line has points, no segments."""
    line = refine(lambda at: at["x"] > 0.3, {"x": (0.0, 1.0)}, tolerance={"x": 0.1}, coarse=4)
    with pytest.raises(ValueError, match="map must have two axes"):
        line.boundary()
