r"""Training in steps: the discrete counterpart of the flow, exact or from samples."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .._core.checks import instance, require, require_all, whole
from .._core.trees import Present, all_usable, chosen
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..flows._geometry import AbstractGeometry
from ..flows._status import Status
from ..objectives._metrics import mean_accuracy
from ..objectives._objective import Objective
from ..policies._policy import AbstractPolicy, AbstractSampledPolicy, having
from ..policies._problem import Problem
from ..policies._token_values import as_token_values
from ._groups import SampledGroups, Samples
from ._sampled_field import no_reward

_ROWS = 129
_Velocity = Callable[[PyTree, PyTree, AbstractPolicy], PyTree]


class Training(eqx.Module):
    r"""A training run: T rows of policies, and how it ended.

    - `steps`: `(T,)`, steps done at each row, the first 0 and the last all of them; where training
      froze, later rows repeat the final policy.
    - `accuracy`, `reward`, `entropy`, `kl`: `(T,)`, means over questions by weight of the
      accuracy, the expected reward (in its unit), the pattern entropy and the KL divergence to
      the reference of that row (nats).
    - `pattern_probs`: `(T, Q, R)`, $\pi(r|q)$.
    - `policy`: the policies of all rows, stacked (every leaf has a leading axis T).
    - `final_policy`: the last one.
    - `status`: `COMPLETED`, `FAILED` (the next policy was not finite: training froze at the last
      finite one) or `INVALID_INPUT` (so was the first), as an integer.
    - `num_steps`: steps done before it ended or froze.
    """

    steps: Int[Array, " T"]
    accuracy: Float[Array, " T"]
    pattern_probs: Float[Array, "T Q R"]
    reward: Float[Array, " T"]
    entropy: Float[Array, " T"]
    kl: Float[Array, " T"]
    final_policy: AbstractPolicy
    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    _params: PyTree
    _frozen: PyTree

    @property
    def policy(self) -> AbstractPolicy:
        """The policies of all rows, every leaf with an axis T where `steps` has it."""
        *batch, length = self.steps.shape
        axis = len(batch)

        def repeat(leaf):
            shape = (*leaf.shape[:axis], length, *leaf.shape[axis:])
            return jnp.broadcast_to(jnp.expand_dims(leaf, axis), shape)

        return eqx.combine(self._params, jtu.tree_map(repeat, self._frozen))


class _State(NamedTuple):
    """What a step changes. `reference` holds arrays only if it moves."""

    params: PyTree
    optimiser: PyTree
    reference: PyTree
    finite: Bool[Array, ""]
    num_steps: Int[Array, ""]


class _Sampled(eqx.Module):
    """What stands in for the velocity of a flow where there are only samples."""

    objective: Objective
    problem: Problem
    geometry: AbstractGeometry
    sampler: SampledGroups
    key: PRNGKeyArray

    def draw(self, step: Int[Array, ""], policy: AbstractSampledPolicy) -> Samples:
        values = self.objective.reward(policy, self.problem)
        key = jax.random.fold_in(self.key, step)
        return self.sampler.draw(key, self.problem.weights, policy, values)

    def velocity_at(self, step: Int[Array, ""], policy: AbstractSampledPolicy) -> _Velocity:
        """Draw the samples of a step, and return the velocity that they estimate."""
        samples = self.draw(step, policy)
        regularisers = self.objective.regularisers
        penalties = Objective(no_reward, regularisers=regularisers)

        def velocity(params, frozen, reference):
            held = eqx.combine(params, frozen)

            def estimate(params):
                live = eqx.combine(params, frozen)
                gain = -samples.loss(self.sampler, live)
                if regularisers:
                    gain += penalties.surrogate(live, self.problem, reference, held)
                return gain

            return self.geometry.direction(held, jax.grad(estimate)(params))

        return velocity


def _update(
    optimiser: optax.GradientTransformation, params: PyTree, state: PyTree, velocity: PyTree
) -> tuple[PyTree, PyTree, Bool[Array, ""]]:
    """One update along `velocity`, and whether it is finite. What does not exist is 0 to the
    optimiser, lest weight decay or the norm of the parameters turn it into NaN."""
    present = Present.of(params)
    descent = present.only(jtu.tree_map(jnp.negative, velocity))
    updates, state = optimiser.update(descent, state, present.only(params))
    moved = jtu.tree_map(lambda x, u: (x + u).astype(x.dtype), params, updates)
    finite = all_usable(jtu.tree_map(jnp.abs, present.only(moved)))
    return present.whole(moved), state, finite


def _seen(
    flow: GradientFlow, policy: AbstractPolicy, reference: AbstractPolicy
) -> tuple[Array, ...]:
    """What a row says: accuracy, shares of patterns, reward, entropy, divergence."""
    problem = flow.problem
    reward = policy.expectation(flow.objective.reward, problem)
    means = map(problem.mean, (reward, policy.entropy(), policy.kl(reference)))
    return mean_accuracy(policy, problem), policy.pattern_table(problem)[0], *means


@eqx.filter_jit
def _train(
    policy: AbstractPolicy,
    flow: GradientFlow,
    reference: AbstractPolicy,
    optimiser: optax.GradientTransformation,
    sampled: _Sampled | None,
    steps: tuple[int, ...],
    reset: int | None,
) -> Training:
    params, frozen = flow.split(policy)
    compared, fixed = eqx.partition(reference, lambda x: reset is not None and eqx.is_array(x))

    def advance(state: _State, step):
        velocity, epochs = flow.velocity, 1
        if sampled is not None:
            velocity = sampled.velocity_at(step, eqx.combine(state.params, frozen))
            epochs = sampled.sampler.epochs

        def update(state: _State, _):
            ascent = velocity(state.params, frozen, eqx.combine(state.reference, fixed))
            *new, finite = _update(optimiser, state.params, state.optimiser, ascent)
            finite &= state.finite
            params, inner = chosen(finite, new, [state.params, state.optimiser])
            return state._replace(params=params, optimiser=inner, finite=finite), None

        state, _ = jax.lax.scan(update, state, None, length=epochs, unroll=epochs == 1)
        compared = state.reference
        if reset is not None:
            now, _ = eqx.partition(eqx.combine(state.params, frozen), eqx.is_array)
            compared = chosen((step + 1) % reset == 0, now, compared)
        done = state.num_steps + state.finite
        return state._replace(reference=compared, num_steps=done)

    longest = max(np.diff(steps))

    def row(state: _State, between):
        def one(state, offset):
            step = between[0] + offset
            # Not to be drawn, as the number of steps between rows may differ by one.
            skip = step >= between[1]
            return jax.lax.cond(skip, lambda s, _: s, advance, state, step), None

        state, _ = jax.lax.scan(one, state, jnp.arange(longest))
        return state, (state.params, state.reference)

    none_yet = jnp.zeros((), jnp.int32)
    moments = optimiser.init(Present.of(params).only(params))
    finite = all_usable(params)
    start = _State(params, moments, compared, finite, none_yet)
    stops = jnp.asarray(steps, jnp.int32)
    final, later = jax.lax.scan(row, start, (stops[:-1], stops[1:]))
    rows = jtu.tree_map(lambda x, xs: jnp.concatenate([x[None], xs]), (params, compared), later)

    def observe(row):
        return _seen(flow, eqx.combine(row[0], frozen), eqx.combine(row[1], fixed))

    accuracy, probs, reward, entropy, kl = jax.vmap(observe)(rows)
    ended = jnp.where(final.finite, Status.COMPLETED, Status.FAILED)
    return Training(
        steps=stops,
        accuracy=accuracy,
        pattern_probs=probs,
        reward=reward,
        entropy=entropy,
        kl=kl,
        final_policy=eqx.combine(final.params, frozen),
        status=jnp.where(start.finite, ended, Status.INVALID_INPUT).astype(jnp.int32),
        num_steps=final.num_steps,
        _params=rows[0],
        _frozen=frozen,
    )


def _checked(
    policy: AbstractPolicy, flow: GradientFlow, sampler: SampledGroups, key: PRNGKeyArray
) -> _Sampled:
    """The sampled field, unless samples of this kind do not estimate this objective's gradient."""
    drawn = having(policy, AbstractSampledPolicy, "for a sampler")
    objective, estimator = flow.objective, sampler.estimator
    if not isinstance(objective, Objective):
        raise TypeError(f"flow.objective must be an Objective to be sampled, got {objective!r}")
    require(
        not objective.differentiate_reward,
        "differentiate_reward",
        "be False with a sampler (sampled rewards are constants)",
        True,
    )
    sampler.check_utility(objective.utility)
    values = as_token_values(objective.reward(policy, flow.problem))
    name = type(estimator).__name__
    if estimator.of_success or estimator.redraws:
        must = f"be 0 (a reward of pattern and answer alone) for {name}"
        require_all(values.along, lambda x: x == 0, "reward along the tokens", must)
    if estimator.of_success:
        values = jnp.where(drawn.log_joint() > -jnp.inf, values.end, 0)
        require_all(values, lambda r: (r == 0) | (r == 1), "reward", f"be 0 or 1 for {name}")
    return _Sampled(objective, flow.problem, flow.geometry, sampler, key)


def train(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    optimiser: optax.GradientTransformation,
    num_steps: int,
    *,
    sampler: SampledGroups | None = None,
    key: PRNGKeyArray | None = None,
    reference: AbstractPolicy | None = None,
    reset_reference_every: int | None = None,
    rows: int | None = None,
) -> Training:
    r"""Train in steps, $\theta_{n+1} = \theta_n + U(-g_n)$, U the optimiser, g the direction of
    the flow or its estimate from samples.

    Steps of `optax.sgd(h)` follow the flow to the time h times steps, up to an error of order h.

    **Arguments:**

    - `flow`: a `GradientFlow`, or a `Problem` for Euclidean RLVR on patterns with beta = 0.
    - `policy`: the start.
    - `optimiser`: of optax; it is given minus the direction, which it descends.
    - `num_steps`: at least 1; with a sampler each is of `sampler.epochs` updates.
    - `sampler`: a `SampledGroups`: rewards come from samples, at the policy that draws them;
      regularisers enter by their exact gradient. Exact steps if not given.
    - `key`: of a run with a sampler, `fold_in(key, n)` is the key of step n (from 0). Map over it
      with `jax.vmap` for many runs.
    - `reference`: the policy that regularisers compare with; the start if not given.
    - `reset_reference_every`: n: after every n steps the current policy becomes the reference.
    - `rows`: how many rows are kept, evenly spaced from the start to the end; `num_steps + 1` or
      129, whichever is less, if not given.

    **Returns:** a `Training`; it never raises for values that are not finite, `status` says so.

    **Raises:** `ValueError` if policy, problem and objective do not fit together, a number is out
    of range, key and sampler are not given together, or the objective's utility is neither the
    mean nor that of the sampler; `TypeError` for an argument of another kind.

    ??? example

        ```python
        import jax
        import optax
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        exact = qra.train(policy, problem, optax.sgd(0.5), 200)  # t = 100
        run = lambda key: qra.train(
            policy, problem, optax.sgd(0.5), 200, sampler=qra.SampledGroups(8), key=key
        )
        runs = jax.vmap(run)(jax.random.split(jax.random.key(0), 16))
        print(exact.accuracy[-1], runs.accuracy[:, -1])
        ```

    Source: arXiv 2506.04695, section 5, for the flow; derived in
    docs/objectives.md#optimiser-and-samples.
    """
    flow = check_solve(policy, flow, reference)
    if not isinstance(optimiser, optax.GradientTransformation):
        raise TypeError(f"optimiser must be an optax.GradientTransformation, got {optimiser!r}")
    require(bool(jtu.tree_leaves(flow.split(policy)[0])), "flow.trainable", "select a leaf", "none")
    num_steps = whole(num_steps, "num_steps", 1)
    if reset_reference_every is not None:
        reset_reference_every = whole(reset_reference_every, "reset_reference_every", 1)
    rows = min(num_steps + 1, _ROWS) if rows is None else whole(rows, "rows", 2)
    require(rows <= num_steps + 1, "rows", f"be at most num_steps + 1 = {num_steps + 1}", rows)
    sampled = None
    if sampler is None:
        require(key is None, "key", "come with a sampler", key)
    elif key is None:
        raise ValueError("key must be given with a sampler, got None")
    else:
        instance(sampler, SampledGroups, "sampler", "SampledGroups(8)")
        sampled = _checked(policy, flow, sampler, key)
    steps = tuple(int(n) for n in np.round(np.linspace(0, num_steps, rows)))
    reference = policy if reference is None else reference
    return _train(policy, flow, reference, optimiser, sampled, steps, reset_reference_every)
