"""The folder of a build: a stage is there whole or not at all, whatever moment it was killed at."""

from __future__ import annotations

from pathlib import Path

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
