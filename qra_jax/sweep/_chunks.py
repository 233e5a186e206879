"""Batches in chunks of one fixed width."""

import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree

from .._core.checks import require
from .._core.compiled import OLDER_EMITTERS

# Tracing holds the interpreter: one after the other, so that one traces while another compiles.
_TRACING = threading.Lock()


class Crew:
    """Threads that run chunks, `workers` for each device; a chunk goes to whichever is free.

    **Arguments:** `devices`: the devices, JAX's default one if not given; `workers`: chunks under
    way at a time on each.

    **Raises:** `ValueError` if the number of workers is below 1 or there are no devices.
    """

    def __init__(self, devices: Sequence[Any] | None = None, workers: int = 2):
        require(workers >= 1, "workers", "be at least 1", workers)
        places = [None] if devices is None else list(devices)
        require(len(places) > 0, "devices", "hold at least one device", places)
        self._free: queue.SimpleQueue[Any | None] = queue.SimpleQueue()
        for _ in range(workers):
            for place in places:
                self._free.put(place)
        self._pool = ThreadPoolExecutor(workers * len(places))

    def submit(self, run: Callable[..., PyTree], *arguments: Any) -> Future:
        """Call `run(device, *arguments)` as soon as a device is free."""

        def on_device():
            device = self._free.get()
            try:
                return run(device, *arguments)
            finally:
                self._free.put(device)

        return self._pool.submit(on_device)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


class Pending:
    """Chunks under way, in the order in which their results are put together."""

    def __init__(self, number: int, chunks: np.ndarray, futures: list[Future]):
        self._number = number
        self._chunks = chunks
        self._futures = futures

    def result(self, progress: Callable[[int], Any] | None = None) -> PyTree:
        """Wait for all chunks; what they return, with a leading axis N in the order of inputs."""
        number, width = self._number, self._chunks.shape[1]
        results = None
        for count, (chunk, future) in enumerate(zip(self._chunks, self._futures, strict=True)):
            done = future.result()
            if results is None:
                results = jtu.tree_map(lambda x: np.empty((number, *x.shape[1:]), x.dtype), done)
            jtu.tree_map(lambda whole, part, at=chunk: whole.__setitem__(at, part), results, done)
            if progress is not None:
                progress(min(width, number - count * width))
        return results


class Chunked:
    """A function as `map_chunks` applies it, to call more than once: compiled for inputs of one
    shape only when these first come, once for each device. Threads may share one.

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

        def batch(inputs):
            return jax.vmap(function)(inputs)

        self._batch = jax.jit(batch)
        self._width = width
        self._compiled: dict[Any, tuple[threading.Lock, list[Callable[..., PyTree]]]] = {}

    def __call__(
        self,
        inputs: PyTree,
        *,
        cost: ArrayLike | None = None,
        devices: Sequence[Any] | None = None,
        workers: int = 2,
        progress: Callable[[int], Any] | None = None,
    ) -> PyTree:
        """Apply the function; arguments, result and errors are those of `map_chunks`."""
        with Crew(devices, workers) as crew:
            return self.begin(crew, inputs, cost=cost).result(progress)

    def begin(self, crew: Crew, inputs: PyTree, *, cost: ArrayLike | None = None) -> Pending:
        """Hand all chunks of `inputs` to a crew, and do not wait for them.

        **Arguments:** `crew`: who runs them; `inputs`, `cost`: as for `map_chunks`.

        **Returns:** what waits for the results.

        **Raises:** `ValueError` if the leading axes differ.
        """
        leaves, structure = jtu.tree_flatten(inputs)
        leaves = [np.asarray(leaf) for leaf in leaves]
        sizes = {leaf.shape[:1] for leaf in leaves}
        require(len(sizes) == 1 and sizes != {()}, "inputs", "share one leading axis", sizes)
        ((number,),) = sizes
        require(number > 0, "inputs", "hold at least one entry", number)
        order = np.arange(number) if cost is None else np.argsort(np.asarray(cost), kind="stable")
        padded = np.concatenate([order, np.repeat(order[-1:], -number % self._width)])
        chunks = padded.reshape(-1, self._width)

        def run(device, chunk):
            batch = jtu.tree_unflatten(structure, [_placed(x[chunk], device) for x in leaves])
            return jtu.tree_map(np.asarray, self._program(device, batch)(batch))

        return Pending(number, chunks, [crew.submit(run, chunk) for chunk in chunks])

    def describe(self, inputs: PyTree) -> tuple[str, PyTree]:
        """What would be computed, without computing or compiling it.

        **Arguments:** `inputs`: as for `map_chunks`, of NumPy arrays; how many does not matter.

        **Returns:** a hash of the lowered program, which changes with the function, with any
        formula of the library it calls, with the width and with the precision; and the shapes and
        types of one result, as `jax.ShapeDtypeStruct`.
        """
        rows = np.zeros(self._width, int)
        lowered = self._lower(jtu.tree_map(lambda leaf: jnp.asarray(leaf[rows]), inputs))
        found = jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), lowered.out_info)
        return hashlib.sha256(lowered.as_text().encode()).hexdigest(), found

    def _lower(self, batch: PyTree) -> jax.stages.Lowered:
        with _TRACING:
            return self._batch.lower(batch)

    def _program(self, device: Any | None, batch: PyTree) -> Callable[..., PyTree]:
        leaves, structure = jtu.tree_flatten(batch)
        shapes = device, structure, tuple((x.shape, x.dtype) for x in leaves)
        lock, found = self._compiled.setdefault(shapes, (threading.Lock(), []))
        # Whoever comes second waits for the first, which takes less than to compile it again.
        with lock:
            if not found:
                found.append(_compiled(self._lower(batch)))
        return found[0]


def _placed(rows: np.ndarray, device: Any | None) -> jax.Array:
    return jnp.asarray(rows) if device is None else jax.device_put(rows, device)


def _compiled(lowered: jax.stages.Lowered) -> Callable[..., PyTree]:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=OLDER_EMITTERS)
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return lowered.compile()


def map_chunks(
    function: Callable[..., PyTree],
    inputs: PyTree,
    *,
    width: int = 64,
    cost: ArrayLike | None = None,
    devices: Sequence[Any] | None = None,
    workers: int = 2,
    progress: Callable[[int], Any] | None = None,
) -> PyTree:
    """`jax.vmap(function)(inputs)`, in chunks of one compiled width.

    Under `vmap` every lane pays for the slowest one; in a chunk only those beside it do. The last
    chunk is padded, so that results depend neither on the number of inputs nor on `workers` and
    `devices`: each device has its own `jit` call on its own chunks.

    **Arguments:**

    - `function`: of one input (a PyTree of arrays), a function of public library calls.
    - `inputs`: a PyTree of arrays with a leading axis N.
    - `width`: how many inputs are solved together.
    - `cost`: `(N,)`, any number that grows with the expected cost; inputs of like cost share a
      chunk.
    - `devices`: such as `jax.local_devices()`; JAX's default one if not given.
    - `workers`: chunks under way at a time on each device.
    - `progress`: called with the number of inputs just done.

    **Returns:** what `function` returns, as NumPy arrays with a leading axis N.

    **Raises:** `ValueError` if the width or the number of workers is below 1, there are no
    devices, or the leading axes differ.

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
    return Chunked(function, width)(
        inputs, cost=cost, devices=devices, workers=workers, progress=progress
    )
