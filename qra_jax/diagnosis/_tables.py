"""Tables of a diagnosis that come straight from counts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, betaln
from jaxtyping import ArrayLike, Float

from .._core.roots import newton_in_bracket
from .._core.types import Scalar
from ..posteriors._posteriors import Prior
from ._bands import band
from ._result import PassAtKEstimate, StuckQuestion
from ._solve import Tables


def measured_pass_at_k(
    k: int, samples: Float[np.ndarray, " Q"], correct: Float[np.ndarray, " Q"]
) -> Float[np.ndarray, " Q"]:
    r"""The unbiased estimate $1 - \binom{n - c}{k} / \binom nk$, NaN for questions with n < k.

    Source: arXiv 2107.03374, section 2.1.
    """
    lost = np.ones(len(samples))
    for i in range(k):
        left = np.maximum(samples - i, 1)
        lost *= np.maximum(samples - correct - i, 0) / left
    return np.where(samples >= k, 1 - lost, np.nan)


def pass_at_k_of(
    ks: Sequence[int],
    samples: Float[np.ndarray, "Q R"],
    correct: Float[np.ndarray, "Q R"],
    tables: Tables,
    weights: Float[np.ndarray, " W"],
) -> PassAtKEstimate:
    """Pass@k before training, measured on Q questions and of a model of W, and at the end of the
    flow. A model of one table says nothing of the pass@k of several questions: NaN."""
    totals = samples.sum(axis=1), correct.sum(axis=1)
    each = [measured_pass_at_k(k, *totals) for k in ks]
    known = np.array([int(np.sum(~np.isnan(x))) for x in each])
    means = [np.nanmean(x) if n else np.nan for x, n in zip(each, known, strict=True)]
    start, end = tables.accuracy, tables.values.max(axis=-1)
    if len(weights) == 1 and len(samples) > 1:
        start, end = np.full_like(start, np.nan), np.full_like(end, np.nan)
    before, after = ([(1 - (1 - x) ** k) @ weights for k in ks] for x in (start, end))
    return PassAtKEstimate(
        k=np.array(ks),
        measured=np.array(means),
        questions=known,
        before=band(np.stack(before, axis=1)),
        after=band(np.stack(after, axis=1)),
    )


def stuck_questions(
    names: Sequence[str],
    samples: Float[np.ndarray, "Q R"],
    correct: Float[np.ndarray, "Q R"],
    prior: Prior,
) -> tuple[StuckQuestion, ...]:
    """Questions of which every sample, and there are at least 2, is wrong, or right."""
    if len(names) < 2:
        return ()
    number, right = samples.sum(axis=1), correct.sum(axis=1)
    found = []
    stuck = (number >= 2) & ((right == 0) | (right == number))
    for index in np.flatnonzero(stuck).tolist():
        at = int(right[index] > 0)
        # Of the other outcome none was seen: the 95 % point of its Beta posterior.
        mine, others = (prior.right, prior.wrong)[:: 1 if at == 0 else -1]
        bound = float(_beta_quantile(0.95, mine, others + float(number[index])))
        found.append(
            StuckQuestion(names[index], at, int(number[index]), 1 - bound if at else bound)
        )
    return tuple(sorted(found, key=lambda q: (q.at, -q.samples)))


@jax.jit
def _beta_quantile(level: ArrayLike, a: ArrayLike, b: ArrayLike) -> Scalar:
    """Where the incomplete beta function has a level strictly between 0 and 1."""

    def look(x, aux):
        slope = jnp.exp((a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x) - betaln(a, b))
        return betainc(a, b, x) - level, slope, aux

    ends = jnp.zeros(()), jnp.ones(())
    eps = float(jnp.finfo(ends[0].dtype).eps)
    start = jnp.asarray(a / (a + b)) * ends[1]

    def close(x):
        return 64 * eps * x

    return newton_in_bracket(look, start, ends, close, narrow=close).root
