"""Training: what it minimises, what it keeps, and that it can be killed, shared out and repeated."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TinyBuild

from edge.errors import EdgeError
from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.builder import Fold, Source, in_fold
from edge_convert.calibrate import Outputs
from edge_convert.dropout import seeded_dropout
from edge_convert.keras import keras, tensorflow
from edge_convert.prepare import Prepared, load_prepared
from edge_convert.progress import finish
from edge_convert.prune.magnitude import even_out_channels, share_values
from edge_convert.recipe import DecisionRecipe, DistillRecipe, Recipe, TrainRecipe, read_recipe
from edge_convert.repeat import Spread, render, summary
from edge_convert.train import checkpoint, halves
from edge_convert.train.augment import AUGMENTATIONS, plan_for
from edge_convert.train.checkpoint import Checkpoint
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch, sensitivity_at
from edge_convert.train.finetune import SCRATCH_MOMENTUM, finetune, remember_less, teachers_recipe
from edge_convert.train.logs import Logs
from edge_convert.train.loss import distillation_loss, picture_loss
from edge_convert.train.mixing import mix
from edge_convert.train.optimizer import block_rates, make_optimizer
from edge_convert.train.trainer import Keeping, Teacher
from edge_convert.verify import _calibratable, load_verification

EVERYTHING = (
    "train.epochs=2",
    "train.loss=focal",
    "train.class_weights=effective",
    "train.mixup=0.3",
    "train.cutmix=1.0",
    "train.ema=0.9",
    "train.rate_decay=0.5",
)


def prepared_of(build: TinyBuild) -> Prepared:
    return load_prepared(build.run / "data")


def recipe_of(build: TinyBuild, *changes: str) -> Recipe:
    return read_recipe(build.recipe, changes=changes)


def test_focal_loss_is_cross_entropy_times_how_wrong_it_is() -> None:
    tf = tensorflow()
    # softmax of (0, ln 3) is (1/4, 3/4)
    logits, wanted = tf.constant([[0.0, math.log(3)]]), tf.constant([[0.0, 1.0]])
    plain = picture_loss(TrainRecipe(loss="cross_entropy"))(wanted, logits)
    focal = picture_loss(TrainRecipe(loss="focal", focal_gamma=2.0))(wanted, logits)
    assert float(plain[0]) == pytest.approx(-math.log(0.75), abs=1e-6)
    assert float(focal[0]) == pytest.approx(-(0.25**2) * math.log(0.75), abs=1e-6)


def test_distillation_is_the_divergence_of_the_softened_probabilities() -> None:
    tf = tensorflow()
    loss = distillation_loss(DistillRecipe(temperature=2.0))
    # At T = 2 the teacher's (0, 2 ln 3) says (1/4, 3/4) and the pupil's (0, 0) says (1/2, 1/2).
    taught, own = tf.constant([[0.0, 2 * math.log(3)]]), tf.constant([[0.0, 0.0]])
    expected = 4 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    assert float(loss(taught, own)[0]) == pytest.approx(expected, abs=1e-6)
    assert float(loss(taught, taught)[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [1.0, 1.0]),
        # 30 and 10 of 40: 40 / (2 * 30) and 40 / (2 * 10)
        ("inverse", [2 / 3, 2.0]),
        # Effective numbers with beta 0.5: 2 (1 - 0.5^30) and 2 (1 - 0.5^10), nearly alike.
        ("effective", [0.999756, 1.000732]),
    ],
)
def test_class_weights_have_mean_one_over_the_training_pictures(kind: Any, expected: list[float]) -> None:
    class TwoClasses(Prepared):
        def rows(self, split: str) -> Any:
            return np.arange(40)

    prepared = TwoClasses(
        name="",
        synthetic=True,
        has_groups=False,
        fingerprint="",
        classes=("a", "b"),
        pictures=np.empty((40, 1, 1, 3), np.uint8),
        samples=(),
        sizes=(),
        targets=np.repeat([0, 1], [30, 10]),
        unreadable=(),
    )
    weights = prepared.class_weights(TrainRecipe(class_weights=kind, effective_beta=0.5))
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert (weights @ [30, 10]) / 40 == pytest.approx(1, abs=1e-6)


def test_mixing_is_off_unless_asked_for() -> None:
    pictures, targets = np.zeros((4, 8, 8, 3), np.uint8), np.eye(4, dtype=np.float32)
    mixed, wanted = mix(TrainRecipe(), pictures, targets, np.random.default_rng(1))
    assert mixed is pictures
    assert wanted is targets


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixed_picture_has_the_labels_in_the_shares_of_its_pixels(kind: str) -> None:
    """Two pictures, all black and all white: the mean brightness is the white one's share."""
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    pictures[1] = 255
    targets = np.eye(2, dtype=np.float32)
    seen = set()
    for seed in range(40):
        mixed, wanted = mix(TrainRecipe(**{kind: 1.0}), pictures, targets, np.random.default_rng(seed))
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)) / 255, wanted[:, 1], atol=0.005)
        np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-6)
        seen.add(round(float(wanted[0, 1]), 3))
    assert len(seen) > 10


def test_radiographs_are_mirrored_only_when_asked() -> None:
    radiography = TrainRecipe(augmentation="radiography")
    assert plan_for(radiography) == AUGMENTATIONS["radiography"]
    asked = plan_for(replace(radiography, flips="always"))
    assert asked is not None
    assert asked.flips
    against = plan_for(TrainRecipe(augmentation="photograph", flips="never"))
    assert against is not None
    assert not against.flips


def test_sensitivity_is_measured_where_the_specificity_is_fixed() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.25, 0.95, 0.8, 0.05])
    positive = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
    # Clearing 3 of 4 negatives puts the threshold at 0.3: 0.95 and 0.8 of the four positives are above it.
    assert sensitivity_at(scores, positive, 0.75) == 0.5
    assert sensitivity_at(scores, positive, 1.0) == 0.25


def epoch(kept: float, precision: float = 0.5, loss: float | None = 1.0) -> Epoch:
    return Epoch(
        phase="fine-tune",
        epoch=1,
        loss=loss,
        validation_auc=0.5,
        validation_average_precision=precision,
        validation_loss=1.0,
        validation_kept=kept,
    )


def test_weights_are_kept_by_the_measure_then_precision_then_fit() -> None:
    assert epoch(0.8).better_than(epoch(0.7, precision=0.9))
    assert epoch(0.8, precision=0.6).better_than(epoch(0.8, precision=0.5))
    assert epoch(0.8, loss=0.9).better_than(epoch(0.8, loss=1.0))
    assert not epoch(0.8, loss=1.0).better_than(epoch(0.8, loss=1.0))
    assert epoch(0.8).better_than(epoch(0.8, loss=None)), "fine-tuned weights win a tie with the last layer's"


def test_each_block_learns_slower_than_the_one_behind_it() -> None:
    backbone = replace(find_backbone("mobilenetv2"), block_starts=("one", "two"))
    layers = keras().layers
    picture = layers.Input((4,))
    x = layers.Dense(3, name="one", use_bias=False)(picture)
    x = layers.Dense(3, name="two", use_bias=False)(x)
    model = keras().Model(picture, layers.Dense(2, name="logits", use_bias=False)(x))
    assert [rate for _, rate in block_rates(model, backbone, 0.5)] == [0.5, 1.0, 1.0]
    recipe = TrainRecipe(rate_decay=0.5)
    optimizer = make_optimizer(recipe, model, backbone, learning_rate=1e-3, steps=10, average=False)
    before = model.get_weights()
    ones = [tensorflow().ones_like(v) for v in model.trainable_variables]
    optimizer.apply_gradients(zip(ones, model.trainable_variables, strict=True))
    steps = [float(np.abs(b - a).mean()) for b, a in zip(before, model.get_weights(), strict=True)]
    # Adam's first step has the size of the rate, whatever the gradient's.
    assert steps[0] == pytest.approx(steps[2] / 2, rel=1e-2)
    assert steps[1] == pytest.approx(steps[2], rel=1e-2)


def test_channels_are_evened_out_before_pruning_without_changing_what_the_network_computes() -> None:
    layers = keras().layers
    picture = layers.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(5, 3, use_bias=False)(picture))
    model = keras().Model(picture, layers.ReLU()(x))
    random = np.random.default_rng(1)
    # Channels of very different scale, as folded batch normalisation leaves them.
    kernel = random.normal(size=(3, 3, 3, 5)) * [0.01, 0.1, 1, 10, 100]
    model.layers[1].set_weights([kernel])
    model.layers[2].set_weights([random.uniform(0.5, 2, 5) for _ in range(4)])
    pictures = random.normal(size=(2, 8, 8, 3)).astype(np.float32)
    before = model(pictures, training=False).numpy()
    even_out_channels(model)
    np.testing.assert_allclose(model(pictures, training=False).numpy(), before, rtol=1e-4, atol=1e-4)
    norms = np.linalg.norm(model.layers[1].get_weights()[0].reshape(-1, 5), axis=0)
    np.testing.assert_allclose(norms, np.linalg.norm(kernel[..., 2]), rtol=0.5)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)


@pytest.mark.parametrize(("bits", "values"), [(2, 3), (4, 15), (8, 255)])
def test_kernels_share_a_few_values_a_channel_and_keep_zeros_and_the_largest(bits: int, values: int) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.Conv2D(3, 5, name="shared", input_shape=(9, 9, 40)), layers.Dense(4)])
    random = np.random.default_rng(4)
    kernel = (random.normal(size=(5, 5, 40, 3)) * [0.01, 1, 100]).astype(np.float32)
    kernel[random.random(kernel.shape) < 0.5] = 0
    kernel[..., 1] = 0
    bias = np.array([1, 2, 3], np.float32)
    model.get_layer("shared").set_weights([kernel, bias])
    dense = model.layers[-1].get_weights()[0]
    share_values(model, ["shared"], bits)
    rounded, its_bias = model.get_layer("shared").get_weights()
    np.testing.assert_array_equal(its_bias, bias)
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0], dense)
    assert (rounded[kernel == 0] == 0).all()
    assert not rounded[..., 1].any(), "a channel of zeros stays one"
    for channel in (0, 2):
        own, before = rounded[..., channel], kernel[..., channel]
        assert len(np.unique(own)) <= values
        step = np.abs(before).max() / (values // 2)
        assert np.abs(own).max() == pytest.approx(np.abs(before).max(), rel=1e-6)
        assert np.abs(own - before).max() <= step / 2 * 1.0001
        np.testing.assert_allclose(own / step, np.round(own / step), atol=1e-4)


def trained(build: TinyBuild, recipe: Recipe, path: Path | None = None, *, stop_after: int = 0) -> Any:
    """Train; give weights and history, or None where it was stopped after so many steps."""
    keeping = Keeping(checkpoint=Checkpoint(path)) if path else None
    steps = finetune(recipe, prepared_of(build), keeping=keeping)
    taken = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            model, history = end.value
            return model.get_weights(), history
        taken += 1
        if stop_after and taken >= stop_after:
            steps.close()
            return None


def test_training_stopped_between_any_two_steps_ends_with_the_same_weights(
    tiny_build: TinyBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything on that holds a state: optimizer, average, dropout, mixing, best weights."""
    monkeypatch.setattr(halves, "WORTH_CONVERTING", 1)
    monkeypatch.setattr(checkpoint, "SHORTEST_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE_OF_TIME", 1e9)
    recipe = recipe_of(tiny_build, *EVERYTHING)
    weights, history = trained(tiny_build, recipe)
    path = tmp_path / "training.npz"
    assert trained(tiny_build, recipe, path, stop_after=8) is None
    assert trained(tiny_build, recipe, path, stop_after=6) is None
    assert path.exists()
    again, its_history = trained(tiny_build, recipe, path)
    assert its_history == history
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_no_network_draws_dropout_from_a_state_that_no_checkpoint_holds() -> None:
    for backbone in BACKBONES.values():
        model = backbone.build(96, 1.0, "none")
        assert not [layer.name for layer in model.layers if isinstance(layer, keras().layers.Dropout)], backbone.name


def test_dropped_blocks_are_dropped_whole_and_alike_for_the_same_call() -> None:
    ones = tensorflow().ones((64, 3, 3, 4))
    layer = seeded_dropout()(0.25, 7, (None, 1, 1, 1))
    first, second = layer(ones, training=True).numpy(), layer(ones, training=True).numpy()
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert all(len(np.unique(picture)) == 1 for picture in first), "a picture's block is dropped as a whole"
    assert (first != second).any()
    again = seeded_dropout()(0.25, 7, (None, 1, 1, 1))
    np.testing.assert_array_equal(again(ones, training=True).numpy(), first)
    np.testing.assert_array_equal(layer(ones, training=False).numpy(), ones.numpy())


def test_a_checkpoint_that_the_disk_lost_part_of_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    assert Checkpoint(path).load() is None
    path.write_bytes(b"PK\x03\x04 half of it")
    assert Checkpoint(path).load() is None


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_float32_weights(tiny_build: TinyBuild, precision: str) -> None:
    weights, history = trained(tiny_build, recipe_of(tiny_build, f"train.precision={precision}"))
    assert {array.dtype for array in weights} == {np.dtype(np.float32), np.dtype(np.int32)}
    assert all(np.isfinite(array).all() for array in weights)
    assert history[-1].loss is not None
    assert math.isfinite(history[-1].loss)
    assert keras().mixed_precision.global_policy().name == "float32"


TRAIN_APART = """
import sys
from pathlib import Path
import numpy as np
from edge_convert.dropout import seeded_dropout
from edge_convert.keras import tensorflow
from edge_convert.prepare import load_prepared
from edge_convert.progress import finish
from edge_convert.recipe import read_recipe
from edge_convert.train.finetune import finetune

recipe_file, data, strategy, out = sys.argv[1:]
if strategy == "mirrored":
    config = tensorflow().config
    half = config.LogicalDeviceConfiguration()
    config.set_logical_device_configuration(config.list_physical_devices("CPU")[0], [half, half])
changes = ("network.dropout=0", "train.epochs=1", "train.keep_best_by=loss", f"train.strategy={strategy}")
model, history = finish(finetune(read_recipe(Path(recipe_file), changes=changes), load_prepared(Path(data))))
assert history[-1].phase == "fine-tune"
np.savez(out, *model.get_weights(), loss=history[-1].loss)
"""


def train_apart(build: TinyBuild, strategy: str, out: Path, config: str | None = None) -> subprocess.Popen[str]:
    """Train in a process of its own: strategies must be set up before TensorFlow has run anything."""
    words = [sys.executable, "-c", TRAIN_APART, str(build.recipe), str(build.run / "data"), strategy, str(out)]
    environment = os.environ | ({"TF_CONFIG": config} if config else {})
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_devices_and_two_machines_train_to_what_one_device_does(tiny_build: TinyBuild, tmp_path: Path) -> None:
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(2)]
    workers = [
        train_apart(tiny_build, "multi-worker", tmp_path / f"worker{i}.npz", config) for i, config in enumerate(configs)
    ]
    alone = [train_apart(tiny_build, kind, tmp_path / f"{kind}.npz") for kind in ("none", "mirrored")]
    for process in (*workers, *alone):
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors[-2000:]
    with np.load(tmp_path / "none.npz") as one:
        for name in ("mirrored", "worker0", "worker1"):
            with np.load(tmp_path / f"{name}.npz") as several:
                assert several["loss"] == pytest.approx(one["loss"], rel=1e-4)
                for key in one.files:
                    # Sums over the batch are taken in another order; Adam's first steps enlarge that.
                    np.testing.assert_allclose(several[key], one[key], atol=2e-3, err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("strategy", "message"), [("mirrored", "has one device to train on"), ("multi-worker", "TF_CONFIG does not name")]
)
def test_a_strategy_that_this_machine_cannot_have_is_a_sentence(
    strategy: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(EdgeError, match=message):
        devices(strategy)


def test_a_network_learns_its_teachers_soft_labels(tiny_build: TinyBuild) -> None:
    """Taught by a teacher that calls everything a parasite, and by nothing else, the network does so too."""
    recipe = recipe_of(tiny_build, "teacher=efficientnet-lite0", "distill.share=1.0", "distill.weights=package")
    recipe = replace(recipe, train=replace(recipe.train, epochs=2, learning_rate=3e-3, keep_best_by="loss"))
    prepared = prepared_of(tiny_build)
    its = teachers_recipe(recipe)
    assert (its.network.backbone, its.network.weights, its.teacher) == ("efficientnet-lite0", "package", "none")

    class Certain:
        def __call__(self, pictures: Any, training: bool) -> Any:
            return tensorflow().tile([[0.0, 4.0]], [tensorflow().shape(pictures)[0], 1])

    steps = finetune(recipe, prepared, teacher=Teacher(model=Certain(), backbone="mobilenetv2"))
    _, history = finish(steps)
    assert history[-1].loss is not None
    assert history[1].loss is not None
    assert history[-1].loss < history[1].loss
    # Against the true labels it gets worse: it believes its teacher.
    assert history[-1].validation_loss > history[0].validation_loss


def test_tensorboards_logs_hold_every_epochs_measures(tmp_path: Path) -> None:
    tf = tensorflow()
    logs = Logs(tmp_path)
    logs.write(epoch(0.5), learning_rate=1e-3)
    logs.write(replace(epoch(0.5), epoch=2), learning_rate=5e-4)
    (file,) = (tmp_path / "fine-tune").iterdir()
    events = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset([str(file)])]
    rates = {e.step: v.simple_value for e in events for v in e.summary.value if v.tag == "learning_rate"}
    assert rates == {1: pytest.approx(1e-3), 2: pytest.approx(5e-4)}


def test_a_fold_is_measured_on_by_a_network_that_never_saw_its_groups(tiny_build: TinyBuild) -> None:
    from edge.dataset import read_dataset

    prepared = prepared_of(tiny_build)
    dataset = read_dataset(tiny_build.data)
    source = Source(dataset=dataset, identity=dataset.identity(), leaks="refuse", seed=1)
    tested = {prepared.samples[row].name for row in prepared.rows("test")}
    measured: list[str] = []
    for number in (1, 2, 3):
        fold = in_fold(prepared, source, Fold(number=number, of=3))
        groups = [{fold.samples[r].group for r in fold.rows(split)} for split in ("train", "val", "test")]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups)), "no group is in two splits"
        names = {fold.samples[r].name for r in fold.rows("test")}
        assert not names & tested
        measured += names
    assert sorted(measured) == sorted({s.name for s in prepared.samples} - tested)


def test_the_spread_of_several_runs_is_the_sample_deviation_of_each_measure(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    runs = []
    for name, area in (("seed 1", 0.90), ("seed 2", 0.94), ("seed 3", 0.98)):
        evaluation = verification.evaluations["val/int8"]
        changed = replace(evaluation, auc=replace(evaluation.auc, value=area))
        evaluations = {**verification.evaluations, "val/int8": changed}
        runs.append((name, replace(verification, evaluations=evaluations)))
    repeats = summary("seeds", runs, of="key", split="val")
    assert repeats.spread["AUC"] == Spread(
        mean=pytest.approx(0.94), deviation=pytest.approx(0.04), lowest=0.90, highest=0.98
    )
    table = render(repeats)
    assert "seed 2" in table
    assert "0.0400" in table
    assert summary("folds", runs, of="key", split="val").pooled_auc is not None


def test_a_network_that_ranks_findings_below_the_rest_misses_a_gate_instead_of_being_turned_round() -> None:
    truth = np.repeat([0, 1], 40)
    scores = np.where(truth == 1, 0.2, 0.8) + np.linspace(0, 0.1, 80)
    outputs = Outputs(
        outputs=np.stack([1 - scores, scores], axis=1),
        targets=truth,
        groups=tuple(f"patient {i}" for i in range(80)),
        positive=(1,),
    )
    decision, gates = _calibratable(DecisionRecipe(calibration="platt"), outputs)
    assert decision.calibration == "none"
    (gate,) = gates
    assert not gate.passed
    assert "slope" in gate.note
    rising = replace(outputs, outputs=outputs.outputs[:, ::-1])
    assert _calibratable(DecisionRecipe(calibration="platt"), rising) == (DecisionRecipe(calibration="platt"), ())


def test_statistics_of_a_network_from_scratch_follow_within_tens_of_steps() -> None:
    model = find_backbone("mobilenetv3-small").build(96, 1.0, "none")
    remember_less(model)
    found = {x.momentum for x in model.layers if isinstance(x, keras().layers.BatchNormalization)}
    assert found == {SCRATCH_MOMENTUM}
