"""What the maps and the embedding cost: the exported int8 network against the same network with probabilities alone.

Usage: python bench/outputs_cost.py [--backbone mobilenetv2] [--side 224] [--rounds 300]
Both files are run in turns in one process on one thread, with all outputs read; prints median and quartiles of the
ratio, round by round. Random weights: the time of an int8 network does not depend on their values.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from edge_convert import export, network
from edge_convert.backbones import find_backbone
from edge_convert.keras import tensorflow
from edge_convert.recipe import NetworkRecipe, Recipe
from edge_convert.saliency.cut import require_finer_layer
from edge_convert.saliency.readout import Readout
from edge_convert.train.finetune import set_seeds
from edge_runtime.interpreter import find_interpreter


def interpreter(data: bytes) -> Any:
    """An interpreter on one thread, ready to run."""
    made = find_interpreter()[1](model_content=data, num_threads=1)
    made.allocate_tensors()
    return made


def one_run(made: Any, picture: Any) -> float:
    """Milliseconds to set the picture, invoke and read every output."""
    start = time.perf_counter()
    made.set_tensor(made.get_input_details()[0]["index"], picture)
    made.invoke()
    for output in made.get_output_details():
        made.get_tensor(output["index"])
    return 1e3 * (time.perf_counter() - start)


def bare(recipe: Recipe, model: Any, pictures: Any) -> bytes:
    """The classifier exported with its probabilities as the only output."""
    tf = tensorflow()
    whole = export.outputs_of(model, find_backbone(recipe.network.backbone))

    def screen(picture: Any) -> dict[str, Any]:
        return {"probabilities": whole(picture)["probabilities"]}

    side = recipe.network.side_px
    signature = [tf.TensorSpec((1, side, side, 3), tf.float32, name=export.INPUT)]
    functions = {export.SCREEN: tf.function(screen, input_signature=signature)}
    return export.convert_functions(recipe, model, functions, calibration=pictures)


def untrained_readout(model: Any) -> Readout:
    """A reading of the finer layer as large as a fitted one."""
    name = require_finer_layer(model)
    shape = (model.get_layer(name).output.shape[-1], network.feature_maps(model).shape[-1])
    random = np.random.default_rng(1)
    return Readout(
        layer=name, kernel=random.normal(0, 0.01, shape).astype(np.float32), bias=np.zeros(shape[1], np.float32)
    )


def main() -> None:
    """Export both, time them in turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    recipe = Recipe(
        name="cost",
        classes=("a", "b"),
        positive=("b",),
        network=NetworkRecipe(backbone=options.backbone, side_px=options.side, weights="none"),
    )
    set_seeds(1)
    model = network.build_classifier(recipe)
    pictures = np.random.default_rng(1).integers(0, 256, (16, options.side, options.side, 3)).astype(np.uint8)
    full = export.export_int8(recipe, model, untrained_readout(model), pictures)
    plain = bare(recipe, model, pictures)
    runners = {"full": interpreter(full), "bare": interpreter(plain)}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for index in range(options.rounds + 20):
        # Each goes first in every other round, so neither always finds the other's cache.
        for name in sorted(runners, reverse=bool(index % 2)):
            times[name].append(one_run(runners[name], pictures[:1]))
    full_ms, bare_ms = (np.array(times[name][20:]) for name in ("full", "bare"))
    low, median, high = np.percentile(full_ms / bare_ms, [25, 50, 75])
    print(f"{options.backbone} {options.side} px, int8, one thread, {options.rounds} rounds in turns")
    print(
        f"  bare {np.median(bare_ms):.2f} ms ({len(plain)} bytes), full {np.median(full_ms):.2f} ms ({len(full)} bytes)"
    )
    print(f"  ratio full / bare: median {median:.3f}, quartiles {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
