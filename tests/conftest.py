"""Strict set-up, before anything of the library is imported: float64, no silent broadcasting of
ranks, every annotation checked at run time."""

import gc
import os
import threading
from pathlib import Path

# XLA compiles for most of the suite's time: its newer emitters for CPUs take half as long again,
# its preset for fast compilation a quarter less, and programs in one piece a tenth less than in 32
# for as many cores. Read when the first array is made.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
# Compilation takes half as long like this: set here, it holds for the commands that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Where in Python each operation came from is written into every program, and read by nobody.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

import equinox.internal
import hypothesis
import jax
from jax._src.interpreters import mlir
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # a plugin may have imported JAX before

# diffrax goes back from the end of a solve by 100 of these, each of which is traced by itself.
equinox.internal.prevbefore = jax.jit(equinox.internal.prevbefore)

# JAX makes what it writes programs in, an MLIR context, anew for each of thousands. One for each
# thread does, but for programs that are written while another is.
_make_context, _own = mlir.make_ir_context, threading.local()


def _shared_context():
    if mlir.ir.Context.current is not None:
        return _make_context()
    if not hasattr(_own, "context"):
        _own.context = _make_context()
    return _own.context


mlir.make_ir_context = _shared_context

# For good, not for one import: the library loads its modules when they are first used.
install_import_hook("qra_jax", "beartype.beartype")

hypothesis.settings.register_profile(
    "qra", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("qra")

# The files that take longest, in this order first: a worker that begins one when the others are
# done makes all wait. Measured in processor seconds.
LONGEST_FIRST = (
    "experiments/test_maps.py",
    "experiments/test_claims.py",
    "diagnosis/test_diagnose.py",
    "fine_tuning/test_design.py",
    "dynamics/test_continuation.py",
    "times/test_passage.py",
    "solvers/test_gradients.py",
    "diagnosis/test_options.py",
    "dynamics/test_fixed_points.py",
    "training/test_train.py",
    "solvers/exact/test_exact.py",
    "experiments/test_language_model_study.py",
    "objectives/test_utilities.py",
    "dynamics/test_basins.py",
    "experiments/test_language_model.py",
    "policies/test_markov.py",
    "flows/test_events.py",
    "posteriors/test_posteriors.py",
    "solvers/ode/test_ode.py",
    "test_float32.py",
    "solvers/exact/test_walk.py",
    "diagnosis/test_true_statements.py",
    "solvers/test_properties.py",
    "training/test_mean_field.py",
    "training/test_diffusion.py",
    "times/test_scales.py",
    "policies/test_markov_properties.py",
    "diagnosis/test_signal.py",
    "policies/test_features.py",
    "diagnosis/test_optimised.py",
    "diagnosis/report/test_report.py",
    "objectives/test_regularisers.py",
    "policies/test_markov_sampling.py",
    "diagnosis/test_logs_without_patterns.py",
    "laws/test_laws.py",
    "sweep/test_store.py",
    "diagnosis/test_check.py",
    "objectives/test_rewards.py",
    "diagnosis/test_open_points.py",
    "dynamics/test_all_fixed_points.py",
    "posteriors/test_clustered.py",
    "training/test_step_noise.py",
    "sweep/test_engine.py",
    "diagnosis/test_forecast_fit.py",
    "solvers/test_trajectory.py",
    "test_import.py",
    "test_interrupts.py",
    "tokens/test_path_patterns.py",
    "rollouts/test_long_files.py",
    "tokens/test_metrics.py",
    "solvers/test_identities.py",
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


# Each compiled program maps memory of its own, and a process may hold 65,530 maps (Linux): beyond
# that XLA ends it by a segmentation fault. A file of tests makes some 10,000.
_MOST_MAPS = 42_000


def pytest_runtest_teardown(item, nextitem):
    """Between files: forget compiled programs where there are very many."""
    maps = Path("/proc/self/maps")
    last = nextitem is None or nextitem.path != item.path
    if last and maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
