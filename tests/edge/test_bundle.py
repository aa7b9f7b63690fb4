"""A bundle is exactly what its manifest promises, or it is refused with a sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import (
    MANIFEST,
    SCHEMA,
    Golden,
    Manifest,
    ModelFile,
    Part,
    parse_bundle,
    read_bundle,
    write_bundle,
)
from edge.decision import Calibration, Decision
from edge.errors import BundleError
from edge.fields import FieldError, plain
from edge.preprocess import Preprocessing
from edge.profile import parse_profile
from edge.reference import network_id
from edge.saliency import MapScale, Saliency

PARTS = {"model.tflite": b"model" * 1000, "golden/00.jpg": b"picture", "golden/00.npz": b"arrays", "card.md": b"# card"}
MODEL = ModelFile(
    file="model.tflite",
    input_dtype="uint8",
    input_scale=1 / 128,
    input_zero_point=127,
    outputs={"probabilities": "probabilities"},
)
MANIFEST_RECORD = Manifest(
    schema=SCHEMA,
    name="spots",
    synthetic=True,
    labels=("clean", "spotted"),
    preprocessing=Preprocessing(side_px=96),
    models={"int8": MODEL},
    decision=Decision(
        positive=("spotted",),
        level="picture",
        calibration=Calibration(kind="isotonic", knots=((0.1, 0.05), (0.9, 0.8))),
        profile=parse_profile("sensitivity >= 0.95"),
        rule="lower-bound",
        threshold=0.25,
        sensitivity_bound=0.96,
        specificity_bound=0.9,
        met=True,
        standing="profile met: sensitivity is at least 0.9600",
        fitted_on="70 positive of 160 validation pictures, int8",
    ),
    saliency=Saliency(method="cam", scales={"cam": MapScale(background=0.5, full_scale=2.0)}),
    golden=(Golden(picture="golden/00.jpg", input_sha256="0", outputs="golden/00.npz"),),
    tolerances={"probabilities": 0.01},
    metrics={"auc": 0.9},
    recipe={},
    data={},
    versions={"edge-screen": "0"},
    parts={},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "spots.edge"
    write_bundle(path, MANIFEST_RECORD, PARTS)
    return path


def repacked(path: Path, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The bundle's bytes with its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        fields = json.loads(members[MANIFEST])
        change(fields)
        members[MANIFEST] = json.dumps(fields).encode()

    return apply


def test_what_is_written_is_read_back(bundle: Path) -> None:
    opened = read_bundle(bundle)
    assert dict(opened.parts) == PARTS
    assert replace(opened.manifest, parts={}) == MANIFEST_RECORD
    assert opened.model("int8") == (MODEL, PARTS["model.tflite"])


def test_a_manifest_from_before_jpegs_were_scaled_means_whole(bundle: Path) -> None:
    def without(fields: dict[str, Any]) -> None:
        assert fields["preprocessing"].pop("jpeg") == "whole"

    before = parse_bundle(repacked(bundle, with_manifest(without)))
    assert before.manifest.preprocessing == Preprocessing(side_px=96, jpeg="whole")


def test_a_sites_cases_stay_those_of_a_bundle_from_before_jpegs_were_scaled() -> None:
    """What names the embeddings' maker is what it was; another way to decode is another maker."""
    entry = replace(MODEL, outputs={**MODEL.outputs, "embedding": "embedding"})
    manifest = replace(MANIFEST_RECORD, models={"int8": entry}, parts={MODEL.file: Part(bytes=1, sha256="ab")})
    before = ["ab", plain(entry), {"side_px": 96, "fit": "crop", "wide_range": "full", "colour": "rgb"}]
    assert network_id(manifest) == hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    scaled = replace(manifest, preprocessing=Preprocessing(side_px=96, jpeg="scaled"))
    assert network_id(scaled) != network_id(manifest)


def test_the_same_contents_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.edge"
    write_bundle(again, MANIFEST_RECORD, dict(reversed(PARTS.items())))
    assert again.read_bytes() == bundle.read_bytes()


def test_a_manifest_that_names_a_part_which_is_not_there_is_not_written(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(FieldError, match="not among the parts"):
        write_bundle(bundle, MANIFEST_RECORD, {"card.md": b"only this"})
    assert bundle.read_bytes() == before


def test_a_write_that_fails_on_the_disk_leaves_the_old_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundle.read_bytes()
    sizes: list[int] = []

    def full(number: int) -> None:
        sizes.append(os.fstat(number).st_size)
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_bundle(bundle, replace(MANIFEST_RECORD, name="other"), PARTS)
    assert sizes[0] > 1000, "the new bundle was never written"
    assert bundle.read_bytes() == before
    assert [file.name for file in bundle.parent.iterdir()] == [bundle.name]


def test_a_model_that_is_not_there_is_refused_by_name(bundle: Path) -> None:
    with pytest.raises(BundleError, match="no 'float32' model") as caught:
        read_bundle(bundle).model("float32")
    assert "int8" in caught.value.remedy


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "another model": (lambda m: m.update({"model.tflite": b"MODEL" * 1000}), "sha256 differs"),
    "a shorter model": (lambda m: m.update({"model.tflite": b"model"}), "sha256 differs"),
    "a longer part": (lambda m: m.update({"card.md": b"#" * 10_000}), "larger than allowed"),
    "a missing part": (lambda m: m.pop("card.md"), "missing"),
    "an unlisted part": (lambda m: m.update({"extra.py": b"import os"}), "does not list"),
    "no manifest": (lambda m: m.pop(MANIFEST), "not a bundle"),
    "a manifest that is no JSON": (lambda m: m.update({MANIFEST: b"{"}), "not JSON"),
    "a manifest that is a list": (lambda m: m.update({MANIFEST: b"[]"}), "schema"),
    "deeply nested JSON": (lambda m: m.update({MANIFEST: b"[" * 100_000 + b"]" * 100_000}), "not JSON"),
    "a huge manifest": (lambda m: m.update({MANIFEST: b" " * (5 << 20)}), "larger than allowed"),
    "an unknown schema": (with_manifest(lambda f: f.update(schema=99)), "schema is 99"),
    "the schema before": (with_manifest(lambda f: f.update(schema=3)), "schema is 3; this version reads schema 4"),
    "a calibration that turns the ranking round": (
        with_manifest(lambda f: f["decision"].update(calibration={"kind": "platt", "slope": -1.0, "intercept": 0.0})),
        "'calibration.slope' is -1.0; above 0 is needed",
    ),
    "a calibration that falls": (
        with_manifest(lambda f: f["decision"]["calibration"].update(knots=[[0.1, 0.5], [0.9, 0.4]])),
        "never fall in the probability",
    ),
    "a calibration with another's parameters": (
        with_manifest(lambda f: f["decision"].update(calibration={"kind": "platt", "temperature": 2.0})),
        "of kind 'platt' takes intercept, slope, and has temperature",
    ),
    "an unknown calibration": (
        with_manifest(lambda f: f["decision"].update(calibration={"kind": "beta"})),
        "use one of 'none', 'temperature', 'platt', 'isotonic'",
    ),
    "a bound above 1": (with_manifest(lambda f: f["decision"].update(sensitivity_bound=1.5)), "sensitivity_bound"),
    "an unknown key": (with_manifest(lambda f: f.update(colour="red")), "unknown key 'colour'"),
    "a missing key": (with_manifest(lambda f: f.pop("labels")), "'labels' is missing"),
    "a threshold below zero": (with_manifest(lambda f: f["decision"].update(threshold=-0.1)), "threshold"),
    "a threshold that is no number": (with_manifest(lambda f: f["decision"].update(threshold=float("nan"))), "finite"),
    "a threshold as text": (with_manifest(lambda f: f["decision"].update(threshold="0.5")), "must be a number"),
    "an unknown positive label": (with_manifest(lambda f: f["decision"].update(positive=["x"])), "positive"),
    "every label positive": (with_manifest(lambda f: f["decision"].update(positive=f["labels"])), "not all"),
    "a label twice": (with_manifest(lambda f: f.update(labels=["a", "a"])), "different names"),
    "a mean without a deviation": (with_manifest(lambda f: f["models"]["int8"].update(input_mean=[1.0])), "one length"),
    "a deviation of 0": (
        with_manifest(lambda f: f["models"]["int8"].update(input_mean=[1.0], input_std=[0.0])),
        "'input_std' must be above 0",
    ),
    "two means for three channels": (
        with_manifest(lambda f: f["models"]["int8"].update(input_mean=[1.0, 2.0], input_std=[1.0, 2.0])),
        "one entry or 3",
    ),
    "a model file that is not a part": (with_manifest(lambda f: f["models"]["int8"].update(file="x")), "not among"),
    "a negative size": (with_manifest(lambda f: f["parts"]["card.md"].update(bytes=-1)), "larger than allowed"),
    "a monstrous size": (with_manifest(lambda f: f["parts"]["card.md"].update(bytes=1 << 40)), "larger than allowed"),
    "a tiny input": (with_manifest(lambda f: f["preprocessing"].update(side_px=1)), "side_px"),
    "a path upwards": (lambda m: m.update({"../evil": b"x"}), "outside itself"),
    "an absolute path": (lambda m: m.update({"/etc/passwd": b"x"}), "outside itself"),
    "a drive letter": (lambda m: m.update({"C:evil": b"x"}), "outside itself"),
    "a path with backslashes": (lambda m: m.update({"..\\evil": b"x"}), "outside itself"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_an_altered_bundle_is_refused(bundle: Path, change: Callable[[dict[str, bytes]], Any], words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        parse_bundle(repacked(bundle, change))
    assert caught.value.remedy


def test_a_part_that_is_read_only_when_it_is_used_is_checked_then(bundle: Path) -> None:
    bundle.write_bytes(repacked(bundle, lambda members: members.update({"model.tflite": b"MODEL" * 1000})))
    opened = read_bundle(bundle, whole=False)
    assert set(opened.parts) == set(PARTS)
    for name in set(PARTS) - {"model.tflite"}:
        assert opened.parts[name] == PARTS[name]
    for _ in range(2):
        with pytest.raises(BundleError, match=rf"{bundle}: .*sha256 differs"):
            opened.model("int8")


def with_size_in_headers(data: bytes, name: str, size: int) -> bytes:
    """A zip file whose headers, the member's own and the central directory's, say that it unpacks to `size`."""
    changed = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        own = archive.getinfo(name).header_offset
        at = archive.start_dir
    struct.pack_into("<I", changed, own + 22, size)
    while data[at : at + 4] == b"PK\x01\x02":
        lengths = struct.unpack_from("<HHH", data, at + 28)
        if data[at + 46 : at + 46 + lengths[0]] == name.encode():
            struct.pack_into("<I", changed, at + 24, size)
        at += 46 + sum(lengths)
    return bytes(changed)


def test_a_part_of_a_larger_size_than_listed_is_refused_before_it_is_unpacked(bundle: Path) -> None:
    bomb = repacked(bundle, lambda m: m.update({"card.md": bytes(50 << 20)}))
    assert len(bomb) < 1 << 20
    with pytest.raises(BundleError, match="larger than allowed"):
        parse_bundle(bomb)


def test_a_part_that_unpacks_to_more_than_its_headers_say_is_refused_and_not_unpacked_whole(bundle: Path) -> None:
    bomb = repacked(bundle, lambda m: m.update({"card.md": bytes(50 << 20)}))
    lying = with_size_in_headers(bomb, "card.md", len(PARTS["card.md"]))
    with zipfile.ZipFile(io.BytesIO(lying)) as archive:
        assert archive.getinfo("card.md").file_size == len(PARTS["card.md"])
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="damaged"):
            parse_bundle(lying)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_bundle_cut_short_is_refused(bundle: Path, share: float) -> None:
    data = bundle.read_bytes()
    with pytest.raises(BundleError, match="damaged"):
        parse_bundle(data[: int(len(data) * share)])


def test_a_bundle_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        read_bundle(tmp_path / "none.edge")
    with pytest.raises(BundleError, match="is a folder"):
        read_bundle(tmp_path)
    (tmp_path / "cell.png").write_bytes(b"not a zip file")
    with pytest.raises(BundleError, match=r"cell.png is a picture, not a bundle") as refused:
        read_bundle(tmp_path / "cell.png")
    assert "the bundle before pictures" in str(refused.value.remedy)
