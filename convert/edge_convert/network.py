"""The classifier: a backbone, its head and one dense layer of logits.

The head `pool` is global average pooling, which makes the class activation map one more output of the same pass. The
head `dense` is what VGG16 and AlexNet were published with; it gives no map.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError, RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.backbones.contract import Backbone, DenseHead
from edge_convert.backbones.grey import on_grey
from edge_convert.backbones.relu6 import with_relu6
from edge_convert.backbones.width import channels
from edge_convert.dropout import seeded_dropout
from edge_convert.keras import keras, tensorflow
from edge_convert.prune.cut import cut
from edge_convert.prune.plan_file import PLAN, load_record
from edge_convert.recipe import Recipe

LOGITS = "logits"
EMBEDDING = "embedding"
HEAD_FLAT = "head_flat"
PREDICT_BATCH = 64


def build_classifier(recipe: Recipe, *, weights: str | None = None) -> Any:
    """A flat functional tf_keras model: scaled picture (side, side, channels) -> logits (classes,).

    weights: overrides the recipe's, for example `none` where trained weights are loaded afterwards.
    """
    network = recipe.network
    backbone = find_backbone(network.backbone)
    backbone.check_head(network.head, network.side_px)
    features = backbone.build(network.side_px, network.width, weights if weights is not None else network.weights)
    if network.activation == "relu6":
        features = with_relu6(features)
    if network.colour == "grey":
        features = on_grey(features)
    layers = keras().layers
    if network.head == "dense":
        assert backbone.dense_head is not None
        dropped = _dense_head(features.output, backbone.dense_head, network.width, recipe.seed)
    else:
        pooled = layers.GlobalAveragePooling2D(name=EMBEDDING)(features.output)
        dropped = dropout(network.dropout, recipe.seed, "dropout")(pooled)
    # In float32 whatever the rest computes in: a softmax of 16-bit logits loses the small probabilities.
    logits = layers.Dense(len(recipe.classes), name=LOGITS, dtype="float32")(dropped)
    return keras().Model(features.input, logits, name="classifier")


def check_network(recipe: Recipe) -> None:
    """Raise RecipeError for a network that cannot be built or trained as the recipe says, before anything is."""
    network, train = recipe.network, recipe.train
    backbone = find_backbone(network.backbone)
    backbone.check(network.side_px, network.width, network.weights)
    backbone.check_head(network.head, network.side_px)
    backbone.check_activation(network.activation)
    blocks = len(backbone.block_starts)
    if network.activation == "relu6" and network.weights != "none" and train.unfrozen_blocks < blocks:
        raise RecipeError(
            f"network.activation is 'relu6', and {blocks - train.unfrozen_blocks} blocks would keep weights that were "
            "trained with swish",
            remedy=f"set train.unfrozen_blocks = {blocks}, or network.weights = 'none'",
        )
    if "int16" in recipe.quantize.also:
        backbone.check_int16()
    if train.epochs and train.unfrozen_blocks:
        backbone.first_unfrozen(train.unfrozen_blocks)
    elif network.head == "dense" and network.weights != "none":
        raise RecipeError(
            "the two hidden layers of network.head 'dense' have no weights yet, and nothing here would train them",
            remedy="set train.epochs and train.unfrozen_blocks to 1 or more, or use network.head = 'pool'",
        )


def _dense_head(maps: Any, head: DenseHead, width: float, seed: int) -> Any:
    """Max pooling and the two hidden layers of a published network; the second's output is the embedding."""
    layers = keras().layers
    x = layers.MaxPooling2D(head.pool_px, head.stride, name="head_pool")(maps)
    x = layers.Flatten(name=HEAD_FLAT)(x)
    for index, relu in ((1, "fc1_relu"), (2, EMBEDDING)):
        x = layers.Dense(channels(head.units, width), name=f"fc{index}")(x)
        x = layers.ReLU(name=relu)(x)
        x = dropout(head.dropout, seed + index, f"fc{index}_dropout")(x)
    return x


def dropout(rate: float, seed: int, name: str) -> Any:
    """A dropout layer whose masks are the same in every run, also in one that goes on after a kill."""
    return seeded_dropout()(rate, seed, name=name)


def feature_maps(model: Any) -> Any:
    """The tensor of the last feature maps, (batch, rows, columns, channels), of a classifier with the head `pool`."""
    return model.get_layer(EMBEDDING).input


def before_last_block(model: Any, backbone: Backbone) -> Any:
    """The tensor, (batch, rows, columns, channels), that the last block left by pruning starts from."""
    left = {layer.name for layer in model.layers}
    return model.get_layer(next(name for name in reversed(backbone.block_starts) if name in left)).input


def freeze(model: Any, first_trainable: str) -> None:
    """Let the layers from `first_trainable` on learn; batch normalisation never does.

    A batch normalisation that is not trainable also runs in inference mode: with the small batches and few pictures
    of fine-tuning, its statistics would drift away from the ones that ship.
    """
    start = [layer.name for layer in model.layers].index(first_trainable)
    for index, layer in enumerate(model.layers):
        layer.trainable = index >= start and not isinstance(layer, keras().layers.BatchNormalization)


def scaled(pictures: NDArray[np.uint8], backbone: Backbone) -> NDArray[np.float32]:
    """Pixels as the network was trained to see them: (pixel - zero point) * scale, float32."""
    return np.asarray(rescaled(pictures.astype(np.float32), backbone), np.float32)


def rescaled(pixels: Any, backbone: Backbone) -> Any:
    """The same of pixels that are float32 already: an array or, inside a training step, a tensor."""
    return (pixels - np.float32(backbone.input_zero_point)) * np.float32(backbone.input_scale)


def run_batches(
    model: Any, pictures: NDArray[np.uint8], rows: NDArray[np.int64], backbone: Backbone
) -> Iterator[NDArray[np.float32]]:
    """The model's output for PREDICT_BATCH of the rows at a time, in inference mode.

    pictures: (n, side, side, channels) uint8, may lie on disk: only a batch of it is in memory.
    """
    step = tensorflow().function(lambda x: model(x, training=False), reduce_retracing=True)
    for part in in_batches(rows):
        yield step(scaled(pictures[part], backbone)).numpy()


def in_batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows, PREDICT_BATCH of them at a time."""
    return (rows[start : start + PREDICT_BATCH] for start in range(0, len(rows), PREDICT_BATCH))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities from logits, over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float64)


def save_weights(model: Any, path: Path) -> None:
    """Write the weights as an .npz: plain arrays in the model's own order, no library's format."""
    np.savez(path, **{f"{index:04d}": array for index, array in enumerate(model.get_weights())})


def load_classifier(recipe: Recipe, path: Path) -> Any:
    """The classifier with the weights of a run, smaller where a plan beside them says which channels are left."""
    model = build_classifier(recipe, weights="none")
    record = load_record(path.with_name(PLAN))
    if record is not None:
        model = cut(model, record.plan)
    load_weights(model, path)
    return model


def load_weights(model: Any, path: Path) -> None:
    """Fill a model of the same architecture from a file of `save_weights`. Raises EdgeError where it does not fit."""
    try:
        with np.load(path) as arrays:
            model.set_weights([arrays[name] for name in sorted(arrays.files)])
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise EdgeError(
            f"{path} cannot be read as this recipe's weights ({error})",
            remedy=f"run `edge convert` again with --from {path.parent.name}",
        ) from None
