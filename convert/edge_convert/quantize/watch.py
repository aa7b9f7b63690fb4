"""What lies between a TFLite file's layers, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.native_stderr import without_chatter
from edge_convert.tflite_file import operation_name
from edge_runtime.interpreter import to_real

CONVERTING = ("QUANTIZE", "DEQUANTIZE", "INPUT")
"""Operations that only change the kind of number."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A tensor that is computed: its number in which graph of the file, its name, and the operation that makes it."""

    graph: int
    index: int
    name: str
    operation: str
    order: int


class Watched:
    """A TFLite file whose intermediate tensors can be read. Reference kernels: a delegate keeps its tensors to itself.

    places: the activations of every graph, in the order in which they are computed.
    """

    def __init__(self, model: bytes) -> None:
        with without_chatter():
            self._interpreter = Interpreter(
                model_content=model,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        content = schema.ModelT.InitFromPackedBuf(model)
        self._graphs = [(entry.signatureKey.decode(), entry.subgraphIndex) for entry in content.signatureDefs]
        self.places = tuple(place for _, graph in self._graphs for place in _activations(content, graph))
        details = {
            (graph, detail["index"]): detail
            for _, graph in self._graphs
            for detail in self._interpreter.get_tensor_details(graph)
        }
        self._scales = {key: detail["quantization"] for key, detail in details.items()}
        self._kinds = {key: detail["dtype"] for key, detail in details.items()}

    def run(self, scaled: NDArray[np.float32]) -> None:
        """Run every signature. scaled: (side, side, channels), as the float network takes it."""
        for key, _ in self._graphs:
            runner = self._interpreter.get_signature_runner(key)
            ((name, detail),) = runner.get_input_details().items()
            runner(**{name: _encode(scaled, detail)[np.newaxis]})

    def read(self, place: Place) -> NDArray[np.float32]:
        """What the last run left in a tensor, as real numbers."""
        raw = self._interpreter.get_tensor(place.index, place.graph)
        scale, zero_point = self._scales[place.graph, place.index]
        return to_real(raw, float(scale), int(zero_point))

    def limits(self, place: Place) -> tuple[float, float]:
        """The least and the largest value that a tensor can hold."""
        scale, zero_point = self._scales[place.graph, place.index]
        if scale == 0:
            return -np.inf, np.inf
        held = np.iinfo(self._kinds[place.graph, place.index])
        return float((held.min - zero_point) * scale), float((held.max - zero_point) * scale)


def pairs(real: Watched, small: Watched) -> list[tuple[Place, Place]]:
    """The same activation in two files of one network, in the order of computation.

    By the order of the operations, since the converter names tensors anew each time; those that only change the kind of
    number (QUANTIZE, DEQUANTIZE) are in one file alone. Raises EdgeError where the files differ otherwise.
    """
    found = [[place for place in x.places if place.operation not in CONVERTING] for x in (real, small)]
    kinds = [[(place.graph, place.operation) for place in places] for places in found]
    if kinds[0] != kinds[1]:
        raise EdgeError("the float32 and the int8 file are not of one network", remedy="export both again")
    return list(zip(*found, strict=True))


def operation_names(content: Any) -> list[str]:
    """The name of each operator code of a file, as TFLite calls it."""
    return [operation_name(code.builtinCode, code.deprecatedBuiltinCode) for code in content.operatorCodes]


def _activations(content: Any, graph: int) -> Iterator[Place]:
    """The real-valued tensors that a graph is given or computes."""
    subgraph, names = content.subgraphs[graph], operation_names(content)
    made: dict[int, str] = dict.fromkeys(map(int, subgraph.inputs), "INPUT")
    for operator in subgraph.operators:
        made.update(dict.fromkeys(map(int, operator.outputs), names[operator.opcodeIndex]))
    kinds = {schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16}
    for order, (index, operation) in enumerate(made.items()):
        tensor = subgraph.tensors[index]
        if tensor.type in kinds:
            yield Place(graph=graph, index=index, name=tensor.name.decode(), operation=operation, order=order)


def _encode(scaled: NDArray[np.float32], detail: dict[str, Any]) -> NDArray[Any]:
    """A picture in the numbers that an input takes."""
    scale, zero_point = detail["quantization"]
    if scale == 0:
        return scaled
    limits = np.iinfo(detail["dtype"])
    steps = np.clip(np.rint(scaled / scale) + zero_point, limits.min, limits.max)
    return np.asarray(steps, detail["dtype"])
