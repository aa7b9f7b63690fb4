"""What embeddings tell: shared parts, the optimism gap, doubtful labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cli import edge, run
from edge.dataset import Dataset, Sample, read_dataset
from edge.errors import DataError
from edge_convert.data.embed import Embeddings
from edge_convert.data.gap import Gap, measure_gap
from edge_convert.data.overlap import CONFIRMED, candidates, find_keypoints, shared_likeness
from edge_convert.data.review import find_doubts
from edge_convert.progress import finish

Picture = NDArray[np.uint8]


def smear(number: int, side: int = 240) -> Picture:
    """Dark discs with specks on a light ground: no two numbers alike."""
    draws = np.random.default_rng(number)
    picture = np.full((side, side, 3), 225, np.uint8)
    for _ in range(16):
        x, y = (int(v) for v in draws.integers(0, side, 2))
        colour = tuple(int(v) for v in draws.integers(60, 180, 3))
        cv2.circle(picture, (x, y), int(draws.integers(10, 30)), colour, -1, cv2.LINE_AA)
        cv2.circle(picture, (x + int(draws.integers(-6, 7)), y), 3, (90, 20, 90), -1, cv2.LINE_AA)
    return picture


def turned(picture: Picture, degrees: float) -> Picture:
    side = picture.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_CUBIC), np.uint8)


def blurred_jpeg(picture: Picture) -> Picture:
    soft = cv2.GaussianBlur(picture, (0, 0), 1.5)
    read = cv2.imdecode(cv2.imencode(".jpg", soft, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    return np.asarray(read, np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p[:192, 48:], id="80 % of each side, from a corner"),
        pytest.param(lambda p: p[:, 96:], id="60 % of the width"),
        pytest.param(lambda p: turned(p, 12), id="turned by 12 degrees"),
        pytest.param(blurred_jpeg, id="blurred, JPEG of quality 40"),
        pytest.param(lambda p: cv2.convertScaleAbs(p, alpha=0.6, beta=50), id="less contrast"),
    ],
)
def test_pictures_that_share_a_part_are_confirmed_by_their_details(change: Callable[[Picture], Picture]) -> None:
    pairs = [(smear(i), np.ascontiguousarray(change(smear(i)))) for i in range(4)]
    likenesses = [shared_likeness(find_keypoints(a), find_keypoints(b)) for a, b in pairs]
    assert min(likenesses) > CONFIRMED


def test_different_pictures_share_nothing() -> None:
    found = [find_keypoints(smear(i)) for i in range(12)]
    assert max(shared_likeness(a, b) for a in found for b in found if a is not b) < 0.5


def test_a_flat_picture_shares_nothing_with_any() -> None:
    flat = find_keypoints(np.full((100, 80, 3), 128, np.uint8))
    assert shared_likeness(flat, flat) == 0
    assert shared_likeness(flat, find_keypoints(smear(1))) == 0


def test_candidates_are_the_nearest_of_each_in_any_view() -> None:
    draws = np.random.default_rng(0)
    views = draws.normal(size=(40, 2, 64)).astype(np.float32)
    views[30, 0] = views[3, 1]  # the whole of one is the centre of the other
    views /= np.linalg.norm(views, axis=-1, keepdims=True)
    found = {pair[:2]: pair[2] for pair in candidates(views)}
    assert found[3, 30] == pytest.approx(1, abs=1e-6)
    assert all(first < second for first, second in found)


def drawn_set(labels: list[str], groups: list[str]) -> Dataset:
    samples = tuple(
        Sample(path=Path(f"{i:03d}.png"), name=f"{i:03d}.png", label=label, group=group, split=None, boxes=())
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    )
    return Dataset(
        folder=Path(),
        name="drawn",
        synthetic=True,
        classes=tuple(sorted(set(labels))),
        samples=samples,
        has_groups=True,
        has_splits=False,
        ignored=(),
    )


def drawn_gaps(*, of_group: float, of_label: float) -> dict[str, Gap]:
    """The gaps of 40 groups of 6 pictures, whose embeddings hold that much of the group and that much of the label."""
    draws = np.random.default_rng(1)
    labels = [("sick", "well")[g % 2] for g in range(40) for _ in range(6)]
    groups = [f"P{g}" for g in range(40) for _ in range(6)]
    casts = np.repeat(draws.normal(size=(40, 64)), 6, axis=0)
    sick = np.array([label == "sick" for label in labels])[:, None] * np.ones(64)
    vectors = of_group * casts + of_label * sick + draws.normal(size=(240, 64))
    dataset = drawn_set(labels, groups)
    seen = Embeddings(samples=dataset.samples, vectors=vectors[:, None].astype(np.float32), unreadable=())
    return {gap.probe: gap for gap in finish(measure_gap(dataset, seen))}


def test_a_set_in_which_a_picture_tells_its_patient_has_a_gap() -> None:
    gaps = drawn_gaps(of_group=3, of_label=0)
    for gap in gaps.values():
        # The label is that of the patient alone: new patients are a coin toss, known ones are not.
        assert np.mean(gap.random) > 0.9
        assert np.mean(gap.grouped) < 0.65
        assert gap.mean == pytest.approx(np.mean(gap.random) - np.mean(gap.grouped))
        assert "a random split would flatter by" in gap.sentence


def test_a_set_in_which_groups_do_not_matter_has_none() -> None:
    for gap in drawn_gaps(of_group=0, of_label=0.25).values():
        assert abs(gap.mean) < 0.03
        assert "no more than chance" in gap.sentence


def test_without_groups_there_is_no_gap_to_measure() -> None:
    alone = drawn_set(["a", "b"] * 10, [f"{i:03d}.png" for i in range(20)])
    seen = Embeddings(samples=alone.samples, vectors=np.zeros((20, 1, 4), np.float32), unreadable=())
    with pytest.raises(DataError, match="every picture is a group of its own"):
        finish(measure_gap(alone, seen))


def test_most_flipped_labels_are_among_the_first_doubts() -> None:
    draws = np.random.default_rng(2)
    truth = ["a" if i % 3 else "b" for i in range(600)]
    flipped = set(draws.choice(600, 30, replace=False).tolist())
    labels = [("b" if t == "a" else "a") if i in flipped else t for i, t in enumerate(truth)]
    centre = np.array([t == "a" for t in truth])[:, None] * np.full(16, 0.9)
    vectors = (centre + draws.normal(size=(600, 16))).astype(np.float32)
    dataset = drawn_set(labels, [f"P{i // 4}" for i in range(600)])
    doubts = finish(find_doubts(dataset, Embeddings(samples=dataset.samples, vectors=vectors[:, None], unreadable=())))
    assert len(doubts) == 600
    first = {int(doubt.name[:3]) for doubt in doubts[:30]}
    assert len(first & flipped) >= 20
    assert all(doubt.suspected and doubt.suggested != doubt.label for doubt in doubts[:20])


def call(*arguments: str | Path) -> int:
    return run(lambda **keywords: edge([str(a) for a in arguments], **keywords))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients of four pictures, each in a colour of its own; the last picture is a crop of the first."""
    folder = tmp_path_factory.mktemp("seen") / "set"
    folder.mkdir()
    rows = []
    for i in range(48):
        patient = i // 4
        cast = np.random.default_rng(900 + patient).uniform(0.4, 1.0, 3)
        source = smear(0)[:192, :192] if i == 47 else smear(i)
        picture = np.ascontiguousarray(source * cast).astype(np.uint8)
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        rows.append(f"{i}.png,{('sick', 'well')[patient % 2]},P{patient},{'train' if patient < 8 else 'val'}")
    (folder / "manifest.csv").write_text("path,label,group,split\n" + "\n".join(rows) + "\n")
    return folder


def test_a_crop_in_another_split_and_another_light_is_a_leak_with_embeddings_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "check", folder) == 0
    capsys.readouterr()
    path = tmp_path / "c.json"
    assert call("data", "check", folder, "--embeddings", "--certificate", path, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [(pair["names"], pair["how"]) for pair in report["copies"]] == [(["0.png", "47.png"], "shared part")]
    assert 0 < len(report["look_alikes"]) <= 20
    assert json.loads(path.read_text())["findings"]["shared_parts"] == 1


def test_the_gap_of_patients_with_a_colour_each_is_said_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "gap", folder, "--repeats", "2") == 0
    printed = capsys.readouterr().out
    assert printed.count("split by picture") == 2  # a line a probe
    assert "a random split would flatter by" in printed
    assert "lower bound" in printed


def test_the_review_is_a_page_that_stands_alone_and_a_table(folder: Path, tmp_path: Path) -> None:
    rows = (folder / "manifest.csv").read_text()
    assert call("data", "review", folder, "--out", tmp_path / "review.html", "--shown", "3") == 0
    page = (tmp_path / "review.html").read_text()
    with (tmp_path / "review.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows.splitlines()) - 1 == 48
    suspected = [row for row in table if row["suspected"] == "yes"]
    assert page.count("<img ") == min(3, len(suspected))
    assert page.count('src="data:image/jpeg') == page.count("<img ")
    assert "http" not in page
    assert [row["suspected"] for row in table] == ["yes"] * len(suspected) + ["no"] * (48 - len(suspected))


def test_a_set_without_groups_is_refused_before_anything_is_embedded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for i in range(4):
        (bare / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes())
    (bare / "manifest.csv").write_text("path,label\n0.png,a\n1.png,a\n2.png,b\n3.png,b\n")
    assert not read_dataset(bare).has_groups
    assert call("data", "gap", bare) == 1
    assert "groups are not known" in capsys.readouterr().err
