"""TFLite files: their operations by name, their bytes, and what somebody else's says of itself in standard metadata.

The metadata is a second flatbuffer inside the model's (identifier `M001`, schema metadata_schema.fbs of TFLite Support
and MediaPipe, version 1.5.0); the files it names are a zip archive after the flatbuffer. Field numbers below are those
of the schema, in the order of its tables.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.encode import Get
from flatbuffers.table import Table

from edge.errors import EdgeError

MODEL_IDENTIFIER = b"TFL3"
METADATA_BUFFER = b"TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
NORMALIZATION, SCORE_CALIBRATION = 1, 2
AXIS_LABELS = 2
GRAY = 2
# Operations that hand values on and compute nothing.
PASSING_ON = {"RESHAPE", "SQUEEZE", "DEQUANTIZE", "QUANTIZE"}
MAX_LABEL_BYTES = 4 << 20
_OPERATIONS: dict[int, str] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}


@dataclass(frozen=True, kw_only=True)
class TfliteMetadata:
    """The standard metadata of a classifier; each field is empty where the file does not say.

    mean, std: of the input, in pixels, one a channel or one for all: it takes (pixel - mean) / std. labels: by output,
    in the order of the file's outputs. score_calibration: whether it asks for one.
    """

    name: str
    description: str
    version: str
    license: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[tuple[str, ...], ...]
    score_calibration: bool


def read_metadata(model: bytes) -> TfliteMetadata | None:
    """The metadata of a TFLite file, None where it has none. Raises EdgeError where it is damaged."""
    try:
        root = schema.Model.GetRootAs(model, 0)
        for place in range(root.MetadataLength()):
            if root.Metadata(place).Name() == METADATA_BUFFER:
                data = root.Buffers(root.Metadata(place).Buffer()).DataAsNumpy()
                return _parse(bytes(data), _associated_files(model))
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, KeyError):
        # What flatbuffers and zipfile raise where an offset leads out of the file.
        raise EdgeError(
            "the TFLite metadata in this file is damaged", remedy="ask for the file again, or for one without metadata"
        ) from None
    return None


def operation_name(code: int, deprecated: int) -> str:
    """What TFLite calls an operator code. deprecated: its field of one byte, all that files before 2020 have."""
    return _OPERATIONS.get(max(code, deprecated), "CUSTOM")


def pack_model(content: Any) -> bytes:
    """The bytes of a model as flatbuffer objects (`schema.ModelT`). The same objects give the same bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(content.Pack(builder), MODEL_IDENTIFIER)
    return bytes(builder.Output())


def last_operation(model: bytes, tensor: int) -> str:
    """The operation that computes a tensor, past those that only hand it on, as TFLite calls it; `` where none does."""
    graph = schema.Model.GetRootAs(model, 0)
    subgraph = graph.Subgraphs(0)
    made_by = {}
    for place in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(place)
        for output in range(operator.OutputsLength()):
            made_by[operator.Outputs(output)] = operator
    while tensor in made_by:
        operator = made_by[tensor]
        name = _name_of(graph, operator)
        if name not in PASSING_ON:
            return name
        tensor = operator.Inputs(0)
    return ""


def float_operations(model: bytes) -> list[tuple[str, str]]:
    """The operations that compute in float: name of the operation and of the tensor it makes.

    Those that only turn integers into real numbers (DEQUANTIZE) compute nothing and are left out.
    """
    graph = schema.Model.GetRootAs(model, 0)
    real = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)
    found = []
    for subgraph in (graph.Subgraphs(place) for place in range(graph.SubgraphsLength())):
        for operator in (subgraph.Operators(place) for place in range(subgraph.OperatorsLength())):
            name = _name_of(graph, operator)
            made = [subgraph.Tensors(operator.Outputs(place)) for place in range(operator.OutputsLength())]
            if name != "DEQUANTIZE" and made and any(tensor.Type() in real for tensor in made):
                found.append((name, made[0].Name().decode()))
    return found


def _name_of(graph: Any, operator: Any) -> str:
    code = graph.OperatorCodes(operator.OpcodeIndex())
    return operation_name(code.BuiltinCode(), code.DeprecatedBuiltinCode())


class _Node:
    """A flatbuffer table, read by the numbers of its fields."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def _at(self, field: int) -> int:
        return int(self._table.Offset(4 + 2 * field))

    def text(self, field: int) -> str:
        at = self._at(field)
        return self._table.String(at + self._table.Pos).decode("utf-8", "replace") if at else ""

    def byte(self, field: int) -> int:
        at = self._at(field)
        return int(self._table.Get(number_types.Uint8Flags, at + self._table.Pos)) if at else 0

    def floats(self, field: int) -> tuple[float, ...]:
        at = self._at(field)
        if not at:
            return ()
        values = self._table.GetVectorAsNumpy(number_types.Float32Flags, at)
        return tuple(map(float, values))

    def node(self, field: int) -> _Node:
        return _Node(Table(self._table.Bytes, self._table.Indirect(self._at(field) + self._table.Pos)))

    def nodes(self, field: int) -> Iterator[_Node]:
        at = self._at(field)
        if at:
            start = self._table.Vector(at)
            for place in range(self._table.VectorLen(at)):
                yield _Node(Table(self._table.Bytes, self._table.Indirect(start + 4 * place)))


def _parse(data: bytes, files: dict[str, bytes]) -> TfliteMetadata:
    if data[4:8] != METADATA_IDENTIFIER:
        raise ValueError("not a metadata flatbuffer")
    root = _Node(Table(bytearray(data), Get(number_types.UOffsetTFlags.packer_type, data, 0)))
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: list[tuple[str, ...]] = []
    score_calibration = False
    for subgraph in root.nodes(3):
        for unit in (unit for tensor in subgraph.nodes(2) for unit in tensor.nodes(4)):
            if unit.byte(0) == NORMALIZATION:
                mean, std = unit.node(1).floats(0), unit.node(1).floats(1)
        for tensor in subgraph.nodes(3):
            labels.append(_labels(tensor, files))
            score_calibration |= any(unit.byte(0) == SCORE_CALIBRATION for unit in tensor.nodes(4))
    return TfliteMetadata(
        name=root.text(0),
        description=root.text(1),
        version=root.text(2),
        license=root.text(5),
        mean=mean,
        std=std,
        labels=tuple(labels),
        score_calibration=score_calibration,
    )


def _labels(tensor: _Node, files: dict[str, bytes]) -> tuple[str, ...]:
    for entry in tensor.nodes(6):
        if entry.byte(2) == AXIS_LABELS:
            return parse_labels(files[entry.text(0)])
    return ()


def parse_labels(data: bytes) -> tuple[str, ...]:
    """Labels from the bytes of a file with one a line; blank lines at its end do not count. Raises ValueError."""
    return tuple(line.strip() for line in data.decode("utf-8-sig").rstrip().splitlines())


def _associated_files(model: bytes) -> dict[str, bytes]:
    """The files in the zip archive behind the flatbuffer, by name."""
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return {}
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        members = [member for member in archive.infolist() if member.file_size <= MAX_LABEL_BYTES]
        return {member.filename: archive.read(member) for member in members}
