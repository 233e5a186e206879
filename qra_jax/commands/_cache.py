"""Compiled programs kept from run to run, in a folder that nobody else can write."""

import os
from pathlib import Path

import jax


def cache_folder() -> Path:
    """Where compiled programs are kept by default: the user's cache folder, by XDG's rules."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "qra_jax"


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`, and take them from there.

    A program from there is executed: the folder must be the user's own, and nobody else's to write.

    **Raises:** `ValueError` if it is not, or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"cache must be a folder that can be written, got {folder} ({reason})"
        ) from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ValueError(f"cache must be a folder of your own, of mode 700, got {folder}")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
