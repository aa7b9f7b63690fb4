"""Transfer learning in two phases: a linear layer on frozen features, then the upper blocks with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import build_classifier, freeze
from edge_convert.prepare import Prepared
from edge_convert.progress import Steps
from edge_convert.recipe import Recipe
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch
from edge_convert.train.last_layer import fit_last_layer
from edge_convert.train.trainer import Keeping, Teacher, Trainer

SCRATCH_MOMENTUM = 0.9


def finetune(
    recipe: Recipe,
    prepared: Prepared,
    *,
    keeping: Keeping | None = None,
    teacher: Teacher | None = None,
    whose: str = "",
) -> Steps[tuple[Any, list[Epoch]]]:
    """Train the recipe's network. Returns the model with its best weights, and the history.

    keeping: where training stands is read from there and written to it, so that a killed run goes on to the same
    weights. teacher: its soft labels are learned as well. whose: put before the phases' names, such as `teacher: `.
    """
    keeping = keeping or Keeping()
    on = devices(recipe.train.strategy)
    set_seeds(recipe.seed)
    with on.building(recipe.train.precision):
        model = build_classifier(recipe)
    train = recipe.train
    if recipe.network.weights == "none":
        # Random features are worth no linear layer: everything learns, batch normalisation too.
        remember_less(model)
        trainer = Trainer(
            model, recipe, prepared, phase=f"{whose}from scratch", on=on, keeping=keeping, teacher=teacher
        )
        history = yield from trainer.run(max(1, train.epochs), train.learning_rate)
        return model, history
    going_on = keeping.checkpoint.load() if keeping.checkpoint is not None else None
    first = (
        going_on.history[0] if going_on else (yield from fit_last_layer(model, recipe, prepared, f"{whose}last layer"))
    )
    if not (train.epochs and train.unfrozen_blocks):
        return model, [first]
    freeze(model, find_backbone(recipe.network.backbone).first_unfrozen(train.unfrozen_blocks))
    trainer = Trainer(
        model, recipe, prepared, phase=f"{whose}fine-tune", best=first, on=on, keeping=keeping, teacher=teacher
    )
    history = yield from trainer.run(train.epochs, train.learning_rate)
    return model, history


def remember_less(model: Any) -> None:
    """Let batch normalisation's moving statistics follow within tens of steps.

    Some published networks keep 0.999 of the old ones at each step: a few hundred steps, all that a small data set
    gives, would leave statistics of the random beginning, and a network that is right in training alone.
    """
    for layer in model.layers:
        if isinstance(layer, keras().layers.BatchNormalization):
            layer.momentum = min(layer.momentum, SCRATCH_MOMENTUM)


def set_seeds(seed: int) -> None:
    """Make TensorFlow, numpy and Python draw the same numbers in every run, and sum in the same order."""
    keras().utils.set_random_seed(seed)
    tensorflow().config.experimental.enable_op_determinism()


def teachers_recipe(recipe: Recipe) -> Recipe:
    """How the teacher of a recipe is trained: as the network itself, but for its backbone, weights and epochs."""
    d = recipe.distill
    return replace(
        recipe,
        teacher="none",
        network=replace(
            recipe.network,
            backbone=recipe.teacher,
            weights=d.weights,
            width=d.width,
            head="pool",
            activation="published",
        ),
        train=replace(recipe.train, epochs=d.epochs, unfrozen_blocks=d.unfrozen_blocks),
    )
