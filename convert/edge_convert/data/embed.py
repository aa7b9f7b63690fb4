"""Embeddings of a data set's pictures, by a network that has never seen them: what look-alikes and probes go by.

EfficientNet-Lite0 with the weights that a package carries, so it works offline and is the same everywhere. It was
trained on photographs of things, not on patients; nothing here is fine-tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import Sample
from edge.errors import DataError, PictureError
from edge.preprocess import decode
from edge_convert.progress import Progress, Steps

BACKBONE = "efficientnet-lite0"
WEIGHTS = "package"
SIDE_PX = 224
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class View:
    """What of a picture is embedded: the middle `part` of both sides, no finer than `detail_px` on a side."""

    part: float = 1.0
    detail_px: int = SIDE_PX


WHOLE = (View(),)
COARSE_WHOLE_AND_CENTRE = (View(detail_px=96), View(part=0.8, detail_px=96))
"""For finding what shares a part: fine detail does not survive JPEG and blur, and the edges do not survive a crop."""


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Pictures as a frozen network sees them.

    samples: those that can be read, in the order of the data set. vectors: (n, views, 1280) float32, the last feature
    maps averaged over their places; not normalised. unreadable: names of the others.
    """

    samples: tuple[Sample, ...]
    vectors: NDArray[np.float32]
    unreadable: tuple[str, ...]

    def unit(self) -> NDArray[np.float32]:
        """The vectors with length 1, so that an inner product is a cosine."""
        lengths = np.linalg.norm(self.vectors, axis=-1, keepdims=True)
        return np.asarray(self.vectors / np.maximum(lengths, 1e-12), np.float32)


def method() -> dict[str, object]:
    """What made the embeddings, for a record."""
    return {"network": BACKBONE, "weights": WEIGHTS, "side_px": SIDE_PX, "fit": "squeeze", "layer": "mean of last maps"}


def embed(samples: Sequence[Sample], views: Sequence[View] = WHOLE) -> Steps[Embeddings]:
    """Embed every readable picture; yields how many are done. Raises DataError where none can be read.

    Pictures are squeezed to a square; 16-bit ones are stretched to their own range, as `edge data check` does.
    """
    network = _Network()
    kept: list[Sample] = []
    vectors: list[NDArray[np.float32]] = []
    unreadable: list[str] = []
    for start in range(0, len(samples), BATCH):
        yield Progress(done=start, total=len(samples))
        inputs: list[NDArray[np.uint8]] = []
        for sample in samples[start : start + BATCH]:
            try:
                picture = decode(sample.path.read_bytes(), wide_range="stretch")
            except (PictureError, OSError):
                unreadable.append(sample.name)
            else:
                kept.append(sample)
                inputs += [_seen(picture, view) for view in views]
        if inputs:
            vectors.append(network.embed(np.stack(inputs)))
    yield Progress(done=len(samples), total=len(samples))
    if not kept:
        raise DataError("no picture of the data set can be read", remedy="run `edge data check` for the reasons")
    together = np.concatenate(vectors).reshape(len(kept), len(views), -1)
    return Embeddings(samples=tuple(kept), vectors=together, unreadable=tuple(unreadable))


def _seen(picture: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """A view of a picture as the network's input, (224, 224, 3) uint8. picture: (rows, columns, 3) uint8 RGB."""
    rows, columns = picture.shape[:2]
    height, width = max(1, int(rows * view.part)), max(1, int(columns * view.part))
    top, left = (rows - height) // 2, (columns - width) // 2
    middle = np.ascontiguousarray(picture[top : top + height, left : left + width])
    small = cv2.resize(middle, (view.detail_px, view.detail_px), interpolation=cv2.INTER_AREA)
    if view.detail_px != SIDE_PX:
        small = cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(small, np.uint8)


class _Network:
    """The frozen network with its last maps averaged."""

    def __init__(self) -> None:
        from edge_convert.backbones import find_backbone
        from edge_convert.keras import keras, tensorflow

        self._backbone = find_backbone(BACKBONE)
        maps = self._backbone.build(SIDE_PX, 1.0, WEIGHTS)
        model = keras().Model(maps.input, keras().layers.GlobalAveragePooling2D()(maps.output))
        self._step = tensorflow().function(lambda x: model(x, training=False), reduce_retracing=True)

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 224, 224, 3) uint8 to (n, 1280) float32."""
        from edge_convert.network import scaled

        return np.asarray(self._step(scaled(pictures, self._backbone)).numpy(), np.float32)
