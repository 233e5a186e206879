"""Maps beside each other: most of a map is compilation, which keeps no more than one core busy."""

import gc
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

from tqdm import tqdm

from qra_jax.commands import require_writable

from .map import Map, MapResult, write_map
from .progress import stoppable


def run_maps(maps: Sequence[Map]) -> list[MapResult]:
    """Compute (or with `redraw` read), judge, draw and write maps.

    They are computed in threads of one process, where they share what is compiled, and drawn here
    as they come in: matplotlib's settings belong to the process. Where one fails, or the user
    interrupts, the others stop at their next report of progress.

    **Arguments:** `maps`.

    **Returns:** the results, in the order of `maps`.

    **Raises:** `ValueError` if a folder cannot be written or, with `redraw`, holds no data.
    """
    for settings in maps:
        require_writable(settings.out)
    # What is imported by now stays: without it in every collection, tracing is a tenth faster.
    gc.collect()
    gc.freeze()
    stop = threading.Event()
    results: dict[int, MapResult] = {}
    with ExitStack() as stack:
        bars = [stack.enter_context(_bar(settings, at)) for at, settings in enumerate(maps)]
        stack.callback(gc.unfreeze)
        pool = stack.enter_context(ThreadPoolExecutor(len(maps)))
        stack.callback(stop.set)
        # The longest is last: it begins first.
        order = range(len(maps))[::-1]
        waiting = {pool.submit(maps[at].data, stoppable(bars[at].update, stop)): at for at in order}
        for done in as_completed(waiting):
            at = waiting[done]
            results[at] = write_map(maps[at], done.result())
    return [results[at] for at in range(len(maps))]


def _bar(settings: Map, position: int) -> tqdm:
    return tqdm(
        total=settings.chosen.ticks(),
        desc=settings.name,
        unit="cell",
        disable=settings.quiet or settings.redraw,
        position=position,
        leave=True,
        delay=0.2,
    )
