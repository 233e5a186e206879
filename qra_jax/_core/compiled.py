"""Functions compiled as a whole, fast where they are called by hand; programs kept on disk."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax

from .checks import is_concrete
from .folders import require_private

_P = ParamSpec("_P")
_T = TypeVar("_T")

# XLA's older emitters for CPUs compile in two thirds of the time, and their programs take up to
# twice as long.
OLDER_EMITTERS: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": False}
_FEW = 10_000
"""Up to so many numbers a first call is mostly compilation."""


def _called_by_hand() -> bool:
    """Whether nothing that calls is being traced."""
    # What is made while something is compiled is traced as well, even of constants.
    return is_concrete(jax.numpy.zeros(()))


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


def enable_compilation_cache(folder: str | Path | None = None) -> Path:
    """Keep compiled programs in a folder, and take them from there in later runs.

    A program from there is executed: the folder must be the user's own, and nobody else's to write.
    Call it before the first computation, beside `jax.config.update("jax_enable_x64", True)`.

    **Arguments:** `folder`: made if it is not there; `~/.cache/qra_jax/programs` if not given.

    **Returns:** the folder.

    **Raises:** `ValueError` if the folder is not the user's own, or cannot be made.

    Source: JAX's persistent compilation cache, whose settings this changes.
    """
    folder = Path.home() / ".cache/qra_jax/programs" if folder is None else Path(folder)
    require_private(folder, "folder")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
