"""Batches in chunks of one fixed width."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree

from .._checks import require


def map_chunks(
    function: Callable[..., PyTree],
    inputs: PyTree,
    *,
    width: int = 64,
    cost: ArrayLike | None = None,
    workers: int = 2,
    progress: Callable[[int], Any] | None = None,
) -> PyTree:
    """`jax.vmap(function)(inputs)`, in chunks of one compiled width.

    Under `vmap` every lane pays for the slowest one; in a chunk only those beside it do. The last
    chunk is padded, so that results depend neither on the number of inputs nor on `workers`.

    **Arguments:**

    - `function`: of one input (a PyTree of arrays), a function of public library calls.
    - `inputs`: a PyTree of arrays with a leading axis N.
    - `width`: how many inputs are solved together.
    - `cost`: `(N,)`, any number that grows with the expected cost; inputs of like cost share a
      chunk.
    - `workers`: chunks under way at a time.
    - `progress`: called with the number of inputs just done.

    **Returns:** what `function` returns, as NumPy arrays with a leading axis N.

    **Raises:** `ValueError` if the width or the number of workers is below 1, or the leading axes
    differ.

    ??? example

        ```python
        import jax.numpy as jnp
        import qra_jax as qra
        from qra_jax.sweep import map_chunks

        def log_t0(pi_best):
            probs = jnp.stack([pi_best, 0.7, 0.3 - pi_best])
            return qra.log_entanglement_time(*qra.two_stage(probs, [0.9, 0.6, 0.1]))[0]

        print(map_chunks(log_t0, jnp.geomspace(1e-8, 1e-2, 100)))
        ```
    """
    require(width >= 1, "width", "be at least 1", width)
    require(workers >= 1, "workers", "be at least 1", workers)
    leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(inputs)]
    structure = jtu.tree_structure(inputs)
    sizes = {leaf.shape[:1] for leaf in leaves}
    require(len(sizes) == 1 and sizes != {()}, "inputs", "share one leading axis", sizes)
    ((number,),) = sizes
    require(number > 0, "inputs", "hold at least one entry", number)
    order = np.arange(number) if cost is None else np.argsort(np.asarray(cost), kind="stable")
    padded = np.concatenate([order, np.repeat(order[-1:], -number % width)])
    chunks = padded.reshape(-1, width)

    def batch(*leaves):
        return jax.vmap(function)(jtu.tree_unflatten(structure, leaves))

    compiled = jax.jit(batch).lower(*(jnp.asarray(leaf[chunks[0]]) for leaf in leaves)).compile()

    def run(chunk):
        done = jax.tree_util.tree_map(
            np.asarray, compiled(*(jnp.asarray(leaf[chunk]) for leaf in leaves))
        )
        return chunk, done

    results = None
    with ThreadPoolExecutor(workers) as pool:
        for count, (chunk, done) in enumerate(pool.map(run, chunks)):
            if results is None:
                results = jtu.tree_map(lambda x: np.empty((number, *x.shape[1:]), x.dtype), done)
            jtu.tree_map(lambda whole, part, at=chunk: whole.__setitem__(at, part), results, done)
            if progress is not None:
                progress(min(width, number - count * width))
    return results
