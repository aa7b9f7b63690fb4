"""The known cases nearest to a picture: the bundle's own, and those that the site has added.

    bundle = read_bundle(path, whole=False)
    screener = Screener(bundle)
    known = known_cases(bundle, screener.network)
    neighbours = known.nearest(screener.screen_file(picture).embedding, k=5)

Neighbours never change a verdict. Nothing here is loaded by `edge screen`.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.errors import BundleError
from edge.frozen import dataclass
from edge.reference import Cases, Coding, network_id, unpack_cases
from edge_runtime.interpreter import Network

Source = Literal["bundle", "site"]
MOST = 100
"""Neighbours of one picture."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A known case near a picture.

    rank: 1 for the nearest. distance: Euclidean, between the two embeddings. source: who says that it is a `label`.
    group: of pictures of one patient or slide, "" where not known.
    """

    rank: int
    distance: float
    label: str
    id: str
    group: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest known cases, nearest first."""

    found: tuple[Neighbour, ...]

    @property
    def shares(self) -> dict[str, float]:
        """Of each label among them, the largest first."""
        labels = [neighbour.label for neighbour in self.found]
        ranked = sorted(set(labels), key=lambda label: (-labels.count(label), label))
        return {label: labels.count(label) / len(labels) for label in ranked}


class KnownCases:
    """The cases that pictures are compared with, by one network."""

    def __init__(self, coding: Coding, sets: dict[Source, Cases]) -> None:
        """coding: of the network's embedding. sets: each of one or more cases, all of as many channels."""
        self.coding, self.sets = coding, sets

    def __len__(self) -> int:
        return sum(map(len, self.sets.values()))

    def nearest(self, embedding: NDArray[np.float32], k: int = 5) -> Neighbours:
        """The k nearest cases by Euclidean distance, exactly; fewer where there are fewer. k: 1 to MOST.

        embedding: (channels,), as `Screening.embedding` of the same network. Of equal distances the earlier case comes
        first, and the bundle's before the site's. Raises BundleError for an embedding of another length.
        """
        query = self.coding.codes(embedding)
        if any(cases.codes.shape[1:] != query.shape for cases in self.sets.values()):
            raise BundleError("the known cases are of another network than this picture's", remedy="use one bundle")
        found: list[tuple[float, Source, int]] = []
        for source, cases in self.sets.items():
            distances, rows = nearest_codes(cases.codes, query, k)
            found += [(float(d), source, int(row)) for d, row in zip(distances, rows, strict=True)]
        # Stable: within a set the rows are in order already.
        found.sort(key=lambda one: one[0])
        return Neighbours(
            found=tuple(
                Neighbour(
                    rank=rank,
                    distance=distance * self.coding.scale,
                    label=self.sets[source].labels[row],
                    id=self.sets[source].ids[row],
                    group=self.sets[source].groups[row],
                    source=source,
                )
                for rank, (distance, source, row) in enumerate(found[:k], start=1)
            )
        )

    def thumbnail(self, neighbour: Neighbour) -> bytes | None:
        """The JPEG file of a case; None where it has none, or where they were not asked for."""
        cases = self.sets[neighbour.source]
        data = cases.thumbnails[cases.ids.index(neighbour.id)] if cases.thumbnails else b""
        return data or None


def nearest_codes(
    codes: NDArray[np.uint8], query: NDArray[np.uint8], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k rows nearest to a query and their Euclidean distances in codes, nearest first, fewer where n is smaller.

    codes: (n, channels). query: (channels,). Exact: OpenCV sums the squares as integers, in a pass over the codes that
    holds nothing but them. Of equal distances the earlier row comes first.
    """
    k = min(k, len(codes), MOST)
    squares, rows = cv2.batchDistance(query[np.newaxis], codes, cv2.CV_32S, normType=cv2.NORM_L2SQR, K=k)
    return np.sqrt(np.asarray(squares[0], np.float64)), np.asarray(rows[0], np.int64)


def known_cases(bundle: Bundle, network: Network, site: Cases | None = None, *, thumbnails: bool = False) -> KnownCases:
    """The bundle's reference set together with the site's cases.

    network: of the bundle's main model. thumbnails: whether the bundle's are unpacked too. Raises BundleError where the
    model gives no embedding of 8 bits, where there is no case at all, and for a damaged bundle.
    """
    manifest, coding = bundle.manifest, embedding_coding(bundle, network)
    sets: dict[Source, Cases] = {}
    if carried := carried_cases(bundle, coding, thumbnails=thumbnails):
        sets["bundle"] = carried
    if site:
        sets["site"] = site
    if not sets:
        raise BundleError(
            f"{manifest.name} carries no known cases, and this site has added none",
            remedy="add confirmed ones with `edge reference add`, or build with `reference.pictures` above 0",
        )
    return KnownCases(coding, sets)


def carried_cases(bundle: Bundle, coding: Coding, *, thumbnails: bool = False) -> Cases | None:
    """The bundle's own reference set; None where it has none. coding: its network's. Raises BundleError where the set
    is another network's, or damaged.
    """
    reference = bundle.manifest.reference
    if reference is None:
        return None
    if (reference.scale, reference.zero_point) != (coding.scale, coding.zero_point):
        raise BundleError("its reference set is of another network than its model", remedy="make the bundle again")
    return unpack_cases(reference, bundle.manifest.labels, bundle.parts, thumbnails=thumbnails)


def embedding_coding(bundle: Bundle, network: Network) -> Coding:
    """How the network's embedding is coded. Raises BundleError where it gives none, or none of 8 bits."""
    network_id(bundle.manifest)
    coding = network.coding("embedding")
    if coding is None:
        raise BundleError(
            f"the model of {bundle.manifest.name} gives its embedding in more than 8 bits",
            remedy="use a bundle that `edge convert` made",
        )
    return coding
