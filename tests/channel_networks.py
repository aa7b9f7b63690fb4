"""Networks and pictures to remove channels of: every architecture, small, and one by hand with every kind of joint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_networks import as_prepared

from edge_convert.keras import keras
from edge_convert.prepare import Prepared
from edge_convert.prune.cut import Plan
from edge_convert.prune.graph import ChannelGraph
from edge_convert.recipe import NetworkRecipe, PruneRecipe, Recipe, TrainRecipe

SLOW = pytest.mark.slow
BACKBONES = [
    pytest.param("mobilenet", {}, id="mobilenet"),
    pytest.param("mobilenetv2", {}, id="mobilenetv2"),
    pytest.param("vgg16", {"head": "dense"}, id="vgg16-dense"),
    pytest.param("mobilenetv2", {"width": 1.0, "side_px": 64}, id="mobilenetv2-whole", marks=SLOW),
    pytest.param("mobilenetv3-small", {}, id="mobilenetv3-small", marks=SLOW),
    pytest.param("mobilenetv3-large-minimalistic", {}, id="mobilenetv3-large-minimalistic", marks=SLOW),
    pytest.param("efficientnet-lite0", {}, id="efficientnet-lite0", marks=SLOW),
    pytest.param("efficientnetb0", {}, id="efficientnetb0", marks=SLOW),
    pytest.param("efficientnetb0", {"colour": "grey", "width": 0.5}, id="efficientnetb0-grey-half", marks=SLOW),
    pytest.param("resnet50", {}, id="resnet50", marks=SLOW),
    pytest.param("resnet50", {"colour": "grey", "width": 0.5}, id="resnet50-grey-half", marks=SLOW),
    pytest.param("inceptionv3", {"side_px": 75}, id="inceptionv3", marks=SLOW),
    pytest.param("vgg16", {}, id="vgg16", marks=SLOW),
    pytest.param("alexnet", {"side_px": 64}, id="alexnet", marks=SLOW),
]


def a_recipe(backbone: str = "mobilenet", **network: Any) -> Recipe:
    options = {"side_px": 32, "width": 0.25, "weights": "none", **network}
    return Recipe(
        name="channels",
        classes=("no", "yes"),
        positive=("yes",),
        network=NetworkRecipe(backbone=backbone, **options),
        train=TrainRecipe(epochs=1, batch=8, learning_rate=1e-4),
        prune=PruneRecipe(
            method="channels", target_latency=0.5, steps=2, epochs=1, learning_rate=1e-4, most_auc_lost=1.0
        ),
    )


def a_set(count: int, side_px: int, channels: int = 3) -> Prepared:
    """Random pictures, two thirds to train on, labels in turns."""
    return as_prepared(np.random.default_rng(1).integers(0, 256, (count, side_px, side_px, channels), np.uint8))


def with_statistics(model: Any, seed: int = 1) -> Any:
    """The model with batch normalisation as a trained one might have it: nothing is 0 or 1."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras().layers.BatchNormalization):
            drawn = [random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
            layer.set_weights([d if index % 3 == 0 else d - 1 for index, d in enumerate(drawn)])
    return model


def half_of(graph: ChannelGraph, seed: int = 1) -> Plan:
    """Any half of each group's channels, and every other residual branch gone."""
    random = np.random.default_rng(seed)
    kept = {
        name: tuple(sorted(int(c) for c in random.permutation(group.size)[: max(1, group.size // 2)]))
        for name, group in graph.groups.items()
    }
    return Plan(kept=kept, dropped=tuple(branch.name for branch in graph.branches[::2]))


def block(x: Any, name: str, hidden: int, *, squeeze: int = 0) -> Any:
    """An inverted residual, with squeeze-and-excite where asked for."""
    layers = keras().layers
    entry = x
    x = layers.Conv2D(hidden, 1, use_bias=False, name=f"{name}_expand")(x)
    x = layers.ReLU(6.0, name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_depthwise")(x)
    if squeeze:
        scale = layers.Reshape((1, 1, hidden), name=f"{name}_shape")(layers.GlobalAveragePooling2D()(x))
        scale = layers.Conv2D(squeeze, 1, activation="relu", name=f"{name}_squeeze")(scale)
        scale = layers.Conv2D(hidden, 1, activation="sigmoid", name=f"{name}_excite")(scale)
        x = layers.Multiply(name=f"{name}_scale")([x, scale])
    x = layers.Conv2D(entry.shape[-1], 1, name=f"{name}_project")(x)
    return layers.Add(name=f"{name}_add")([x, entry])


def a_network() -> Any:
    """Two residual blocks, the second with squeeze-and-excite, a concatenation, and a dense head."""
    layers = keras().layers
    keras().utils.set_random_seed(3)
    picture = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", name="stem")(picture)
    x = block(block(x, "first", 32), "second", 48, squeeze=8)
    wings = [layers.Conv2D(8, 1, name=f"wing{i}", activation="relu")(x) for i in range(2)]
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(2)(layers.Concatenate(name="both")(wings)))
    x = layers.Dense(24, name="hidden", activation="relu")(x)
    return with_statistics(keras().Model(picture, layers.Dense(2, name="logits")(x)))
