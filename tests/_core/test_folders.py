"""Folders that cannot be written are refused in one line, before anything is computed."""

import os
import stat

import pytest

from qra_jax._core.folders import require_private, require_writable, writing_to


def test_a_folder_is_made(tmp_path):
    """With those above it, and left empty."""
    out = tmp_path / "a" / "b"
    require_writable(out)
    require_writable(out)
    assert list(out.iterdir()) == []


def test_no_folder_below_a_file(tmp_path):
    """The setting is named, the folder shown, the reason told."""
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="page must be a folder that can be written") as error:
        require_writable(tmp_path / "file" / "b", "page")
    assert str(error.value).endswith("(Not a directory)")
    assert str(tmp_path / "file" / "b") in str(error.value)
    assert error.value.__suppress_context__


def test_a_folder_that_takes_no_files(tmp_path, monkeypatch):
    """It is there, and yet nothing can be put into it: of a full or read-only disk."""

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"out must be .* \(Read-only file system\)"):
        require_writable(tmp_path)


def test_other_errors_pass(tmp_path):
    """Only what the file system refuses is turned into bad input."""
    with pytest.raises(KeyError), writing_to(tmp_path):
        raise KeyError("x")


@pytest.mark.parametrize(("mode", "good"), [(0o700, True), (0o750, False), (0o701, False)])
def test_private_folders(tmp_path, mode, good):
    """Nobody else may read or write; one that is made is so."""
    folder = tmp_path / "made"
    require_private(folder, "cache")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    os.chmod(folder, mode)
    if good:
        require_private(folder, "cache")
    else:
        with pytest.raises(ValueError, match="cache must be a folder of your own, of mode 700"):
            require_private(folder, "cache")
