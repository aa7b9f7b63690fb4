"""Maps from a gradient, inside the model: its backward pass, written as forward operations that TFLite has.

Grad-CAM (Selvaraju et al. 2017): the maps of a layer, each weighted by the mean gradient of the score in it, summed,
and what is left above zero. HiResCAM (Draelos and Carin 2020): each place weighted by its own gradient. TensorFlow's
own gradients do not convert (the operations are not TFLite's), so each kind of layer has its rule here: what it does to
a gradient that comes from behind. In float32 the result is that of the gradient tape; int8 rounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import RecipeError
from edge.saliency import OnRequest
from edge_convert.keras import keras, tensorflow
from edge_convert.network import LOGITS

SWISH = ("swish", "silu")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One forward run, by layer: values, its output; weights, its arrays as numbers.

    factors: of a convolution, by which the gradient of each of its output channels is still to be multiplied.
    """

    values: dict[str, Any]
    weights: dict[str, list[Any]]
    factors: dict[str, Any]


Rule = Callable[[Any, Any, Run], tuple[Any, ...]]
"""Of a layer, the gradient of its output and the run: the gradients of its inputs, in their order."""


def gradient_map(model: Any, layer: str, kind: OnRequest, cotangent: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function from one scaled picture (1, side, side, channels) to its map (1, rows, columns), float32, in logits.

    layer: the name of a cut of the network, whose maps are weighted. cotangent: from the logits (1, classes) to the
    gradient of the score in them. Raises RecipeError for a layer without a rule.
    """
    tf = tensorflow()
    behind = check_gradient(model, layer)
    needed = [layer, *(each.name for each in behind)]
    forward = keras().Model(model.input, [model.get_layer(name).output for name in needed], name="forward")
    # Read here: inside a function that is being traced, a variable has no numbers.
    arrays = {each.name: each.get_weights() for each in behind}

    def explain(picture: Any) -> Any:
        run = Run(values=dict(zip(needed, forward(picture, training=False), strict=True)), weights=arrays, factors={})
        gradients: dict[str, Any] = {LOGITS: cotangent(run.values[LOGITS])}
        for each in reversed(behind):
            given = _rule(each)(each, gradients.pop(each.name), run)
            for source, gradient in zip(_inputs(each), given, strict=True):
                known = gradients.get(source)
                gradients[source] = gradient if known is None else known + gradient
        maps, gradient = run.values[layer], gradients[layer]
        if kind == "hires-cam":
            # Times the places: as in the other kinds, the mean over the map is what the score stands on.
            return tf.nn.relu(tf.reduce_sum(maps * gradient, axis=-1)) * float(maps.shape[1] * maps.shape[2])
        # The sum over places, not their mean: the map is in logits so, and int8 rounds a small mean to nothing.
        weights = tf.reduce_sum(gradient, axis=[1, 2], keepdims=True)
        return tf.nn.relu(tf.reduce_sum(maps * weights, axis=-1))

    return explain


def check_gradient(model: Any, layer: str) -> list[Any]:
    """The layers behind the cut, each of which has a rule. Raises RecipeError for one without."""
    names = [each.name for each in model.layers]
    behind: list[Any] = model.layers[names.index(layer) + 1 :]
    for each in behind:
        _rule(each)
    return behind


def _inputs(layer: Any) -> list[str]:
    (node,) = layer.inbound_nodes
    parents = node.parent_nodes
    return [parent.layer.name for parent in parents]


def _rule(layer: Any) -> Rule:
    rule = _rules().get(type(layer).__name__)
    if rule is None:
        raise RecipeError(
            f"Grad-CAM cannot be compiled through the layer {layer.name!r} ({type(layer).__name__})",
            remedy="use saliency.on_request = 'none'; saliency.method = 'fine' needs no gradient",
        )
    return rule


def _same(_layer: Any, gradient: Any, _run: Run) -> tuple[Any, ...]:
    return (gradient,)


def _add(layer: Any, gradient: Any, _run: Run) -> tuple[Any, ...]:
    return tuple(gradient for _ in _inputs(layer))


def _dense(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    tf = tensorflow()
    before = _through(layer.activation.__name__, gradient, run.values[layer.name], None)
    return (tf.matmul(before, tf.constant(run.weights[layer.name][0].T)),)


def _batch_normalization(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    arrays = run.weights[layer.name]
    gamma = arrays[0] if layer.scale else 1.0
    # The moving variance is the last of its arrays.
    factor = (gamma / np.sqrt(arrays[-1] + layer.epsilon)).astype(np.float32)
    layers = keras().layers
    before = layer.inbound_nodes[0].parent_nodes[0].layer
    if isinstance(before, (layers.Conv2D, layers.DepthwiseConv2D)) and len(before.outbound_nodes) == 1:
        # Into its kernel: an int8 gradient keeps the even scale that it has behind a batch normalisation.
        run.factors[before.name] = factor
        return (gradient,)
    return (gradient * tensorflow().constant(factor),)


def _relu(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    tf = tensorflow()
    given = run.values[layer.name]
    passes = given > 0.0
    if layer.max_value is not None:
        passes = tf.logical_and(passes, given < float(layer.max_value))
    return (tf.where(passes, gradient, tf.zeros_like(gradient)),)


def _activation(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    return (_through(layer.activation.__name__, gradient, run.values[layer.name], run.values.get(_inputs(layer)[0])),)


def _through(activation: str, gradient: Any, output: Any, before: Any) -> Any:
    """The gradient in front of an activation. output, before: its value behind and in front of it."""
    tf = tensorflow()
    if activation == "linear":
        return gradient
    if activation == "relu":
        return tf.where(output > 0.0, gradient, tf.zeros_like(gradient))
    if activation == "sigmoid":
        return gradient * (output * (1.0 - output))
    if activation in SWISH and before is not None:
        gate = tf.sigmoid(before)
        # d(x s)/dx = s + x s (1 - s), and x s is the output.
        return gradient * (gate + output * (1.0 - gate))
    raise RecipeError(
        f"Grad-CAM cannot be compiled through the activation {activation!r}",
        remedy="use saliency.on_request = 'none'; saliency.method = 'fine' needs no gradient",
    )


def _multiply(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    tf = tensorflow()
    first, second = _inputs(layer)
    given = []
    for own, other in ((first, second), (second, first)):
        product = gradient * run.values[other]
        # Squeeze-and-excitation multiplies (1, 1, channels) into maps: its gradient is the sum over them.
        narrow = run.values[own].shape[1] == 1 and product.shape[1] != 1
        given.append(tf.reduce_sum(product, axis=[1, 2], keepdims=True) if narrow else product)
    return tuple(given)


def _reshape(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    return (tensorflow().reshape(gradient, run.values[_inputs(layer)[0]].shape),)


def _average(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    tf = tensorflow()
    _, rows, columns, channels = run.values[_inputs(layer)[0]].shape
    spread = tf.reshape(gradient * (1.0 / (rows * columns)), (1, 1, 1, channels))
    return (tf.tile(spread, (1, rows, columns, 1)),)


def _zero_padding(layer: Any, gradient: Any, _run: Run) -> tuple[Any, ...]:
    (top, bottom), (left, right) = layer.padding
    rows, columns = gradient.shape[1:3]
    return (gradient[:, top : rows - bottom, left : columns - right, :],)


def _conv2d(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    tf = tensorflow()
    source = _inputs(layer)[0]
    # (rows, columns, in, out): the factor is of the channels out.
    kernel = run.weights[layer.name][0] * run.factors.get(layer.name, np.float32(1))
    activation = _activation_of(layer, "linear")
    inside = _before_activation(layer, run) if activation in SWISH else None
    before = _through(activation, gradient, run.values[layer.name], inside)
    if kernel.shape[:2] == (1, 1) and layer.strides == (1, 1):
        turned = np.ascontiguousarray(kernel.transpose(0, 1, 3, 2))
        return (tf.nn.conv2d(before, tf.constant(turned), 1, "VALID"),)
    shape = tuple(run.values[source].shape)
    return (tf.nn.conv2d_transpose(before, tf.constant(kernel), shape, layer.strides, layer.padding.upper()),)


def _before_activation(layer: Any, run: Run) -> Any:
    """What a convolution gives to its own activation: squeeze-and-excitation's are small enough to be run again."""
    tf = tensorflow()
    kernel, bias = run.weights[layer.name]
    source = run.values[_inputs(layer)[0]]
    return tf.nn.bias_add(tf.nn.conv2d(source, tf.constant(kernel), layer.strides, layer.padding.upper()), bias)


def _depthwise(layer: Any, gradient: Any, run: Run) -> tuple[Any, ...]:
    """The kernel turned round, over the gradient with its strides filled up with zeros."""
    tf = tensorflow()
    # (rows, columns, channels, 1).
    kernel = run.weights[layer.name][0] * np.reshape(run.factors.get(layer.name, np.float32(1)), (-1, 1))
    size, stride = kernel.shape[0], layer.strides[0]
    rows = run.values[_inputs(layer)[0]].shape[1]
    places = gradient.shape[1]
    spread = _stuffed(gradient, stride) if stride > 1 else gradient
    front = _padding_in_front(rows, size, stride) if layer.padding == "same" else 0
    reach = (places - 1) * stride + 1
    before = size - 1 - front
    after = rows + size - 1 - before - reach
    padded = tf.pad(spread[:, :reach, :reach, :], ((0, 0), (before, after), (before, after), (0, 0)))
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    return (tf.nn.depthwise_conv2d(padded, tf.constant(turned), (1, 1, 1, 1), "VALID"),)


def _stuffed(gradient: Any, stride: int) -> Any:
    """Zeros between the places, in tensors of four axes only: int8 pads no more."""
    tf = tensorflow()
    _, rows, columns, channels = gradient.shape
    wide = tf.pad(tf.reshape(gradient, (1, rows * columns, 1, channels)), ((0, 0), (0, 0), (0, stride - 1), (0, 0)))
    tall = tf.reshape(wide, (1, rows, 1, columns * stride * channels))
    tall = tf.pad(tall, ((0, 0), (0, 0), (0, stride - 1), (0, 0)))
    return tf.reshape(tall, (1, rows * stride, columns * stride, channels))


def _padding_in_front(rows: int, size: int, stride: int) -> int:
    """Rows of zeros that `same` puts above."""
    out = -(-rows // stride)
    return max((out - 1) * stride + size - rows, 0) // 2


def _activation_of(layer: Any, otherwise: str) -> str:
    activation = getattr(layer, "activation", None)
    return otherwise if activation is None else str(activation.__name__)


def _rules() -> dict[str, Rule]:
    """By the layer's class name: tf_keras is imported only when a build needs it."""
    return {
        "Activation": _activation,
        "Add": _add,
        "BatchNormalization": _batch_normalization,
        "Conv2D": _conv2d,
        "Dense": _dense,
        "DepthwiseConv2D": _depthwise,
        "Dropout": _same,
        "GlobalAveragePooling2D": _average,
        "Multiply": _multiply,
        "ReLU": _relu,
        "Reshape": _reshape,
        "SeededDropout": _same,
        "ZeroPadding2D": _zero_padding,
    }
