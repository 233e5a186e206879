"""Ctrl-C: a real process gets a real signal, at moments that differ."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COUNTS = "pattern,samples,correct\nplan,40,36\nguess,700,490\nrest,260,26\n"


def interrupted(words: list[str], seconds: float, folder: Path) -> tuple[int, str]:
    """The exit code and standard error of `python -m` after a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def words_of(name: str, folder: Path) -> list[str]:
    (folder / "counts.csv").write_text(COUNTS)
    out = ["--out", str(folder / "out"), "--quiet"]
    long = ["--draws", "19999"]  # longer than any of the moments
    return {
        "diagnose": ["experiments.diagnose", str(folder / "counts.csv"), *out, *long],
        "qra diagnose": ["qra_jax.cli", "diagnose", str(folder / "counts.csv"), *out, *long],
        "sweep": ["experiments.sweep", "--quick", *out],
        "grid": [
            "experiments.grid",
            "--axes",
            "pi_best=1e-4:0.05:300:log",
            "gap=0.1:0.7:300",
            *out,
        ],
        "claims": ["experiments.claims", "--quick", *out],
    }[name]


def check(name: str, seconds: float, folder: Path) -> None:
    """One line, 130, and no file that is half of something."""
    code, said = interrupted(words_of(name, folder), seconds, folder)
    assert code == 130, said
    (line,) = said.splitlines()
    assert line.startswith("interrupted"), said
    written = files_in(folder / "out")
    if name == "sweep":  # maps that were complete by then stay, and are whole
        assert all(f"{file.split('/')[0]}/summary.json" in written for file in written), said
    elif name != "grid":
        assert written == [], said


@pytest.mark.parametrize(("name", "seconds"), [("diagnose", 6.0), ("claims", 1.5)])
def test_ctrl_c(name, seconds, tmp_path):
    """While programs compile, and while modules load."""
    check(name, seconds, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diagnose", "qra diagnose", "sweep", "grid", "claims"])
@pytest.mark.parametrize("seconds", [2.0, 5.0, 8.0, 12.0])
def test_ctrl_c_at_any_moment(name, seconds, tmp_path):
    """All programs, from their first second into the middle of what they do."""
    check(name, seconds, tmp_path)
