"""How much longer `import qra_jax` takes than `import diffrax`, and what else it loads."""

import statistics
import subprocess
import sys

from ._common import settings, take_turns, write

LIMIT = 1.3
# Plotting, data and the command line load on use.
ON_USE = ("matplotlib", "xarray", "zarr", "tyro", "tqdm", "pandas", "scipy")


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _loaded(package: str) -> set[str]:
    return set(_python(f"import {package}, sys; print(*sys.modules)").split())


def main() -> None:
    """Time fresh processes in turns."""
    quick = settings(__doc__)
    rounds = 5 if quick else 25
    imports = ("diffrax", "qra_jax")
    extra = _loaded("qra_jax") - _loaded("diffrax")
    seconds = take_turns({p: lambda p=p: _python(f"import {p}") for p in imports}, rounds)
    medians = {package: statistics.median(seconds[package]) for package in imports}
    figures = {
        "median_seconds": medians,
        "ratio": medians["qra_jax"] / medians["diffrax"],
        "limit": LIMIT,
        "loaded_beyond_diffrax": [name for name in ON_USE if name in extra],
        "modules_beyond_diffrax": sorted(m for m in extra if not m.startswith("qra_jax")),
    }
    print(f"import qra_jax / import diffrax = {figures['ratio']:.3f} (at most {LIMIT})")
    print("loaded beyond diffrax:", figures["loaded_beyond_diffrax"] or "none of", *ON_USE)
    write("import_time", {"rounds": rounds}, figures, quick)


if __name__ == "__main__":
    main()
