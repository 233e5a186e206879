"""Seconds and memory that it takes to read a million rollouts, from every format."""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import polars as pl

from ._common import settings, table, write

MOST_SECONDS, MOST_GIB = 10.0, 1.0
SAMPLES, LETTERS, FILES, LARGE, LONG = 64, 400, 500, 2.0, 4000
PATTERNS = ("prose", "numbered_steps", "python")
RULES = """
default = "prose"
[[pattern]]
name = "python"
regex = "```python"
[[pattern]]
name = "numbered_steps"
regex = '(?m)^1\\. '
"""
# In a process of its own. Linux keeps the most that was ever in memory as VmHWM.
READ = """
import json, pathlib, sys, time
import qra_jax as qra
start, used = time.perf_counter(), time.process_time()
rollouts = qra.read_rollouts(sys.argv[1], rules=sys.argv[2] if len(sys.argv) > 2 else None)
samples, correct = rollouts.counts()
seconds = time.perf_counter() - start
used = time.process_time() - used
status = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps([seconds, used, peak / 2**20, len(rollouts), samples.sum(axis=0).tolist()]))
"""


def _columns(number: int) -> pl.DataFrame:
    """Rollouts of `SAMPLES` a question."""
    rng = np.random.default_rng(0)
    pattern = rng.choice(len(PATTERNS), number, p=(0.6, 0.3, 0.1))
    return pl.DataFrame(
        {
            "question": [f"math-{i // SAMPLES}" for i in range(number)],
            "pattern": [PATTERNS[code] for code in pattern],
            "correct": rng.random(number) < 0.5,
            "confidence": -rng.exponential(size=number),
        }
    )


def _folder(rows: pl.DataFrame, folder: pathlib.Path) -> None:
    """The same in `FILES` files of JSON lines, one a training step."""
    folder.mkdir()
    for step, part in enumerate(rows.iter_slices(-(-len(rows) // FILES))):
        part.write_ndjson(folder / f"{step}.jsonl")


def _document(rows: pl.DataFrame, file: pathlib.Path) -> None:
    """The same as a list in one JSON document."""
    file.write_text(json.dumps({"model": "m", "samples": rows.to_dicts()}))


def _large(file: pathlib.Path, quick: bool) -> int:
    """A file of `LARGE` GB of JSON lines with long texts; how many rollouts it has."""
    goal = int(LARGE * 1e9) // (100 if quick else 1)
    rng = np.random.default_rng(1)
    text = ("so it goes on, and on. " * LONG)[:LONG]
    written = number = 0
    with file.open("w") as out:
        while written < goal:
            block = []
            for _ in range(1000):
                row = {"question": f"math-{number // SAMPLES}", "response": f"{number}. {text}"}
                row["correct"] = bool(rng.random() < 0.5)
                block.append(json.dumps(row))
                number += 1
            written += out.write("\n".join(block) + "\n")
    return number


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    """The same without patterns: texts of `LETTERS` letters or so, a question in each row."""
    filler = ("so it goes on, and on. " * LETTERS)[:LETTERS]
    form = {"prose": "", "numbered_steps": "1. First,\n2. then\n", "python": "```python\nprint()"}
    text = rows["pattern"].replace_strict(form)
    rows = rows.with_columns(response=filler + "\n" + text).drop("pattern")
    return rows.group_by("question", maintain_order=True).all()


def _read(arguments: list[str]) -> list:
    """Seconds, seconds of a processor, GiB, rollouts and samples of patterns, in a process."""
    command = [sys.executable, "-c", READ, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Write a million rollouts in every format, and read each in a fresh process, in turns."""
    quick = settings(__doc__)
    number, rounds = (50_000, 1) if quick else (1_000_000, 3)
    rows = _columns(number)
    expected = rows["pattern"].value_counts(sort=True)
    formats: dict[str, tuple[str, Callable[[pathlib.Path], None], bool]] = {
        "CSV": ("csv", rows.write_csv, False),
        "JSON lines": ("jsonl", rows.write_ndjson, False),
        "Parquet": ("parquet", rows.write_parquet, False),
        "JSON document": ("json", lambda file: _document(rows, file), False),
        f"JSON lines, {FILES} files": ("d", lambda folder: _folder(rows, folder), False),
        "JSON lines, lists of texts by rules": ("jsonl", _texts(rows).write_ndjson, True),
        "Parquet, lists of texts by rules": ("parquet", _texts(rows).write_parquet, True),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in formats}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder, "rules.toml")
        rules.write_text(RULES)
        files = {}
        for index, (name, (ending, save, by_rules)) in enumerate(formats.items()):
            file = pathlib.Path(folder, f"{index}.{ending}")
            save(file)
            files[name] = [str(file), *([str(rules)] if by_rules else [])]
            parts = file.iterdir() if file.is_dir() else [file]
            sizes[name] = sum(part.stat().st_size for part in parts) / 2**20
        for _ in range(rounds):
            for name, arguments in files.items():
                *figures, read, samples = _read(arguments)
                assert read == number
                assert samples == expected["count"].to_list()
                found[name].append(tuple(figures))
        for part in pathlib.Path(folder).iterdir():
            if part != rules:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        file = pathlib.Path(folder, "large.jsonl")
        many, name = _large(file, quick), f"JSON lines, one file of {LARGE:g} GB, by rules"
        sizes[name] = file.stat().st_size / 2**20
        *figures, read, _ = _read([str(file), str(rules)])
        assert read == many
        found[name] = [tuple(figures)]
    figures = [
        {
            "format": name,
            "file, MiB": sizes[name],
            "seconds": statistics.median(seconds for seconds, _, _ in runs),
            "of a processor": statistics.median(used for _, used, _ in runs),
            "peak of the process, GiB": max(gib for *_, gib in runs),
        }
        for name, runs in found.items()
    ]
    print(table(figures))
    limits = {"seconds": MOST_SECONDS, "gib": MOST_GIB}
    print(f"at most {MOST_SECONDS:g} s and {MOST_GIB:g} GiB for the first five")
    config = {"rollouts": number, "rounds": rounds, "samples_per_question": SAMPLES}
    config |= {"letters_of_a_text": LETTERS, "files": FILES, "polars": pl.__version__}
    config |= {"rollouts_of_the_large_file": many, "letters_of_its_texts": LONG}
    write("rollouts", config, {"formats": figures, "limits": limits}, quick)


if __name__ == "__main__":
    main()
