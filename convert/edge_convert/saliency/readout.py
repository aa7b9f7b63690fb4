"""A finer map for the price of one 1x1 convolution: the last features, read at a layer of twice their resolution.

A linear map from the finer layer's channels to the last layer's is fitted by ridge regression on training pictures (no
box is needed), and the classifier's own last layer stands behind it. What the two layers say together finds a parasite
more often than either: docs/saliency.md has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import feature_maps, scaled
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_convert.saliency.cut import require_finer_layer

BATCH = 16
RIDGE = 0.01
"""Of the mean variance of a channel, added to each: pruned and dead channels would make the system singular."""


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Last features from finer ones: `finer @ kernel + bias`.

    layer: the finer one's name. kernel: (its channels, last channels) float32. bias: (last channels,) float32.
    """

    layer: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write an .npz."""
        np.savez(path, layer=np.array(self.layer), kernel=self.kernel, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> Readout:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(layer=str(arrays["layer"]), kernel=arrays["kernel"], bias=arrays["bias"])


def random_readout(model: Any) -> Readout:
    """A readout of the right shape that is fitted to nothing, for files that are only timed."""
    layer = require_finer_layer(model)
    shape = model.get_layer(layer).output.shape[-1], feature_maps(model).shape[-1]
    kernel = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return Readout(layer=layer, kernel=kernel, bias=np.zeros(shape[1], np.float32))


def choose_rows(recipe: Recipe, prepared: Prepared) -> NDArray[np.int64]:
    """Training pictures to fit on: positive and negative ones in halves as far as there are enough, by the seed."""
    random = np.random.default_rng(recipe.seed)
    train = prepared.rows("train")
    positive = np.isin(prepared.targets[train], [recipe.classes.index(label) for label in recipe.positive])
    half = -(-recipe.saliency.pictures // 2)
    return np.sort(np.concatenate([random.permutation(train[side])[:half] for side in (positive, ~positive)]))


def fit_readout(recipe: Recipe, model: Any, prepared: Prepared) -> Steps[Readout]:
    """The ridge regression, by its normal equations, a batch of pictures in memory at a time."""
    tf = tensorflow()
    layer = require_finer_layer(model)
    both = keras().Model(model.input, [model.get_layer(layer).output, feature_maps(model)])
    step = tf.function(lambda x: both(x, training=False), reduce_retracing=True)
    backbone = find_backbone(recipe.network.backbone)
    rows = choose_rows(recipe, prepared)
    sums: list[Any] = [0.0, 0.0, 0.0, 0.0]
    count = 0
    for start in range(0, len(rows), BATCH):
        finer, last = step(scaled(prepared.pictures[rows[start : start + BATCH]], backbone))
        # Half-pixel centres, as the runtime enlarges maps.
        last = tf.image.resize(last, finer.shape[1:3], method="bilinear")
        x = finer.numpy().reshape(-1, finer.shape[-1]).astype(np.float64)
        y = last.numpy().reshape(-1, last.shape[-1]).astype(np.float64)
        count += len(x)
        for place, found in enumerate((x.sum(0), y.sum(0), x.T @ x, x.T @ y)):
            sums[place] = sums[place] + found
        yield Progress(done=min(start + BATCH, len(rows)), total=len(rows))
    mean_x, mean_y = sums[0] / count, sums[1] / count
    covariance = sums[2] / count - np.outer(mean_x, mean_x)
    cross = sums[3] / count - np.outer(mean_x, mean_y)
    ridge = RIDGE * max(float(np.trace(covariance)), 1e-12) / len(mean_x)
    kernel = np.linalg.solve(covariance + ridge * np.eye(len(mean_x)), cross)
    return Readout(layer=layer, kernel=kernel.astype(np.float32), bias=(mean_y - mean_x @ kernel).astype(np.float32))
