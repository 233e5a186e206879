"""Batches in chunks of one fixed width against one plain `vmap` over everything."""

import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra
from qra_jax.sweep import map_chunks

from ._common import problems, ratio, settings, table, write

PATTERNS, EPS, TARGET = 8, 0.01, 1.8
WIDTHS = (16, 32, 64, 128, 256)


def _log_t0(inputs):
    return qra.log_entanglement_time(*qra.two_stage(*inputs))[0]


def _log_t_eps(inputs):
    return qra.log_convergence_time(*qra.two_stage(*inputs), EPS)[0]


def _steps(inputs):
    problem = qra.two_stage(*inputs)
    return qra.times.entanglement(*problem).num_steps[0], qra.times.convergence(
        *problem, EPS
    ).num_steps[0]


def _chunked(function, inputs, **kwargs):
    """Seconds without the compile (up to the first chunk), scaled to all chunks; and results."""
    done, when = [], []

    def progress(count):
        done.append(count)
        when.append(time.perf_counter())

    results = map_chunks(function, inputs, progress=progress, **kwargs)
    return (when[-1] - when[0]) * sum(done) / sum(done[1:]), results


def _largest_difference(found, expected) -> float:
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    return float(np.max(np.abs(found[finite] - expected[finite])))


def main() -> None:
    """Plain `vmap` and every way of chunking take turns; ratios are medians over rounds."""
    quick = settings(__doc__)
    number, rounds = (2048, 3) if quick else (16384, 5)
    with tempfile.TemporaryDirectory() as cache:  # each way is compiled once, not once a round
        jax.config.update("jax_compilation_cache_dir", cache)
        _compare(number, rounds, quick)


def _compare(number: int, rounds: int, quick: bool) -> None:
    probs, rates, strong = problems(number, PATTERNS, seed=0)
    inputs = (jnp.asarray(probs), jnp.asarray(rates))
    true_steps = map_chunks(_steps, inputs, cost=-np.log(probs[:, 0]))
    # Entanglement is known before a solve; a strong start has no T0 to solve for.
    keys = {
        "unsorted": None,
        "log pi*": -np.log(probs[:, 0]),
        "regime, log pi*": np.where(strong, 0, 100) - np.log(probs[:, 0]),
    }
    figures = {}
    for label, function, steps in (
        ("log_entanglement_time", _log_t0, true_steps[0]),
        ("log_convergence_time", _log_t_eps, true_steps[1]),
    ):
        ways = [(width, "unsorted", None, 1) for width in WIDTHS]
        ways += [(64, "unsorted", None, 2)]
        orders = [*list(keys.items())[1:], ("true steps", steps)]
        ways += [(64, key, cost, workers) for key, cost in orders for workers in (1, 2)]
        ways += [(32, "regime, log pi*", keys["regime, log pi*"], 2)]
        ways += [(128, "regime, log pi*", keys["regime, log pi*"], 2)]
        plain = jax.jit(jax.vmap(function))
        expected = np.asarray(plain(inputs))  # compiles
        reference, seconds, apart = [], [[] for _ in ways], 0.0
        for _ in range(rounds):
            start = time.perf_counter()
            jax.block_until_ready(plain(inputs))
            reference.append(time.perf_counter() - start)
            for spent, (width, _, cost, workers) in zip(seconds, ways, strict=True):
                taken, found = _chunked(function, inputs, width=width, cost=cost, workers=workers)
                spent.append(taken)
                apart = max(apart, _largest_difference(found, expected))
        rows = [
            {
                "width": width,
                "sorted by": key,
                "workers": workers,
                "per second": number / statistics.median(spent),
                "x plain vmap": ratio(reference, spent),
            }
            for spent, (width, key, _, workers) in zip(seconds, ways, strict=True)
        ]
        print(f"{label}: plain vmap {number / statistics.median(reference):.0f} per second")
        print(table(rows))
        figures[label] = {
            "plain_per_second": number / statistics.median(reference),
            "mean_steps": float(np.mean(steps)),
            "most_steps": int(np.max(steps)),
            "largest_difference": apart,
            "rows": rows,
        }
    config = {
        "problems": number,
        "K": PATTERNS,
        "eps": EPS,
        "rounds": rounds,
        "target": TARGET,
        "note": "compilation excluded on both sides",
    }
    write("chunks", config, figures, quick)


if __name__ == "__main__":
    main()
