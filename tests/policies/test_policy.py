"""What every policy answers, and what only some can do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qra_jax as qra
from qra_jax.flows._event import FlowState
from qra_jax.policies._policy import having, lacking

RNG = np.random.default_rng(3)
TABLE = qra.TabularPolicy(
    np.array([[0.3, -0.2, -np.inf], [1.0, 0.5, 0.1]]), RNG.normal(size=(2, 3, 4))
)
FEATURES = qra.linear_policy(
    RNG.normal(size=(2, 5)),
    3,
    TABLE.answer_logits,
    RNG.normal(size=(3, 5)),
    exists=np.asarray(TABLE.exists),
)
# Token 2 cannot follow token 0: the first question lacks its pattern.
TOKENS = qra.policies.MarkovPolicy(
    np.where([[0, 0], [0, 0], [1, 0]], -np.inf, 0.0)[:, [0, 1, 1]] + RNG.normal(size=(3, 3)),
    start=np.array([0, 1]),
    horizon=2,
    patterns=np.array([1, 0, 2]),
)
POLICIES = {"table": TABLE, "features": FEATURES, "tokens": TOKENS}
PROBLEM = qra.Problem(np.array([0, 2]), np.array([0.3, 0.7]))
KINDS = {
    "AbstractSampledPolicy": ("table", "features", "tokens"),
    "AbstractTwoStagePolicy": ("table", "features"),
    "AbstractTablePolicy": ("table",),
    "AbstractTokenPolicy": ("tokens",),
}


@pytest.mark.parametrize("name", POLICIES)
def test_numbers(name):
    """Questions, patterns and answers, as the arrays of the policy have them."""
    policy = POLICIES[name]
    answers = 3 if name == "tokens" else 4
    assert policy.reward_shape == (2, 3, answers)
    assert (policy.num_questions, policy.num_patterns, policy.num_answers) == (2, 3, answers)
    assert policy.exists.shape == (2, 3)
    assert not policy.exists.all()
    probs, _ = policy.pattern_table(PROBLEM)
    assert probs.shape == (2, 3)


@pytest.mark.parametrize("name", POLICIES)
def test_weights_of_patterns(name):
    """Proportional to the probabilities; nothing where a pattern does not exist."""
    policy = POLICIES[name]
    weights = policy.log_pattern_weights()
    np.testing.assert_array_equal(weights > -np.inf, policy.exists)
    probs, _ = policy.pattern_table(PROBLEM)
    np.testing.assert_allclose(jax.nn.softmax(weights), probs, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", POLICIES)
def test_what_only_some_can_do(name, kind):
    """Whoever asks gets the policy itself, or one line that says what it would have to be."""
    policy, wanted = POLICIES[name], getattr(qra.policies, kind)
    if name in KINDS[kind]:
        assert having(policy, wanted, "here") is policy
        assert lacking(policy, wanted) is None
        return
    assert lacking(policy, wanted) == wanted.needs
    with pytest.raises(TypeError, match=f"^policy must .* here, got a {type(policy).__name__}$"):
        having(policy, wanted, "here")


def test_other_pattern_logits():
    """A table with other pattern logits keeps its answers."""
    moved = TABLE.with_pattern_logits(TABLE.pattern_logits + jnp.arange(3.0)[None])
    np.testing.assert_array_equal(moved.answer_logits, TABLE.answer_logits)
    np.testing.assert_array_equal(moved.exists, TABLE.exists)
    np.testing.assert_array_equal(moved.pattern_logits[1], [1.0, 1.5, 2.1])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("values", [np.arange(3.0), np.ones((3, 1)), np.ones((2, 3))])
def test_values_of_a_reward_have_their_axes(name, values):
    """One axis or two could mean anything, R = A most of all: an error that names all three."""
    policy = POLICIES[name]
    message = (
        rf"three axes: question \(1 or Q = 2\), pattern \(1 or R = 3\), answer "
        rf"\(1 or A = {policy.num_answers}\), got shape \({', '.join(map(str, values.shape))},?\)"
    )
    for call in (
        lambda: policy.expectation(lambda *_: values, PROBLEM),
        lambda: policy.pattern_table(PROBLEM, lambda *_: values),
        lambda: qra.objectives.Mixture((lambda *_: values,), np.ones(1))(policy, PROBLEM),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("name", POLICIES)
def test_axes_that_are_read(name):
    """A scalar, and each axis of length 1 or whole: as the same values written out."""
    policy = POLICIES[name]
    shape = policy.reward_shape
    for lead in ((), (1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 1, shape[2]), (2, 3, 1), shape):
        values = np.asarray(np.random.default_rng(1).normal(size=lead))
        found = policy.pattern_table(PROBLEM, lambda *_, values=values: values)[1]
        whole = np.broadcast_to(values, shape)
        expected = policy.pattern_table(PROBLEM, lambda *_, whole=whole: whole)[1]
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_rewards_of_tokens_want_tokens():
    """A table has no tokens on the way to be paid for."""
    paid = qra.policies.TokenValues(np.ones(3))
    with pytest.raises(TypeError, match=r"^reward must be of pattern and answer for this policy"):
        TABLE.expectation(lambda *_: paid, PROBLEM)


def test_values_passed_by_any_policy():
    """The event is the same of a table and of its tokens: only pattern shares enter."""
    table, problem = qra.two_stage(np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.6, 0.1]))
    tokens, same = qra.tokens.as_tokens(table, problem)
    event = qra.ValuePasses(1)
    found = [
        event.value(FlowState(qra.GradientFlow(qra.RLVR(), p, "all"), one, jnp.zeros(()), tuple))
        for one, p in ((table, problem), (tokens, same))
    ]
    np.testing.assert_allclose(found[0], np.log(0.2 * 0.3) - np.log(0.3 * 0.5), rtol=1e-14)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-13)
