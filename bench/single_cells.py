"""Single cells cut from tiles of blood smears: a set that small networks learn from scratch in minutes.

    python bench/single_cells.py --data DIR/malaria_tiles --out FOLDER

A marked parasite's box gives a `parasite`; in a tile without one, the largest dark blob of a red cell's size gives a
`no_parasite`. Each cell is a square of its surroundings; groups and splits are the tiles'. Writes PNG files and
manifest.csv. What it is for: trained weights of architectures whose ImageNet weights are not at hand.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cli import FILE

SIDE_PX = 96
# Of a red cell among the tiles' pixels.
SMALLEST, LARGEST = 1200, 8000


@click.command()
@click.option("--data", type=FILE, required=True, help="The tiles, with manifest.csv and boxes_xywh.")
@click.option("--out", type=FILE, required=True, help="Folder for the cells.")
def main(data: Path, out: Path) -> None:
    """Cut the cells."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        for tile in csv.DictReader(stream):
            picture = cv2.imread(str(data / tile["path"]))
            boxes = json.loads(tile["boxes_xywh"] or "[]")
            centres = [(x + w // 2, y + h // 2) for x, y, w, h in boxes] if boxes else _largest_cell(picture)
            for number, centre in enumerate(centres):
                name = f"images/{Path(tile['path']).stem}_{number}.png"
                cv2.imwrite(str(out / name), _square(picture, centre))
                rows.append([name, tile["label"], tile["group"], tile["split"]])
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "split"], *rows])
    click.echo(f"{len(rows)} cells")


def _largest_cell(picture: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The centre of the largest blob of a red cell's size that is darker in green than Otsu's threshold, if any is."""
    green = cv2.GaussianBlur(picture[..., 1], (0, 0), 3)
    _, dark = cv2.threshold(green, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    # The first component is the background.
    _, _, found, centres = cv2.connectedComponentsWithStats(dark)
    areas = found[1:, cv2.CC_STAT_AREA]
    sized = np.where((areas >= SMALLEST) & (areas <= LARGEST), areas, 0)
    if not sized.any():
        return []
    across, down = centres[1 + int(sized.argmax())]
    return [(int(across), int(down))]


def _square(picture: NDArray[np.uint8], centre: tuple[int, int]) -> NDArray[np.uint8]:
    """SIDE_PX around the centre, moved to lie within the tile."""
    rows, columns = picture.shape[:2]
    left = min(max(centre[0] - SIDE_PX // 2, 0), columns - SIDE_PX)
    top = min(max(centre[1] - SIDE_PX // 2, 0), rows - SIDE_PX)
    return picture[top : top + SIDE_PX, left : left + SIDE_PX]


if __name__ == "__main__":
    main()
