"""Screen seeded mutations of pictures and of a bundle; run as a process of its own, so that a crash is seen.

Usage: fuzz.py BUNDLE FOLDER FIRST COUNT. Prints the number of the case before it runs, then its outcome.
"""

from __future__ import annotations

import faulthandler
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from edge.bundle import MANIFEST, parse_bundle
from edge.errors import EdgeError
from edge_runtime.pipeline import Screener

import cv2  # isort: skip
import numpy as np  # isort: skip
from numpy.typing import NDArray  # isort: skip

LIMIT_S = 20
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    1e308,
    float("nan"),
    "",
    "x" * 5000,
    [],
    {},
    [[]],
    "../../etc/passwd",
    1 << 70,
]


def seeds_from(folder: Path) -> list[bytes]:
    """One picture in every kind of file the runtime reads."""
    pixels = cv2.imread(str(sorted(folder.glob("*.jpg"))[0]))
    assert pixels is not None
    small = cv2.resize(pixels, (64, 48))
    files: list[tuple[str, NDArray[Any], list[int]]] = [
        (".jpg", small, []),
        (".jpg", small, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", small[..., 0], []),
        (".png", small, []),
        (".png", small.astype(np.uint16) * 257, []),
        (".bmp", small, []),
        (".tiff", small, [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
        (".tiff", small, [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
        (".tiff", small.astype(np.uint16) * 257, [cv2.IMWRITE_TIFF_COMPRESSION, 32946]),
    ]
    return [cv2.imencode(suffix, picture, flags)[1].tobytes() for suffix, picture, flags in files]


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """Flip, cut, repeat, remove or insert bytes; the head of the file, where the format is, more often."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 9))):
        reach = len(changed) if random.random() < 0.5 else min(len(changed), 200)
        if reach == 0:
            break
        place, kind = int(random.integers(reach)), int(random.integers(6))
        length = int(random.integers(1, 33))
        if kind <= 1:
            changed[place] = int(random.integers(256))
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = random.bytes(length)
        elif kind == 4:
            changed[place : place + 4] = int(random.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF])).to_bytes(4, "big")
        else:
            changed[place:place] = changed[place : place + length]
    return bytes(changed[: int(random.integers(len(changed) + 1))] if random.random() < 0.1 else changed)


def mutate_fields(value: Any, random: np.random.Generator) -> Any:
    """One value somewhere in the JSON replaced by an unfitting one."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = sorted(value)[int(random.integers(len(value)))]
        return {**value, key: mutate_fields(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = int(random.integers(len(value)))
        return [*value[:place], mutate_fields(value[place], random), *value[place + 1 :]]
    return VALUES[int(random.integers(len(VALUES)))]


def with_mutated_manifest(bundle: bytes, random: np.random.Generator) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == MANIFEST:
                data = json.dumps(mutate_fields(json.loads(data), random)).encode()
            target.writestr(name, data)
    return out.getvalue()


def main(bundle_path: str, folder: str, first: str, count: str) -> None:
    bundle = Path(bundle_path).read_bytes()
    pictures = seeds_from(Path(folder))
    screener = Screener(parse_bundle(bundle))
    for case in range(int(first), int(first) + int(count)):
        random = np.random.default_rng(case)
        print(case, end=" ", flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        try:
            if case % 5:
                data = mutate(pictures[int(random.integers(len(pictures)))], random)
                outcome = screener.screen(data, name="mutated", explain=True).verdict.decision
            else:
                mutated = mutate(bundle, random) if random.random() < 0.5 else with_mutated_manifest(bundle, random)
                other = Screener(parse_bundle(mutated), threads=1)
                outcome = other.screen(pictures[0], name="whole", explain=True).verdict.decision
        except EdgeError as error:
            outcome = type(error).__name__ if error.message and error.remedy else "speechless"
        print(outcome, flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
