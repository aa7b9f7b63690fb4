"""Transfer learning in two phases: a linear layer on frozen features, then the upper blocks with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.augment import AUGMENTATIONS, augmented_batch
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import (
    EMBEDDING,
    LOGITS,
    PREDICT_BATCH,
    build_classifier,
    freeze,
    run_batches,
    scaled,
    softmax,
)
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_runtime.metrics import Ranking

REGULARISATION = (0.001, 0.01, 0.1)
WARM_UP = 0.1


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training pictures. Validation measures are of the float network after it."""

    phase: str
    epoch: int
    loss: float | None
    validation_auc: float
    validation_average_precision: float

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return (
            f"{self.phase} {self.epoch}: {loss}validation AUC {self.validation_auc:.4f}, "
            f"average precision {self.validation_average_precision:.4f}"
        )


def finetune(recipe: Recipe, prepared: Prepared) -> Steps[tuple[Any, list[Epoch]]]:
    """Train the recipe's network. Returns the model with its best weights, and the history."""
    set_seeds(recipe.seed)
    model = build_classifier(recipe)
    if recipe.network.weights == "none":
        # Random features are worth no linear layer: everything learns, batch normalisation too.
        trainer = Trainer(model, recipe, prepared, phase="from scratch", best=None)
        history = yield from trainer.run(max(1, recipe.train.epochs), recipe.train.learning_rate)
        return model, history
    first = yield from fit_last_layer(model, recipe, prepared)
    history = [first]
    if recipe.train.epochs and recipe.train.unfrozen_blocks:
        freeze(model, find_backbone(recipe.network.backbone).first_unfrozen(recipe.train.unfrozen_blocks))
        trainer = Trainer(model, recipe, prepared, phase="fine-tune", best=first)
        history += yield from trainer.run(recipe.train.epochs, recipe.train.learning_rate)
    return model, history


def set_seeds(seed: int) -> None:
    """Make TensorFlow, numpy and Python draw the same numbers in every run, and sum in the same order."""
    keras().utils.set_random_seed(seed)
    tensorflow().config.experimental.enable_op_determinism()


def fit_last_layer(model: Any, recipe: Recipe, prepared: Prepared) -> Steps[Epoch]:
    """Fill the dense layer by logistic regression on frozen features, each computed once.

    The strength of the regularisation is the one with the best validation average precision.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    backbone = find_backbone(recipe.network.backbone)
    embedder = keras().Model(model.input, model.get_layer(EMBEDDING).output)
    used = np.concatenate([prepared.rows("train"), prepared.rows("val")])
    batches: list[NDArray[np.float32]] = []
    for batch in run_batches(embedder, prepared.pictures, used, backbone):
        batches.append(batch)
        yield Progress(done=len(batches) * PREDICT_BATCH, total=len(used))
    embeddings = np.concatenate(batches)
    features, checked = np.split(embeddings, [len(prepared.rows("train"))])
    scaler = StandardScaler().fit(features)
    # A feature that hardly varies would get a huge weight, and int8 would round all the others to nothing.
    scaler.scale_ = np.maximum(scaler.scale_, np.median(scaler.scale_))
    truth = prepared.targets[prepared.rows("train")]
    best: tuple[float, Epoch, Any] | None = None
    for strength in REGULARISATION:
        probe = LogisticRegression(
            C=strength,
            class_weight="balanced" if recipe.train.class_weights == "inverse" else None,
            max_iter=200,
        ).fit(scaler.transform(features), truth)
        kernel, bias = _as_dense(probe, scaler, len(recipe.classes))
        epoch = _measured("last layer", 0, None, recipe, prepared, checked @ kernel + bias)
        if best is None or epoch.validation_average_precision > best[0]:
            best = (epoch.validation_average_precision, epoch, [kernel, bias])
    assert best is not None
    model.get_layer(LOGITS).set_weights(best[2])
    yield Progress(done=len(used), total=len(used), note=str(best[1]))
    return best[1]


def _as_dense(probe: Any, scaler: Any, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A fitted logistic regression on standardised features as a dense layer on the raw ones."""
    coefficients, bias = probe.coef_, probe.intercept_
    if classes == 2:
        # One row means "the second class against the first": half each way gives the same softmax.
        coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
    raw = coefficients / scaler.scale_
    return raw.T.astype(np.float32), (bias - raw @ scaler.mean_).astype(np.float32)


class Trainer:
    """Gradient descent on augmented pictures that keeps the best weights by validation average precision."""

    def __init__(self, model: Any, recipe: Recipe, prepared: Prepared, *, phase: str, best: Epoch | None) -> None:
        """best: what the model's present weights reach; None where they do not count (before pruning)."""
        self.model, self.recipe, self.prepared, self.phase = model, recipe, prepared, phase
        self.backbone = find_backbone(recipe.network.backbone)
        self._best = best.validation_average_precision if best else -1.0
        self._best_loss = math.inf
        self._weights = model.get_weights() if best else None

    def run(
        self, epochs: int, learning_rate: float, *, callback: Any = None, count_from: int = 1
    ) -> Steps[list[Epoch]]:
        """Train; leave the best weights in the model. callback: told of batches and epochs, as Keras tells its own.

        count_from: the first epoch whose weights may be kept.
        """
        train = self.prepared.rows("train")
        batch = self.recipe.train.batch
        batches = math.ceil(len(train) / batch)
        step = self._make_step(learning_rate, batches * epochs)
        history: list[Epoch] = []
        stale = 0
        for epoch in range(1, epochs + 1):
            losses = []
            for index, (pictures, targets) in enumerate(self._batches(train, batch, epoch)):
                if callback is not None:
                    callback.on_train_batch_begin(index)
                losses.append(step(pictures, targets))
                yield Progress(done=(epoch - 1) * batches + index + 1, total=batches * epochs)
            if callback is not None:
                callback.on_epoch_end(epoch)
            history.append(self._validate(epoch, float(np.mean([float(loss) for loss in losses]))))
            yield Progress(done=epoch * batches, total=batches * epochs, note=str(history[-1]))
            stale = 0 if epoch < count_from or self._keep(history[-1]) else stale + 1
            if stale >= self.recipe.train.patience:
                break
        if self._weights is not None:
            self.model.set_weights(self._weights)
        return history

    def _batches(
        self, rows: NDArray[np.int64], batch: int, epoch: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        recipe = self.recipe
        order = np.random.default_rng((recipe.seed, epoch)).permutation(rows)
        plan = AUGMENTATIONS[recipe.train.augmentation]
        for chosen in _chunks(order, batch):
            pictures = augmented_batch(self.prepared.pictures, chosen, plan, seed=recipe.seed, epoch=epoch)
            yield scaled(pictures, self.backbone), self.prepared.targets[chosen]

    def _make_step(self, learning_rate: float, steps: int) -> Any:
        tf = tensorflow()
        optimizer = keras().optimizers.Adam(_schedule(learning_rate, steps))
        classes = len(self.recipe.classes)
        smoothing = self.recipe.train.label_smoothing
        weights = tf.constant(self.prepared.class_weights(self.recipe.train.class_weights), tf.float32)
        variables = self.model.trainable_variables

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(pictures: Any, targets: Any) -> Any:
            wanted = tf.one_hot(targets, classes) * (1 - smoothing) + smoothing / classes
            with tf.GradientTape() as tape:
                logits = self.model(pictures, training=True)
                losses = tf.nn.softmax_cross_entropy_with_logits(wanted, logits) * tf.gather(weights, targets)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return loss

        return step

    def _validate(self, epoch: int, loss: float) -> Epoch:
        rows = self.prepared.rows("val")
        logits = np.concatenate(list(run_batches(self.model, self.prepared.pictures, rows, self.backbone)))
        return _measured(self.phase, epoch, loss, self.recipe, self.prepared, logits)

    def _keep(self, epoch: Epoch) -> bool:
        """Remember the weights where they are better than any before."""
        # At equal average precision (often 1.0 on a small validation set) the later, better fitted weights win.
        assert epoch.loss is not None
        better = (epoch.validation_average_precision, -epoch.loss) > (self._best, -self._best_loss)
        if better:
            self._best, self._best_loss = epoch.validation_average_precision, epoch.loss
            self._weights = self.model.get_weights()
        return better


def _schedule(learning_rate: float, steps: int) -> Any:
    """A short linear warm-up, then a cosine to nothing."""
    warm = max(1, round(WARM_UP * steps))
    return keras().optimizers.schedules.CosineDecay(
        initial_learning_rate=learning_rate / 50,
        decay_steps=max(1, steps - warm),
        warmup_target=learning_rate,
        warmup_steps=warm,
    )


def _measured(
    phase: str, epoch: int, loss: float | None, recipe: Recipe, prepared: Prepared, logits: NDArray[np.float32]
) -> Epoch:
    """Validation measures from the validation pictures' logits."""
    positive = [recipe.classes.index(label) for label in recipe.positive]
    scores = softmax(logits)[:, positive].sum(axis=1)
    ranking = Ranking(scores, np.isin(prepared.targets[prepared.rows("val")], positive))
    return Epoch(
        phase=phase,
        epoch=epoch,
        loss=loss,
        validation_auc=ranking.auc(),
        validation_average_precision=ranking.average_precision(),
    )


def _chunks(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
