"""Other people's classifiers, made here by tf.lite and by hand: adopted, and held against a bare interpreter."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner
from conftest import edge, once_for_all_workers
from numpy.typing import NDArray

from edge.bundle import Bundle, read_bundle
from edge.errors import EdgeError
from edge_convert.adopt.commands import adopt
from edge_convert.keras import keras, tensorflow
from edge_convert.tflite_file import pack_model
from edge_runtime.pipeline import Screener
from edge_runtime.selftest import self_test

SIDE = 48
LABELS = ("background", "cat", "dog")
CALIBRATION = Path(__file__).parents[2] / "calibration_data/images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theirs:
    """A network as somebody else might have made it, and how its maker would feed and read it.

    options: of `edge adopt`. feed: (rows, columns, 3) uint8 to the values of the input tensor. read: raw scores to
    probabilities.
    """

    file: str
    options: tuple[str, ...]
    feed: Callable[[NDArray[np.uint8], dict[str, Any]], NDArray[Any]]
    read: Callable[[NDArray[Any], dict[str, Any]], NDArray[np.float64]]
    labels: tuple[str, ...] = LABELS


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())


def real(raw: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float64]:
    scale, zero_point = detail["quantization"]
    return (raw.astype(np.float64) - zero_point) * scale if scale else raw.astype(np.float64)


def quantized(x: NDArray[np.float64], detail: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(x / scale + zero_point), limits.min, limits.max)


TORCH_MEAN, TORCH_STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
THEIRS = {
    "float, pixels to -1..1": Theirs(
        file="float.tflite",
        options=("--input-range", "-1,1"),
        feed=lambda p, _: p / 127.5 - 1,
        read=real,
    ),
    "float, pixels to 0..1, logits": Theirs(
        file="logits.tflite",
        options=("--input-range", "0,1", "--scores", "softmax"),
        feed=lambda p, _: p / 255,
        read=lambda raw, d: softmax(real(raw, d)),
    ),
    "float, mean and deviation of each channel": Theirs(
        file="float.tflite",
        options=("--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"),
        feed=lambda p, _: (p - TORCH_MEAN) / TORCH_STD,
        read=real,
    ),
    "float, blue first, means taken off": Theirs(
        file="logits.tflite",
        options=("--mean", "103.939,116.779,123.68", "--std", "64", "--order", "bgr", "--scores", "softmax"),
        feed=lambda p, _: (p[..., ::-1] - [103.939, 116.779, 123.68]) / 64,
        read=lambda raw, d: softmax(real(raw, d)),
    ),
    "float, channels first": Theirs(
        file="nchw.tflite",
        options=("--input-range", "-1,1", "--layout", "nchw"),
        feed=lambda p, _: (p / 127.5 - 1).transpose(2, 0, 1),
        read=real,
    ),
    "one sigmoid": Theirs(
        file="sigmoid.tflite",
        options=("--input-range", "-1,1"),
        feed=lambda p, _: p / 127.5 - 1,
        read=lambda raw, d: np.array([1 - real(raw, d)[0], real(raw, d)[0]]),
        labels=("cat", "dog"),
    ),
    "one logit": Theirs(
        file="logit.tflite",
        options=("--input-range", "-1,1", "--scores", "sigmoid"),
        feed=lambda p, _: p / 127.5 - 1,
        read=lambda raw, d: np.array([1 / (1 + np.exp(v)) for v in (real(raw, d)[0], -real(raw, d)[0])]),
        labels=("cat", "dog"),
    ),
    "int8 inside, uint8 outside": Theirs(file="uint8.tflite", options=(), feed=lambda p, _: p, read=real),
    "the same, its range said": Theirs(
        file="uint8.tflite",
        options=("--input-range", "-1,1"),
        feed=lambda p, _: p,
        read=real,
    ),
    "int8": Theirs(file="int8.tflite", options=(), feed=lambda p, _: p.astype(int) - 128, read=real),
    "int8 with a mean and deviation of each channel": Theirs(
        file="int8wide.tflite",
        options=("--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"),
        feed=lambda p, d: quantized((p - TORCH_MEAN) / TORCH_STD, d),
        read=real,
    ),
    "old uint8, asymmetric, no signature": Theirs(
        file="old.tflite",
        options=(),
        feed=lambda p, _: p,
        read=real,
    ),
}


def network(seed: int, units: int, activation: str | None) -> Any:
    layers = keras().layers
    keras().utils.set_random_seed(seed)
    inner = layers.Conv2D(16, 3, 2, activation="relu")(
        layers.Conv2D(8, 3, 2, activation="relu")(picture := keras().Input((SIDE, SIDE, 3)))
    )
    flat = layers.Dense(units, kernel_initializer=keras().initializers.RandomNormal(stddev=0.05))(
        layers.Flatten()(inner)
    )
    # Random networks answer alike to every picture: the mean answer is taken off, so that the classes differ.
    raw = keras().Model(picture, flat)
    mean = raw.predict(np.stack([p / 127.5 - 1 for p in pictures()]).astype(np.float32), verbose=0).mean(axis=0)
    shifted = layers.Lambda(lambda x: (x - mean) * 3)(flat)
    out = shifted if activation is None else layers.Activation(activation)(shifted)
    return keras().Model(picture, out)


def pictures() -> list[NDArray[np.uint8]]:
    """Pictures of the input's size, so that no resizing takes part: crops of the shipped tiles, turned."""
    random = np.random.default_rng(5)
    found = []
    for path in sorted(CALIBRATION.glob("*.jpg"))[:25]:
        tile = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        for turn in range(2):
            y, x = (int(random.integers(0, size - SIDE)) for size in tile.shape[:2])
            crop = np.rot90(tile[y : y + SIDE, x : x + SIDE], turn)
            gain = random.uniform(0.5, 1.5, 3)
            found.append(np.ascontiguousarray(np.clip(crop * gain, 0, 255).astype(np.uint8)))
    return found


def marked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with two corners at the ends of the range, so that a calibration on it covers all pixels."""
    whole = picture.copy()
    whole[0, 0], whole[-1, -1] = 0, 255
    return whole


def converted(model: Any, kind: str, scaled: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> bytes:
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([scaled(p)[np.newaxis].astype(np.float32)] for p in pictures())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    data: bytes = converter.convert()
    return data


def channels_first(model: Any) -> Any:
    layers = keras().layers
    picture = keras().Input((3, SIDE, SIDE))
    return keras().Model(picture, model(layers.Permute((2, 3, 1))(picture)))


def old_style(shape: tuple[int, ...] = (SIDE, SIDE, 3), *, inputs: int = 1, end: str = "SOFTMAX") -> bytes:
    """A quantized file as TensorFlow 1 wrote it: uint8 weights and activations, asymmetric, no signature.

    One fully connected layer over the picture and a softmax, as flatbuffers by the schema: no converter writes uint8
    weights any more. inputs: how many pictures it asks for. end: its last operation.
    """
    from ai_edge_litert import schema_py_generated as schema

    random = np.random.default_rng(4)
    width = int(np.prod(shape))
    weights = random.integers(0, 256, (len(LABELS), width)).astype(np.uint8)
    seen = np.stack([p.reshape(-1)[:width] for p in pictures()]).astype(np.int64) - 128
    sums = seen @ (weights.astype(np.int64).T - 131)
    bias = (-sums.mean(axis=0)).astype(np.int32)
    input_scale, weight_scale = 1 / 128, 0.0023
    spread = float(np.abs((sums + bias) * input_scale * weight_scale).max())
    tensors = [
        ("input", [1, *shape], schema.TensorType.UINT8, input_scale, 128, None),
        ("weights", list(weights.shape), schema.TensorType.UINT8, weight_scale, 131, weights),
        ("bias", [len(LABELS)], schema.TensorType.INT32, input_scale * weight_scale, 0, bias),
        ("logits", [1, len(LABELS)], schema.TensorType.UINT8, 2 * spread / 255, 128, None),
        ("Softmax", [1, len(LABELS)], schema.TensorType.UINT8, 1 / 256, 0, None),
        *[("another", [1, *shape], schema.TensorType.UINT8, input_scale, 128, None)] * (inputs - 1),
    ]
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, graph.tensors = 3, [graph], [schema.BufferT()], []
    for name, shape, kind, scale, zero_point, values in tensors:
        tensor, tensor.quantization, buffer = schema.TensorT(), schema.QuantizationParametersT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.type = name, shape, kind
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        if values is not None:
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs, graph.operators, model.operatorCodes = [0, *range(5, 4 + inputs)], [4], [], []
    dense, soft = schema.FullyConnectedOptionsT(), schema.SoftmaxOptionsT()
    soft.beta = 1.0
    last = (schema.BuiltinOptions.SoftmaxOptions, soft) if end == "SOFTMAX" else (0, None)
    steps = [
        (schema.BuiltinOperator.FULLY_CONNECTED, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, dense),
        (getattr(schema.BuiltinOperator, end), [3], [4], *last),
    ]
    for place, (number, taken, given, kind, options) in enumerate(steps):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        # The field of one byte, as before 2020.
        code.deprecatedBuiltinCode, code.version = number, 1
        operator.opcodeIndex, operator.inputs, operator.outputs = place, taken, given
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    return pack_model(model)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with the networks of THEIRS, and files of labels."""
    root = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = root / "theirs"
    with once_for_all_workers(folder) as todo:
        if todo:
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    to_one = lambda p: p / 127.5 - 1  # noqa: E731
    classifier = network(3, 3, "softmax")
    made = {
        "float": converted(classifier, "float", to_one),
        "logits": converted(network(3, 3, None), "float", to_one),
        "nchw": converted(channels_first(classifier), "float", to_one),
        "sigmoid": converted(network(6, 1, "sigmoid"), "float", to_one),
        "logit": converted(network(6, 1, None), "float", to_one),
        "uint8": converted(classifier, "uint8", lambda p: to_one(marked(p))),
        "int8": converted(classifier, "int8", lambda p: to_one(marked(p))),
        "int8wide": converted(classifier, "int8", lambda p: (p - TORCH_MEAN) / TORCH_STD),
        "many": old_style(end="LOGISTIC"),
        "two": old_style(inputs=2),
        "flat": old_style((8,)),
        "oblong": old_style((SIDE, 32, 3)),
        "old": old_style(),
    }
    for name, data in made.items():
        (folder / f"{name}.tflite").write_bytes(data)
    (folder / "twice.txt").write_text("cat\ncat\ndog\n")
    (folder / "empty.txt").write_text("background\n\ndog\n")
    for count, labels in ((3, LABELS), (2, LABELS[1:])):
        (folder / f"labels{count}.txt").write_text("\n".join(labels) + "\n")


def run(command: click.Command, *words: str | Path) -> str:
    """What a command prints on stdout, in this process; its EdgeError is raised."""
    result = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def adopted(files: Path, theirs: Theirs, out: Path, *more: str) -> Bundle:
    words = [files / theirs.file, "--labels", files / f"labels{len(theirs.labels)}.txt", "--positive", "dog"]
    run(adopt, *words, "--out", out, *theirs.options, *more)
    return read_bundle(out)


@pytest.mark.parametrize("theirs", THEIRS.values(), ids=THEIRS)
def test_an_adopted_network_says_what_a_bare_interpreter_says(theirs: Theirs, files: Path, tmp_path: Path) -> None:
    screener = Screener(adopted(files, theirs, tmp_path / "x.edge"))
    bare = Interpreter(str(files / theirs.file))
    bare.allocate_tensors()
    taken, given = bare.get_input_details()[0], bare.get_output_details()[0]
    seen = set()
    for picture in pictures():
        bare.set_tensor(taken["index"], theirs.feed(picture, taken)[np.newaxis].astype(taken["dtype"]))
        bare.invoke()
        expected = theirs.read(bare.get_tensor(given["index"])[0], given)
        png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        screening = screener.screen(png, name="")
        assert screening.verdict.label == theirs.labels[int(np.argmax(expected))]
        assert screening.outputs == pytest.approx(expected, abs=2e-6)
        seen.add(screening.verdict.label)
    assert len(seen) > 1, "a network that says one thing to every picture shows nothing"


REFUSED = {
    "no labels": ("float", ["--input-range", "0,1"], "does not say what its scores are called", "--labels FILE"),
    "too few labels": ("float", ["--labels", "labels2.txt"], "2 labels, and the network gives 3 scores", "background"),
    "a label twice": ("float", ["--labels", "twice.txt"], "'cat' is there twice", "name of its own"),
    "an empty line": ("float", ["--labels", "empty.txt"], "a label is empty", "name of its own"),
    "labels that are not text": ("float", ["--labels", "float.tflite"], "is not text in UTF-8", "UTF-8"),
    "a positive label that is none": ("float", ["--labels", "labels3.txt", "--positive", "bird"], "'bird'", "name one"),
    "no scaling": ("float", ["--labels", "labels3.txt"], "how pixels become the numbers", "--input-range 0,1"),
    "integers of no usual range": (
        "int8wide",
        ["--labels", "labels3.txt"],
        "nothing says of what pixels",
        "--input-range pixels",
    ),
    "shares for pixels": (
        "float",
        ["--labels", "labels3.txt", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"],
        "look like shares of 1",
        "--mean 123.675,116.28,103.53 --std 58.395,57.12,57.375",
    ),
    "logits": ("logits", ["--labels", "labels3.txt", "--input-range", "0,1"], "may be no probabilities", "softmax"),
    "logits called probabilities": (
        "logits",
        ["--labels", "labels3.txt", "--input-range", "0,1", "--scores", "probabilities"],
        "which is no probability",
        "--scores softmax",
    ),
    "a softmax on a softmax": (
        "float",
        ["--labels", "labels3.txt", "--scores", "softmax"],
        "already",
        "leave --scores",
    ),
    "a softmax of one score": ("logit", ["--labels", "labels2.txt", "--scores", "softmax"], "always 1", "sigmoid"),
    "channels first, unsaid": ("nchw", ["--labels", "labels3.txt"], "as nhwc has 48 channels", "--layout nchw"),
    "channels last, said to be first": (
        "float",
        ["--labels", "labels3.txt", "--layout", "nchw"],
        "48",
        "--layout nhwc",
    ),
    "an output that is not there": (
        "float",
        ["--labels", "labels3.txt", "--output", "7"],
        "no one output '7'",
        "NUMBER",
    ),
    "no model": ("labels3.txt", ["--labels", "labels3.txt"], "refuses this model", ".tflite"),
    "two inputs": ("two", ["--labels", "labels3.txt"], "takes 2 inputs", "a picture alone"),
    "an input of rank 2": ("flat", ["--labels", "labels3.txt"], "takes the shape [1, 8]", "batch of 1"),
    "an oblong input": ("oblong", ["--labels", "labels3.txt"], "takes 32 x 48 pixels", "square"),
    "several labels judged one by one": (
        "many",
        ["--labels", "labels3.txt", "--positive", "cat"],
        "judges each label by itself",
        "name one",
    ),
}


@pytest.mark.parametrize(("name", "words", "fact", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adopted_is_one_sentence(
    name: str, words: list[str], fact: str, remedy: str, files: Path, tmp_path: Path
) -> None:
    path = files / name if name.endswith(".txt") else files / f"{name}.tflite"
    here = [str(files / word) if word.endswith((".txt", ".tflite")) else word for word in words]
    with pytest.raises(EdgeError) as caught:
        run(adopt, path, "--positive", "dog", "--out", tmp_path / "x.edge", *here)
    assert fact in caught.value.message
    assert remedy in caught.value.remedy
    assert not (tmp_path / "x.edge").exists()


def test_an_adopted_bundle_screens_and_tests_itself_by_the_command(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "pets.edge"
    words = ("--labels", files / "labels3.txt", "--positive", "dog", "--threshold", "0.25", "--out", out)
    done = edge("adopt", files / "old.tflite", *words)
    assert done.returncode == 0, done.stderr
    assert read_bundle(out).manifest.preprocessing.jpeg == "whole", "as it was trained, as far as anybody knows"
    assert "0.2500" in done.stdout
    assert "not shown" in done.stdout
    shown = edge("show", out)
    assert "threshold given, fitted to nothing" in shown.stdout
    assert "probabilities calibrated: none" in shown.stdout
    tested = edge("show", out, "--self-test")
    assert tested.returncode == 0, tested.stdout
    assert tested.stdout.count("ok  ") == 8
    screened = edge("screen", out, CALIBRATION, "--json")
    lines = [json.loads(line) for line in screened.stdout.splitlines()]
    assert {line["model"] for line in lines} == {"adopted"}
    assert {line["decision"] for line in lines} == {"refer" if x["probability"] >= 0.25 else "clear" for x in lines}
    refused = edge("screen", out, CALIBRATION, "--overlay", tmp_path / "maps")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (1, "error: this bundle's model gives no heat map")


def test_adopting_loads_no_tensorflow(files: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from edge.cli import edge, run; status = run(lambda **k: edge.main(sys.argv[1:], **k));"
        "heavy = {'tensorflow', 'tf_keras', 'sklearn', 'matplotlib'} & set(sys.modules); assert not heavy, heavy;"
        "sys.exit(status)"
    )
    words = ["adopt", files / "uint8.tflite", "--labels", files / "labels3.txt", "--positive", "dog"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words), "--out", str(tmp_path / "x.edge")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_adopting_twice_gives_the_same_bytes(files: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        adopted(files, THEIRS["int8"], tmp_path / f"{name}.edge", "--pictures", str(CALIBRATION))
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()
    bundle = read_bundle(tmp_path / "a.edge")
    results = self_test(bundle)
    assert len([r for r in results if r.differences]) == 8
    assert all(result.passed for result in results)


def test_a_threshold_is_fitted_on_labelled_pictures(files: Path, tmp_path: Path) -> None:
    # Labelled by the network itself: a cut between the two exists, and the fit must find it.
    screener = Screener(adopted(files, THEIRS["float, pixels to -1..1"], tmp_path / "x.edge"))
    data = tmp_path / "data"
    scores = []
    for place, picture in enumerate(pictures()):
        png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        score = float(screener.screen(png, name="").outputs[2])
        label = "dog" if score >= 0.5 else "cat"
        (data / label).mkdir(parents=True, exist_ok=True)
        (data / label / f"{place}.png").write_bytes(png)
        scores.append(score)
    fitted = adopted(files, THEIRS["float, pixels to -1..1"], tmp_path / "y.edge", "--data", str(data))
    decision = fitted.manifest.decision
    positives = sum(score >= 0.5 for score in scores)
    assert decision.rule == "lower-bound"
    assert decision.fitted_on == f"{positives} positive of {len(scores)} pictures of data"
    assert all((score >= decision.threshold) for score in scores if score >= 0.5)
    assert decision.sensitivity_bound > 0.5
    (data / "dog").rename(data / "background")
    with pytest.raises(EdgeError, match="no readable picture with the finding"):
        adopted(files, THEIRS["old uint8, asymmetric, no signature"], tmp_path / "z.edge", "--data", str(data))
