"""Properties of the flows of token policies, on chains drawn by hypothesis."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis.extra.numpy import arrays

import qra_jax as qra
from qra_jax.sweep import map_chunks

TOKENS, LENGTH, START = 3, 4, np.array([0, 2])
PROBLEM = qra.Problem(np.array([1, 1]), np.array([0.4, 0.6]))
LOG_TIMES = np.linspace(-2, 5, 8)
chains = arrays(np.float64, (TOKENS, TOKENS), elements=st.floats(-6, 6))


def policy_of(logits, start=START):
    """A chain of two questions whose patterns are their first tokens."""
    return qra.policies.MarkovPolicy(logits, start, LENGTH)


@functools.cache
def follow(beta):
    """RLVR of a chain `(V, V)` with starts and correct answers of its own, along log times."""

    def run(logits, start, correct, log_times):
        problem = qra.Problem(correct, PROBLEM.weights)
        flow = qra.GradientFlow(qra.RLVR(beta), problem, "all")
        path = qra.solve_flow(policy_of(logits, start), flow, log_times=log_times)
        rates = jax.vmap(lambda policy: policy.pattern_table(problem)[1])(path.policy)
        kl = jax.vmap(lambda policy: problem.mean(policy.kl(policy_of(logits, start))))
        return {
            "accuracy": path.accuracy,
            "shares": path.pattern_probs,
            "rates": rates,
            "logits": path.policy.logits,
            "kl": kl(path.policy),
            "status": path.status,
        }

    return jax.jit(run)


def rows(logits, start=START, correct=PROBLEM.correct, log_times=LOG_TIMES, beta=0.0):
    """What `follow` finds, as NumPy arrays."""
    given = (jnp.asarray(x) for x in (logits, start, correct, log_times))
    found = {key: np.asarray(value) for key, value in follow(beta)(*given).items()}
    assert found["status"] in (qra.Status.COMPLETED, qra.Status.STATIONARY)
    return found


@hypothesis.given(chains)
def test_shares_columns_and_accuracy(logits):
    """Shares sum to 1, accuracy is their mean rate and never falls, columns keep their sum."""
    found = rows(logits)
    np.testing.assert_allclose(found["shares"].sum(axis=-1), 1, atol=1e-12)
    mean = np.sum(found["shares"] * found["rates"], axis=-1) @ np.asarray(PROBLEM.weights)
    np.testing.assert_allclose(found["accuracy"], mean, atol=1e-12)
    assert np.all(np.diff(found["accuracy"]) >= -1e-8)
    kept = np.broadcast_to(logits.sum(axis=0), (len(LOG_TIMES), TOKENS))
    np.testing.assert_allclose(found["logits"].sum(axis=1), kept, atol=1e-9)


@hypothesis.given(chains, st.permutations(range(TOKENS)))
def test_names_of_tokens_mean_nothing(logits, order):
    """Renaming tokens renames the result."""
    order = np.array(order)
    here, name = rows(logits), np.argsort(order)
    there = rows(logits[np.ix_(order, order)], name[START], name[np.asarray(PROBLEM.correct)])
    np.testing.assert_allclose(there["accuracy"], here["accuracy"], atol=1e-8)
    np.testing.assert_allclose(there["shares"], here["shares"][..., order], atol=1e-7)


@hypothesis.given(chains, arrays(np.float64, TOKENS, elements=st.floats(-3, 3)))
def test_a_constant_for_a_column_means_nothing(logits, shift):
    """Softmax columns: adding a number to a column changes no probability."""
    here, there = rows(logits), rows(logits + shift[None])
    np.testing.assert_allclose(there["accuracy"], here["accuracy"], atol=1e-8)


@hypothesis.given(chains)
def test_stopping_on_the_way_changes_nothing(logits):
    """The flow from where it is at one time ends where it would have ended."""
    found = rows(logits)
    middle = found["logits"][4]
    left = np.log(np.exp(LOG_TIMES[-1]) - np.exp(LOG_TIMES[4]))
    again = rows(middle, log_times=np.minimum(LOG_TIMES, left))
    np.testing.assert_allclose(again["accuracy"][-1], found["accuracy"][-1], atol=1e-7)


@hypothesis.given(chains)
def test_a_penalty_holds_back(logits):
    """With a KL penalty it is the objective that never falls, and so from what it was before."""
    found = rows(logits, beta=0.5)
    columns = np.exp(logits) / np.exp(logits).sum(axis=0)
    ends = np.linalg.matrix_power(columns, LENGTH)[np.asarray(PROBLEM.correct), START]
    before = ends @ np.asarray(PROBLEM.weights)
    objective = found["accuracy"] - 0.5 * found["kl"]
    assert np.all(np.diff(objective, prepend=before) >= -1e-8)
    # Pinsker's inequality, of the event that the last token is right.
    gain = found["accuracy"] - before
    assert np.all(found["kl"] >= 2 * gain**2 - 1e-10)


def test_single_precision():
    """float32 in, float32 out, near the result in float64; sampled steps too."""
    logits = np.random.default_rng(0).normal(size=(TOKENS, TOKENS))
    single = policy_of(jnp.asarray(logits, jnp.float32))
    problem = qra.Problem(PROBLEM.correct, jnp.asarray(PROBLEM.weights, jnp.float32))
    flow = qra.GradientFlow(qra.RLVR(), problem, "all")
    found = qra.solve_flow(single, flow, log_times=jnp.asarray(LOG_TIMES, jnp.float32))
    assert found.accuracy.dtype == found.final_policy.logits.dtype == jnp.float32
    np.testing.assert_allclose(found.accuracy, rows(logits)["accuracy"], atol=1e-4)
    sampler = qra.SampledGroups(4)
    run = qra.train(single, flow, optax.sgd(0.5), 1, sampler=sampler, key=jax.random.key(0))
    assert run.final_policy.logits.dtype == jnp.float32
    assert run.status == qra.Status.COMPLETED


def test_in_a_sweep():
    """Chains in chunks, as by themselves."""
    logits = np.random.default_rng(1).normal(size=(TOKENS, TOKENS))
    sharpness = np.linspace(0.5, 2.0, 5)

    def run(scale):
        flow = qra.GradientFlow(qra.RLVR(), PROBLEM, "all")
        path = qra.solve_flow(policy_of(scale * logits), flow, log_times=jnp.asarray(LOG_TIMES))
        return path.accuracy, path.status

    accuracy, status = map_chunks(run, sharpness, width=2)
    np.testing.assert_array_equal(status, qra.Status.COMPLETED)
    for scale, row in zip(sharpness, accuracy, strict=True):
        np.testing.assert_allclose(row, rows(scale * logits)["accuracy"], atol=1e-7)
