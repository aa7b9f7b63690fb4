"""An exported float32 file's main graph in TensorFlow, with and without the rounding of its int8 form.

Gradients go through it, so that its weights can learn to bear the rounding. It is made from the file and not from the
Keras network: here the operations are those that the int8 file has, batch normalisation is folded, each tensor is
rounded where the int8 file rounds it, and every backbone, pruned or not, is the same few operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.export import SCREEN
from edge_convert.keras import tensorflow
from edge_convert.quantize.layers import NUMBERS, OUTPUT_AXIS
from edge_convert.quantize.ranges import Ranges, read_graph
from edge_convert.quantize.watch import operation_names

BITS = 8
PADDING = {schema.Padding.SAME: "SAME", schema.Padding.VALID: "VALID"}


class Graph:
    """The operations of the graph that screens, for any number of pictures at once.

    content: the file as flatbuffer objects. constants: by tensor, as the file holds them. outputs: its tensors by role.
    """

    def __init__(self, float32: bytes) -> None:
        """float32: an exported float32 file. Raises EdgeError for an operation that is not known here."""
        self.content = read_graph(float32)
        (signature,) = [s for s in self.content.signatureDefs if s.signatureKey.decode() == SCREEN]
        self.number = int(signature.subgraphIndex)
        self._subgraph = self.content.subgraphs[self.number]
        self.outputs = {entry.name.decode(): int(entry.tensorIndex) for entry in signature.outputs}
        names = operation_names(self.content)
        self.operators = [(names[operator.opcodeIndex], operator) for operator in self._subgraph.operators]
        unknown = sorted({name for name, _ in self.operators} - set(_OPERATIONS))
        if unknown:
            raise EdgeError(
                f"the training with rounding does not know the operation {', '.join(unknown)}",
                remedy="set quantize.aware_epochs = 0",
            )
        self.constants = self._read_constants()
        (self.logits,) = [int(operator.inputs[0]) for name, operator in self.operators if name == "SOFTMAX"]

    def run(
        self,
        scaled: Any,
        constants: Mapping[int, Any] | None = None,
        ranges: Ranges | None = None,
    ) -> dict[int, Any]:
        """Every tensor that is computed, by its number, in float32.

        scaled: (n, side, side, channels), as the float network takes it. constants: in place of the file's.
        ranges: round every tensor that has one to its 256 steps, and each kernel per output channel to 255; None
        computes as the float32 file does. A gradient passes rounding as if it were not there (Bengio et al. 2013), and
        stops at what a range cuts off.
        """
        given = {**self.constants, **(constants or {})}
        found: dict[int, Any] = {}

        def rounded(index: int, value: Any) -> Any:
            limits = (ranges or {}).get((self.number, index))
            return value if limits is None else _rounded(value, *limits)

        (picture,) = map(int, self._subgraph.inputs)
        found[picture] = rounded(picture, tensorflow().convert_to_tensor(scaled))
        for name, operator in self.operators:
            inputs = [int(index) for index in operator.inputs]
            values = [found.get(index, given.get(index)) for index in inputs]
            if ranges is not None and name in OUTPUT_AXIS and inputs[1] in given:
                values[1] = rounded_kernel(values[1], OUTPUT_AXIS[name])
            (output,) = map(int, operator.outputs)
            value = _OPERATIONS[name](values, operator.builtinOptions)
            found[output] = rounded(output, value)
        return found

    def _read_constants(self) -> dict[int, NDArray[Any]]:
        found = {}
        for index, tensor in enumerate(self._subgraph.tensors):
            data = self.content.buffers[tensor.buffer].data
            if tensor.type in NUMBERS and data is not None and len(data):
                # A file may leave the shape of a number out.
                shape = tuple(tensor.shape) if tensor.shape is not None else ()
                found[index] = np.array(np.array(data, np.uint8).view(NUMBERS[tensor.type]).reshape(shape))
        return found


def rounded_kernel(kernel: Any, axis: int) -> Any:
    """A kernel in 255 steps a channel of that axis, from minus to plus its largest weight, as TFLite stores it."""
    tf = tensorflow()
    others = [place for place in range(len(kernel.shape)) if place != axis]
    last = (*others, axis)
    turned = tf.transpose(kernel, last)
    top = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(turned), axis=list(range(len(others)))), 1e-12))
    steps = tf.quantization.fake_quant_with_min_max_vars_per_channel(turned, -top, top, BITS, narrow_range=True)
    return tf.transpose(steps, np.argsort(last))


def _rounded(value: Any, low: float, high: float) -> Any:
    # A tensor that is nothing but zeros has no range.
    if low == high:
        return value
    return tensorflow().quantization.fake_quant_with_min_max_args(value, low, high, BITS)


def _limited(value: Any, limit: int) -> Any:
    """The activation inside an operation."""
    tf, kinds = tensorflow(), schema.ActivationFunctionType
    known = {kinds.NONE: tf.identity, kinds.RELU: tf.nn.relu, kinds.RELU6: tf.nn.relu6}
    return known[limit](value)


def _conv(values: list[Any], options: Any) -> Any:
    tf = tensorflow()
    picture, kernel, *bias = values
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    padding = PADDING[options.padding]
    # TFLite has the output channels first, TensorFlow last.
    found = tf.nn.conv2d(picture, tf.transpose(kernel, (1, 2, 3, 0)), strides, padding, dilations=dilations)
    return _biased(found, bias, options)


def _depthwise(values: list[Any], options: Any) -> Any:
    tf = tensorflow()
    picture, kernel, *bias = values
    _, rows, columns, made = kernel.shape
    channels = picture.shape[-1]
    found = tf.nn.depthwise_conv2d(
        picture,
        tf.reshape(kernel, (rows, columns, channels, made // channels)),
        (1, options.strideH, options.strideW, 1),
        PADDING[options.padding],
        dilations=(options.dilationHFactor, options.dilationWFactor),
    )
    return _biased(found, bias, options)


def _dense(values: list[Any], options: Any) -> Any:
    tf = tensorflow()
    rows, kernel, *bias = values
    return _biased(tf.matmul(tf.reshape(rows, (-1, kernel.shape[1])), kernel, transpose_b=True), bias, options)


def _biased(value: Any, bias: list[Any], options: Any) -> Any:
    given = [b for b in bias if b is not None]
    return _limited(value + given[0] if given else value, options.fusedActivationFunction)


def _pool(kind: str) -> Callable[[list[Any], Any], Any]:
    def pool(values: list[Any], options: Any) -> Any:
        size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        found = tensorflow().nn.pool(values[0], size, kind, strides=strides, padding=PADDING[options.padding])
        return _limited(found, options.fusedActivationFunction)

    return pool


def _mean(values: list[Any], options: Any) -> Any:
    return tensorflow().reduce_mean(values[0], axis=np.atleast_1d(values[1]), keepdims=options.keepDims)


def _reshape(values: list[Any], _options: Any) -> Any:
    # The file is for one picture.
    return tensorflow().reshape(values[0], (-1, *np.asarray(values[1])[1:]))


def _joined(values: list[Any], options: Any) -> Any:
    tf = tensorflow()
    computed = next(value for value in values if tf.is_tensor(value))
    count = tf.shape(computed)[0]
    parts = [value if tf.is_tensor(value) else tf.repeat(value, count, axis=0) for value in values]
    return _limited(tf.concat(parts, options.axis), options.fusedActivationFunction)


_OPERATIONS: dict[str, Callable[[list[Any], Any], Any]] = {
    "ADD": lambda v, o: _limited(v[0] + v[1], o.fusedActivationFunction),
    "AVERAGE_POOL_2D": _pool("AVG"),
    "CONCATENATION": _joined,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "HARD_SWISH": lambda v, _: v[0] * tensorflow().nn.relu6(v[0] + 3) / 6,
    "LOGISTIC": lambda v, _: tensorflow().sigmoid(v[0]),
    "MAX_POOL_2D": _pool("MAX"),
    "MEAN": _mean,
    "MUL": lambda v, o: _limited(v[0] * v[1], o.fusedActivationFunction),
    "PAD": lambda v, _: tensorflow().pad(v[0], v[1]),
    "RESHAPE": _reshape,
    "SOFTMAX": lambda v, o: tensorflow().nn.softmax(o.beta * v[0]),
}
