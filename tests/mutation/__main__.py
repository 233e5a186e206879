"""Runs the sample of mutants, each with the tests that own it: `python -m tests.mutation`.

Mutants are made in a clone of the last commit, in the folder of results, never in the working tree.
A run that was killed goes on where it was when started again with the same folder.
"""

import argparse
import csv
import os
import pathlib
import shlex
import subprocess
import sys
import time
import tomllib
from typing import Any

import attrs
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from .mutants import Mutant, draw, find

FOLDER = pathlib.Path("tests/mutation")
SAMPLE = FOLDER / "sample.tsv"


def read_sample() -> list[Mutant]:
    with SAMPLE.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    return [Mutant(*row[:-1], int(row[-1])) for row in rows]


def write_sample(mutants: list[Mutant]) -> None:
    with SAMPLE.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([Mutant._fields, *mutants])


def clone(out: pathlib.Path) -> pathlib.Path:
    """A clone of the last commit, made once; what a killed run left mutated is put back."""
    path = out / "clone"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", "--shared", ".", str(path)], check=True)
    subprocess.run(["git", "-C", str(path), "checkout", "-q", "-f", "--", "."], check=True)
    return path


def command(tests: list[str]) -> str:
    options = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
    return shlex.join(options + tests)


def limit(db: WorkDB, done: dict[str, WorkResult], tests: list[str]) -> float:
    """Seconds that a mutant may take: a minute and three times what its tests take unmutated.

    **Raises:** `SystemExit` if they fail unmutated.
    """
    name = "unmutated " + " ".join(tests)
    if name not in done:
        begun = time.monotonic()
        result = mutate_and_test((), command(tests), None)
        if result.test_outcome is not TestOutcome.SURVIVED:
            raise SystemExit(f"{name}: fail\n{result.output}")
        done[name] = attrs.evolve(result, output=str(time.monotonic() - begun))
        db.add_work_item(WorkItem(name, ()))
        db.set_result(name, done[name])
    return 60 + 3 * float(done[name].output or 0)


def test(db: WorkDB, done: dict[str, WorkResult], mutant: Mutant, config: dict[str, Any]) -> None:
    """One mutant's result into the database."""
    spec = find(mutant, config)
    if spec is None:
        result = WorkResult(WorkerOutcome.SKIPPED, "no longer in the code")
        item = WorkItem(mutant.name, ())
    else:
        owners = next(x for x in config.values() if str(spec.module_path) in x)
        tests = owners[str(spec.module_path)]
        seconds = limit(db, done, tests)
        result = mutate_and_test((spec,), command(tests), seconds)
        item = WorkItem.single(mutant.name, spec)
    db.add_work_item(item)
    db.set_result(mutant.name, result)
    done[mutant.name] = result


def outcome(result: WorkResult | None) -> str:
    if result is None:
        return "not run"
    if result.test_outcome is None:
        return "gone"
    return "timed out" if result.output == "timeout" else result.test_outcome.value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/mutation"))
    parser.add_argument("--only", nargs="+", help="names of the mutants to run, instead of all")
    parser.add_argument("--draw", type=int, metavar="SEED", help=f"draw {SAMPLE} anew, run nothing")
    options = parser.parse_args()
    config = tomllib.loads((FOLDER / "config.toml").read_text())
    if options.draw is not None:
        write_sample(draw(options.draw, config))
        return
    out = options.out.resolve()
    path = clone(out)
    os.environ["PYTHONPATH"] = str(path)
    os.chdir(path)
    config = tomllib.loads((FOLDER / "config.toml").read_text())
    sample = read_sample()
    with use_db(str(out / "session.sqlite")) as db:
        done = dict(db.results)
        for mutant in sample:
            if mutant.name not in done and (options.only is None or mutant.name in options.only):
                begun = time.monotonic()
                test(db, done, mutant, config)
                seconds = time.monotonic() - begun
                print(mutant.name, outcome(done[mutant.name]), f"{seconds:.0f} s", flush=True)
    with (out / "results.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows = [[*mutant[:-1], outcome(done.get(mutant.name))] for mutant in sample]
        writer.writerows([[*Mutant._fields[:-1], "outcome"], *rows])


if __name__ == "__main__":
    main()
