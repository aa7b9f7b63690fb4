"""What networks cost on this machine: measured on request, kept, and shown afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import edge
from edge.errors import EdgeError, RecipeError
from edge_convert.backbones import find_backbone
from edge_convert.backbones.cost import cost_of
from edge_convert.measured import Measured, cache_path, keep, kept_of, measure
from edge_runtime.timing import Machine, this_machine

HERE = Machine(package="1.0", interpreter="some interpreter 2.0", cpu="Some CPU")
ROW = Measured(
    backbone="alexnet",
    side_px=64,
    width=0.5,
    rounds=40,
    int8_bytes=3_790_360,
    float32_bytes=14_995_196,
    int8_ms=4.25,
    float32_ms=17.5,
    int8_cpu_ms=4.2,
    float32_cpu_ms=17.4,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own measurements are neither read nor written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def listed(*arguments: str) -> str:
    return CliRunner().invoke(edge, ["backbones", *arguments], catch_exceptions=False).stdout


def test_a_measured_network_is_shown_and_kept_for_the_next_listing() -> None:
    small = ("alexnet", "--side", "64", "--width", "0.1")
    before = listed(*small)
    assert "-: not measured on this machine" in before
    assert "edge backbones --measure" in before
    (row,) = json.loads(listed(*small, "--measure", "--json"))
    measured = row["measured"]
    assert 0 < measured["int8_bytes"] < measured["float32_bytes"] < 200_000
    assert 0 < measured["int8_cpu_ms"] < 100
    assert (measured["cpu"], measured["interpreter"]) == (this_machine().cpu, this_machine().interpreter)
    after = listed(*small)
    assert "not measured" not in after
    assert f"{measured['int8_bytes'] / 1e6:.2f} MB" in after
    assert "-: not measured" in listed("alexnet", "--side", "64"), "another width is another network"


def test_measurements_are_kept_by_network_side_width_and_machine(own_cache: Path) -> None:
    path = cache_path()
    assert path == own_cache / "edge-screen/backbones.json"
    assert kept_of(path, HERE) == {}
    keep(path, HERE, [ROW])
    keep(path, HERE, [replace(ROW, side_px=96)])
    keep(path, HERE, [replace(ROW, int8_ms=5.0)])
    assert kept_of(path, HERE) == {
        ("alexnet", 64, 0.5): replace(ROW, int8_ms=5.0),
        ("alexnet", 96, 0.5): replace(ROW, side_px=96),
    }
    for other in (replace(HERE, cpu="Another"), replace(HERE, interpreter="x 3"), replace(HERE, package="1.1")):
        assert kept_of(path, other) == {}


def test_a_relative_cache_folder_is_no_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path() == tmp_path / ".cache/edge-screen/backbones.json"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[1]",
        lambda text: text.replace('"rounds"', '"turns"'),
        lambda text: text.replace("40", '"many"'),
    ],
    ids=["half", "list", "unknown-field", "text-for-number"],
)
def test_damaged_measurements_are_a_sentence(damage: Callable[[str], str]) -> None:
    path = cache_path()
    keep(path, HERE, [ROW])
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(EdgeError, match="cannot be read") as caught:
        kept_of(path, HERE)
    assert "delete that file" in caught.value.remedy


def test_a_network_or_side_that_there_is_not_is_refused_before_anything_is_exported() -> None:
    with pytest.raises(RecipeError, match="needs at least 75"):
        next(measure(["alexnet", "inceptionv3"], side_px=64, width=1.0))
    with pytest.raises(RecipeError, match="there is no backbone 'resnet'"):
        listed("resnet", "--measure")


def test_times_that_other_programs_stretched_are_said_to_be() -> None:
    assert not ROW.busy
    assert replace(ROW, float32_ms=40.0).busy


def test_the_kernels_that_pruning_takes_are_counted() -> None:
    """AlexNet: 34,848 weights read the picture, less than 1 % of 3,745,824, and are left alone."""
    cost = cost_of(find_backbone("alexnet"))
    assert (cost.kernels, cost.prunable_layers) == (5, 4)
    assert cost.prunable_share == pytest.approx(1 - 34_848 / 3_745_824)
