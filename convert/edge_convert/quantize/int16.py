"""Activations of 16 bits with weights of 8: nearly the float32 file's answers in integers, and many times its time."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.native_stderr import without_chatter
from edge_convert.backbones.contract import Backbone
from edge_convert.export import calibration_inputs
from edge_convert.keras import calibrator, tensorflow
from edge_convert.quantize.ranges import read_graph
from edge_convert.tflite_file import float_operations, pack_model


def quantize_int16(float32: bytes, pictures: NDArray[np.uint8], backbone: Backbone) -> bytes:
    """The 16x8 file of a float32 file, without metadata: it takes and gives float32, and computes in integers between.

    pictures: (n, side, side, channels) uint8, calibration pictures. By the converter's older quantizer, the only one
    that has 16-bit activations. Raises EdgeError for a network with an operation that has no such form.
    """
    tf = tensorflow()
    content = read_graph(float32)
    own_constants(content)
    signatures = [entry.signatureKey.decode() for entry in content.signatureDefs]

    def samples() -> Any:
        return calibration_inputs(backbone, pictures, signatures)

    with without_chatter(), warnings.catch_warnings():
        # It watches with TensorFlow's own interpreter, and warns of it itself.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        try:
            data: bytes = bytes(
                calibrator()(pack_model(content)).calibrate_and_quantize(
                    samples, tf.float32, tf.float32, False, tf.int16, tf.int64
                )
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise EdgeError(
                f"{backbone.title} has no file with 16-bit activations ({reason})",
                remedy="leave int16 out of quantize.also, or use another backbone",
            ) from None
    left = float_operations(data)
    # Ends are float32 by design.
    inner = [f"{operation} {name}" for operation, name in left if operation != "QUANTIZE"]
    if inner:
        raise EdgeError(
            f"{len(inner)} operations stayed float in the file with 16-bit activations, for example {inner[0]}",
            remedy="leave int16 out of quantize.also",
        )
    return data


def own_constants(content: Any) -> None:
    """Give each operation constants of its own, tensors and bytes.

    That quantizer overwrites them in place. A bias that two layers share, as those of the classes and of their map do,
    it would round for the one and then once more for the other, and the classes' probabilities were off by 0.4.
    """
    buffers: set[int] = set()
    for subgraph in content.subgraphs:
        tensors: set[int] = set()
        for operator in subgraph.operators:
            operator.inputs = np.array(operator.inputs)
            for place, index in enumerate(map(int, operator.inputs)):
                tensor = subgraph.tensors[index]
                data = content.buffers[tensor.buffer].data if index >= 0 else None
                if data is None or not len(data):
                    continue
                if index in tensors:
                    tensor = copy.copy(tensor)
                    subgraph.tensors.append(tensor)
                    operator.inputs[place] = index = len(subgraph.tensors) - 1
                if tensor.buffer in buffers:
                    buffer = schema.BufferT()
                    buffer.data = np.array(data, np.uint8)
                    content.buffers.append(buffer)
                    tensor.buffer = len(content.buffers) - 1
                tensors.add(index)
                buffers.add(tensor.buffer)
