"""Gradient descent on augmented pictures: keeps the best weights, and can be killed at any moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import in_batches, rescaled
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_convert.train.augment import augmented_batch, plan_for
from edge_convert.train.checkpoint import Arrays, Checkpoint, Standing
from edge_convert.train.devices import Devices, devices
from edge_convert.train.epoch import Epoch, measured
from edge_convert.train.halves import Halves, cut_in_two, pays
from edge_convert.train.logs import Logs
from edge_convert.train.loss import distillation_loss, picture_loss
from edge_convert.train.mixing import mix
from edge_convert.train.optimizer import make_optimizer, plain_optimizer, state_of

LogitsOf = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""The logits, (n, classes), of rows of the prepared pictures."""
Objective = Callable[[Any, Any], Any]
"""`objective(pictures, wanted)`: a loss a picture, (n,), from (n, side, side, channels) pixels and (n, classes)."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What training leaves beside its weights: where it stands, and TensorBoard's logs; None for neither."""

    checkpoint: Checkpoint | None = None
    logs: Logs | None = None


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained network whose logits the trained one learns from. model: takes its own backbone's scaled pictures."""

    model: Any
    backbone: str


@dataclass
class _Progressing:
    """The part of a `Standing` that changes at every step."""

    epoch: int = 1
    step: int = 0
    stale: int = 0
    losses: list[Any] = field(default_factory=list)


class Trainer:
    """One phase of training. The model's variables live on the devices given."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        prepared: Prepared,
        *,
        phase: str,
        best: Epoch | None = None,
        on: Devices | None = None,
        keeping: Keeping | None = None,
        teacher: Teacher | None = None,
        average: bool = True,
        objective: Objective | None = None,
        kept_by: Callable[[NDArray[np.float32]], float] | None = None,
    ) -> None:
        """best: what the model's present weights reach; None where they do not count (from scratch, before pruning).

        average: whether the recipe's moving average is kept; pruned weights must not be averaged with older ones.
        objective: in place of the recipe's loss. kept_by: a measure of the validation logits, (pictures, classes), in
        place of the one that the recipe keeps weights by; more is better.
        """
        self.model, self.recipe, self.prepared, self.phase = model, recipe, prepared, phase
        self.backbone = find_backbone(recipe.network.backbone)
        self.devices = on or devices("none")
        self.keeping = keeping or Keeping()
        self.teacher = teacher
        self._objective, self._kept_by = objective, kept_by
        self._averaging = bool(average and recipe.train.ema)
        self._history: list[Epoch] = [best] if best else []
        self._best = best
        self._kept: Arrays | None = model.get_weights() if best else None
        self._at = _Progressing()
        self._halves: Halves | None = None

    def run(
        self, epochs: int, learning_rate: float, *, callback: Any = None, count_from: int = 1
    ) -> Steps[list[Epoch]]:
        """Train, or go on from the checkpoint; leave the best weights in the model. Returns the history.

        callback: told of batches and epochs, as Keras tells its own. count_from: the first epoch whose weights may be
        kept.
        """
        train = self.prepared.rows("train")
        batches = math.ceil(len(train) / self.recipe.train.batch)
        with self.devices.building(self.recipe.train.precision):
            optimizer = make_optimizer(
                self.recipe.train,
                self.model,
                self.backbone,
                learning_rate=learning_rate,
                steps=batches * epochs,
                average=self._averaging,
            )
        self._resume(optimizer)
        # A teacher, and whoever brings a loss of their own, sees the picture itself.
        if self.teacher is None and self._objective is None and pays(self.recipe, epochs * len(train)):
            self._halves = cut_in_two(self.recipe, self.model)
        step, logits_of = self._make_step(optimizer), self._make_logits()
        if self.keeping.checkpoint is not None and self.keeping.checkpoint.is_damaged:
            yield Progress(done=0, total=batches * epochs, note="the checkpoint is damaged: training starts again")
        at = self._at
        while at.epoch <= epochs and at.stale < self.recipe.train.patience:
            for arrays in self._batches(train, at.epoch, at.step):
                if callback is not None:
                    callback.on_train_batch_begin(at.step)
                at.losses.append(step(arrays))
                at.step += 1
                yield Progress(done=(at.epoch - 1) * batches + at.step, total=batches * epochs)
                self._save(optimizer)
            if callback is not None:
                callback.on_epoch_end(at.epoch)
            improved = self._validate(optimizer, logits_of, may_keep=at.epoch >= count_from)
            yield Progress(done=at.epoch * batches, total=batches * epochs, note=self._said())
            stale = 0 if improved or at.epoch < count_from else at.stale + 1
            at = self._at = _Progressing(epoch=at.epoch + 1, stale=stale)
            self._save(optimizer, epoch_is_over=True)
        if self._kept is not None:
            self.model.set_weights(self._kept)
        return self._history

    def _batches(self, rows: NDArray[np.int64], epoch: int, start: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """The batches of an epoch from number `start` on: pictures as they are seen, wanted (n, classes), weights (n,),
        count.

        Each depends on (seed, epoch, its number) alone, so an epoch can be entered in the middle.
        """
        recipe, train = self.recipe, self.recipe.train
        order = np.random.default_rng((recipe.seed, epoch)).permutation(rows)
        classes = len(recipe.classes)
        of_class = self.prepared.class_weights(train)
        for number in range(start, math.ceil(len(order) / train.batch)):
            chosen = order[number * train.batch : (number + 1) * train.batch]
            padded = self.devices.pad(chosen)
            pictures = augmented_batch(self.prepared.pictures, padded, plan_for(train), seed=recipe.seed, epoch=epoch)
            targets = np.eye(classes, dtype=np.float32)[self.prepared.targets[padded]]
            pictures, targets = mix(train, pictures, targets, np.random.default_rng((recipe.seed, epoch, number, 1)))
            weights = targets @ of_class
            weights[len(chosen) :] = 0
            wanted = targets * np.float32(1 - train.label_smoothing) + np.float32(train.label_smoothing / classes)
            yield self._seen(pictures), wanted, weights, np.float32(len(chosen))

    def _seen(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """What a step is given: the pictures, or what the frozen part makes of them."""
        return pictures if self._halves is None else self._halves.lower(pictures)

    def _logits(self, seen: Any, *, training: bool) -> Any:
        if self._halves is not None:
            return self._halves.upper(seen, training=training)
        return self.model(rescaled(tensorflow().cast(seen, tensorflow().float32), self.backbone), training=training)

    def _make_logits(self) -> LogitsOf:
        """The logits of rows, in inference mode. Traced once for all epochs."""
        infer = tensorflow().function(lambda seen: self._logits(seen, training=False), reduce_retracing=True)

        def logits_of(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            seen = (self._seen(self.prepared.pictures[part]) for part in in_batches(rows))
            return np.concatenate([infer(part).numpy() for part in seen])

        return logits_of

    def _make_step(self, optimizer: Any) -> Callable[[tuple[NDArray[Any], ...]], Any]:
        tf = tensorflow()
        losses_of = self._losses()
        variables = self.model.trainable_variables
        scaling = isinstance(optimizer, keras().mixed_precision.LossScaleOptimizer)

        def replica_step(pictures: Any, wanted: Any, weights: Any, count: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(losses_of(pictures, wanted) * weights) / count
                descended = optimizer.get_scaled_loss(loss) if scaling else loss
            gradients = tape.gradient(descended, variables)
            if scaling:
                gradients = optimizer.get_unscaled_gradients(gradients)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return loss

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(pictures: Any, wanted: Any, weights: Any, count: Any) -> Any:
            parts = self.devices.strategy.run(replica_step, args=(pictures, wanted, weights, count))
            return self.devices.sum(parts)

        def dealt(arrays: tuple[NDArray[Any], ...]) -> Any:
            *shared, count = arrays
            return step(*self.devices.deal(*shared), tf.constant(count))

        return dealt

    def _losses(self) -> Objective:
        """A loss a picture, (n,), from what is seen and wanted probabilities."""
        if self._objective is not None:
            return self._objective
        tf = tensorflow()
        against_labels = picture_loss(self.recipe.train)

        def plain(seen: Any, wanted: Any) -> Any:
            return against_labels(wanted, self._logits(seen, training=True))

        if self.teacher is None:
            return plain
        teacher, its_backbone = self.teacher.model, find_backbone(self.teacher.backbone)
        against_teacher, share = distillation_loss(self.recipe.distill), self.recipe.distill.share

        def distilled(pictures: Any, wanted: Any) -> Any:
            logits = self._logits(pictures, training=True)
            # The teacher sees the very same changed picture (Beyer et al. 2022).
            taught = tf.stop_gradient(teacher(rescaled(tf.cast(pictures, tf.float32), its_backbone), training=False))
            return (1 - share) * against_labels(wanted, logits) + share * against_teacher(taught, logits)

        return distilled

    def _validate(self, optimizer: Any, logits_of: LogitsOf, *, may_keep: bool) -> bool:
        """Measure the weights, or their average, and keep them where they are the best.

        Returns whether the kept measure improved: an equal one keeps the better fitted weights, and tires patience.
        """
        own = self.model.get_weights() if self._averaging else None
        if own is not None:
            plain_optimizer(optimizer).finalize_variable_values(self.model.trainable_variables)
        logits = logits_of(self.prepared.rows("val"))
        loss = float(np.mean([float(loss) for loss in self._at.losses]))
        epoch = measured(self.phase, self._at.epoch, loss, self.recipe, self.prepared, logits)
        if self._kept_by is not None:
            epoch = replace(epoch, validation_kept=self._kept_by(logits))
        self._history.append(epoch)
        if self.keeping.logs is not None:
            self.keeping.logs.write(epoch, learning_rate=float(plain_optimizer(optimizer).learning_rate))
        improved = self._best is None or epoch.validation_kept > self._best.validation_kept
        if may_keep and (self._best is None or epoch.better_than(self._best)):
            self._best, self._kept = epoch, self.model.get_weights()
        if own is not None:
            self.model.set_weights(own)
        return improved and may_keep

    def _said(self) -> str:
        """The last epoch for people."""
        last = self._history[-1]
        return str(last) if self._kept_by is None else f"{last}, kept by {last.validation_kept:.5f}"

    def _save(self, optimizer: Any, *, epoch_is_over: bool = False) -> None:
        checkpoint, at = self.keeping.checkpoint, self._at
        # Several machines must stand at the same step, and their clocks differ.
        due = epoch_is_over or (checkpoint is not None and checkpoint.is_due() and not self.devices.machines)
        if checkpoint is None or not due:
            return
        backend = keras().backend
        checkpoint.save(
            Standing(
                phase=self.phase,
                epoch=at.epoch,
                step=at.step,
                stale=at.stale,
                losses=tuple(float(loss) for loss in at.losses),
                history=tuple(self._history),
                best=self._best,
                weights=self.model.get_weights(),
                optimizer=backend.batch_get_value(state_of(optimizer)),
                kept=self._kept,
            )
        )

    def _resume(self, optimizer: Any) -> None:
        checkpoint = self.keeping.checkpoint
        standing = checkpoint.load() if checkpoint is not None else None
        if standing is not None and standing.phase != self.phase:
            standing = None
        place = standing.epoch * 1_000_000 + standing.step if standing else 0
        if self.devices.machines and not self.devices.same_everywhere(place):
            raise EdgeError(
                "the machines' checkpoints are of different epochs", remedy="build with --from finetune on all of them"
            )
        if standing is None:
            self._save(optimizer, epoch_is_over=True)
            return
        self.model.set_weights(standing.weights)
        keras().backend.batch_set_value(list(zip(state_of(optimizer), standing.optimizer, strict=True)))
        self._history, self._best, self._kept = list(standing.history), standing.best, standing.kept
        self._at = _Progressing(
            epoch=standing.epoch, step=standing.step, stale=standing.stale, losses=list(standing.losses)
        )
