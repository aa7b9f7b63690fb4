"""A rendered data set on disk: pictures, `manifest.csv`, `dataset.json`. Whole, or not there."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import DataError
from edge_convert.synthetic.tile import Tile, generator, infected_tiles, render_tile

NAME = "synthetic-thin-smear"
LICENCE = "Apache-2.0"
COLUMNS = ("path", "label", "group", "split", "stage", "boxes_xywh")
HELD_OUT = 0.15  # of the slides in `val`, and again in `test`
FEWEST_SLIDES = 3  # one a split
# No slide has this number: the place whose random numbers deal the slides to the splits.
SPLIT_PLACE = 2**32 - 1


def render_dataset(folder: Path, *, tiles: int, seed: int, tiles_per_slide: int = 12) -> Iterator[int]:
    """Render a data set of `tiles` pictures. Yields how many are done; the folder appears with the last one.

    Raises DataError at once where the folder holds something, or where there are too few tiles for three
    slides. Stopping early, or being killed, leaves nothing under the folder's name.
    """
    if tiles < FEWEST_SLIDES * tiles_per_slide:
        raise DataError(
            f"{tiles} tiles are fewer than {FEWEST_SLIDES} slides of {tiles_per_slide}, one for each split",
            remedy=f"ask for {FEWEST_SLIDES * tiles_per_slide} tiles or more",
        )
    infected_tiles(seed, 0, tiles_per_slide)
    refuse_filled(folder)
    return _render(folder, tiles=tiles, seed=seed, tiles_per_slide=tiles_per_slide)


def _render(folder: Path, *, tiles: int, seed: int, tiles_per_slide: int) -> Iterator[int]:
    splits = assign_splits(seed, full_slides=tiles // tiles_per_slide)
    rows = []
    with fresh_folder(folder) as partial:
        for done, tile in enumerate(render_tiles(seed, tiles, tiles_per_slide), start=1):
            row = write_picture(partial, tile)
            # A last slide cut short may lack a label, so only training may have it.
            rows.append({**row, "split": splits.get(tile.slide, "train")})
            if done < tiles:
                yield done
        write_manifest(partial, COLUMNS, rows)
        write_provenance(partial, f"rendered by edge-screen, seed {seed}; not patient data")
    yield tiles


def render_tiles(seed: int, tiles: int, tiles_per_slide: int) -> Iterator[Tile]:
    """The first `tiles` tiles, slide by slide."""
    for slide in range(-(-tiles // tiles_per_slide)):
        infected = infected_tiles(seed, slide, tiles_per_slide)
        for tile in range(min(tiles_per_slide, tiles - slide * tiles_per_slide)):
            yield render_tile(seed, slide, tile, infected=tile in infected)


def assign_splits(seed: int, *, full_slides: int) -> dict[int, str]:
    """`train`, `val` or `test` for each slide: 15 % of the slides in each of the latter, at least one."""
    held_out = max(1, round(HELD_OUT * full_slides))
    order = [int(slide) for slide in generator(seed, SPLIT_PLACE).permutation(full_slides)]
    names = ["val"] * held_out + ["test"] * held_out + ["train"] * (full_slides - 2 * held_out)
    return dict(zip(order, names, strict=True))


def write_picture(folder: Path, tile: Tile, *, prefix: str = "") -> dict[str, str]:
    """Write the picture; returns its manifest row: path, label, group, stage, boxes_xywh."""
    group = f"{prefix}slide{tile.slide:03d}"
    path = f"images/{group}_tile{tile.tile:02d}.jpg"
    (folder / path).write_bytes(tile.jpeg)
    return {
        "path": path,
        "label": tile.label,
        "group": group,
        "stage": ";".join(dict.fromkeys(tile.stages)),
        "boxes_xywh": json.dumps(tile.boxes_xywh) if tile.boxes_xywh else "",
    }


def write_manifest(folder: Path, columns: tuple[str, ...], rows: Iterable[dict[str, str]]) -> None:
    """`manifest.csv`, one row a picture."""
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_provenance(folder: Path, source: str) -> None:
    """`dataset.json`: what the pictures are and where they come from."""
    facts = {"name": NAME, "synthetic": True, "source": source, "licence": LICENCE}
    (folder / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def refuse_filled(folder: Path) -> None:
    """Raise DataError where the folder is a file or holds anything."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{folder} is not a folder", remedy="name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"the folder {folder} is not empty", remedy="name a new folder, or remove this one first")


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its name when the block ends well and is removed otherwise."""
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    try:
        yield partial
        refuse_filled(folder)
        partial.replace(folder.absolute())
    finally:
        shutil.rmtree(partial, ignore_errors=True)
