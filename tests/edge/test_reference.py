"""Known cases in a bundle: the codes are the network's own, the parts are what the record says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import BundleError
from edge.fields import FieldError
from edge.reference import CASES, EMBEDDINGS, THUMBNAILS, Cases, Coding, pack_cases, thumbnail, unpack_cases

LABELS = ("clean", "spotted", "striped")
CODING = Coding(scale=0.0235, zero_point=3)


def some_cases() -> Cases:
    codes = np.random.default_rng(1).integers(0, 256, (4, 6)).astype(np.uint8)
    return Cases(
        codes=codes,
        ids=("00001", "00002", "00003", "é"),
        labels=("clean", "spotted", "clean", "spotted"),
        groups=("g1", "g1", "g2", ""),
        thumbnails=[b"one", b"", b"three", b"4"],
    )


def test_what_is_packed_is_unpacked() -> None:
    cases = some_cases()
    record, parts = pack_cases(cases, LABELS, CODING, chosen_from=9, thumbnail_px=64)
    assert (record.n, record.channels, record.chosen_from, record.thumbnail_px) == (4, 6, 9, 64)
    assert record.counts == {"clean": 2, "spotted": 2, "striped": 0}
    assert set(record.members) == set(parts)
    back = unpack_cases(record, LABELS, parts, thumbnails=True)
    np.testing.assert_array_equal(back.codes, cases.codes)
    assert (back.ids, back.labels, back.groups) == (cases.ids, cases.labels, cases.groups)
    assert list(back.thumbnails) == list(cases.thumbnails)


def test_thumbnails_stay_packed_where_nobody_looks_at_them() -> None:
    record, parts = pack_cases(some_cases(), LABELS, CODING, chosen_from=9, thumbnail_px=64)
    del parts[THUMBNAILS]
    assert not unpack_cases(record, LABELS, parts, thumbnails=False).thumbnails


def test_cases_without_thumbnails_have_no_such_part() -> None:
    record, parts = pack_cases(replace(some_cases(), thumbnails=()), LABELS, CODING, chosen_from=9, thumbnail_px=64)
    assert (record.thumbnail_px, record.thumbnails) == (0, None)
    assert set(parts) == {EMBEDDINGS, CASES}
    assert not unpack_cases(record, LABELS, parts, thumbnails=True).thumbnails


@pytest.mark.parametrize(("scale", "zero_point"), [(0.023529412, 0), (0.1, 128), (1e-3, 255)], ids=str)
def test_every_code_comes_back_from_what_it_stands_for(scale: float, zero_point: int) -> None:
    coding = Coding(scale=scale, zero_point=zero_point)
    codes = np.arange(256, dtype=np.uint8)
    real = coding.embedding(codes)
    assert real.dtype == np.float32
    assert float(real[zero_point]) == 0.0
    np.testing.assert_array_equal(coding.codes(real), codes)


def with_index(**change: Any) -> Callable[[dict[str, bytes]], None]:
    def apply(parts: dict[str, bytes]) -> None:
        parts[CASES] = json.dumps({**json.loads(parts[CASES]), **change}).encode()

    return apply


DAMAGES: dict[str, Callable[[dict[str, bytes]], Any]] = {
    "a code too few": lambda p: p.update({EMBEDDINGS: p[EMBEDDINGS][:-1]}),
    "no JSON": lambda p: p.update({CASES: b"{"}),
    "a list": lambda p: p.update({CASES: b"[]"}),
    "an id too few": with_index(ids=["1", "2", "3"]),
    "an id that is a number": with_index(ids=[1, "2", "3", "4"]),
    "a label that is not there": with_index(labels=[0, 1, 0, 7]),
    "a label below 0": with_index(labels=[0, 1, 0, -1]),
    "other counts": with_index(labels=[0, 1, 1, 1]),
    "thumbnails that end early": with_index(thumbnail_bytes=[3, 0, 5, 2]),
    "a thumbnail too few": with_index(thumbnail_bytes=[3, 0, 6]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_parts_that_do_not_fit_their_record_are_refused(damage: Callable[[dict[str, bytes]], Any]) -> None:
    record, parts = pack_cases(some_cases(), LABELS, CODING, chosen_from=9, thumbnail_px=64)
    damage(parts)
    with pytest.raises(BundleError, match="reference set"):
        unpack_cases(record, LABELS, parts, thumbnails=True)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {}},
        {"counts": {"clean": -1, "spotted": 2}},
        {"counts": {"clean": 100_001}},
        {"scale": 0.0},
        {"zero_point": 256},
        {"channels": 0},
        {"thumbnails": None},
        {"thumbnail_px": 0},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    record, _ = pack_cases(some_cases(), LABELS, CODING, chosen_from=9, thumbnail_px=64)
    with pytest.raises(FieldError):
        replace(record, **change)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_a_thumbnail_is_a_small_picture_of_what_the_network_saw(channels: int) -> None:
    tensor = np.zeros((96, 96, channels), np.uint8)
    tensor[:, :48, 0] = 250
    pixels = cv2.imdecode(np.frombuffer(thumbnail(tensor, 32), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.shape == ((32, 32) if channels == 1 else (32, 32, 3))
    red = pixels if channels == 1 else pixels[..., 2]
    assert red[:, :12].mean() > 240
    assert red[:, 20:].mean() < 10
    large = cv2.imdecode(np.frombuffer(thumbnail(tensor, 200), np.uint8), cv2.IMREAD_UNCHANGED)
    assert large is not None
    assert large.shape[:2] == (96, 96)
