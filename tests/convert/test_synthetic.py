"""The rendered smears: honest, deterministic, and not solved by anything cheaper than looking."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from edge.errors import DataError
from edge.preprocess import decode, shrink
from edge_convert.synthetic import render_dataset
from edge_convert.synthetic.calibration import write_calibration_set
from edge_convert.synthetic.canvas import TILE_PX
from edge_convert.synthetic.lookalikes import LOOK_ALIKE_WEIGHTS, STAND_IN_WEIGHTS
from edge_convert.synthetic.parasites import STAGE_WEIGHTS
from edge_convert.synthetic.render import assign_splits, render_tiles

CALIBRATION = Path(__file__).parents[2] / "calibration_data"
STAGES = set(STAGE_WEIGHTS)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def render(folder: Path, *, tiles: int, seed: int, tiles_per_slide: int = 12) -> Path:
    assert list(render_dataset(folder, tiles=tiles, seed=seed, tiles_per_slide=tiles_per_slide))[-1] == tiles
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 tiles of 75 slides."""
    return render(tmp_path_factory.mktemp("synthetic") / "smears", tiles=900, seed=7)


@pytest.fixture(scope="module")
def rows(dataset: Path) -> list[dict[str, str]]:
    return rows_of(dataset)


@pytest.fixture(scope="module")
def pictures(dataset: Path, rows: list[dict[str, str]]) -> NDArray[np.uint8]:
    """(900, 224, 224, 3) uint8 RGB."""
    return np.stack([decode((dataset / row["path"]).read_bytes()) for row in rows])


@pytest.fixture(scope="module")
def infected(rows: list[dict[str, str]]) -> NDArray[np.bool_]:
    return np.array([row["label"] == "parasite" for row in rows])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    once, again = (render(tmp_path / name, tiles=36, seed=3) for name in ("once", "again"))
    assert contents(once) == contents(again)


def test_another_seed_gives_other_pictures(tmp_path: Path) -> None:
    pictures = [
        {data for path, data in contents(render(tmp_path / str(seed), tiles=36, seed=seed)).items() if "images" in path}
        for seed in (3, 4)
    ]
    assert not pictures[0] & pictures[1]


def test_a_tile_does_not_depend_on_how_many_are_rendered() -> None:
    few = [tile.jpeg for tile in render_tiles(5, 20, 12)]
    many = [tile.jpeg for tile in render_tiles(5, 40, 12)]
    assert many[:20] == few


def test_the_manifest_has_the_columns_of_a_real_one(dataset: Path, rows: list[dict[str, str]]) -> None:
    header = (dataset / "manifest.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "path,label,group,split,stage,boxes_xywh"
    assert len(rows) == len({row["path"] for row in rows}) == 900
    assert {row["label"] for row in rows} == {"parasite", "no_parasite"}
    assert all(row["path"].startswith(f"images/{row['group']}_tile") for row in rows)


def test_it_says_that_it_is_not_patient_data(dataset: Path) -> None:
    facts = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert facts["name"] == "synthetic-thin-smear"
    assert facts["synthetic"] is True
    assert facts["source"] == "rendered by edge-screen, seed 7; not patient data"
    assert facts["licence"] == "Apache-2.0"


def test_every_tile_is_a_224_px_colour_picture(pictures: NDArray[np.uint8]) -> None:
    assert pictures.shape == (900, TILE_PX, TILE_PX, 3)
    assert TILE_PX == 224


def test_positives_have_boxes_and_stages_and_negatives_neither(rows: list[dict[str, str]]) -> None:
    for row in rows:
        boxes = json.loads(row["boxes_xywh"] or "[]")
        stages = set(filter(None, row["stage"].split(";")))
        assert stages <= STAGES
        assert bool(boxes) == bool(stages) == (row["label"] == "parasite")
        assert len(stages) <= len(boxes) <= 2


def test_boxes_lie_inside_the_tile_and_hold_a_cell(rows: list[dict[str, str]]) -> None:
    for row in rows:
        for x, y, width, height in json.loads(row["boxes_xywh"] or "[]"):
            assert all(isinstance(value, int) for value in (x, y, width, height))
            assert x >= 0
            assert y >= 0
            assert x + width <= TILE_PX
            assert y + height <= TILE_PX
            assert min(width, height) >= 30
            assert max(width, height) <= 130


def test_a_box_is_where_an_infected_tile_differs_from_glass(
    rows: list[dict[str, str]], pictures: NDArray[np.uint8]
) -> None:
    """Red cells and parasites absorb green: inside a box it is darker than the brightest tenth of the tile."""
    for row, picture in zip(rows, pictures, strict=True):
        glass = np.percentile(picture[..., 1], 90)
        for x, y, width, height in json.loads(row["boxes_xywh"] or "[]"):
            assert picture[y : y + height, x : x + width, 1].mean() < glass


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_is_in_training_and_held_out(rows: list[dict[str, str]], stage: str) -> None:
    splits = {row["split"] for row in rows if stage in row["stage"].split(";")}
    assert splits == {"train", "val", "test"}


def test_no_slide_straddles_two_splits(rows: list[dict[str, str]]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[row["group"]].add(row["split"])
    assert len(splits) == 75
    assert all(len(found) == 1 for found in splits.values())


def test_about_70_15_15_percent_of_the_slides_are_in_each_split(rows: list[dict[str, str]]) -> None:
    shares = {name: np.mean([row["split"] == name for row in rows]) for name in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.70, "val": 0.15, "test": 0.15}, abs=0.02)


@pytest.mark.parametrize(("tiles", "tiles_per_slide"), [(36, 12), (40, 12), (18, 6), (61, 20)])
def test_every_split_holds_both_labels_however_small(tmp_path: Path, tiles: int, tiles_per_slide: int) -> None:
    found = defaultdict(set)
    for row in rows_of(render(tmp_path / "small", tiles=tiles, seed=11, tiles_per_slide=tiles_per_slide)):
        found[row["split"]].add(row["label"])
    assert found == {name: {"parasite", "no_parasite"} for name in ("train", "val", "test")}


def test_every_slide_holds_both_labels(rows: list[dict[str, str]]) -> None:
    """A slide's stain or light must not tell the label."""
    labels = defaultdict(set)
    for row in rows:
        labels[row["group"]].add(row["label"])
    assert all(len(found) == 2 for found in labels.values())


def test_splits_are_dealt_by_the_seed() -> None:
    assert assign_splits(1, full_slides=40) == assign_splits(1, full_slides=40)
    assert assign_splits(1, full_slides=40) != assign_splits(2, full_slides=40)


def test_one_tile_in_six_is_infected(infected: NDArray[np.bool_]) -> None:
    assert infected.mean() == pytest.approx(1 / 6, abs=0.03)


def test_look_alikes_are_in_positive_and_negative_tiles_alike() -> None:
    tiles = list(render_tiles(9, 240, 12))
    kinds = {
        label: {kind for tile in tiles if tile.label == label for kind in tile.look_alikes}
        for label in ("parasite", "no_parasite")
    }
    assert kinds["no_parasite"] == set(LOOK_ALIKE_WEIGHTS)
    assert len(kinds["parasite"]) >= 6
    assert set(STAND_IN_WEIGHTS) <= set(LOOK_ALIKE_WEIGHTS)


def separation(infected: NDArray[np.bool_], statistic: NDArray[np.float64]) -> float:
    """AUC of one number in the better direction: 0.5 tells nothing."""
    auc = float(roc_auc_score(infected, statistic))
    return max(auc, 1 - auc)


@pytest.mark.parametrize("name", ["red", "green", "blue", "brightness", "contrast", "share_of_cells", "bytes"])
def test_a_trivial_statistic_does_not_tell_the_label(
    dataset: Path, rows: list[dict[str, str]], pictures: NDArray[np.uint8], infected: NDArray[np.bool_], name: str
) -> None:
    green = pictures[..., 1]
    statistics = {
        "red": lambda: pictures[..., 0].mean((1, 2)),
        "green": lambda: green.mean((1, 2)),
        "blue": lambda: pictures[..., 2].mean((1, 2)),
        "brightness": lambda: pictures.mean((1, 2, 3)),
        "contrast": lambda: green.std((1, 2)),
        "share_of_cells": lambda: (green < 0.85 * np.percentile(green, 95, (1, 2), keepdims=True)).mean((1, 2)),
        "bytes": lambda: np.array([(dataset / row["path"]).stat().st_size for row in rows]),
    }
    assert separation(infected, statistics[name]()) < 0.65


def test_a_linear_probe_on_raw_pixels_does_not_tell_the_label(
    rows: list[dict[str, str]], pictures: NDArray[np.uint8], infected: NDArray[np.bool_]
) -> None:
    """Whoever reports a good AUC on this set has more than a template of mean colours."""
    small = np.stack([shrink(picture, 32, 32) for picture in pictures]).reshape(len(pictures), -1) / 255
    train = np.array([row["split"] == "train" for row in rows])
    scaler = StandardScaler().fit(small[train])
    probe = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=300)
    probe.fit(scaler.transform(small[train]), infected[train])
    assert roc_auc_score(infected[~train], probe.decision_function(scaler.transform(small[~train]))) < 0.75


@pytest.mark.parametrize("holds", ["a file", "is a file"])
def test_a_folder_in_use_is_refused_before_anything_is_rendered(tmp_path: Path, holds: str) -> None:
    target = tmp_path / "smears"
    if holds == "a file":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    else:
        target.write_text("mine")
    with pytest.raises(DataError) as caught:
        render_dataset(target, tiles=36, seed=1)
    assert str(target) in caught.value.message
    assert "new folder" in caught.value.remedy


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "smears").mkdir()
    assert len(rows_of(render(tmp_path / "smears", tiles=18, seed=1, tiles_per_slide=6))) == 18


@pytest.mark.parametrize(
    ("tiles", "tiles_per_slide", "remedy"), [(35, 12, "36 tiles or more"), (30, 5, "6 tiles a slide or more")]
)
def test_too_few_tiles_are_refused(tmp_path: Path, tiles: int, tiles_per_slide: int, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        render_dataset(tmp_path / "smears", tiles=tiles, seed=1, tiles_per_slide=tiles_per_slide)
    assert remedy in caught.value.remedy


def test_stopping_half_way_leaves_nothing(tmp_path: Path) -> None:
    progress = render_dataset(tmp_path / "smears", tiles=36, seed=1)
    assert [next(progress) for _ in range(18)] == list(range(1, 19))
    assert not (tmp_path / "smears").exists()
    progress.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_being_killed_half_way_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edge_convert.synthetic import render_dataset\n"
        "for done in render_dataset(Path(sys.argv[1]), tiles=6000, seed=1): print(done, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "smears"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.kill()
    assert not (tmp_path / "smears").exists()
    assert len(rows_of(render(tmp_path / "smears", tiles=18, seed=1, tiles_per_slide=6))) == 18


def test_the_calibration_files_are_the_ones_that_were_committed() -> None:
    rows = rows_of(CALIBRATION)
    assert list(rows[0]) == ["path", "label", "group", "stage", "boxes_xywh", "sha256"]
    assert {row["path"] for row in rows} == {f"images/{file.name}" for file in (CALIBRATION / "images").iterdir()}
    for row in rows:
        data = (CALIBRATION / row["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"], row["path"]
        assert decode(data).shape == (TILE_PX, TILE_PX, 3)


def test_the_calibration_set_is_small_and_covers_the_stages() -> None:
    rows = rows_of(CALIBRATION)
    assert len(rows) == 100
    assert sum((CALIBRATION / row["path"]).stat().st_size for row in rows) < 1_200_000
    assert {stage for row in rows for stage in row["stage"].split(";")} == STAGES | {""}
    assert len({row["group"] for row in rows}) >= 40
    assert all(row["group"].startswith("calibration_") for row in rows)
    assert json.loads((CALIBRATION / "dataset.json").read_text(encoding="utf-8"))["synthetic"] is True


def test_the_calibration_set_made_again_is_the_same(tmp_path: Path) -> None:
    """The same tiles and truth; the bytes of a JPEG may differ with another version of OpenCV."""
    write_calibration_set(tmp_path / "fresh")
    committed, fresh = (
        [{**row, "sha256": ""} for row in rows_of(folder)] for folder in (CALIBRATION, tmp_path / "fresh")
    )
    assert fresh == committed


def test_calibration_refuses_a_folder_in_use() -> None:
    with pytest.raises(DataError, match="not empty"):
        write_calibration_set(CALIBRATION)
