"""The steps of the quantize stage that the recipe may ask for: covering pictures, and the repair search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert import export
from edge_convert.prepare import Prepared
from edge_convert.progress import Steps
from edge_convert.quantize.coverage import covering_rows
from edge_convert.quantize.embed import embeddings_of
from edge_convert.quantize.record import QuantizeRecord, record_of
from edge_convert.quantize.repair import Repair, repair
from edge_convert.recipe import Recipe
from edge_convert.tflite_metadata import with_metadata


def chosen_pictures(recipe: Recipe, prepared: Prepared, float32: bytes) -> Steps[tuple[list[str], NDArray[np.uint8]]]:
    """Names and inputs of the pictures that set the ranges, chosen as the recipe says: (n, side, side, channels)."""
    if recipe.quantize.coverage == "random":
        return export.calibration_pictures(recipe, prepared)
    embeddings = yield from embeddings_of(recipe, prepared, float32, prepared.rows("train"))
    rows = covering_rows(recipe, prepared, embeddings)
    return [prepared.samples[row].name for row in rows], prepared.pictures[rows]


def mended(
    recipe: Recipe, prepared: Prepared, float32: bytes, int8: bytes, pictures: int
) -> Steps[tuple[bytes, QuantizeRecord]]:
    """The int8 file, repaired where the recipe asks for it and the gates do, and the record of how it came about.

    pictures: how many set its ranges.
    """
    found: Repair | None = None
    if recipe.quantize.repair:
        found = yield from repair(recipe, prepared, float32, int8)
    data, floats = checked(recipe, int8, found)
    source = recipe.quantize.coverage if recipe.quantize.calibration == "train" else "a folder of their own"
    return data, record_of(pictures, source, found, floats)


def checked(recipe: Recipe, int8: bytes, found: Repair | None) -> tuple[bytes, tuple[str, ...]]:
    """The file that a search kept, or the one given, with metadata; and its float operations. Raises EdgeError."""
    if found is None or found.kept == 0:
        return int8, export.check_integer_only(recipe, int8)
    chosen = found.chosen
    data = with_metadata(found.model, export.description(recipe))
    return data, export.check_integer_only(recipe, data, chosen.float_layers)
