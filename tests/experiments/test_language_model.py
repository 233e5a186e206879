"""The small language model: what it draws, what it is graded by, and what its steps estimate."""

import dataclasses
import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qra_jax as qra
from experiments.language_model import _task as task
from experiments.language_model._model import Transformer
from experiments.language_model._run import Run, reason, stop_of, train
from experiments.language_model._sample import Format, columns_of, draw
from experiments.language_model._training import (
    Imitation,
    Reinforcement,
    begin,
    group_loss,
    majority,
    pass_at,
)

TINY = Format(end=2, pad=3, length=3)
QUESTION = jnp.array([[0, 1], [1, 1]])


@functools.cache
def tiny(seed=1):
    """A model of four tokens, with logits that are not near zero."""
    key = jax.random.key(seed)
    model = Transformer(4, 5, width=8, heads=2, layers=2, key=key, dtype=jnp.float64)
    return jax.tree_util.tree_map(lambda x: 3 * x if eqx.is_array(x) else x, model)


def all_responses():
    """Every response of three tokens, padded after its end."""
    kept = []
    for row in itertools.product(range(4), repeat=3):
        ends = [i for i, token in enumerate(row) if token == TINY.end]
        last = ends[0] if ends else 2
        if all(token == TINY.pad for token in row[last + 1 :]):
            kept.append(row)
    return jnp.array(kept)


def test_cache_and_whole_texts_agree():
    """Token by token from the cache, and all at once: the same log probabilities."""
    model = tiny()
    drawn = eqx.filter_jit(draw)(model, QUESTION, 256, jax.random.key(0), TINY)
    found = eqx.filter_jit(columns_of)(model, QUESTION, drawn.tokens, TINY)
    np.testing.assert_allclose(drawn.log_probs, found.log_probs, atol=1e-12)
    ended = np.cumsum(np.asarray(drawn.tokens) == TINY.end, axis=-1) > 0
    assert np.all(np.asarray(drawn.tokens)[..., 1:][ended[..., :-1]] == TINY.pad)
    texts = jnp.concatenate([jnp.repeat(QUESTION, 256, axis=0), drawn.tokens.reshape(512, 3)], 1)
    whole = eqx.filter_jit(Transformer.read)(model, texts[:, :-1])[0][:, 1:]
    np.testing.assert_allclose(found.columns.reshape(whole.shape), whole, atol=1e-12)


def test_responses_have_their_probabilities():
    """Of all responses the probabilities sum to 1, and they are the frequencies of draws."""
    model, every, number = tiny(), all_responses(), 20_000
    found = eqx.filter_jit(columns_of)(model, QUESTION[:1], every[None], TINY)
    probs = np.exp(found.total[0])
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-10)
    drawn = eqx.filter_jit(draw)(model, QUESTION[:1], number, jax.random.key(3), TINY).tokens[0]
    rows = np.asarray(drawn)
    counts = np.array([np.sum(np.all(rows == row, axis=1)) for row in np.asarray(every)])
    assert counts.sum() == number
    assert np.all(np.abs(counts - number * probs) <= 5 * np.sqrt(number * probs) + 1)


def test_questions_and_texts():
    """Texts are right as often as their pattern says; no question is in both halves."""
    numbers = task.draw_numbers(jax.random.key(0), 4000)
    held, trained = ({tuple(row) for row in x.tolist()} for x in (task.HELD_OUT, task.TRAINED))
    assert not held & trained
    assert held | trained == set(itertools.product(range(100), repeat=2))
    assert len(held) == 1429
    assert {tuple(row) for row in np.asarray(numbers).tolist()} <= trained
    asked = task.questions_of(numbers)
    units = np.sum(np.asarray(numbers) % 10, axis=1)
    wanted = {
        task.Pattern.WORKED: 1.0,
        task.Pattern.DIRECT: np.mean(units < 10),
        task.Pattern.SHORTCUT: np.mean(units == 10),
        task.Pattern.ESTIMATE: 0.1 * np.mean(units < 10),
    }
    for pattern, share in wanted.items():
        kinds = jnp.full(4000, int(pattern))
        texts = task.responses(jax.random.key(1), numbers, kinds)
        right = np.mean(task.grade(texts, asked.answer))
        assert abs(right - share) <= 5 * np.sqrt(share * (1 - share) / 4000)
        np.testing.assert_array_equal(task.pattern_of(texts), int(pattern))
    assert task.text(np.asarray(asked.tokens[0])).count("+") == 1


def tokens_of(text):
    """A response from its characters."""
    names = {**{str(i): i for i in range(10)}, "+": 10, "=": 11, ";": 12, ".": 13, "_": 14}
    names |= {"w": 15, "d": 16, "s": 17, "e": 18}
    return jnp.array([names[c] for c in text.ljust(task.RESPONSE, "_")])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("d123.", True),
        ("w1311;123.", True),
        ("w9999;123.", True),  # only the answer is graded
        ("d123.9", True),  # what comes after the end is not read
        ("d321.", False),
        ("123.", False),
        ("d0123.", False),
        ("d1230.", False),
        ("d12.", False),
        ("d123", False),
        ("w1311;123", False),
        ("d123;.", False),
        ("d123;12.", False),
        ("dd123.", False),
        ("d1d3.", False),
        ("d;123.", True),
        ("w123;111.", False),
        (".d123.", False),
        ("d1+3.", False),
        ("d012;123;.", False),
    ],
)
def test_grades_of_adversarial_answers(text, right):
    """The right one is 321."""
    assert bool(task.grade(tokens_of(text), jnp.array(321))) == right


def test_majority():
    """The most frequent answer of a group earns 1; no answer earns nothing and wins no vote."""
    group = ["d123.", "w1311;123.", "d111.", "++", "d3", "d3"]
    rows = jnp.stack([tokens_of(text) for text in group])
    np.testing.assert_array_equal(majority(rows[None])[0], [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(majority(rows[None, 3:])[0], 0)


def test_pass_at():
    """One minus the chance that all of k draws without replacement are wrong."""
    right = jnp.array([[True, False, False, False], [True, True, True, False], [False] * 4])
    for number, wanted in ((1, (1 / 4 + 3 / 4) / 3), (2, (1 / 2 + 1) / 3), (4, 2 / 3)):
        np.testing.assert_allclose(pass_at(right, number), wanted, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_gradient_is_unbiased(beta):
    """Over all pairs of responses, the mean gradient is the exact one: of the expected reward less
    beta times the divergence of whole responses."""
    every, model = all_responses(), tiny()
    rewards = jnp.sin(7.0 * jnp.arange(len(every)))

    def log_probs(model):
        return columns_of(model, QUESTION[:1], every[None], TINY).total[0]

    first, at = log_probs(tiny(2)), log_probs(model)

    def exact(model):
        now = log_probs(model)
        return -jnp.sum(jnp.exp(now) * (rewards - beta * (now - first)))

    pairs = jnp.array(list(itertools.product(range(len(every)), repeat=2)))
    chances = jnp.exp(jnp.sum(at[pairs], axis=1))
    sampler = qra.SampledGroups(2, estimator=qra.RLOO())

    def weighed(model):
        """The loss of every pair by itself, times its chance."""
        now = log_probs(model)
        one = functools.partial(group_loss, sampler, beta)
        parts = (rewards[pairs], now[pairs], first[pairs])
        return jnp.sum(chances * jax.vmap(one)(*(part[:, None] for part in parts)))

    found, wanted = (eqx.filter_jit(eqx.filter_grad(f))(model) for f in (weighed, exact))
    for a, b in zip(*map(jax.tree_util.tree_leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


OPTIMISER = optax.adam(1e-3)
HOW = Reinforcement("self_certainty", qra.SampledGroups(4, batch=3), OPTIMISER, beta=0.01)
RUN = Run(HOW, num_steps=12, seed=5, held_out=16)


@functools.cache
def small():
    """A model of the task's own tokens."""
    length = task.QUESTION + task.RESPONSE
    return Transformer(task.NUM_TOKENS, length, 16, 2, 1, jax.random.key(0))


def same(one, other):
    """Bit by bit, NaN where NaN is."""
    for a, b in zip(*(jax.tree_util.tree_leaves(eqx.filter(x, eqx.is_array)) for x in (one, other)),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_runs_resume_bit_by_bit(tmp_path):
    """Stopped between two checkpoints, a run does again what was lost, and ends in the same."""
    whole = train(RUN, small(), tmp_path / "whole.eqx")
    assert int(whole.state.step) == 12
    assert stop_of(whole) == -1

    class Killed(Exception):
        pass

    def kill(step):
        if step == 9:
            raise Killed

    path = tmp_path / "killed.eqx"
    with pytest.raises(Killed):
        train(RUN, small(), path, seen=kill, every=4)
    steps = []
    again = train(RUN, small(), path, seen=steps.append, every=4)
    assert steps == [9, 10, 11, 12]
    same(whole, again)
    same(train(RUN, small(), path, seen=steps.append), again)
    assert len(steps) == 4


def test_what_is_not_finite_stops(tmp_path):
    """The last good model is kept, the run says where it stopped, and goes no further."""

    def update(updates, state, params=None):
        bad = jnp.where(state == 3, jnp.nan, 0.0).astype(jnp.float32)
        return jax.tree_util.tree_map(lambda x: -1e-3 * x + bad, updates), state + 1

    broken = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    run = dataclasses.replace(RUN, how=dataclasses.replace(HOW, optimiser=broken))
    path = tmp_path / "run.eqx"
    found = train(run, small(), path)
    assert reason(stop_of(found)) == "not finite at step 3: the model before it is kept"
    good = dataclasses.replace(run, num_steps=3)
    same(found.state.model, train(good, small(), tmp_path / "good.eqx").state.model)
    assert np.isfinite(found.curves.log.reward).sum() == 4
    same(train(run, small(), path), found)


def test_only_openings_are_trained(tmp_path):
    """The table: nothing but the opening tokens' weights in the head moves."""
    how = dataclasses.replace(HOW, optimiser=optax.sgd(1.0), openings_only=True)
    after = train(dataclasses.replace(RUN, how=how), small(), tmp_path / "run.eqx").state.model
    moved = np.any(np.asarray(after.head != small().head), axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), np.arange(15, 19))
    same(eqx.tree_at(lambda m: m.head, after, small().head), small())


def test_imitation_learns():
    """Texts of one pattern are learnt: the loss falls, and that pattern is opened."""
    imitation = Imitation((0.0, 1.0, 0.0, 0.0), 64, optax.adam(1e-2))
    step = eqx.filter_jit(imitation.step)
    state, losses = begin(small(), imitation.optimiser), []
    for _ in range(60):
        state, loss = step(jax.random.key(2), state)
        losses.append(float(loss))
    assert losses[-1] < 0.75 * losses[0]
    asked = task.questions_of(task.draw_numbers(jax.random.key(3), 64)).tokens
    drawn = draw(state.model, asked, 1, jax.random.key(4), task.FORM)
    assert np.mean(task.pattern_of(drawn.tokens) == task.Pattern.DIRECT) > 0.9
