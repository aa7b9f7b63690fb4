"""The format of `manifest.csv`: one row a picture, refused with the line where it cannot be understood.

Columns path and label, optionally group, split and boxes_xywh; others are allowed and ignored. UTF-8, with
or without a byte order mark, any line endings.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edge.errors import DataError
from edge.files import read_ordinary
from edge.frozen import dataclass

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of the upright picture."""

MANIFEST = "manifest.csv"
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the manifest.

    name: the path below the folder, with `/`. group, split: None where not given.
    """

    line: int
    name: str
    label: str
    group: str | None
    split: str | None
    boxes: tuple[Box, ...]


def read_manifest(path: Path) -> tuple[Row, ...]:
    """The rows of a manifest, at least one, each path once; either all have a split or none has, a group likewise.

    Raises DataError with the line for anything that cannot be understood.
    """
    rows: list[Row] = []
    lines: dict[str, int] = {}
    for line, fields in read_fields(path):
        row = _to_row(line, fields)
        if row.name in lines:
            raise DataError(
                f"{MANIFEST} line {line}: {row.name} is already in line {lines[row.name]}",
                remedy="keep one of the two lines",
            )
        lines[row.name] = line
        rows.append(row)
    if not rows:
        raise DataError(f"{path} has no rows", remedy="write one row a picture below path,label")
    _require_all_or_none("split", rows, [row.split for row in rows])
    # A picture that quietly became its own group could put its patient into two splits.
    _require_all_or_none("group", rows, [row.group for row in rows])
    return tuple(rows)


def _require_all_or_none(column: str, rows: Sequence[Row], values: Sequence[str | None]) -> None:
    blank = next((row for row, value in zip(rows, values, strict=True) if value is None), None)
    if blank and any(value is not None for value in values):
        raise DataError(
            f"{MANIFEST} line {blank.line}: {blank.name} has no {column}, but others have",
            remedy=f"fill in the {column} in every row, or in none",
        )


def _read_text(path: Path) -> str:
    try:
        data = read_ordinary(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", remedy="check the file and its rights") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{MANIFEST} line {line}: this is not UTF-8", remedy="save it as CSV UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{MANIFEST} line {line}: this is not text", remedy="save it as CSV UTF-8")
    return text


def read_fields(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields by column, in the columns' order, blank lines left out. Raises DataError."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header: list[str] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = _check_header([field.strip() for field in fields])
            elif len(fields) != len(header):
                raise DataError(
                    f"{MANIFEST} line {reader.line_num}: {len(fields)} fields, but {len(header)} columns",
                    remedy="put fields that hold a comma in double quotes",
                )
            else:
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{MANIFEST} line {reader.line_num}: {error}", remedy="look for a double quote that is not closed"
        ) from None
    if not header:
        raise DataError(f"{path} is empty", remedy="write the columns path,label and one row a picture")


def _check_header(header: list[str]) -> list[str]:
    missing = [column for column in ("path", "label") if column not in header]
    if missing:
        separated = len(header) == 1 and re.search(r"[;\t|]", header[0])
        raise DataError(
            f"{MANIFEST} has no column {' or '.join(missing)}: its columns are {', '.join(header)[:200]}",
            remedy="separate the columns with commas" if separated else "name the columns path,label in the first line",
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise DataError(f"{MANIFEST} has the column {twice[0]} twice", remedy="keep one of the two")
    return header


def _to_row(line: int, fields: dict[str, str]) -> Row:
    where = f"{MANIFEST} line {line}"
    name = _check_name(where, fields["path"])
    label = fields["label"].strip()
    if not label:
        raise DataError(f"{where}: {name} has no label", remedy="write its class, or take the row out")
    split = fields.get("split", "").strip()
    if split and split.lower() not in SPLIT_NAMES:
        raise DataError(
            f"{where}: there is no split called {split[:60]!r}", remedy=f"use one of {', '.join(SPLIT_NAMES)}"
        )
    return Row(
        line=line,
        name=name,
        label=label,
        group=fields.get("group", "").strip() or None,
        split=SPLIT_NAMES.get(split.lower()),
        boxes=_read_boxes(where, fields.get("boxes_xywh", "")),
    )


def _check_name(where: str, text: str) -> str:
    """The path with `/` and without `./`; refused where it leaves the folder."""
    if not text.strip():
        raise DataError(f"{where}: the path is blank", remedy="write the picture's path, or take the row out")
    path = PurePosixPath(text)
    if path.is_absolute() or re.match(r"[A-Za-z]:[\\/]", text):
        raise DataError(
            f"{where}: the path {text[:200]} is absolute", remedy="write it relative to the data set folder"
        )
    if "\\" in text:
        raise DataError(f"{where}: the path {text[:200]} has a backslash", remedy="write / between folders")
    if ".." in path.parts:
        raise DataError(f"{where}: the path {text[:200]} leaves the folder", remedy="move the picture into the folder")
    return path.as_posix()


def _read_boxes(where: str, text: str) -> tuple[Box, ...]:
    if not text.strip():
        return ()
    remedy = "write a JSON list of [x, y, width, height] in whole pixels, for example [[59, 106, 79, 67]]"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: boxes_xywh is not JSON: {text[:60]}", remedy=remedy) from None
    if not isinstance(found, list):
        raise DataError(f"{where}: boxes_xywh is not a list: {text[:60]}", remedy=remedy)
    return tuple(_check_box(where, box, remedy) for box in found)


def _check_box(where: str, box: object, remedy: str) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_whole(value) for value in box):
        raise DataError(f"{where}: {str(box)[:60]} is not a box of four whole numbers", remedy=remedy)
    x, y, width, height = (int(value) for value in box)
    if x < 0 or y < 0 or width <= 0 or height <= 0:
        raise DataError(f"{where}: the box {[x, y, width, height]} lies outside or has no area", remedy=remedy)
    return x, y, width, height


def _is_whole(value: object) -> bool:
    """Whether it is a whole number; 59.0 is one, as pandas writes it, true is not."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
