"""One adaptor a peer: the same trajectories and gradients by other libraries.

An adaptor is `build(batch, tol)`, which compiles what can be compiled beforehand and returns
`run()`. That solves the whole batch on all cores, each library in the way it was measured to be
the fastest, and returns parts of the answer that follow one another along the first axis.
"""

import importlib.metadata
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

import qra_jax as qra

CORES = os.cpu_count() or 1
_POOL = ThreadPoolExecutor(CORES)
_LANES = 8  # heyoka's batches: AVX-512 holds so many doubles


class Batch(NamedTuple):
    """B problems: logits and rewards `(B, K)`, the times `(T,)` wanted, weights `(K,)`."""

    theta0: np.ndarray
    rewards: np.ndarray
    times: np.ndarray
    weights: np.ndarray

    def first(self, number: int) -> "Batch":
        return self._replace(theta0=self.theta0[:number], rewards=self.rewards[:number])

    @property
    def probs0(self) -> np.ndarray:
        probs = np.exp(self.theta0)
        return probs / probs.sum(axis=1, keepdims=True)


class Starts(NamedTuple):
    """What `_common.problems` returns."""

    probs: np.ndarray
    rates: np.ndarray
    strong: np.ndarray

    def first(self, number: int) -> "Starts":
        return Starts(*(x[:number] for x in self))


class Peer(NamedTuple):
    """How to run a library, at tolerances from loose to tight, and how to call the result."""

    name: str
    package: str
    build: Callable[[Any, float], Callable[[], list]]
    ladder: tuple[float, ...]
    sizes: frozenset[tuple[int, int]] | None = None  # (K, B) at which it is run; None: all

    def runs_at(self, patterns: int, number: int) -> bool:
        return self.sizes is None or (patterns, number) in self.sizes

    @property
    def present(self) -> bool:
        if self.package == "qra_jax.Exact":
            return hasattr(qra, "Exact")
        return version(self.package) is not None


def version(package: str) -> str | None:
    """The installed version of a package, None if it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def ladder(loosest: int, tightest: int) -> tuple[float, ...]:
    """Two tolerances a decade, from `10**loosest` to `10**tightest`."""
    return tuple(10 ** (-half / 2) for half in range(-2 * loosest, -2 * tightest + 1))


def shares(most: int, *arrays: Any) -> list[tuple]:
    """Arrays cut along the first axis, one part a core and none above `most` rows."""
    number = max(-(-len(arrays[0]) // most), CORES)
    return list(zip(*(np.array_split(x, number) for x in arrays), strict=True))


def in_threads(function: Callable, parts: list) -> list:
    return list(_POOL.map(function, parts))


def joined(parts: list) -> np.ndarray:
    """The parts of an answer as one array."""
    return np.concatenate([np.asarray(part) for part in parts])


# ---------------------------------------------------------------------- heyoka, on pi


def _heyoka_flow(patterns: int) -> list:
    """The flow of pi, a polynomial: with g = pi (R - V), pi' = pi (g - sum_j pi_j g_j)."""
    import heyoka

    probs = heyoka.make_vars(*(f"p{i}" for i in range(patterns)))
    rewards = [heyoka.par[i] for i in range(patterns)]
    mean = heyoka.sum([p * r for p, r in zip(probs, rewards, strict=True)])
    pushes = [p * (r - mean) for p, r in zip(probs, rewards, strict=True)]
    drift = heyoka.sum([p * g for p, g in zip(probs, pushes, strict=True)])
    return [(p, p * (g - drift)) for p, g in zip(probs, pushes, strict=True)]


def _heyoka(flow, batch: Batch, tol: float, follow: Callable) -> Callable:
    """`follow(integrator, probs0)` for so many rows at a time, one integrator a thread."""
    import heyoka

    heyoka.llvm_state.set_diskcache_enabled(False)  # every build is timed as a first one
    heyoka.llvm_state.clear_memcache()
    patterns = batch.theta0.shape[1]
    start = np.full((patterns, _LANES), 1 / patterns)
    integrators = [
        heyoka.taylor_adaptive_batch(flow, start, pars=start, tol=tol) for _ in range(CORES)
    ]
    initial = integrators[0].state.copy()  # of a variational system with the identity in it

    def share(part):
        integrator, probs0, rewards = part
        found = []
        for at in range(0, len(probs0), _LANES):
            rows = slice(at, at + _LANES)
            integrator.set_time(0.0)
            integrator.state[:] = initial
            integrator.state[:patterns] = probs0[rows].T
            integrator.pars[:] = rewards[rows].T
            found.append(follow(integrator, probs0[rows]))
        return np.concatenate(found)

    groups = np.array_split(np.arange(len(batch.theta0)).reshape(-1, _LANES), CORES)
    probs0, rewards = batch.probs0, batch.rewards
    parts = [
        (integrator, probs0[group.ravel()], rewards[group.ravel()])
        for integrator, group in zip(integrators, groups, strict=True)
        if group.size
    ]
    return lambda: in_threads(share, parts)


def heyoka_probs(batch: Batch, tol: float) -> Callable:
    grid = np.repeat(np.concatenate([[0.0], batch.times])[:, None], _LANES, axis=1)

    def follow(integrator, probs0):
        return integrator.propagate_grid(grid)[-1][1:].transpose(2, 0, 1)

    return _heyoka(_heyoka_flow(batch.theta0.shape[1]), batch, tol, follow)


def heyoka_gradient(batch: Batch, tol: float) -> Callable:
    """By variational equations with respect to pi(0), then through the softmax."""
    import heyoka

    patterns = batch.theta0.shape[1]

    def follow(integrator, probs0):
        integrator.propagate_until(batch.times[-1])
        jacobian = integrator.state[patterns:].reshape(patterns, patterns, _LANES)
        slope = np.einsum("i,ijb->bj", batch.weights, jacobian)
        return probs0 * (slope - np.sum(probs0 * slope, axis=1, keepdims=True))

    flow = heyoka.var_ode_sys(_heyoka_flow(patterns), heyoka.var_args.vars)
    return _heyoka(flow, batch, tol, follow)


# ---------------------------------------------------------------------- numbalsoda, on pi


def numbalsoda(method: str) -> Callable:
    def build(batch: Batch, tol: float) -> Callable:
        import numba
        import numbalsoda

        number, patterns = batch.theta0.shape
        # The first time is the start, and the last is passed, so that rounding cannot miss it.
        grid = np.concatenate([[0.0], batch.times, [batch.times[-1] * 1.001]])
        integrate = getattr(numbalsoda, method)

        @numba.cfunc(numbalsoda.lsoda_sig)
        def flow(t, probs, speed, rewards):
            mean, drift = 0.0, 0.0
            for i in range(patterns):
                mean += probs[i] * rewards[i]
            for i in range(patterns):
                speed[i] = probs[i] * (rewards[i] - mean)
                drift += probs[i] * speed[i]
            for i in range(patterns):
                speed[i] = probs[i] * (speed[i] - drift)

        address = flow.address

        @numba.njit(parallel=True)
        def solve(probs0, rewards):
            found = np.empty((number, grid.size - 2, patterns))
            for row in numba.prange(number):
                path, ok = integrate(address, probs0[row], grid, rewards[row], tol, tol, 100_000)
                found[row] = path[1:-1]
                if not ok:
                    found[row] = np.nan
            return found

        probs0, rewards = batch.probs0, batch.rewards
        return lambda flow=flow: [solve(probs0, rewards)]  # which keeps `address` alive

    return build


# ---------------------------------------------------------------------- torchode, on the logits


def _torchode(batch: Batch, tol: float, solve: Callable) -> Callable:
    """`solve(solver, theta0, rewards)` for at most 2,048 rows at a time.

    torch itself gets one thread: with more, every small operation waits for them all.
    """
    import torch
    import torchode

    torch.set_num_threads(1)

    def field(t, theta, rewards):
        probs = torch.softmax(theta, dim=1)
        return probs * (rewards - (probs * rewards).sum(dim=1, keepdim=True))

    term = torchode.ODETerm(field, with_args=True, with_stats=False)
    controller = torchode.IntegralController(atol=tol, rtol=tol, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)
    parts = [tuple(map(torch.tensor, part)) for part in shares(2048, batch.theta0, batch.rewards)]
    return lambda: in_threads(lambda part: solve(solver, *part), parts)


def torchode_probs(batch: Batch, tol: float) -> Callable:
    import torch
    import torchode

    times = torch.tensor(batch.times)

    def solve(solver, theta0, rewards):
        with torch.no_grad():
            start = torch.zeros(len(theta0), dtype=times.dtype)
            grid = times.expand(len(theta0), -1)
            problem = torchode.InitialValueProblem(theta0, start, grid[:, -1], grid)
            return torch.softmax(solver.solve(problem, args=rewards).ys, dim=2)

    return _torchode(batch, tol, solve)


def torchode_gradient(batch: Batch, tol: float) -> Callable:
    import torch
    import torchode

    weights = torch.tensor(batch.weights)

    def solve(solver, theta0, rewards):
        leaf = theta0.clone().requires_grad_()
        start = torch.zeros(len(leaf), dtype=leaf.dtype)
        problem = torchode.InitialValueProblem(leaf, start, start + batch.times[-1])
        final = torch.softmax(solver.solve(problem, args=rewards).ys[:, -1], dim=1)
        return torch.autograd.grad((final @ weights).sum(), leaf)[0]

    return _torchode(batch, tol, solve)


# ---------------------------------------------------------------------- SciPy, on pi


def scipy_probs(batch: Batch, tol: float) -> Callable:
    """64 rows stacked into one system, so that NumPy works on arrays."""
    from scipy.integrate import solve_ivp

    def solve(part):
        probs0, rewards = part

        def field(t, probs):
            probs = probs.reshape(probs0.shape)
            push = probs * (rewards - np.sum(probs * rewards, axis=1, keepdims=True))
            return (probs * (push - np.sum(probs * push, axis=1, keepdims=True))).ravel()

        span = 0.0, batch.times[-1]
        path = solve_ivp(field, span, probs0.ravel(), "DOP853", batch.times, rtol=tol, atol=tol)
        return path.y.reshape(*probs0.shape, -1).swapaxes(1, 2)

    number = max(1, len(batch.theta0) // 64)
    parts = list(
        zip(
            np.array_split(batch.probs0, number), np.array_split(batch.rewards, number), strict=True
        )
    )
    return lambda: [solve(part) for part in parts]
