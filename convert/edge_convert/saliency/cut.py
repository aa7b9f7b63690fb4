"""The layer of about twice the last maps' resolution that everything behind it is computed from."""

from __future__ import annotations

from typing import Any

from edge.errors import RecipeError
from edge_convert.keras import keras
from edge_convert.network import feature_maps

# Of the last maps' side: odd sides do not halve evenly (InceptionV3 goes from 17 to 8, others from 13 to 7).
FINER = 1.5


def finer_layer(model: Any) -> str | None:
    """The name of the last layer with maps of at least 1.5 times the last maps' side that is a cut of the network.

    A cut: no layer behind it takes anything from before it, so that all the evidence passes there. None where the
    network has no such layer.
    """
    least = FINER * feature_maps(model).shape[1]
    order = {layer.name: place for place, layer in enumerate(model.layers)}
    found = None
    reach = 0
    for place, layer in enumerate(model.layers):
        # reach: the farthest layer that takes from one before this; a cut is not passed by.
        shape = layer.output.shape
        if reach <= place and len(shape) == 4 and shape[1] >= least and not _pads(layer):
            found = layer.name
        followers = [order[node.layer.name] for node in layer.outbound_nodes if node.layer.name in order]
        reach = max([reach, *followers])
    return found


def require_finer_layer(model: Any) -> str:
    """As `finer_layer`. Raises RecipeError where there is none."""
    name = finer_layer(model)
    if name is None:
        raise RecipeError("this network has no layer of a finer map", remedy="use saliency.method = 'cam'")
    return name


def _pads(layer: Any) -> bool:
    return isinstance(layer, (keras().layers.ZeroPadding2D, keras().layers.InputLayer))
