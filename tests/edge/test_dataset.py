"""Reading a data set: what is understood, what is listed as ignored, what is refused and in which words."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.dataset import Dataset, Sample, read_dataset
from edge.errors import DataError


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_manifest(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        draw(folder / name, number)
    (folder / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def labels(dataset: Dataset) -> dict[str, str]:
    return {sample.name: sample.label for sample in dataset.samples}


GOOD = "path,label\na.png,sick\nb.png,well\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GOOD.encode(), id="plain"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="byte order mark"),
        pytest.param(GOOD.replace("\n", "\r\n").encode(), id="Windows line endings"),
        pytest.param(b'"path","label"\n"a.png","sick"\n\n"./b.png"," well "\n\n', id="quotes and blank lines"),
        pytest.param(b"note,label,path\nx,sick,a.png\n,well,b.png\n", id="other columns, other order"),
    ],
)
def test_a_manifest_gives_names_and_labels(tmp_path: Path, data: bytes) -> None:
    dataset = read_dataset(write_manifest(tmp_path / "set", data))
    assert labels(dataset) == {"a.png": "sick", "b.png": "well"}
    assert dataset.classes == ("sick", "well")
    assert (dataset.has_groups, dataset.has_splits, dataset.synthetic) == (False, False, False)
    assert dataset.ignored == ("c.png",)


def test_a_manifest_gives_groups_splits_and_boxes(tmp_path: Path) -> None:
    rows = 'a.png,sick,P1,Training,"[[1, 2, 3, 4.0]]"\nb.png,well,P2,valid,\nc.png,well,P1,test,[]\n'
    dataset = read_dataset(write_manifest(tmp_path / "set", "path,label,group,split,boxes_xywh\n" + rows))
    assert [s.group for s in dataset.samples] == ["P1", "P2", "P1"]
    assert dataset.has_groups
    assert [s.split for s in dataset.samples] == ["train", "val", "test"]
    assert [s.boxes for s in dataset.samples] == [((1, 2, 3, 4),), (), ()]
    assert dataset.of_split("val") == (dataset.samples[1],)
    assert dataset.counts() == {
        "train": {"sick": 1, "well": 0},
        "val": {"sick": 0, "well": 1},
        "test": {"sick": 0, "well": 1},
    }


@pytest.mark.parametrize(
    ("column", "known"),
    [(["P1", "P1"], True), (["a.png", "b.png"], True), (["", " "], False)],
    ids=["one patient", "one picture a patient", "blank"],
)
def test_groups_are_known_where_the_manifest_gives_them(tmp_path: Path, column: list[str], known: bool) -> None:
    text = f"path,label,group\na.png,sick,{column[0]}\nb.png,well,{column[1]}\n"
    dataset = read_dataset(write_manifest(tmp_path / "set", text))
    assert dataset.has_groups == known
    assert [s.group for s in dataset.samples] == (column if known else ["a.png", "b.png"])


def test_a_folder_per_class_is_read_at_any_depth_and_in_any_script(tmp_path: Path) -> None:
    for number, name in enumerate(("sick/P1/one two.JPG", "sick/é.tiff", "well.v2/x.jpg/细胞.png")):
        draw(tmp_path / name, number)
    dataset = read_dataset(tmp_path)
    assert labels(dataset) == {
        "sick/P1/one two.JPG": "sick",
        "sick/é.tiff": "sick",
        "well.v2/x.jpg/细胞.png": "well.v2",
    }
    assert dataset.counts() == {"all": {"sick": 2, "well.v2": 1}}


def test_what_is_not_a_sample_is_listed_as_ignored(tmp_path: Path) -> None:
    others = ("loose.png", "sick/._a.png", "sick/Thumbs.db", "sick/notes.txt", "well/film.dcm")
    for number, name in enumerate(("sick/a.png", "well/b.png", *others, ".cache/c.png")):
        draw(tmp_path / name, number)
    (tmp_path / "empty").mkdir()
    (tmp_path / "well" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert read_dataset(tmp_path).ignored == tuple(sorted([*others, ".cache/", "empty/", "well/loop/"]))


def test_a_group_pattern_finds_the_patient_in_the_name(tmp_path: Path) -> None:
    for number, name in enumerate(("sick/P1_a.png", "sick/P2_b.png", "well/P2_c.png")):
        draw(tmp_path / name, number)
    dataset = read_dataset(tmp_path, group_pattern=r"/(P\d+)_")
    assert [s.group for s in dataset.samples] == ["P1", "P2", "P2"]
    assert dataset.has_groups
    assert dataset.group_pattern == r"/(P\d+)_"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        pytest.param("(P", "malformed", id="malformed"),
        pytest.param("P1", "has 0 capture groups", id="no capture group"),
        pytest.param("(P)(1)", "has 2 capture groups", id="two capture groups"),
        pytest.param("(P1)", "finds nothing in 1 of 2 names: well/P2.png", id="not in every name"),
        pytest.param("(Q)?", "finds nothing in 2 of 2", id="an empty group"),
    ],
)
def test_a_group_pattern_that_cannot_be_used_is_refused(tmp_path: Path, pattern: str, words: str) -> None:
    draw(tmp_path / "sick/P1.png", 1)
    draw(tmp_path / "well/P2.png", 2)
    with pytest.raises(DataError) as refused:
        read_dataset(tmp_path, group_pattern=pattern)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"path,label\n", "has no rows", id="header only"),
        pytest.param(b"file,label\na.png,x\n", "no column path: its columns are file, label", id="no path"),
        pytest.param(b"path;label\na.png;x\n", "no column path or label", id="semicolons"),
        pytest.param(b"path,label,label\na.png,x,y\n", "column label twice", id="column twice"),
        pytest.param(b"path,label\na.png,x\n./a.png,y\n", "line 3: a.png is already in line 2", id="path twice"),
        pytest.param(b"path,label\na.png,x\n/b.png,y\n", "line 3: the path /b.png is absolute", id="absolute"),
        pytest.param(b"path,label\nC:\\b.png,y\n", "line 2: the path C:\\b.png is absolute", id="Windows drive"),
        pytest.param(b"path,label\nx\\b.png,y\n", "line 2: the path x\\b.png has a backslash", id="backslash"),
        pytest.param(b"path,label\nx/../../b.png,y\n", "leaves the folder", id="dots"),
        pytest.param(b"path,label\n,y\n", "line 2: the path is blank", id="blank path"),
        pytest.param(b"path,label\na.png, \n", "line 2: a.png has no label", id="blank label"),
        pytest.param(b"path,label\na.png,x,y\n", "line 2: 3 fields, but 2 columns", id="a field too many"),
        pytest.param(b"path,label\na.png,x\nb.png,x\n", "every picture is 'x'", id="one class"),
        pytest.param(b"path,label,split\na.png,x,dev\n", "line 2: there is no split called 'dev'", id="split"),
        pytest.param(b"path,label,split\na.png,x,val\nb.png,y,\n", "line 3: b.png has no split", id="blank split"),
        pytest.param(b"path,label,group\na.png,x,P1\nb.png,y, \n", "line 3: b.png has no group", id="blank group"),
        pytest.param(
            b"path,label\na.png,x\nq.png,y\nr.png,y\n",
            "2 of 3 pictures are not there, or not files: q.png, r.png",
            id="missing",
        ),
        pytest.param(b"path,label\na.png,x\n" + b"q" * 300 + b",y\n", "1 of 2 pictures", id="name too long"),
        pytest.param(b"path,label\na.png,caf\xe9\n", "line 2: this is not UTF-8", id="Latin-1"),
        pytest.param(GOOD.encode("utf-16"), "line 1: this is not UTF-8", id="UTF-16"),
        pytest.param(b"path,label\na.png,x\0\n", "line 2: this is not text", id="NUL"),
        pytest.param(b'path,label\n"a.png,x\n', "line 2: unexpected end of data", id="quote not closed"),
        pytest.param(b"path,label\na.png," + b"x" * 140_000, "field larger than field limit", id="huge field"),
        pytest.param(b"path,label\na.png,x\x07\nb.png,y\n", "control character", id="control character"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused_in_one_sentence(
    tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(DataError) as refused:
        read_dataset(write_manifest(tmp_path / "set", data))
    assert words in refused.value.message
    assert refused.value.remedy
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        pytest.param("[[1,2,3", "not JSON", id="not JSON"),
        pytest.param("[" * 100_000, "not JSON", id="too deep"),
        pytest.param('{"x": 1}', "not a list", id="object"),
        pytest.param("[1, 2, 3, 4]", "not a box", id="flat"),
        pytest.param("[[1, 2, 3]]", "not a box", id="three numbers"),
        pytest.param("[[1, 2, 3, 4.5]]", "not a box", id="fraction"),
        pytest.param("[[1, 2, 3, NaN]]", "not a box", id="not a number"),
        pytest.param("[[1, 2, 3, true]]", "not a box", id="true"),
        pytest.param("[[1, 2, 0, 4]]", "has no area", id="no width"),
        pytest.param("[[1, 2, 3, -4]]", "has no area", id="negative height"),
        pytest.param("[[-1, 2, 3, 4]]", "lies outside", id="outside"),
    ],
)
def test_boxes_that_are_not_boxes_are_refused_with_the_line(tmp_path: Path, boxes: str, words: str) -> None:
    text = f'path,label,boxes_xywh\na.png,x,\nb.png,y,"{boxes.replace(chr(34), chr(34) * 2)}"\n'
    with pytest.raises(DataError) as refused:
        read_dataset(write_manifest(tmp_path / "set", text))
    assert refused.value.message.startswith("manifest.csv line 3: ")
    assert words in refused.value.message


def test_a_place_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    draw(tmp_path / "by_split/train/a.png", 1)
    draw(tmp_path / "by_split/Test/b.png", 2)
    for name, words in {
        "none": "there is no folder",
        "file": "is not a folder",
        "empty": "neither manifest.csv nor class folders",
        "by_split": "are splits, not classes",
    }.items():
        with pytest.raises(DataError, match=words):
            read_dataset(tmp_path / name)


def test_split_folders_of_class_folders_are_read_with_their_splits(tmp_path: Path) -> None:
    for number, name in enumerate(
        ["train/sick/a.png", "train/well/deep/b.png", "Validation/sick/c.png", "test/well/d.png"]
    ):
        draw(tmp_path / name, number)
    found = read_dataset(tmp_path)
    assert found.classes == ("sick", "well")
    assert [(s.name, s.label, s.split) for s in found.samples] == [
        ("Validation/sick/c.png", "sick", "val"),
        ("test/well/d.png", "well", "test"),
        ("train/sick/a.png", "sick", "train"),
        ("train/well/deep/b.png", "well", "train"),
    ]
    assert found.has_splits
    assert not found.has_groups
    draw(tmp_path / "train/loose.png", 9)
    with pytest.raises(DataError, match=r"1 pictures lie in no class folder below them: train/loose.png"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train/a/1.png", "test/a/1.png", "dev/a/1.png"], "test, train are splits, and beside them lies dev"),
        (["train/a/1.png", "val/a/1.png", "notes/x.png"], "train, val are splits, and beside them lies notes"),
        (["sick/train/1.png", "sick/val/2.png", "well/train/3.png"], "has its own folders train, val"),
    ],
)
def test_splits_that_would_not_be_taken_for_splits_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    for number, name in enumerate(names):
        draw(tmp_path / name, number)
    with pytest.raises(DataError, match=words):
        read_dataset(tmp_path)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    draw(tmp_path / "secret.png", 1)
    draw(folder / "sick/a.png", 2)
    (folder / "well").mkdir()
    (folder / "well/b.png").symlink_to(folder / "sick/a.png")
    assert len(read_dataset(folder).samples) == 2
    (folder / "well/c.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"well/c\.png is a link out of"):
        read_dataset(folder)


@pytest.mark.parametrize("kind", ["link to itself", "link to nothing", "pipe"])
def test_a_picture_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    draw(tmp_path / "sick/a.png", 1)
    (tmp_path / "well").mkdir()
    odd = tmp_path / "well/b.png"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(odd if kind == "link to itself" else tmp_path / "well/gone.png")
    with pytest.raises(DataError, match=r"1 of 2 pictures are not there, or not files: well/b\.png"):
        read_dataset(tmp_path)


def test_a_description_gives_the_name_and_says_synthetic(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "set", GOOD)
    assert read_dataset(folder).name == "set"
    (folder / "dataset.json").write_text('{"name": "smears", "synthetic": true, "licence": "CC0"}')
    assert (read_dataset(folder).name, read_dataset(folder).synthetic) == ("smears", True)
    for wrong in ("{", "[]", '{"synthetic": "no"}', '{"name": 3}'):
        (folder / "dataset.json").write_text(wrong)
        with pytest.raises(DataError, match=r"dataset\.json"):
            read_dataset(folder)


def test_the_fingerprint_changes_with_everything_that_matters_and_nothing_else(tmp_path: Path) -> None:
    header = "path,label,group,split,boxes_xywh\n"
    rows = ["a.png,sick,P1,train,\n", 'b.png,well,P2,val,"[[1,2,3,4]]"\n']
    first = read_dataset(write_manifest(tmp_path / "one", header + "".join(rows))).fingerprint()
    assert read_dataset(write_manifest(tmp_path / "two", header + "".join(rows[::-1]))).fingerprint() == first
    prints = {first}
    for old, new in {"sick": "ill", "P2": "P3", "val": "test", "[1,2": "[1,1", "b.png": "c.png"}.items():
        text = (header + "".join(rows)).replace(old, new)
        prints.add(read_dataset(write_manifest(tmp_path / "three", text)).fingerprint())
    dataset = read_dataset(write_manifest(tmp_path / "four", header + "".join(rows)))
    draw(tmp_path / "four/a.png", 99)
    prints.add(dataset.fingerprint())
    assert len(prints) == 7


def test_the_fingerprint_is_the_same_in_every_version(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"A")
    (tmp_path / "b.png").write_bytes(b"B")
    (tmp_path / "manifest.csv").write_text("path,label\na.png,x\nb.png,y\n")
    # printf of the two documented lines, piped into sha256sum
    assert read_dataset(tmp_path).fingerprint() == "4ba0c547d5286aa55ed393c1904664b5e02173c94ee7b086e778574993de27c3"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("sick", "ill", {"labels"}),
        ("P2", "P3", {"groups"}),
        ("val", "test", {"splits"}),
        ("[1,2", "[1,1", {"boxes"}),
        ("b.png", "c.png", {"names", "files", "labels", "groups", "splits", "boxes"}),
    ],
    ids=["label", "group", "split", "box", "name"],
)
def test_the_marks_tell_what_was_changed(tmp_path: Path, old: str, new: str, changed: set[str]) -> None:
    text = 'path,label,group,split,boxes_xywh\na.png,sick,P1,train,\nb.png,well,P2,val,"[[1,2,3,4]]"\n'
    before = read_dataset(write_manifest(tmp_path / "one", text)).identity()
    after = read_dataset(write_manifest(tmp_path / "two", text.replace(old, new))).identity()
    assert {part for part in before.parts if before.parts[part] != after.parts[part]} == changed
    assert before.fingerprint != after.fingerprint


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split called 'dev'"):
        read_dataset(write_manifest(tmp_path / "set", GOOD)).of_split("dev")


def test_a_box_beside_its_picture_is_a_sentence_and_one_over_the_edge_is_not(tmp_path: Path) -> None:
    sample = Sample(
        path=tmp_path / "a.png", name="a.png", label="x", group="a", split=None, boxes=((500.0, 500.0, 50.0, 50.0),)
    )
    with pytest.raises(DataError, match="outside the picture, 224 x 224"):
        sample.require_boxes_inside(224, 224)
    replace(sample, boxes=((-5.0, 200.0, 30.0, 50.0),)).require_boxes_inside(224, 224)
