"""From a trained classifier to TFLite files: float32 for reference and the GPU, full-integer int8 for the device.

Both have one signature with named outputs, so that class, maps and embedding come from one pass, and a second one where
the recipe wants a map on request. A network with a dense head has no other map. Both carry standard TFLite metadata, so
that other programs can feed them and name the classes.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge import __version__
from edge.bundle import Explanation, ModelFile, Role
from edge.dataset import read_dataset
from edge.errors import EdgeError
from edge.native_stderr import without_chatter
from edge_convert.backbones import find_backbone
from edge_convert.backbones.contract import Backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import EMBEDDING, LOGITS, before_last_block, feature_maps, scaled
from edge_convert.prepare import Prepared
from edge_convert.recipe import Recipe
from edge_convert.saliency.cut import require_finer_layer
from edge_convert.saliency.gradient import gradient_map
from edge_convert.saliency.occlusion import occlusion_map
from edge_convert.saliency.readout import Readout
from edge_convert.saliency.score import finding_score, sides
from edge_convert.tflite_file import float_operations
from edge_convert.tflite_metadata import Described, with_metadata
from edge_runtime.interpreter import Network, find_interpreter

INPUT = "picture"
SCREEN = "serving_default"
# The converter puts signatures in the order of their names, and the one to screen with must be first.
EXPLAIN = "where_it_looked"
MAP = "saliency"
NETWORK = "network"
OUTPUTS: dict[Role, str] = {
    "probabilities": "The probability of each label, not calibrated: the bundle holds calibration and threshold.",
    "class_activation": "A map a label: its evidence by place, in logits.",
    "fine_activation": "The same, read at a layer of about twice the resolution.",
    "embedding": "The pooled features.",
    "earlier_embedding": "The same, in front of the last block.",
}
MODEL_FILES = {"int8": "model.int8.tflite", "float32": "model.float32.tflite"}
"""The files of every build."""
ALSO_FILES = {
    "float16": "model.float16.tflite",
    "dynamic-range": "model.dynamic-range.tflite",
    "int16": "model.int16.tflite",
}
"""Further files, on request: weights of 16 bits, or of 8 bits with activations in float32 or of 16 bits."""
Weights = Literal["float32", "float16", "dynamic-range"]


def model_entry(recipe: Recipe, variant: str) -> ModelFile:
    """How the runtime talks to an exported file."""
    backbone = find_backbone(recipe.network.backbone)
    asked = recipe.on_request
    return ModelFile(
        file=file_of(variant),
        input_dtype="uint8" if variant == "int8" else "float32",
        input_scale=backbone.input_scale,
        input_zero_point=backbone.input_zero_point,
        outputs={role: role for role in roles(recipe)},
        signature=SCREEN,
        explanation=Explanation(method=asked, signature=EXPLAIN, output=MAP) if asked else None,
    )


def open_network(recipe: Recipe, variant: str, model: bytes, *, threads: int | None = None) -> Network:
    """An exported file in the runtime's interpreter. threads: as `Network` takes them. Raises InterpreterError."""
    steps = recipe.preprocessing
    return Network(
        model_entry(recipe, variant),
        model,
        side_px=steps.side_px,
        classes=len(recipe.classes),
        channels=steps.channels,
        threads=threads,
    )


def file_of(variant: str) -> str:
    """The name of an exported file."""
    return {**MODEL_FILES, **ALSO_FILES}[variant]


def roles(recipe: Recipe) -> tuple[Role, ...]:
    """What an exported file gives."""
    if recipe.network.head == "dense":
        return "probabilities", "embedding", "earlier_embedding"
    if recipe.saliency.method == "cam":
        return "probabilities", "class_activation", "embedding", "earlier_embedding"
    return "probabilities", "class_activation", "fine_activation", "embedding", "earlier_embedding"


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


def export_float(recipe: Recipe, model: Any, readout: Readout | None = None) -> bytes:
    """The float32 TFLite file. readout: of the finer map, None where the recipe wants none."""
    return with_metadata(_convert(recipe, model, readout, calibration=None), description(recipe))


def export_also(recipe: Recipe, model: Any, readout: Readout | None, weights: Weights) -> bytes:
    """A TFLite file with smaller weights, of float32 input and outputs."""
    return with_metadata(_convert(recipe, model, readout, calibration=None, weights=weights), description(recipe))


def export_int8(recipe: Recipe, model: Any, readout: Readout | None, pictures: NDArray[np.uint8]) -> bytes:
    """The int8 TFLite file. pictures: (n, side, side, channels) uint8, the calibration set. Raises EdgeError.

    It takes uint8 pixels as they are: the scaling lives in the input's quantization parameters, checked here.
    """
    data = _convert(recipe, model, readout, calibration=pictures)
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
        signature=SCREEN,
        outputs={role: OUTPUTS[role] for role in roles(recipe)},
    )


def check_integer_only(recipe: Recipe, data: bytes, float_layers: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Refuse an int8 file with a float operation in it that nobody asked for, or with an input scaled otherwise than in
    training. float_layers: names of the tensors whose operations were asked to stay float32.

    Returns the operations that did, as `OPERATION tensor`; none in a file of integers only.
    """
    backbone = find_backbone(recipe.network.backbone)
    found = float_operations(data)
    unasked = [name for operation, name in found if name not in float_layers]
    if unasked:
        raise EdgeError(
            f"{len(unasked)} operations stayed float in the int8 file, for example {unasked[0]}",
            remedy="this is a fault of the converter with this backbone; use another one",
        )
    _, interpreter_class = find_interpreter()
    with without_chatter():
        interpreter = interpreter_class(model_content=data)
    entry = interpreter.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    wanted = (backbone.input_scale, backbone.input_zero_point)
    if entry["dtype"] != np.uint8 or not np.isclose(scale, wanted[0], rtol=1e-5) or zero_point != wanted[1]:
        raise EdgeError(
            f"the int8 file reads pixels as (q - {zero_point}) * {scale:.6g}, "
            f"the network was trained on (q - {wanted[1]}) * {wanted[0]:.6g}",
            remedy="this is a fault of the converter with this backbone; use another one",
        )
    return tuple(f"{operation} {name.split(';')[0]}" for operation, name in found)


def outputs_of(model: Any, backbone: Backbone, readout: Readout | None = None) -> Callable[[Any], dict[str, Any]]:
    """The network as a function from one scaled picture (1, side, side, channels) to its outputs by role."""
    tf = tensorflow()
    kernel, bias = model.get_layer(LOGITS).get_weights()
    earlier = before_last_block(model, backbone)
    if not isinstance(model.get_layer(EMBEDDING), keras().layers.GlobalAveragePooling2D):
        return _without_map(model, earlier, kernel, bias)
    wanted = [feature_maps(model), model.get_layer(EMBEDDING).output, earlier]
    if readout is not None:
        wanted.append(model.get_layer(readout.layer).output)
    # Named, because Keras would number it, and tensors carry the name: a build that went on would give other bytes.
    trunk = keras().Model(model.input, wanted, name=NETWORK)

    def at_every_place(features: Any, kernel: Any, bias: Any) -> Any:
        return tf.nn.bias_add(tf.nn.conv2d(features, kernel[np.newaxis, np.newaxis], 1, "VALID"), bias)

    def screen(picture: Any) -> dict[str, Any]:
        features, embedding, before, *finer = trunk(picture, training=False)
        # The dense layer at every place instead of on their mean: the mean of a class's map is its logit.
        maps = at_every_place(features, kernel, bias)
        logits = tf.nn.bias_add(tf.matmul(embedding, kernel), bias)
        found = {
            "probabilities": tf.nn.softmax(logits),
            "class_activation": maps,
            "embedding": embedding,
            "earlier_embedding": tf.reduce_mean(before, axis=[1, 2]),
        }
        if readout is not None:
            # Read-out and last layer are both linear: one convolution.
            found["fine_activation"] = at_every_place(finer[0], readout.kernel @ kernel, readout.bias @ kernel + bias)
        return found

    return screen


def _without_map(model: Any, earlier: Any, kernel: Any, bias: Any) -> Callable[[Any], dict[str, Any]]:
    """As `outputs_of`, for a dense head: behind it a class has no place in the picture."""
    tf = tensorflow()
    trunk = keras().Model(model.input, [model.get_layer(EMBEDDING).output, earlier], name=NETWORK)

    def screen(picture: Any) -> dict[str, Any]:
        embedding, before = trunk(picture, training=False)
        logits = tf.nn.bias_add(tf.matmul(embedding, kernel), bias)
        return {
            "probabilities": tf.nn.softmax(logits),
            "embedding": embedding,
            "earlier_embedding": tf.reduce_mean(before, axis=[1, 2]),
        }

    return screen


def explanation_of(recipe: Recipe, model: Any) -> Callable[[Any], Any]:
    """The map on request, as a function from one scaled picture to (1, rows, columns)."""
    tf = tensorflow()
    positive, negative = sides(recipe)

    def cotangent(logits: Any) -> Any:
        fixed = np.zeros((1, len(recipe.classes)), np.float32)
        fixed[0, negative] = -1 / len(negative)
        if len(positive) == 1:
            fixed[0, positive] = 1
            return tf.constant(fixed)
        # Of several findings, that of the most probable one.
        top = tf.reduce_max(tf.gather(logits, positive, axis=1), axis=1, keepdims=True)
        may = np.isin(np.arange(len(recipe.classes)), positive)[np.newaxis]
        chosen = tf.logical_and(logits >= top, tf.constant(may))
        return tf.where(chosen, tf.ones_like(logits), tf.constant(fixed))

    if recipe.on_request is None or recipe.on_request == "occlusion":
        return occlusion_map(model, finding_score(recipe))
    return gradient_map(model, require_finer_layer(model), recipe.on_request, cotangent)


def _convert(
    recipe: Recipe,
    model: Any,
    readout: Readout | None,
    *,
    calibration: NDArray[np.uint8] | None,
    weights: Weights = "float32",
) -> bytes:
    tf = tensorflow()
    signature = [tf.TensorSpec((1, *recipe.preprocessing.input_shape), tf.float32, name=INPUT)]
    screen = outputs_of(model, find_backbone(recipe.network.backbone), readout)
    functions = {SCREEN: tf.function(screen, input_signature=signature, autograph=False)}
    if recipe.on_request is not None:
        explain = explanation_of(recipe, model)
        functions[EXPLAIN] = tf.function(lambda x: {MAP: explain(x)}, input_signature=signature, autograph=False)
    return convert_functions(recipe, model, functions, calibration=calibration, weights=weights)


def convert_functions(
    recipe: Recipe,
    model: Any,
    functions: dict[str, Any],
    *,
    calibration: NDArray[np.uint8] | None,
    weights: Weights = "float32",
) -> bytes:
    """A TFLite file of `tf.function`s over the model's layers, a signature each; their dictionaries name the outputs.

    calibration: (n, side, side, channels) uint8 pictures for full-integer quantization, None for a file that computes
    in float32. weights: how that one stores its weights.
    """
    tf = tensorflow()
    module = tf.Module()
    # Not the model itself: Keras would trace each of its layers anew to save it, which takes longer than all the rest.
    module.held, module.functions = list(model.variables), functions
    with tempfile.TemporaryDirectory(prefix="edge-export-") as folder, without_chatter(), warnings.catch_warnings():
        tf.saved_model.save(module, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            backbone = find_backbone(recipe.network.backbone)
            converter.representative_dataset = lambda: calibration_inputs(backbone, calibration, list(functions))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            # The same steps as int8, 128 higher; MediaPipe takes no int8.
            converter.inference_output_type = tf.uint8
        # The converter calibrates with TensorFlow's own interpreter and warns of it itself.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        data: bytes = converter.convert()
    return data


def calibration_inputs(backbone: Backbone, pictures: NDArray[np.uint8], signatures: list[str]) -> Iterator[Any]:
    """What the converter is to run while it watches: a signature, and its input by name."""
    for picture in pictures:
        for signature in signatures:
            yield signature, {INPUT: scaled(marked(picture)[np.newaxis], backbone)}


def marked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with 0 and 255 in two corner pixels, so that the range it sets for the input is that of a pixel."""
    copy = np.array(picture, np.uint8)
    copy[0, 0], copy[-1, -1] = 0, 255
    return copy


def write_models(folder: Path, models: dict[str, bytes]) -> None:
    """Write the exported files by variant."""
    for variant, data in models.items():
        (folder / file_of(variant)).write_bytes(data)


def read_models(folder: Path) -> dict[str, bytes]:
    """The exported files by variant: those of every build, and those further ones that are there."""
    further = {variant: name for variant, name in ALSO_FILES.items() if (folder / name).exists()}
    return {variant: (folder / name).read_bytes() for variant, name in {**MODEL_FILES, **further}.items()}
