"""The script that an engineer would write by hand, to compare a build's CPU time and results with.

MobileNetV2 224 px, two phases (new head, then the upper blocks with batch normalisation in inference mode), Adam with
cosine decay, balanced class weights, flips and turns; then float32 and int8 TFLite files, both measured on the
validation pictures. No pruning, no map, no embedding, no checks, no report, no resuming.

Usage: python bench/plain_keras.py --data FOLDER --weights FILE [--epochs 9] [--first block_13_expand]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from sklearn.metrics import roc_auc_score, roc_curve

SIDE, BATCH = 224, 32


def load(folder: Path, split: str, positive: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 224, 224, 3) uint8 RGB and labels (n,) of a split."""
    with (folder / "manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    pictures = np.stack([cv2.resize(cv2.imread(str(folder / r["path"])), (SIDE, SIDE))[..., ::-1] for r in rows])
    return pictures, np.array([r["label"] == positive for r in rows], np.int64)


def train(options: argparse.Namespace, pictures: np.ndarray, labels: np.ndarray, validation: tuple) -> keras.Model:
    """The two phases."""
    base = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, weights=None)
    base.load_weights(str(options.weights))
    x = keras.layers.GlobalAveragePooling2D()(base(base.input, training=False))
    model = keras.Model(base.input, keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(0.2)(x)))

    def scale(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(x, tf.float32) / 127.5 - 1, y

    def turn(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.image.random_flip_left_right(tf.image.random_flip_up_down(x))
        return tf.cond(tf.random.uniform(()) < 0.5, lambda: tf.transpose(x, (1, 0, 2)), lambda: x), y

    fed = tf.data.Dataset.from_tensor_slices((pictures, labels)).shuffle(len(labels), seed=1).map(turn).map(scale)
    fed = fed.batch(BATCH).prefetch(1)
    held = tf.data.Dataset.from_tensor_slices(validation).map(scale).batch(64)
    weights = {c: len(labels) / (2 * (labels == c).sum()) for c in (0, 1)}
    base.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(fed, epochs=1, class_weight=weights, verbose=0)
    base.trainable = True
    start = [layer.name for layer in base.layers].index(options.first)
    for index, layer in enumerate(base.layers):
        layer.trainable = index >= start and not isinstance(layer, keras.layers.BatchNormalization)
    steps = options.epochs * -(-len(labels) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(fed, epochs=options.epochs, class_weight=weights, validation_data=held, verbose=0)
    return model


def export(model: keras.Model, pictures: np.ndarray, *, int8: bool) -> bytes:
    """A TFLite file; the int8 one calibrated on 128 training pictures."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        chosen = np.random.default_rng(1).permutation(len(pictures))[:128]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([pictures[i : i + 1] / np.float32(127.5) - 1] for i in chosen)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def scores(data: bytes, pictures: np.ndarray) -> np.ndarray:
    """The probability of the finding, by the interpreter."""
    network = Interpreter(model_content=data, num_threads=2)
    network.allocate_tensors()
    fed, given = network.get_input_details()[0], network.get_output_details()[0]
    found = []
    for picture in pictures:
        x = picture[np.newaxis] / np.float32(127.5) - 1
        if fed["dtype"] == np.int8:
            x = np.clip(np.round(x / fed["quantization"][0] + fed["quantization"][1]), -128, 127).astype(np.int8)
        network.set_tensor(fed["index"], x.astype(fed["dtype"]))
        network.invoke()
        found.append(float(network.get_tensor(given["index"])[0, 1]))
    return np.array(found)


def main() -> None:
    """Train, export, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--positive", default="parasite")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--first", default="block_13_expand", help="the first layer that learns")
    options = parser.parse_args()
    start = time.time()
    keras.utils.set_random_seed(1)
    pictures, labels = load(options.data, "train", options.positive)
    held, truth = load(options.data, "val", options.positive)
    model = train(options, pictures, labels, (held, truth))
    result: dict[str, float] = {}
    for name in ("float32", "int8"):
        found = scores(export(model, pictures, int8=name == "int8"), held)
        false_alarms, hits, _ = roc_curve(truth, found)
        result[f"{name} AUC"] = roc_auc_score(truth, found)
        result[f"{name} specificity at 95 %"] = float(1 - false_alarms[np.argmax(hits >= 0.95)])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**result, "cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.time() - start}))


if __name__ == "__main__":
    main()
