r"""Roots: of one unknown in a bracket, of a small system, and their derivatives.

A search is a loop that stops where it has converged, and is not differentiated. A root x of
$F(x; p) = 0$ moves with p by the implicit function theorem,

$$\frac{dx}{dp} = -\Big(\frac{\partial F}{\partial x}\Big)^{-1} \frac{\partial F}{\partial p},$$

which `jax.lax.custom_root` applies to all orders. There is no other rule for roots in the library.

**Why not optimistix?** Its `Newton` keeps no bracket and its `Bisection` takes no Newton steps;
events on plateaus need both. Its `ImplicitAdjoint` solves a linear system for every root, where
most here have one unknown, and a lane of slope 0 spoils the gradient of a whole batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from .trees import chosen

_Unknowns = Float[Array, "*N"]
Function = Callable[[Array], Array]
Size = Callable[[_Unknowns], ArrayLike]
Look = Callable[[_Unknowns, Any], tuple[_Unknowns, _Unknowns, Any]]


class Found(NamedTuple):
    """Where a search has come to: the root, the bracket that is left, whether it has converged;
    `aux` is what the last look handed on."""

    root: _Unknowns
    low: _Unknowns
    high: _Unknowns
    arrived: Bool[Array, "*N"]
    aux: PyTree


def newton_in_bracket(
    look: Look,
    start: _Unknowns,
    bracket: tuple[_Unknowns, _Unknowns] | None,
    small: Size,
    *,
    narrow: Size | None = None,
    wanted: Bool[ArrayLike, "..."] = True,
    otherwise: Callable[[_Unknowns, _Unknowns], _Unknowns] | None = None,
    aux: PyTree = None,
    most: int = 64,
) -> Found:
    """Newton's iteration for functions that rise through 0, kept in a bracket that shrinks with
    the sign of the value; a step that leaves it is replaced by a bisection.

    Without a sign change it ends at the end of the bracket that is nearer to one. Not
    differentiable: see `root_in_bracket` and `implicit_root`.

    **Arguments:**

    - `look`: of a place and what the look before handed on (`aux` at first), the value, the slope,
      and what to hand on. With the slope of Halley's step the convergence is that of Halley.
    - `start`: where to begin, of any shape: every entry is a root of its own, and all go on until
      the last has arrived.
    - `bracket`: ends of the same shape, which may be infinite; None where Newton's iteration needs
      none, as for a convex function.
    - `small`: of a place, the step after which no other is needed; as convergence is quadratic, the
      square root of the precision.
    - `narrow`: of a place, the width of a bracket of which any point will do; rounding if not
      given.
    - `wanted`: entries that are not count as arrived, and stay at `start` if none is.
    - `otherwise`: of a place and Newton's step, what to try before a bisection.
    - `most`: looks, at most.
    """
    start = jnp.asarray(start)
    eps = float(jnp.finfo(start.dtype).eps)
    idle = ~jnp.broadcast_to(jnp.asarray(wanted), start.shape)
    ends = bracket or (jnp.asarray(-jnp.inf, start.dtype), jnp.asarray(jnp.inf, start.dtype))
    low, high = (jnp.broadcast_to(end, start.shape) for end in ends)

    def improve(carry: tuple[Found, Array]) -> tuple[Found, Array]:
        (x, low, high, _, aux), count = carry
        value, slope, aux = look(x, aux)
        step = jnp.where(value == 0, 0, value / slope)
        newton, near = x - step, jnp.abs(step) <= small(x)
        if bracket is None:
            # Nothing leads back from NaN: an entry that is lost must not hold up the others.
            return Found(newton, low, high, idle | near | jnp.isnan(step), aux), count + 1
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        other = _middle(low, high)
        if otherwise is not None:
            guess = otherwise(x, step)
            other = jnp.where((guess > low) & (guess < high), guess, other)
        # Strictly inside: rounding can make Newton's iteration go to and fro between the ends. A
        # last step may overshoot an end at which the root is.
        inside = near | ((newton > low) & (newton < high))
        root = jnp.clip(jnp.where(inside, newton, other), low, high)
        width = 4 * eps * (1 + jnp.abs(x)) if narrow is None else narrow(x)
        return Found(root, low, high, idle | near | (high - low <= width), aux), count + 1

    def go_on(carry: tuple[Found, Array]):
        found, count = carry
        return jnp.any(~found.arrived) & (count < most)

    begin = Found(start, low, high, idle, aux)
    return jax.lax.while_loop(go_on, improve, (begin, jnp.zeros((), jnp.int32)))[0]


def _middle(low: _Unknowns, high: _Unknowns) -> _Unknowns:
    """The middle of a bracket; of one with an infinite end, a place ever further out."""
    middle = low / 2 + high / 2
    above, below = low + jnp.maximum(1, jnp.abs(low)), high - jnp.maximum(1, jnp.abs(high))
    outwards = jnp.where(high < jnp.inf, below, jnp.where(low > -jnp.inf, above, 0))
    return jnp.where(jnp.isfinite(middle), middle, outwards)


def root_in_bracket(
    function: Function,
    start: _Unknowns,
    bracket: tuple[_Unknowns, _Unknowns] | None,
    small: Size,
    *,
    look: Look | None = None,
    narrow: Size | None = None,
    wanted: Bool[ArrayLike, "..."] = True,
    most: int = 64,
) -> tuple[_Unknowns, Bool[Array, "*N"]]:
    """The root of a function that rises through 0, differentiable to all orders in whatever
    `function` closes over, and whether it was found.

    **Arguments:** `function`: entry by entry; `look`: value and slope, if they are to be had for
    less than by differentiating `function`; the others as for `newton_in_bracket`.
    """

    def derived(x, aux):
        return *jax.jvp(function, (x,), (jnp.ones_like(x),)), aux

    def search(x):
        found = newton_in_bracket(
            look or derived, x, bracket, small, narrow=narrow, wanted=wanted, most=most
        )
        return found.root, found.arrived.astype(x.dtype)  # `custom_root` knows floats only

    root, arrived = _with_derivatives(function, search, start, wanted, False)
    return root, arrived > 0


def implicit_root(
    function: Function,
    root: Float[Array, "*N"],
    usable: Bool[ArrayLike, "..."] = True,
    *,
    system: bool = False,
) -> Float[Array, "*N"]:
    """A root that is known already, with the derivatives of all orders that it has implicitly.

    **Arguments:** `function`: what is 0 there, entry by entry, or as a system of N equations if
    `system`; `usable`: derivatives are 0 elsewhere (of a system, all of them).
    """
    known = jax.lax.stop_gradient(root)
    return _with_derivatives(function, lambda x: (x, jnp.zeros_like(x)), known, usable, system)[0]


def _with_derivatives(function, search, guess, usable, system: bool):
    """`search(guess)`, a root and an array of floats, the former with implicit derivatives."""

    def invert(linear, change):
        if system:
            return jnp.linalg.solve(jax.jacfwd(linear)(change), change)
        # The slope of each entry. Where it is 0 there is no derivative: such a lane must not
        # hand NaN to the others of a batch.
        slope = linear(jnp.ones_like(change))
        sound = usable & (slope != 0) & jnp.isfinite(slope)
        return jnp.where(sound, change / jnp.where(sound, slope, 1), 0)

    def regular(x):
        # A system's matrix may be singular where it is not usable.
        return jnp.where(usable, function(x), x - guess)

    return jax.lax.custom_root(
        regular if system else function, guess, lambda _, x: search(x), invert, has_aux=True
    )


class Solution(NamedTuple):
    """A root of a system, and whether the steps have become short enough for one; value and slopes
    are those that the last step was taken from (damped: those at the root)."""

    root: Float[Array, " N"]
    value: Float[Array, " N"]
    slopes: Float[Array, "N N"]
    converged: Bool[Array, ""]


class _Descent(NamedTuple):
    """`best` and what is known there, and the `trial` that a step of `move` leads to; `steepest` is
    the largest slope of each unknown so far."""

    trial: Float[Array, " N"]
    move: Float[Array, " N"]
    best: Float[Array, " N"]
    value: Float[Array, " N"]
    slopes: Float[Array, "N N"]
    steepest: Float[Array, " N"]
    damping: Float[Array, ""]
    looks: Int[Array, ""]
    converged: Bool[Array, ""]
    over: Bool[Array, ""]


def solve_system(
    function: Function, start: Float[Array, " N"], *, damped: bool, most: int
) -> Solution:
    """A root of a small system of equations, by Newton's method from near one, or by Levenberg's
    and Marquardt's from anywhere.

    Not differentiable: see `implicit_root`.

    **Arguments:** `function`: `(N,)` to `(N,)`; `damped`: Levenberg's and Marquardt's steps, of
    which only those are taken that bring the equations nearer to 0. It stops where none does, which
    need not be a root, and does not mind equations that leave a direction open. `most`: looks, at
    most.
    """
    dtype = start.dtype
    small = float(jnp.finfo(dtype).eps) ** 0.5
    # Equations may be unable to tell some direction from the next: its slopes are 0 to rounding.
    least = float(jnp.finfo(dtype).eps) ** 0.6

    def newton(state: _Descent) -> _Descent:
        value, slopes = value_and_slopes(function, state.trial)
        move = jnp.linalg.solve(slopes, value)
        trial = state.trial - move
        # Of second order: a step after one that is this small would be below rounding.
        arrived = jnp.max(jnp.abs(move)) / (1 + jnp.max(jnp.abs(trial))) <= small
        steepest, looks = state.steepest, state.looks + 1
        return _Descent(
            trial, move, trial, value, slopes, steepest, state.damping, looks, arrived, arrived
        )

    def marquardt(state: _Descent) -> _Descent:
        value, slopes = value_and_slopes(function, state.trial)
        better = _size(value) < _size(state.value)
        best, value, slopes = chosen(
            better, (state.trial, value, slopes), (state.best, state.value, state.slopes)
        )
        damping = jnp.where(better, state.damping / 10, state.damping * 4)
        damping = jnp.maximum(damping, least)
        # At a root to rounding nothing gets better any more, however short the step.
        short = _size(state.move) <= 1e-14 * _size(best)
        over = ~better & ((damping > 1e8) | short)
        # Each unknown in units of its own slopes: one that hardly matters is free to go far. Of the
        # steepest so far: where slopes vanish at no root, units of today's would forbid all steps.
        norms = jnp.linalg.norm(slopes, axis=0)
        steepest = jnp.maximum(state.steepest, jnp.where(jnp.isfinite(norms), norms, 0))
        unit = jnp.where(steepest > 0, steepest, 1)
        scaled = slopes / unit[None]
        normal = scaled.T @ scaled + damping * jnp.eye(start.shape[0], dtype=dtype)
        move = jnp.linalg.solve(normal, scaled.T @ value) / unit
        looks = state.looks + 1
        return _Descent(
            best - move, move, best, value, slopes, steepest, damping, looks, over, over
        )

    begin = _Descent(
        start,
        jnp.full_like(start, jnp.inf),
        start,
        jnp.full_like(start, jnp.inf),
        jnp.zeros((start.shape[0], start.shape[0]), dtype),
        jnp.zeros_like(start),
        jnp.asarray(1e-2, dtype),
        jnp.zeros((), jnp.int32),
        jnp.asarray(False),
        jnp.asarray(False),
    )
    end = jax.lax.while_loop(
        lambda state: ~state.over & (state.looks < most), marquardt if damped else newton, begin
    )
    return Solution(end.best, end.value, end.slopes, end.converged)


def _size(value: Float[Array, " N"]) -> Float[Array, ""]:
    """The length of a vector, infinite if an entry is not finite."""
    finite = jnp.all(jnp.isfinite(value))
    return jnp.where(finite, jnp.linalg.norm(jnp.where(finite, value, 0)), jnp.inf)


def value_and_slopes(
    function: Function, x: Float[Array, " N"]
) -> tuple[Float[Array, " M"], Float[Array, "M N"]]:
    """A function's value and its matrix of slopes, in one pass."""
    slopes, value = jax.jacfwd(lambda x: (function(x),) * 2, has_aux=True)(x)
    return value, slopes
