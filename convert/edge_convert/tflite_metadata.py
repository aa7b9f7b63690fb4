"""Standard TFLite metadata in the exported files: what other programs need to feed a model and to name its outputs.

Written by the published schema with flatbuffers alone; see docs/decisions/007-metadata.md for why, and
`tflite_file` for the reader.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.errors import EdgeError
from edge_convert.tflite_file import AXIS_LABELS, METADATA_BUFFER, METADATA_IDENTIFIER, NORMALIZATION, pack_model

LABEL_FILE = "labels.txt"
# The oldest reader that understands the fields used here, by the schema's history.
MIN_PARSER_VERSION = "1.0.0"
IMAGE = 2
RGB, GRAYSCALE = 1, 2


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the metadata says. mean, std: of the input, in pixels. channels: 3 (RGB) or 1 (grey).

    signature: the main one's name. outputs: names and descriptions by the tensor's name in it; the first one has the
    labels and becomes the file's first output, which readers take for the scores.
    """

    name: str
    description: str
    version: str
    mean: float
    std: float
    side_px: int
    channels: int
    labels: tuple[str, ...]
    signature: str
    outputs: dict[str, str]


def with_metadata(model: bytes, described: Described) -> bytes:
    """The file with metadata and labels. The same file and description give the same bytes.

    Weights and operations stay as they are; the order of the outputs is that of `described`.
    """
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    _order_outputs(content, described.signature, list(described.outputs))
    _share_buffers(content)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_flatbuffer(described), np.uint8)
    content.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_BUFFER, len(content.buffers) - 1
    content.metadata = [*(content.metadata or []), entry]
    return _with_file(pack_model(content), LABEL_FILE, "\n".join(described.labels).encode())


def _order_outputs(content: schema.ModelT, name: str, outputs: Sequence[str]) -> None:
    """The main graph's outputs in this order. The signature names tensors by number, so it stays true."""
    (signature,) = (found for found in content.signatureDefs if found.signatureKey.decode() == name)
    if signature.subgraphIndex != 0:
        # Whoever does not know signatures runs the first graph.
        raise EdgeError(
            f"the converter put {name!r} behind another signature", remedy="use saliency.on_request = 'none'"
        )
    tensors = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
    content.subgraphs[0].outputs = np.array([tensors[name] for name in outputs], np.int32)


def _share_buffers(content: schema.ModelT) -> None:
    """Let tensors with the same bytes share one buffer: the converter writes a signature's weights anew for each."""
    places: dict[bytes, int] = {}
    kept: list[schema.BufferT] = []
    moved: dict[int, int] = {}
    for index, buffer in enumerate(content.buffers):
        data = b"" if buffer.data is None or len(buffer.data) == 0 else bytes(bytearray(buffer.data))
        # Empty ones mark tensors that are computed: each keeps its own, the first by the schema's rule.
        if data and data in places:
            moved[index] = places[data]
            continue
        moved[index] = len(kept)
        if data:
            places[data] = len(kept)
        kept.append(buffer)
    content.buffers = kept
    for subgraph in content.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = moved[tensor.buffer]
    for entry in content.metadata or []:
        entry.buffer = moved[entry.buffer]


def _with_file(model: bytes, name: str, data: bytes) -> bytes:
    """The model with a zip archive behind it, as the metadata schema wants it; of a fixed date."""
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
    return whole.getvalue()


def _flatbuffer(described: Described) -> bytes:
    builder = flatbuffers.Builder(1024)
    picture = _picture_tensor(builder, described)
    outputs = [
        _output_tensor(builder, name, text, labelled=place == 0)
        for place, (name, text) in enumerate(described.outputs.items())
    ]
    # Vectors of tables are made before the table that holds them.
    inputs_at, outputs_at = _vector(builder, [picture]), _vector(builder, outputs)
    subgraph = _table(builder, 10, {2: inputs_at, 3: outputs_at})
    texts = {
        0: described.name,
        1: described.description,
        2: described.version,
        7: MIN_PARSER_VERSION,
    }
    fields = {field: builder.CreateString(text) for field, text in texts.items()}
    fields[3] = _vector(builder, [subgraph])
    builder.Finish(_table(builder, 8, fields), METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _picture_tensor(builder: flatbuffers.Builder, described: Described) -> int:
    """TensorMetadata of the input: name, what it is, its colours, and how its pixels are scaled."""
    mean, std = (builder.CreateNumpyVector(np.array([v], np.float32)) for v in (described.mean, described.std))
    normalization = _table(builder, 2, {0: mean, 1: std})
    units = _vector(builder, [_union(builder, NORMALIZATION, normalization)])
    builder.StartObject(2)
    builder.PrependUint32Slot(0, described.side_px, 0)
    builder.PrependUint32Slot(1, described.side_px, 0)
    size = builder.EndObject()
    builder.StartObject(2)
    builder.PrependInt8Slot(0, RGB if described.channels == 3 else GRAYSCALE, 0)
    builder.PrependUOffsetTRelativeSlot(1, size, 0)
    image = builder.EndObject()
    content = _union(builder, IMAGE, image, fields=3)
    name, text = builder.CreateString("picture"), builder.CreateString("The picture, upright, square.")
    return _table(builder, 7, {0: name, 1: text, 3: content, 4: units})


def _output_tensor(builder: flatbuffers.Builder, name: str, description: str, *, labelled: bool) -> int:
    fields = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    if labelled:
        file, text = builder.CreateString(LABEL_FILE), builder.CreateString("A label a line.")
        builder.StartObject(5)
        builder.PrependUOffsetTRelativeSlot(0, file, 0)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        builder.PrependInt8Slot(2, AXIS_LABELS, 0)
        fields[6] = _vector(builder, [builder.EndObject()])
    return _table(builder, 7, fields)


def _table(builder: flatbuffers.Builder, size: int, fields: dict[int, int]) -> int:
    """A table of `size` fields, those given set to what was written before it."""
    builder.StartObject(size)
    for field, at in fields.items():
        builder.PrependUOffsetTRelativeSlot(field, at, 0)
    return int(builder.EndObject())


def _union(builder: flatbuffers.Builder, kind: int, value: int, fields: int = 2) -> int:
    """A table whose first two fields are a union: its kind, and the table it is."""
    builder.StartObject(fields)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for at in reversed(tables):
        builder.PrependUOffsetTRelative(at)
    return int(builder.EndVector())
