"""Strict set-up, before anything of the library is imported: float64, no silent broadcasting of
ranks, every annotation checked at run time."""

import hypothesis
import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation takes most of the suite's time, and a quarter less like this.
jax.config.update("jax_disable_most_optimizations", True)

with install_import_hook("qra_jax", "beartype.beartype"):
    import qra_jax  # noqa: F401

hypothesis.settings.register_profile(
    "qra", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("qra")
