"""Policies whose patterns share parameters across questions: logits computed from features."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree

from .._core.checks import as_float, is_concrete, require, require_all
from ._policy import Part, no_natural_gradient
from ._tabular import TabularPolicy
from ._two_stage import AbstractTwoStagePolicy

Network = Callable[[Float[Array, " F"]], Float[Array, " R"]]


class FeaturePolicy(AbstractTwoStagePolicy):
    r"""$\pi(r|q) \propto e^{f(x_q)_r}$ with one network f for all questions, and tabular answers.

    What is learned on one question moves the others, so questions are not independent: each time
    of a question is that of the whole flow. Its natural gradient is not defined here (the library's
    is that of one question by itself).

    **Arguments:**

    - `network`: f, from `(F,)` to `(R,)`: an Equinox module, or another callable PyTree with at
      least one floating-point array.
    - `features`: `(Q, F)`, finite, the description $x_q$ of each question; never trained.
    - `answer_logits`: `(Q, R, A)`, as for a `TabularPolicy`.
    - `exists`: `(Q, R)` bool, False for patterns that a question does not have; all of them exist
      if not given.

    **Raises:** `ValueError` if a shape does not fit, a feature is not finite, a question has no
    pattern, the network's output is not `(R,)`, or it has no floating-point array; `TypeError` if
    it is not callable.

    ??? example

        ```python
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import qra_jax as qra
        table, problem = qra.two_stage([[0.5, 0.5]] * 2, [[0.9, 0.3], [0.6, 0.2]])
        network = eqx.nn.Linear(2, 2, key=jax.random.key(0))
        features = jnp.asarray([[1.0, 0.2], [0.8, -0.5]])
        policy = qra.policies.FeaturePolicy(network, features, table.answer_logits)
        print(qra.log_time_to_accuracy(policy, problem, 0.5))
        ```

    Source: derived in docs/derivations.md#question-weights-rescale-time.
    """

    arrays: PyTree
    features: Float[Array, "Q F"]
    answer_logits: Float[Array, "Q R A"]
    padding: Bool[Array, "Q R"] | None
    # Activation functions and the like: not leaves, so that a batch of policies is one of arrays.
    static: Any = eqx.field(static=True)
    independent_questions: ClassVar[bool] = False

    def __init__(
        self,
        network: Network,
        features: ArrayLike,
        answer_logits: ArrayLike,
        exists: ArrayLike | None = None,
    ):
        if not callable(network):
            raise TypeError(f"network must be callable, got {network!r}")
        described, answers = (
            as_float(features, "features"),
            as_float(answer_logits, "answer_logits"),
        )
        require(answers.ndim == 3, "answer_logits", "have shape (Q, R, A)", answers.shape)
        shape = answers.shape[:2]
        require(
            described.ndim == 2 and described.shape[0] == shape[0] and described.size > 0,
            "features",
            f"have shape (Q, F) with Q = {shape[0]}",
            described.shape,
        )
        require_all(described, lambda x: abs(x) < jnp.inf, "features", "be finite")
        there = jnp.ones(shape, bool) if exists is None else jnp.asarray(exists)
        fits = there.shape == shape and there.dtype == bool
        require(fits, "exists", f"be bool of shape (Q, R) = {shape}", (there.dtype, there.shape))
        if is_concrete(there):
            some = jnp.any(there, axis=-1)
            require_all(some, lambda x: x, "exists.any(axis=-1)", "be True (some pattern exists)")
        arrays, static = eqx.partition(network, eqx.is_array)
        trainable = jax.tree_util.tree_leaves(eqx.filter(arrays, eqx.is_inexact_array))
        require(len(trainable) > 0, "network", "hold a floating-point array", repr(network))
        dtype = jnp.result_type(described, answers, *trainable)

        def cast(x):
            return x.astype(dtype) if eqx.is_inexact_array(x) else x

        self.arrays = jax.tree_util.tree_map(cast, arrays)
        self.static = static
        self.features = described.astype(dtype)
        # The table's own checks.
        table = TabularPolicy(jnp.zeros(shape, dtype), answers)
        self.answer_logits = table.answer_logits
        self.padding = None if exists is None else ~there
        _check_output(self.network, self.features[0], shape[1])

    @property
    def network(self) -> Network:
        """The network itself, arrays and functions."""
        return eqx.combine(self.arrays, self.static)

    @property
    def exists(self) -> Bool[Array, "Q R"]:
        if self.padding is None:
            return jnp.ones(self.answer_logits.shape[:2], bool)
        return ~self.padding

    def log_probs(self) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
        logits = jax.vmap(self.network)(self.features)
        logits = jnp.where(self.exists, logits, -jnp.inf)
        return jax.nn.log_softmax(logits), jax.nn.log_softmax(self.answer_logits)

    def part(self, name: Part) -> PyTree[bool]:
        nothing = jax.tree_util.tree_map(lambda _: False, self)
        trained = jax.tree_util.tree_map(eqx.is_inexact_array, self.arrays)
        return eqx.tree_at(lambda p: (p.arrays, p.answer_logits), nothing, (trained, name == "all"))

    def natural(self, gradient: PyTree) -> PyTree:
        """**Raises:** `ValueError` always: a Fisher matrix of shared parameters is no table."""
        raise no_natural_gradient(self)


def _check_output(network: Network, row: Float[Array, " F"], num_patterns: int) -> None:
    must = f"map (F,) = {row.shape} to (R,) = {(num_patterns,)}"
    try:
        shape = jax.eval_shape(network, row).shape
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"network must {must}, got an error: {reason}") from error
    require(shape == (num_patterns,), "network", must, shape)


class _Linear(eqx.Module):
    weights: Float[Array, "R F"]

    def __call__(self, x: Float[Array, " F"]) -> Float[Array, " R"]:
        return self.weights @ x


def _num_features(features: Float[Array, "..."]) -> int:
    require(features.ndim == 2, "features", "have shape (Q, F)", features.shape)
    return features.shape[1]


def linear_policy(
    features: ArrayLike,
    num_patterns: int,
    answer_logits: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    exists: ArrayLike | None = None,
) -> FeaturePolicy:
    r"""Pattern logits linear in the features, $\theta_{qr} = \sum_f w_{rf} x_{qf}$.

    With one-hot features it is a table. A column of ones among the features is a bias.

    **Arguments:** `features`: `(Q, F)`; `num_patterns`: R; `answer_logits`: `(Q, R, A)`;
    `weights`: `(R, F)`, finite, zero (uniform patterns) if not given; `exists`: as for a
    `FeaturePolicy`.

    **Returns:** a `FeaturePolicy`.

    **Raises:** `ValueError` if a shape does not fit or a weight or feature is not finite.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        table, problem = qra.two_stage([[0.5, 0.5]] * 2, [[0.9, 0.3], [0.6, 0.2]])
        features = jnp.asarray([[1.0, 0.2], [0.8, -0.5]])
        policy = qra.linear_policy(features, 2, table.answer_logits)
        print(qra.log_convergence_time(policy, problem, 0.1))
        ```

    Source: derived in docs/derivations.md#question-weights-rescale-time.
    """
    described = as_float(features, "features")
    shape = (num_patterns, _num_features(described))
    chosen = jnp.zeros(shape, described.dtype) if weights is None else as_float(weights, "weights")
    require(chosen.shape == shape, "weights", f"have shape (R, F) = {shape}", chosen.shape)
    require_all(chosen, lambda x: abs(x) < jnp.inf, "weights", "be finite")
    return FeaturePolicy(_Linear(chosen), described, answer_logits, exists)


def network_policy(
    features: ArrayLike,
    num_patterns: int,
    answer_logits: ArrayLike,
    width: int,
    depth: int,
    key: PRNGKeyArray,
    *,
    exists: ArrayLike | None = None,
) -> FeaturePolicy:
    r"""Pattern logits by a small multilayer perceptron with tanh between its layers.

    **Arguments:** `features`: `(Q, F)`; `num_patterns`: R; `answer_logits`: `(Q, R, A)`; `width`,
    `depth`: size and number of hidden layers, at least 1 and 0; `key`: of the random weights at
    the start; `exists`: as for a `FeaturePolicy`.

    **Returns:** a `FeaturePolicy`.

    **Raises:** `ValueError` if a shape does not fit, a feature is not finite, or `width` or
    `depth` is too small.

    ??? example

        ```python
        import jax
        import jax.numpy as jnp
        import qra_jax as qra
        table, problem = qra.two_stage([[0.5, 0.5]] * 2, [[0.9, 0.3], [0.6, 0.2]])
        features = jnp.asarray([[1.0, 0.2], [0.8, -0.5]])
        network = qra.policies.network_policy
        policy = network(features, 2, table.answer_logits, 8, 1, jax.random.key(0))
        ```

    Source: derived in docs/derivations.md#question-weights-rescale-time.
    """
    described = as_float(features, "features")
    size = _num_features(described)
    require(width >= 1, "width", "be at least 1", width)
    require(depth >= 0, "depth", "be at least 0", depth)
    # Smooth: a solver would have to stop at every kink of a rectifier.
    network = eqx.nn.MLP(size, num_patterns, width, depth, jnp.tanh, dtype=described.dtype, key=key)
    return FeaturePolicy(network, described, answer_logits, exists)
