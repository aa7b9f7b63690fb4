"""The data certificate: what was found in a data set, sealed, so that an auditor can tell the very set again.

It travels with the bundle, so no file, group or patient is named in it: findings are counted, and `edge data check`
names them. It holds no date: the same data and the same tools give the same bytes. The seal shows damage and careless
changes; it is not a signature, as whoever can rewrite the file can seal it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edge import __version__
from edge.dataset import Dataset
from edge.errors import DataError
from edge.files import read_ordinary, write_atomically
from edge.identity import Identity
from edge.split import FRACTIONS
from edge_convert.data import copies, overlap
from edge_convert.data.check import DataReport

CERTIFICATE = "certificate.json"
FORMAT = "edge-screen data certificate"
SCHEMA = 1

_WORDS = {
    "names": "the pictures' names",
    "files": "the contents of files",
    "labels": "labels",
    "groups": "groups",
    "splits": "splits",
    "boxes": "boxes",
}


def certify(dataset: Dataset, report: DataReport, identity: Identity) -> dict[str, Any]:
    """The sealed certificate. dataset: as it was read, with splits of its own or none; report, identity: of it."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "schema": SCHEMA,
        "data": {
            "name": dataset.name,
            "synthetic": dataset.synthetic,
            "pictures": len(dataset.samples),
            "readable": report.grey + report.colour,
            "fingerprint": identity.fingerprint,
            "fingerprint_of": identity.parts,
        },
        "groups": {
            "known": dataset.has_groups,
            "pattern": dataset.group_pattern,
            "by_split": report.groups,
        },
        "splits": {
            "origin": "the data set's own" if report.seed is None else "made by group, stratified by class",
            "seed": report.seed,
            "fractions": None if report.seed is None else list(FRACTIONS),
        },
        "pictures": report.pictures,
        "findings": _findings(report),
        "free_of_leaks": not report.leaks,
        "methods": _methods(report),
        "versions": {
            "edge-screen": __version__,
            **{package: _version(package) for package in ("numpy", "opencv-python-headless")},
        },
    }
    return {**fields, "seal": seal_of(fields)}


def seal_of(certificate: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON (keys sorted, no spaces, UTF-8) of all but the seal itself."""
    fields = {key: value for key, value in certificate.items() if key != "seal"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def to_bytes(certificate: Mapping[str, Any]) -> bytes:
    """The file: indented JSON, keys sorted, a newline at the end."""
    return json.dumps(certificate, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_certificate(path: Path, certificate: Mapping[str, Any]) -> None:
    """Write the file in one step."""
    write_atomically(path, to_bytes(certificate))


def read_certificate(path: Path) -> dict[str, Any]:
    """A certificate whose seal holds. Raises DataError where it is not one, or was changed after it was sealed."""
    try:
        found = json.loads(read_ordinary(path))
        seal = seal_of(found) if isinstance(found, dict) else None
    except FileNotFoundError:
        raise DataError(f"there is no certificate at {path}", remedy="check the path") from None
    except (OSError, ValueError, RecursionError):
        # Among them what JSON can hold and a seal cannot: NaN, half a character.
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(
            f"{path} is not a data certificate", remedy="name a file that `edge data check --certificate` wrote"
        )
    if found.get("schema") != SCHEMA:
        raise DataError(
            f"the certificate's schema is {found.get('schema')!r}; this version reads schema {SCHEMA}",
            remedy="install the version of edge-screen that made it",
        )
    if found.get("seal") != seal:
        raise DataError(
            f"the seal of {path} is broken: it was changed after it was made", remedy="ask for the original"
        )
    return found


def difference(certificate: Mapping[str, Any], dataset: Dataset) -> str | None:
    """In what a data set, read with the certificate's group pattern, is not the certified one; None where it is."""
    certified, identity = certificate["data"], dataset.identity()
    if identity.fingerprint == certified["fingerprint"]:
        return None
    if len(dataset.samples) != certified["pictures"]:
        return f"it has {len(dataset.samples):,} pictures, the certified one has {certified['pictures']:,}"
    changed = [part for part in _WORDS if identity.parts[part] != certified["fingerprint_of"].get(part)]
    if "names" in changed:
        return f"{_WORDS['names']} differ"
    return f"{' and '.join(_WORDS[part] for part in changed) or 'the fingerprint'} differ"


def changed_findings(certificate: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """The parts of a certificate that a second check of the same data does not give again, versions left out."""
    return [key for key in certificate if key not in ("seal", "versions") and certificate[key] != again.get(key)]


def describe_certificate(data: Mapping[str, Any]) -> list[str]:
    """Sentences for people, from a bundle's data summary; none where it has no certificate."""
    if not data.get("certificate"):
        return []
    found = data["findings"]
    apart = found["shared_parts"]
    return [
        f"copies in the data set as it was given: {found['exact_copies']} exact, {found['near_copies']} near; "
        f"copies with different labels: {found['label_conflicts']}",
        "crops, tilted copies and overlapping fields: "
        + (f"{apart} pairs" if apart is not None else "not looked for (`edge data check --embeddings` does)"),
        f"data certificate: {CERTIFICATE} in the bundle, seal {data['certificate']}; `edge data verify` tells the very "
        "set again",
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _findings(report: DataReport) -> dict[str, Any]:
    same = [pair for pair in report.copies if pair.how == "same pixels"]
    near = [pair for pair in report.copies if pair.how == "near copy"]
    shared = [pair for pair in report.copies if pair.how == "shared part"]
    return {
        "unreadable": len(report.unreadable),
        "boxes_outside": len(report.boxes_outside),
        "exact_copies": len(same),
        "near_copies": len(near),
        "shared_parts": len(shared) if report.embeddings else None,
        "look_alikes": len(report.look_alikes) if report.embeddings else None,
        "label_conflicts": len(report.label_conflicts),
        "leaking_groups": len(report.group_leaks),
        "leaking_copies": len(report.leaking_copies),
    }


def _methods(report: DataReport) -> dict[str, Any]:
    return {
        "fingerprint": "SHA-256 over a JSON line a picture, by name: name, label, group, split, boxes, SHA-256 of file",
        "exact_copies": "BLAKE2b of the decoded pixels and their shape",
        "near_copies": copies.method(),
        "shared_parts": overlap.method() if report.embeddings else None,
    }
