"""A file is the whole new one or still the old one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.files import write_atomically


def test_a_file_is_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for data in (b"old", b"", b"\x00\xff" * 1000):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("old", [b"old", None], ids=["over a file", "where there is none"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bytes | None
) -> None:
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ([] if old is None else ["a.bin"])
    assert old is None or path.read_bytes() == old


def test_the_new_bytes_are_on_the_disk_before_they_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    at_sync: list[tuple[bytes, int]] = []
    monkeypatch.setattr(os, "fsync", lambda number: at_sync.append((path.read_bytes(), os.fstat(number).st_size)))
    write_atomically(path, b"newer")
    assert at_sync == [(b"old", 5)]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)], ids=["022", "027"])
def test_the_rights_are_those_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == mode


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a.bin", b"x")
