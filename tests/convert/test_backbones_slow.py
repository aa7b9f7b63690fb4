"""Every network goes the whole way: trained, pruned, exported to both files, and run by the device's own code.

The weights are random and so are the pictures: this asks whether the way works, not how well anything screens.
`PYTHONPATH=tests python tests/convert/test_backbones_slow.py NAME` prints the row of docs/backbones.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from random_networks import PICTURES, SIDE_PX, SPARSITY, a_recipe, as_prepared, settle, smooth_noise

from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.export import check_integer_only, export_float, export_int8, model_entry, roles
from edge_convert.network import build_classifier, feature_maps, scaled
from edge_convert.progress import finish
from edge_convert.prune.magnitude import choose_layers, prune
from edge_convert.quantize.simulate import Graph
from edge_convert.recipe import NetworkRecipe, Recipe, SaliencyRecipe
from edge_convert.saliency.readout import fit_readout
from edge_convert.train.finetune import finetune
from edge_runtime import saliency
from edge_runtime.interpreter import Network

CASES = [
    *(pytest.param(name, {}, id=name) for name in BACKBONES),
    pytest.param("vgg16", {"head": "dense"}, id="vgg16-dense"),
    pytest.param("alexnet", {"head": "dense", "colour": "grey"}, id="alexnet-dense-grey"),
    pytest.param("resnet50", {"colour": "grey", "width": 0.5}, id="resnet50-grey-half"),
    pytest.param("efficientnetb0", {"colour": "grey", "width": 0.5}, id="efficientnetb0-grey-half"),
]


@dataclass(frozen=True, kw_only=True)
class WholeWay:
    """What came out. map_shape: None for a network without a map. sparsity: of the kernels chosen for pruning.

    outputs: by variant and role, one a picture.
    """

    recipe: Recipe
    map_shape: tuple[int, ...] | None
    sparsity: float
    files: dict[str, bytes]
    outputs: dict[str, dict[str, list[NDArray[np.float32]]]]

    def cosine(self) -> float:
        """Median cosine of the embeddings of the two files, each less its mean over the pictures."""
        a, b = (np.stack(self.outputs[v]["embedding"]) for v in ("int8", "float32"))
        a, b = a - b.mean(axis=0), b - b.mean(axis=0)
        return float(
            np.median((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9))
        )

    def largest_difference(self) -> float:
        """Of a probability, between the two files."""
        a, b = (np.stack(self.outputs[v]["probabilities"]) for v in ("int8", "float32"))
        return float(np.abs(a - b).max())


def whole_way(recipe: Recipe) -> WholeWay:
    backbone = find_backbone(recipe.network.backbone)
    channels = recipe.preprocessing.channels
    prepared = as_prepared(smooth_noise(PICTURES, seed=1)[..., :channels])
    unseen = np.ascontiguousarray(smooth_noise(8, seed=2)[..., :channels])
    model, _ = finish(finetune(recipe, prepared))
    settle(model, scaled(prepared.pictures, backbone))
    before = model(scaled(prepared.pictures[:2], backbone), training=False).numpy()
    assert np.isfinite(before).all()
    model, _, rows = finish(prune(recipe, model, prepared))
    chosen = choose_layers(model)
    pruned = [row.sparsity for row in rows if row.layer in chosen]
    readout = finish(fit_readout(recipe, model, prepared)) if recipe.network.head == "pool" else None
    files = {
        "float32": export_float(recipe, model, readout),
        "int8": export_int8(recipe, model, readout, prepared.pictures),
    }
    outputs: dict[str, dict[str, list[NDArray[np.float32]]]] = {}
    for variant, data in files.items():
        network = Network(model_entry(recipe, variant), data, side_px=SIDE_PX, classes=2, channels=channels)
        found = outputs[variant] = {role: [] for role in roles(recipe)}
        for picture in unseen:
            network.run(picture)
            for role in found:
                found[role].append(network.output(role))
    assert outputs["float32"]["probabilities"][0] == pytest.approx(
        _softmax(model(scaled(unseen[:1], backbone), training=False).numpy()[0]), abs=1e-3
    )
    return WholeWay(
        recipe=recipe,
        map_shape=tuple(feature_maps(model).shape[1:3]) if "class_activation" in roles(recipe) else None,
        sparsity=min(pruned),
        files=files,
        outputs=outputs,
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), CASES)
def test_a_network_goes_the_whole_way(name: str, network: dict[str, Any]) -> None:
    way = whole_way(a_recipe(name, **network))
    assert way.sparsity == pytest.approx(SPARSITY, abs=0.02)
    check_integer_only(way.recipe, way.files["int8"])
    assert len(way.files["int8"]) < 0.4 * len(way.files["float32"])
    channels = way.recipe.preprocessing.channels
    unseen = scaled(np.ascontiguousarray(smooth_noise(8, seed=2)[..., :channels]), find_backbone(name))
    graph = Graph(way.files["float32"])
    np.testing.assert_allclose(
        graph.run(unseen)[graph.outputs["probabilities"]], way.outputs["float32"]["probabilities"], atol=1e-3
    )
    for variant in way.files:
        assert np.sum(way.outputs[variant]["probabilities"][0]) == pytest.approx(1, abs=2 / 256)
        if way.map_shape is None:
            continue
        shown = way.outputs[variant]["class_activation"][0]
        assert shown.shape == (*way.map_shape, 2)
        heat = saliency.enlarge(np.ascontiguousarray(shown[..., 1]), SIDE_PX, SIDE_PX)
        assert heat.shape == (SIDE_PX, SIDE_PX)
        assert np.isfinite(heat).all()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["pool", "dense"])
def test_vgg16_of_100_pixels_and_seven_classes_becomes_an_int8_file_at_full_width(head: Any) -> None:
    classes = tuple(f"kind {index}" for index in range(7))
    network = NetworkRecipe(backbone="vgg16", side_px=100, weights="none", head=head)
    maps = SaliencyRecipe(method="cam")
    recipe = Recipe(name="slow", classes=classes, positive=classes[-1:], network=network, saliency=maps)
    model = build_classifier(recipe)
    data = export_int8(recipe, model, None, np.random.default_rng(1).integers(0, 256, (8, 100, 100, 3), np.uint8))
    # A byte a weight: 14.7 million in convolutions; 3 x 3 x 512 x 4096 and 4096 x 4096 more in the dense layers.
    assert len(data) == pytest.approx(14.7e6 + (18.9e6 + 16.8e6 if head == "dense" else 0), rel=0.02)
    runtime = Network(model_entry(recipe, "int8"), data, side_px=100, classes=7)
    runtime.run(np.random.default_rng(2).integers(0, 256, (100, 100, 3), np.uint8))
    assert runtime.output("probabilities").sum() == pytest.approx(1, abs=7 / 512)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        way = whole_way(a_recipe(name))
        int8, floating = len(way.files["int8"]), len(way.files["float32"])
        print(
            f"| `{name}` | {floating:,} | {int8:,} | yes | {way.cosine():.3f} | {way.largest_difference():.3f} |",
            flush=True,
        )
