"""Quantization-aware training: the exported network's weights learn to bear the rounding of its int8 form.

The network is the float32 file itself (see `simulate.py`), every tensor rounded to the steps that calibration pictures
have set; those stay as they are. The teacher is the same file without rounding, and there is no other one: what is
learned is to be what the float32 file is, in its class, its maps and its embeddings, so few pictures do and labels
cannot be learned by heart. What pruning has made zero stays zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import rescaled, run_batches, softmax
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.layers import OUTPUT_AXIS, Layer, layers_of, own_buffers, set_values
from edge_convert.quantize.ranges import Ranges, ranges_of
from edge_convert.quantize.simulate import Graph
from edge_convert.recipe import Recipe
from edge_convert.tflite_file import pack_model
from edge_convert.train.devices import devices
from edge_convert.train.epoch import measured
from edge_convert.train.finetune import set_seeds
from edge_convert.train.trainer import Keeping, Trainer

PHASE = "with rounding"
BATCH = 16
"""Each picture is computed twice, and rounding keeps each tensor twice for the gradient: half the usual memory."""

FEATURES = 0.1
"""Weight of maps and embeddings beside the divergence of the probabilities, which is what the verdict is made of."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A constant that learns: its tensor, what it is divided by so that 1 is much of it, and where it is not zero."""

    tensor: int
    unit: NDArray[np.float32]
    mask: NDArray[np.float32]


def train_aware(
    recipe: Recipe,
    prepared: Prepared,
    float32: bytes,
    int8: bytes,
    *,
    epochs: int,
    learning_rate: float,
    keeping: Keeping | None = None,
) -> Steps[bytes]:
    """The float32 file with weights that lose less when they are rounded as the int8 file rounds; without metadata.

    float32, int8: of the same network, int8 without float layers. epochs: passes over the training pictures. The
    weights kept are those under which the rounded network's probabilities are nearest to float32's on validation; the
    file's own, where no epoch brings them nearer. learning_rate: highest, in units of a kernel's largest weight.
    keeping: see `finetune`. Raises EdgeError for a file with a graph or an operation that cannot be trained.
    """
    backbone = find_backbone(recipe.network.backbone)
    graph, ranges = Graph(float32), ranges_of(float32, int8, backbone)
    if len(graph.content.subgraphs) > 1:
        raise EdgeError(
            "the map on request has a graph with weights of its own, which would stay as they are",
            remedy="set saliency.on_request = 'none', or quantize.aware_epochs = 0",
        )
    set_seeds(recipe.seed)
    # The loss knows no labels to mix.
    train = replace(recipe.train, batch=min(BATCH, recipe.train.batch), mixup=0.0, cutmix=0.0, ema=0.0, rate_decay=1.0)
    recipe = replace(recipe, train=replace(train, precision="float32"))
    on = devices(train.strategy)
    parts = trainable_parts(graph, ranges)
    with on.building("float32"):
        model = _rounded_network()(graph, parts, ranges)
    kept_by = _nearness(recipe, prepared, graph)
    rows = prepared.rows("val")
    logits = np.concatenate(list(run_batches(model, prepared.pictures, rows, backbone)))
    untrained = replace(measured(PHASE, 0, None, recipe, prepared, logits), validation_kept=kept_by(logits))
    yield Progress(done=0, total=1, note=str(untrained))
    trainer = Trainer(
        model,
        recipe,
        prepared,
        phase=PHASE,
        best=untrained,
        on=on,
        keeping=keeping,
        average=False,
        objective=_likeness(graph, model, ranges, backbone),
        kept_by=kept_by,
    )
    yield from trainer.run(epochs, learning_rate)
    return _written(graph, model)


def trainable_parts(graph: Graph, ranges: Ranges) -> list[Part]:
    """Kernels and biases of all layers that another layer reads from.

    The last ones stay: of the map and of the classes they are one and the same, and the mean of a class's map must
    stay its logit.
    """
    found = []
    for layer in _inner_layers(graph):
        kernel = graph.constants[layer.kernel]
        others = tuple(axis for axis in range(kernel.ndim) if axis != OUTPUT_AXIS[layer.operation])
        top = np.abs(kernel).max(axis=others, keepdims=True)
        low, high = ranges.get((graph.number, layer.output), (0.0, 1.0))
        bias = graph.constants[layer.bias]
        wide = np.full(bias.shape, max(high - low, 1e-6), np.float32)
        found.append(
            Part(
                tensor=layer.kernel,
                unit=np.broadcast_to(np.maximum(top, 1e-12), kernel.shape).astype(np.float32),
                mask=(kernel != 0).astype(np.float32),
            )
        )
        found.append(Part(tensor=layer.bias, unit=wide, mask=np.ones_like(wide)))
    return found


def _inner_layers(graph: Graph) -> list[Layer]:
    """The layers whose output reaches another layer."""
    layers = layers_of(graph.content)
    read = {layer.source for layer in layers}
    for _, operator in reversed(graph.operators):
        if int(operator.outputs[0]) in read:
            read |= set(map(int, operator.inputs))
    return [layer for layer in layers if layer.output in read]


@functools.cache
def _rounded_network() -> Any:
    """The model's class. Made on first use: its base class comes with TensorFlow."""

    class RoundedNetwork(keras().Model):  # type: ignore[misc]
        """Scaled pictures to logits as the int8 file gives them; its weights are the parts, each in its own unit."""

        def __init__(self, graph: Graph, parts: list[Part], ranges: Ranges) -> None:
            super().__init__(name="rounded")
            self._fixed = (graph, tuple(parts), ranges)
            for part in parts:
                value = graph.constants[part.tensor] / part.unit
                start = keras().initializers.Constant(value)
                self.add_weight(name=f"tensor_{part.tensor}", shape=value.shape, initializer=start, trainable=True)
            self.built = True

        def parts(self) -> dict[int, Any]:
            """The constants that learn, by tensor, as the file would hold them."""
            _, parts, _ = self._fixed
            return {p.tensor: v * (p.unit * p.mask) for p, v in zip(parts, self.trainable_variables, strict=True)}

        def call(self, scaled: Any, training: Any = None) -> Any:
            graph, _, ranges = self._fixed
            return graph.run(scaled, self.parts(), ranges)[graph.logits]

    return RoundedNetwork


def _likeness(graph: Graph, model: Any, ranges: Ranges, backbone: Any) -> Callable[[Any, Any], Any]:
    """A loss a picture: how far the rounded network's outputs are from those of the network without rounding.

    Kullback-Leibler divergence of the probabilities, and of maps and embeddings the squared error, each as a share of
    how much it varies over the batch: of one picture alone, the probabilities only.
    """
    tf = tensorflow()
    places = [place for role, place in graph.outputs.items() if role != "probabilities"]

    def loss(pictures: Any, _wanted: Any) -> Any:
        scaled = rescaled(tf.cast(pictures, tf.float32), backbone)
        real, found = graph.run(scaled), graph.run(scaled, model.parts(), ranges)
        wanted, given = (tf.nn.log_softmax(x[graph.logits]) for x in (real, found))
        total = tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)
        several = tf.cast(tf.shape(scaled)[0] > 1, tf.float32)
        for place in places:
            flat = [tf.reshape(x[place], (tf.shape(scaled)[0], -1)) for x in (real, found)]
            varies = tf.reduce_mean(tf.math.reduce_variance(flat[0], axis=0))
            total += several * FEATURES * tf.reduce_mean((flat[1] - flat[0]) ** 2, axis=1) / (varies + 1e-6)
        return total

    return loss


def _nearness(recipe: Recipe, prepared: Prepared, graph: Graph) -> Callable[[NDArray[np.float32]], float]:
    """A measure of validation logits: minus the root mean square difference of the finding's probability to float32's.

    It moves with every picture; AUC and flips move by single ones, and would choose by chance.
    """
    backbone, positive = find_backbone(recipe.network.backbone), [recipe.classes.index(p) for p in recipe.positive]

    def real(scaled: Any, **_: Any) -> Any:
        return graph.run(scaled)[graph.logits]

    def score(logits: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(softmax(logits)[:, positive].sum(axis=1), np.float64)

    wanted = score(np.concatenate(list(run_batches(real, prepared.pictures, prepared.rows("val"), backbone))))
    return lambda logits: -float(np.sqrt(((score(logits) - wanted) ** 2).mean()))


def _written(graph: Graph, model: Any) -> bytes:
    """The file with what was learned in it."""
    learned = {tensor: value.numpy() for tensor, value in model.parts().items()}
    own_buffers(graph.content, set(learned))
    for tensor, value in learned.items():
        set_values(graph.content, tensor, value)
    return pack_model(graph.content)
