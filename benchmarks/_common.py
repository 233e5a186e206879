"""What the benchmarks share: seeded problems, interleaved timing, and results as JSON.

Absolute times depend on the machine and on what else runs there. Competitors therefore take turns
within one process, and what is compared are medians of the same rounds.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from qra_jax.sweep import provenance

RESULTS = pathlib.Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":", 1)[1].strip() if lines else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), **provenance()}


def settings(description: str | None) -> bool:
    """Parse the command line, switch float64 on, and return whether `--quick` was given."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a small version; stores nothing")
    jax.config.update("jax_enable_x64", True)
    return parser.parse_args().quick


def take_turns(competitors: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every competitor in every round. The order is reversed every other round."""
    names = list(competitors)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            start = time.perf_counter()
            jax.block_until_ready(competitors[name]())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """The median over rounds of `slow / fast`."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as an aligned table."""

    def show(value):
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(rows[0]), *([show(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells
    )


def write(name: str, config: dict[str, Any], figures: dict[str, Any], quick: bool) -> None:
    """Store `figures` in `results/<name>.json`, unless this was a quick run."""
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    record = {"benchmark": name, "machine": machine(), "settings": config, "figures": figures}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")


def problems(
    number: int, patterns: int, seed: int, strong_share: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random starts, pattern 0 the best and pattern 1 the second best.

    **Returns:** probabilities `(N, K)`, with that of the best log-uniform in [1e-12, 1e-1];
    success rates `(N, K)`; and which starts are strong, `(N,)`. The others are entangled with
    pattern 1 alone. In a strong start the rates of all but the best lie so close together that
    V(0) exceeds them.
    """
    rng = np.random.default_rng(seed)
    best = 10 ** rng.uniform(-12, -1, number)
    misleading = rng.uniform(0.3, 0.9, number)
    rest = rng.dirichlet(np.ones(patterns - 2), number) * (1 - misleading)[:, None]
    others = np.concatenate([misleading[:, None], rest], axis=1)
    probs = np.concatenate([best[:, None], others * (1 - best)[:, None]], axis=1)
    top, second = rng.uniform(0.8, 0.95, number), rng.uniform(0.6, 0.75, number)
    low = rng.uniform(0.05, 0.18, (number, patterns - 2))
    gap = rng.uniform(0.05, 0.9, low.shape) * (best * (top - second))[:, None]
    strong = rng.random(number) < strong_share
    low = np.where(strong[:, None], second[:, None] - gap, low)
    rates = np.concatenate([top[:, None], second[:, None], low], axis=1)
    return probs, rates, strong
