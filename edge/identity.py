"""By what a data set is known again, on any machine: SHA-256 over its pictures, labels, groups, splits and boxes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import DataError
from edge.files import sha256_of
from edge.frozen import dataclass

if TYPE_CHECKING:
    from edge.dataset import Sample


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A data set's marks, in SHA-256 of 64 hexadecimal digits.

    fingerprint: over one line a sample, by name: the JSON list [name, label, group, split, boxes, SHA-256 of the file].
    parts: the same over less, to tell what has changed: `names`, `files` (their SHA-256, by name), and `labels`,
    `groups`, `splits` and `boxes`, each with the name.
    """

    fingerprint: str
    parts: dict[str, str]


def identify(samples: Iterable[Sample]) -> Identity:
    """The marks of these samples, whatever their order. Reads every file; raises DataError where one cannot be."""
    ordered = sorted(samples, key=lambda s: s.name)
    digests = [_digest(sample.path) for sample in ordered]
    records = [[s.name, s.label, s.group, s.split, s.boxes, d] for s, d in zip(ordered, digests, strict=True)]
    return Identity(
        fingerprint=_hash_lines(records),
        parts={
            "names": _hash_lines(s.name for s in ordered),
            "files": _hash_lines([s.name, d] for s, d in zip(ordered, digests, strict=True)),
            "labels": _hash_lines([s.name, s.label] for s in ordered),
            "groups": _hash_lines([s.name, s.group] for s in ordered),
            "splits": _hash_lines([s.name, s.split] for s in ordered),
            "boxes": _hash_lines([s.name, s.boxes] for s in ordered),
        },
    )


def _hash_lines(records: Iterable[object]) -> str:
    whole = hashlib.sha256()
    for record in records:
        whole.update(json.dumps(record).encode() + b"\n")
    return whole.hexdigest()


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", remedy="check the file and its rights") from None
