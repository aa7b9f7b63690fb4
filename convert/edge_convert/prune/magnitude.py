"""Magnitude pruning (Zhu and Gupta 2017) with the TensorFlow Model Optimization Toolkit.

What it buys is compressed size, and so do few values to share among the weights that are left. Neither buys time on
int8, in whatever pattern the zeros lie: the kernels multiply zeros as fast as anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_convert.keras import keras, model_optimization
from edge_convert.network import LOGITS, freeze
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch, validated
from edge_convert.train.finetune import set_seeds
from edge_convert.train.trainer import Keeping, Teacher, Trainer

SMALLEST_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class LayerSparsity:
    """One kernel: how many weights it has and which share of them is zero."""

    layer: str
    weights: int
    sparsity: float


def prune(
    recipe: Recipe, model: Any, prepared: Prepared, *, keeping: Keeping | None = None, teacher: Teacher | None = None
) -> Steps[tuple[Any, list[Epoch], list[LayerSparsity]]]:
    """Prune a trained classifier while it trains on. Returns the plain model, the history and the zeros by layer.

    keeping, teacher: see `finetune`.
    """
    if not recipe.prune.makes_zeros:
        return model, [], sparsity_by_layer(model)
    on = devices(recipe.train.strategy)
    set_seeds(recipe.seed)
    even_out_channels(model)
    with on.building(recipe.train.precision):
        wrapped = _wrap(model, recipe, prepared)
    callback = model_optimization().sparsity.keras.UpdatePruningStep()
    callback.set_model(wrapped)
    callback.on_train_begin()
    trainer = Trainer(wrapped, recipe, prepared, phase="prune", on=on, keeping=keeping, teacher=teacher, average=False)
    # Only weights that have reached the final sparsity may be kept.
    history = yield from trainer.run(
        recipe.prune.epochs,
        recipe.prune.learning_rate,
        callback=callback,
        count_from=min(recipe.prune.epochs, _ramp_epochs(recipe) + 1),
    )
    for layer, pruned in zip(model.layers, wrapped.layers, strict=True):
        weights = getattr(pruned, "layer", pruned).get_weights()
        layer.set_weights(weights)
    if recipe.prune.shares_values:
        share_values(model, choose_layers(model), recipe.prune.weight_bits)
        history = [*history, validated(f"{recipe.prune.weight_bits}-bit weights", recipe, prepared, model)]
        yield Progress(done=1, total=1, note=str(history[-1]))
    return model, history, sparsity_by_layer(model)


def share_values(model: Any, names: Sequence[str], bits: int) -> None:
    """Round the named layers' kernels to 2^bits - 1 evenly spaced values a channel, from minus to plus its largest.

    Zeros stay zeros. int8 has its steps by channel as well, so these values are values of the int8 file.
    """
    levels = 2 ** (bits - 1) - 1
    for name in names:
        layer = model.get_layer(name)
        kernel, *others = layer.get_weights()
        step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / levels
        rounded = np.round(kernel / np.where(step > 0, step, 1)) * step
        layer.set_weights([rounded.astype(np.float32), *others])


def sparsity_by_layer(model: Any) -> list[LayerSparsity]:
    """The share of zeros in each convolution and dense kernel, in the model's order."""
    rows = []
    for layer in model.layers:
        if layer.weights and isinstance(layer, (keras().layers.Conv2D, keras().layers.Dense)):
            kernel = layer.get_weights()[0]
            rows.append(LayerSparsity(layer=layer.name, weights=int(kernel.size), sparsity=float(np.mean(kernel == 0))))
    return rows


def total_sparsity(rows: Sequence[LayerSparsity]) -> float:
    """The share of zeros over all kernels together."""
    return sum(row.weights * row.sparsity for row in rows) / max(1, sum(row.weights for row in rows))


def choose_layers(model: Any) -> list[str]:
    """The layers to prune: every convolution and dense kernel with at least 1 % of the weights, but the last layer.

    The many small ones near the picture hold little to save and are the ones a network misses most.
    """
    layers = keras().layers
    kernels = {
        layer.name: int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if type(layer) in (layers.Conv2D, layers.Dense) and layer.name != LOGITS
    }
    total = sum(kernels.values())
    return [name for name, weights in kernels.items() if weights >= SMALLEST_SHARE * total]


def even_out_channels(model: Any) -> None:
    """Give every output channel of a convolution the same norm, and the batch normalisation behind it the factor.

    The network computes the same. But magnitudes become comparable: otherwise a layer whose channels differ in scale
    (as where batch normalisation was folded into the kernels) loses its quiet channels whole.
    """
    layers = keras().layers
    for layer in model.layers:
        if type(layer) is not layers.Conv2D or layer.use_bias:
            continue
        followers = [node.layer for node in layer.outbound_nodes]
        if len(followers) != 1 or not isinstance(followers[0], layers.BatchNormalization):
            continue
        (kernel,) = layer.get_weights()
        norms = np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
        if not norms.any():
            continue
        # The median channel keeps its scale, and with it the learning rate its meaning.
        factors = np.where(norms > 0, norms, 1.0) / np.median(norms[norms > 0])
        gamma, beta, mean, variance = followers[0].get_weights()
        layer.set_weights([(kernel / factors).astype(np.float32)])
        # (w x / f - mean / f) * (gamma f) is w x - mean times gamma; the variance belongs to the second factor.
        followers[0].set_weights([gamma * factors, beta, mean / factors, variance])


def _ramp_epochs(recipe: Recipe) -> int:
    """Epochs in which the sparsity still rises."""
    return max(1, recipe.prune.epochs // 2) if recipe.prune.schedule == "polynomial" else 0


def _schedule(recipe: Recipe, batches: int) -> Any:
    """How the sparsity rises. batches: steps an epoch."""
    schedules, frequency = model_optimization().sparsity.keras, max(1, batches // 10)
    if recipe.prune.schedule == "constant":
        return schedules.ConstantSparsity(recipe.prune.sparsity, begin_step=0, frequency=frequency)
    return schedules.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=recipe.prune.sparsity,
        begin_step=0,
        # One step early, so that the epoch after the ramp begins at the final sparsity.
        end_step=max(1, batches * _ramp_epochs(recipe) - 1),
        frequency=frequency,
    )


def _wrap(model: Any, recipe: Recipe, prepared: Prepared) -> Any:
    """A copy of the model whose chosen kernels are pruned as it trains, from the first of them on.

    The whole model cannot be wrapped at once: the toolkit refuses layers it does not know, for example Rescaling.
    """
    tfmot = model_optimization()
    batches = -(-len(prepared.rows("train")) // recipe.train.batch)
    chosen = choose_layers(model)
    options: dict[str, Any] = {"pruning_schedule": _schedule(recipe, batches)}
    if recipe.prune.pattern == "2:4":
        options["sparsity_m_by_n"] = (2, 4)

    def clone(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config())
        if layer.name in chosen:
            return tfmot.sparsity.keras.prune_low_magnitude(copy, **options)
        return copy

    wrapped = keras().models.clone_model(model, clone_function=clone)
    # Cloning draws new weights: give each layer its trained ones back.
    for layer, copy in zip(model.layers, wrapped.layers, strict=True):
        getattr(copy, "layer", copy).set_weights(layer.get_weights())
    first = next(layer.name for layer in wrapped.layers if hasattr(layer, "pruning_vars"))
    freeze(wrapped, first)
    return wrapped
