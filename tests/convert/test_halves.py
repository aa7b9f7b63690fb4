"""The frozen part that is run apart: it computes what Keras computes, and is used only where nothing is lost by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import TinyBuild
from random_networks import a_recipe, settle, smooth_noise

from edge_convert.backbones import find_backbone
from edge_convert.network import build_classifier, freeze, scaled
from edge_convert.prepare import load_prepared
from edge_convert.progress import finish
from edge_convert.recipe import Recipe, read_recipe
from edge_convert.train import halves, trainer
from edge_convert.train.finetune import finetune
from edge_convert.train.halves import cut_in_two, learns_from, pays
from edge_convert.train.trainer import Teacher, Trainer

BLOCKS = 3


def half_frozen(recipe: Recipe) -> tuple[Any, str]:
    model = build_classifier(recipe)
    start = find_backbone(recipe.network.backbone).first_unfrozen(BLOCKS)
    freeze(model, start)
    return model, start


def test_the_frozen_part_and_what_learns_make_the_whole_network() -> None:
    recipe = a_recipe("mobilenetv2", width=0.35)
    backbone = find_backbone("mobilenetv2")
    model, start = half_frozen(recipe)
    pictures = smooth_noise(5, 1)
    settle(model, scaled(pictures, backbone))
    assert learns_from(model, backbone) == start
    cut = cut_in_two(recipe, model)
    assert cut is not None
    seen = cut.lower(pictures)
    assert seen.dtype == np.float32
    # Shared out among threads or one by one: the same bits.
    np.testing.assert_array_equal(seen, np.concatenate([cut.lower(picture[np.newaxis]) for picture in pictures]))
    whole = model(scaled(pictures, backbone), training=False).numpy()
    apart = np.ptp(whole, axis=0).min()
    assert apart > 0, "the pictures are told apart, so that a wrong map would show"
    np.testing.assert_allclose(cut.upper(seen, training=False).numpy(), whole, rtol=0, atol=1e-2 * apart)


def test_a_layer_that_learns_in_the_middle_of_a_block_keeps_the_whole_block() -> None:
    """Whatever a residual sum takes from before the block's start would be cut off."""
    recipe = a_recipe("mobilenetv2", width=0.35)
    model, start = half_frozen(recipe)
    names = [layer.name for layer in model.layers]
    freeze(model, names[names.index(start) + 4])
    assert learns_from(model, find_backbone("mobilenetv2")) == start


def test_blocks_that_drop_out_are_not_run_apart() -> None:
    """EfficientNetB0 drops whole blocks in training, the frozen ones too; run apart they would drop nothing."""
    backbone = find_backbone("efficientnetb0")
    model = build_classifier(a_recipe("efficientnetb0"))
    freeze(model, backbone.first_unfrozen(1))
    names = [layer.name for layer in model.layers]
    first_drop = next(i for i, layer in enumerate(model.layers) if getattr(layer, "rate", 0))
    start = learns_from(model, backbone)
    assert start is not None
    assert names.index(start) < first_drop < names.index(backbone.first_unfrozen(1))


def test_a_network_from_scratch_has_no_frozen_part() -> None:
    model = build_classifier(a_recipe("mobilenetv2", width=0.35))
    assert learns_from(model, find_backbone("mobilenetv2")) is None


@pytest.mark.parametrize("changes", [{"precision": "mixed_float16"}, {"strategy": "mirrored"}], ids=str)
def test_whoever_trains_on_several_devices_or_in_16_bits_gets_what_was_asked_for(changes: dict[str, Any]) -> None:
    recipe = a_recipe("mobilenetv2")
    assert pays(recipe, 10**6)
    assert not pays(recipe, 10)
    assert not pays(replace(recipe, train=replace(recipe.train, **changes)), 10**6)


def test_a_teacher_sees_the_pictures_themselves(tiny_build: TinyBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "WORTH_CONVERTING", 1)
    monkeypatch.setattr(trainer, "cut_in_two", lambda *_: pytest.fail("the teacher would be given feature maps"))
    recipe = read_recipe(tiny_build.recipe, changes=("train.epochs=1",))
    model = build_classifier(recipe)
    teacher = Teacher(model=model, backbone=recipe.network.backbone)
    taught = Trainer(model, recipe, load_prepared(tiny_build.run / "data"), phase="", teacher=teacher)
    next(taught.run(1, 1e-6))


def test_training_with_the_frozen_part_apart_is_the_same_training(
    tiny_build: TinyBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(tiny_build.recipe, changes=("train.epochs=1", "train.learning_rate=1e-5"))
    prepared = load_prepared(tiny_build.run / "data")
    losses = []
    for worth in (10**9, 1):
        monkeypatch.setattr(halves, "WORTH_CONVERTING", worth)
        _, history = finish(finetune(recipe, prepared))
        losses.append((history[-1].loss, history[-1].validation_loss))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
