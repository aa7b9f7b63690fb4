"""Labelled pictures: one reader for three shapes, a folder per class, one per split of such, and a `manifest.csv`.

Nothing is dropped in silence: a file that is not a sample is in `ignored`, and whatever cannot be
understood is refused with the line or the name it stands in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edge.errors import DataError
from edge.files import read_ordinary
from edge.frozen import dataclass
from edge.identity import Identity, identify
from edge.manifest import MANIFEST, SPLIT_NAMES, SPLITS, Box, read_manifest
from edge.names import first_few, printable
from edge.preprocess import PICTURE_KINDS, PICTURE_SUFFIXES
from edge.walk import walk

__all__ = ["SPLITS", "Box", "Dataset", "Sample", "read_dataset"]

DESCRIPTION = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled picture.

    name: its path below the data set folder, with `/`. group: what must stay in one split (a patient, a
    slide); the picture's own name where nothing is known. split: `train`, `val`, `test`, or None where
    the data set has no splits. boxes: the findings, where they are marked.
    """

    path: Path
    name: str
    label: str
    group: str
    split: str | None
    boxes: tuple[Box, ...]

    def require_boxes_inside(self, width: int, height: int) -> None:
        """Raise DataError for a box that lies beside its upright picture, whose size is given in pixels."""
        for x, y, w, h in self.boxes:
            if x >= width or y >= height or x + w <= 0 or y + h <= 0:
                raise DataError(
                    f"a box of {printable(self.name)}, [{x:g}, {y:g}, {w:g}, {h:g}], lies outside the picture, "
                    f"{width} x {height} pixels",
                    remedy=f"mark boxes_xywh in {MANIFEST} in pixels of the upright picture",
                )

    @property
    def its_split(self) -> str:
        """The split of a sample whose data set has splits."""
        assert self.split is not None, f"{self.name} has no split: assign_splits comes first"
        return self.split


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of labelled pictures as it was read.

    classes: the labels, sorted. samples: in the order of the manifest, or by name. has_groups: whether
    groups are known. has_splits: whether every sample has a split. ignored: names of the files and
    folders (ending in `/`) below `folder` that are not samples. group_pattern: what found the groups in the
    names, None where the manifest gives them or nothing does.
    """

    folder: Path
    name: str
    synthetic: bool
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    has_groups: bool
    has_splits: bool
    ignored: tuple[str, ...]
    group_pattern: str | None = None

    def of_split(self, name: str) -> tuple[Sample, ...]:
        """The samples of `train`, `val` or `test`, perhaps none. Raises DataError for another name."""
        if name not in SPLITS:
            raise DataError(f"there is no split called {name!r}", remedy=f"use one of {', '.join(SPLITS)}")
        return tuple(sample for sample in self.samples if sample.split == name)

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by split and class, zeros included; the one key `all` where there are no splits."""
        splits = [s for s in SPLITS if any(x.split == s for x in self.samples)] if self.has_splits else ["all"]
        table = {split: dict.fromkeys(self.classes, 0) for split in splits}
        for sample in self.samples:
            table[sample.split or "all"][sample.label] += 1
        return table

    def fingerprint(self) -> str:
        """What these pictures, labels, groups, splits and boxes are, as 64 hexadecimal digits. Reads every file."""
        return self.identity().fingerprint

    def identity(self) -> Identity:
        """The fingerprint, and one of each thing by itself. Reads every file; raises DataError where one cannot be.

        The folder's place and the order of the rows do not matter.
        """
        return identify(self.samples)


def read_dataset(folder: Path, *, group_pattern: str | None = None) -> Dataset:
    """Read a data set: its `manifest.csv` where there is one, else a folder per class, or one per split of such.

    manifest.csv: columns path and label, optionally group, split and boxes_xywh (a JSON list of
    [x, y, width, height]); others are allowed. A folder per class: pictures at any depth below it. Where all
    folders are named as splits are (`train`, `valid`, `test`, ...), those below them are the classes.
    group_pattern: a regular expression with one capture group, searched in each name, for data sets
    without a group column. Pictures are not opened. Raises DataError with the line or the name.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"there is no folder {folder}", remedy="check the path")
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder", remedy=f"give the folder that holds {MANIFEST} or the class folders"
        )
    name, synthetic = _read_description(folder)
    found = list(_walk(folder))
    if (folder / MANIFEST).exists():
        rows, has_groups = _read_manifest_rows(folder)
    else:
        rows, has_groups = _read_class_folders(folder, found), False
    if group_pattern is not None:
        if has_groups:
            raise DataError("a group pattern was given, but the manifest has groups", remedy="drop one of the two")
        rows, has_groups = _group_by_pattern(rows, group_pattern), True
    _require_files(folder, rows)
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise DataError(f"every picture is {classes[0]!r}: there is nothing to tell apart", remedy="add a second class")
    listed = {row.name for row in rows} | {MANIFEST, DESCRIPTION}
    return Dataset(
        folder=folder,
        name=name,
        synthetic=synthetic,
        classes=classes,
        samples=tuple(rows),
        has_groups=has_groups,
        has_splits=rows[0].split is not None,
        ignored=tuple(sorted(printable(other) for other in found if other not in listed)),
        group_pattern=group_pattern,
    )


def _read_description(folder: Path) -> tuple[str, bool]:
    """The name of the data set and whether it is synthetic, from the optional `dataset.json`."""
    path = folder / DESCRIPTION
    if not path.exists():
        return folder.resolve().name, False
    try:
        described = json.loads(read_ordinary(path).decode("utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", remedy="write it as UTF-8 JSON, or remove it") from None
    if not isinstance(described, dict):
        raise DataError(f"{path} is not a JSON object", remedy='write {"name": "...", "synthetic": false}')
    name = described.get("name", folder.resolve().name)
    synthetic = described.get("synthetic", False)
    if not isinstance(name, str) or not name.strip() or not isinstance(synthetic, bool):
        raise DataError(
            f"{path}: name must be text and synthetic true or false",
            remedy='write {"name": "...", "synthetic": false}',
        )
    return name.strip(), synthetic


def _walk(folder: Path) -> Iterator[str]:
    """Names of all files below the folder; with a `/` at the end, folders that are empty, hidden or links."""
    for entry in walk(folder):
        if entry.kind == "unreadable folder":
            raise DataError(f"{entry.path} cannot be read: {entry.reason}", remedy="check the folder's rights")
        name = entry.path.relative_to(folder).as_posix()
        if entry.kind == "file":
            yield name
        elif entry.path != folder:
            yield f"{name}/"


def _read_manifest_rows(folder: Path) -> tuple[list[Sample], bool]:
    """The samples, and whether the manifest gives their groups."""
    rows = read_manifest(folder / MANIFEST)
    samples = [
        Sample(
            path=folder / row.name,
            name=row.name,
            label=row.label,
            group=row.name if row.group is None else row.group,
            split=row.split,
            boxes=row.boxes,
        )
        for row in rows
    ]
    return samples, rows[0].group is not None


def _read_class_folders(folder: Path, found: Sequence[str]) -> list[Sample]:
    """Samples of a folder per class, by name."""
    names = [n for n in found if not n.endswith("/") and PurePosixPath(n).suffix.lower() in PICTURE_SUFFIXES]
    # Hidden files: macOS leaves `._cell.jpg` beside `cell.jpg`.
    names = sorted(n for n in names if "/" in n and not PurePosixPath(n).name.startswith("."))
    labels = {n.split("/", 1)[0] for n in names}
    if not names:
        raise DataError(
            f"{folder} holds neither {MANIFEST} nor class folders with {PICTURE_KINDS} pictures",
            remedy=f"write {MANIFEST} with columns path,label, or make one folder per class",
        )
    splits = {label for label in labels if label.lower() in SPLIT_NAMES}
    if splits == labels:
        return _read_split_folders(folder, names)
    if len({SPLIT_NAMES[label.lower()] for label in splits}) > 1:
        raise DataError(
            f"{_listed(splits)} are splits, and beside them lies {_listed(labels - splits)}",
            remedy=f"keep splits alone in {folder}, called train, val and test, or write {MANIFEST}",
        )
    below = {parts[1] if len(parts := name.split("/")) > 2 else "" for name in names}
    if all(inner.lower() in SPLIT_NAMES for inner in below):
        raise DataError(
            f"each class of {folder} has its own folders {_listed(below)}, which are read as splits only when they "
            "hold the classes",
            remedy=f"make it {min(below)}/{min(labels)} and so on, or write {MANIFEST} with columns path,label,split",
        )
    return [Sample(path=folder / n, name=n, label=n.split("/", 1)[0], group=n, split=None, boxes=()) for n in names]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _read_split_folders(folder: Path, names: Sequence[str]) -> list[Sample]:
    """Samples of a folder per split with a folder per class in each: `train/parasite/1.png`."""
    parts = [name.split("/") for name in names]
    bare = [name for name, part in zip(names, parts, strict=True) if len(part) < 3]
    if bare:
        raise DataError(
            f"the folders {_listed({part[0] for part in parts})} are splits, not classes, and "
            f"{len(bare)} pictures lie in no class folder below them: {first_few(bare)}",
            remedy=f"make one folder per class in each of them, or write {MANIFEST} with columns path,label,split",
        )
    return [
        Sample(path=folder / n, name=n, label=part[1], group=n, split=SPLIT_NAMES[part[0].lower()], boxes=())
        for n, part in zip(names, parts, strict=True)
    ]


def _group_by_pattern(rows: Sequence[Sample], pattern: str) -> list[Sample]:
    """The samples with the group that the pattern captures in each name."""
    remedy = r"give one capture group, for example '(patient\d+)_'"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"the group pattern {pattern!r} is malformed: {error}", remedy=remedy) from None
    if compiled.groups != 1:
        raise DataError(f"the group pattern {pattern!r} has {compiled.groups} capture groups", remedy=remedy)
    found = [compiled.search(row.name) for row in rows]
    # A picture that quietly became its own group could put its patient into two splits.
    unmatched = [row.name for row, match in zip(rows, found, strict=True) if not match or not match[1]]
    if unmatched:
        raise DataError(
            f"the group pattern {pattern!r} finds nothing in {len(unmatched)} of {len(rows)} names: "
            f"{first_few(unmatched)}",
            remedy="widen the pattern",
        )
    return [replace(row, group=match[1]) for row, match in zip(rows, found, strict=True) if match]


def _require_files(folder: Path, rows: Sequence[Sample]) -> None:
    """Every sample is a file, and lies in the folder even when links are followed."""
    root = os.path.realpath(folder)
    missing = []
    parents: dict[Path, bool] = {}
    for row in rows:
        if any(printable(text) != text for text in (row.name, row.label, row.group)):
            shown = ascii(row.name)
            raise DataError(f"the name, label or group of {shown} holds a control character", remedy="rename it")
        parent = row.path.parent
        if parent not in parents:
            parents[parent] = _is_inside(root, parent)
        if not _is_file(row.path):
            missing.append(row.name)
        elif not parents[parent] or (row.path.is_symlink() and not _is_inside(root, row.path)):
            raise DataError(f"{row.name} is a link out of {folder}", remedy="copy the picture into the folder")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} pictures are not there, or not files: {first_few(missing)}",
            remedy=f"copy them, or take them out of {MANIFEST}",
        )


def _is_inside(root: str, path: Path) -> bool:
    real = os.path.realpath(path)
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False
