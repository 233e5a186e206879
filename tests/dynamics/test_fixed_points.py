"""Fixed points, their spectra and classes, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

import qra_jax as qra
from qra_jax.dynamics import Stability

PROBS, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])
POLICY, PROBLEM = qra.two_stage(PROBS, RATES)
GEOMETRIES = {"euclidean": qra.Euclidean(), "natural": qra.Natural()}


def kl_flow(beta, problem=PROBLEM, geometry="euclidean"):
    return qra.GradientFlow(qra.RLVR(beta), problem, geometry=GEOMETRIES[geometry])


def penalised(regulariser):
    return qra.GradientFlow(qra.Objective(qra.Verifiable(), regularisers=(regulariser,)), PROBLEM)


def sorted_real(values):
    """As `eigenvalues` is sorted: falling."""
    return np.sort(values)[::-1]


def tilted(mask, beta):
    weights = np.where(mask, PROBS * np.exp(RATES / beta), 0)
    return weights / weights.sum()


# The natural geometry at vertices is that of `test_questions_and_weights` too.
@pytest.mark.parametrize("geometry", ["euclidean", pytest.param("natural", marks=pytest.mark.slow)])
def test_vertices_of_a_plain_flow(geometry):
    """Nothing else rests where rewards differ. The advantage of an absent pattern is its growth
    rate in the natural geometry; in the Euclidean one that is 0 and only its sign counts."""
    flow = qra.GradientFlow(qra.RLVR(), PROBLEM, geometry=GEOMETRIES[geometry])
    found = qra.fixed_points(POLICY, flow)
    points = found.listed()
    np.testing.assert_array_equal(points.pattern_probs, np.eye(3)[::-1])
    gaps = RATES - RATES[::-1, None]
    np.testing.assert_allclose(points.pull, gaps, atol=1e-15)
    rates = gaps if geometry == "natural" else np.zeros((3, 3))
    np.testing.assert_allclose(points.growth, rates, atol=1e-15)
    others = [np.delete(row, 2 - i) for i, row in enumerate(rates)]
    np.testing.assert_allclose(points.eigenvalues, [sorted_real(x) for x in others], atol=1e-15)
    assert points.kind.tolist() == [Stability.SOURCE, Stability.SADDLE, Stability.SINK]
    assert found.index_sum == 1
    assert points.saturated.tolist() == [False, False, True]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_optima_of_every_face_under_a_kl_penalty(geometry):
    r"""$\pi \propto \pi_{ref} e^{R/\beta}$ on each face, with the eigenvalues $-\beta$, or those of
    $-\beta (\mathrm{diag}\,\pi - \pi\pi^T)$; every pattern that is not there would come back."""
    beta = 0.1
    found = qra.fixed_points(POLICY, kl_flow(beta, geometry=geometry))
    points = found.listed()
    assert len(points.valid) == 7
    for i, mask in enumerate(points.face):
        expected = tilted(mask, beta)
        np.testing.assert_allclose(points.pattern_probs[i], expected, rtol=1e-12)
        some = expected[np.asarray(mask)]
        inner = np.full(len(some), -beta)
        if geometry == "euclidean":
            inner = np.linalg.eigvalsh(-beta * (np.diag(some) - np.outer(some, some)))
        along = sorted_real(inner)[-len(some) + 1 :] if geometry == "natural" else inner[:-1][::-1]
        along = along[: len(some) - 1]
        outside = np.full(3 - len(some), np.inf if geometry == "natural" else 0.0)
        np.testing.assert_allclose(
            points.eigenvalues[i], sorted_real([*along, *outside]), rtol=1e-9, atol=1e-12
        )
        assert bool(jnp.all(jnp.where(mask, points.pull[i] == 0, points.pull[i] == jnp.inf)))
    sizes = points.face.sum(axis=1)
    kinds = {1: Stability.SOURCE, 2: Stability.SADDLE, 3: Stability.SINK}
    assert points.kind.tolist() == [kinds[int(size)] for size in sizes]
    assert found.index_sum == 1


def test_a_penalty_that_is_infinite_on_faces():
    """ForwardKL forbids the absence of a pattern: one point, beta pi_ref / (beta + V - R)."""
    beta = 0.1
    found = qra.fixed_points(POLICY, penalised(qra.objectives.ForwardKL(beta)))
    points = found.listed()

    def excess(value):
        return np.sum(beta * PROBS / (beta + value - RATES)) - 1

    value = brentq(excess, RATES.max() - beta * (1 - PROBS[0]) + 1e-9, 2, xtol=1e-15)
    expected = beta * PROBS / (beta + value - RATES)
    np.testing.assert_allclose(points.pattern_probs, expected[None], rtol=1e-12)
    assert points.kind.tolist() == [Stability.SINK]
    assert found.index_sum == 1


def test_positive_feedback():
    """Each pattern is worth its own probability (times S): every face has its middle. From there
    one pattern grows at the expense of others at the rate S / size^2."""
    policy, problem = qra.two_stage(np.ones(3) / 3, np.full(3, 0.8))
    worth = 0.8**2 + 0.2**2
    flow = qra.GradientFlow(qra.RLIF(qra.objectives.SequenceProbability()), problem)
    found = qra.fixed_points(policy, flow)
    points = found.listed()
    assert len(points.valid) == 7
    sizes = np.asarray(points.face.sum(axis=1))
    np.testing.assert_allclose(points.pattern_probs, points.face / sizes[:, None], rtol=1e-12)
    for size, values, pull, mask in zip(
        sizes, points.eigenvalues, points.pull, points.face, strict=True
    ):
        np.testing.assert_allclose(
            values, [worth / size**2] * (size - 1) + [0] * (3 - size), rtol=1e-12
        )
        np.testing.assert_allclose(pull, np.where(mask, 0, -worth / size), rtol=1e-12)
    kinds = {1: Stability.SINK, 2: Stability.SADDLE, 3: Stability.SOURCE}
    assert points.kind.tolist() == [kinds[size] for size in sizes]
    assert found.index_sum == 1


CYCLE = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


def beats_the_next(policy, problem):
    """A user's reward: rock, paper, scissors against oneself, a little better each time."""
    probs = jnp.exp(policy.log_probs()[0])
    return (probs @ (CYCLE + 0.5 * jnp.eye(3)).T)[:, :, None]


def test_complex_spectrum_against_differences():
    """A point spiralled away from: eigenvalues against those of a matrix of differences of the
    vector field on the simplex."""
    flow = qra.GradientFlow(qra.Objective(beats_the_next), PROBLEM)
    interior = qra.fixed_points(POLICY, flow, faces="interior", starts=4).listed()
    np.testing.assert_allclose(interior.pattern_probs, np.full((1, 3), 1 / 3), rtol=1e-12)
    basis = np.array([[1.0, 0, -1], [0, 1, -1]])
    step = 1e-5
    ends = jnp.asarray(1 / 3 + step * np.concatenate([basis, -basis]))
    moved = np.asarray(qra.dynamics.simplex_velocity(POLICY, flow, ends))
    matrix = (moved[:2] - moved[2:])[:, :2].T / (2 * step)
    expected = np.linalg.eigvals(matrix)
    assert np.abs(expected.imag).min() > 0.1
    np.testing.assert_allclose(
        np.sort_complex(interior.eigenvalues[0]), np.sort_complex(expected), rtol=1e-9
    )
    assert interior.kind.tolist() == [Stability.SOURCE]


def test_tied_patterns_and_patterns_that_do_not_exist():
    """Tied patterns share a whole face of fixed points, of which the middle is listed; what
    does not exist is on no face and has no eigenvalue."""
    policy, problem = qra.two_stage(np.array([0.3, 0.7, 0.0]), np.array([0.8, 0.8, 0.5]))
    found = qra.fixed_points(policy, qra.GradientFlow(qra.RLVR(), problem))
    points = found.listed()
    expected = [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(points.pattern_probs, expected, rtol=1e-15)
    assert points.regular.tolist() == [True, True, False]
    assert points.kind.tolist() == [Stability.DEGENERATE] * 3
    np.testing.assert_allclose(points.eigenvalues.real, [[0, np.nan]] * 3, atol=1e-15)
    assert bool(jnp.all(jnp.isnan(points.pull[:, 2])))


distinct = st.lists(st.floats(0.02, 0.98), min_size=3, max_size=3, unique_by=lambda x: round(x, 2))


@given(distinct, st.floats(-6, 0.3), st.integers(0, 2**31))
def test_indices_add_up(rates, exponent, seed):
    """Hofbauer's theorem, and Proposition 5.2 at the one saturated point, for penalties so small
    that probabilities underflow."""
    beta, probs = 10.0**exponent, np.random.default_rng(seed).dirichlet(np.ones(3))
    policy, problem = qra.two_stage(probs, np.array(rates))
    found = qra.fixed_points(policy, kl_flow(beta, problem))
    assert found.index_sum == 1
    best = qra.laws.optimal_policy(policy, kl_flow(beta, problem))
    expected, _ = best.pattern_table(problem)
    np.testing.assert_allclose(found.pattern_probs[found.saturated], expected, atol=1e-9)
    logs = np.log(probs) + np.array(rates) / beta
    logs -= np.logaddexp.reduce(logs)
    np.testing.assert_allclose(found.log_probs[found.saturated][0], logs, rtol=1e-9, atol=1e-9)
    assert found.kind[found.saturated].tolist() == [Stability.SINK]
    assert int(found.valid.sum()) == 7


@pytest.mark.parametrize("seed", [0, 2, 34])
def test_pulls_that_are_rounding(seed):
    """Penalties of 1e-10 and less: what is left of a pull is rounding beside derivatives of the
    size of beta, and the short steps of Newton tell that a point is one all the same."""
    rng = np.random.default_rng([3, seed])
    probs, rates = rng.dirichlet(np.ones(3)), rng.uniform(size=3)
    rates[1] = rates[0] + 10 ** rng.uniform(-9, -3) if seed % 3 == 0 else rates[1]
    beta = 10 ** rng.uniform(-12, -6)
    policy, problem = qra.two_stage(probs, rates)
    found = qra.fixed_points(policy, kl_flow(beta, problem))
    assert int(found.valid.sum()) == 7
    assert found.index_sum == 1
    for at in np.flatnonzero(found.valid):
        face = np.asarray(found.face[at])
        logs = np.where(face, np.log(probs) + rates / beta, -np.inf)
        logs -= np.logaddexp.reduce(logs)
        np.testing.assert_allclose(found.log_probs[at], logs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_derivatives_and_batches(order):
    """Of a point and of an eigenvalue in beta, first and second order, against the closed form;
    a batch of betas under `jit` and `vmap`."""

    def looked_for(beta):
        found = qra.fixed_points(POLICY, kl_flow(beta), faces="interior", starts=1)
        return found.pattern_probs[0, 0], found.eigenvalues[0, -1].real

    def known(beta):
        probs = jax.nn.softmax(jnp.log(PROBS) + RATES / beta)
        matrix = -beta * (jnp.diag(probs) - jnp.outer(probs, probs))
        return probs[0], jnp.linalg.eigvalsh(matrix)[0]

    def derivatives(function):
        """Value, slope and curvature from one look for the point."""

        def along(function):
            return lambda beta: jax.jvp(function, (beta,), (jnp.ones_like(beta),))

        return jax.jit(jax.vmap(along(function) if order == 1 else along(along(function))))

    betas = jnp.array([0.1, 0.3, 1.0])
    for found, expected in zip(
        jax.tree_util.tree_leaves(derivatives(looked_for)(betas)),
        jax.tree_util.tree_leaves(derivatives(known)(betas)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_questions_and_weights():
    """Each question by itself, at the speed of its weight, the other patterns as they are."""
    policy, problem = qra.two_stage(np.stack([PROBS, PROBS[::-1]]), np.stack([RATES, RATES]))
    problem = qra.Problem(problem.correct, jnp.array([0.25, 0.75]))
    found = qra.fixed_points(
        policy,
        qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural()),
        faces="vertices",
        question=1,
        starts=1,
    )
    # The rates of growth of the first question would be a third of these.
    expected = [sorted_real(0.75 * (np.delete(RATES, i) - RATES[i])) for i in range(3)]
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-14)


@pytest.mark.slow
def test_single_precision():
    """The interior point in float32; branches of such points in float32 are tested every time."""
    policy, problem = qra.two_stage(PROBS.astype(np.float32), RATES.astype(np.float32))
    found = qra.fixed_points(policy, kl_flow(np.float32(0.1), problem), faces="interior", starts=1)
    assert found.pattern_probs.dtype == jnp.float32
    np.testing.assert_allclose(found.pattern_probs[0], tilted(np.ones(3, bool), 0.1), rtol=2e-5)
    assert found.valid[0]
    assert found.kind[0] == Stability.SINK


def test_simplex_velocity():
    r"""$\pi_r (\pi_r A_r - \sum_j \pi_j^2 A_j)$; a face stays a face."""
    points = np.array([[0.2, 0.3, 0.5], [0.0, 0.4, 0.6], [0.0, 0.0, 1.0]])
    gaps = RATES - points @ RATES[:, None]
    expected = points * (points * gaps - np.sum(points**2 * gaps, axis=1, keepdims=True))
    found = qra.dynamics.simplex_velocity(POLICY, PROBLEM, jnp.asarray(points))
    np.testing.assert_allclose(found, expected, atol=1e-15)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-16)


def test_simplex_grid():
    """All points, each once."""
    grid = qra.dynamics.simplex_grid(3, 4)
    assert grid.shape == (15, 3)
    np.testing.assert_array_equal(grid.sum(axis=1), 1)
    assert len({tuple(row) for row in grid}) == 15


def test_bad_input():
    """Each says what was wrong."""
    many, problem = qra.two_stage(np.ones(12) / 12, np.linspace(0, 1, 12))
    trained = qra.GradientFlow(qra.RLVR(), PROBLEM, "all")
    features = qra.linear_policy(jnp.ones((1, 2)), 3, jnp.zeros((1, 3, 2)))
    for call, error, message in (
        (lambda: qra.fixed_points(POLICY, PROBLEM, faces="edges"), ValueError, "faces must be one"),
        (lambda: qra.fixed_points(many, problem), ValueError, "faces must be a mask where"),
        (
            lambda: qra.fixed_points(POLICY, PROBLEM, faces=np.ones((1, 2), bool)),
            ValueError,
            r"faces must have shape \(F, 3\)",
        ),
        (
            lambda: qra.fixed_points(POLICY, PROBLEM, faces=np.zeros((1, 3), bool)),
            ValueError,
            "faces must hold a pattern in each row",
        ),
        (
            lambda: qra.fixed_points(POLICY, PROBLEM, starts=0),
            ValueError,
            "starts must be at least",
        ),
        (lambda: qra.fixed_points(POLICY, PROBLEM, question=1), ValueError, "question must be at"),
        (lambda: qra.fixed_points(POLICY, trained), ValueError, "flow.trainable must be"),
        (
            lambda: qra.fixed_points(features, PROBLEM),
            TypeError,
            "policy must be a table",
        ),
        (
            lambda: qra.dynamics.simplex_velocity(POLICY, PROBLEM, jnp.full(2, 0.5)),
            ValueError,
            r"pattern_probs must have shape \(\.\.\., 3\)",
        ),
        (
            lambda: qra.dynamics.simplex_velocity(POLICY, PROBLEM, jnp.full(3, 0.5)),
            ValueError,
            "sum of pattern_probs",
        ),
        (lambda: qra.dynamics.simplex_grid(1, 3), ValueError, "num_patterns must be"),
        (lambda: qra.dynamics.simplex_grid(3, 0), ValueError, "resolution must be at least 1"),
    ):
        with pytest.raises(error, match=message):
            call()
