"""Training with rounding: what is computed is what the int8 file computes, and what is learned helps the int8 file."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from random_networks import settle, smooth_noise

from edge.dataset import Sample
from edge.errors import EdgeError, RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.export import export_float
from edge_convert.keras import keras
from edge_convert.network import LOGITS, build_classifier, check_network, scaled
from edge_convert.prepare import Prepared
from edge_convert.progress import finish
from edge_convert.quantize.aware import train_aware, trainable_parts
from edge_convert.quantize.int16 import quantize_int16
from edge_convert.quantize.judge import Judge
from edge_convert.quantize.layers import OUTPUT_AXIS, layers_of, values
from edge_convert.quantize.ranges import Ranges, observe, quantize, ranges_of, read_graph, set_ranges
from edge_convert.quantize.repair import fewer
from edge_convert.quantize.simulate import Graph, rounded_kernel
from edge_convert.quantize.watch import Watched, operation_names, pairs
from edge_convert.recipe import NetworkRecipe, QuantizeRecipe, Recipe, TrainRecipe, read_recipe
from edge_convert.saliency.readout import random_readout
from edge_convert.tflite_file import pack_model
from edge_convert.train import checkpoint
from edge_convert.train.checkpoint import Checkpoint
from edge_convert.train.trainer import Keeping

SIDE_PX = 96
TRAIN = VAL = 32
SPARSE = "alexnet"
"""A network of few layers, half of whose weights are zero, to train with."""
MANY_KINDS = "mobilenetv3-small"
"""Depthwise convolutions, sums, products, means and hard-swish."""
COARSE = 8.0
"""Ranges so many times too wide leave a layer 5 of its 8 bits."""


@functools.cache
def recipe_of(backbone: str) -> Recipe:
    return Recipe(
        name="rounded",
        classes=("no", "yes"),
        positive=("yes",),
        network=NetworkRecipe(backbone=backbone, side_px=SIDE_PX, width=0.25, weights="none"),
        train=TrainRecipe(batch=8, augmentation="none", patience=20),
    )


@functools.cache
def prepared() -> Prepared:
    """Coloured clouds whose labels mean nothing, the same ones in both splits: whether what is learned also holds for
    others is not asked here."""
    count = TRAIN + VAL
    targets = np.arange(count) % 2
    samples = tuple(
        Sample(
            path=Path(f"{row}.png"),
            name=f"{row}.png",
            label=("no", "yes")[target],
            group=str(row),
            split="train" if row < TRAIN else "val",
            boxes=(),
        )
        for row, target in enumerate(targets)
    )
    return Prepared(
        name="clouds",
        synthetic=True,
        has_groups=False,
        fingerprint="",
        classes=("no", "yes"),
        pictures=np.tile(smooth_noise(TRAIN, 5), (2, 1, 1, 1)),
        samples=samples,
        sizes=((SIDE_PX, SIDE_PX),) * count,
        targets=targets.astype(np.int64),
        unreadable=(),
    )


def inputs(backbone: str, rows: slice) -> NDArray[np.float32]:
    return scaled(prepared().pictures[rows], find_backbone(backbone))


@functools.cache
def float32_of(backbone: str) -> bytes:
    """A float32 file of random weights whose probabilities differ from picture to picture."""
    keras().utils.set_random_seed(3)
    recipe = recipe_of(backbone)
    model = build_classifier(recipe)
    settle(model, inputs(backbone, slice(0, TRAIN)))
    if backbone == SPARSE:
        for layer in (layer for layer in model.layers if isinstance(layer, keras().layers.Conv2D)):
            kernel, *bias = layer.get_weights()
            layer.set_weights([np.where(np.abs(kernel) < np.median(np.abs(kernel)), 0, kernel), *bias])
        settle(model, inputs(backbone, slice(0, TRAIN)))
    last = model.get_layer(LOGITS)
    kernel, bias = last.get_weights()
    logits = model(inputs(backbone, slice(0, TRAIN)), training=False).numpy()
    factor = 1.5 / np.ptp(logits, axis=1).std()
    last.set_weights([factor * kernel, bias - factor * logits.mean(axis=0)])
    return export_float(recipe, model, random_readout(model))


@functools.cache
def ranges(backbone: str, times: float = 1.0) -> Ranges:
    """Of the convolutions' outputs so many times too wide."""
    float32, entry = float32_of(backbone), find_backbone(backbone)
    found = set_ranges(finish(observe(float32, prepared().pictures[:TRAIN], entry, histograms=False)), entry)
    wide = {place.index for place in Watched(float32).places if place.operation == "CONV_2D"}
    return {key: (times * low, times * high) if key[1] in wide else (low, high) for key, (low, high) in found.items()}


@pytest.mark.parametrize("backbone", [SPARSE, pytest.param(MANY_KINDS, marks=pytest.mark.slow)])
def test_without_rounding_the_graph_computes_what_the_file_does(backbone: str) -> None:
    float32, pictures = float32_of(backbone), inputs(backbone, slice(TRAIN, TRAIN + 2))
    found, watched = Graph(float32).run(pictures), Watched(float32)
    for row, picture in enumerate(pictures):
        watched.run(picture)
        for place in watched.places:
            wanted = watched.read(place)
            np.testing.assert_allclose(
                np.asarray(found[place.index])[row], wanted[0], atol=1e-4 * max(1, np.abs(wanted).max())
            )


@pytest.mark.parametrize("backbone", [SPARSE, pytest.param(MANY_KINDS, marks=pytest.mark.slow)])
def test_with_rounding_each_layer_gives_the_steps_of_the_int8_file(backbone: str) -> None:
    float32, pictures = float32_of(backbone), inputs(backbone, slice(TRAIN, TRAIN + 4))
    int8 = quantize(float32, ranges(backbone))
    graph, real, small = Graph(float32), Watched(float32), Watched(int8)
    rounded = graph.run(pictures, ranges=ranges_of(float32, int8, find_backbone(backbone)))
    plain = graph.run(pictures)
    apart, lost = np.zeros((2, len(pairs(real, small)), len(pictures)))
    for row, picture in enumerate(pictures):
        small.run(picture)
        for column, (wanted, place) in enumerate(pairs(real, small)):
            low, high = small.limits(place)
            for found, steps in ((rounded, apart), (plain, lost)):
                difference = np.abs(np.asarray(found[wanted.index])[row] - small.read(place)[0])
                steps[column, row] = 255 * difference.mean() / (high - low)
    # A tie that falls the other way in one layer moves all that follow, most in a network that has learned nothing.
    assert apart[:3].max() < 0.05
    assert lost[:3].min() > 0.1
    assert np.median(apart) < 0.75 * np.median(lost)


@pytest.mark.parametrize("backbone", [SPARSE, pytest.param(MANY_KINDS, marks=pytest.mark.slow)])
def test_kernels_are_rounded_to_the_bytes_of_the_int8_file(backbone: str) -> None:
    graph, small = Graph(float32_of(backbone)), read_graph(quantize(float32_of(backbone), ranges(backbone)))
    tensors = small.subgraphs[0].tensors
    for layer, its in zip(layers_of(graph.content), layers_of(small), strict=True):
        axis = OUTPUT_AXIS[layer.operation]
        rounded = rounded_kernel(graph.constants[layer.kernel], axis).numpy()
        shape = [1] * rounded.ndim
        shape[axis] = -1
        scale = np.asarray(tensors[its.kernel].quantization.scale, np.float32).reshape(shape)
        steps = np.abs(rounded / scale - values(small, its.kernel))
        # Where a weight lies half way between two steps, either is right.
        assert (steps > 0.01).mean() < 1e-3


def test_an_operation_that_is_not_known_is_a_sentence() -> None:
    content = read_graph(float32_of(SPARSE))
    place = operation_names(content).index("SOFTMAX")
    content.operatorCodes[place].builtinCode = content.operatorCodes[place].deprecatedBuiltinCode = 11
    with pytest.raises(EdgeError, match="L2_NORMALIZATION"):
        Graph(pack_model(content))


@pytest.mark.parametrize("backbone", [SPARSE, pytest.param(MANY_KINDS, marks=pytest.mark.slow)])
def test_all_layers_learn_but_the_last_ones_of_classes_and_maps(backbone: str) -> None:
    graph = Graph(float32_of(backbone))
    learned = {part.tensor for part in trainable_parts(graph, {})}
    still = [layer for layer in layers_of(graph.content) if layer.kernel not in learned]
    last = {graph.logits, graph.outputs["class_activation"], graph.outputs["fine_activation"]}
    assert {layer.output for layer in still} == last


def a_training(keeping: Keeping | None = None, **changed: Any) -> Any:
    """Of the sparse network under ranges that spoil its int8 file."""
    float32 = float32_of(SPARSE)
    wanted: dict[str, Any] = {"epochs": 12, "learning_rate": 5e-5, "keeping": keeping} | changed
    return train_aware(recipe_of(SPARSE), prepared(), float32, quantize(float32, ranges(SPARSE, COARSE)), **wanted)


def test_a_file_that_rounding_spoils_is_mended_and_its_zeros_stay() -> None:
    float32, trained = float32_of(SPARSE), finish(a_training())
    judge = Judge(recipe_of(SPARSE), prepared(), float32)
    before, after = (judge.measure(quantize(file, ranges(SPARSE, COARSE))) for file in (float32, trained))
    assert after.error < 0.8 * before.error
    old, new = read_graph(float32), read_graph(trained)
    changed = zeros = 0
    for layer in layers_of(old):
        was, now = values(old, layer.kernel), values(new, layer.kernel)
        assert (now[was == 0] == 0).all()
        zeros += int((was == 0).sum())
        changed += int((was != now).sum())
    assert zeros > 10_000
    assert changed > 10_000


def test_training_that_brings_nothing_nearer_leaves_the_weights_alone() -> None:
    trained = finish(a_training(epochs=1, learning_rate=1.0))
    old, new = read_graph(float32_of(SPARSE)), read_graph(trained)
    for layer in layers_of(old):
        np.testing.assert_allclose(values(new, layer.kernel), values(old, layer.kernel), rtol=1e-6)


def test_a_training_that_was_killed_ends_with_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHORTEST_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE_OF_TIME", 1e9)
    whole = finish(a_training(epochs=2))
    keeping = Keeping(checkpoint=Checkpoint(tmp_path / "training.npz"))
    steps = a_training(keeping, epochs=2)
    for _ in range(6):
        next(steps)
    steps.close()
    assert Checkpoint(tmp_path / "training.npz").load() is not None
    assert finish(a_training(keeping, epochs=2)) == whole


def test_activations_of_16_bits_lose_less_than_those_of_8() -> None:
    float32, entry = float32_of(SPARSE), find_backbone(SPARSE)
    judge = Judge(recipe_of(SPARSE), prepared(), float32)
    small = quantize_int16(float32, prepared().pictures[:TRAIN], entry)
    eight, sixteen = judge.measure(quantize(float32, ranges(SPARSE))), judge.measure(small, "float32")
    assert sixteen.error < eight.error
    assert sixteen.bytes < 0.35 * len(float32)
    kinds = {tensor.type for tensor in read_graph(small).subgraphs[0].tensors}
    assert {schema.TensorType.INT16, schema.TensorType.INT8} <= kinds


def test_hard_swish_in_16_bits_is_refused_before_anything_is_trained() -> None:
    recipe = replace(recipe_of("mobilenetv3-small"), quantize=QuantizeRecipe(also=("int16",)))
    with pytest.raises(RecipeError, match="hard-swish"):
        check_network(recipe)
    check_network(replace(recipe, network=replace(recipe.network, backbone="mobilenetv3-small-minimalistic")))


@pytest.mark.slow
def test_hard_swish_in_16_bits_is_refused_by_the_converter_too() -> None:
    with pytest.raises(EdgeError, match="HARD_SWISH"):
        quantize_int16(float32_of(MANY_KINDS), prepared().pictures[:2], find_backbone(MANY_KINDS))


def test_fewer_pictures_are_of_every_class_alike() -> None:
    few = fewer(prepared(), 10)
    assert np.bincount(few.targets[few.rows("train")]).tolist() == [5, 5]
    assert few.rows("val").tolist() == prepared().rows("val").tolist()
    assert len(fewer(prepared(), 10_000).rows("train")) == TRAIN
    rare = replace(prepared(), targets=(np.arange(TRAIN + VAL) % 8 == 0).astype(np.int64))
    assert np.bincount(rare.targets[fewer(rare, 10).rows("train")]).tolist() == [6, 4]


def test_a_map_on_request_is_not_trained_with(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        'name = "r"\nclasses = ["a", "b"]\npositive = ["b"]\n[network]\nbackbone = "mobilenetv2"\n'
    )
    with pytest.raises(RecipeError, match=r"aware_epochs.*on_request"):
        read_recipe(tmp_path / "r.toml", changes=("quantize.aware_epochs=1", "saliency.on_request=grad-cam"))
