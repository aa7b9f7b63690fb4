"""Checking a data set: what leaks, what is a copy and what only looks alike, what cannot be read."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.dataset import read_dataset
from edge.errors import DataError
from edge_convert.data.check import DataReport, check_dataset, raise_on_leak
from edge_convert.data.copies import find_copies, thumbnail
from edge_convert.data.repair import drop_leaks
from edge_convert.data.text import render_text
from edge_convert.progress import Progress, finish

Picture = NDArray[np.uint8]


def smear(number: int, side: int = 160) -> Picture:
    """Dark discs of several sizes on a light ground: no two numbers alike."""
    draws = np.random.default_rng(number)
    picture = np.full((side, side, 3), 225, np.uint8)
    for _ in range(14):
        x, y = (int(v) for v in draws.integers(0, side, 2))
        colour = tuple(int(v) for v in draws.integers(60, 180, 3))
        cv2.circle(picture, (x, y), int(draws.integers(8, 24)), colour, -1, cv2.LINE_AA)
    return picture


def encoded(picture: NDArray[np.generic], suffix: str = ".png", quality: int = 95) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, picture, flags)[1].tobytes()


def decoded(data: bytes) -> Picture:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def resized(picture: Picture, factor: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def in_round_field(picture: Picture, number: int) -> Picture:
    """The picture as a phone sees it through an eyepiece: a disc in a black frame, never quite centred."""
    side = picture.shape[0]
    x, y = (side / 2 + np.random.default_rng(number).normal(0, 1, 2)).tolist()
    rows, columns = np.mgrid[:side, :side]
    inside = np.clip(0.45 * side - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    return (picture * inside + 4 * (1 - inside)).astype(np.uint8)


def write_set(folder: Path, rows: list[tuple[str, bytes, str, str, str]]) -> Path:
    """rows: name, bytes of the file, label, group, split."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "split"])
        for name, data, label, group, split in rows:
            (folder / name).write_bytes(data)
            writer.writerow([name, label, group, split])
    return folder


def check(folder: Path) -> DataReport:
    return finish(check_dataset(read_dataset(folder)))


CLEAN = [(f"{i}.png", encoded(smear(i)), "ab"[i % 2], f"P{i}", ("train", "val")[i > 5]) for i in range(9)]


def test_a_clean_data_set_has_no_leak_and_its_facts_are_counted(tmp_path: Path) -> None:
    grey = encoded(cv2.cvtColor(smear(50, 100), cv2.COLOR_BGR2GRAY))
    wide = encoded(smear(51)[..., 0].astype(np.uint16) * 16)
    report = check(
        write_set(tmp_path / "set", [*CLEAN, ("g.png", grey, "a", "P50", "val"), ("w.png", wide, "a", "P51", "train")])
    )
    assert not report.leaks
    assert report.pictures == {"train": {"a": 4, "b": 3}, "val": {"a": 3, "b": 1}}
    assert report.groups == {"train": 7, "val": 4}
    assert (report.imbalance, report.grey, report.colour, report.seed) == (1.75, 2, 9, None)
    assert report.sizes is not None
    assert (report.sizes.smallest, report.sizes.median) == ((100, 100), (160, 160))
    assert (report.unreadable, report.copies) == ((), ())
    raise_on_leak(report)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: decoded(encoded(p, ".jpg", 60)), id="JPEG of quality 60"),
        pytest.param(lambda p: resized(p, 0.5), id="half the size"),
        pytest.param(lambda p: resized(p, 1.5), id="one and a half the size"),
        pytest.param(lambda p: p[4:-1, 2:-3], id="trimmed by 3 %"),
        pytest.param(lambda p: p[5:-5, 5:-5], id="trimmed by 3 % on every side"),
        pytest.param(lambda p: cv2.convertScaleAbs(p, alpha=1, beta=25), id="brighter"),
        pytest.param(lambda p: cv2.convertScaleAbs(p, alpha=0.7), id="darker"),
        pytest.param(lambda p: p[:, ::-1], id="mirrored"),
        pytest.param(lambda p: np.rot90(p), id="turned"),
        pytest.param(lambda p: cv2.cvtColor(p, cv2.COLOR_BGR2GRAY), id="grey"),
        pytest.param(lambda p: decoded(encoded(resized(p[2:, 3:], 0.7), ".jpg", 60)), id="trimmed, smaller, JPEG"),
    ],
)
def test_a_changed_copy_in_another_split_is_a_leak(tmp_path: Path, change: Callable[[Picture], Picture]) -> None:
    data = encoded(np.ascontiguousarray(change(smear(2))))
    report = check(write_set(tmp_path / "set", [*CLEAN, ("copy.png", data, "a", "P99", "val")]))
    assert [pair.names for pair in report.leaking_copies] == [("2.png", "copy.png")]
    assert report.leaking_copies[0].how == "near copy"
    with pytest.raises(DataError, match=r"^1 picture is in more than one split, for example 2\.png \(train\)"):
        raise_on_leak(report)


def test_the_same_pixels_are_a_copy_in_whatever_file(tmp_path: Path) -> None:
    rows = [("same.png", CLEAN[2][1], "b", "P2", "val"), ("same.bmp", encoded(smear(3), ".bmp"), "b", "P3", "train")]
    report = check(write_set(tmp_path / "set", [*CLEAN, *rows]))
    assert [(p.names, p.how, p.leaks, p.conflicts) for p in report.copies] == [
        (("2.png", "same.png"), "same pixels", True, True),
        (("3.png", "same.bmp"), "same pixels", False, False),
    ]
    assert [leak.group for leak in report.group_leaks] == ["P2"]
    assert len(report.label_conflicts) == 1


def test_a_group_in_two_splits_is_a_leak_and_training_says_so_in_the_same_words(tmp_path: Path) -> None:
    rows = [("x.png", encoded(smear(60)), "a", "P1", "val"), ("y.png", encoded(smear(61)), "a", "P2", "val")]
    report = check(write_set(tmp_path / "set", [*CLEAN, *rows]))
    assert [(leak.group, leak.pictures) for leak in report.group_leaks] == [
        ("P1", {"train": 1, "val": 1}),
        ("P2", {"train": 1, "val": 1}),
    ]
    with pytest.raises(DataError) as refused:
        raise_on_leak(report)
    sentence = "2 groups are in more than one split, for example group P1 (train, val)"
    assert refused.value.message == sentence
    assert refused.value.remedy == (
        f"run `edge data check {tmp_path / 'set'}` for the list, move each group to one split, "
        "or convert with --drop-leaks, which leaves them out of training"
    )
    assert render_text(report).endswith(f"LEAK: {sentence}")


@pytest.mark.parametrize("field", [lambda p, _: p, in_round_field], ids=["whole pictures", "round fields"])
def test_different_pictures_are_not_called_copies(field: Callable[[Picture, int], Picture]) -> None:
    pictures = [field(smear(i), i) for i in range(300)]
    assert finish(find_copies(np.stack([thumbnail(p) for p in pictures]))) == ()


def test_a_copy_is_found_among_round_fields() -> None:
    pictures = [in_round_field(smear(i), i) for i in range(60)]
    pictures += [decoded(encoded(pictures[7], ".jpg", 60)), pictures[9][::-1]]
    copies = finish(find_copies(np.stack([thumbnail(p) for p in pictures])))
    assert [(copy.first, copy.second) for copy in copies] == [(7, 60), (9, 61)]


def test_flat_pictures_are_not_called_copies_of_each_other() -> None:
    draws = np.random.default_rng(0)
    flat = np.stack([np.full((64, 64), 30 + i, np.uint8) + draws.integers(0, 2, (64, 64), np.uint8) for i in range(40)])
    assert finish(find_copies(flat)) == ()


def test_what_cannot_be_read_is_listed_with_the_reason_and_the_rest_is_checked(tmp_path: Path) -> None:
    jpeg = encoded(smear(70), ".jpg")
    rows = [
        ("empty.png", b"", "a", "P70", "train"),
        ("text.jpg", b"hello", "a", "P71", "train"),
        ("short.jpg", jpeg[: len(jpeg) // 2], "a", "P72", "train"),
    ]
    report = check(write_set(tmp_path / "set", [*CLEAN, *rows]))
    assert [(u.name, u.reason) for u in report.unreadable] == [
        ("empty.png", "the file is empty"),
        ("text.jpg", "this is not a JPEG, PNG, BMP or TIFF picture"),
        ("short.jpg", "this JPEG picture is cut short"),
    ]
    assert report.colour == len(CLEAN)


def test_a_data_set_of_nothing_readable_is_still_reported(tmp_path: Path) -> None:
    rows = [("a.png", b"", "a", "P1", "train"), ("b.png", b"", "b", "P2", "val")]
    report = check(write_set(tmp_path / "set", rows))
    assert (len(report.unreadable), report.sizes) == (2, None)
    assert "2 cannot be read" in render_text(report)


def test_a_box_that_leaves_the_picture_is_listed(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", CLEAN)
    (folder / "manifest.csv").write_text(
        'path,label,boxes_xywh\n0.png,a,"[[150, 0, 10, 160]]"\n1.png,b,"[[151, 0, 10, 10]]"\n'
        "2.png,a,\n3.png,b,\n4.png,a,\n5.png,b,\n"
    )
    assert check(folder).boxes_outside == ("1.png",)


def test_splits_are_made_where_there_are_none_and_the_copies_across_them_found(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(smear(i)))
    report = finish(check_dataset(read_dataset(tmp_path), seed=5))
    assert (report.seed, report.groups, list(report.pictures)) == (5, None, ["train", "val", "test"])
    assert "made for this check by picture, as no groups are known, seed 5" in render_text(report)


def with_a_copy_a_picture(folder: Path) -> Path:
    """A folder per class without splits: some copy is certain to be in another split than its picture."""
    for i in range(24):
        path = folder / "ab"[i // 2 % 2] / f"P{i}_.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smear(i // 2)))
    return folder


@pytest.mark.parametrize(
    ("pattern", "said"),
    [(None, ""), (r"(P\d+)_", " '--group-pattern=(P\\d+)_'")],
    ids=["no groups", "groups by a pattern"],
)
def test_the_remedy_shows_the_same_leak_again(tmp_path: Path, pattern: str | None, said: str) -> None:
    folder = with_a_copy_a_picture(tmp_path / "my set")
    report = finish(check_dataset(read_dataset(folder, group_pattern=pattern), seed=3))
    with pytest.raises(DataError) as refused:
        raise_on_leak(report)
    assert refused.value.remedy.startswith(
        f"run `edge data check '{folder}' --seed 3{said}` for the list, give the copies of a picture one group, or"
    )
    command = refused.value.remedy.split("`")[1]
    again = subprocess.run(
        [sys.executable, "-c", "from edge.cli import main; main()", *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.stdout.endswith(f"LEAK: {refused.value.message}\n")


def test_leaks_are_not_looked_for_in_a_data_set_without_splits(tmp_path: Path) -> None:
    dataset = read_dataset(with_a_copy_a_picture(tmp_path / "set"))
    report = finish(check_dataset(dataset))
    with pytest.raises(AssertionError, match="has no split"):
        drop_leaks(dataset, report)


def test_progress_rises_to_its_total(tmp_path: Path) -> None:
    seen: list[Progress] = []
    finish(check_dataset(read_dataset(write_set(tmp_path / "set", CLEAN))), seen.append)
    positions = [step.done for step in seen]
    assert positions == sorted(positions)
    assert {step.total for step in seen} == {positions[-1]}


def test_the_report_is_json(tmp_path: Path) -> None:
    report = check(write_set(tmp_path / "set", [*CLEAN, ("x.png", CLEAN[0][1], "a", "P0", "val")]))
    read = json.loads(json.dumps(report.to_json()))
    assert (read["leaks"], read["leaking_copies"], read["group_leaks"][0]["group"]) == (True, 1, "P0")


def test_a_long_list_is_cut_short_and_its_length_kept(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", CLEAN)
    for i in range(8):
        (folder / f"note{i}.txt").write_text("")
    text = render_text(check(folder), shown=3)
    assert "8 files ignored\n  note0.txt\n  note1.txt\n  note2.txt\n  and 5 more\n" in text
    assert text.splitlines()[-1] == "no leak between splits was found"
