"""Networks with random weights, and pictures of noise: for what asks whether a way works, not how well it screens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import Sample
from edge_convert.keras import keras
from edge_convert.prepare import Prepared
from edge_convert.recipe import NetworkRecipe, PruneRecipe, Recipe, TrainRecipe

SIDE_PX = 96
PICTURES = 24
SPARSITY = 0.5


def a_recipe(name: str, **network: Any) -> Recipe:
    return Recipe(
        name="slow",
        classes=("no", "yes"),
        positive=("yes",),
        network=NetworkRecipe(backbone=name, side_px=SIDE_PX, weights="none", **network),
        train=TrainRecipe(epochs=1, batch=8, learning_rate=1e-6),
        prune=PruneRecipe(sparsity=SPARSITY, epochs=2, learning_rate=1e-6),
    )


def smooth_noise(count: int, seed: int, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """(count, side, side, 3) uint8: coloured clouds, as pictures have neighbours that resemble each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return np.stack([cv2.resize(c, (side_px, side_px), interpolation=cv2.INTER_CUBIC) for c in coarse])


def settle(model: Any, pictures: NDArray[np.float32]) -> None:
    """Give batch normalisation the statistics of these pictures: with those it is born with, int8 sees only zeros.

    A network without any gets kernels of such a size that every layer's values spread by one.
    """
    layers = keras().layers
    normalisations = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    if not normalisations:
        for layer in model.layers:
            if isinstance(layer, (layers.Conv2D, layers.Dense)):
                spread = float(np.std(keras().Model(model.input, layer.output)(pictures)))
                kernel, *rest = layer.get_weights()
                layer.set_weights([kernel / spread, *rest])
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    model(pictures, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum


def as_prepared(pictures: NDArray[np.uint8]) -> Prepared:
    """Two thirds to train on, a third to validate, labels in turns."""
    count = len(pictures)
    targets = np.arange(count) % 2
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"),
            name=f"{i}.png",
            label=("no", "yes")[targets[i]],
            group=str(i),
            split="train" if i < 2 * count // 3 else "val",
            boxes=(),
        )
        for i in range(count)
    )
    return Prepared(
        name="noise",
        synthetic=True,
        has_groups=False,
        fingerprint="",
        classes=("no", "yes"),
        pictures=pictures,
        samples=samples,
        sizes=(pictures.shape[1:3],) * count,
        targets=targets.astype(np.int64),
        unreadable=(),
    )
