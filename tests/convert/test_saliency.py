"""Maps come out of the exported file as their definitions say: held against TensorFlow's own gradients and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.dataset import Sample
from edge.errors import RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.export import EXPLAIN, MAP, SCREEN, explanation_of, export_float, export_int8, model_entry, outputs_of
from edge_convert.keras import keras, tensorflow
from edge_convert.network import LOGITS, build_classifier, feature_maps, scaled
from edge_convert.prepare import Prepared
from edge_convert.progress import finish
from edge_convert.recipe import NetworkRecipe, Recipe, SaliencyRecipe
from edge_convert.saliency.cut import finer_layer, require_finer_layer
from edge_convert.saliency.evidence import KerasMaps
from edge_convert.saliency.gradient import check_gradient
from edge_convert.saliency.readout import Readout, fit_readout
from edge_runtime import saliency
from edge_runtime.interpreter import Network

SIDE_PX = 96
WITH_GRADIENT = ("mobilenet", "mobilenetv2", "mobilenetv3-small-minimalistic", "efficientnet-lite0", "efficientnetb0")
QUICK = ("mobilenetv2", "efficientnetb0")


def a_recipe(
    backbone: str, *, maps: SaliencyRecipe | None = None, classes: Sequence[str] = ("no", "yes"), **network: Any
) -> Recipe:
    return Recipe(
        name="maps",
        classes=tuple(classes),
        positive=tuple(classes[1:]),
        network=NetworkRecipe(backbone=backbone, **{"side_px": SIDE_PX, "width": 0.35, "weights": "none", **network}),
        saliency=maps or SaliencyRecipe(),
    )


def clouds(count: int, seed: int = 1) -> NDArray[np.uint8]:
    """(count, side, side, 3) uint8, smooth as pictures are."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(c, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for c in coarse])


def a_network(recipe: Recipe) -> Any:
    """Random weights, batch normalisation settled on pictures: else deep networks end in zeros."""
    keras().utils.set_random_seed(1)
    model = build_classifier(recipe)
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    model(scaled(clouds(8), find_backbone(recipe.network.backbone)), training=True)
    return model


def as_prepared(pictures: NDArray[np.uint8]) -> Prepared:
    samples = tuple(
        Sample(
            path=Path(f"{n}.png"), name=f"{n}.png", label=("no", "yes")[n % 2], group=f"{n}", split="train", boxes=()
        )
        for n in range(len(pictures))
    )
    return Prepared(
        name="clouds",
        synthetic=False,
        fingerprint="",
        classes=("no", "yes"),
        samples=samples,
        sizes=((SIDE_PX, SIDE_PX),) * len(pictures),
        pictures=pictures,
        targets=np.arange(len(pictures)) % 2,
        unreadable=(),
        has_groups=True,
    )


def by_tape(recipe: Recipe, model: Any, picture: NDArray[np.uint8], *, hires: bool) -> NDArray[np.float32]:
    tf = tensorflow()
    both = keras().Model(model.input, [model.get_layer(require_finer_layer(model)).output, model.output])
    x = tf.constant(scaled(picture[np.newaxis], find_backbone(recipe.network.backbone)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        maps, logits = both(x, training=False)
        score = logits[0, 1] - logits[0, 0]
    gradient = tape.gradient(score, maps)[0].numpy()
    maps = maps[0].numpy()
    places = maps.shape[0] * maps.shape[1]
    weighted = maps * gradient * places if hires else maps * gradient.sum((0, 1))
    return np.asarray(np.maximum(weighted.sum(-1), 0), np.float32)


@pytest.mark.parametrize("kind", ["grad-cam", "hires-cam"])
@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WITH_GRADIENT]
)
def test_the_written_out_gradient_is_the_gradient_tapes(backbone: str, kind: Any) -> None:
    width = 1.0 if backbone.startswith(("mobilenetv3", "efficientnet")) else 0.35
    recipe = a_recipe(backbone, maps=SaliencyRecipe(on_request=kind), width=width)
    model = a_network(recipe)
    picture = clouds(1, seed=5)[0]
    given = explanation_of(recipe, model)(scaled(picture[np.newaxis], find_backbone(backbone))).numpy()[0]
    right = by_tape(recipe, model, picture, hires=kind == "hires-cam")
    assert given.shape == right.shape
    assert right.max() > 0
    np.testing.assert_allclose(given, right, atol=1e-3 * right.max())


def test_a_layer_without_a_rule_is_refused_by_its_name() -> None:
    model = build_classifier(a_recipe("mobilenetv3-small", width=1.0))
    with pytest.raises(RecipeError, match="cannot be compiled through the layer"):
        check_gradient(model, require_finer_layer(model))


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("mobilenet", "conv_pw_11_relu"),
        ("mobilenetv2", "block_13_expand_relu"),
        ("efficientnetb0", "block6a_expand_activation"),
        ("vgg16", "block4_conv3"),
    ],
)
def test_the_finer_layer_is_the_last_cut_of_twice_the_resolution(backbone: str, layer: str) -> None:
    model = build_classifier(a_recipe(backbone, width=0.25))
    assert finer_layer(model) == layer
    assert model.get_layer(layer).output.shape[1] == 2 * feature_maps(model).shape[1]


def test_a_readout_of_features_that_are_linear_in_the_finer_ones_finds_them() -> None:
    """With the last maps a fixed linear function of the finer ones, the regression gives that function back."""
    recipe = a_recipe("mobilenetv2", maps=SaliencyRecipe(pictures=16))
    model = a_network(recipe)
    readout = finish(fit_readout(recipe, model, as_prepared(clouds(16))))
    finer = keras().Model(model.input, [model.get_layer(readout.layer).output, feature_maps(model)])
    x, y = (o.numpy() for o in finer(scaled(clouds(16), find_backbone("mobilenetv2")), training=False))
    assert readout.kernel.shape == (x.shape[-1], y.shape[-1])
    # The mean over places and pictures is met exactly: a regression with a constant passes through the means.
    np.testing.assert_allclose((x.mean((0, 1, 2)) @ readout.kernel) + readout.bias, y.mean((0, 1, 2)), atol=2e-3)
    # It explains more than the constant does, on the pictures it was fitted to.
    enlarged = tensorflow().image.resize(y, x.shape[1:3], method="bilinear").numpy()
    left = ((x @ readout.kernel + readout.bias) - enlarged).var()
    assert left < 0.7 * (enlarged - enlarged.mean((0, 1, 2))).var()


def test_the_exported_fine_map_is_readout_and_last_layer_in_one(tmp_path: Path) -> None:
    recipe = a_recipe("mobilenetv2", maps=SaliencyRecipe(pictures=8))
    model = a_network(recipe)
    readout = finish(fit_readout(recipe, model, as_prepared(clouds(8))))
    readout.save(tmp_path / "readout.npz")
    again = Readout.load(tmp_path / "readout.npz")
    picture = clouds(1, seed=3)
    network = Network(model_entry(recipe, "float32"), export_float(recipe, model, again), side_px=SIDE_PX, classes=2)
    network.run(picture[0])
    features = keras().Model(model.input, model.get_layer(readout.layer).output)
    finer = features(scaled(picture, find_backbone("mobilenetv2")), training=False).numpy()[0]
    kernel, bias = model.get_layer(LOGITS).get_weights()
    by_hand = (finer @ readout.kernel + readout.bias) @ kernel + bias
    np.testing.assert_allclose(network.output("fine_activation"), by_hand, atol=2e-3)


@pytest.fixture(scope="module")
def explained() -> tuple[Recipe, Any, bytes]:
    recipe = a_recipe("mobilenetv2", maps=SaliencyRecipe(method="cam", on_request="hires-cam"))
    model = a_network(recipe)
    return recipe, model, export_int8(recipe, model, None, clouds(24))


def test_a_map_on_request_is_a_signature_of_its_own_behind_the_one_that_screens(
    explained: tuple[Recipe, Any, bytes],
) -> None:
    recipe, _, data = explained
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    named = {signature.signatureKey.decode(): signature for signature in content.signatureDefs}
    assert [named[name].subgraphIndex for name in (SCREEN, EXPLAIN)] == [0, 1]
    assert [output.name.decode() for output in named[EXPLAIN].outputs] == [MAP]
    network = Network(model_entry(recipe, "int8"), data, side_px=SIDE_PX, classes=2)
    picture = clouds(1, seed=9)[0]
    network.run(picture)
    before = network.output("probabilities")
    given = network.explain(picture)
    network.run(picture)
    np.testing.assert_array_equal(network.output("probabilities"), before)
    assert given.shape == (6, 6)
    assert given.min() >= 0
    assert np.isfinite(given).all()


def test_the_exported_gradient_is_the_gradient_tapes(explained: tuple[Recipe, Any, bytes]) -> None:
    """Processors add in other orders: where an activation is all but zero, a ReLU's mask may fall the other way, which
    changes a place or two of a picture's 36. A gradient that is wrong is wrong in every picture.
    """
    recipe, model, _ = explained
    network = Network(model_entry(recipe, "float32"), export_float(recipe, model), side_px=SIDE_PX, classes=2)
    apart, alike = [], []
    for picture in clouds(12, seed=9):
        right, found = by_tape(recipe, model, picture, hires=True), network.explain(picture)
        assert right.max() > 0
        apart.append(np.abs(found - right) / right.max())
        alike.append(np.corrcoef(found.ravel(), right.ravel())[0, 1])
    assert np.mean(alike) > 0.99
    assert min(picture.max() for picture in apart) < 1e-4
    assert (np.array(apart) < 1e-2).mean() >= 0.9


def test_weights_that_two_signatures_use_are_stored_once(explained: tuple[Recipe, Any, bytes]) -> None:
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(explained[2], 0))
    stored = [bytes(bytearray(b.data)) for b in content.buffers if b.data is not None and len(b.data)]
    assert len(stored) == len(set(stored))
    used = {tensor.buffer for subgraph in content.subgraphs for tensor in subgraph.tensors}
    assert max(used) < len(content.buffers)


def test_a_dense_head_shows_how_its_score_falls_where_a_place_is_blanked_out() -> None:
    side_px = 160
    recipe = a_recipe("alexnet", width=0.25, head="dense", side_px=side_px)
    keras().utils.set_random_seed(1)
    model = build_classifier(recipe)
    picture = np.random.default_rng(2).integers(0, 256, (1, side_px, side_px, 3), np.uint8)
    x = scaled(picture, find_backbone("alexnet"))
    network = Network(model_entry(recipe, "float32"), export_float(recipe, model), side_px=side_px, classes=2)
    given = network.explain(picture[0])
    flat = model.get_layer("head_flat")
    trunk, head = keras().Model(model.input, flat.input), keras().Model(flat.input, model.output)
    maps = trunk(x, training=False).numpy()
    logits = head(maps, training=False).numpy()[0]
    right = np.zeros(maps.shape[1:3], np.float32)
    for row, column in np.ndindex(*right.shape):
        blanked = maps.copy()
        blanked[:, row, column] = 0
        without = head(blanked, training=False).numpy()[0]
        right[row, column] = max((logits[1] - logits[0]) - (without[1] - without[0]), 0)
    assert right.max() > 0
    np.testing.assert_allclose(given, right, atol=1e-3 * right.max())


@pytest.mark.parametrize(("wanted", "head"), [("occlusion", "pool"), ("grad-cam", "dense"), ("hires-cam", "dense")])
def test_a_map_that_the_head_cannot_give_is_refused_in_the_recipe(wanted: Any, head: Any) -> None:
    from edge.fields import FieldError

    with pytest.raises(FieldError, match="cannot give"):
        a_recipe("vgg16", maps=SaliencyRecipe(on_request=wanted), head=head)


def test_a_map_under_another_last_layer_is_another_map_and_the_network_is_left_as_it_was() -> None:
    recipe = a_recipe("mobilenetv2", maps=SaliencyRecipe(method="cam"))
    model = a_network(recipe)
    before = model.get_layer(LOGITS).get_weights()
    maps = KerasMaps(recipe, model, None)
    for a, b in zip(before, model.get_layer(LOGITS).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    picture = clouds(1, seed=4)[0]
    against = maps.against_random(picture, "cam")
    assert len(set(against)) == len(against)
    assert all(-1 <= value < 0.999 for value in against)
    # The class activation map is Grad-CAM at the last layer, up to the bias and a factor.
    own = saliency.FROM_OUTPUTS["cam"][0]
    given = outputs_of(model, find_backbone("mobilenetv2"))(scaled(picture[np.newaxis], find_backbone("mobilenetv2")))
    outputs = {role: value.numpy()[0] for role, value in given.items()}
    heat = own(outputs.__getitem__, outputs["probabilities"], [1])
    assert np.corrcoef(heat.ravel(), maps.grad_cam(picture, "cam").ravel())[0, 1] == pytest.approx(1, abs=1e-4)


def test_multi_class_findings_are_explained_by_the_most_probable_one() -> None:
    recipe = a_recipe("mobilenetv2", maps=SaliencyRecipe(on_request="hires-cam"), classes=("no", "a", "b"))
    model = a_network(recipe)
    picture = clouds(1, seed=6)
    x = tensorflow().constant(scaled(picture, find_backbone("mobilenetv2")))
    both = keras().Model(model.input, [model.get_layer(require_finer_layer(model)).output, model.output])
    with tensorflow().GradientTape() as tape:
        tape.watch(x)
        maps, logits = both(x, training=False)
        top = 1 + int(np.argmax(logits[0, 1:]))
        score = logits[0, top] - logits[0, 0]
    gradient = tape.gradient(score, maps)[0].numpy()
    right = np.maximum((maps[0].numpy() * gradient).sum(-1) * gradient.shape[0] * gradient.shape[1], 0)
    given = explanation_of(replace(recipe), model)(x).numpy()[0]
    np.testing.assert_allclose(given, right, atol=1e-3 * right.max())
