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

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

CORES = os.cpu_count() or 1
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


class Peer(NamedTuple):
    """How to run a library, at tolerances from loose to tight, and how to call the result."""

    name: str
    package: str
    build: Callable[[Any, float], Callable[[], list]]
    ladder: tuple[float, ...]
    limit: Callable[[int, int], bool] = lambda patterns, number: True  # the sizes it is run at

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


def in_chunks(function: Callable, inputs: tuple[np.ndarray, ...], width: int) -> Callable:
    """Compiled `vmap(function)` in chunks of `width`; every core takes its share of them."""
    shares = min(CORES, inputs[0].shape[0])
    parts = [
        tuple(jnp.asarray(x) for x in part)
        for part in zip(*(np.array_split(x, shares) for x in inputs), strict=True)
    ]
    compiled = jax.jit(lambda x: jax.lax.map(function, x, batch_size=width))
    return lambda: _threads(lambda part: jax.block_until_ready(compiled(part)), parts)


def _threads(function: Callable, parts: list) -> list:
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(function, parts))


# ---------------------------------------------------------------------- this library


def exact(batch: Batch, tol: float) -> Callable:
    """The exact solver of this library."""
    log_times = jnp.log(batch.times)

    def solve(inputs):
        return _pattern_probs(*inputs, log_times)

    return in_chunks(solve, (batch.theta0, batch.rewards), 64)


def exact_gradient(batch: Batch, tol: float) -> Callable:
    """The gradient through the exact solver."""
    log_times = jnp.log(batch.times[-1:])

    def value(theta0, rewards):
        return batch.weights @ _pattern_probs(theta0, rewards, log_times)[-1]

    return in_chunks(lambda inputs: jax.grad(value)(*inputs), (batch.theta0, batch.rewards), 64)


def _pattern_probs(theta0, rewards, log_times, method=None):
    policy, problem = qra.two_stage(jax.nn.softmax(theta0), rewards)
    method = qra.Exact() if method is None else method  # pyright: ignore
    return qra.solve_flow(problem, policy, log_times=log_times, method=method).pattern_probs[:, 0]


# ---------------------------------------------------------------------- diffrax, on the logits


def _velocity(t, theta, rewards):
    probs = jax.nn.softmax(theta)
    return probs * (rewards - probs @ rewards)


def _diffeqsolve(theta0, rewards, end, tol, saveat, solver=diffrax.Tsit5(), **kwargs):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(_velocity),
        solver,
        t0=0.0,
        t1=end,
        dt0=None,
        y0=theta0,
        args=rewards,
        saveat=saveat,
        stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol),
        max_steps=16384,
        throw=False,
        **kwargs,
    ).ys


def _diffrax_probs(batch: Batch, tol: float, solver=diffrax.Tsit5()) -> Callable:
    saveat = diffrax.SaveAt(ts=batch.times)

    def solve(inputs):
        logits = _diffeqsolve(*inputs, batch.times[-1], tol, saveat, solver)
        return jax.nn.softmax(logits)

    return solve


def diffrax_chunks(batch: Batch, tol: float) -> Callable:
    return in_chunks(_diffrax_probs(batch, tol), (batch.theta0, batch.rewards), 64)


def diffrax_vmap(batch: Batch, tol: float) -> Callable:
    compiled = jax.jit(jax.vmap(_diffrax_probs(batch, tol)))
    inputs = jnp.asarray(batch.theta0), jnp.asarray(batch.rewards)
    return lambda: [jax.block_until_ready(compiled(inputs))]


def diffrax_gradient(adjoint: diffrax.AbstractAdjoint) -> Callable:
    def build(batch: Batch, tol: float) -> Callable:
        end, saveat = batch.times[-1], diffrax.SaveAt(t1=True)

        def value(theta0, rewards):
            logits = _diffeqsolve(theta0, rewards, end, tol, saveat, adjoint=adjoint)
            return batch.weights @ jax.nn.softmax(logits[-1])

        return in_chunks(lambda inputs: jax.grad(value)(*inputs), (batch.theta0, batch.rewards), 64)

    return build


def reference(batch: Batch) -> np.ndarray:
    """Pattern probabilities `(B, T, K)` by an 8th-order solver at 1e-13."""
    solve = _diffrax_probs(batch, 1e-13, diffrax.Dopri8())
    return joined(in_chunks(solve, (batch.theta0, batch.rewards), 64)())


def gradient_reference(batch: Batch) -> np.ndarray:
    """Gradients `(B, K)` from forward sensitivities, by the same solver."""
    end, saveat = batch.times[-1], diffrax.SaveAt(t1=True)

    def gradient(inputs):
        def value(theta0):
            kwargs = {"solver": diffrax.Dopri8(), "adjoint": diffrax.ForwardMode()}
            logits = _diffeqsolve(theta0, inputs[1], end, 1e-13, saveat, **kwargs)
            return batch.weights @ jax.nn.softmax(logits[-1])

        return jax.jacfwd(value)(inputs[0])

    return joined(in_chunks(gradient, (batch.theta0, batch.rewards), 64)())


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

    patterns = batch.theta0.shape[1]
    start = np.full((patterns, _LANES), 1 / patterns)
    integrators = [
        heyoka.taylor_adaptive_batch(flow, start, pars=start, tol=tol, compact_mode=patterns > 8)
        for _ in range(CORES)
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
    shares = [
        (integrator, probs0[group.ravel()], rewards[group.ravel()])
        for integrator, group in zip(integrators, groups, strict=True)
        if group.size
    ]
    return lambda: _threads(share, shares)


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


def _torchode(batch: Batch, tol: float) -> tuple:
    """A solver of all rows at once, and its inputs as tensors."""
    import torch
    import torchode

    def field(t, theta, rewards):
        probs = torch.softmax(theta, dim=1)
        return probs * (rewards - (probs * rewards).sum(dim=1, keepdim=True))

    term = torchode.ODETerm(field, with_args=True, with_stats=False)
    controller = torchode.IntegralController(atol=tol, rtol=tol, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)
    theta0, rewards = torch.tensor(batch.theta0), torch.tensor(batch.rewards)
    return solver, theta0, rewards


def torchode_probs(batch: Batch, tol: float) -> Callable:
    import torch
    import torchode

    solver, theta0, rewards = _torchode(batch, tol)
    start = torch.zeros(len(theta0), dtype=torch.float64)
    times = torch.tensor(batch.times).expand(len(theta0), -1)

    @torch.no_grad()
    def run():
        problem = torchode.InitialValueProblem(theta0, t_start=start, t_eval=times)
        return [torch.softmax(solver.solve(problem, args=rewards).ys, dim=2)]

    return run


def torchode_gradient(batch: Batch, tol: float) -> Callable:
    import torch
    import torchode

    solver, theta0, rewards = _torchode(batch, tol)
    start = torch.zeros(len(theta0), dtype=torch.float64)
    weights = torch.tensor(batch.weights)

    def run():
        leaf = theta0.clone().requires_grad_()
        problem = torchode.InitialValueProblem(leaf, start, start + batch.times[-1])
        final = torch.softmax(solver.solve(problem, args=rewards).ys[:, -1], dim=1)
        return [torch.autograd.grad((final @ weights).sum(), leaf)[0]]

    return run


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

    cuts = range(64, len(batch.theta0), 64)
    parts = list(zip(np.split(batch.probs0, cuts), np.split(batch.rewards, cuts), strict=True))
    return lambda: [solve(part) for part in parts]
