"""The folder of a build: a stage is there whole or not at all, whatever moment it was killed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge_convert.run_folder import BEGUN, MARK, RunFolder


def write_stage(folder: RunFolder, name: str, key: str) -> None:
    with folder.writing(name, key) as stage:
        (stage / "file").write_text(key, encoding="utf-8")


def test_a_stage_is_done_for_what_it_was_made_from_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_stage(folder, "train", "a")
    assert folder.is_done("train", "a")
    assert not folder.is_done("train", "b")
    folder.forget("train")
    assert not folder.is_done("train", "a")


def test_what_an_interrupted_stage_left_is_there_for_the_same_inputs_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for key, afresh, kept in (("a", False, True), ("b", False, False), ("a", True, False)):
        writing = folder.writing("train", "a")
        stage = writing.__enter__()
        (stage / "half").touch()
        del writing  # killed
        with folder.writing("train", key, afresh=afresh) as again:
            assert (again / "half").exists() == kept


def test_a_stage_killed_between_its_mark_and_its_move_is_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    partial = tmp_path / ".train.partial"
    partial.mkdir()
    (partial / BEGUN).write_text('{"key": "a"}', encoding="utf-8")
    assert not folder.is_done("train", "a")
    (partial / BEGUN).rename(partial / MARK)
    (partial / "file").write_text("whole", encoding="utf-8")
    assert folder.is_done("train", "a")
    assert (folder.stage("train") / "file").read_text(encoding="utf-8") == "whole"


def test_what_only_an_interrupted_stage_needs_is_not_part_of_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.writing("train", "a", scratch=["half*"]) as stage:
        (stage / "half-1").touch()
        (stage / "file").touch()
        partial = stage
    assert sorted(path.name for path in folder.stage("train").iterdir()) == ["file", MARK]
    assert not partial.exists()
    # Killed between the mark and the move.
    folder.stage("train").rename(partial)
    (partial / "half-2").touch()
    assert folder.is_done("train", "a")
    assert not (folder.stage("train") / "half-2").exists()


def test_an_adopted_stage_is_held_to_the_same_digests(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    one.path.mkdir()
    other.path.mkdir()
    write_stage(one, "train", "a")
    other.adopt("train", one)
    other.require_whole("train")
    (other.stage("train") / "file").unlink()
    (other.stage("train") / "file").write_text("something else", encoding="utf-8")
    with pytest.raises(EdgeError, match="was changed since"):
        other.is_done("train", "a")
    one.require_whole("train")
    with pytest.raises(EdgeError, match="holds no finished prune stage"):
        one.require_whole("prune")


def test_a_folder_without_a_mark_is_not_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.stage("train").mkdir()
    (folder.stage("train") / "precious").touch()
    with pytest.raises(EdgeError, match="is not a build's"):
        write_stage(folder, "train", "a")
    assert (folder.stage("train") / "precious").exists()


def test_a_full_disk_is_named_by_the_stage_that_met_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(OSError, match="No space left") as raised, folder.writing("train", "a"):
        Path("/dev/full").write_bytes(b"a")
    assert raised.value.filename == str(tmp_path / ".train.partial")


def test_a_forgotten_stage_is_still_a_builds(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_stage(folder, "train", "a")
    folder.forget("train")
    assert json.loads((folder.stage("train") / MARK).read_text()) == {}
    write_stage(folder, "train", "b")
    assert folder.is_done("train", "b")
