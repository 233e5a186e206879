"""Functions compiled as a whole, fast where they are called by hand."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax

from .checks import is_concrete

_P = ParamSpec("_P")
_T = TypeVar("_T")

# XLA's older emitters for CPUs compile in two thirds of the time, and their programs take up to
# twice as long.
OLDER_EMITTERS: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": False}
_FEW = 10_000
"""Up to so many numbers a first call is mostly compilation."""


def _called_by_hand() -> bool:
    """Whether nothing that calls is being traced."""
    # What is made while something is traced is traced as well, even of constants.
    return is_concrete(jax.numpy.zeros(()) + 0)


def compiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`eqx.filter_jit`; on a CPU, for small concrete arguments, by the compiler that takes less."""
    best = eqx.filter_jit(function)
    # XLA takes such options of the outermost program only: not where a caller is being traced.
    quick = eqx.filter_jit(function, compiler_options=OLDER_EMITTERS)  # pyright: ignore

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        given = (args, kwargs)
        if not (is_concrete(given) and _called_by_hand()):
            return best(*args, **kwargs)
        size = sum(leaf.size for leaf in jax.tree_util.tree_leaves(eqx.filter(given, eqx.is_array)))
        small = size <= _FEW and jax.default_backend() == "cpu"
        return (quick if small else best)(*args, **kwargs)

    return call
