"""Build the wheel, install it where nothing else is, and diagnose the example from there.

The environment holds the wheel, as pip installs it, and what the wheel's own metadata ask for with
the extra `report`. These packages are links to those of the environment that runs this script:
downloading them once more would take minutes. What the metadata forget, or the wheel lacks, is
missing all the same; the library's own files come from the wheel alone. What the diagnosis prints
is what the README shows.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "experiments" / "data" / "rollouts.jsonl"


def needed(site: Path, extra: str) -> list[importlib.metadata.Distribution]:
    """What the package installed in `site` asks for, and what that asks for in turn."""
    (own,) = importlib.metadata.distributions(path=[str(site)])
    waiting, found = [(own, {extra})], {}
    while waiting:
        distribution, extras = waiting.pop()
        for text in distribution.requires or ():
            wanted = Requirement(text)
            marks = [{"extra": name} for name in extras | {""}]
            if wanted.marker is not None and not any(map(wanted.marker.evaluate, marks)):
                continue
            key = wanted.name.lower().replace("_", "-"), frozenset(wanted.extras)
            if key not in found:
                found[key] = importlib.metadata.distribution(wanted.name)
                waiting.append((found[key], set(wanted.extras)))
    return list(found.values())


def shown() -> str:
    """What the README says that `qra diagnose` prints first."""
    return re.findall(r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[0]


def link(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Make a package importable in another environment, its metadata as well."""
    for name in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(distribution.locate_file(name))).resolve())


def main() -> None:
    """In a folder of its own, outside of the repository."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        build = [*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT]
        subprocess.run(build, check=True)
        (wheel,) = folder.glob("*.whl")
        place = folder / "environment"
        venv.create(place, symlinks=True)
        python = place / "bin" / "python"
        into = [*pip, "--python", python, "install", "--no-deps", "--no-index", wheel]
        subprocess.run(into, check=True)
        (site,) = place.glob("lib/python*/site-packages")
        assert (site / "qra_jax" / "py.typed").exists()
        for distribution in needed(site, "report"):
            link(distribution, site)

        shutil.copy(EXAMPLE, folder)
        qra = place / "bin" / "qra"
        environment = {key: x for key, x in os.environ.items() if key != "PYTHONPATH"}
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # it compiles in half the time

        def run(*words: str | Path) -> str:
            began = time.monotonic()
            done = subprocess.run(
                words, check=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
            )
            print(f"{time.monotonic() - began:.1f} s: {Path(words[0]).name} {words[1]}", flush=True)
            return done.stdout

        run(qra, "--version")
        run(qra, "--help")
        where = f"import pathlib, qra_jax as q; assert {str(site)!r} in q.__file__; q.Exact"
        run(python, "-W", "error", "-c", where)
        printed = run(qra, "diagnose", EXAMPLE.name, "--out", "report")
        assert (folder / "report" / "report.html").stat().st_size > 100_000
        assert (folder / "report" / "explorer.html").exists()
        if not printed.startswith(shown()):
            sys.exit(f"the README must show what qra diagnose prints:\n{printed[:2000]}")


if __name__ == "__main__":
    main()
