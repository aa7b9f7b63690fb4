"""Weights fitted anew after a cut, each layer's to what the unpruned network's gives: least squares, no descent.

A cut leaves kernels that were made for inputs which are gone. Each layer with a kernel, first to last, is fitted to
what the same layer of the unpruned network gives for the same training pictures, from what the smaller network now
feeds it; so it also makes up for what those before it could not (He, Zhang and Sun 2017, section 3.2). Where two
branches end in a sum, the layer that is fitted last is fitted to the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones import find_backbone
from edge_convert.keras import keras
from edge_convert.network import scaled
from edge_convert.prepare import Prepared, share_out
from edge_convert.progress import Progress, Steps
from edge_convert.prune.cut import Plan, called, kept_channels
from edge_convert.prune.graph import ChannelGraph, inputs_of, made_by
from edge_convert.prune.least_squares import fit_depthwise, fit_kernel
from edge_convert.prune.windows import Places, Values, is_depthwise, is_linear_in_windows, linear
from edge_convert.recipe import Recipe

PICTURES = 256
"""Training pictures, at most, every class alike."""

LARGEST = 2**30
"""Bytes of the largest layer's output for all the pictures together: fewer pictures for larger networks."""

BATCH = 32
"""Pictures that run at a time."""

LEAST_SCALE = 1e-3
"""A channel that batch normalisation multiplies by less is not asked to make up for the error of a sum."""

Targets = dict[str, list[NDArray[np.float32]]]
"""By layer or sum, a batch each: (pictures, places, channels)."""


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What a layer's output is added to. name: of the sum. other: the tensor that it is added to.

    scale, shift: of the batch normalisation between, (channels,).
    """

    name: str
    other: Any
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def refit(recipe: Recipe, whole: Any, smaller: Any, plan: Plan, prepared: Prepared) -> Steps[None]:
    """Fit the smaller network's kernels, biases and batch normalisations' means in place.

    whole: flat functional tf_keras, not changed. smaller: `cut(whole, plan)`, with whatever weights.
    """
    pictures, places = _pictures(recipe, whole, prepared), Places(recipe.seed)
    layers = [layer for layer in smaller.layers if is_linear_in_windows(layer)]
    sums = sums_of(smaller, layers)
    names = {layer.name for layer in layers}
    targets = yield from _targets(whole, plan, names, {end.name for end in sums.values()}, pictures, places)
    for layer, batches in _walk(smaller, pictures, sums):
        if layer.name in names:
            _fit(smaller, layer, batches, targets, places, sums.get(layer.name))
        yield Progress(done=1, total=1)


def _targets(
    whole: Any,
    plan: Plan,
    names: set[str],
    ends: set[str],
    pictures: Sequence[NDArray[np.float32]],
    places: Places,
) -> Steps[Targets]:
    """What the whole network's layers give before their activations, and its sums, of the channels that are left."""
    graph, left = ChannelGraph(whole), kept_channels(plan)
    targets: Targets = {}
    for layer, batches in _walk(whole, pictures, {}):
        if layer.name in names:
            given = [linear(layer, places.read(layer, found, number)) for number, found in enumerate(batches)]
        elif layer.name in ends:
            first, second = map(id, inputs_of(layer))
            given = [places.at(found[first] + found[second], number) for number, found in enumerate(batches)]
        else:
            continue
        kept = graph.kept(layer.output, left)
        targets[layer.name] = [part[..., kept] for part in given]
        yield Progress(done=1, total=1)
    return targets


def _fit(model: Any, layer: Any, batches: Sequence[Values], targets: Targets, places: Places, end: Sum | None) -> None:
    """Fit one layer. What is to be added to its output goes to its bias, or to the normalisation behind it."""
    seen = [places.read(layer, found, number) for number, found in enumerate(batches)]
    wanted = targets.pop(layer.name)
    if end is not None:
        able = np.abs(end.scale) > LEAST_SCALE
        for number, (found, total) in enumerate(zip(batches, targets.pop(end.name), strict=True)):
            missing = (total - places.at(found[id(end.other)], number) - end.shift) / np.where(able, end.scale, 1)
            wanted[number] = np.where(able, missing, wanted[number])
    x, y = np.concatenate(seen), np.concatenate(wanted)
    x, y = x.reshape(-1, *x.shape[2:]), y.reshape(-1, y.shape[2])
    kernel, *bias = layer.get_weights()
    reader = None if bias else _only_reader(model, layer.output)
    normalisation = reader if isinstance(reader, keras().layers.BatchNormalization) else None
    shifted = bool(bias) or normalisation is not None
    if is_depthwise(layer):
        fitted, shift = fit_depthwise(x, y, kernel, shifted=shifted)
    else:
        dropped = getattr(made_by(model)[id(inputs_of(layer)[0])], "rate", 0.0)
        fitted, shift = fit_kernel(x.reshape(len(x), -1), y, kernel, shifted=shifted, dropped=dropped)
    layer.set_weights([fitted, *([shift] if bias else [])])
    if normalisation is not None:
        *scales, mean, variance = normalisation.get_weights()
        normalisation.set_weights([*scales, mean - shift, variance])


def _walk(
    model: Any, pictures: Sequence[NDArray[np.float32]], sums: Mapping[str, Sum]
) -> Iterator[tuple[Any, Sequence[Values]]]:
    """Run the network layer by layer, all pictures at once: each layer, before it runs, and the batches that it reads.

    sums: what a layer reads besides, for whoever fits it. A value is forgotten when all that read it have run.
    """
    order = _order(model, sums)
    readers = Counter(id(tensor) for layer in order for tensor in _read_by(layer, sums))
    batches: list[Values] = [{} for _ in pictures]
    for layer in order:
        if type(layer).__name__ == "InputLayer":
            for found, batch in zip(batches, pictures, strict=True):
                found[id(layer.output)] = batch
            continue
        yield layer, batches
        for found in batches:
            found[id(layer.output)] = called(layer, layer, found)
        for tensor in _read_by(layer, sums):
            readers[id(tensor)] -= 1
            if not readers[id(tensor)]:
                for found in batches:
                    del found[id(tensor)]


def _order(model: Any, sums: Mapping[str, Sum]) -> list[Any]:
    """The layers so that each comes behind what it reads, and behind what its sum adds to it."""
    makers, found = made_by(model), dict[str, Any]()

    def enter(layer: Any) -> None:
        if layer.name in found:
            return
        for tensor in _read_by(layer, sums):
            enter(makers[id(tensor)])
        found[layer.name] = layer

    for layer in model.layers:
        enter(layer)
    return list(found.values())


def _read_by(layer: Any, sums: Mapping[str, Sum]) -> list[Any]:
    """The tensors that must be there when the layer runs, each once."""
    if type(layer).__name__ == "InputLayer":
        return []
    end = sums.get(layer.name)
    tensors = [*inputs_of(layer), *([end.other] if end is not None else [])]
    return list({id(tensor): tensor for tensor in tensors}.values())


def sums_of(model: Any, layers: Sequence[Any]) -> dict[str, Sum]:
    """By layer: the sum of two that its output goes into straight, or through batch normalisation and dropout alone.

    Of two layers that go into the same one it is the later: the earlier is fitted when its turn comes.
    """
    by_end: dict[str, tuple[str, Sum]] = {}
    for layer in layers:
        is_linear = layer.activation is keras().activations.linear
        found = _sum_behind(model, layer) if is_linear else None
        if found is not None:
            by_end[found.name] = (layer.name, found)
    return dict(by_end.values())


def _sum_behind(model: Any, layer: Any) -> Sum | None:
    tensor = layer.output
    scale, shift = np.ones(tensor.shape[-1]), np.zeros(tensor.shape[-1])
    while (reader := _only_reader(model, tensor)) is not None:
        if type(reader).__name__ == "Add" and len(inputs_of(reader)) == 2:
            first, second = inputs_of(reader)
            return Sum(name=reader.name, other=second if first is tensor else first, scale=scale, shift=shift)
        if isinstance(reader, keras().layers.BatchNormalization):
            gamma = reader.gamma.numpy() if reader.scale else 1.0
            beta = reader.beta.numpy() if reader.center else 0.0
            factor = gamma / np.sqrt(reader.moving_variance.numpy() + reader.epsilon)
            scale, shift = scale * factor, (shift - reader.moving_mean.numpy()) * factor + beta
        elif "Dropout" not in type(reader).__name__:
            return None
        tensor = reader.output
    return None


def _only_reader(model: Any, tensor: Any) -> Any:
    """The one layer that reads a tensor; None where there are more, or none, or it is an output."""
    readers = [
        layer
        for layer in model.layers
        if type(layer).__name__ != "InputLayer" and any(given is tensor for given in inputs_of(layer))
    ]
    return readers[0] if len(readers) == 1 and not any(tensor is output for output in model.outputs) else None


def _pictures(recipe: Recipe, whole: Any, prepared: Prepared) -> list[NDArray[np.float32]]:
    """Batches of scaled training pictures, drawn by the seed, every class alike as far as there are enough."""
    largest = max(int(np.prod(layer.output.shape[1:])) for layer in whole.layers if not isinstance(layer.output, list))
    count = max(BATCH, min(PICTURES, LARGEST // (4 * largest)))
    train = np.random.default_rng(recipe.seed).permutation(prepared.rows("train"))
    by_class = [train[prepared.targets[train] == index] for index in range(len(prepared.classes))]
    shares = share_out([len(rows) for rows in by_class], count)
    rows = np.sort(np.concatenate([rows[:share] for rows, share in zip(by_class, shares, strict=True)]))
    backbone = find_backbone(recipe.network.backbone)
    return [scaled(prepared.pictures[rows[start : start + BATCH]], backbone) for start in range(0, len(rows), BATCH)]
