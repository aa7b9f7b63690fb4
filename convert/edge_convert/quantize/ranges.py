"""The range that each tensor's 256 steps are spread over: from calibration pictures, and how much of it to give up.

Quantization here starts from the exported float32 file: ranges are written into it and the converter's own quantizer
does the rest, in a second or less. So a search can try many ranges without converting the network again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.native_stderr import without_chatter
from edge_convert.backbones.contract import Backbone
from edge_convert.export import marked
from edge_convert.keras import quantizer, tensorflow
from edge_convert.network import scaled
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.layers import OUTPUT_AXIS
from edge_convert.quantize.watch import Place, Watched, pairs
from edge_convert.tflite_file import METADATA_BUFFER, pack_model

BINS = 2048
STEPS = 255
HANDING_ON = ("PAD", "PADV2", "MIRROR_PAD", "CONCATENATION", "RESHAPE", "STRIDED_SLICE")
"""Operations whose output has the steps of their input."""
KEPT = np.linspace(0.2, 1.0, 41)
"""Shares of an end of the range that are tried: what lies beyond is clipped, and all the rest gets finer steps."""

Clipping = Literal["none", "percentile", "mse"]
Kind = tuple[str, Clipping, float]
"""A kind of range: in words, and as `set_ranges` takes it."""
END_TO_END: Kind = ("from end to end", "none", 0.0)
CLIPPINGS: tuple[Kind, ...] = (
    ("least squared error", "mse", 0.0),
    ("without the outer 0.001 %", "percentile", 99.999),
    ("without the outer 0.01 %", "percentile", 99.99),
    ("without the outer 0.1 %", "percentile", 99.9),
)
Range = tuple[float, float]
Ranges = dict[tuple[int, int], Range]
"""By graph and tensor: the least and the largest value that it can hold."""


def kind_of(said: str) -> Kind | None:
    """The kind of range that a sentence about it begins with; None where it is none of these."""
    return next((kind for kind in (END_TO_END, *CLIPPINGS) if said.split(",")[0] == kind[0]), None)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What calibration pictures put into the activations of a float file.

    places: (tensors,). low, high: (pictures, tensors), of each picture. counts: (tensors, BINS), how often each value
    between the least low and the largest high was seen; None where only the ends were asked for.
    """

    places: tuple[Place, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    counts: NDArray[np.int64] | None


def observe(float32: bytes, pictures: NDArray[np.uint8], backbone: Backbone, *, histograms: bool = True) -> Steps[Seen]:
    """Run pictures through the float32 file and note what its tensors hold.

    pictures: (n, side, side, channels) uint8. histograms: whether to run them a second time and count values.
    """
    watched = Watched(float32)
    places, total = watched.places, len(pictures) * (2 if histograms else 1)
    low = np.zeros((len(pictures), len(places)), np.float32)
    high = np.zeros_like(low)
    for row, picture in enumerate(pictures):
        watched.run(scaled(marked(picture), backbone))
        for column, place in enumerate(places):
            values = watched.read(place)
            low[row, column], high[row, column] = values.min(), values.max()
        yield Progress(done=row + 1, total=total)
    counts = None
    if histograms:
        counts = np.zeros((len(places), BINS), np.int64)
        ends = list(zip(low.min(axis=0), high.max(axis=0), strict=True))
        for row, picture in enumerate(pictures):
            watched.run(scaled(marked(picture), backbone))
            for column, place in enumerate(places):
                if ends[column][0] < ends[column][1]:
                    counts[column] += np.histogram(watched.read(place), BINS, ends[column])[0]
            yield Progress(done=len(pictures) + row + 1, total=total)
    return Seen(places=places, low=low, high=high, counts=counts)


def set_ranges(
    seen: Seen,
    backbone: Backbone,
    *,
    clipping: Clipping = "none",
    percentile: float = 99.99,
    rows: NDArray[np.int64] | None = None,
) -> Ranges:
    """A range for every tensor.

    clipping: `none` takes the ends over all pictures; `percentile` the values that only `100 - percentile` per cent
    lie beyond, half of them at each end; `mse` the range of least squared error, rounding and clipping together.
    rows: of which pictures, for `none` alone. The input's range is always that of a pixel: the runtime gives it pixels
    as they are, and so is that of what only adds a border to it, because the two share their steps.
    """
    found: Ranges = {}
    first = min((p.order for p in seen.places if p.operation in OUTPUT_AXIS), default=0)
    for column, place in enumerate(seen.places):
        chosen = slice(None) if rows is None else rows
        low, high = float(seen.low[chosen, column].min()), float(seen.high[chosen, column].max())
        if place.operation == "INPUT" or (place.operation in HANDING_ON and place.order < first):
            ends = scaled(np.array([0, 255], np.uint8), backbone)
            low, high = float(ends[0]), float(ends[1])
        elif clipping != "none" and seen.counts is not None and low < high:
            counts = seen.counts[column]
            low, high = (
                _percentile(counts, low, high, percentile) if clipping == "percentile" else _mse(counts, low, high)
            )
        # The steps must be able to say zero: padding is made of it.
        found[place.graph, place.index] = min(low, 0.0), max(high, 0.0)
    return found


def _percentile(counts: NDArray[np.int64], low: float, high: float, percentile: float) -> Range:
    edges = np.linspace(low, high, BINS + 1)
    shares = np.cumsum(counts) / counts.sum()
    tail = (100 - percentile) / 200
    return float(edges[np.searchsorted(shares, tail)]), float(edges[np.searchsorted(shares, 1 - tail) + 1])


def _mse(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """The range of least squared error, one end after the other (Nagel et al. 2021, section 3.1)."""
    edges = np.linspace(low, high, BINS + 1)
    centres, held = (edges[:-1] + edges[1:]) / 2, counts > 0
    centres, weights = centres[held], counts[held].astype(np.float64)

    def error(a: float, b: float) -> float:
        a, b = min(a, 0.0), max(b, 0.0)
        step = max(b - a, 1e-12) / STEPS
        beyond = np.maximum(centres - b, 0) + np.maximum(a - centres, 0)
        inside = (centres >= a) & (centres <= b)
        return float((weights * (beyond**2 + inside * step**2 / 12)).sum())

    best_low, best_high = low, high
    for _ in range(2):
        best_high = min((high * k if high > 0 else high for k in KEPT), key=lambda b: error(best_low, b))
        best_low = min((low * k if low < 0 else low for k in KEPT), key=lambda a: error(a, best_high))
    return float(best_low), float(best_high)


def ranges_of(float32: bytes, int8: bytes, backbone: Backbone) -> Ranges:
    """The ranges that an int8 file was made with, for the tensors of the float32 file that it is of."""
    real, small = Watched(float32), Watched(int8)
    ends = scaled(np.array([0, 255], np.uint8), backbone)
    found: Ranges = {
        (p.graph, p.index): (float(ends[0]), float(ends[1])) for p in real.places if p.operation == "INPUT"
    }
    for wanted, place in pairs(real, small):
        low, high = small.limits(place)
        if np.isfinite(low):
            found[wanted.graph, wanted.index] = low, high
    return found


def quantize(float32: bytes, ranges: Ranges, *, float_nodes: tuple[str, ...] = ()) -> bytes:
    """The int8 file of a float32 file, uint8 in and out, without metadata. Raises EdgeError where that cannot be.

    float_nodes: names of tensors whose operations stay float32; the outputs then are float32 too.
    """
    tf = tensorflow()
    convert, util = quantizer()
    with without_chatter():
        try:
            data = convert.mlir_quantize(_with_ranges(float32, ranges), denylisted_nodes=list(float_nodes) or None)
            # An output that a float layer reads too cannot be handed out as integers.
            done: bytes = bytes(util.modify_model_io_type(data, tf.uint8, tf.float32 if float_nodes else tf.uint8))
        except (ValueError, RuntimeError) as error:
            raise EdgeError(
                f"the converter cannot quantize this file ({str(error).strip().splitlines()[-1][:200]})",
                remedy="quantize it without float layers, or use another backbone",
            ) from None
    return done


def comparing(float32: bytes, ranges: Ranges) -> bytes:
    """An int8 file that computes each of its layers in float32 as well and notes the difference, for the debugger."""
    convert, _ = quantizer()
    with without_chatter():
        return bytes(convert.mlir_quantize(_with_ranges(float32, ranges), enable_numeric_verify=True))


def _with_ranges(float32: bytes, ranges: Ranges) -> bytes:
    content = read_graph(float32)
    for (graph, index), (low, high) in ranges.items():
        parameters = schema.QuantizationParametersT()
        parameters.min, parameters.max = np.array([low], np.float32), np.array([high], np.float32)
        content.subgraphs[graph].tensors[index].quantization = parameters
    return pack_model(content)


def read_graph(model: bytes) -> Any:
    """The file as flatbuffer objects, without the metadata that is written last."""
    content = schema.ModelT.InitFromPackedBuf(model)
    content.metadata = [entry for entry in content.metadata or [] if entry.name != METADATA_BUFFER]
    return content
