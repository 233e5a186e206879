"""Compiled programs kept from run to run, in a folder that nobody else can write."""

from pathlib import Path

import jax

from .._core.folders import require_private


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`, and take them from there.

    A program from there is executed: the folder must be the user's own, and nobody else's to write.

    **Raises:** `ValueError` if it is not, or cannot be made.
    """
    require_private(folder, "cache")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
