"""Golden pictures: what every device must make of them, from file bytes to outputs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, Golden
from edge.preprocess import Preprocessing, decode
from edge_convert.prepare import Prepared
from edge_runtime.evaluate import Prediction
from edge_runtime.interpreter import Network
from edge_runtime.selftest import golden_outputs

PICTURES = 8
JPEG_QUALITY = 95
MAX_SIDE_PX = 1024
COARSE = [cv2.IMWRITE_JPEG_QUALITY, 50]
# Three rounding steps of int8 for probabilities; the other outputs may differ as much relative to their range.
PROBABILITY_TOLERANCE = 3 / 256
RELATIVE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """golden: the manifest's entries. parts: the members they name. tolerances: by role."""

    golden: tuple[Golden, ...]
    parts: dict[str, bytes]
    tolerances: dict[str, float]


def make_golden(draft: Bundle, prepared: Prepared, predictions: tuple[Prediction, ...]) -> GoldenSet:
    """Validation pictures spread over the scores, with outputs; drawn pictures that exercise the preprocessing."""
    paths = {sample.name: sample.path for sample in prepared.samples}
    return golden_set(draft, [paths[prediction.name].read_bytes() for prediction in _spread(predictions)])


def golden_set(draft: Bundle, pictures: Sequence[bytes]) -> GoldenSet:
    """These pictures, encoded anew, with outputs; drawn pictures with the tensor alone. pictures: files' bytes."""
    preprocessing, network = draft.manifest.preprocessing, Network.of(draft)
    golden: list[Golden] = []
    parts: dict[str, bytes] = {}
    ranges: dict[str, list[float]] = {}
    for index, file in enumerate(pictures):
        data = _without_metadata(preprocessing, file)
        sha256, outputs = golden_outputs(preprocessing, network, data)
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **outputs)  # type: ignore[arg-type]
        picture, members = f"golden/{index:02d}.jpg", f"golden/{index:02d}.npz"
        parts[picture], parts[members] = data, arrays.getvalue()
        golden.append(Golden(picture=picture, input_sha256=sha256, outputs=members))
        for role, output in outputs.items():
            ranges.setdefault(role, []).append(float(np.ptp(output)))
    for name, data in drawn_pictures(preprocessing).items():
        parts[f"golden/{name}"] = data
        sha256, _ = golden_outputs(preprocessing, network, data)
        golden.append(Golden(picture=f"golden/{name}", input_sha256=sha256, outputs=None))
    tolerances = {
        role: PROBABILITY_TOLERANCE if role == "probabilities" else RELATIVE_TOLERANCE * max(spans)
        for role, spans in ranges.items()
    }
    return GoldenSet(golden=tuple(golden), parts=parts, tolerances=tolerances)


def drawn_pictures(preprocessing: Preprocessing) -> dict[str, bytes]:
    """Pictures from integer arithmetic that no step of the preprocessing leaves as they are.

    Wide and tall, larger and smaller than the input, 8 and 16 bits, colour and grey: a device that crops, resizes,
    turns or narrows otherwise than the build gives other tensors. Where JPEGs are scaled, one that is decoded at a
    quarter: with its colours at half its resolution, that takes the decoder's sums for a half and for a quarter.
    """
    side_px = preprocessing.side_px
    large, small = 3 * side_px + 7, max(side_px // 2 + 3, 24)
    pictures = {
        "wide.png": _png(_drawn(side_px + 5, large, 3)),
        "tall.jpg": cv2.imencode(".jpg", _drawn(large, side_px - 3, 3))[1].tobytes(),
        "small.png": _png(_drawn(small, small + 9, 3)),
        "grey16.png": _png(_drawn(side_px + 31, side_px + 2, 1).astype(np.uint16) * 199 + 3000),
    }
    if preprocessing.jpeg == "scaled":
        coarse = _drawn(side_px + 2, side_px + side_px // 4, 3).repeat(4, axis=0).repeat(4, axis=1)
        pictures["scaled.jpg"] = cv2.imencode(".jpg", coarse[3:], COARSE)[1].tobytes()
    return pictures


def _drawn(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    row, column = np.mgrid[0:height, 0:width].astype(np.int64)
    planes = [(row * 3 + column * (2 + c) + (row // 11 + column // 7) % 2 * 70) // 2 % 256 for c in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8).squeeze()


def _png(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _without_metadata(preprocessing: Preprocessing, data: bytes) -> bytes:
    """The picture encoded anew: names, dates and places that a camera or a hospital wrote into the file stay here."""
    found = preprocessing.decode(data)
    if max(found.width, found.height) > MAX_SIDE_PX:
        picture = preprocessing.to_input(found)
    elif found.reduction > 1:
        picture = decode(data)
    else:
        picture = found.pixels
    as_written = picture if picture.shape[-1] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", as_written, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _spread(predictions: tuple[Prediction, ...]) -> list[Prediction]:
    """Predictions at even steps of the ranking, lowest and highest score among them."""
    ranked = sorted(predictions, key=lambda p: (p.probability, p.name))
    places = np.unique(np.linspace(0, len(ranked) - 1, min(PICTURES, len(ranked))).round().astype(int))
    return [ranked[place] for place in places]
