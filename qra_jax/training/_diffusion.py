r"""Training by small sampled steps as a diffusion.

Source: derived in docs/training.md#diffusion, where (D1) to (D3) are.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from .._core.checks import as_float, is_concrete, positive, require, require_all, whole
from .._core.trees import Present, all_usable
from ..flows._checks import check_solve
from ..flows._flow import GradientFlow
from ..flows._status import Status
from ..policies._policy import AbstractPolicy
from ..policies._problem import Problem
from ._groups import SampledGroups
from ._sampled_field import SampledField, sampled_field

_STEP = 0.1


class Diffusion(eqx.Module):
    r"""Paths of sampled training in the limit of small steps: N paths at T times.

    - `times`: `(T,)`, learning rate times steps, in units of 1/reward; the first is 0.
    - `pattern_probs`: `(N, T, Q, R)`; `accuracy`: `(N, T)`, mean over questions by weight.
    - `status`: `(N,)`, `COMPLETED` or `FAILED` (a path was not finite), as integers.
    """

    times: Float[Array, " T"]
    pattern_probs: Float[Array, "N T Q R"]
    accuracy: Float[Array, "N T"]
    status: Int[Array, " N"]

    def fixed(self, level: float = 0.9) -> Float[Array, "Q R"]:
        """The share of paths that end with more than `level` of a question on a pattern: the
        probability of fixation there, and for all but the best one that of no escape."""
        return jnp.mean(self.pattern_probs[:, -1] > level, axis=0)

    def first_times(self, values: Float[Array, "N T"], level: ArrayLike) -> Float[Array, " N"]:
        """When each path first has a value of at least `level`, linear between its rows; `inf` if
        it never has.

        **Arguments:** `values`: of all paths at all times, such as `accuracy`; `level`.

        **Returns:** `(N,)`, in units of 1/reward. That of the accuracy at the success rate of the
        misleading pattern is the entanglement time of a path.
        """
        above = values >= level
        at = jnp.argmax(above, axis=-1)
        before = jnp.maximum(at - 1, 0)
        left, right = (jnp.take_along_axis(values, i[:, None], axis=-1)[:, 0] for i in (before, at))
        rise = jnp.where(right > left, right - left, 1)
        part = jnp.where(right > left, (level - left) / rise, 1)
        found = self.times[before] + part * (self.times[at] - self.times[before])
        return jnp.where(jnp.any(above, axis=-1), jnp.where(at == 0, self.times[0], found), jnp.inf)


@eqx.filter_jit
def _solve(
    policy: AbstractPolicy,
    field: SampledField,
    learning_rate: Float[Array, ""],
    key: PRNGKeyArray,
    times: Float[Array, " T"],
    grid: Float[Array, " S"],
    number: int,
) -> Diffusion:
    params, frozen = field.flow.split(policy)
    present = Present.of(params)
    begun = present.only(params)

    def drift(time, state, args):
        return present.only(field.mean(present.whole(state), frozen))

    normals = field.normals(policy)
    root = jnp.sqrt(learning_rate)

    def noise(time, state, args):
        now = present.whole(state)

        def apply(control):
            noise = present.only(field.spread(control, now, frozen))
            return jtu.tree_map(lambda x: root * x, noise)

        return lx.FunctionLinearOperator(apply, normals)

    def path(key):
        # Fixed steps that never go back: increments need not be remembered.
        brownian = diffrax.UnsafeBrownianPath(normals, key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(drift),
            diffrax.ControlTerm(noise, brownian),  # type: ignore[arg-type]
        )
        found = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),  # of Ito's equation, which is what steps tend to
            grid[0],
            grid[-1],
            None,
            begun,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.StepTo(grid),
            max_steps=len(grid),
            adjoint=diffrax.DirectAdjoint(),
            throw=False,
        )
        assert found.ys is not None
        probs, accuracy = jax.vmap(lambda row: field.seen(present.whole(row), frozen))(found.ys)
        ended = jnp.where(all_usable(found.ys), Status.COMPLETED, Status.FAILED)
        return probs, accuracy, ended.astype(jnp.int32)

    keys = jax.random.split(key, number)
    return Diffusion(times, *jax.vmap(path)(keys))


def solve_diffusion(
    policy: AbstractPolicy,
    flow: GradientFlow | Problem,
    sampler: SampledGroups,
    learning_rate: float,
    key: PRNGKeyArray,
    *,
    times: ArrayLike,
    num_paths: int = 1000,
    step: float | None = None,
    reference: AbstractPolicy | None = None,
) -> Diffusion:
    r"""Sampled training as a diffusion, $d\theta = F\,dt + \sqrt{\eta}\,C^{1/2}\,dW$ (Ito).

    F is the flow, C the covariance of the sampled gradient of one step, in closed form, and
    $t = \eta \times$ steps. It has the mean and covariance that plain gradient ascent from samples
    has in the limit of small steps; what rare samples add beyond these two is not in it.

    **Arguments:**

    - `policy`: the start, of patterns and answers, such as a `TabularPolicy`.
    - `flow`: a `GradientFlow` of rewards of 0 and 1 with frozen answers, or a `Problem`.
    - `sampler`: a `SampledGroups` of one epoch; its batch adds the spread of questions to C.
    - `learning_rate`: $\eta$, of plain gradient ascent, above 0.
    - `key`: path i has the i-th key of its split.
    - `times`: `(T,)`, rising from above 0, in units of 1/reward; rows are kept at 0 and at these.
    - `num_paths`: N.
    - `step`: the longest step of the solver (Euler and Maruyama, of weak order 1), in units of
      1/reward; .1 if not given.
    - `reference`: the policy that regularisers compare with; the start if not given.

    **Returns:** a `Diffusion`; paths that are not finite say so in its `status`.

    **Raises:** `ValueError` if a number is out of range, rewards are not 0 or 1, answers are
    trained, or the objective is not one that the samples estimate; `TypeError` for an argument of
    another kind.

    ??? example

        ```python
        import jax
        import numpy as np
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        sampler = qra.SampledGroups(8, estimator=qra.RLOO())
        found = qra.training.solve_diffusion(
            policy, problem, sampler, 0.4, jax.random.key(0),
            times=np.linspace(10, 400, 40), num_paths=64,
        )
        print(found.fixed(0.5))  # how often each pattern has won by t = 400
        ```

    Source: derived in docs/training.md#diffusion.
    """
    flow = check_solve(policy, flow, reference)
    rate = positive(learning_rate, "learning_rate")
    longest = _STEP if step is None else positive(step, "step")
    number = whole(num_paths, "num_paths", 1)
    wanted = as_float(times, "times")
    require(wanted.ndim == 1 and wanted.size > 0, "times", "have shape (T,)", wanted.shape)
    require(is_concrete(wanted), "times", "be known before compilation", "traced values")
    rows = np.append(0.0, np.asarray(wanted))
    require_all(rows, lambda x: (x >= 0) & (x < np.inf), "times", "be finite and above 0")
    require(bool(np.all(np.diff(rows) > 0)), "times", "rise from above 0", wanted)
    field = sampled_field(policy, flow, sampler, reference)
    # Rows are ends of steps: between these a path would be drawn as a line, not as noise.
    counts = np.ceil(np.diff(rows) / longest - 1e-9).astype(int)
    pieces = [np.linspace(a, b, n, endpoint=False) for a, b, n in
              zip(rows[:-1], rows[1:], counts, strict=True)]  # fmt: skip
    grid = np.append(np.concatenate(pieces), rows[-1])
    dtype = wanted.dtype
    return _solve(
        policy,
        field,
        jnp.asarray(rate, dtype),
        key,
        jnp.asarray(rows, dtype),
        jnp.asarray(grid, dtype),
        number,
    )
