"""A map is judged by what it marks and by what the score does without it; kinds of map are asked for by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyBuild, edge

from edge.dataset import read_dataset
from edge.errors import EdgeError
from edge_runtime.faithfulness import Faithfulness, Removal, describe, judge_map, summarise
from edge_runtime.pipeline import Screener
from edge_runtime.saliency import refine


def test_two_layers_that_agree_on_a_place_keep_their_scale_and_either_one_can_darken_it() -> None:
    coarse = np.array([[4.0, -2.0], [4.0, 9.0]], np.float32)
    fine = np.array([[9.0, 5.0], [-3.0, -1.0]], np.float32)
    np.testing.assert_allclose(refine(coarse, fine), [[6.0, -2.0], [-3.0, -1.0]])


def test_a_map_of_a_coarse_layer_is_enlarged_to_the_finer_one() -> None:
    assert refine(np.ones((3, 3), np.float32), np.full((6, 6), 4.0, np.float32)).shape == (6, 6)
    np.testing.assert_allclose(refine(np.ones((3, 3), np.float32), np.full((6, 6), 4.0, np.float32)), 2.0, atol=1e-6)


@pytest.fixture(scope="module")
def screener(tiny_build: TinyBuild) -> Screener:
    return Screener.open(tiny_build.bundle)


def test_a_curve_begins_at_the_picture_and_ends_at_its_blur(screener: Screener, tiny_data: Path) -> None:
    picture = next(s.path for s in read_dataset(tiny_data).samples)
    screening = screener.screen_file(picture)
    side = screening.tensor.shape[0]
    order = np.arange(side * side)
    removal = Removal(screener.score, screening.tensor)
    deletion, insertion = removal.curves(order)
    assert 0 <= deletion <= 1
    # The reverse order takes the same pixels away in the end: what one curve loses first the other loses last.
    deletion_back, insertion_back = removal.curves(order[::-1])
    assert deletion == pytest.approx(insertion_back, abs=0.02)
    assert insertion == pytest.approx(deletion_back, abs=0.02)


def test_the_random_order_is_run_once_for_all_maps_of_a_picture(screener: Screener, tiny_data: Path) -> None:
    picture = next(s.path for s in read_dataset(tiny_data).samples)
    removal = Removal(screener.score, screener.screen_file(picture).tensor)
    assert removal.at_random is removal.at_random


def test_a_peak_in_the_marked_box_is_a_hit_and_elsewhere_a_miss(screener: Screener, tiny_data: Path) -> None:
    from dataclasses import replace

    sample = next(s for s in read_dataset(tiny_data).samples if s.boxes)
    screening = screener.screen_file(sample.path, explain=True)
    assert screening.heat is not None
    x, y, width, height = sample.boxes[0]
    side = screening.heat.shape[0]
    high, wide = screening.whole().shape[:2]
    heat = np.zeros_like(screening.heat)
    heat[int((y + height / 2) / high * side), int((x + width / 2) / wide * side)] = 3
    removal = Removal(screener.score, screening.tensor)
    on = judge_map(replace(screening, heat=heat), removal, sample.boxes[:1])
    off = judge_map(replace(screening, heat=heat[::-1, ::-1].copy()), removal, [(0.0, 0.0, 16.0, 16.0)])
    assert (on.hit, off.hit) == (True, False)
    assert on.iou is not None
    assert on.iou > 0
    found = summarise([on, off])
    assert found is not None
    assert (found.n, found.n_boxes) == (2, 2)
    assert found.pointing is not None
    assert found.pointing.value == 0.5


def test_without_boxes_pointing_and_overlap_are_left_out() -> None:
    found = Faithfulness(
        n=3, n_boxes=0, pointing=None, iou=None, deletion=0.1, insertion=0.9, deletion_random=0.5, insertion_random=0.5
    )
    lines = describe(found)
    assert [line.split(":")[0].strip() for line in lines] == ["deletion", "insertion"]
    assert "no finding was referred" in describe(None)[0]


@pytest.mark.parametrize(
    ("deletion", "insertion", "said"),
    [(0.1, 0.9, ""), (0.6, 0.9, "by deletion NO"), (0.1, 0.4, "by insertion NO"), (0.6, 0.4, "deletion and insertion")],
)
def test_a_map_that_is_no_better_than_a_random_order_says_so(deletion: float, insertion: float, said: str) -> None:
    found = Faithfulness(
        n=3,
        n_boxes=0,
        pointing=None,
        iou=None,
        deletion=deletion,
        insertion=insertion,
        deletion_random=0.5,
        insertion_random=0.5,
    )
    assert said in found.doubt
    assert bool(found.doubt) == bool(said)
    assert len(describe(found)) == 2 + bool(said)


def test_evaluate_judges_the_maps_when_asked(tiny_build: TinyBuild) -> None:
    words = ["evaluate", tiny_build.bundle, "--data", tiny_build.data, "--split", "val", "--saliency"]
    done = edge(*words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["saliency"]
    assert found["method"] == "fine"
    assert set(found["build"]) == {"faithfulness", "to_float", "to_grad_cam", "randomised"}
    other = json.loads(edge(*words, "--map", "cam", "--json").stdout)["saliency"]
    assert other["method"] == "cam"
    assert "heat maps (fine)" in edge(*words).stdout


def test_a_kind_of_map_that_the_bundle_has_not_is_refused_with_those_it_has(
    tiny_build: TinyBuild, tmp_path: Path
) -> None:
    with pytest.raises(EdgeError, match="no map of the kind 'grad-cam'") as caught:
        Screener.open(tiny_build.bundle, method="grad-cam")
    assert caught.value.remedy == "use one of: fine, cam"
    picture = next((tiny_build.data / "images").iterdir())
    asked = edge("screen", tiny_build.bundle, picture, "--map", "cam")
    assert asked.returncode == 2
    shown = edge("screen", tiny_build.bundle, picture, "--map", "cam", "--overlay", tmp_path / "maps")
    assert shown.returncode == 0, shown.stderr
