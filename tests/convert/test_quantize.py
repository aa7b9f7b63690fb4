"""int8: which pictures set the ranges, where error arises, and what mends it; on the shared build's real files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TinyBuild, convert, edge
from numpy.typing import NDArray

from edge.bundle import read_bundle
from edge.errors import EdgeError, RecipeError
from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.card import limits
from edge_convert.export import calibration_pictures, check_integer_only, description
from edge_convert.network import scaled
from edge_convert.prepare import Prepared, load_prepared
from edge_convert.progress import Progress, finish
from edge_convert.quantize.attempt import Attempt, Repair, excess
from edge_convert.quantize.choose_ranges import export_ranged, kind_of_ranges
from edge_convert.quantize.correct import correct_biases
from edge_convert.quantize.coverage import covering_rows, k_centres
from edge_convert.quantize.debug import LayerError, layer_errors, to_csv
from edge_convert.quantize.equalise import equalise
from edge_convert.quantize.judge import Cost, Judge
from edge_convert.quantize.layers import layers_of, own_buffers, set_values, values
from edge_convert.quantize.ranges import END_TO_END, Ranges, observe, quantize, ranges_of, read_graph, set_ranges
from edge_convert.quantize.record import load_quantization, record_of
from edge_convert.quantize.repair import First, repair
from edge_convert.quantize.watch import Watched, pairs
from edge_convert.recipe import GateRecipe, Recipe, read_recipe
from edge_convert.run_folder import RunFolder
from edge_convert.tflite_file import float_operations, pack_model
from edge_convert.tflite_metadata import with_metadata
from edge_convert.verify import load_verification

BACKBONE = find_backbone("efficientnet-lite0")
ROUNDING_STEPS = 12**-0.5
COST = Cost(n=100, error=0, auc=0.9, accuracy=0.9, auc_drop=0, accuracy_drop=0, flips=0, saliency=None, bytes=1)


@pytest.fixture(scope="module")
def recipe(tiny_build: TinyBuild) -> Recipe:
    return read_recipe(tiny_build.recipe)


@pytest.fixture(scope="module")
def prepared(tiny_build: TinyBuild) -> Prepared:
    return load_prepared(tiny_build.run / "data")


@pytest.fixture(scope="module")
def float32(tiny_build: TinyBuild) -> bytes:
    return (tiny_build.run / "quantize/model.float32.tflite").read_bytes()


@pytest.fixture(scope="module")
def built(tiny_build: TinyBuild) -> bytes:
    return (tiny_build.run / "quantize/model.int8.tflite").read_bytes()


@pytest.fixture(scope="module")
def pictures(recipe: Recipe, prepared: Prepared) -> NDArray[np.uint8]:
    return calibration_pictures(recipe, prepared)[1]


@pytest.fixture(scope="module")
def ranges(float32: bytes, pictures: NDArray[np.uint8]) -> Ranges:
    return set_ranges(finish(observe(float32, pictures, BACKBONE, histograms=False)), BACKBONE)


def test_k_centre_takes_the_middle_first_and_then_what_is_furthest_from_all_chosen() -> None:
    points = np.array([[0.0], [4.0], [5.0], [11.0], [4.5]], np.float32)
    assert k_centres(points, 3).tolist() == [2, 3, 0]


def test_k_centre_gives_every_row_where_more_are_asked_for_and_none_twice() -> None:
    same = np.ones((4, 2), np.float32)
    assert sorted(k_centres(same, 9).tolist()) == [0, 1, 2, 3]


def test_no_picture_is_far_from_one_that_covers_it() -> None:
    cloud = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)

    def furthest(rows: NDArray[np.int64]) -> float:
        return float(np.linalg.norm(cloud[:, np.newaxis] - cloud[rows], axis=-1).min(axis=1).max())

    drawn = [np.random.default_rng(seed).permutation(300)[:40] for seed in range(20)]
    assert furthest(k_centres(cloud, 40)) < min(furthest(rows) for rows in drawn)


def test_covering_pictures_are_training_pictures_of_every_class(recipe: Recipe, prepared: Prepared) -> None:
    train = prepared.rows("train")
    embeddings = np.random.default_rng(2).normal(size=(len(train), 4)).astype(np.float32)
    rows = covering_rows(recipe, prepared, embeddings, 10)
    assert len(set(rows.tolist())) == 10
    assert set(rows) <= set(train)
    assert np.bincount(prepared.targets[rows]).tolist() == [5, 5]


def test_a_folder_of_calibration_pictures_is_not_chosen_from(tiny_build: TinyBuild) -> None:
    with pytest.raises(RecipeError, match=r"quantize\.coverage"):
        read_recipe(tiny_build.recipe, changes=("quantize.coverage=k-centre", "quantize.calibration=somewhere"))


def test_the_float_file_with_ranges_gives_what_the_converter_gives(
    recipe: Recipe, prepared: Prepared, float32: bytes, built: bytes, ranges: Ranges
) -> None:
    made = with_metadata(quantize(float32, ranges), description(recipe))
    assert check_integer_only(recipe, made) == ()
    judge = Judge(recipe, prepared, built_as_float(float32))
    ours, theirs = judge.measure(made), judge.measure(built)
    assert ours.error == pytest.approx(theirs.error, abs=2 / 256)


def built_as_float(float32: bytes) -> bytes:
    """Files are read without their metadata too."""
    return pack_model(read_graph(float32))


def test_clipping_never_widens_a_range_and_keeps_zero_inside(float32: bytes, pictures: NDArray[np.uint8]) -> None:
    seen = finish(observe(float32, pictures[:6], BACKBONE))
    whole = set_ranges(seen, BACKBONE)
    for clipped in (
        set_ranges(seen, BACKBONE, clipping="mse"),
        set_ranges(seen, BACKBONE, clipping="percentile", percentile=99.0),
    ):
        for key, (low, high) in clipped.items():
            assert whole[key][0] - 1e-5 <= low <= 0 <= high <= whole[key][1] + 1e-5
        assert sum(high - low for low, high in clipped.values()) < sum(high - low for low, high in whole.values())


def test_every_layer_is_compared_and_a_spoilt_range_is_found(
    float32: bytes, built: bytes, pictures: NDArray[np.uint8], ranges: Ranges
) -> None:
    sound = finish(layer_errors(float32, built, pictures[:4], BACKBONE))
    convolutions = [x for x in sound if x.operation == "CONV_2D"]
    assert len(convolutions) > 30
    steps = [x.own_steps for x in convolutions if x.own_steps is not None]
    assert len(steps) == len(convolutions)
    assert ROUNDING_STEPS / 2 < np.median(steps) < 2 * ROUNDING_STEPS
    middle = sorted(convolutions, key=lambda x: x.order)[len(convolutions) // 2]
    spoilt = dict(ranges)
    ((key),) = [(p.graph, p.index) for p in Watched(float32).places if p.name == middle.name]
    spoilt[key] = (50 * ranges[key][0], 50 * ranges[key][1])
    found = finish(layer_errors(float32, quantize(float32, spoilt), pictures[:4], BACKBONE))
    before, after = by_name(sound)[middle.name], by_name(found)[middle.name]
    assert before.own_db is not None
    assert after.own_db is not None
    assert after.own_db < before.own_db - 20
    assert middle.name in [x.name for x in found[:3]]


def by_name(layers: tuple[LayerError, ...]) -> dict[str, LayerError]:
    return {layer.name: layer for layer in layers}


def test_layers_are_written_in_the_order_of_computation(
    float32: bytes, built: bytes, pictures: NDArray[np.uint8]
) -> None:
    layers = finish(layer_errors(float32, built, pictures[:1], BACKBONE))
    rows = list(csv.DictReader(to_csv(layers).splitlines()))
    assert [int(row["order"]) for row in rows] == sorted(layer.order for layer in layers)


def test_files_of_two_networks_are_not_compared(float32: bytes) -> None:
    content = read_graph(float32)
    content.subgraphs[0].operators.pop()
    with pytest.raises(EdgeError, match="not of one network"):
        pairs(Watched(float32), Watched(pack_model(content)))


def test_bias_correction_takes_back_a_bias_that_was_moved(
    float32: bytes, pictures: NDArray[np.uint8], ranges: Ranges
) -> None:
    sound = quantize(float32, ranges)
    content = read_graph(sound)
    layer = layers_of(content)[-2]
    own_buffers(content, {layer.bias})
    moved = values(content, layer.bias) + 4000
    set_values(content, layer.bias, moved)
    mended = finish(correct_biases(float32, pack_model(content), pictures[:8], BACKBONE))
    assert len(mended) == pytest.approx(len(sound), rel=0.01)

    def mean_error(model: bytes) -> float:
        real, small = Watched(float32), Watched(model)
        ((wanted, found),) = [pair for pair in pairs(real, small) if pair[1].index == layer.output]
        total: Any = 0
        for picture in pictures[:8]:
            real.run(scaled(picture, BACKBONE))
            small.run(scaled(picture, BACKBONE))
            difference = small.read(found) - real.read(wanted)
            total = total + difference.reshape(-1, difference.shape[-1]).mean(axis=0)
        return float(np.abs(total / 8).mean())

    assert mean_error(mended) < 0.2 * mean_error(pack_model(content))
    assert mean_error(mended) <= mean_error(sound)


def test_equalised_channels_compute_the_same_and_fill_the_range(float32: bytes, pictures: NDArray[np.uint8]) -> None:
    even, count = finish(equalise(float32, pictures, BACKBONE))
    assert count > 10
    real, other = Watched(float32), Watched(even)
    wanted, found = [next(p for p in x.places if p.operation == "SOFTMAX") for x in (real, other)]
    for picture in pictures:
        real.run(scaled(picture, BACKBONE))
        other.run(scaled(picture, BACKBONE))
        np.testing.assert_allclose(other.read(found), real.read(wanted), atol=1e-4)
    content = read_graph(float32)
    second = layers_of(content)[2]
    strongest = [
        np.abs(x.read(p)).reshape(-1, x.read(p).shape[-1]).max(axis=0)
        for x in (real, other)
        for p in [p for p in x.places if p.index == second.output]
    ]
    assert np.median(strongest[1]) >= np.median(strongest[0])


def test_a_float_layer_must_have_been_asked_for_and_is_named(recipe: Recipe, float32: bytes, ranges: Ranges) -> None:
    dense = tuple(p.name for p in Watched(float32).places if p.operation in ("FULLY_CONNECTED", "SOFTMAX"))
    mixed = quantize(float32, ranges, float_nodes=dense)
    with pytest.raises(EdgeError, match="stayed float"):
        check_integer_only(recipe, mixed)
    named = check_integer_only(recipe, mixed, dense)
    assert sorted(name.split(" ")[0] for name in named) == ["FULLY_CONNECTED", "SOFTMAX"]
    assert len(float_operations(mixed)) == len(named)


def test_a_mixed_file_screens_through_the_runtime(
    recipe: Recipe, prepared: Prepared, float32: bytes, ranges: Ranges
) -> None:
    dense = tuple(p.name for p in Watched(float32).places if p.operation in ("FULLY_CONNECTED", "SOFTMAX"))
    judge = Judge(recipe, prepared, float32)
    assert judge.measure(quantize(float32, ranges, float_nodes=dense)).error < 0.1


@pytest.mark.parametrize(
    ("cost", "missed"),
    [
        (COST, ()),
        (replace(COST, auc_drop=0.0051), ("AUC",)),
        (replace(COST, accuracy_drop=0.011), ("accuracy",)),
        (replace(COST, flips=0.051), ("flips",)),
        (replace(COST, saliency=0.79), ("maps",)),
        (replace(COST, auc_drop=-0.2, accuracy_drop=-0.2), ()),
    ],
    ids=["none", "auc", "accuracy", "flips", "maps", "better than float32"],
)
def test_a_cost_says_which_gates_it_misses(cost: Cost, missed: tuple[str, ...]) -> None:
    gates = GateRecipe()
    assert cost.misses(gates) == missed
    assert (excess(cost, gates) <= 1) == (not missed)


def asking(recipe: Recipe, ranges: Any, percentile: float = 99.99) -> Recipe:
    return replace(recipe, quantize=replace(recipe.quantize, ranges=ranges, percentile=percentile))


def test_the_kind_of_range_that_is_asked_for_gives_up_the_outer_values(
    recipe: Recipe, prepared: Prepared, float32: bytes, built: bytes
) -> None:
    names, taken = calibration_pictures(recipe, prepared)

    def widths(model: bytes) -> NDArray[np.float64]:
        ends = ranges_of(float32, model, BACKBONE)
        return np.array([high - low for _, (low, high) in sorted(ends.items())], np.float64)

    kinds = (("mse", 99.99, "least squared error"), ("percentile", 98.0, "without the outer 2 %"))
    for kind, percentile, how in kinds:
        found = finish(export_ranged(asking(recipe, kind, percentile), prepared, float32, names, taken))
        assert found.how == how
        assert check_integer_only(recipe, found.model) == ()
        shares = widths(found.model) / widths(built)
        assert shares.max() < 1.02
        assert (shares < 0.95).mean() > 0.3, shares


def test_the_nearest_kind_of_range_is_judged_on_training_pictures_that_set_none(
    recipe: Recipe, prepared: Prepared, float32: bytes
) -> None:
    names, taken = calibration_pictures(recipe, prepared)
    notes: list[str] = []

    def note(step: Progress) -> None:
        if step.note:
            notes.append(step.note)

    found = finish(export_ranged(asking(recipe, "nearest"), prepared, float32, names, taken), note)
    errors = {said.partition(": ")[0]: float(said.rsplit(" ", 1)[1]) for said in notes}
    assert len(errors) == 5
    kept = found.how.partition(",")[0]
    assert errors[kept] == min(errors.values())
    train = {prepared.samples[row].name for row in prepared.rows("train")}
    assert f"on {len(train - set(names))} training pictures" in found.how
    # The figure is the file's own: its probabilities against float32's, here by the judge of the search.
    others = [row for row in prepared.rows("train") if prepared.samples[row].name not in names]
    samples = tuple(replace(s, split="val" if row in others else None) for row, s in enumerate(prepared.samples))
    cost = Judge(recipe, replace(prepared, samples=samples), float32).measure(found.model)
    assert cost.error == pytest.approx(errors[kept], abs=1e-4)


def test_ranges_are_end_to_end_where_relu6_bounds_them_and_chosen_where_nothing_does(recipe: Recipe) -> None:
    bounded = {"mobilenet", "mobilenetv2", "efficientnet-lite0"}
    for name in BACKBONES:
        its = asking(replace(recipe, network=replace(recipe.network, backbone=name)), "auto")
        assert kind_of_ranges(its) == ("min-max" if name in bounded else "nearest")
        assert kind_of_ranges(asking(its, "mse")) == "mse"


@pytest.mark.slow
def test_a_build_whose_ranges_are_the_nearest_says_so_and_explains_as_ever(copied: TinyBuild) -> None:
    done = convert(copied, "--set", "quantize.ranges=nearest", "--set", "saliency.on_request=grad-cam")
    assert done.returncode == 0, done.stderr
    assert "the nearest to float32 of 5 kinds" in read_bundle(copied.bundle).parts["card.md"].decode()


def test_the_bundle_says_how_its_ranges_were_set(tiny_build: TinyBuild) -> None:
    bundle = read_bundle(tiny_build.bundle)
    said = "int8 ranges set by 24 pictures, chosen by: random; from end to end"
    assert said in bundle.manifest.metrics["quantization"]["sentences"]
    assert said in bundle.parts["card.md"].decode()
    assert said in (tiny_build.run / "report.html").read_text()


def test_what_is_said_of_the_first_ranges_is_not_said_of_a_file_with_others(tiny_build: TinyBuild) -> None:
    tried = tuple(Attempt(remedy=remedy, cost=COST, misses=(), seconds=1) for remedy in ("as exported", "clipped"))
    record = record_of(24, "random", "from end to end", Repair(attempts=tried, kept=1, model=b""), ())
    first, kept = record.sentences()
    assert first.startswith("ranges of the int8 file as exported, which was not kept, set by 24 pictures")
    assert kept == "int8 files tried on validation: 2; kept: clipped, which meets the gates"
    evaluation = load_verification(tiny_build.run / "verify").evaluations["val/int8"]
    assert any("the best of 2 that were measured on the validation" in limit for limit in limits(evaluation, record))
    assert not any("the best of" in limit for limit in limits(evaluation, replace(record, tried=tried[:1], kept=0)))


def test_the_command_shows_the_worst_layers_and_leaves_the_build_alone(tiny_build: TinyBuild, tmp_path: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in tiny_build.run.rglob("*"))
    done = edge("quantize", tiny_build.run, "--debug", "--repair", "--pictures", "2", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "own dB" in done.stdout
    assert "as exported" in done.stdout
    assert (tmp_path / "out/layers.svg").exists()
    assert (tmp_path / "out/layers.csv").exists()
    assert load_quantization(tmp_path / "out/repair.json").kept == 0
    assert sorted((p, p.stat().st_mtime_ns) for p in tiny_build.run.rglob("*")) == before


def test_the_command_refuses_what_is_no_build(tmp_path: Path) -> None:
    done = edge("quantize", tmp_path, "--debug", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "holds no quantized build" in done.stderr


def test_the_command_writes_into_no_build_and_over_no_file(tiny_build: TinyBuild, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, words in ((tiny_build.run / "quantize", "which stays as it is"), (tmp_path / "file", "is a file")):
        done = edge("quantize", tiny_build.run, "--debug", "--out", out)
        assert done.returncode == 1
        assert words in done.stderr


def test_a_build_of_another_versions_recipe_is_a_sentence(copied: TinyBuild, tmp_path: Path) -> None:
    with RunFolder(copied.run).writing("quantize", "later", afresh=True) as stage:
        shutil.copytree(copied.run / "quantize", stage, dirs_exist_ok=True)
        (stage / "recipe.json").write_text('{"a": 1}')
    done = edge("quantize", copied.run, "--debug", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "was built by another version, whose recipe has unknown key 'a'" in done.stderr


class ScriptedJudge(Judge):
    """Every file misses every gate, by errors that are given."""

    def __init__(self, recipe: Recipe, prepared: Prepared, float32: bytes, errors: Sequence[float]) -> None:
        super().__init__(recipe, prepared, float32)
        self._errors = iter(errors)

    def measure(self, model: bytes, variant: str = "int8") -> Cost:
        return replace(COST, error=next(self._errors), auc_drop=1, accuracy_drop=1, flips=1)


def test_covering_pictures_get_the_kind_of_range_that_did_best_by_scripted_measures(
    recipe: Recipe, prepared: Prepared, float32: bytes, built: bytes
) -> None:
    wanted = replace(recipe.quantize, repair=True, calibration_pictures=512)
    asked = replace(recipe, quantize=wanted, gates=GateRecipe(min_auc=0.0))
    # Exported, then other ranges of the recipe's own pictures: least squared error, and without three shares.
    judge = ScriptedJudge(recipe, prepared, float32, [0.05, 0.03, 0.02, 0.04, 0.05, 0.06])
    said = []
    for step in repair(asked, prepared, float32, First(model=built, kind=END_TO_END), judge=judge):
        if step.note:
            said.append(step.note)
        if len(said) == 6:
            break
    # From end to end is what the exported file has, and is not tried again.
    assert "pictures; ranges of least squared error: " in said[1]
    assert "k-centre pictures; ranges without the outer 0.001 %: " in said[5]


def test_a_file_that_passes_is_kept_before_one_that_is_nearer_and_misses_by_scripted_measures(
    recipe: Recipe, prepared: Prepared, float32: bytes, built: bytes
) -> None:
    class Better(ScriptedJudge):
        def measure(self, model: bytes, variant: str = "int8") -> Cost:
            cost = super().measure(model, variant)
            # The third one ranks better than float32 by more than the gate asks for, and is not the nearest.
            return replace(COST, error=cost.error, auc_drop=-0.02 if cost.error == 0.04 else 0.0)

    gates = GateRecipe(min_auc=0.0, max_auc_drop=-0.01)
    asked = replace(recipe, quantize=replace(recipe.quantize, repair=True), gates=gates)
    judge = Better(recipe, prepared, float32, [0.02, 0.01, 0.04])
    found = finish(repair(asked, prepared, float32, First(model=built, kind=END_TO_END), judge=judge))
    assert (len(found.attempts), found.kept, found.chosen.passed) == (3, 2, True)


def test_no_file_is_looked_for_where_float32_itself_misses_its_gate_by_scripted_measures(
    recipe: Recipe, prepared: Prepared, float32: bytes, built: bytes
) -> None:
    asked = replace(recipe, quantize=replace(recipe.quantize, repair=True), gates=GateRecipe(min_auc=1.0))
    judge = ScriptedJudge(recipe, prepared, float32, [0.01])
    judge.auc_float = 0.99
    notes: list[str] = []
    found = finish(
        repair(asked, prepared, float32, First(model=built), judge=judge), lambda step: notes.append(step.note)
    )
    assert [attempt.remedy for attempt in found.attempts] == ["as exported"]
    assert "less than gates.min_auc: not searched" in notes[-1]


@pytest.mark.slow
def test_a_search_that_no_file_can_satisfy_tells_all_it_tried(tiny_build: TinyBuild, tmp_path: Path) -> None:
    done = edge(
        *("quantize", tiny_build.run, "--repair", "--out", tmp_path, "--recipe", tiny_build.recipe),
        *("--set", "gates.max_auc_drop=-1"),
    )
    assert done.returncode == 1
    record = load_quantization(tmp_path / "repair.json")
    assert len(record.tried) > 12
    wanted = ("k-centre", "least squared error", "biases corrected", "equalised", "with rounding", "dense layers")
    for words in (*wanted, "activations of 16 bits"):
        assert any(words in tried.remedy for tried in record.tried), words


def test_a_build_measures_its_int8_file_once_and_searches_no_further_where_it_meets_the_gates(
    copied: TinyBuild, tiny_build: TinyBuild
) -> None:
    done = convert(copied, "--set", "quantize.repair=true")
    assert done.returncode == 0, done.stderr
    (only,) = load_quantization(copied.run / "quantize/quantization.json").tried
    assert (only.remedy, only.passed) == ("as exported", True)
    assert "files tried" not in done.stderr
    assert "The search, " not in (copied.run / "report.html").read_text()
    name = "quantize/model.int8.tflite"
    assert (copied.run / name).read_bytes() == (tiny_build.run / name).read_bytes()


@pytest.mark.slow
def test_a_build_whose_search_finds_nothing_says_what_else_there_is(copied: TinyBuild) -> None:
    done = convert(copied, "--set", "quantize.repair=true", "--set", "gates.max_auc_drop=-1")
    assert done.returncode == 1
    assert "MISS  AUC lost by int8" in done.stderr
    assert "quantize: int8 files tried on validation: " in done.stderr
    assert "no int8 file that was searched for meets them; use quantize.also" in done.stderr
    assert "The search, " in (copied.run / "report.html").read_text()


@pytest.mark.slow
def test_a_build_that_trains_with_rounding_keeps_the_file_that_measures_best(
    copied: TinyBuild, tiny_build: TinyBuild
) -> None:
    done = convert(copied, "--set", "quantize.aware_epochs=2")
    assert done.returncode == 0, done.stderr
    record = load_quantization(copied.run / "quantize/quantization.json")
    (trained,) = [n for n, tried in enumerate(record.tried) if "with rounding, 2 epochs" in tried.remedy]
    errors = [tried.cost.error for tried in record.tried if tried.cost is not None]
    assert errors[record.kept] == min(errors)
    assert record.tried[trained].passed
    assert not (copied.run / "quantize/training.npz").exists()
    # The float32 file is not the trained one.
    now, before = (
        read_graph((build.run / "quantize/model.float32.tflite").read_bytes()) for build in (copied, tiny_build)
    )
    for layer, its in zip(layers_of(now), layers_of(before), strict=True):
        np.testing.assert_array_equal(values(now, layer.kernel), values(before, its.kernel))


@pytest.mark.slow
def test_further_files_are_measured_gated_and_packed(tiny_build: TinyBuild, tmp_path: Path) -> None:
    shutil.copytree(tiny_build.run, tmp_path / "run")
    done = edge(
        *("convert", tiny_build.recipe, "--data", tiny_build.data, "--out", tmp_path / "run"),
        *("--set", 'quantize.also=["float16", "dynamic-range", "int16"]', "--set", "decision.calibration=none"),
    )
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(tmp_path / "run/tiny.edge")
    assert set(bundle.manifest.models) == {"int8", "float32", "float16", "dynamic-range", "int16"}
    names = [gate["name"] for gate in bundle.manifest.metrics["gates"]]
    assert "AUC lost by float16" in names
    sizes = {v: len(bundle.model(v)[1]) for v in bundle.manifest.models}
    assert sizes["dynamic-range"] < sizes["float16"] < sizes["float32"]
    picture = next((tiny_build.data).rglob("*.png"), None) or next(tiny_build.data.rglob("*.jpg"))
    for variant in ("float16", "dynamic-range", "int16"):
        done = edge("screen", tmp_path / "run/tiny.edge", picture, "--model", variant, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["decision"] in ("refer", "clear")
