"""A sweep over a grid in one run: throughput, peak memory and devices, each in its own process."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ._common import settings, table, write

AXES = ("pi_best=1e-8:0.1:10:log", "misleading=0.05:0.95:100", "gap=0.01:0.7:100")
FLAGS = "--xla_force_host_platform_device_count="
ALLOWED, MEMORY = 1.3, 2 * 2**30


def _busy() -> float:
    """Seconds that the processors of this machine have been busy, in all (Linux)."""
    ticks = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    user, nice, system, _, _, irq, soft = ticks
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sweep(folder: Path, points: int, devices: int, workers: int) -> dict[str, float]:
    """What a run of the command line says of itself. The compile cache is warm from the second."""
    out = folder / f"{points}-{devices}-{workers}"
    command = [sys.executable, "-m", "experiments.grid", "--axes", *AXES, "--overwrite", "--quiet"]
    command += ["--points", str(points), "--quantities", "convergence", "--workers", str(workers)]
    command += ["--out", str(out), "--cache", str(folder / "cache")]
    environment = {**os.environ, "XLA_FLAGS": f"{FLAGS}{devices}"}
    start, busy, own = time.perf_counter(), _busy(), _own()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    found = json.loads((out / "summary.json").read_text())
    files = [path for path in (out / "data.zarr").rglob("*") if path.is_file()]
    return {
        "points": found["cells"],
        "devices": devices,
        "workers": workers,
        "wall_s": wall,
        "to_first_s": found["seconds_to_first"],
        "per_second": found["cells_per_second"],
        # Cores that something else kept busy: two threads on two cores notice.
        "others": (_busy() - busy - _own() + own) / wall,
        "peak_MiB": found["peak_memory"] / 2**20,
        "failed": sum(found["failed"].values()),
        "files": len(files),
        "bytes_per_point": sum(path.stat().st_size for path in files) / found["cells"],
    }


def main() -> None:
    """10^5 and 10^7 points, then one and two devices of one worker each, in turns."""
    quick = settings(__doc__)
    small, large, middle = (10**4, 10**5, 10**5) if quick else (10**5, 10**7, 10**6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for devices in (1, 2):  # fills the compile cache
            _sweep(folder, 10**4, devices, 1)
        rows = [_sweep(folder, points, 1, 2) for points in (small, large, small)]
        turns = [_sweep(folder, middle, devices, 1) for devices in (1, 2) * 3]
    print(table(rows + turns))
    slower = sum(row["per_second"] for row in (rows[0], rows[2])) / 2 / rows[1]["per_second"]
    rates = [sorted(row["per_second"] for row in turns[start::2])[1] for start in (0, 1)]
    efficiency = rates[1] / rates[0] / 2
    figures = {
        "rows": rows + turns,
        "seconds_per_point_large_over_small": slower,
        "allowed": ALLOWED,
        "memory_allowed_MiB": MEMORY / 2**20,
        "efficiency_two_devices": efficiency,
    }
    print(f"seconds a point, {large} over {small}: {slower:.2f} (at most {ALLOWED})")
    print(f"efficiency of two devices: {efficiency:.2f}")
    config = {"axes": AXES, "quantity": "log_convergence_time, K = 3", "width": 512}
    write("sweep", config, figures, quick)


if __name__ == "__main__":
    main()
