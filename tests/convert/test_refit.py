"""Weights fitted after a cut: what a layer reads, and that the smaller network comes nearer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_networks import BACKBONES, a_network, a_recipe, a_set, half_of, with_statistics
from random_networks import as_prepared, settle, smooth_noise

from edge_convert.backbones import find_backbone
from edge_convert.keras import keras
from edge_convert.network import build_classifier, scaled
from edge_convert.progress import finish
from edge_convert.prune.cut import Plan, cut
from edge_convert.prune.graph import ChannelGraph
from edge_convert.prune.least_squares import RIDGE, fit_kernel
from edge_convert.prune.refit import refit, sums_of
from edge_convert.prune.windows import Places, linear
from edge_convert.recipe import Recipe

FITTED = [
    *(case for case in BACKBONES if case.id != "vgg16-dense"),
    pytest.param("vgg16", {"head": "dense"}, id="vgg16-dense", marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def the_same_weights_every_time() -> None:
    """How much a fit makes up for hangs on the weights that are drawn."""
    keras().utils.set_random_seed(1)


def layers_to_read() -> list[Any]:
    layers = keras().layers
    return [
        layers.Conv2D(5, 1, name="point"),
        layers.Conv2D(5, 3, strides=2, padding="same", name="same", use_bias=False),
        layers.Conv2D(5, (3, 2), strides=2, padding="valid", name="valid"),
        layers.Conv2D(5, 3, dilation_rate=2, padding="same", name="dilated"),
        layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise"),
        layers.DepthwiseConv2D(5, padding="valid", name="depthwise-valid", use_bias=False),
    ]


@pytest.mark.parametrize("side", [11, 12])
def test_what_a_layer_reads_times_its_kernel_is_what_it_gives(side: int) -> None:
    random = np.random.default_rng(1)
    maps = random.normal(size=(3, side, side + 1, 4)).astype(np.float32)
    picture = keras().layers.Input(maps.shape[1:])
    for layer in layers_to_read():
        layer(picture)
        layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
        places = Places(seed=7)
        seen = places.read(layer, {id(layer.input): maps}, 0)
        expected = places.at(layer(maps).numpy(), 0)
        np.testing.assert_allclose(linear(layer, seen), expected, atol=1e-4, err_msg=layer.name)


def difference(recipe: Recipe, whole: Any, smaller: Any, pictures: Any) -> Any:
    """The smaller network's logits less the whole one's, (pictures, classes)."""
    shown = scaled(pictures, find_backbone(recipe.network.backbone))
    return smaller(shown, training=False).numpy() - whole(shown, training=False).numpy()


@pytest.mark.parametrize(("backbone", "network"), FITTED)
def test_a_fitted_network_tells_pictures_apart_more_as_the_whole_does(backbone: str, network: dict[str, Any]) -> None:
    """On those that it was fitted on: random weights have learned nothing that would hold for others.

    The mean over pictures is left out, for a bias alone would mend that.
    """
    recipe = a_recipe(backbone, **network)
    whole = build_classifier(recipe)
    prepared = as_prepared(smooth_noise(192, 1, recipe.network.side_px)[..., : recipe.preprocessing.channels])
    settle(whole, scaled(prepared.pictures[:64], find_backbone(backbone)))
    plan = half_of(ChannelGraph(whole))
    smaller = cut(whole, plan)
    fitted, kept = prepared.pictures[prepared.rows("train")], whole.get_weights()
    before = difference(recipe, whole, smaller, fitted).std(axis=0)
    finish(refit(recipe, whole, smaller, plan, prepared))
    after = difference(recipe, whole, smaller, fitted).std(axis=0)
    assert (after < before).all()
    for was, now in zip(kept, whole.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("count", [6, 48])
def test_where_nothing_was_cut_nothing_changes(count: int) -> None:
    whole = a_network()
    smaller = cut(whole, Plan())
    recipe, prepared = a_recipe("mobilenetv2"), a_set(count, 8)
    finish(refit(recipe, whole, smaller, Plan(), prepared))
    np.testing.assert_allclose(difference(recipe, whole, smaller, prepared.pictures), 0, atol=1e-4)


def test_channels_that_say_what_others_say_are_not_missed_after_the_fit() -> None:
    layers = keras().layers
    picture = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem", use_bias=False)(picture)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="stem_bn")(x))
    x = layers.Conv2D(8, 1, name="mixed", activation="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    whole = with_statistics(keras().Model(picture, layers.Dense(2, name="logits")(x)))
    for name in ("stem", "stem_bn"):
        weights = [w.copy() for w in whole.get_layer(name).get_weights()]
        for w in weights:
            w[..., 4:] = w[..., :4]
        whole.get_layer(name).set_weights(weights)
    recipe, prepared = a_recipe("mobilenetv2"), a_set(48, 16)
    plan = Plan(kept={"stem": (0, 1, 2, 3)})
    smaller = cut(whole, plan)
    before = difference(recipe, whole, smaller, prepared.pictures).std()
    finish(refit(recipe, whole, smaller, plan, prepared))
    assert difference(recipe, whole, smaller, prepared.pictures).std() < 0.05 * before


def test_one_branch_of_a_sum_makes_up_for_what_the_other_cannot_say() -> None:
    layers = keras().layers
    picture = layers.Input((4, 4, 3))
    narrow = layers.Conv2D(8, 1, name="narrow")(picture)
    short = layers.BatchNormalization(name="short_bn")(layers.Conv2D(4, 1, name="short")(narrow))
    wide = layers.Conv2D(8, 1, name="wide")(picture)
    long = layers.BatchNormalization(name="long_bn")(layers.Conv2D(4, 1, name="long", use_bias=False)(wide))
    total = layers.GlobalAveragePooling2D(name="pooled")(layers.Add(name="sum")([short, long]))
    whole = with_statistics(keras().Model(picture, layers.Dense(2, name="logits")(total)))
    recipe, prepared = a_recipe("mobilenetv2"), a_set(48, 4)
    plan = Plan(kept={"narrow": (0,)})
    smaller = cut(whole, plan)
    convolutions = [layer for layer in smaller.layers if isinstance(layer, layers.Conv2D)]
    assert list(sums_of(smaller, convolutions)) == ["long"], "the branch that is whole is fitted last"
    shown = scaled(prepared.pictures, find_backbone("mobilenetv2"))

    def apart() -> float:
        """At the sum, which the last layer cannot mend."""
        sums = [keras().Model(m.input, m.get_layer("sum").output)(shown).numpy() for m in (whole, smaller)]
        return float((sums[0] - sums[1]).std())

    before = apart()
    finish(refit(recipe, whole, smaller, plan, prepared))
    assert apart() < 0.05 * before


def test_what_cannot_go_to_a_bias_goes_to_the_normalisation_behind() -> None:
    layers = keras().layers
    picture = layers.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="stem", activation="relu")(picture)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="mixed", use_bias=False)(x))
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    whole = with_statistics(keras().Model(picture, layers.Dense(2, name="logits", trainable=False)(x)))
    recipe, prepared = a_recipe("mobilenetv2"), a_set(48, 4)
    plan = Plan(kept={"stem": (1, 4)})
    smaller = cut(whole, plan)
    finish(refit(recipe, whole, smaller, plan, prepared))
    shown = scaled(prepared.pictures[prepared.rows("train")], find_backbone("mobilenetv2"))
    means = [
        keras().Model(m.input, m.get_layer("norm").output)(shown).numpy().mean((0, 1, 2)) for m in (whole, smaller)
    ]
    np.testing.assert_allclose(*means, atol=1e-3)


def test_a_kernel_of_fewer_samples_than_inputs_solves_the_same_equations() -> None:
    random = np.random.default_rng(4)
    seen, wanted = random.normal(size=(12, 40)).astype(np.float32), random.normal(size=(12, 3)).astype(np.float32)
    old = random.normal(size=(40, 3)).astype(np.float32)
    fitted, shift = fit_kernel(seen, wanted, old, shifted=True, dropped=0.2)
    x = seen.astype(float) - seen.astype(float).mean(0)
    squares = (seen.astype(float) ** 2).mean(0)
    held = RIDGE * 40 / 12 * squares.mean()
    system = x.T @ x / 12 + np.diag(held + 0.25 * squares)
    expected = np.linalg.solve(system, x.T @ (wanted - wanted.mean(0)) / 12 + held * old)
    np.testing.assert_allclose(fitted, expected, atol=1e-6)
    np.testing.assert_allclose(shift, wanted.mean(0) - seen.astype(float).mean(0) @ expected, atol=1e-5)


def test_of_two_layers_that_go_into_a_sum_the_later_is_fitted_to_it() -> None:
    layers = keras().layers
    picture = layers.Input((8, 8, 3))
    short = layers.BatchNormalization(name="short_bn")(layers.Conv2D(4, 1, name="short", use_bias=False)(picture))
    long = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(picture)
    long = layers.BatchNormalization(name="long_bn")(layers.Conv2D(4, 1, name="long", use_bias=False)(long))
    both = layers.Add(name="sum")([short, layers.Dropout(0.2)(long)])
    alone = layers.Add(name="not_linear")([layers.Conv2D(4, 1, activation="relu", name="active")(both), both])
    model = with_statistics(keras().Model(picture, alone))
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    found = sums_of(model, convolutions)
    assert len(found) == 1
    ((name, end),) = found.items()
    assert end.name == "sum"
    assert name == [layer.name for layer in convolutions if layer.name in ("short", "long")][-1]
    values = np.random.default_rng(2).normal(size=(5, 8, 8, 4)).astype(np.float32)
    expected = model.get_layer(f"{name}_bn")(values).numpy()
    np.testing.assert_allclose(values * end.scale + end.shift, expected, atol=1e-4)
