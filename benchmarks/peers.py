"""This library against its peers: trajectories, gradients and event times at one accuracy.

Every competitor is tuned to a measured error on the same 1,024 problems; then all take turns at
the same sizes. A peer that is not installed is reported as absent.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import numpy as np

import qra_jax as qra
from qra_jax.sweep import map_chunks

from . import _peers, _peers_jax
from ._common import problems, ratio, settings, table, take_turns, write
from ._peers import Batch, Peer, Starts, ladder
from ._peers_page import update

OURS = "qra_jax, Exact"
PATTERNS, NUMBERS, CHECKED = (3, 8, 64), (64, 1024, 16384), 1024
TARGETS = {"dense": 1e-6, "gradient": 1e-6, "times": 1e-5}
TIMES = np.geomspace(1e-2, 1e3, 64)
MILLION = 1_000_000

DENSE = (
    Peer(OURS, "qra_jax.Exact", _peers_jax.exact_probs, ladder(-3, -10)),
    Peer("heyoka", "heyoka", _peers.heyoka_probs, ladder(-5, -10)),
    Peer("numbalsoda, DOP853", "numbalsoda", _peers.numbalsoda("dop853"), ladder(-7, -12)),
    Peer("numbalsoda, LSODA", "numbalsoda", _peers.numbalsoda("lsoda"), ladder(-8, -13)),
    Peer("diffrax, chunks of 64", "diffrax", _peers_jax.diffrax_chunks, ladder(-6, -10)),
    Peer("diffrax, plain vmap", "diffrax", _peers_jax.diffrax_vmap, ladder(-6, -10)),
    Peer("torchode", "torchode", _peers.torchode_probs, ladder(-6, -10)),
    Peer("SciPy, DOP853", "scipy", _peers.scipy_probs, ladder(-7, -12), frozenset({(3, 64)})),
)
GRADIENTS = (
    Peer(OURS, "qra_jax.Exact", _peers_jax.exact_gradient, ladder(-3, -10)),
    Peer("heyoka, variational", "heyoka", _peers.heyoka_gradient, ladder(-5, -11)),
    Peer(
        "diffrax, BacksolveAdjoint",
        "diffrax",
        _peers_jax.diffrax_gradient(diffrax.BacksolveAdjoint()),
        ladder(-6, -11),
    ),
    Peer(
        "diffrax, RecursiveCheckpointAdjoint",
        "diffrax",
        _peers_jax.diffrax_gradient(diffrax.RecursiveCheckpointAdjoint()),
        ladder(-6, -11),
    ),
    Peer("torchode, autograd", "torchode", _peers.torchode_gradient, ladder(-6, -11)),
)
EVENTS = "diffrax, events"
QUANTITIES = {"log T0": _peers_jax.log_t0, "log T_eps": _peers_jax.log_t_eps}


def _error(found: np.ndarray, expected: np.ndarray, relative: bool) -> float:
    """The largest error, relative to the largest entry of a row if that exceeds 1."""
    found, expected = found[: len(expected)], expected[: len(found)]
    with np.errstate(invalid="ignore"):
        errors = np.where(found == expected, 0.0, np.abs(found - expected))
    if relative:
        errors /= np.maximum(1.0, np.abs(expected).max(axis=-1, keepdims=True))
    return float(np.where(np.isnan(errors), np.inf, errors).max())


def _tune(peer: Peer, batch: Any, expected: np.ndarray, task: str) -> tuple[float, float]:
    """The loosest tolerance that meets the target, or the tightest there is; and its error."""
    tol, error = peer.ladder[0], np.inf
    for tol in peer.ladder:
        found = _peers.joined(peer.build(batch, tol)())
        error = _error(found, expected, relative=task == "gradient")
        if error <= TARGETS[task]:
            break
    return tol, error


def _compare(
    peers: Sequence[Peer],
    batch: Any,
    expected: np.ndarray,
    task: str,
    numbers: Sequence[int],
    rounds: int,
    labels: dict[str, Any],
) -> list[dict[str, Any]]:
    """Tune every peer on the first problems, then time the first `number` of them in turns."""
    patterns = batch[0].shape[1]
    checked = batch.first(len(expected))
    tuned = {}
    for peer in peers:
        if peer.present and any(peer.runs_at(patterns, number) for number in numbers):
            tuned[peer.name] = _tune(peer, checked, expected, task)
            print(f"{labels}: {peer.name}, error {tuned[peer.name][1]:.1e}", file=sys.stderr)
    rows = []
    for number in numbers:
        runs, first = {}, {}
        for peer in peers:
            if peer.name in tuned and peer.runs_at(patterns, number):
                start = time.perf_counter()
                run = peer.build(batch.first(number), tuned[peer.name][0])
                run()
                first[peer.name] = time.perf_counter() - start
                runs[peer.name] = run
        seconds = take_turns(runs, rounds)
        for peer in peers:
            row = {**labels, "B": number, "peer": peer.name}
            if peer.name in runs:
                spent = seconds[peer.name]
                tol, error = tuned[peer.name]
                state = "met" if error <= TARGETS[task] else "missed"
                figures = {
                    "tolerance": tol if len(peer.ladder) > 1 else None,
                    "max error": error,
                    "per second": number / statistics.median(spent),
                    "compile s": max(0.0, first[peer.name] - statistics.median(spent)),
                    "ours is x faster": ratio(spent, seconds[OURS]) if OURS in runs else None,
                }
            else:
                state = "not run" if peer.present else "absent"
                keys = ("tolerance", "max error", "per second", "compile s", "ours is x faster")
                figures = dict.fromkeys(keys)
            rows.append({**row, "target": state, **figures})
    return rows


def _batch(patterns: int, number: int) -> Batch:
    rng = np.random.default_rng(patterns)
    theta0 = np.log(rng.dirichlet(np.ones(patterns), number))
    rewards = rng.uniform(size=(number, patterns))
    return Batch(theta0, rewards, TIMES, rng.uniform(size=patterns))


def _dense(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for patterns in PATTERNS[:2] if quick else PATTERNS:
        numbers = NUMBERS[:2] if quick else NUMBERS
        batch = _batch(patterns, max(numbers))
        expected = _peers_jax.reference(batch.first(CHECKED))
        rounds = 3 if quick else 5
        rows += _compare(DENSE, batch, expected, "dense", numbers, rounds, {"K": patterns})
    return rows


def _gradients(quick: bool) -> list[dict[str, Any]]:
    number = 256 if quick else CHECKED
    batch = _batch(8, number)
    expected = _peers_jax.gradient_reference(batch)
    rounds = 3 if quick else 7
    return _compare(GRADIENTS, batch, expected, "gradient", [number], rounds, {"K": 8})


def _routes(quantity: Callable) -> tuple[Peer, Peer]:
    return (
        Peer(
            OURS, "qra_jax.Exact", _peers_jax.log_times(quantity, _peers_jax.exact), ladder(-3, -10)
        ),
        Peer(EVENTS, "diffrax", _peers_jax.log_times(quantity, _peers_jax.ode), ladder(-5, -10)),
    )


def _times(quick: bool) -> dict[str, Any]:
    """Both times of random problems, cost over T0, and a million problems."""
    number = 2048 if quick else 16384
    starts = Starts(*problems(number, 8, seed=8))
    rows = []
    for label, quantity in QUANTITIES.items():
        tight = _peers_jax.log_times(quantity, _peers_jax.tight)
        expected = _peers.joined(tight(starts.first(CHECKED), 1e-13)())
        rounds, labels = 3 if quick else 5, {"quantity": label, "K": 8}
        peers = _routes(quantity)
        rows += _compare(peers, starts, expected, "times", [number], rounds, labels)
    tuned = {(row["quantity"], row["peer"]): row["tolerance"] for row in rows}
    return {
        "rows": rows,
        "cost over T0": [
            _growth(peer, tuned["log T0", peer.name], starts, quick)
            for peer in _routes(_peers_jax.log_t0)
        ],
        "one million": [
            _million(peer, tuned["log T_eps", peer.name], 16384 if quick else MILLION)
            for peer in _routes(_peers_jax.log_t_eps)
        ],
    }


def _growth(peer: Peer, tol: float | None, starts: Starts, quick: bool) -> dict[str, Any]:
    """What problems with T0 near 1e60 cost, over what those with T0 near 1e2 cost."""
    if not peer.present:
        return {"peer": peer.name, "median log10 T0": None, "cost ratio": "absent"}
    log10_t0 = _peers.joined(peer.build(starts, tol)()) / np.log(10)
    runs, medians = {}, []
    for level in (2, 60):
        near = np.flatnonzero(np.abs(log10_t0 - level) < 1.0)
        rows = np.resize(near, 256 if quick else 4096)
        medians.append(round(float(np.median(log10_t0[near])), 1))
        runs[level] = peer.build(Starts(*(x[rows] for x in starts)), tol)
        runs[level]()
    seconds = take_turns(runs, 7)
    growth = ratio(seconds[60], seconds[2])
    return {"peer": peer.name, "median log10 T0": medians, "cost ratio": growth}


def _million(peer: Peer, tol: float | None, number: int) -> dict[str, Any]:
    """Seconds and memory of a process of its own that solves so many problems."""
    row = {"peer": peer.name, "problems": number}
    if not peer.present:
        keys = ("not solved", "peak RSS GB", "before the solve GB")
        return {**row, "per second": "absent", **dict.fromkeys(keys)}
    code = f"from benchmarks import peers; peers.solve_many({peer.name == OURS}, {tol}, {number})"
    command = [sys.executable, "-c", code]
    root = pathlib.Path(__file__).parent.parent
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return {**row, **json.loads(found.stdout.splitlines()[-1])}


def solve_many(exact: bool, tol: float | None, number: int) -> None:
    """Print rate and peak memory of `log_convergence_time` on so many problems."""
    jax.config.update("jax_enable_x64", True)
    probs, rates, strong = problems(number, 8, seed=10)
    method = _peers_jax.exact(tol) if exact else _peers_jax.ode(tol)
    before = _peak_gb()
    start = time.perf_counter()
    found = map_chunks(
        lambda inputs: _peers_jax.log_t_eps(*qra.two_stage(*inputs), method),
        (probs, rates),
        width=1024 if exact else 64,
        cost=np.where(strong, 0, 100) - np.log(probs[:, 0]),
    )
    seconds = time.perf_counter() - start
    figures = {
        "per second": number / seconds,
        "not solved": int(np.sum(~np.isfinite(found))),
        "peak RSS GB": _peak_gb(),
        "before the solve GB": before,
    }
    print(json.dumps(figures))


def _peak_gb() -> float | None:
    """This process's peak resident memory; `getrusage` would count that of its parent too."""
    path = pathlib.Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) / 2**20 if found else None


def main() -> None:
    """Run all three tasks; store figures, page and plot unless this is a quick run."""
    quick = settings(__doc__)
    figures = {"dense": _dense(quick), "gradient": _gradients(quick), "times": _times(quick)}
    for rows in (figures["dense"], figures["gradient"], *figures["times"].values()):
        print(table(rows), end="\n\n")
    packages = ("heyoka", "numbalsoda", "numba", "torchode", "torch", "scipy")
    config = {
        "peers": {package: _peers.version(package) or "absent" for package in packages},
        "cores used": _peers.CORES,
        "errors": "largest over all of 1,024 problems; gradients relative to a row's largest entry "
        "where that exceeds 1",
        "targets": TARGETS,
        "reference": "diffrax Dopri8, rtol = atol = 1e-13",
        "outputs": "64, log-spaced in [1e-2, 1e3]; gradients of a weighted sum of pi(1e3)",
        "compile s": "build and first call, less the median call",
    }
    write("peers", config, figures, quick)
    if not quick:
        update()


if __name__ == "__main__":
    main()
