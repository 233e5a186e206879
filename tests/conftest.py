"""Strict set-up, before anything of the library is imported: float64, no silent broadcasting of
ranks, every annotation checked at run time."""

import gc
import os
from pathlib import Path

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

# The files that take longest, in this order first: a worker that begins one when the others are
# done makes all wait. Measured by `pytest --junitxml`.
LONGEST_FIRST = (
    "experiments/test_maps.py",
    "policies/test_markov_sampling.py",
    "solvers/test_gradients.py",
    "times/test_passage.py",
    "fine_tuning/test_design.py",
    "solvers/test_properties.py",
    "experiments/test_language_model_study.py",
    "solvers/exact/test_exact.py",
    "experiments/test_claims.py",
    "diagnosis/test_diagnose.py",
    "diagnosis/test_true_statements.py",
    "diagnosis/test_check.py",
    "policies/test_markov.py",
    "sweep/test_store.py",
    "dynamics/test_basins.py",
    "dynamics/test_fixed_points.py",
    "tokens/test_metrics.py",
    "laws/test_laws.py",
    "test_float32.py",
    "rollouts/test_rollouts.py",
    "flows/test_events.py",
    "policies/test_features.py",
    "objectives/test_utilities.py",
    "solvers/ode/test_ode.py",
    "diagnosis/test_options.py",
    "dynamics/test_continuation.py",
    "diagnosis/report/test_report.py",
    "training/test_train.py",
)


def pytest_collection_modifyitems(items):
    """The order of files; `--no-loadscope-reorder` hands them out in it."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    folder = Path(__file__).parent
    items.sort(key=lambda item: rank.get(str(item.path.relative_to(folder)), len(rank)))


def pytest_collection_finish():
    """What is imported by now stays: looking through it, and often, took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
