"""From a trained classifier to TFLite files: float32 for reference and the GPU, full-integer int8 for the device.

Both have one signature with named outputs, so that class, map and embedding come from one pass. A network with a dense
head has no map. Both carry standard TFLite metadata, so that other programs can feed them and name the classes.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import __version__
from edge.bundle import ModelFile, Role
from edge.dataset import read_dataset
from edge.errors import EdgeError
from edge.native_stderr import without_chatter
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import EMBEDDING, LOGITS, feature_maps, scaled
from edge_convert.prepare import Prepared
from edge_convert.recipe import Recipe
from edge_convert.tflite_metadata import Described, with_metadata
from edge_runtime.interpreter import find_interpreter

INPUT = "picture"
OUTPUTS: dict[Role, str] = {
    "probabilities": "The probability of each label, not calibrated: the bundle holds calibration and threshold.",
    "class_activation": "A map a label: its evidence by place, in logits.",
    "embedding": "The pooled features.",
}
MODEL_FILES = {"int8": "model.int8.tflite", "float32": "model.float32.tflite"}


def model_entry(recipe: Recipe, variant: str) -> ModelFile:
    """How the runtime talks to an exported file."""
    backbone = find_backbone(recipe.network.backbone)
    return ModelFile(
        file=MODEL_FILES[variant],
        input_dtype="uint8" if variant == "int8" else "float32",
        input_scale=backbone.input_scale,
        input_zero_point=backbone.input_zero_point,
        outputs={role: role for role in roles(recipe)},
    )


def roles(recipe: Recipe) -> tuple[Role, ...]:
    """What an exported file gives."""
    if recipe.network.head == "dense":
        return "probabilities", "embedding"
    return "probabilities", "class_activation", "embedding"


def choose_calibration(recipe: Recipe, prepared: Prepared) -> NDArray[np.int64]:
    """Rows of training pictures that set the quantization ranges: every class alike, drawn by the recipe's seed.

    They are of the training split, so no evaluated picture has had a say in its own quantization.
    """
    random = np.random.default_rng(recipe.seed)
    train = prepared.rows("train")
    share = -(-recipe.quantize.calibration_pictures // len(prepared.classes))
    chosen = []
    for index in range(len(prepared.classes)):
        rows = train[prepared.targets[train] == index]
        chosen.append(random.permutation(rows)[:share])
    return np.sort(np.concatenate(chosen)[: recipe.quantize.calibration_pictures])


def calibration_source(recipe: Recipe) -> str:
    """What the calibration pictures are, for the stage's key: `train`, or the fingerprint of a folder."""
    source = recipe.quantize.calibration
    return source if source == "train" else read_dataset(Path(source)).fingerprint()


def calibration_pictures(recipe: Recipe, prepared: Prepared) -> tuple[list[str], NDArray[np.uint8]]:
    """Names and inputs of the pictures that set the ranges: of the training split, or of the folder the recipe names.

    Returns the names and (n, side, side, channels) uint8. Raises PictureError for one that cannot be read.
    """
    if recipe.quantize.calibration == "train":
        rows = choose_calibration(recipe, prepared)
        return [prepared.samples[row].name for row in rows], prepared.pictures[rows]
    samples = read_dataset(Path(recipe.quantize.calibration)).samples[: recipe.quantize.calibration_pictures]
    steps = recipe.preprocessing
    inputs = [steps.to_input(steps.decode(sample.path.read_bytes())) for sample in samples]
    return [sample.name for sample in samples], np.stack(inputs)


def export_float(recipe: Recipe, model: Any) -> bytes:
    """The float32 TFLite file."""
    return with_metadata(_convert(recipe, model, calibration=None), description(recipe))


def export_int8(recipe: Recipe, model: Any, pictures: NDArray[np.uint8]) -> bytes:
    """The int8 TFLite file. pictures: (n, side, side, channels) uint8, the calibration set. Raises EdgeError.

    It takes uint8 pixels as they are: the scaling lives in the input's quantization parameters, checked here.
    """
    data = _convert(recipe, model, calibration=pictures)
    check_integer_only(recipe, data)
    return with_metadata(data, description(recipe))


def description(recipe: Recipe) -> Described:
    """What an exported file says of itself."""
    backbone = find_backbone(recipe.network.backbone)
    return Described(
        name=recipe.name,
        description=f"Screens a picture for: {', '.join(recipe.positive)}. Not a diagnosis.",
        version=__version__,
        mean=float(backbone.input_zero_point),
        std=1 / backbone.input_scale,
        side_px=recipe.network.side_px,
        channels=recipe.preprocessing.channels,
        labels=recipe.classes,
        outputs={role: OUTPUTS[role] for role in roles(recipe)},
    )


def check_integer_only(recipe: Recipe, data: bytes) -> None:
    """Refuse an int8 file with a float tensor left in it, or with an input scaled otherwise than in training."""
    backbone = find_backbone(recipe.network.backbone)
    _, interpreter_class = find_interpreter()
    with without_chatter():
        interpreter = interpreter_class(model_content=data)
    floats = [t["name"] for t in interpreter.get_tensor_details() if t["dtype"] in (np.float32, np.float16)]
    if floats:
        raise EdgeError(
            f"{len(floats)} tensors stayed float in the int8 file, for example {floats[0]}",
            remedy="this is a fault of the converter with this backbone; use another one",
        )
    entry = interpreter.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    wanted = (backbone.input_scale, backbone.input_zero_point)
    if entry["dtype"] != np.uint8 or not np.isclose(scale, wanted[0], rtol=1e-5) or zero_point != wanted[1]:
        raise EdgeError(
            f"the int8 file reads pixels as (q - {zero_point}) * {scale:.6g}, "
            f"the network was trained on (q - {wanted[1]}) * {wanted[0]:.6g}",
            remedy="this is a fault of the converter with this backbone; use another one",
        )


def outputs_of(model: Any) -> Callable[[Any], dict[str, Any]]:
    """The network as a function from one scaled picture (1, side, side, channels) to its outputs by role."""
    tf = tensorflow()
    kernel, bias = model.get_layer(LOGITS).get_weights()
    if not isinstance(model.get_layer(EMBEDDING), keras().layers.GlobalAveragePooling2D):
        return _without_map(model, kernel, bias)
    trunk = keras().Model(model.input, [feature_maps(model), model.get_layer(EMBEDDING).output])

    def screen(picture: Any) -> dict[str, Any]:
        features, embedding = trunk(picture, training=False)
        # The dense layer at every place instead of on their mean: the mean of a class's map is its logit.
        maps = tf.nn.bias_add(tf.nn.conv2d(features, kernel[np.newaxis, np.newaxis], 1, "VALID"), bias)
        logits = tf.nn.bias_add(tf.matmul(embedding, kernel), bias)
        return {"probabilities": tf.nn.softmax(logits), "class_activation": maps, "embedding": embedding}

    return screen


def _without_map(model: Any, kernel: Any, bias: Any) -> Callable[[Any], dict[str, Any]]:
    """As `outputs_of`, for a dense head: behind it a class has no place in the picture."""
    tf = tensorflow()
    trunk = keras().Model(model.input, model.get_layer(EMBEDDING).output)

    def screen(picture: Any) -> dict[str, Any]:
        embedding = trunk(picture, training=False)
        logits = tf.nn.bias_add(tf.matmul(embedding, kernel), bias)
        return {"probabilities": tf.nn.softmax(logits), "embedding": embedding}

    return screen


def _convert(recipe: Recipe, model: Any, *, calibration: NDArray[np.uint8] | None) -> bytes:
    tf = tensorflow()
    signature = [tf.TensorSpec((1, *recipe.preprocessing.input_shape), tf.float32, name=INPUT)]
    function = tf.function(outputs_of(model), input_signature=signature)
    return convert_function(recipe, model, function, calibration=calibration)


def convert_function(recipe: Recipe, model: Any, function: Any, *, calibration: NDArray[np.uint8] | None) -> bytes:
    """A TFLite file of a `tf.function` over the model's layers; its dictionary's keys name the outputs.

    calibration: (n, side, side, channels) uint8 pictures for full-integer quantization, None for float32.
    """
    tf = tensorflow()
    module = tf.Module()
    module.model, module.function = model, function
    with tempfile.TemporaryDirectory(prefix="edge-export-") as folder, without_chatter(), warnings.catch_warnings():
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _representative(recipe, calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            # The same steps as int8, 128 higher; MediaPipe takes no int8.
            converter.inference_output_type = tf.uint8
        # The converter calibrates with TensorFlow's own interpreter and warns of it itself.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        data: bytes = converter.convert()
    return data


def _representative(recipe: Recipe, pictures: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Calibration inputs. Two corner pixels hold 0 and 255, so that the input's range is exactly that of a pixel."""
    backbone = find_backbone(recipe.network.backbone)
    for picture in pictures:
        marked = picture.copy()
        marked[0, 0], marked[-1, -1] = 0, 255
        yield {INPUT: scaled(marked[np.newaxis], backbone)}


def write_models(folder: Path, models: dict[str, bytes]) -> None:
    """Write the exported files by variant."""
    for variant, data in models.items():
        (folder / MODEL_FILES[variant]).write_bytes(data)


def read_models(folder: Path) -> dict[str, bytes]:
    """The exported files by variant."""
    return {variant: (folder / name).read_bytes() for variant, name in MODEL_FILES.items()}
