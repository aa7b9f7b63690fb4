"""How much a network would miss each channel of each group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import scaled
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.prune.graph import ChannelGraph, inputs_of
from edge_convert.recipe import Importance, Recipe
from edge_convert.train.loss import picture_loss

Scores = dict[str, NDArray[np.float64]]
"""By group, (channels,): what the network would lose, 0 or more, comparable over groups."""

BATCHES = 24
"""Of training pictures, for the gradients."""


def importance(recipe: Recipe, graph: ChannelGraph, prepared: Prepared) -> Steps[Scores]:
    """The importance of every channel by the recipe's `prune.importance`."""
    return (yield from IMPORTANCES[recipe.prune.importance](recipe, graph, prepared))


def taylor(recipe: Recipe, graph: ChannelGraph, prepared: Prepared) -> Steps[Scores]:
    """The squared first-order change of the loss if the channel were zero wherever it is read, mean over batches.

    That change is activation times gradient, summed (Molchanov et al. 2017, eq. 8; squared as in Molchanov et al. 2019,
    eq. 8). A convolution is linear in what it reads, so the sum over the activations it reads of a channel equals the
    sum over its kernel's weights for that channel, weight times gradient: no activation has to be kept.
    """
    tf = tensorflow()
    model, backbone, loss = graph.model, find_backbone(recipe.network.backbone), picture_loss(recipe.train)
    takers = [model.get_layer(n) for n in dict.fromkeys(name for g in graph.groups.values() for name in g.takers)]
    kernels = [layer.kernel for layer in takers]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def gradients(pictures: Any, wanted: Any, weights: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            lost = tf.reduce_mean(loss(wanted, model(pictures, training=False)) * weights)
        # Of each kernel (..., channels in, channels out): one number a channel in.
        products = zip(kernels, tape.gradient(lost, kernels), strict=True)
        return [tf.reduce_sum(tf.reshape(k * g, (-1, k.shape[-2], k.shape[-1])), (0, 2)) for k, g in products]

    squares = {name: np.zeros(group.size) for name, group in graph.groups.items()}
    batches = _batches(recipe, prepared)
    of_class = prepared.class_weights(recipe.train)
    for done, rows in enumerate(batches):
        targets = np.eye(len(recipe.classes), dtype=np.float32)[prepared.targets[rows]]
        found = gradients(scaled(prepared.pictures[rows], backbone), targets, targets @ of_class)
        change = {name: np.zeros(group.size) for name, group in graph.groups.items()}
        for layer, per_channel in zip(takers, found, strict=True):
            for name, part in graph.by_group(inputs_of(layer)[0], per_channel.numpy().astype(np.float64)).items():
                if name in change:
                    change[name] += part
        for name, part in change.items():
            squares[name] += part**2 / len(batches)
        yield Progress(done=done + 1, total=len(batches))
    return squares


def bn_scale(_recipe: Recipe, graph: ChannelGraph, _prepared: Prepared) -> Steps[Scores]:
    """The mean absolute scale of the batch normalisations that a group passes (Liu et al. 2017, network slimming).

    Raises RecipeError for a network without them.
    """
    yield Progress(done=1, total=1)
    found: Scores = {}
    for name, group in graph.groups.items():
        scales = []
        for carrier in map(graph.model.get_layer, group.carriers):
            if isinstance(carrier, keras().layers.BatchNormalization) and carrier.scale:
                gamma = np.abs(carrier.gamma.numpy().astype(np.float64))
                scales.append(graph.by_group(carrier.output, gamma)[name])
        if not scales:
            raise RecipeError(
                f"prune.importance is 'bn-scale', and no batch normalisation follows {name}",
                remedy="use prune.importance = 'taylor'",
            )
        found[name] = np.asarray(np.mean(scales, axis=0))
    return found


def _batches(recipe: Recipe, prepared: Prepared) -> list[NDArray[np.int64]]:
    """Rows of training pictures as they are, drawn by the seed, in batches."""
    rows = np.random.default_rng(recipe.seed).permutation(prepared.rows("train"))
    size = recipe.train.batch
    return [np.sort(rows[start : start + size]) for start in range(0, min(len(rows), BATCHES * size), size)]


IMPORTANCES: dict[Importance, Callable[[Recipe, ChannelGraph, Prepared], Steps[Scores]]] = {
    "taylor": taylor,
    "bn-scale": bn_scale,
}
