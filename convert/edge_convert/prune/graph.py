"""Which channels of a network belong together: a group is removed everywhere at once, or not at all.

Every tensor's channel axis is a row of segments, each of one group. A convolution or dense layer begins a group with
its outputs; what computes each channel on its own hands it on; a sum or a product ties the groups of what it joins. So
the widths of a residual stream are one group, and so are an expansion, its depthwise convolution and the scale that
squeeze-and-excite gives it. Whatever a layer does that is not known here, nothing that it touches is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones.colour import colour_padding
from edge_convert.dropout import seeded_dropout
from edge_convert.keras import keras

PASSING = (
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Cropping2D",
    "DepthwiseConv2D",
    "Dropout",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LeakyReLU",
    "MaxPooling2D",
    "ReLU",
    "SpatialDropout2D",
    "ZeroPadding2D",
)
# Functions that Keras wraps where a network is written with operators; each with one tensor and a number.
SCALING = ("__operators__.add", "math.add", "math.multiply", "math.subtract", "math.truediv")
JOINING = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that are removed together. name: of the first layer that makes them.

    size: how many there are. makers: convolutions and dense layers whose outputs they are; carriers: layers with
    weights that compute each on its own; takers: convolutions and dense layers that read them.
    """

    name: str
    size: int
    makers: tuple[str, ...]
    carriers: tuple[str, ...]
    takers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A residual branch. name: of its sum. skip: which of the sum's inputs goes around it. layers: the branch's own."""

    name: str
    skip: int
    layers: tuple[str, ...]


class ChannelGraph:
    """The channel groups of a flat functional tf_keras model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._order = {layer.name: place for place, layer in enumerate(model.layers)}
        self._parent: dict[str, str] = {}
        self._size: dict[str, int] = {}
        self._fixed: set[str] = set()
        self._segments: dict[int, tuple[str, ...]] = {}
        for layer in model.layers:
            self._enter(layer)
        for output in model.outputs:
            self._fixed |= set(self._segments[id(output)])
        self.groups = self._grouped()
        self.branches = tuple(branch for branch in map(self._branch, model.layers) if branch is not None)

    def segments(self, tensor: Any) -> tuple[str, ...]:
        """The names of the groups along the tensor's channel axis; those of no group in `groups` are fixed."""
        return tuple(self._root(name) for name in self._segments[id(tensor)])

    def size(self, group: str) -> int:
        """How many channels a group has, fixed ones too."""
        return self._size[group]

    def kept(self, tensor: Any, plan: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        """The places along a tensor's channel axis that are left. plan: the channels left by group, where cut."""
        places, offset = [], 0
        for name in self.segments(tensor):
            size = self._size[name]
            places.append(offset + plan.get(name, np.arange(size)))
            offset += size
        return np.concatenate(places).astype(np.int64)

    def _enter(self, layer: Any) -> None:
        kind = type(layer).__name__
        inputs, output = inputs_of(layer), layer.output
        if kind == "InputLayer" or isinstance(layer, colour_padding()):
            self._begin(layer, output, fixed=True)
        elif makes_channels(layer):
            self._begin(layer, output, fixed=not _is_plain(layer))
        elif self._hands_on(layer) or (kind in JOINING and self._join(inputs)):
            self._segments[id(output)] = self._segments[id(inputs[0])]
        elif kind == "Concatenate" and layer.axis in (-1, len(output.shape) - 1):
            self._segments[id(output)] = tuple(name for tensor in inputs for name in self._segments[id(tensor)])
        elif kind == "Flatten" and layer.data_format == "channels_last":
            self._segments[id(output)] = self._segments[id(inputs[0])] * int(np.prod(inputs[0].shape[1:-1]))
        else:
            for tensor in inputs:
                self._fixed |= set(self._segments[id(tensor)])
            self._begin(layer, output, fixed=True)

    def _hands_on(self, layer: Any) -> bool:
        """Whether the layer computes each channel on its own."""
        kind = type(layer).__name__
        if kind == "Reshape":
            return bool(layer.output.shape[-1] == layer.input.shape[-1])
        return (kind in PASSING and _is_plain(layer)) or isinstance(layer, seeded_dropout()) or _is_scaling(layer)

    def _begin(self, layer: Any, output: Any, *, fixed: bool) -> None:
        tensor = output[0] if isinstance(output, list) else output
        self._parent[layer.name], self._size[layer.name] = layer.name, int(tensor.shape[-1])
        if fixed:
            self._fixed.add(layer.name)
        if fixed and makes_channels(layer):
            self._fixed |= set(self._segments[id(inputs_of(layer)[0])])
        self._segments[id(tensor)] = (layer.name,)

    def _join(self, inputs: Sequence[Any]) -> bool:
        """Tie what is joined, segment by segment. Returns whether the segments fit."""
        first, *others = (self._segments[id(tensor)] for tensor in inputs)
        widths = [self._size[name] for name in first]
        if any([self._size[name] for name in other] != widths for other in others):
            return False
        for other in others:
            for a, b in zip(first, other, strict=True):
                # The earliest names them all: it is never of a branch that may go.
                first_made, other_made = sorted((self._root(a), self._root(b)), key=self._order.__getitem__)
                self._parent[other_made] = first_made
        return True

    def by_group(self, tensor: Any, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Values along a tensor's channel axis, summed for each channel of each group that is in it."""
        found: dict[str, NDArray[np.float64]] = {}
        offset = 0
        for name in self.segments(tensor):
            part = values[offset : offset + self._size[name]]
            found[name] = found[name] + part if name in found else part
            offset += self._size[name]
        return found

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def _grouped(self) -> dict[str, Group]:
        """The groups that may be cut, by name. A fixed member fixes its whole group."""
        fixed = {self._root(name) for name in self._fixed}
        roles: dict[str, dict[str, list[str]]] = {}
        for layer in self.model.layers:
            if not layer.weights:
                continue
            if makes_channels(layer):
                places = [("takers", inputs_of(layer)[0]), ("makers", layer.output)]
            else:
                places = [("carriers", layer.output)]
            for role, tensor in places:
                for name in dict.fromkeys(self.segments(tensor)):
                    found = roles.setdefault(name, {"makers": [], "carriers": [], "takers": []})
                    found[role].append(layer.name)
        return {
            name: Group(name=name, size=self._size[name], **{role: tuple(found) for role, found in members.items()})
            for name, members in roles.items()
            if name not in fixed and members["takers"]
        }

    def _branch(self, layer: Any) -> Branch | None:
        """The residual branch that ends in a sum: all that lies between its one input and the other."""
        if type(layer).__name__ != "Add" or len(inputs_of(layer)) != 2:
            return None
        for skip, (around, end) in enumerate((inputs_of(layer), inputs_of(layer)[::-1])):
            own = self._between(around, end)
            if own is not None:
                return Branch(name=layer.name, skip=skip, layers=own)
        return None

    def _between(self, start: Any, end: Any) -> tuple[str, ...] | None:
        """The layers that lead from one tensor to another, where that is all they do; else None."""
        makers = made_by(self.model)
        found: dict[str, Any] = {}
        waiting = [end]
        while waiting:
            tensor = waiting.pop()
            if tensor is start:
                continue
            layer = makers[id(tensor)]
            if type(layer).__name__ == "InputLayer":
                return None
            if layer.name not in found:
                found[layer.name] = layer
                waiting += inputs_of(layer)
        return tuple(layer.name for layer in self.model.layers if layer.name in found) or None


def makes_channels(layer: Any) -> bool:
    """Whether the layer's outputs are new channels, each a sum over all of its inputs: convolution and dense."""
    layers = keras().layers
    return isinstance(layer, (layers.Conv2D, layers.Dense)) and not isinstance(layer, layers.DepthwiseConv2D)


def made_by(model: Any) -> dict[int, Any]:
    """The layers by the identity of the tensor that each gives."""
    return {id(tensor): layer for layer in model.layers for tensor in _as_list(layer.output)}


def _as_list(tensors: Any) -> list[Any]:
    return tensors if isinstance(tensors, list) else [tensors]


def inputs_of(layer: Any) -> list[Any]:
    """The tensors that a layer takes."""
    return _as_list(layer.input)


def _is_scaling(layer: Any) -> bool:
    """Whether the layer adds one number to every value or multiplies by it, such as in a hard swish."""
    if type(layer).__name__ != "TFOpLambda" or len(inputs_of(layer)) != 1:
        return False
    node = layer.inbound_nodes[0]
    others = [v for v in (*node.call_args, *node.call_kwargs.values()) if v is not layer.input and v is not None]
    return layer.get_config()["function"] in SCALING and all(isinstance(v, (int, float, str)) for v in others)


def _is_plain(layer: Any) -> bool:
    """Channels last, no groups, one depthwise kernel a channel, normalisation over channels."""
    return (
        getattr(layer, "data_format", "channels_last") == "channels_last"
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "depth_multiplier", 1) == 1
        and (
            not hasattr(layer, "axis") or list(np.atleast_1d(layer.axis)) in ([3], [-1], [len(layer.output.shape) - 1])
        )
    )
