"""Every architecture's files in every interpreter package, each in an environment of its own: do they load and agree?

The weights are random and so are the pictures: this asks what the kernels make of a file, not how well it screens.
`PYTHONPATH=tests python tests/convert/test_every_interpreter_slow.py [NAME ...]` prints the rows of docs/devices.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from environments import ENVIRONMENTS, ROOT, environment
from numpy.typing import NDArray
from random_networks import PICTURES, a_recipe, settle, smooth_noise

from edge.fields import plain
from edge_convert.backbones import BACKBONES, find_backbone
from edge_convert.export import export_also, export_float, export_int8, file_of, model_entry, roles
from edge_convert.keras import keras
from edge_convert.network import build_classifier, scaled
from edge_convert.recipe import Recipe
from edge_convert.saliency.readout import random_readout

REFERENCE = "litert-2.3.0"
SHOWN = 40
STEP = 1 / 256
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from edge.bundle import ModelFile
from edge.fields import build
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import find

folder, package, variant, out = Path(sys.argv[1]), find(sys.argv[2]), sys.argv[3], sys.argv[4]
entry = build(ModelFile, json.loads((folder / f"{variant}.json").read_text()))
pictures = np.load(folder / "pictures.npy")
network = Network(
    entry, (folder / entry.file).read_bytes(), side_px=pictures.shape[1], channels=pictures.shape[3], classes=2,
    threads=1, package=package,
)
found = {role: [] for role in entry.outputs}
for picture in pictures:
    network.run(picture)
    for role in found:
        found[role].append(network.output(role))
np.savez(out, **found)
"""
Outputs = Mapping[str, NDArray[np.float32]]


def write_files(recipe: Recipe, folder: Path, variants: tuple[str, ...] = ("int8", "float32")) -> None:
    """The exported files of a network with random weights, how to talk to them, and pictures to show them."""
    keras().backend.clear_session()
    keras().utils.set_random_seed(1)
    backbone, channels = find_backbone(recipe.network.backbone), recipe.preprocessing.channels
    taught = smooth_noise(PICTURES, seed=1)[..., :channels]
    model = build_classifier(recipe)
    settle(model, scaled(taught, backbone))
    readout = random_readout(model) if "fine_activation" in roles(recipe) else None
    np.save(folder / "pictures.npy", np.ascontiguousarray(smooth_noise(SHOWN, seed=2)[..., :channels]))
    for variant in variants:
        if variant == "int8":
            data = export_int8(recipe, model, readout, taught)
        elif variant == "float32":
            data = export_float(recipe, model, readout)
        else:
            data = export_also(recipe, model, readout, "dynamic-range")
        (folder / file_of(variant)).write_bytes(data)
        (folder / f"{variant}.json").write_text(json.dumps(plain(model_entry(recipe, variant))))


def in_package(name: str, folder: Path, variant: str) -> Outputs | str:
    """What a file gives for the pictures, by role, (pictures, ...); or the last line of why it cannot be run."""
    package, python = name, Path(sys.executable)
    if name in ENVIRONMENTS:
        package, python = ENVIRONMENTS[name][0], environment(name)
    out = folder / f"{name}-{variant}.npz"
    done = subprocess.run(
        [str(python), "-c", PROGRAM, str(folder), package, variant, str(out)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    with np.load(out) as found:
        return dict(found)


class Difference:
    """How far a package's outputs are from the reference's.

    probability: the largest difference of one. others: the largest of the other outputs, each as a share of the range
    that the reference's cover. flips: pictures whose class differs; untied: those of them that are no tie, which two
    classes are that lie within twice the largest difference.
    """

    def __init__(self, reference: Outputs, found: Outputs) -> None:
        a, b = reference["probabilities"], found["probabilities"]
        self.probability = float(np.abs(a - b).max())
        self.others = max(float(np.abs(reference[r] - found[r]).max() / np.ptp(reference[r])) for r in reference)
        flips = a.argmax(1) != b.argmax(1)
        self.flips = int(flips.sum())
        self.untied = int((flips & (np.abs(a[:, 0] - a[:, 1]) > 2 * self.probability)).sum())


def differences(folder: Path, variant: str) -> dict[str, Difference | str]:
    """By package; a sentence where it does not run the file. Raises where the reference does not."""
    reference = in_package(REFERENCE, folder, variant)
    assert not isinstance(reference, str), reference
    assert all(np.isfinite(values).all() and np.ptp(values) > 0 for values in reference.values())
    found: dict[str, Difference | str] = {}
    for name in (*(n for n in ENVIRONMENTS if n != REFERENCE), "tensorflow"):
        outputs = in_package(name, folder, variant)
        found[name] = outputs if isinstance(outputs, str) else Difference(reference, outputs)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_an_architectures_files_run_in_every_package_and_agree_on_every_class_that_is_no_tie(
    name: str, tmp_path: Path
) -> None:
    write_files(a_recipe(name), tmp_path)
    for variant in ("int8", "float32"):
        for package, found in differences(tmp_path, variant).items():
            assert not isinstance(found, str), f"{package}, {variant}: {found}"
            print(f"{name} {variant} {package}: {_cell(found, variant)}")
            assert found.untied == 0
            if variant == "float32":
                assert found.probability < 1e-3
            elif package != "tflite-2.14.0":
                assert found.probability <= STEP


@pytest.mark.slow
def test_a_dynamic_range_file_runs_in_every_package_but_tflite_runtime_which_says_so(tmp_path: Path) -> None:
    write_files(a_recipe("mobilenetv2"), tmp_path, ("dynamic-range",))
    found = differences(tmp_path, "dynamic-range")
    refused = found.pop("tflite-2.14.0")
    assert isinstance(refused, str)
    assert "tflite-runtime refuses the model model.dynamic-range.tflite" in refused
    for package, difference in found.items():
        assert not isinstance(difference, str), f"{package}: {difference}"
        assert difference.untied == 0


def _cell(found: Difference | str, variant: str) -> str:
    if isinstance(found, str):
        return f"**refused**: {found}"
    if found.others == 0:
        return "the same bits"
    size = f"{found.probability / STEP:.0f}/256" if variant == "int8" else f"{found.probability:.0e}"
    return f"{size}, {found.others:.2g}; {found.flips}{f' (**{found.untied}**)' if found.untied else ''}"


def _main(names: list[str]) -> None:
    for name in names or list(BACKBONES):
        with tempfile.TemporaryDirectory() as folder:
            write_files(a_recipe(name), Path(folder))
            for variant in ("int8", "float32"):
                cells = [_cell(found, variant) for found in differences(Path(folder), variant).values()]
                print(f"| `{name}` | {variant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
