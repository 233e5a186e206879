"""Branches of fixed points along a parameter, against closed forms and scans of one equation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import qra_jax as qra
from experiments.maps.branches.compute import Line

ROWS = 128
REF, RATES = np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1])


class Curve(eqx.Module):
    """A branch by all that determines it."""

    ref: jax.Array
    rates: jax.Array
    start: jax.Array
    slope: jax.Array
    probs: jax.Array
    value: jax.Array
    bounds: jax.Array
    direction: int = eqx.field(static=True, default=1)

    def family(self):
        policy, problem = qra.two_stage(self.ref, self.rates)
        return policy, Line(problem, self.start, self.slope)

    def follow(self, **options) -> qra.dynamics.Branch:
        policy, family = self.family()
        ends = self.bounds[0], self.bounds[1]
        return qra.dynamics.continue_fixed_point(
            policy, family, self.probs, value=self.value, bounds=ends, direction=self.direction,
            step=0.5, max_steps=ROWS, **options,
        )  # fmt: skip


def curve(ref, rates, start, slope, probs, value, bounds, dtype=np.float64, **options):
    """Patterns padded to three, so that all curves share a compilation."""
    extra = 3 - len(ref)
    padded = [np.pad(np.asarray(x, float), (0, extra)) for x in (ref, rates, probs)]
    ref, rates, probs, start, slope, value, bounds = (
        jnp.asarray(x, dtype) for x in (*padded, start, slope, value, bounds)
    )
    return Curve(ref, rates, start, slope, probs, value, bounds, **options)


def listed(branch):
    """The valid rows, after checks that hold for any branch that reached a bound."""
    assert branch.status == qra.Status.COMPLETED
    valid = np.asarray(branch.valid)
    number = valid.sum()
    assert valid[:number].all()
    for rows in (branch.value, branch.pattern_probs, branch.kind):
        np.testing.assert_array_equal(
            rows[number:], np.asarray(rows)[[number - 1] * (ROWS - number)]
        )
    return [
        np.asarray(x)[:number] for x in (branch.value, branch.pattern_probs, branch.eigenvalues)
    ]


# Youden's index, weights of verifier and sequence probability, log beta, share of GRPO.
LOG_BETA = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
FIXED, OWN = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0, 0.0])


def certainty(rates):
    """S = sum of squared answer probabilities."""
    return rates**2 + (1 - rates) ** 2


def gibbs(values, ref=REF):
    """pi ∝ pi_ref exp(values)."""
    return scipy.special.softmax(np.log(ref) + values, axis=-1)


def test_closed_form():
    """RLVR over log beta: pi ∝ pi_ref exp(R/beta), no fold; the spectrum of
    -beta (diag pi - pi pi^T)."""
    begin = gibbs(RATES / np.exp(-2))
    along = curve(REF, RATES, FIXED, LOG_BETA, begin, -2, (-3.0, 1.0))
    branch = along.follow()
    values, probs, spectrum = listed(branch)
    assert values[0] == -2
    assert values[-1] == 1
    np.testing.assert_allclose(probs, gibbs(RATES / np.exp(values)[:, None]), atol=1e-12)
    assert branch.num_special == 0
    assert np.all(branch.special == -1)
    assert np.all(branch.kind == qra.dynamics.Stability.SINK)
    fisher = np.array([np.diag(p) - np.outer(p, p) for p in probs])
    expected = -np.exp(values)[:, None] * np.linalg.eigvalsh(fisher)[:, 1:]
    np.testing.assert_allclose(spectrum, expected, atol=1e-9)


def fold_by_scan(ref, rates, beta=None):
    """Folds of two patterns under sequence probability: log odds x and `log beta(x)` where it
    turns; or at fixed beta those of the weight w(x) of a mixture with the verifier."""
    x_ref, (first, second) = np.log(ref[0] / ref[1]), certainty(np.asarray(rates))
    lead, sigma = rates[0] - rates[1], scipy.special.expit

    def gap(x):
        return first * sigma(x) - second * sigma(-x)

    def slope(x):
        rise = (first + second) * sigma(x) * sigma(-x)
        if beta is None:
            return rise * (x - x_ref) - gap(x)
        return beta * (gap(x) - lead) - (beta * (x - x_ref) - lead) * rise

    def parameter(x):
        if beta is None:
            return np.log(gap(x) / (x - x_ref))
        return (beta * (x - x_ref) - lead) / (gap(x) - lead)

    grid = np.linspace(-12, 12, 4001)
    turns = np.nonzero(np.diff(np.sign(slope(grid))))[0]
    roots = [scipy.optimize.brentq(slope, *grid[i : i + 2], xtol=1e-15) for i in turns]
    return [(x, parameter(x)) for x in roots if beta is not None or gap(x) / (x - x_ref) > 0]


UNEQUAL, UNEQUAL_RATES = np.array([0.45, 0.55]), np.array([0.9, 0.6])


def by_own_probability(ref=UNEQUAL, rates=UNEQUAL_RATES, **options):
    """From near the vertex of the second pattern, through the fold and back, over log beta."""
    start = np.array([1e-3, 1 - 1e-3])
    return curve(ref, rates, OWN, LOG_BETA, start, np.log(0.08), (np.log(0.05), 0.0), **options)


def test_fold():
    """Its value and position, and what is stable on which side."""
    branch = by_own_probability().follow()
    values, probs, spectrum = listed(branch)
    ((log_odds, log_beta),) = fold_by_scan(UNEQUAL, UNEQUAL_RATES)
    assert list(branch.special) == [qra.dynamics.Special.FOLD, -1, -1, -1]
    assert list(branch.fold) == list(branch.located) == [True, False, False, False]
    np.testing.assert_allclose(branch.special_value[0], log_beta, rtol=1e-12)
    at_fold = branch.special_probs[0]
    np.testing.assert_allclose(jnp.log(at_fold[0] / at_fold[1]), log_odds, rtol=1e-9)
    assert at_fold[2] == 0
    assert np.all(np.isnan(branch.special_value[1:]))
    assert values[-1] == np.log(0.05)
    before = np.arange(len(values)) < values.argmax()
    assert values.max() <= log_beta
    assert np.all(spectrum[before][:-1, 0].real < 0)
    assert np.all(spectrum[~before][1:, 0].real > 0)
    # All rows solve x = x_ref + (S_1 pi_1 - S_2 pi_2)/beta.
    x = np.log(probs[:, 0] / probs[:, 1])
    gap = probs[:, :2] @ (certainty(UNEQUAL_RATES) * [1, -1])
    right = np.log(UNEQUAL[0] / UNEQUAL[1]) + gap / np.exp(values)
    np.testing.assert_allclose(x, right, rtol=1e-11, atol=1e-12)


def test_pitchfork():
    """Two equally certain patterns: at beta = S/2 equal shares stop being stable, and on the
    branch that is born there the parameter turns without a fold."""
    half, rates = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    straight = curve(half, rates, OWN, LOG_BETA, half, 0.0, (-3.0, 0.5), direction=-1).follow()
    values, probs, spectrum = listed(straight)
    np.testing.assert_allclose(probs[:, :2], 0.5, atol=1e-12)
    beta = np.exp(values)
    np.testing.assert_allclose(spectrum[:, 0].real, (0.82 / 2 - beta) / 2, atol=1e-12)
    bent = by_own_probability(half, rates).follow()
    _, probs, _ = listed(bent)
    assert probs[0, 0] < 0.01
    assert probs[-1, 0] > 0.99
    for branch in (straight, bent):
        assert list(branch.special) == [qra.dynamics.Special.BRANCH_POINT, -1, -1, -1]
        assert branch.located[0]
        np.testing.assert_allclose(branch.special_value[0], np.log(0.82 / 2), rtol=1e-12)
        np.testing.assert_allclose(branch.special_probs[0], [0.5, 0.5, 0], atol=1e-9)


def test_noisy_verifier():
    """J from 1 through 0, where everything rests at the reference, to -1."""
    start, slope = np.array([0.0, 1.0, 0.0, np.log(0.1), 0.0]), np.array([1.0, 0, 0, 0, 0])
    begin = gibbs(RATES / 0.1)
    along = curve(REF, RATES, start, slope, begin, 1.0, (-1.0, 1.0), direction=-1)
    values, probs, _ = listed(along.follow())
    assert values[-1] == -1
    np.testing.assert_allclose(probs, gibbs(values[:, None] * RATES / 0.1), atol=1e-12)


def test_mixture_has_two_folds():
    """From verified to self-rewarded along one branch: there, back and there again."""
    ref, rates = np.array([0.2, 0.8]), np.array([0.8, 0.1])
    start, slope = np.array([1.0, 1.0, 0.0, np.log(0.15), 0.0]), np.array([0, -1.0, 1.0, 0, 0])
    begin = gibbs(rates / 0.15, ref)
    branch = curve(ref, rates, start, slope, begin, 0.0, (0.0, 1.0)).follow()
    listed(branch)
    expected = fold_by_scan(ref, rates, 0.15)
    expected = sorted((w, x) for x, w in expected if 0 < w < 1)[::-1]
    assert list(branch.special[:2]) == [qra.dynamics.Special.FOLD] * 2
    found = branch.special_probs[:2]
    np.testing.assert_allclose(branch.special_value[:2], [w for w, _ in expected], rtol=1e-9)
    log_odds = jnp.log(found[:, 0] / found[:, 1])
    np.testing.assert_allclose(log_odds, [x for _, x in expected], rtol=1e-9)


def test_grpo_has_two_folds():
    """pi ∝ pi_ref exp(k R) with beta = 1/(k sqrt(V (1 - V))): where that turns in k."""
    rates = np.array([0.97, 0.3, 0.1])

    def log_beta_slope(k):
        probs = gibbs(k * rates)
        value = probs @ rates
        spread = probs @ rates**2 - value**2
        return 2 / k + spread * (1 - 2 * value) / (value * (1 - value))

    folds = []
    for bracket in ((5.0, 7.0), (8.0, 12.0)):
        k = scipy.optimize.brentq(log_beta_slope, *bracket, xtol=1e-14)
        value = gibbs(k * rates) @ rates
        folds.append(-np.log(k * np.sqrt(value * (1 - value))))
    begin = gibbs(14 * rates)  # roughly
    clock = FIXED + np.array([0, 0, 0, 0, 1.0])
    branch = curve(REF, rates, clock, LOG_BETA, begin, -1, (-1.5, 0.5)).follow()
    listed(branch)
    assert branch.num_special == 2
    np.testing.assert_allclose(branch.special_value[:2], folds[::-1], rtol=1e-9)


def follow_alone(reward, ref, rates, probs, value, bounds) -> qra.dynamics.Branch:
    """A branch over log beta under one reward: less to compile than `curve` where derivatives or
    another precision ask for a compilation of their own."""
    policy, problem = qra.two_stage(ref, rates)

    def family(log_beta):
        return qra.GradientFlow(qra.RLIF(reward, jnp.exp(log_beta)), problem)

    return qra.dynamics.continue_fixed_point(
        policy, family, probs, value=value, bounds=bounds, step=0.5, max_steps=ROWS, max_special=1
    )


def test_fold_derivatives():
    """Of a fold's beta and position, in reference, rewards and what the family has captured,
    against those of the scan."""
    start, bounds = jnp.asarray([1e-3, 1 - 1e-3]), (np.log(0.05), 0.0)

    def fold(inputs):
        ref = jnp.stack([inputs[0], 1 - inputs[0]])
        reward = qra.objectives.Mixture((qra.objectives.SequenceProbability(),), inputs[3:])
        branch = follow_alone(reward, ref, inputs[1:3], start, np.log(0.08), bounds)
        probs = branch.special_probs[0]
        return jnp.stack([branch.special_value[0], jnp.log(probs[0] / probs[1])])

    def scanned(inputs):
        share, *rates, weight = inputs
        ((log_odds, log_beta),) = fold_by_scan([share, 1 - share], np.array(rates))
        return np.array([log_beta + np.log(weight), log_odds])

    inputs, step = np.array([0.45, 0.9, 0.6, 1.0]), 1e-4
    central = []
    for move in step * np.eye(4):
        near = scanned(inputs + move) - scanned(inputs - move)
        far = scanned(inputs + 2 * move) - scanned(inputs - 2 * move)
        central.append((8 * near - far) / (12 * step))
    np.testing.assert_allclose(jax.jit(jax.jacrev(fold))(inputs).T, central, rtol=1e-7, atol=1e-9)


def test_row_derivatives():
    """Rows move across the branch, the ends at a fixed parameter: in the closed form of RLVR,
    d log pi = d(R/beta) along a normal to the tangent."""
    begin = jnp.asarray(gibbs(RATES / np.exp(-2)))

    def rows(shift):
        rates = jnp.asarray(RATES).at[0].add(shift)
        branch = follow_alone(qra.Verifiable(), jnp.asarray(REF), rates, begin, -2.0, (-3.0, 1.0))
        return branch.value, jnp.log(branch.pattern_probs)

    (values, logs), (along, moved) = jax.jit(lambda x: jax.jvp(rows, (x,), (jnp.ones_like(x),)))(
        0.0
    )
    probs, beta = np.exp(logs), np.exp(values)[:, None]

    def centred(x):
        return x - np.sum(probs * x, axis=1, keepdims=True)

    tangent, push = -centred(RATES / beta), centred(np.array([1.0, 0, 0]) / beta)
    np.testing.assert_allclose(moved, push + tangent * along[:, None], atol=1e-10)
    ends = np.array([0, np.argmax(values == 1)])
    np.testing.assert_array_equal(along[ends], 0)
    unit = 5 / 4  # z = 5 lambda / (1 + 3)
    normal = np.sum(tangent * moved, axis=1) + unit**2 * along
    np.testing.assert_allclose(normal[1 : ends[1]], 0, atol=1e-7)


def test_hopf():
    """A game of rock, paper, scissors (wins pay b, losses cost 1) with reverse KL: equal shares
    of natural-gradient spectrum (b w - 1/w)/3 - beta, w a third root of 1, through a closure."""
    thirds, wins = jnp.full(3, 1 / 3), 0.5
    policy, problem = qra.two_stage(thirds, thirds)
    rows = [[0, -1, wins], [wins, 0, -1], [-1, wins, 0]]

    def pays(policy, problem):
        return (jnp.exp(policy.log_probs()[0]) @ jnp.asarray(rows).T)[:, :, None]

    def family(beta):
        return qra.GradientFlow(qra.RLIF(pays, beta), problem, geometry=qra.Natural())

    options = {"bounds": (0.01, 0.2), "direction": -1, "step": 0.5, "max_steps": ROWS}
    branch = qra.dynamics.continue_fixed_point(policy, family, thirds, value=0.2, **options)
    values, probs, spectrum = listed(branch)
    np.testing.assert_allclose(probs, 1 / 3, rtol=1e-12)
    root = np.exp(2j * np.pi / 3)
    pair = (np.array([wins * root - 1 / root, wins / root - root]) / 3)[None] - values[:, None]
    np.testing.assert_allclose(np.sort_complex(spectrum), np.sort_complex(pair), atol=1e-9)
    assert list(branch.special) == [qra.dynamics.Special.HOPF, -1, -1, -1]
    assert not branch.located[0]
    # Interpolated in a test that is linear here.
    np.testing.assert_allclose(branch.special_value[0], (1 - wins) / 6, rtol=1e-9)


def test_lanes_in_single_precision():
    """Side by side two folds, a start that is NaN, and a strength that drowns rewards: each as if
    it were alone, and none fails silently."""
    single = jnp.float32
    refs = jnp.asarray([[0.45, 0.55], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]], single)
    probs = jnp.asarray([[1e-3, 1 - 1e-3]] * 2 + [[jnp.nan] * 2, [0.4, 0.6]], single)
    values = jnp.asarray([*np.log([0.08] * 3), 2.0], single)
    bounds = jnp.asarray([[np.log(0.05), 0.0]] * 3 + [[0.0, 100.0]], single)
    rates = jnp.asarray(UNEQUAL_RATES, single)

    def lane(ref, probs, value, bounds):
        own = qra.objectives.SequenceProbability()
        return follow_alone(own, ref, rates, probs, value, tuple(bounds))

    branch = jax.jit(jax.vmap(lane))(refs, probs, values, bounds)
    assert branch.value.dtype == branch.pattern_probs.dtype == single
    done, failed, invalid = qra.Status.COMPLETED, qra.Status.FAILED, qra.Status.INVALID_INPUT
    assert list(branch.status) == [done, done, invalid, failed]
    for lane, ref in enumerate(np.array([[0.45, 0.55], [0.4, 0.6]])):
        ((_, log_beta),) = fold_by_scan(ref, UNEQUAL_RATES)
        assert branch.fold[lane, 0]
        np.testing.assert_allclose(branch.special_value[lane, 0], log_beta, rtol=1e-4)
    assert not branch.valid[2].any()
    assert np.isnan(branch.value[2]).all()
    assert np.all(branch.kind[2] == -1)
    assert branch.valid[3].any()
    assert branch.value[3].max() < 100


def test_rows_run_out():
    """A step too short for the rows given is a status."""
    branch = by_own_probability()
    policy, family = branch.family()
    short = qra.dynamics.continue_fixed_point(
        policy, family, branch.probs, value=branch.value, bounds=tuple(branch.bounds),
        step=0.01, max_steps=ROWS,
    )  # fmt: skip
    assert short.status == qra.Status.MAX_STEPS
    assert short.valid.all()


def test_all_branches_at_once():
    """`fixed_points` under `vmap` over the parameter: three fixed points below the fold, one
    above it."""
    policy, problem = qra.two_stage(UNEQUAL, UNEQUAL_RATES)

    def at(beta):
        flow = qra.GradientFlow(qra.RLIF(qra.objectives.SequenceProbability(), beta), problem)
        return qra.fixed_points(policy, flow, faces="interior", starts=8).valid.sum()

    ((_, log_beta),) = fold_by_scan(UNEQUAL, UNEQUAL_RATES)
    beta = np.exp(log_beta)
    around = jnp.asarray([0.99 * beta, 1.01 * beta])
    assert list(jax.jit(jax.vmap(at))(around)) == [3, 1]


def own(**changes):
    """A call with one argument changed."""
    policy, family = by_own_probability().family()
    given = {"family": family, "policy": policy, "pattern_probs": jnp.asarray([0.5, 0.5, 0.0])}
    given |= {"value": -1.0, "bounds": (-2.0, 0.0)} | changes
    return qra.dynamics.continue_fixed_point(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": np.nan}, "value must be finite, got value = nan"),
        ({"value": 1.0}, "value must lie within the bounds"),
        ({"bounds": (1.0, -1.0)}, "bounds must be a smaller and a larger number"),
        ({"bounds": (0.0, 1.0, 2.0)}, "bounds must be two numbers, got 3"),
        ({"bounds": (-np.inf, 0.0)}, "bounds[0] must be finite"),
        ({"direction": 0}, "direction must be -1 or 1, got 0"),
        ({"step": 0.0}, "step must be above 0"),
        ({"max_steps": 1}, "max_steps must be at least 2, got 1"),
        ({"max_special": 0}, "max_special must be at least 1, got 0"),
        ({"question": 1}, "question must be at most 0, got 1"),
        ({"pattern_probs": jnp.asarray([0.5, 0.5])}, "pattern_probs must have shape (3)"),
    ],
)
def test_bad_input(changes, message):
    """One line, before anything is compiled."""
    with pytest.raises(ValueError, match="must") as error:
        own(**changes)
    assert message in str(error.value)


def test_family_of_another_kind():
    """It must be a function to flows."""
    with pytest.raises(TypeError, match="family must return a GradientFlow"):
        own(family=lambda value: value)
