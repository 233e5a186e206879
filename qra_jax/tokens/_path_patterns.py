"""Patterns as sets of token paths."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._core.checks import require, require_all
from ..policies._markov import MarkovPolicy
from ..policies._policy import RewardFunction
from ..policies._problem import Problem


class PathPatterns(eqx.Module):
    r"""Patterns as sets of token paths: a finite automaton reads the tokens drawn, from state 0,
    and the state in which it ends decides the pattern.

    A set of sequences of which membership can be decided so (any finite set, and any regular one)
    is read off a `MarkovPolicy` exactly, $O(Q L S V^{n+1})$ for S states: the mass of a context is
    kept apart by state.

    **Arguments:**

    - `transitions`: `(S, V)` integers, the state after a state and a token.
    - `pattern_of`: `(S,)` integers from 0, the pattern of each state at the end.

    **Raises:** `ValueError` if a shape does not fit or a state or pattern is out of range.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy = qra.policies.MarkovPolicy(jnp.zeros((4, 4)), start=[0], horizon=6)
        shown = qra.tokens.PathPatterns.by_phrase([[1, 2], [3]], num_tokens=4)
        print(shown.table(policy, qra.Problem([2])))  # 1 2 first, 3 first, neither
        ```

    Source: arXiv 2506.04695 (patterns); the recursion is derived in
    docs/derivations.md#policies-over-tokens.
    """

    transitions: Int[Array, "S V"]
    pattern_of: Int[Array, " S"]
    num_patterns: int = eqx.field(static=True)

    def __init__(self, transitions: ArrayLike, pattern_of: ArrayLike):
        moves, kinds = np.asarray(transitions), np.asarray(pattern_of)
        for name, value, fits in (
            ("transitions", moves, moves.ndim == 2 and moves.size > 0),
            ("pattern_of", kinds, kinds.shape == moves.shape[:1]),
        ):
            fits = fits and np.issubdtype(value.dtype, np.integer)
            must = "be integers of shape (S, V) and (S,)"
            require(fits, name, must, (value.dtype, value.shape))
        states = len(moves)
        inside = f"be states, 0 to {states - 1}"
        require_all(moves, lambda x: (x >= 0) & (x < states), "transitions", inside)
        require_all(kinds, lambda x: x >= 0, "pattern_of", "be at least 0")
        self.transitions, self.pattern_of = jnp.asarray(moves), jnp.asarray(kinds)
        self.num_patterns = int(kinds.max()) + 1

    @classmethod
    def by_phrase(cls, phrases: Sequence[Sequence[int]], num_tokens: int) -> "PathPatterns":
        """The pattern of a path is the phrase that it completes first, the longest where several
        end at once; the last pattern is that of paths that complete none.

        **Arguments:** `phrases`: of one or more tokens each, different; `num_tokens`: V.

        **Raises:** `ValueError` if there is no phrase, one is empty or stands twice, or a token is
        out of range.
        """
        known = [tuple(phrase) for phrase in phrases]
        require(all(known) and bool(known), "phrases", "hold one token each at least", phrases)
        require(len(set(known)) == len(known), "phrases", "be different", phrases)
        inside = all(0 <= token < num_tokens for phrase in known for token in phrase)
        require(inside, "phrases", f"be of tokens, 0 to {num_tokens - 1}", phrases)
        # A state is the longest end of what was read that some phrase begins with; then the ends.
        begun = sorted({p[:i] for p in known for i in range(len(p))}, key=lambda p: (len(p), p))
        moves = np.empty((len(begun) + len(known), num_tokens), int)
        moves[len(begun) :] = len(begun) + np.arange(len(known))[:, None]
        for state, read in enumerate(begun):
            for token in range(num_tokens):
                ends = [(*read, token)[i:] for i in range(len(read) + 2)]
                done = [known.index(end) for end in ends if end in known]
                onward = next(begun.index(end) for end in ends if end in begun)
                moves[state, token] = len(begun) + done[0] if done else onward
        return cls(moves, np.concatenate([np.full(len(begun), len(known)), np.arange(len(known))]))

    def table(
        self, policy: MarkovPolicy, problem: Problem, reward: RewardFunction | None = None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        r"""Shares of the patterns and their values: $\pi(r|q)$ and the mean reward within each.

        **Arguments:** `policy`; `problem`; `reward`: of tokens or answers, such that it does not
        depend on the policy's own patterns; the verifiable one if not given, and then the values
        are success rates.

        **Returns:** two arrays `(Q, R)`; a pattern of share 0 has the value 0.

        **Raises:** `ValueError` if the automaton reads another number of tokens, or the reward
        depends on the policy's own patterns.
        """
        tokens = policy.num_tokens
        shape = self.transitions.shape
        require(shape[1] == tokens, "transitions", f"have shape (S, {tokens})", shape)
        values = policy.token_values(reward, problem)
        end = values.end
        require(end.shape[1] == 1, "reward", "not depend on the policy's patterns", end.shape)
        columns = jnp.exp(policy.log_columns())
        into = jax.nn.one_hot(self.transitions, shape[0], dtype=columns.dtype)

        def push(mass: Float[Array, "Q S *context"]) -> Float[Array, "Q S *context"]:
            moved = jnp.sum(mass[..., None] * columns[None, None], axis=2)
            return jnp.einsum("qs...y,syt->qt...y", moved, into)

        def read(state, _):
            mass, earned = state
            return (push(mass), push(earned + mass * values.along[None, None])), None

        begin = policy.visits()[0]
        start = jnp.zeros((begin.shape[0], shape[0], *begin.shape[1:]), begin.dtype)
        start = start.at[:, 0].set(begin)
        (mass, earned), _ = jax.lax.scan(
            read, (start, jnp.zeros_like(start)), length=policy.horizon
        )
        older = tuple(range(2, 1 + policy.context))
        mass, earned = jnp.sum(mass, axis=older), jnp.sum(earned, axis=older)
        earned = jnp.sum(earned + mass * end, axis=-1)
        # By pattern: states of the same one together.
        mine = jax.nn.one_hot(self.pattern_of, self.num_patterns, dtype=columns.dtype)
        shares, total = jnp.sum(mass, axis=-1) @ mine, earned @ mine
        there = shares > 0
        return shares, jnp.where(there, total / jnp.where(there, shares, 1), 0)
