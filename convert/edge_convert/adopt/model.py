"""Somebody else's TFLite file as an interpreter reads it, and what its user says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge.decision import CalibrationKind
from edge.errors import EdgeError, InterpreterError
from edge.native_stderr import without_chatter
from edge.preprocess import Fit
from edge_convert.adopt.scaling import Scaling
from edge_convert.tflite_file import TfliteMetadata, read_metadata
from edge_runtime.interpreter import find_interpreter

Scores = Literal["auto", "probabilities", "softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says of the model; None or empty where the file is to say it.

    labels: in the order of the scores. output: name or number of the tensor with the scores. scores: what it holds.
    scaling: how pixels become the network's input. threshold: None where it is fitted.
    """

    name: str
    positive: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    order: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    fit: Fit = "crop"
    output: str | None = None
    scores: Scores = "auto"
    threshold: float = 0.5
    profile: str = "sensitivity >= 0.95"
    calibration: CalibrationKind = "none"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output of the file. name: of the signature where there is one. index: the tensor's number."""

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A TFLite file that an interpreter has read."""

    model: bytes
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: TfliteMetadata | None


def open_model(model: bytes) -> Opened:
    """Read a TFLite file. Raises InterpreterError where it is none, EdgeError where its metadata is damaged."""
    package, interpreter_class = find_interpreter()
    try:
        with without_chatter():
            interpreter = interpreter_class(model_content=model)
            interpreter.allocate_tensors()
        signatures = interpreter.get_signature_list()
    except (ValueError, RuntimeError, SystemError) as error:
        reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        raise InterpreterError(
            f"{package} refuses this model: {reason}", remedy="name a .tflite file with built-in operations alone"
        ) from None
    names: dict[int, str] = {}
    if len(signatures) == 1:
        details = interpreter.get_signature_runner(next(iter(signatures))).get_output_details()
        names = {int(detail["index"]): name for name, detail in details.items()}
    return Opened(
        model=model,
        inputs=tuple(_info(detail, detail["name"]) for detail in interpreter.get_input_details()),
        outputs=tuple(_info(d, names.get(int(d["index"]), d["name"])) for d in interpreter.get_output_details()),
        metadata=read_metadata(model),
    )


def _info(detail: dict[str, Any], name: str) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    return TensorInfo(
        name=name,
        index=int(detail["index"]),
        shape=tuple(map(int, detail["shape"])),
        dtype=str(np.dtype(detail["dtype"])),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def picture_shape(opened: Opened, options: Options) -> tuple[int, int]:
    """Side in pixels and channels of the input. Raises EdgeError for what is no square picture."""
    if len(opened.inputs) != 1:
        raise EdgeError(
            f"this network takes {len(opened.inputs)} inputs", remedy="adopt a network that takes a picture alone"
        )
    shape = opened.inputs[0].shape
    if len(shape) != 4 or shape[0] != 1:
        raise EdgeError(
            f"this network takes the shape {list(shape)}; one picture is [1, rows, columns, channels]",
            remedy="export it again with a batch of 1",
        )
    rows, columns, channels = shape[1:] if options.layout == "nhwc" else (*shape[2:], shape[1])
    if channels not in (1, 3):
        other = "nchw" if options.layout == "nhwc" else "nhwc"
        raise EdgeError(
            f"this network takes {list(shape)}, which as {options.layout} has {channels} channels; 1 or 3 can be fed",
            remedy=f"use --layout {other} if its channels lie there, or adopt another network",
        )
    if rows != columns or rows <= 1:
        size = "an input of no fixed size" if rows <= 1 or columns <= 1 else f"{columns} x {rows} pixels"
        raise EdgeError(f"this network takes {size}; a square is needed", remedy="export it again with a square input")
    if opened.inputs[0].dtype not in ("float32", "uint8", "int8"):
        raise EdgeError(
            f"this network takes {opened.inputs[0].dtype}; float32, uint8 and int8 can be fed",
            remedy="export it again with one of these as its input",
        )
    if channels == 1 and options.order == "bgr":
        raise EdgeError("this network takes one channel, which has no order", remedy="leave --order out")
    return rows, channels
