"""Pairs of samples that are one picture, whole or in part, or only look alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.dataset import Sample
from edge.preprocess import decode
from edge_convert.data.copies import Copy, find_copies, thumbnail
from edge_convert.data.embed import Embeddings
from edge_convert.data.overlap import find_overlaps
from edge_convert.progress import Steps

How = Literal["same pixels", "near copy", "shared part", "look-alike"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two samples that are one picture, share a part of one, or only look alike.

    how: a near copy is re-encoded, resized, trimmed, brighter, mirrored or turned; a shared part is a crop, a tilted
    copy or an overlapping field. likeness: correlation of their details, 1 where the pixels are the same; of
    look-alikes, the cosine of their embeddings.
    """

    names: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[str, str]
    groups: tuple[str, str]
    how: How
    likeness: float

    @property
    def leaks(self) -> bool:
        """Whether the two are in different splits."""
        return self.splits[0] != self.splits[1]

    @property
    def conflicts(self) -> bool:
        """Whether the two have different labels, though they are one picture: parts of one may differ in truth."""
        return self.labels[0] != self.labels[1] and self.how in ("same pixels", "near copy")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What is kept of a picture. size: width, height in pixels. pixels: a digest of its shape and pixels."""

    sample: Sample
    size: tuple[int, int]
    grey: bool
    pixels: bytes
    thumb: NDArray[np.uint8]
    box_outside: bool


def open_sample(sample: Sample) -> Opened:
    """Decode a sample's picture. Raises PictureError or OSError where that cannot be done."""
    # Stretched, so that 12-bit plates in 16-bit files are not all the same black.
    picture = decode(sample.path.read_bytes(), wide_range="stretch")
    height, width = picture.shape[:2]
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).data)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    return Opened(
        sample=sample,
        size=(width, height),
        grey=np.array_equal(red, green) and np.array_equal(green, blue),
        pixels=digest.digest(),
        thumb=thumbnail(picture),
        box_outside=any(x + w > width or y + h > height for x, y, w, h in sample.boxes),
    )


def find_pairs(opened: Sequence[Opened]) -> Steps[tuple[Pair, ...]]:
    """Exact copies, then near ones among what is left, in the order of the samples."""
    same: dict[bytes, list[Opened]] = defaultdict(list)
    for picture in opened:
        same[picture.pixels].append(picture)
    # Each against the first of its kind: where any two of them are in different splits, one differs from it.
    pairs = [_pair(m[0].sample, other.sample, "same pixels", 1.0) for m in same.values() for other in m[1:]]
    single = [members[0] for members in same.values()]
    thumbs = np.stack([p.thumb for p in single]) if single else np.empty((0, 1, 1), np.uint8)
    near = yield from find_copies(thumbs)
    pairs += [_pair(single[c.first].sample, single[c.second].sample, "near copy", c.likeness) for c in near]
    return tuple(pairs)


def find_shared(seen: Embeddings, known: Sequence[Pair]) -> Steps[tuple[tuple[Pair, ...], tuple[Pair, ...]]]:
    """Pairs that share a part and are not known to be copies already; then look-alikes.

    seen: whole and centre of each picture, as `COARSE_WHOLE_AND_CENTRE` has it.
    """
    places = {sample.name: place for place, sample in enumerate(seen.samples)}
    pairs = [sorted(places[name] for name in pair.names) for pair in known]
    found = yield from find_overlaps(seen.samples, seen.unit(), frozenset((a, b) for a, b in pairs))

    def named(copies: Iterable[Copy], how: How) -> tuple[Pair, ...]:
        return tuple(_pair(seen.samples[c.first], seen.samples[c.second], how, c.likeness) for c in copies)

    return named(found.shared, "shared part"), named(found.look_alikes, "look-alike")


def _pair(first: Sample, second: Sample, how: How, likeness: float) -> Pair:
    return Pair(
        names=(first.name, second.name),
        splits=(first.its_split, second.its_split),
        labels=(first.label, second.label),
        groups=(first.group, second.group),
        how=how,
        likeness=likeness,
    )
