"""Which pictures a command line means, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.dataset import read_dataset
from edge.errors import DataError, PictureError
from edge_runtime.pictures import expand


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder unreadable, also for the superuser."""
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_a_folder_stands_for_the_pictures_at_any_depth_and_a_file_for_itself(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "sub/deep/c.tiff", "notes.txt")
    found = expand([tmp_path / "notes.txt", tmp_path, tmp_path / "gone.jpg"])
    names = ["notes.txt", "a.PNG", "b.jpg", "sub/deep/c.tiff", "gone.jpg"]
    assert list(found) == [tmp_path / name for name in names]
    assert len(found) == 5


def test_nothing_passed_over_is_nothing_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    found = expand([tmp_path])
    assert (found.passed_over(), found.complete) == ("", True)


def test_what_is_passed_over_is_counted_and_named_the_worst_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "notes.txt", "film.dcm", "._a.png", ".cache/b.png", "shut/c.png", "other/d.png")
    touch(tmp_path.parent, f"{tmp_path.name}-elsewhere/e.png")
    (tmp_path / "link").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere", target_is_directory=True)
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    close(monkeypatch, tmp_path / "shut")
    found = expand([tmp_path])
    assert list(found) == [tmp_path / "a.png", tmp_path / "other/d.png"]
    assert found.passed_over() == (
        "passed over 2 files that are no JPEG, PNG, BMP or TIFF, 2 hidden files or folders, 2 linked folders, "
        f"1 folder that cannot be read: {tmp_path}/shut, {tmp_path}/link, {tmp_path}/round and 4 more"
    )
    assert not found.complete


def test_a_named_folder_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "shut/a.png", "open/b.png")
    close(monkeypatch, tmp_path / "shut")
    found = expand([tmp_path / "shut", tmp_path / "open"])
    assert list(found) == [tmp_path / "open/b.png"]
    assert found.passed_over() == f"passed over 1 folder that cannot be read: {tmp_path}/shut"


def test_an_odd_name_does_not_break_the_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "a\nb.txt", os.fsdecode(b"\xff.txt"))
    assert expand([tmp_path]).passed_over() == (
        f"passed over 2 files that are no JPEG, PNG, BMP or TIFF: {tmp_path}/a?b.txt, {tmp_path}/?.txt"
    )


def test_a_named_folder_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert list(expand([tmp_path / "link"])) == [tmp_path / "link/a.png"]


def test_a_name_below_a_folder_that_may_not_be_entered_is_left_to_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def guarded(path: object, *arguments: object, **keywords: object) -> object:
        if str(path).endswith("a.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **keywords)

    monkeypatch.setattr(os, "stat", guarded)
    assert list(expand([tmp_path / "a.png"])) == [tmp_path / "a.png"]


def test_a_data_set_with_a_folder_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "sick/a.png", "well/b.png", "well/shut/c.png")
    close(monkeypatch, tmp_path / "well/shut")
    with pytest.raises(DataError, match=r"well/shut cannot be read: Permission denied"):
        read_dataset(tmp_path)


def test_a_folder_of_pictures_of_other_kinds_is_told_which_kinds_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.gif", "b.WEBP", "c.webp", "README")
    found = expand([tmp_path])
    assert "4 files that are no JPEG, PNG, BMP or TIFF" in found.passed_over()
    with pytest.raises(PictureError, match=r"the files there are \.gif, \.webp, without an ending") as caught:
        found.require_some()
    assert caught.value.remedy == "name JPEG, PNG, BMP or TIFF files, or save them so"
    with pytest.raises(PictureError, match=r"there is no picture in what was named$"):
        expand([]).require_some()
