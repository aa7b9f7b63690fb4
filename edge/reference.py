"""Known cases: labelled pictures by their embeddings, so that a new picture's nearest ones can be shown.

A bundle carries some of its training pictures so (the reference set); a site may add its own in a file beside it. Both
hold the network's own 8-bit outputs, so storing them loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.fields import FieldError, plain
from edge.frozen import dataclass
from edge.preprocess import shrink

if TYPE_CHECKING:
    from edge.bundle import Manifest

EMBEDDINGS = "reference/embeddings.bin"
CASES = "reference/cases.json"
THUMBNAILS = "reference/thumbnails.bin"
MAX_CASES = 100_000
SMALLEST_THUMBNAIL_PX, LARGEST_THUMBNAIL_PX = 32, 256
JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The reference set in a bundle's manifest.

    counts: cases by label. channels: of an embedding, which is `(code - zero_point) * scale` of its codes 0..255.
    chosen_from: how many training pictures there were. thumbnail_px: longer side of the thumbnails, 0 for none.
    embeddings: member, the codes case by case. cases: member, JSON with `ids`, `labels` (indices of the bundle's
    labels), `groups` and `thumbnail_bytes`, a list each. thumbnails: member, JPEG files one behind the other.
    """

    counts: dict[str, int]
    channels: int
    scale: float
    zero_point: int
    chosen_from: int
    thumbnail_px: int
    embeddings: str
    cases: str
    thumbnails: str | None

    def __post_init__(self) -> None:
        if not 0 < self.n <= MAX_CASES or min(self.counts.values()) < 0:
            raise FieldError(f"'reference.counts' must come to 1 to {MAX_CASES} cases")
        if self.channels < 1 or self.scale <= 0 or not 0 <= self.zero_point <= 255:
            raise FieldError("'reference' needs channels and a scale above 0, and a zero_point of 0 to 255")
        if (self.thumbnails is None) != (self.thumbnail_px == 0):
            raise FieldError("'reference.thumbnails' and 'reference.thumbnail_px' must go together")

    @property
    def n(self) -> int:
        """How many cases."""
        return sum(self.counts.values())

    @property
    def members(self) -> tuple[str, ...]:
        """The bundle's parts that it needs."""
        return tuple(name for name in (self.embeddings, self.cases, self.thumbnails) if name is not None)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How an 8-bit output stands for real numbers: `(code - zero_point) * scale`, code 0..255."""

    scale: float
    zero_point: int

    def codes(self, embedding: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The codes of an embedding, of the same shape; exact for what the network itself gave."""
        steps = np.rint(embedding / np.float32(self.scale)) + self.zero_point
        return np.asarray(np.clip(steps, 0, 255), np.uint8)

    def embedding(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What codes stand for, float32 of the same shape."""
        return np.asarray((codes.astype(np.int32) - self.zero_point) * np.float32(self.scale), np.float32)


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Known cases, a column each. codes: (n, channels) uint8, contiguous. ids, labels, groups: n texts each.

    groups: of pictures of one patient or slide, "" where not known. thumbnails: n JPEG files, or none at all.
    """

    codes: NDArray[np.uint8] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    thumbnails: Sequence[bytes] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def network_id(manifest: Manifest) -> str:
    """Names what makes the embeddings: sha256 over the main model's file, how it is fed, and the preprocessing.

    Bundles that differ in the threshold or the evidence alone have the same one. Raises BundleError where the model
    gives no embedding.
    """
    entry = manifest.models[manifest.main_model]
    if "embedding" not in entry.outputs:
        raise BundleError(
            f"the model of {manifest.name} gives no embedding, so known cases cannot be compared with a picture",
            remedy="use a bundle that `edge convert` made",
        )
    steps = plain(manifest.preprocessing)
    if steps["jpeg"] == "whole":
        # As before there was a choice: a site's own cases stay those of the bundle that they were added to.
        del steps["jpeg"]
    made_of = [manifest.parts[entry.file].sha256, plain(entry), steps]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def pack_cases(
    cases: Cases, labels: Sequence[str], coding: Coding, *, chosen_from: int, thumbnail_px: int
) -> tuple[Reference, dict[str, bytes]]:
    """The manifest's record of a reference set, and its parts. labels: the bundle's."""
    index = {
        "ids": list(cases.ids),
        "labels": [labels.index(label) for label in cases.labels],
        "groups": list(cases.groups),
        "thumbnail_bytes": [len(data) for data in cases.thumbnails],
    }
    parts = {EMBEDDINGS: cases.codes.tobytes(), CASES: json.dumps(index, ensure_ascii=False).encode()}
    if cases.thumbnails:
        parts[THUMBNAILS] = b"".join(cases.thumbnails)
    reference = Reference(
        counts={label: cases.labels.count(label) for label in labels},
        channels=cases.codes.shape[1],
        scale=coding.scale,
        zero_point=coding.zero_point,
        chosen_from=chosen_from,
        thumbnail_px=thumbnail_px if cases.thumbnails else 0,
        embeddings=EMBEDDINGS,
        cases=CASES,
        thumbnails=THUMBNAILS if cases.thumbnails else None,
    )
    return reference, parts


def unpack_cases(reference: Reference, labels: Sequence[str], parts: Mapping[str, bytes], *, thumbnails: bool) -> Cases:
    """The reference set of a bundle. labels, parts: the bundle's. thumbnails: whether they are unpacked too.

    Raises BundleError where the parts are not what the record says.
    """
    wrong = BundleError("its reference set is not what its manifest says", remedy="make the bundle again")
    data = parts[reference.embeddings]
    try:
        index = json.loads(parts[reference.cases])
        ids, groups = tuple(index["ids"]), tuple(index["groups"])
        named = tuple(labels[number] for number in index["labels"] if number >= 0)
        sizes = [int(size) for size in index["thumbnail_bytes"]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise wrong from None
    n = reference.n
    if {len(ids), len(named), len(groups)} != {n} or len(data) != n * reference.channels:
        raise wrong
    if not all(isinstance(text, str) for text in (*ids, *groups)):
        raise wrong
    if {label: named.count(label) for label in set(named)} != {k: v for k, v in reference.counts.items() if v}:
        raise wrong
    files: list[bytes] = []
    if thumbnails and reference.thumbnails is not None:
        whole = parts[reference.thumbnails]
        if len(sizes) != n or min(sizes) < 0 or sum(sizes) != len(whole):
            raise wrong
        ends = np.cumsum(sizes).tolist()
        files = [whole[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    codes = np.frombuffer(data, np.uint8).reshape(n, reference.channels)
    return Cases(codes=codes, ids=ids, labels=named, groups=groups, thumbnails=files)


def thumbnail(tensor: NDArray[np.uint8], side_px: int) -> bytes:
    """A small JPEG of what the network saw, without metadata. tensor: (side, side, 3 or 1) uint8, RGB or grey.

    side_px: of the thumbnail; never more than the tensor's own.
    """
    side = min(side_px, tensor.shape[0])
    small = shrink(np.ascontiguousarray(tensor), side, side)
    as_written = small if small.ndim == 2 or small.shape[-1] == 1 else cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", as_written, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
