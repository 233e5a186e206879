"""Basins of attraction: who wins each start, when, and the measures made of it.

Solves are compiled once each, for arrays of one shape.
"""

import dataclasses
import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax import plot

STARTS = 128
CERTAIN = qra.RLIF(qra.objectives.SequenceProbability())


@functools.cache
def symmetric():
    """Three patterns alike under sequence probability, and the fixed points of that."""
    policy, problem = qra.two_stage(jnp.full(3, 1 / 3), jnp.full(3, 0.9))
    flow = qra.GradientFlow(CERTAIN, problem)
    return policy, flow, qra.fixed_points(policy, flow, starts=6)


def padded(starts):
    """Copies of the last start up to `STARTS` of them."""
    starts = np.asarray(starts, float)
    return jnp.asarray(np.concatenate([starts, np.repeat(starts[-1:], STARTS - len(starts), 0)]))


def fates(starts, probs=(1 / 3, 1 / 3, 1 / 3), rates=(0.9, 0.9, 0.9), found=None):
    """Basins under sequence probability, of all flows of three patterns with one compilation."""
    policy, problem = qra.two_stage(jnp.asarray(probs), jnp.asarray(rates))
    flow = qra.GradientFlow(CERTAIN, problem)
    found = symmetric()[2] if found is None else found
    return qra.basins(policy, flow, padded(starts), attractors=found)


@pytest.mark.slow
def test_equal_patterns_win_equal_shares():
    """Random starts: thirds within their errors. A symmetric set: exactly; the most probable
    pattern wins each, and its permutations take the same time."""
    found = fates(qra.dynamics.random_starts(jax.random.key(1), 3, STARTS))
    share, error = found.pattern_fractions, found.pattern_standard_errors
    np.testing.assert_allclose(error, np.sqrt(share * (1 - share) / STARTS), rtol=1e-12)
    assert np.all(np.abs(share - 1 / 3) < 3 * error)
    assert float(found.undecided) == 0
    np.testing.assert_allclose(jnp.sum(found.fractions), 1, atol=1e-12)

    points = np.random.default_rng(0).dirichlet(np.ones(3), 21)
    turned = np.concatenate([np.roll(points, shift, axis=1) for shift in range(3)] * 2)[:126]
    weights = jnp.where(jnp.arange(STARTS) < len(turned), 1.0, 0.0)
    found = fates(turned)
    found = dataclasses.replace(found, weights=weights)
    np.testing.assert_allclose(found.pattern_fractions, 1 / 3, atol=1e-12)
    np.testing.assert_array_equal(found.winner[:63], np.argmax(turned[:63], axis=1))
    times = np.asarray(found.log_time[:63]).reshape(3, 21)
    np.testing.assert_allclose(times, np.broadcast_to(times[:1], times.shape), atol=1e-3)


def test_special_starts():
    """On a vertex, an edge, a separatrix, inside a ball, near a vertex that is no attractor."""
    edge, corner = [0.0, 0.6, 0.4], [0.0, 1.0, 0.0]
    starts = [corner, edge, [0.4, 0.4, 0.2], [1 / 3] * 3, [0.002, 0.995, 0.003], [0.5, 0.0, 0.5]]
    found = fates(starts)
    # On the separatrix rounding decides, if anything: either side, but not the third.
    winner = np.asarray(found.winner[:6])
    np.testing.assert_array_equal(np.delete(winner, 2), [1, 1, -1, 1, -1])
    assert winner[2] != 2
    status = np.asarray(found.status[:6])
    np.testing.assert_array_equal(status[[0, 1, 4]], qra.Status.EVENT)
    assert status[3] == status[5] == qra.Status.STATIONARY
    times = np.asarray(found.log_time)
    assert times[0] == times[4] == -np.inf
    assert np.isnan(times[[3, 5]]).all()
    assert np.isfinite(times[1])


def test_two_patterns_meet_at_the_unstable_point():
    r"""Sequence probability: $\pi_1 S_1 = \pi_2 S_2$ separates, on an edge too."""
    rates = np.array([0.9, 0.6, 0.5])
    certain = rates**2 + (1 - rates) ** 2
    border = certain[1] / (certain[0] + certain[1])
    share = border + np.array([-0.2, -1e-3, 1e-3, 0.2])
    found = fates(np.stack([share, 1 - share, 0 * share], axis=1), rates=rates)
    np.testing.assert_array_equal(found.winner[:4], [1, 1, 0, 0])
    assert found.log_time[1] > found.log_time[0]


def engine(eps):
    """Starts of integrable flows: basins, and convergence times one by one."""

    @functools.cache
    def compiled():
        @jax.jit
        def run(starts, rates):
            policy, problem = qra.two_stage(jnp.full(rates.shape, 1 / len(rates)), rates)
            found = qra.basins(policy, problem, starts, eps=eps)

            def alone(start):
                return qra.log_convergence_time(qra.two_stage(start, rates)[0], problem, eps)[0]

            return found, jax.vmap(alone)(starts)

        return run

    return compiled()


integrable = engine(1e-2)


def test_integrable_flows_go_to_the_best_pattern():
    """At the time of `log_convergence_time`, however long; the misleading vertex does not count."""
    entangled = np.array([[1e-8, 0.995, 0.005 - 1e-8], [1e-60, 0.7, 0.3], [1e-200, 0.999, 0.001]])
    starts = np.concatenate([np.random.default_rng(2).dirichlet(np.ones(3), 13), entangled])
    found, times = integrable(jnp.asarray(starts), jnp.array([0.9, 0.7, 0.1]))
    np.testing.assert_array_equal(found.winner, 0)
    np.testing.assert_array_equal(found.status, qra.Status.EVENT)
    np.testing.assert_allclose(found.log_time, times, atol=1e-7)
    assert float(found.worst_log_time[0]) > 2 * np.log(1e100)
    np.testing.assert_array_equal(found.fractions, [1, 0, 0])
    assert np.isnan(found.median_log_time[1:]).all()


def test_ties_and_faces_of_integrable_flows():
    """The most probable of tied patterns wins, equal ones stay undecided; a face has its own best;
    a start that is not finite is invalid."""
    starts = np.full((16, 3), 1 / 3)
    starts[:8] = [
        [0.3, 0.2, 0.5],
        [0.2, 0.3, 0.5],
        [0.3, 0.3, 0.4],
        [0.0, 0.4, 0.6],
        [0.0, 0.0, 1.0],
        [0.5, 0.5, 0.0],
        [0.995, 0.005, 0.0],
        [np.nan, 0.5, 0.5],
    ]
    found, _ = integrable(jnp.asarray(starts), jnp.array([0.9, 0.9, 0.1]))
    np.testing.assert_array_equal(found.winner[:8], [0, 1, -1, 1, 2, -1, 0, -1])
    rest, event, bad = qra.Status.STATIONARY, qra.Status.EVENT, qra.Status.INVALID_INPUT
    np.testing.assert_array_equal(
        found.status[:8], [event, event, rest, event, event, rest, event, bad]
    )
    np.testing.assert_array_equal(np.isneginf(found.log_time[:8]), [0, 0, 0, 0, 1, 0, 1, 0])


def measures(log_times, winners, weights):
    corners = jnp.eye(3)
    attractors = qra.dynamics.Attractors(
        corners, corners > 0, -1 + corners, jnp.ones(3, bool), jnp.zeros((), jnp.int32)
    )
    winners = jnp.asarray(winners, jnp.int32)
    return qra.dynamics.Basins(attractors, winners, winners, log_times, 0 * winners, weights)


def test_measures_against_numpy():
    """Weighted shares, errors, quantiles and finite-time convergence of made-up fates."""
    rng = np.random.default_rng(3)
    times, winners = rng.normal(size=200), rng.integers(-1, 2, 200)
    weights = rng.uniform(0, 2, 200)
    levels, horizons = (0.0, 0.3, 0.5, 1.0), jnp.array([-jnp.inf, 0.4, jnp.inf])

    @jax.jit
    def of(found):
        quantiles = jnp.stack([found.log_time_quantile(level) for level in levels])
        early = found.convergence_probability(horizons)
        ends = found.median_log_time, found.worst_log_time
        return found.fractions, found.standard_errors, quantiles, early, ends

    found = measures(jnp.asarray(times), winners, jnp.asarray(weights))
    shares, errors, quantiles, early, (median, worst) = jax.device_get(of(found))
    assert np.isnan(median[2])
    np.testing.assert_array_equal(quantiles[2:], [median, worst])
    for which in (0, 1):
        won = winners == which
        share = weights[won].sum() / weights.sum()
        np.testing.assert_allclose(shares[which], share, rtol=1e-12)
        error = np.sqrt(np.sum(weights**2 * (won - share) ** 2)) / weights.sum()
        np.testing.assert_allclose(errors[which], error, rtol=1e-12)
        for level, shown in zip(levels, quantiles, strict=True):
            wanted = np.quantile(times[won], level, weights=weights[won], method="inverted_cdf")
            np.testing.assert_array_equal(shown[which], wanted)
        np.testing.assert_array_equal(worst[which], times[won].max())
        soon = weights[won & (times <= 0.4)].sum() / weights.sum()
        np.testing.assert_allclose(early[:, which], [0, soon, share], rtol=1e-12)
    assert found.convergence_probability(0.4).shape == (3,)


def test_median_and_worst_times_are_differentiable():
    """Through solves that end near a vertex, against central differences."""
    starts = qra.dynamics.random_starts(jax.random.key(5), 3, 16)
    method = qra.ODE(rtol=1e-9, atol=1e-9, adjoint=diffrax.ForwardMode())
    step = 1e-4

    def times(rate):
        policy, problem = qra.two_stage(jnp.full(3, 1 / 3), jnp.stack([rate, 0.7, 0.6]))
        flow = qra.GradientFlow(CERTAIN, problem)
        found = qra.basins(policy, flow, starts, attractors=symmetric()[2], method=method)
        return jnp.stack([found.median_log_time, found.worst_log_time])

    rates = 0.9 + step * jnp.arange(-1, 2)
    values, slopes = jax.jit(jax.vmap(lambda rate: jax.jvp(times, (rate,), (jnp.ones(()),))))(rates)
    differences = (values[2] - values[0]) / (2 * step)
    won = np.isfinite(values[1])
    assert won[0].sum() >= 2
    np.testing.assert_allclose(slopes[1][won], differences[won], rtol=1e-5, atol=1e-6)


def test_a_batch_of_flows_is_a_loop_of_them():
    """`vmap` over rates, against single calls; and `joined` chunks against one call."""
    policy, _, found = symmetric()
    starts = qra.dynamics.random_starts(jax.random.key(6), 3, STARTS)
    rates = jnp.array([[0.9, 0.6, 0.5], [0.8, 0.8, 0.9]])

    def run(rates):
        _, problem = qra.two_stage(jnp.full(3, 1 / 3), rates)
        flow = qra.GradientFlow(CERTAIN, problem)
        policy_of = qra.two_stage(jnp.full(3, 1 / 3), rates)[0]
        return qra.basins(policy_of, flow, starts, attractors=found)

    batch = jax.jit(jax.vmap(run))(rates)
    shares = jax.vmap(lambda one: one.pattern_fractions)(batch)
    for index, one in enumerate(map(run, rates)):
        np.testing.assert_array_equal(batch.winner[index], one.winner)
        np.testing.assert_allclose(batch.log_time[index], one.log_time, atol=1e-4)
        np.testing.assert_allclose(shares[index], one.pattern_fractions, atol=1e-12)
    whole = jax.tree_util.tree_map(lambda x: jnp.stack([x, x]), one).joined()
    np.testing.assert_allclose(whole.fractions, one.fractions, atol=1e-12)
    assert whole.winner.shape == (2 * STARTS,)
    assert policy.pattern_logits.shape == (1, 3)


def test_float32():
    """The same winners."""
    starts = qra.dynamics.random_starts(jax.random.key(7), 3, 16)
    policy, problem = qra.two_stage(jnp.full(3, 1 / 3), jnp.array([0.9, 0.7, 0.1]))
    single = jax.tree_util.tree_map(
        lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        (policy, problem, starts),
    )
    found = qra.basins(*single)
    assert found.log_time.dtype == found.fractions.dtype == jnp.float32
    wide, _ = integrable(starts, jnp.array([0.9, 0.7, 0.1]))
    np.testing.assert_array_equal(found.winner, wide.winner)
    np.testing.assert_allclose(found.log_time, wide.log_time, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.5}, "eps must lie strictly between 0 and 1/2, got eps = 0.5"),
        ({"pattern_probs": [[0.5, 0.6, 0.0]]}, "the sum of pattern_probs over patterns must be 1"),
        ({"pattern_probs": [[0.5, np.nan, 0.5]]}, "pattern_probs must be non-negative"),
        ({"pattern_probs": [0.5, 0.2, 0.3]}, r"pattern_probs must have shape \(N, 3\)"),
        ({"pattern_probs": [[0.5, 0.2, 0.3]]}, "be 0 where the pattern does not exist"),
        ({"weights": [1.0, 2.0]}, r"weights must have shape \(1,\), got \(2,\)"),
        ({"weights": [-1.0]}, "weights must be finite, at least 0"),
        ({"most": 0}, "most must be at least 1, got 0"),
    ],
)
def test_bad_input(change, message):
    """Each is a `ValueError` that names the argument, before any compile."""
    policy, problem = qra.two_stage(jnp.array([0.5, 0.5, 0.0]), jnp.array([0.9, 0.7, 0.1]))
    given = {"pattern_probs": [[0.5, 0.5, 0.0]]} | change
    given = {key: jnp.asarray(x) if isinstance(x, list) else x for key, x in given.items()}
    with pytest.raises(ValueError, match=message):
        qra.basins(policy, problem, given.pop("pattern_probs"), **given)


def test_bad_attractors_and_draws():
    """Attractors of another kind or number; random starts out of range."""
    policy, problem = qra.two_stage(jnp.array([0.5, 0.5]), jnp.array([0.9, 0.7]))
    starts = jnp.array([[0.5, 0.5]])
    with pytest.raises(TypeError, match=r"basins\.|attractors must be FixedPoints"):
        qra.basins(policy, problem, starts, attractors=symmetric)
    with pytest.raises(ValueError, match="attractors must be of 2 patterns, got 3"):
        qra.basins(policy, problem, starts, attractors=symmetric()[2])
    with pytest.raises(ValueError, match="concentration must be above 0"):
        qra.dynamics.random_starts(jax.random.key(0), 3, 4, concentration=0.0)
    with pytest.raises(ValueError, match="number must be at least 1"):
        qra.dynamics.random_starts(jax.random.key(0), 3, 0)


def test_portrait_from_stored_data():
    """Drawn from data alone: all kinds of points, a path, basins with an undecided triangle."""
    corners = plot.simplex_triangles(4)
    assert corners.shape == (16, 3, 3)
    np.testing.assert_allclose(corners.sum(axis=-1), 1, atol=1e-15)
    centres = corners.mean(axis=1)
    assert centres.min() > 0
    # Symmetric: as often above as below any permutation.
    turned = {tuple(np.round(row, 9)) for row in np.roll(centres, 1, axis=1)}
    assert turned == {tuple(np.round(row, 9)) for row in centres}
    np.testing.assert_allclose(plot.simplex_xy(np.eye(3))[2], [0.5, np.sqrt(0.75)])

    side = np.linspace(0, 1, 5)
    flow = np.where(np.add.outer(side, side) < 1, 1.0, np.nan)
    path = np.linspace([0.2, 0.3, 0.5], [0.9, 0.05, 0.05], 6)
    data = xr.Dataset(
        {
            "flow_x": (("y", "x"), flow),
            "flow_y": (("y", "x"), 0 * flow),
            "point_prob": (("point", "pattern"), np.vstack([np.eye(3), np.full((2, 3), 1 / 3)])),
            "point_kind": ("point", np.array([0, 1, 2, 3, -1])),
            "path_prob": (("start", "row", "pattern"), path[None]),
            "path_log_time": (("start", "row"), np.append(-np.inf, np.arange(5.0))[None]),
            "cell_corner": (("cell", "corner", "pattern"), corners),
            "cell_winner": ("cell", np.arange(16) % 4 - 1),
        },
        coords={"x": side, "y": side, "pattern": ["a", "b", "c"]},
    )
    with plot.style():
        ax = Figure().subplots()
        assert plot.draw_portrait(ax, data) is ax
        (paths,) = (x for x in ax.collections if isinstance(x, LineCollection) and x.zorder == 4)
        np.testing.assert_allclose(paths.get_segments()[-1][-1], plot.simplex_xy(path[-1]))
        # ln t goes from 0 to 4 along rows 1 to 5: t = 1 and t = 10.
        (dots,) = (line for line in ax.lines if line.get_marker() == ".")
        rows = [path[1], path[1] + (path[5] - path[1]) * plot.LN10 / 4]
        np.testing.assert_allclose(dots.get_xydata(), plot.simplex_xy(np.array(rows)))
        assert {text.get_text() for text in ax.texts} >= {"a", "b", "c"}
        assert len(plot.point_legend(data["point_kind"].values)) == 4
        assert len(plot.basin_legend("abc", data["cell_winner"].values)) == 4
        ax.figure.canvas.draw()
