"""The factor table: its start, its gradients, and what an optimiser for each leaf does to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import qra_jax as qra
from qra_jax.policies import factor_policy

PROBS = np.array([0.05, 0.70, 0.25])
RATES = np.array([0.9, 0.7, 0.1])


def made(**given):
    table, problem = qra.two_stage(PROBS, RATES)
    policy = factor_policy(PROBS, table.answer_logits, jax.random.key(1), **given)
    return policy, problem


def test_it_starts_where_it_is_told():
    """Shares at the start, spread of rows beyond the features, size of what the head reads."""
    policy, problem = made(width=64, size=1.4, row_spread=0.04)
    probs, rates = policy.pattern_table(problem)
    np.testing.assert_allclose(probs, PROBS[None], rtol=1e-12)
    np.testing.assert_allclose(rates, RATES[None], rtol=1e-12)
    table = policy.network
    hidden = np.asarray(table.hidden)
    assert np.sqrt(np.mean(hidden**2)) == pytest.approx(1.4)
    head = np.asarray(table.head)
    beyond = head - np.outer(head @ hidden, hidden) / (hidden @ hidden)
    assert beyond.std() == pytest.approx(0.04, rel=0.2)


def test_gradient_ascent_of_the_head_is_a_table():
    """With features at rest the logits move by |h|^2 times those of a table, whatever the rows."""
    policy, problem = made(row_spread=0.3)
    flow = qra.GradientFlow(qra.RLVR(), problem)
    params, frozen = flow.split(policy)
    pull = flow.velocity(params, frozen, policy).arrays
    exact = PROBS * (RATES - PROBS @ RATES)
    hidden = np.asarray(policy.network.hidden)
    np.testing.assert_allclose(pull.head, np.outer(exact, hidden), atol=1e-14)
    # Features through the norm: no pull along themselves, and that of W^T g across.
    back = exact @ np.asarray(policy.network.head)
    across = back - hidden * (hidden @ back) / (hidden @ hidden)
    np.testing.assert_allclose(pull.features, across, atol=1e-14)


def test_an_optimiser_for_each_leaf():
    """Adam in the limit of its first step moves every weight by its learning rate, features by
    kappa of it; the run by `train` does."""
    policy, problem = made(row_spread=0.3)
    flow = qra.GradientFlow(qra.RLVR(), problem)

    def labels(params):
        where = lambda p: (p.arrays.head, p.arrays.features)  # noqa: E731
        return eqx.tree_at(where, params, ("head", "features"))

    adam = optax.adam(1e-3)
    faster = optax.chain(optax.adam(1e-3), optax.scale(7.0))
    optimiser = optax.partition({"head": adam, "features": faster}, labels)
    run = qra.train(policy, problem, optimiser, 1)
    before, after = (flow.split(p)[0].arrays for p in (policy, run.final_policy))
    moved = jtu.tree_map(lambda x, y: jnp.abs(x - y), after, before)
    np.testing.assert_allclose(moved.head, 1e-3, rtol=1e-3)
    np.testing.assert_allclose(moved.features, 7e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"width": 1}, "width must be at least 2"), ({"size": 0.0}, "size must be above 0"),
     ({"row_spread": -1.0}, "row_spread must be at least 0")],
)  # fmt: skip
def test_bad_settings(given, says):
    with pytest.raises(ValueError, match=says):
        made(**given)
    table, _ = qra.two_stage(PROBS, RATES)
    with pytest.raises(ValueError, match="pattern_probs must sum to 1"):
        factor_policy(np.array([0.5, 0.4, 0.2]), table.answer_logits, jax.random.key(0))
