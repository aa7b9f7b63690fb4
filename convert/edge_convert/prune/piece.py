"""One operation of an int8 network as a TFLite file of its own, with random weights: a thing to time.

Weights do not decide how long an operation takes; shapes do. Writing the file takes a millisecond, where the converter
takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_convert.tflite_file import pack_model

Kind = Literal["conv", "depthwise", "dense", "add", "multiply", "logistic", "mean", "max_pool", "average_pool"]
SCALE = 1 / 32
SAME, VALID = 0, 1


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An operation. rows, columns: of its input, 1 for a dense layer. kernel, stride: rows and columns alike where one
    number, 1 where it has none. taken, given: channels in and out. same: whether its output keeps rows and columns
    (over the stride).
    """

    kind: Kind
    rows: int
    columns: int
    taken: int
    given: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    same: bool = True

    @property
    def output_places(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        if self.kind in ("mean", "dense"):
            return 1, 1
        sides = zip((self.rows, self.columns), self.kernel, self.stride, strict=True)
        rows, columns = (
            math.ceil(side / stride) if self.same else (side - kernel) // stride + 1 for side, kernel, stride in sides
        )
        return rows, columns


def as_tflite(piece: Piece) -> bytes:
    """The piece as an int8 file: (1, rows, columns, taken) int8 in, (1, rows', columns', given) int8 out."""
    return _Writer(piece).written()


class _Writer:
    """Collects the tensors and buffers of a file with one operation."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.random = np.random.default_rng(1)
        self.tensors: list[Any] = []
        # The first buffer is the empty one, by TFLite's rule.
        self.buffers: list[Any] = [schema.BufferT()]

    def written(self) -> bytes:
        p = self.piece
        code, version, options = OPERATIONS[p.kind](p)
        places = (p.rows, p.columns)
        flat = p.kind == "dense"
        shape_in = (1, p.taken) if flat else (1, *places, p.taken)
        shape_out = (1, p.given) if p.kind in ("dense", "mean") else (1, *p.output_places, p.given)
        # A sigmoid's output has a scale of its own, by TFLite's rule.
        scale_out, zero_out = (1 / 256, -128) if p.kind == "logistic" else (SCALE, 0)
        inputs = [self._tensor(shape_in, schema.TensorType.INT8)]
        inputs += self._constants()
        runtime_inputs = [0]
        if p.kind in ("add", "multiply"):
            other = shape_in if p.kind == "add" else (1, 1, 1, p.taken)
            inputs.append(self._tensor(other, schema.TensorType.INT8))
            runtime_inputs.append(inputs[-1])
        output = self._tensor(shape_out, schema.TensorType.INT8, scale=[scale_out], zero=[zero_out])
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = options
        return self._model(code, version, operator, runtime_inputs, output)

    def _constants(self) -> list[int]:
        """Kernel and bias of what has them, the axes of a mean."""
        p = self.piece
        if p.kind == "mean":
            return [self._tensor((2,), schema.TensorType.INT32, data=np.array([1, 2], np.int32))]
        shapes = {
            "conv": (p.given, *p.kernel, p.taken),
            "depthwise": (1, *p.kernel, p.given),
            "dense": (p.given, p.taken),
        }
        if p.kind not in shapes:
            return []
        shape = shapes[p.kind]
        channels = 1 if p.kind == "dense" else p.given
        scale, zero = [SCALE] * channels, [0] * channels
        kernel = self.random.integers(-127, 128, shape).astype(np.int8)
        axis = 3 if p.kind == "depthwise" else 0
        bias = [SCALE * SCALE] * channels
        return [
            self._tensor(shape, schema.TensorType.INT8, data=kernel, scale=scale, zero=zero, axis=axis),
            self._tensor((p.given,), schema.TensorType.INT32, data=np.zeros(p.given, np.int32), scale=bias, zero=zero),
        ]

    def _tensor(
        self,
        shape: tuple[int, ...],
        kind: int,
        *,
        data: NDArray[Any] | None = None,
        scale: list[float] | None = None,
        zero: list[int] | None = None,
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), kind, f"t{len(self.tensors)}"
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if kind == schema.TensorType.INT8 or scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = scale or [SCALE], zero or [0]
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _model(self, code: int, version: int, operator: Any, inputs: list[int], output: int) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.inputs, graph.outputs, graph.operators = self.tensors, inputs, [output], [operator]
        opcode = schema.OperatorCodeT()
        opcode.builtinCode, opcode.deprecatedBuiltinCode, opcode.version = code, min(code, 127), version
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [opcode], [graph], self.buffers
        return pack_model(model)


def _with(options: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(options, name, value)
    return options


def _moving(piece: Piece) -> dict[str, int]:
    rows, columns = piece.stride
    return {"strideH": rows, "strideW": columns, "padding": SAME if piece.same else VALID}


def _pooling(piece: Piece) -> Any:
    return _with(schema.Pool2DOptionsT(), filterHeight=piece.kernel[0], filterWidth=piece.kernel[1], **_moving(piece))


_OP, _OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
# The operation, the version of it that int8 needs, and its options by their kind.
OPERATIONS: dict[Kind, Any] = {
    "conv": lambda p: (
        _OP.CONV_2D,
        3,
        (_OPTIONS.Conv2DOptions, _with(schema.Conv2DOptionsT(), dilationHFactor=1, dilationWFactor=1, **_moving(p))),
    ),
    "depthwise": lambda p: (
        _OP.DEPTHWISE_CONV_2D,
        3,
        (
            _OPTIONS.DepthwiseConv2DOptions,
            _with(
                schema.DepthwiseConv2DOptionsT(), depthMultiplier=1, dilationHFactor=1, dilationWFactor=1, **_moving(p)
            ),
        ),
    ),
    "dense": lambda _: (_OP.FULLY_CONNECTED, 4, (_OPTIONS.FullyConnectedOptions, schema.FullyConnectedOptionsT())),
    "add": lambda _: (_OP.ADD, 2, (_OPTIONS.AddOptions, schema.AddOptionsT())),
    "multiply": lambda _: (_OP.MUL, 2, (_OPTIONS.MulOptions, schema.MulOptionsT())),
    "logistic": lambda _: (_OP.LOGISTIC, 2, (_OPTIONS.NONE, None)),
    "mean": lambda _: (_OP.MEAN, 2, (_OPTIONS.ReducerOptions, _with(schema.ReducerOptionsT(), keepDims=False))),
    "max_pool": lambda p: (_OP.MAX_POOL_2D, 2, (_OPTIONS.Pool2DOptions, _pooling(p))),
    "average_pool": lambda p: (_OP.AVERAGE_POOL_2D, 2, (_OPTIONS.Pool2DOptions, _pooling(p))),
}
