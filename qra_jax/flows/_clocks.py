"""Clocks: the variable a solver steps in, and how it is related to the flow's time.

A clock never mentions policies. Near the start all of them resolve times of order `1/|v0|`, the
inverse of the initial speed; they differ in how fast they may then run.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._core.types import Scalar

# Beyond exp(50) a stage is a trial step that will be rejected: it must not overflow on the way.
_MAX_EXPONENT = 50.0


def _log_expm1(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log(exp(x) - 1)` for x >= 0; `-inf` with gradient 0 at x = 0."""
    started = x > 0
    safe = jnp.where(started, x, 1)
    return jnp.where(started, safe + jnp.log(-jnp.expm1(-safe)), -jnp.inf)


def reading_at(log_time: Float[Array, "..."], start: Scalar) -> Float[Array, "..."]:
    """The reading of any clock at `log_time`, `log(1 + |v0| t)`."""
    return jnp.logaddexp(log_time + start, jnp.zeros_like(log_time))


class AbstractClock(eqx.Module):
    """A change of the independent variable, from flow time t to solver time s.

    `log_speed` is the logarithm of the norm |v| of the flow's velocity, `start` its value at
    t = 0.
    """

    longest_step: eqx.AbstractClassVar[float]
    """The longest step that is safe: within a longer one an event can come and go unseen."""

    @abc.abstractmethod
    def init(self, start: Scalar) -> PyTree:
        """The clock's own state at t = 0, integrated beside the flow."""

    @abc.abstractmethod
    def rates(
        self, s: Scalar, state: PyTree, log_speed: Scalar, start: Scalar
    ) -> tuple[Scalar, PyTree]:
        """`(log |d theta/ds|, d state/ds)`."""

    @abc.abstractmethod
    def reading(self, s: Float[Array, "..."], state: PyTree, start: Scalar) -> Float[Array, "..."]:
        """The time read off the clock, as `log(1 + |v0| t)`."""

    def log_time(self, s: Float[Array, "..."], state: PyTree, start: Scalar) -> Float[Array, "..."]:
        """`log t`, `-inf` at t = 0."""
        return _log_expm1(self.reading(s, state, start)) - start

    @abc.abstractmethod
    def solver_time(
        self, log_time: Float[Array, "..."], start: Scalar
    ) -> Float[Array, "..."] | None:
        """The s at which `log t` is `log_time`, or None where only the solution can tell."""


class Time(AbstractClock):
    """s = t. Cannot resolve a jump that happens long after the start (past t of about 1e15)."""

    longest_step: ClassVar[float] = math.inf

    def init(self, start: Scalar) -> PyTree:
        return jnp.zeros_like(start)

    def rates(
        self, s: Scalar, state: PyTree, log_speed: Scalar, start: Scalar
    ) -> tuple[Scalar, PyTree]:
        return log_speed, jnp.zeros_like(s)

    def reading(self, s: Float[Array, "..."], state: PyTree, start: Scalar) -> Float[Array, "..."]:
        started = s > 0
        log_time = jnp.log(jnp.where(started, s, 1))
        return jnp.where(started, reading_at(log_time, start), 0)

    def solver_time(
        self, log_time: Float[Array, "..."], start: Scalar
    ) -> Float[Array, "..."] | None:
        return jnp.exp(log_time)


class LogTime(AbstractClock):
    r"""$s = \log(1 + |v_0| t)$. Same limit as `Time`, with steps that grow in proportion to t."""

    longest_step: ClassVar[float] = math.inf

    def init(self, start: Scalar) -> PyTree:
        return jnp.zeros_like(start)

    def rates(
        self, s: Scalar, state: PyTree, log_speed: Scalar, start: Scalar
    ) -> tuple[Scalar, PyTree]:
        return jnp.minimum(log_speed + s - start, _MAX_EXPONENT), jnp.zeros_like(s)

    def reading(self, s: Float[Array, "..."], state: PyTree, start: Scalar) -> Float[Array, "..."]:
        return s

    def solver_time(
        self, log_time: Float[Array, "..."], start: Scalar
    ) -> Float[Array, "..."] | None:
        return reading_at(log_time, start)


class ArcLength(AbstractClock):
    r"""$ds = |\dot\theta| dt$, with $u = \log(1 + |v_0| t)$ carried beside the flow.

    The path stays short, and its speed 1, however long the flow takes:
    $du/ds = |v_0| e^{-u} / |\dot\theta|$.

    Source: derived in docs/derivations.md#clocks.
    """

    # On a straight stretch u relaxes at a rate of up to 1. Steps of 3 are still stable there, and a
    # third fewer on very long stretches, but errors of 1e-9 become 1e-6.
    longest_step: ClassVar[float] = 2.0

    def init(self, start: Scalar) -> PyTree:
        return jnp.zeros_like(start)

    def rates(
        self, s: Scalar, state: PyTree, log_speed: Scalar, start: Scalar
    ) -> tuple[Scalar, PyTree]:
        rate = jnp.exp(jnp.minimum(start - state - log_speed, _MAX_EXPONENT))
        return jnp.zeros_like(log_speed), rate

    def reading(self, s: Float[Array, "..."], state: PyTree, start: Scalar) -> Float[Array, "..."]:
        return state

    def solver_time(
        self, log_time: Float[Array, "..."], start: Scalar
    ) -> Float[Array, "..."] | None:
        return None
