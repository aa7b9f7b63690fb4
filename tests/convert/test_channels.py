"""Channels removed: what is left computes the same, was chosen by what it costs, and is built again from disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channel_networks import BACKBONES, a_network, a_recipe, a_set, half_of, with_statistics
from random_networks import as_prepared, settle, smooth_noise

from edge.errors import EdgeError, RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import build_classifier, load_classifier, run_batches, save_weights, scaled
from edge_convert.progress import Progress, Steps, finish
from edge_convert.prune import magnitude
from edge_convert.prune.channels import Decision, nearest, prune_channels
from edge_convert.prune.choose import Chooser, UniformChooser, composed
from edge_convert.prune.clock import OwnClock
from edge_convert.prune.cut import Plan, cut, masked
from edge_convert.prune.graph import ChannelGraph
from edge_convert.prune.importance import importance
from edge_convert.prune.latency import Grid, LatencyTable, costly_layers, measure_table
from edge_convert.prune.piece import Piece, as_tflite
from edge_convert.prune.plan_file import PLAN, StepRecord, load_record, save_record
from edge_convert.recipe import PruneRecipe
from edge_runtime.interpreter import find_interpreter
from edge_runtime.timing import Costs


@pytest.mark.parametrize(("backbone", "network"), BACKBONES)
def test_a_network_without_channels_computes_what_it_did_with_zeros_in_their_place(
    backbone: str, network: dict[str, Any]
) -> None:
    recipe = a_recipe(backbone, **network)
    keras().utils.set_random_seed(1)
    model = with_statistics(build_classifier(recipe))
    plan = half_of(ChannelGraph(model))
    smaller = cut(model, plan)
    pictures = np.random.default_rng(2).normal(0, 0.5, (2, *model.input.shape[1:])).astype(np.float32)
    found, expected = (network(pictures, training=False).numpy() for network in (smaller, masked(model, plan)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert smaller.count_params() < 0.4 * model.count_params()


def test_channels_are_tied_by_sums_products_and_whatever_computes_each_on_its_own() -> None:
    graph = ChannelGraph(a_network())
    assert {name: group.size for name, group in graph.groups.items()} == {
        "stem": 16,
        "first_expand": 32,
        "second_expand": 48,
        "second_squeeze": 8,
        "wing0": 8,
        "wing1": 8,
        "hidden": 24,
    }
    assert graph.groups["stem"].makers == ("stem", "first_project", "second_project")
    assert set(graph.groups["stem"].takers) == {"first_expand", "second_expand", "wing0", "wing1"}
    assert graph.groups["second_expand"].makers == ("second_expand", "second_excite")
    assert graph.groups["second_expand"].carriers == ("second_bn", "second_depthwise")
    assert set(graph.groups["second_expand"].takers) == {"second_squeeze", "second_project"}
    assert [branch.name for branch in graph.branches] == ["first_add", "second_add"]
    assert "stem" not in graph.branches[0].layers


def test_two_cuts_one_after_the_other_are_the_cut_of_their_composed_plan() -> None:
    model = a_network()
    first = half_of(ChannelGraph(model))
    once = cut(model, first)
    then = half_of(ChannelGraph(once), seed=5)
    pictures = np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype(np.float32)
    twice, together = cut(once, then), cut(model, composed(first, then))
    np.testing.assert_array_equal(twice(pictures).numpy(), together(pictures).numpy())


def test_what_is_not_known_to_work_channel_by_channel_is_left_whole() -> None:
    layers = keras().layers
    picture = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 1, name="before")(picture)
    x = layers.LayerNormalization(name="over_channels")(x)
    x = layers.Conv2D(16, 1, name="after")(x)
    model = keras().Model(picture, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert list(ChannelGraph(model).groups) == ["after"]


def test_a_plan_of_another_network_is_a_sentence() -> None:
    model = a_network()
    for plan in (Plan(kept={"elsewhere": (0, 1)}), Plan(dropped=("elsewhere",)), Plan(kept={"stem": (3, 99)})):
        with pytest.raises(EdgeError, match="channel plan"):
            cut(model, plan)


def test_taylor_importance_is_the_squared_slope_of_the_loss_along_a_channels_share() -> None:
    """Against finite differences: scale what every reader of a channel reads of it by 1 + e and 1 - e."""
    recipe = a_recipe()
    recipe = replace(recipe, train=replace(recipe.train, batch=16, class_weights="none"))
    prepared = a_set(24, 8)
    model = a_network()
    scores = finish(importance(recipe, ChannelGraph(model), prepared))
    tf, rows = tensorflow(), prepared.rows("train")
    wanted = np.eye(2, dtype=np.float32)[prepared.targets[rows]]
    scaled = (prepared.pictures[rows].astype(np.float32) - 127) / np.float32(127.5)

    def loss() -> float:
        return float(tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, model(scaled, training=False))))

    for group, channel in (("stem", 3), ("second_expand", 7)):
        losses = []
        for factor in (1.01, 0.99):
            before = model.get_weights()
            for taker in map(model.get_layer, ChannelGraph(model).groups[group].takers):
                kernel = taker.kernel.numpy()
                kernel[..., channel, :] *= factor
                taker.kernel.assign(kernel)
            losses.append(loss())
            model.set_weights(before)
        slope = (losses[0] - losses[1]) / 0.02
        assert scores[group][channel] == pytest.approx(slope**2, rel=0.05)


def test_importance_by_scale_needs_batch_normalisation() -> None:
    recipe = a_recipe()
    recipe = replace(recipe, prune=replace(recipe.prune, importance="bn-scale"))
    prepared = a_set(12, 8)
    with pytest.raises(RecipeError, match="no batch normalisation follows"):
        finish(importance(recipe, ChannelGraph(a_network()), prepared))
    model = with_statistics(build_classifier(recipe))
    scores = finish(importance(recipe, ChannelGraph(model), prepared))
    gammas = [np.abs(model.get_layer(f"conv_{name}_bn").gamma.numpy()) for name in ("pw_1", "dw_2")]
    np.testing.assert_allclose(scores["conv_pw_1"], np.mean(gammas, axis=0))


def test_a_piece_is_timed_at_fewer_channels_where_any_of_its_layers_may_lose_some(tmp_path: Path) -> None:
    """Two convolutions of one shape: what follows the later one fixes its channels, those of the earlier may go."""
    layers = keras().layers
    picture = keras().Input((8, 8, 3))
    x = layers.Conv2D(16, 1, name="stem")(picture)
    x = layers.Conv2D(16, 1, name="free")(x)
    x = layers.Conv2D(16, 1, name="fixed")(x)
    x = layers.LayerNormalization()(x)
    model = keras().Model(picture, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    graph = ChannelGraph(model)
    assert "free" in graph.groups
    assert "fixed" not in graph.groups
    table = finish(measure_table(graph, tmp_path / "latency.json", OwnClock()))
    rows = json.loads((tmp_path / "latency.json").read_text())["rows"]
    (grid,) = (row["grid"] for row in rows if row["piece"]["kind"] == "conv" and row["piece"]["taken"] == 16)
    assert grid["given"] == [8, 16]
    assert {layer.piece for layer in table.layers if layer.name == "free"} == {
        layer.piece for layer in table.layers if layer.name == "fixed"
    }


@pytest.mark.parametrize(
    ("piece", "shape"),
    [
        (Piece(kind="conv", rows=9, columns=7, taken=8, given=24, kernel=(3, 3), stride=(2, 2)), (1, 5, 4, 24)),
        (Piece(kind="conv", rows=9, columns=9, taken=8, given=16, kernel=(3, 3), same=False), (1, 7, 7, 16)),
        (Piece(kind="depthwise", rows=8, columns=8, taken=16, given=16, kernel=(5, 5)), (1, 8, 8, 16)),
        (Piece(kind="dense", rows=1, columns=1, taken=40, given=2), (1, 2)),
        (Piece(kind="add", rows=4, columns=4, taken=8, given=8), (1, 4, 4, 8)),
        (Piece(kind="multiply", rows=4, columns=4, taken=8, given=8), (1, 4, 4, 8)),
        (Piece(kind="logistic", rows=4, columns=4, taken=8, given=8), (1, 4, 4, 8)),
        (Piece(kind="mean", rows=4, columns=4, taken=8, given=8), (1, 8)),
        (Piece(kind="max_pool", rows=4, columns=4, taken=8, given=8, kernel=(2, 2), stride=(2, 2)), (1, 2, 2, 8)),
        (Piece(kind="average_pool", rows=4, columns=4, taken=8, given=8, kernel=(2, 2), stride=(2, 2)), (1, 2, 2, 8)),
    ],
    ids=lambda value: value.kind if isinstance(value, Piece) else "",
)
def test_every_kind_of_piece_runs_in_the_runtimes_interpreter(piece: Piece, shape: tuple[int, ...]) -> None:
    interpreter = find_interpreter()[1](model_content=as_tflite(piece), num_threads=1)
    interpreter.allocate_tensors()
    (output,) = interpreter.get_output_details()
    interpreter.invoke()
    assert tuple(output["shape"]) == shape
    assert output["dtype"] == np.int8


def test_a_table_is_measured_once_and_grows_with_the_channels(tmp_path: Path) -> None:
    graph = ChannelGraph(build_classifier(a_recipe("mobilenet", side_px=64, width=1.0)))
    table = finish(measure_table(graph, tmp_path / "latency.json", OwnClock()))
    layer = next(layer for layer in table.layers if layer.name == "conv_pw_11")
    assert table.layer_cost(layer, 512, 512) > 2 * table.layer_cost(layer, 128, 128) > 0
    steps: list[Progress] = []
    again = finish(measure_table(graph, tmp_path / "latency.json", OwnClock()), steps.append)
    assert not steps, "nothing is measured again"
    assert again.layer_cost(layer, 200, 384) == table.layer_cost(layer, 200, 384)


def chooser_of(model: Any, scores: dict[str, Any], kind: type[Chooser] = Chooser, unit: float = 1) -> Chooser:
    """A table in which a convolution's microseconds are its channels in times those out, by 100."""
    graph = ChannelGraph(model)
    layers = costly_layers(graph)
    grids = {
        layer.piece: Grid(
            taken=(0, layer.piece.taken),
            given=(0, layer.piece.given),
            costs=((0.0, 0.0), (0.0, unit * layer.piece.taken * layer.piece.given / 100)),
        )
        for layer in layers
    }
    return kind(graph, LatencyTable(layers, grids), scores)


def test_what_is_missed_least_for_its_time_goes_first_and_in_eights() -> None:
    model = a_network()
    graph = ChannelGraph(model)
    scores = {name: np.full(group.size, 1.0) for name, group in graph.groups.items()}
    scores["first_expand"] = np.where(np.arange(32) % 2 == 0, 1e-6, 1.0)
    chooser = chooser_of(model, scores)
    plan = chooser.reach(0.95 * chooser.cost())
    # The even channels of this group are worth nothing, and 8 of the 16 are enough.
    assert set(plan.kept) == {"first_expand"}
    gone = set(range(32)) - set(plan.kept["first_expand"])
    assert len(gone) == 8
    assert all(channel % 2 == 0 for channel in gone)
    scores["first_expand"] = np.full(32, 1e-9)
    chooser = chooser_of(model, scores)
    assert "first_add" in chooser.reach(0.7 * chooser.cost()).dropped, "a block that is worth nothing goes whole"


@pytest.mark.parametrize("unit", [1e-3, 1e-9])
def test_the_choice_does_not_hang_on_the_unit_of_the_costs(unit: float) -> None:
    model = a_network()
    scores = {name: np.arange(group.size, dtype=float) for name, group in ChannelGraph(model).groups.items()}
    plans = []
    for factor in (1.0, unit):
        chooser = chooser_of(model, scores, unit=factor)
        plans.append(chooser.reach(0.5 * chooser.cost()))
    assert plans[0] == plans[1]
    assert plans[0].kept


def test_uniform_leaves_the_same_share_of_every_group_and_its_best_channels() -> None:
    model = a_network()
    graph = ChannelGraph(model)
    scores = {name: np.arange(group.size, dtype=float) for name, group in graph.groups.items()}
    chooser = chooser_of(model, scores, UniformChooser)
    plan = chooser.reach(0.3 * chooser.cost())
    assert not plan.dropped
    assert {name: len(kept) for name, kept in plan.kept.items()} == {
        "stem": 8,
        "first_expand": 16,
        "second_expand": 24,
        "hidden": 8,
    }
    assert plan.kept["second_expand"] == tuple(range(24, 48))


def test_the_least_that_is_left_of_a_group_is_eight_channels() -> None:
    model = a_network()
    graph = ChannelGraph(model)
    plan = chooser_of(model, {name: np.arange(group.size) / 1e3 for name, group in graph.groups.items()}).reach(0.0)
    assert plan.kept
    assert all(len(kept) == 8 for kept in plan.kept.values())
    cut(model, plan)


def taken(steps: Steps[Any], until: str) -> None:
    """Run until a note begins so, and stop there as a kill would: nothing more is done."""
    for step in steps:
        if step.note.startswith(until):
            steps.close()
            return
    raise AssertionError(f"no note begins with {until!r}")


@pytest.mark.parametrize(("measured", "kept"), [((0.38, 0.395, 0.41), 0.395), ((0.45, 0.41, 0.43), 0.41)])
def test_of_what_a_step_tried_the_slowest_that_is_quick_enough_is_kept(
    measured: tuple[float, ...], kept: float
) -> None:
    tried = [
        Decision(
            cut=Plan(),
            record=StepRecord(step=1, wanted=0.4, predicted=0.4, measured=share),
            costs=Costs(machine="some", unit="instructions", costs=(100, 100 * share)),
        )
        for share in measured
    ]
    assert nearest(tried).record.measured == kept


def test_a_network_pruned_in_a_step_is_built_again_from_disk(tmp_path: Path) -> None:
    recipe = a_recipe(side_px=64, width=0.5)
    recipe = replace(recipe, prune=replace(recipe.prune, steps=1))
    prepared = a_set(24, 64)
    model = with_statistics(build_classifier(recipe))
    before = [w.copy() for w in model.get_weights()]
    steps = prune_channels(recipe, model, prepared, folder=tmp_path, table=tmp_path / "latency.json")
    smaller, history, record = finish(steps)
    assert [(epoch.phase, epoch.epoch) for epoch in history] == [("prune, step 1", 0), ("prune, step 1", 1)]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)), "the trained one stays"
    save_record(tmp_path / PLAN, record)
    save_weights(smaller, tmp_path / "weights.npz")
    assert load_record(tmp_path / PLAN) == record
    loaded = load_classifier(recipe, tmp_path / "weights.npz")
    pictures = np.random.default_rng(2).normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(pictures).numpy(), smaller(pictures).numpy())
    assert record.parameters_after == loaded.count_params() < record.parameters_before
    assert 0 < record.measured < 0.9
    assert json.loads(json.dumps(record.summary()))["sentences"]


def test_a_step_that_breaks_the_network_is_undone_and_the_reason_is_on_record(tmp_path: Path) -> None:
    """The unpruned network's own answers are the labels, so it is never wrong; what is left of it at the least is."""
    recipe = a_recipe(side_px=32)
    recipe = replace(recipe, prune=replace(recipe.prune, target_latency=0.05, steps=1, most_auc_lost=0.0))
    prepared = as_prepared(smooth_noise(96, 1, 32))
    model, backbone = build_classifier(recipe), find_backbone(recipe.network.backbone)
    settle(model, scaled(prepared.pictures, backbone))
    logits = np.concatenate(list(run_batches(model, prepared.pictures, np.arange(96), backbone)))
    yes = logits[:, 1] - logits[:, 0]
    prepared = replace(prepared, targets=(yes > np.median(yes)).astype(prepared.targets.dtype))
    steps = prune_channels(recipe, model, prepared, folder=tmp_path, table=tmp_path / "latency.json")
    left, history, record = finish(steps)
    assert (left.count_params(), history) == (model.count_params(), [])
    assert record.steps[0].undone.startswith("it would have lost 0.")
    assert record.measured == 1
    assert any("step 1 was undone: it would have lost" in line for line in record.sentences())
    assert record.sentences()[-1] == "the wanted share was not reached: 1.000 instead of 0.05"


@pytest.mark.slow
def test_pruning_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """Stopped after each decision: the decision stands, and the training gives what it gives unstopped."""
    recipe = a_recipe(side_px=64, width=0.5)
    prepared = a_set(24, 64)
    model = with_statistics(build_classifier(recipe))

    def pruning() -> Steps[Any]:
        return prune_channels(recipe, model, prepared, folder=tmp_path, table=tmp_path / "latency.json")

    taken(pruning(), "step 1")
    decided = (tmp_path / "step-1.json").read_bytes()
    taken(pruning(), "step 2")
    assert (tmp_path / "step-1.json").read_bytes() == decided
    smaller, history, record = finish(pruning())
    assert [step.step for step in record.steps] == [1, 2]
    assert {epoch.phase for epoch in history} == {"prune, step 1", "prune, step 2"}
    for trained in tmp_path.glob("step-*.npz"):
        trained.unlink()
    again, its_history, its_record = finish(pruning())
    assert (its_history, its_record) == (history, record)
    assert all(np.array_equal(a, b) for a, b in zip(smaller.get_weights(), again.get_weights(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "pattern", "share"), [("constant", "any", 0.6), ("polynomial", "2:4", 0.5)], ids=["constant", "2:4"]
)
def test_zeros_come_by_other_schedules_and_patterns_too(schedule: Any, pattern: Any, share: float) -> None:
    recipe = a_recipe()
    recipe = replace(
        recipe, prune=PruneRecipe(sparsity=0.6, schedule=schedule, pattern=pattern, epochs=2, learning_rate=1e-4)
    )
    model, _, rows = finish(magnitude.prune(recipe, with_statistics(build_classifier(recipe)), a_set(24, 32)))
    chosen = magnitude.choose_layers(model)
    assert [row.sparsity for row in rows if row.layer in chosen] == pytest.approx([share] * len(chosen), abs=0.02)
    if pattern == "2:4":
        kernel = model.get_layer(chosen[0]).get_weights()[0]
        of_four = (kernel == 0).reshape(-1, kernel.shape[-2] // 4, 4, kernel.shape[-1]).sum(axis=2)
        assert (of_four == 2).all(), "two of each four neighbours that one output reads"
