"""The shipped calibration set: a hundred rendered tiles that between them cover what a smear can look like.

Quantization measures the range of every activation on a few pictures. Where a data set has too few of its own
to spare, these serve; they are also what the tests read. calibration_data/README.md says how to make the set
again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from edge_convert.synthetic.lookalikes import LOOK_ALIKE_WEIGHTS
from edge_convert.synthetic.parasites import STAGE_WEIGHTS
from edge_convert.synthetic.render import (
    fresh_folder,
    refuse_filled,
    render_tiles,
    write_manifest,
    write_picture,
    write_provenance,
)
from edge_convert.synthetic.tile import Tile

# A seed that nothing else uses: these slides are in nobody's training or evaluation.
CALIBRATION_SEED = 20_240_229
CANDIDATES = 600
TILES_PER_SLIDE = 12
POSITIVES = 24
NEGATIVES = 76
CLEAN = "clean"  # neither parasite nor look-alike
COLUMNS = ("path", "label", "group", "stage", "boxes_xywh", "sha256")
# So that a slide of this set is never taken for the slide of the same number in another.
PREFIX = "calibration_"


def write_calibration_set(folder: Path) -> None:
    """Render, choose and write the set. Raises DataError where the folder holds something."""
    refuse_filled(folder)
    chosen = choose_tiles(list(render_tiles(CALIBRATION_SEED, CANDIDATES, TILES_PER_SLIDE)))
    with fresh_folder(folder) as partial:
        rows = [
            {**write_picture(partial, tile, prefix=PREFIX), "sha256": hashlib.sha256(tile.jpeg).hexdigest()}
            for tile in chosen
        ]
        write_manifest(partial, COLUMNS, rows)
        write_provenance(partial, f"rendered by edge-screen, seed {CALIBRATION_SEED}; not patient data")


def choose_tiles(candidates: list[Tile]) -> list[Tile]:
    """POSITIVES tiles with each stage in turn, then NEGATIVES with each look-alike, and none, in turn.

    Within a turn the slide used least so far is preferred, then the first tile, so that the set is spread
    over stain, light and focus. Returned in the order of slide and tile.
    """
    turns = [*islice(cycle(STAGE_WEIGHTS), POSITIVES), *islice(cycle([*LOOK_ALIKE_WEIGHTS, CLEAN]), NEGATIVES)]
    uses: Counter[int] = Counter()
    chosen: dict[tuple[int, int], Tile] = {}
    for turn in turns:
        fitting = [tile for tile in candidates if (tile.slide, tile.tile) not in chosen and turn in _strata(tile)]
        best = min(fitting, key=lambda tile: (uses[tile.slide], tile.slide, tile.tile))
        uses[best.slide] += 1
        chosen[best.slide, best.tile] = best
    return [chosen[place] for place in sorted(chosen)]


def _strata(tile: Tile) -> frozenset[str]:
    """What a tile can be chosen for: its parasites' stages, or a negative's look-alikes, or being clean."""
    return frozenset(tile.stages or tile.look_alikes or (CLEAN,))
