"""The networks of tf_keras.applications: built, filled and, where needed, copied into a plainer graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_convert.backbones.contract import download_failed, load_weight_file, weight_file
from edge_convert.dropout import reseeded
from edge_convert.keras import keras

# Of the published accuracies. It is measured on the 2012 validation set with one central crop.
KERAS_TABLE = "keras.io/api/applications"


def application(
    title: str, side_px: int, weights: str, *, change: Callable[[Any], Any] = lambda model: model, **arguments: Any
) -> Any:
    """A network of tf_keras.applications without its top, from (side, side, 3) on.

    title: its name there. weights: `imagenet`, `none` or the path of a weight file. change: what is done to it before
    weights are loaded from a file. arguments: its own, such as alpha.
    """
    build = getattr(keras().applications, title)
    arguments |= {"input_shape": (side_px, side_px, 3), "include_top": False}
    if weights == "imagenet":
        try:
            return build(weights="imagenet", **arguments)
        except Exception as error:  # noqa: BLE001 - Keras wraps every download failure in a bare Exception
            raise download_failed(title, error) from None
    model = change(build(weights=None, **arguments))
    if weights != "none":
        load_weight_file(model, weight_file(weights))
    return model


def as_it_is(layer: Any) -> tuple[dict[str, Any], list[Any]]:
    """A layer's configuration and weights."""
    return layer.get_config(), layer.get_weights()


def copy_layers(
    model: Any,
    inputs: Any,
    fed: Any,
    *,
    after: str,
    until: str,
    change: Callable[[Any], tuple[dict[str, Any], list[Any] | None]] = as_it_is,
) -> Any:
    """A flat model of the layers behind `after`, to `until`, with their weights, on other inputs.

    inputs: the new model's. fed: the tensor that replaces the output of `after`. change: the configuration and weights
    that a layer's copy gets; None leaves it the new ones that it is born with.
    """
    names = [layer.name for layer in model.layers]
    tensors = {id(model.get_layer(after).output): fed}
    for layer in model.layers[names.index(after) + 1 : names.index(until) + 1]:
        config, weights = change(layer)
        is_dropout = isinstance(layer, keras().layers.Dropout)
        copy = reseeded(layer) if is_dropout else layer.__class__.from_config(config)
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        taken = [tensors[id(source)] for source in sources]
        tensors[id(layer.output)] = copy(taken if len(taken) > 1 else taken[0])
        if weights:
            copy.set_weights(weights)
    return keras().Model(inputs, tensors[id(model.get_layer(until).output)], name=model.name)
