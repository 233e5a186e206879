"""Strict set-up, before anything of the library is imported: float64, no silent broadcasting of
ranks, every annotation checked at run time."""

import gc
import os

# XLA's newer emitters for CPUs take half as long again to compile, which is most of the suite's
# time. Read when the first array is made.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"

import hypothesis
import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation takes most of the suite's time, and a quarter less like this.
jax.config.update("jax_disable_most_optimizations", True)

# For good, not for one import: the library loads its modules when they are first used.
install_import_hook("qra_jax", "beartype.beartype")

hypothesis.settings.register_profile(
    "qra", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("qra")


def pytest_collection_finish():
    """What is imported by now stays: looking through it, and often, took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
