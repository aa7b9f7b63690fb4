"""The bundle `NAME.edge`: all a device needs to screen, in one sealed file.

A zip file: `manifest.json` (the records below), the models, golden pictures with the outputs they must give,
and the model card. Every part but the manifest is listed there with its size and sha256. Reading never
writes to disk and refuses anything that is not exactly what the manifest promises.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from edge.acceptance import Acceptance
from edge.decision import Decision
from edge.errors import BundleError, EdgeError
from edge.fields import FieldError, build, plain
from edge.files import read_ordinary, write_atomically
from edge.frozen import dataclass
from edge.preprocess import PICTURE_SUFFIXES, Preprocessing
from edge.reference import Reference
from edge.saliency import OnRequest, Saliency

SCHEMA = 4
MANIFEST = "manifest.json"
CARD = "card.md"
MAX_MANIFEST_BYTES = 4 << 20
MAX_PART_BYTES = 1 << 30
MAX_PARTS = 1000

# What the standard library raises for a damaged, encrypted or oddly packed zip file.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)

Role = Literal["probabilities", "class_activation", "fine_activation", "embedding", "earlier_embedding"]
Activation = Literal["none", "softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file inside the bundle: its size in bytes and its sha256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A heat map that costs a run of its own: a second signature of the model, which is run only when it is asked for.

    output: its tensor's name in the signature, (1, rows, columns): evidence for the finding, in logits.
    """

    method: OnRequest
    signature: str
    output: str


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One TFLite file and how to talk to it.

    input_dtype: `uint8` takes pixels 0..255 as they are (the scaling is in the file's own quantization
    parameters), `int8` takes pixel - 128, `float32` takes `(pixel - input_zero_point) * input_scale`.
    input_mean, input_std: where they are given, in pixels and one a channel, the network's input is
    `(pixel - mean) / std` instead, quantized by the file's own parameters where it takes integers.
    input_order: of the channels. input_layout: rows, columns, channels (`nhwc`) or channels first.
    outputs: for each role the tensor's name in the signature, or its own name where the file has no signature.
    probabilities: (1, classes), or one score where there are two classes: that of the second.
    class_activation: (1, rows, columns, classes), one map a class. fine_activation: the same, read at a layer of
    about twice the resolution. embedding: (1, channels), the pooled features. earlier_embedding: (1, channels), those
    in front of the network's last block, by which a picture of another kind is told.
    output_activation: what is still to be applied to the scores to make probabilities of them.
    signature: to screen with; it may be left out where the file has one or none. explanation: a map on request.
    """

    file: str
    input_dtype: Literal["uint8", "int8", "float32"]
    input_scale: float = 1.0
    input_zero_point: int = 0
    outputs: dict[str, str]
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()
    input_order: Literal["rgb", "bgr"] = "rgb"
    input_layout: Literal["nhwc", "nchw"] = "nhwc"
    output_activation: Activation = "none"
    signature: str = ""
    explanation: Explanation | None = None

    def __post_init__(self) -> None:
        unknown = self.outputs.keys() - set(get_args(Role))
        if unknown:
            raise FieldError(f"unknown output role {min(unknown)!r}; known: {', '.join(get_args(Role))}")
        if "probabilities" not in self.outputs:
            raise FieldError("a model without 'outputs.probabilities' cannot screen")
        if self.input_scale <= 0:
            raise FieldError("'input_scale' must be above 0")
        if len(self.input_mean) != len(self.input_std):
            raise FieldError("'input_mean' and 'input_std' must be of one length")
        if any(std <= 0 for std in self.input_std):
            raise FieldError("'input_std' must be above 0")


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A picture with what every device must make of it.

    picture: member holding the file's bytes. input_sha256: of the preprocessed uint8 tensor, byte for byte.
    outputs: member, an .npz with one float32 array a role, of the int8 model; None where only the tensor is promised.
    """

    picture: str
    input_sha256: str
    outputs: str | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle is. `metrics`, `recipe`, `data` and `versions` are evidence: shown, never acted on.

    tolerances: by role, the largest absolute difference from the golden outputs that a device may show. reference: the
    known cases that it carries, None where it carries none. acceptance: what a picture must be like to be answered;
    None: nothing is checked.
    """

    schema: int
    name: str
    synthetic: bool
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    models: dict[str, ModelFile]
    decision: Decision
    saliency: Saliency | None
    golden: tuple[Golden, ...]
    tolerances: dict[str, float]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    parts: dict[str, Part]
    reference: Reference | None = None
    acceptance: Acceptance | None = None

    @property
    def main_model(self) -> str:
        """The model that decides where none is named, and that calibration and threshold are for."""
        return "int8" if "int8" in self.models else next(iter(self.models))

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise FieldError("'labels' must be two or more different names")
        positive = set(self.decision.positive)
        if not positive or not positive < set(self.labels):
            raise FieldError("'decision.positive' must be some of the labels, and not all of them")
        if not self.models:
            raise FieldError("'models' is empty")
        channels = self.preprocessing.channels
        if any(len(model.input_mean) not in (0, 1, channels) for model in self.models.values()):
            raise FieldError(f"'input_mean' must have one entry or {channels}, as the picture has channels")
        if self.reference is not None and not self.reference.counts.keys() <= set(self.labels):
            raise FieldError("'reference.counts' names what is not among the labels")
        band = None if self.acceptance is None else self.acceptance.clear_below
        if band is not None and band > self.decision.threshold:
            raise FieldError("'acceptance.clear_below' must not lie above 'decision.threshold'")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle in memory, every part checked, at the latest when it is used. sha256: of the whole file."""

    manifest: Manifest
    parts: Mapping[str, bytes]
    sha256: str

    def model(self, variant: str | None = None) -> tuple[ModelFile, bytes]:
        """The named model, or the main one, and its bytes. Raises BundleError where the bundle has no such model."""
        variant = variant or self.manifest.main_model
        if variant not in self.manifest.models:
            has = ", ".join(self.manifest.models)
            raise BundleError(f"this bundle has no {variant!r} model", remedy=f"use one of: {has}")
        entry = self.manifest.models[variant]
        return entry, self.parts[entry.file]


def write_bundle(path: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> Manifest:
    """Write a bundle in one step: either the whole file is there afterwards, or what was there before.

    The same manifest and parts give the same bytes. Returns the manifest with its parts filled in.
    """
    listed = {
        name: Part(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in sorted(parts.items())
    }
    sealed = replace(manifest, parts=listed)
    _require_parts(sealed)
    text = json.dumps(plain(sealed), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    packed = io.BytesIO()
    at_hand = sealed.models[sealed.main_model].file
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in [(MANIFEST, text.encode()), *sorted(parts.items())]:
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            # The model that a device screens with is kept as it is: unpacking it took a tenth of a cold start.
            packing = zipfile.ZIP_STORED if name == at_hand else zipfile.ZIP_DEFLATED
            archive.writestr(member, data, packing, compresslevel=9)
    write_atomically(path, packed.getvalue())
    return sealed


def read_bundle(path: Path, *, whole: bool = True) -> Bundle:
    """Read and check a bundle. Raises BundleError where it is missing, damaged, altered or not understood.

    whole: unpack and check every part now; else each when it is first used, which may raise BundleError then.
    """
    if path.is_dir():
        raise BundleError(f"{path} is a folder", remedy="name the .edge file inside it")
    try:
        data = read_ordinary(path)
    except FileNotFoundError:
        raise BundleError(f"there is no bundle at {path}", remedy="check the path") from None
    try:
        return parse_bundle(data, whole=whole, path=path)
    except EdgeError as error:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            raise BundleError(f"{path} is a picture, not a bundle", remedy="name the bundle before pictures") from None
        raise BundleError(f"{path}: {error.message}", remedy=error.remedy) from None


def parse_bundle(data: bytes, *, whole: bool = True, path: Path | None = None) -> Bundle:
    """A bundle from the bytes of its file. whole: as `read_bundle`. path: of the file, for what is found later.

    Raises BundleError.
    """
    again = "copy the bundle again from where it was made"
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = _checked_members(archive)
        manifest = _parse_manifest(_read_member(archive, members, MANIFEST, MAX_MANIFEST_BYTES))
    except DAMAGED:
        raise BundleError("it is damaged, or not a bundle", remedy=again) from None
    unlisted = members.keys() - manifest.parts.keys() - {MANIFEST}
    if unlisted:
        raise BundleError(f"it holds {sorted(unlisted)[0]!r}, which its manifest does not list", remedy=again)
    parts: Mapping[str, bytes] = _Parts(archive, members, manifest.parts, None if whole else path)
    if whole:
        parts = dict(parts)
    return Bundle(manifest=manifest, parts=parts, sha256=hashlib.sha256(data).hexdigest())


class _Parts(Mapping[str, bytes]):
    """The parts of a zip file in memory, each unpacked and held against its sha256 when it is first used.

    A device screens with one model of several: unpacking the others cost as much as all the rest of its start.
    """

    def __init__(
        self,
        archive: zipfile.ZipFile,
        members: Mapping[str, zipfile.ZipInfo],
        listed: Mapping[str, Part],
        path: Path | None,
    ) -> None:
        self._archive, self._members, self._listed, self._path = archive, members, listed, path
        self._read: dict[str, bytes] = {}
        missing = sorted(listed.keys() - members.keys())
        if missing:
            raise BundleError(
                f"its part {missing[0]!r} is missing", remedy="copy the bundle again from where it was made"
            )

    def __getitem__(self, name: str) -> bytes:
        if name not in self._read:
            try:
                self._read[name] = _read_part(self._archive, self._members, name, self._listed[name])
            except BundleError as error:
                where = "" if self._path is None else f"{self._path}: "
                raise BundleError(f"{where}{error.message}", remedy=error.remedy) from None
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


def _require_parts(manifest: Manifest) -> None:
    members = [model.file for model in manifest.models.values()]
    members += [member for golden in manifest.golden for member in (golden.picture, golden.outputs) if member]
    members += manifest.reference.members if manifest.reference is not None else ()
    members += [manifest.acceptance.familiar] if manifest.acceptance and manifest.acceptance.familiar else []
    for member in members:
        if member not in manifest.parts:
            raise FieldError(f"{member!r} is named but is not among the parts")


def _checked_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    remedy = "do not use this file; ask for a bundle written by `edge convert`"
    for member in archive.infolist():
        name = member.orig_filename
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\x00" in name:
            raise BundleError(f"it holds a path outside itself, {name!r}", remedy=remedy)
        if name in members:
            raise BundleError(f"it holds {name!r} twice", remedy=remedy)
        members[name] = member
    if len(members) > MAX_PARTS:
        raise BundleError(f"it holds {len(members)} parts; {MAX_PARTS} are allowed", remedy=remedy)
    if MANIFEST not in members:
        raise BundleError(f"it has no {MANIFEST}, so it is not a bundle", remedy="check the path")
    return members


def _read_member(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, limit: int) -> bytes:
    """The member's bytes, at most as many as its header says, and that is held to `limit`."""
    if members[name].file_size <= limit:
        with archive.open(members[name]) as stream:
            # With a number, zipfile unpacks no more than it must; without one, whatever the data hold.
            return stream.read(limit + 1)
    raise BundleError(f"its part {name!r} is larger than allowed", remedy="do not use this file; make the bundle again")


def _parse_manifest(data: bytes) -> Manifest:
    again = "copy the bundle again from where it was made"
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise BundleError("its manifest is not JSON", remedy=again) from None
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise BundleError(
            f"its schema is {schema!r}; this version reads schema {SCHEMA}",
            remedy="install the version of edge-screen that made it, or convert again",
        )
    try:
        manifest = build(Manifest, fields)
        _require_parts(manifest)
    except (FieldError, EdgeError) as error:
        raise BundleError(f"its manifest is wrong: {error}", remedy=again) from None
    return manifest


def _read_part(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, part: Part) -> bytes:
    if not 0 <= part.bytes <= MAX_PART_BYTES:
        raise BundleError(f"its part {name!r} is larger than allowed", remedy="do not use this file; make it again")
    try:
        data = _read_member(archive, members, name, part.bytes)
    except DAMAGED:
        raise BundleError(
            f"its part {name!r} is damaged", remedy="copy the bundle again from where it was made"
        ) from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise BundleError(
            f"its part {name!r} is not what was packed (sha256 differs)",
            remedy="copy the bundle again from where it was made",
        )
    return data
