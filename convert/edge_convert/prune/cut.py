"""A network with channels and residual branches removed: fewer weights in a smaller graph, no zeros and no masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.keras import keras, tensorflow
from edge_convert.prune.graph import Branch, ChannelGraph, inputs_of, made_by, makes_channels


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is left of a network. kept: the channels left, ascending, by group; groups not named are whole.

    dropped: the sums whose residual branch is gone; what went around it takes their place.
    """

    kept: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def cut(model: Any, plan: Plan) -> Any:
    """A new model of the same layers with what the plan leaves of their channels and weights.

    model: flat functional tf_keras, not changed. Raises EdgeError for a plan of another network.
    """
    graph = ChannelGraph(model)
    dropped = {branch.name: branch for branch in graph.branches if branch.name in plan.dropped}
    kept = _checked(graph, plan, dropped)
    needed = _needed(model, dropped)
    tensors: dict[int, Any] = {}
    for layer in model.layers:
        if layer.name not in needed:
            continue
        if layer.name in dropped:
            tensors[id(layer.output)] = tensors[id(inputs_of(layer)[dropped[layer.name].skip])]
        elif type(layer).__name__ == "InputLayer":
            tensors[id(layer.output)] = keras().layers.Input(layer.output.shape[1:], name=layer.name)
        else:
            copy = layer.__class__.from_config(_config(layer, graph, kept))
            tensors[id(layer.output)] = called(copy, layer, tensors)
            copy.set_weights(_weights(layer, graph, kept))
    inputs = [tensors[id(tensor)] for tensor in model.inputs]
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    return keras().Model(
        inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0], name=model.name
    )


def masked(model: Any, plan: Plan) -> Any:
    """The model as it is with zeros in place of what the plan removes: computes what `cut` gives, as slowly as before.

    A layer that reads removed channels has zeros for them in its kernel, and the branch of a dropped sum ends in zeros.
    For proof alone.
    """
    graph = ChannelGraph(model)
    copy = keras().models.clone_model(
        model, clone_function=lambda layer: layer.__class__.from_config(layer.get_config())
    )
    for layer in model.layers:
        weights = layer.get_weights()
        if makes_channels(layer):
            left = graph.kept(inputs_of(layer)[0], kept_channels(plan))
            mask = np.zeros(weights[0].shape[-2], np.float32)
            mask[left] = 1
            weights[0] = weights[0] * mask[:, np.newaxis]
        copy.get_layer(layer.name).set_weights(weights)
    for branch in graph.branches:
        if branch.name in plan.dropped:
            end = [name for name in branch.layers if any(w.dtype.is_floating for w in model.get_layer(name).weights)][
                -1
            ]
            copy.get_layer(end).set_weights(_silenced(model.get_layer(end)))
    return copy


def kept_channels(plan: Plan) -> dict[str, NDArray[np.int64]]:
    """The channels left by group, as `ChannelGraph.kept` takes them; groups not named are whole."""
    return {name: np.asarray(channels, np.int64) for name, channels in plan.kept.items()}


def called(copy: Any, layer: Any, tensors: dict[int, Any]) -> Any:
    """The copy on the tensors that stand for those that the layer was called with, and with the same constants."""
    node = layer.inbound_nodes[0]
    given = (node.call_args, node.call_kwargs)
    args, options = tensorflow().nest.map_structure(lambda value: tensors.get(id(value), value), given)
    return copy(*args, **options)


def _silenced(layer: Any) -> list[NDArray[Any]]:
    """Weights under which a layer gives zeros."""
    weights = layer.get_weights()
    silent = 2 if isinstance(layer, keras().layers.BatchNormalization) else len(weights)
    return [np.zeros_like(w) if index < silent else w for index, w in enumerate(weights)]


def _checked(graph: ChannelGraph, plan: Plan, dropped: dict[str, Branch]) -> dict[str, NDArray[np.int64]]:
    remedy = "run the prune stage again"
    unknown = (set(plan.kept) - set(graph.groups)) | (set(plan.dropped) - set(dropped))
    if unknown:
        raise EdgeError(f"the channel plan names {sorted(unknown)[0]!r}, which this network has not", remedy=remedy)
    for name, channels in plan.kept.items():
        if not channels or list(channels) != sorted({c for c in channels if 0 <= c < graph.size(name)}):
            raise EdgeError(f"the channel plan's list for {name!r} does not fit this network", remedy=remedy)
    return kept_channels(plan)


def _needed(model: Any, dropped: dict[str, Branch]) -> set[str]:
    """The layers that the outputs still depend on."""
    makers = made_by(model)
    found: set[str] = set()
    waiting = [makers[id(tensor)] for tensor in model.outputs]
    while waiting:
        layer = waiting.pop()
        if layer.name in found:
            continue
        found.add(layer.name)
        if type(layer).__name__ == "InputLayer":
            continue
        tensors = inputs_of(layer)
        if layer.name in dropped:
            tensors = [tensors[dropped[layer.name].skip]]
        waiting += [makers[id(tensor)] for tensor in tensors]
    return found


def _config(layer: Any, graph: ChannelGraph, kept: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    config: dict[str, Any] = layer.get_config()
    width = len(graph.kept(layer.output, kept))
    if isinstance(layer, keras().layers.Dense):
        config["units"] = width
    elif makes_channels(layer):
        config["filters"] = width
    elif isinstance(layer, keras().layers.Reshape):
        *places, _ = config["target_shape"]
        config["target_shape"] = (*places, width)
    return config


def _weights(layer: Any, graph: ChannelGraph, kept: dict[str, NDArray[np.int64]]) -> list[NDArray[Any]]:
    weights: list[NDArray[Any]] = layer.get_weights()
    if not weights:
        return []
    left = graph.kept(layer.output, kept)
    if makes_channels(layer):
        kernel, *bias = weights
        read = graph.kept(inputs_of(layer)[0], kept)
        # Kernels end in (channels in, channels out), of convolutions and dense layers alike.
        return [kernel[..., read, :][..., left], *(b[left] for b in bias)]
    if isinstance(layer, keras().layers.DepthwiseConv2D):
        kernel, *bias = weights
        return [kernel[:, :, left], *(b[left] for b in bias)]
    if isinstance(layer, keras().layers.BatchNormalization):
        return [w[left] for w in weights]
    # What else has weights has none a channel, such as the count of a dropout's calls.
    return weights
