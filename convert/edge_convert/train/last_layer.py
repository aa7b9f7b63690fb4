"""The first phase: a new last layer on frozen features, by logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.keras import keras
from edge_convert.network import EMBEDDING, LOGITS, PREDICT_BATCH
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_convert.train.epoch import Epoch, measured
from edge_convert.train.halves import run_frozen

REGULARISATION = (0.001, 0.01, 0.1)


def fit_last_layer(model: Any, recipe: Recipe, prepared: Prepared, phase: str = "last layer") -> Steps[Epoch]:
    """Fill the dense layer by logistic regression on frozen features, each computed once.

    The strength of the regularisation is the one that does best on validation.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    embedder = keras().Model(model.input, model.get_layer(EMBEDDING).output)
    used = np.concatenate([prepared.rows("train"), prepared.rows("val")])
    batches: list[NDArray[np.float32]] = []
    for batch in run_frozen(recipe, embedder, prepared.pictures, used):
        batches.append(batch)
        yield Progress(done=len(batches) * PREDICT_BATCH, total=len(used))
    features, checked = np.split(np.concatenate(batches), [len(prepared.rows("train"))])
    scaler = StandardScaler().fit(features)
    # A feature that hardly varies would get a huge weight, and int8 would round all the others to nothing.
    scaler.scale_ = np.maximum(scaler.scale_, np.median(scaler.scale_))
    truth = prepared.targets[prepared.rows("train")]
    weights = dict(enumerate(prepared.class_weights(recipe.train)))
    best: tuple[Epoch, list[NDArray[np.float32]]] | None = None
    for strength in REGULARISATION:
        probe = LogisticRegression(C=strength, class_weight=weights, max_iter=200)
        probe.fit(scaler.transform(features), truth)
        kernel, bias = _as_dense(probe, scaler, len(recipe.classes))
        epoch = measured(phase, 0, None, recipe, prepared, checked @ kernel + bias)
        if best is None or epoch.validation_kept > best[0].validation_kept:
            best = (epoch, [kernel, bias])
    assert best is not None
    model.get_layer(LOGITS).set_weights(best[1])
    yield Progress(done=len(used), total=len(used), note=str(best[0]))
    return best[0]


def _as_dense(probe: Any, scaler: Any, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A fitted logistic regression on standardised features as a dense layer on the raw ones."""
    coefficients, bias = probe.coef_, probe.intercept_
    if classes == 2:
        # One row means "the second class against the first": half each way gives the same softmax.
        coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
    raw = coefficients / scaler.scale_
    return raw.T.astype(np.float32), (bias - raw @ scaler.mean_).astype(np.float32)
