"""Runs the sample of mutants, each with the tests that own it: `python -m tests.mutation`.

Mutants are made in a clone of the last commit, never in the working tree. A run that was killed
goes on where it was when started again; survivors are run again by each new start, those called
equivalent in `words.toml` are not.
"""

import argparse
import csv
import os
import pathlib
import re
import resource
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import TestOutcome

from .mutants import Mutant, draw, find
from .table import HEADER, Result, last_results, table

FOLDER = pathlib.Path("tests/mutation")
SAMPLE, RESULTS = FOLDER / "sample.tsv", FOLDER / "results.tsv"
PAGE = pathlib.Path("docs/mutation_results.md")
# Limits are of a processor's time, which other work on the machine does not change; a mutant that
# waits for ever is ended after half an hour.
LEAST_SECONDS, TIMES, MOST_SECONDS = 60, 3, 1800


def load(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / name).read_text())


def rows_of(path: pathlib.Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t"))[1:]


def write(path: pathlib.Path, rows: Iterable[Sequence[Any]], mode: str = "w") -> None:
    with path.open(mode, newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


def clone(path: pathlib.Path) -> str:
    """A clone of the last commit, whose name is returned; what a killed run left mutated is put
    back."""
    if not path.exists():
        subprocess.run(["git", "clone", "-q", "--shared", ".", str(path)], check=True)
    git = ["git", "-C", str(path)]
    subprocess.run([*git, "fetch", "-q", os.getcwd(), "HEAD"], check=True)
    subprocess.run([*git, "checkout", "-q", "-f", "--detach", "FETCH_HEAD"], check=True)
    return subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def command(arguments: Sequence[str], seconds: int | None = None) -> str:
    """The command of a run of pytest that may take so many seconds of a processor."""
    options = ["-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
    run = shlex.join([sys.executable, *options, *arguments])
    return run if seconds is None else shlex.join(["sh", "-c", f"ulimit -t {seconds}; exec {run}"])


def noticed_by(output: str) -> str:
    """The test that failed, or what else ended a run."""
    lines = [x for x in output.split("\n") if x.startswith(("FAILED ", "ERROR "))]
    if lines:
        return lines[0].split(" ", 1)[1].split(" - ")[0]
    error = re.search(r"^(?:E +)?(\w+(?:Error|Exception)\b.*)", output, re.MULTILINE)
    return error[1][:80] if error else "the limit of time"


class Runner:
    """Tests of mutants in the current folder, a clone of `commit`. The file `unmutated` keeps the
    seconds of a processor of the test files that have passed without a mutant."""

    def __init__(self, commit: str, unmutated: pathlib.Path):
        self.config = load("config.toml")
        self.commit, self.path = commit, unmutated
        if not unmutated.exists():
            write(unmutated, [("commit", "tests", "seconds")])
        self.seconds = {(x, tests): float(y) for x, tests, y in rows_of(unmutated)}

    def limit(self, arguments: Sequence[str]) -> int:
        """Seconds of a processor that a mutant may take: a minute and three times what its tests
        take without it.

        **Raises:** `SystemExit` if they fail without it.
        """
        options = [x for x in arguments if x.startswith("-")]
        total = 0.0
        for tests in arguments:
            if tests in options:
                continue
            key = (self.commit, shlex.join([tests, *options]))
            if key not in self.seconds:
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                result = mutate_and_test((), command([tests, *options]), None)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                if result.test_outcome is not TestOutcome.SURVIVED:
                    raise SystemExit(f"{key[1]} fails unmutated\n{result.output}")
                self.seconds[key] = after.ru_utime - before.ru_utime
                write(self.path, [(*key, f"{self.seconds[key]:.0f}")], "a")
            total += self.seconds[key]
        return LEAST_SECONDS + round(TIMES * total)

    def result(self, mutant: Mutant) -> Result:
        spec = find(mutant, self.config)
        if spec is None:
            return Result(mutant.name, "", "gone", "")
        module = str(spec.module_path)
        tests = next(owners[module] for owners in self.config.values() if module in owners)
        found = mutate_and_test((spec,), command(tests, self.limit(tests)), MOST_SECONDS)
        if found.test_outcome is TestOutcome.SURVIVED:
            return Result(mutant.name, module, "survived", "")
        if found.test_outcome is not TestOutcome.KILLED:
            raise SystemExit(f"{mutant.name} could not be run: {found.output}")
        return Result(mutant.name, module, "killed", noticed_by(found.output or ""))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/mutation"),
                        help="folder of a clone and of what tests take")  # fmt: skip
    parser.add_argument("--only", nargs="+", default=(), help="names of mutants to run (again)")
    parser.add_argument("--table", action="store_true", help=f"run nothing, write {PAGE}")
    parser.add_argument("--draw", type=int, metavar="SEED",
                        help="run nothing, draw a new sample and forget all results")  # fmt: skip
    options = parser.parse_args()
    if options.draw is not None:
        write(SAMPLE, [Mutant._fields, *draw(options.draw, load("config.toml"))])
        write(RESULTS, [Result._fields])
        return
    sample = [Mutant(*row[:-1], int(row[-1])) for row in rows_of(SAMPLE)]
    words = load("words.toml")
    if not options.table:
        done = last_results(Result(*row) for row in rows_of(RESULTS))
        settled = [
            x.name for x in done.values() if x.outcome == "killed" or x.name in words["equivalent"]
        ]
        chosen = options.only or [x.name for x in sample if x.name not in settled]
        results = RESULTS.resolve()
        out, home = options.out.resolve(), os.getcwd()
        out.mkdir(parents=True, exist_ok=True)
        commit = clone(out / "clone")
        os.chdir(out / "clone")
        os.environ["PYTHONPATH"] = os.getcwd()  # for the processes that tests start
        runner = Runner(commit, out / "unmutated.tsv")
        for mutant in sample:
            if mutant.name in chosen:
                begun = time.monotonic()
                result = runner.result(mutant)
                write(results, [result], "a")
                print(*result, f"{time.monotonic() - begun:.0f} s", flush=True)
        os.chdir(home)
    results = [Result(*row) for row in rows_of(RESULTS)]
    PAGE.write_text(HEADER + table(load("config.toml"), sample, results, words))


if __name__ == "__main__":
    main()
