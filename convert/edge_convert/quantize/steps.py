"""The steps of the quantize stage that the recipe may ask for: covering pictures, training with rounding, repair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert import export
from edge_convert.backbones import find_backbone
from edge_convert.prepare import Prepared
from edge_convert.progress import Steps
from edge_convert.quantize.attempt import Repair
from edge_convert.quantize.int16 import quantize_int16
from edge_convert.quantize.ranges import END_TO_END
from edge_convert.quantize.record import QuantizeRecord, record_of
from edge_convert.quantize.repair import First, repair
from edge_convert.recipe import Recipe
from edge_convert.tflite_metadata import with_metadata
from edge_convert.train.trainer import Keeping


def mended(
    recipe: Recipe,
    prepared: Prepared,
    float32: bytes,
    first: First,
    pictures: int,
    *,
    ranges: str = END_TO_END[0],
    keeping: Keeping | None = None,
) -> Steps[tuple[bytes, QuantizeRecord]]:
    """The int8 file, trained with rounding or repaired where the recipe asks for it, and how it came about.

    pictures: how many set the first one's ranges. ranges: their kind, in words. keeping: of the training; see
    `finetune`.
    """
    found: Repair | None = None
    if recipe.quantize.is_measured:
        found = yield from repair(recipe, prepared, float32, first, keeping=keeping)
    data, floats = checked(recipe, first, found)
    source = recipe.quantize.coverage if recipe.quantize.calibration == "train" else "a folder of their own"
    return data, record_of(pictures, source, ranges, found, floats)


def other_ways(recipe: Recipe) -> str:
    """What is left to do where a search found no int8 file that meets the gates."""
    has_swish = find_backbone(recipe.network.backbone).has_swish and recipe.network.activation == "published"
    activation = "network.activation = 'relu6', " if has_swish else ""
    return f"use {activation}quantize.also = ['dynamic-range'], another backbone, or change the gate"


def sixteen_bits(recipe: Recipe, float32: bytes, pictures: NDArray[np.uint8]) -> bytes:
    """The file with activations of 16 bits, with metadata. pictures: as of the int8 file."""
    data = quantize_int16(float32, pictures, find_backbone(recipe.network.backbone))
    return with_metadata(data, export.description(recipe))


def checked(recipe: Recipe, first: First, found: Repair | None) -> tuple[bytes, tuple[str, ...]]:
    """The file that a search kept, or the first, with metadata; and its float operations. Raises EdgeError."""
    if found is None or found.kept == 0:
        return first.model, export.check_integer_only(recipe, first.model, first.float_layers)
    chosen = found.chosen
    data = with_metadata(found.model, export.description(recipe))
    return data, export.check_integer_only(recipe, data, chosen.float_layers)
