"""Functions compiled as a whole, fast where they are called by hand; programs kept on disk."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from .checks import is_concrete
from .folders import require_private

_P = ParamSpec("_P")
_T = TypeVar("_T")

# XLA's older emitters for CPUs compile in two thirds of the time, and their programs take up to
# twice as long.
OLDER_EMITTERS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False}
# Without optimisations it compiles in a quarter of the time, and its programs take two to three
# times as long.
_UNOPTIMISED: dict[str, Any] = {
    **OLDER_EMITTERS,
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_FEW = 2_000
"""Up to so many numbers a first call is mostly compilation, and later ones take milliseconds."""
_FEW_ROWS = 8
"""Rows of a Jacobian that are formed at once."""


def _called_by_hand() -> bool:
    """Whether nothing that calls is being traced."""
    # What is made while something is compiled is traced as well, even of constants.
    return is_concrete(jax.numpy.zeros(()))


@functools.cache
def _quick_options() -> dict[str, Any]:
    """What compiles small programs quickly: nothing special on a GPU, or if XLA names it anew."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_UNOPTIMISED).lower(0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _UNOPTIMISED


def _is_small(given: PyTree) -> bool:
    """Whether all is known, and little: then compilation takes longer than what is compiled."""
    arrays = eqx.filter(given, eqx.is_array)
    small = sum(leaf.size for leaf in jax.tree_util.tree_leaves(arrays)) <= _FEW
    return small and is_concrete(given) and bool(_quick_options())


def _quickly(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`eqx.filter_jit` by the compiler that takes least, for calls that nothing traces."""

    @functools.cache
    def program():
        return eqx.filter_jit(function, compiler_options=_quick_options())  # pyright: ignore

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return program()(*args, **kwargs)

    return call


def compiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`eqx.filter_jit`; on a CPU, for small concrete arguments, by the compiler that takes least.

    Under `jit`, `vmap` or `grad` it is `eqx.filter_jit`.
    """
    best = eqx.filter_jit(function)
    quick = _quickly(function)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        by_hand = _called_by_hand() and _is_small((args, kwargs))
        return (quick if by_hand else best)(*args, **kwargs)

    return call


def compiled_vector(
    function: Callable[..., Array], length: Callable[..., int]
) -> Callable[..., Array]:
    """`compiled` for a function that returns `(n,)`, quick to differentiate by hand as well.

    `jax.grad` and `jax.jvp` of a call with small concrete arguments compile one program, of the
    value and its whole Jacobian, if n is small. All else is `eqx.filter_jit` as it stands.
    `length(*args)` tells n.
    """
    best = eqx.filter_jit(function)
    plain = compiled(function)

    def with_jacobian(moving: PyTree, fixed: PyTree) -> tuple[Array, PyTree]:
        value, pull = jax.vjp(lambda given: function(*eqx.combine(given, fixed)), moving)
        (rows,) = jax.vmap(pull)(jax.numpy.eye(value.size, dtype=value.dtype))
        return value, rows

    programs: dict[Any, Callable[..., Any]] = {}

    def value_and_jacobian(*args):
        # XLA takes options of the outermost program only, which this is not where JAX
        # differentiates who calls: so it is compiled ahead of time.
        arrays, rest = eqx.partition(args, eqx.is_array)
        leaves, structure = jax.tree_util.tree_flatten(arrays)
        others, form = jax.tree_util.tree_flatten(rest)
        shapes = tuple(jax.typeof(leaf) for leaf in leaves)
        key = structure, form, tuple(others), shapes
        if key not in programs:
            jitted = eqx.filter_jit(with_jacobian, compiler_options=_quick_options())  # pyright: ignore
            programs[key] = jitted.lower(*args).compile()
        return programs[key](*args)

    @eqx.filter_custom_jvp
    def by_hand(*args):
        return plain(*args)

    @by_hand.def_jvp
    def rule(primals, tangents):
        if not _is_small(primals) or length(*primals) > _FEW_ROWS:
            return eqx.filter_jvp(best, primals, tangents)
        moves = jax.tree_util.tree_map(
            lambda t: t is not None, tangents, is_leaf=lambda t: t is None
        )
        moving, fixed = eqx.partition(primals, moves)
        value, jacobian = value_and_jacobian(moving, fixed)
        parts = jax.tree_util.tree_map(
            lambda row, t: jax.numpy.tensordot(row, t, t.ndim), jacobian, tangents
        )
        return value, sum(jax.tree_util.tree_leaves(parts), jax.numpy.zeros_like(value))

    @functools.wraps(function)
    def call(*args):
        return (by_hand if _called_by_hand() else best)(*args)

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
