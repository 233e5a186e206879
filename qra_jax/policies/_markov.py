"""Policies over tokens: each token drawn given the last few, exactly, by dynamic programming."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree

from .._core.checks import as_float, is_concrete, require, require_all, whole
from .._core.floats import snapped_difference
from ._columns import (
    ahead,
    chances,
    column_divergence,
    drawn_given,
    earned,
    paid_at_end,
    pushed,
    pushed_times,
    visits,
)
from ._means import mean_of
from ._policy import (
    AbstractPolicy,
    AbstractSampledPolicy,
    AbstractTokenPolicy,
    Outcomes,
    Part,
    RewardFunction,
    having,
    no_natural_gradient,
)
from ._problem import Problem
from ._token_values import RewardValues, TokenValues, as_token_values, reward_table


class MarkovPolicy(AbstractSampledPolicy, AbstractTokenPolicy):
    r"""Token columns, $\pi(y_l | y_{l-1}) = \mathrm{softmax}(\theta_{\cdot, y_{l-1}})_{y_l}$, along
    L tokens from a start; with a context of n tokens, given the last n.

    The last token $y_L$ is the answer. The pattern is the class of the token at one position, the
    branch. Every expectation is a sum over contexts, position by position, in
    $O(Q L V^{n+1})$, never over sequences. Questions differ in where they start; they share the
    columns, so that they are not independent.

    **Arguments:**

    - `logits`: $\theta$, `(V, V)`: the next token, then the last one; for a context of n tokens
      `(V,) * (n + 1)`, oldest first. Finite or `-inf`, at least one finite for every context.
    - `start`: `(Q,)` tokens that the questions start from; `(Q, n)` for a context of n.
    - `horizon`: L, the number of tokens drawn, at least 1.
    - `branch`: the position, 1 to L, of the token that decides the pattern.
    - `patterns`: `(V,)` integers from 0, the pattern of each token at the branch; each token is one
      of its own if not given.
    - `trained`: bool, `(V,) * n`, False for contexts whose column is frozen; all are trained if not
      given.

    **Raises:** `ValueError` if a shape does not fit, an entry is NaN or `+inf`, a column is all
    `-inf`, a token or pattern is out of range, or a number is too small.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        policy = qra.policies.MarkovPolicy(jnp.zeros((4, 4)), start=[0], horizon=3)
        flow = qra.GradientFlow(qra.RLVR(), qra.Problem([2]), "all")
        print(qra.solve_flow(policy, flow, log_times=[0.0, 2.0]).accuracy)
        ```

    Source: arXiv 2506.04695 v2 (token columns, as summarised); the recursions are derived in
    docs/derivations.md#policies-over-tokens.
    """

    logits: Float[Array, "V *context"]
    start: Int[Array, "Q n"]
    pattern_of: Int[Array, " V"]
    trained: Bool[Array, "*context"] | None
    horizon: int = eqx.field(static=True)
    branch: int = eqx.field(static=True)
    _num_patterns: int = eqx.field(static=True)
    independent_questions: ClassVar[bool] = False

    def __init__(
        self,
        logits: ArrayLike,
        start: ArrayLike,
        horizon: int,
        *,
        branch: int = 1,
        patterns: ArrayLike | None = None,
        trained: ArrayLike | None = None,
    ):
        table, begin = as_float(logits, "logits"), jnp.asarray(start)
        tokens, context = table.shape[0] if table.ndim else 0, table.ndim - 1
        same = table.ndim >= 2 and len(set(table.shape)) == 1 and tokens > 0
        require(same, "logits", "have shape (V,) * (n + 1), n at least 1", table.shape)
        require_all(table, lambda x: x < jnp.inf, "logits", "be finite or -inf")
        if is_concrete(table):
            must = "be finite (some token must be able to follow)"
            require_all(np.max(table, axis=0), lambda x: x > -np.inf, "logits.max(axis=0)", must)
        begin = begin[:, None] if begin.ndim == 1 and context == 1 else begin
        fits = begin.ndim == 2 and begin.shape[1] == context and begin.size > 0
        shape = "(Q,)" if context == 1 else f"(Q, {context})"
        require(fits, "start", f"have shape {shape}", np.shape(start))
        integer = jnp.issubdtype(begin.dtype, jnp.integer)
        require(integer, "start", "hold integers", begin.dtype.name)
        _in_range(begin, tokens, "start")
        self.logits, self.start = table, begin
        self.horizon, self.branch = whole(horizon, "horizon", 1), whole(branch, "branch", 1)
        require(branch <= horizon, "branch", f"be at most the horizon, {horizon}", branch)
        kinds = np.arange(tokens) if patterns is None else np.asarray(patterns)
        fits = kinds.shape == (tokens,) and np.issubdtype(kinds.dtype, np.integer)
        require(fits, "patterns", f"be integers of shape {(tokens,)}", (kinds.dtype, kinds.shape))
        require_all(kinds, lambda x: x >= 0, "patterns", "be at least 0")
        self.pattern_of, self._num_patterns = jnp.asarray(kinds), int(kinds.max()) + 1
        if trained is None:
            self.trained = None
        else:
            self.trained = jnp.asarray(trained)
            fits = self.trained.shape == table.shape[1:] and self.trained.dtype == bool
            kind = (self.trained.dtype, self.trained.shape)
            require(fits, "trained", f"be bool of shape {table.shape[1:]}", kind)

    @property
    def num_questions(self) -> int:
        return self.start.shape[0]

    @property
    def num_patterns(self) -> int:
        return self._num_patterns

    @property
    def num_answers(self) -> int:
        return self.num_tokens

    @property
    def num_tokens(self) -> int:
        """V, the size of the vocabulary."""
        return self.logits.shape[0]

    @property
    def context(self) -> int:
        """n, how many of the last tokens the next one depends on."""
        return self.logits.ndim - 1

    @eqx.filter_jit  # here and below: one small program, not one for each operation
    def log_columns(self) -> Float[Array, "*context V"]:
        logits = self.logits
        if self.trained is not None:
            logits = jnp.where(self.trained[None], logits, jax.lax.stop_gradient(logits))
        return jax.nn.log_softmax(jnp.moveaxis(logits, 0, -1))

    @eqx.filter_jit
    def visits(self) -> Float[Array, "L Q *context"]:
        """The probability of each context before each of the L tokens drawn."""
        return visits(self._begin(), jnp.exp(self.log_columns()), self.horizon)

    @eqx.filter_jit
    def answer_probs(self) -> Float[Array, "Q V"]:
        """The distribution of the last token of each question."""
        columns = jnp.exp(self.log_columns())
        end = pushed(self.visits()[-1], columns)
        return jnp.sum(end, axis=tuple(range(1, end.ndim - 1)))

    @eqx.filter_jit
    def log_prob(self, sequences: Int[Array, "*N L"], question: int = 0) -> Float[Array, "*N"]:
        """The log probability of whole sequences of L tokens after a question's start, in nats.

        **Arguments:** `sequences`: `(..., L)` tokens; `question`: its index.
        """
        return jnp.sum(self.log_columns()[self.draws(sequences, self.start[question])], axis=-1)

    def draws(self, sequences: Int[Array, "*N L"], start: Int[Array, "*B n"]) -> tuple[Array, ...]:
        """Where the columns hold the draws of whole sequences: an index of n + 1 arrays `(..., L)`,
        the context, oldest token first, and the token drawn in it.

        **Arguments:** `sequences`: `(..., L)` tokens; `start`: `(..., n)`, or `(n,)` for all.
        """
        last = sequences.shape[-1:]
        require(last == (self.horizon,), "sequences", f"end in L = {self.horizon}", sequences.shape)
        begin = jnp.broadcast_to(start, (*sequences.shape[:-1], self.context))
        tokens = jnp.concatenate([begin, sequences], axis=-1)
        return tuple(tokens[..., i : i + self.horizon] for i in range(self.context + 1))

    def sample(self, key: PRNGKeyArray, number: int, question: int = 0) -> Int[Array, "N L"]:
        """Draw sequences of a question.

        **Arguments:** `key`; `number`: N, at least 1; `question`: its index.

        **Returns:** `(N, L)` tokens, without the start.
        """
        whole(number, "number", 1)
        columns = self.log_columns()
        begin = jnp.broadcast_to(self.start[question], (number, self.context))

        def draw(last, key):
            token = jax.random.categorical(key, columns[tuple(last.T)])
            return jnp.concatenate([last[:, 1:], token[:, None]], axis=1), token

        return jax.lax.scan(draw, begin, jax.random.split(key, self.horizon))[1].T

    def _begin(self) -> Float[Array, "Q *context"]:
        shape = (self.num_questions, *self.logits.shape[1:])
        at = (jnp.arange(shape[0]), *self.start.T)
        return jnp.zeros(shape, self.logits.dtype).at[at].set(1)

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        return self._branch_shares() > 0

    @eqx.filter_jit
    def log_pattern_weights(self) -> Float[Array, "Q R"]:
        shares = self._branch_shares()
        there = shares > 0
        return jnp.where(there, jnp.log(jnp.where(there, shares, 1)), -jnp.inf)

    def _at_branch(self) -> Float[Array, "Q *context"]:
        """The mass of each context once the branch is drawn."""
        return pushed_times(self._begin(), jnp.exp(self.log_columns()), self.branch)

    @eqx.filter_jit
    def _branch_shares(self) -> Float[Array, "Q R"]:
        return self._shares(self._at_branch())

    def _by_pattern(self, mass: Float[Array, "Q *context"]) -> Float[Array, "Q R *context"]:
        """The mass of each pattern apart; the last axis is the token at the branch."""
        mine = self.pattern_of[None] == jnp.arange(self.num_patterns)[:, None]
        mine = mine.reshape(self.num_patterns, *[1] * (self.context - 1), self.num_tokens)
        return jnp.where(mine[None], mass[:, None], 0)

    def _shares(self, mass: Float[Array, "Q *context"]) -> Float[Array, "Q R"]:
        return jnp.sum(self._by_pattern(mass), axis=tuple(range(2, self.context + 2)))

    def _after_branch(
        self, columns: Float[Array, "*context V"], values: TokenValues
    ) -> Float[Array, "Q R *context"]:
        """What is still to come in each context at the branch."""
        end = paid_at_end(values.end, columns)
        return ahead(end, columns, values.along, self.horizon - self.branch)

    def expectation(self, reward: RewardFunction, problem: Problem) -> Float[Array, " Q"]:
        return self._expected(self.token_values(reward, problem))

    @eqx.filter_jit
    def _expected(self, values: TokenValues) -> Float[Array, " Q"]:
        columns = jnp.exp(self.log_columns())
        at_branch = self._own(self._after_branch(columns, values))
        whole_way = ahead(at_branch, columns, values.along, self.branch)
        questions = self.num_questions
        at = (jnp.arange(questions), jnp.zeros((), int), *self.start.T)
        return jnp.broadcast_to(whole_way, (questions, *whole_way.shape[1:]))[at]

    def _own(self, values: Float[Array, "Q R *context"]) -> Float[Array, "Q 1 *context"]:
        """Of values by pattern, those of the pattern that each context has at the branch."""
        if values.shape[1] == 1:
            return values
        mine = self._by_pattern(jnp.ones((1, *values.shape[2:]), values.dtype))
        return jnp.sum(mine * values, axis=1, keepdims=True)

    def token_values(self, reward: RewardFunction | None, problem: Problem) -> TokenValues:
        """What a reward pays: `along`, of every context, for each token drawn (so that they add up
        to the mean), and `end`, of three axes.

        **Arguments:** `reward`: as in `expectation`, the verifiable one if None; `problem`.

        **Raises:** `ValueError` if its values do not broadcast to (Q, R, A).
        """
        found = problem.correctness(self.num_answers) if reward is None else reward(self, problem)
        return self._values(found)

    def _values(self, found: RewardValues) -> TokenValues:
        values = as_token_values(found)
        along = jnp.broadcast_to(values.along / self.horizon, self.logits.shape[1:])
        return TokenValues(along, reward_table(values.end, self.reward_shape))

    def excess(
        self, reward: RewardFunction, problem: Problem, level: Float[Array, " Q"]
    ) -> Float[Array, " Q"]:
        return snapped_difference(self.expectation(reward, problem), level)

    def pattern_table(
        self, problem: Problem, reward: RewardFunction | None = None
    ) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        return self._table(self.token_values(reward, problem))

    @eqx.filter_jit
    def _table(self, values: TokenValues) -> tuple[Float[Array, "Q R"], Float[Array, "Q R"]]:
        columns = jnp.exp(self.log_columns())
        mass, gain = earned(self._begin(), columns, values.along, self.branch)
        later = self._after_branch(columns, values)
        shares = self._shares(mass)
        there = shares > 0
        over = (*shares.shape, *[1] * self.context)
        weights = self._by_pattern(mass) / jnp.where(there, shares, 1).reshape(over)
        flat = (*shares.shape, -1)
        later = jnp.broadcast_to(later, weights.shape).reshape(flat)
        before = self._shares(gain) / jnp.where(there, shares, 1)
        return shares, jnp.where(there, before + mean_of(weights.reshape(flat), later), 0)

    @eqx.filter_jit
    def kl(self, reference: AbstractPolicy) -> Float[Array, " Q"]:
        """Of whole sequences: over positions, that of each column met."""
        compared = having(reference, AbstractTokenPolicy, "to be compared with")
        log_columns = self.log_columns()
        each, lacks = column_divergence(log_columns, compared.log_columns())
        met = jnp.sum(self.visits(), axis=0) > 0
        lacking = jnp.any((met & lacks[None]).reshape(met.shape[0], -1), axis=-1)
        columns = jnp.exp(log_columns)
        nothing = jnp.zeros((1, 1, *each.shape), columns.dtype)
        total = ahead(nothing, columns, each, self.horizon)
        at = (jnp.zeros((), int), jnp.zeros((), int), *self.start.T)
        return jnp.where(lacking, jnp.inf, total[at])

    @eqx.filter_jit
    def entropy(self) -> Float[Array, " Q"]:
        shares = self._branch_shares()
        there = shares > 0
        return -jnp.sum(shares * jnp.log(jnp.where(there, shares, 1)), axis=-1)

    @eqx.filter_jit
    def log_joint(self) -> Float[Array, "Q R V"]:
        columns = jnp.exp(self.log_columns())
        mass = self._by_pattern(self._at_branch())
        flat = mass.reshape(-1, *mass.shape[2:])
        end = pushed_times(flat, columns, self.horizon - self.branch)
        probs = jnp.sum(end, axis=tuple(range(1, end.ndim - 1)))
        return jnp.log(probs.reshape(*mass.shape[:2], self.num_tokens))

    @eqx.filter_jit
    def complete(self, key: PRNGKeyArray, outcomes: Outcomes) -> Outcomes:
        """Tokens, given pattern and answer: each weighed by the chance of these after it."""
        columns, flat = jnp.exp(self.log_columns()), outcomes.pattern.size
        pattern, answer = outcomes.pattern.reshape(flat), outcomes.answer.reshape(flat)
        last = (self.num_tokens,) * (self.context - 1)
        end = jnp.eye(self.num_tokens, dtype=columns.dtype)
        end = end.reshape(self.num_tokens, *[1] * len(last), self.num_tokens)
        end = jnp.broadcast_to(end, (self.num_tokens, *last, self.num_tokens))
        # After the branch only the answer matters, before it both.
        later = chances(end, columns, self.horizon - self.branch)
        mine = self.pattern_of[None] == pattern[:, None]
        mine = mine.reshape(flat, *[1] * len(last), self.num_tokens)
        before = chances(jnp.where(mine, later[0][answer], 0), columns, self.branch)
        begin = jnp.broadcast_to(
            self.start[outcomes.question], (*outcomes.pattern.shape, self.context)
        ).reshape(flat, self.context)
        early, late = jnp.split(jax.random.split(key, self.horizon), [self.branch])
        middle, first = drawn_given(early, columns, begin, before[1:], jnp.arange(flat))
        _, rest = drawn_given(late, columns, middle, later[1:], answer)
        tokens = jnp.concatenate([first, rest]).T.reshape(*outcomes.pattern.shape, self.horizon)
        return Outcomes(outcomes.question, outcomes.pattern, outcomes.answer, tokens)

    def log_prob_of(self, outcomes: Outcomes) -> Float[Array, "B G"]:
        at = self._drawn(outcomes)
        return jnp.sum(self.log_columns()[at], axis=-1)

    def reward_of(self, values: RewardValues, outcomes: Outcomes) -> Float[Array, "B G"]:
        paid = self._values(values)
        end = jnp.broadcast_to(paid.end, self.reward_shape)
        on_the_way = jnp.sum(paid.along[self._drawn(outcomes)[:-1]], axis=-1)
        return on_the_way + end[outcomes.question, outcomes.pattern, outcomes.answer]

    def _drawn(self, outcomes: Outcomes) -> tuple[Array, ...]:
        if outcomes.tokens is None:
            raise ValueError("outcomes.tokens must be there for a MarkovPolicy, got None")
        return self.draws(outcomes.tokens, self.start[outcomes.question])

    def part(self, name: Part) -> PyTree[bool]:
        """**Raises:** `ValueError` for `"patterns"`: tokens are not divided like that."""
        must = "be 'all' for a MarkovPolicy (freeze columns by its argument trained)"
        require(name == "all", "trainable", must, repr(name))
        nothing = jax.tree_util.tree_map(lambda _: False, self)
        return eqx.tree_at(lambda p: p.logits, nothing, True)

    def natural(self, gradient: PyTree) -> PyTree:
        """**Raises:** `ValueError` always: a Fisher matrix of shared columns is no table."""
        raise no_natural_gradient(self)

    def validate(self, problem: Problem) -> None:
        """**Raises:** `ValueError` also if a correct answer cannot be reached."""
        super().validate(problem)
        if is_concrete(self, problem):
            # Under jit even what is known is traced otherwise.
            with jax.ensure_compile_time_eval():
                ends = np.asarray(self.answer_probs())
            reached = ends[np.arange(len(ends)), np.asarray(problem.correct)] > 0
            must = f"be True (the {self.horizon}th token after the start can be the correct one)"
            require_all(reached, lambda x: x, "reachable answer", must)


def _in_range(tokens: Array, number: int, name: str) -> None:
    require_all(tokens, lambda x: (x >= 0) & (x < number), name, f"be tokens, 0 to {number - 1}")
