"""One store, however it comes about: devices, processes, kills, broken chunks, full disks."""

import collections
import contextlib
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from qra_jax.sweep import StoreError, open_sweep
from qra_jax.sweep._store import joined
from tests._support import sweeping


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Both sweeps on one device, from beginning to end."""
    folder = tmp_path_factory.mktemp("whole")
    assert sweeping.finish(sweeping.start(folder, ("light", "real"))) == [0]
    return folder


def _same(one: Path, other: Path) -> None:
    """Not a byte is different, in any file."""
    expected, found = sweeping.files(one), sweeping.files(other)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def _events(folder: Path) -> list[dict]:
    logs = sorted(folder.glob("log-*.jsonl"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


@pytest.mark.parametrize(("devices", "kinds"), [(2, ("light", "real")), (8, ("light",))])
def test_devices_change_nothing(whole, tmp_path, devices, kinds):
    """A store from several devices is that of one, byte by byte."""
    assert sweeping.finish(sweeping.start(tmp_path, kinds, devices=devices)) == [0]
    for kind in kinds:
        _same(whole / kind, tmp_path / kind)


def _team(folder: Path, kind: str) -> list[int]:
    """The exit codes of two processes of two devices each, over loopback."""
    address = f"127.0.0.1:{sweeping.free_port()}"
    team = [
        sweeping.start(folder, (kind,), devices=2, team=(address, 2, index)) for index in range(2)
    ]
    return sweeping.finish(*team)


@pytest.mark.slow
def test_eight_devices_and_two_processes_change_no_solve(whole, tmp_path):
    """Which takes twelve compilations."""
    assert sweeping.finish(sweeping.start(tmp_path / "eight", ("real",), devices=8)) == [0]
    assert _team(tmp_path / "team", "real") == [0, 0]
    for name in ("eight", "team"):
        _same(whole / "real", tmp_path / name / "real")


def test_processes_change_nothing(whole, tmp_path):
    """Each computes its share, once; the summary is of both."""
    assert _team(tmp_path, "light") == [0, 0]
    _same(whole / "light", tmp_path / "light")
    summary = json.loads((tmp_path / "light/summary.json").read_text())
    cells = sweeping.LIGHT_GRID.size
    assert (summary["cells"], summary["computed"], summary["complete"]) == (cells, cells, True)
    assert (summary["processes"], summary["devices"]) == (2, 4)
    alone = json.loads((whole / "light/summary.json").read_text())
    assert summary["failed"] == alone["failed"]
    done = collections.Counter(event["chunk"] for event in _events(tmp_path / "light"))
    assert set(done.values()) == {2}  # begun and written
    assert not list((tmp_path / "light").glob(".*-*"))  # what they told each other is gone


def _kill(folder: Path, lines: int, wait: float) -> bool:
    """Continue a sweep, and kill it some time after it has logged so many lines more."""
    log = folder / "light/log-00000.jsonl"
    seen = len(_events(folder / "light"))
    child = sweeping.start(folder, resume=True)
    while lines and child.is_alive() and len(_events(folder / "light")) < seen + lines:
        time.sleep(0.001)
    time.sleep(wait)
    child.kill()
    assert sweeping.finish(child)[0] in (-9, 0), log
    return child.exitcode == -9


def _check_resumed(whole: Path, folder: Path, kills: int) -> None:
    """Let a sweep end, and compare: what was computed twice was under way at a kill."""
    assert sweeping.finish(sweeping.start(folder, resume=True)) == [0]
    _same(whole / "light", folder / "light")
    left = {path.name for path in (folder / "light").iterdir()}
    assert left == {"data.zarr", "summary.json", "log-00000.jsonl", ".lock"}
    under_way, again = set(), 0
    written = collections.Counter()
    for event in _events(folder / "light"):
        if event["event"] == "written":
            under_way.remove(event["chunk"])
            written[event["chunk"]] += 1
        else:
            again += event["chunk"] in under_way
            under_way.add(event["chunk"])
    # Two chunks are under way at a time. One may be written with no time left to say so.
    assert again <= 2 * kills
    assert len(under_way) <= kills
    assert max(written.values()) == 1


def _moments(number: int, lines: int) -> list[tuple[int, float]]:
    rng = np.random.default_rng(time.time_ns())
    return [(int(rng.integers(1, lines)), rng.uniform(0, 0.003)) for _ in range(number)]


def test_killed_and_resumed(whole, tmp_path):
    """At three random moments."""
    kills = sum(_kill(tmp_path, *moment) for moment in _moments(3, 60))
    assert kills == 3
    _check_resumed(whole, tmp_path, kills)


@pytest.mark.slow
def test_killed_and_resumed_often(whole, tmp_path):
    """At twenty random moments, and at twenty of the start, where the store may be half made."""
    kills = sum(_kill(tmp_path, *moment) for moment in _moments(20, 8))
    assert kills == 20
    _check_resumed(whole, tmp_path, kills)
    waits = np.random.default_rng(time.time_ns()).uniform(0, 1.0, 20)
    kills = sum(_kill(tmp_path / "start", 0, wait) for wait in waits)
    assert kills > 0
    _check_resumed(whole, tmp_path / "start", kills)


def test_a_second_run_is_refused(tmp_path):
    """And names the first, which goes on."""
    child = sweeping.start(tmp_path)
    log = tmp_path / "light/log-00000.jsonl"
    while not log.exists() and child.is_alive():
        time.sleep(0.01)
    with pytest.raises(StoreError, match=rf"another run \(process {child.pid} on "):
        sweeping.run_light(tmp_path / "light", resume=True)
    assert sweeping.finish(child) == [0]


def test_what_is_left_of_a_team_is_waited_for(tmp_path):
    """A process that outlives the first may still write, so no other run begins."""
    with joined(tmp_path), pytest.raises(StoreError, match="processes of an earlier run"):
        sweeping.run_light(tmp_path)
    sweeping.run_light(tmp_path)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The light sweep in this process, whose compiler has other settings."""
    folder = tmp_path_factory.mktemp("here") / "light"
    sweeping.run_light(folder)
    return folder


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "lost"])
def test_a_broken_chunk_is_repaired(here, tmp_path, damage):
    """One byte, or all that a crash of the machine may leave of a file."""
    folder = tmp_path / "light"
    shutil.copytree(here, folder)
    path = folder / "data.zarr/value/c.11.0.0"
    content = bytearray(path.read_bytes())
    content[7] ^= 16
    kept = {"flipped": content, "short": content[:20], "empty": b""}.get(damage)
    path.unlink() if kept is None else path.write_bytes(kept)
    summary = sweeping.run_light(folder, resume=True)
    chunk = 30
    assert (summary.computed, summary.kept) == (chunk, summary.cells - chunk)
    assert summary.repaired == (0 if damage == "lost" else chunk)
    _same(here, folder)
    begun = [event["chunk"] for event in _events(folder) if event["event"] == "begun"]
    assert begun[-1] in begun[:-1]


def test_every_flipped_byte_is_noticed(here, tmp_path):
    """One in each chunk, at places from the first byte of a file to the last, in each variable by
    turns: a compressor notices few of them by itself."""
    folder = tmp_path / "light"
    shutil.copytree(here, folder)
    names = ("value", "pair", "status")
    chunks = sorted(path.name for path in (folder / "data.zarr/value").glob("c.*"))
    for number, chunk in enumerate(chunks):
        name = names[number % 3]
        path = folder / "data.zarr" / name / (f"{chunk}.0" if name == "pair" else chunk)
        content = bytearray(path.read_bytes())
        content[number * len(content) // len(chunks)] ^= 1 << number % 8
        path.write_bytes(content)
    summary = sweeping.run_light(folder, resume=True)
    assert (summary.repaired, summary.kept) == (summary.cells, 0)
    _same(here, folder)


@contextlib.contextmanager
def _mounted(folder: Path, size: str):
    """A small file system of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting needs root")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def test_a_full_disk(here, tmp_path):
    """One line; what was written is kept, and the rest follows once there is room."""
    with _mounted(tmp_path / "disk", "400k"):
        folder = tmp_path / "disk/light"
        with pytest.raises(StoreError, match=r"cannot write to .*No space left.*--resume") as error:
            sweeping.run_light(folder)
        assert "\n" not in str(error.value)
        before = sweeping.files(folder)
        assert len(before) > 20
        _remount(tmp_path / "disk", "size=40m")
        summary = sweeping.run_light(folder, resume=True)
        assert 0 < summary.kept < summary.cells
        assert summary.repaired == 0
        _same(here, folder)


def test_files_that_must_not_grow(here, tmp_path):
    """The same where the size of a file is limited: nothing that was there is touched."""
    folder = tmp_path / "light"
    shutil.copytree(here, folder)
    before = sweeping.files(folder)
    (folder / "data.zarr/pair/c.3.0.0.0").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write to .*File too large"):
            sweeping.run_light(folder, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = sweeping.files(folder)
    assert {name: before[name] for name in after} == after
    assert len(after) == len(before) - 1


def test_a_read_only_store(here, tmp_path):
    """One line, and nothing changed; it can be read all the same."""
    with _mounted(tmp_path / "disk", "40m"):
        folder = tmp_path / "disk/light"
        shutil.copytree(here, folder)
        _remount(tmp_path / "disk", "ro")
        for option in ("resume", "overwrite"):
            with pytest.raises(StoreError, match=r"cannot write to .*Read-only file system"):
                sweeping.run_light(folder, **{option: True})
        _same(here, folder)
        assert not np.isnan(open_sweep(folder)["value"].values).any()
