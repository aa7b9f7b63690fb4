"""The certificate: the same data give the same bytes, and whatever is changed afterwards is noticed and named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TinyBuild

from edge.bundle import read_bundle
from edge.cli import edge, run
from edge.dataset import read_dataset
from edge.errors import DataError
from edge_convert.data.certificate import certify, read_certificate, to_bytes
from edge_convert.data.check import check_dataset
from edge_convert.progress import finish

ROWS: list[tuple[str, ...]] = [
    (f"{i}.png", "ab"[i % 2], f"P{i // 2 * 2 + i % 2}", ("train", "val", "test")[i // 4 % 3]) for i in range(12)
]


def draw(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    large = cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(".png", large)[1].tobytes())


def write_rows(folder: Path, rows: list[tuple[str, ...]]) -> None:
    lines = ["path,label,group,split", *(",".join(row) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(12):
        draw(folder / f"{i}.png", i)
    (folder / "dataset.json").write_text('{"name": "drawn", "synthetic": true}')
    write_rows(folder, ROWS)
    return folder


def call(*arguments: str | Path) -> int:
    return run(lambda **keywords: edge([str(a) for a in arguments], **keywords))


def certified(folder: Path) -> Path:
    path = folder.parent / "certificate.json"
    assert call("data", "check", folder, "--certificate", path) == 0
    return path


def test_the_same_data_give_the_same_bytes_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    first = certified(folder).read_bytes()
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    write_rows(other, ROWS[::-1])
    dataset = read_dataset(other)
    assert to_bytes(certify(dataset, finish(check_dataset(dataset)), dataset.identity())) == first


def test_it_says_what_was_found_and_names_nobody(folder: Path) -> None:
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "broken.png").write_bytes(b"")
    write_rows(folder, [*ROWS, ("copy.png", "b", "P0", "val"), ("broken.png", "a", "P99", "val")])
    path = folder.parent / "certificate.json"
    assert call("data", "check", folder, "--certificate", path) == 1
    found = read_certificate(path)
    assert found["pictures"]["val"] == {"a": 3, "b": 3}
    assert found["findings"] == {
        "unreadable": 1,
        "boxes_outside": 0,
        "exact_copies": 1,
        "near_copies": 0,
        "shared_parts": None,
        "look_alikes": None,
        "label_conflicts": 1,
        "leaking_groups": 1,
        "leaking_copies": 1,
    }
    assert found["free_of_leaks"] is False
    assert found["groups"]["by_split"] == {"train": 4, "val": 6, "test": 4}
    assert not any(name in path.read_text() for name in ("copy.png", "P99", str(folder)))


def test_the_seal_is_the_sha256_of_the_rest_as_anyone_can_compute_it(folder: Path) -> None:
    fields = json.loads(certified(folder).read_text())
    seal = fields.pop("seal")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == seal


def test_the_very_set_is_known_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = certified(folder)
    capsys.readouterr()
    assert call("data", "verify", path, folder) == 0
    assert call("data", "verify", path, folder, "--again") == 0
    assert " is the certified data set: 12 pictures, fingerprint " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("0.png", "b", "P0", "train"), "labels differ"),
        (("0.png", "a", "P8", "test"), "groups and splits differ"),
        (None, "it has 11 pictures, the certified one has 12"),
    ],
    ids=["a label", "a group and a split", "a picture fewer"],
)
def test_a_changed_set_is_told_by_what_changed(
    folder: Path, row: tuple[str, ...] | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = certified(folder)
    write_rows(folder, [*([row] if row else []), *ROWS[1:]])
    capsys.readouterr()
    assert call("data", "verify", path, folder) == 1
    assert capsys.readouterr().out == f"{folder} is NOT the certified data set: {said}\n"


def test_a_changed_picture_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = certified(folder)
    draw(folder / "3.png", 99)
    assert call("data", "verify", path, folder) == 1
    assert "the contents of files differ" in capsys.readouterr().out


def test_groups_by_a_pattern_are_found_again_without_saying_it(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "set" / "ab"[i % 2] / f"P{i}_x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, i)
    path = tmp_path / "c.json"
    assert call("data", "check", tmp_path / "set", "--group-pattern", r"(P\d+)_", "--certificate", path) == 0
    assert call("data", "verify", path, tmp_path / "set") == 0


def test_findings_that_do_not_come_out_again_are_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = certified(folder)
    fields = json.loads(path.read_text())
    del fields["seal"]
    fields["findings"]["near_copies"] = 7
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Sealed anew by somebody: only a second check shows it.
    path.write_text(json.dumps({**fields, "seal": hashlib.sha256(canonical.encode()).hexdigest()}))
    assert call("data", "verify", path, folder) == 0
    assert call("data", "verify", path, folder, "--again") == 1
    assert "the same data give another findings now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a data certificate"),
        ('{"format": "something else"}', "is not a data certificate"),
        ('{"format": "edge-screen data certificate", "schema": 9}', "schema is 9"),
    ],
    ids=["no JSON", "another format", "another schema"],
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match=said):
        read_certificate(tmp_path / "c.json")


def test_a_broken_seal_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = certified(folder)
    path.write_text(path.read_text().replace('"exact_copies": 0', '"exact_copies": 1'))
    assert call("data", "verify", path, folder) == 1
    assert "is broken: it was changed after it was made" in capsys.readouterr().err


def test_a_build_packs_the_certificate_that_the_check_writes(tiny_build: TinyBuild, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert call("data", "check", tiny_build.data, "--certificate", path) == 0
    bundle = read_bundle(tiny_build.bundle)
    assert bundle.parts["certificate.json"] == path.read_bytes()
    seal = json.loads(path.read_text())["seal"]
    assert bundle.manifest.data["certificate"] == seal
    assert f"seal {seal}" in bundle.parts["card.md"].decode()
    assert seal in (tiny_build.run / "report.html").read_text()
