"""Batches in chunks of one fixed width."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree

from .._checks import require

# Tracing holds the interpreter: one after the other, so that one traces while another compiles.
_TRACING = threading.Lock()
# XLA's newer emitters for CPUs take half as long again to compile a solve, which runs no faster.
_OLDER_EMITTERS: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": False}


class Chunked:
    """A function as `map_chunks` applies it, to call more than once: compiled for inputs of one
    shape only when these first come. Threads may share one.

    **Arguments:** `function` and `width` as for `map_chunks`.

    **Raises:** `ValueError` if the width is below 1.

    ??? example

        ```python
        import jax.numpy as jnp
        from qra_jax.sweep import Chunked
        double = Chunked(lambda x: 2 * x, width=4)
        print(double(jnp.arange(10)), double(jnp.arange(3)))  # one compilation
        ```
    """

    def __init__(self, function: Callable[..., PyTree], width: int = 64):
        require(width >= 1, "width", "be at least 1", width)
        self._function = function
        self._width = width
        self._compiled: dict[Any, Callable[..., PyTree]] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        inputs: PyTree,
        *,
        cost: ArrayLike | None = None,
        workers: int = 2,
        progress: Callable[[int], Any] | None = None,
    ) -> PyTree:
        """Apply the function; arguments, result and errors are those of `map_chunks`."""
        require(workers >= 1, "workers", "be at least 1", workers)
        leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(inputs)]
        sizes = {leaf.shape[:1] for leaf in leaves}
        require(len(sizes) == 1 and sizes != {()}, "inputs", "share one leading axis", sizes)
        ((number,),) = sizes
        require(number > 0, "inputs", "hold at least one entry", number)
        order = np.arange(number) if cost is None else np.argsort(np.asarray(cost), kind="stable")
        padded = np.concatenate([order, np.repeat(order[-1:], -number % self._width)])
        chunks = padded.reshape(-1, self._width)
        compiled = self._compile(jtu.tree_structure(inputs), [leaf[chunks[0]] for leaf in leaves])

        def run(chunk):
            done = jtu.tree_map(
                np.asarray, compiled(*(jnp.asarray(leaf[chunk]) for leaf in leaves))
            )
            return chunk, done

        results = None
        with ThreadPoolExecutor(workers) as pool:
            for count, (chunk, done) in enumerate(pool.map(run, chunks)):
                if results is None:
                    results = jtu.tree_map(
                        lambda x: np.empty((number, *x.shape[1:]), x.dtype), done
                    )
                jtu.tree_map(
                    lambda whole, part, at=chunk: whole.__setitem__(at, part), results, done
                )
                if progress is not None:
                    progress(min(self._width, number - count * self._width))
        return results

    def _compile(self, structure, leaves: list[np.ndarray]) -> Callable[..., PyTree]:
        def batch(*leaves):
            return jax.vmap(self._function)(jtu.tree_unflatten(structure, leaves))

        arrays = [jnp.asarray(leaf) for leaf in leaves]
        shapes = structure, tuple((x.shape, x.dtype) for x in arrays)
        # Whoever comes second waits for the first, which takes less than to compile it again.
        with self._lock:
            if shapes not in self._compiled:
                with _TRACING:
                    lowered = jax.jit(batch).lower(*arrays)
                self._compiled[shapes] = _compiled(lowered)
            return self._compiled[shapes]


def _compiled(lowered: jax.stages.Lowered) -> Callable[..., PyTree]:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=_OLDER_EMITTERS)
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return lowered.compile()


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
    return Chunked(function, width)(inputs, cost=cost, workers=workers, progress=progress)
