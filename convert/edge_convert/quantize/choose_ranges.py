"""The int8 file by the kind of range that the recipe asks for, or by whichever keeps it nearest to float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.backbones import find_backbone
from edge_convert.export import description, open_network
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.ranges import CLIPPINGS, END_TO_END, Clipping, observe, quantize, set_ranges
from edge_convert.recipe import Recipe
from edge_convert.tflite_metadata import with_metadata
from edge_runtime.calibration import positive_score

JUDGED_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class Ranged:
    """An int8 file. model: with metadata. how: its kind of range in words, and what it was chosen by."""

    model: bytes
    how: str


def kind_of_ranges(recipe: Recipe) -> str:
    """`quantize.ranges`, and what `auto` is for this network."""
    wanted = recipe.quantize.ranges
    if wanted != "auto":
        return wanted
    return "min-max" if find_backbone(recipe.network.backbone).has_relu6 else "nearest"


def export_ranged(
    recipe: Recipe, prepared: Prepared, float32: bytes, names: list[str], pictures: NDArray[np.uint8]
) -> Steps[Ranged]:
    """The int8 file of a float32 file, by `kind_of_ranges`. Not for `min-max`, which the converter does by itself.

    names, pictures: of the calibration set; pictures (n, side, side, channels) uint8. `nearest` makes a file of every
    kind and keeps the one whose probabilities differ least from float32's, root mean square, on up to JUDGED_PICTURES
    other training pictures: no evaluated picture has a say. Where all are in the calibration set, it is judged on that.
    """
    wanted, backbone = kind_of_ranges(recipe), find_backbone(recipe.network.backbone)
    seen = yield from observe(float32, pictures, backbone)

    def made(clipping: Clipping, percentile: float) -> bytes:
        return quantize(float32, set_ranges(seen, backbone, clipping=clipping, percentile=percentile))

    if wanted != "nearest":
        percentile = recipe.quantize.percentile
        how = "least squared error" if wanted == "mse" else f"without the outer {100 - percentile:.3g} %"
        model = made("mse" if wanted == "mse" else "percentile", percentile)
        return Ranged(model=with_metadata(model, description(recipe)), how=how)
    rows = _judges(recipe, prepared, names)
    real = _scores(recipe, prepared, float32, "float32", rows)
    kinds = (END_TO_END, *CLIPPINGS)
    found: dict[str, tuple[float, bytes]] = {}
    for done, (kind, clipping, percentile) in enumerate(kinds, start=1):
        try:
            model = made(clipping, percentile)
            said = _scores(recipe, prepared, model, "int8", rows)
        except EdgeError as error:
            # The converter or the interpreter refuses this kind's file; the last one that is left must not be.
            if done == len(kinds) and not found:
                raise
            yield Progress(done=done, total=len(kinds), note=f"{kind}: not possible ({error.message})")
            continue
        found[kind] = float(np.sqrt(((said - real) ** 2).mean())), model
        yield Progress(done=done, total=len(kinds), note=f"{kind}: probabilities off by {found[kind][0]:.4f}")
    kind = min(found, key=lambda name: found[name][0])
    off, model = found[kind]
    plain = f", {found[END_TO_END[0]][0]:.4f} {END_TO_END[0]}" if END_TO_END[0] in found else ""
    how = (
        f"{kind}, the nearest to float32 of {len(found)} kinds on {len(rows)} training pictures (root mean square "
        f"difference of the probability {off:.4f}{plain})"
    )
    return Ranged(model=with_metadata(model, description(recipe)), how=how)


def _judges(recipe: Recipe, prepared: Prepared, names: list[str]) -> NDArray[np.int64]:
    """Rows of training pictures that are not in the calibration set, drawn by the recipe's seed."""
    train, taken = prepared.rows("train"), set(names)
    others = np.array([row for row in train if prepared.samples[row].name not in taken], np.int64)
    return np.sort(np.random.default_rng(recipe.seed).permutation(others if len(others) else train)[:JUDGED_PICTURES])


def _scores(
    recipe: Recipe, prepared: Prepared, model: bytes, variant: str, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The finding's probability that a file gives for each row, not calibrated."""
    network = open_network(recipe, variant, model)
    outputs = []
    for row in rows:
        network.run(np.ascontiguousarray(prepared.pictures[row]))
        outputs.append(network.output("probabilities"))
    return positive_score(np.array(outputs, np.float64), [recipe.classes.index(label) for label in recipe.positive])
