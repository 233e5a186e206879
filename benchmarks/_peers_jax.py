"""Adaptors of this library and of diffrax, for `benchmarks.peers`."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from ._peers import Batch, Starts, in_threads, joined, shares

EXACT_WIDTH = 64  # rows that the exact solver takes together


def in_chunks(function: Callable, inputs: tuple[np.ndarray, ...], width: int) -> Callable:
    """Compiled `vmap(function)` in chunks of `width`, at most 1,024 rows a call, on all cores."""
    parts = [tuple(map(jnp.asarray, part)) for part in shares(1024, *inputs)]
    compiled = jax.jit(lambda part: jax.lax.map(function, part, batch_size=width))
    return lambda: in_threads(lambda part: jax.block_until_ready(compiled(part)), parts)


# ---------------------------------------------------------------------- this library


def exact(tol: float) -> Any:
    """The exact solver."""
    return qra.Exact(tol)


def ode(tol: float) -> Any:
    """diffrax by way of this library, in arc length."""
    return qra.ODE(rtol=tol, atol=tol)


def tight(tol: float) -> Any:
    return qra.ODE(diffrax.Dopri8(), rtol=tol, atol=tol, max_steps=16384)


def _probs(theta0, rewards, log_times, tol):
    policy, problem = qra.two_stage(jax.nn.softmax(theta0), rewards)
    solved = qra.solve_flow(policy, problem, log_times=log_times, method=exact(tol))
    return solved.pattern_probs[:, 0]


def exact_probs(batch: Batch, tol: float) -> Callable:
    log_times = jnp.log(batch.times)
    inputs = batch.theta0, batch.rewards
    return in_chunks(lambda row: _probs(*row, log_times, tol), inputs, EXACT_WIDTH)


def exact_gradient(batch: Batch, tol: float) -> Callable:
    log_times = jnp.log(batch.times[-1:])

    def value(theta0, rewards):
        return batch.weights @ _probs(theta0, rewards, log_times, tol)[-1]

    inputs = batch.theta0, batch.rewards
    return in_chunks(lambda row: jax.grad(value)(*row), inputs, EXACT_WIDTH)


def log_t0(policy, problem, method):
    return qra.log_entanglement_time(policy, problem, method=method)[0]


def log_t_eps(policy, problem, method):
    return qra.log_convergence_time(policy, problem, 0.01, method=method)[0]


def log_times(quantity: Callable, method: Callable[[float], Any]) -> Callable:
    """`quantity(policy, problem, method(tol))` of every start, starts of like cost together."""

    def build(starts: Starts, tol: float) -> Callable:
        chosen = method(tol)
        order = np.argsort(np.where(starts.strong, 0, 100) - np.log(starts.probs[:, 0]))
        width = EXACT_WIDTH if method is exact else 64
        inputs = starts.probs[order], starts.rates[order]
        run = in_chunks(lambda row: quantity(*qra.two_stage(*row), chosen), inputs, width)
        return lambda: [joined(run())[np.argsort(order)]]

    return build


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
